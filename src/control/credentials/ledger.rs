//! The tokens that callers have consented to, as they outlive the process: one file in `state.dir`, encrypted
//! (AES-256-GCM-SIV, RFC 8452) with a key of its own beside it, both for this user alone.
//!
//! Not here: obtaining and renewing them. Without `state.dir` they are forgotten at a restart.

#![expect(clippy::disallowed_types, reason = "control only: tasks share it for a moment")]

use crate::config::credentials::Consent;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::config::reader;
use crate::config::replace::replace;
use crate::control::credentials::Obtained;
use crate::control::credentials::token;
use crate::control::credentials::token::Granted;
use crate::policy::credential::Whom;
use aws_lc_rs::aead::AES_256_GCM_SIV;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

const FILE: &str = "consents";
const KEY_FILE: &str = "consents.key";
const KEY_BYTES: usize = 32;
/// What the file is, so that nothing else can be taken for it.
const KIND: &[u8] = b"ringgate consents 1";

/// Whose token, for which server, from which service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Grant {
    server: Box<str>,
    issuer: Box<str>,
    principal: Box<str>,
    tenant: Box<str>,
}

impl Grant {
    pub(super) fn of(server: &str, whom: &Whom, terms: &Consent) -> Self {
        Self {
            server: server.into(),
            issuer: terms.issuer.clone().unwrap_or_else(|| terms.service.endpoint.clone()),
            principal: (*whom.principal).into(),
            tenant: whom.tenant.clone(),
        }
    }
}

/// What came of a consent.
#[derive(Clone)]
pub(super) struct Tokens {
    access: Secret,
    pub(super) refresh: Option<Secret>,
    /// `u64::MAX`: nobody has said when, and the server tells.
    ends_unix: u64,
    pub(super) fresh_until_unix: u64,
    /// Credentials of greater versions were made of these, those before of others.
    pub(super) after: u64,
}

/// The same on the disk.
#[derive(Serialize, Deserialize)]
struct Line {
    grant: Grant,
    access: Box<str>,
    refresh: Option<Box<str>>,
    ends_unix: u64,
}

impl Tokens {
    /// `before` is the refresh token to go on with where no new one came (RFC 6749 section 6).
    pub(super) fn of(granted: &Granted, before: Option<Secret>, now: u64, after: u64) -> Self {
        let refresh = granted.refresh.as_deref().map(|token| Secret(token.into())).or(before);
        let ends_unix = token::end(granted, now).unwrap_or(u64::MAX);
        Self {
            access: Secret(granted.token.as_str().into()),
            fresh_until_unix: fresh_until(refresh.is_some(), ends_unix),
            refresh,
            ends_unix,
            after,
        }
    }

    pub(super) fn obtained(&self) -> Obtained {
        let fields = super::bearer(&self.access.0);
        Obtained { fields, fresh_until_unix: self.fresh_until_unix, ends_unix: self.ends_unix }
    }
}

/// From when on another one is asked for: never before the end where there is none to be had without the user, and not at all
/// where nobody has said when it ends.
const fn fresh_until(renewable: bool, ends_unix: u64) -> u64 {
    match ends_unix {
        u64::MAX => u64::MAX,
        _ if renewable => ends_unix.saturating_sub(limits::TOKEN_MARGIN_SECONDS),
        _ => ends_unix,
    }
}

pub(super) struct Ledger {
    tokens: Mutex<HashMap<Grant, Tokens>>,
    /// `state.dir`; None: nothing outlives the process.
    dir: Option<PathBuf>,
    /// One writer at a time: a later state is never replaced by an earlier one.
    turn: tokio::sync::Mutex<()>,
}

/// The file and its key.
struct Safe {
    path: PathBuf,
    key: LessSafeKey,
}

impl Ledger {
    /// What is there. A file that cannot be read is left as it is and told: its consents are asked for anew.
    pub(super) fn open(state_dir: Option<&Path>) -> Self {
        let dir = state_dir.map(Path::to_path_buf);
        let read = dir.as_deref().map_or(Ok(HashMap::new()), read);
        let tokens = read.unwrap_or_else(|reason| {
            tracing::error!("consents cannot be read, they are asked for anew: {reason}");
            HashMap::new()
        });
        Self { tokens: Mutex::new(tokens), dir, turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn find(&self, grant: &Grant) -> Option<Tokens> {
        self.all().get(grant).cloned()
    }

    pub(super) async fn keep(&self, grant: Grant, tokens: Tokens) {
        {
            let mut all = self.all();
            if all.len() >= limits::CONSENTS_KEPT_MAX && !all.contains_key(&grant) {
                tracing::error!("more consents than are kept: one is asked for anew");
                let oldest =
                    all.iter().min_by_key(|(_, tokens)| tokens.ends_unix).map(|(grant, _)| grant.clone());
                oldest.map(|oldest| all.remove(&oldest));
            }
            all.insert(grant, tokens);
        }
        self.write().await;
    }

    pub(super) async fn forget(&self, grant: &Grant) {
        self.all().remove(grant);
        self.write().await;
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<Grant, Tokens>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) {
        let Some(dir) = self.dir.clone() else { return };
        let _turn = self.turn.lock().await;
        let lines: Vec<Line> = self.all().iter().map(|(grant, tokens)| Line::of(grant, tokens)).collect();
        let written = tokio::task::spawn_blocking(move || Safe::open(&dir, true)?.write(&lines)).await;
        if let Ok(Err(reason)) = written {
            tracing::error!("a consent is not kept over a restart: {reason}");
        }
    }
}

impl Line {
    fn of(grant: &Grant, tokens: &Tokens) -> Self {
        Self {
            grant: grant.clone(),
            access: tokens.access.0.clone(),
            refresh: tokens.refresh.as_ref().map(|refresh| refresh.0.clone()),
            ends_unix: tokens.ends_unix,
        }
    }

    fn tokens(self) -> (Grant, Tokens) {
        let tokens = Tokens {
            access: Secret(self.access),
            fresh_until_unix: fresh_until(self.refresh.is_some(), self.ends_unix),
            refresh: self.refresh.map(Secret),
            ends_unix: self.ends_unix,
            after: 0,
        };
        (self.grant, tokens)
    }
}

/// What is kept in a folder.
fn read(dir: &Path) -> Result<HashMap<Grant, Tokens>, String> {
    if !dir.join(FILE).exists() {
        return Ok(HashMap::new());
    }
    Ok(Safe::open(dir, false)?.read()?.into_iter().map(Line::tokens).collect())
}

impl Safe {
    /// `make`: the folder and the key, where there are none.
    fn open(dir: &Path, make: bool) -> Result<Self, String> {
        let path = dir.join(KEY_FILE);
        let secret = if path.exists() || !make {
            reader::read_bounded(&path, KEY_BYTES as u64)
                .map_err(|reason| format!("`{KEY_FILE}`: {reason}"))?
        } else {
            std::fs::create_dir_all(dir).map_err(|error| reader::reason(&error))?;
            let mut secret = vec![0; KEY_BYTES];
            aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the system gives no random numbers")?;
            replace(&path, &secret, true).map_err(|error| reader::reason(&error))?;
            secret
        };
        let key = UnboundKey::new(&AES_256_GCM_SIV, &secret)
            .map_err(|_| format!("`{KEY_FILE}` has not {KEY_BYTES} bytes"))?;
        Ok(Self { path: dir.join(FILE), key: LessSafeKey::new(key) })
    }

    fn read(&self) -> Result<Vec<Line>, String> {
        let bytes = reader::read_bounded(&self.path, limits::CONSENTS_FILE_BYTES_MAX)?;
        let plain = |bytes: &[u8]| {
            let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let plain = self.key.open_in_place(nonce, Aad::from(KIND), &mut sealed).ok()?;
            serde_json::from_slice(plain).ok()
        };
        plain(&bytes).ok_or_else(|| format!("`{FILE}` was changed, or belongs to another `{KEY_FILE}`"))
    }

    fn write(&self, lines: &[Line]) -> Result<(), String> {
        let mut sealed = serde_json::to_vec(lines).map_err(|error| error.to_string())?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| "the system gives no random numbers")?;
        let used = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(used, Aad::from(KIND), &mut sealed)
            .map_err(|_| "they cannot be encrypted")?;
        replace(&self.path, &[&nonce[..], &sealed].concat(), true).map_err(|error| reader::reason(&error))
    }
}
