//! Limits of callers, with defaults and the built-in one, and whether their parts fit together.
//!
//! Not here: what single values look like (`read_limit`), and enforcing (`policy`).

use crate::config::compile;
use crate::config::expression::Variable;
use crate::config::file::File;
use crate::config::file_limit;
use crate::config::file_limit::Smooth;
use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::Limit;
use crate::config::limit::LimitTable;
use crate::config::limit::Limits;
use crate::config::limit::Quota;
use crate::config::limit::Rate;
use crate::config::limits;
use crate::config::pattern::Pattern;
use crate::config::pattern::ToolPattern;
use crate::config::problem::Place;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use jiff::tz::TimeZone;
use std::sync::Arc;

/// A built-in limit: handshakes of older revisions cost a server a session each, and no limit of calls counts them.
const HANDSHAKES: &str = "handshakes";
const HANDSHAKES_RATE: Rate = Rate { count: 25, per_ms: 10_000, burst: 25 };
/// The other built-in limit: lists are free of limits of calls, and each is rendered for its caller. More than any client
/// of good will asks for; the suite of the specification lists some hundred times a minute.
const LISTS: &str = "lists";
const LISTS_RATE: Rate = Rate { count: 10_000, per_ms: 10_000, burst: 10_000 };
const LIST_METHODS: [&str; 4] = ["prompts/list", "resources/list", "resources/templates/list", "tools/list"];
/// What limits are about where nothing is said.
const METHOD_DEFAULT: &str = "tools/call";
/// Answered from memory and never refused (contract): no limit reaches it.
const NEVER_LIMITED: &str = "server/discover";
/// Methods of MCP, for the sake of what is nearly one. Others are allowed: servers have their own.
const METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    NEVER_LIMITED,
    "subscriptions/listen",
    METHOD_DEFAULT,
    "tools/list",
];

/// Takes what is written out of `file`.
pub fn limits(reader: &mut Reader<'_>, file: &mut File) -> Limits {
    let written = std::mem::take(&mut file.limits);
    let mut list = Vec::new();
    if let Some(limit) = written.get(limits::LIMITS_MAX) {
        reader.problem(limit.place, format!("more than {} limits", limits::LIMITS_MAX), "");
    } else {
        // A disabled server may come back: limits for it are no mistake.
        let servers: Vec<&str> = file.mcp_servers.iter().map(|(name, _)| name.value.as_str()).collect();
        compile::unique(reader, written.iter().filter_map(|limit| limit.name.as_ref()), "limit");
        let places: Vec<Place> = written.iter().map(|limit| limit.place).collect();
        let persistent = file.state.dir.is_some();
        list = written.into_iter().map(|limit| one(reader, limit, &servers, persistent)).collect();
        check_crowd(reader, &list, &places, &servers);
    }
    let built_in = [(HANDSHAKES, &["initialize"][..], HANDSHAKES_RATE), (LISTS, &LIST_METHODS, LISTS_RATE)];
    for (name, methods, rate) in built_in {
        if !list.iter().any(|limit| &*limit.name == name) {
            list.push(of_methods(name, methods, rate));
        }
    }
    let usage_from = file.usage.from.iter().filter(|name| compile::is_principal(reader, name));
    Limits {
        list,
        table: LimitTable {
            buckets: file.limit_table.buckets.unwrap_or(limits::LIMIT_BUCKETS_DEFAULT).next_power_of_two(),
            on_full: file.limit_table.on_full.unwrap_or_default(),
        },
        headers: file.rate_limit_headers.unwrap_or_default(),
        usage_from: usage_from.map(|name| name.value.as_str().into()).collect(),
    }
}

/// Limits that every tool call of a server must pass can be counted here; the rest only when a call comes.
fn check_crowd(reader: &mut Reader<'_>, list: &[Limit], places: &[Place], servers: &[&str]) {
    let always = |limit: &Limit, server: &str| {
        limit.when.is_none()
            && limit.tools.is_empty()
            && (limit.servers.is_empty() || limit.servers.iter().any(|name| **name == *server))
            && limit.methods.iter().any(|method| method.matches(METHOD_DEFAULT))
    };
    let crowded = servers.iter().find_map(|server| {
        let mut met = list.iter().zip(places).filter(|(limit, _)| always(limit, server));
        met.nth(limits::LIMITS_PER_CALL_MAX).map(|(_, place)| (*server, *place))
    });
    if let Some((server, place)) = crowded {
        let what =
            format!("more than {} limits for every call to {}", limits::LIMITS_PER_CALL_MAX, quoted(server));
        reader.problem(place, what, "Join some of them.");
    }
}

fn one(reader: &mut Reader<'_>, written: file_limit::Limit, servers: &[&str], persistent: bool) -> Limit {
    if !written.bounded {
        let cure = "Write `rate: 60/min` (smooth) or `quota: 50k/day` (calendar).";
        reader.problem(written.place, "a limit has neither `rate` nor `quota`", cure);
    }
    if let (Some(_), Some(quota)) = (&written.rate, &written.quota) {
        reader.problem(quota.place, "`rate` and `quota` exclude each other", "Write two limits.");
    }
    for name in written.servers.iter().filter(|name| !servers.contains(&&*name.value)) {
        unknown_server(reader, name, &name.value, servers);
    }
    if let (Some(Count::Tokens), Some(quota)) = (written.count, &written.quota) {
        let cure = "Write `rate: 1M/day`: what is used comes back in the course of the day.";
        reader.problem(quota.place, "`count: tokens` goes with `rate` and not with `quota`", cure);
    }
    check_methods(reader, &written.methods);
    check_crowding_out(reader, &written);
    let tools = tools(reader, &written.tools, servers);
    Limit {
        rate: rate(reader, &written),
        quota: quota(reader, &written, persistent),
        methods: methods(&written, &tools),
        tools,
        // One without a name was reported, and there is no plan.
        name: Arc::from(written.name.map_or(String::new(), |name| name.value)),
        servers: written.servers.into_iter().map(|name| name.value.into()).collect(),
        when: written.when,
        key: written.key,
        count: written.count.unwrap_or_default(),
    }
}

/// What is written; else every method where requests are counted, and the methods of what `tools` names.
fn methods(written: &file_limit::Limit, tools: &[ToolPattern]) -> Vec<Pattern> {
    if !written.methods.is_empty() {
        return written.methods.iter().map(|method| Pattern::new(&method.value)).collect();
    }
    if written.count == Some(Count::Requests) {
        return vec![Pattern::new("*")];
    }
    let mut names: Vec<&str> = tools.iter().map(|tool| tool.named().method()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        names.push(METHOD_DEFAULT);
    }
    names.into_iter().map(Pattern::new).collect()
}

/// A pattern names a server that there is not.
pub fn unknown_server(reader: &mut Reader<'_>, text: &Located<String>, name: &str, servers: &[&str]) {
    let cure = match nearest(name, servers.iter().copied()) {
        _ if text.hidden => "Name one of `mcpServers`.".into(),
        Some(server) => format!("Did you mean `{server}`?"),
        None => format!("It is one of: {}.", servers.join(", ")),
    };
    let shown = if text.hidden { text.shown() } else { quoted(name) };
    reader.problem(text.place, format!("{shown} is no server"), cure);
}

/// Patterns of tools, prompts and resources. A server that is no server is a problem: the pattern would match nothing.
pub fn tools(reader: &mut Reader<'_>, written: &[Located<String>], servers: &[&str]) -> Vec<ToolPattern> {
    let mut patterns = Vec::new();
    // Empty ones were reported.
    for text in written.iter().filter(|text| !text.value.is_empty()) {
        let Some(pattern) = ToolPattern::new(&text.value) else {
            let what = format!("{} names no server", text.shown());
            let cure =
                "Write `server.tool`, `prompt:server.name` or `resource:server.URI`; `*` is every tool.";
            reader.problem(text.place, what, cure);
            continue;
        };
        let server = pattern.server().as_str();
        if !server.contains('*') && !servers.contains(&server) {
            unknown_server(reader, text, server, servers);
        }
        patterns.push(pattern);
    }
    patterns
}

/// What may not be forgotten has a place until a restart. Where callers choose how many values a key has, one of them
/// can take all places, and nobody new is counted.
fn check_crowding_out(reader: &mut Reader<'_>, written: &file_limit::Limit) {
    const CHOSEN: [Variable; 6] =
        [Variable::Args, Variable::Body, Variable::Meta, Variable::Name, Variable::Now, Variable::Source];
    let is_kept = written.quota.is_some() || written.count == Some(Count::Tokens);
    let is_chosen = |part: &KeyPart| match part {
        KeyPart::Source => true,
        KeyPart::Expression(value) => CHOSEN.into_iter().any(|variable| value.uses(variable)),
        KeyPart::Principal
        | KeyPart::Caller
        | KeyPart::Tenant
        | KeyPart::Server
        | KeyPart::Tool
        | KeyPart::Gateway => false,
    };
    if is_kept && written.key.iter().any(is_chosen) {
        let what = format!(
            "each value of this key keeps one of {} places until a restart, and callers choose how many there are",
            limits::PINNED_CELLS_MAX
        );
        reader.warn(
            written.key_place,
            what,
            "Write `key: principal`, or a `rate` of calls: its buckets are forgotten.",
        );
    }
}

fn check_methods(reader: &mut Reader<'_>, written: &[Located<String>]) {
    for text in written {
        if text.value == NEVER_LIMITED {
            let what = format!("`{NEVER_LIMITED}` is answered from memory and never limited");
            reader.warn(text.place, what, "Remove it.");
        } else if let Some(method) = nearest(&text.value, METHODS.iter().copied())
            && !text.value.contains('*')
            && !METHODS.contains(&&*text.value)
            && !text.hidden
        {
            let what = format!("{} is no method of MCP", text.shown());
            reader.warn(text.place, what, format!("Did you mean `{method}`?"));
        }
    }
}

fn rate(reader: &mut Reader<'_>, written: &file_limit::Limit) -> Option<Rate> {
    if let Some(burst) = written.burst.as_ref().filter(|_| written.quota.is_some()) {
        let what = "`burst` has no effect on a `quota`: all of it may come at once";
        reader.problem(burst.place, what, "Remove it.");
    }
    let Located { value: Smooth { count, per_ms }, place, .. } = *written.rate.as_ref()?;
    if u128::from(count) > u128::from(per_ms) * u128::from(limits::RATE_PER_MS_MAX) {
        let what = "a `rate` above 1M/s is more than can be told apart";
        reader.problem(place, what, "Lower it, or leave the limit out.");
    }
    let burst = written.burst.as_ref().map_or(count, |burst| burst.value);
    if u128::from(burst) * u128::from(per_ms) > u128::from(limits::BURST_REFILL_MS_MAX) * u128::from(count) {
        let place = written.burst.as_ref().map_or(place, |burst| burst.place);
        let what = "a `burst` that takes more than a day to refill is not kept that long";
        reader.problem(place, what, "Lower `burst`, or write a `quota`: it counts in days, weeks or months.");
    }
    Some(Rate { count, per_ms, burst })
}

fn quota(reader: &mut Reader<'_>, written: &file_limit::Limit, persistent: bool) -> Option<Quota> {
    let zone = written.tz.as_ref().and_then(|text| zone(reader, text));
    if let Some(text) = written.tz.as_ref().filter(|_| written.rate.is_some()) {
        reader.problem(text.place, "`tz` has no effect on a `rate`", "Remove it, or write a `quota`.");
    }
    let quota = written.quota.as_ref()?;
    if !persistent {
        let what = "this quota starts again with every restart of the gateway";
        reader.warn(quota.place, what, "Write `state: {dir: /var/lib/ringgate/state}`.");
    }
    Some(Quota { count: quota.value.count, window: quota.value.window, zone: zone.unwrap_or(TimeZone::UTC) })
}

fn zone(reader: &mut Reader<'_>, text: &Located<String>) -> Option<TimeZone> {
    let zone = TimeZone::get(&text.value).ok();
    if zone.is_none() {
        let known: Vec<_> = jiff::tz::db().available().collect();
        let cure = match nearest(&text.value, known.iter().map(|name| name.as_str())) {
            Some(name) if !text.hidden => format!("Did you mean `{name}`?"),
            _ => "Write a name such as `UTC` or `Europe/Berlin`.".into(),
        };
        reader.problem(text.place, format!("{} is no time zone", text.shown()), cure);
    }
    zone
}

fn of_methods(name: &str, methods: &[&str], rate: Rate) -> Limit {
    Limit {
        name: Arc::from(name),
        servers: Vec::new(),
        tools: Vec::new(),
        methods: methods.iter().map(|method| Pattern::new(method)).collect(),
        when: None,
        key: vec![KeyPart::Caller],
        count: Count::Calls,
        rate: Some(rate),
        quota: None,
    }
}
