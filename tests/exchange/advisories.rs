//! Advisories about others' gateways, verifiers of tokens and HTTP/2: a row each, with the test that shows that ours does not
//! do the same. Those about tokens are rows that run here.
//!
//! Not here: every token that must fail, whoever else let it in (tokens).

use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::http2::Http2;
use crate::support::issuer::AUDIENCE;
use crate::support::issuer::Issuer;
use crate::support::issuer::Token;
use crate::support::issuer::base64url;
use crate::support::issuer::issuer;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use aws_lc_rs::hmac;
use serde_json::Value;
use serde_json::json;

/// Advisory, what went wrong there, and the test here; one that is not ours has none.
const TABLE: &[(&str, &str, &str)] = &[
    // Gateways and SDKs (hardening, MCP and gateway attacks), as far as they are about who calls.
    (
        "GHSA-mvgg-jvj2-4frq",
        "a session of one route on another",
        "sessions_belong_to_their_principal_and_their_server",
    ),
    ("GHSA-g53w-w6mj-hrpp", "an internal header skips authentication", "zero_trust_whatever_field_is_sent"),
    ("CVE-2025-64443", "DNS rebinding", "foreign_hosts_and_origins_are_refused"),
    ("CVE-2026-42559", "DNS rebinding", "foreign_hosts_and_origins_are_refused"),
    (
        "CVE-2025-49596",
        "a local listener without authentication",
        "the_admin_listener_checks_host_and_origin_too",
    ),
    ("github/gh-aw#25105", "the list is filtered, the call is not", "filtered_discovery_hidden_is_unknown"),
    ("ContextForge#5737", "`X-Forwarded-For` is believed", "zero_trust"),
    ("ContextForge#4383", "a URL that a peer names leads inside", "a_peer_names_nothing_nearer_than_itself"),
    ("CVE-2026-12773", "a failed check is the default identity", "cve_2026_12773_a_failure_is_nobody"),
    ("CVE-2026-48710", "an odd Host skips authentication", "cve_2026_48710_odd_hosts_with_identity"),
    ("CVE-2026-25536", "answers are routed by their ids", "equal_ids_never_cross"),
    ("CVE-2026-52869", "another's session", "sessions_belong_to_their_principal_and_their_server"),
    ("CVE-2026-52870", "another's task", "cve_2026_52870_tasks_of_others_are_as_if_they_were_not"),
    ("CVE-2026-59950", "pages of others are let in", "foreign_hosts_and_origins_are_refused"),
    ("CVE-2026-27896", "keys that differ in case", "two_readers_two_meanings_are_refused"),
    ("CVE-2025-6514", "a URL of OAuth goes to a shell", ""),
    // HTTP/2.
    ("CVE-2023-44487", "rapid reset", "http2_rapid_reset"),
    ("CVE-2025-8671", "resets that the server is made to send", "http2_made_to_reset"),
    ("CVE-2024-27316", "a header block without end", "http2_continuation_flood"),
    ("CVE-2024-28182", "a header block without end", "http2_continuation_flood"),
    ("CVE-2019-9511", "windows that hold back what is ready", "http2_slow_streams_hold_64_kib"),
    ("CVE-2019-9512", "a flood of PING", "http2_empty_frames"),
    ("CVE-2019-9513", "a flood of PRIORITY", "http2_empty_frames"),
    ("CVE-2019-9514", "a flood of resets", "http2_cancels_without_end"),
    ("CVE-2019-9515", "a flood of SETTINGS", "http2_empty_frames"),
    ("CVE-2019-9517", "answers that nobody reads", "http2_a_client_that_does_not_read_is_cut"),
    ("CVE-2019-9518", "a flood of empty frames", "http2_empty_frames"),
    ("CVE-2016-6581", "a header list that unpacks to megabytes", "http2_header_bomb"),
];

/// Each test of the table is one that is run.
#[test]
fn advisories_have_their_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchange");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut all: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    all.push_str(include_str!("../../src/control/fetch/tests.rs"));
    for (advisory, what, test) in TABLE.iter().filter(|(_, _, test)| !test.is_empty()) {
        let begins = [format!("#[test]\nfn {test}() {{"), format!("#[tokio::test]\nasync fn {test}() {{")];
        assert!(begins.iter().any(|begin| all.contains(begin)), "{advisory}, {what}: no test {test}");
    }
    assert_eq!(TABLE.iter().filter(|(_, _, test)| test.is_empty()).count(), 1, "those that are not ours");
}

/// The header of another kind of token, or the same token in other words.
fn header(value: &Value) -> String {
    base64url(value.to_string().as_bytes())
}

/// Advisory, what went wrong there, and such a token.
fn tokens(issuer: &Issuer, other: &Issuer) -> Vec<(&'static str, &'static str, String)> {
    let token = || issuer.token("alice");
    let good = token().sign();
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let key = |of: &Issuer| serde_json::from_str::<Value>(&of.bundle()).unwrap()["keys"][0].clone();
    let by_secret = |secret: &[u8], alg: &str| {
        let signed = format!("{}.{body}", header(&json!({"alg": alg, "kid": "key-1"})));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("{signed}.{}", base64url(hmac::sign(&secret, signed.as_bytes()).as_ref()))
    };
    let unsigned = |alg: &str| format!("{}.{body}.", header(&json!({"alg": alg, "kid": "key-1"})));
    let evil = |token: Token| token.claim("iss", issuer.url());
    let part = |length: usize| format!("{good}{}", ".".repeat(length));
    let claims = |name: &str, value: Value| token().claim(name, value).sign();
    let forged = json!({"iss": issuer.url(), "sub": "root", "aud": AUDIENCE, "exp": 9_999_999_999_u64});
    let mixed = format!(
        "{{\"  {head}.{}.\": \"\", \"protected\": \"{head}\", \"payload\": \"{body}\", \
                         \"signature\": \"{signature}\"}}",
        header(&forged)
    );
    vec![
        (
            "CVE-2015-9235",
            "a public key as a secret",
            by_secret(key(issuer)["x"].as_str().unwrap().as_bytes(), "HS256"),
        ),
        (
            "CVE-2022-29217",
            "a public key in another form as a secret",
            by_secret(key(issuer).to_string().as_bytes(), "HS256"),
        ),
        ("CVE-2019-20933", "an empty secret", by_secret(b"\0", "HS256")),
        ("CVE-2022-23540", "no algorithm", unsigned("none")),
        ("CVE-2020-28042", "no signature", format!("{head}.{body}.")),
        ("CVE-2018-0114", "a key in the header", evil(other.token("alice")).header("jwk", key(other)).sign()),
        (
            "CVE-2026-27962",
            "a key in the header of a token that names none",
            evil(other.token("alice")).without("kid").header("jwk", key(other)).sign(),
        ),
        ("CVE-2022-21449", "a signature of zeroes", format!("{head}.{body}.{}", base64url(&[0; 64]))),
        (
            "CVE-2025-59420",
            "unknown `crit`",
            token().header("crit", json!(["x-bork"])).header("x-bork", true).sign(),
        ),
        ("CVE-2026-32597", "`crit` that names nothing", token().header("crit", json!([])).sign()),
        ("CVE-2022-39227", "two forms of one token", mixed),
        (
            "CVE-2024-53861",
            "a part of an issuer's name",
            claims("iss", issuer.url()[..issuer.url().len() - 1].into()),
        ),
        ("CVE-2025-30144", "issuers as a list", claims("iss", json!(["https://evil.test", issuer.url()]))),
        ("CVE-2026-25537", "a time that is no number", claims("nbf", "99999999999".into())),
        ("CVE-2026-25537", "an end that is no number", claims("exp", "99999999999".into())),
        ("CVE-2025-30204", "six thousand full stops", part(6_000)),
        (
            "CVE-2024-28180",
            "an encrypted one that unpacks to more",
            format!(
                "{}.{body}.{signature}.{signature}.{signature}",
                header(&json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF", "kid": "key-1"}))
            ),
        ),
        ("CVE-2024-33663", "an algorithm that is not the key's", token().header("alg", "HS256").sign()),
    ]
}

/// One refusal and one challenge, and nothing goes anywhere; over HTTP/2 the same.
#[track_caller]
fn is_nobody(gw: &Gateway, up: &Upstream, call: &Call, what: &str) {
    let answer: Answer = call.clone().try_send().unwrap();
    answer.refused(401, "unauthenticated");
    let challenges = answer.head.all("www-authenticate");
    let metadata = "resource_metadata=\"https://gw.test/.well-known/oauth-protected-resource/mcp/up\"";
    let expected = format!("Bearer error=\"invalid_token\", {metadata}");
    assert_eq!((answer.code(), challenges), (-33401, vec![expected.as_bytes()]), "{what}");
    assert_eq!(Http2::connect(gw.address).call(call).is_whole(401).status, 401, "{what}");
    assert_eq!(up.mentions(&call.token), 0, "{what}: it reached the server");
}

/// Each of these opened some other verifier, or took it down.
#[test]
fn advisories_of_tokens() {
    everywhere(|run: Run| {
        let (issuer, other, up) = (issuer(), issuer(), upstream().tool("echo").run());
        let gw = run.gateway().top(issuer.identity(&[])).to("up", &up).run();
        for (advisory, what, token) in tokens(&issuer, &other) {
            let call = gw.call("up", "echo").field(format!("Authorization: Bearer {token}"));
            is_nobody(&gw, &up, &call, &format!("{advisory}, {what}"));
        }
        assert_eq!((up.mentions("eyJ"), other.asked("/keys")), (0, 0), "something went out");
        assert_eq!(gw.call("up", "echo").field(issuer.token("alice").bearer()).send().status, 200);
    });
}

/// LiteLLM's: whatever goes wrong while a credential is checked, its caller is nobody, also where a caller without one has a
/// name.
#[test]
fn cve_2026_12773_a_failure_is_nobody() {
    everywhere(|run: Run| {
        let up = upstream().tool("echo").run();
        let (idp, knows) = (issuer(), issuer());
        let jwks = format!("jwks: {{url: \"{}/keys\"}}", knows.url());
        let builder = run.gateway().workers(1);
        let identity = format!(
            "identity: {{anonymous: visitor, apiKeys: {{file: keys.yaml}}, jwt: [{}, {}]}}",
            idp.entry(&[]),
            knows.entry(&[&knows.introspection(), &jwks])
        );
        crate::secrets::key_command(&builder.folder.path().join("keys.yaml"), &["add", "--principal", "k"]);
        let gw = builder.top(identity).to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200, "nobody is somebody here");
        let bearer = |token: String| format!("Authorization: Bearer {token}");
        let unknown = |of: &Issuer, kid: &str| bearer(of.token("alice").header("kid", kid).sign());
        let fails = |field: String, what: &str| {
            is_nobody(&gw, &up, &gw.call("up", "echo").field(field), what);
        };
        let garbage = |status: u16, body: &'static str| script::bytes(script::plain(status, body));
        fails("X-API-Key: rgk_none".into(), "a key that nobody has");
        fails(bearer("opaque-0".into()), "a token that nobody knows");
        for (answer, what) in [
            (garbage(500, "{}"), "500"),
            (garbage(200, "<html>"), "no JSON"),
            (garbage(200, r#"{"active": "true"}"#), "no answer"),
            (script::hang_up(), "nobody there"),
        ] {
            knows.on("/introspect", answer.clone());
            fails(bearer(knows.opaque("alice", &json!({}))), &format!("introspection: {what}"));
            idp.on("/keys", answer);
            fails(unknown(&idp, what), &format!("keys: {what}"));
        }
        idp.goes_down();
        fails(unknown(&idp, "down"), "the issuer is down");
        fails(bearer("x".repeat(9_000)), "too long");
        fails("Authorization: Basic YTpi".into(), "another scheme");
    });
}
