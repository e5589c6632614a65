//! Sessions at hubs: whose they are, on which instance they live, and that no store is needed for them.
//!
//! Not here: sessions that pass to one server untouched (sessions).

use crate::bridge::message;
use crate::federation::Lister;
use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::drivers;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::script;
use crate::support::script::Script;
use crate::support::shelf::Shelf;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

const SEALS: &str = "state: {sealKeys: [\"0123456789abcdef0123456789abcdef\"]}";

fn legacy(test: impl Fn(Run)) {
    drivers().into_iter().for_each(|driver| test(Run { driver, era: Era::Legacy }));
}

/// An older server of several instances, each with its own sessions.
fn instances(count: usize) -> Vec<Upstream> {
    (0..count).map(|_| upstream().only(Era::Legacy).tool("echo").run()).collect()
}

fn over(builder: Builder, ups: &[Upstream]) -> Builder {
    builder.over("up", &ups.iter().collect::<Vec<_>>(), &[])
}

/// The one instance that a call reached.
#[track_caller]
fn home(ups: &[Upstream], token: &str) -> usize {
    let found: Vec<usize> = (0..ups.len()).filter(|at| !ups[*at].with(token).is_empty()).collect();
    let [home] = found.as_slice() else { panic!("it reached {found:?}") };
    *home
}

/// The same session elsewhere.
fn at(gw: &Gateway, call: &Call) -> Call {
    Call { address: gw.address, ..call.again() }
}

/// Feature: all calls of one session reach the instance that issued the upstream session, over two gateways with equal
/// keys and no store, and across a restart; with other keys it is unknown.
#[test]
fn balance_affinity() {
    legacy(|run| {
        let ups = instances(3);
        let mut first = over(run.gateway().top(SEALS), &ups).run();
        let second = over(run.gateway().top(SEALS), &ups).run();
        let stranger =
            over(run.gateway().top("state: {sealKeys: [\"ffffffffffffffffffffffffffffffff\"]}"), &ups).run();
        let sessions: Vec<Call> = (0..6).map(|_| first.call("", "up__echo").in_session()).collect();
        let mut homes = Vec::new();
        for call in &sessions {
            let mut seen = BTreeSet::new();
            for _ in 0..3 {
                for gw in [&first, &second] {
                    let call = at(gw, call);
                    let token = call.token.clone();
                    assert_eq!(call.send().code(), 0);
                    seen.insert(home(&ups, &token));
                }
            }
            assert_eq!(seen.len(), 1, "{seen:?}");
            homes.push(*seen.first().unwrap());
            let lost = at(&stranger, call);
            let token = lost.token.clone();
            lost.send().refused(404, "session_not_found");
            assert!(ups.iter().all(|up| up.mentions(&token) == 0));
        }
        assert!(homes.iter().collect::<BTreeSet<_>>().len() > 1, "all on one instance: {homes:?}");
        first.restart(rustix::process::Signal::TERM);
        for (call, before) in sessions.iter().zip(&homes) {
            let call = at(&second, call);
            let token = call.token.clone();
            assert_eq!(call.send().code(), 0, "the other gateway goes on");
            assert_eq!(home(&ups, &token), *before);
        }
        for (call, before) in sessions.iter().zip(&homes) {
            let call = at(&first, call);
            let token = call.token.clone();
            let answer = call.send();
            assert_eq!((answer.status, answer.code()), (200, 0), "after a restart: {answer:?}");
            assert_eq!(home(&ups, &token), *before);
        }
    });
}

/// Feature: the instance of a session is gone: 404, and the other members go on.
#[test]
fn balance_affinity_of_an_instance_that_is_gone() {
    legacy(|run| {
        let (mut ups, other) = (instances(2), upstream().only(Era::Legacy).tool("echo").run());
        let gw = over(run.gateway(), &ups).to("other", &other).run();
        let call = gw.call("", "up__echo").in_session();
        assert_eq!(call.clone().send().code(), 0);
        let gone = ups.remove(home(&ups, &call.token));
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(
            &yaml.replace(&format!("{{url: \"{}\"}}", gone.url), "").replace("[, ", "[").replace(", ]", "]"),
        );
        call.again().send().refused(404, "session_not_found");
        let well = Call { name: Some("other__echo".into()), ..call.again() };
        assert_eq!(well.send().code(), 0);
    });
}

/// Feature, agentgateway #573: sessions are not lost over replicas.
#[test]
fn agentgateway_573_sticky_over_replicas() {
    legacy(|run| {
        let ups = instances(2);
        let gws: Vec<Gateway> = (0..3).map(|_| over(run.gateway().top(SEALS), &ups).run()).collect();
        let call = gws[0].call("", "up__echo").in_session();
        let homes: BTreeSet<usize> = (0..12)
            .map(|number| {
                let call = at(&gws[number % 3], &call);
                let token = call.token.clone();
                assert_eq!(call.send().code(), 0);
                home(&ups, &token)
            })
            .collect();
        assert_eq!(homes.len(), 1);
    });
}

/// Feature, Envoy AI Gateway #2523: one of two gateways is killed under load; sessions, lists and their cursors go on at
/// the other, without any store.
#[test]
fn envoy_2523_sessions_need_no_store() {
    everywhere(|run| {
        let names: Vec<String> = (0..1500).map(|number| format!("t{number:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shelf = Shelf::of(&names);
        let up = upstream().tool("t0000").shelf(&shelf).run();
        let old = upstream().only(Era::Legacy).tool("echo").run();
        let gateway = || run.gateway().top(SEALS).to("up", &up).to("old", &old).run();
        let (mut first, second) = (gateway(), gateway());
        let list = first.request("", "tools/list").in_session();
        let page = list.clone().send().json();
        let cursor = page["result"]["nextCursor"].as_str().expect("more than one page").to_owned();
        let agents: Vec<Call> = (0..4).map(|_| first.call("", "old__echo").in_session()).collect();
        agents.iter().for_each(|call| assert_eq!(call.again().send().code(), 0));
        crate::support::process::signal(first.pid(), rustix::process::Signal::KILL);
        first.exit_code();
        together(agents.len(), |number| {
            for _ in 0..20 {
                let answer = at(&second, &agents[number]).send();
                assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
            }
        });
        let next = at(&second, &list).member("cursor", &json!(cursor).to_string()).send().json();
        let listed =
            |page: &Value| page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{page}")).len();
        assert_eq!(listed(&page) + listed(&next), 1501, "{}", next["result"]["nextCursor"]);
    });
}

/// Feature, hardening: every use of a session but its own, by session, URL and principal, is answered like one of a
/// session that never was, and reaches nobody.
#[test]
fn sessions_of_hubs_belong_to_their_principal_and_their_url() {
    legacy(|run| {
        let old = upstream().only(Era::Legacy).tool("echo").run();
        let new = upstream().only(Era::Modern).tool("echo").run();
        let gw = run
            .gateway()
            .agents(&["ann", "bob"])
            .top("virtualServers: {v: {tools: [\"old.*\"]}, w: {tools: [\"new.*\"]}}")
            .to("old", &old)
            .to("new", &new)
            .run();
        let urls = [("", "old__echo"), ("v", "echo"), ("w", "echo"), ("new", "echo"), ("old", "echo")];
        let call = |agent: &str, (endpoint, name): (&str, &str)| gw.keyed(agent, gw.call(endpoint, name));
        let sessions: Vec<(usize, &str, String)> = (0..urls.len())
            .flat_map(|url| ["ann", "bob"].map(|agent| (url, agent)))
            .map(|(url, agent)| (url, agent, call(agent, urls[url]).in_session().session.expect("a session")))
            .collect();
        let asked = |call: Call, session: &str| {
            let call = Call { session: Some(session.to_owned()), ..call };
            let token = call.token.clone();
            let answer = call.send();
            let reached = old.mentions(&token) + new.mentions(&token) > 0;
            (crate::federation::bytes_of(&answer), reached)
        };
        for (url, at) in urls.iter().enumerate() {
            for agent in ["ann", "bob"] {
                let never_was = asked(call(agent, *at), "nobody-knows-it");
                assert_eq!((never_was.0.0, never_was.1), (404, false), "{at:?}: {never_was:?}");
                assert!(never_was.0.1.contains("session_not_found"), "{never_was:?}");
                for (of, owner, session) in &sessions {
                    let got = asked(call(agent, *at), session);
                    if (*of, *owner) == (url, agent) {
                        assert_eq!((got.0.0, got.1), (200, true), "{at:?} {agent}: {got:?}");
                    } else {
                        assert_eq!(got, never_was, "{at:?} {agent} with {owner}'s of {:?}", urls[*of]);
                    }
                }
            }
        }
    });
}

/// A session that was ended is unknown, at every worker, and with it those that it had on servers; one that is not named
/// is asked for.
#[test]
fn sessions_of_hubs_end() {
    legacy(|run| {
        let old = upstream().only(Era::Legacy).tool("echo").run();
        let gw = run.gateway().workers(4).to("old", &old).run();
        let call = gw.call("", "old__echo").in_session();
        assert_eq!(call.clone().send().code(), 0);
        let held = old.once(&call.token).head.field("mcp-session-id").unwrap().to_owned();
        let raw = call.raw().line("DELETE /mcp HTTP/1.1").body("").without_length().without("content-type");
        let answer = gw.client().talk(&raw.bytes()).unwrap();
        assert!(answer.status < 300, "{answer:?}");
        for _ in 0..16 {
            call.again().send().refused(404, "session_not_found");
        }
        crate::support::eventually("its session on the server is closed", || {
            old.requests()
                .iter()
                .any(|one| one.method() == "DELETE" && one.head.field("mcp-session-id") == Some(&held))
        });
        let nameless = gw.call("", "old__echo");
        let answer = gw.client().talk(&nameless.raw().bytes()).unwrap();
        assert_eq!((answer.status, answer.code()), (400, -32600), "{answer:?}");
        assert_eq!(old.mentions(&nameless.token), 0);
    });
}

/// A server that keeps state by session: it tells what was last said in it.
fn keeping() -> Script {
    let state: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    script::script(move |connection, request| {
        let session = request.head.field("mcp-session-id").unwrap_or("none").to_owned();
        let arguments = message(request)["params"]["arguments"].clone();
        let before = state.lock().unwrap().insert(session, arguments["x"].clone()).unwrap_or_default();
        let result = json!({"content": [{"type": "text", "text": before.to_string()}], "isError": false});
        script::send(connection, &script::plain(200, &script::result(request, &result)))
    })
}

/// Calls many times, each telling whose it is; what it hears must be its own.
fn keeps_to_itself(mut caller: Caller, own: &str, calls: usize) {
    let mut before = json!(null).to_string();
    for number in 0..calls {
        let said = json!([own, number]).to_string();
        let call = caller.tool("old__keep").argument(said.clone());
        let answer = caller.send(&call);
        let heard = answer.json()["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .to_owned();
        assert_eq!(heard, before, "{own} heard of another");
        before = said;
    }
}

/// Feature, ContextForge #4205: two clients of one server that keeps state never see each other's, over all workers.
#[test]
fn contextforge_4205_sessions_are_not_shared() {
    let calls = size(1_000, 10_000);
    everywhere(|run| {
        let old = upstream().only(Era::Legacy).on("keep", keeping()).run();
        let gw = run.gateway().workers(2).agents(&["ann", "bob"]).to("old", &old).run();
        together(2, |number| {
            let own = ["ann", "bob"][number];
            keeps_to_itself(gw.agent(own, ""), own, calls);
        });
        // Two clients of one principal in the older era as well: each has a session of its own.
        if run.era == Era::Legacy {
            together(2, |number| keeps_to_itself(gw.agent("ann", ""), &format!("ann-{number}"), calls / 10));
        }
    });
}

/// Feature, ContextForge #2055: whoever is behind an equal credential has sessions of their own; here callers whose server
/// gets the same `Authorization`.
#[test]
fn contextforge_2055_shared_credentials_leak_nothing() {
    everywhere(|run| {
        let old = upstream().only(Era::Legacy).on("keep", keeping()).run();
        let gw = run
            .gateway()
            .agents(&["ann", "bob", "eve"])
            .with("old", &old, &["headers: {Authorization: \"Bearer shared\"}"])
            .run();
        let names = ["ann", "bob", "eve"];
        together(names.len(), |number| keeps_to_itself(gw.agent(names[number], ""), names[number], 100));
        let mut owners: HashMap<String, BTreeSet<String>> = HashMap::new();
        for request in old.requests().iter().filter(|one| one.envelope().method == "tools/call") {
            assert_eq!(request.head.field("authorization"), Some("Bearer shared"));
            let session = request.head.field("mcp-session-id").unwrap().to_owned();
            let own = message(request)["params"]["arguments"]["x"][0].as_str().unwrap().to_owned();
            owners.entry(session).or_default().insert(own);
        }
        assert!(owners.len() >= names.len() && owners.values().all(|own| own.len() == 1), "{owners:?}");
    });
}

/// What a session of a hub may list is what its principal may, and nothing of it changes with the era.
#[test]
fn a_session_lists_and_calls_at_any_worker() {
    everywhere(|run| {
        let (old, new) =
            (upstream().only(Era::Legacy).tool("a").run(), upstream().only(Era::Modern).tool("b").run());
        let gw = run.gateway().workers(4).to("old", &old).to("new", &new).run();
        let first = gw.caller("");
        let mut callers: Vec<Lister> = (0..16).map(|_| Lister::new(first.beside())).collect();
        for lister in &mut callers {
            assert_eq!(lister.tools(), ["old__a", "new__b"]);
            lister.caller().passes("old__a");
            lister.caller().passes("new__b");
        }
    });
}
