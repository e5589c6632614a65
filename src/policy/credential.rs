//! Credentials of calls: what a server is shown, and why there may be nothing to show it.
//!
//! Not here: obtaining one (`control`), putting it into a request, and asking for another after a 401 (`worker`).

use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::credentials::Auth;
use crate::config::credentials::ClaimField;
use crate::config::identity::Secret;
use crate::config::plan::InjectedHeader;
use crate::policy::identity::Caller;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// What one server is shown of one caller.
#[derive(Debug, Default)]
pub struct Credential {
    /// Tells it from the one before, which a server may have refused.
    pub version: u64,
    /// Field lines of the request.
    pub fields: Vec<InjectedHeader>,
    /// Seconds since the Unix epoch from which on another is asked for.
    pub fresh_until_unix: u64,
    /// When it was obtained.
    pub made: Moment,
    /// A call has succeeded with it.
    pub worked: Worked,
}

/// Whether something has worked. Once it has it stays so: whoever sees it late asks for less.
#[derive(Debug, Default)]
pub struct Worked(AtomicBool);

impl Worked {
    /// Writes once, so that calls of several workers do not take the memory from each other.
    pub fn note(&self) {
        if !self.has() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub fn has(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is to be obtained, and for whom.
#[derive(Debug)]
pub struct Needed {
    pub server: Arc<str>,
    pub auth: Arc<Auth>,
    pub whom: Whom,
    /// The token that the caller has shown, where tokens are exchanged. It goes to the token service and nowhere else.
    pub token: Option<Secret>,
    /// The version that the server has refused.
    pub refused: Option<u64>,
    /// It was the second one of a call: another would be refused as well.
    pub is_last: bool,
}

/// For whom a credential is. What differs in any part is another's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Whom {
    pub principal: Arc<str>,
    pub tenant: Box<str>,
    pub actor: Box<str>,
    /// Those of the caller's own token, sorted: a credential carries no more than they allow.
    pub scopes: Vec<Box<str>>,
}

impl Whom {
    /// As far as a credential of this kind differs from caller to caller.
    pub fn of(auth: &Auth, caller: &Caller) -> Self {
        if auth.is_shared() {
            return Self::default();
        }
        if auth.is_consented() {
            let (principal, tenant) = (Arc::clone(&caller.name), caller.tenant.clone());
            return Self { principal, tenant, ..Self::default() };
        }
        let mut scopes = caller.scopes.clone();
        scopes.sort_unstable();
        Self {
            principal: Arc::clone(&caller.name),
            tenant: caller.tenant.clone(),
            actor: caller.actor.clone(),
            scopes,
        }
    }
}

/// Why a server does not take the credential of a call, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    ClockSkew,
    Expired,
    MissingScope,
    NoConsent,
    /// Nothing is configured that could be shown, or the caller has no token to exchange.
    NoCredential,
    Revoked,
    ServiceDown,
    WrongAudience,
}

/// No credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    /// For the log: never a peer's text, never a secret.
    pub detail: Box<str>,
    /// Where the caller can consent; empty: nowhere.
    pub consent_url: Box<str>,
}

impl Trouble {
    /// What it means for the caller: what a consent would end asks for it.
    pub fn fault(&self) -> Fault {
        if self.consent_url.is_empty() { self.cause.fault() } else { CONSENT }
    }

    pub fn new(cause: Cause, detail: impl Into<Box<str>>) -> Self {
        Self { cause, detail: detail.into(), consent_url: Box::default() }
    }
}

impl Cause {
    pub const ALL: [Self; 8] = [
        Self::ClockSkew,
        Self::Expired,
        Self::MissingScope,
        Self::NoConsent,
        Self::NoCredential,
        Self::Revoked,
        Self::ServiceDown,
        Self::WrongAudience,
    ];

    /// For logs and `data.cause`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClockSkew => "clock_skew",
            Self::Expired => "expired",
            Self::MissingScope => "missing_scope",
            Self::NoConsent => "no_consent",
            Self::NoCredential => "no_credential",
            Self::Revoked => "revoked",
            Self::ServiceDown => "token_service_down",
            Self::WrongAudience => "wrong_audience",
        }
    }

    pub fn fault(self) -> Fault {
        let refused = |detail| Fault::new(Kind::UpstreamUnauthorized, detail);
        match self {
            Self::ClockSkew => refused(
                "The clocks of this gateway, its token service and the server disagree, so that a credential is not valid \
                 yet or not any more; tell the operator to set them.",
            ),
            Self::Expired => refused(
                "The credential for the server behind this endpoint has expired and could not be renewed; sign in again, \
                 or tell the operator.",
            ),
            Self::MissingScope => refused(
                "The credential for the server behind this endpoint lacks a scope that the server asks for; tell the \
                 operator to add it.",
            ),
            Self::NoConsent => CONSENT,
            Self::NoCredential => refused(
                "The server behind this endpoint wants a credential, and this gateway has none to show for you; sign in \
                 with an access token, or tell the operator.",
            ),
            Self::Revoked => refused(
                "The server behind this endpoint does not accept the gateway's credential: it was revoked or was never \
                 valid there; tell the operator to renew it.",
            ),
            Self::ServiceDown => refused(
                "The service that gives out credentials for the server behind this endpoint does not answer; retry later.",
            ),
            Self::WrongAudience => refused(
                "The credential for the server behind this endpoint is meant for another one; tell the operator to check \
                 its audience.",
            ),
        }
    }

    /// What a server says in `WWW-Authenticate` (RFC 6750 section 3). None: it does not say.
    pub fn of_challenge(value: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(value).to_ascii_lowercase();
        if text.contains("insufficient_scope") {
            return Some(Self::MissingScope);
        }
        let (_, description) = text.split_once("error_description=")?;
        Self::of_words(description)
    }

    /// What a token service answers (RFC 6749 section 5.2, RFC 8693 section 2.2.2). `description` is a text for people
    /// that tells apart what the code does not.
    pub fn of_error(code: &str, description: &str) -> Self {
        match code {
            "invalid_target" => Self::WrongAudience,
            "invalid_scope" => Self::MissingScope,
            "consent_required" | "interaction_required" | "login_required" => Self::NoConsent,
            "server_error" | "temporarily_unavailable" => Self::ServiceDown,
            _ => Self::of_words(&description.to_ascii_lowercase()).unwrap_or(Self::Revoked),
        }
    }

    fn of_words(lowered: &str) -> Option<Self> {
        // In this order: a text about scopes may say `expired`, one about clocks too.
        const WORDS: &[(&[&str], Cause)] = &[
            (&["nbf", "iat", "future", "clock", "clocks", "skew", "yet"], Cause::ClockSkew),
            (&["revoked"], Cause::Revoked),
            (&["aud", "audience", "audiences"], Cause::WrongAudience),
            (&["scope", "scopes"], Cause::MissingScope),
            (&["expired", "expiry"], Cause::Expired),
        ];
        let said: Vec<&str> = lowered.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
        let found = WORDS.iter().find(|(words, _)| words.iter().any(|word| said.contains(word)));
        found.map(|(_, cause)| *cause)
    }
}

/// The caller has to consent, for the first time or once more.
pub const CONSENT: Fault = Fault::new(
    Kind::ConsentRequired,
    "The server behind this endpoint needs your consent first; give it, and repeat the call.",
);

/// A claim that cannot be sent.
pub const UNSENDABLE: Fault = Fault::new(
    Kind::Forbidden,
    "A claim of your access token has a line break or another control character in it and cannot be sent to the server \
     behind this endpoint; get another token.",
);

/// The caller's claims as fields; a claim that it does not have is left out.
///
/// # Errors
/// `Forbidden` where a claim has a control character in it.
pub fn of_claims(fields: &[ClaimField], caller: &Caller) -> Result<Credential, Fault> {
    let mut sent = Vec::new();
    for field in fields {
        let Some(value) = claim(field, caller) else { continue };
        if value.chars().any(char::is_control) {
            return Err(UNSENDABLE);
        }
        sent.push(InjectedHeader { name: field.name.clone(), value: value.into_bytes().into() });
    }
    Ok(Credential { fields: sent, fresh_until_unix: u64::MAX, ..Credential::default() })
}

/// A caller without a token has no claims, but a name.
fn claim(field: &ClaimField, caller: &Caller) -> Option<String> {
    let of_caller = || match &*field.claim.0 {
        "sub" => Some(caller.name.to_string()),
        "act.sub" if !caller.actor.is_empty() => Some(caller.actor.to_string()),
        _ => None,
    };
    match caller.claims.get(&field.claim) {
        None => of_caller(),
        Some(Value::String(text)) => Some(text.trim_matches(' ').to_owned()),
        Some(Value::Bool(flag)) => Some(flag.to_string()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Array(_)) => Some(caller.claims.texts(&field.claim).join(",")),
        Some(Value::Null | Value::Object(_)) => None,
    }
    .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::identity::ClaimPath;
    use crate::policy::claims::Claims;
    use serde_json::json;
    use std::collections::HashSet;

    #[test]
    fn every_cause_has_a_sentence_and_a_word_of_its_own() {
        let sentences: HashSet<_> = Cause::ALL.iter().map(|cause| cause.fault().detail).collect();
        let words: HashSet<_> = Cause::ALL.iter().map(|cause| cause.word()).collect();
        assert_eq!((sentences.len(), words.len()), (Cause::ALL.len(), Cause::ALL.len()));
        for cause in Cause::ALL {
            let wire = cause.fault().wire();
            let expected = if cause == Cause::NoConsent { (403, -33403) } else { (502, -33502) };
            assert_eq!((wire.status, wire.code), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_challenge_tells_its_cause() {
        for (value, cause) in [
            (r#"Bearer error="insufficient_scope", scope="a""#, Some(Cause::MissingScope)),
            (r#"Bearer error="invalid_token", error_description="The token expired""#, Some(Cause::Expired)),
            (r#"Bearer error="invalid_token", error_description="Token revoked""#, Some(Cause::Revoked)),
            (
                r#"Bearer error="invalid_token", error_description="wrong audience""#,
                Some(Cause::WrongAudience),
            ),
            (r#"Bearer error="invalid_token", error_description="not yet valid""#, Some(Cause::ClockSkew)),
            (r#"Bearer error="invalid_token""#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(Cause::of_challenge(value.as_bytes()), cause, "{value}");
        }
    }

    #[test]
    fn an_error_of_a_token_service_tells_its_cause() {
        for (code, description, cause) in [
            ("invalid_grant", "", Cause::Revoked),
            ("invalid_grant", "Token has expired", Cause::Expired),
            ("invalid_grant", "subject token was revoked", Cause::Revoked),
            ("invalid_target", "", Cause::WrongAudience),
            ("invalid_scope", "", Cause::MissingScope),
            ("consent_required", "", Cause::NoConsent),
            ("temporarily_unavailable", "", Cause::ServiceDown),
            ("invalid_request", "iat is in the future", Cause::ClockSkew),
            ("invalid_client", "", Cause::Revoked),
            ("invalid_grant", "not appropriate for this resource", Cause::Revoked),
        ] {
            assert_eq!(Cause::of_error(code, description), cause, "{code} {description}");
        }
    }

    fn caller(claims: Value) -> Caller {
        let Value::Object(claims) = claims else { panic!("an object") };
        Caller { claims: Claims(claims), actor: "agent-7".into(), ..Caller::of_certificate("alice") }
    }

    fn field(name: &str, claim: &str) -> ClaimField {
        ClaimField { name: name.as_bytes().into(), claim: ClaimPath(claim.into()) }
    }

    #[test]
    fn claims_become_fields() {
        let fields = [
            field("x-user", "sub"),
            field("x-team", "team"),
            field("x-roles", "roles"),
            field("x-act", "act.sub"),
        ];
        let shown = |claims| {
            let credential = of_claims(&fields, &caller(claims)).expect("a credential");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let each =
                credential.fields.iter().map(|one| format!("{}={}", text(&one.name), text(&one.value)));
            each.collect::<Vec<_>>().join(" ")
        };
        let claims = json!({"sub": "a", "team": 7, "roles": ["x", "y"], "act": {"sub": "b"}});
        assert_eq!(shown(claims), "x-user=a x-team=7 x-roles=x,y x-act=b");
        assert_eq!(shown(json!({"team": {"a": 1}})), "x-user=alice x-act=agent-7");
    }

    #[test]
    fn a_claim_that_would_be_another_field_is_refused() {
        for evil in ["a\r\nX-Admin: 1", "a\n", "\u{0}", "a\u{7f}", "\u{85}"] {
            let made = of_claims(&[field("x-user", "sub")], &caller(json!({ "sub": evil })));
            assert_eq!(made.map(|_| ()).expect_err("refused"), UNSENDABLE, "{evil:?}");
        }
    }
}
