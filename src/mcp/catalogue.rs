//! What a server offers, as control has listed it: names, and what tools say about themselves.
//!
//! Not here: fetching (control), and which of it a caller may see (`policy::access`).

use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::target::Target;
use ahash::HashMap;
use ahash::HashSet;
use serde::Deserialize;
use serde_json::Value;

/// One server's, whole or not at all.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub tools: HashMap<Box<str>, Annotations>,
    pub prompts: HashSet<Box<str>>,
}

/// A message that answers a list request; what else it says is not looked at.
#[derive(Deserialize)]
struct Message {
    result: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    tools: Vec<Item>,
    #[serde(default)]
    prompts: Vec<Item>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    #[serde(default)]
    annotations: Value,
}

impl Catalogue {
    /// Adds what a page of `tools/list` or `prompts/list` names; gives the cursor of the next page, if there is one.
    ///
    /// # Errors
    /// A sentence's end, where the message is no such page, or the names are more than [`limits::CATALOGUE_NAMES_MAX`].
    pub fn add(&mut self, message: &[u8]) -> Result<Option<String>, &'static str> {
        let Message { result } =
            serde_json::from_slice(message).map_err(|_| "its list is not what the specification says")?;
        for Item { name, annotations } in result.tools {
            self.tools.insert(name.into(), Annotations::read(&annotations));
        }
        self.prompts.extend(result.prompts.into_iter().map(|prompt| Box::from(prompt.name)));
        if self.tools.len() + self.prompts.len() > limits::CATALOGUE_NAMES_MAX {
            return Err("its list has more names than a catalogue holds");
        }
        Ok(result.next_cursor)
    }

    /// Whether a tool says that calling it again with the same arguments changes nothing more.
    pub fn is_idempotent(&self, tool: &str) -> bool {
        self.tools.get(tool).is_some_and(|annotations| annotations.idempotent)
    }

    /// Whether the server may have what a message names. Of resources nobody can say; and where it lists no tools, or
    /// no prompts, there are none whose names could be told from others.
    pub fn may_have(&self, target: &Target<'_>) -> bool {
        match target.named {
            Named::Tool => self.tools.is_empty() || self.tools.contains_key(&*target.name),
            Named::Prompt => self.prompts.is_empty() || self.prompts.contains(&*target.name),
            Named::Resource => true,
        }
    }
}

/// Hints of a tool (2026-07-28, `ToolAnnotations`), with the specification's defaults where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotations {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

impl Default for Annotations {
    fn default() -> Self {
        Self { read_only: false, destructive: true, idempotent: false, open_world: true }
    }
}

impl Annotations {
    /// What is missing, or no truth value, is the default.
    fn read(annotations: &Value) -> Self {
        let usual = Self::default();
        let hint = |name, usual| annotations.get(name).and_then(Value::as_bool).unwrap_or(usual);
        Self {
            read_only: hint("readOnlyHint", usual.read_only),
            destructive: hint("destructiveHint", usual.destructive),
            idempotent: hint("idempotentHint", usual.idempotent),
            open_world: hint("openWorldHint", usual.open_world),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lists_is_all_that_it_has_of_a_kind() {
        let catalogue = Catalogue {
            tools: [("a".into(), Annotations::default())].into_iter().collect(),
            ..Catalogue::default()
        };
        for (named, name, expected) in [
            (Named::Tool, "a", true),
            (Named::Tool, "A", false),
            (Named::Tool, "", false),
            (Named::Prompt, "b", true),
            (Named::Resource, "b", true),
        ] {
            assert_eq!(
                catalogue.may_have(&Target { named, name: name.into() }),
                expected,
                "{named:?} {name}"
            );
        }
    }
    use serde_json::json;

    fn page(result: &Value) -> Vec<u8> {
        json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string().into_bytes()
    }

    #[test]
    fn pages_add_up_and_hints_have_their_defaults() {
        let mut catalogue = Catalogue::default();
        let first = page(&json!({"nextCursor": "", "tools": [
            {"name": "a", "inputSchema": {}},
            {"name": "b", "annotations": {"readOnlyHint": true, "title": "B", "destructiveHint": false}},
        ]}));
        assert_eq!(catalogue.add(&first), Ok(Some(String::new())), "an empty cursor is one");
        let second = page(&json!({"tools": [
            {"name": "c", "annotations": {"idempotentHint": true, "openWorldHint": false}},
            {"name": "d", "annotations": {"idempotentHint": "true", "destructiveHint": null}},
            {"name": "e", "annotations": null},
        ]}));
        assert_eq!(catalogue.add(&second), Ok(None));
        assert_eq!(catalogue.add(&page(&json!({"prompts": [{"name": "p"}, {"name": "q"}]}))), Ok(None));
        let usual = Annotations::default();
        for (name, expected) in [
            ("a", usual),
            ("b", Annotations { read_only: true, destructive: false, ..usual }),
            ("c", Annotations { idempotent: true, open_world: false, ..usual }),
            ("d", usual),
            ("e", usual),
        ] {
            assert_eq!(catalogue.tools.get(name), Some(&expected), "{name}");
        }
        assert_eq!((catalogue.tools.len(), catalogue.prompts.len()), (5, 2));
        assert!(catalogue.prompts.contains("p"));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for message in [
            b"".to_vec(),
            b"[]".to_vec(),
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}).to_string().into(),
            page(&json!([])),
            page(&json!({"tools": {}})),
            page(&json!({"tools": [{"title": "nameless"}]})),
            page(&json!({"tools": [], "nextCursor": 2})),
        ] {
            let shown = String::from_utf8_lossy(&message).into_owned();
            assert!(Catalogue::default().add(&message).is_err(), "{shown}");
        }
    }

    #[test]
    fn names_have_a_bound() {
        let tools = |count: usize| {
            let names = (0..count).map(|number| json!({"name": format!("t{number}")}));
            page(&json!({"tools": names.collect::<Vec<_>>()}))
        };
        assert!(Catalogue::default().add(&tools(limits::CATALOGUE_NAMES_MAX)).is_ok());
        assert!(Catalogue::default().add(&tools(limits::CATALOGUE_NAMES_MAX + 1)).is_err());
    }
}
