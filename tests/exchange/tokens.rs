//! Tokens that must fail, put to the gateway as a client would: each is one 401 with one challenge, and nothing of it or
//! of its call reaches a server. And who is nobody stays nobody, whatever else the request says.
//!
//! Not here: each refusal's sentence (unit tests of `policy::token`), and what good tokens may do.

use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::http2::Http2;
use crate::support::issuer::AUDIENCE;
use crate::support::issuer::Issuer;
use crate::support::issuer::base64url;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use aws_lc_rs::hmac;
use serde_json::Value;
use serde_json::json;

const METADATA: &str = "resource_metadata=\"https://gw.test/.well-known/oauth-protected-resource/mcp/up\"";

fn gateway(run: Run, issuer: &Issuer, up: &Upstream) -> Gateway {
    run.gateway().top(issuer.identity(&[])).to("up", up).run()
}

/// The refusal of whoever is not known: one challenge, which names the metadata.
#[track_caller]
fn is_challenged(answer: &Answer, says: &str, what: &str) {
    assert_eq!((answer.status, answer.code()), (401, -33401), "{what}: {answer:?}");
    answer.refused(401, "unauthenticated");
    let challenges = answer.head.all("www-authenticate");
    assert_eq!(challenges, [format!("Bearer {says}{METADATA}").as_bytes()], "{what}");
}

/// hardening.md, section 5, row by row.
fn attacks(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let token = || issuer.token("alice");
    let good = token().sign();
    let [header, claims] = token().parts();
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let unsigned = |alg: &str| {
        let header = json!({"alg": alg, "kid": "key-1"}).to_string();
        format!("{}.{body}.", base64url(header.as_bytes()))
    };
    let forged = |bytes: &[u8]| format!("{head}.{body}.{}", base64url(bytes));
    let also = |text: &str, more: &str| format!("{},{more}}}", text.strip_suffix('}').unwrap());
    let mut rows = vec![
        ("signature (0, 0)", forged(&[0; 64])),
        ("signature of the wrong length", forged(&[1; 63])),
        ("kid missing", token().without("kid").sign()),
        ("kid unknown", token().header("kid", "key-7").sign()),
        ("kid with a path", token().header("kid", "../../../dev/null").sign()),
        ("kid with SQL", token().header("kid", "x' UNION SELECT 'key-1").sign()),
        ("kid with NUL", token().header("kid", "key-1\0").sign()),
        ("kid empty", token().header("kid", "").sign()),
        ("kid of 8 kB", token().header("kid", "k".repeat(8_000)).sign()),
        ("crit", token().header("crit", json!(["exp"])).sign()),
        ("typ", token().header("typ", "dpop+jwt").sign()),
        ("signature empty", format!("{head}.{body}.")),
        ("signature cut", format!("{head}.{body}.{}", &signature[..40])),
        ("four parts", format!("{good}.{signature}")),
        ("encrypted", format!("{good}.{signature}.{signature}")),
        (
            "JSON serialisation",
            json!({"protected": head, "payload": body, "signature": signature}).to_string(),
        ),
        ("padding", format!("{good}==")),
        ("16 kB", token().claim("pad", "x".repeat(11_600)).sign()),
        ("duplicate claims", token().sign_parts(&header, &also(&claims, "\"sub\":\"eve\""))),
        ("duplicate in the header", token().sign_parts(&also(&header, "\"alg\":\"ES256\""), &claims)),
        ("exp past", token().expires(-61).sign()),
        ("exp missing", token().without("exp").sign()),
        ("exp text", token().claim("exp", "9999999999").sign()),
        ("exp float", token().claim("exp", 9_999_999_999.5).sign()),
        ("exp 1e400", {
            let claims = token().without("exp").parts()[1].clone();
            token().sign_parts(&header, &also(&claims, "\"exp\":1e400"))
        }),
        ("nbf in the future", token().claim("nbf", 9_999_999_999_u64).sign()),
        ("iat in the future", token().claim("iat", 9_999_999_999_u64).sign()),
        ("aud missing", token().without("aud").sign()),
        ("aud without us", token().claim("aud", json!(["https://other.test/mcp", "account"])).sign()),
        ("aud prefix", token().claim("aud", "https://gw.test").sign()),
        ("aud in another case", token().claim("aud", AUDIENCE.to_uppercase()).sign()),
        ("iss with a slash", token().claim("iss", format!("{}/", issuer.url())).sign()),
        ("iss unknown", token().claim("iss", "https://evil.test").sign()),
        (
            "of another issuer's key",
            crate::support::issuer::issuer().token("alice").claim("iss", issuer.url()).sign(),
        ),
    ];
    rows.extend(["none", "None", "NONE"].map(|alg| ("alg none", unsigned(alg))));
    rows.extend(
        ["RS256", "HS512", "ES256K"].map(|alg| ("alg unlike the key's", token().header("alg", alg).sign())),
    );
    // What is published of the key, as a secret.
    let key = serde_json::from_str::<Value>(&issuer.bundle()).unwrap()["keys"][0].clone();
    for secret in [key.to_string(), key["x"].as_str().unwrap().to_owned()] {
        let header = json!({"alg": "HS256", "kid": "key-1"}).to_string();
        let signed = format!("{}.{body}", base64url(header.as_bytes()));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = base64url(hmac::sign(&secret, signed.as_bytes()).as_ref());
        rows.push(("public key as secret", format!("{signed}.{signature}")));
    }
    rows
}

/// Feature: no token but a good one opens the door, in either era.
#[test]
fn oauth_resource_server_attacks() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = gateway(run, &issuer, &up);
        for (what, token) in attacks(&issuer) {
            let answer =
                gw.call("up", "echo").field(format!("Authorization: Bearer {token}")).try_send().unwrap();
            is_challenged(&answer, "error=\"invalid_token\", ", what);
        }
        // Helpers that a token brings are not looked at, and neither is the case of the scheme.
        let evil = crate::support::issuer::issuer();
        let jwk = serde_json::from_str::<Value>(&evil.bundle()).unwrap()["keys"][0].clone();
        let helped = |token: crate::support::issuer::Token| {
            let keys = format!("{}/keys", evil.url());
            token.header("jku", keys.as_str()).header("x5u", keys.as_str()).header("jwk", jwk.clone())
        };
        let forged = helped(evil.token("alice").claim("iss", issuer.url())).bearer();
        is_challenged(
            &gw.call("up", "echo").field(forged).try_send().unwrap(),
            "error=\"invalid_token\", ",
            "brings its own key",
        );
        assert_eq!((up.calls(), up.mentions("eyJ"), evil.asked("/keys")), (0, 0, 0), "something went out");
        let good = helped(issuer.token("alice")).sign();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let call = gw.call("up", "echo").field(format!("Authorization: {scheme} {good}"));
            assert_eq!(call.send().status, 200, "{scheme}");
        }
        assert_eq!(up.mentions("eyJ"), 0);
        // One that no head has room for does not come so far.
        let huge = issuer.token("alice").header("kid", "k".repeat(1_000_000)).bearer();
        let answer = gw.call("up", "echo").field(huge).try_send();
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
    });
}

/// Two credentials are none, though each were good, and so is one in a query.
#[test]
fn oauth_resource_server_two_credentials() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = gateway(run, &issuer, &up);
        let (alice, bob) = (issuer.token("alice").bearer(), issuer.token("bob").bearer());
        for (first, second) in [
            (alice.as_str(), bob.as_str()),
            (&alice, &alice),
            (&alice, "Authorization: Bearer x"),
            ("Authorization: ", &alice),
            (&alice, "X-API-Key: rg_x"),
        ] {
            let answer = gw.call("up", "echo").field(first).field(second).try_send().unwrap();
            is_challenged(&answer, "error=\"invalid_token\", ", second);
        }
        assert_eq!(up.calls(), 0);
    });
}

/// Found in an audit: a refusal had no id where the body had no length, over HTTP/1.1 and HTTP/2.
#[test]
fn a_refusal_before_the_body_names_its_call_however_the_body_comes() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = gateway(run, &issuer, &up);
        let good = issuer.token("alice").bearer();
        let mut client = gw.client();
        let call = || gw.modern("up", "echo").id("\"mine\"");
        for _ in 0..2 {
            let answer = client.talk(&call().raw().chunked().bytes()).unwrap();
            assert_eq!((answer.status, &answer.json()["id"]), (401, &json!("mine")));
        }
        // The connection is where it was: nothing of the body became a request.
        let answer = client.talk(&call().field(&good).raw().chunked().bytes()).unwrap();
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("mine")));
        let mut http2 = Http2::connect(gw.address);
        let stream = http2.call(&call());
        let body: Value = serde_json::from_str(&stream.text()).unwrap();
        assert_eq!((stream.status, &body["id"]), (401, &json!("mine")));
        // What is broken or never ends is refused all the same, and ends the connection.
        for body in ["5\r\n{\"id\"\r\nzz\r\n", "1000000\r\n{"] {
            let raw = call().raw().field("Transfer-Encoding: chunked").without_length().body(body);
            let mut client = gw.client();
            let answer = client.talk(&raw.bytes()).unwrap();
            assert_eq!(answer.status, 401, "{body:?}");
            assert!(client.is_closed(), "{body:?}");
        }
        assert_eq!(up.calls(), 1);
    });
}

/// Every name that the gateway knows some field by, as its own source has them.
fn known_names() -> Vec<String> {
    let source = include_str!("../../src/http/fields.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    let names = source.split("b\"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut names: Vec<String> = names.filter(|name| name.len() > 1).map(str::to_owned).collect();
    assert!(names.len() > 40, "{names:?}");
    // Those that are known by how they begin.
    let begun: Vec<String> = names.iter().filter(|name| name.ends_with('-')).cloned().collect();
    names.retain(|name| !name.ends_with('-'));
    for more in ["principal", "child", "user", "for", "host", "name", "authorization"] {
        names.extend(begun.iter().map(|prefix| format!("{prefix}{more}")));
    }
    names.extend(
        ["x-user", "x-principal", "x-roles", "x-tenant", "x-original-url", "x-rewrite-url", "remote-user"]
            .map(String::from),
    );
    names
}

/// Feature: whatever field a client sends, it is nobody without a credential.
#[test]
fn zero_trust_whatever_field_is_sent() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]).to("up", &up).run();
        for name in known_names() {
            for value in ["a", "127.0.0.1", "for=127.0.0.1"] {
                let call = gw.call("up", "echo").field(format!("{name}: {value}"));
                let raw = call.raw().bytes();
                // Some make no request of it at all, and then there may be no answer.
                if let Ok(answer) = gw.client().talk(&raw) {
                    assert!((400..=431).contains(&answer.status), "{name}: {value}: {answer:?}");
                    assert_ne!(answer.status, 404, "{name}: {value}");
                }
            }
        }
        assert_eq!(up.calls(), 0);
        assert_eq!(gw.keyed("a", gw.call("up", "echo")).send().status, 200);
    });
}

/// Advisory, Starlette CVE-2026-48710 (BadHost): an odd Host is no way around a credential.
#[test]
fn cve_2026_48710_odd_hosts_with_identity() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]).to("up", &up).run();
        let ours = gw.address;
        let plain: [(&str, Vec<String>); 12] = [
            ("missing", vec![]),
            ("twice", vec![format!("Host: {ours}"), format!("Host: {ours}")]),
            ("two", vec![format!("Host: {ours}"), "Host: evil.test".into()]),
            ("empty", vec!["Host: ".into()]),
            ("with a path", vec![format!("Host: {ours}/mcp")]),
            ("with a query", vec![format!("Host: {ours}?x")]),
            ("with userinfo", vec![format!("Host: a@{ours}")]),
            ("with a comma", vec![format!("Host: {ours},{ours}")]),
            ("with a space", vec![format!("Host: {ours} x")]),
            ("bad port", vec!["Host: 127.0.0.1:99999".into()]),
            ("somebody else's", vec!["Host: evil.test".into()]),
            ("looks like ours", vec![format!("Host: {ours}.evil.test")]),
        ];
        for (what, hosts) in plain {
            let raw = |call: Call| {
                hosts.iter().fold(call.raw().without("Host"), |raw, host| raw.field(host.as_str()))
            };
            for call in [gw.call("up", "echo"), gw.keyed("a", gw.call("up", "echo"))] {
                let answer = gw.client().talk(&raw(call).bytes()).unwrap();
                assert!([400, 401, 403, 421].contains(&answer.status), "{what}: {answer:?}");
            }
        }
        // Ours in other words: the credential still decides.
        let target = format!("POST http://{ours}/mcp/up HTTP/1.1");
        let stranger = gw.client().talk(&gw.call("up", "echo").raw().line(target).bytes()).unwrap();
        assert_eq!(stranger.status, 401);
        assert_eq!(up.calls(), 0);
    });
}
