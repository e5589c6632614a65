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
    /// The first whose condition holds names the pool.
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
    pub when: Arc<Expression>,
    /// Index into `Traffic::pools`.
    pub pool: usize,
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

impl Routing {
    /// Whether nothing is said: all calls go to the first pool, and any instance of it.
    pub fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.split.is_empty() && self.affinity.is_none()
    }

    /// Whether calls of one session may be for different pools: a rule looks at the call, and not at its caller alone.
    pub fn reads_calls(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.uses_body() || OF_CALLS.iter().any(|one| rule.when.uses(*one)))
    }
}
