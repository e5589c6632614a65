//! What scripted upstreams answer: ready-made answers and the means to write others.
//!
//! Not here: connections and records (upstream).

use super::Gate;
use super::call::chunk;
use super::upstream::Connection;
use super::upstream::Next;
use super::upstream::Received;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

/// Answers one request; says whether the connection lives on.
pub type Script = Arc<dyn Fn(&mut Connection, &Received) -> Next + Send + Sync>;

/// Head of an event stream in chunks.
pub const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub fn script(script: impl Fn(&mut Connection, &Received) -> Next + Send + Sync + 'static) -> Script {
    Arc::new(script)
}

/// An answer with a length.
pub fn plain(status: u16, body: &str) -> Vec<u8> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!("HTTP/1.1 {status} Some Reason\r\n{kind}{length}\r\n{body}").into_bytes()
}

pub fn send(connection: &mut Connection, bytes: &[u8]) -> Next {
    if connection.send(bytes) { Next::Keep } else { Next::Close }
}

/// These bytes, whatever was asked, then close.
pub fn bytes(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |connection, _| {
        connection.send(&bytes);
        Next::Close
    })
}

/// Reads the request and closes without a word.
pub fn hang_up() -> Script {
    script(|_, _| Next::Close)
}

/// Sends `front`, says nothing more, and tells when the gateway left.
pub fn watched(front: &'static [u8]) -> (Script, mpsc::Receiver<Instant>) {
    let (sender, receiver) = mpsc::sync_channel(100);
    let script = script(move |connection, _| {
        connection.send(front);
        let _ = sender.send(connection.until_gone());
        Next::Close
    });
    (script, receiver)
}

/// The result of the echo tool: the arguments as they came.
pub fn echo_result(request: &Received) -> String {
    let arguments = request.envelope().params.arguments;
    let text = arguments.as_ref().map_or("", |raw| raw.get());
    let content = json!([{"type": "text", "text": text}]);
    result(request, &json!({"content": content, "isError": false, "resultType": "complete"}))
}

pub fn echo() -> Script {
    script(|connection, request| send(connection, &plain(200, &echo_result(request))))
}

/// As `echo`, once the gate is open.
pub fn echo_behind(gate: &Gate) -> Script {
    let gate = gate.clone();
    script(move |connection, request| {
        gate.wait();
        send(connection, &plain(200, &echo_result(request)))
    })
}

/// A result under the id of the request, whose bytes are kept.
pub fn result(request: &Received, result: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.envelope().raw_id())
}

pub fn error(connection: &mut Connection, request: &Received, code: i32, message: &str) -> Next {
    let envelope = request.envelope();
    let id = envelope.raw_id();
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#);
    send(connection, &plain(200, &body))
}

/// One event of a stream.
pub fn event(data: &str) -> Vec<u8> {
    chunk(format!("event: message\ndata: {data}\n\n").as_bytes())
}

pub fn progress(step: usize) -> Vec<u8> {
    event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{step}}}}}"#
    ))
}

/// The result as the last event, then the end.
pub fn last_event(request: &Received) -> Vec<u8> {
    [event(&echo_result(request)), LAST_CHUNK.to_vec()].concat()
}

/// So many progress events, then the result, all at once.
pub fn stream(events: usize) -> Script {
    script(move |connection, request| {
        connection.send(STREAM);
        for step in 0..events {
            connection.send(&progress(step));
        }
        send(connection, &last_event(request))
    })
}

/// A result of so many bytes, without ever holding it.
pub fn large(total: u64, chunked: bool) -> Script {
    script(move |connection, request| {
        let front = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":""#,
            request.envelope().raw_id()
        );
        let back = r#""}],"isError":false}}"#;
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".into(),
            false => format!("Content-Length: {total}"),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n");
        let frame = |bytes: &[u8]| if chunked { chunk(bytes) } else { bytes.to_vec() };
        connection.send(&[head.as_bytes(), &frame(front.as_bytes())].concat());
        let filler = frame(&[b'x'; 64 * 1024]);
        let mut left = total - (front.len() + back.len()) as u64;
        while left >= 64 * 1024 && connection.send(&filler) {
            left -= 64 * 1024;
        }
        if left > 0 && left < 64 * 1024 {
            connection.send(&frame(&vec![b'x'; usize::try_from(left).unwrap()]));
        }
        let end = if chunked { LAST_CHUNK } else { b"" };
        send(connection, &[&frame(back.as_bytes()), end].concat())
    })
}

/// An open event stream that says nothing.
pub fn silent_stream(connection: &mut Connection, _: &Received) -> Next {
    connection.send(STREAM);
    connection.until_gone();
    Next::Close
}

pub fn initialize(
    connection: &mut Connection,
    request: &Received,
    session: Option<String>,
    able: &str,
) -> Next {
    let able: Value = serde_json::from_str(able).unwrap();
    let body = result(
        request,
        &json!({"protocolVersion": request.envelope().params.protocol_version, "capabilities": able,
                "serverInfo": {"name": "scripted", "version": "1"}}),
    );
    let session = session.map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}");
    send(connection, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

pub fn discover(connection: &mut Connection, request: &Received, able: &str) -> Next {
    let able: Value = serde_json::from_str(able).unwrap();
    let body = result(
        request,
        &json!({"resultType": "complete", "supportedVersions": [super::call::MODERN], "capabilities": able,
                "ttlMs": 3_600_000, "cacheScope": "public"}),
    );
    send(connection, &plain(200, &body))
}

/// The scripted tools on one page, or so many pages of 50 made-up ones.
pub fn list(connection: &mut Connection, request: &Received, names: &[String], pages: usize) -> Next {
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let mut page = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private"});
    if pages == 1 {
        page["tools"] = names.iter().map(|name| tool(name)).collect();
    } else {
        let cursor = request.envelope().params.cursor.unwrap_or_else(|| "page-0".into());
        let number: usize = cursor.trim_start_matches("page-").parse().unwrap_or(0);
        page["tools"] = (0..50).map(|index| tool(&format!("tool-{}", number * 50 + index))).collect();
        if number + 1 < pages {
            page["nextCursor"] = json!(format!("page-{}", number + 1));
        }
    }
    send(connection, &plain(200, &result(request, &page)))
}
