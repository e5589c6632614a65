//! Whether a caller can be asked to open a page: which calls may be answered with a question, and what the client says
//! that it can do, with each request (2026-07-28, multi round-trip requests and elicitation) or at its beginning
//! (2025-11-25, client, elicitation).
//!
//! Not here: the question (`refusal`).

use crate::mcp::crossing::Abilities;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::refusal::Elicits;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How the client of this call can be asked; `begun` is what it has said at the beginning of its session, where that was
/// said to us.
pub fn way(call: &Call, body: &[u8], begun: Option<Abilities>) -> Elicits {
    // 2026-07-28 lets only these be answered so, and nothing else is a call of somebody who waits.
    if !matches!(call.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead) {
        return Elicits::No;
    }
    match call.era {
        Era::Modern if opens_urls(body) => Elicits::ByResult,
        Era::Legacy if begun.is_some_and(|begun| begun.has(Abilities::URL)) => Elicits::ByError,
        Era::Modern | Era::Legacy => Elicits::No,
    }
}

#[derive(Deserialize)]
struct Message {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "_meta")]
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Capabilities,
}

#[derive(Deserialize)]
struct Capabilities {
    elicitation: Elicitation,
}

#[derive(Deserialize)]
struct Elicitation {
    #[serde(rename = "url")]
    _url: IgnoredAny,
}

/// Whether the client of this request opens pages: `elicitation.url` among its capabilities.
fn opens_urls(body: &[u8]) -> bool {
    serde_json::from_slice::<Message>(body)
        .is_ok_and(|message| matches!(message.params.meta.capabilities.elicitation, Elicitation { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_so_opens_pages() {
        let body = |capabilities: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{{}},"_meta":{{"io.modelcontextprotocol/clientCapabilities":{capabilities}}}}}}}"#
            )
        };
        assert!(opens_urls(body(r#"{"elicitation":{"form":{},"url":{}}}"#).as_bytes()));
        for without in ["{}", r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#, r#"{"url":{}}"#] {
            assert!(!opens_urls(body(without).as_bytes()), "{without}");
        }
        assert!(!opens_urls(b"{}") && !opens_urls(b""));
    }
}
