//! The JSON body of a refusal (contract: "Refusals").
//!
//! Not here: the HTTP status and its fields; they come from the same `Fault::wire`.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::mcp::envelope::REVISION_MODERN;
use crate::mcp::sealed;

/// What a rule adds to the fault that it causes. Made for refused calls only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// A sentence in place of the fault's own; empty: that one.
    pub message: String,
    /// The rule's place in the configuration (`limits.per-agent`); empty: no rule.
    pub rule: String,
    /// When it is worth to try again.
    pub retry_ms: Option<u64>,
    /// An HTTP status in place of the fault's own (injected faults).
    pub status: Option<u16>,
    /// The value of `WWW-Authenticate`; empty: a plain one where the fault asks for credentials.
    pub challenge: String,
    /// Why the server does not take a credential, in a word; empty: that is not what happened.
    pub cause: &'static str,
    /// Where the caller can consent; empty: nowhere.
    pub consent_url: String,
    /// How the caller is asked to go there, before it repeats the call.
    pub elicits: Elicits,
}

/// How a client is asked to open a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elicits {
    /// It is told in an error like any other.
    #[default]
    No,
    /// By a result (2026-07-28, multi round-trip requests).
    ByResult,
    /// By an error of its own (2025-11-25, elicitation, "URL Elicitation Required Error").
    ByError,
}

/// 2025-11-25, elicitation.
const URL_ELICITATION_REQUIRED: i32 = -32042;

impl Denial {
    /// The status, code and wait of a fault with this denial.
    pub fn wire(denial: Option<&Self>, fault: Fault) -> Wire {
        let form = fault.wire();
        let wire = Wire {
            status: form.status,
            code: form.code,
            retry_ms: u64::from(form.retry_after_seconds) * 1_000,
        };
        let Some(denial) = denial else { return wire };
        match denial.elicits {
            Elicits::No => {}
            Elicits::ByResult => return Wire { status: 200, code: 0, retry_ms: 0 },
            // An error of the call, as servers of that revision answer it.
            Elicits::ByError => return Wire { status: 200, code: URL_ELICITATION_REQUIRED, retry_ms: 0 },
        }
        let (status, code) = match denial.status {
            Some(status) => (status, -33_000 - i32::from(status)),
            None => (wire.status, wire.code),
        };
        Wire { status, code, retry_ms: denial.retry_ms.unwrap_or(wire.retry_ms) }
    }
}

/// What of a refusal depends on its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub status: u16,
    pub code: i32,
    /// 0: nothing is said.
    pub retry_ms: u64,
}

impl Wire {
    /// Whole seconds for `Retry-After`, rounded up, so that a client which sleeps that long may go on.
    pub const fn retry_seconds(self) -> u64 {
        self.retry_ms.div_ceil(1_000)
    }
}

/// The request that is refused.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The caller's id as raw JSON (from `raw_id`), left out where it could not be read: `null` is never valid in MCP.
    pub id: Option<&'a [u8]>,
    pub trace_id: &'a [u8; 16],
    /// The version that the client asked for; it counts only for [`Kind::RevisionUnsupported`].
    pub requested: Option<&'a str>,
}

/// Appends the JSON body of a refusal to `out`.
///
/// The sources of its parts are in [`Caller`].
pub fn render(out: &mut Vec<u8>, fault: Fault, denial: Option<&Denial>, caller: &Caller<'_>) {
    let Caller { id, trace_id, requested } = *caller;
    let wire = Denial::wire(denial, fault);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        out.extend_from_slice(id);
        out.push(b',');
    }
    if let Some(denial) = denial.filter(|denial| denial.elicits == Elicits::ByResult) {
        return elicit(out, denial);
    }
    out.extend_from_slice(b"\"error\":{\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(wire.code).as_bytes());
    out.extend_from_slice(b",\"message\":");
    let message = denial.map(|denial| &*denial.message).filter(|message| !message.is_empty());
    string(out, message.unwrap_or(fault.detail));
    if matches!(fault.kind, Kind::Unknown | Kind::UnknownResource) {
        // Nothing that tells a hidden one from one that does not exist.
        out.extend_from_slice(b"}}");
        return;
    }
    out.extend_from_slice(b",\"data\":{\"reason\":");
    string(out, fault.wire().reason);
    if let Some(denial) = denial.filter(|denial| !denial.rule.is_empty()) {
        out.extend_from_slice(b",\"rule\":");
        string(out, &denial.rule);
    }
    if let Some(denial) = denial {
        for (key, value) in [(&b",\"cause\":"[..], denial.cause), (b",\"url\":", &denial.consent_url)] {
            if !value.is_empty() {
                out.extend_from_slice(key);
                string(out, value);
            }
        }
    }
    if let Some(denial) = denial.filter(|denial| denial.elicits == Elicits::ByError) {
        pages(out, denial);
    }
    if wire.retry_ms > 0 {
        out.extend_from_slice(b",\"retryAfterMs\":");
        out.extend_from_slice(itoa::Buffer::new().format(wire.retry_ms).as_bytes());
    }
    if fault.kind == Kind::RevisionUnsupported {
        versions(out, requested);
    }
    out.extend_from_slice(b",\"traceId\":\"");
    hexadecimal(out, trace_id);
    out.extend_from_slice(b"\"}}}");
}

/// A result that asks the caller to open a page (2026-07-28, elicitation, "URL mode").
fn elicit(out: &mut Vec<u8>, denial: &Denial) {
    out.extend_from_slice(
        b"\"result\":{\"resultType\":\"input_required\",\"inputRequests\":{\"consent\":{\"method\":\"elicitation/create\",\
          \"params\":{\"mode\":\"url\",\"message\":",
    );
    string(out, &denial.message);
    out.extend_from_slice(b",\"url\":");
    string(out, &denial.consent_url);
    out.extend_from_slice(b"}}}}}");
}

/// The pages that have to be opened before the call is repeated: one, named by what it is, so that a client which is asked
/// twice sees that it was asked the same.
fn pages(out: &mut Vec<u8>, denial: &Denial) {
    out.extend_from_slice(b",\"elicitations\":[{\"mode\":\"url\",\"elicitationId\":\"");
    hexadecimal(out, &sealed::digest(&[denial.consent_url.as_bytes()]));
    out.extend_from_slice(b"\",\"url\":");
    string(out, &denial.consent_url);
    out.extend_from_slice(b",\"message\":");
    string(out, &denial.message);
    out.extend_from_slice(b"}]");
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
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
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
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
        let caller = Caller { id: id.map(str::as_bytes), trace_id: &[0xAB; 16], requested };
        render(&mut out, fault, None, &caller);
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

    /// As 2025-11-25 has it, with what every refusal says beside it.
    #[test]
    fn a_client_of_2025_is_asked_by_an_error() {
        let denial = Denial {
            message: "Open it.".into(),
            rule: "mcpServers.up.auth".into(),
            cause: "no_consent",
            consent_url: "https://idp.test/a?b=1".into(),
            elicits: Elicits::ByError,
            ..Denial::default()
        };
        let fault = Fault::new(Kind::ConsentRequired, "Consent.");
        let wire = Denial::wire(Some(&denial), fault);
        assert_eq!((wire.status, wire.code, wire.retry_ms), (200, -32042, 0));
        let body = || {
            let mut out = Vec::new();
            let caller = Caller { id: Some(b"1"), trace_id: &[0; 16], requested: None };
            render(&mut out, fault, Some(&denial), &caller);
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        let mut error = body()["error"].clone();
        let id = error["data"]["elicitations"][0].as_object_mut().unwrap().remove("elicitationId");
        assert!(id.as_ref().and_then(Value::as_str).is_some_and(|id| id.len() == 32), "{id:?}");
        assert_eq!(id.as_ref(), Some(&body()["error"]["data"]["elicitations"][0]["elicitationId"]));
        let page = json!({"mode": "url", "url": "https://idp.test/a?b=1", "message": "Open it."});
        let data = json!({"reason": "consent_required", "rule": "mcpServers.up.auth", "cause": "no_consent",
            "url": "https://idp.test/a?b=1", "elicitations": [page], "traceId": "0".repeat(32)});
        assert_eq!(error, json!({"code": -32042, "message": "Open it.", "data": data}));
    }

    #[test]
    fn the_id_comes_back_byte_for_byte() {
        let mut out = Vec::new();
        let caller = Caller { id: Some(br#""\u0031""#), trace_id: &[0; 16], requested: None };
        render(&mut out, Fault::new(Kind::ParseError, "x."), None, &caller);
        assert!(out.starts_with(br#"{"jsonrpc":"2.0","id":"\u0031","error":"#));
    }

    #[test]
    fn a_rule_says_when_to_try_again_and_who_it_is() {
        let denial = Denial {
            message: "Later, by `x`.".into(),
            rule: "limits.x".into(),
            retry_ms: Some(1_001),
            ..Denial::default()
        };
        let fault = Fault::new(Kind::RateLimited, "Later.");
        let wire = Denial::wire(Some(&denial), fault);
        assert_eq!((wire.status, wire.code, wire.retry_seconds()), (429, -33429, 2));
        let mut out = Vec::new();
        let caller = Caller { id: Some(b"1"), trace_id: &[0; 16], requested: None };
        render(&mut out, fault, Some(&denial), &caller);
        let body: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(body["error"]["message"], "Later, by `x`.");
        let data = json!({"reason": "rate_limited", "rule": "limits.x", "retryAfterMs": 1001,
            "traceId": "0".repeat(32)});
        assert_eq!(body["error"]["data"], data);
        let injected = Denial { status: Some(418), ..Denial::default() };
        let wire = Denial::wire(Some(&injected), Fault::new(Kind::UpstreamUnavailable, "x."));
        assert_eq!((wire.status, wire.code, wire.retry_ms), (418, -33418, 1_000));
    }
}
