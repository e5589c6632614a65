//! What a plan says about where the calls to one server go: pools by attribute, shares of callers, affinity.
//!
//! Not here: deciding (`policy::routing`), the pools themselves and what is chosen by among their instances (`traffic`).

use crate::config::expression::Expression;
use crate::config::expression::Variable;
use std::sync::Arc;

/// What differs between the calls of one session, beside what its messages say.
const OF_CALLS: [Variable; 5] =
    [Variable::Annotations, Variable::Labels, Variable::Method, Variable::Name, Variable::Tool];

/// Asked in this order: `rules`, then `split`, then the first pool.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The first that names a pool counts.
    pub rules: Vec<Rule>,
    /// Shares of callers in percent, in the order of the pools; they sum to 100. Empty: the first pool has all.
    pub split: Vec<Share>,
    pub sticky: Sticky,
    pub affinity: Option<Affinity>,
}

/// One of `route`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `mcpServers.NAME.route[INDEX]`: what metrics call it.
    pub name: Box<str>,
    /// None: it is for all calls.
    pub when: Option<Arc<Expression>>,
    pub to: To,
}

/// What a rule says of the calls that it is for.
#[derive(Clone, Debug)]
pub enum To {
    /// Index into `Traffic::pools`.
    Pool(usize),
    /// Somebody else names the pool, or leaves it to the next rule.
    Hook(Hook),
}

/// Who is asked which pool a call is for.
#[derive(Clone, Debug)]
pub struct Hook {
    pub url: Box<str>,
    pub timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index into `Traffic::pools`.
    pub pool: usize,
    pub percent: u8,
}

/// Whose calls a `split` keeps together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// Those of one caller, by tenant and name.
    #[default]
    Principal,
    Tenant,
    /// None: each call by itself.
    None,
}

/// Calls with an equal value reach the same instance.
#[derive(Clone, Debug)]
pub struct Affinity {
    /// `mcpServers.NAME.affinity`.
    pub name: Box<str>,
    pub value: Arc<Expression>,
    /// One for each instance, made of its address: equal in all gateways, different for different instances.
    pub seeds: Box<[u64]>,
}

impl Rule {
    pub const fn hook(&self) -> Option<&Hook> {
        if let To::Hook(hook) = &self.to { Some(hook) } else { None }
    }
}

impl Routing {
    /// Whether nothing is said: all calls go to the first pool, and any instance of it.
    pub fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.split.is_empty() && self.affinity.is_none()
    }

    /// Whether calls of one session may be for different pools: a rule looks at the call, and not at its caller alone.
    pub fn reads_calls(&self) -> bool {
        let reads = |when: &Arc<Expression>| when.uses_body() || OF_CALLS.iter().any(|one| when.uses(*one));
        // Hooks are told of the call.
        let is_about_it = |rule: &Rule| rule.hook().is_some() || rule.when.as_ref().is_some_and(reads);
        self.rules.iter().any(is_about_it)
    }
}
