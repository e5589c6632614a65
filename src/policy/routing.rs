//! Which pool of its server a call goes to, and which other calls it stays with: `route`, `split`, `affinity`.
//!
//! Not here: asking the hooks of `route` (the worker), whether the pool can take it, and its instances (`route`).

use crate::config::limits;
use crate::config::routing::Hook;
use crate::config::routing::Routing;
use crate::config::routing::Rule;
use crate::config::routing::Share;
use crate::config::routing::Sticky;
use crate::config::routing::To;
use crate::mcp::envelope::Method;
use crate::policy::decide::Asked;
use crate::policy::expression;
use crate::policy::expression::Patterns;
use crate::policy::expression::Scope;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// Where a call is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// Index into `Traffic::pools`.
    pub pool: usize,
    /// Calls with an equal one are for the same instance; None: any instance.
    pub handle: Option<u64>,
}

/// What is to be asked before an aim counts: one bit for each rule of `route`, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u64);

const _: () = assert!(limits::ROUTES_MAX <= u64::BITS as usize);

impl Hooks {
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of the rules that a call meets; the first that names a pool counts.
    pub fn of(self, routing: &Routing) -> impl Iterator<Item = (&Rule, &Hook)> {
        let met = routing.rules.iter().enumerate().filter(move |(index, _)| (self.0 >> index) & 1 == 1);
        met.filter_map(|(_, rule)| Some((rule, rule.hook()?)))
    }
}

/// Where a call goes, and the hooks that may name another pool for it. `random`: any bits, fresh for each call. `failed` is
/// told of each expression that cannot be evaluated, by its name: such a rule does not match, and such a call has no handle.
pub fn aim(
    routing: &Routing,
    asked: &Asked<'_>,
    patterns: &mut Patterns,
    random: u64,
    mut failed: impl FnMut(&str),
) -> (Aim, Hooks) {
    if routing.is_plain() {
        return (Aim::default(), Hooks::default());
    }
    let mut scope = Scope::new(asked.variables(), patterns);
    let mut holds = |rule: &Rule| {
        let Some(when) = &rule.when else { return true };
        expression::evaluate_condition(when, &mut scope).unwrap_or_else(|_| {
            failed(&rule.name);
            false
        })
    };
    let (mut routed, mut hooks) = (None, Hooks::default());
    for (index, rule) in routing.rules.iter().enumerate() {
        match rule.to {
            To::Pool(pool) if holds(rule) => {
                routed = Some(pool);
                break;
            }
            To::Hook(_) if is_told(asked.method) && holds(rule) => hooks.0 |= 1 << index,
            To::Pool(_) | To::Hook(_) => {}
        }
    }
    let pool = routed.unwrap_or_else(|| shared(routing, asked, random));
    let handle = routing.affinity.as_ref().and_then(|affinity| {
        let mut hasher = DefaultHasher::new();
        match expression::evaluate_key(&affinity.value, &mut scope, &mut hasher) {
            Ok(()) => Some(hasher.finish()),
            Err(_) => {
                failed(&affinity.name);
                None
            }
        }
    });
    (Aim { pool, handle }, hooks)
}

/// Whether hooks are told of such a call: what it is about can be told from what it names and says.
const fn is_told(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
}

/// The pool by `split`; the first where there is none. The same in every gateway and after every restart, because the
/// hasher's keys are fixed.
fn shared(routing: &Routing, asked: &Asked<'_>, random: u64) -> usize {
    let caller = asked.caller;
    let mut hasher = DefaultHasher::new();
    // Who is among the first to try one server is not so at every other one.
    asked.server.hash(&mut hasher);
    match routing.sticky {
        Sticky::Principal => (&caller.tenant, &caller.name).hash(&mut hasher),
        Sticky::Tenant => caller.tenant.hash(&mut hasher),
        Sticky::None => random.hash(&mut hasher),
    }
    share_at(&routing.split, hasher.finish())
}

/// Shares lie side by side in the order of the pools: where one grows, callers move from its neighbours only.
fn share_at(split: &[Share], point: u64) -> usize {
    let point = point % 100;
    let mut end = 0;
    let found = split.iter().find(|share| {
        end += u64::from(share.percent);
        point < end
    });
    found.map_or(0, |share| share.pool)
}

#[cfg(test)]
mod tests;
