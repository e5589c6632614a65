//! What all workers share about one server: a cell for each instance, the adaptive limit, breakers of tools,
//! the hold after a 429. Made when a plan is adopted; what was counted survives a reload.
//!
//! Not here: what one worker keeps to itself (`balance::Local`, `RetryBudget`, `Latencies`).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::base::clock::Moment;
use crate::config::limits::TOOL_BREAKERS_MAX;
use crate::config::traffic::Breaker as BreakerSettings;
use crate::config::traffic::Health;
use crate::config::traffic::Traffic;
use crate::route::adaptive::AdaptiveCell;
use crate::route::breaker::Breaker;
use crate::route::breaker::Change;
use crate::route::breaker::Entry;
use crate::route::breaker::Outcome;
use crate::route::breaker::Refused;
use crate::route::breaker::State;
use crate::route::flow::Flow;
use crate::route::health;
use crate::route::health::HealthCell;
use crate::route::load::LoadCell;
use crate::route::slow_start::LastReturn;
use crate::route::slow_start::ReturnCell;
use std::sync::Arc;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct ServerCells {
    pub instances: Box<[Arc<InstanceCells>]>,
    pub adaptive: Option<Arc<AdaptiveCell>>,
    pub tools: Option<Arc<ToolBreakers>>,
    pub hold: Arc<HoldCell>,
    /// Of any of the instances.
    pub(super) last_return: Arc<LastReturn>,
    /// Whether calls in flight are counted: for breakers, and where the balance compares them.
    pub(super) counts_flow: bool,
}

impl ServerCells {
    /// `labels`: one for each instance, in the order of the plan. Of `before`, the same server's cells under the
    /// last plan, whatever the new plan has as well is taken over; breakers begin anew where their settings
    /// changed, as what they counted was counted for others. An instance that this brings into rotation comes back `now`;
    /// those of a server that is new itself were always there.
    pub fn new(traffic: &Traffic, labels: &[&str], before: Option<&Self>, now: Moment) -> Self {
        let last_return = before.map(|cells| Arc::clone(&cells.last_return)).unwrap_or_default();
        let instance = |(index, label): (usize, &&str)| {
            // Of instances with the same label the n-th becomes the n-th.
            let same = labels.iter().take(index).filter(|earlier| *earlier == label).count();
            let mut known = before.into_iter().flat_map(|cells| cells.instances.iter());
            let known = known.by_ref().filter(|cells| &*cells.label == *label).nth(same);
            let cells = InstanceCells::taken_over(traffic, label, known, &last_return);
            let was_out = known.map_or(before.is_some(), |known| known.is_broken(now));
            if was_out && !cells.is_broken(now) {
                cells.returned.note(now);
            }
            cells
        };
        let adaptive = traffic.adaptive.as_ref().map(|settings| {
            let known = before.and_then(|cells| cells.adaptive.clone());
            let cell = known.unwrap_or_else(|| Arc::new(AdaptiveCell::new(settings)));
            cell.adopt(settings);
            cell
        });
        let tools = traffic.breaker.as_ref().filter(|settings| settings.per_tool).map(|settings| {
            let known = before.and_then(|cells| cells.tools.clone());
            let same = known.filter(|tools| tools.settings == *settings);
            same.unwrap_or_else(|| Arc::new(ToolBreakers::new(settings)))
        });
        Self {
            instances: labels.iter().enumerate().map(instance).collect(),
            adaptive,
            tools,
            hold: before.map(|cells| cells.hold.clone()).unwrap_or_default(),
            counts_flow: traffic.balance.compares() || traffic.breaker.is_some(),
            last_return,
        }
    }

    /// To be called about once a second, by one thread, so that breakers change state without calls too.
    pub fn tidy(&self, now: Moment, mut changed: impl FnMut(Guarded, Change)) {
        for (index, instance) in self.instances.iter().enumerate() {
            let change = instance.breaker.as_ref().and_then(|breaker| breaker.tidy(now));
            change.into_iter().for_each(|change| changed(Guarded::Instance(index), change));
        }
        for tool in self.tools.iter().flat_map(|tools| tools.in_use()) {
            let change = tool.breaker.tidy(now);
            change.into_iter().for_each(|change| changed(Guarded::Tool(tool.tag()), change));
        }
    }
}

/// Whose breaker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    Instance(usize),
    /// By the hash of its name.
    Tool(u64),
}

/// Two cache lines of its own: every call writes `flow`, and processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct InstanceCells {
    pub flow: Flow,
    pub breaker: Option<Breaker>,
    pub health: HealthCell,
    pub load: LoadCell,
    pub returned: ReturnCell,
    pub label: Box<str>,
}

impl InstanceCells {
    /// A probe succeeded. Where that brings the instance back, it starts slowly.
    pub fn probe_succeeded(&self, settings: &Health, now: Moment) -> Option<health::Change> {
        let change = self.health.succeeded(settings);
        if change == Some(health::Change::Up) {
            self.returned.note(now);
        }
        change
    }

    /// Whether its breaker lets no calls in, or only probes.
    fn is_broken(&self, now: Moment) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.state(now) != State::Closed)
    }

    fn taken_over(
        traffic: &Traffic,
        label: &str,
        known: Option<&Arc<Self>>,
        last_return: &Arc<LastReturn>,
    ) -> Arc<Self> {
        let settings = traffic.breaker.as_ref();
        let same = known.filter(|cells| cells.breaker.as_ref().map(Breaker::settings) == settings);
        same.cloned().unwrap_or_else(|| {
            Arc::new(Self {
                flow: Flow::default(),
                breaker: settings.map(Breaker::new),
                health: known.map(|cells| HealthCell::as_of(&cells.health)).unwrap_or_default(),
                load: known.map(|cells| LoadCell::as_of(&cells.load)).unwrap_or_default(),
                returned: known.map_or_else(
                    || ReturnCell::new(Arc::clone(last_return)),
                    |cells| ReturnCell::as_of(&cells.returned),
                ),
                label: label.into(),
            })
        })
    }
}

/// A breaker for each tool that was called, up to a fixed number of tools; they are never forgotten.
#[derive(Debug)]
pub struct ToolBreakers {
    settings: BreakerSettings,
    slots: Box<[ToolCells]>,
}

#[derive(Debug)]
#[repr(align(128))]
pub struct ToolCells {
    /// Hash of the tool's name, 0 while free.
    tag: AtomicU64,
    /// For the metrics, once somebody has told it.
    name: OnceLock<Box<str>>,
    flow: Flow,
    breaker: Breaker,
}

impl ToolBreakers {
    fn new(settings: &BreakerSettings) -> Self {
        let slot = |_| ToolCells {
            tag: AtomicU64::new(0),
            name: OnceLock::new(),
            flow: Flow::default(),
            breaker: Breaker::new(settings),
        };
        Self { settings: *settings, slots: (0..TOOL_BREAKERS_MAX).map(slot).collect() }
    }

    /// The cells of the tool whose name has this hash; claimed if it has none. None once all are taken: such a
    /// tool is guarded by the instance's breaker alone.
    pub fn of(&self, name_hash: u64) -> Option<&ToolCells> {
        let tag = name_hash.max(1);
        let first = usize::try_from(tag % self.slots.len() as u64).ok()?;
        let (before, from) = self.slots.split_at_checked(first)?;
        from.iter().chain(before).find(|slot| slot.is(tag))
    }

    pub fn in_use(&self) -> impl Iterator<Item = &ToolCells> {
        self.slots.iter().filter(|slot| slot.tag() != 0)
    }
}

impl ToolCells {
    pub fn tag(&self) -> u64 {
        self.tag.load(Ordering::Relaxed)
    }

    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Notes the tool's name. The first call of a tool allocates; of two tools with one hash the first stays.
    pub fn note_name(&self, name: &str) {
        self.name.get_or_init(|| name.into());
    }

    pub fn name(&self) -> Option<&str> {
        self.name.get().map(|name| &**name)
    }

    pub fn enter(&self, now: Moment) -> Result<Entry, Refused> {
        self.breaker.enter(&self.flow, now)
    }

    pub fn settle(&self, entry: Entry, outcome: Outcome, now: Moment) -> Option<Change> {
        self.breaker.finish(&self.flow, entry, outcome, now)
    }

    /// Whether this is the slot of `tag`, perhaps only now.
    fn is(&self, tag: u64) -> bool {
        let claimed = || self.tag.compare_exchange(0, tag, Ordering::Relaxed, Ordering::Relaxed);
        match self.tag() {
            0 => claimed().map_or_else(|other| other == tag, |_| true),
            other => other == tag,
        }
    }
}

/// Until when a server that answered 429 is left alone.
#[derive(Debug, Default)]
pub struct HoldCell(AtomicU64);

impl HoldCell {
    /// Never shortens a hold that lasts longer.
    pub fn hold(&self, until: Moment) {
        self.0.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Milliseconds that are left, rounded up.
    pub fn left_ms(&self, now: Moment) -> Option<u64> {
        let left = Moment::from_nanos(self.0.load(Ordering::Relaxed)).nanos_since(now);
        (left > 0).then(|| left.div_ceil(1_000_000))
    }
}
