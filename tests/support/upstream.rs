//! A scripted MCP server on plain threads: it records every byte that the gateway sends and answers as
//! the test says. Both eras, plain or TLS.
//!
//! Not here: the answers themselves (script), and patience with bad HTTP: what is not strict HTTP/1.1
//! fails the test when the upstream is dropped.

use super::Era;
use super::PATIENCE;
use super::client::uninterrupted;
use super::reserved::Reserved;
use super::script;
use super::script::Script;
use super::wire::Body;
use super::wire::Head;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::collections::HashSet;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// What a connection is for, after a script ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Keep,
    Close,
}

/// One whole request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Received {
    pub fn method(&self) -> &str {
        &self.head.start[0]
    }

    /// The parts that a scripted server reads; all empty where the body is no JSON.
    pub fn envelope(&self) -> Envelope {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn mentions(&self, word: &str) -> bool {
        self.head.fields.iter().any(|(_, value)| super::wire::find(value, word.as_bytes()).is_some())
            || super::wire::find(&self.body, word.as_bytes()).is_some()
    }
}

/// A message of which nothing is evaluated that a test may want back byte for byte.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Envelope {
    pub id: Option<Box<RawValue>>,
    pub method: String,
    pub params: Params,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Params {
    pub name: String,
    pub arguments: Option<Box<RawValue>>,
    pub cursor: Option<String>,
    pub protocol_version: String,
}

impl Envelope {
    pub fn raw_id(&self) -> &str {
        self.id.as_ref().map_or("null", |id| id.get())
    }
}

#[derive(Default)]
struct Record {
    connections: usize,
    open: usize,
    bytes: usize,
    requests: Vec<Received>,
    /// All bytes of each connection, to find words that never became a request.
    raw: Vec<Vec<u8>>,
    violations: Vec<String>,
    last_closed: Option<Instant>,
    minted: usize,
    /// Ids of the sessions that were opened and not yet deleted.
    sessions: HashSet<String>,
    streams: HashMap<usize, TcpStream>,
}

/// The record, with a bell that rings at each change.
#[derive(Default)]
struct Seen(Mutex<Record>, Condvar);

impl Seen {
    fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let value = change(&mut self.0.lock().unwrap());
        self.1.notify_all();
        value
    }

    fn wait(&self, limit: Duration, ready: impl Fn(&Record) -> bool) -> bool {
        let record = self.0.lock().unwrap();
        let (record, _) = self.1.wait_timeout_while(record, limit, |record| !ready(record)).unwrap();
        ready(&record)
    }
}

/// Starts a server without tools that answers both eras.
pub fn upstream() -> Builder {
    Builder {
        scripts: HashMap::new(),
        names: Vec::new(),
        only: None,
        able: r#"{"tools":{}}"#.into(),
        methods: HashMap::new(),
        every: None,
        get: None,
        head: None,
        tls: None,
        pages: 1,
        sessions: true,
        hears_tokens: false,
    }
}

pub struct Builder {
    scripts: HashMap<String, Script>,
    /// Of its tools, in the order of its list.
    names: Vec<String>,
    /// The one era that it speaks; none: both.
    only: Option<Era>,
    /// Its capabilities, raw JSON.
    able: String,
    /// For methods other than tools/call.
    methods: HashMap<String, Script>,
    every: Option<Script>,
    get: Option<Script>,
    /// Runs when the head of a tools/call is there, before its body.
    head: Option<Script>,
    tls: Option<Arc<ServerConfig>>,
    pages: usize,
    sessions: bool,
    /// It gets callers' tokens: it is no server, but a service of whoever gives them out.
    hears_tokens: bool,
}

impl Builder {
    /// A tool that gives back its arguments.
    #[must_use]
    pub fn tool(self, name: &str) -> Self {
        self.on(name, script::echo())
    }

    /// A tool that does what the script says.
    #[must_use]
    pub fn on(mut self, name: &str, script: Script) -> Self {
        if self.scripts.insert(name.into(), script).is_none() {
            self.names.push(name.into());
        }
        self
    }

    /// Speaks this era alone, and that strictly: requests of the other are refused as real servers refuse them, and an
    /// older server wants the session that it gave.
    #[must_use]
    pub fn only(mut self, era: Era) -> Self {
        self.only = Some(era);
        self
    }

    /// Says that it can do this (raw JSON of its capabilities).
    #[must_use]
    pub fn able(mut self, raw: &str) -> Self {
        self.able = raw.into();
        self
    }

    /// A JSON-RPC method that is answered as the script says.
    #[must_use]
    pub fn method(mut self, name: &str, script: Script) -> Self {
        self.methods.insert(name.into(), script);
        self
    }

    /// What the health checks of either era get.
    #[must_use]
    pub fn probed(self, script: Script) -> Self {
        self.method("server/discover", Arc::clone(&script)).method("ping", script)
    }

    /// Every request goes to the script: no MCP server behind it.
    #[must_use]
    pub fn every(mut self, script: Script) -> Self {
        self.every = Some(script);
        self
    }

    /// What a GET gets. Without it: an event stream that stays silent.
    #[must_use]
    pub fn get(mut self, script: Script) -> Self {
        self.get = Some(script);
        self
    }

    /// Answers as soon as the head is there, whatever the body.
    #[must_use]
    pub fn on_head(mut self, script: Script) -> Self {
        self.head = Some(script);
        self
    }

    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// tools/list comes in so many pages of 50 tools.
    #[must_use]
    pub fn pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// An older server that mints no session ids.
    #[must_use]
    pub fn without_sessions(mut self) -> Self {
        self.sessions = false;
        self
    }

    /// A service that callers' tokens are for. To any other a token or key of theirs fails the test.
    #[must_use]
    pub fn hears_tokens(mut self) -> Self {
        self.hears_tokens = true;
        self
    }

    pub fn run(self) -> Upstream {
        self.run_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn run_on(self, listener: TcpListener) -> Upstream {
        let address = listener.local_addr().unwrap();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (seen, server) = (Arc::new(Seen::default()), Arc::new(self));
        let record = Arc::clone(&seen);
        let handle = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (server, record) = (Arc::clone(&server), Arc::clone(&record));
                std::thread::spawn(move || serve(&server, &record, stream));
            }
        });
        let url = format!("{scheme}://{address}/mcp");
        Upstream { address, url, seen, listener: handle, held: OnceLock::new() }
    }
}

/// A running scripted server.
pub struct Upstream {
    pub address: SocketAddr,
    pub url: String,
    seen: Arc<Seen>,
    listener: TcpListener,
    /// Holds the port of one that was stopped.
    held: OnceLock<Reserved>,
}

impl Upstream {
    pub fn requests(&self) -> Vec<Received> {
        self.seen.change(|record| record.requests.clone())
    }

    /// What came since the last time; it is forgotten.
    pub fn take_requests(&self) -> Vec<Received> {
        self.seen.change(|record| {
            record.raw.iter_mut().for_each(Vec::clear);
            std::mem::take(&mut record.requests)
        })
    }

    /// Whole requests that carry the token.
    pub fn with(&self, token: &str) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.mentions(token)).collect()
    }

    /// The one whole request that carries the token.
    #[track_caller]
    pub fn once(&self, token: &str) -> Received {
        let mut found = self.with(token);
        assert_eq!(found.len(), 1, "delivered {} times", found.len());
        found.remove(0)
    }

    /// tools/call requests that arrived whole.
    pub fn calls(&self) -> usize {
        self.requests().iter().filter(|request| request.envelope().method == "tools/call").count()
    }

    /// Requests of this JSON-RPC method.
    pub fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request.envelope().method == method).count()
    }

    /// Sessions that were ever opened, and those that still are.
    pub fn sessions(&self) -> (usize, usize) {
        self.seen.change(|record| (record.minted, record.sessions.len()))
    }

    /// Ends all sessions without a word.
    pub fn forget_sessions(&self) {
        self.seen.change(|record| record.sessions.clear());
    }

    /// How often the word stands in all that ever came, whole request or not.
    pub fn mentions(&self, word: &str) -> usize {
        let count = |raw: &Vec<u8>| memchr::memmem::find_iter(raw, word.as_bytes()).count();
        self.seen.change(|record| record.raw.iter().map(count).sum())
    }

    pub fn connections(&self) -> usize {
        self.seen.change(|record| record.connections)
    }

    pub fn open(&self) -> usize {
        self.seen.change(|record| record.open)
    }

    pub fn bytes(&self) -> usize {
        self.seen.change(|record| record.bytes)
    }

    /// Waits until the token has come in a whole request.
    #[track_caller]
    pub fn until_called(&self, token: &str) {
        let came =
            self.seen.wait(PATIENCE, |record| record.requests.iter().any(|request| request.mentions(token)));
        assert!(came, "{token} never came");
    }

    /// Waits until every connection is closed; when the last one was.
    #[track_caller]
    pub fn until_closed(&self) -> Instant {
        assert!(self.closes_within(PATIENCE), "{} connections still open", self.open());
        self.seen.change(|record| record.last_closed).expect("there was no connection")
    }

    pub fn closes_within(&self, limit: Duration) -> bool {
        self.seen.wait(limit, |record| record.open == 0)
    }

    /// Closes every connection from this side.
    pub fn close_all(&self) {
        for stream in self.seen.change(|record| std::mem::take(&mut record.streams)).into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on connections are refused, and the open ones are closed. Its port is given to nobody else meanwhile.
    pub fn stop(&self) {
        self.close();
        let _ = Reserved::left_by(self.address).map(|port| self.held.set(port));
    }

    fn close(&self) {
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        self.close_all();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.close();
        let violations = self.seen.change(|record| std::mem::take(&mut record.violations));
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the gateway wrote what it must not: {violations:?}");
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// One connection, as scripts see it.
pub struct Connection {
    wire: Box<dyn ReadWrite>,
    /// The same socket, for what TLS has no word for.
    pub tcp: TcpStream,
    pub number: usize,
    buffer: Vec<u8>,
    seen: Arc<Seen>,
}

impl Connection {
    /// False where the gateway no longer takes it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush()).is_ok()
    }

    /// Blocks until the gateway closes; when that was. Bytes that come meanwhile are kept.
    pub fn until_gone(&mut self) -> Instant {
        while self.read() {}
        Instant::now()
    }

    pub fn reset(&self) {
        let _ = socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    /// The id of a session that is open from now on.
    fn mint(&self) -> String {
        self.seen.change(|record| {
            record.minted += 1;
            let id = format!("session-{}", record.minted);
            record.sessions.insert(id.clone());
            id
        })
    }

    /// Ends the session that the request names.
    fn forget(&self, request: &Received) {
        let id = request.head.field("mcp-session-id").unwrap_or_default();
        self.seen.change(|record| record.sessions.remove(id));
    }

    /// What a server of this era alone answers to a request that is none of it, or of none of its sessions.
    fn refusal(&self, server: &Builder, era: Era, request: &Received) -> Option<Vec<u8>> {
        let envelope = request.envelope();
        let error = |status: u16, code: i64, data: &str| {
            let id = envelope.raw_id();
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"{data}}}}}"#);
            Some(script::plain(status, &text))
        };
        let is_modern = request.head.field("mcp-protocol-version") == Some(super::call::MODERN);
        if era == Era::Modern {
            return match request.method() {
                "POST" if is_modern => None,
                "POST" => {
                    error(400, -32022, r#","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}"#)
                }
                _ => Some(b"HTTP/1.1 405 No\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n".to_vec()),
            };
        }
        if is_modern || envelope.method == "server/discover" {
            return error(400, -32000, "");
        }
        if !server.sessions || envelope.method == "initialize" {
            return None;
        }
        match request.head.field("mcp-session-id") {
            None => error(400, -32000, ""),
            Some(id) if self.seen.change(|record| record.sessions.contains(id)) => None,
            Some(_) => error(404, -32001, ""),
        }
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        let count = uninterrupted(|| self.wire.read(&mut bytes)).unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..count]);
        self.seen.change(|record| {
            record.bytes += count;
            record.raw[self.number].extend_from_slice(&bytes[..count]);
        });
        count > 0
    }

    /// The next whole request; `Ok(None)` at the end of the connection.
    fn request(&mut self, server: &Builder) -> Result<Option<(Received, Option<Next>)>, String> {
        let head = loop {
            match Head::parse(&self.buffer)? {
                Some(head) => break head,
                None if self.read() => {}
                None => return Ok(None),
            }
        };
        self.buffer.drain(..head.size);
        let mut body = Body::of_request(&head)?;
        let mut received = Received { head, body: Vec::new() };
        let is_call = received.head.field("x-call").is_some();
        let early = server.head.as_ref().filter(|_| is_call).map(|script| script(self, &received));
        loop {
            body.take(&mut self.buffer, &mut |bytes| received.body.extend_from_slice(bytes))?;
            if body.is_done() {
                return Ok(Some((received, early)));
            }
            if !self.read() {
                return Ok(None);
            }
        }
    }
}

fn serve(server: &Builder, seen: &Arc<Seen>, tcp: TcpStream) {
    tcp.set_nodelay(true).unwrap();
    let number = seen.change(|record| {
        let number = record.connections;
        record.raw.push(Vec::new());
        record.streams.insert(number, tcp.try_clone().unwrap());
        record.connections += 1;
        record.open += 1;
        number
    });
    let wire: Box<dyn ReadWrite> = match &server.tls {
        None => Box::new(tcp.try_clone().unwrap()),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).unwrap();
            Box::new(StreamOwned::new(session, tcp.try_clone().unwrap()))
        }
    };
    let mut connection = Connection { wire, tcp, number, buffer: Vec::new(), seen: Arc::clone(seen) };
    loop {
        let next = match connection.request(server) {
            Ok(None) => break,
            Ok(Some((received, early))) => {
                let stray = if server.hears_tokens { None } else { super::shown::stray(&received) };
                seen.change(|record| {
                    record.requests.push(received.clone());
                    record.violations.extend(stray.filter(|stray| !record.violations.contains(stray)));
                });
                early.unwrap_or_else(|| answer(server, &mut connection, &received))
            }
            Err(violation) => {
                seen.change(|record| record.violations.push(violation));
                break;
            }
        };
        if next == Next::Close {
            break;
        }
    }
    let linger = socket2::SockRef::from(&connection.tcp).linger();
    if !matches!(linger, Ok(Some(_))) {
        let _ = connection.tcp.shutdown(Shutdown::Both);
    }
    // A reset leaves with the last descriptor of the socket.
    drop(connection);
    seen.change(|record| {
        record.streams.remove(&number);
        record.open -= 1;
        record.last_closed = Some(Instant::now());
    });
}

fn answer(server: &Builder, connection: &mut Connection, request: &Received) -> Next {
    if let Some(script) = &server.every {
        return script(connection, request);
    }
    let envelope = request.envelope();
    if let Some(refusal) = server.only.and_then(|era| connection.refusal(server, era, request)) {
        return script::send(connection, &refusal);
    }
    match (request.method(), envelope.method.as_str()) {
        ("GET", _) => match &server.get {
            Some(script) => script(connection, request),
            None => script::silent_stream(connection, request),
        },
        ("DELETE", _) => {
            connection.forget(request);
            script::send(connection, &script::plain(200, ""))
        }
        (_, method) if server.methods.contains_key(method) => server.methods[method](connection, request),
        (_, "tools/call") => match server.scripts.get(&envelope.params.name) {
            Some(script) => script(connection, request),
            None => script::error(connection, request, -32602, "Unknown tool"),
        },
        (_, "initialize") => {
            let session = server.sessions.then(|| connection.mint());
            script::initialize(connection, request, session, &server.able)
        }
        (_, "server/discover") => script::discover(connection, request, &server.able),
        (_, "ping") => {
            script::send(connection, &script::plain(200, &script::result(request, &serde_json::json!({}))))
        }
        (_, "tools/list") => script::list(connection, request, &server.names, server.pages),
        (_, method) if method.starts_with("notifications/") || envelope.id.is_none() => {
            script::send(connection, &script::plain(202, ""))
        }
        _ => script::error(connection, request, -32601, "Method not found"),
    }
}
