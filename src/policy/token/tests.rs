//! Keys, issuers and tokens of the tests, made when they run.

mod attacks;
mod changed;
mod introspection;
mod key_sets;
mod providers;

use super::*;
use crate::base::base64url;
use crate::config::identity::ClaimPath;
use crate::config::identity::Introspection;
use crate::config::identity::Secret;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RsaKeyPair;
use serde_json::json;
use std::sync::LazyLock;

const NOW: u64 = 1_800_000_000;
const IDP: &str = "https://idp.test";
const OTHER: &str = "https://other.test";
const AUDIENCE: &str = "https://gw.test/mcp";

/// One key of each kind. An RSA key takes a second to make.
struct Pairs {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    /// Nobody's.
    stranger: Ed25519KeyPair,
}

static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed: Ed25519KeyPair::generate().unwrap(),
    stranger: Ed25519KeyPair::generate().unwrap(),
});

/// Modulus and exponent: the end of `RSAPublicKey` (RFC 8017 appendix A.1.1) is a modulus of 2,048 bits and 65537.
fn rsa_components() -> (&'static [u8], &'static [u8]) {
    let der = PAIRS.rsa.public_key().as_ref();
    let (rest, e) = der.split_at(der.len() - 3);
    assert_eq!(e, [1, 0, 1]);
    (&rest[rest.len() - 2 - 256..rest.len() - 2], e)
}

fn rsa_jwk() -> Value {
    let (n, e) = rsa_components();
    json!({"kty": "RSA", "kid": "rsa", "n": base64url::encode(n), "e": base64url::encode(e)})
}

fn ec_jwk(pair: &EcdsaKeyPair, kid: &str, crv: &str) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "kid": kid, "crv": crv, "x": base64url::encode(x), "y": base64url::encode(y)})
}

fn ed_jwk(pair: &Ed25519KeyPair, kid: &str) -> Value {
    json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": base64url::encode(pair.public_key().as_ref())})
}

fn jwks() -> Vec<Value> {
    let pairs = &*PAIRS;
    vec![
        rsa_jwk(),
        ec_jwk(&pairs.p256, "p256", "P-256"),
        ec_jwk(&pairs.p384, "p384", "P-384"),
        ed_jwk(&pairs.ed, "ed"),
    ]
}

fn parse(jwks: &[Value]) -> IssuerKeys {
    IssuerKeys::parse(json!({"keys": jwks}).to_string().as_bytes(), NOW + 1_000).unwrap()
}

/// The given JSON with the members of another in it; those that are null are taken out.
fn with(mut base: Value, change: &Value) -> Value {
    let members = base.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), value.clone())
        };
    }
    base
}

fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "ed"})
}

fn good_claims() -> Value {
    json!({"iss": IDP, "sub": "alice", "aud": AUDIENCE, "iat": NOW - 10, "exp": NOW + 300})
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let (pairs, random) = (&*PAIRS, SystemRandom::new());
    let rsa = |with: &'static dyn signature::RsaEncoding| {
        let mut out = vec![0; pairs.rsa.public_modulus_len()];
        pairs.rsa.sign(with, &random, message, &mut out).unwrap();
        out
    };
    match algorithm {
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_SHA512),
        "ES256" => pairs.p256.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES384" => pairs.p384.sign(&random, message).unwrap().as_ref().to_vec(),
        _ => pairs.ed.sign(message).as_ref().to_vec(),
    }
}

/// A token of these very bytes, with a signature made by `sign`.
fn raw(header: &[u8], claims: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
    let signature = base64url::encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A token that is signed as its header says, where that can be; else by the Ed25519 key.
fn token(header: &Value, claims: &Value) -> String {
    let algorithm = header["alg"].as_str().unwrap_or_default();
    raw(header.to_string().as_bytes(), claims.to_string().as_bytes(), |signed| sign(algorithm, signed))
}

fn issuer(name: &str) -> Issuer {
    Issuer {
        issuer: name.into(),
        audiences: vec![AUDIENCE.into()],
        keys: KeySource::Discovery,
        introspection: None,
        tls: None,
        principal: ClaimPath("sub".into()),
        roles: None,
        act: ClaimPath("act.sub".into()),
        max_stale_ms: 0,
    }
}

fn introspection() -> Option<Introspection> {
    let secret = Secret("x".into());
    Some(Introspection { url: "https://idp.test/introspect".into(), client_id: "gw".into(), secret })
}

/// Issuers and their keys.
struct World {
    issuers: Vec<Arc<Issuer>>,
    keys: TokenKeys,
}

impl World {
    fn new(issuers: Vec<(Issuer, IssuerKeys)>) -> Self {
        let mut keys = TokenKeys::default();
        let issuers = issuers.into_iter().map(|(issuer, its)| {
            keys.by_issuer.insert(issuer.issuer.clone(), Arc::new(its));
            Arc::new(issuer)
        });
        Self { issuers: issuers.collect(), keys }
    }

    /// Two issuers: the second has the stranger's key under a name that the first uses too.
    fn usual() -> Self {
        let other = parse(&[ed_jwk(&PAIRS.stranger, "ed")]);
        Self::new(vec![(issuer(IDP), parse(&jwks())), (issuer(OTHER), other)])
    }

    fn verify(&self, token: &str) -> Result<Verified, Unverified> {
        verify(&self.issuers, &self.keys, token.as_bytes(), NOW)
    }

    fn caller(&self, token: &str) -> Result<Caller, Unverified> {
        Ok(caller(&self.issuers, self.verify(token)?)?)
    }
}

fn unknown(kid: &str) -> Unverified {
    Unverified::UnknownKey { issuer: 0, kid: kid.into() }
}

#[test]
fn every_algorithm_is_verified() {
    let world = World::usual();
    let all = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
        ("Ed25519", "ed"),
    ];
    for (algorithm, kid) in all {
        let good = token(&json!({"alg": algorithm, "kid": kid}), &good_claims());
        let verified = world.verify(&good).unwrap_or_else(|why| panic!("{algorithm}: {why:?}"));
        assert_eq!((verified.issuer, verified.expires_unix), (0, NOW + 300 + 60));
        assert_eq!(Value::Object(verified.claims.0), good_claims());
        // Without the name of its key none is tried that has one.
        let nameless = world.verify(&token(&json!({"alg": algorithm}), &good_claims()));
        assert_eq!(nameless.unwrap_err(), unknown(""), "{algorithm}");
        let other =
            token(&json!({"alg": algorithm, "kid": kid}), &with(good_claims(), &json!({"sub": "eve"})));
        let (signed, signature) = (other.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
        let forged = world.verify(&format!("{signed}.{signature}"));
        assert_eq!(forged.unwrap_err(), SIGNATURE.into(), "{algorithm}");
    }
}
