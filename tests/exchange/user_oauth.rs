//! Servers that a caller has to consent to in a browser: the question, the way back, what is kept, and its end.
//!
//! Not here: credentials that nobody has to consent to (`credentials`).

use crate::credentials::ALICE;
use crate::credentials::BOB;
use crate::credentials::Provider;
use crate::credentials::by;
use crate::credentials::good;
use crate::credentials::guarded;
use crate::support::Era;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::Raw;
use crate::support::client::Answer;
use crate::support::client::Client;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use aws_lc_rs::digest;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

pub const ACCESS: &str = "canary-access";
const REFRESH: &str = "canary-refresh";

/// A service that gives tokens for the code `code`, the first with the number 1.
pub fn provider() -> Provider {
    let next = std::sync::Mutex::new(0);
    Provider::new(move |form| {
        let known = form.contains("code=the-code&") || form.contains(&format!("refresh_token={REFRESH}"));
        if !known {
            return (400, json!({"error": "invalid_grant"}));
        }
        let mut next = next.lock().unwrap();
        *next += 1;
        let (access, refresh) = (format!("{ACCESS}-{next}"), format!("{REFRESH}-{next}"));
        (
            200,
            json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600}),
        )
    })
}

/// `auth` of a server that callers of this provider consent to.
pub fn auth(provider: &Provider) -> String {
    let (endpoint, issuer) = (provider.url("/token"), provider.url(""));
    format!(
        "auth: {{kind: userOAuth, endpoint: \"{endpoint}\", authorize: \"https://idp.test/authorize?tenant=1\", callback: \
         \"https://gw.test/oauth/callback\", issuer: \"{issuer}\", clientId: gw, scopes: [mail.read]}}"
    )
}

pub fn builder(run: Run, provider: &Provider, up: &Upstream) -> Builder {
    let builder = run.gateway().pinned();
    let state = builder.folder.path().join("state");
    let builder = builder.top(format!("state: {{dir: \"{}\"}}", state.display()));
    provider.callers(builder).with("up", up, &[&auth(provider)])
}

/// The link of a refusal that asks for consent.
#[track_caller]
pub fn asks(answer: &Answer) -> String {
    answer.refused(403, "consent_required");
    let error = &answer.json()["error"];
    let url = error["data"]["url"].as_str().unwrap().to_owned();
    assert!(
        error["message"].as_str().unwrap().contains(&url),
        "clients that show the message alone: {error}"
    );
    assert!(url.starts_with("https://idp.test/authorize?tenant=1&"), "{url}");
    url
}

fn field(url: &str, name: &str) -> String {
    let fields = url.split(['?', '&']).filter_map(|pair| pair.split_once('='));
    fields
        .into_iter()
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("no {name} in {url}"))
        .1
        .into()
}

/// A browser comes back.
fn back(gw: &Gateway, query: &str) -> Answer {
    let mut client = Client::connect(gw.address);
    let host = gw.address;
    client.send(format!("GET /oauth/callback?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    client.answer()
}

/// Consents, and gives back the link's `state`.
#[track_caller]
pub fn consent(gw: &Gateway, provider: &Provider, url: &str) -> String {
    let state = field(url, "state");
    let issuer = provider.url("").replace(':', "%3A").replace('/', "%2F");
    let answer = back(gw, &format!("code=the-code&state={state}&iss={issuer}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    state
}

/// Requests for tokens of this kind.
fn granted(provider: &Provider, kind: &str) -> usize {
    let kind = format!("grant_type={kind}");
    provider.asked().iter().filter(|request| request.mentions(&kind)).count()
}

/// The same call of a client that opens pages.
fn opening(raw: Raw) -> Raw {
    let body = String::from_utf8(raw.body.clone()).unwrap();
    raw.body(body.replace("clientCapabilities\":{}", "clientCapabilities\":{\"elicitation\":{\"url\":{}}}"))
}

/// Feature: the first call asks, the next one passes; nobody else's does; nothing can be read on the disk; it survives a
/// restart, and is renewed once for a hundred calls.
#[test]
fn user_oauth() {
    everywhere(|run| {
        let provider = provider();
        let good = good(&format!("Bearer {ACCESS}-1"));
        let up =
            upstream().on("echo", guarded(&good, "Bearer error=\"invalid_token\"", script::echo())).run();
        let mut gw = builder(run, &provider, &up).run();
        let url = asks(&by(ALICE, gw.call("up", "echo")).try_send().unwrap());
        assert_eq!(up.bytes(), 0, "a refused call reached the upstream");
        assert_eq!(
            (field(&url, "response_type"), field(&url, "code_challenge_method"), field(&url, "scope")),
            ("code".into(), "S256".into(), "mail.read".into())
        );
        assert_eq!(back(&gw, "code=the-code&state=made-up").status, 400);
        consent(&gw, &provider, &url);
        let form = String::from_utf8(provider.asked().remove(0).body).unwrap();
        let verifier = field(&form, "code_verifier");
        let sum = digest::digest(&digest::SHA256, verifier.as_bytes());
        assert_eq!(field(&url, "code_challenge"), ringgate::base::base64url::encode(sum.as_ref()));
        let call = by(ALICE, gw.call("up", "echo"));
        let word = call.token.clone();
        assert_eq!(call.send().status, 200);
        assert_eq!(up.once(&word).head.field("authorization"), Some(&*format!("Bearer {ACCESS}-1")));
        asks(&by(BOB, gw.call("up", "echo")).try_send().unwrap());
        for entry in std::fs::read_dir(gw.builder.folder.path().join("state")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "a token can be read on the disk");
        }
        gw.restart(rustix::process::Signal::KILL);
        assert_eq!(by(ALICE, gw.call("up", "echo")).send().status, 200);
        assert_eq!(provider.asked().len(), 1, "the consent outlives the process");
        *good.lock().unwrap() = format!("Bearer {ACCESS}-2");
        std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..100).map(|_| scope.spawn(|| by(ALICE, gw.call("up", "echo")).send().status)).collect();
            assert!(calls.into_iter().all(|call| call.join().unwrap() == 200));
        });
        assert_eq!((granted(&provider, "refresh_token"), up.mentions(ALICE)), (1, 0));
    });
}

/// Found in an audit: a second revocation within ten seconds was not mended, and took the consent away.
#[test]
fn regression_user_oauth_is_revoked_twice_at_once() {
    everywhere(|run| {
        let provider = provider();
        let good = good(&format!("Bearer {ACCESS}-1"));
        let up =
            upstream().on("echo", guarded(&good, "Bearer error=\"invalid_token\"", script::echo())).run();
        let gw = builder(run, &provider, &up).run();
        let call = || by(ALICE, gw.call("up", "echo")).try_send().unwrap();
        consent(&gw, &provider, &asks(&call()));
        assert_eq!(call().status, 200);
        for (number, calls) in [(2, 1), (3, 100)] {
            *good.lock().unwrap() = format!("Bearer {ACCESS}-{number}");
            let statuses = together(calls, |_| call().status);
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
            assert_eq!(granted(&provider, "refresh_token"), number - 1, "one refresh for each revocation");
        }
    });
}

/// What a worker still shows may be older than what was renewed last: where the server refuses both, there is a third one.
#[test]
fn regression_a_worker_that_is_behind_gives_up_no_call() {
    on_every_driver(|run| {
        let provider = provider();
        let good = good(&format!("Bearer {ACCESS}-1"));
        let up =
            upstream().on("echo", guarded(&good, "Bearer error=\"invalid_token\"", script::echo())).run();
        let gw = builder(run, &provider, &up).workers(4).run();
        let call = || by(ALICE, gw.modern("up", "echo"));
        consent(&gw, &provider, &asks(&call().send()));
        // So many connections that no worker is without one: each has shown the first token.
        let mut lines: Vec<Line> = (0..24).map(|_| Line::new(call())).collect();
        assert!(lines.iter_mut().all(|line| line.call("0").status == 200));
        for (number, line) in (2..=4).zip(&mut lines) {
            *good.lock().unwrap() = format!("Bearer {ACCESS}-{number}");
            let answer = line.call("1");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    });
}

/// A server that refuses every token: each call is told so and how to consent anew, tokens are asked for now and then, and
/// what was consented to stays, as its token service gives tokens for it.
#[test]
fn user_oauth_of_a_server_that_refuses_all() {
    on_every_driver(|run| {
        let provider = provider();
        let good = good("none");
        let up =
            upstream().on("echo", guarded(&good, "Bearer error=\"invalid_token\"", script::echo())).run();
        let gw = builder(run, &provider, &up).run();
        let call = || by(ALICE, gw.call("up", "echo")).try_send().unwrap();
        consent(&gw, &provider, &asks(&call()));
        let began = Instant::now();
        for _ in 0..60 {
            let answer = call();
            asks(&answer);
            assert_eq!(answer.json()["error"]["data"]["cause"], "revoked");
        }
        let refreshed = granted(&provider, "refresh_token");
        let most = 2 + usize::try_from(began.elapsed().as_secs()).unwrap();
        assert!((1..=most).contains(&refreshed), "{refreshed} requests for tokens, at most {most} expected");
        *good.lock().unwrap() = format!("Bearer {ACCESS}-{}", 1 + refreshed);
        assert_eq!(call().status, 200, "it takes the last one after all");
    });
}

/// A client that says so is asked to open the page, as revision 2026-07-28 has it.
#[test]
fn user_oauth_asks_by_elicitation() {
    on_every_driver(|run| {
        let provider = provider();
        let up = upstream().tool("echo").run();
        let gw = builder(run, &provider, &up).run();
        let ask = |raw: Raw| gw.client().talk(&raw.bytes()).unwrap();
        let answer = ask(opening(by(ALICE, gw.modern("up", "echo")).raw()));
        assert_eq!(answer.status, 200, "{answer:?}");
        let result = &answer.json()["result"];
        assert_eq!(result["resultType"], "input_required");
        let request = &result["inputRequests"]["consent"];
        assert_eq!(
            (&request["method"], &request["params"]["mode"]),
            (&"elicitation/create".into(), &"url".into())
        );
        let url = asks(&ask(by(ALICE, gw.modern("up", "echo")).raw()));
        assert_eq!(request["params"]["url"], url, "one link as long as it is fresh");
        let list =
            ask(opening(by(ALICE, gw.modern("up", "x")).raw()).without("mcp-name").without("mcp-method"));
        assert_eq!(list.json()["result"], Value::Null, "{list:?}");
        consent(&gw, &provider, &url);
        let again =
            by(ALICE, gw.modern("up", "echo")).member("inputResponses", r#"{"consent":{"action":"accept"}}"#);
        assert_eq!(ask(opening(again.raw())).status, 200);
    });
}

/// A client of 2025-11-25 that said so when it began is asked by that revision's own error, wherever it began with the
/// gateway; at a server's own address it began with the server, and what it said there is not known.
#[test]
fn user_oauth_asks_by_an_error() {
    const OPENS: &str = r#"{"elicitation":{"url":{}}}"#;
    everywhere(|run| {
        let provider = provider();
        let up = upstream().tool("echo").run();
        let gw = builder(run, &provider, &up).top("virtualServers: {only: {tools: [\"up.*\"]}}").run();
        let ask = |endpoint, tool, able| {
            by(ALICE, Call::tool(gw.address, Era::Legacy, endpoint, tool))
                .able(able)
                .id("\"x\"")
                .try_send()
                .unwrap()
        };
        let mut url = String::new();
        for (endpoint, tool) in [("", "up__echo"), ("only", "echo")] {
            let answer = ask(endpoint, tool, OPENS);
            assert_eq!((answer.status, answer.code()), (200, -32042), "{answer:?}");
            let (id, error) = (&answer.json()["id"], &answer.json()["error"]);
            let pages = error["data"]["elicitations"].as_array().unwrap();
            let [page] = &pages[..] else { panic!("{pages:?}") };
            assert_eq!((id, &page["mode"]), (&"x".into(), &"url".into()));
            assert!(page["elicitationId"].as_str().is_some_and(|id| id.len() == 32), "{page}");
            assert_eq!(
                (&error["data"]["reason"], &page["message"]),
                (&"consent_required".into(), &error["message"])
            );
            url = page["url"].as_str().unwrap().into();
            for able in ["{}", r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#] {
                assert_eq!(asks(&ask(endpoint, tool, able)), url, "{able}");
            }
            let modern = by(ALICE, gw.modern(endpoint, tool)).able(OPENS).send();
            assert_eq!(
                modern.json()["result"]["inputRequests"]["consent"]["params"]["url"],
                url,
                "{modern:?}"
            );
        }
        let own = ask("up", "echo", OPENS);
        match run.era {
            // It speaks to the server as if there was no gateway.
            Era::Legacy => assert_eq!(asks(&own), url),
            Era::Modern => assert_eq!(own.code(), -32042, "{own:?}"),
        }
        assert_eq!(up.count("tools/call"), 0);
        consent(&gw, &provider, &url);
        assert_eq!(ask("", "up__echo", OPENS).json()["id"], "x");
        assert_eq!(up.count("tools/call"), 1);
    });
}

/// The same where access rules may hide something, and nobody without a consent can find out what the server offers.
#[test]
fn user_oauth_asks_before_anything_is_listed() {
    everywhere(|run| {
        let provider = provider();
        let list = guarded(&good("none"), "Bearer", script::echo());
        let up = upstream().tool("echo").method("tools/list", list).run();
        let gw = builder(run, &provider, &up).access("name: some, allow: [\"up.e*\"]").run();
        let ask = |era| {
            let call = Call::tool(gw.address, era, "", "up__echo").able(r#"{"elicitation":{"url":{}}}"#);
            by(ALICE, call).try_send().unwrap()
        };
        let (older, newer) = (ask(Era::Legacy), ask(Era::Modern));
        let url = &older.json()["error"]["data"]["elicitations"][0]["url"];
        assert!(url.is_string(), "{older:?}");
        assert_eq!(&newer.json()["result"]["inputRequests"]["consent"]["params"]["url"], url, "{newer:?}");
        assert_eq!(up.count("tools/call"), 0);
    });
}

/// A `state` is good once, for whom it was made, and with the issuer that was asked.
#[test]
fn user_oauth_refuses_a_replayed_or_foreign_state() {
    on_every_driver(|run| {
        let provider = provider();
        let up = upstream().tool("echo").run();
        let gw = builder(run, &provider, &up).run();
        let link = |caller| asks(&by(caller, gw.call("up", "echo")).try_send().unwrap());
        let (alices, bobs) = (link(ALICE), link(BOB));
        let issuer = provider.url("").replace(':', "%3A").replace('/', "%2F");
        for (query, what) in [
            (
                format!("code=the-code&state={}&iss=https%3A%2F%2Fevil.test", field(&bobs, "state")),
                "another issuer",
            ),
            (format!("code=the-code&state={}&iss={issuer}", field(&bobs, "state")), "used by that"),
            (format!("code=the-code&iss={issuer}"), "no state"),
            (format!("code=the-code&state=a&state=b&iss={issuer}"), "two states"),
            (String::new(), "nothing"),
        ] {
            assert_eq!(back(&gw, &query).status, 400, "{what}");
        }
        assert_eq!(provider.asked().len(), 0);
        let state = consent(&gw, &provider, &alices);
        assert_eq!(back(&gw, &format!("code=the-code&state={state}&iss={issuer}")).status, 400, "replayed");
        assert_eq!(provider.asked().len(), 1);
        assert_eq!(by(ALICE, gw.call("up", "echo")).send().status, 200);
        let denied = field(&link(BOB), "state");
        assert_eq!(back(&gw, &format!("error=access_denied&state={denied}&iss={issuer}")).status, 400);
        asks(&by(BOB, gw.call("up", "echo")).try_send().unwrap());
        let said = gw.stderr();
        assert!(!said.contains("canary") && !said.contains(&state) && !said.contains("the-code"), "{said}");
    });
}

/// What cannot be renewed asks for consent once more: at once, with the link, and never with an empty list.
#[test]
fn user_oauth_that_ends_asks_again() {
    everywhere(|run| {
        let provider = provider();
        let good = good(&format!("Bearer {ACCESS}-1"));
        let list = guarded(
            &good,
            "Bearer error=\"invalid_token\"",
            script::script(|connection, request| {
                script::send(connection, &script::plain(200, &script::result(request, &json!({"tools": []}))))
            }),
        );
        let up = upstream().method("tools/list", list).run();
        let gw = builder(run, &provider, &up).run();
        let url = asks(&by(ALICE, gw.request("up", "tools/list")).try_send().unwrap());
        consent(&gw, &provider, &url);
        assert_eq!(by(ALICE, gw.request("up", "tools/list")).send().status, 200);
        provider.turn(|_| (400, json!({"error": "invalid_grant"})));
        *good.lock().unwrap() = "Bearer none".into();
        let began = Instant::now();
        let answer = by(ALICE, gw.request("up", "tools/list")).send();
        // The token service answers at once.
        let took = began.elapsed();
        assert_ne!(asks(&answer), url, "a link of its own");
        assert_eq!(answer.json()["error"]["data"]["cause"], "revoked");
        assert!(took < Duration::from_secs(1), "{took:?}");
        process::signal(gw.pid(), rustix::process::Signal::HUP);
        asks(&by(ALICE, gw.request("up", "tools/list")).try_send().unwrap());
    });
}
