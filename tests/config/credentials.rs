//! What the config says about credentials of servers: `auth`, `vault`, and header fields that a vault knows.
//!
//! Not here: header fields whose values are known.

use crate::CANARY;
use crate::check;
use crate::plan;
use crate::problems;
use crate::server;
use ringgate::config::credentials::Auth;
use ringgate::config::credentials::Method;
use ringgate::config::credentials::TokenService;
use std::sync::Arc;

const URL: &str = "url: \"https://CRM.example:443/mcp\"";
const SERVICE: &str = "endpoint: \"https://sts.example/token\", clientId: gw, secret: \"${SECRET}\"";

fn auth(members: &str) -> Arc<Auth> {
    let mut plan = plan(&server(&format!("{URL}, auth: {{{members}}}")));
    plan.servers.remove(0).auth.unwrap_or_else(|| panic!("no credentials: {members}"))
}

fn check_auth(marked: &str, what: &str) {
    check(&server(&format!("{URL}, auth: {{{marked}}}")), what);
}

#[test]
fn each_kind_says_what_it_needs() {
    let of = |kind: &str| auth(&format!("kind: {kind}, {SERVICE}, audience: crm, scopes: [a, b]"));
    for (kind, exchanges) in [("clientCredentials", false), ("tokenExchange", true)] {
        let auth = of(kind);
        let (Method::ClientCredentials(service) | Method::TokenExchange(service)) = &auth.method else {
            panic!("{auth:?}")
        };
        let TokenService { endpoint, client_id, audience, resource, scopes, .. } = service;
        assert_eq!((&**endpoint, client_id.as_deref()), ("https://sts.example/token", Some("gw")));
        assert_eq!(
            (audience.as_deref(), resource.as_deref()),
            (Some("crm"), Some("https://crm.example/mcp"))
        );
        assert_eq!((scopes.join(" ").as_str(), auth.exchanges()), ("a b", exchanges));
        assert_eq!(auth.fields, [b"authorization".as_slice().into()]);
        assert!(!format!("{auth:?}").contains(CANARY));
    }
    let nameless =
        "kind: tokenExchange, endpoint: \"https://sts.example/token\", audience: crm, scopes: [crm.read]";
    let Method::TokenExchange(service) = &auth(nameless).method else { panic!("an exchange") };
    assert_eq!((&service.client_id, &service.secret), (&None, &None));
    let Method::Headers(claims) = &auth("kind: headers, claims: {X-User: sub, X-Team: team}").method else {
        panic!("claims")
    };
    assert_eq!((&*claims[0].name, &*claims[0].claim.0, claims.len()), (&b"x-user"[..], "sub", 2));
    let user = format!(
        "kind: userOAuth, {SERVICE}, authorize: \"https://idp.example/authorize\", callback: \
         \"https://gw.example/oauth/callback\""
    );
    let Method::UserOauth(consent) = &auth(&user).method else { panic!("a consent") };
    assert_eq!(consent.authorize.as_deref(), Some("https://idp.example/authorize"));
    let found = "kind: userOAuth, clientId: gw, issuer: \"https://idp.example\", callback: \
                 \"https://gw.example/oauth/callback\"";
    let Method::UserOauth(consent) = &auth(found).method else { panic!("a consent") };
    assert_eq!((consent.authorize.as_deref(), &*consent.service.endpoint), (None, ""));
}

#[test]
fn a_key_is_looked_at_before_the_start() {
    check_auth("kind: signedJwt, key: »examples/every-key.yaml", "there is no private key in it");
    check_auth("kind: signedJwt, key: »none.pem", "there is no such file");
}

#[test]
fn what_is_missing_or_means_nothing_is_told() {
    check(&server(&format!("{URL}, auth: »{{scopes: [a]}}")), "`auth` has no `kind`");
    check_auth("kind: »oauth", "is not a value of this key");
    check_auth(
        &format!("kind: tokenExchange, {SERVICE}, »claims: {{X-A: sub}}"),
        "`claims` means nothing with",
    );
    check(&server(&format!("{URL}, auth: »{{kind: headers}}")), "`auth` has no `claims`");
    check(
        &server(&format!(
            "{URL}, auth: »{{kind: clientCredentials, endpoint: \"https://a.example\", clientId: a}}"
        )),
        "`auth` has no `secret`",
    );
    let endpoint = "endpoint: \"https://a.example\"";
    check_auth(&format!("kind: tokenExchange, {endpoint}, secret: »a"), "`secret` without `clientId`");
    check(
        &server(&format!("{URL}, auth: »{{kind: clientCredentials, {endpoint}, secret: a}}")),
        "`auth` has no `clientId`",
    );
    check_auth("kind: headers, claims: {»Content-Length: sub}", "is the gateway's own to set");
    check_auth("kind: headers, claims: {X-A: sub, »x-a: team}", "a second time");
    check_auth("kind: headers, claims: »{}", "names no claim");
    check_auth(&format!("kind: tokenExchange, {SERVICE}, scopes: [»\"a b\"]"), "is no scope");
    check(
        &server(&format!("{URL}, headers: {{»authorization: x}}, auth: {{kind: tokenExchange, {SERVICE}}}")),
        "is what `auth` sets",
    );
    check(&server("url: \"unix:/a:/mcp\", auth: {kind: signedJwt, key: »none.pem}"), "there is no such file");
}

#[test]
fn secrets_do_not_travel_in_the_clear() {
    check_auth("kind: tokenExchange, clientId: a, endpoint: »\"http://sts.example/token\"", "in the clear");
    check_auth("kind: tokenExchange, clientId: a, endpoint: »\"unix:/run/a:/token\"", "is a Unix socket");
    assert_eq!(
        auth("kind: tokenExchange, clientId: a, endpoint: \"http://127.0.0.1:1/token\"").fields.len(),
        1
    );
    let callback =
        "kind: userOAuth, clientId: a, endpoint: \"https://a.example\", authorize: \"https://a.example\"";
    check_auth(
        &format!("{callback}, callback: »\"https://gw.example/other\""),
        "no address of this gateway's",
    );
}

#[test]
fn endpoints_are_written_or_found() {
    let half = "kind: userOAuth, clientId: a, endpoint: \"https://a.example\", callback: \
                \"https://a.example/oauth/callback\"";
    check(&server(&format!("{URL}, auth: »{{{half}}}")), "needs `endpoint` and `authorize`");
    check(
        &server(&format!("{URL}, auth: »{{{half}, issuer: \"https://a.example\"}}")),
        "needs `endpoint` and",
    );
}

#[test]
fn a_vault_is_named_where_it_is_needed() {
    let headers = "headers: {X-Key: \"Key ${vault:secret/data/x#key}\"}";
    let vault = "vault: {url: \"https://vault.example/\", tokenFile: /run/token}\n";
    let plan = plan(&format!("{vault}{}", server(&format!("{URL}, {headers}"))));
    assert_eq!(&*plan.vault.expect("a vault").url, "https://vault.example");
    let auth = plan.servers[0].auth.as_ref().expect("credentials");
    assert!(matches!(&auth.method, Method::Vault(fields) if fields.len() == 1 && fields[0].value.len() == 2));
    assert!(plan.servers[0].headers.is_empty());
    check(&server(&format!("{URL}, headers: {{»X-Key: \"${{vault:a#b}}\"}}")), "needs a `vault`");
    check(&server(&format!("{URL}, headers: {{X-Key: »\"${{vault:a}}\"}}")), "names no path and field");
    check(&server("url: »\"http://${vault:a#b}/\""), "can stand in `headers` of a server only");
    check(&format!("vault: »{{url: \"https://a.example\"}}\n{}", server(URL)), "`vault` has no `tokenFile`");
    check(&format!("vault: {{url: »\"http://a.example\", tokenFile: a}}\n{}", server(URL)), "in the clear");
    let both =
        format!("{vault}{}", server(&format!("{URL}, {headers}, auth: {{kind: tokenExchange, {SERVICE}}}")));
    assert!(problems(&both)[0].contains("at once"), "{:?}", problems(&both));
}
