//! What a seed decides before and beside the calls: the operator's settings, and how the servers feel.
//!
//! Not here: what follows from it (`world`).

use crate::config::traffic::Adaptive;
use crate::config::traffic::Balance;
use crate::config::traffic::Breaker;
use crate::config::traffic::Health;
use crate::config::traffic::Hedge;
use crate::config::traffic::Pool;
use crate::config::traffic::Retry;
use crate::config::traffic::Traffic;
use crate::simulation::random::Random;

/// Instances that there can be over all reloads; a plan has some of them.
pub const LABELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
pub const TARGET_MS: u64 = 250;

/// What a reload leaves as it is.
pub struct Scene {
    pub workers: usize,
    health: Option<Health>,
    /// The percentile of the adaptive limit. Its bounds change: calls of the plan before find out about the server under
    /// those of the next one.
    adaptive: Option<u8>,
    has_breaker: bool,
    hold: bool,
}

impl Scene {
    pub fn new(random: &mut Random) -> Self {
        let health = Health {
            interval_ms: random.one_of(&[500, 1_000, 2_000]),
            timeout_ms: 500,
            unhealthy: random.between(1, 3) as u8,
            healthy: random.between(1, 2) as u8,
        };
        let percentile = random.one_of(&[80, 95]);
        Self {
            workers: random.between(2, 4) as usize,
            health: (!random.one_in(8)).then_some(health),
            adaptive: (!random.one_in(8)).then_some(percentile),
            has_breaker: !random.one_in(8),
            hold: random.one_in(2),
        }
    }

    /// A plan as the operator may have written it: the labels of its instances, and everything else.
    pub fn traffic(&self, random: &mut Random, before: Option<&Traffic>) -> (Vec<&'static str>, Traffic) {
        use Balance::{LeastConnections, Resource, RoundRobin, TwoChoices, Weighted};
        let chosen = random.between(2, 4) as usize;
        let others = random.between(0, (LABELS.len() - chosen) as u64) as usize;
        let mut labels = LABELS;
        labels.rotate_left(random.between(0, 5) as usize);
        let pool = |name: &str, first, count| Pool { name: name.into(), first, count };
        let mut weights: Box<[u32]> = labels.iter().map(|_| random.between(0, 4) as u32).collect();
        weights[0] = 1;
        let drawn = self.has_breaker.then(|| breaker(random));
        let (min, max) = (random.between(1, 12) as u32, random.between(13, 40) as u32);
        let adaptive = |percentile| Adaptive { min, max, percentile, target_ms: TARGET_MS };
        let same = before.filter(|_| !random.one_in(3));
        let traffic = Traffic {
            balance: random.one_of(&[RoundRobin, LeastConnections, TwoChoices, Weighted, Resource]),
            slow_start_ms: random.one_of(&[None, Some(300), Some(5_000), Some(60_000)]),
            weights: weights[..chosen + others].into(),
            pools: vec![pool("chosen", 0, chosen), pool("others", chosen, others)],
            failover: (others > 0).then_some(1),
            health: self.health,
            breaker: same.map_or(drawn, |before| before.breaker),
            adaptive: self.adaptive.map(adaptive),
            retry: Retry { max: random.between(1, 2) as u8, budget_permille: 100, hedge: Hedge::Off },
            hold: self.hold,
        };
        (labels[..chosen + others].to_vec(), traffic)
    }
}

fn breaker(random: &mut Random) -> Breaker {
    Breaker {
        window: random.between(5, 40) as u32,
        failure_permille: random.one_of(&[300, 500, 800]),
        min_calls: random.between(2, 5) as u32,
        open_ms: random.between(300, 3_000),
        max_open_ms: random.between(3_000, 6_000),
        probes: random.between(1, 4) as u8,
        per_tool: random.one_in(2),
    }
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Well,
    Slow,
    /// Fails so many of a thousand calls.
    Failing(u64),
    /// Takes no connection.
    Down,
    /// Answers 429.
    Limiting,
}

impl Condition {
    pub fn draw(random: &mut Random) -> Self {
        match random.between(0, 9) {
            0..=1 => Self::Well,
            2..=3 => Self::Slow,
            4..=6 => Self::Failing(random.one_of(&[100, 500, 1_000])),
            7..=8 => Self::Down,
            _ => Self::Limiting,
        }
    }

    /// Nanoseconds until it answers or fails.
    pub fn takes_ns(self, random: &mut Random) -> u64 {
        let ms = match self {
            Self::Slow => random.between(TARGET_MS + 1, 4 * TARGET_MS),
            Self::Failing(_) => random.between(1, 2 * TARGET_MS),
            Self::Well | Self::Down | Self::Limiting => random.between(1, TARGET_MS / 4),
        };
        ms * 1_000_000
    }
}
