//! The tree to where the calls to a server go: `route`, `split`, `sticky`, `affinity`.
//!
//! Not here: the pools (`read_traffic`), and what the values mean together (`compile_routing`).

use crate::config::expression::Expression;
use crate::config::file;
use crate::config::file_traffic::RouteRule;
use crate::config::limits;
use crate::config::read_limit;
use crate::config::read_server;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::routing::Sticky;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Node;
use std::sync::Arc;

/// Everything of this file, into `server`.
pub fn routing(reader: &mut Reader<'_>, table: &mut Table<'_>, server: &mut file::Server) {
    if let Some(items) = table.take("route").and_then(|node| reader.list(node)) {
        if let Some(item) = items.get(limits::ROUTES_MAX) {
            reader.problem(item.place, format!("more than {} routes", limits::ROUTES_MAX), "");
        }
        server.route = items.iter().take(limits::ROUTES_MAX).filter_map(|item| rule(reader, item)).collect();
    }
    if let Some(node) = table.take("split") {
        split(reader, node, server);
    }
    let words = [("principal", Sticky::Principal), ("tenant", Sticky::Tenant), ("none", Sticky::None)];
    server.sticky = table.take("sticky").and_then(|node| {
        let value = reader.choice(node, &words)?;
        Some(Located { value, place: node.place, hidden: false })
    });
    let affinity = table.take("affinity");
    let affinity = affinity.and_then(|node| read_limit::expression(reader, node, Expression::compile_key));
    server.affinity = affinity.map(Arc::new);
}

fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<RouteRule> {
    let mut table = reader.table(node, "mcpServers.NAME.route")?;
    let before = reader.problems.len();
    let (pool, hook) = (table.place("pool"), table.place("hook"));
    let complete = hook.is_some() || (pool.is_some() && table.has("when"));
    if let (Some(_), Some(place)) = (pool, hook) {
        reader.problem(place, "`pool` and `hook` exclude each other", "Write two routes.");
    }
    if let Some(place) = table.place("timeout").filter(|_| hook.is_none()) {
        reader.problem(place, "`timeout` goes with `hook`", "Remove it.");
    }
    let when = table.take("when");
    let when = when.and_then(|node| read_limit::expression(reader, node, Expression::compile_condition));
    let pool = table.take("pool").and_then(|node| reader.text(node));
    let hook = table.take("hook").and_then(|node| reader.text(node));
    let timeout = read_server::duration(reader, &mut table, "timeout", 1..=limits::ROUTE_HOOK_MS_MAX);
    table.close(reader, &strangers::NONE);
    if !complete && reader.problems.len() == before {
        let cure = "Write `{when: CONDITION, pool: NAME}` or `{hook: URL, timeout: 20ms}`; what nothing matches goes to \
                    `split`, or the first pool.";
        reader.problem(node.place, "a route is `when` and `pool`", cure);
    }
    Some(RouteRule { place: node.place, when: when.map(Arc::new), pool, hook, timeout })
}

fn split(reader: &mut Reader<'_>, node: &Node, server: &mut file::Server) {
    let Some(entries) = reader.entries(node) else { return };
    let mut shares = Vec::new();
    for entry in entries {
        let name = Located { value: entry.key.clone(), place: entry.key_place, hidden: false };
        match reader.number(&entry.value, 0..=100_u32) {
            Some(percent) => shares.push((name, percent.value)),
            None => server.is_split_broken = true,
        }
    }
    server.split = Some(Located { value: shares, place: node.place, hidden: false });
}
