//! The record of one call: what a worker hands up and the writer prints as one JSON line.
//!
//! Not here: the ring (handoff) and the writing (control). A record owns no heap memory, so that
//! handing it over costs one copy and no shared counter.

use crate::base::text::Text;

/// What became of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A result that is no error, or a notification that was accepted.
    #[default]
    Ok,
    /// `result.isError` of a tool.
    ToolError,
    /// The upstream answered with a JSON-RPC error.
    RpcError,
    /// The upstream answered with an HTTP error that carries no JSON-RPC error.
    HttpError,
    /// Refused by the gateway before anything was sent.
    Refused,
    /// The upstream could not be reached, was too slow, or broke the protocol.
    UpstreamFailed,
    /// The answer was cut after its head had left.
    Cut,
    /// The client left first.
    Cancelled,
}

impl Outcome {
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::ToolError,
        Self::RpcError,
        Self::HttpError,
        Self::Refused,
        Self::UpstreamFailed,
        Self::Cut,
        Self::Cancelled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::RpcError => "rpc_error",
            Self::HttpError => "http_error",
            Self::Refused => "refused",
            Self::UpstreamFailed => "upstream_failed",
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What one call of a batch asked for.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    pub method: Text<48>,
    pub target: Text<128>,
}

/// Rules whose decisions stand in a record; more are counted there. A call meets one or two.
pub const DECISIONS_MAX: usize = 4;

/// What an external decision point said of a call, as far as one rule asked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    #[default]
    Allow,
    /// It gave no answer in time: the rule's `onError` decided.
    Nothing,
    Deny,
}

impl Said {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Nothing => "none",
            Self::Deny => "deny",
        }
    }
}

/// The decision by which one rule of a call was met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decision {
    /// The rule's name.
    pub rule: Text<48>,
    pub said: Said,
}

/// What decision points said of a call, a rule each: the first few.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decisions {
    first: [Decision; DECISIONS_MAX],
    count: u8,
    /// Rules that found no room.
    pub more: u16,
}

impl Decisions {
    pub fn all(&self) -> &[Decision] {
        self.first.get(..usize::from(self.count)).unwrap_or_default()
    }

    pub fn push(&mut self, rule: &str, said: Said) {
        match self.first.get_mut(usize::from(self.count)) {
            Some(free) => {
                free.rule.set(rule);
                free.said = said;
                self.count += 1;
            }
            None => self.more = self.more.saturating_add(1),
        }
    }

    pub fn clear(&mut self) {
        (self.count, self.more) = (0, 0);
    }
}

impl Record {
    /// Makes it the record of one call of a batch.
    pub fn name(&mut self, called: &Called) {
        (self.method, self.target) = (called.method, called.target);
    }

    /// Empties the record without writing over texts that their lengths already hide.
    pub fn reset(&mut self) {
        self.principal.clear();
        self.actor.clear();
        self.server.clear();
        self.pool.clear();
        self.instance.clear();
        self.method.clear();
        self.target.clear();
        self.revision.clear();
        self.rule.clear();
        self.decisions.clear();
        self.outcome = Outcome::Ok;
        self.trace_id = [0; 16];
        (self.at_unix_ms, self.status, self.code, self.reason, self.worker) = (0, 0, 0, "", 0);
        (self.bytes_in, self.bytes_out, self.tokens) = (0, 0, None);
        (self.total_ns, self.upstream_ns, self.own_ns) = (0, 0, 0);
    }
}

/// One call, complete. Times in nanoseconds unless named otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Milliseconds since the Unix epoch at which the request was whole.
    pub at_unix_ms: u64,
    pub trace_id: [u8; 16],
    pub principal: Text<128>,
    /// Who acted for the principal (RFC 8693, `act`); empty: it did itself.
    pub actor: Text<128>,
    pub server: Text<32>,
    /// The pool of the server, where it has several; empty: none was chosen.
    pub pool: Text<32>,
    /// The instance that was called last; empty: none was.
    pub instance: Text<64>,
    /// The JSON-RPC method, or the HTTP method where there is none.
    pub method: Text<48>,
    /// Tool or prompt name, or resource URI; empty where the method has none.
    pub target: Text<128>,
    /// MCP revision of the request, as the client wrote it; empty if it said none.
    pub revision: Text<16>,
    pub outcome: Outcome,
    /// HTTP status that the client got; 0 if none was sent.
    pub status: u16,
    /// JSON-RPC error code of the answer; 0 if none was seen.
    pub code: i32,
    /// Why the gateway refused or failed the call; empty if it did not.
    pub reason: &'static str,
    /// The rule that refused it, as a place in the configuration; empty if none did.
    pub rule: Text<80>,
    /// What was asked of others about it, and what they said: also of a call that passed, so that it can be decided again.
    pub decisions: Decisions,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Tokens of its arguments and of its result, where a limit counts them.
    pub tokens: Option<(u64, u64)>,
    /// From the whole request to the last byte of the answer.
    pub total_ns: u64,
    /// From our first byte to the upstream to its last byte to us.
    pub upstream_ns: u64,
    /// What was ours: total less waiting for peers.
    pub own_ns: u64,
    pub worker: u16,
}
