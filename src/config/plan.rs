//! The plan: the compiled configuration that workers read. Immutable; a reload makes a new one.
//!
//! Not here: what the operator writes (`file`), how it is checked and compiled (`compile`), and
//! anything that changes by itself while the gateway runs (that is `handoff::Live`). No serde type is
//! read on the path of a call.

use crate::config::limit::Limits;
use crate::config::pattern::Pattern;
use crate::config::traffic::Traffic;
use ahash::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that one call needs to know about the configuration.
#[derive(Debug)]
pub struct Plan {
    /// First 16 hex digits of the SHA-256 of the expanded configuration: names the plan in records.
    pub digest: String,
    pub listeners: Vec<Listener>,
    /// None: `admin: off`.
    pub admin: Option<SocketAddr>,
    /// Number of worker threads, `auto` already resolved. Changes need a restart.
    pub workers: usize,
    pub http: Http,
    /// Index is [`ServerId`]; order as in the file.
    pub servers: Vec<Server>,
    /// Exact names; `/mcp/NAME` is case-sensitive.
    pub by_name: HashMap<Box<str>, ServerId>,
    pub identity: Identity,
    pub limits: Limits,
    /// Where quotas and kill switches outlive the process; None: they do not.
    pub state_dir: Option<PathBuf>,
    pub call_log: CallLog,
}

impl Plan {
    /// Whether calls are made to fail on purpose.
    pub fn has_faults(&self) -> bool {
        self.servers.iter().any(|server| !server.faults.is_empty())
    }

    /// Whether it may be served.
    ///
    /// # Errors
    /// A sentence with its cure, where it has faults and they are not allowed.
    pub fn check_faults(&self, allowed: bool) -> Result<(), String> {
        let faulty = self.servers.iter().find(|server| !server.faults.is_empty());
        match faulty {
            Some(server) if !allowed => Err(format!(
                "`faults` of the server `{}` make its calls fail on purpose: start with `run --allow-faults`, or \
                 remove them",
                server.name
            )),
            _ => Ok(()),
        }
    }
}

/// Index into [`Plan::servers`]. Not stable over reloads: use the name for that.
pub type ServerId = u16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
}

/// Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Http {
    pub max_body: usize,
    pub max_head: usize,
    pub header_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub drain_ms: u64,
    /// Silence on a relayed event stream after which a comment is sent; 0: never.
    pub stream_comment_ms: u64,
    /// Host names that are ours beside the listener's own addresses, lower case, without port.
    pub hosts: Vec<Box<str>>,
    /// Origins that are ours beside those hosts, as browsers send them, lower case.
    pub origins: Vec<Box<str>>,
}

#[derive(Debug)]
pub struct Server {
    pub name: Arc<str>,
    pub instances: Vec<Endpoint>,
    /// Injected into every request; a field that the client sent under the same name is dropped.
    /// Names are lower case, values are checked (no CR, LF, NUL).
    pub headers: Vec<InjectedHeader>,
    pub timeout: Timeouts,
    /// For `https` endpoints. Built at load, so that a bad CA is a located problem of `check`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub era: EraChoice,
    pub traffic: Traffic,
    /// `timeout.tools`: the whole time that calls of matching tools may take; the longest literal part first.
    pub tool_total_ms: Vec<(Pattern, u64)>,
    /// Whether the upstream is told how much time a call has left.
    pub forward_deadline: bool,
    /// Tools whose calls may be sent a second time.
    pub idempotent: Vec<Pattern>,
    /// Only with `run --allow-faults`.
    pub faults: Vec<InjectedFault>,
}

impl Server {
    /// Whether a second delivery of this tool's call does what one does, as the operator says.
    pub fn is_idempotent(&self, tool: &str) -> bool {
        self.idempotent.iter().any(|pattern| pattern.matches(tool))
    }
}

impl InjectedFault {
    pub fn is_for(&self, tool: &str) -> bool {
        self.tools.iter().any(|pattern| pattern.matches(tool))
    }
}

/// A fault that the operator wants to happen, to see what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    pub tools: Vec<Pattern>,
    /// Share of the calls, in millionths.
    pub ratio_ppm: u32,
    pub what: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    DelayMs(u64),
    /// Answered here with this HTTP status.
    Status(u16),
    /// The answer is cut after its head.
    Cut,
}

#[derive(Clone, PartialEq, Eq)]
pub struct InjectedHeader {
    pub name: Box<[u8]>,
    /// May be a secret: never printed.
    pub value: Box<[u8]>,
}

impl std::fmt::Debug for InjectedHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: <hidden>", String::from_utf8_lossy(&self.name))
    }
}

/// One instance of a server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub transport: Transport,
    /// Path and query of the request target, starting with `/`.
    pub target: Box<[u8]>,
    /// What `Host` says: host, and port where it is not the scheme's own.
    pub authority: Box<[u8]>,
    /// The name that the certificate must carry; only for TLS.
    pub tls_name: Option<rustls::pki_types::ServerName<'static>>,
    /// For logs and metrics: `scheme://host:port`, never a secret.
    pub label: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// An IP literal: no name to resolve.
    Address(SocketAddr),
    /// A name that control resolves; workers find its addresses in `Live` under `host:port`.
    Name { host: Box<str>, port: u16, key: Box<str> },
    /// A Unix socket: adapters, and `url: unix:/path:/mcp`.
    Unix(PathBuf),
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub connect_ms: u64,
    pub first_byte_ms: u64,
    pub idle_ms: u64,
    pub total_ms: u64,
    /// The same for an answer that is an event stream: what the operator asked for, else as long as both sides
    /// keep it, because silence is a stream's nature (comments tell whether its client is still there).
    pub stream_idle_ms: u64,
    pub stream_total_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraChoice {
    Auto,
    Legacy,
    Modern,
}

#[derive(Debug, Default)]
pub struct Identity {
    pub api_keys: Option<PathBuf>,
    /// The principal of a caller without credentials; None: such a caller is refused.
    pub anonymous: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallLog {
    #[default]
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}
