//! TLS in the tree to its types: listeners, upstreams, client certificates as identity.
//!
//! Not here: what is in the files (`compile_tls`).

use crate::config::file_tls::Certificate;
use crate::config::file_tls::Listener;
use crate::config::file_tls::ListenerTls;
use crate::config::file_tls::Mtls;
use crate::config::file_tls::Tls;
use crate::config::identity::MtlsPrincipal;
use crate::config::identity::MtlsRoles;
use crate::config::limits;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Node;
use crate::config::tree::Value;

const PAIR_CURE: &str = "Write `cert: FILE, key: FILE`, both PEM.";

/// One address, one listener, or a list of both.
pub fn listen(reader: &mut Reader<'_>, node: &Node) -> Vec<Listener> {
    match &node.value {
        Value::List(items) => {
            if items.is_empty() {
                reader.problem(node.place, "the list of listeners is empty", "Write `127.0.0.1:8080`.");
            }
            items.iter().filter_map(|item| listener(reader, item)).collect()
        }
        _ => listener(reader, node).into_iter().collect(),
    }
}

fn listener(reader: &mut Reader<'_>, node: &Node) -> Option<Listener> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(Listener { address: reader.text(node)?, tls: None });
    }
    let mut table = reader.table(node, "listen")?;
    let address = table.take("address");
    let tls = table.take("tls").and_then(|node| listener_tls(reader, node));
    table.close(reader, &strangers::NONE);
    Some(Listener { address: address_of(reader, node, address, "listen")?, tls })
}

/// The address of a listener that is written as a mapping.
pub fn address_of(
    reader: &mut Reader<'_>,
    node: &Node,
    address: Option<&Node>,
    path: &str,
) -> Option<Located<String>> {
    if address.is_none() {
        reader.problem(node.place, format!("`{path}` has no `address`"), "Write `address: 127.0.0.1:8080`.");
    }
    reader.text(address?)
}

fn listener_tls(reader: &mut Reader<'_>, node: &Node) -> Option<Located<ListenerTls>> {
    let mut table = reader.table(node, "listen.tls")?;
    let default = certificate(reader, node, &mut table);
    let certificates = table.take("certificates").map(|node| certificates(reader, node)).unwrap_or_default();
    let client_ca = table.take("clientCa").and_then(|node| reader.text(node));
    let crl = table.take("crl").and_then(|node| reader.text(node));
    table.close(reader, &strangers::NONE);
    if let (Some(crl), None) = (&crl, &client_ca) {
        reader.problem(crl.place, "`crl` without `clientCa` has no effect", "Add `clientCa`, or remove it.");
    }
    let tls = ListenerTls { default: default?, certificates, client_ca, crl };
    Some(Located { value: tls, place: node.place, hidden: false })
}

fn certificates(reader: &mut Reader<'_>, node: &Node) -> Vec<Certificate> {
    let Some(items) = reader.list(node) else { return Vec::new() };
    if let Some(item) = items.get(limits::CERTIFICATES_MAX) {
        let what = format!("more than {} certificates", limits::CERTIFICATES_MAX);
        reader.problem(item.place, what, "Use certificates of several names.");
        return Vec::new();
    }
    let mut one = |item: &Node| {
        let mut table = reader.table(item, "listen.tls.certificates")?;
        let certificate = certificate(reader, item, &mut table);
        table.close(reader, &strangers::NONE);
        certificate
    };
    items.iter().filter_map(|item| one(item)).collect()
}

/// Both of them: neither is of use alone.
fn certificate(reader: &mut Reader<'_>, node: &Node, table: &mut Table<'_>) -> Option<Certificate> {
    let (cert, key) = (table.take("cert"), table.take("key"));
    let missing = match (cert, key) {
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some("`cert` without `key`"),
        (None, Some(_)) => Some("`key` without `cert`"),
        (None, None) => Some("there is no certificate"),
    };
    if let Some(what) = missing {
        reader.problem(node.place, what, PAIR_CURE);
    }
    let (cert, key) = (cert.and_then(|node| reader.text(node)), key.and_then(|node| reader.text(node)));
    Some(Certificate { cert: cert?, key: key? })
}

/// Of `mcpServers.NAME`.
pub fn upstream(reader: &mut Reader<'_>, node: &Node) -> Option<Located<Tls>> {
    let mut table = reader.table(node, "mcpServers.NAME.tls")?;
    let ca = table.take("ca").and_then(|node| reader.text(node));
    let has_own = table.has("cert") || table.has("key");
    let own = if has_own {
        certificate(reader, node, &mut table)
    } else {
        // Asked for, so that they are among the keys that a message names.
        let _ = (table.take("cert"), table.take("key"));
        None
    };
    let server_name = table.take("serverName").and_then(|node| reader.text(node));
    table.close(reader, &strangers::NONE);
    Some(Located { value: Tls { ca, own, server_name }, place: node.place, hidden: false })
}

/// `identity.mtls`.
pub fn mtls(reader: &mut Reader<'_>, node: &Node) -> Option<Located<Mtls>> {
    let mut table = reader.table(node, "identity.mtls")?;
    let choices = [("sanUri", MtlsPrincipal::SanUri), ("subject", MtlsPrincipal::Subject)];
    let principal = table.take("principal");
    let roles = table.take("roles").and_then(|node| reader.choice(node, &[("ou", MtlsRoles::Units)]));
    let trust_domains = table.take("trustDomains").map(|node| reader.names(node)).unwrap_or_default();
    table.close(reader, &strangers::NONE);
    if principal.is_none() {
        reader.problem(
            node.place,
            "`identity.mtls` has no `principal`",
            "Write `mtls: {principal: sanUri}`.",
        );
    }
    let principal = reader.choice(principal?, &choices)?;
    Some(Located { value: Mtls { principal, roles, trust_domains }, place: node.place, hidden: false })
}
