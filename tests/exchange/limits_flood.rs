//! Limits under load: many connections at once on several workers, and more keys than there are buckets.
//!
//! Not here: what a limit does to one caller (limits_rates).

use crate::support::Driver;
use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::drivers;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::pace;
use crate::support::process;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

const CONNECTIONS: usize = 64;

/// Calls a second, and the burst where nothing is said: the rate's count. Plain runs leave room for what else a
/// machine does.
fn rate() -> f64 {
    size(200.0, 1000.0)
}

fn flooded(run: Run, up: &Upstream, workers: usize) -> Gateway {
    let limit = format!("name: per-agent, key: principal, rate: {}/s", rate());
    run.gateway().agents(&["a"]).workers(workers).limit(&limit).to("up", up).run()
}

/// What one connection got.
#[derive(Default)]
struct Got {
    passed: usize,
    refused: usize,
    first_served: Option<Instant>,
    /// When the first refusal came, and when the last refused call was sent.
    first_refused: Option<Instant>,
    last_refused: Option<Instant>,
}

/// Calls without a pause while they pass, and soon again when refused.
fn call_until(mut caller: Caller, end: Instant) -> Got {
    let mut got = Got::default();
    // A limit that never refuses has a moment more to show itself.
    let latest = end + Duration::from_secs(2);
    while Instant::now() < end || (got.last_refused.is_none() && Instant::now() < latest) {
        let sent = Instant::now();
        let answer = caller.send(&caller.tool("echo"));
        if answer.status == 200 {
            got.passed += 1;
            got.first_served.get_or_insert_with(Instant::now);
        } else {
            answer.limited("limits.per-agent");
            got.refused += 1;
            got.first_refused.get_or_insert_with(Instant::now);
            got.last_refused = Some(sent);
            pace(Duration::from_millis(8));
        }
    }
    got
}

/// Never more than rate·T + burst + `over`, and at least 99 % of that. A busy machine may send fewer calls than
/// the rate while the bucket is full: in plain runs T begins, for the least, when the bucket is seen empty.
fn flood(run: Run, workers: usize, duration: Duration, over: f64) {
    let up = upstream().tool("echo").run();
    let gw = flooded(run, &up, workers);
    let caller = gw.agent("a", "up");
    let start = Instant::now();
    let all = together(CONNECTIONS, |_| call_until(caller.beside(), start + duration));
    let longest = start.elapsed().as_secs_f64();
    let passed: usize = all.iter().map(|got| got.passed).sum();
    let refused: usize = all.iter().map(|got| got.refused).sum();
    let first = |moment: fn(&Got) -> Option<Instant>| all.iter().filter_map(moment).min().unwrap();
    let begin = size(first(|got| got.first_refused), first(|got| got.first_served));
    let last = all.iter().filter_map(|got| got.last_refused).max().expect("nothing was refused");
    let given = last.duration_since(begin).as_secs_f64() * rate() + rate();
    eprintln!("{run:?}, {workers} workers: {passed} passed of {given:.0}, {refused} refused, {longest:.2} s");
    assert!(passed as f64 <= longest * rate() + rate() + over, "{passed} passed in {longest} s");
    assert!(passed as f64 >= 0.99 * given, "{passed} of {given:.0} passed");
    assert!(refused > passed / 10, "{refused} refusals are no flood");
    assert_eq!(up.calls(), passed, "a refused call reached the upstream");
    assert_eq!(gw.metric("ringgate_limited_total", &["limit=\"per-agent\""]), refused as f64);
}

/// Feature, "Done when" 3: two workers, 64 connections, 1,000/s for 30 s: never more than rate·T + burst.
#[test]
fn limit_per_agent_flood() {
    everywhere(|run| {
        // The whole time once a driver: what is counted does not know eras.
        let seconds = if run.era == Era::Modern { size(2, 30) } else { 2 };
        flood(run, 2, Duration::from_secs(seconds), 0.0);
    });
}

/// Feature: eight workers for 60 s: never more than rate·T + burst + 8.
#[test]
fn limit_per_agent_flood_of_eight_workers() {
    for driver in drivers() {
        // The whole time once: eight threads on however many cores are the same ones.
        let seconds = if driver == Driver::Uring { size(2, 60) } else { 2 };
        flood(Run { driver, era: Era::Modern }, 8, Duration::from_secs(seconds), 8.0);
        flood(Run { driver, era: Era::Legacy }, 8, Duration::from_secs(2), 8.0);
    }
}

/// Buckets of the smallest table.
const BUCKETS: usize = 1024;
const KEYS: usize = 3000;
/// The rule of who is refused for want of a bucket.
const TABLE: &str = "limitTable";

fn with_table(run: Run, up: &Upstream, on_full: &str) -> Gateway {
    let table = format!("limitTable: {{buckets: 1k, onFull: {on_full}}}");
    let limit = "name: customer, key: args.customer, rate: 1/hour, burst: 1";
    run.gateway().top(table).limit(limit).to("up", up).run()
}

/// What became of the calls of some customers.
#[derive(Default)]
struct Outcome {
    passed: Vec<usize>,
    /// Refused because two customers share a bucket, which happens by chance: 1 in 30 for all of them together.
    shared: usize,
}

const SHARED_MAX: usize = 3;

/// The customers' calls that did not pass were refused by that rule.
fn customers(caller: &mut Caller, up: &Upstream, range: Range<usize>, rule: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for customer in range {
        let call = caller.tool("echo").given("customer", &customer.to_string());
        let answer = caller.send(&call);
        if answer.status == 200 {
            outcome.passed.push(customer);
            continue;
        }
        if rule == TABLE && answer.status == 429 {
            answer.limited("limits.customer");
            outcome.shared += 1;
            assert!(outcome.shared <= SHARED_MAX, "more than chance");
        } else if rule == TABLE {
            answer.refused(503, "gateway_unavailable");
            assert_eq!(answer.json()["error"]["data"]["rule"], TABLE, "{answer:?}");
            assert!(answer.number("retry-after") > 0, "{answer:?}");
        } else {
            answer.limited(rule);
        }
        // Each look goes through all that ever came.
        if customer % 50 == 0 {
            assert_eq!(up.mentions(&call.token), 0, "reached the upstream");
        }
    }
    outcome
}

fn full(gw: &Gateway) -> f64 {
    gw.metric("ringgate_limit_table_full_total", &[])
}

/// Feature: a full table refuses whom it has no bucket for, counts each, and grows by no byte; who has a
/// bucket is limited as ever.
#[test]
fn limit_per_agent_table_full_refuses() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = with_table(run, &up, "refuse");
        let mut caller = gw.caller("up");
        let Outcome { passed, shared } = customers(&mut caller, &up, 0..KEYS, TABLE);
        assert!((BUCKETS / 2..=BUCKETS).contains(&passed.len()), "{} of {BUCKETS}", passed.len());
        assert_eq!(full(&gw), (KEYS - passed.len() - shared) as f64);
        assert_eq!(up.calls(), passed.len());
        let resident = process::resident_kib(gw.pid());
        let more = customers(&mut caller, &up, KEYS..2 * KEYS, TABLE).passed;
        assert!(passed.len() + more.len() <= BUCKETS, "{} and {} more", passed.len(), more.len());
        let grown = process::resident_kib(gw.pid()).saturating_sub(resident);
        assert!(grown < 512, "{grown} KiB more");
        let counted = full(&gw);
        for customer in passed.iter().take(20) {
            let call = caller.tool("echo").given("customer", &customer.to_string());
            caller.refused(&up, &call, "limits.customer");
        }
        assert_eq!(full(&gw), counted, "who has a bucket needs none");
    });
}

/// Feature: or lets them pass, and counts each; who has a bucket is limited even then.
#[test]
fn limit_per_agent_table_full_allows() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = with_table(run, &up, "allow");
        let mut caller = gw.caller("up");
        let Outcome { passed, shared } = customers(&mut caller, &up, 0..KEYS, TABLE);
        assert_eq!(passed.len() + shared, KEYS);
        assert_eq!(up.calls(), passed.len());
        let without = full(&gw);
        assert!(without >= (KEYS - shared - BUCKETS) as f64, "{without} without a bucket");
        let again = customers(&mut caller, &up, 0..KEYS, "limits.customer").passed;
        assert_eq!(again.len() as f64, without, "who had a bucket had used it up");
        // The handshake of an older client has a bucket for a moment, whose place one customer may get later.
        let counted = full(&gw);
        assert!((2.0 * without - 1.0..=2.0 * without).contains(&counted), "{counted}, twice {without}");
        assert_eq!(up.calls(), passed.len() + again.len(), "a refused call reached the upstream");
    });
}
