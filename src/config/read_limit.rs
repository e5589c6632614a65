//! The tree to limits of callers, and to what keeps their counts: `limits`, `limitTable`, `usage`, `state`.
//!
//! Not here: what the values mean together (`compile_limit`).

use crate::config::expression::Expression;
use crate::config::expression::Flaw;
use crate::config::file::File;
use crate::config::file_limit::Calendar;
use crate::config::file_limit::Limit;
use crate::config::file_limit::LimitTable;
use crate::config::file_limit::Smooth;
use crate::config::file_limit::State;
use crate::config::file_limit::Usage;
use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::OnFull;
use crate::config::limit::RateLimitHeaders;
use crate::config::limit::Window;
use crate::config::limits;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Node;
use crate::config::tree::Value;
use crate::config::units;
use std::mem::discriminant;

/// Makes a part of a key; a part itself cannot be copied.
type MakePart = fn() -> KeyPart;

/// What a key may name. Everything else is an expression.
const KEY_PARTS: &[(&str, MakePart)] = &[
    ("principal", || KeyPart::Principal),
    ("tenant", || KeyPart::Tenant),
    ("server", || KeyPart::Server),
    ("tool", || KeyPart::Tool),
    ("source", || KeyPart::Source),
    ("gateway", || KeyPart::Gateway),
];
const COUNTS: &[(&str, Count)] =
    &[("calls", Count::Calls), ("requests", Count::Requests), ("tokens", Count::Tokens)];
const WINDOWS: &[(&str, Window)] = &[
    ("min", Window::Minute),
    ("hour", Window::Hour),
    ("day", Window::Day),
    ("week", Window::Week),
    ("month", Window::Month),
];

/// Everything of this file, into `file`.
pub fn limits(reader: &mut Reader<'_>, table: &mut Table<'_>, file: &mut File) {
    if let Some(items) = table.take("limits").and_then(|node| reader.list(node)) {
        file.limits = items.iter().filter_map(|item| limit(reader, item)).collect();
    }
    file.limit_table =
        table.take("limitTable").and_then(|node| limit_table(reader, node)).unwrap_or_default();
    let words = [
        ("draft", RateLimitHeaders::Draft),
        ("legacy", RateLimitHeaders::Legacy),
        ("off", RateLimitHeaders::Off),
    ];
    file.rate_limit_headers = table.take("rateLimitHeaders").and_then(|node| reader.choice(node, &words));
    file.usage = table.take("usage").and_then(|node| usage(reader, node)).unwrap_or_default();
    file.state = table.take("state").and_then(|node| state(reader, node)).unwrap_or_default();
}

fn limit(reader: &mut Reader<'_>, node: &Node) -> Option<Limit> {
    let mut table = reader.table(node, "limits")?;
    for (key, cure) in [
        ("name", "Write `name: NAME`: refusals and metrics tell it."),
        ("key", "Write who shares a bucket: `key: principal`, or `key: gateway` for all."),
    ] {
        if !table.has(key) {
            reader.problem(node.place, format!("a limit has no `{key}`"), cure);
        }
    }
    let rate = "A rate is a count above 0 and a time: `60/min`, `5/s`, `100k/hour`, `25/10s`.";
    let quota = "A quota is a count above 0 and a window (min, hour, day, week, month): `50k/day`.";
    let mut names = |key| table.take(key).map(|node| reader.names(node)).unwrap_or_default();
    let (servers, tools, methods) = (names("servers"), names("tools"), names("methods"));
    let written_key = table.take("key");
    let limit = Limit {
        place: node.place,
        key_place: written_key.map_or(node.place, |node| node.place),
        bounded: table.has("rate") || table.has("quota"),
        name: table.take("name").and_then(|node| reader.text(node)),
        key: written_key.map(|node| key(reader, node)).unwrap_or_default(),
        servers,
        tools,
        methods,
        when: table.take("when").and_then(|node| expression(reader, node, Expression::compile_condition)),
        rate: table.take("rate").and_then(|node| reader.parsed(node, rate, smooth)),
        burst: table.take("burst").and_then(|node| reader.count(node, 1..=limits::LIMIT_COUNT_MAX)),
        quota: table.take("quota").and_then(|node| reader.parsed(node, quota, calendar)),
        tz: table.take("tz").and_then(|node| reader.text(node)),
        count: table.take("count").and_then(|node| reader.choice(node, COUNTS)),
        scope: table.take("scope").and_then(|node| only(reader, node, "gateway", "fleet")),
        on_state_loss: table.take("onStateLoss").and_then(|node| only(reader, node, "local", "deny")),
    };
    table.close(reader, &strangers::NONE);
    Some(limit)
}

fn smooth(text: &str) -> Option<Smooth> {
    let (count, per_ms) = units::rate(text)?;
    (count <= limits::LIMIT_COUNT_MAX).then_some(Smooth { count, per_ms })
}

fn calendar(text: &str) -> Option<Calendar> {
    let (count, unit) = units::count_per(text)?;
    let (_, window) = WINDOWS.iter().find(|(word, _)| *word == unit)?;
    (count <= limits::LIMIT_COUNT_MAX).then_some(Calendar { count, window: *window })
}

fn key(reader: &mut Reader<'_>, node: &Node) -> Vec<KeyPart> {
    let Value::List(items) = &node.value else {
        let Some(text) = reader.text(node) else { return Vec::new() };
        if let Some((_, part)) = KEY_PARTS.iter().find(|(word, _)| *word == text.value) {
            return vec![part()];
        }
        let expression = expression(reader, node, Expression::compile_key);
        return expression.map(KeyPart::Expression).into_iter().collect();
    };
    if items.is_empty() {
        reader.problem(node.place, "the list is empty", "Write `gateway` for one bucket.");
    }
    let mut parts: Vec<KeyPart> = Vec::new();
    for item in items {
        let Some(part) = reader.choice(item, KEY_PARTS).map(|part| part()) else { continue };
        if parts.iter().any(|known| discriminant(known) == discriminant(&part)) {
            reader.problem(item.place, "this part of the key stands here a second time", "Remove it.");
        } else {
            parts.push(part);
        }
    }
    parts
}

/// An expression in CEL. What is wrong with it has its place inside the text where the file has the text as it is.
pub fn expression(
    reader: &mut Reader<'_>,
    node: &Node,
    compile: fn(&str) -> Result<Expression, Flaw>,
) -> Option<Expression> {
    let text = reader.text(node)?;
    let Flaw { line, column, what, cure, .. } = match compile(&text.value) {
        Ok(expression) => return Some(expression),
        Err(flaw) => flaw,
    };
    match node.inside(line, column) {
        // What is wrong may repeat a part of it.
        _ if text.hidden => {
            reader.problem(text.place, format!("{} is no valid expression", text.shown()), "")
        }
        Some(place) => reader.problem(place, what, cure),
        None => {
            let what = format!("{what} (line {line}, column {column} of the expression)");
            reader.problem(text.place, what, cure);
        }
    }
    None
}

/// A key that has one value in this version, and `later` in a later one.
fn only(reader: &mut Reader<'_>, node: &Node, now: &'static str, later: &'static str) -> Option<()> {
    let text = reader.text(node)?;
    if text.value == later {
        let what = format!("`{later}` is not available in this version");
        reader.problem(text.place, what, format!("Write `{now}`, or leave it out."));
        return None;
    }
    reader.choice(node, &[(now, ())])
}

fn limit_table(reader: &mut Reader<'_>, node: &Node) -> Option<LimitTable> {
    let mut table = reader.table(node, "limitTable")?;
    let range = limits::LIMIT_BUCKETS_MIN..=limits::LIMIT_BUCKETS_MAX;
    let buckets = table.take("buckets").and_then(|node| reader.count(node, range));
    let words = [("refuse", OnFull::Refuse), ("allow", OnFull::Allow)];
    let on_full = table.take("onFull").and_then(|node| reader.choice(node, &words));
    table.close(reader, &strangers::NONE);
    Some(LimitTable { buckets: buckets.and_then(|count| usize::try_from(count.value).ok()), on_full })
}

fn usage(reader: &mut Reader<'_>, node: &Node) -> Option<Usage> {
    let mut table = reader.table(node, "usage")?;
    let from = table.take("from").map(|node| reader.names(node)).unwrap_or_default();
    table.close(reader, &strangers::NONE);
    Some(Usage { from })
}

fn state(reader: &mut Reader<'_>, node: &Node) -> Option<State> {
    let mut table = reader.table(node, "state")?;
    let strange = strangers::STATE.later.iter().any(|key| table.has(key));
    let dir = table.take("dir");
    let seal_keys = table.take("sealKeys").map(|node| reader.names(node)).unwrap_or_default();
    table.close(reader, &strangers::STATE);
    if dir.is_none() && seal_keys.is_empty() && !strange {
        reader.problem(node.place, "`state` has no `dir`", "Write `state: {dir: /var/lib/ringgate/state}`.");
    }
    Some(State { dir: dir.and_then(|node| reader.text(node)), seal_keys })
}
