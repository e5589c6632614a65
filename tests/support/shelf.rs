//! What a scripted server lists, changed by the test while the gateway lists it.
//!
//! Not here: what its tools do (script), and how a list has to be shown.

use super::script;
use super::script::Script;
use super::upstream::Builder;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;

/// The four lists: method, member, and what names an entry.
pub const LISTS: [(&str, &str, &str); 4] = [
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
];

/// Entries, and for how long and whom they are told.
#[derive(Clone)]
pub struct Shelf(Arc<Mutex<Stock>>);

struct Stock {
    lists: [Vec<Value>; 4],
    ttl_ms: u64,
    scope: &'static str,
}

impl Shelf {
    /// Of these tools, fresh for an hour, for everybody.
    pub fn of(tools: &[&str]) -> Self {
        let stock = Stock { lists: Default::default(), ttl_ms: 3_600_000, scope: "public" };
        let shelf = Self(Arc::new(Mutex::new(stock)));
        shelf.set(0, tools);
        shelf
    }

    /// From now on the list of that number (`LISTS`) is of these names.
    pub fn set(&self, list: usize, names: &[&str]) {
        let entry = |name: &&str| match list {
            0 => json!({"name": name, "inputSchema": {"type": "object"}}),
            1 => json!({"name": name}),
            _ => json!({LISTS[list].2: name, "name": "something"}),
        };
        self.0.lock().unwrap().lists[list] = names.iter().map(entry).collect();
    }

    #[must_use]
    pub fn with(self, list: usize, names: &[&str]) -> Self {
        self.set(list, names);
        self
    }

    /// One more tool, as this JSON.
    #[must_use]
    pub fn with_tool(self, tool: Value) -> Self {
        self.0.lock().unwrap().lists[0].push(tool);
        self
    }

    #[must_use]
    pub fn fresh_for(self, ttl_ms: u64, scope: &'static str) -> Self {
        {
            let mut stock = self.0.lock().unwrap();
            (stock.ttl_ms, stock.scope) = (ttl_ms, scope);
        }
        self
    }

    /// What answers the list of that number.
    pub fn script(&self, list: usize) -> Script {
        let stock = Arc::clone(&self.0);
        script::script(move |connection, request| {
            let page = {
                let stock = stock.lock().unwrap();
                json!({"resultType": "complete", "ttlMs": stock.ttl_ms, "cacheScope": stock.scope,
                       LISTS[list].1: stock.lists[list]})
            };
            script::send(connection, &script::plain(200, &script::result(request, &page)))
        })
    }
}

impl Builder {
    /// Lists what the shelf holds, now and later; all tools give back their arguments.
    #[must_use]
    pub fn shelf(self, shelf: &Shelf) -> Self {
        let up = self.able(r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}"#);
        (0..4).fold(up, |up, list| up.method(LISTS[list].0, shelf.script(list)))
    }
}
