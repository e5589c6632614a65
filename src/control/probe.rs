//! Health probes: each instance of a server with `health` is asked once an interval whether it lives, whatever the
//! load and the number of workers.
//!
//! Not here: what is said (`dialogue`), and when an instance is in rotation (`route::health`). An instance has a task
//! of its own, so that no two of its probes overlap and a slow one holds up nobody else. A task follows the plan: it
//! looks its instance up by name before each probe, and ends when it is not found.

pub(in crate::control) mod dialogue;
pub(in crate::control) mod link;
#[cfg(test)]
pub(in crate::control) mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::EraChoice;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::plan::Transport;
use crate::config::traffic::Health;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::handoff::Cells;
use crate::handoff::Phase;
use crate::route::cells::InstanceCells;
use crate::route::health::Change;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use tokio::task::JoinSet;

/// Waits until no probe runs and no listing, so that each has closed its session. None begins once a drain has begun.
pub(crate) async fn ended(state: &State) {
    let all = |max: usize| u32::try_from(max).unwrap_or(u32::MAX);
    let _ = state.probes.acquire_many(all(limits::PROBES_MAX)).await;
    let _ = state.listings.acquire_many(all(limits::LISTINGS_MAX)).await;
}

/// An instance over reloads: of those with the same label the n-th, as cells are taken over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    server: Arc<str>,
    label: Arc<str>,
    nth: usize,
}

/// Keeps a task for each instance that is to be probed.
pub(crate) struct Prober {
    state: Arc<State>,
    tasks: JoinSet<Identity>,
    running: HashSet<Identity>,
}

impl Prober {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, tasks: JoinSet::new(), running: HashSet::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut changed = self.state.plan_changed.subscribe();
        loop {
            self.start_missing();
            tokio::select! {
                _ = changed.changed() => {}
                Some(ended) = self.tasks.join_next() => match ended {
                    // It may be wanted again by now.
                    Ok(identity) => drop(self.running.remove(&identity)),
                    Err(error) => tracing::error!(%error, "an instance is not probed any more; restart the gateway"),
                },
            }
        }
    }

    fn start_missing(&mut self) {
        let plan = self.state.plan();
        for server in plan.servers.iter().filter(|server| server.traffic.health.is_some()) {
            for index in 0..server.instances.len() {
                let Some(identity) = Identity::of(server, index) else { continue };
                if self.running.insert(identity.clone()) {
                    self.tasks.spawn(keep_probing(Arc::clone(&self.state), identity));
                }
            }
        }
    }
}

impl Identity {
    fn of(server: &Server, index: usize) -> Option<Self> {
        let label = &server.instances.get(index)?.label;
        let nth = server.instances.iter().take(index).filter(|earlier| earlier.label == *label).count();
        Some(Self { server: Arc::clone(&server.name), label: Arc::clone(label), nth })
    }

    /// The server with its probing, and the place of the instance.
    fn find<'p>(&self, plan: &'p Plan) -> Option<(&'p Server, &'p Health, usize)> {
        let server = plan.server_of(&self.server)?;
        let mut alike =
            server.instances.iter().enumerate().filter(|(_, instance)| instance.label == self.label);
        Some((server, server.traffic.health.as_ref()?, alike.nth(self.nth)?.0))
    }

    fn cells<'c>(&self, cells: &'c Cells) -> Option<&'c InstanceCells> {
        let all = &cells.by_server.get(&self.server)?.instances;
        all.iter().filter(|instance| *instance.label == *self.label).nth(self.nth).map(|instance| &**instance)
    }
}

/// The addresses of an endpoint's name, as far as they are known; none where it has no name.
pub(in crate::control) fn addresses(state: &State, endpoint: &Endpoint) -> Arc<[SocketAddr]> {
    match &endpoint.transport {
        Transport::Name { key, .. } => {
            state.shared.addresses.load().by_name.get(key).cloned().unwrap_or_default()
        }
        Transport::Address(_) | Transport::Unix(_) => Arc::default(),
    }
}

/// The instances of a server, those in rotation first.
pub(in crate::control) fn in_order<'p>(state: &State, server: &'p Server) -> Vec<&'p Endpoint> {
    let cells = state.shared.cells.load();
    let cells = cells.by_server.get(&server.name);
    let is_up = |index: usize| {
        cells.and_then(|cells| cells.instances.get(index)).is_none_or(|cells| cells.health.is_up())
    };
    let mut all: Vec<(usize, &Endpoint)> = server.instances.iter().enumerate().collect();
    all.sort_by_key(|(index, _)| !is_up(*index));
    all.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// One instance's task. Gives its identity back when the plan has it no more.
async fn keep_probing(state: Arc<State>, identity: Identity) -> Identity {
    let mut changed = state.plan_changed.subscribe();
    let mut learned = Learned::default();
    // A moment of its own for each, so that they do not all come at once, and none with the first calls: who asks
    // seldom does not want to be asked at the start.
    let share = RandomState::new().hash_one(&identity) % 1_000 + 1;
    let (start, mut last) = (clock::now(), None);
    while let Some(interval_ms) = interval_ms(&state, &identity) {
        let due = last.map_or(start.plus_millis(interval_ms * share / 1_000), |last: Moment| {
            last.plus_millis(interval_ms)
        });
        tokio::select! {
            () = tokio::time::sleep(Duration::from_nanos(due.nanos_since(clock::now()))) => {}
            // Another interval may be wanted, or none.
            _ = changed.changed() => continue,
        }
        let permit = state.probes.acquire().await;
        if matches!(state.shared.phase(), Phase::Draining | Phase::Stopping) {
            // Nobody is left to need it, and it could not close its session any more.
            return identity;
        }
        last = Some(clock::now());
        probe(&state, &identity, &mut learned).await;
        drop(permit);
    }
    identity
}

fn interval_ms(state: &State, identity: &Identity) -> Option<u64> {
    identity.find(&state.shared.plan.load()).map(|(_, health, _)| health.interval_ms)
}

/// The era that an instance has shown, until the next reload.
#[derive(Default)]
struct Learned {
    plan: Weak<Plan>,
    era: Option<EraChoice>,
}

impl Learned {
    fn era(&self, plan: &Arc<Plan>) -> Option<EraChoice> {
        self.era.filter(|_| std::ptr::eq(self.plan.as_ptr(), Arc::as_ptr(plan)))
    }
}

/// Asks once, and notes what follows.
async fn probe(state: &State, identity: &Identity, learned: &mut Learned) {
    let plan = state.plan();
    let Some((server, health, index)) = identity.find(&plan) else { return };
    let Some(endpoint) = server.instances.get(index) else { return };
    let addresses = addresses(state, endpoint);
    let mut dialogue = Dialogue::new(Target { server, endpoint, addresses: &addresses, shown: &[] });
    let patience = Duration::from_millis(health.timeout_ms);
    let asked = match server.era {
        EraChoice::Auto => learned.era(&plan).unwrap_or(EraChoice::Auto),
        pinned => pinned,
    };
    let found = tokio::time::timeout(patience, dialogue.talk(asked)).await;
    let found = found.unwrap_or_else(|_| Err(format!("no answer within {} ms", health.timeout_ms)));
    dialogue.close(patience).await;
    // What failed in a learned era is asked in both the next time.
    *learned = Learned { plan: Arc::downgrade(&plan), era: found.as_ref().ok().copied() };
    // A reload may have come meanwhile: the cells of now.
    let cells = state.shared.cells.load();
    let Some(instance) = identity.cells(&cells) else { return };
    if let Some(utilisation) = dialogue.load {
        instance.load.report(utilisation, clock::now());
    }
    note(instance, health, identity, &found);
}

/// One log line for each change.
fn note(instance: &InstanceCells, health: &Health, identity: &Identity, found: &Result<EraChoice, String>) {
    let change = match found {
        Ok(_) => instance.probe_succeeded(health, clock::now()),
        Err(_) => instance.health.failed(health),
    };
    let (server, instance) = (&*identity.server, &*identity.label);
    match (change, found) {
        (Some(Change::Down), Err(reason)) => {
            tracing::warn!(server, instance, reason, "an instance is out of rotation");
        }
        (Some(Change::Up), _) => tracing::info!(server, instance, "an instance is back in rotation"),
        (_, Err(reason)) => tracing::debug!(server, instance, reason, "a probe failed"),
        _ => {}
    }
}
