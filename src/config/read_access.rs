//! The tree to access rules: `access`.
//!
//! Not here: what the values mean together (`compile_access`).

use crate::config::expression::Expression;
use crate::config::file_access::AccessRule;
use crate::config::file_access::OnError;
use crate::config::file_access::Written;
use crate::config::limits;
use crate::config::read_limit;
use crate::config::read_server;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Node;

/// What a rule does: one of these.
const EFFECTS: [&str; 4] = ["allow", "deny", "scopes", "opa"];
/// Keys that say something about one effect only.
const OF_OPA: [&str; 3] = ["timeout", "onError", "cacheFor"];

pub fn access(reader: &mut Reader<'_>, node: &Node) -> Vec<AccessRule> {
    let Some(items) = reader.list(node) else { return Vec::new() };
    items.iter().filter_map(|item| rule(reader, item)).collect()
}

fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<AccessRule> {
    let mut table = reader.table(node, "access")?;
    if !table.has("name") {
        let cure = "Write `name: NAME`: refusals and metrics tell it.";
        reader.problem(node.place, "an access rule has no `name`", cure);
    }
    check_company(reader, &mut table);
    let effects = EFFECTS.into_iter().filter_map(|key| Some(Written { key, place: table.place(key)? }));
    let rule = AccessRule {
        place: node.place,
        effects: effects.collect(),
        name: table.take("name").and_then(|node| reader.text(node)),
        roles: names(reader, &mut table, "roles"),
        principals: names(reader, &mut table, "principals"),
        allow: names(reader, &mut table, "allow"),
        deny: names(reader, &mut table, "deny"),
        tools: names(reader, &mut table, "tools"),
        scopes: names(reader, &mut table, "scopes"),
        opa: table.take("opa").and_then(|node| reader.text(node)),
        timeout: read_server::duration(reader, &mut table, "timeout", 1..=limits::DECISION_MS_MAX),
        on_error: table
            .take("onError")
            .and_then(|node| reader.choice(node, &[("allow", OnError::Allow), ("deny", OnError::Deny)])),
        cache_for: read_server::duration(reader, &mut table, "cacheFor", 0..=limits::DECISION_CACHE_MS_MAX),
        when: table
            .take("when")
            .and_then(|node| read_limit::expression(reader, node, Expression::compile_condition)),
    };
    table.close(reader, &strangers::NONE);
    Some(rule)
}

/// A key that would have no effect is a mistake.
fn check_company(reader: &mut Reader<'_>, table: &mut Table<'_>) {
    let (scopes, opa) = (table.has("scopes"), table.has("opa"));
    if let Some(place) = table.place("tools").filter(|_| !scopes && !opa) {
        let cure = "Write what it is about under `allow` or `deny` itself.";
        reader.problem(place, "`tools` goes with `scopes` or `opa`", cure);
    }
    for key in OF_OPA {
        if let Some(place) = table.place(key).filter(|_| !opa) {
            reader.problem(place, format!("`{key}` goes with `opa`"), "Remove it.");
        }
    }
}

fn names(reader: &mut Reader<'_>, table: &mut Table<'_>, key: &'static str) -> Vec<Located<String>> {
    table.take(key).map(|node| reader.names(node)).unwrap_or_default()
}
