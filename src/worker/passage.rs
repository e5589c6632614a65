//! `Passage`: what a call holds of the server that it goes to, from the choice of an instance to its outcome.
//!
//! Not here: choosing (`route`) and sending (`dispatch`). Whatever becomes of a call, its passage is settled once:
//! at the latest where it is dropped, and then it says nothing about the server.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::plan::Server;
use crate::config::traffic::Traffic;
use crate::route;
use crate::route::Entry;
use crate::route::Route;
use crate::route::balance::Local;
use crate::route::balance::Tried;
use crate::route::breaker;
use crate::route::breaker::Change;
use crate::route::breaker::Outcome;
use crate::route::budget::RetryBudget;
use crate::route::cells::InstanceCells;
use crate::route::cells::ServerCells;
use crate::route::latency::Latencies;
use crate::telemetry::family::Family;
use crate::telemetry::family::Place;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Record;
use crate::worker::credential::Told;
use crate::worker::state::Exchange;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// One server as this worker sees it: what is chosen by. Outlives its plan as long as a call that went by it lasts.
pub struct Way {
    pub server: Arc<str>,
    pub traffic: Traffic,
    pub cells: Arc<ServerCells>,
    pub local: Local,
    pub budget: RetryBudget,
    pub latencies: Latencies,
    /// Where requests to each instance are counted, once one was sent.
    places: Box<[Cell<Option<Place>>]>,
    /// Calls that an injected fault could have met.
    seen: Cell<u64>,
    /// Trouble with its credentials.
    pub told: Told,
    /// When no session could be opened on it, or not in time.
    pub unopened: Cell<Option<Moment>>,
    /// When its era was doubted last.
    pub doubted: Cell<Moment>,
}

impl Way {
    pub fn new(server: &Server, cells: Arc<ServerCells>) -> Rc<Self> {
        Rc::new(Self {
            server: Arc::clone(&server.name),
            traffic: server.traffic.clone(),
            cells,
            local: Local::new(&server.traffic),
            budget: RetryBudget::default(),
            latencies: Latencies::default(),
            places: server.instances.iter().map(|_| Cell::new(None)).collect(),
            seen: Cell::new(0),
            told: Told::default(),
            unopened: Cell::default(),
            doubted: Cell::new(Moment::ZERO),
        })
    }

    /// Whether it is worth waiting for sessions on it: a server that hangs holds up one client, not all. Those who need one
    /// nevertheless get it with their call.
    pub fn opens(&self, now: Moment) -> bool {
        self.unopened.get().is_none_or(|last| now >= last.plus_millis(limits::UNOPENED_MS))
    }

    /// Whether another plan's way to the server would choose by the same.
    pub fn is_of(&self, traffic: &Traffic, cells: &ServerCells) -> bool {
        let same = |(ours, theirs): (&Arc<InstanceCells>, &Arc<InstanceCells>)| Arc::ptr_eq(ours, theirs);
        self.traffic == *traffic
            && self.cells.instances.len() == cells.instances.len()
            && self.cells.instances.iter().zip(&cells.instances).all(same)
    }

    pub fn route(&self) -> Route<'_> {
        Route { traffic: &self.traffic, cells: &self.cells, local: &self.local }
    }

    /// Whether a call has been to every instance.
    pub fn all_tried(&self, tried: &Tried) -> bool {
        (0..self.cells.instances.len()).all(|index| tried.contains(index))
    }

    /// Whether a fault that is to meet `ratio_ppm` of a million calls meets this one: the same calls in every run.
    pub fn happens(&self, ratio_ppm: u32) -> bool {
        const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
        let number = self.seen.get().wrapping_add(1);
        self.seen.set(number);
        // SplitMix64.
        let mut bits = number.wrapping_mul(SEED);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % 1_000_000 < u64::from(ratio_ppm)
    }

    fn tell(&self, what: &str, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Closed) => {
                tracing::info!(server = &*self.server, what, "breaker closed: calls pass again");
            }
            Some(Change::HalfOpened) => {
                tracing::info!(server = &*self.server, what, "breaker half-open: a few calls find out");
            }
            Some(Change::Opened { for_ms }) => {
                tracing::warn!(server = &*self.server, what, for_ms, "breaker open: too many calls failed");
            }
        }
    }
}

/// The instance that a call goes to.
pub struct Passage {
    way: Rc<Way>,
    index: usize,
    pool: usize,
    /// None once it is settled.
    entry: Option<Entry>,
}

impl Passage {
    pub fn new(way: &Rc<Way>, pick: route::Pick) -> Self {
        let passage =
            Self { way: Rc::clone(way), index: pick.index, pool: pick.pool, entry: Some(pick.entry) };
        let change = passage.entry.as_ref().and_then(Entry::change);
        passage.way.tell(passage.label(), change);
        passage
    }

    pub fn way(&self) -> &Rc<Way> {
        &self.way
    }

    pub fn cells(&self) -> Option<&InstanceCells> {
        self.way.cells.instances.get(self.index).map(|cells| &**cells)
    }

    fn label(&self) -> &str {
        self.cells().map_or("", |cells| &*cells.label)
    }

    /// Notes where the call goes.
    pub fn name(&self, record: &mut Record) {
        record.instance.set(self.label());
        let pools = &self.way.traffic.pools;
        // One that is alone has a name that tells nothing, or none of the operator's.
        match pools.get(self.pool).filter(|_| pools.len() > 1) {
            Some(pool) => record.pool.set(&pool.name),
            None => record.pool.clear(),
        }
    }

    /// Counts a request to the instance.
    pub fn count(&self, metrics: &WorkerMetrics) {
        let Some(known) = self.way.places.get(self.index) else { return };
        let find = || metrics.place_of(Family::UpstreamRequests, &[&*self.way.server, self.label()]);
        let place = known.get().unwrap_or_else(find);
        known.set(Some(place));
        metrics.count_at(Family::UpstreamRequests, place, 1);
    }

    pub fn settle(mut self, outcome: Outcome, now: Moment) {
        self.end(outcome, now);
    }

    /// A connection could not be made: for the breaker as any failure, for health as a failed probe.
    pub fn unreachable(self, now: Moment) {
        if let (Some(health), Some(cells)) = (&self.way.traffic.health, self.cells())
            && cells.health.failed(health).is_some()
        {
            tracing::warn!(
                server = &*self.way.server,
                instance = self.label(),
                "instance down: no connection"
            );
        }
        self.settle(Outcome::Failure, now);
    }

    fn end(&mut self, outcome: Outcome, now: Moment) {
        let (Some(entry), Some(cells)) = (self.entry.take(), self.way.cells.instances.get(self.index)) else {
            return;
        };
        let change = route::settle(cells, entry, outcome, now);
        self.way.tell(&cells.label, change);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.entry.is_some() {
            self.end(Outcome::Neutral, clock::now());
        }
    }
}

/// What a call holds of its server as a whole: a place among the calls in flight, a breaker of its tool.
pub struct Stay {
    way: Rc<Way>,
    adaptive: bool,
    tool: Option<(u64, breaker::Entry)>,
}

/// The tool of a call, where tools have breakers of their own.
#[derive(Clone, Copy)]
pub struct Tool<'a> {
    pub name: &'a str,
    pub hash: u64,
}

/// Why a server takes no more calls.
pub enum Closed {
    /// As many calls are in flight as it is found to serve in time.
    Busy,
    /// The breaker of the tool is open.
    Tool { retry_ms: u64 },
}

impl Stay {
    /// # Errors
    /// Where the server is busy, or the tool keeps failing.
    pub fn enter(way: &Rc<Way>, tool: Option<Tool<'_>>, now: Moment) -> Result<Self, Closed> {
        let mut stay = Self { way: Rc::clone(way), adaptive: false, tool: None };
        if let Some(adaptive) = &way.cells.adaptive {
            adaptive.enter().map_err(|_| Closed::Busy)?;
            stay.adaptive = true;
        }
        if let (Some(tools), Some(Tool { name, hash })) = (&way.cells.tools, tool)
            && let Some(cells) = tools.of(hash)
        {
            cells.note_name(name);
            let entry = cells.enter(now).map_err(|refused| Closed::Tool { retry_ms: refused.retry_ms })?;
            way.tell(name, entry.change());
            stay.tool = Some((hash, entry));
        }
        Ok(stay)
    }

    /// `latency_ns`: until the server answered or failed to.
    pub fn settle(mut self, outcome: Outcome, latency_ns: u64, now: Moment) {
        self.end(outcome, latency_ns, now);
    }

    fn end(&mut self, outcome: Outcome, latency_ns: u64, now: Moment) {
        if std::mem::take(&mut self.adaptive)
            && let (Some(adaptive), Some(settings)) = (&self.way.cells.adaptive, &self.way.traffic.adaptive)
        {
            let latency = (outcome != Outcome::Neutral).then_some(latency_ns);
            if let Some(limit) = adaptive.leave(settings, latency, now) {
                tracing::debug!(server = &*self.way.server, limit, "concurrency limit follows latency");
            }
        }
        if let Some((hash, entry)) = self.tool.take()
            && let Some(cells) = self.way.cells.tools.as_ref().and_then(|tools| tools.of(hash))
        {
            let change = cells.settle(entry, outcome, now);
            self.way.tell(cells.name().unwrap_or(""), change);
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if self.adaptive || self.tool.is_some() {
            self.end(Outcome::Neutral, 0, clock::now());
        }
    }
}

/// What the end of a call says about the server (features: breaker): connections that fail, timeouts, 5xx and
/// `-32603` are failures; errors of tools, 4xx and our own refusals are not, nor what a caller did.
pub fn verdict(exchange: &Exchange) -> Outcome {
    const INTERNAL_ERROR: i32 = -32603;
    // A list that is too long for us to look at is answered all the same.
    if exchange.fault.is_some_and(|fault| fault.bound == Some(Bound::HeldAnswer)) {
        return Outcome::Neutral;
    }
    match exchange.fault.map(|fault| fault.kind) {
        // A caller that waits for a millisecond proves nothing about the server.
        Some(Kind::UpstreamTimeout) if exchange.callers_ms.is_some() => Outcome::Neutral,
        Some(Kind::UpstreamTimeout | Kind::UpstreamProtocol | Kind::UpstreamUnavailable) => Outcome::Failure,
        Some(_) => Outcome::Neutral,
        None if exchange.record.status >= 500 || exchange.facts.error_code == Some(INTERNAL_ERROR) => {
            Outcome::Failure
        }
        None => Outcome::Success,
    }
}
