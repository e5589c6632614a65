//! What an external decision point is asked about a call (Open Policy Agent's data API), and what it said.
//!
//! Not here: asking (control) and waiting (the worker).

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
        Self { message: asked.number, target, input: named.and_then(|named| input(asked, named)) }
    }
}

fn input(asked: &Asked<'_>, target: &Target<'_>) -> Option<Box<str>> {
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
    };
    serde_json::to_string(&input).ok().map(String::into_boxed_str)
}
