//! The MCP that a load test needs: the requests of both eras, and whether an answer is the right one.
//! Not here: sockets, time, HTTP framing.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::json;

pub(crate) const MODERN: &str = "2026-07-28";
pub(crate) const LEGACY: &str = "2025-11-25";
/// Ids have as many digits, so that a request keeps its length.
pub(crate) const ID_DIGITS: usize = 12;
/// The first id; the thread's number is added in the digit after the first.
pub(crate) const FIRST_ID: u64 = 100_000_000_000;

/// Which generation of the protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// 2026-07-28: one POST a call, no session.
    Modern,
    /// 2025-11-25: `initialize` and a session for each connection.
    Legacy,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    /// API key, sent as a bearer token.
    pub(crate) key: Option<String>,
}

/// What every call looks like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) era: Era,
    pub(crate) tool: String,
    /// Bytes of the request's body.
    pub(crate) size: usize,
    /// Bytes of the answer's JSON-RPC message.
    pub(crate) answer: usize,
    /// Progress events before the answer; 0 asks for plain JSON.
    pub(crate) events: u32,
    pub(crate) interval_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) fail: Option<String>,
}

/// A request whose id can be changed in place.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    ids: Vec<usize>,
}

impl Request {
    pub(crate) fn set_id(bytes: &mut [u8], places: &[usize], id: u64) {
        let mut digits = [b'0'; ID_DIGITS];
        let mut rest = id;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        for &place in places {
            if let Some(part) = bytes.get_mut(place..place + ID_DIGITS) {
                part.copy_from_slice(&digits);
            }
        }
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<usize>) {
        (self.bytes, self.ids)
    }
}

const ID_MARK: &str = "@@@@@@@@@@@@";

fn post(target: &Target, headers: &str, body: &str) -> Request {
    let key = target.key.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let text = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}{key}Content-Length: {}\r\n\r\n{body}",
        target.path,
        target.host,
        body.len()
    );
    let ids = text.match_indices(ID_MARK).map(|(at, _)| at).collect();
    Request { bytes: text.into_bytes(), ids }
}

/// The `tools/call` of `shape`, padded to its size if that is more than the least.
pub(crate) fn call(target: &Target, shape: &Shape, session: Option<&str>) -> Request {
    let mut load = format!("\"size\":{}", shape.answer);
    if shape.events > 0 {
        let _ = write!(load, ",\"events\":{},\"intervalMs\":{}", shape.events, shape.interval_ms);
    }
    if shape.delay_ms > 0 {
        let _ = write!(load, ",\"delayMs\":{}", shape.delay_ms);
    }
    if let Some(fail) = &shape.fail {
        let _ = write!(load, ",\"fail\":\"{fail}\"");
    }
    let mut meta = Vec::new();
    if shape.events > 0 {
        meta.push(format!("\"progressToken\":{ID_MARK}"));
    }
    if shape.era == Era::Modern {
        meta.push(format!("\"io.modelcontextprotocol/protocolVersion\":\"{MODERN}\""));
        meta.push("\"io.modelcontextprotocol/clientCapabilities\":{}".to_owned());
    }
    let meta = if meta.is_empty() { String::new() } else { format!(",\"_meta\":{{{}}}", meta.join(",")) };
    let body = |pad: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{ID_MARK},\"method\":\"tools/call\",\"params\":{{\"name\":\"{}\",\
             \"arguments\":{{\"load\":{{{load}}},\"pad\":\"{pad}\"}}{meta}}}}}",
            shape.tool
        )
    };
    let least = body("").len();
    let body = body(&"x".repeat(shape.size.saturating_sub(least)));
    let headers = match (shape.era, session) {
        (Era::Modern, _) => format!(
            "MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: {}\r\n",
            shape.tool
        ),
        (Era::Legacy, session) => legacy_headers(session),
    };
    post(target, &headers, &body)
}

fn legacy_headers(session: Option<&str>) -> String {
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    format!("MCP-Protocol-Version: {LEGACY}\r\n{session}")
}

/// The first request of a legacy session.
pub(crate) fn initialize(target: &Target) -> Request {
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{ID_MARK},\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\
         \"{LEGACY}\",\"capabilities\":{{}},\"clientInfo\":{{\"name\":\"loadtest\",\"version\":\"1\"}}}}}}"
    );
    post(target, "", &body)
}

/// The notification that ends the handshake.
pub(crate) fn initialized(target: &Target, session: Option<&str>) -> Request {
    let body = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
    post(target, &legacy_headers(session), body)
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Not a JSON-RPC answer.
    Malformed,
    Id,
    /// A JSON-RPC error, with the caller's id.
    Error,
    Length,
}

/// Whether `body` is the whole answer to call `id`; `length` is what it must measure, if that is known.
pub(crate) fn check_answer(body: &[u8], id: u64, length: Option<usize>) -> Result<(), Wrong> {
    // The usual member order is compared, any other is walked.
    let mut expected = *b"{\"jsonrpc\":\"2.0\",\"id\":@@@@@@@@@@@@,\"result\":{";
    Request::set_id(&mut expected, &[22], id);
    if !(body.starts_with(&expected) && body.ends_with(b"}")) {
        let mut digits = [0; ID_DIGITS];
        Request::set_id(&mut digits, &[0], id);
        let (mut own, mut result, mut error) = (None, false, false);
        json::members(body, |key, value| {
            match key {
                b"id" => own = Some(value == digits),
                b"result" => result = true,
                b"error" => error = true,
                _ => {}
            }
            true
        })
        .ok_or(Wrong::Malformed)?;
        match (own, result, error) {
            (Some(true), true, false) => {}
            (Some(true), false, true) => return Err(Wrong::Error),
            (Some(false) | None, ..) => return Err(Wrong::Id),
            _ => return Err(Wrong::Malformed),
        }
    }
    match length {
        Some(length) if length != body.len() => Err(Wrong::Length),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        Target { address, host: "127.0.0.1:80".to_owned(), path: "/mcp/up".to_owned(), key: None }
    }

    fn shape(era: Era, size: usize, events: u32) -> Shape {
        let tool = "load".to_owned();
        Shape { era, tool, size, answer: 500, events, interval_ms: 1, delay_ms: 0, fail: None }
    }

    #[test]
    fn a_request_has_the_size_asked_for_and_its_id_in_every_place() {
        for (era, size, events, places) in
            [(Era::Modern, 300, 0, 1), (Era::Modern, 65_536, 2, 2), (Era::Legacy, 256, 0, 1)]
        {
            let (mut bytes, ids) = call(&target(), &shape(era, size, events), Some("s")).into_parts();
            assert_eq!(ids.len(), places);
            Request::set_id(&mut bytes, &ids, 123_456_789_012);
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.len(), size);
            assert!(head.contains(&format!("Content-Length: {size}")));
            assert_eq!(head.contains("Mcp-Session-Id: s"), era == Era::Legacy);
            let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(parsed["id"], 123_456_789_012_u64);
            assert_eq!(parsed["params"]["arguments"]["load"]["size"], 500);
        }
    }

    fn check(body: &str, length: Option<usize>, expected: Result<(), Wrong>) {
        assert_eq!(check_answer(body.as_bytes(), 100_000_000_007, length), expected, "{body}");
    }

    #[test]
    fn answers_are_checked() {
        let right = r#"{"jsonrpc":"2.0","id":100000000007,"result":{}}"#;
        check(right, None, Ok(()));
        check(right, Some(right.len()), Ok(()));
        check(right, Some(500), Err(Wrong::Length));
        check(r#"{"id":100000000007, "result":{},"jsonrpc":"2.0"}"#, None, Ok(()));
        check(r#"{"jsonrpc":"2.0","id":100000000008,"result":{}}"#, None, Err(Wrong::Id));
        check(r#"{"jsonrpc":"2.0","id":"100000000007","result":{}}"#, None, Err(Wrong::Id));
        check(r#"{"jsonrpc":"2.0","id":100000000007,"error":{"code":1}}"#, None, Err(Wrong::Error));
        check(r#"{"jsonrpc":"2.0","id":100000000007}"#, None, Err(Wrong::Malformed));
        check(r#"{"jsonrpc":"2.0","id":100000000007,"result":{"#, None, Err(Wrong::Malformed));
        check("", None, Err(Wrong::Malformed));
    }
}
