//! The demo's identity provider, as far as a gateway sees one: a key set in a file, and an access token that was signed with it.
//!
//! Not here: giving out tokens. Nobody can ask this issuer; it is there for as long as one token is made.

use crate::base::base64url;
use crate::base::clock;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// As the token's `iss` says it.
pub(super) const ISSUER: &str = "https://idp.example";
/// Who calls with the token, in which role and with which scope.
pub(super) const PRINCIPAL: &str = "partner-agent";
pub(super) const ROLE: &str = "partner";
pub(super) const SCOPE: &str = "shop:read";
/// A day at a desk.
const LIFE_SECONDS: u64 = 12 * 3600;

/// Writes the issuer's keys to `file`; the token, which is for `audience`.
pub(super) fn token(file: &Path, audience: &str) -> anyhow::Result<String> {
    let unable = |_| anyhow::anyhow!("a key cannot be made. Try again");
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(unable)?;
    let key = Ed25519KeyPair::from_pkcs8(document.as_ref())
        .map_err(|error| anyhow::anyhow!("a key cannot be made: {error}. Try again"))?;
    let public = base64url::encode(key.public_key().as_ref());
    let jwk =
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "demo", "use": "sig", "alg": "EdDSA", "x": public });
    std::fs::write(file, json!({ "keys": [jwk] }).to_string())?;
    let now = clock::wall().as_secs();
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "demo" });
    let claims = json!({
        "iss": ISSUER, "aud": audience, "sub": PRINCIPAL, "groups": [ROLE], "scope": SCOPE,
        "iat": now, "exp": now + LIFE_SECONDS,
    });
    let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = base64url::encode(key.sign(signed.as_bytes()).as_ref());
    Ok(format!("{signed}.{signature}"))
}
