//! Tests of the whole layer: what is JSON, what is a call, and that both readers say the same.
//!
//! Not here: tests of one file, which stand beside its code.

mod agreement;
mod cost;
mod json;
mod rules;

use crate::base::fault::Fault;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::HeaderValue;
use crate::mcp::envelope::McpHeaders;
use crate::mcp::envelope::inspect;
use crate::mcp::fuzz;
use crate::mcp::scratch::Scratch;

/// Headers that agree with [`call`].
const MODERN: McpHeaders<'static> = McpHeaders {
    protocol_version: HeaderValue::One(b"2026-07-28"),
    method: HeaderValue::One(b"tools/call"),
    name: HeaderValue::One(b"echo"),
    session: false,
};

/// A modern `tools/call` of `echo` with these arguments, raw.
fn call(arguments: &str) -> String {
    [
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":"#,
        arguments,
        r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
    ]
    .concat()
}

/// The verdict, after both readers were found to agree on it.
fn verdict(body: &[u8], headers: &McpHeaders<'_>) -> Result<Call, Fault> {
    fuzz::readers_agree(body, headers);
    inspect(&mut Scratch::new(), body, headers)
}
