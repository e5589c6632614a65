//! What a plan says about the traffic to one server: balance, health, breakers, concurrency, retries.
//!
//! Not here: limits of callers (`limit`), and what was observed (`route`). Plain values, std only: the simulation
//! and the models of `route` are built from this file without the rest of the configuration.

/// How an instance is chosen among the healthy ones of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    #[default]
    RoundRobin,
    /// In proportion to `weight`, smoothly interleaved.
    Weighted,
    /// Fewest calls in flight, over all workers.
    LeastConnections,
    /// The less busy of two random ones: for pools so large that a look at each would cost too much.
    TwoChoices,
    /// In proportion to what instances report to be free (ORCA load reports).
    Resource,
}

impl Balance {
    /// Whether it looks at the calls in flight, so that an instance without any would get each one that comes.
    pub const fn compares(self) -> bool {
        matches!(self, Self::LeastConnections | Self::TwoChoices)
    }
}

/// Active probes and passive failures of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Consecutive failures that take an instance out.
    pub unhealthy: u8,
    /// Consecutive successes that bring it back.
    pub healthy: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Outcomes that are looked back at.
    pub window: u32,
    /// Failures in the window that open it, in thousandths.
    pub failure_permille: u32,
    /// Outcomes before which it never opens.
    pub min_calls: u32,
    /// Doubles with each probe that failed, up to `max_open_ms`.
    pub open_ms: u64,
    pub max_open_ms: u64,
    /// Calls that a half-open breaker lets through, over all workers.
    pub probes: u8,
    /// One more breaker for each tool.
    pub per_tool: bool,
}

/// Concurrency limit of a server that follows its latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    pub min: u32,
    pub max: u32,
    /// `p95<250ms`: 95 of 100 calls must be faster than 250 ms.
    pub percentile: u8,
    pub target_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first.
    pub max: u8,
    /// Attempts after the first, in thousandths of the calls.
    pub budget_permille: u32,
    pub hedge: Hedge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedge {
    #[default]
    Off,
    /// After the time in which 95 of 100 calls to the server are answered.
    P95,
    AfterMs(u64),
}

/// Instances that are chosen from together: a range of the server's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: Box<str>,
    pub first: usize,
    pub count: usize,
}

impl Pool {
    /// Whether an instance of the server is one of them.
    pub fn has(&self, instance: usize) -> bool {
        (self.first..self.first + self.count).contains(&instance)
    }
}

/// Everything of this file, for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub balance: Balance,
    /// In which the share of an instance that comes back grows to its whole; none: it has it at once.
    pub slow_start_ms: Option<u64>,
    /// One for each instance of the server, in its order; 1 where nothing is said.
    pub weights: Box<[u32]>,
    /// At least one; the first is the one that is chosen where nothing names another.
    pub pools: Vec<Pool>,
    /// Index of the pool that takes over while the chosen one has no instance to offer; the last, and not the first.
    pub failover: Option<usize>,
    pub health: Option<Health>,
    pub breaker: Option<Breaker>,
    pub adaptive: Option<Adaptive>,
    pub retry: Retry,
    /// `upstreamLimit: hold`: after a 429 of the server its calls are refused here until its `Retry-After` is over.
    pub hold: bool,
}
