//! What it costs to verify an access token, by algorithm, and to refuse one that is not worth its signature's check:
//! `cargo bench --bench token`. A worker pays it once a token (`limits::CALLERS_MAX`).
//!
//! Not here: assertions, and what a call costs whose caller is known.
#![expect(clippy::expect_used, reason = "a benchmark whose input is refused has nothing to measure")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RsaKeyPair;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use ringgate::base::base64url::encode;
use ringgate::config::identity::ClaimPath;
use ringgate::config::identity::Issuer;
use ringgate::config::identity::KeySource;
use ringgate::policy::token::TokenKeys;
use ringgate::policy::token::keys::IssuerKeys;
use ringgate::policy::token::verify;
use std::hint::black_box;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const CLAIMS: &str = r#"{"iss":"https://idp.test","sub":"alice@example.test","aud":"https://gw.test/mcp","iat":1800000000,
"exp":1800000300,"jti":"AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE","scope":"openid crm.read crm.write",
"groups":["everyone","support","support-emea"],"act":{"sub":"agent-7"}}"#;

fn token(algorithm: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed =
        format!("{}.{}", encode(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes()), encode(claims.as_bytes()));
    let signature = encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Name, key and token.
fn cases() -> Vec<(&'static str, String, String)> {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der = rsa.public_key().as_ref();
    // The end of an RSAPublicKey: 256 bytes, then the two bytes before 65537 and itself.
    let n = encode(&der[der.len() - 5 - 256..der.len() - 5]);
    let rs256 = token("RS256", CLAIMS, |signed| {
        let mut out = vec![0; rsa.public_modulus_len()];
        rsa.sign(&signature::RSA_PKCS1_SHA256, &random, signed, &mut out).expect("signed");
        out
    });
    let ec = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
    let es256 = token("ES256", CLAIMS, |signed| ec.sign(&random, signed).expect("signed").as_ref().to_vec());
    let ed = Ed25519KeyPair::generate().expect("a key");
    let okp = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(ed.public_key().as_ref()));
    let by_ed = |claims: &str| token("EdDSA", claims, |signed| ed.sign(signed).as_ref().to_vec());
    vec![
        ("RS256", format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#), rs256),
        ("ES256", format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, encode(x), encode(y)), es256),
        ("EdDSA", okp.clone(), by_ed(CLAIMS)),
        ("expired", okp.clone(), by_ed(&CLAIMS.replace("1800000300", "1700000300"))),
        ("garbage", okp, "x".repeat(600)),
    ]
}

fn verification(criterion: &mut Criterion) {
    let issuers = [Arc::new(Issuer {
        issuer: "https://idp.test".into(),
        audiences: vec!["https://gw.test/mcp".into()],
        keys: KeySource::Discovery,
        introspection: None,
        tls: None,
        principal: ClaimPath("sub".into()),
        roles: None,
        act: ClaimPath("act.sub".into()),
        max_stale_ms: 0,
    })];
    let mut group = criterion.benchmark_group("verify");
    for (name, jwk, token) in cases() {
        let known =
            IssuerKeys::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), u64::MAX).expect("a key set");
        let mut keys = TokenKeys::default();
        keys.by_issuer.insert("https://idp.test".into(), Arc::new(known));
        let run = || verify(&issuers, &keys, black_box(token.as_bytes()), NOW);
        assert_eq!(run().is_ok(), !matches!(name, "expired" | "garbage"), "{name}");
        group.bench_function(name, |bencher| bencher.iter(run));
    }
    group.finish();
}

criterion_group!(benches, verification);
criterion_main!(benches);
