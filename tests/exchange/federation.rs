//! Several servers behind one URL: `/mcp`, virtual servers, other names of tools, and servers that come, go and move
//! meanwhile.
//!
//! Not here: who may see what (federation_policy), servers that are down (federation_faults), sessions
//! (federation_sessions).

use crate::support::Era;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::pace;
use crate::support::script;
use crate::support::shelf::LISTS;
use crate::support::shelf::Shelf;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

/// The result of a list, which must be one.
#[track_caller]
pub fn listed(call: Call) -> Value {
    let answer = call.send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut said = answer.json();
    assert!(said["error"].is_null(), "{said}");
    said["result"].take()
}

/// What a list of that number (`LISTS`) names, in order.
#[track_caller]
pub fn names_in(result: &Value, list: usize) -> Vec<String> {
    let (_, member, key) = LISTS[list];
    let entries = result[member].as_array().unwrap_or_else(|| panic!("no {member} in {result}"));
    entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// The tools that an endpoint lists (`""` is `/mcp`).
#[track_caller]
pub fn tools(gw: &Gateway, endpoint: &str) -> Vec<String> {
    names_in(&listed(gw.request(endpoint, "tools/list")), 0)
}

/// Lists again and again in one session: every agent has only so many handshakes.
pub struct Lister(Caller);

impl Lister {
    #[track_caller]
    pub fn new(caller: Caller) -> Self {
        Self(caller)
    }

    /// The whole answer to a list of that number (`LISTS`). Whoever polls asks more often than the built-in limit of lists
    /// allows, and waits as long as it is told.
    #[track_caller]
    pub fn ask(&mut self, list: usize) -> Answer {
        loop {
            let request = self.0.request(LISTS[list].0);
            let answer = self.0.send(&request);
            if answer.status != 429 || answer.json()["error"]["data"]["rule"] != "limits.lists" {
                return answer;
            }
            pace(answer.limited("limits.lists"));
        }
    }

    /// Its result, which must be one.
    #[track_caller]
    pub fn result(&mut self, list: usize) -> Value {
        let answer = self.ask(list);
        assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
        answer.json()["result"].take()
    }

    #[track_caller]
    pub fn tools(&mut self) -> Vec<String> {
        names_in(&self.result(0), 0)
    }

    pub fn caller(&mut self) -> &mut Caller {
        &mut self.0
    }
}

/// An answer without what is different in each: the trace.
pub fn bytes_of(answer: &Answer) -> (u16, String) {
    let mut said = answer.text();
    if let Some(trace) = answer.json()["error"]["data"]["traceId"].as_str() {
        said = said.replace(trace, "TRACE");
    }
    (answer.status, said)
}

/// The call arrived once, at that server alone, under that name.
#[track_caller]
fn arrived(answer: &Answer, token: &str, here: &Upstream, others: &[&Upstream], name: &str) {
    assert!(answer.status == 200 && answer.code() == 0 && answer.text().contains(token), "{answer:?}");
    let came = here.once(token);
    assert_eq!(came.envelope().params.name, name);
    if came.head.field("mcp-protocol-version") == Some(crate::support::call::MODERN) {
        assert_eq!(came.head.field("mcp-name"), Some(name));
    }
    others.iter().for_each(|up| assert_eq!(up.mentions(token), 0, "reached another server"));
}

/// Feature: one URL lists all under `server__tool`, from the first server on, in the order of the config, then the
/// server's own; calls go where the prefix says, under the server's own name.
#[test]
fn hub() {
    everywhere(|run| {
        let one = upstream().tool("zeta").tool("alpha").run();
        let two = upstream().tool("query").tool("alpha").run();
        let gw = run.gateway().to("github", &one).to("db", &two).run();
        let expected = ["github__zeta", "github__alpha", "db__query", "db__alpha"];
        for _ in 0..3 {
            assert_eq!(tools(&gw, ""), expected);
        }
        for (name, here, there) in [("github__alpha", &one, &two), ("db__alpha", &two, &one)] {
            let call = gw.call("", name).argument("12345678901234567890123.50");
            let token = call.token.clone();
            let answer = call.send();
            arrived(&answer, &token, here, &[there], "alpha");
            let arguments = here.once(&token).envelope().params.arguments.unwrap();
            assert!(arguments.get().contains("12345678901234567890123.50"), "{arguments}");
        }
        for name in
            ["alpha", "zeta", "github__query", "db__zeta", "nobody__alpha", "github_alpha", "github__", "__"]
        {
            let call = gw.call("", name);
            let token = call.token.clone();
            let answer = call.send();
            assert_eq!((answer.status, answer.code()), (200, -32602), "{name}: {answer:?}");
            assert_eq!(one.mentions(&token) + two.mentions(&token), 0, "{name} reached a server");
        }
    });
}

/// Feature: a tool that is added upstream appears after one TTL, without a restart.
#[test]
fn hub_follows_its_servers() {
    everywhere(|run| {
        let shelf = Shelf::of(&["one"]).fresh_for(1000, "public");
        let up = upstream().tool("one").tool("two").shelf(&shelf).run();
        let gw = run.gateway().to("up", &up).run();
        let mut lister = Lister::new(gw.caller(""));
        assert_eq!(lister.tools(), ["up__one"]);
        shelf.set(0, &["one", "two"]);
        eventually("the new tool is listed", || lister.tools() == ["up__one", "up__two"]);
        lister.caller().passes("up__two");
        shelf.set(0, &["two"]);
        eventually("the old tool is gone", || lister.tools() == ["up__two"]);
    });
}

/// Feature: twenty agents and eight servers need one URL and one key each.
#[test]
fn hub_of_many() {
    everywhere(|run| {
        let ups: Vec<_> = (0..8).map(|_| upstream().tool("echo").run()).collect();
        let agents: Vec<String> = (0..20).map(|number| format!("agent-{number}")).collect();
        let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
        let gateway = ups
            .iter()
            .enumerate()
            .fold(run.gateway().agents(&agents), |gw, (number, up)| gw.to(&format!("s{number}"), up));
        let gw = gateway.run();
        crate::support::line::together(agents.len(), |number| {
            let mut agent = gw.agent(agents[number], "");
            for server in 0..ups.len() {
                let answer = agent.passes(&format!("s{server}__echo"));
                assert_eq!(answer.status, 200);
            }
        });
        ups.iter().for_each(|up| assert_eq!(up.calls(), agents.len()));
    });
}

/// Feature, agentgateway #495: a second server renames nothing.
#[test]
fn agentgateway_495_names_never_change() {
    everywhere(|run| {
        let (one, two) = (upstream().tool("echo").run(), upstream().tool("other").run());
        let gw = run.gateway().to("one", &one).run();
        assert_eq!(tools(&gw, ""), ["one__echo"]);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&format!("{yaml}  two:\n    url: \"{}\"\n", two.url));
        assert_eq!(tools(&gw, ""), ["one__echo", "two__other"]);
        assert_eq!(gw.call("", "one__echo").send().code(), 0);
    });
}

/// Feature, agentgateway #742: two servers list the tools of both.
#[test]
fn agentgateway_742_list_of_two_targets() {
    everywhere(|run| {
        for eras in
            [[None, None], [Some(Era::Modern), Some(Era::Legacy)], [Some(Era::Legacy), Some(Era::Legacy)]]
        {
            let up = |era: Option<Era>, tool: &str| {
                let up = upstream().tool(tool);
                if let Some(era) = era { up.only(era).run() } else { up.run() }
            };
            let (one, two) = (up(eras[0], "a"), up(eras[1], "b"));
            let gw = run.gateway().to("one", &one).to("two", &two).run();
            assert_eq!(tools(&gw, ""), ["one__a", "two__b"], "{eras:?}");
        }
    });
}

/// Feature: exactly the tools that are named, in that order, under the servers' own names; what is not selected is
/// answered as what never was.
#[test]
fn virtual_server() {
    everywhere(|run| {
        let github = upstream().tool("delete_repo").tool("list_issues").run();
        let crm = upstream().tool("update_ticket").tool("pay").run();
        let slack = upstream().tool("send_message").run();
        let gw = run
            .gateway()
            .top("virtualServers: {support: {tools: [\"github.list_issues\", \"crm.update_ticket\", \"slack.send_message\"]}, finance: {tools: [\"crm.pay\"]}}")
            .to("slack", &slack)
            .to("crm", &crm)
            .to("github", &github)
            .run();
        assert_eq!(tools(&gw, "support"), ["list_issues", "update_ticket", "send_message"]);
        assert_eq!(tools(&gw, "finance"), ["pay"]);
        let call = gw.call("support", "update_ticket");
        let token = call.token.clone();
        arrived(&call.send(), &token, &crm, &[&github, &slack], "update_ticket");
        let mut said = Vec::new();
        for name in ["delete_repo", "there_is_no_such", "pay", "github__list_issues", "github.list_issues"] {
            let call = gw.call("support", name);
            let token = call.token.clone();
            said.push(bytes_of(&call.send()));
            assert_eq!(github.mentions(&token) + crm.mentions(&token) + slack.mentions(&token), 0, "{name}");
        }
        assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
        assert!(said[0].1.contains("-32602"), "{said:?}");
    });
}

/// Feature: prompts, resources and templates are scoped alike, and a virtual server that names none shows none.
#[test]
fn virtual_server_scopes_all_kinds() {
    everywhere(|run| {
        let shelf = || {
            Shelf::of(&["t"])
                .with(1, &["review", "secret"])
                .with(2, &["file:///a", "file:///secret"])
                .with(3, &["file:///a/{x}", "file:///secret/{x}"])
        };
        let up = upstream().tool("t").shelf(&shelf()).run();
        let gw = run
            .gateway()
            .top("virtualServers: {some: {prompts: [\"up.review\"], resources: [\"up.file:///a*\"]}, only: {tools: [\"up.t\"]}}")
            .to("up", &up)
            .run();
        let names =
            |endpoint: &str, list: usize| names_in(&listed(gw.request(endpoint, LISTS[list].0)), list);
        assert_eq!(names("some", 0), Vec::<String>::new());
        assert_eq!(names("some", 1), ["review"]);
        assert_eq!(names("some", 2), ["file:///a"]);
        assert_eq!(names("some", 3), ["file:///a/{x}"]);
        for (list, (method, ..)) in LISTS.iter().enumerate().skip(1) {
            assert_eq!(names("only", list), Vec::<String>::new(), "{method}");
        }
        // At the hub of all, wrapped.
        assert_eq!(names("", 1), ["up__review", "up__secret"]);
        assert_eq!(names("", 2), ["up+file:///a", "up+file:///secret"]);
    });
}

/// Feature: a name that appears later through a pattern is held, the first keeps working.
#[test]
fn virtual_server_collisions() {
    everywhere(|run| {
        let (one, two) = (Shelf::of(&["run"]), Shelf::of(&["other"]).fresh_for(1000, "public"));
        let (first, second) = (
            upstream().tool("run").shelf(&one).run(),
            upstream().tool("run").tool("other").shelf(&two).run(),
        );
        let gw = run
            .gateway()
            .top("virtualServers: {exact: {tools: [\"first.run\", \"second.*\"]}, loose: {tools: [\"first.*\", \"second.*\"]}}")
            .to("first", &first)
            .to("second", &second)
            .run();
        let mut lister = Lister::new(gw.caller("exact"));
        assert_eq!(lister.tools(), ["run", "other"]);
        two.set(0, &["other", "run", "late"]);
        eventually("the new list is there", || lister.tools().contains(&"late".to_owned()));
        assert_eq!(lister.tools(), ["run", "other", "late"]);
        let call = gw.call("exact", "run");
        let token = call.token.clone();
        arrived(&call.send(), &token, &first, &[&second], "run");
        // Between patterns none is served: never "first wins".
        assert_eq!(tools(&gw, "loose"), ["other", "late"]);
        let call = gw.call("loose", "run");
        let token = call.token.clone();
        assert_eq!(call.send().code(), -32602);
        assert_eq!(first.mentions(&token) + second.mentions(&token), 0);
        // The operator hears of it: of this name, at this address.
        let count = |endpoint: &str| gw.metric("ringgate_name_collisions", &[endpoint]);
        assert_eq!((count("exact"), count("loose")), (0.0, 1.0));
        let line =
            || gw.stderr().lines().filter(|line| line.contains("several servers give this name")).count();
        eventually("it is logged", || line() == 1);
        assert!(gw.stderr().contains("\"servers\":\"first, second\""), "{}", gw.stderr());
        two.set(0, &["other"]);
        eventually("it is whole again", || {
            lister.tools();
            count("loose") == 0.0
        });
    });
}

/// Feature: the agent sees the new name and text, the server gets the original ones; rules and limits go by these.
#[test]
fn overrides() {
    everywhere(|run| {
        let shelf = Shelf::of(&["plain"]).with_tool(
            json!({"name": "list_issues", "description": "old", "x-kept": 1, "inputSchema": {"type": "object"}}),
        );
        let up = upstream().tool("plain").tool("list_issues").shelf(&shelf).run();
        let gw = run
            .gateway()
            .access("name: all, allow: [\"up.*\"]")
            .access("name: no, deny: [\"up.plain\"]")
            .limit("name: few, tools: [\"up.list_issues\"], key: server, rate: 1/hour, burst: 3")
            .top("virtualServers: {v: {tools: [\"up.list_issues\"], overrides: {\"up.list_issues\": {name: tickets}}}}")
            .with("up", &up, &["overrides: {list_issues: {name: list_tickets, description: \"new \\\"words\\\"\"}, plain: {name: other}}"])
            .run();
        for (endpoint, name) in [("", "up__list_tickets"), ("up", "list_tickets"), ("v", "tickets")] {
            let result = listed(gw.request(endpoint, "tools/list"));
            assert_eq!(names_in(&result, 0), [name], "{endpoint}: plain is denied under whatever name");
            assert_eq!(result["tools"][0]["description"], "new \"words\"", "{endpoint}");
            assert_eq!(result["tools"][0]["x-kept"], 1);
            for hidden in ["list_issues", "up__list_issues", "plain", "other", "up__other"] {
                let call = gw.call(endpoint, hidden);
                let token = call.token.clone();
                let answer = call.send();
                assert_eq!(
                    (answer.code(), up.mentions(&token)),
                    (-32602, 0),
                    "{endpoint} {hidden} {answer:?}"
                );
            }
            let call =
                gw.call(endpoint, name).argument("[1.50,12345678901234567890]").meta("a/b", "{\"c\" : 1.0}");
            let (token, body) = (call.token.clone(), call.body());
            arrived(&call.send(), &token, &up, &[], "list_issues");
            let came = up.once(&token);
            let sent = String::from_utf8(came.body).unwrap();
            if came.head.field("mcp-protocol-version") == Some(crate::support::call::MODERN) {
                assert_eq!(sent, body.replace(&format!("\"{name}\""), "\"list_issues\""), "{endpoint}");
            }
        }
        let limited = gw.call("", "up__list_tickets").send();
        limited.limited("limits.few");
    });
}

/// Feature: a server that is added to the file is listed by a running agent within 1 s of the reload, one that is removed
/// vanishes alike; no session ends, no connection drops.
#[test]
fn hot_registration() {
    everywhere(|run| {
        let (one, two) = (upstream().tool("a").run(), upstream().tool("b").run());
        let gw = run.gateway().to("one", &one).run();
        let mut agent = gw.caller("");
        agent.passes("one__a");
        let mut list = || {
            let request = agent.request("tools/list");
            let answer = agent.send(&request);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!answer.head.says_close());
            names_in(&answer.json()["result"], 0)
        };
        assert_eq!(list(), ["one__a"]);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        for (text, expected) in [
            (format!("{yaml}  two:\n    url: \"{}\"\n", two.url), &["one__a", "two__b"][..]),
            (yaml.clone(), &["one__a"]),
        ] {
            gw.reload(&text);
            let reloaded = Instant::now();
            eventually("the list has changed", || list() == expected);
            assert!(reloaded.elapsed() < Duration::from_secs(1), "{:?}", reloaded.elapsed());
        }
        let gone = agent.tool("two__b");
        assert_eq!(agent.send(&gone).code(), -32602);
        agent.passes("one__a");
    });
}

/// Feature: at `/mcp` JSON stays JSON, and unknown fields and large numbers of answers stay as they are.
#[test]
fn streamable_http() {
    everywhere(|run| {
        let odd = script::script(|connection, request| {
            let id = request.envelope();
            let text = format!(
                r#"{{"jsonrpc":"2.0","x-unknown":[1.50,1e400],"id":{},"result":{{"resultType":"complete","content":[],"big":12345678901234567890123,"float":1.000,"\u0061":"\u00e9","isError":false}}}}"#,
                id.raw_id()
            );
            script::send(connection, &script::plain(200, &text))
        });
        let up = upstream().on("odd", odd).on("events", script::stream(3)).run();
        let gw = run.gateway().to("up", &up).run();
        for id in ["9007199254740993", "\"a\\u0062\"", "-7"] {
            let answer = gw.call("", "up__odd").id(id).send();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.head.field("content-type"), Some("application/json"));
            let text = answer.text();
            for kept in [
                r#""x-unknown":[1.50,1e400]"#,
                r#""big":12345678901234567890123,"float":1.000,"\u0061":"\u00e9""#,
            ] {
                assert!(text.contains(kept), "{kept} is not in {text}");
            }
            assert!(text.contains(&format!("\"id\":{id},")), "{text}");
        }
        let answer = gw.call("", "up__events").send();
        assert!(answer.head.field("content-type").unwrap().starts_with("text/event-stream"), "{answer:?}");
        assert_eq!(answer.text().matches("notifications/progress").count(), 3, "{answer:?}");
        assert_eq!(answer.json()["result"]["isError"], false);
    });
}
