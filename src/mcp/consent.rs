//! Whether a caller can be asked to open a page: which calls may be answered with a question, and what the client says
//! that it can do (2026-07-28, multi round-trip requests and elicitation).
//!
//! Not here: the question (`refusal`).

use crate::mcp::envelope::Call;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Only these may be answered so, and only in the newer era.
pub fn may_ask(call: &Call) -> bool {
    let asks = matches!(call.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead);
    asks && call.era == Era::Modern
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
pub fn opens_urls(body: &[u8]) -> bool {
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
