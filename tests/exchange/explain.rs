//! `ringgate explain` beside a gateway of the same config: what it says is what becomes of the call.
//!
//! Not here: each rule and limit in words (tests/cli.rs), and thousands of policies (tests/policies.rs).

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::gateway::binary;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::process::Command;

/// What it says of a call by this gateway's config.
#[track_caller]
fn explained(gw: &Gateway, words: &[&str]) -> Value {
    let mut command = Command::new(binary());
    let output = command.args(["explain", "--json", "-c"]).arg(&gw.config).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Roles and scopes of claims, and the tenant of a server, are those of a live token with these claims.
#[test]
fn regression_explain_reads_a_token_as_the_gateway_does() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("read_x").tool("drop").run());
        let gw = run
            .gateway()
            .top(issuer.identity(&["roles: groups"]).replace("identity: {", "identity: {tenant: jwt.org, "))
            .access(r#"name: support-reads, roles: [support], allow: ["crm.*"]"#)
            .access(r#"name: drops, tools: ["crm.drop"], scopes: [crm.all]"#)
            .with("crm", &up, &["tenants: [acme]"])
            .run();
        for (claims, tool, expected) in [
            (json!({"org": "acme", "groups": ["support"]}), "read_x", None),
            (json!({"org": "acme", "groups": ["sales"]}), "read_x", Some("unknown")),
            (json!({"org": "evil", "groups": ["support"]}), "read_x", Some("not_found")),
            (json!({"org": "acme", "groups": ["support"], "scp": ["crm.all"]}), "drop", None),
            (json!({"org": "acme", "groups": ["support"]}), "drop", Some("insufficient_scope")),
        ] {
            let mut token = issuer.token("ann");
            for (name, value) in claims.as_object().unwrap() {
                token = token.claim(name, value.clone());
            }
            let answer = gw.modern("crm", tool).field(token.bearer()).try_send().unwrap();
            let error = &answer.json()["error"];
            // What is hidden has no reason on the wire.
            let live = error["data"]["reason"].as_str().or(error["code"].as_i64().map(|_| "unknown"));
            assert_eq!(live, expected, "{claims}: {answer:?}");
            let (subject, claims) = (format!("crm.{tool}"), claims.to_string());
            let told = explained(&gw, &["--as", "ann", &subject, "--claims", &claims]);
            assert_eq!(told["decision"]["reason"].as_str(), expected, "{claims}: {told}");
        }
    });
}

/// A rule that asks for hints is explained with those that the server has listed.
#[test]
fn regression_explain_knows_the_hints_that_a_server_listed() {
    on_every_driver(|run| {
        let tool = json!({
            "name": "read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}
        });
        let list = script::script(move |connection, request| {
            let page =
                json!({"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public", "tools": [tool]});
            script::send(connection, &script::plain(200, &script::result(request, &page)))
        });
        let up = upstream().tool("read").method("tools/list", list).run();
        let gw = run
            .gateway()
            .pinned()
            .top("state: {dir: state}")
            .access(r#"name: no-writes, deny: ["*"], when: '!annotations.readOnlyHint'"#)
            .to("up", &up)
            .run();
        let kept = gw.config.parent().unwrap().join("state/catalogues");
        let kept = || String::from_utf8_lossy(&std::fs::read(&kept).unwrap_or_default()).into_owned();
        eventually("it is listed and kept", || kept().contains("readOnlyHint"));
        let told = explained(&gw, &["--as", "anonymous", "up.read"]);
        assert_eq!(
            (&told["decision"]["allowed"], gw.modern("up", "read").send().status),
            (&json!(true), 200)
        );
        assert_eq!(told["call"]["hints"], "as the server listed them");
        let told = explained(&gw, &["--as", "anonymous", "up.other"]);
        assert_eq!(told["decision"]["allowed"], false);
        assert!(told["call"]["hints"].as_str().unwrap().starts_with("not known"), "{told}");
    });
}
