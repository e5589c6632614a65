//! What a plan says about limits of callers: rates, quotas, and what they count.
//!
//! Not here: reading and checking them (`read_limit`, `compile_limit`) and enforcing them (`policy`).

use crate::config::expression::Expression;
use crate::config::pattern::Pattern;
use crate::config::pattern::ToolPattern;
use jiff::tz::TimeZone;
use std::sync::Arc;

#[derive(Debug)]
pub struct Limits {
    /// In the order of the file; the built-in limits are the last, unless the operator named one so.
    pub list: Vec<Limit>,
    pub table: LimitTable,
    pub headers: RateLimitHeaders,
    /// Principals whose own token counts are believed (`usage.from`).
    pub usage_from: Vec<Box<str>>,
}

#[derive(Debug)]
pub struct Limit {
    pub name: Arc<str>,
    /// Names of servers; empty: every one.
    pub servers: Vec<Box<str>>,
    /// `server.tool`, `prompt:server.name`, `resource:server.URI`; empty: every one.
    pub tools: Vec<ToolPattern>,
    /// Exact methods or globs; `["tools/call"]` where nothing is said.
    pub methods: Vec<Pattern>,
    pub when: Option<Expression>,
    pub key: Vec<KeyPart>,
    pub count: Count,
    /// Smooth (GCRA). At least one of `rate` and `quota` is there, never both.
    pub rate: Option<Rate>,
    pub quota: Option<Quota>,
}

/// Calls with equal values of all parts share a bucket.
#[derive(Debug)]
pub enum KeyPart {
    Principal,
    /// The principal, or the address of a caller that showed nothing: those are many of one name. Built-in limits only.
    Caller,
    Tenant,
    Server,
    Tool,
    /// The address of the peer.
    Source,
    /// One bucket for all.
    Gateway,
    /// Any value of a CEL expression. A call for which it fails does not match the limit.
    Expression(Expression),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// JSON-RPC requests of the limit's methods: by default tool calls, the same in both eras.
    #[default]
    Calls,
    /// HTTP requests of whatever method.
    Requests,
    /// Tokens of arguments and results: counted afterwards, the call that overshoots is delivered.
    Tokens,
}

/// `count` in `per_ms` milliseconds, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u64,
    pub per_ms: u64,
    pub burst: u64,
}

/// `count` in each calendar window of `zone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub count: u64,
    pub window: Window,
    pub zone: TimeZone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

/// The table of rate buckets. Fixed memory: 8 bytes a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitTable {
    pub buckets: usize,
    pub on_full: OnFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    #[default]
    Refuse,
    Allow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    #[default]
    Draft,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    Legacy,
    Off,
}
