//! Streams of changes at hubs: `subscriptions/listen` and GET, fed by servers of either era.
//!
//! Not here: the streams of one server that pass untouched (sessions, streaming).

use crate::bridge::message;
use crate::bridge::post;
use crate::federation::Lister;
use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::bell::Bell;
use crate::support::call::Call;
use crate::support::client::Client;
use crate::support::conduct::Dial;
use crate::support::conduct::sick_at_1;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::reserved::Reserved;
use crate::support::script;
use crate::support::shelf::Shelf;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

const ID: &str = "\"listen-1\"";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub const TOOLS: &str = "notifications/tools/list_changed";
pub const UPDATED: &str = "notifications/resources/updated";

/// An open stream of changes, and what has come on it.
pub struct Ear {
    era: Era,
    client: Client,
}

/// Asks for changes as a client of this era does; returns once the gateway has agreed.
#[track_caller]
pub fn listen(like: &Call, wanted: &Value) -> Ear {
    acknowledged(like, wanted).0
}

/// The same, with what a listener of the newer era is told that it will hear of.
#[track_caller]
pub fn acknowledged(like: &Call, wanted: &Value) -> (Ear, Value) {
    let like = like.clone().in_session();
    let mut client = like.connect();
    match like.era {
        Era::Modern => {
            let call = Call { name: None, method: "subscriptions/listen".into(), ..like.again() };
            client.send(&call.id(ID).member("notifications", &wanted.to_string()).raw().bytes());
        }
        Era::Legacy => {
            let raw = like.raw().line(format!("GET {} HTTP/1.1", like.target)).body("");
            client.send(&raw.without_length().without("content-type").bytes());
        }
    }
    let head = client.head().unwrap();
    assert_eq!(head.status(), 200, "{head:?} {:?}", client.rest());
    assert!(head.field("content-type").unwrap().starts_with("text/event-stream"));
    let mut ear = Ear { era: like.era, client };
    let mut honoured = Value::Null;
    if like.era == Era::Modern {
        let first = ear.next();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        assert_eq!(first["params"]["_meta"][SUBSCRIPTION], "listen-1", "{first}");
        assert!(first["params"]["notifications"].is_object(), "{first}");
        honoured = first["params"]["notifications"].clone();
    }
    (ear, honoured)
}

impl Ear {
    /// The next message.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        self.try_next().expect("the stream ended")
    }

    fn try_next(&mut self) -> Option<Value> {
        loop {
            let (_, event) = self.client.event().unwrap()?;
            let data = event.lines().find_map(|line| line.strip_prefix("data:"));
            if let Some(data) = data.filter(|data| !data.trim().is_empty()) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next message is this one, in the words of the era.
    #[track_caller]
    pub fn hears(&mut self, method: &str) -> Value {
        let next = self.next();
        assert_eq!(next["method"], method, "{next}");
        assert!(next.get("id").is_none(), "{next}");
        let id = &next["params"]["_meta"][SUBSCRIPTION];
        match self.era {
            Era::Modern => assert_eq!(id, "listen-1", "{next}"),
            Era::Legacy => assert!(id.is_null(), "{next}"),
        }
        next
    }

    /// Nothing has come.
    pub fn is_quiet(&mut self) -> bool {
        self.client.is_quiet()
    }
}

pub fn caller(gw: &Gateway) -> (Caller, Call) {
    let call = gw.call("", "none").in_session();
    (Caller::new(call.clone()), call)
}

/// Feature: a server's `list_changed` reaches its listeners at once, and with it the new list; nothing else does.
#[test]
fn hub_tells_of_changed_lists() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let (shelf, bell) = (Shelf::of(&["one"]), Bell::default());
            let up = upstream().only(only).shelf(&shelf).rings(&bell).run();
            let well = upstream().tool("b").run();
            let gw = run.gateway().to("up", &up).to("well", &well).run();
            let (caller, call) = caller(&gw);
            let mut lister = Lister::new(caller);
            assert_eq!(lister.tools(), ["up__one", "well__b"]);
            let mut ear = listen(&call, &json!({"toolsListChanged": true}));
            let mut deaf = listen(&gw.call("", "none"), &json!({"promptsListChanged": true}));
            shelf.set(0, &["one", "two"]);
            bell.ring(TOOLS, json!({}));
            ear.hears(TOOLS);
            assert_eq!(lister.tools(), ["up__one", "up__two", "well__b"], "told, and not yet listed");
            assert!(ear.is_quiet(), "it came twice");
            if run.era == Era::Modern {
                assert!(deaf.is_quiet(), "told what was not asked for");
            }
        }
    });
}

/// What an older server asks on its stream of changes, where no call is behind it, nobody can be asked: it hears so at once,
/// and that somebody is there.
#[test]
fn hub_refuses_what_is_asked_without_a_call() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["one"]), Bell::default());
        let up = upstream().only(Era::Legacy).shelf(&shelf).rings(&bell).run();
        let gw = run.gateway().to("up", &up).run();
        let (_, call) = caller(&gw);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        let said = |id: &Value| {
            let bodies = up.requests().into_iter().map(|request| request.body);
            bodies
                .filter_map(|body| serde_json::from_slice::<Value>(&body).ok())
                .find(|body| body["id"] == *id)
        };
        for (id, method, code) in [
            (json!("q"), "sampling/createMessage", json!(-32601)),
            (json!(70_001), "elicitation/create", json!(-32601)),
            (json!("r"), "roots/list", json!(-32601)),
            (json!("s"), "x/unknown", json!(-32601)),
            (json!("p"), "ping", Value::Null),
        ] {
            bell.ask(id.clone(), method);
            eventually("it is answered", || said(&id).is_some());
            let said = said(&id).unwrap();
            assert_eq!(
                (&said["error"]["code"], said["result"].is_object()),
                (&code, code.is_null()),
                "{said}"
            );
        }
        // None of it is the client's business, and the stream goes on.
        shelf.set(0, &["one", "two"]);
        bell.ring(TOOLS, json!({}));
        ear.hears(TOOLS);
        assert!(ear.is_quiet());
    });
}

/// Feature: however many clients listen, a server has one stream, over all workers.
#[test]
fn hub_listens_once() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["one"]), Bell::default());
        let up = upstream().shelf(&shelf).rings(&bell).run();
        let gw = run.gateway().workers(4).to("up", &up).run();
        let ear = |_| listen(&gw.call("", "none"), &json!({"toolsListChanged": true}));
        let mut ears: Vec<Ear> = (0..24).map(ear).collect();
        shelf.set(0, &["one", "two"]);
        bell.ring(TOOLS, json!({}));
        for ear in &mut ears {
            ear.hears(TOOLS);
        }
        assert_eq!((bell.open(), bell.ever()), (1, 1));
        // One leaves: the others go on.
        ears.truncate(20);
        shelf.set(0, &["three"]);
        bell.ring(TOOLS, json!({}));
        ears.iter_mut().for_each(|ear| drop(ear.hears(TOOLS)));
    });
}

/// Feature: a server that is added, or removed, by a reload is told of within 1 s, on the same stream.
#[test]
fn hot_registration_tells_listeners() {
    everywhere(|run| {
        let (one, two) = (upstream().tool("a").run(), upstream().tool("b").run());
        let gw = run.gateway().to("one", &one).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        assert_eq!(lister.tools(), ["one__a"]);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        for (text, expected) in [
            (format!("{yaml}  two:\n    url: \"{}\"\n", two.url), &["one__a", "two__b"][..]),
            (yaml.clone(), &["one__a"]),
        ] {
            gw.reload(&text);
            let reloaded = Instant::now();
            ear.hears(TOOLS);
            assert!(reloaded.elapsed() < Duration::from_secs(1), "{:?}", reloaded.elapsed());
            eventually("it is listed", || lister.tools() == expected);
        }
    });
}

/// Feature: a server that comes up later is told of once; while it is down nothing is told, however often others list.
#[test]
fn isolation_tells_once() {
    everywhere(|run| {
        let place = Reserved::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).server("db", &[&place.url()]).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        assert_eq!(lister.tools(), ["up__echo"]);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        for _ in 0..20 {
            assert_eq!(lister.tools(), ["up__echo"]);
        }
        assert!(ear.is_quiet(), "told of a server that is down");
        let _db = upstream().tool("query").run_on(place.listen());
        eventually("it is listed", || lister.tools() == ["up__echo", "db__query"]);
        ear.hears(TOOLS);
        for _ in 0..20 {
            lister.tools();
        }
        assert!(ear.is_quiet(), "told again and again");
    });
}

/// Feature: a server that goes down is told of once, when its lists are too old to be shown, and once when it is back.
#[test]
fn isolation_tells_once_of_a_server_that_goes() {
    everywhere(|run| {
        let sick = Dial::default();
        let shelf = Shelf::of(&["query"]).fresh_for(1_000, "public");
        let up = upstream().tool("echo").run();
        let db = upstream().shelf(&shelf).method("tools/list", sick_at_1(&sick, shelf.script(0))).run();
        let gw = run.gateway().to("up", &up).with("db", &db, &["cache: {maxStale: 0s}"]).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        assert_eq!(lister.tools(), ["up__echo", "db__query"]);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        for (value, expected) in [(1, &["up__echo"][..]), (0, &["up__echo", "db__query"])] {
            sick.turn(value);
            eventually("the list is another", || lister.tools() == expected);
            ear.hears(TOOLS);
            for _ in 0..20 {
                assert_eq!(lister.tools(), expected);
            }
            assert!(ear.is_quiet(), "told again and again");
        }
    });
}

/// An older server that answers 405 to GET.
fn without_streams(able: &str) -> Upstream {
    let no = script::bytes("HTTP/1.1 405 No\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n");
    upstream().only(Era::Legacy).able(able).tool("echo").get(no).run()
}

/// The same where each client's session has a stream of its own to the server, because that logs or its client can be asked:
/// many clients, and streams that are opened again and again, ask once.
#[test]
fn envoy_1924_405_is_remembered_for_all_sessions() {
    on_every_driver(|run| {
        let run = Run { era: Era::Legacy, ..run };
        let logs = r#"{"tools":{"listChanged":true},"logging":{}}"#;
        for (able, asked) in [(logs, "{}"), (r#"{"tools":{}}"#, r#"{"roots":{}}"#), (logs, r#"{"roots":{}}"#)]
        {
            let up = without_streams(able);
            let gw = run.gateway().workers(2).to("up", &up).run();
            let calls: Vec<Call> = (0..6).map(|_| gw.call("", "up__echo").able(asked).in_session()).collect();
            let gets = || up.requests().iter().filter(|one| one.method() == "GET").count();
            let listen_all = || calls.iter().map(|call| listen(call, &json!({}))).collect::<Vec<Ear>>();
            // Each has a session on the server from then on.
            calls.iter().for_each(|call| assert_eq!(call.again().send().status, 200));
            for _ in 0..5 {
                let mut ears = listen_all();
                eventually("it is asked", || gets() > 0);
                assert!(ears.iter_mut().all(Ear::is_quiet), "told of something");
            }
            assert_eq!(gets(), 1, "{able} {asked}");
            gw.hang_up();
            eventually("the reload is counted", || gw.reloads("ok") == 1.0);
            let ears = listen_all();
            eventually("it is asked again", || gets() == 2);
            drop((ears, listen_all()));
            assert_eq!(gets(), 2, "{able} {asked}");
        }
    });
}

/// Feature, Envoy AI Gateway #1924: a server that answers 405 to GET is asked once, however many listen and however
/// often, and its lists do not flap.
#[test]
fn envoy_1924_405_does_not_flap() {
    everywhere(|run| {
        let up = without_streams(r#"{"tools":{"listChanged":true}}"#);
        let gw = run.gateway().to("up", &up).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        for _ in 0..5 {
            let mut ears: Vec<Ear> =
                (0..4).map(|_| listen(&call, &json!({"toolsListChanged": true}))).collect();
            for _ in 0..10 {
                assert_eq!(lister.tools(), ["up__echo"]);
            }
            assert!(ears.iter_mut().all(Ear::is_quiet), "told of a change that was none");
        }
        let gets = || up.requests().iter().filter(|one| one.method() == "GET").count();
        assert_eq!(gets(), 1);
        // Until the next reload: then once more.
        gw.hang_up();
        eventually("the reload is counted", || gw.reloads("ok") == 1.0);
        let mut ears: Vec<Ear> = (0..4).map(|_| listen(&call, &json!({"toolsListChanged": true}))).collect();
        eventually("it is asked again", || gets() == 2);
        for _ in 0..10 {
            assert_eq!(lister.tools(), ["up__echo"]);
        }
        assert!(ears.iter_mut().all(Ear::is_quiet), "told of a change that was none");
        assert_eq!(gets(), 2);
    });
}

/// Feature: a changed resource is told to who subscribed to it, under the name that the client knows, and to nobody else.
#[test]
fn hub_tells_of_changed_resources() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let bell = Bell::default();
            let shelf = Shelf::of(&[]).with(2, &["file:///a", "file:///b", "file:///secret"]);
            let up = upstream().only(only).shelf(&shelf).rings(&bell).run();
            let gw = run
                .gateway()
                .access("name: all, allow: [\"*\", \"resource:*.*\"]")
                .access("name: no, deny: [\"resource:my_up.file:///secret\"]")
                .to("my_up", &up)
                .run();
            let (_, call) = caller(&gw);
            let uris = ["my.up+file:///a", "my.up+file:///secret"];
            if run.era == Era::Legacy {
                for (number, uri) in uris.iter().enumerate() {
                    let params = json!({"uri": uri});
                    let body =
                        json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params});
                    let answer = post(&call, &body);
                    assert_eq!(answer.code() == 0, number == 0, "{uri}: {answer:?}");
                }
            }
            let mut ear = listen(&call, &json!({"resourceSubscriptions": uris}));
            // Control may still be on its way with the subscription.
            eventually("the server knows", || {
                let knows = |one: &crate::support::upstream::Received| {
                    one.mentions("file:///a") && one.envelope().method.contains("subscri")
                };
                up.requests().iter().any(knows)
            });
            eventually("somebody listens", || bell.open() == 1);
            bell.ring(UPDATED, json!({"uri": "file:///secret"}));
            bell.ring(UPDATED, json!({"uri": "file:///b"}));
            bell.ring(UPDATED, json!({"uri": "file:///a"}));
            let next = ear.hears(UPDATED);
            assert_eq!(next["params"]["uri"], "my.up+file:///a", "{next}");
            assert!(ear.is_quiet());
            let asked: Vec<String> = up.requests().iter().map(|one| message(one).to_string()).collect();
            let told = asked.iter().filter(|one| one.contains("secret") && one.contains("ubscri"));
            assert_eq!(told.count(), 0, "a hidden resource was subscribed to");
        }
    });
}

/// Feature: the end of the gateway is a result under the listener's id in the newer era, and an end in the older one.
#[test]
fn hub_ends_streams_gracefully() {
    everywhere(|run| {
        let up = upstream().tool("a").run();
        let mut gw = run.gateway().http("drain: 2s").to("up", &up).run();
        let (_, call) = caller(&gw);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        gw.terminate();
        if run.era == Era::Modern {
            let last = ear.next();
            assert_eq!(last["id"], "listen-1", "{last}");
            assert_eq!(last["result"]["resultType"], "complete", "{last}");
            assert_eq!(last["result"]["_meta"][SUBSCRIPTION], "listen-1", "{last}");
        }
        assert!(ear.try_next().is_none(), "something came behind the end");
        assert_eq!(gw.exit_code(), Some(0));
    });
}

/// A stream of an older client is its session's: a stranger's is 404, none is 400; a modern GET is 405.
#[test]
fn streams_belong_to_their_session() {
    everywhere(|run| {
        let up = upstream().tool("a").run();
        let gw = run.gateway().agents(&["ann", "bob"]).to("up", &up).run();
        let call = gw.keyed("ann", gw.call("", "none")).in_session();
        let get = |call: &Call| {
            let line = format!("GET {} HTTP/1.1", call.target);
            let raw = call.raw().line(line).body("").without_length().without("content-type");
            let mut client = gw.client();
            client.send(&raw.bytes());
            client.head().unwrap().status()
        };
        match run.era {
            Era::Modern => assert_eq!(get(&call), 405),
            Era::Legacy => {
                assert_eq!(get(&call), 200);
                let stolen = Call { session: call.session.clone(), ..gw.keyed("bob", gw.call("", "none")) };
                assert_eq!(get(&stolen), 404);
                assert_eq!(get(&Call { session: None, ..call.clone() }), 400);
                let other = Call { target: "/mcp/up".into(), ..call.clone() };
                assert_eq!(get(&other), 404);
            }
        }
    });
}

/// Who leaves is forgotten: once nobody listens the server's stream is not kept for ever, and no descriptor is.
#[test]
fn streams_are_given_back() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["one"]), Bell::default());
        let up = upstream().shelf(&shelf).rings(&bell).run();
        let gw = run.gateway().to("up", &up).run();
        let (_, call) = caller(&gw);
        let _first = listen(&call, &json!({"toolsListChanged": true}));
        let descriptors = || crate::support::process::descriptors(gw.pid());
        let before = descriptors();
        for _ in 0..5 {
            let ears: Vec<Ear> = (0..20).map(|_| listen(&call, &json!({"toolsListChanged": true}))).collect();
            drop(ears);
        }
        eventually("descriptors are given back", || descriptors() <= before + 4);
        assert_eq!(bell.ever(), 1);
    });
}

/// A client that reads nothing holds up no other, and what it missed is not gathered for ever.
#[test]
fn a_slow_listener_holds_up_nobody() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["t0"]), Bell::default());
        let up = upstream().shelf(&shelf).rings(&bell).run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        let slow = listen(&gw.call("", "none"), &json!({"toolsListChanged": true}));
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        for number in 1..6 {
            let name = format!("t{number}");
            shelf.set(0, &[&name]);
            bell.ring(TOOLS, json!({}));
            ear.hears(TOOLS);
            assert_eq!(lister.tools(), [format!("up__{name}")]);
        }
        drop(slow);
    });
}

/// A message comes on one stream of a session only (2025-11-25, transports, "Multiple Connections"): the newest; when that
/// has gone, the one before it. Each client of the newer era has a stream for itself.
#[test]
fn streams_of_one_session_share_what_is_told() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["t0"]), Bell::default());
        let up = upstream().shelf(&shelf).rings(&bell).run();
        let gw = run.gateway().workers(4).to("up", &up).run();
        let (_, call) = caller(&gw);
        let mut ears: Vec<Ear> = (0..3).map(|_| listen(&call, &json!({"toolsListChanged": true}))).collect();
        let other = call.session.as_ref().map(|_| gw.call("", "none").in_session());
        let mut other = other.map(|call| listen(&call, &json!({})));
        shelf.set(0, &["t1"]);
        bell.ring(TOOLS, json!({}));
        if run.era == Era::Modern {
            return ears.iter_mut().for_each(|ear| drop(ear.hears(TOOLS)));
        }
        ears[2].hears(TOOLS);
        assert!(ears.iter_mut().all(Ear::is_quiet), "told twice");
        other.as_mut().unwrap().hears(TOOLS);
        drop(ears.pop());
        let mut number = 1;
        eventually("the one before it is told", || {
            number += 1;
            shelf.set(0, &[&format!("t{number}")]);
            bell.ring(TOOLS, json!({}));
            other.as_mut().unwrap().hears(TOOLS);
            !ears[1].is_quiet()
        });
        ears[1].hears(TOOLS);
        assert!(ears.iter_mut().all(Ear::is_quiet), "told twice");
    });
}

/// What changes in a list that a listener may not see is not told to it: by rules, and by what its address shows.
#[test]
fn hub_tells_nobody_of_what_is_hidden() {
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["a1", "b1"]), Bell::default());
        let (up, other) = (upstream().shelf(&shelf).rings(&bell).run(), upstream().tool("x").run());
        let gw = run
            .gateway()
            .agents(&["ann", "bob", "eve"])
            .access("name: ann, principals: [ann], allow: [\"up.a*\"]")
            .access("name: bob, principals: [bob], allow: [\"up.*\"]")
            .access("name: eve, principals: [eve], allow: [\"other.*\"]")
            .top("virtualServers: {only: {tools: [\"up.a*\"]}}")
            .to("up", &up)
            .to("other", &other)
            .run();
        let ear = |agent: &str, endpoint: &str| {
            let call = gw.keyed(agent, gw.call(endpoint, "none")).in_session();
            listen(&call, &json!({"toolsListChanged": true}))
        };
        let (mut ann, mut bob, mut eve, mut only) =
            (ear("ann", ""), ear("bob", ""), ear("eve", ""), ear("bob", "only"));
        let change = |names: &[&str]| {
            shelf.set(0, names);
            bell.ring(TOOLS, json!({}));
        };
        change(&["a1", "b1", "b2"]);
        bob.hears(TOOLS);
        assert!(ann.is_quiet() && eve.is_quiet() && only.is_quiet(), "told of what is hidden");
        change(&["a1", "a2", "b1", "b2"]);
        [&mut ann, &mut bob, &mut only].into_iter().for_each(|ear| drop(ear.hears(TOOLS)));
        // A server speaks of a list that is as it was: to all who know of the server.
        bell.ring(TOOLS, json!({}));
        [&mut ann, &mut bob, &mut only].into_iter().for_each(|ear| drop(ear.hears(TOOLS)));
        assert!(eve.is_quiet());
        // Another plan shows other things, and that is a change.
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.rewrite(&yaml.replace("allow: [\"up.a*\"]", "allow: [\"up.a1\"]"));
        gw.hang_up();
        ann.hears(TOOLS);
        assert!(bob.is_quiet() && eve.is_quiet() && only.is_quiet(), "nothing is another for them");
    });
}

/// A list that was old because its server could not be asked, and comes back with something else, is told of.
#[test]
fn hub_tells_of_what_an_old_list_has_become() {
    everywhere(|run| {
        let sick = Dial::default();
        let shelf = Shelf::of(&["one"]).fresh_for(1_000, "public");
        let up = upstream().shelf(&shelf).method("tools/list", sick_at_1(&sick, shelf.script(0))).run();
        let gw = run.gateway().to("up", &up).run();
        let (caller, call) = caller(&gw);
        let mut lister = Lister::new(caller);
        assert_eq!(lister.tools(), ["up__one"]);
        let mut ear = listen(&call, &json!({"toolsListChanged": true}));
        sick.turn(1);
        eventually("it is old", || lister.result(0)["_meta"]["io.ringgate/stale"] == json!(["up"]));
        assert!(ear.is_quiet(), "it is shown as it was");
        shelf.set(0, &["other"]);
        sick.turn(0);
        ear.hears(TOOLS);
        assert_eq!(lister.tools(), ["up__other"]);
        assert!(ear.is_quiet());
    });
}
