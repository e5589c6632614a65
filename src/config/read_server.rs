//! `mcpServers` of the tree to `Server`s, clients' own members among them.
//!
//! Not here: its traffic (`read_traffic`), and what the values mean together (`compile_server`).

use crate::config::file::Instance;
use crate::config::file::Labels;
use crate::config::file::Server;
use crate::config::file::Timeout;
use crate::config::limits;
use crate::config::pattern::Pattern;
use crate::config::plan::EraChoice;
use crate::config::read_auth;
use crate::config::read_hub;
use crate::config::read_routing;
use crate::config::read_tls;
use crate::config::read_traffic;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Value;
use std::ops::RangeInclusive;

/// Members that go with `command`: one report for it is enough.
const STDIO_MEMBERS: &[&str] = &["args", "cwd", "env"];

/// Any time that a config may ask for, from one millisecond on.
pub const TIME: RangeInclusive<u64> = 1..=limits::TIMEOUT_MS_MAX;

/// A duration under a key, if it is there.
pub fn duration(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
) -> Option<u64> {
    table.take(key).and_then(|node| reader.duration(node, range)).map(|ms| ms.value)
}

/// Every server, the disabled ones marked.
pub fn servers(reader: &mut Reader<'_>, node: &Node) -> Vec<(Located<String>, Server)> {
    let Some(entries) = reader.entries(node) else { return Vec::new() };
    if entries.is_empty() {
        reader.problem(node.place, "`mcpServers` names no server", "Name at least one.");
    }
    let name = |entry: &Entry| Located { value: entry.key.clone(), place: entry.key_place, hidden: false };
    entries.into_iter().filter_map(|entry| Some((name(entry), server(reader, entry)?))).collect()
}

fn server(reader: &mut Reader<'_>, entry: &Entry) -> Option<Server> {
    let mut table = reader.table(&entry.value, "mcpServers.NAME")?;
    let mut server = Server::default();
    if let Some(node) = table.take("disabled") {
        server.disabled = reader.flag(node).unwrap_or(false);
    }
    if server.disabled {
        // Whatever else it says, a missing variable among it, concerns nobody.
        return Some(server);
    }
    server.reported = ["command", "httpUrl", "instances", "openapi", "pools", "serverUrl", "url"]
        .iter()
        .any(|key| table.has(key));
    client_members(reader, &mut table);
    server.url = table.take("url").and_then(|node| reader.text(node));
    server.instances = table
        .take("instances")
        .map(|node| instances(reader, node, "mcpServers.NAME.instances"))
        .unwrap_or_default();
    let fields = table.take("headers").map(|node| read_auth::fields(reader, node)).unwrap_or_default();
    (server.headers, server.vaulted) = (fields.known, fields.vaulted);
    server.auth = table.take("auth").and_then(|node| read_auth::auth(reader, node));
    server.timeout = table.take("timeout").map(|node| timeout(reader, node)).unwrap_or_default();
    server.tls = table.take("tls").and_then(|node| read_tls::upstream(reader, node));
    let eras = [("auto", EraChoice::Auto), ("modern", EraChoice::Modern), ("legacy", EraChoice::Legacy)];
    server.era = table.take("era").and_then(|node| reader.choice(node, &eras));
    read_traffic::traffic(reader, &mut table, &mut server);
    read_routing::routing(reader, &mut table, &mut server);
    server.overrides = read_hub::overrides(reader, &mut table, "mcpServers.NAME.overrides.NAME");
    server.cache = table.take("cache").map(|node| read_hub::cache(reader, node)).unwrap_or_default();
    server.labels = table.take("labels").map(|node| labels(reader, node)).unwrap_or_default();
    server.tenants = table.take("tenants").map(|node| reader.names(node)).unwrap_or_default();
    server.plaintext = table.take("plaintext").and_then(|node| reader.flag(node)).unwrap_or(false);
    table.close(reader, &strangers::SERVER);
    Some(server)
}

/// What clients write beside `url` and `headers`, and a gateway has no use for.
fn client_members(reader: &mut Reader<'_>, table: &mut Table<'_>) {
    let _ = table.take("description");
    for key in ["alwaysAllow", "autoApprove", "envFile"] {
        if let Some(entry) = table.take_entry(key) {
            let what = format!("`{key}` is a setting of clients and has no effect here");
            reader.warn(entry.key_place, what, "Remove it.");
        }
    }
    let kind_node = table.take("type");
    if let Some(node) = kind_node
        && !table.has("command")
    {
        kind(reader, node);
    }
    if table.has("command") {
        for key in STDIO_MEMBERS {
            table.forget(key);
        }
    }
}

fn kind(reader: &mut Reader<'_>, node: &Node) {
    let Some(text) = reader.text(node) else { return };
    let (what, cure) = match text.value.as_str() {
        "http" | "streamable-http" | "streamableHttp" => return,
        "stdio" => ("`type: stdio` comes with a later version", strangers::STDIO_CURE),
        "sse" => (
            "`type: sse` (HTTP+SSE of revision 2024-11-05) comes with a later version",
            "Most servers also speak Streamable HTTP: write `type: http` and that `url`, or set `disabled: true`.",
        ),
        _ => {
            let _ = reader.choice(node, &[("http", ()), ("streamable-http", ())]);
            return;
        }
    };
    reader.problem(text.place, what, cure);
}

/// `path` names the list, once for a server and once for a pool of it.
pub fn instances(reader: &mut Reader<'_>, node: &Node, path: &'static str) -> Vec<Instance> {
    let Some(items) = reader.list(node) else { return Vec::new() };
    if items.is_empty() {
        reader.problem(node.place, "`instances` is empty", "Name at least one: `{url: …}`.");
    }
    items.iter().filter_map(|item| instance(reader, item, path)).collect()
}

fn instance(reader: &mut Reader<'_>, node: &Node, path: &'static str) -> Option<Instance> {
    let mut table = reader.table(node, path)?;
    let url = table.take("url");
    let weight = table.take("weight").and_then(|node| reader.number(node, 0..=limits::WEIGHT_MAX));
    table.close(reader, &strangers::NONE);
    if url.is_none() {
        reader.problem(node.place, "an instance has no `url`", "Write `{url: \"http://…\"}`.");
    }
    Some(Instance { url: reader.text(url?)?, weight })
}

fn labels(reader: &mut Reader<'_>, node: &Node) -> Labels {
    let mut labels = Labels::default();
    let Some(mut table) = reader.table(node, "mcpServers.NAME.labels") else { return labels };
    labels.all = table.take("all").map(|node| reader.names(node)).unwrap_or_default();
    if let Some(entries) = table.take("tools").and_then(|node| reader.entries(node)) {
        let named = |entry: &Entry| (Pattern::new(&entry.key), reader.names(&entry.value));
        labels.tools = entries.into_iter().map(named).collect();
    }
    table.close(reader, &strangers::NONE);
    labels
}

fn timeout(reader: &mut Reader<'_>, node: &Node) -> Timeout {
    let mut timeout = Timeout::default();
    // Clients write a number, some in seconds and some in milliseconds: neither can be guessed.
    if let Value::Scalar { text, .. } = &node.value
        && text.parse::<f64>().is_ok_and(f64::is_finite)
    {
        let what = "a `timeout` without a unit is a setting of clients and has no effect here";
        reader.warn(node.place, what, "Write `timeout: {total: 60s}`.");
        return timeout;
    }
    let Some(mut table) = reader.table(node, "mcpServers.NAME.timeout") else { return timeout };
    timeout.connect = duration(reader, &mut table, "connect", TIME);
    timeout.first_byte = duration(reader, &mut table, "firstByte", TIME);
    timeout.idle = duration(reader, &mut table, "idle", TIME);
    timeout.total = duration(reader, &mut table, "total", TIME);
    timeout.tools =
        table.take("tools").map(|node| read_traffic::tool_totals(reader, node)).unwrap_or_default();
    timeout.forward = table.take("forward").and_then(|node| reader.flag(node));
    table.close(reader, &strangers::NONE);
    timeout
}
