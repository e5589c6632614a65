//! `identity` of the tree: issuers of tokens, keys, tenants, the anonymous principal.
//!
//! Not here: what the values mean together (`compile_identity`).

use crate::config::expression::Expression;
use crate::config::file::Anonymous;
use crate::config::file::ApiKeys;
use crate::config::file::Identity;
use crate::config::file_identity::Introspection;
use crate::config::file_identity::IssuerTls;
use crate::config::file_identity::Jwks;
use crate::config::file_identity::Jwt;
use crate::config::file_identity::Tenant;
use crate::config::read_limit;
use crate::config::read_server;
use crate::config::read_tls;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::tree::Node;

pub fn identity(reader: &mut Reader<'_>, node: &Node) -> Identity {
    let mut identity = Identity::default();
    let Some(mut table) = reader.table(node, "identity") else { return identity };
    identity.api_keys = table.take("apiKeys").and_then(|node| api_keys(reader, node));
    if let Some(items) = table.take("jwt").and_then(|node| reader.list(node)) {
        identity.jwt = items.iter().filter_map(|item| jwt(reader, item)).collect();
    }
    identity.mtls = table.take("mtls").and_then(|node| read_tls::mtls(reader, node));
    identity.tenant = table.take("tenant").and_then(|node| {
        let expression = read_limit::expression(reader, node, Expression::compile_key)?;
        Some(Tenant { place: node.place, expression })
    });
    identity.anonymous = table.take("anonymous").and_then(|node| reader.text(node)).map(|text| {
        if text.value == "deny" { Anonymous::Deny(text.place) } else { Anonymous::Principal(text) }
    });
    table.close(reader, &strangers::IDENTITY);
    identity
}

fn api_keys(reader: &mut Reader<'_>, node: &Node) -> Option<ApiKeys> {
    let mut table = reader.table(node, "identity.apiKeys")?;
    let file = table.take("file");
    table.close(reader, &strangers::NONE);
    if file.is_none() {
        reader.problem(node.place, "`identity.apiKeys` has no `file`", "Write `apiKeys: {file: keys.yaml}`.");
    }
    Some(ApiKeys { file: file.and_then(|node| reader.text(node)) })
}

fn jwt(reader: &mut Reader<'_>, node: &Node) -> Option<Jwt> {
    let mut table = reader.table(node, "identity.jwt")?;
    for (key, cure) in [
        ("issuer", "Write it as the tokens' `iss` has it: `issuer: \"https://idp.example\"`."),
        (
            "audiences",
            "Write the URL of this gateway, `audiences: [\"https://gw.example/mcp\"]`: a token for \
                       anybody else must not open it.",
        ),
    ] {
        if !table.has(key) {
            reader.problem(node.place, format!("an issuer of tokens has no `{key}`"), cure);
        }
    }
    let audiences = table.take("audiences").map(|node| reader.names(node)).unwrap_or_default();
    let jwks = table.take("jwks").and_then(|node| jwks(reader, node));
    let introspection = table.take("introspection").and_then(|node| introspection(reader, node));
    let tls = table.take("tls").and_then(|node| tls(reader, node));
    let max_stale =
        read_server::duration(reader, &mut table, "maxStale", 0..=crate::config::limits::TIMEOUT_MS_MAX);
    let jwt = Jwt {
        place: Some(node.place),
        issuer: text(reader, &mut table, "issuer"),
        audiences,
        jwks,
        introspection,
        tls,
        principal: text(reader, &mut table, "principal"),
        roles: text(reader, &mut table, "roles"),
        act: text(reader, &mut table, "act"),
        max_stale,
    };
    table.close(reader, &strangers::NONE);
    Some(jwt)
}

fn text(reader: &mut Reader<'_>, table: &mut Table<'_>, key: &'static str) -> Option<Located<String>> {
    table.take(key).and_then(|node| reader.text(node))
}

fn jwks(reader: &mut Reader<'_>, node: &Node) -> Option<Jwks> {
    let mut table = reader.table(node, "identity.jwt.jwks")?;
    let (url, file) = (text(reader, &mut table, "url"), text(reader, &mut table, "file"));
    table.close(reader, &strangers::NONE);
    if url.is_some() == file.is_some() {
        let cure = "Write `jwks: {url: \"https://idp.example/keys\"}` or `jwks: {file: keys.json}`, or leave it out: \
                    the issuer's own metadata tells.";
        reader.problem(node.place, "`jwks` needs either `url` or `file`", cure);
        return None;
    }
    Some(Jwks { url, file })
}

fn tls(reader: &mut Reader<'_>, node: &Node) -> Option<IssuerTls> {
    let mut table = reader.table(node, "identity.jwt.tls")?;
    if !table.has("ca") {
        reader.problem(node.place, "`identity.jwt.tls` has no `ca`", "Write `tls: {ca: ca.pem}`.");
    }
    let ca = text(reader, &mut table, "ca");
    table.close(reader, &strangers::NONE);
    ca.map(|ca| IssuerTls { ca })
}

fn introspection(reader: &mut Reader<'_>, node: &Node) -> Option<Introspection> {
    let mut table = reader.table(node, "identity.jwt.introspection")?;
    for key in ["url", "clientId", "secret"] {
        if !table.has(key) {
            let cure = "Write `introspection: {url: \"https://…\", clientId: …, secret: \"${file:…}\"}`.";
            reader.problem(node.place, format!("`introspection` has no `{key}`"), cure);
        }
    }
    let introspection = Introspection {
        url: text(reader, &mut table, "url"),
        client_id: text(reader, &mut table, "clientId"),
        secret: text(reader, &mut table, "secret"),
    };
    table.close(reader, &strangers::NONE);
    Some(introspection)
}
