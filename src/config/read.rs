//! The tree to `File`: which keys there are, where, and what their values look like.
//!
//! Not here: `mcpServers` (`read_server`), `virtualServers` (`read_hub`), limits (`read_limit`), listeners and TLS (`read_tls`), and what the values
//! mean together (`compile`).
//! Every key is asked for by name; what nobody asked for is a mistake, so that no key is ever ignored.

use crate::config::file::Admin;
use crate::config::file::CallLog;
use crate::config::file::File;
use crate::config::file::Http;
use crate::config::file::Telemetry;
use crate::config::limits;
use crate::config::read_access;
use crate::config::read_auth;
use crate::config::read_hub;
use crate::config::read_identity;
use crate::config::read_limit;
use crate::config::read_server;
use crate::config::read_tls;
use crate::config::reader;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::tree::Node;
use crate::config::tree::Value;
use crate::config::units;

/// Reads the whole file. What is wrong is in the reader afterwards; what could be read is returned.
pub fn file(reader: &mut Reader<'_>, root: &Node) -> File {
    let mut file = File::default();
    let Some(mut table) = reader.table(root, "") else { return file };
    table.take("$schema");
    if let Some(node) = table.take("listen") {
        file.listen = read_tls::listen(reader, node);
    }
    file.admin = table.take("admin").and_then(|node| admin(reader, node));
    file.workers = table.take("workers").and_then(|node| workers(reader, node));
    if let Some(node) = table.take("http") {
        file.http = http(reader, node);
    }
    match table.take("mcpServers") {
        Some(node) => file.mcp_servers = read_server::servers(reader, node),
        None => reader.problem(root.place, "`mcpServers` is missing", "Name at least one server there."),
    }
    if let Some(node) = table.take("virtualServers") {
        file.virtual_servers = read_hub::virtual_servers(reader, node);
    }
    if let Some(node) = table.take("identity") {
        file.identity = read_identity::identity(reader, node);
    }
    if let Some(node) = table.take("access") {
        file.access = read_access::access(reader, node);
    }
    if let Some(node) = table.take("telemetry") {
        file.telemetry = telemetry(reader, node);
    }
    file.vault = table.take("vault").and_then(|node| read_auth::vault(reader, node));
    read_limit::limits(reader, &mut table, &mut file);
    table.close(reader, &strangers::ROOT);
    file
}

fn admin(reader: &mut Reader<'_>, node: &Node) -> Option<Admin> {
    if matches!(node.value, Value::Map(_)) {
        let mut table = reader.table(node, "admin")?;
        let address = table.take("address");
        table.close(reader, &strangers::ADMIN);
        return read_tls::address_of(reader, node, address, "admin").map(Admin::At);
    }
    let text = reader.text(node)?;
    if reader::is_off(&text.value) {
        return Some(Admin::Off);
    }
    let cure = "Write `admin: off` or `admin: {address: \"127.0.0.1:9090\"}`.";
    reader.problem(text.place, format!("{} is not a value of `admin`", text.shown()), cure);
    None
}

fn workers(reader: &mut Reader<'_>, node: &Node) -> Option<usize> {
    if reader.text(node)?.value == "auto" {
        return None;
    }
    reader.number(node, 1..=limits::WORKERS_MAX).map(|count| count.value)
}

fn http(reader: &mut Reader<'_>, node: &Node) -> Http {
    let mut http = Http::default();
    let Some(mut table) = reader.table(node, "http") else { return http };
    let bytes = |low: usize, high: usize| low as u64..=high as u64;
    let body = bytes(limits::BODY_BYTES_MIN, limits::BODY_BYTES_MAX);
    let head = bytes(limits::HEAD_BYTES_MIN, limits::HEAD_BYTES_MAX);
    http.max_body = table.take("maxBody").and_then(|node| reader.size(node, body));
    http.max_head = table.take("maxHead").and_then(|node| reader.size(node, head));
    http.header_timeout = read_server::duration(reader, &mut table, "headerTimeout", read_server::TIME);
    http.idle_timeout = read_server::duration(reader, &mut table, "idleTimeout", read_server::TIME);
    http.drain = read_server::duration(reader, &mut table, "drain", 0..=limits::TIMEOUT_MS_MAX);
    http.stream_comment = table.take("streamComment").and_then(|node| {
        let text = reader.text(node)?.value;
        if reader::is_off(&text) || units::duration_ms(&text) == Some(0) {
            return Some(0);
        }
        let comment = reader.duration(node, limits::STREAM_COMMENT_MS_MIN..=limits::TIMEOUT_MS_MAX);
        comment.map(|ms| ms.value)
    });
    http.hosts = texts(reader, table.take("hosts"));
    http.origins = texts(reader, table.take("origins"));
    table.close(reader, &strangers::NONE);
    http
}

fn texts(reader: &mut Reader<'_>, node: Option<&Node>) -> Vec<Located<String>> {
    let Some(items) = node.and_then(|node| reader.list(node)) else { return Vec::new() };
    items.iter().filter_map(|item| reader.text(item)).collect()
}

fn telemetry(reader: &mut Reader<'_>, node: &Node) -> Telemetry {
    let Some(mut table) = reader.table(node, "telemetry") else { return Telemetry::default() };
    let call_log = table.take("callLog").and_then(|node| call_log(reader, node));
    table.close(reader, &strangers::TELEMETRY);
    Telemetry { call_log }
}

fn call_log(reader: &mut Reader<'_>, node: &Node) -> Option<CallLog> {
    if !matches!(node.value, Value::Map(_)) {
        #[derive(Clone, Copy)]
        enum Word {
            Off,
            Stdout,
            Stderr,
        }
        let words = [("off", Word::Off), ("stdout", Word::Stdout), ("stderr", Word::Stderr)];
        return Some(match reader.choice(node, &words)? {
            Word::Off => CallLog::Off,
            Word::Stdout => CallLog::Stdout,
            Word::Stderr => CallLog::Stderr,
        });
    }
    let mut table = reader.table(node, "telemetry.callLog")?;
    let file = table.take("file");
    table.close(reader, &strangers::NONE);
    if file.is_none() {
        reader.problem(node.place, "`callLog` has no `file`", "Write `callLog: {file: calls.jsonl}`.");
    }
    Some(CallLog::File(reader.text(file?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use crate::config::tree;
    use serde_json::Value as Json;
    use std::collections::BTreeSet;
    use std::path::Path;

    const EVERY_KEY: &str = include_str!("../../examples/every-key.yaml");

    /// The path of every key of a schema, as `Table` names them.
    fn keys_of(root: &Json, schema: &Json, path: &str, found: &mut BTreeSet<String>) {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            let definition = root.pointer(name.trim_start_matches('#')).expect("a definition");
            keys_of(root, definition, path, found);
        }
        for (key, value) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let deeper = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            keys_of(root, value, &deeper, found);
            found.insert(deeper);
        }
        for any in ["additionalProperties", "patternProperties"] {
            match schema.get(any) {
                Some(Json::Object(object)) if any == "patternProperties" => {
                    object.values().for_each(|value| keys_of(root, value, &format!("{path}.NAME"), found));
                }
                Some(value @ Json::Object(_)) => keys_of(root, value, &format!("{path}.NAME"), found),
                _ => {}
            }
        }
        let branches = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
        branches.chain(schema.get("items")).for_each(|value| keys_of(root, value, path, found));
    }

    /// What is read, what the schema says and what the example shows are the same keys.
    #[test]
    fn the_schema_has_exactly_the_keys_that_are_read() {
        let root = tree::parse(EVERY_KEY).expect("YAML");
        let mut reader = Reader::new("every-key.yaml", Path::new(""), &|_| Some("x".into()));
        let _ = file(&mut reader, &root);
        assert_eq!(reader.problems, []);
        let schema = schema::schema();
        let mut described = BTreeSet::new();
        keys_of(&schema, &schema, "", &mut described);
        assert!(described.len() > 40, "{described:?}");
        assert_eq!(reader.asked, described);
        for (key, home) in strangers::ROOT.homes {
            assert!(described.contains(&format!("{home}.{key}")), "`{key}` has no home at `{home}`");
        }
        for key in described.iter().filter_map(|path| path.rsplit('.').next()) {
            assert!(EVERY_KEY.contains(&format!("{key}:")), "the example does not show `{key}`");
        }
    }
}
