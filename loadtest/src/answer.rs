//! What the mock upstream answers: protocol, calls as fast or as wrong as they ask, streams step by step.
//! Not here: sockets and timers (`serve`).

use std::io::Write as _;

use crate::http::Message;
use crate::http::Method;
use crate::json;
use crate::mcp;
use crate::ring;

/// The largest answer that a request can ask for.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
const MAX_EVENTS: u64 = 1_000_000;
const MAX_DELAY_MS: u64 = 600_000;

/// How a call fails on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fail {
    /// HTTP status instead of an answer.
    Status(u16),
    /// The connection ends without an answer.
    Close,
    /// The connection ends in the middle of the answer.
    Cut,
    /// A JSON-RPC error.
    Rpc,
}

impl std::str::FromStr for Fail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "close" => Ok(Self::Close),
            "cut" => Ok(Self::Cut),
            "rpc" => Ok(Self::Rpc),
            _ => text
                .strip_prefix("status:")
                .and_then(|status| status.parse().ok())
                .filter(|status| (200..600).contains(status))
                .map(Self::Status)
                .ok_or_else(|| format!("`{text}` is none of close, cut, rpc, status:CODE")),
        }
    }
}

/// What one call asks for, in `params.arguments.load`; the flags are the default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) size: usize,
    pub(crate) delay_ms: u64,
    pub(crate) events: u32,
    pub(crate) interval_ms: u64,
    pub(crate) fail: Option<Fail>,
}

impl Load {
    fn read(mut self, text: &[u8]) -> Self {
        let bounded = |value: &[u8], most: u64| json::number(value).map_or(0, |number| number.min(most));
        json::members(text, |key, value| {
            match key {
                b"size" => self.size = usize::try_from(bounded(value, MAX_ANSWER)).unwrap_or(0),
                b"delayMs" => self.delay_ms = bounded(value, MAX_DELAY_MS),
                b"events" => self.events = u32::try_from(bounded(value, MAX_EVENTS)).unwrap_or(0),
                b"intervalMs" => self.interval_ms = bounded(value, MAX_DELAY_MS),
                b"fail" => {
                    self.fail =
                        std::str::from_utf8(value).ok().and_then(|text| text.trim_matches('"').parse().ok());
                }
                _ => {}
            }
            true
        });
        self
    }
}

/// An answer that takes time.
#[derive(Debug)]
pub(crate) struct Pending {
    id: Vec<u8>,
    token: Vec<u8>,
    pub(crate) load: Load,
    /// Events sent; the head of a stream goes with the first.
    sent: u32,
    started: bool,
}

/// What happens after a request.
pub(crate) enum Asked {
    /// What was written is the answer.
    Nothing,
    Later(Box<Pending>),
    /// One more step of a pending answer, after its interval.
    Again,
    /// After what was written the connection ends.
    Close,
}

impl Pending {
    /// Writes the next part to `out`.
    pub(crate) fn step(&mut self, out: &mut Vec<u8>) -> Asked {
        if self.load.events == 0 {
            return immediate(&self.id, &self.load, out);
        }
        if !self.started {
            self.started = true;
            out.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                  Transfer-Encoding: chunked\r\n\r\n",
            );
        }
        if self.load.fail == Some(Fail::Cut) && self.sent * 2 >= self.load.events {
            return Asked::Close;
        }
        if self.sent < self.load.events {
            self.sent += 1;
            let token = if self.token.is_empty() { b"0" } else { self.token.as_slice() };
            let mut event = PROGRESS.to_vec();
            event.extend_from_slice(token);
            let now = ring::monotonic_nanos();
            let _ = write!(event, ",\"progress\":{},\"message\":\"{now}\"}}}}\n\n", self.sent);
            chunk(&event, out);
            return Asked::Again;
        }
        let mut event = b"event: message\ndata: ".to_vec();
        result(&self.id, self.load.size, &mut event);
        event.extend_from_slice(b"\n\n");
        chunk(&event, out);
        out.extend_from_slice(b"0\r\n\r\n");
        Asked::Nothing
    }
}

fn chunk(data: &[u8], out: &mut Vec<u8>) {
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

const PROGRESS: &[u8] =
    b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":";
const BEFORE_PAD: &[u8] = b",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"";
const AFTER_PAD: &[u8] = b"\"}],\"isError\":false,\"resultType\":\"complete\"}}";

fn result(id: &[u8], size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(BEFORE_PAD);
    let pad = size.saturating_sub(out.len() - start + AFTER_PAD.len());
    out.resize(out.len() + pad, b'x');
    out.extend_from_slice(AFTER_PAD);
}

/// The length of [`result`] with an id of `id` bytes.
pub(crate) fn result_length(id: usize, size: usize) -> usize {
    size.max(22 + id + BEFORE_PAD.len() + AFTER_PAD.len())
}

fn json_head(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    let _ = write!(out, "{length}\r\n\r\n");
}

/// An answer that is only a status.
pub(crate) fn status(out: &mut Vec<u8>, code: u16, body: &[u8]) {
    let _ = write!(out, "HTTP/1.1 {code} Status\r\nContent-Type: application/json\r\nContent-Length: ");
    let _ = write!(out, "{}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

fn immediate(id: &[u8], load: &Load, out: &mut Vec<u8>) -> Asked {
    match load.fail {
        Some(Fail::Close) => return Asked::Close,
        Some(Fail::Status(code)) => {
            status(out, code, b"{\"error\":\"as asked\"}");
            return Asked::Nothing;
        }
        Some(Fail::Rpc) => {
            let mut body = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
            body.extend_from_slice(id);
            body.extend_from_slice(b",\"error\":{\"code\":-32000,\"message\":\"as asked\"}}");
            status(out, 200, &body);
            return Asked::Nothing;
        }
        Some(Fail::Cut) | None => {}
    }
    json_head(result_length(id.len(), load.size), out);
    let start = out.len();
    result(id, load.size, out);
    if load.fail == Some(Fail::Cut) {
        out.truncate(start + (out.len() - start) / 2);
        return Asked::Close;
    }
    Asked::Nothing
}

/// Writes the answer to `message`, or says that it comes later.
pub(crate) fn answer(message: &Message<'_>, default: Load, out: &mut Vec<u8>) -> Asked {
    match message.head.method {
        Method::Post => {}
        Method::Get => {
            out.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            chunk(b": open\n\n", out);
            return Asked::Nothing;
        }
        Method::Delete => {
            status(out, 200, b"");
            return Asked::Nothing;
        }
        Method::Other => {
            status(out, 405, b"");
            return Asked::Nothing;
        }
    }
    let (mut id, mut method, mut params) = (None, None, None);
    let walked = json::members(message.body, |key, value| {
        match key {
            b"id" => id = Some(value),
            b"method" => method = Some(value),
            b"params" => params = Some(value),
            _ => {}
        }
        true
    });
    if walked.is_none() {
        status(out, 400, b"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"no JSON\"}}");
        return Asked::Close;
    }
    let Some(id) = id else {
        status(out, 202, b"");
        return Asked::Nothing;
    };
    if method == Some(b"\"tools/call\"") {
        return tool_call(id, params.unwrap_or_default(), default, out);
    }
    protocol(method.unwrap_or_default(), id, out);
    Asked::Nothing
}

fn tool_call(id: &[u8], params: &[u8], default: Load, out: &mut Vec<u8>) -> Asked {
    let asked = json::member(params, "arguments").and_then(|arguments| json::member(arguments, "load"));
    let load = asked.map_or(default, |text| default.read(text));
    if load.delay_ms == 0 && load.events == 0 {
        return immediate(id, &load, out);
    }
    let token = json::member(params, "_meta").and_then(|meta| json::member(meta, "progressToken"));
    let token = token.unwrap_or_default().to_vec();
    Asked::Later(Box::new(Pending { id: id.to_vec(), token, load, sent: 0, started: false }))
}

/// Everything but calls.
fn protocol(method: &[u8], id: &[u8], out: &mut Vec<u8>) {
    const INFO: &str = "\"serverInfo\":{\"name\":\"loadtest\",\"version\":\"1\"}";
    const FRESH: &str = "\"resultType\":\"complete\",\"ttlMs\":60000,\"cacheScope\":\"public\"";
    let (legacy, modern) = (mcp::LEGACY, mcp::MODERN);
    let result = match method {
        b"\"initialize\"" => {
            format!("{{\"protocolVersion\":\"{legacy}\",\"capabilities\":{{\"tools\":{{}}}},{INFO}}}")
        }
        b"\"server/discover\"" => format!(
            "{{\"supportedVersions\":[\"{modern}\",\"{legacy}\"],\"capabilities\":{{\"tools\":{{}}}},{INFO},{FRESH}}}"
        ),
        b"\"tools/list\"" => format!(
            "{{\"tools\":[{{\"name\":\"load\",\"description\":\"Answers as arguments.load asks\",\
             \"inputSchema\":{{\"type\":\"object\"}}}}],{FRESH}}}"
        ),
        b"\"ping\"" => "{}".to_owned(),
        _ => {
            let id = String::from_utf8_lossy(id);
            let body = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32601,\"message\":\"unknown method\"}}}}"
            );
            status(out, 404, body.as_bytes());
            return;
        }
    };
    let mut body = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    body.extend_from_slice(id);
    body.extend_from_slice(b",\"result\":");
    body.extend_from_slice(result.as_bytes());
    body.push(b'}');
    let session = if method == b"\"initialize\"" { "Mcp-Session-Id: loadtest-session\r\n" } else { "" };
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(&body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Kind;
    use crate::http::Reader;

    const DEFAULT: Load = Load { size: 500, delay_ms: 0, events: 0, interval_ms: 0, fail: None };

    /// The answer to a POST of `body`, as status and body.
    fn check(body: &str, expected_status: &str, check_body: impl Fn(&serde_json::Value) -> bool) {
        let request = format!("POST /mcp HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut reader = Reader::new(Kind::Request);
        let message = reader.feed(request.as_bytes()).unwrap().unwrap();
        let mut out = Vec::new();
        let _ = answer(&message, DEFAULT, &mut out);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {expected_status}")), "{body}: {text}");
        let mut reader = Reader::new(Kind::Answer);
        let message = reader.feed(&out).unwrap().unwrap();
        let value = serde_json::from_slice(message.body).unwrap_or(serde_json::Value::Null);
        assert!(check_body(&value), "{body}: {text}");
    }

    #[test]
    fn answers_what_mcp_asks() {
        check(
            r#"{"jsonrpc":"2.0","id":"a\"b","method":"tools/call","params":{"name":"load"}}"#,
            "200",
            |v| v["id"] == "a\"b" && v.to_string().len() == 500,
        );
        check(
            r#"{"id":1,"method":"tools/call","params":{"arguments":{"load":{"size":1000}}}}"#,
            "200",
            |v| v["id"] == 1 && v["result"]["content"][0]["text"].as_str().is_some_and(|t| t.len() > 800),
        );
        check(
            r#"{"id":1,"method":"tools/call","params":{"arguments":{"load":{"fail":"status:503"}}}}"#,
            "503",
            |_| true,
        );
        check(
            r#"{"id":1,"method":"tools/call","params":{"arguments":{"load":{"fail":"rpc"}}}}"#,
            "200",
            |v| v["error"]["code"] == -32000 && v["id"] == 1,
        );
        check(r#"{"method":"notifications/initialized"}"#, "202", serde_json::Value::is_null);
        check(r#"{"id":2,"method":"initialize"}"#, "200", |v| v["result"]["protocolVersion"] == mcp::LEGACY);
        check(r#"{"id":2,"method":"server/discover"}"#, "200", |v| {
            v["result"]["supportedVersions"][0] == mcp::MODERN
        });
        check(r#"{"id":2,"method":"tools/list"}"#, "200", |v| v["result"]["tools"][0]["name"] == "load");
        check(r#"{"id":2,"method":"nope"}"#, "404", |v| v["error"]["code"] == -32601);
        check("nope", "400", |v| v["error"]["code"] == -32700);
    }
}
