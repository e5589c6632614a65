//! Feature `route`, "semantic classes": a hook names the pool of a call, at `/mcp` and at `/mcp/NAME`; whatever is wrong with
//! it, the call goes where it would go without it.
//!
//! Not here: rules by what a call says (route_attribute), and how many questions a hook has at a time (control).

use crate::support::Era;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;

/// Where calls come in, and what they call `echo` there.
const DOORS: [(&str, &str); 2] = [("up", "echo"), ("", "up__echo")];

/// A hook that always says this, with this status.
fn hook(status: u16, says: impl Into<String>) -> Upstream {
    let says = says.into();
    upstream().every(script::script(move |c, _| script::send(c, &script::plain(status, &says)))).run()
}

/// One that never answers.
fn silent() -> Upstream {
    let silence = script::script(|connection, _| {
        connection.until_gone();
        Next::Close
    });
    upstream().every(silence).run()
}

fn route(hook: &Upstream, more: &str) -> String {
    format!("{{hook: \"{}\"{more}}}", hook.url.replace("/mcp", "/class"))
}

struct Bench {
    us: Upstream,
    eu: Upstream,
    gw: Gateway,
}

/// A pool for everybody and one for `eu`, and these routes.
fn bench(run: Run, routes: &str, top: &str) -> Bench {
    let [us, eu] = [0, 1].map(|_| upstream().tool("echo").run());
    let pools = format!("pools: {{us: {{url: \"{}\"}}, eu: {{url: \"{}\"}}}}", us.url, eu.url);
    let routes = format!("route: [{routes}]");
    let gw = run.gateway().agents(&["agent-7"]).top(top);
    let gw = gw.server("up", &[&pools, &routes, "labels: {all: [prod]}"]).run();
    Bench { us, eu, gw }
}

impl Bench {
    fn call(&self, (endpoint, name): (&str, &str)) -> Call {
        self.gw.keyed("agent-7", self.gw.call(endpoint, name))
    }

    /// The pool that answers a call.
    #[track_caller]
    fn pool(&self, call: Call) -> &'static str {
        let token = call.token.clone();
        let answer = call.send();
        assert!(answer.status == 200 && answer.code() == 0, "{answer:?}");
        match (self.us.with(&token).len(), self.eu.with(&token).len()) {
            (1, 0) => "us",
            (0, 1) => "eu",
            both => panic!("{both:?}"),
        }
    }

    fn counted(&self, outcome: &str) -> f64 {
        let labels = ["rule=\"mcpServers.up.route[0]\"", &format!("outcome=\"{outcome}\"")];
        self.gw.metric("ringgate_route_hooks_total", &labels)
    }
}

/// Feature: the hook is told of the call and nothing of what its caller shows, and names the pool.
#[test]
fn route_hook() {
    everywhere(|run| {
        for says in [r#"{"result": "eu"}"#, r#"{"result": {"pool": "eu"}}"#] {
            let hook = hook(200, says);
            let bench = bench(run, &route(&hook, ", timeout: 2s"), "");
            for door in DOORS {
                let call = bench.call(door).given("text", "\"where is my parcel\"").given("n", "1e2");
                let token = call.token.clone();
                let call = call.field("Cookie: chocolate");
                assert_eq!(bench.pool(call), "eu", "{says} at {door:?}");
                let asked = hook.take_requests();
                let [asked] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
                assert_eq!(
                    (asked.method(), asked.head.field("content-type")),
                    ("POST", Some("application/json"))
                );
                let secrets = ["authorization", "cookie", "x-api-key", "mcp-session-id"];
                assert!(secrets.iter().all(|name| asked.head.field(name).is_none()), "{:?}", asked.head);
                let body: Value = serde_json::from_slice(&asked.body).unwrap();
                let input = &body["input"];
                let told = ["principal", "server", "tool", "method"].map(|key| input[key].as_str().unwrap());
                assert_eq!(told, ["agent-7", "up", "echo", "tools/call"]);
                assert_eq!(input["args"]["text"], "where is my parcel");
                assert_eq!((&input["pools"], &input["labels"]), (&json!(["us", "eu"]), &json!(["prod"])));
                let text = String::from_utf8(asked.body.clone()).unwrap();
                assert!(text.contains("1e2") && text.contains(&token), "as it was written: {text}");
                assert!(!text.contains("chocolate"), "{text}");
            }
            assert_eq!(bench.counted("routed"), 2.0);
        }
    });
}

/// Feature: "hook down or slower than its timeout gives the default route and a counter, never an error"; nonsense as well.
#[test]
fn route_hook_falls_back() {
    everywhere(|run| {
        let down = || {
            let down = hook(200, "");
            down.stop();
            down
        };
        let long = format!("{{\"result\": \"eu\", \"more\": \"{}\"}}", "x".repeat(8 * 1024));
        for (hook, outcome) in [
            (down(), "unreachable"),
            (silent(), "late"),
            (hook(200, "eu"), "unreadable"),
            (hook(200, r#"{"result": 1}"#), "unreadable"),
            (hook(500, r#"{"result": "eu"}"#), "unreadable"),
            (hook(200, long.as_str()), "unreadable"),
            (hook(302, r#"{"result": "eu"}"#), "unreachable"),
            (hook(200, r#"{"result": "mars"}"#), "unknown_pool"),
            (hook(200, "{}"), "none"),
        ] {
            let timeout = if outcome == "late" { ", timeout: 50ms" } else { ", timeout: 2s" };
            let bench = bench(run, &route(&hook, timeout), "");
            assert_eq!(DOORS.map(|door| bench.pool(bench.call(door))), ["us"; 2], "{outcome}");
            assert_eq!(bench.counted(outcome), 2.0, "{outcome}");
        }
    });
}

/// A hook that names no pool leaves the call to the next rule, which may be another hook; what comes before it counts
/// before it.
#[test]
fn route_hook_leaves_it_to_the_next_rule() {
    everywhere(|run| {
        let (down, works) = (hook(200, "{}"), hook(200, r#"{"result": "eu"}"#));
        down.stop();
        let hooks = [route(&down, ""), route(&works, ", timeout: 2s")].join(", ");
        let both = bench(run, &hooks, "");
        assert_eq!(DOORS.map(|door| both.pool(both.call(door))), ["eu"; 2]);
        let before = bench(run, &format!("{{when: 'args.n == 1', pool: us}}, {}", route(&works, "")), "");
        works.take_requests();
        assert_eq!(before.pool(before.call(DOORS[1]).given("n", "1")), "us");
        assert_eq!(works.requests().len(), 0, "nobody asks who is not needed");
        let after = bench(run, &format!("{}, {{when: 'args.n == 1', pool: eu}}", route(&down, "")), "");
        assert_eq!(after.pool(after.call(DOORS[0]).given("n", "1")), "eu");
        let of_some = bench(run, &route(&works, ", when: 'args.n == 1', timeout: 2s"), "");
        assert_eq!(of_some.pool(of_some.call(DOORS[0]).given("n", "2")), "us");
        assert_eq!(of_some.pool(of_some.call(DOORS[0]).given("n", "1")), "eu");
    });
}

/// Of what is refused no hook hears, nor of arguments that two readers could take for different ones.
#[test]
fn route_hook_hears_of_no_refused_call() {
    everywhere(|run| {
        let hook = hook(200, r#"{"result": "eu"}"#);
        let top = "access: [{name: no, deny: [up.echo], when: 'args.n == 1'}]\n\
                   limits: [{name: one, key: principal, rate: 1/hour}]";
        let bench = bench(run, &route(&hook, ", timeout: 2s"), top);
        bench.call(DOORS[0]).given("n", "1").send().refused(403, "forbidden");
        assert_eq!(hook.requests().len(), 0);
        let other = || bench.call(DOORS[0]).given("n", "2");
        assert_eq!(bench.pool(other()), "eu");
        other().send().refused(429, "rate_limited");
        assert_eq!(hook.requests().len(), 1);
    });
}

/// What a hook cannot be told without doubt it is not told.
#[test]
fn route_hook_is_not_told_what_is_ambiguous() {
    everywhere(|run| {
        let hook = hook(200, r#"{"result": "eu"}"#);
        let bench = bench(run, &route(&hook, ", timeout: 2s"), "");
        let call = bench.call(DOORS[0]).argument(r#"{"a": 1, "a": 2}"#);
        assert_eq!(bench.pool(call), "us");
        assert_eq!((bench.counted("unasked"), hook.requests().len()), (1.0, 0));
        let call = bench.call(DOORS[0]).given("text", &format!("\"{}\"", "x".repeat(300 * 1024)));
        assert_eq!(bench.pool(call), "us");
        assert_eq!((bench.counted("unasked"), hook.requests().len()), (2.0, 0));
        if run.era == Era::Legacy {
            let call = bench.call(DOORS[0]);
            let body = format!("[{}]", call.body());
            let raw = call.raw().without("mcp-protocol-version").body(body);
            assert_eq!(bench.gw.client().talk(&raw.bytes()).unwrap().status, 200);
            assert_eq!((bench.us.with(&call.token).len(), bench.counted("unasked")), (1, 3.0));
        }
    });
}

/// A call that is killed while a hook is asked about it reaches nobody.
#[test]
fn route_hook_ends_with_its_call() {
    everywhere(|run| {
        let hook = silent();
        let bench = bench(run, &route(&hook, ", timeout: 2s"), "");
        for door in DOORS {
            let call = bench.call(door);
            let token = call.token.clone();
            let client = call.open();
            hook.until_called(&token);
            bench.gw.operate(&["kill", "principal", "agent-7"]);
            let mut client = client;
            client.answer().refused(403, "killed");
            assert_eq!((bench.us.mentions(&token), bench.eu.mentions(&token)), (0, 0));
            bench.gw.operate(&["unkill", "principal", "agent-7"]);
        }
    });
}
