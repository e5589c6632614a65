//! Several limits at once, limits with conditions, and what is charged: one logical call, whatever the era.
//!
//! Not here: one limit alone (limits_rates), what answers say of limits (limits_headers).

use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::call::LEGACY;
use crate::support::client::Answer;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

/// Rates by the hour give nothing back within a test.
const HOUR: Duration = Duration::from_secs(3600);

/// Feature: 1,000 refusals by the server's bucket leave the agent's exactly as it was.
#[test]
fn limit_all_levels() {
    everywhere(|run| {
        let (up, free) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().agents(&["a"]);
        let gw = gw.limit("name: agent, key: principal, rate: 50/hour");
        let gw = gw.limit("name: server, servers: [up], key: server, rate: 5/hour");
        let gw = gw.to("up", &up).to("free", &free).run();
        let mut agent = gw.agent("a", "up");
        agent.exhaust(&up, "echo", "limits.server").is(5, HOUR / 5);
        for _ in 1..1000 {
            agent.send(&agent.tool("echo")).limited("limits.server");
        }
        assert_eq!(up.calls(), 5);
        gw.agent("a", "free").exhaust(&free, "echo", "limits.agent").is(45, HOUR / 50);
        assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"server\""]), 1000.0);
        assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"agent\""]), 1.0);
    });
}

/// Feature: of several exhausted limits the first in the order of the file names the refusal.
#[test]
fn limit_all_levels_in_file_order() {
    let limits = [("agent", "key: principal"), ("server", "key: server"), ("all", "key: gateway")];
    on_every_driver(|run| {
        for first in 0..limits.len() {
            let up = upstream().tool("echo").run();
            let mut order = limits;
            order.rotate_left(first);
            let gw = order.iter().fold(run.gateway().agents(&["a"]), |gw, (name, key)| {
                gw.limit(&format!("name: {name}, {key}, rate: 3/hour"))
            });
            let gw = gw.to("up", &up).run();
            gw.agent("a", "up").exhaust(&up, "echo", &format!("limits.{}", order[0].0)).is(3, HOUR / 3);
        }
    });
}

/// Feature: what eight agents at once take from their own buckets while they race for the last room of the
/// server's is given back where the race was lost.
#[test]
fn limit_all_levels_gives_back() {
    let names: Vec<String> = (0..8).map(|number| format!("agent-{number}")).collect();
    let principals: Vec<&str> = names.iter().map(String::as_str).collect();
    on_every_driver(|run| {
        let (up, free) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().agents(&principals);
        let gw = gw.limit("name: agent, key: principal, rate: 80/hour");
        let gw = gw.limit("name: server, servers: [up], key: server, rate: 120/hour");
        let gw = gw.to("up", &up).to("free", &free).run();
        let served = together(principals.len(), |number| {
            let mut agent = gw.agent(principals[number], "up");
            let calls = (0..70).map(|_| agent.tool("echo")).collect::<Vec<_>>();
            calls.iter().filter(|call| agent.send(call).status == 200).count()
        });
        assert_eq!((served.iter().sum::<usize>(), up.calls()), (120, 120), "{served:?}");
        for (name, served) in principals.iter().zip(served) {
            let left = 80 - u64::try_from(served).unwrap();
            gw.agent(name, "free").exhaust(&free, "echo", "limits.agent").is(left, HOUR / 80);
        }
    });
}

/// Feature: a limit of another method; methods that no limit names are free.
#[test]
fn limit_all_levels_methods() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]);
        let gw = gw.limit("name: reads, methods: [resources/read], key: principal, rate: 3/hour");
        let gw = gw.to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        let read = |agent: &Caller| read(run, agent);
        for _ in 0..3 {
            let call = read(&agent);
            assert_ne!(agent.send(&call).status, 429);
            up.once(&call.token);
        }
        agent.refused(&up, &read(&agent), "limits.reads");
        for _ in 0..10 {
            agent.passes("echo");
            let list = agent.request("tools/list");
            assert_eq!(agent.send(&list).status, 200);
        }
    });
}

/// A resources/read; the newer revision names the resource in the head too.
fn read(run: Run, agent: &Caller) -> Call {
    let call = agent.request("resources/read").member("uri", "\"file:///notes\"");
    match run.era {
        Era::Modern => call.field("Mcp-Name: file:///notes"),
        Era::Legacy => call,
    }
}

/// A limit of requests counts every POST: the older era pays for its handshake.
#[test]
fn limit_all_levels_counts_requests() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]);
        let gw = gw.limit("name: http, key: principal, count: requests, rate: 10/hour").to("up", &up).run();
        let handshake = if run.era == Era::Legacy { 2 } else { 0 };
        gw.agent("a", "up").exhaust(&up, "echo", "limits.http").is(10 - handshake, HOUR / 10);
    });
}

fn on_database(agent: &Caller, tool: &str, database: &str) -> Call {
    agent.tool(tool).given("database", database)
}

/// Feature: a condition over the call; what it does not match is free.
#[test]
fn limit_cel() {
    let when = r#"method == "tools/call" && tool == "run_sql_query" && args.database == "prod""#;
    everywhere(|run| {
        let db = upstream().tool("run_sql_query").tool("list_tables").run();
        let limit = format!("name: prod-sql, when: '{when}', key: principal, rate: 10/min");
        let gw = run.gateway().agents(&["a", "b"]).limit(&limit).to("db", &db).run();
        let mut agent = gw.agent("a", "db");
        for _ in 0..10 {
            assert_eq!(agent.send(&on_database(&agent, "run_sql_query", "\"prod\"")).status, 200);
        }
        agent.refused(&db, &on_database(&agent, "run_sql_query", "\"prod\""), "limits.prod-sql");
        for (tool, database) in [("run_sql_query", "\"dev\""), ("list_tables", "\"prod\"")] {
            assert_eq!(agent.send(&on_database(&agent, tool, database)).status, 200, "{tool} {database}");
        }
        let mut other = gw.agent("b", "db");
        assert_eq!(other.send(&on_database(&other, "run_sql_query", "\"prod\"")).status, 200);
    });
}

/// Feature: the lines that agentgateway's users write work as they stand.
#[test]
fn limit_cel_other_names() {
    everywhere(|run| {
        let db = upstream().tool("run_sql_query").tool("list_tables").run();
        let line = |tool: &str| format!(r#"body.method == "tools/call" && body.params.name == "{tool}""#);
        let mcp = r#"mcp.tool.name == "list_tables" && principal == "b""#;
        let gw = [
            format!("name: sql, when: '{}', key: principal, rate: 10/min", line("run_sql_query")),
            format!("name: tables, when: '{}', key: principal, rate: 200/min", line("list_tables")),
            format!("name: mcp, when: '{mcp}', key: principal, rate: 2/min"),
        ]
        .iter()
        .fold(run.gateway().agents(&["a", "b"]), |gw, limit| gw.limit(limit));
        let gw = gw.to("db", &db).run();
        let mut agent = gw.agent("a", "db");
        agent.exhaust(&db, "run_sql_query", "limits.sql").is(10, HOUR / 600);
        agent.exhaust(&db, "list_tables", "limits.tables").is(200, HOUR / 12_000);
        gw.agent("b", "db").exhaust(&db, "list_tables", "limits.mcp").is(2, HOUR / 120);
    });
}

/// Feature: what fails at run time does not match, and is counted: a missing field, a wrong type, more than
/// 1,000 steps.
#[test]
fn limit_cel_errors_match_nothing() {
    let many = (0..5000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let table = [
        ("field", r#"args.database == "prod""#, vec![None]),
        ("order", "args.database > 5", vec![None, Some(r#""text""#.to_owned()), Some("{}".to_owned())]),
        ("steps", "args.database.exists(x, x == 7000)", vec![Some(format!("[{many}]"))]),
    ];
    everywhere(|run| {
        for (name, when, values) in &table {
            let up = upstream().tool("echo").run();
            let limit = format!("name: {name}, when: '{when}', key: principal, rate: 1/hour");
            let gw = run.gateway().agents(&["a"]).limit(&limit).to("up", &up).run();
            let mut agent = gw.agent("a", "up");
            // A rule is where it stands in the configuration, as in `data.rule`.
            let rule = format!("{{rule=\"limits.{name}\"}}");
            let failures = || gw.metric("ringgate_cel_errors_total", &[&rule]);
            let mut count = 0.0;
            for value in values.iter().chain(values).chain(values) {
                let call = agent.tool("echo");
                let call = value.as_ref().map_or(call.clone(), |value| call.given("database", value));
                assert_eq!(agent.send(&call).status, 200, "{when}");
                count += 1.0;
                assert_eq!(failures(), count, "{when}");
            }
            assert_eq!(gw.metric("ringgate_limited_total", &[name]), 0.0);
        }
        // Within 1,000 steps the same loop finds what it looks for.
        let up = upstream().tool("echo").run();
        let limit = "name: few, when: 'args.database.exists(x, x == 7)', key: principal, rate: 1/hour";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        assert_eq!(agent.send(&on_database(&agent, "echo", "[5,6,7]")).status, 200);
        agent.refused(&up, &on_database(&agent, "echo", "[7]"), "limits.few");
        assert_eq!(agent.send(&on_database(&agent, "echo", "[8]")).status, 200);
    });
}

/// Feature: a bucket for each value of an expression; where it has none the limit does not match.
#[test]
fn limit_cel_keys() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: customer, key: args.database, rate: 2/hour";
        let gw = run.gateway().limit(limit).to("up", &up).run();
        let mut caller = gw.caller("up");
        for value in ["\"one\"", "\"two\"", "1", "\"1\"", "true"] {
            for _ in 0..2 {
                assert_eq!(caller.send(&on_database(&caller, "echo", value)).status, 200, "{value}");
            }
            caller.refused(&up, &on_database(&caller, "echo", value), "limits.customer");
        }
        (0..3).for_each(|_| drop(caller.passes("echo")));
    });
}

/// Feature: what cannot be decided safely is refused at load, with its place.
#[test]
fn limit_cel_bad_expressions() {
    let long = format!("tool == \"{}\"", "a".repeat(4096));
    let table = [
        ("a type error", "tool == 1", 8),
        ("no condition", "tool", 1),
        ("an unknown name", "tol == \"x\"", 1),
        ("syntax", "tool == ", 8),
        ("nested loops", "args.a.exists(x, args.b.exists(y, x == y))", 18),
        ("over 4 KiB", &long, 1),
    ];
    on_every_driver(|run| {
        for (name, when, column) in table {
            let limit = format!("name: bad, key: principal, rate: 1/s, when: '{when}'");
            let builder = run.gateway().limit(&limit).server("up", &["url: \"http://127.0.0.1:9/mcp\""]);
            let yaml = builder.yaml();
            let (line, text) = yaml.lines().enumerate().find(|(_, text)| text.contains("name: bad")).unwrap();
            let quote = text.find("when: '").unwrap() + "when: '".len();
            let command = builder.command();
            let (code, stderr) = builder.start(command).err().unwrap_or_else(|| panic!("{name} was taken"));
            assert_eq!(code, Some(1), "{name}: {stderr}");
            let place = format!("ringgate.yaml:{}:", line + 1);
            let found = stderr.split_once(&place).unwrap_or_else(|| panic!("{name}: no {place} in {stderr}"));
            let at: usize = found.1.split(':').next().unwrap().parse().unwrap();
            assert!(at >= quote, "{name}: column {at} is not in the expression: {stderr}");
            if name == "a type error" {
                assert!((quote + 1..=quote + column + 2).contains(&at), "{name}: column {at}: {stderr}");
            }
        }
    });
}

/// Feature: a legacy client's initialize, initialized, tools/list, tools/call, DELETE are one call.
#[test]
fn limit_logical_call() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: per-agent, key: principal, rate: 25/hour";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        for _ in 0..5 {
            let mut agent = gw.agent("a", "up");
            if run.era == Era::Legacy {
                let list = agent.request("tools/list");
                assert_eq!(agent.send(&list).status, 200);
            }
            let last = agent.tool("echo");
            assert_eq!(agent.send(&last).status, 200);
            if run.era == Era::Legacy {
                assert_eq!(delete(&gw, &last).status, 200);
            }
        }
        gw.agent("a", "up").exhaust(&up, "echo", "limits.per-agent").is(20, HOUR / 25);
    });
}

/// Each call of a batch is charged; one without room for all of it is refused whole.
#[test]
fn limit_logical_call_in_batches() {
    on_every_driver(|run| {
        let batches = script::script(|connection, _| script::send(connection, &script::plain(200, "[]")));
        let up = upstream().every(batches).run();
        let gw = run.gateway().limit("name: all, key: gateway, rate: 8/hour").to("up", &up).run();
        let batch = || {
            let calls = [(); 3].map(|()| Call::tool(gw.address, Era::Legacy, "up", "echo"));
            let raw = calls[0].raw().without("mcp-protocol-version");
            let body = calls.iter().map(Call::body).collect::<Vec<_>>().join(",");
            let answer = gw.client().talk(&raw.body(format!("[{body}]")).bytes()).unwrap();
            let came = calls.iter().filter(|call| up.mentions(&call.token) > 0).count();
            (answer.status, came)
        };
        assert_eq!([batch(), batch(), batch()], [(200, 3), (200, 3), (429, 0)]);
        let batches = up.requests().into_iter().filter(|request| request.body.starts_with(b"[")).count();
        assert_eq!(batches, 2);
        // Nothing of the refused one was kept: there is room for two.
        let status = |_| gw.modern("up", "echo").send().status;
        assert_eq!([(); 3].map(status), [200, 200, 429]);
    });
}

/// Ends the session of that call.
fn delete(gw: &Gateway, like: &Call) -> Answer {
    let line = format!("DELETE {} HTTP/1.1", like.target);
    let raw = like.raw().line(line).body("").without_length().without("content-type");
    gw.client().talk(&raw.bytes()).unwrap()
}

/// Asks for a session, and nothing more.
fn initialize(gw: &Gateway, agent: Option<&str>) -> (Call, Answer) {
    let call = Call::new(gw.address, Era::Legacy, "up", "initialize").member("capabilities", "{}");
    let call = call.member("protocolVersion", &format!("\"{LEGACY}\""));
    let call = call.member("clientInfo", r#"{"name":"test","version":"1"}"#);
    let call = agent.map_or(call.clone(), |name| gw.keyed(name, call));
    let answer = gw.client().talk(&call.raw().without("mcp-protocol-version").bytes()).unwrap();
    (call, answer)
}

/// Handshakes until one is refused.
fn handshakes(gw: &Gateway, up: &Upstream, agent: Option<&str>, every: Duration) -> (u64, u64) {
    let start = Instant::now();
    for passed in 0..100 {
        let (call, answer) = initialize(gw, agent);
        if answer.status == 200 {
            continue;
        }
        answer.limited("limits.handshakes");
        assert_eq!(up.mentions(&call.token), 0, "reached the upstream");
        return (passed, u64::try_from(start.elapsed().as_nanos() / every.as_nanos()).unwrap());
    }
    panic!("100 handshakes at once");
}

/// Feature: the 26th initialize at once is refused, for each agent by itself, or for each address where
/// callers have no identity; calls are free of it.
#[test]
fn limit_logical_call_handshakes() {
    let every = Duration::from_millis(400);
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a", "b"]).to("up", &up).run();
        let (passed, back) = handshakes(&gw, &up, Some("a"), every);
        assert!((25..=25 + back).contains(&passed), "{passed}, {back} back");
        assert_eq!(initialize(&gw, Some("b")).1.status, 200);
        gw.agent("a", "up").passes("echo");
        let gw = run.gateway().to("up", &up).run();
        let (passed, back) = handshakes(&gw, &up, None, every);
        assert!((25..=25 + back).contains(&passed), "{passed}, {back} back");
        gw.caller("up").passes("echo");
    });
}

/// Lists are free of limits of calls, and have one of their own: 10,000 at once, for each agent by itself.
#[test]
fn limit_logical_call_lists() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let one = "name: one, key: principal, rate: 1/hour";
        let gw = run.gateway().agents(&["a", "b"]).limit(one).to("up", &up).run();
        let lists = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
        let (start, passed, refused) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
        // A thousand a second come back: one connection is not always faster.
        together(lists.len(), |number| {
            let mut agent = gw.agent("a", "up");
            while !refused.load(SeqCst) && passed.load(SeqCst) < 100_000 {
                let list = agent.request(lists[number]);
                match agent.send(&list).status {
                    429 => refused.store(true, SeqCst),
                    _ => drop(passed.fetch_add(1, SeqCst)),
                }
            }
        });
        let passed = passed.into_inner();
        let back = u64::try_from(start.elapsed().as_millis()).unwrap() + 1;
        assert!((10_000..=10_000 + back).contains(&passed), "{passed}, {back} back");
        let other = gw.agent("b", "up").request("tools/list");
        assert_ne!(gw.agent("b", "up").send(&other).status, 429);
        gw.agent("a", "up").passes("echo");
    });
}

/// An operator's own limit of that name takes the place of the one that is built in.
#[test]
fn limit_logical_call_own_handshakes() {
    on_every_driver(|run| {
        let up = upstream().run();
        let own = "name: handshakes, methods: [initialize], key: principal, rate: 40/hour";
        let gw = run.gateway().agents(&["a"]).limit(own).to("up", &up).run();
        assert_eq!(handshakes(&gw, &up, Some("a"), HOUR / 40).0, 40);
    });
}

/// Feature: `server/discover` is never limited, whatever the limits say and however exhausted they are.
#[test]
fn limit_logical_call_discover_is_free() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]);
        let gw = gw.limit(r#"name: every, methods: ["*"], key: principal, rate: 2/hour"#);
        let gw = gw.limit("name: http, key: principal, count: requests, rate: 4/hour").to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        (0..2).for_each(|_| drop(agent.passes("echo")));
        for _ in 0..50 {
            let discover = agent.request("server/discover");
            let answer = agent.send(&discover);
            assert!(answer.status == 200 && answer.code() == 0, "{answer:?}");
        }
        agent.refused(&up, &agent.tool("echo"), "limits.every");
    });
}
