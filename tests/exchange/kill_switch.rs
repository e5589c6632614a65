//! The kill switch, as an operator turns it: whom it stops, how fast, what it cuts, and that it is kept.
//!
//! Not here: limits, and the command's words (tests/cli.rs).

use crate::secrets::key_command;
use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use std::time::Instant;

/// Within which a kill acts on every worker.
const ACTS: Duration = Duration::from_millis(100);
/// Within which running streams are cut.
const CUTS: Duration = Duration::from_secs(1);

fn bench(run: Run, db: &Upstream, files: &Upstream) -> Builder {
    let builder = run.gateway();
    let state = format!("state: {{dir: \"{}\"}}", builder.folder.path().join("state").display());
    builder.agents(&["agent-7", "agent-8"]).top(state).to("db", db).to("files", files)
}

fn database() -> Upstream {
    upstream().tool("query").tool("list").run()
}

#[track_caller]
fn is_killed(answer: &Answer) {
    answer.refused(403, "killed");
    assert_eq!(answer.code(), -33403, "{answer:?}");
}

/// Who is killed, and which (agent, server, tool) that stops.
type Row = (&'static [&'static str], fn(&str, &str, &str) -> bool);

const KILLS: &[Row] = &[
    (&["principal", "agent-7"], |agent, _, _| agent == "agent-7"),
    (&["server", "db"], |_, server, _| server == "db"),
    (&["tool", "db.query"], |_, server, tool| (server, tool) == ("db", "query")),
    (&["tenant", "acme"], |_, _, _| false),
    (&["all"], |_, _, _| true),
];

/// Connections of every agent to every server, on every worker: of 16 all on one of two is 1 in 2¹⁵.
fn callers(gw: &Gateway) -> Vec<(&'static str, &'static str, Vec<Caller>)> {
    let pairs = [("agent-7", "db"), ("agent-7", "files"), ("agent-8", "db"), ("agent-8", "files")];
    let several = |(agent, server)| {
        let first = gw.agent(agent, server);
        let mut all: Vec<Caller> = (0..15).map(|_| first.beside()).collect();
        all.push(first);
        all.iter_mut().for_each(|caller| drop(caller.passes("list")));
        (agent, server, all)
    };
    pairs.into_iter().map(several).collect()
}

/// Feature: what is killed is refused on every worker within 100 ms, all else goes on; `unkill` reverses it.
#[test]
fn kill_switch() {
    everywhere(|run| {
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        let mut callers = callers(&gw);
        for (words, stops) in KILLS {
            gw.operate(&[&["kill"], *words, &["--reason", "it runs away"]].concat());
            judge(&mut callers, (&db, &files), stops);
            gw.operate(&[&["unkill"], *words].concat());
            judge(&mut callers, (&db, &files), &|_, _, _| false);
        }
    });
}

/// After the time in which a change acts: on every connection, exactly what `stops` names is refused.
fn judge(
    callers: &mut [(&'static str, &'static str, Vec<Caller>)],
    (db, files): (&Upstream, &Upstream),
    stops: &dyn Fn(&str, &str, &str) -> bool,
) {
    let changed = Instant::now();
    while changed.elapsed() < ACTS {
        let caller = &mut callers[0].2[0];
        caller.send(&caller.tool("list"));
    }
    for (agent, server, callers) in callers {
        for (caller, tool) in callers.iter_mut().zip(["query", "list"].into_iter().cycle()) {
            let up = if *server == "db" { db } else { files };
            let call = caller.tool(tool);
            let answer = caller.send(&call);
            if stops(agent, server, tool) {
                is_killed(&answer);
                assert_eq!(up.mentions(&call.token), 0, "reached the upstream");
            } else {
                assert_eq!(answer.status, 200, "{agent} {server}.{tool}: {answer:?}");
                up.once(&call.token);
            }
        }
    }
}

/// The head of a stream that says nothing more, and the same stream when its gate opens.
fn streams(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    let gated = script::script(move |connection, request| {
        connection.send(script::STREAM);
        gate.wait();
        script::send(connection, &script::last_event(request))
    });
    let silent = script::script(|connection, _| {
        connection.send(script::STREAM);
        connection.send(&script::progress(1));
        connection.until_gone();
        crate::support::upstream::Next::Close
    });
    upstream().on("gated", gated).on("silent", silent).tool("list").run()
}

/// A stream of that agent whose head has come.
fn open(gw: &Gateway, agent: &str, server: &str, tool: &str) -> Client {
    let mut client = gw.keyed(agent, gw.call(server, tool)).open();
    assert_eq!(client.head().unwrap().status(), 200);
    client
}

/// When the stream was ended, by a kill of this kind or else with its key: by the refusal as its last message or as a visible cut, never like a whole
/// answer.
fn cut(client: &mut Client, kind: Option<&str>) -> Instant {
    match client.event() {
        Ok(Some((when, event))) => {
            is_the_refusal(&event, kind);
            is_over(client);
            when
        }
        Ok(None) => panic!("it ended as if it were whole"),
        Err(Broken::Cut { .. } | Broken::Reset(_)) => Instant::now(),
        Err(other) => panic!("{other:?}"),
    }
}

/// No message comes after the last one; whether the stream ends well or is cut then is not said.
#[track_caller]
fn is_over(client: &mut Client) {
    let more = client.event();
    assert!(matches!(more, Ok(None) | Err(Broken::Cut { .. } | Broken::Reset(_))), "{more:?}");
}

#[track_caller]
fn is_the_refusal(event: &str, kind: Option<&str>) {
    let data = event.lines().find_map(|line| line.strip_prefix("data:")).expect(event);
    let message: Value = serde_json::from_str(data).unwrap();
    let error = &message["error"];
    let said = (&message["id"], &error["code"], &error["data"]["reason"]);
    assert_eq!(said, (&1.into(), &(-33403).into(), &"killed".into()), "{event}");
    let rule = kind.map_or(Value::Null, |kind| format!("kill.{kind}").into());
    assert_eq!(error["data"]["rule"], rule, "not as a refusal before the head: {event}");
}

/// Feature: running streams of what is killed end within 1 s, their upstream calls with them; those of others go on.
#[test]
fn kill_switch_cuts_streams() {
    everywhere(|run| {
        for words in [&["principal", "agent-7"][..], &["server", "db"], &["tool", "db.silent"], &["all"]] {
            let gate = Gate::default();
            let (db, files) = (streams(&gate), streams(&gate));
            let gw = bench(run, &db, &files).run();
            let mut silent: Vec<Client> = (0..8).map(|_| open(&gw, "agent-7", "db", "silent")).collect();
            silent.iter_mut().for_each(|client| assert!(client.event().unwrap().is_some()));
            let mut other = open(&gw, "agent-8", "files", "gated");
            gw.operate(&[&["kill"], words].concat());
            let killed = Instant::now();
            for client in &mut silent {
                let took = cut(client, Some(words[0])).duration_since(killed);
                assert!(took < CUTS, "{words:?}: cut after {took:?}");
            }
            eventually("the upstream calls are ended", || db.open() <= 1);
            if words == ["all"] {
                cut(&mut other, Some(words[0]));
                continue;
            }
            gate.open();
            assert!(other.event().unwrap().unwrap().1.contains("result"), "{words:?}");
            assert_eq!(other.event(), Ok(None));
        }
    });
}

/// A revoked key's streams went on for as long as their servers liked. Those of the same agent by another key go on.
#[test]
fn a_revocation_cuts_streams() {
    everywhere(|run| {
        let gate = Gate::default();
        let (db, files) = (streams(&gate), streams(&gate));
        let gw = bench(run, &db, &files).run();
        let keys = gw.builder.folder.path().join("keys.yaml");
        let mut silent: Vec<Client> = (0..8).map(|_| open(&gw, "agent-7", "db", "silent")).collect();
        silent.iter_mut().for_each(|client| assert!(client.event().unwrap().is_some()));
        let mut other = open(&gw, "agent-8", "db", "gated");
        key_command(&keys, &["revoke", "--principal", "agent-7"]);
        let revoked = Instant::now();
        for client in &mut silent {
            let took = cut(client, None).duration_since(revoked);
            assert!(took < CUTS, "cut after {took:?}");
        }
        eventually("the upstream calls are ended", || db.open() <= 1);
        gate.open();
        assert!(other.event().unwrap().unwrap().1.contains("result"));
        assert_eq!(other.event(), Ok(None));
    });
}

/// A call whose key was revoked while its body came is none: nothing would cut its stream later.
#[test]
fn a_key_that_is_revoked_within_a_call_is_refused() {
    on_every_driver(|run| {
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        let keys = gw.builder.folder.path().join("keys.yaml");
        let call = gw.keyed("agent-7", gw.modern("db", "list"));
        let bytes = call.raw().bytes();
        let (most, rest) = bytes.split_at(bytes.len() - 10);
        let mut client = gw.client();
        client.send(most);
        key_command(&keys, &["revoke", "--principal", "agent-7"]);
        let refused = || gw.keyed("agent-7", gw.modern("db", "list")).send().status == 401;
        eventually("the key is refused", refused);
        client.send(rest);
        client.answer().refused(401, "unauthenticated");
        assert_eq!(db.mentions(&call.token), 0, "reached the upstream");
    });
}

/// Feature: the last message of a killed stream says so, where it stands between two events.
#[test]
fn kill_switch_is_the_last_message() {
    everywhere(|run| {
        let gate = Gate::default();
        let (db, files) = (streams(&gate), streams(&gate));
        let gw = bench(run, &db, &files).run();
        let mut client = open(&gw, "agent-7", "db", "silent");
        assert!(client.event().unwrap().unwrap().1.contains("progress"));
        gw.operate(&["kill", "principal", "agent-7"]);
        is_the_refusal(&client.event().unwrap().expect("the stream just ended").1, Some("principal"));
        is_over(&mut client);
    });
}

/// A call whose answer has not begun is refused within 1 s, and its upstream call ended.
#[test]
fn kill_switch_ends_waiting_calls() {
    everywhere(|run| {
        let (script, gone) = script::watched(b"");
        let (db, files) = (upstream().on("silent", script).run(), database());
        let gw = bench(run, &db, &files).run();
        let call = gw.keyed("agent-7", gw.call("db", "silent"));
        let token = call.token.clone();
        let mut client = call.open();
        db.until_called(&token);
        gw.operate(&["kill", "principal", "agent-7"]);
        let killed = Instant::now();
        let answer = client.answer();
        is_killed(&answer);
        assert_eq!(answer.json()["error"]["data"]["rule"], "kill.principal");
        assert!(killed.elapsed() < CUTS, "ended after {:?}", killed.elapsed());
        let left = gone.recv_timeout(crate::support::PATIENCE).unwrap();
        assert!(left.duration_since(killed) < CUTS, "the upstream waited on");
    });
}

/// A call whose body still comes when the switch is turned is refused, and nothing of it reaches the upstream.
#[test]
fn kill_switch_stops_calls_that_still_arrive() {
    everywhere(|run| {
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        let call = gw.keyed("agent-7", gw.call("db", "list")).in_session();
        let bytes = call.raw().bytes();
        let (front, back) = bytes.split_at(bytes.len() - 10);
        let mut client = gw.client();
        client.send(front);
        gw.operate(&["kill", "tool", "db.list"]);
        client.send_more(back);
        is_killed(&client.answer());
        assert_eq!(db.mentions(&call.token), 0, "reached the upstream");
    });
}

/// A client's standing GET stream of the older revisions is a running stream too.
#[test]
fn kill_switch_cuts_get_streams() {
    crate::support::drivers().into_iter().for_each(|driver| {
        let run = Run { driver, era: Era::Legacy };
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        let listen = |agent: &str| {
            let call = gw.keyed(agent, gw.call("db", "list")).in_session();
            let get = call.raw().line("GET /mcp/db HTTP/1.1").body("").without_length();
            let mut client = gw.client();
            client.send(&get.without("content-type").bytes());
            assert_eq!(client.head().unwrap().status(), 200);
            client
        };
        let (mut cut, mut other) = (listen("agent-7"), listen("agent-8"));
        gw.operate(&["kill", "principal", "agent-7"]);
        let killed = Instant::now();
        drop(cut.rest());
        assert!(killed.elapsed() < CUTS, "cut after {:?}", killed.elapsed());
        assert!(other.is_quiet(), "another's stream was cut");
    });
}

/// Feature: kept before it is acknowledged, so that neither an end nor a crash forgets it; nor a reload.
#[test]
fn kill_switch_survives() {
    everywhere(|run| {
        let (db, files) = (database(), database());
        let mut gw = bench(run, &db, &files).run();
        let stopped = |gw: &Gateway| {
            let [call, other] = [("agent-7", "db"), ("agent-8", "files")]
                .map(|(agent, server)| keyed_modern(gw, agent, server));
            let token = call.token.clone();
            is_killed(&call.send());
            assert_eq!(db.mentions(&token), 0, "reached the upstream");
            assert_eq!(other.send().status, 200);
        };
        gw.operate(&["kill", "principal", "agent-7", "--reason", "it runs away"]);
        gw.restart(Signal::KILL);
        stopped(&gw);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&format!("{yaml}  more:\n    url: \"{}\"\n", db.url));
        stopped(&gw);
        gw.restart(Signal::TERM);
        stopped(&gw);
        gw.operate(&["unkill", "principal", "agent-7"]);
        let served = || keyed_modern(&gw, "agent-7", "db").send().status == 200;
        assert!(crate::support::within(ACTS, served), "still killed");
        gw.restart(Signal::KILL);
        assert_eq!(keyed_modern(&gw, "agent-7", "db").send().status, 200);
    });
}

fn keyed_modern(gw: &Gateway, agent: &str, server: &str) -> Call {
    gw.keyed(agent, gw.modern(server, "list"))
}

/// Feature: who turned it, on whom and why is logged, in both directions.
#[test]
fn kill_switch_is_logged() {
    on_every_driver(|run| {
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        let operator = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
        for (verb, reason) in [("kill", "it runs away"), ("unkill", "mended")] {
            let before = gw.stderr().len();
            gw.operate(&[verb, "principal", "agent-7", "--reason", reason]);
            let line = || {
                let said = gw.stderr();
                let line = said[before..].lines().find(|line| line.contains("agent-7")).map(str::to_owned);
                line.filter(|line| operator.as_ref().is_ok_and(|who| line.contains(who)) || operator.is_err())
            };
            eventually("the log names whom, by whom", || line().is_some());
            if verb == "kill" {
                assert!(line().unwrap().contains(reason), "{:?}", line());
            }
        }
        // Who has no name in the environment has none here, in both directions.
        for (method, path, body) in [
            ("POST", "/api/v1/kills", r#"{"kind":"principal","name":"agent-8","operator":""}"#),
            ("DELETE", "/api/v1/kills/principal/agent-8?operator=&reason=", ""),
        ] {
            let before = gw.stderr().len();
            assert_eq!(gw.api(method, path, body).status, 200);
            let said = || gw.stderr()[before..].to_owned();
            eventually("it is logged", || said().contains("agent-8"));
            assert!(said().contains(r#""operator":"unknown""#), "{method}: {}", said());
        }
    });
}

/// A kill that cannot be meant changes nothing, and says so.
#[test]
fn kill_switch_mistakes_are_refused() {
    on_every_driver(|run| {
        let (db, files) = (database(), database());
        let gw = bench(run, &db, &files).run();
        for words in
            [&["kill"][..], &["kill", "principal"], &["kill", "nothing", "x"], &["kill", "tool", "query"]]
        {
            let output = gw.try_operate(words);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{words:?}: {output:?}");
            assert!(!output.stderr.is_empty(), "{words:?}: no word of the cause");
        }
        assert_eq!(keyed_modern(&gw, "agent-7", "db").send().status, 200);
        assert_eq!(keyed_modern(&gw, "agent-8", "files").send().status, 200);
    });
}
