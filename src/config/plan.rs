//! The plan: the compiled configuration that workers read. Immutable; a reload makes a new one.
//!
//! Not here: what the operator writes (`file`), how it is checked and compiled (`compile`), and
//! anything that changes by itself while the gateway runs (that is `handoff::Live`). No serde type is
//! read on the path of a call.

use crate::config::access::Access;
use crate::config::credentials::Auth;
use crate::config::credentials::Vault;
use crate::config::hub::Hub;
use crate::config::hub::HubId;
use crate::config::hub::ListCache;
use crate::config::hub::Override;
use crate::config::identity::Identity;
use crate::config::identity::Secret;
use crate::config::labels::Labels;
use crate::config::limit::Limits;
use crate::config::pattern::Pattern;
use crate::config::routing::Routing;
use crate::config::tls_server::ListenerTls;
use crate::config::traffic::Traffic;
use ahash::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
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
    /// Index is [`HubId`]: `/mcp`, then one for each server in their order, then the virtual servers.
    pub hubs: Vec<Hub>,
    /// Exact names, those of servers and of virtual servers; empty for `/mcp`.
    pub hub_by_name: HashMap<Box<str>, HubId>,
    pub identity: Identity,
    pub access: Access,
    pub limits: Limits,
    pub vault: Option<Vault>,
    /// Where quotas and kill switches outlive the process; None: they do not.
    pub state_dir: Option<PathBuf>,
    /// What sessions are sealed with, the newest first; empty: a key of the state directory, or of the process.
    pub seal_keys: Vec<Secret>,
    pub call_log: CallLog,
}

impl Plan {
    /// Whether the tokens of callers are needed after they were verified.
    pub fn exchanges_tokens(&self) -> bool {
        self.servers.iter().any(|server| server.auth.as_ref().is_some_and(|auth| auth.exchanges()))
    }

    /// Whether callers come back here from token services.
    pub fn asks_for_consent(&self) -> bool {
        self.servers.iter().any(|server| server.auth.as_ref().is_some_and(|auth| auth.is_consented()))
    }

    /// The server of this name.
    pub fn server_of(&self, name: &str) -> Option<&Server> {
        self.servers.get(usize::from(*self.by_name.get(name)?))
    }

    /// The labels of the server of this name.
    pub fn labels_of(&self, server: &str) -> &Labels {
        self.server_of(server).map_or(Labels::NONE, |server| &server.labels)
    }

    /// Whether calls are made to fail on purpose.
    pub fn has_faults(&self) -> bool {
        self.servers.iter().any(|server| !server.faults.is_empty())
    }

    /// Keeps the sockets of the plan before it, and the TLS sessions where nothing of theirs changed; false where other
    /// addresses are wanted, which then wait for a restart.
    pub fn keep_listeners(&mut self, before: &Self) -> bool {
        let addresses = |plan: &Self| plan.listeners.iter().map(|one| one.address).collect::<Vec<_>>();
        let same = addresses(self) == addresses(before);
        if !same {
            let wanted = std::mem::take(&mut self.listeners);
            let of =
                |old: &Listener| wanted.iter().find(|new| new.address == old.address).unwrap_or(old).clone();
            self.listeners = before.listeners.iter().map(of).collect();
        }
        for (new, old) in self.listeners.iter_mut().zip(&before.listeners) {
            if let (Some(renewed), Some(tls)) = (&mut new.tls, &old.tls)
                && renewed.content == tls.content
            {
                *renewed = Arc::clone(tls);
            }
        }
        same
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

#[derive(Clone, Debug)]
pub struct Listener {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<Arc<ListenerTls>>,
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
    /// What it is shown beside them, once that is known; None: nothing.
    pub auth: Option<Arc<Auth>>,
    pub timeout: Timeouts,
    /// For `https` endpoints. Built at load, so that a bad CA is a located problem of `check`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub era: EraChoice,
    pub traffic: Traffic,
    /// Which of its pools and instances a call goes to.
    pub routing: Routing,
    /// `timeout.tools`: the whole time that calls of matching tools may take; the longest literal part first.
    pub tool_total_ms: Vec<(Pattern, u64)>,
    /// Whether the upstream is told how much time a call has left.
    pub forward_deadline: bool,
    /// Tools whose calls may be sent a second time.
    pub idempotent: Vec<Pattern>,
    /// Whether tools that call themselves idempotent are such: where the operator wrote `retry`. Where nothing is
    /// written nobody asks the server what it offers.
    pub heeds_hints: bool,
    /// Only with `run --allow-faults`.
    pub faults: Vec<InjectedFault>,
    pub labels: Labels,
    pub list_cache: ListCache,
    /// Tools that are shown otherwise than the server shows them; `server` is this one.
    pub overrides: Vec<Override>,
    /// Whose callers may know of it; empty: everybody's.
    pub tenants: Vec<Box<str>>,
}

impl Server {
    /// Which instances it has, in this process's words: plans that give it others differ in it.
    pub fn place(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.instances.iter().for_each(|instance| instance.label.hash(&mut hasher));
        hasher.finish()
    }

    /// Whether callers of a tenant may know that it is there.
    pub fn is_for_tenant(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|known| **known == *tenant)
    }

    /// Whether a second delivery of this tool's call does what one does, as the operator says.
    pub fn is_idempotent(&self, tool: &str) -> bool {
        self.idempotent.iter().any(|pattern| pattern.matches(tool))
    }

    /// Whether it matters for retries what its tools say about themselves.
    pub const fn needs_hints(&self) -> bool {
        self.heeds_hints && self.traffic.retry.max > 0 && self.traffic.retry.budget_permille > 0
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallLog {
    #[default]
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}
