//! What others are asked about a call (in the words of Open Policy Agent's data API), and what they said: whether it may
//! pass, and which pool of its server it is for.
//!
//! Not here: asking (control) and waiting (the worker). Nothing that a caller shows of itself is in a question.

use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::arguments;
use crate::mcp::target::Target;
use crate::policy::decide::Asked;
use crate::policy::token::json;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub allow: bool,
    /// For the caller; empty: it gives none.
    pub reason: Box<str>,
}

/// An answer to the question of one rule about one thing that a message names. Kept for as long as the call is decided,
/// so that a replay asks nobody.
#[derive(Clone, Debug)]
pub struct Answered {
    pub rule: Arc<str>,
    pub message: usize,
    pub target: usize,
    /// None: nobody has answered in time.
    pub ruling: Option<Ruling>,
}

/// Why nothing was said that could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    Late,
    Unreachable,
    Unreadable,
}

impl Silence {
    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why a hook of `route` names no pool for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// It leaves the call to the next rule.
    None,
    /// It names a pool that the server does not have.
    UnknownPool,
    Silent(Silence),
    /// Too many calls wait for it.
    Busy,
    /// It is not told of batches, of arguments that name a key twice, and of very long messages.
    Unasked,
}

impl Unrouted {
    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UnknownPool => "unknown_pool",
            Self::Silent(silence) => silence.as_str(),
            Self::Busy => "busy",
            Self::Unasked => "unasked",
        }
    }
}

#[derive(Serialize)]
struct Input<'a> {
    principal: &'a str,
    roles: &'a [Box<str>],
    tenant: &'a str,
    server: &'a str,
    /// Tool, prompt or resource URI.
    tool: &'a str,
    method: &'a str,
    /// As the caller wrote them.
    args: &'a RawValue,
    annotations: Hints,
    labels: Vec<&'a str>,
    /// Those that may be named.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pools: &'a [&'a str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    read_only_hint: bool,
    destructive_hint: bool,
    idempotent_hint: bool,
    open_world_hint: bool,
}

/// What nobody has answered yet.
#[derive(Clone, Debug)]
pub struct Question {
    pub message: usize,
    pub target: usize,
    /// A JSON object. None: two readers could take the arguments for different ones, and nobody may be asked about one
    /// of them.
    pub input: Option<Box<str>>,
}

impl Question {
    pub fn new(asked: &Asked<'_>, target: usize) -> Self {
        let named = asked.targets.get(target);
        Self { message: asked.number, target, input: named.and_then(|named| input(asked, named, &[])) }
    }
}

/// What a hook of `route` is told of a call; the same for all hooks of a server. None: it is not to be asked.
pub fn referral(asked: &Asked<'_>, pools: &[&str]) -> Option<Box<str>> {
    let [target] = asked.targets else { return None };
    if asked.body.len() > limits::ROUTE_QUESTION_BYTES_MAX {
        return None;
    }
    input(asked, target, pools)
}

fn input(asked: &Asked<'_>, target: &Target<'_>, pools: &[&str]) -> Option<Box<str>> {
    const NO_ARGUMENTS: &str = "{}";
    let written = arguments::of(asked.body).unwrap_or(NO_ARGUMENTS);
    json::object(written.as_bytes())?;
    let known = asked.catalogue.and_then(|catalogue| catalogue.tools.get(&*target.name));
    let hints = known.copied().unwrap_or_default();
    let input = Input {
        principal: &asked.caller.name,
        roles: &asked.caller.roles,
        tenant: &asked.caller.tenant,
        server: asked.server,
        tool: &target.name,
        method: asked.method_text,
        args: serde_json::from_str(written).ok()?,
        annotations: Hints {
            read_only_hint: hints.read_only,
            destructive_hint: hints.destructive,
            idempotent_hint: hints.idempotent,
            open_world_hint: hints.open_world,
        },
        labels: asked.labels.of(if target.named == Named::Tool { &target.name } else { "" }),
        pools,
    };
    serde_json::to_string(&input).ok().map(String::into_boxed_str)
}
