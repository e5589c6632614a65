//! The tree to credentials of servers: `auth` of a server, `headers` with `${vault:…}` in them, and `vault`.
//!
//! Not here: what the values mean together (`compile_auth`).

use crate::config::compile_server;
use crate::config::credentials::Piece;
use crate::config::expand;
use crate::config::file_auth::Auth;
use crate::config::file_auth::Kind;
use crate::config::file_auth::Vault;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Value;

const KINDS: &[(&str, Kind)] = &[
    ("signedJwt", Kind::SignedJwt),
    ("headers", Kind::Headers),
    ("clientCredentials", Kind::ClientCredentials),
    ("tokenExchange", Kind::TokenExchange),
    ("userOAuth", Kind::UserOauth),
];
const MEMBERS: &[&str] = &[
    "endpoint",
    "authorize",
    "callback",
    "issuer",
    "clientId",
    "secret",
    "audience",
    "scopes",
    "key",
    "keyId",
    "claims",
];

/// Fields of `headers`: those that are known, and those that a vault knows.
#[derive(Debug, Default)]
pub struct Fields {
    pub known: Vec<(Located<String>, Located<String>)>,
    pub vaulted: Vec<(Located<String>, Vec<Piece>)>,
}

pub fn fields(reader: &mut Reader<'_>, node: &Node) -> Fields {
    let mut fields = Fields::default();
    let Some(entries) = reader.entries(node) else { return fields };
    for entry in entries {
        match &entry.value.value {
            Value::Scalar { text, .. } if expand::names_vault(text) => match expand::pieces(text, reader) {
                Ok(pieces) => {
                    for piece in &pieces {
                        if let Piece::Text(text) = piece {
                            reader.digest.update(text.as_bytes());
                        }
                    }
                    fields.vaulted.push((name(entry), pieces));
                }
                Err(flaws) => {
                    for flaw in flaws {
                        reader.problem(entry.value.place, flaw.what, flaw.cure);
                    }
                    compile_server::check_header_name(reader, &name(entry));
                }
            },
            _ => match reader.text(&entry.value) {
                Some(value) => fields.known.push((name(entry), value)),
                None => compile_server::check_header_name(reader, &name(entry)),
            },
        }
    }
    fields
}

fn name(entry: &Entry) -> Located<String> {
    Located { value: entry.key.clone(), place: entry.key_place, hidden: false }
}

pub fn auth(reader: &mut Reader<'_>, node: &Node) -> Option<Auth> {
    let mut table = reader.table(node, "mcpServers.NAME.auth")?;
    let kind = table.take("kind");
    let mut written = Vec::new();
    let mut take = |key: &'static str| {
        let entry = table.take_entry(key)?;
        written.push((key, entry.key_place));
        Some(&*entry.value)
    };
    let [endpoint, authorize, callback, issuer, client_id, secret, audience, scopes, key, key_id, claims] =
        std::array::from_fn(|index| MEMBERS.get(index).and_then(|key| take(key)));
    table.close(reader, &strangers::NONE);
    if kind.is_none() {
        reader.problem(node.place, "`auth` has no `kind`", "Write `kind: tokenExchange`, for example.");
    }
    let kind = reader.choice(kind?, KINDS);
    let mut text = |node: Option<&Node>| node.and_then(|node| reader.text(node));
    let (endpoint, authorize, callback) = (text(endpoint), text(authorize), text(callback));
    let (issuer, client_id, secret) = (text(issuer), text(client_id), text(secret));
    let (audience, key, key_id) = (text(audience), text(key), text(key_id));
    Some(Auth {
        kind,
        endpoint,
        authorize,
        callback,
        issuer,
        client_id,
        secret,
        audience,
        scopes: scopes.map(|node| reader.names(node)).unwrap_or_default(),
        key,
        key_id,
        claims: claims.map(|node| self::claims(reader, node)).unwrap_or_default(),
        written,
        place: Some(node.place),
    })
}

fn claims(reader: &mut Reader<'_>, node: &Node) -> Vec<(Located<String>, Located<String>)> {
    let Some(entries) = reader.entries(node) else { return Vec::new() };
    if entries.is_empty() {
        reader.problem(node.place, "`claims` names no claim", "Write `claims: {X-User: sub}`.");
    }
    entries.into_iter().filter_map(|entry| Some((name(entry), reader.text(&entry.value)?))).collect()
}

pub fn vault(reader: &mut Reader<'_>, node: &Node) -> Option<Located<Vault>> {
    let mut table = reader.table(node, "vault")?;
    let (url, token_file) = (table.take("url"), table.take("tokenFile"));
    table.close(reader, &strangers::NONE);
    for (key, there) in [("url", url.is_some()), ("tokenFile", token_file.is_some())] {
        if !there {
            reader.problem(
                node.place,
                format!("`vault` has no `{key}`"),
                "Write `vault: {url: \"https://…\", tokenFile: …}`.",
            );
        }
    }
    let mut text = |node: Option<&Node>| node.and_then(|node| reader.text(node));
    let value = Vault { url: text(url), token_file: text(token_file) };
    Some(Located { value, place: node.place, hidden: false })
}
