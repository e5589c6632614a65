//! Crossing: a message of one server on its way to a client that knows the server by other names, or speaks another
//! revision, and back. Messages are spliced, never written anew: every byte that nothing is said about stays.
//!
//! Not here: which server, and which session of it (worker); lists, which come from catalogues (`hub`).

pub mod answer;
pub mod event_ids;
pub mod path;
pub mod questions;
pub mod request;
pub mod request_ids;
pub mod stream;
pub mod uris;

pub(crate) mod fields;

use crate::mcp::envelope::Method;
use crate::mcp::envelope::REVISION_MODERN;
use crate::mcp::grammar::Shape;
use crate::mcp::refusal::string;

/// What a client lets servers ask it, as bits that fit a sealed session (2025-11-25 `ClientCapabilities`, 2026-07-28
/// `_meta["io.modelcontextprotocol/clientCapabilities"]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Abilities(pub u8);

impl Abilities {
    pub const FORM: u8 = 1;
    pub const URL: u8 = 2;
    pub const SAMPLING: u8 = 4;
    pub const ROOTS: u8 = 8;
    pub const SAMPLING_TOOLS: u8 = 16;
    pub const SAMPLING_CONTEXT: u8 = 32;
    /// It tells of changed roots: within a session only.
    pub const ROOTS_CHANGED: u8 = 64;

    /// Some servers list certain tools only for clients that could answer their questions.
    pub const ALL: Self = Self(Self::FORM | Self::URL | Self::SAMPLING | Self::ROOTS);

    /// What an older client says in `initialize`: the raw value of `capabilities`. What cannot be read is nothing.
    pub fn of_legacy(raw: &str) -> Self {
        let Ok([elicitation, sampling, roots]) =
            fields::fields_of(raw, &["elicitation", "sampling", "roots"])
        else {
            return Self::default();
        };
        let mut bits = 0;
        if elicitation.shape == Shape::Object {
            let [form, url] =
                fields::fields_of(fields::raw(raw, elicitation), &["form", "url"]).unwrap_or_default();
            let has_url = url.shape == Shape::Object;
            // Who names no mode means forms, the only ones that there were.
            if form.shape == Shape::Object || !has_url {
                bits |= Self::FORM;
            }
            if has_url {
                bits |= Self::URL;
            }
        }
        if sampling.shape == Shape::Object {
            let [tools, context] =
                fields::fields_of(fields::raw(raw, sampling), &["tools", "context"]).unwrap_or_default();
            bits |= Self::SAMPLING;
            if tools.shape == Shape::Object {
                bits |= Self::SAMPLING_TOOLS;
            }
            if context.shape == Shape::Object {
                bits |= Self::SAMPLING_CONTEXT;
            }
        }
        if roots.shape == Shape::Object {
            bits |= Self::ROOTS;
            let [changed] = fields::fields_of(fields::raw(raw, roots), &["listChanged"]).unwrap_or_default();
            if fields::raw(fields::raw(raw, roots), changed) == "true" {
                bits |= Self::ROOTS_CHANGED;
            }
        }
        Self(bits)
    }

    /// What a client of 2026-07-28 says in `_meta`: the raw value of `clientCapabilities`, which has the same members.
    pub fn of_modern(raw: &str) -> Self {
        // Roots do not change: clients of 2026-07-28 do not tell.
        Self(Self::of_legacy(raw).0 & !Self::ROOTS_CHANGED)
    }

    /// As `capabilities` of `initialize`.
    pub fn as_legacy(self) -> String {
        let roots = if self.has(Self::ROOTS_CHANGED) { r#"{"listChanged":true}"# } else { "{}" };
        // Before 2025-11-25 elicitation had no modes.
        self.written("{}", roots)
    }

    /// As `clientCapabilities` of `_meta`.
    pub fn as_modern(self) -> String {
        self.written(r#"{"form":{}}"#, "{}")
    }

    fn written(self, form: &str, roots: &str) -> String {
        let elicitation = match (self.has(Self::FORM), self.has(Self::URL)) {
            (true, true) => r#"{"form":{},"url":{}}"#,
            (true, false) => form,
            (false, true) => r#"{"url":{}}"#,
            (false, false) => "",
        };
        let sampling = match (self.has(Self::SAMPLING_TOOLS), self.has(Self::SAMPLING_CONTEXT)) {
            _ if !self.has(Self::SAMPLING) => "",
            (true, true) => r#"{"tools":{},"context":{}}"#,
            (true, false) => r#"{"tools":{}}"#,
            (false, true) => r#"{"context":{}}"#,
            (false, false) => "{}",
        };
        let roots = if self.has(Self::ROOTS) { roots } else { "" };
        let members: Vec<String> = [("elicitation", elicitation), ("sampling", sampling), ("roots", roots)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// Whether a client can be asked this; `params` is raw JSON. Nobody may ask more (2026-07-28, multi round-trip
    /// requests, server requirement 7; 2025-11-25, lifecycle).
    pub fn allow(self, method: Method, params: Option<&str>) -> bool {
        match method {
            Method::ElicitationCreate => {
                let is_url = params.is_some_and(|raw| path::text(raw, &["mode"]).as_deref() == Some("url"));
                self.has(if is_url { Self::URL } else { Self::FORM })
            }
            Method::SamplingCreate => self.has(Self::SAMPLING),
            Method::RootsList => self.has(Self::ROOTS),
            _ => false,
        }
    }

    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The raw members of `_meta` with which the gateway calls a server of 2026-07-28 for an older client
/// ([`Envelope::Add`](request::Envelope::Add)). `log_level` is one of the eight of RFC 5424; none: no messages.
pub fn envelope(abilities: Abilities, log_level: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut members = format!(
        "\"io.modelcontextprotocol/protocolVersion\":\"{REVISION_MODERN}\",\
         \"io.modelcontextprotocol/clientInfo\":{{\"name\":\"ringgate\",\"version\":\"{version}\"}},\
         \"io.modelcontextprotocol/clientCapabilities\":{}",
        abilities.as_modern()
    );
    if let Some(level) = log_level {
        let mut quoted = Vec::with_capacity(level.len() + 2);
        string(&mut quoted, level);
        members.push_str(",\"io.modelcontextprotocol/logLevel\":");
        members.push_str(&String::from_utf8_lossy(&quoted));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    const ALL: u8 = 127;

    #[test]
    fn abilities_are_read_in_both_eras() {
        for (raw, bits) in [
            ("{}", 0),
            ("", 0),
            ("[]", 0),
            (r#"{"elicitation":{}}"#, Abilities::FORM),
            (r#"{"elicitation":{"form":{"applyDefaults":true}}}"#, Abilities::FORM),
            (r#"{"elicitation":{"url":{}}}"#, Abilities::URL),
            (r#"{"elicitation":{"url":{},"form":{}},"x":1}"#, Abilities::FORM | Abilities::URL),
            (r#"{"elicitation":null,"sampling":true,"roots":[]}"#, 0),
            (r#"{"sampling":{},"roots":{"listChanged":true}}"#, 4 | 8 | 64),
            (r#"{"roots":{"listChanged":false}}"#, Abilities::ROOTS),
            (r#"{"roots":{"listChanged":"true"}}"#, Abilities::ROOTS),
            (r#"{"sampling":{"tools":{},"context":{}}}"#, 4 | 16 | 32),
            (r#"{"roots":{},"roots":{}}"#, 0),
        ] {
            assert_eq!(Abilities::of_legacy(raw), Abilities(bits), "{raw}");
            assert_eq!(Abilities::of_modern(raw), Abilities(bits & !64), "{raw}");
        }
    }

    #[test]
    fn abilities_are_written_as_they_were_read() {
        for bits in 0..=ALL {
            let abilities = Abilities(bits);
            // Ways of sampling are nothing without it, nor are changes of roots.
            let ways = if abilities.has(Abilities::SAMPLING) { 48 } else { 0 };
            let changes = if abilities.has(Abilities::ROOTS) { 64 } else { 0 };
            let expected = bits & (15 | ways | changes);
            assert_eq!(Abilities::of_legacy(&abilities.as_legacy()), Abilities(expected), "{bits}");
            assert_eq!(Abilities::of_modern(&abilities.as_modern()), Abilities(expected & !64), "{bits}");
        }
        assert_eq!(Abilities(1).as_legacy(), r#"{"elicitation":{}}"#);
        assert_eq!(Abilities(1).as_modern(), r#"{"elicitation":{"form":{}}}"#);
    }

    #[test]
    fn envelopes_are_whole() {
        let read = |members: String| serde_json::from_str::<Value>(&format!("{{{members}}}")).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let mut expected = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "ringgate", "version": version},
            "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        });
        assert_eq!(read(envelope(Abilities(Abilities::ROOTS), None)), expected);
        expected["io.modelcontextprotocol/logLevel"] = json!("debug");
        assert_eq!(read(envelope(Abilities(Abilities::ROOTS), Some("debug"))), expected);
    }
}
