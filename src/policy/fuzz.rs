//! The fuzz body of access tokens as a plain function: libFuzzer and the tests over stored inputs call the same one. It
//! panics where somebody would be let in who must not be.
//!
//! Not here: inputs. Not part of any API.

use crate::base::base64url;
use crate::config::identity::ClaimPath;
use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::config::limits;
use crate::policy::claims::Claims;
use crate::policy::token;
use crate::policy::token::TokenKeys;
use crate::policy::token::Unverified;
use crate::policy::token::Verified;
use crate::policy::token::keys::IssuerKeys;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use serde_json::Value;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://idp.test";
const AUDIENCE: &str = "https://gw.test/mcp";
const HEADER: &[u8] = br#"{"alg":"EdDSA"}"#;

/// Bytes as a token, as the header and the claims of one that is signed, as an introspection's answer, and as a key
/// set. Nothing passes but signed claims, and answers, that a plain reading finds good too.
pub fn access_token(bytes: &[u8]) {
    // Any seed does: what is signed here is trusted here.
    let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&[7; 32]) else { return };
    let x = base64url::encode(pair.public_key().as_ref());
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
    let Ok(known) = IssuerKeys::parse(jwks.as_bytes(), u64::MAX) else { panic!("{jwks}") };
    let mut keys = TokenKeys::default();
    keys.by_issuer.insert(ISSUER.into(), Arc::new(known));
    let issuers = [Arc::new(issuer())];
    let verify = |token: &[u8]| token::verify(&issuers, &keys, token, NOW);
    let signed = |header: &[u8], claims: &[u8]| {
        let signed = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = base64url::encode(pair.sign(signed.as_bytes()).as_ref());
        verify(format!("{signed}.{signature}").as_bytes())
    };
    assert!(verify(bytes).is_err(), "nobody has signed this");
    if let Ok(verified) = signed(HEADER, bytes) {
        names_somebody(&issuers, verified, bytes, limits::TOKEN_LEEWAY_SECONDS);
    }
    let good = format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{NOW},"sub":"a"}}"#);
    match signed(bytes, good.as_bytes()) {
        Ok(_) => {
            let header: Value = serde_json::from_slice(bytes).unwrap_or_default();
            assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519", "{header}");
            assert!(header.get("crit").is_none() && header.get("kid").is_none(), "{header}");
        }
        Err(Unverified::UnknownKey { kid, .. }) => assert!(kid.len() <= limits::TOKEN_KEY_ID_BYTES_MAX),
        Err(_) => {}
    }
    if let Some(claims) = token::json::object(bytes)
        && let Ok(answered) = token::introspected(&issuers, 0, Claims(claims), NOW)
    {
        names_somebody(&issuers, answered, bytes, 0);
    }
    let _ = IssuerKeys::parse(bytes, 0);
}

fn issuer() -> Issuer {
    Issuer {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        keys: KeySource::Discovery,
        introspection: None,
        tls: None,
        principal: ClaimPath("sub".into()),
        roles: Some(ClaimPath("roles".into())),
        act: ClaimPath("act.sub".into()),
        max_stale_ms: 0,
    }
}

/// What was found good is, and its caller has a name that may be shown.
fn names_somebody(issuers: &[Arc<Issuer>], verified: Verified, claims: &[u8], leeway: u64) {
    let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
    let is_ours = |one: &Value| one.as_str().is_some_and(|one| one.starts_with(AUDIENCE));
    let audience = &claims["aud"];
    assert!(
        is_ours(audience) || audience.as_array().is_some_and(|list| list.iter().any(is_ours)),
        "{claims}"
    );
    assert!(claims.get("iss").is_none_or(|iss| iss == ISSUER), "{claims}");
    assert!(claims["exp"].as_u64().is_none_or(|exp| exp.saturating_add(leeway) > NOW), "{claims}");
    assert!(claims["nbf"].as_u64().is_none_or(|nbf| nbf <= NOW + limits::TOKEN_LEEWAY_SECONDS), "{claims}");
    assert!(verified.expires_unix > NOW);
    if let Ok(caller) = token::caller(issuers, verified) {
        assert_eq!(claims["sub"], *caller.name);
        assert!((1..=limits::PRINCIPAL_BYTES_MAX).contains(&caller.name.len()));
        assert!(!caller.name.contains(char::is_control) && !caller.actor.contains(char::is_control));
    }
}
