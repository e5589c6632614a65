//! Two tenants of whom all else is equal: names, arguments, roles. Nothing that the gateway remembers of one is the other's.
//!
//! Not here: limits, kill switches and lists by tenant (`limits_rates`, `kill_switch`, `federation_policy`).

use crate::bridge_questions as questions;
use crate::credentials::Provider;
use crate::credentials::by;
use crate::credentials::token;
use crate::own_lists;
use crate::support::Era;
use crate::support::Run;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::Issuer;
use crate::support::issuer::issuer;
use crate::support::script;
use crate::support::script::script;
use crate::support::script::send;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::user_oauth;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// A gateway with a server for each thing that is remembered, and the tokens of both alices.
struct Stage {
    run: Run,
    gw: Gateway,
    acme: String,
    other: String,
    exchanged: Upstream,
    consents: Provider,
    _rest: (Issuer, Provider, Vec<Upstream>),
}

impl Stage {
    fn new(run: Run) -> Self {
        let issuer = issuer();
        let [acme, other] =
            ["acme", "other"].map(|org| issuer.token("alice").claim("org", org).claim("jti", org).sign());
        let of_acme = acme.clone();
        let exchange =
            Provider::new(move |form| token(if form.contains(&of_acme) { "for-acme" } else { "for-other" }));
        let consents = user_oauth::provider();
        let exchanged = own_lists::private(&Arc::default());
        let point = upstream().every(script(|connection, request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let allow = json!({"result": asked["input"]["tenant"] == "acme"});
            send(connection, &script::plain(200, &allow.to_string()))
        }));
        let point = point.run();
        let consented = upstream().tool("echo").run();
        let asking = questions::asking(&Asker::default());
        let (many, asked) = (upstream().pages(25).run(), upstream().tool("echo").run());
        let url = point.url.replace("/mcp", "/v1/data/mcp/allow");
        let gw = run
            .gateway()
            .top(format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[])))
            .top("virtualServers: {v: {tools: [\"many.*\"]}, questions: {tools: [\"asking.*\"]}}")
            .access(&format!("name: opa, tools: [\"asked.*\"], opa: \"{url}\", cacheFor: 60s, timeout: 5s"))
            .with("exchanged", &exchanged, &[&exchange.auth("tokenExchange")])
            .with("consented", &consented, &[&user_oauth::auth(&consents)])
            .to("asking", &asking)
            .to("many", &many)
            .to("asked", &asked)
            .run();
        let rest = (issuer, exchange, vec![consented, point, asking, many, asked]);
        Self { run, gw, acme, other, exchanged, consents, _rest: rest }
    }

    fn both(&self, call: impl Fn() -> Call) -> [Call; 2] {
        [&self.acme, &self.other].map(|token| by(token, call()))
    }
}

fn exchanged_tokens(stage: &Stage) {
    for _ in 0..3 {
        let calls = stage.both(|| stage.gw.call("", "exchanged__both"));
        for (call, expected) in calls.into_iter().zip(["Bearer for-acme", "Bearer for-other"]) {
            let word = call.token.clone();
            assert_eq!(call.send().status, 200);
            assert_eq!(stage.exchanged.once(&word).head.field("authorization"), Some(expected));
        }
    }
}

fn private_lists(stage: &Stage) {
    for _ in 0..3 {
        let lists = stage.both(|| stage.gw.request("", "tools/list")).map(|call| call.send().text());
        let canaries = |list: &String| ["acmes_canary", "others_canary"].map(|name| list.contains(name));
        assert_eq!([canaries(&lists[0]), canaries(&lists[1])], [[true, false], [false, true]]);
    }
}

fn stored_consents(stage: &Stage) {
    let calls = || stage.both(|| stage.gw.call("consented", "echo"));
    let [acmes, others] = calls().map(|call| user_oauth::asks(&call.send()));
    assert_ne!(acmes, others, "a link each");
    user_oauth::consent(&stage.gw, &stage.consents, &acmes);
    let [acmes, others] = calls().map(Call::send);
    assert_eq!(acmes.status, 200);
    user_oauth::asks(&others);
}

fn cursors(stage: &Stage) {
    let list = || stage.gw.request("v", "tools/list");
    let first = by(&stage.acme, list()).send().json();
    let cursor = &first["result"]["nextCursor"];
    assert!(cursor.is_string(), "{first}");
    let [acmes, others] =
        stage.both(|| list().member("cursor", &cursor.to_string())).map(|call| call.send().code());
    assert_eq!((acmes, others), (0, -32602));
}

fn request_states(stage: &Stage) {
    if stage.run.era == Era::Legacy {
        // They have none: their questions stand in their sessions.
        return;
    }
    let call = stage.gw.call("questions", "one").able(questions::ABLE);
    let [acmes, others] = stage.both(|| call.clone());
    let (keys, _, state) = questions::asked(&acmes.clone().send());
    let responses = json!({keys[0].as_str(): questions::accept("alice")});
    questions::again(&others, &responses, &state).send().refused(400, "invalid_request_state");
    assert_eq!(questions::again(&acmes, &responses, &state).send().code(), 0);
}

fn decisions(stage: &Stage) {
    for _ in 0..3 {
        let statuses = stage
            .both(|| stage.gw.call("asked", "echo").argument("\"equal\""))
            .map(|call| Call { token: "equal".into(), ..call }.send().status);
        assert_eq!(statuses, [200, 403]);
    }
}

fn sessions(stage: &Stage) {
    if stage.run.era == Era::Modern {
        // There are none.
        return;
    }
    for endpoint in ["", "v", "many"] {
        let [acmes, others] = stage.both(|| stage.gw.request(endpoint, "ping"));
        let acmes = acmes.in_session();
        let foreign = Call { session: acmes.session.clone(), ..others };
        let answer: Answer = foreign.send();
        answer.refused(404, "session_not_found");
        assert_eq!(acmes.send().status, 200, "{endpoint}");
    }
}

/// What is remembered, and what proves that it stays its tenant's.
type Feature = (&'static str, fn(&Stage));

const FEATURES: [Feature; 7] = [
    ("exchanged tokens", exchanged_tokens),
    ("lists of a caller's own", private_lists),
    ("stored consents", stored_consents),
    ("cursors", cursors),
    ("requestState", request_states),
    ("decisions of OPA", decisions),
    ("sessions", sessions),
];

/// Feature: every stateful feature, for two tenants: no leak.
#[test]
fn tenants_share_nothing() {
    everywhere(|run| {
        let stage = Stage::new(run);
        for (feature, leaks_nothing) in FEATURES {
            let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| leaks_nothing(&stage)));
            assert!(whole.is_ok(), "{feature}");
        }
    });
}
