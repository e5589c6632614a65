//! What the operator writes, as types. `read` fills them, `ringgate schema` describes them, and a test
//! keeps both to the same keys.
//!
//! Not here: traffic of a server (`file_traffic`), limits (`file_limit`), TLS (`file_tls`), defaults, meaning, and
//! whether parts fit together (`compile`). Doc comments of this file are the texts of the JSON Schema, so they are
//! written for operators.

use crate::config::credentials::Piece;
use crate::config::expression::Expression;
use crate::config::file_access::AccessRule;
use crate::config::file_auth::Auth;
use crate::config::file_auth::Vault;
use crate::config::file_hub::Cache;
use crate::config::file_hub::ToolOverride;
use crate::config::file_hub::VirtualServer;
use crate::config::file_identity::Jwt;
use crate::config::file_identity::Tenant;
use crate::config::file_limit::Limit;
use crate::config::file_limit::LimitTable;
use crate::config::file_limit::State;
use crate::config::file_limit::Usage;
use crate::config::file_tls::Listener;
use crate::config::file_tls::Mtls;
use crate::config::file_tls::Tls;
use crate::config::file_traffic::Adaptive;
use crate::config::file_traffic::Breaker;
use crate::config::file_traffic::Fault;
use crate::config::file_traffic::Health;
use crate::config::file_traffic::OrOff;
use crate::config::file_traffic::Pool;
use crate::config::file_traffic::Retry;
use crate::config::file_traffic::RouteRule;
use crate::config::file_traffic::Split;
use crate::config::limit::RateLimitHeaders;
use crate::config::pattern::Pattern;
use crate::config::plan::EraChoice;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::routing::Sticky;
use crate::config::schema;
use crate::config::traffic::Balance;
use schemars::JsonSchema;
use std::sync::Arc;

/// Configuration of Ringgate, an MCP gateway. YAML or JSON; a client's `mcp.json` is one too.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// For editors; the gateway does not read it.
    #[schemars(rename = "$schema")]
    pub schema: Option<String>,
    /// Address and port for clients, or a list of them. Default 127.0.0.1:8080; port 0 takes a free one.
    #[schemars(with = "Option<schema::Listen>")]
    pub listen: Vec<Listener>,
    /// Listener for metrics and health, or `off`. Default 127.0.0.1:9090.
    #[schemars(with = "Option<schema::Admin>")]
    pub admin: Option<Admin>,
    /// Worker threads: `auto` is one per core.
    #[schemars(with = "Option<schema::Workers>")]
    pub workers: Option<usize>,
    #[schemars(with = "Option<Http>")]
    pub http: Http,
    /// The MCP servers behind the gateway, by name; each is served at `/mcp/NAME`.
    #[schemars(with = "std::collections::BTreeMap<schema::ServerName, schema::ServerForm>")]
    pub mcp_servers: Vec<(Located<String>, Server)>,
    /// Selections of what they have, by name; each is served at `/mcp/NAME`.
    #[schemars(with = "Option<std::collections::BTreeMap<schema::ServerName, VirtualServer>>")]
    pub virtual_servers: Vec<(Located<String>, VirtualServer)>,
    #[schemars(with = "Option<Identity>")]
    pub identity: Identity,
    /// Who may see and call what. Without rules everybody who may call at all may call everything.
    #[schemars(with = "Option<Vec<AccessRule>>")]
    pub access: Vec<AccessRule>,
    /// Limits of callers, all at once.
    #[schemars(with = "Option<Vec<Limit>>")]
    pub limits: Vec<Limit>,
    #[schemars(with = "Option<LimitTable>")]
    pub limit_table: LimitTable,
    /// What callers are told about their limits: `RateLimit` and `RateLimit-Policy` (draft), the `X-RateLimit-*`
    /// trio (legacy), or nothing (off). Default draft.
    #[schemars(with = "Option<schema::RateLimitHeaders>")]
    pub rate_limit_headers: Option<RateLimitHeaders>,
    #[schemars(with = "Option<Usage>")]
    pub usage: Usage,
    #[schemars(with = "Option<State>")]
    pub state: State,
    pub vault: Option<Located<Vault>>,
    #[schemars(with = "Option<Telemetry>")]
    pub telemetry: Telemetry,
}

#[derive(Debug)]
pub enum Admin {
    At(Located<String>),
    Off,
}

/// Bounds of HTTP on the listeners for clients.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// Longest request body; past it 413. Default 4MiB.
    #[schemars(with = "Option<schema::Size>")]
    pub max_body: Option<usize>,
    /// Longest request line and header fields together; past it 431. Default 32KiB.
    #[schemars(with = "Option<schema::Size>")]
    pub max_head: Option<usize>,
    /// Time in which a request head must be whole. Default 5s.
    #[schemars(with = "Option<schema::Duration>")]
    pub header_timeout: Option<u64>,
    /// A connection without a call is closed after this. Default 5m.
    #[schemars(with = "Option<schema::Duration>")]
    pub idle_timeout: Option<u64>,
    /// Time for open calls to finish once the gateway is told to stop. Default 30s.
    #[schemars(with = "Option<schema::Duration>")]
    pub drain: Option<u64>,
    /// Silence on an event stream after which a comment is sent, so that middleboxes keep it open;
    /// `off` sends none. Default 15s.
    #[schemars(with = "Option<schema::Duration>")]
    pub stream_comment: Option<u64>,
    /// Names under which clients reach this gateway, beside the listeners' own addresses.
    #[schemars(with = "Option<Vec<String>>")]
    pub hosts: Vec<Located<String>>,
    /// Origins of web pages that may call this gateway.
    #[schemars(with = "Option<Vec<String>>")]
    pub origins: Vec<Located<String>>,
}

/// One MCP server. The members of clients' files that say nothing to a gateway are accepted.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// Where it answers: `http://HOST[:PORT]/PATH`, `https://…` or `unix:/SOCKET:/PATH`.
    pub url: Option<Located<String>>,
    /// Several equal copies of the server, instead of `url`.
    #[schemars(with = "Option<Vec<Instance>>")]
    pub instances: Vec<Instance>,
    /// Header fields that the gateway adds to every request, credentials above all. Here, and nowhere else, a value may
    /// also have `${vault:PATH#FIELD}` in it.
    #[schemars(with = "std::collections::BTreeMap<String, String>", default)]
    pub headers: Vec<(Located<String>, Located<String>)>,
    /// Those with `${vault:…}` in them.
    #[schemars(skip)]
    pub vaulted: Vec<(Located<String>, Vec<Piece>)>,
    pub auth: Option<Auth>,
    #[schemars(with = "Option<schema::TimeoutForm>")]
    pub timeout: Timeout,
    pub tls: Option<Located<Tls>>,
    /// Which revisions of MCP the server speaks. Default auto.
    #[schemars(with = "Option<schema::Era>")]
    pub era: Option<EraChoice>,
    /// How calls are spread over `instances`: in turn, by `weight`, to the one with fewest calls in flight, to the
    /// less busy of two random ones, or by the load that they report (ORCA). Default roundRobin.
    #[schemars(with = "Option<schema::Balance>")]
    pub balance: Option<Balance>,
    /// How long the share of an instance that comes back takes to grow from a tenth to its whole, or `off`. Default 10s
    /// where `balance` looks at calls in flight (`leastConnections`, `twoChoices`), else off.
    #[schemars(with = "Option<schema::SlowStart>")]
    pub slow_start: Option<Located<OrOff<u64>>>,
    /// Named groups of instances, instead of `url` and `instances`. The first that is not `failover` gets the calls that
    /// neither `route` nor `split` sends elsewhere.
    #[schemars(with = "Option<std::collections::BTreeMap<String, Pool>>")]
    pub pools: Vec<(Located<String>, Pool)>,
    /// Which pool a call goes to, by what it is and who makes it. What no rule matches goes by `split`.
    #[schemars(with = "Option<Vec<RouteRule>>")]
    pub route: Vec<RouteRule>,
    /// Shares of the callers in percent, by pool; they sum to 100. Default all to the first pool.
    #[schemars(with = "Option<std::collections::BTreeMap<String, schema::Number>>")]
    pub split: Option<Located<Split>>,
    /// A share could not be read.
    #[schemars(skip)]
    pub is_split_broken: bool,
    /// Whose calls `split` keeps together. Default principal.
    #[schemars(with = "Option<schema::Sticky>")]
    pub sticky: Option<Located<Sticky>>,
    /// CEL over a call: calls with an equal value reach the same instance, such as `args.handle`.
    #[schemars(with = "Option<String>")]
    pub affinity: Option<Arc<Expression>>,
    /// The pool that gets the calls while no instance of the other one can.
    pub failover: Option<Located<String>>,
    /// Probes of each instance, or `off`. Default off.
    pub health: Option<OrOff<Health>>,
    /// Circuit breaker of each instance, or `off`. Default on.
    pub breaker: Option<OrOff<Breaker>>,
    /// A limit of concurrent calls that follows the server's latency, or `off`. Default off.
    pub adaptive: Option<OrOff<Adaptive>>,
    pub retry: Option<Retry>,
    /// Tools whose calls may be sent twice, `*` for any characters.
    #[schemars(with = "Option<schema::Names>")]
    pub idempotent: Vec<Pattern>,
    /// After a 429 of the server: `pass` goes on calling it, `hold` refuses its calls here until its `Retry-After` is
    /// over. Default pass.
    #[schemars(with = "Option<schema::UpstreamLimit>")]
    pub upstream_limit: Option<UpstreamLimit>,
    /// Faults that are made on purpose. Needs `run --allow-faults`.
    #[schemars(with = "Option<Vec<Fault>>")]
    pub faults: Vec<Fault>,
    /// How some of its tools are shown, by the server's own name of them.
    #[schemars(with = "Option<std::collections::BTreeMap<String, ToolOverride>>")]
    pub overrides: Vec<(Located<String>, ToolOverride)>,
    #[schemars(with = "Option<Cache>")]
    pub cache: Cache,
    /// What policies call it: `"pii" in labels` in conditions, `labels` for external decision points.
    #[schemars(with = "Option<Labels>")]
    pub labels: Labels,
    /// Tenants that may know of the server; every one where nothing is said.
    #[schemars(with = "Option<Vec<String>>")]
    pub tenants: Vec<Located<String>>,
    /// true: `http://` to a public address, or to a name that may have one, is meant. Default false.
    #[schemars(with = "Option<bool>")]
    pub plaintext: bool,
    /// As in a client's file: the only transport that this version speaks.
    #[schemars(with = "Option<schema::ServerType>", rename = "type")]
    pub kind: Option<()>,
    /// Its address was reported already: no second message that it is missing.
    #[schemars(skip)]
    pub reported: bool,
    /// As in a client's file: true leaves the server out.
    #[schemars(with = "Option<bool>")]
    pub disabled: bool,
    /// For people.
    #[schemars(with = "Option<String>")]
    pub description: Option<()>,
    /// As in a client's file; not read.
    #[schemars(with = "Option<String>")]
    pub env_file: Option<()>,
    /// As in a client's file: which tools the client calls without asking; not read.
    #[schemars(with = "Option<Vec<String>>")]
    pub always_allow: Option<()>,
    /// As in a client's file: which tools the client calls without asking; not read.
    #[schemars(with = "Option<Vec<String>>")]
    pub auto_approve: Option<()>,
}

/// Words of the operator for what a server has.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Labels {
    /// Of everything.
    #[schemars(with = "Option<schema::Names>")]
    pub all: Vec<Located<String>>,
    /// Of tools, by their name, `*` for any characters.
    #[schemars(with = "Option<std::collections::BTreeMap<String, schema::Names>>")]
    pub tools: Vec<(Pattern, Vec<Located<String>>)>,
}

/// One copy of a server.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    pub url: Located<String>,
    /// Share of the calls with `balance: weighted`; 0 for none. Default 1.
    #[schemars(with = "Option<schema::Number>")]
    pub weight: Option<Located<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamLimit {
    Pass,
    Hold,
}

/// How long the gateway waits for a server.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeout {
    /// For a connection, to each address of a name. Default 1s.
    #[schemars(with = "Option<schema::Duration>")]
    pub connect: Option<u64>,
    /// From the request to the first byte of its answer. Default 30s.
    #[schemars(with = "Option<schema::Duration>")]
    pub first_byte: Option<u64>,
    /// Silence inside an answer. Default 5m, and none for an event stream.
    #[schemars(with = "Option<schema::Duration>")]
    pub idle: Option<u64>,
    /// For the whole call. Default 10m, and none for an event stream.
    #[schemars(with = "Option<schema::Duration>")]
    pub total: Option<u64>,
    /// For the whole call of some tools, by their name, `*` for any characters.
    #[schemars(with = "Option<std::collections::BTreeMap<String, schema::Duration>>")]
    pub tools: Vec<(Pattern, u64)>,
    /// true: the server is told in `Ringgate-Deadline` how many milliseconds are left. Default false.
    #[schemars(with = "Option<bool>")]
    pub forward: Option<bool>,
}

/// Who may call. Without it everybody who reaches a loopback listener is `anonymous`.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    pub api_keys: Option<ApiKeys>,
    pub mtls: Option<Located<Mtls>>,
    /// Issuers of access tokens: this gateway is an OAuth 2.1 resource server for them.
    #[schemars(with = "Option<Vec<Jwt>>")]
    pub jwt: Vec<Jwt>,
    /// The tenant of a caller, in CEL over `jwt`, `roles` and `principal`. Without it there is one tenant.
    #[schemars(with = "Option<String>")]
    pub tenant: Option<Tenant>,
    /// Callers without credentials: `deny`, or the name of the principal that they are.
    #[schemars(with = "Option<String>")]
    pub anonymous: Option<Anonymous>,
}

/// API keys, as `ringgate key add` writes them.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeys {
    /// The key file, relative to this one.
    #[schemars(with = "String")]
    pub file: Option<Located<String>>,
}

#[derive(Debug)]
pub enum Anonymous {
    Deny(Place),
    Principal(Located<String>),
}

/// What the gateway says about its calls.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// One JSON line per call: `off`, `stdout`, `stderr` or `{file: PATH}`. Default off.
    #[schemars(with = "Option<schema::CallLog>")]
    pub call_log: Option<CallLog>,
}

#[derive(Debug)]
pub enum CallLog {
    Off,
    Stdout,
    Stderr,
    File(Located<String>),
}
