//! What a worker has made of the newest plan: its servers with their connections and cursors.
//!
//! Not here: changing anything. A new plan makes a new value; instances that both have in common keep their
//! connections.

use crate::config::keys::KeyRing;
use crate::config::plan::Endpoint;
use crate::config::plan::EraChoice;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::config::plan::Transport;
use crate::handoff::Addresses;
use crate::handoff::Catalogues;
use crate::handoff::Cells;
use crate::handoff::Eras;
use crate::handoff::SessionKey;
use crate::handoff::Shared;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed;
use crate::policy::kills::Kills;
use crate::policy::limits::rules::Rules;
use crate::policy::token::TokenKeys;
use crate::upstream::pool::Instance;
use crate::worker::passage::Way;
use std::rc::Rc;
use std::sync::Arc;

pub struct Adopted {
    /// At which it was made; raised by control when anything changed.
    pub epoch: u64,
    /// Another one: callers that were known are not known any more.
    pub generation: u64,
    pub plan: Arc<Plan>,
    pub keys: Arc<KeyRing>,
    pub addresses: Arc<Addresses>,
    pub kills: Arc<Kills>,
    pub token_keys: Arc<TokenKeys>,
    pub catalogues: Arc<Catalogues>,
    /// The limits of the plan, made ready.
    pub rules: Rules,
    /// Same order as `plan.servers`.
    pub servers: Vec<ServerState>,
    /// What the hubs of the plan are called in sealed tokens, in their order.
    pub hub_names: Vec<u64>,
}

pub struct ServerState {
    plan: Arc<Plan>,
    index: usize,
    /// What it is called in sealed tokens.
    pub sealed_name: u64,
    /// Which instances it has (`Server::place`).
    place: u64,
    /// The eras that it speaks, as they are pinned or as it has shown.
    pub eras: Eras,
    /// How its instances are chosen.
    pub way: Rc<Way>,
    pub instances: Vec<Rc<Instance>>,
}

impl Adopted {
    /// Reads the shared parts; `before` lends its connections.
    pub fn new(shared: &Shared, epoch: u64, before: Option<&Self>) -> Rc<Self> {
        let addresses = shared.addresses.load_full();
        let cells = shared.cells.load();
        let plan = Arc::clone(&cells.plan);
        let catalogues = shared.catalogues.load_full();
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
                let way = Self::way(server, &cells, old);
                let sealed_name = sealed::name_of(&server.name);
                let eras = match server.era {
                    EraChoice::Auto => catalogues.eras.get(&server.name).copied().unwrap_or_default(),
                    pinned => Eras::pinned(pinned),
                };
                ServerState {
                    plan: Arc::clone(&plan),
                    index,
                    sealed_name,
                    place: server.place(),
                    eras,
                    way,
                    instances,
                }
            })
            .collect();
        let rules = Rules::new(&plan.limits, &shared.limits.keys);
        let (keys, kills) = (shared.keys.load_full(), shared.kills.load_full());
        let token_keys = shared.token_keys.load_full();
        let hub_names = plan.hubs.iter().map(|hub| sealed::name_of(&hub.name)).collect();
        let same = before.filter(|before| {
            Arc::ptr_eq(&before.plan, &plan)
                && Arc::ptr_eq(&before.keys, &keys)
                && Arc::ptr_eq(&before.token_keys, &token_keys)
        });
        let generation = same.map_or(epoch, |before| before.generation);
        Rc::new(Self {
            epoch,
            generation,
            keys,
            addresses,
            kills,
            token_keys,
            catalogues,
            rules,
            servers,
            hub_names,
            plan,
        })
    }

    /// The same as before where nothing of the server's traffic changed: a round goes on where it was.
    fn way(server: &Server, cells: &Cells, old: Option<&ServerState>) -> Rc<Way> {
        // The server is one of the very plan that the cells were made with.
        let shared = &cells.by_server[&server.name];
        match old {
            Some(old) if old.way.is_of(&server.traffic, shared) => Rc::clone(&old.way),
            _ => Way::new(server, Arc::clone(shared)),
        }
    }

    /// None: an id of another plan.
    pub fn server(&self, id: ServerId) -> Option<&ServerState> {
        self.servers.get(usize::from(id))
    }

    pub fn find(&self, name: &str) -> Option<&ServerState> {
        self.servers.iter().find(|state| *state.config().name == *name)
    }
}

impl ServerState {
    /// What a session on it is opened for: on the instances that it has by this plan.
    pub fn session_key(
        &self,
        owner: [u8; 16],
        client: [u8; 8],
        abilities: Abilities,
        pool: Option<Box<str>>,
    ) -> SessionKey {
        let server = Arc::clone(&self.config().name);
        SessionKey { server, place: self.place, owner, client, abilities: abilities.0, pool }
    }

    /// The plan that it is of.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

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
