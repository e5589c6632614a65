//! Tokens that must fail (RFC 8725 and the attacks known by name), each with the refusal that it gets.

use super::*;
use crate::policy::identity::ELSEWHERE;
use aws_lc_rs::hmac;

type Row = (&'static str, String, Unverified);

fn check(rows: Vec<Row>) {
    let world = World::usual();
    for (name, token, expected) in rows {
        assert_eq!(
            world.verify(&token).map(|_| ()),
            Err(expected),
            "{name}: {}",
            &token[..token.len().min(300)]
        );
    }
}

fn by_header(change: &Value) -> String {
    token(&with(header(), change), &good_claims())
}

fn by_claims(change: &Value) -> String {
    token(&header(), &with(good_claims(), change))
}

/// The good header and claims with other bytes for a signature.
fn signed_by(header: &Value, signature: &[u8]) -> String {
    raw(header.to_string().as_bytes(), good_claims().to_string().as_bytes(), |_| signature.to_vec())
}

#[test]
fn the_good_one_is_good() {
    assert!(World::usual().verify(&by_header(&json!({}))).is_ok());
}

#[test]
fn algorithms() {
    let mut rows: Vec<Row> = Vec::new();
    for name in ["none", "None", "NONE", "nOnE"] {
        for kid in [json!("rsa"), json!(null)] {
            let header = with(json!({"alg": name}), &json!({"kid": kid}));
            rows.push(("none", signed_by(&header, b""), ALGORITHM.into()));
        }
    }
    let (n, _) = rsa_components();
    let public = rsa_jwk();
    let public = [PAIRS.rsa.public_key().as_ref(), n, public["n"].as_str().unwrap().as_bytes()];
    for secret in public {
        for kid in ["rsa", "oct"] {
            let header = json!({"alg": "HS256", "kid": kid}).to_string();
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let token = raw(header.as_bytes(), good_claims().to_string().as_bytes(), |signed| {
                hmac::sign(&key, signed).as_ref().to_vec()
            });
            rows.push(("public key as secret", token, ALGORITHM.into()));
        }
    }
    for other in [
        json!("HS512"),
        json!("ES512"),
        json!("ES256K"),
        json!("RS1"),
        json!("eddsa"),
        json!("EdDSA "),
        json!("RSA-OAEP"),
        json!("dir"),
        json!(""),
        json!(1),
        json!(["EdDSA"]),
        json!(null),
    ] {
        rows.push(("outside the list", by_header(&json!({"alg": other})), ALGORITHM.into()));
    }
    for (alg, kid) in
        [("RS256", "ed"), ("PS256", "p256"), ("ES384", "p256"), ("ES256", "p384"), ("EdDSA", "rsa")]
    {
        rows.push(("unlike the key's", by_header(&json!({"alg": alg, "kid": kid})), ALGORITHM.into()));
    }
    for length in [0, 1, 63, 64, 65, 72] {
        for kid in ["p256", "p384"] {
            let header = json!({"alg": if kid == "p256" { "ES256" } else { "ES384" }, "kid": kid});
            let token = signed_by(&header, &vec![0; if kid == "p256" { length } else { length + 32 }]);
            rows.push(("(0, 0) and other lengths", token, SIGNATURE.into()));
        }
    }
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&order[at..at + 2], 16).unwrap()).collect();
    let one = [&[0; 31][..], &[1]].concat();
    for (r, s) in [(&one, &vec![0; 32]), (&vec![0; 32], &one), (&order, &order), (&one, &order)] {
        let header = json!({"alg": "ES256", "kid": "p256"});
        rows.push(("degenerate", signed_by(&header, &[r.as_slice(), s].concat()), SIGNATURE.into()));
    }
    check(rows);
}

#[test]
fn keys_that_are_weak_or_no_keys_are_as_if_they_were_not_there() {
    let odd = |bytes: usize| base64url::encode(&vec![0xff; bytes]);
    let keys = parse(&[
        json!({"kty": "RSA", "kid": "rsa512", "n": odd(64), "e": "AQAB"}),
        json!({"kty": "oct", "kid": "oct", "k": odd(4)}),
        ed_jwk(&PAIRS.ed, "ed"),
    ]);
    let world = World::new(vec![(issuer(IDP), keys)]);
    let header = json!({"alg": "RS256", "kid": "rsa512"});
    assert_eq!(world.verify(&signed_by(&header, &[1; 64])).unwrap_err(), unknown("rsa512"));
    let header = json!({"alg": "HS256", "kid": "oct"});
    assert_eq!(world.verify(&signed_by(&header, &[1; 32])).unwrap_err(), ALGORITHM.into());
}

#[test]
fn headers() {
    let mut rows: Vec<Row> = Vec::new();
    for kid in ["../../../dev/null", "x' UNION SELECT 'key", "unknown", "ED", "ed ", "http://127.0.0.1/"] {
        rows.push(("not ours", by_header(&json!({"kid": kid})), unknown(kid)));
    }
    for kid in [
        json!("ed\0"),
        json!("\0"),
        json!("a\nb"),
        json!(""),
        json!(1),
        json!(["ed"]),
        json!({"a": 1}),
        json!("x".repeat(257)),
    ] {
        rows.push(("no name of a key", by_header(&json!({"kid": kid})), MALFORMED.into()));
    }
    rows.push(("1 MB", by_header(&json!({"kid": "x".repeat(1_000_000)})), TOO_LONG.into()));
    let help = json!({"jku": "https://evil.test/jwks", "x5u": "https://evil.test/x", "x5c": ["MIIB"],
        "jwk": ed_jwk(&PAIRS.stranger, "ed")});
    let by_stranger = |header: Value| {
        raw(header.to_string().as_bytes(), good_claims().to_string().as_bytes(), |signed| {
            PAIRS.stranger.sign(signed).as_ref().to_vec()
        })
    };
    rows.push(("brings its key", by_stranger(with(header(), &help)), SIGNATURE.into()));
    rows.push(("names no key", by_stranger(with(header(), &json!({"kid": null}))), unknown("")));
    for algorithm in ["EdDSA", "ES256", "ES384", "RS256", "PS512"] {
        let nameless = token(&json!({"alg": algorithm}), &good_claims());
        rows.push(("names no key, and one of ours signed it", nameless, unknown("")));
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("exp"), json!(false)] {
        rows.push(("critical", by_header(&json!({"crit": crit, "b64": true})), EXTENSION.into()));
    }
    for typ in [
        json!("JOSE"),
        json!("application/jose"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("id+jwt"),
        json!("text/jwt"),
        json!("application/application/jwt"),
        json!(" JWT"),
        json!(""),
        json!(1),
    ] {
        rows.push(("of another type", by_header(&json!({"typ": typ})), TYPE.into()));
    }
    check(rows);
    let world = World::usual();
    for change in
        [help, json!({"typ": "JWT"}), json!({"typ": "at+jwt"}), json!({"typ": "Application/AT+JWT"})]
    {
        assert!(world.verify(&by_header(&change)).is_ok(), "{change}");
    }
}

#[test]
fn forms() {
    let good = by_header(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("{good}") };
    let cut = |letters: usize| format!("{header}.{claims}.{}", &signature[..letters]);
    let mut rows: Vec<Row> = vec![
        ("no signature", cut(0), SIGNATURE.into()),
        ("half a signature", cut(40), SIGNATURE.into()),
        ("the signature twice", format!("{header}.{claims}.{signature}{signature}"), SIGNATURE.into()),
        ("a signature and more", format!("{good}A"), SIGNATURE.into()),
        (
            "flattened",
            json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
            MALFORMED.into(),
        ),
        (
            "two signatures",
            json!({"payload": claims, "signatures": [{"protected": header, "signature": signature},
            {"protected": header, "signature": signature}]})
            .to_string(),
            MALFORMED.into(),
        ),
        ("parts swapped", format!("{claims}.{header}.{signature}"), ALGORITHM.into()),
        ("nothing", String::new(), MALFORMED.into()),
        ("dots", "..".into(), MALFORMED.into()),
        ("two parts", format!("{header}.{claims}"), MALFORMED.into()),
        ("four parts", format!("{good}.{signature}"), MALFORMED.into()),
        ("an empty fourth part", format!("{good}."), MALFORMED.into()),
        ("encrypted", format!("{good}.{signature}.{signature}"), MALFORMED.into()),
        ("not Latin", good.replace('.', "․"), MALFORMED.into()),
    ];
    for other in [
        format!("{good}="),
        format!("{good}=="),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header} .{claims}.{signature}"),
        format!("{header}==.{claims}.{signature}"),
        good.replace('.', ". "),
    ] {
        rows.push(("padded or spaced", other, MALFORMED.into()));
    }
    // 64 bytes are 86 letters: the last one has four bits to spare, and one spelling.
    assert_eq!(signature.len(), 86);
    for letter in ["B", "P", "h", "v", "x", "_"] {
        rows.push((
            "spare bits",
            format!("{header}.{claims}.{}{letter}", &signature[..85]),
            MALFORMED.into(),
        ));
    }
    check(rows);
}

/// A good token of so many bytes.
fn of_length(length: usize) -> String {
    // Each part has lengths that it cannot have; together they reach all.
    let sizes = (0..3).flat_map(|more| (length / 4 * 3 - 400..length / 4 * 3).map(move |pad| (more, pad)));
    let found = sizes.map(|(more, pad)| {
        let header = with(header(), &json!({"more": "x".repeat(more)}));
        token(&header, &with(good_claims(), &json!({"pad": "x".repeat(pad)})))
    });
    found.into_iter().find(|token| token.len() == length).expect("a token of this length")
}

#[test]
fn the_longest_token() {
    for (length, expected) in [
        (limits::TOKEN_BYTES_MAX, Ok(())),
        (limits::TOKEN_BYTES_MAX + 1, Err(TOO_LONG.into())),
        (16_000, Err(TOO_LONG.into())),
        (16 * 1024, Err(TOO_LONG.into())),
    ] {
        assert_eq!(World::usual().verify(&of_length(length)).map(|_| ()), expected);
    }
}

#[test]
fn what_is_said_twice_or_is_no_object() {
    let (head, body) = (header().to_string(), good_claims().to_string());
    let signed = |header: &str, claims: &[u8]| raw(header.as_bytes(), claims, |signed| sign("EdDSA", signed));
    let also = |json: &str, more: &str| format!("{},{more}}}", json.strip_suffix('}').unwrap());
    let mut rows: Vec<Row> = Vec::new();
    for more in [
        r#""sub":"eve""#,
        r#""sub":"alice""#,
        r#""\u0073ub":"eve""#,
        r#""exp":9999999999"#,
        r#""act":{"sub":"a","sub":"b"}"#,
        r#""n":1e400"#,
    ] {
        rows.push(("duplicate claims", signed(&head, also(&body, more).as_bytes()), MALFORMED.into()));
    }
    for more in [r#""alg":"none""#, r#""kid":"rsa""#, r#""x":{"y":1,"y":2}"#] {
        rows.push(("duplicate in header", signed(&also(&head, more), body.as_bytes()), MALFORMED.into()));
    }
    let nested = by_header(&json!({}));
    let bom = format!("\u{feff}{body}");
    let bodies: [&[u8]; 9] = [
        b"",
        b"null",
        b"[]",
        b"{",
        nested.as_bytes(),
        b"\"{}\"",
        bom.as_bytes(),
        b"{\"a\":\"\xff\"}",
        b"{}{}",
    ];
    for claims in bodies {
        rows.push(("no object", signed(&head, claims), MALFORMED.into()));
    }
    rows.push((
        "nested",
        raw(by_header(&json!({"cty": "JWT"})).as_bytes(), nested.as_bytes(), |s| sign("", s)),
        MALFORMED.into(),
    ));
    check(rows);
}

#[test]
fn times() {
    let world = World::usual();
    let text =
        |claims: &str| raw(header().to_string().as_bytes(), claims.as_bytes(), |signed| sign("", signed));
    let mut rows: Vec<Row> = vec![("missing", by_claims(&json!({"exp": null})), NO_EXPIRY.into())];
    for exp in [0, NOW - 10_000, NOW - 61, NOW - 60] {
        rows.push(("past", by_claims(&json!({"exp": exp})), EXPIRED.into()));
    }
    for name in ["exp", "nbf", "iat"] {
        for at in [
            json!(NOW.to_string()),
            json!(1.9e9),
            json!(-1),
            json!(true),
            json!([NOW]),
            json!({}),
            json!("never"),
        ] {
            rows.push(("no whole number", by_claims(&json!({name: at})), MALFORMED.into()));
        }
        let base = with(good_claims(), &json!({name: null})).to_string();
        for at in
            ["1e400", "-1e400", "18446744073709551616", "1900000000.0", "19e8", "null", "NaN", "0x7fffffff"]
        {
            let claims = format!("{},\"{name}\":{at}}}", base.strip_suffix('}').unwrap());
            rows.push(("no whole number", text(&claims), MALFORMED.into()));
        }
    }
    for name in ["nbf", "iat"] {
        for at in [NOW + 61, NOW + 10_000, u64::MAX] {
            rows.push(("to come", by_claims(&json!({name: at})), NOT_YET.into()));
        }
        assert!(world.verify(&by_claims(&json!({name: NOW + 60}))).is_ok(), "{name} within the leeway");
        assert!(world.verify(&by_claims(&json!({name: null}))).is_ok(), "{name} may be missing");
    }
    check(rows);
    for (exp, expires) in [(NOW - 59, NOW + 1), (NOW, NOW + 60), (u64::MAX, u64::MAX)] {
        assert_eq!(world.verify(&by_claims(&json!({"exp": exp}))).unwrap().expires_unix, expires);
    }
}

#[test]
fn audiences_and_issuers() {
    let mut rows: Vec<Row> = Vec::new();
    for aud in [
        json!(null),
        json!([]),
        json!(""),
        json!("https://gw.test"),
        json!("https://gw.test/mc"),
        json!("https://gw.test/MCP"),
        json!("HTTPS://gw.test/mcp"),
        json!("https://gw.test/mcp/"),
        json!("https://gw.test/mcpx"),
        json!("https://gw.test/mcp/a/b"),
        json!("https://gw.test/mcp//"),
        json!(["https://other.test", "account"]),
        json!("https://gw.test/mcp https://x.test"),
        json!(" https://gw.test/mcp"),
        json!("https://gw.test/mcp\0"),
    ] {
        rows.push(("for others", by_claims(&json!({"aud": aud})), ELSEWHERE.into()));
    }
    for aud in [json!(1), json!({}), json!(true), json!([AUDIENCE, 1]), json!([[AUDIENCE]])] {
        rows.push(("no audience", by_claims(&json!({"aud": aud})), MALFORMED.into()));
    }
    for iss in [
        json!(null),
        json!("https://idp.test/"),
        json!("https://IDP.test"),
        json!("http://idp.test"),
        json!("idp.test"),
        json!(""),
        json!([IDP]),
        json!(1),
        json!("https://idp.test\0"),
        json!("https://idp.test.evil"),
    ] {
        rows.push(("from somebody else", by_claims(&json!({"iss": iss})), ISSUER.into()));
    }
    rows.push(("signed by another issuer", by_claims(&json!({"iss": OTHER})), SIGNATURE.into()));
    check(rows);
    let world = World::usual();
    for (aud, reach) in [
        (json!(["account", AUDIENCE]), Reach::Everywhere),
        (json!(["https://gw.test/mcp/crm", AUDIENCE]), Reach::Everywhere),
        (json!("https://gw.test/mcp/crm"), Reach::Endpoints(vec!["crm".into()])),
        (
            json!(["https://gw.test/mcp/crm", "x", "https://gw.test/mcp/db"]),
            Reach::Endpoints(vec!["crm".into(), "db".into()]),
        ),
    ] {
        assert_eq!(world.verify(&by_claims(&json!({"aud": aud}))).unwrap().reach, reach, "{aud}");
    }
}

#[test]
fn keys_are_not_used_when_they_are_stale() {
    let world = World::usual();
    let long = by_claims(&json!({"exp": NOW + 5_000}));
    let at = |now| verify(&world.issuers, &world.keys, long.as_bytes(), now).map(|_| ());
    assert_eq!(at(NOW + 999), Ok(()));
    assert_eq!(at(NOW + 1_000), Err(unknown("ed")));
    let none = verify(&world.issuers, &TokenKeys::default(), long.as_bytes(), NOW);
    assert_eq!(none.unwrap_err(), unknown("ed"));
    let nameless = by_header(&json!({"kid": null}));
    let none = verify(&world.issuers, &TokenKeys::default(), nameless.as_bytes(), NOW);
    assert_eq!(none.unwrap_err(), unknown(""));
}
