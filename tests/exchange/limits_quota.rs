//! Quotas over calendar windows: what is used, until when, and that it is not forgotten.
//!
//! Not here: a quota by the minute, which limits_rates has beside the rates.

use crate::support::Run;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::size;
use crate::support::upstream::upstream;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::Zoned;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use rustix::process::Signal;
use std::time::Duration;
use std::time::Instant;

/// A gateway that keeps its state.
fn kept(run: Run) -> Builder {
    let builder = run.gateway();
    let state = format!("state: {{dir: \"{}\"}}", builder.folder.path().join("state").display());
    builder.agents(&["a", "b"]).top(state)
}

/// The day of UTC; a test that sees it change begins again.
fn day() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400
}

/// Runs `test` until it began and ended on one day.
fn within_a_day(test: impl Fn()) {
    loop {
        let today = day();
        test();
        if day() == today {
            return;
        }
    }
}

#[track_caller]
fn shows(gw: &Gateway, principal: &str, used: u64) {
    let quota = gw.quota(principal, "daily");
    assert_eq!((quota.used, quota.limit), (used, 10), "{principal}");
}

/// Feature: used, limit and reset are shown, and an ordered end forgets nothing.
#[test]
fn limit_quota() {
    everywhere(|run| {
        within_a_day(|| {
            let up = upstream().tool("echo").run();
            let limit = "name: daily, key: principal, quota: 10/day, tz: UTC";
            let mut gw = kept(run).limit(limit).to("up", &up).run();
            let mut agent = gw.agent("a", "up");
            (0..4).for_each(|_| drop(agent.passes("echo")));
            gw.agent("b", "up").passes("echo");
            shows(&gw, "a", 4);
            shows(&gw, "b", 1);
            gw.restart(Signal::TERM);
            shows(&gw, "a", 4);
            let spent = gw.agent("a", "up").exhaust(&up, "echo", "limits.daily");
            assert_eq!(spent.passed, 6);
            shows(&gw, "a", 10);
            let midnight = Zoned::now().with_time_zone(TimeZone::UTC).end_of_day().unwrap().timestamp();
            assert!(seconds_between(gw.quota("a", "daily").reset, midnight) <= 1);
            assert!(seconds_between(now_plus(spent.refusal.number("retry-after")), midnight) <= 3);
            gw.restart(Signal::TERM);
            let mut agent = gw.agent("a", "up");
            agent.refused(&up, &agent.tool("echo"), "limits.daily");
            gw.agent("b", "up").passes("echo");
            shows(&gw, "b", 2);
        });
    });
}

fn now_plus(seconds: u64) -> Timestamp {
    Timestamp::now() + Duration::from_secs(seconds)
}

fn seconds_between(one: Timestamp, other: Timestamp) -> u64 {
    one.duration_since(other).unsigned_abs().as_secs()
}

/// Feature: after SIGKILL at most the calls of the last second are forgotten, and none is invented.
#[test]
fn limit_quota_after_a_crash() {
    on_every_driver(|run| {
        within_a_day(|| {
            let up = upstream().tool("echo").run();
            let limit = "name: daily, key: principal, quota: 50k/day, tz: UTC";
            let mut gw = kept(run).limit(limit).to("up", &up).run();
            let mut agent = gw.agent("a", "up");
            let start = Instant::now();
            let mut calls = Vec::new();
            while start.elapsed() < Duration::from_millis(3500) {
                agent.passes("echo");
                calls.push(Instant::now());
                // A steady caller: what a second holds is known.
                pace(Duration::from_millis(10));
            }
            // A busy machine writes a little later.
            let last_second = Instant::now() - Duration::from_millis(size(1500, 1050));
            let old = calls.iter().filter(|call| **call < last_second).count() as u64;
            gw.restart(Signal::KILL);
            let used = gw.quota("a", "daily").used;
            assert!(used >= old && used <= calls.len() as u64, "{old} <= {used} <= {}", calls.len());
            assert!(old > 50, "{old} calls show nothing");
            gw.agent("a", "up").passes("echo");
            assert_eq!(gw.quota("a", "daily").used, used + 1);
        });
    });
}

/// Feature: each window ends where its zone's calendar says.
#[test]
fn limit_quota_windows() {
    let zones = ["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Auckland"];
    on_every_driver(|run| {
        for zone in zones {
            let up = upstream().tool("echo").run();
            let windows = ["minute", "hour", "day", "week", "month"];
            let gw = windows.iter().fold(kept(run), |gw, window| {
                let unit = if *window == "minute" { "min" } else { window };
                gw.limit(&format!("name: {window}, key: principal, quota: 7k/{unit}, tz: {zone}"))
            });
            let gw = gw.to("up", &up).run();
            let mut agent = gw.agent("a", "up");
            for window in windows {
                // Its end as the calendar had it before and after the look: they differ where it just ended.
                let before = ends(window, zone);
                agent.passes("echo");
                let quota = gw.quota("a", window);
                let after = ends(window, zone);
                assert_eq!(quota.limit, 7000);
                let fits = [before, after].iter().any(|end| seconds_between(quota.reset, *end) <= 1);
                assert!(fits, "{window} in {zone}: {quota:?}, not {before} or {after}");
            }
        }
    });
}

/// When the present window ends.
fn ends(window: &str, zone: &str) -> Timestamp {
    let now = Timestamp::now().in_tz(zone).unwrap();
    let day = || now.start_of_day().unwrap();
    let end = match window {
        "minute" => {
            now.date().at(now.hour(), now.minute(), 0, 0).to_zoned(now.time_zone().clone()).unwrap()
                + 1.minute()
        }
        "hour" => now.date().at(now.hour(), 0, 0, 0).to_zoned(now.time_zone().clone()).unwrap() + 1.hour(),
        "day" => day() + 1.day(),
        "week" => day().nth_weekday(1, Weekday::Monday).unwrap().start_of_day().unwrap(),
        "month" => day().last_of_month().unwrap() + 1.day(),
        other => panic!("{other}"),
    };
    end.timestamp()
}

/// Without a state directory a quota counts all the same, and a start says what that means.
#[test]
fn limit_quota_without_state() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: daily, key: principal, quota: 3/day, tz: UTC";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        gw.agent("a", "up").exhaust(&up, "echo", "limits.daily");
        eventually("it is told", || gw.stderr().contains("restart"));
    });
}
