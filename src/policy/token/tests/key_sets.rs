//! Key sets: what is in them, what is left out, and which key a token is verified with.

use super::*;

#[test]
fn what_is_not_for_verifying_is_left_out() {
    let good = || ed_jwk(&PAIRS.ed, "good");
    let (rsa, p256) = (rsa_jwk(), ec_jwk(&PAIRS.p256, "p256", "P-256"));
    let ones = |bytes: usize| base64url::encode(&vec![0xff; bytes]);
    let long = base64url::encode(&[&[0], rsa_components().0].concat());
    let rows = [
        with(good(), &json!({"use": "enc"})),
        with(good(), &json!({"use": "x509-svid"})),
        with(good(), &json!({"use": 1})),
        with(good(), &json!({"key_ops": ["sign"]})),
        with(good(), &json!({"key_ops": "verify"})),
        with(good(), &json!({"alg": "HS256"})),
        with(good(), &json!({"alg": "ES256"})),
        with(good(), &json!({"alg": 1})),
        with(good(), &json!({"kid": ""})),
        with(good(), &json!({"kid": 7})),
        with(good(), &json!({"kid": "a\0"})),
        with(good(), &json!({"kid": "x".repeat(257)})),
        with(good(), &json!({"d": "AAAA"})),
        with(good(), &json!({"kty": "oct", "k": "AAAA"})),
        with(good(), &json!({"kty": "okp"})),
        with(good(), &json!({"kty": null})),
        with(good(), &json!({"crv": "X25519"})),
        with(good(), &json!({"crv": "Ed448"})),
        with(good(), &json!({"crv": null})),
        with(good(), &json!({"x": null})),
        with(good(), &json!({"x": ones(31)})),
        with(good(), &json!({"x": format!("{}=", good()["x"].as_str().unwrap())})),
        with(p256.clone(), &json!({"crv": "P-384"})),
        with(p256.clone(), &json!({"crv": "P-521"})),
        with(p256.clone(), &json!({"crv": "secp256k1"})),
        with(p256.clone(), &json!({"y": p256["x"]})),
        with(p256.clone(), &json!({"x": base64url::encode(&[0; 32]), "y": base64url::encode(&[0; 32])})),
        with(p256, &json!({"y": null})),
        with(rsa.clone(), &json!({"n": ones(255)})),
        with(rsa.clone(), &json!({"n": base64url::encode(&[&[0x7f][..], &[0xff; 255]].concat())})),
        with(rsa.clone(), &json!({"n": ones(1025)})),
        with(rsa.clone(), &json!({"n": ""})),
        with(rsa.clone(), &json!({"n": long})),
        with(rsa.clone(), &json!({"e": ""})),
        with(rsa, &json!({"alg": "RSA-OAEP-256"})),
        json!("a key"),
        json!({}),
    ];
    for row in rows {
        let keys = parse(&[row.clone(), ed_jwk(&PAIRS.stranger, "other")]);
        assert_eq!((keys.left_out, keys.contains("other")), (1, true), "{row}");
        assert!(!["good", "rsa", "p256"].iter().any(|kid| keys.contains(kid)), "{row}");
    }
    for also in [
        json!({"use": "sig"}),
        json!({"use": "jwt-svid"}),
        json!({"key_ops": ["verify"]}),
        json!({"alg": "EdDSA", "x5t": "AAAA", "issuer": "x"}),
    ] {
        let keys = parse(&[with(good(), &also)]);
        assert_eq!(
            (keys.left_out, keys.contains("good"), keys.contains("other")),
            (0, true, false),
            "{also}"
        );
    }
}

#[test]
fn documents_have_bounds() {
    let check = |text: &str, expected: Option<&str>| {
        let read = IssuerKeys::parse(text.as_bytes(), 0).map(|_| ());
        assert_eq!(read.is_err(), expected.is_some(), "{read:?}");
        if let (Err(why), Some(expected)) = (read, expected) {
            assert!(why.contains(expected), "{why}");
        }
    };
    check(r#"{"keys": []}"#, None);
    check(r#"{"keys": {}}"#, Some("no list"));
    check(r#"{}"#, Some("no list"));
    check(r#"{"keys": [], "keys": []}"#, Some("twice"));
    check("<html>", Some("no JSON"));
    check("", Some("no JSON"));
    let many = |count: usize| json!({"keys": vec![json!({}); count]}).to_string();
    check(&many(limits::TOKEN_KEYS_MAX), None);
    check(&many(limits::TOKEN_KEYS_MAX + 1), Some("too many"));
    let padded = |bytes: usize| format!("{{\"keys\": []}}{}", " ".repeat(bytes - 12));
    check(&padded(limits::TOKEN_KEYS_BYTES_MAX), None);
    check(&padded(limits::TOKEN_KEYS_BYTES_MAX + 1), Some("too long"));
}

#[test]
fn the_algorithm_of_a_key_binds() {
    let world = World::new(vec![(issuer(IDP), parse(&[with(rsa_jwk(), &json!({"alg": "PS256"}))]))]);
    let verdict =
        |alg: &str| world.verify(&token(&json!({"alg": alg, "kid": "rsa"}), &good_claims())).map(|_| ());
    assert_eq!(verdict("PS256"), Ok(()));
    for other in ["RS256", "PS384", "RS512"] {
        assert_eq!(verdict(other), Err(ALGORITHM.into()), "{other}");
    }
}

#[test]
fn keys_without_a_name_and_with_the_same_one() {
    let nameless = |pair: &Ed25519KeyPair| with(ed_jwk(pair, ""), &json!({"kid": null}));
    let verdict = |keys: &[Value], kid: Value| {
        let world = World::new(vec![(issuer(IDP), parse(keys))]);
        world.verify(&token(&with(header(), &json!({"kid": kid})), &good_claims())).map(|_| ())
    };
    assert_eq!(verdict(&[nameless(&PAIRS.ed)], json!(null)), Ok(()));
    assert_eq!(verdict(&[nameless(&PAIRS.ed)], json!("ed")), Err(unknown("ed")), "it is not this one");
    let named = |pair: &Ed25519KeyPair| ed_jwk(pair, "ed");
    assert_eq!(verdict(&[named(&PAIRS.ed)], json!(null)), Err(unknown("")), "it is none of these");
    assert_eq!(verdict(&[named(&PAIRS.ed), nameless(&PAIRS.stranger)], json!(null)), Err(SIGNATURE.into()));
    let last = limits::TOKEN_KEYS_TRIED_MAX - 1;
    for kid in [json!("ed"), json!(null)] {
        let key = |pair| if kid.is_null() { nameless(pair) } else { named(pair) };
        let behind = |count: usize| [vec![key(&PAIRS.stranger); count], vec![key(&PAIRS.ed)]].concat();
        assert_eq!(verdict(&behind(last), kid.clone()), Ok(()));
        assert_eq!(verdict(&behind(last + 1), kid.clone()), Err(SIGNATURE.into()), "so many are not tried");
    }
    let rsa = with(rsa_jwk(), &json!({"kid": null}));
    assert_eq!(verdict(&[rsa], json!(null)), Err(ALGORITHM.into()));
    assert_eq!(verdict(&[], json!(null)), Err(unknown("")));
}

/// With such an exponent anybody could sign.
#[test]
fn a_degenerate_rsa_exponent_verifies_nothing() {
    let encoded = |signed: &[u8]| {
        let info = [
            &[0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20][..],
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed).as_ref(),
        ]
        .concat();
        [&[0, 1][..], &vec![0xff; 256 - 3 - info.len()], &[0], &info].concat()
    };
    for e in ["AQ", "Ag", "AAE"] {
        let world = World::new(vec![(issuer(IDP), parse(&[with(rsa_jwk(), &json!({"e": e}))]))]);
        let header = json!({"alg": "RS256", "kid": "rsa"}).to_string();
        let forged = raw(header.as_bytes(), good_claims().to_string().as_bytes(), encoded);
        assert!(world.verify(&forged).is_err(), "{e}");
    }
}
