//! What a server says about itself: its era and revision, what it offers, and how it is to be used.
//!
//! Not here: asking it (control), and what a hub says about itself (`mcp::hub::about`).

use crate::mcp::envelope::Era;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a server says about itself, in `server/discover` or in its answer to `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub era: Era,
    /// The revision that it speaks with us.
    pub revision: Box<str>,
    pub has: Capabilities,
    /// `serverInfo`, as it was written; empty: it says nothing.
    pub info: Box<str>,
    /// Empty: none.
    pub instructions: Box<str>,
}

/// What a server offers that a hub can pass on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    /// `resources.subscribe`.
    pub subscribe: bool,
    pub completions: bool,
    pub logging: bool,
    /// `listChanged` of each: whether it tells of changes.
    pub tools_changed: bool,
    pub prompts_changed: bool,
    pub resources_changed: bool,
}

impl Capabilities {
    /// As a server declares them; what is no object is not there.
    fn read(declared: &Value) -> Self {
        let has = |name: &str| declared.get(name).is_some_and(Value::is_object);
        let says = |name: &str, flag: &str| {
            declared.get(name).and_then(|one| one.get(flag)).and_then(Value::as_bool) == Some(true)
        };
        Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            subscribe: says("resources", "subscribe"),
            completions: has("completions"),
            logging: has("logging"),
            tools_changed: says("tools", "listChanged"),
            prompts_changed: says("prompts", "listChanged"),
            resources_changed: says("resources", "listChanged"),
        }
    }
}

/// The answer to `server/discover`, or to `initialize`.
#[derive(Deserialize)]
struct Introduction<'m> {
    #[serde(borrow)]
    result: Introduced<'m>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Introduced<'m> {
    #[serde(default)]
    capabilities: Value,
    #[serde(borrow)]
    server_info: Option<&'m RawValue>,
    #[serde(rename = "_meta", borrow)]
    meta: Option<Meta<'m>>,
    instructions: Option<String>,
    protocol_version: Option<String>,
}

#[derive(Deserialize)]
struct Meta<'m> {
    #[serde(rename = "io.modelcontextprotocol/serverInfo", borrow)]
    server_info: Option<&'m RawValue>,
}

impl About {
    /// What a message says that answers `server/discover` (2026-07-28) or `initialize` (the older ones). None: it is no
    /// such message.
    pub fn read(era: Era, message: &[u8]) -> Option<Self> {
        let Introduction { result } = serde_json::from_slice(message).ok()?;
        let info = result.server_info.or_else(|| result.meta?.server_info);
        let revision = match era {
            Era::Modern => Some("2026-07-28".into()),
            Era::Legacy => result.protocol_version,
        };
        Some(Self {
            era,
            revision: revision.map_or_else(|| Self::default().revision, String::into_boxed_str),
            has: Capabilities::read(&result.capabilities),
            info: info.map_or("", |info| info.get()).into(),
            instructions: result.instructions.unwrap_or_default().into(),
        })
    }
}

impl Default for About {
    fn default() -> Self {
        Self {
            era: Era::Legacy,
            revision: "2025-11-25".into(),
            has: Capabilities::default(),
            info: "".into(),
            instructions: "".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(result: &Value) -> Vec<u8> {
        json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string().into_bytes()
    }

    #[test]
    fn a_server_introduces_itself_in_either_era() {
        let modern = answer(&json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": 7},
            "instructions": "Ask twice.",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "m"}},
        }));
        let about = About::read(Era::Modern, &modern).expect("an introduction");
        let has = Capabilities {
            tools: true,
            tools_changed: true,
            resources: true,
            subscribe: true,
            ..Capabilities::default()
        };
        assert_eq!((about.has, &*about.revision), (has, "2026-07-28"));
        assert_eq!((&*about.info, &*about.instructions), (r#"{"name":"m"}"#, "Ask twice."));
        let legacy = answer(&json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"prompts": {}, "completions": {}},
            "serverInfo": {"name": "l", "version": "1"},
        }));
        let about = About::read(Era::Legacy, &legacy).expect("an introduction");
        assert_eq!((about.has.prompts, about.has.completions, about.has.tools), (true, true, false));
        assert_eq!((&*about.revision, &*about.info), ("2025-06-18", r#"{"name":"l","version":"1"}"#));
        for message in [&b""[..], b"{}", br#"{"result":7}"#, br#"{"error":{}}"#] {
            assert_eq!(About::read(Era::Modern, message), None);
        }
        let bare = About::read(Era::Modern, &answer(&json!({}))).expect("it says nothing, and that well");
        assert_eq!(bare.has, Capabilities::default());
    }
}
