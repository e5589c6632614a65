//! The recipe for SAML in docs/IDENTITY.md, word for word, with tokens as a Keycloak gives them to users whom it knows from an
//! assertion of the corporate provider.
//!
//! Not here: what else issuers write into tokens (oidc), and SAML itself: nobody in the path of a call speaks it.

use crate::support::Folder;
use crate::support::Run;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::gateway::binary;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use std::process::Command;

const DOCUMENT: &str = include_str!("../../docs/IDENTITY.md");
const TITLE: &str = "# SAML by Keycloak\n";
/// What the realm publishes, and three of its tokens: of a user of the group `support`, of one of other groups, and one that
/// has no mapper for the audience.
const KEYS: &str = include_str!("saml/keycloak-certs.json");
const SUPPORT: &str = include_str!("saml/jdoe.jwt");
const OTHERS: &str = include_str!("saml/without-group.jwt");
const NO_AUDIENCE: &str = include_str!("saml/without-audience.jwt");

/// The recipe as users copy it.
fn recipe() -> &'static str {
    let found = DOCUMENT.split("```yaml\n").find(|block| block.starts_with(TITLE));
    found.and_then(|block| block.split("```").next()).expect("docs/IDENTITY.md has the recipe")
}

/// The recipe, with a server and a realm that are here: every other line is the document's.
fn gateway(run: Run, up: &Upstream) -> Gateway {
    let change = |text: String, from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    };
    let text = change(recipe().to_owned(), "http://10.0.0.7:3000/mcp", &up.url);
    let text = change(text, "      roles: groups\n", "      roles: groups\n      jwks: {file: certs.json}\n");
    let builder = run.gateway();
    builder.folder.file("certs.json", KEYS);
    let log = builder.folder.path().join("calls.jsonl");
    let builder = builder.call_log(&log);
    let command = builder.command();
    // The test's own lines, of which the recipe says nothing, in front of it.
    let own = builder.yaml();
    let own = own.split("mcpServers:").next().unwrap_or_default();
    builder.folder.file("ringgate.yaml", &format!("{own}{text}"));
    builder.run_as(command)
}

/// Feature: SAML is the identity provider's business; its users come with tokens like all others, and rules go by the groups
/// of their assertion.
#[test]
fn saml() {
    everywhere(|run| {
        let up = upstream().tool("read_ticket").tool("delete_ticket").run();
        let gw = gateway(run, &up);
        let call = |token: &str, tool: &str| {
            let call = gw.call("crm", tool).field(format!("Authorization: Bearer {}", token.trim_end()));
            let word = call.token.clone();
            let answer = call.try_send().unwrap();
            assert_eq!(up.mentions(&word) > 0, answer.status == 200 && answer.code() == 0, "{answer:?}");
            answer
        };
        let served = call(SUPPORT, "read_ticket");
        assert_eq!((served.status, served.code()), (200, 0), "{served:?}");
        // What no rule allows is hidden, from whomever.
        for (token, tool) in [(SUPPORT, "delete_ticket"), (OTHERS, "read_ticket"), (OTHERS, "delete_ticket")]
        {
            assert_eq!(call(token, tool).code(), -32602, "{tool}");
        }
        let (front, signature) = SUPPORT.rsplit_once('.').unwrap();
        let others = OTHERS.rsplit_once('.').unwrap().1;
        assert_ne!(signature, others);
        for nobody in [NO_AUDIENCE.to_owned(), format!("{front}.{others}")] {
            let answer = call(&nobody, "read_ticket");
            answer.refused(401, "unauthenticated");
            let challenge = answer.head.field("www-authenticate").unwrap();
            assert_eq!(
                challenge,
                "Bearer error=\"invalid_token\", \
                 resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/mcp/crm\""
            );
        }
        let log = gw.builder.folder.path().join("calls.jsonl");
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually("it is written whose call it was", || {
            let lines = told();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.any(|line| line["principal"] == "jdoe@corp.example" && line["tool"] == "read_ticket")
        });
        assert_eq!(up.mentions("eyJ"), 0, "a token went upstream");
    });
}

/// As it stands there, nothing filled in.
#[test]
fn saml_recipe_is_a_config() {
    let folder = Folder::new();
    let file = folder.file("ringgate.yaml", recipe());
    let output = Command::new(binary()).arg("check").arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
