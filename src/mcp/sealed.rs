//! Sealed tokens: state that a client keeps for us, encrypted and authenticated, so that no store is needed and no
//! worker or gateway with the same key is a stranger to it.
//!
//! Not here: where keys are kept (control), randomness and time (arguments), and what follows from a token that cannot
//! be opened: it looks like one that never was.
//!
//! A token is `base64url(version key-id nonce ciphertext tag)`. The cipher is AES-256-GCM-SIV (RFC 8452): gateways that
//! share a key draw nonces at random, and with plain GCM a nonce drawn twice would give the key's secrets away. Kind and
//! version are associated data, so that a token is never taken for another kind.

pub mod own;
pub mod state;

use crate::base::base64url;
use crate::config::limits;
use aws_lc_rs::aead::AES_256_GCM_SIV;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use aws_lc_rs::digest;

const VERSION: u8 = 1;
/// Version and key id.
const PREFIX_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
/// Expiry, owner, server, instance.
const BOUND_BYTES: usize = 4 + OWNER_BYTES + 8 + 4;
const OWNER_BYTES: usize = 16;

/// Keys, the newest first: it seals, all of them open.
pub struct SealKeys(Vec<SealKey>);

struct SealKey {
    id: u8,
    key: LessSafeKey,
}

/// What a session of a server is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// Seconds since the Unix epoch.
    pub expires_unix: u32,
    /// Whose it is ([`owner`]).
    pub owner: [u8; OWNER_BYTES],
    /// Of the server's name.
    pub server: u64,
    /// Of the instance that it lives on.
    pub instance: u32,
}

/// Who owns a session: a tenant's principal.
pub fn owner(tenant: &str, principal: &str) -> [u8; OWNER_BYTES] {
    let mut owner = [0; OWNER_BYTES];
    // No tenant and no principal has a NUL in its name.
    owner.copy_from_slice(&sum(&[tenant.as_bytes(), b"\0", principal.as_bytes()])[..OWNER_BYTES]);
    owner
}

/// The same number for the same name on every gateway.
pub fn name_of(text: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sum(&[text.as_bytes()])[..8]);
    u64::from_le_bytes(bytes)
}

/// The number of an instance, by its label.
pub fn instance_name(label: &str) -> u32 {
    u32::try_from(name_of(label) >> 32).unwrap_or(u32::MAX)
}

/// 16 bytes that tell one list of parts from any other.
pub fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    bytes
}

/// A number of a digest.
pub const fn number_of(digest: [u8; 16]) -> u64 {
    // Half of it says as much as a number can.
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn sum(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

impl SealKeys {
    /// Keys made of secrets of any length, the newest first; each derived once, here. None: there is no secret.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let key = |secret: &'a [u8]| {
            let bytes = sum(&[b"ringgate sealed tokens 1\0", secret]);
            let id = sum(&[b"ringgate key id\0", &bytes])[0];
            // 32 bytes are a key of this cipher.
            UnboundKey::new(&AES_256_GCM_SIV, &bytes)
                .ok()
                .map(|key| SealKey { id, key: LessSafeKey::new(key) })
        };
        let keys: Vec<SealKey> = secrets.into_iter().filter_map(key).collect();
        if keys.is_empty() { None } else { Some(Self(keys)) }
    }

    /// Appends the token of a session that its server calls `session`.
    pub fn seal(&self, bond: &Bond, session: &[u8], nonce: [u8; NONCE_LEN], out: &mut Vec<u8>) {
        let mut plain = Vec::with_capacity(BOUND_BYTES + session.len() + TAG_BYTES);
        plain.extend_from_slice(&bond.expires_unix.to_le_bytes());
        plain.extend_from_slice(&bond.owner);
        plain.extend_from_slice(&bond.server.to_le_bytes());
        plain.extend_from_slice(&bond.instance.to_le_bytes());
        plain.extend_from_slice(session);
        self.seal_as(Kind::Session, plain, nonce, out);
    }

    /// What is in a token, and the server's own name of the session. None: it is none of ours, of another kind, or was
    /// changed.
    pub fn open(&self, token: &[u8]) -> Option<(Bond, Vec<u8>)> {
        let plain = self.open_as(Kind::Session, token)?;
        let (expires, plain) = plain.split_first_chunk::<4>()?;
        let (owner, plain) = plain.split_first_chunk::<OWNER_BYTES>()?;
        let (server, plain) = plain.split_first_chunk::<8>()?;
        let (instance, session) = plain.split_first_chunk::<4>()?;
        let bond = Bond {
            expires_unix: u32::from_le_bytes(*expires),
            owner: *owner,
            server: u64::from_le_bytes(*server),
            instance: u32::from_le_bytes(*instance),
        };
        Some((bond, session.to_vec()))
    }

    /// Appends the token of a kind.
    pub fn seal_as(&self, kind: Kind, mut plain: Vec<u8>, nonce: [u8; NONCE_LEN], out: &mut Vec<u8>) {
        // `new` makes no empty list.
        let Some(SealKey { id, key }) = self.0.first() else { return };
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        if key.seal_in_place_append_tag(nonce_used, Aad::from(kind.label()), &mut plain).is_err() {
            return;
        }
        let mut token = vec![VERSION, *id];
        token.extend_from_slice(&nonce);
        token.append(&mut plain);
        out.extend_from_slice(base64url::encode(&token).as_bytes());
    }

    /// What is in a token of a kind. None: it is none of ours, of another kind, or was changed.
    pub fn open_as(&self, kind: Kind, token: &[u8]) -> Option<Vec<u8>> {
        if token.len() > kind.bytes_max() {
            return None;
        }
        let bytes = base64url::decode(token)?;
        let (head, rest) = bytes.split_at_checked(PREFIX_BYTES)?;
        let (nonce, cipher) = rest.split_first_chunk::<NONCE_LEN>()?;
        let [VERSION, id] = *head else { return None };
        // Two keys may have one id.
        self.0.iter().filter(|key| key.id == id).find_map(|key| {
            let mut cipher = cipher.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.key.open_in_place(nonce, Aad::from(kind.label()), &mut cipher).ok()?.len();
            cipher.truncate(length);
            Some(cipher)
        })
    }
}

/// What a token is for. Kind and version are associated data: a token is never taken for another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session that a server keeps.
    Session,
    /// A session that the gateway keeps (`own`).
    Own,
    /// Where a list of a hub goes on.
    Cursor,
    /// Where a call goes on that a server has put a question to (`state`).
    State,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"session 1",
            Self::Own => b"own session 1",
            Self::Cursor => b"cursor 1",
            Self::State => b"state 1",
        }
    }

    const fn bytes_max(self) -> usize {
        match self {
            Self::Session | Self::Cursor => limits::SEALED_BYTES_MAX,
            Self::Own => limits::SEALED_LONG_BYTES_MAX,
            Self::State => limits::SEALED_STATE_BYTES_MAX,
        }
    }
}

/// Keys are not printed.
impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOND: Bond = Bond { expires_unix: 7, owner: [3; OWNER_BYTES], server: 9, instance: 11 };

    fn keys(secrets: &[&str]) -> SealKeys {
        SealKeys::new(secrets.iter().map(|secret| secret.as_bytes())).expect("a secret")
    }

    fn sealed(keys: &SealKeys) -> Vec<u8> {
        let mut out = Vec::new();
        keys.seal(&BOND, b"upstream-1", [5; NONCE_LEN], &mut out);
        out
    }

    #[test]
    fn what_was_sealed_is_opened_by_whoever_has_the_key() {
        let token = sealed(&keys(&["new", "old"]));
        for opener in [keys(&["new"]), keys(&["newer", "new"])] {
            assert_eq!(opener.open(&token), Some((BOND, b"upstream-1".to_vec())));
        }
        assert_eq!(keys(&["old"]).open(&token), None);
        assert!(SealKeys::new([]).is_none());
        // Visible ASCII, as a session id has to be (2025-11-25, transports, "Session Management").
        assert!(token.iter().all(u8::is_ascii_graphic));
        assert!(!token.windows(8).any(|part| part == b"upstream"));
    }

    #[test]
    fn no_changed_byte_and_no_cut_goes_unnoticed() {
        let keys = keys(&["k"]);
        let token = sealed(&keys);
        for at in 0..token.len() {
            assert_eq!(keys.open(&token[..at]), None, "cut at {at}");
            for other in [b'A', b'_', b'=', b' ', 0] {
                let mut changed = token.clone();
                if std::mem::replace(&mut changed[at], other) != other {
                    assert_eq!(keys.open(&changed), None, "{other} at {at}");
                }
            }
        }
        assert_eq!(keys.open(&[token, b"AAAA".to_vec()].concat()), None);
        assert_eq!(keys.open(&vec![b'A'; limits::SEALED_BYTES_MAX + 1]), None);
    }

    #[test]
    fn no_token_is_taken_for_another_kind() {
        let keys = keys(&["k"]);
        let kinds = [Kind::Session, Kind::Own, Kind::Cursor, Kind::State];
        for kind in kinds {
            let mut token = Vec::new();
            keys.seal_as(kind, b"plain".to_vec(), [1; NONCE_LEN], &mut token);
            for other in kinds {
                let expected = (kind == other).then(|| b"plain".to_vec());
                assert_eq!(keys.open_as(other, &token), expected, "{kind:?} as {other:?}");
            }
        }
    }

    #[test]
    fn owners_differ_by_tenant_and_by_principal() {
        assert_ne!(owner("a", "b"), owner("b", "a"));
        assert_ne!(owner("", "ab"), owner("a", "b"));
        assert_eq!(owner("a", "b"), owner("a", "b"));
        assert_ne!(name_of("a"), name_of("b"));
    }
}
