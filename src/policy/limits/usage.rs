//! Tokens that were used elsewhere and are reported afterwards: charged to the limits that count them.
//!
//! Not here: tokens of calls through this gateway, and whose reports are believed.

use crate::base::clock::Moment;
use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::Limit;
use crate::config::limit::Limits;
use crate::config::pattern::Named;
use crate::policy::limits::Counters;
use crate::policy::limits::keys;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::terms::Terms;

/// What somebody used. `server` and `tool` are empty where nobody says.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    pub principal: &'a str,
    pub server: &'a str,
    pub tool: &'a str,
    pub tokens: u64,
}

/// The limits that were charged, by name. Left out are those for which a report says too little: with a condition,
/// for other servers or tools, or with a key of something else.
pub fn charge<'l>(limits: &'l Limits, counters: &Counters, usage: &Usage<'_>, now: Moment) -> Vec<&'l str> {
    let charged = limits.list.iter().filter(|limit| {
        let rate = limit.rate.filter(|_| limit.count == Count::Tokens && applies(limit, usage));
        let terms = rate.and_then(|rate| Terms::new(rate.count, rate.per_ms, rate.burst).ok());
        let key = key(limit, &counters.keys, usage);
        terms
            .zip(key)
            .is_some_and(|(terms, key)| counters.debts.charge(key, &terms, usage.tokens, now.as_nanos()))
    });
    charged.map(|limit| &*limit.name).collect()
}

fn applies(limit: &Limit, usage: &Usage<'_>) -> bool {
    let server = limit.servers.is_empty() || limit.servers.iter().any(|name| **name == *usage.server);
    let tool = || limit.tools.iter().any(|tool| tool.matches(Named::Tool, usage.server, usage.tool));
    limit.when.is_none() && server && (limit.tools.is_empty() || tool())
}

/// As a call of the same caller would have it.
fn key(limit: &Limit, hashes: &Keys, usage: &Usage<'_>) -> Option<u64> {
    let known = |text: &str| (!text.is_empty()).then(|| hashes.text(text));
    let part = |part: &KeyPart| match part {
        KeyPart::Principal => known(usage.principal),
        KeyPart::Server => known(usage.server),
        KeyPart::Tool => {
            let named = !usage.server.is_empty() && !usage.tool.is_empty();
            named.then(|| hashes.tool(usage.server, usage.tool))
        }
        KeyPart::Gateway => Some(0),
        KeyPart::Caller | KeyPart::Tenant | KeyPart::Source | KeyPart::Expression(_) => None,
    };
    let start = hashes.text(&limit.name);
    let key = limit.key.iter().try_fold(start, |key, value| Some(keys::join(key, part(value)?)));
    key.map(|key| key.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limit::LimitTable;
    use crate::config::limit::OnFull;
    use crate::config::limit::Rate;
    use crate::config::limit::RateLimitHeaders;

    fn limit(name: &str, key: Vec<KeyPart>) -> Limit {
        Limit {
            name: name.into(),
            servers: Vec::new(),
            tools: Vec::new(),
            methods: Vec::new(),
            when: None,
            key,
            count: Count::Tokens,
            rate: Some(Rate { count: 100, per_ms: 3_600_000, burst: 100 }),
            quota: None,
        }
    }

    #[test]
    fn limits_that_a_report_can_be_counted_for_are_charged() {
        let principal = || vec![KeyPart::Principal];
        let list = vec![
            limit("principal", principal()),
            Limit { count: Count::Calls, ..limit("calls", principal()) },
            Limit { servers: vec!["db".into()], ..limit("db-only", principal()) },
            limit("per-tool", vec![KeyPart::Principal, KeyPart::Tool]),
            limit("all", vec![KeyPart::Gateway]),
            limit("by-address", vec![KeyPart::Source]),
            Limit { rate: None, ..limit("quota", principal()) },
        ];
        let table = LimitTable { buckets: 8, on_full: OnFull::Refuse };
        let limits = Limits { list, table, headers: RateLimitHeaders::Off, usage_from: Vec::new() };
        let counters = Counters::new(table, Keys { seeds: [1, 2] });
        let usage = |server, tool, tokens| Usage { principal: "agent-7", server, tool, tokens };
        for (used, expected) in [
            (usage("", "", 60), &["principal", "all"][..]),
            (usage("db", "", 1), &["principal", "db-only", "all"]),
            (usage("crm", "query", 39), &["principal", "per-tool", "all"]),
        ] {
            assert_eq!(charge(&limits, &counters, &used, Moment::from_nanos(7)), expected, "{used:?}");
        }
        let terms = Terms::new(100, 3_600_000, 100).expect("good terms");
        let left = |limit: &str, values: &[&str]| {
            let start = counters.keys.text(limit);
            let key = values.iter().fold(start, |key, value| keys::join(key, counters.keys.text(value)));
            counters.debts.check(key, &terms, 7).has_room()
        };
        assert!(!left("principal", &["agent-7"]), "100 of 100");
        assert!(left("principal", &["agent-8"]) && left("db-only", &["agent-7"]));
        let per_tool = [counters.keys.text("agent-7"), counters.keys.tool("crm", "query")];
        let per_tool = per_tool.into_iter().fold(counters.keys.text("per-tool"), keys::join);
        assert!(counters.debts.remembers(per_tool), "charged where its calls are");
    }
}
