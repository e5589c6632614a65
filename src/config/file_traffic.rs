//! What the operator writes about the traffic to one server, as types.
//!
//! Not here: the rest of a server (`file`), limits of callers (`file_limit`), defaults and meaning
//! (`compile_traffic`). Doc comments of this file are texts of the JSON Schema, written for operators.

use crate::config::expression::Expression;
use crate::config::file::Instance;
use crate::config::pattern::Pattern;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::schema;
use crate::config::traffic::Hedge;
use schemars::JsonSchema;
use std::sync::Arc;

/// A part that can be switched off, or set.
#[derive(Debug)]
pub enum OrOff<T> {
    Off,
    On(T),
}

/// Probes of each instance. What is not said is 5s, 1s, 3 and 2.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// From one probe of an instance to the next. Default 5s.
    #[schemars(with = "Option<schema::Duration>")]
    pub interval: Option<u64>,
    /// In which a probe must be answered. Default 1s.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<u64>,
    /// Consecutive failures, of probes or connections, that take an instance out. Default 3.
    #[schemars(with = "Option<schema::Number>")]
    pub unhealthy: Option<u8>,
    /// Consecutive successes that bring it back. Default 2.
    #[schemars(with = "Option<schema::Number>")]
    pub healthy: Option<u8>,
}

/// Circuit breaker of each instance: one that fails too often is left alone for a while.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Breaker {
    /// Calls that are looked back at. Default 100.
    #[schemars(with = "Option<schema::Number>")]
    pub window: Option<u32>,
    /// Share of failures among them that opens it: connect errors, timeouts, 5xx and -32603. Default 0.5.
    #[schemars(with = "Option<schema::Ratio>")]
    pub failure_ratio: Option<u32>,
    /// Calls before which it never opens. Default 20, or `window` where that is less.
    #[schemars(with = "Option<schema::Number>")]
    pub min_calls: Option<Located<u32>>,
    /// How long it stays open the first time; each probe that fails doubles it. Default 30s.
    #[schemars(with = "Option<schema::Duration>")]
    pub open: Option<u64>,
    /// Longest time that it stays open. Default 5m, or `open` where that is more.
    #[schemars(with = "Option<schema::Duration>")]
    pub max_open: Option<Located<u64>>,
    /// Calls that probe a server after that time; all must succeed. Default 3.
    #[schemars(with = "Option<schema::Number>")]
    pub probes: Option<u8>,
    /// true: one more breaker for each tool. Default false.
    #[schemars(with = "Option<bool>")]
    pub per_tool: Option<bool>,
}

/// A limit of concurrent calls to the server that follows its latency.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adaptive {
    /// Concurrent calls that are always allowed. Default 4, or `max` where that is less.
    #[schemars(with = "Option<schema::Number>")]
    pub min: Option<Located<u32>>,
    /// Concurrent calls that are never exceeded. Default 256, or `min` where that is more.
    #[schemars(with = "Option<schema::Number>")]
    pub max: Option<Located<u32>>,
    /// Latency to keep: `p95<250ms` is 95 of 100 calls faster than 250 ms. Default p95<250ms.
    #[schemars(with = "Option<schema::Target>")]
    pub target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub percentile: u8,
    pub ms: u64,
}

/// Calls that are sent again: those of which nothing was sent, and those of tools that `idempotent` names. Where this is
/// written, the server is asked for its tools, and those that declare `idempotentHint` count as named.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first. Default 1; 0 for none.
    #[schemars(with = "Option<schema::Number>")]
    pub max: Option<u8>,
    /// Attempts after the first as a share of all calls. Default 0.1.
    #[schemars(with = "Option<schema::Ratio>")]
    pub budget: Option<u32>,
    /// A second copy of a slow idempotent call to another instance, after this time or after the 95th
    /// percentile (`p95`). Default off.
    #[schemars(with = "Option<schema::Hedge>")]
    pub hedge: Option<Located<Hedge>>,
}

/// Equal copies of a server that are chosen from together.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// Its only instance.
    pub url: Option<Located<String>>,
    /// Its instances, instead of `url`.
    #[schemars(with = "Option<Vec<Instance>>")]
    pub instances: Vec<Instance>,
    /// Its address was reported already: no second message that it is missing.
    #[schemars(skip)]
    pub reported: bool,
}

/// Pools, and their shares in percent.
pub type Split = Vec<(Located<String>, u32)>;

/// Calls that go to a certain pool: `when` and `pool`, or a `hook` that names one. The first of the list that names a pool
/// counts.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteRule {
    #[schemars(skip)]
    pub place: Place,
    /// CEL condition on a call. Where it cannot be evaluated the rule does not match.
    #[schemars(with = "Option<String>")]
    pub when: Option<Arc<Expression>>,
    /// One of `pools`.
    #[schemars(with = "Option<String>")]
    pub pool: Option<Located<String>>,
    /// URL of a service that is asked which of `pools` a call is for. Where it names none, the next route counts.
    #[schemars(with = "Option<String>")]
    pub hook: Option<Located<String>>,
    /// How long `hook` may take, 1ms to 2s. Default 100ms.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<u64>,
}

/// A fault that is made on purpose: exactly one of `delay`, `status` and `cut`. Needs `run --allow-faults`.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    #[schemars(skip)]
    pub place: Place,
    /// Names of tools, `*` for any characters. Default every tool.
    #[schemars(with = "Option<Vec<String>>")]
    pub tools: Vec<Pattern>,
    /// Share of their calls.
    #[schemars(with = "schema::Ratio")]
    pub ratio: Option<u32>,
    /// They are sent this much later.
    #[schemars(with = "Option<schema::Duration>")]
    pub delay: Option<u64>,
    /// They are answered with this HTTP status, and not sent.
    #[schemars(with = "Option<schema::Number>")]
    pub status: Option<u16>,
    /// true: their answer is cut after its head.
    #[schemars(with = "Option<bool>")]
    pub cut: bool,
}
