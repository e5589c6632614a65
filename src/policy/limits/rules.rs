//! The limits of a plan made ready for one worker: which of them a call meets, under which key.
//!
//! Not here: counting (`table`, `pinned`) and what a refusal says (`fields`, the worker).

use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::Limit;
use crate::config::limit::Limits;
use crate::config::pattern::ToolPattern;
use crate::mcp::envelope::Method;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Seen;
use crate::policy::decide::Trail;
use crate::policy::expression;
use crate::policy::expression::Scope;
use crate::policy::identity::Origin;
use crate::policy::limits::Counters;
use crate::policy::limits::calendar;
use crate::policy::limits::calendar::Span;
use crate::policy::limits::gate;
use crate::policy::limits::gate::Item;
use crate::policy::limits::keys;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::terms::Terms;
use std::cell::Cell;
use std::hash::Hasher;

/// What is computed once a plan, or once a window.
pub struct Rules(Box<[Rule]>);

struct Rule {
    /// Of the limit's name: the beginning of all its keys.
    seed: u64,
    /// Bit per [`Method`]: the limit counts it.
    methods: u64,
    /// None for a quota.
    terms: Option<Terms>,
    window: Cell<Span>,
}

impl Rules {
    pub fn new(limits: &Limits, keys: &Keys) -> Self {
        let rule = |limit: &Limit| Rule {
            seed: keys.text(&limit.name),
            methods: methods(limit),
            terms: limit.rate.and_then(|rate| Terms::new(rate.count, rate.per_ms, rate.burst).ok()),
            window: Cell::new(Span { start_ms: 0, end_ms: 0 }),
        };
        Self(limits.list.iter().map(rule).collect())
    }
}

/// The limits that a call meets, in the order of the file.
pub fn meet<'a>(
    desk: Desk<'a>,
    asked: &Asked<'_>,
    scope: &mut Scope<'_>,
    trail: &mut impl Trail,
    mut each: impl FnMut(&'a Limit, Item<'a>),
) {
    let Desk { limits, rules, counters, .. } = desk;
    let mut parts = Parts { hashes: &counters.keys, asked, principal: None, server: None, tool: None };
    for (limit, rule) in limits.list.iter().zip(&rules.0) {
        if let Some(why) = rule.elsewhere(limit, asked) {
            trail.seen(limit, why);
            continue;
        }
        match meets(limit, rule.seed, &mut parts, scope) {
            Ok(Some(key)) => each(limit, rule.item(limit, counters, key, asked)),
            Ok(None) => trail.seen(limit, Seen::No),
            Err(error) => trail.seen(limit, Seen::Failed(&error)),
        }
    }
}

impl Rule {
    /// Which of method, server and tool is not the limit's business; None: all are.
    fn elsewhere(&self, limit: &Limit, asked: &Asked<'_>) -> Option<Seen<'static>> {
        let method = || match asked.method {
            Method::Other | Method::None => counts(limit, asked.method_text),
            named => self.methods & 1 << named as u32 != 0,
        };
        let server = || limit.servers.iter().any(|name| **name == *asked.server);
        let tool = || {
            let is_one = |tool: &ToolPattern| {
                asked.targets.iter().any(|target| tool.matches(target.named, asked.server, &target.name))
            };
            limit.tools.iter().any(is_one)
        };
        if !method() {
            Some(Seen::OtherMethod)
        } else if !limit.servers.is_empty() && !server() {
            Some(Seen::OtherServer)
        } else if !limit.tools.is_empty() && !tool() {
            Some(Seen::OtherTool)
        } else {
            None
        }
    }

    fn item<'a>(&self, limit: &'a Limit, counters: &'a Counters, key: u64, asked: &Asked<'_>) -> Item<'a> {
        let counted = match (&limit.quota, self.terms, limit.count) {
            (Some(quota), ..) => {
                let wall_ms = asked.when.unix_ns / 1_000_000;
                if !self.window.get().contains(wall_ms) {
                    self.window.set(calendar::window(quota, wall_ms));
                }
                let ends_ns = self.window.get().end_ms.saturating_mul(1_000_000);
                gate::Limit::Quota(&counters.quotas, Quota { count: quota.count, ends_ns })
            }
            (None, Some(terms), Count::Tokens) => gate::Limit::Tokens(&counters.debts, terms),
            (None, Some(terms), _) => gate::Limit::Rate(&counters.table, terms),
            // `check` lets no such limit pass; where one did, nothing may.
            (None, None, _) => gate::Limit::Quota(&counters.quotas, Quota { count: 0, ends_ns: u64::MAX }),
        };
        Item::new(counted, key, 1)
    }
}

/// Which methods with a name of their own a limit counts.
fn methods(limit: &Limit) -> u64 {
    let counted = Method::NAMED.iter().filter(|method| counts(limit, method.as_str()));
    counted.fold(0, |methods, method| methods | 1 << *method as u32)
}

const _: () = assert!(Method::NAMED.len() <= 64);

fn counts(limit: &Limit, method: &str) -> bool {
    limit.methods.iter().any(|pattern| pattern.matches(method))
}

/// The hashes of what makes the keys of a call: each once, though several limits want it.
struct Parts<'a> {
    hashes: &'a Keys,
    asked: &'a Asked<'a>,
    principal: Option<u64>,
    server: Option<u64>,
    tool: Option<u64>,
}

impl Parts<'_> {
    fn principal(&mut self) -> u64 {
        let Self { hashes, asked, .. } = *self;
        *self.principal.get_or_insert_with(|| hashes.principal(&asked.caller.tenant, &asked.caller.name))
    }

    fn server(&mut self) -> u64 {
        let Self { hashes, asked, .. } = *self;
        *self.server.get_or_insert_with(|| hashes.text(asked.server))
    }

    fn tool(&mut self) -> u64 {
        let Self { hashes, asked, .. } = *self;
        *self.tool.get_or_insert_with(|| hashes.tool(asked.server, asked.target))
    }
}

/// The key of the call, if the limit's condition holds.
fn meets(
    limit: &Limit,
    seed: u64,
    parts: &mut Parts<'_>,
    scope: &mut Scope<'_>,
) -> Result<Option<u64>, expression::EvaluationError> {
    if let Some(when) = &limit.when
        && !expression::evaluate_condition(when, scope)?
    {
        return Ok(None);
    }
    let mut key = seed;
    for part in &limit.key {
        let part = match part {
            KeyPart::Principal => parts.principal(),
            KeyPart::Caller if matches!(parts.asked.caller.origin, Origin::Anonymous) => {
                parts.hashes.address(parts.asked.source)
            }
            KeyPart::Caller => parts.principal(),
            KeyPart::Tenant => parts.hashes.text(&parts.asked.caller.tenant),
            KeyPart::Server => parts.server(),
            KeyPart::Tool => parts.tool(),
            KeyPart::Source => parts.hashes.address(parts.asked.source),
            KeyPart::Gateway => 0,
            KeyPart::Expression(value) => {
                let mut hasher = parts.hashes.hasher();
                expression::evaluate_key(value, scope, &mut hasher)?;
                hasher.finish()
            }
        };
        key = keys::join(key, part);
    }
    // 0 marks an empty cell.
    Ok(Some(key.max(1)))
}

/// The key of a principal's quota, where nothing but the principal makes it: what the admin API looks up.
pub fn key_of_principal(limit: &Limit, hashes: &Keys, tenant: &str, principal: &str) -> Option<u64> {
    let alone = matches!(limit.key.as_slice(), [KeyPart::Principal]);
    alone.then(|| keys::join(hashes.text(&limit.name), hashes.principal(tenant, principal)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pattern::Pattern;

    #[test]
    fn a_named_method_is_counted_where_a_pattern_matches_it() {
        let limit = Limit {
            name: "few".into(),
            servers: Vec::new(),
            tools: Vec::new(),
            methods: ["initialize", "*/list", "notifications/resources/updated"].map(Pattern::new).into(),
            when: None,
            key: Vec::new(),
            count: Count::Calls,
            rate: None,
            quota: None,
        };
        let methods = methods(&limit);
        for method in Method::NAMED {
            let expected = method.as_str().ends_with("/list")
                || matches!(method, Method::Initialize | Method::ResourceUpdated);
            assert_eq!(methods & 1 << *method as u32 != 0, expected, "{method:?}");
        }
    }
}
