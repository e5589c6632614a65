//! Claims as the issuers in wide use make them, and whom they name.

use super::*;

/// Issuer, audience, where the claims are, and the token itself.
fn world(name: &str, audience: &str, principal: &str, roles: &str) -> World {
    let from = Issuer {
        audiences: vec![audience.into()],
        principal: ClaimPath(principal.into()),
        roles: Some(ClaimPath(roles.into())),
        ..issuer(name)
    };
    World::new(vec![(issuer(OTHER), IssuerKeys::default()), (from, parse(&jwks()))])
}

fn shown(caller: &Caller) -> String {
    format!("{} [{}] ({}) {}", caller.name, caller.roles.join(" "), caller.scopes.join(" "), caller.actor)
}

fn signed(typ: Option<&str>, claims: &Value) -> String {
    token(&with(json!({"alg": "RS256", "kid": "rsa"}), &json!({"typ": typ})), claims)
}

#[test]
fn oidc_keycloak() {
    let realm = "https://keycloak.test/realms/agents";
    let claims = json!({
        "exp": NOW + 300, "iat": NOW, "jti": "trrtcc:8b7c53ea", "iss": realm, "aud": [AUDIENCE, "account"],
        "sub": "b2c3d4e5-6789-4abc-8def-0123456789ab", "typ": "Bearer", "azp": "agent-client", "sid": "f3a1",
        "acr": "1", "allowed-origins": ["https://app.test"],
        "realm_access": {"roles": ["support", "offline_access", "uma_authorization"]},
        "resource_access": {"account": {"roles": ["manage-account"]}}, "scope": "openid crm.read profile",
        "email_verified": true, "preferred_username": "alice@example.test", "client": {"name": "x"},
    });
    let world = world(realm, AUDIENCE, "preferred_username", "realm_access.roles");
    let caller = world.caller(&signed(Some("JWT"), &claims)).unwrap();
    assert_eq!(
        shown(&caller),
        "alice@example.test [support offline_access uma_authorization] (openid crm.read profile) "
    );
}

#[test]
fn oidc_okta() {
    let server = "https://dev-1.okta.test/oauth2/default";
    let claims = json!({
        "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "iss": server, "aud": "api://default",
        "iat": NOW, "exp": NOW + 3600, "cid": "0oa1gjh63g214q0Hq0g4", "uid": "00ujmfxqrzqAbcde0g3",
        "scp": ["openid", "crm.read"], "auth_time": NOW - 60, "sub": "alice@example.test", "groups": ["Everyone", "support"],
    });
    let world = world(server, "api://default", "sub", "groups");
    let caller = world.caller(&signed(None, &claims)).unwrap();
    assert_eq!(shown(&caller), "alice@example.test [Everyone support] (openid crm.read) ");
}

#[test]
fn oidc_entra_id() {
    let tenant = "https://login.microsoftonline.test/9f1b0f4e-0000-4000-8000-000000000000/v2.0";
    let claims = json!({
        "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "iss": tenant, "iat": NOW, "nbf": NOW, "exp": NOW + 4000,
        "aio": "AXQAi/8IAAAA", "azp": "1ec3d2b7", "azpacr": "0", "name": "Alice Example",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "preferred_username": "alice@example.test", "rh": "0.AAA.",
        "roles": ["Support.Read"], "scp": "access_as_user crm.read", "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
        "tid": "9f1b0f4e-0000-4000-8000-000000000000", "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": "2.0",
    });
    let world = world(tenant, "6e74172b-be56-4843-9ff4-e66a39bb12e3", "oid", "roles");
    let caller = world.caller(&signed(Some("JWT"), &claims)).unwrap();
    assert_eq!(
        shown(&caller),
        "690222be-ff1a-4d56-abd1-7e4f7d38e474 [Support.Read] (access_as_user crm.read) "
    );
}

#[test]
fn oidc_rfc_9068_with_somebody_who_acts() {
    let claims = with(
        good_claims(),
        &json!({
            "iss": "https://as.test", "client_id": "agent", "jti": "x", "scope": "crm.read",
            "act": {"sub": "agent-7", "act": {"sub": "agent-1"}}, "https://x.test/roles": ["a b", "c", 1],
        }),
    );
    let world = world("https://as.test", AUDIENCE, "sub", "https://x.test/roles");
    let caller = world.caller(&signed(Some("at+jwt"), &claims)).unwrap();
    assert_eq!(shown(&caller), "alice [a b c] (crm.read) agent-7");
    assert!(matches!(
        caller.origin,
        crate::policy::identity::Origin::Token { issuer: 1, reach: Reach::Everywhere }
    ));
}

#[test]
fn agent_identity_by_jwt_svid() {
    let id = "spiffe://corp.test/ns/agents/sa/agent-7";
    let world = world("spiffe://corp.test", AUDIENCE, "sub", "roles");
    let svid = |change: &Value| {
        let claims = json!({"sub": id, "aud": [AUDIENCE], "iat": NOW, "exp": NOW + 300});
        world.caller(&token(&json!({"alg": "ES256", "kid": "p256", "typ": "JWT"}), &with(claims, change)))
    };
    assert_eq!(shown(&svid(&json!({})).unwrap()), format!("{id} [] () "));
    assert!(svid(&json!({"iss": "spiffe://corp.test"})).is_ok());
    // JWT-SVID section 2.3; what other issuers sign as `JOSE` is no access token (`attacks::headers`).
    let claims = json!({"sub": id, "aud": AUDIENCE, "exp": NOW + 300});
    let typed =
        |typ: &str| world.caller(&token(&json!({"alg": "ES256", "kid": "p256", "typ": typ}), &claims));
    assert!(typed("JOSE").is_ok());
    assert_eq!(typed("kb+jwt").unwrap_err(), TYPE.into());
    for change in [
        json!({"sub": "spiffe://other.test/ns/agents"}),
        json!({"sub": "spiffe://corp.test.evil/x"}),
        json!({"sub": "spiffe://corp.test@evil/x"}),
        json!({"sub": "SPIFFE://corp.test/x"}),
        json!({"sub": "spiffe://CORP.test/x"}),
        json!({"sub": "spiffe://corp.test"}),
        json!({"sub": "spiffe://corp.test/"}),
        json!({"sub": "spiffe:///corp.test"}),
        json!({"sub": "corp.test/x"}),
        json!({"sub": null}),
        json!({"sub": 1}),
        json!({"iss": "https://spire.test"}),
        // It speaks for its own domain alone, and nobody else speaks as it.
        json!({"iss": "spiffe://corp.test", "sub": "spiffe://other.test/x"}),
        json!({"iss": "spiffe://corp.test", "sub": "alice"}),
    ] {
        assert_eq!(svid(&change).unwrap_err(), ISSUER.into(), "{change}");
    }
}

/// A user whom Keycloak knows from a SAML assertion of the corporate provider (docs/IDENTITY.md): the token says so, and
/// is one like all others.
#[test]
fn saml() {
    let realm = "https://keycloak.test/realms/corp";
    let claims = json!({
        "exp": NOW + 300, "iat": NOW, "iss": realm, "aud": [AUDIENCE, "account"], "sub": "f:2f1c:jdoe",
        "typ": "Bearer", "azp": "agents", "sid": "c0ffee", "acr": "1", "identity_provider": "corp-saml",
        "identity_provider_identity": "CORP\\jdoe", "groups": ["support", "emea"], "scope": "openid mcp",
        "preferred_username": "jdoe@corp.test",
    });
    let world = world(realm, AUDIENCE, "preferred_username", "groups");
    let caller = world.caller(&signed(Some("JWT"), &claims)).unwrap();
    assert_eq!(shown(&caller), "jdoe@corp.test [support emea] (openid mcp) ");
    assert_eq!(caller.claims.0["identity_provider"], "corp-saml");
}

#[test]
fn a_principal_is_a_name_or_nobody() {
    let world = World::usual();
    let named = |change: &Value| {
        world.caller(&token(&header(), &with(good_claims(), change))).map(|caller| caller.name.to_string())
    };
    let long = "x".repeat(limits::PRINCIPAL_BYTES_MAX);
    for name in
        ["a", "auth0|123", "alice@example.test", "spiffe://corp/agent/7", "Zoë", "李 雷", "CN=a, O=b", &long]
    {
        assert_eq!(named(&json!({"sub": name})).as_deref(), Ok(name));
    }
    for name in [
        json!(""),
        json!(" "),
        json!(" a"),
        json!("a "),
        json!("a\0"),
        json!("a\nb"),
        json!("a\tb"),
        json!("\u{1b}[2J"),
        json!("a\u{7f}"),
        json!("a\u{85}"),
        json!("a\u{202e}b"),
        json!("a\u{200b}"),
        json!("a\u{2028}b"),
        json!("\u{feff}a"),
        json!(format!("{long}x")),
        json!(1),
        json!(["a"]),
        json!({"a": 1}),
        json!(null),
    ] {
        assert_eq!(named(&json!({"sub": name})), Err(NAMELESS.into()), "{name}");
        if !name.is_null() {
            assert_eq!(named(&json!({"act": {"sub": name}})), Err(NAMELESS.into()), "act {name}");
        }
    }
    assert_eq!(named(&json!({"act": {"client_id": "x"}})).as_deref(), Ok("alice"));
}
