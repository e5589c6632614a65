//! Opaque tokens: who is asked, and which answers are believed (RFC 7662).

use super::*;
use crate::policy::identity::ELSEWHERE;

/// The second issuer knows opaque tokens; the third signs nothing that could be verified.
fn world() -> World {
    let mut with_introspection = issuer(OTHER);
    with_introspection.introspection = introspection();
    let mut without_keys = issuer("https://opaque.test");
    without_keys.keys = KeySource::None;
    without_keys.introspection = introspection();
    World::new(vec![
        (issuer(IDP), parse(&jwks())),
        (with_introspection, IssuerKeys::default()),
        (without_keys, IssuerKeys::default()),
    ])
}

#[test]
fn what_is_no_jwt_may_be_opaque() {
    let world = world();
    for opaque in ["a", "2YotnFZFEjr1zCsicMWpAA", "ya29.a0Af~_-+/x==", "a.b.c.d", "a.b.c.d.e"] {
        assert_eq!(world.verify(opaque).unwrap_err(), Unverified::Opaque { issuer: None }, "{opaque}");
        assert_eq!(World::usual().verify(opaque).unwrap_err(), MALFORMED.into(), "nobody to ask: {opaque}");
    }
    for neither in ["a b", "a\"", "{}", "a\0", "a\u{e9}", "a.b.c", "a..b", "..", "a,b"] {
        assert_eq!(world.verify(neither).unwrap_err(), MALFORMED.into(), "{neither}");
    }
}

#[test]
fn a_jwt_without_keys_goes_to_its_issuer_alone_and_not_if_it_is_no_good() {
    let claims = with(good_claims(), &json!({"iss": "https://opaque.test"}));
    let verdict =
        |change: &Value| world().verify(&token(&header(), &with(claims.clone(), change))).unwrap_err();
    assert_eq!(verdict(&json!({})), Unverified::Opaque { issuer: Some(2) });
    assert_eq!(verdict(&json!({"exp": NOW - 60})), EXPIRED.into());
    assert_eq!(verdict(&json!({"aud": "x"})), ELSEWHERE.into());
}

#[test]
fn an_answer_is_believed_where_it_says_all() {
    let (world, short) = (world(), limits::INTROSPECTED_SECONDS_MAX);
    let good = json!({"active": true, "sub": "alice", "aud": AUDIENCE, "client_id": "agent", "token_type": "Bearer"});
    let read = |change: &Value| {
        let Value::Object(claims) = with(good.clone(), change) else { panic!("an object") };
        introspected(&world.issuers, 1, Claims(claims), NOW)
    };
    for (change, expires) in [
        (json!({}), NOW + short),
        (json!({"iss": OTHER, "exp": NOW + 100_000, "iat": NOW, "nbf": NOW + 60}), NOW + short),
        (json!({"exp": NOW + 1}), NOW + 1),
        (json!({"aud": ["x", "https://gw.test/mcp/crm"]}), NOW + short),
    ] {
        let verified = read(&change).unwrap();
        assert_eq!((verified.issuer, verified.expires_unix), (1, expires), "{change}");
        assert_eq!(&*caller(&world.issuers, verified).unwrap().name, "alice");
    }
    for (change, why) in [
        (json!({"active": false}), INACTIVE),
        (json!({"active": "true"}), INACTIVE),
        (json!({"active": 1}), INACTIVE),
        (json!({"active": null}), INACTIVE),
        (json!({"iss": IDP}), ISSUER),
        (json!({"iss": 1}), ISSUER),
        (json!({"aud": null}), ELSEWHERE),
        (json!({"aud": "gw"}), ELSEWHERE),
        (json!({"exp": NOW}), EXPIRED),
        (json!({"exp": "soon"}), MALFORMED),
        (json!({"nbf": NOW + 61}), NOT_YET),
        (json!({"iat": NOW + 61}), NOT_YET),
    ] {
        assert_eq!(read(&change).unwrap_err(), why, "{change}");
    }
    let nobody = introspected(&world.issuers, 9, Claims(good.as_object().unwrap().clone()), NOW);
    assert_eq!(nobody.unwrap_err(), ISSUER);
}
