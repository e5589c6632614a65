//! Names that servers of one virtual server have given to things of each: nobody is served under them, and the operator has
//! to hear of it, because it may begin while the gateway runs (a server has another tool since its last listing).
//!
//! Not here: whose a name is (`mcp::hub`).

use crate::config::hub::Hub;
use crate::config::plan::Server;
use crate::control::state::State;
use crate::handoff::Catalogues;
use crate::handoff::Shared;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::hub::Scene;
use crate::mcp::hub::lists;
use crate::mcp::hub::lists::Contested;
use std::collections::HashSet;
use std::sync::Arc;

/// Of each virtual server the names that several of its servers claim.
pub(crate) fn read(shared: &Shared) -> Vec<(Arc<str>, Vec<Contested>)> {
    let (plan, known) = (shared.plan.load(), shared.catalogues.load());
    let hubs = plan.hubs.iter().filter(|hub| !hub.is_prefixed() && hub.members.len() > 1);
    hubs.map(|hub| (Arc::clone(&hub.name), contested(hub, &plan.servers, &known))).collect()
}

fn contested(hub: &Hub, servers: &[Server], known: &Catalogues) -> Vec<Contested> {
    let catalogue = |id| -> Option<&Catalogue> {
        let server = servers.get(usize::from(id))?;
        known.by_server.get(&server.name).map(|known| &**known)
    };
    lists::contested(&Scene { hub, servers, catalogue: &catalogue, members: hub.members.clone() })
}

/// Tells of each name once, and again where it has been whole in between.
pub(crate) async fn tell(state: Arc<State>) {
    let (mut changed, mut reloaded) = (state.catalogues_changed.subscribe(), state.plan_changed.subscribe());
    let mut told = HashSet::new();
    loop {
        told = news(&state.shared, &told);
        tokio::select! {
            one = changed.changed() => if one.is_err() { return },
            other = reloaded.changed() => if other.is_err() { return },
        }
    }
}

type Told = HashSet<(Arc<str>, &'static str, String)>;

fn news(shared: &Shared, told: &Told) -> Told {
    let mut now = HashSet::new();
    for (endpoint, contested) in read(shared) {
        for Contested { kind, name, servers } in contested {
            let entry = (Arc::clone(&endpoint), kind.list(), name);
            if !told.contains(&entry) {
                let servers = servers.join(", ");
                tracing::warn!(
                    endpoint = &*endpoint,
                    list = kind.list(),
                    name = entry.2,
                    servers,
                    "several servers give this name: none of them is shown under it; name one exactly, or give it another name by `overrides`"
                );
            }
            now.insert(entry);
        }
    }
    now
}
