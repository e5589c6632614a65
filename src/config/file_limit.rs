//! What the operator writes about limits of callers, as types.
//!
//! Not here: the rest of the file (`file`), defaults and meaning (`compile_limit`). Doc comments of this file are
//! texts of the JSON Schema, written for operators.

use crate::config::expression::Expression;
use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::OnFull;
use crate::config::limit::Window;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// A limit of callers: exactly one of `rate` and `quota`. Every limit that matches a call must have room for it.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    #[schemars(skip)]
    pub place: Place,
    /// Names it in refusals and metrics. `handshakes` and `lists` replace the built-in limits of those names.
    #[schemars(with = "String")]
    pub name: Option<Located<String>>,
    /// Who shares a bucket: those with the same `principal`, `tenant`, `server`, `tool` or `source` (address), all
    /// (`gateway`), a list of these, or a CEL expression with any value.
    #[schemars(with = "schema::LimitKey")]
    pub key: Vec<KeyPart>,
    #[schemars(skip)]
    pub key_place: Place,
    /// Servers that it is for. Default every one.
    #[schemars(with = "Option<schema::Names>")]
    pub servers: Vec<Located<String>>,
    /// Tools that it is for: `server.tool`, `prompt:server.name`, `resource:server.URI`, `*` for any characters.
    /// Default every one.
    #[schemars(with = "Option<schema::Names>")]
    pub tools: Vec<Located<String>>,
    /// Methods that it is for, `*` for any characters. Default tools/call.
    #[schemars(with = "Option<schema::Names>")]
    pub methods: Vec<Located<String>>,
    /// CEL condition on a call. One that cannot be evaluated does not match.
    #[schemars(with = "Option<String>")]
    pub when: Option<Expression>,
    /// Smooth: `60/min`, `5/s`, `100k/hour`, `25/10s`.
    #[schemars(with = "Option<schema::Rate>")]
    pub rate: Option<Located<Smooth>>,
    /// What may come at once. Default the count of `rate`.
    #[schemars(with = "Option<schema::Count>")]
    pub burst: Option<Located<u64>>,
    /// In each calendar window: `50k/day`; min, hour, day, week, month.
    #[schemars(with = "Option<schema::Quota>")]
    pub quota: Option<Located<Calendar>>,
    /// Time zone of the quota's windows, such as Europe/Berlin. Default UTC.
    pub tz: Option<Located<String>>,
    /// What is counted. Default calls.
    #[schemars(with = "Option<schema::LimitCount>")]
    pub count: Option<Count>,
    /// Where it holds; in this version in this gateway.
    #[schemars(with = "Option<schema::Scope>")]
    pub scope: Option<()>,
    /// Where its counts are kept; in this version in this gateway alone.
    #[schemars(with = "Option<schema::OnStateLoss>")]
    pub on_state_loss: Option<()>,
    /// A `rate` or `quota` is written, readable or not: no second message that it is missing.
    #[schemars(skip)]
    pub bounded: bool,
}

/// `count` in `per_ms` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smooth {
    pub count: u64,
    pub per_ms: u64,
}

/// `count` in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub count: u64,
    pub window: Window,
}

/// The memory of rates: fixed, 8 bytes a bucket.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitTable {
    /// Rounded up to a power of two. Default 1M.
    #[schemars(with = "Option<schema::Count>")]
    pub buckets: Option<usize>,
    /// What happens to a caller for whom no bucket is free. Default refuse.
    #[schemars(with = "Option<schema::OnFull>")]
    pub on_full: Option<OnFull>,
}

/// Who reports tokens.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// Principals whose own token counts are believed.
    #[schemars(with = "Option<schema::Names>")]
    pub from: Vec<Located<String>>,
}

/// What outlives the process.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Folder for it, relative to this file. Without it quotas, kill switches and lists are forgotten at a restart.
    #[schemars(with = "String")]
    pub dir: Option<Located<String>>,
    /// Secrets of at least 32 characters that sessions are sealed with, the newest first, the same on every gateway of a
    /// fleet. Without them one is made in `dir`, or for the life of the process.
    #[schemars(with = "Option<Vec<String>>")]
    pub seal_keys: Vec<Located<String>>,
}
