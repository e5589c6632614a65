//! What each kind of balance promises of the instance that it chose, and what slow start makes of that.
//!
//! Not here: who may be chosen at all (`server`).

use crate::base::clock::Moment;
use crate::config::traffic::Balance;
use crate::simulation::promises::Returned;
use crate::simulation::server::Plan;
use crate::simulation::server::Server;
use crate::simulation::server::Turns;

impl Server {
    /// Before the chosen one is counted.
    pub(super) fn judge_balance(
        &self,
        plan: &Plan,
        worker: usize,
        group: &[usize],
        (chosen, now_ns): (usize, u64),
    ) {
        let window_ms = plan.traffic.slow_start_ms.filter(|ms| self.returned.is_within(*ms, now_ns));
        let returned = |index: &usize| self.instances[plan.watched[*index]].returned;
        let warm_up: Vec<Returned> = group.iter().filter(|_| window_ms.is_some()).map(returned).collect();
        let mut turns = plan.turns[worker].borrow_mut();
        if turns.group != group || turns.warm_up != warm_up {
            let none = plan.labels.len();
            *turns = Turns { group: group.to_vec(), warm_up, counts: vec![0; none], owed: vec![0; none] };
        }
        if let Some(window_ms) = window_ms {
            return self.judge_shares(plan, &mut turns, window_ms, (chosen, now_ns));
        }
        turns.counts[chosen] += 1;
        let count = |index: &usize| turns.counts[*index];
        match plan.traffic.balance {
            Balance::LeastConnections => {
                let busiest = |other: &usize| self.in_flight(plan, chosen) <= self.in_flight(plan, *other);
                assert!(group.iter().all(busiest), "{chosen} is busier");
            }
            Balance::RoundRobin => {
                let most = group.iter().map(count).max();
                let least = group.iter().map(count).min();
                assert!(most <= least.map(|least| least + 1), "{chosen} was chosen out of turn");
            }
            // Nobody owes more, or is owed more, than one round of all; both may add up.
            Balance::Weighted => {
                let weight = |index: &usize| u64::from(plan.traffic.weights[*index]);
                let round: u64 = plan.traffic.weights.iter().map(|weight| u64::from(*weight)).sum();
                let weights: u64 = group.iter().map(weight).sum();
                let total: u64 = group.iter().map(count).sum();
                let off = |index: &usize| (count(index) * weights).abs_diff(total * weight(index));
                assert!(group.iter().map(off).max() <= Some(2 * round), "{chosen} has not its share");
            }
            Balance::TwoChoices | Balance::Resource => {}
        }
    }

    /// Somebody warms up: each has its share of the calls, and where calls in flight are compared nobody who warms up has
    /// more than its share of either.
    fn judge_shares(&self, plan: &Plan, turns: &mut Turns, window_ms: u64, (chosen, now_ns): (usize, u64)) {
        let share = |index: usize| {
            let watched = &self.instances[plan.watched[index]];
            let promised = watched.returned.share(window_ms, now_ns);
            let told = watched.cells.returned.share(window_ms, Moment::from_nanos(now_ns));
            assert_eq!(told, promised, "share of {}", watched.cells.label);
            promised
        };
        let balance = plan.traffic.balance;
        let weight = |index: usize| match balance {
            Balance::Weighted => u64::from(plan.traffic.weights[index]),
            _ => 1,
        };
        let earned = |index: usize| i64::try_from(weight(index) * share(index)).expect("small");
        turns.group.iter().for_each(|index| turns.owed[*index] += earned(*index));
        turns.owed[chosen] -= turns.group.iter().map(|index| earned(*index)).sum::<i64>();
        let whole: u64 = (0..plan.labels.len()).map(|index| weight(index) * 1_000).sum();
        let most = i64::try_from(2 * whole).expect("small");
        let largest = turns.group.iter().map(|index| share(*index)).max().unwrap_or(0);
        for index in turns.group.iter().copied() {
            let owed = turns.owed[index];
            match balance {
                Balance::RoundRobin | Balance::Weighted => {
                    assert!(owed.abs() <= most, "{index} has not its share of the calls: {owed} of {most}");
                }
                Balance::LeastConnections | Balance::TwoChoices if share(index) < largest => {
                    assert!(owed >= -most, "{index} has more than its share of the calls: {owed} of {most}");
                }
                Balance::LeastConnections | Balance::TwoChoices => {
                    let (ours, theirs) = (self.in_flight(plan, chosen), self.in_flight(plan, index));
                    assert!(
                        ours * largest <= theirs * share(chosen),
                        "{chosen} is busier than {index} for its share"
                    );
                }
                Balance::Resource => {}
            }
        }
    }

    fn in_flight(&self, plan: &Plan, index: usize) -> u64 {
        self.instances[plan.watched[index]].in_flight
    }
}
