//! `auth` of a server, header fields that a vault knows, and `vault`, to what the plan says about credentials.
//!
//! Not here: keys and their types (`read_auth`), fields whose values are known (`compile_server`).

use crate::config::address;
use crate::config::address::Url;
use crate::config::compile_server;
use crate::config::credentials::Assertion;
use crate::config::credentials::Auth;
use crate::config::credentials::ClaimField;
use crate::config::credentials::Consent;
use crate::config::credentials::Method;
use crate::config::credentials::TokenService;
use crate::config::credentials::Vault;
use crate::config::credentials::VaultField;
use crate::config::file;
use crate::config::file::File;
use crate::config::file_auth;
use crate::config::file_auth::Kind;
use crate::config::identity::ClaimPath;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::config::plan::Transport;
use crate::config::problem::Place;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::signing_key::SigningKey;
use std::net::IpAddr;
use std::sync::Arc;

/// Where browsers come back to; the gateway answers there itself.
pub const CALLBACK_PATH: &str = "/oauth/callback";
const AUTHORIZATION: &[u8] = b"authorization";
/// `iss` where nothing is said.
const ISSUER: &str = "ringgate";

/// Members of `auth` that a kind needs, and those that it knows beside them.
const fn members(kind: Kind) -> (&'static str, &'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::ClientCredentials => {
            ("clientCredentials", &["endpoint", "clientId", "secret"], &["audience", "scopes"])
        }
        Kind::Headers => ("headers", &["claims"], &[]),
        Kind::SignedJwt => ("signedJwt", &["key"], &["keyId", "issuer", "audience"]),
        Kind::TokenExchange => {
            ("tokenExchange", &["endpoint"], &["clientId", "secret", "audience", "scopes"])
        }
        Kind::UserOauth => (
            "userOAuth",
            &["callback", "clientId"],
            &["endpoint", "authorize", "secret", "audience", "scopes", "issuer"],
        ),
    }
}

/// The vault, and whether there is one where it is needed.
pub fn vault(reader: &mut Reader<'_>, file: &File) -> Option<Vault> {
    let Some(written) = &file.vault else {
        for (name, _) in file.mcp_servers.iter().flat_map(|(_, server)| &server.vaulted) {
            let cure = "Add `vault: {url: \"https://…\", tokenFile: …}` at the top.";
            reader.problem(name.place, "`${vault:…}` needs a `vault`", cure);
        }
        return None;
    };
    let url = written.value.url.as_ref()?;
    let token_file = written.value.token_file.as_ref()?;
    safe_url(reader, url)?;
    Some(Vault { url: url.value.trim_end_matches('/').into(), token_file: reader.path(&token_file.value) })
}

/// What a server is shown; None where it is shown nothing, or where something is wrong with it.
pub fn auth(reader: &mut Reader<'_>, server: &file::Server, urls: &[Url]) -> Option<Arc<Auth>> {
    let written = match &server.auth {
        None if server.vaulted.is_empty() => return None,
        None => return vaulted(reader, server),
        Some(written) => written,
    };
    if let Some((name, _)) = server.vaulted.first() {
        let what = "`auth` and a header with `${vault:…}` at once";
        reader.problem(
            name.place,
            what,
            "Keep one of the two; the other server may be a second name for this one.",
        );
        return None;
    }
    let kind = written.kind?;
    check_members(reader, written, kind);
    let service = |reader: &mut Reader<'_>| service(reader, written, urls);
    let method = match kind {
        Kind::ClientCredentials => Method::ClientCredentials(service(reader)?),
        Kind::Headers => Method::Headers(claims(reader, &written.claims)),
        Kind::SignedJwt => Method::SignedJwt(assertion(reader, written, urls)?),
        Kind::TokenExchange => Method::TokenExchange(service(reader)?),
        Kind::UserOauth => Method::UserOauth(consent(reader, written, urls)?),
    };
    let fields: Vec<Box<[u8]>> = match &method {
        Method::Headers(claims) => claims.iter().map(|field| field.name.clone()).collect(),
        _ => vec![AUTHORIZATION.into()],
    };
    let own = |name: &str| fields.iter().any(|field| field.eq_ignore_ascii_case(name.as_bytes()));
    for (name, _) in server.headers.iter().filter(|(name, _)| own(&name.value)) {
        let what = format!("the header {} is what `auth` sets", quoted(&name.value));
        reader.problem(name.place, what, "Remove it, or `auth`.");
    }
    Some(Arc::new(Auth { method, fields }))
}

/// What is missing, and what means nothing here.
fn check_members(reader: &mut Reader<'_>, written: &file_auth::Auth, kind: Kind) {
    let (word, needed, known) = members(kind);
    for (key, place) in &written.written {
        if !needed.contains(key) && !known.contains(key) {
            let what = format!("`{key}` means nothing with `kind: {word}`");
            reader.problem(*place, what, "Remove it.");
        }
    }
    if let (Kind::TokenExchange, Some(secret), None) = (kind, &written.secret, &written.client_id) {
        let cure = "Add `clientId`, or remove it.";
        reader.problem(secret.place, "`secret` without `clientId` is nobody's", cure);
    }
    let missing = needed.iter().filter(|key| !written.written.iter().any(|(known, _)| known == *key));
    for key in missing {
        let place = written.place.unwrap_or(Place { line: 1, column: 1 });
        let cure = format!("`kind: {word}` needs {}.", list(needed));
        reader.problem(place, format!("`auth` has no `{key}`"), cure);
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn service(reader: &mut Reader<'_>, written: &file_auth::Auth, urls: &[Url]) -> Option<TokenService> {
    let endpoint = written.endpoint.as_ref()?;
    safe_url(reader, endpoint)?;
    let client = client(reader, written, urls)?;
    Some(TokenService { endpoint: endpoint.value.as_str().into(), ..client })
}

/// A service whose endpoint is not known.
fn client(reader: &mut Reader<'_>, written: &file_auth::Auth, urls: &[Url]) -> Option<TokenService> {
    for text in written.scopes.iter().filter(|text| !is_scope(&text.value)) {
        let what = format!("{} is no scope", text.shown());
        reader.problem(text.place, what, "A scope has no spaces and no quotes in it (RFC 6749 section 3.3).");
    }
    Some(TokenService {
        endpoint: Box::default(),
        client_id: written.client_id.as_ref().map(|text| text.value.as_str().into()),
        secret: written.secret.as_ref().map(|text| Secret(text.value.as_str().into())),
        audience: written.audience.as_ref().map(|text| text.value.as_str().into()),
        resource: urls.first().and_then(canonical).map(Into::into),
        scopes: written.scopes.iter().map(|text| text.value.as_str().into()).collect(),
    })
}

fn is_scope(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

fn consent(reader: &mut Reader<'_>, written: &file_auth::Auth, urls: &[Url]) -> Option<Consent> {
    let callback = written.callback.as_ref()?;
    let place = written.place.unwrap_or(callback.place);
    let service = match (&written.endpoint, &written.authorize, &written.issuer) {
        (Some(_), Some(authorize), _) => {
            safe_url(reader, authorize)?;
            service(reader, written, urls)?
        }
        (None, None, Some(issuer)) => {
            safe_url(reader, issuer)?;
            client(reader, written, urls)?
        }
        _ => {
            let cure = "Write both, or `issuer` alone: its metadata names them.";
            reader.problem(place, "`auth` needs `endpoint` and `authorize`", cure);
            return None;
        }
    };
    let back = safe_url(reader, callback)?;
    if *back.target != *CALLBACK_PATH {
        let what = format!("`callback` is no address of this gateway's `{CALLBACK_PATH}`");
        let cure =
            format!("Write the gateway's public name and that path: `https://gw.example{CALLBACK_PATH}`.");
        reader.problem(callback.place, what, cure);
    }
    Some(Consent {
        service,
        authorize: written.authorize.as_ref().map(|text| text.value.as_str().into()),
        callback: callback.value.as_str().into(),
        issuer: written.issuer.as_ref().map(|text| text.value.as_str().into()),
    })
}

fn assertion(reader: &mut Reader<'_>, written: &file_auth::Auth, urls: &[Url]) -> Option<Assertion> {
    let file = written.key.as_ref()?;
    let path = reader.path(&file.value);
    let pem = reader.referenced(&path, limits::SECRET_BYTES_MAX);
    let key = match pem.and_then(|pem| SigningKey::of_pem(&pem).map_err(str::to_owned)) {
        Ok(key) => Arc::new(key),
        Err(flaw) => {
            let cure = "It is a PEM file with a private key, relative to the config file.";
            reader.problem(file.place, format!("`key` cannot be used: {flaw}"), cure);
            return None;
        }
    };
    let text = |text: &Option<Located<String>>| text.as_ref().map(|text| Box::from(text.value.as_str()));
    let own = urls.first().and_then(canonical).map(Into::into);
    let Some(audience) = text(&written.audience).or(own) else {
        if !urls.is_empty() {
            let what = "a server on a Unix socket has no URL that could be the audience";
            reader.problem(file.place, what, "Write `audience: …`.");
        }
        return None;
    };
    Some(Assertion {
        key,
        key_id: text(&written.key_id),
        issuer: text(&written.issuer).unwrap_or_else(|| ISSUER.into()),
        audience,
    })
}

fn claims(reader: &mut Reader<'_>, written: &[(Located<String>, Located<String>)]) -> Vec<ClaimField> {
    if let Some((name, _)) = written.get(limits::INJECTED_HEADERS_MAX) {
        let what = format!("more than {} claims", limits::INJECTED_HEADERS_MAX);
        reader.problem(name.place, what, "Servers refuse heads of that size.");
        return Vec::new();
    }
    let mut fields: Vec<ClaimField> = Vec::new();
    for (name, claim) in written {
        let Some(name) = field_name(reader, name, &fields, |field| &field.name) else { continue };
        fields.push(ClaimField { name, claim: ClaimPath(claim.value.as_str().into()) });
    }
    fields
}

fn vaulted(reader: &mut Reader<'_>, server: &file::Server) -> Option<Arc<Auth>> {
    let mut fields: Vec<VaultField> = Vec::new();
    for (name, value) in &server.vaulted {
        let Some(name) = field_name(reader, name, &fields, |field| &field.name) else { continue };
        fields.push(VaultField { name, value: value.clone() });
    }
    let names = fields.iter().map(|field| field.name.clone()).collect();
    Some(Arc::new(Auth { method: Method::Vault(fields), fields: names }))
}

/// The name of a field, lower case, where it may be one and is none of `others`.
fn field_name<T>(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    others: &[T],
    name_of: impl Fn(&T) -> &[u8],
) -> Option<Box<[u8]>> {
    let lowered = name.value.to_ascii_lowercase();
    if let Some((what, cure)) = compile_server::name_flaw(&lowered) {
        reader.problem(name.place, format!("the header name {} {what}", quoted(&name.value)), cure);
        return None;
    }
    if others.iter().any(|other| *name_of(other) == *lowered.as_bytes()) {
        let what = format!("the header {} stands here a second time", quoted(&name.value));
        reader.problem(name.place, what, "Remove it.");
        return None;
    }
    Some(lowered.into_bytes().into())
}

/// A URL to which a secret may be sent: `https`, or `http` inside one's own network.
fn safe_url(reader: &mut Reader<'_>, text: &Located<String>) -> Option<Url> {
    let (what, cure) = match address::url(&text.value) {
        Ok(url) if url.tls || is_near(&url) => return Some(url),
        Ok(url) if matches!(url.transport, Transport::Unix(_)) => {
            ("is a Unix socket".to_owned(), "Write `https://…`.")
        }
        Ok(_) => ("sends secrets over the internet in the clear".to_owned(), "Write `https://…`."),
        Err(flaw) => (flaw.to_owned(), "Write `https://…`."),
    };
    reader.problem(text.place, format!("this URL {what}"), cure);
    None
}

fn is_near(url: &Url) -> bool {
    match &url.transport {
        Transport::Address(address) => address::is_near(address.ip()),
        Transport::Name { host, .. } => {
            address::is_near_name(host) || host.parse::<IpAddr>().is_ok_and(address::is_near)
        }
        Transport::Unix(_) => false,
    }
}

/// The URI by which MCP names a server (2026-07-28, authorization, "Canonical Server URI"): without a slash at its end.
fn canonical(url: &Url) -> Option<String> {
    if matches!(url.transport, Transport::Unix(_)) {
        return None;
    }
    let scheme = if url.tls { "https" } else { "http" };
    let target = if &*url.target == "/" { "" } else { &url.target };
    Some(format!("{scheme}://{}{target}", url.authority))
}
