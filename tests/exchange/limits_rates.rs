//! Limits one at a time, by agent, tool and server: what passes, what is refused and how, and that a
//! refused call never reaches the upstream.
//!
//! Not here: several limits at once (limits_together), quotas and tokens (limits_kept), load (limits_flood).

use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

const SECOND: Duration = Duration::from_secs(1);

fn per_agent(run: Run, up: &Upstream) -> Gateway {
    let limit = "name: per-agent, key: principal, rate: 60/min, burst: 25";
    run.gateway().agents(&["a", "b"]).limit(limit).to("up", up).run()
}

/// Feature: 25 calls at once, then one a second, for each agent by itself; each refusal is counted.
#[test]
fn limit_per_agent() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = per_agent(run, &up);
        let mut agent = gw.agent("a", "up");
        let mut other = gw.agent("b", "up");
        let spent = agent.exhaust(&up, "echo", "limits.per-agent");
        spent.is(25, SECOND);
        let wait = spent.refusal.limited("limits.per-agent");
        assert!(wait <= SECOND, "{wait:?}");
        assert_eq!(spent.refusal.number("retry-after"), 1);
        other.passes("echo");
        // A client that waits as it was told; before that the agent stays refused, after it one call passes.
        pace(wait);
        agent.passes("echo");
        let next = agent.exhaust(&up, "echo", "limits.per-agent");
        next.with(spent.passed + 1, spent.start).is(25, SECOND);
        other.passes("echo");
        assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"per-agent\""]), 2.0);
    });
}

/// Feature: over any time T at most rate·T and the burst, and no less where a call always waits.
#[test]
fn limit_per_agent_over_time() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: per-agent, key: principal, rate: 40/s";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        let every = SECOND / 40;
        let first = agent.exhaust(&up, "echo", "limits.per-agent");
        let mut passed = first.passed;
        while first.end.elapsed() < SECOND {
            let spent = agent.exhaust(&up, "echo", "limits.per-agent");
            passed += spent.passed;
            assert!(passed <= 40 + whole(first.start.elapsed(), every), "{passed}: {spent:?}");
            // The bucket was empty at the refusal: all that the time before had given was taken.
            let given = 40 + whole(spent.start.duration_since(first.end), every);
            assert!(passed + 1 >= given, "{passed} of {given}: {spent:?}");
        }
    });
}

fn whole(time: Duration, every: Duration) -> u64 {
    u64::try_from(time.as_nanos() / every.as_nanos()).unwrap()
}

/// Feature: within one clock minute 60 of 61 calls pass a quota of 60 a minute. Another agent, where the
/// minute turned between the first and the last of them.
#[test]
fn limit_per_agent_hard_cap() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: hard-cap, key: principal, quota: 60/min";
        let gw = run.gateway().agents(&["a", "b", "c"]).limit(limit).to("up", &up).run();
        let whole_minute = ["a", "b"].into_iter().any(|principal| {
            let mut agent = gw.agent(principal, "up");
            let minute = unix_seconds() / 60;
            let spent = agent.exhaust(&up, "echo", "limits.hard-cap");
            let seconds = unix_seconds();
            if seconds / 60 != minute {
                return false;
            }
            assert_eq!(spent.passed, 60);
            let (wait, left) = (spent.refusal.number("retry-after"), 60 - seconds % 60);
            assert!((1..=60).contains(&wait) && wait.abs_diff(left) <= 1, "{wait} of {left} s");
            true
        });
        assert!(whole_minute, "the minute turned within 61 calls, twice");
        gw.agent("c", "up").passes("echo");
    });
}

/// Feature: a quota begins anew with the clock minute. Plain runs do not wait for one.
#[test]
fn limit_per_agent_hard_cap_turns_over() {
    if !size(false, true) {
        return;
    }
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: hard-cap, key: principal, quota: 60/min";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        let refusal = agent.exhaust(&up, "echo", "limits.hard-cap").refusal;
        pace(refusal.limited("limits.hard-cap"));
        let minute = unix_seconds() / 60;
        let spent = agent.exhaust(&up, "echo", "limits.hard-cap");
        assert!(spent.passed == 60 || unix_seconds() / 60 != minute, "{spent:?}");
    });
}

fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Feature: a tool has its own limit; another tool of the same agent does not feel it.
#[test]
fn limit_per_tool() {
    everywhere(|run| {
        let db = upstream().tool("run_sql").tool("list_tables").run();
        let sql = r#"name: sql, tools: ["db.run_sql"], key: principal, rate: 10/min"#;
        let tables = r#"name: tables, tools: ["db.list_tables"], key: principal, rate: 200/min"#;
        let gw = run.gateway().agents(&["a", "b"]).limit(sql).limit(tables).to("db", &db).run();
        let mut agent = gw.agent("a", "db");
        agent.exhaust(&db, "run_sql", "limits.sql").is(10, 6 * SECOND);
        let start = Instant::now();
        agent.passes("list_tables");
        gw.agent("b", "db").passes("run_sql");
        let tables = agent.exhaust(&db, "list_tables", "limits.tables");
        tables.with(1, start).is(200, SECOND * 60 / 200);
        assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"sql\""]), 1.0);
        assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"tables\""]), 1.0);
    });
}

/// Feature: all tools of a pattern in one bucket, or each in its own, as the key says.
#[test]
fn limit_per_tool_pattern() {
    everywhere(|run| {
        let tools = || upstream().tool("delete_row").tool("delete_table").tool("read").run();
        let (db, files) = (tools(), tools());
        let shared = r#"name: shared, tools: ["db.delete_*"], key: principal, rate: 4/hour"#;
        let each = r#"name: each, tools: ["files.delete_*"], key: [principal, tool], rate: 4/hour"#;
        let gw = run.gateway().agents(&["a", "b"]).limit(shared).limit(each);
        let gw = gw.to("db", &db).to("files", &files).run();
        let mut agent = gw.agent("a", "db");
        for tool in ["delete_row", "delete_table", "delete_row", "delete_table"] {
            agent.passes(tool);
        }
        for tool in ["delete_row", "delete_table"] {
            agent.refused(&db, &agent.tool(tool), "limits.shared");
        }
        agent.passes("read");
        gw.agent("b", "db").passes("delete_row");
        let mut agent = gw.agent("a", "files");
        for tool in ["delete_row", "delete_table"] {
            agent.exhaust(&files, tool, "limits.each").is(4, 900 * SECOND);
        }
        agent.passes("read");
        gw.agent("b", "files").passes("delete_table");
    });
}

/// Feature: of 1,200 calls that twenty agents send at one instant 1,000 pass, whoever sent them, and what
/// is refused says that it is everybody's limit. One more for each 60 ms that this takes.
#[test]
fn limit_per_server() {
    let names: Vec<String> = (0..20).map(|number| format!("agent-{number}")).collect();
    let principals: Vec<&str> = names.iter().map(String::as_str).collect();
    everywhere(|run| {
        let (github, slack) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().agents(&principals);
        let gw = gw.limit("name: github-total, servers: [github], key: server, rate: 1000/min");
        let gw = gw.to("github", &github).to("slack", &slack).run();
        let agents: Vec<Caller> = principals.iter().map(|name| gw.agent(name, "github")).collect();
        let start = Instant::now();
        let answers = together(agents.len(), |number| {
            let mut agent = agents[number].beside();
            let calls = (0..60).map(|_| agent.tool("echo")).collect::<Vec<_>>();
            calls.into_iter().map(|call| (agent.send(&call), call.token)).collect::<Vec<_>>()
        });
        let back = whole(start.elapsed(), SECOND * 60 / 1000);
        let (passed, refused): (Vec<_>, Vec<_>) =
            answers.iter().flatten().partition(|(answer, _)| answer.status == 200);
        assert!((1000..=1000 + back).contains(&(passed.len() as u64)), "{} and {back} back", passed.len());
        for (answer, token) in refused {
            answer.limited("limits.github-total");
            assert_eq!(github.mentions(token), 0, "reached the upstream");
        }
        assert_eq!(github.calls(), passed.len());
        for name in &principals {
            gw.keyed(name, gw.modern("slack", "echo")).send().json()["result"].as_object().unwrap();
        }
    });
}

/// Feature: one bucket for a group of servers.
#[test]
fn limit_per_server_group() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let group = "name: group, servers: [a, b], key: gateway, rate: 6/hour";
        let gw = run.gateway().agents(&["one", "two"]).limit(group);
        let gw = gw.to("a", &up).to("b", &up).to("c", &up).run();
        let mut callers = [gw.agent("one", "a"), gw.agent("two", "b")];
        for _ in 0..3 {
            callers.iter_mut().for_each(|caller| drop(caller.passes("echo")));
        }
        for caller in &mut callers {
            caller.refused(&up, &caller.tool("echo"), "limits.group");
        }
        gw.agent("one", "c").passes("echo");
    });
}

/// Who else feels that agent `a` has used up `db.query`: `b` there, `a` at another server, `a` with another
/// tool, `a` from another address.
const KEYS: &[(&str, [bool; 4])] = &[
    ("principal", [false, true, true, true]),
    ("server", [true, false, true, true]),
    ("tool", [true, false, false, true]),
    ("source", [true, true, true, false]),
    ("tenant", [true, true, true, true]),
    ("gateway", [true, true, true, true]),
    ("[principal, tool]", [false, false, false, true]),
    ("[principal, server]", [false, false, true, true]),
    ("[source, server]", [true, false, true, false]),
    ("principal + tool", [false, true, false, true]),
];

/// Feature: calls share a bucket where all parts of the key are equal, and only there; two limits never do. Each
/// limit has two servers of its own.
#[test]
fn limit_per_agent_and_other_keys() {
    everywhere(|run| {
        let up = upstream().tool("query").tool("list").run();
        let gw = KEYS.iter().enumerate().fold(run.gateway().agents(&["a", "b"]), |gw, (number, (key, _))| {
            let [db, files] = [format!("db{number}"), format!("files{number}")];
            gw.limit(&format!("name: l{number}, servers: [{db}, {files}], key: {key}, rate: 2/hour"))
                .to(&db, &up)
                .to(&files, &up)
        });
        // The handshakes of this test alone are more than the built-in limit lets through.
        let gw = gw.limit("name: handshakes, methods: [initialize], key: principal, rate: 100/s").run();
        for (number, (key, expected)) in KEYS.iter().enumerate() {
            let [db, files] = [format!("db{number}"), format!("files{number}")];
            let rule = format!("limits.l{number}");
            let mut agent = gw.agent("a", &db);
            agent.exhaust(&up, "query", &rule).is(2, 1800 * SECOND);
            let others = [
                (gw.agent("b", &db), "query"),
                (gw.agent("a", &files), "query"),
                (agent.beside(), "list"),
                (agent.beside_from([127, 0, 0, 2]), "query"),
            ];
            let felt = others.map(|(mut other, tool)| match other.send(&other.tool(tool)) {
                answer if answer.status == 200 => false,
                answer => !answer.limited(&rule).is_zero(),
            });
            assert_eq!(felt, *expected, "key: {key}");
        }
    });
}

/// A reload keeps what was used of a limit that is still there, and the new numbers hold at once.
#[test]
fn limit_per_agent_outlives_a_reload() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a"]).limit("name: kept, key: principal, rate: 5/hour");
        let gw = gw.limit("name: gone, key: principal, rate: 50/hour").to("up", &up).run();
        let mut agent = gw.agent("a", "up");
        (0..3).for_each(|_| drop(agent.passes("echo")));
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&yaml.replace("name: gone", "name: new"));
        agent.exhaust(&up, "echo", "limits.kept").is(2, 720 * SECOND);
    });
}
