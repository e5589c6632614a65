//! This gateway as an OAuth 2.1 resource server: its metadata (RFC 9728) and its challenges (RFC 6750 section 3).
//!
//! Not here: whether a token is good (`token`), and sending any of it.
//!
//! Its name is the first audience that is the URL of an `/mcp`; that of an endpoint is this URL and `/NAME`. Without
//! such an audience there is no metadata, because nobody knows under which name clients reach the gateway; nor without an
//! issuer that clients can ask for a token (RFC 9728 section 2: a trust domain of SPIFFE is no authorization server).
//!
//! Whoever reads metadata has no credential yet. So that it tells nobody which servers there are, each name that a server
//! can have has its document, and one that is for some tenants has that of a name that nobody bears.

use crate::config::access::Effect;
use crate::config::compile_server;
use crate::config::hub::Form;
use crate::config::hub::Hub;
use crate::config::identity::Identity;
use crate::config::pattern::ToolPattern;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use serde_json::json;
use std::collections::BTreeSet;

/// Where metadata is found, before the path of the resource (RFC 9728 section 3.1).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Where there is nothing to tell.
const PLAIN: &str = "Bearer realm=\"ringgate\"";
const PATH: &str = "/mcp";
/// A refresh token is between the client and its authorization server (MCP 2026-07-28, authorization, "Scopes").
const NEVER_ASKED_FOR: &str = "offline_access";

/// Scheme and authority of this gateway, as clients know it.
fn origin(identity: &Identity) -> Option<&str> {
    authorization_servers(identity).next()?;
    let audiences = identity.issuers.iter().flat_map(|issuer| &issuer.audiences);
    audiences.filter_map(|audience| audience.strip_suffix(PATH)).find(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('/'))
    })
}

/// Where clients can get a token.
fn authorization_servers(identity: &Identity) -> impl Iterator<Item = &str> {
    identity.issuers.iter().map(|issuer| &*issuer.issuer).filter(|issuer| issuer.starts_with("http"))
}

/// The path of an endpoint; `endpoint` is empty for `/mcp` itself.
fn path(endpoint: &str) -> String {
    if endpoint.is_empty() { PATH.into() } else { format!("{PATH}/{endpoint}") }
}

/// The endpoint whose metadata is at a path: the name of a server or virtual server, or nothing for `/mcp`. None: no
/// metadata is there.
pub fn endpoint(path: &str) -> Option<&str> {
    match path.strip_prefix(WELL_KNOWN)? {
        "" | PATH => Some(""),
        rest => rest.strip_prefix(PATH)?.strip_prefix('/').filter(|name| !name.is_empty()),
    }
}

/// The metadata of an endpoint as a JSON document (RFC 9728 section 2). None: nobody's tokens are taken here, there can
/// be no such endpoint, or the gateway does not know its own name.
pub fn metadata(plan: &Plan, endpoint: &str) -> Option<String> {
    let origin = origin(&plan.identity)?;
    let hub = plan.hub_by_name.get(endpoint).and_then(|id| plan.hubs.get(usize::from(*id)));
    if hub.is_none() && compile_server::server_name_flaw(endpoint).is_some() {
        return None;
    }
    let servers: Vec<&str> = authorization_servers(&plan.identity).collect();
    let mut document = json!({
        "resource": format!("{origin}{}", path(endpoint)),
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
        "resource_name": "Ringgate",
    });
    let scopes = hub.filter(|hub| is_for_all(plan, hub)).map(|hub| scopes(plan, hub)).unwrap_or_default();
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    Some(document.to_string())
}

/// Whether an endpoint is one for every tenant.
fn is_for_all(plan: &Plan, hub: &Hub) -> bool {
    let Form::Server(id) = hub.form else { return true };
    plan.servers.get(usize::from(id)).is_some_and(|server| server.tenants.is_empty())
}

/// What access rules ask for of the servers behind an endpoint.
fn scopes<'a>(plan: &'a Plan, hub: &Hub) -> BTreeSet<&'a str> {
    let members: Vec<&Server> =
        hub.members.iter().filter_map(|id| plan.servers.get(usize::from(*id))).collect();
    let here = |pattern: &ToolPattern| members.iter().any(|server| pattern.server().matches(&server.name));
    let rules = plan.access.rules.iter().filter(|rule| rule.patterns.iter().any(here));
    let scopes = rules.filter_map(|rule| match &rule.effect {
        Effect::Scopes(scopes) => Some(scopes),
        _ => None,
    });
    scopes.flatten().map(|scope| &**scope).filter(|scope| *scope != NEVER_ASKED_FOR).collect()
}

/// The value of `WWW-Authenticate` where a credential is missing or not good. `invalid`: one was sent.
pub fn challenge(identity: &Identity, endpoint: &str, invalid: bool) -> String {
    if identity.issuers.is_empty() {
        return PLAIN.into();
    }
    let error = if invalid { "error=\"invalid_token\"" } else { "" };
    let parts = [error.to_owned(), located(identity, endpoint)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { PLAIN.into() } else { format!("Bearer {}", parts.join(", ")) }
}

/// The value of `WWW-Authenticate` where scopes are missing: all that the operation needs, in one challenge
/// (MCP 2026-07-28, authorization, "Insufficient Scope").
pub fn step_up(identity: &Identity, endpoint: &str, scopes: &[&str]) -> String {
    let scopes: Vec<&str> = scopes.iter().copied().filter(|scope| *scope != NEVER_ASKED_FOR).collect();
    let scope = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "));
    let located = located(identity, endpoint);
    if located.is_empty() { scope } else { format!("{scope}, {located}") }
}

fn located(identity: &Identity, endpoint: &str) -> String {
    match origin(identity) {
        Some(origin) => format!("resource_metadata=\"{origin}{WELL_KNOWN}{}\"", path(endpoint)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use serde_json::Value;
    use std::path::Path;

    fn plan(audiences: &str) -> Plan {
        let text = format!(
            "mcpServers: {{crm: {{url: \"http://127.0.0.1:1/mcp\"}}, up: {{url: \"http://127.0.0.1:2/mcp\"}}}}\n\
             identity: {{jwt: [{{issuer: \"https://idp.test\", audiences: {audiences}}}, \
             {{issuer: \"spiffe://corp\", audiences: [x], introspection: {{url: \"https://i.test\", clientId: a, \
             secret: b}}}}]}}\n\
             virtualServers: {{desk: {{tools: [crm.read], prompts: [\"up.*\"]}}, half: {{tools: [up.x]}}}}\n\
             access: [{{name: a, tools: [crm.*], scopes: [crm]}}, {{name: b, tools: [\"prompt:up.*\"], \
             scopes: [up, offline_access]}}]\n"
        );
        config::load_text(&text, "test.yaml", Path::new("")).expect("a good config").plan
    }

    #[test]
    fn metadata_is_where_rfc_9728_puts_it() {
        for (path, expected) in [
            (WELL_KNOWN.to_owned(), Some("")),
            (format!("{WELL_KNOWN}/mcp"), Some("")),
            (format!("{WELL_KNOWN}/mcp/crm"), Some("crm")),
            (format!("{WELL_KNOWN}/mcp/"), None),
            (format!("{WELL_KNOWN}/mcpcrm"), None),
            (format!("{WELL_KNOWN}x"), None),
            ("/mcp/crm".to_owned(), None),
        ] {
            assert_eq!(endpoint(&path), expected, "{path}");
        }
    }

    #[test]
    fn a_document_names_its_own_resource() {
        let plan = plan("[\"urn:x\", \"https://gw.test:8443/mcp\"]");
        let document = |endpoint: &str| -> Value {
            serde_json::from_str(&metadata(&plan, endpoint).expect("a document")).expect("JSON")
        };
        assert_eq!(document("crm")["resource"], "https://gw.test:8443/mcp/crm");
        assert_eq!(document("")["resource"], "https://gw.test:8443/mcp");
        assert_eq!(document("")["authorization_servers"], json!(["https://idp.test"]));
        assert_eq!(document("nobody")["resource"], "https://gw.test:8443/mcp/nobody");
        for never in ["a__b", "a_", "7a", "a/b", "a.b", &"a".repeat(33)] {
            assert_eq!(metadata(&plan, never), None, "{never}");
        }
        assert_eq!(document("desk")["resource"], "https://gw.test:8443/mcp/desk");
        for (endpoint, expected) in [
            ("crm", json!(["crm"])),
            ("half", json!(["up"])),
            ("desk", json!(["crm", "up"])),
            ("", json!(["crm", "up"])),
        ] {
            assert_eq!(document(endpoint)["scopes_supported"], expected, "{endpoint}");
        }
    }

    /// Found in an audit: anybody could find out which servers there are.
    #[test]
    fn a_document_does_not_tell_a_server_of_some_tenants_from_none() {
        let text = "mcpServers: {own: {url: \"http://127.0.0.1:1/mcp\", tenants: [acme]}}\n\
                    identity: {tenant: jwt.org, jwt: [{issuer: \"https://idp.test\", \
                    audiences: [\"https://gw.test/mcp\"]}]}\n\
                    access: [{name: a, tools: [own.*], scopes: [own]}]\n";
        let plan = config::load_text(text, "test.yaml", Path::new("")).expect("a good config").plan;
        let document = |endpoint: &str| metadata(&plan, endpoint).expect("a document");
        assert_eq!(document("own").replace("/mcp/own", "/mcp/nobody"), document("nobody"));
    }

    /// RFC 9728 section 2 and MCP: a document names at least one authorization server.
    #[test]
    fn where_nobody_gives_out_tokens_there_is_no_document() {
        let text = "mcpServers: {crm: {url: \"http://127.0.0.1:1/mcp\"}}\n\
                    identity: {jwt: [{issuer: \"spiffe://corp\", audiences: [\"https://gw.test/mcp\"], \
                    jwks: {url: \"https://bundles.test/corp\"}}]}\n";
        let plan = config::load_text(text, "test.yaml", Path::new("")).expect("a good config").plan;
        assert_eq!(metadata(&plan, "crm"), None);
        assert_eq!(challenge(&plan.identity, "crm", false), PLAIN);
        assert_eq!(challenge(&plan.identity, "crm", true), "Bearer error=\"invalid_token\"");
    }

    #[test]
    fn challenges_tell_where_the_metadata_is() {
        let known = plan("[\"https://gw.test/mcp\"]").identity;
        let at = "resource_metadata=\"https://gw.test/.well-known/oauth-protected-resource/mcp/crm\"";
        assert_eq!(challenge(&known, "crm", false), format!("Bearer {at}"));
        assert_eq!(challenge(&known, "crm", true), format!("Bearer error=\"invalid_token\", {at}"));
        assert_eq!(
            step_up(&known, "crm", &["a", "offline_access", "b"]),
            format!("Bearer error=\"insufficient_scope\", scope=\"a b\", {at}")
        );
    }

    #[test]
    fn a_gateway_that_does_not_know_its_name_tells_none() {
        for audiences in ["[urn:x]", "[\"https://gw.test/other/mcp\"]", "[\"://mcp\", /mcp]"] {
            let plan = plan(audiences);
            assert_eq!(metadata(&plan, ""), None, "{audiences}");
            assert_eq!(challenge(&plan.identity, "crm", false), "Bearer realm=\"ringgate\"");
        }
        assert_eq!(challenge(&Identity::default(), "", false), "Bearer realm=\"ringgate\"");
    }
}
