//! The tree to what is shown of servers: `virtualServers`, `overrides`, `cache`.
//!
//! Not here: what the values mean together (`compile_hub`, `compile_override`).

use crate::config::file_hub::Cache;
use crate::config::file_hub::ToolOverride;
use crate::config::file_hub::VirtualServer;
use crate::config::limits;
use crate::config::read_server;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Entry;
use crate::config::tree::Node;

pub fn virtual_servers(reader: &mut Reader<'_>, node: &Node) -> Vec<(Located<String>, VirtualServer)> {
    let Some(entries) = reader.entries(node) else { return Vec::new() };
    if let Some(entry) = entries.get(limits::VIRTUAL_SERVERS_MAX) {
        let what = format!("more than {} virtual servers", limits::VIRTUAL_SERVERS_MAX);
        reader.problem(entry.key_place, what, "Use a second gateway.");
        return Vec::new();
    }
    entries.into_iter().filter_map(|entry| Some((key(entry), virtual_server(reader, entry)?))).collect()
}

fn virtual_server(reader: &mut Reader<'_>, entry: &Entry) -> Option<VirtualServer> {
    let mut table = reader.table(&entry.value, "virtualServers.NAME")?;
    let before = reader.problems.len();
    let says = ["tools", "prompts", "resources"].iter().any(|kind| table.has(kind));
    let server = VirtualServer {
        tools: names(reader, &mut table, "tools"),
        prompts: names(reader, &mut table, "prompts"),
        resources: names(reader, &mut table, "resources"),
        overrides: overrides(reader, &mut table, "virtualServers.NAME.overrides.NAME"),
    };
    table.close(reader, &strangers::VIRTUAL_SERVER);
    // One that is misspelt was reported.
    if !says && reader.problems.len() == before {
        let cure = "Name what it shows: `tools: [server.tool]`, `prompts: […]` or `resources: […]`.";
        reader.problem(entry.key_place, "a virtual server shows nothing", cure);
    }
    Some(server)
}

fn names(reader: &mut Reader<'_>, table: &mut Table<'_>, key: &'static str) -> Vec<Located<String>> {
    table.take(key).map(|node| reader.names_within(node, limits::PICKS_MAX)).unwrap_or_default()
}

fn key(entry: &Entry) -> Located<String> {
    Located { value: entry.key.clone(), place: entry.key_place, hidden: false }
}

/// Those of a server, or those of a virtual server; `path` says of which.
pub fn overrides(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    path: &'static str,
) -> Vec<(Located<String>, ToolOverride)> {
    let Some(entries) = table.take("overrides").and_then(|node| reader.entries(node)) else {
        return Vec::new();
    };
    if let Some(entry) = entries.get(limits::OVERRIDES_MAX) {
        let what = format!("more than {} overrides", limits::OVERRIDES_MAX);
        reader.problem(entry.key_place, what, "Leave out those that change little.");
        return Vec::new();
    }
    entries.into_iter().filter_map(|entry| Some((key(entry), one(reader, entry, path)?))).collect()
}

fn one(reader: &mut Reader<'_>, entry: &Entry, path: &'static str) -> Option<ToolOverride> {
    let mut table = reader.table(&entry.value, path)?;
    let before = reader.problems.len();
    let says = ["name", "description"].iter().any(|key| table.has(key));
    let one = ToolOverride {
        name: table.take("name").and_then(|node| reader.text(node)),
        description: table.take("description").and_then(|node| reader.text(node)),
    };
    table.close(reader, &strangers::NONE);
    if !says && reader.problems.len() == before {
        let cure = "Write `name: NAME`, `description: TEXT`, or both.";
        reader.problem(entry.key_place, "an override changes nothing", cure);
    }
    Some(one)
}

pub fn cache(reader: &mut Reader<'_>, node: &Node) -> Cache {
    let Some(mut table) = reader.table(node, "mcpServers.NAME.cache") else { return Cache::default() };
    let cache = Cache {
        list: read_server::duration(reader, &mut table, "list", read_server::TIME),
        max_stale: read_server::duration(reader, &mut table, "maxStale", 0..=limits::TIMEOUT_MS_MAX),
    };
    table.close(reader, &strangers::CACHE);
    cache
}
