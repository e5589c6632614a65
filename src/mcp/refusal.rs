//! The JSON body of a refusal (contract: "Refusals").
//!
//! Not here: the HTTP status and its fields; they come from the same `Fault::wire`.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::mcp::envelope::REVISION_MODERN;

/// Appends the JSON body of a refusal to `out`.
///
/// `id` is the caller's id as raw JSON (from `raw_id`), left out where it could not be read: `null` is
/// never valid in MCP. `requested` is the version that the client asked for; it counts only for
/// [`Kind::RevisionUnsupported`].
pub fn render(
    out: &mut Vec<u8>,
    fault: Fault,
    id: Option<&[u8]>,
    trace_id: &[u8; 16],
    requested: Option<&str>,
) {
    let wire = fault.wire();
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        out.extend_from_slice(id);
        out.push(b',');
    }
    out.extend_from_slice(b"\"error\":{\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(wire.code).as_bytes());
    out.extend_from_slice(b",\"message\":");
    string(out, fault.detail);
    out.extend_from_slice(b",\"data\":{\"reason\":");
    string(out, wire.reason);
    if wire.retry_after_seconds > 0 {
        out.extend_from_slice(b",\"retryAfterMs\":");
        let millis = u32::from(wire.retry_after_seconds) * 1_000;
        out.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
    }
    if fault.kind == Kind::RevisionUnsupported {
        versions(out, requested);
    }
    out.extend_from_slice(b",\"traceId\":\"");
    for byte in trace_id {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.extend_from_slice(b"\"}}}");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `supported` names revisions that a request's envelope may name, as servers do in `server/discover`: the older
/// ones are negotiated by `initialize` and know no envelope. `requested` is required beside it (2026-07-28,
/// `UnsupportedProtocolVersionError`), so that an unknown one is the empty string.
fn versions(out: &mut Vec<u8>, requested: Option<&str>) {
    out.extend_from_slice(b",\"supported\":[");
    string(out, REVISION_MODERN);
    out.extend_from_slice(b"],\"requested\":");
    string(out, requested.unwrap_or(""));
}

/// A JSON string (RFC 8259 section 7): escapes what must be escaped, keeps the rest.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                let low = HEX[usize::from(byte & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), low]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    fn check(fault: Fault, id: Option<&str>, requested: Option<&str>, expected: &Value) {
        let mut out = b"kept".to_vec();
        render(&mut out, fault, id.map(str::as_bytes), &[0xAB; 16], requested);
        let body: Value = serde_json::from_slice(out.strip_prefix(b"kept").unwrap()).unwrap();
        assert_eq!(body, *expected);
    }

    #[test]
    fn bodies() {
        let trace = "ab".repeat(16);
        let error =
            |code: i32, message: &str, data: Value| json!({"code": code, "message": message, "data": data});
        check(
            Fault::new(Kind::HeaderMismatch, "A \"b\" \\ c."),
            Some(r#""q\u0037""#),
            Some("x"),
            &json!({"jsonrpc": "2.0", "id": "q7",
                "error": error(-32020, "A \"b\" \\ c.", json!({"reason": "header_mismatch", "traceId": trace}))}),
        );
        check(
            Fault::new(Kind::Draining, "Later.\u{1f}"),
            None,
            None,
            &json!({"jsonrpc": "2.0", "error": error(-33503, "Later.\u{1f}",
                json!({"reason": "gateway_unavailable", "retryAfterMs": 1000, "traceId": trace}))}),
        );
        let supported = json!(["2026-07-28"]);
        check(
            Fault::new(Kind::RevisionUnsupported, "No."),
            Some("18446744073709551616"),
            Some("2099-01-01\""),
            &json!({"jsonrpc": "2.0", "id": serde_json::from_str::<Value>("18446744073709551616").unwrap(),
                "error": error(-32022, "No.", json!({"reason": "unsupported_version", "supported": supported,
                    "requested": "2099-01-01\"", "traceId": trace}))}),
        );
    }

    #[test]
    fn the_id_comes_back_byte_for_byte() {
        let mut out = Vec::new();
        render(&mut out, Fault::new(Kind::ParseError, "x."), Some(br#""\u0031""#), &[0; 16], None);
        assert!(out.starts_with(br#"{"jsonrpc":"2.0","id":"\u0031","error":"#));
    }
}
