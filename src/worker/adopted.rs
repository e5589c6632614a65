//! What a worker has made of the newest plan: its servers with their connections and cursors.
//!
//! Not here: changing anything. A new plan makes a new value; instances that both have in common keep their
//! connections.

use crate::config::keys::KeyRing;
use crate::config::plan::Endpoint;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::plan::Transport;
use crate::handoff::Addresses;
use crate::handoff::Shared;
use crate::upstream::pool::Instance;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub struct Adopted {
    /// At which it was made; raised by control when anything changed.
    pub epoch: u64,
    pub plan: Arc<Plan>,
    pub keys: Arc<KeyRing>,
    pub addresses: Arc<Addresses>,
    /// Same order as `plan.servers`.
    pub servers: Vec<ServerState>,
}

pub struct ServerState {
    plan: Arc<Plan>,
    index: usize,
    /// Where round robin goes on.
    pub cursor: Rc<Cell<usize>>,
    pub instances: Vec<Rc<Instance>>,
}

impl Adopted {
    /// Reads the shared parts; `before` lends its connections.
    pub fn new(shared: &Shared, epoch: u64, before: Option<&Self>) -> Rc<Self> {
        let plan = shared.plan.load_full();
        let addresses = shared.addresses.load_full();
        let servers = plan
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                let old = before.and_then(|before| before.find(&server.name));
                let instances = server
                    .instances
                    .iter()
                    .map(|endpoint| {
                        let kept = old.and_then(|old| old.same_instance(server, endpoint));
                        let instance =
                            kept.unwrap_or_else(|| Instance::new(endpoint.clone(), server.tls.clone()));
                        if let Transport::Name { key, .. } = &endpoint.transport
                            && let Some(now) = addresses.by_name.get(key)
                        {
                            instance.follow(now);
                        }
                        instance
                    })
                    .collect();
                let cursor = old.map_or_else(Rc::default, |old| Rc::clone(&old.cursor));
                ServerState { plan: Arc::clone(&plan), index, cursor, instances }
            })
            .collect();
        Rc::new(Self { epoch, keys: shared.keys.load_full(), addresses, servers, plan })
    }

    fn find(&self, name: &str) -> Option<&ServerState> {
        self.servers.iter().find(|state| *state.config().name == *name)
    }
}

impl ServerState {
    /// What the operator wanted of this server.
    pub fn config(&self) -> &Server {
        // The index was made from this very plan.
        &self.plan.servers[self.index]
    }

    /// An instance that an open connection may serve unchanged: same place, and for TLS the same trust.
    fn same_instance(&self, server: &Server, endpoint: &Endpoint) -> Option<Rc<Instance>> {
        let trusted = |one: &Instance| match (&one.tls, &server.tls) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        self.instances
            .iter()
            .find(|one| {
                one.endpoint.transport == endpoint.transport
                    && one.endpoint.target == endpoint.target
                    && one.endpoint.authority == endpoint.authority
                    && trusted(one)
            })
            .map(Rc::clone)
    }
}
