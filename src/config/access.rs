//! What a plan says about what callers may see and call.
//!
//! Not here: reading and checking it (`read_access`, `compile_access`), and deciding (`policy::access`).

use crate::config::expression::Expression;
use crate::config::pattern::ToolPattern;
use std::sync::Arc;

/// The rules in the order of the file, which decides nothing but which of several is named.
#[derive(Debug, Default)]
pub struct Access {
    pub rules: Vec<AccessRule>,
}

#[derive(Debug)]
pub struct AccessRule {
    pub name: Arc<str>,
    /// Callers with one of these roles, and `principals`. Where both are empty, all callers.
    pub roles: Vec<Box<str>>,
    /// Callers of one of these names.
    pub principals: Vec<Box<str>>,
    /// What it is about; never empty.
    pub patterns: Vec<ToolPattern>,
    pub effect: Effect,
    /// Where it cannot be evaluated the rule matches; an `allow` does not.
    pub when: Option<Expression>,
}

#[derive(Debug)]
pub enum Effect {
    Allow,
    Deny,
    /// A caller without all of these scopes is told so, and sees the tool all the same.
    Scopes(Vec<Box<str>>),
    /// Somebody else decides (Open Policy Agent's data API).
    External(External),
}

#[derive(Debug)]
pub struct External {
    pub url: Box<str>,
    pub timeout_ms: u64,
    /// Whether a call passes that nobody has decided on.
    pub allows_on_error: bool,
    /// How long an answer stands for equal questions.
    pub cache_ms: u64,
}
