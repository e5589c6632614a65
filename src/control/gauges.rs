//! What is read at each exposition of the metrics: states that others keep.
//!
//! Not here: names and help (telemetry).

use crate::base::clock::Moment;
use crate::config::plan::Server;
use crate::control::collisions;
use crate::handoff::Cells;
use crate::handoff::Shared;
use crate::policy::kills::Kills;
use crate::policy::kills::Kind;
use crate::route::cells::InstanceCells;
use crate::route::cells::ServerCells;
use crate::route::slow_start;
use crate::telemetry::expose::Gauge;
use crate::telemetry::words::Which;
use std::collections::BTreeMap;

pub(crate) fn read(shared: &Shared, now: Moment) -> Vec<Gauge> {
    let mut gauges = kills(&shared.kills.load());
    of_servers(&shared.cells.load(), now, &mut gauges);
    let count = |contested: Vec<_>| contested.len() as u64;
    let collisions = collisions::read(shared).into_iter();
    gauges
        .extend(collisions.map(|(endpoint, names)| gauge(Which::NameCollisions, &[&endpoint], count(names))));
    gauges
}

fn kills(kills: &Kills) -> Vec<Gauge> {
    let of_kind = |kind| kills.iter().filter(|kill| kill.kind == kind).count() as u64;
    Kind::ALL.map(|kind| gauge(Which::KillsActive, &[kind.as_str()], of_kind(kind))).into()
}

fn of_servers(cells: &Cells, now: Moment, gauges: &mut Vec<Gauge>) {
    for Server { name: server, traffic, .. } in &cells.plan.servers {
        // They were made with this very plan.
        let cells = &cells.by_server[server];
        for (label, alike) in &by_label(cells) {
            let labels: [&str; 2] = [server, label];
            // Without probes nothing takes an instance out, and what they found before counts no more.
            let all_up = traffic.health.is_none() || alike.iter().all(|instance| instance.health.is_up());
            gauges.push(gauge(Which::InstanceUp, &labels, u64::from(all_up)));
            if let Some(window_ms) = traffic.slow_start_ms {
                let mut shares = alike.iter().map(|instance| instance.returned.share(window_ms, now));
                let starts_slowly = shares.any(|share| share < slow_start::WHOLE);
                gauges.push(gauge(Which::SlowStart, &labels, u64::from(starts_slowly)));
            }
            let states =
                alike.iter().filter_map(|instance| Some(instance.breaker.as_ref()?.state(now) as u64));
            gauges.extend(states.max().map(|worst| gauge(Which::BreakerState, &labels, worst)));
        }
        for tool in cells.tools.iter().flat_map(|tools| tools.in_use()) {
            // Without a name its first call has not come so far.
            let Some(name) = tool.name() else { continue };
            gauges.push(gauge(Which::ToolBreakerState, &[server, name], tool.breaker().state(now) as u64));
        }
        let limit = cells.adaptive.as_ref().map(|adaptive| u64::from(adaptive.limit()));
        gauges.extend(limit.map(|limit| gauge(Which::ConcurrencyLimit, &[server], limit)));
        if traffic.hold {
            let is_held = cells.hold.left_ms(now).is_some();
            gauges.push(gauge(Which::UpstreamHeld, &[server], u64::from(is_held)));
        }
    }
}

/// Instances that differ in their path only share a label: the worst of them is shown, because a label set may stand
/// once in a page.
fn by_label(cells: &ServerCells) -> BTreeMap<&str, Vec<&InstanceCells>> {
    let mut alike = BTreeMap::<&str, Vec<&InstanceCells>>::new();
    for instance in &cells.instances {
        alike.entry(&instance.label).or_default().push(instance);
    }
    alike
}

fn gauge(which: Which, labels: &[&str], value: u64) -> Gauge {
    Gauge { which, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::traffic::Breaker;
    use crate::config::traffic::Health;
    use crate::control::tests::state_with;

    #[test]
    fn a_breaker_of_a_tool_is_shown_once_its_name_is_known() {
        let state = state_with(1, |plan| {
            plan.servers[0].traffic.breaker =
                plan.servers[0].traffic.breaker.map(|breaker| Breaker { per_tool: true, ..breaker });
        });
        let cells = state.shared.cells.load();
        let tools = cells.by_server["up"].tools.as_ref().expect("per tool");
        tools.of(7).expect("room").note_name("query");
        tools.of(8).expect("room");
        let mut gauges = Vec::new();
        of_servers(&cells, Moment::ZERO, &mut gauges);
        gauges.retain(|gauge| gauge.which == Which::ToolBreakerState);
        assert_eq!(gauges, [gauge(Which::ToolBreakerState, &["up", "query"], 0)]);
    }

    #[test]
    fn instances_that_share_a_label_are_one_sample_and_the_worst_counts() {
        let health = Health { interval_ms: 1, timeout_ms: 1, unhealthy: 1, healthy: 1 };
        for (probed, expected) in [(Some(health), 0), (None, 1)] {
            let state = state_with(1, |plan| {
                let server = &mut plan.servers[0];
                server.traffic.health = probed;
                server.instances = vec![server.instances[0].clone(); 3];
                server.instances[2].label = "http://other:1".into();
            });
            let cells = state.shared.cells.load();
            cells.by_server["up"].instances[1].health.failed(&health);
            let mut gauges = Vec::new();
            of_servers(&cells, Moment::ZERO, &mut gauges);
            let up: Vec<(&str, u64)> = gauges
                .iter()
                .filter(|gauge| gauge.which == Which::InstanceUp)
                .map(|gauge| (gauge.labels[1].as_str(), gauge.value))
                .collect();
            assert_eq!(up, [("http://other:1", 1), ("https://upstream.test:3000", expected)], "{probed:?}");
        }
    }
}
