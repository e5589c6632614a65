//! `identity` in the config: issuers of tokens, and tenants.
//!
//! Not here: key files (`src/config/keys.rs`) and verifying anything.

use crate::check;
use crate::load;
use crate::plan;
use crate::with;
use ringgate::config::identity::KeySource;

/// A config with one issuer of these members.
fn issuer(members: &str) -> String {
    with(&format!("identity: {{jwt: [{{{members}}}]}}"))
}

const GOOD: &str = "issuer: \"https://idp.test\", audiences: [\"https://gw.test/mcp\"]";

#[test]
fn an_issuer_completes_itself() {
    let identity = plan(&issuer(GOOD)).identity;
    let issuer = &identity.issuers[0];
    assert_eq!((&*issuer.issuer, &*issuer.audiences[0]), ("https://idp.test", "https://gw.test/mcp"));
    assert_eq!(issuer.keys, KeySource::Discovery);
    assert_eq!((&*issuer.principal.0, &*issuer.act.0), ("sub", "act.sub"));
    assert!(issuer.roles.is_none() && issuer.introspection.is_none() && identity.tenant.is_none());
    assert_eq!(issuer.max_stale_ms, 3_600_000);
    assert!(identity.anonymous.is_none(), "where any identity is configured nobody is anonymous");
}

#[test]
fn an_issuer_says_everything() {
    let text = with(
        "identity:\n  tenant: jwt.org\n  jwt:\n  - {issuer: \"spiffe://corp.test\", audiences: [a, b], jwks: \
         {url: \"http://127.0.0.1:9/k\"}, principal: a.b, roles: groups, act: by, maxStale: 0s}\n  - {issuer: \
         \"http://localhost:1\", audiences: [\"http://localhost:2/mcp\"], introspection: {url: \
         \"https://idp.test/i\", clientId: gw, secret: \"${SECRET}\"}}",
    );
    let identity = plan(&text).identity;
    let [first, second] = identity.issuers.as_slice() else { panic!("two issuers") };
    assert_eq!(first.keys, KeySource::Url("http://127.0.0.1:9/k".into()));
    assert_eq!((&*first.principal.0, &*first.act.0, first.max_stale_ms), ("a.b", "by", 0));
    assert_eq!(second.keys, KeySource::None, "only what the issuer knows itself");
    let introspection = second.introspection.as_ref().expect("a service");
    assert_eq!((&*introspection.client_id, &*introspection.secret.0), ("gw", crate::CANARY));
    assert!(!format!("{identity:?}").contains(crate::CANARY), "a secret is never printed");
    assert!(identity.tenant.is_some());
}

#[test]
fn a_listener_that_others_reach_needs_an_identity_and_an_issuer_is_one() {
    let text = format!("listen: \"0.0.0.0:8080\"\n{}", issuer(GOOD));
    assert!(load(&text).is_ok());
}

#[test]
fn mistakes_of_issuers_are_located() {
    let marked = |members: &str| issuer(members);
    for (members, what) in [
        ("issuer: »\"http://idp.test\", audiences: [\"https://g/mcp\"]", "is not `https://`"),
        ("issuer: »idp.test, audiences: [\"https://g/mcp\"]", "does not start with"),
        ("issuer: \"https://idp.test\", audiences: »[]", "the list is empty"),
        ("issuer: »\"spiffe://corp\", audiences: [a]", "no metadata"),
        ("issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], jwks: »{}", "either `url` or `file`"),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], jwks: {url: »\"http://i.test/k\"}",
            "is not `https://`",
        ),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], jwks: {file: »nowhere.json}",
            "the file of keys",
        ),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], introspection: »{url: \
             \"https://i.test/i\", clientId: a}",
            "has no `secret`",
        ),
        ("issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], »jwksUri: x", "is not a key"),
        ("issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], tls: »{}", "has no `ca`"),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], tls: {»cert: x, ca: examples/ca.pem}",
            "is not a key",
        ),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], tls: {ca: »nowhere.pem}",
            "`ca` cannot be used",
        ),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], tls: {ca: »examples/keys.yaml}",
            "no certificate in it",
        ),
        (
            "issuer: \"https://i.test\", audiences: [\"https://g/mcp\"], jwks: {file: examples/bundle.json}, tls: {ca: \
             »examples/ca.pem}",
            "means nothing here",
        ),
    ] {
        check(&marked(members), what);
    }
    check(&with("identity: {jwt: [»{issuer: \"https://i.test\"}]}"), "has no `audiences`");
    check(&with("identity: {jwt: [»{audiences: [\"https://g/mcp\"]}]}"), "has no `issuer`");
    let twice = format!("identity: {{jwt: [{{{GOOD}}}, {{{}}}]}}", GOOD.replacen('"', "»\"", 1));
    check(&with(&twice), "a second time");
    check(&with("»audiences: [a]"), "is not a key");
}

#[test]
fn a_tenant_says_nothing_about_a_call() {
    check(&with("identity: {tenant: »tool}"), "something about a call");
    check(&with("identity: {tenant: »\"args.x\"}"), "something about a call");
    check(&with("identity: {tenant: \"jwt.»(\"}"), "");
    assert!(load(&with("identity: {tenant: 'roles[0]'}")).is_ok());
    check(&crate::server("url: \"http://localhost:1/mcp\", tenants: [»acme]"), "nobody could see");
    check(&crate::server("url: \"http://localhost:1/mcp\", tenants: »[]"), "the list is empty");
}
