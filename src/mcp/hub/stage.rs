//! A stage for tests: servers of a config, with catalogues made of lists.

use crate::config;
use crate::config::plan::Plan;
use crate::config::plan::ServerId;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::hub::Scene;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) catalogues: Vec<Option<Catalogue>>,
}

impl Stage {
    /// A config, and for each server the result of each list that it gives; null: nothing is known of it.
    pub(super) fn new(yaml: &str, lists: &[Value]) -> Self {
        Self::of(yaml, lists).expect("a good config")
    }

    /// The same; none where the config is refused.
    pub(super) fn of(yaml: &str, lists: &[Value]) -> Option<Self> {
        let plan = config::load_text(yaml, "test.yaml", Path::new("")).ok()?.plan;
        Some(Self { plan, catalogues: Self::catalogues(lists) })
    }

    fn catalogues(lists: &[Value]) -> Vec<Option<Catalogue>> {
        let catalogues = lists.iter().map(|results| {
            let mut catalogue = Catalogue::default();
            for result in results.as_array()? {
                let message = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
                catalogue.add(message.as_bytes()).expect("a list");
            }
            Some(catalogue)
        });
        catalogues.collect()
    }

    /// Other lists of the same servers.
    pub(super) fn list(&mut self, lists: &[Value]) {
        self.catalogues = Self::catalogues(lists);
    }

    pub(super) fn with<T>(&self, hub: &str, then: impl FnOnce(&Scene<'_>) -> T) -> T {
        let catalogue = |id: ServerId| self.catalogues.get(usize::from(id)).and_then(Option::as_ref);
        let hub = &self.plan.hubs[usize::from(self.plan.hub_by_name[hub])];
        then(&Scene { hub, servers: &self.plan.servers, catalogue: &catalogue, members: hub.members.clone() })
    }
}

/// Tools of these names.
pub(super) fn tools(names: &[&str]) -> Value {
    let tools: Vec<_> =
        names.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
    json!({"tools": tools})
}
