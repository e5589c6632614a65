//! MCP requests of both eras, as bytes: built from parts that a test can change one by one.
//!
//! Not here: sockets, and any opinion on what is valid.

use super::Era;
use super::client::Answer;
use super::client::Broken;
use super::client::Client;
use super::tls::Secure;
use std::net::SocketAddr;

pub const MODERN: &str = "2026-07-28";
pub const LEGACY: &str = "2025-11-25";

/// One HTTP request in parts.
#[derive(Clone, Debug)]
pub struct Raw {
    pub line: Vec<u8>,
    /// Whole lines without CRLF.
    pub fields: Vec<Vec<u8>>,
    pub body: Vec<u8>,
    /// Whether `bytes` adds a Content-Length.
    pub length: bool,
}

impl Raw {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Everything before the body.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = self.line.clone();
        bytes.extend_from_slice(b"\r\n");
        for field in &self.fields {
            bytes.extend_from_slice(field);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.length {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    #[must_use]
    pub fn line(mut self, line: impl Into<Vec<u8>>) -> Self {
        self.line = line.into();
        self
    }

    #[must_use]
    pub fn field(mut self, line: impl Into<Vec<u8>>) -> Self {
        self.fields.push(line.into());
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        let prefix = format!("{}:", name.to_ascii_lowercase());
        self.fields.retain(|line| !line.to_ascii_lowercase().starts_with(prefix.as_bytes()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Leaves the framing to the test.
    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.length = false;
        self
    }

    /// The same body as one chunk, with whatever stands for its size line and what follows it.
    #[must_use]
    pub fn chunked(self) -> Self {
        let body = chunk(&self.body);
        self.field("Transfer-Encoding: chunked").without_length().body([body, b"0\r\n\r\n".into()].concat())
    }
}

/// One chunk of a chunked body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// One JSON-RPC call to one server.
#[derive(Clone, Debug)]
pub struct Call {
    pub address: SocketAddr,
    pub era: Era,
    pub target: String,
    /// Raw JSON.
    pub id: String,
    pub method: String,
    /// `params.name` of a tools/call.
    pub name: Option<String>,
    /// Raw JSON of `arguments.x`; the token is added by `body`.
    pub argument: String,
    /// Further members of `arguments`, raw JSON, each ending with a comma.
    pub given: String,
    /// Further members of `params._meta`, raw JSON, each beginning with a comma.
    pub meta: String,
    /// Further members of `params`, raw JSON, each ending with a comma.
    pub members: String,
    pub fields: Vec<String>,
    /// Found in the body and in `X-Call`, and nowhere else in this process.
    pub token: String,
    pub session: Option<String>,
    /// What the client can be asked, raw JSON: of the request, or of the session.
    pub able: String,
    /// How its connections shake hands; none: they are plain.
    pub via: Option<Secure>,
}

impl Call {
    pub fn new(address: SocketAddr, era: Era, server: &str, method: &str) -> Self {
        Self {
            address,
            era,
            target: if server.is_empty() { "/mcp".into() } else { format!("/mcp/{server}") },
            id: "1".into(),
            method: method.into(),
            name: None,
            argument: "{}".into(),
            given: String::new(),
            meta: String::new(),
            members: String::new(),
            fields: Vec::new(),
            token: super::token(),
            session: None,
            able: "{}".into(),
            via: None,
        }
    }

    pub fn tool(address: SocketAddr, era: Era, server: &str, tool: &str) -> Self {
        Self { name: Some(tool.into()), ..Self::new(address, era, server, "tools/call") }
    }

    #[must_use]
    pub fn field(mut self, line: impl Into<String>) -> Self {
        self.fields.push(line.into());
        self
    }

    #[must_use]
    pub fn id(mut self, raw: impl Into<String>) -> Self {
        self.id = raw.into();
        self
    }

    /// Raw JSON that becomes `params.arguments.x`.
    #[must_use]
    pub fn argument(mut self, raw: impl Into<String>) -> Self {
        self.argument = raw.into();
        self
    }

    /// A further member of `params.arguments`, as raw JSON.
    #[must_use]
    pub fn given(mut self, name: &str, raw: &str) -> Self {
        self.given.push_str(&format!("\"{name}\":{raw},"));
        self
    }

    /// Of a client that can be asked this (raw JSON of its capabilities).
    #[must_use]
    pub fn able(mut self, raw: &str) -> Self {
        self.able = raw.into();
        self
    }

    /// A further member of `params._meta`, as raw JSON.
    #[must_use]
    pub fn meta(mut self, name: &str, raw: &str) -> Self {
        self.meta.push_str(&format!(",\"{name}\":{raw}"));
        self
    }

    /// The same once more, told apart by a token of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { token: super::token(), ..self.clone() }
    }

    /// A further member of `params`, as raw JSON.
    #[must_use]
    pub fn member(mut self, name: &str, raw: &str) -> Self {
        self.members.push_str(&format!("\"{name}\":{raw},"));
        self
    }

    pub fn body(&self) -> String {
        let meta = match self.era {
            Era::Modern => format!(
                r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{{"name":"test","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{}{}}}"#,
                self.able, self.meta
            ),
            Era::Legacy if self.meta.is_empty() => String::new(),
            Era::Legacy => format!(r#","_meta":{{{}}}"#, self.meta.trim_start_matches(',')),
        };
        let name = self.name.as_ref().map_or(String::new(), |name| format!(r#""name":"{name}","#));
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"{}","params":{{{name}{}"arguments":{}{meta}}}}}"#,
            self.id,
            self.method,
            self.members,
            self.arguments()
        )
    }

    /// `params.arguments` as raw JSON.
    pub fn arguments(&self) -> String {
        format!(r#"{{{}"token":"{}","x":{}}}"#, self.given, self.token, self.argument)
    }

    pub fn raw(&self) -> Raw {
        let mut fields = vec![
            format!("Host: {}", self.address),
            "Content-Type: application/json".into(),
            "Accept: application/json, text/event-stream".into(),
            format!("X-Call: {}", self.token),
        ];
        match self.era {
            Era::Modern => {
                fields.push(format!("MCP-Protocol-Version: {MODERN}"));
                fields.push(format!("Mcp-Method: {}", self.method));
                fields.extend(self.name.iter().map(|name| format!("Mcp-Name: {name}")));
            }
            Era::Legacy => {
                fields.push(format!("MCP-Protocol-Version: {LEGACY}"));
                fields.extend(self.session.iter().map(|id| format!("Mcp-Session-Id: {id}")));
            }
        }
        fields.extend(self.fields.iter().cloned());
        Raw {
            line: format!("POST {} HTTP/1.1", self.target).into(),
            fields: fields.into_iter().map(String::into_bytes).collect(),
            body: self.body().into(),
            length: true,
        }
    }

    /// A connection of its own.
    #[track_caller]
    pub fn connect(&self) -> Client {
        match &self.via {
            Some(secure) => secure.connect(self.address),
            None => Client::connect(self.address),
        }
    }

    /// In the older era: opens a session first, on a connection of its own, with the same fields.
    #[must_use]
    pub fn in_session(mut self) -> Self {
        if self.era == Era::Legacy && self.session.is_none() {
            match initialize(&self) {
                Ok(session) => self.session = session,
                Err(answer) => panic!("initialize: {answer:?}"),
            }
        }
        self
    }

    /// The whole answer, on a connection of its own, in a session where the era has them.
    #[track_caller]
    pub fn send(self) -> Answer {
        self.try_send().unwrap_or_else(|broken| panic!("{broken:?}"))
    }

    /// As `send`; a refused `initialize` is the answer.
    pub fn try_send(mut self) -> Result<Answer, Broken> {
        if self.era == Era::Legacy && self.session.is_none() {
            match initialize(&self) {
                Ok(session) => self.session = session,
                Err(answer) => return *answer,
            }
        }
        self.connect().talk(&self.raw().bytes())
    }

    /// Sends the request; the answer is the test's to read.
    #[track_caller]
    pub fn open(self) -> Client {
        let call = self.in_session();
        let mut client = call.connect();
        assert!(client.send(&call.raw().bytes()));
        client
    }
}

/// `initialize` and `notifications/initialized` like every client of the older era; the session's id.
fn initialize(like: &Call) -> Result<Option<String>, Box<Result<Answer, Broken>>> {
    let fields = like.fields.clone();
    let first = Call {
        method: "initialize".into(),
        target: like.target.clone(),
        fields: fields.clone(),
        members: format!(
            r#""protocolVersion":"{LEGACY}","capabilities":{},"clientInfo":{{"name":"test","version":"1"}},"#,
            like.able
        ),
        ..Call::new(like.address, Era::Legacy, "", "initialize")
    };
    let mut client = like.connect();
    client.send(&first.raw().without("mcp-protocol-version").bytes());
    let answer = client.try_answer();
    let session = match &answer {
        Ok(answer) if answer.status == 200 => answer.head.field("mcp-session-id").map(str::to_owned),
        _ => return Err(answer.into()),
    };
    let then = Call { target: like.target.clone(), fields, session: session.clone(), ..first };
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    client.send(&then.raw().body(body).bytes());
    match client.try_answer() {
        Ok(accepted) if accepted.status == 202 => Ok(session),
        other => Err(other.into()),
    }
}
