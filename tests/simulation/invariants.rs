//! What must hold of a server between two steps, and at the turns of a run.
//!
//! Not here: what is compared within a step, where the live code says it (`server`).

use crate::base::clock::Moment;
use crate::config::traffic::Balance;
use crate::route::breaker::State;
use crate::simulation::server::Plan;
use crate::simulation::server::Server;
use crate::simulation::server::Watched;

impl Server {
    /// After every step.
    pub fn check(&self, plan: &Plan, now_ns: u64) {
        for place in &plan.watched {
            self.instances[*place].check(plan, now_ns);
        }
        if let (Some(adaptive), Some(settings)) = (&plan.cells.adaptive, &plan.traffic.adaptive) {
            assert_eq!(adaptive.in_flight(), self.stays, "calls in flight");
            assert!((settings.min..=settings.max).contains(&adaptive.limit()), "limit {}", adaptive.limit());
        }
    }

    /// After a time in which every answer was too slow.
    pub fn check_slowed(&self, plan: &Plan) {
        if let (Some(adaptive), Some(settings)) = (&plan.cells.adaptive, &plan.traffic.adaptive) {
            assert!(adaptive.limit() < settings.max, "the limit has not followed the latency");
        }
    }

    /// After a long calm: everything that can be called is called again.
    pub fn check_recovered(&self, plan: &Plan, now_ns: u64) {
        let now = Moment::from_nanos(now_ns);
        let chosen = plan.watched.iter().take(plan.traffic.pools[0].count).enumerate();
        for (index, watched) in chosen.map(|(index, place)| (index, &self.instances[*place])) {
            let weighed_out = plan.traffic.balance == Balance::Weighted && plan.traffic.weights[index] == 0;
            let state = watched.state(now).unwrap_or(State::Closed);
            assert!(watched.cells.health.is_up(), "instance {index} is still out");
            assert!(weighed_out || state == State::Closed, "breaker of instance {index} is still {state:?}");
        }
        for tool in plan.cells.tools.iter().flat_map(|tools| tools.in_use()) {
            assert_eq!(tool.breaker().state(now), State::Closed, "breaker of tool {}", tool.tag());
        }
        if let (Some(adaptive), Some(settings)) = (&plan.cells.adaptive, &plan.traffic.adaptive) {
            assert_eq!(adaptive.limit(), settings.max, "the limit has not come back");
        }
    }

    /// When every call is over.
    pub fn check_empty(&self) {
        let in_flight = self.instances.iter().map(|watched| watched.cells.flow.in_flight());
        assert_eq!((self.stays, in_flight.sum()), (0, 0_u64), "still in flight");
    }
}

impl Watched {
    pub(super) fn check(&self, plan: &Plan, now_ns: u64) {
        let cells = &self.cells;
        assert_eq!(cells.flow.in_flight(), self.in_flight, "{}: calls in flight", cells.label);
        assert!(
            plan.traffic.health.is_none() || cells.health.is_up() == self.rotation.up,
            "health of {}",
            cells.label
        );
        let promised = self.fuse.as_ref().map(|fuse| fuse.state(now_ns));
        assert_eq!(self.state(Moment::from_nanos(now_ns)), promised, "breaker of {}", cells.label);
    }

    fn state(&self, now: Moment) -> Option<State> {
        self.cells.breaker.as_ref().map(|breaker| breaker.state(now))
    }
}
