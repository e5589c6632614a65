//! Features `route`, `rollout` and the modern half of `balance_affinity`: which pool, and which instance of it, by what
//! a call says and who makes it.
//!
//! Not here: pools that are out (route_failover), and the shares over many callers (`policy::routing`).

use crate::route_health::EJECTS;
use crate::support::Era;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::gateway::instances;
use crate::support::line::Line;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;

fn echo() -> Upstream {
    upstream().tool("echo").run()
}

/// A pool for everybody and one for `eu`, with these lines.
fn regions(run: Run, lines: &[&str]) -> (Upstream, Upstream, Gateway) {
    let (us, eu) = (echo(), echo());
    let pools = format!("pools: {{us: {{url: \"{}\"}}, eu: {{url: \"{}\"}}}}", us.url, eu.url);
    let gw = run.gateway().workers(1).server("up", &[&[pools.as_str()], lines].concat()).run();
    (us, eu, gw)
}

/// Feature: "region eu reaches pool `eu` in 1,000 of 1,000 calls, an evaluation error falls through": to the next rule here.
#[test]
fn route() {
    let calls = size(200, 1_000);
    everywhere(|run| {
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}, {when: 'args.n > 2', pool: eu}]"#;
        let (us, eu, gw) = regions(run, &[rules]);
        let mut line = Line::new(gw.call("", "up__echo").in_session());
        let mut make = |name: &str, value: &str| {
            let call = line.next().given(name, value);
            assert_eq!(line.make(&call).unwrap().status, 200);
        };
        (0..calls).for_each(|_| make("region", "\"eu\""));
        assert_eq!((us.calls(), eu.calls()), (0, calls));
        (0..10).for_each(|_| make("region", "\"us\""));
        assert_eq!((us.calls(), eu.calls()), (10, calls));
        let failed = |rule: usize| {
            let rule = format!("rule=\"mcpServers.up.route[{rule}]\"");
            gw.metric("ringgate_cel_errors_total", &[rule.as_str()])
        };
        // Those of another region have no `n`.
        assert_eq!((failed(0), failed(1)), (0.0, 10.0));
        // No region: the next rule is asked.
        make("n", "3");
        make("n", "2");
        make("n", "\"3\"");
        assert_eq!((us.calls(), eu.calls()), (12, calls + 1));
        assert_eq!((failed(0), failed(1)), (3.0, 11.0));
    });
}

/// What no rule sends anywhere goes by `split`, and a caller stays where it is.
#[test]
fn route_falls_through_to_split() {
    everywhere(|run| {
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}]"#;
        let (us, eu, gw) = regions(run, &[rules, "split: {us: 100, eu: 0}"]);
        let mut line = gw.line("up", "echo");
        (0..20).for_each(|_| assert_eq!(line.call("1").status, 200));
        assert_eq!((us.calls(), eu.calls()), (20, 0));
        let call = line.next().given("region", "\"eu\"");
        assert_eq!(line.make(&call).unwrap().status, 200);
        assert_eq!((us.calls(), eu.calls()), (20, 1));
        // So does what no rule can be evaluated for, wherever that leads.
        for (split, expected) in [("us: 100, eu: 0", (10, 0)), ("us: 0, eu: 100", (0, 10))] {
            let (us, eu, gw) = regions(run, &[rules, &format!("split: {{{split}}}")]);
            let mut line = gw.line("up", "echo");
            (0..10).for_each(|_| assert_eq!(line.call("1").status, 200));
            assert_eq!((us.calls(), eu.calls()), expected, "{split}");
            let rule = "rule=\"mcpServers.up.route[0]\"";
            assert_eq!(gw.metric("ringgate_cel_errors_total", &[rule]), 10.0);
        }
        let (us, eu, gw) = regions(run, &["split: {us: 50, eu: 50}"]);
        let mut line = gw.line("up", "echo");
        (0..20).for_each(|_| assert_eq!(line.call("1").status, 200));
        assert!([(20, 0), (0, 20)].contains(&(us.calls(), eu.calls())), "one caller is in one pool");
        let (us, eu, gw) = regions(run, &["split: {us: 50, eu: 50}", "sticky: none"]);
        let mut line = gw.line("up", "echo");
        (0..200).for_each(|_| assert_eq!(line.call("1").status, 200));
        assert!(us.calls() > 50 && eu.calls() > 50, "{} and {}", us.calls(), eu.calls());
    });
}

/// A batch goes to one place whole, or nowhere.
#[test]
fn route_keeps_batches_together() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return; // It has no batches.
        }
        let every = script::script(|connection, _| script::send(connection, &script::plain(200, "[]")));
        let ups = [0, 1].map(|_| upstream().every(every.clone()).run());
        let pools = format!("pools: {{us: {{url: \"{}\"}}, eu: {{url: \"{}\"}}}}", ups[0].url, ups[1].url);
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}]"#;
        let gw = run.gateway().server("up", &[&pools, rules]).run();
        for (regions, status) in [(["eu", "eu"], 200), (["us", "eu"], 400), (["us", "us"], 200)] {
            let call = gw.call("up", "echo");
            let [first, second] =
                regions.map(|region| call.clone().given("region", &format!("\"{region}\"")));
            let body = format!("[{},{}]", first.body(), second.id("2").body());
            let raw = call.raw().without("mcp-protocol-version").body(body);
            assert_eq!(gw.client().talk(&raw.bytes()).unwrap().status, status, "{regions:?}");
            let came = [0, 1].map(|index| ups[index].mentions(&call.token));
            let expected = [("us", 0), ("eu", 1)].map(|(region, _)| usize::from(regions == [region; 2]));
            assert_eq!(came.map(|count| usize::from(count > 0)), expected, "{regions:?}");
        }
    });
}

/// The calls of a session go where each is for, as those without one do.
#[test]
fn route_of_sessions() {
    everywhere(|run| {
        for (when, expected) in [("args.region == \"eu\"", [3, 3]), ("principal == \"anonymous\"", [0, 6])] {
            let (us, eu, gw) = regions(run, &[&format!("route: [{{when: '{when}', pool: eu}}]")]);
            let first = gw.call("up", "echo").in_session();
            for region in ["us", "eu"].repeat(3) {
                let next = Call { session: first.session.clone(), ..gw.call("up", "echo") };
                assert_eq!(next.given("region", &format!("\"{region}\"")).send().status, 200);
            }
            assert_eq!([us.calls(), eu.calls()], expected, "{when}");
        }
    });
}

/// A client of the newest revision has a session on an older server for each pool that its calls are for.
#[test]
fn route_crosses_to_older_servers() {
    everywhere(|run| {
        if run.era == Era::Legacy {
            return; // Its session is its own.
        }
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}]"#;
        let (us, eu, gw) = regions(run, &[rules, "era: legacy"]);
        for _ in 0..4 {
            for region in ["us", "eu"] {
                let call = gw.call("up", "echo").given("region", &format!("\"{region}\""));
                assert_eq!(call.send().status, 200, "{region}");
            }
        }
        assert_eq!([us.calls(), eu.calls()], [4, 4]);
        // One for the calls, and the gateway may have listed by one of its own.
        assert!(us.sessions().0 <= 2 && eu.sessions().0 <= 2, "{:?} {:?}", us.sessions(), eu.sessions());
    });
}

/// The pool that a rule names is out: `failover` has its calls.
#[test]
fn route_fails_over() {
    everywhere(|run| {
        let backup = echo();
        let (us, eu) = (echo(), echo());
        let pools = format!(
            "pools: {{us: {{url: \"{}\"}}, eu: {{url: \"{}\"}}, backup: {{url: \"{}\"}}}}",
            us.url, eu.url, backup.url
        );
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}]"#;
        let lines = [pools.as_str(), rules, "failover: backup", EJECTS];
        let gw = run.gateway().workers(1).server("up", &lines).run();
        let mut line = gw.line("up", "echo");
        eu.stop();
        for _ in 0..10 {
            let call = line.next().given("region", "\"eu\"");
            assert_eq!(line.make(&call).unwrap().status, 200);
            assert_eq!(line.call("1").status, 200);
        }
        assert_eq!((us.calls(), backup.calls()), (10, 10));
    });
}

/// Feature `balance_affinity`: "sends equal handles to the same instance", on each worker and in each gateway.
#[test]
fn balance_affinity_of_handles() {
    everywhere(|run| {
        let ups: Vec<Upstream> = (0..4).map(|_| echo()).collect();
        let list = format!("instances: {}", instances(&ups.iter().collect::<Vec<_>>()));
        let lines = [list.as_str(), "affinity: args.handle"];
        let counts = || ups.iter().map(Upstream::calls).collect::<Vec<_>>();
        let gateways = [0, 1].map(|_| run.gateway().workers(2).server("up", &lines).run());
        let mut used = [false; 4];
        for handle in 0..16 {
            let before = counts();
            for gw in &gateways {
                for _ in 0..3 {
                    let mut line = gw.line("up", "echo");
                    let call = line.next().given("handle", &format!("\"h{handle}\""));
                    assert_eq!(line.make(&call).unwrap().status, 200);
                }
            }
            let came: Vec<usize> = counts().iter().zip(before).map(|(now, before)| now - before).collect();
            let home = came.iter().position(|count| *count == 6);
            used[home.unwrap_or_else(|| panic!("handle {handle}: {came:?}"))] = true;
        }
        assert!(used.iter().filter(|used| **used).count() >= 3, "{used:?}");
        // Without a handle: as `balance` says.
        let before = counts();
        let mut line = gateways[0].line("up", "echo");
        (0..8).for_each(|_| assert_eq!(line.call("1").status, 200));
        assert!(counts().iter().zip(before).all(|(now, before)| now - before == 2));
    });
}
