//! Who may call what: by role, by arguments, by scope; and that what is refused never leaves.
//!
//! Not here: lists (filtered by the same rules), and the rules themselves (`policy::access`).

use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;

const BIG: &str =
    r#"name: no-big-transfers, deny: [bank.transfer], when: 'args.amount > 1000 && !("finance" in roles)'"#;

fn bank(run: Run, up: &Upstream) -> Builder {
    run.gateway().agents_with_roles(&[("clerk", ""), ("cfo", "finance")]).to("bank", up)
}

/// Sends a call that must be refused, of which the upstream sees nothing.
#[track_caller]
fn barred(caller: &mut Caller, up: &Upstream, call: &Call) -> Answer {
    let answer = caller.send(call);
    assert_eq!(answer.json()["id"].to_string(), call.id, "{answer:?}");
    assert_eq!(up.mentions(&call.token), 0, "reached the upstream: {answer:?}");
    answer
}

/// 403, by that rule.
#[track_caller]
fn forbidden(caller: &mut Caller, up: &Upstream, call: &Call, rule: &str) {
    let answer = barred(caller, up, call);
    answer.refused(403, "forbidden");
    assert_eq!((answer.code(), &answer.json()["error"]["data"]["rule"]), (-33403, &Value::from(rule)));
}

/// Answered as what does not exist: nothing tells of a rule.
#[track_caller]
fn hidden(caller: &mut Caller, up: &Upstream, call: &Call) -> String {
    let answer = barred(caller, up, call);
    assert_eq!((answer.status, answer.code()), (200, unknown(call)), "{answer:?}");
    let error = &answer.json()["error"];
    assert!(error.get("data").is_none() && !answer.text().contains("access"), "{answer:?}");
    error["message"].as_str().unwrap().to_owned()
}

/// The code of what does not exist, in the words of the call's revision.
pub fn unknown(call: &Call) -> i64 {
    let of_resource = call.method.starts_with("resources/") && !call.method.ends_with("list");
    if call.era == Era::Legacy && of_resource { -32002 } else { -32602 }
}

/// Feature: roles of keys decide; nobody but the operator learns why.
#[test]
fn rbac() {
    everywhere(|run| {
        let up = upstream().tool("read_ticket").tool("delete_ticket").run();
        let builder = run.gateway().agents_with_roles(&[("sam", "support"), ("max", "sales,admin")]);
        let log = builder.folder.path().join("calls.jsonl");
        let gw = builder
            .access(r#"name: support-reads, roles: [support], allow: ["crm.read_*"]"#)
            .access(r#"name: admins, roles: [admin], allow: ["crm.*"]"#)
            .access(r#"name: nobody, principals: [sam], deny: ["crm.read_salary"]"#)
            .call_log(&log)
            .to("crm", &up)
            .run();
        let mut sam = gw.agent("sam", "crm");
        sam.passes("read_ticket");
        let delete = sam.tool("delete_ticket");
        let said = hidden(&mut sam, &up, &delete);
        let denied = sam.tool("read_salary");
        assert_eq!(hidden(&mut sam, &up, &denied), said);
        let none = sam.tool("there_is_no_such_tool");
        assert_eq!(hidden(&mut sam, &up, &none), said);
        gw.agent("max", "crm").passes("delete_ticket");
        assert_eq!(gw.metric("ringgate_denied_total", &["rule=\"access\""]), 2.0);
        assert_eq!(gw.metric("ringgate_denied_total", &["rule=\"access.nobody\""]), 1.0);
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        let told = |rule: &str, tool: &str| {
            let parts =
                [r#""principal":"sam""#, &format!(r#""rule":"{rule}""#), &format!(r#""tool":"{tool}""#)];
            lines().lines().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        eventually("records", || told("access", "delete_ticket") && told("access.nobody", "read_salary"));
    });
}

/// Feature: 1,000 passes, 1,001 does not, and no way of writing it gets past.
#[test]
fn abac() {
    everywhere(|run| {
        let up = upstream().tool("transfer").tool("balance").run();
        let gw = bank(run, &up).access(BIG).run();
        let mut clerk = gw.agent("clerk", "bank");
        let transfer = |caller: &Caller, amount: &str| caller.tool("transfer").given("amount", amount);
        for amount in ["1000", "1e3", "1000.0", "-5"] {
            let call = transfer(&clerk, amount);
            assert_eq!(clerk.send(&call).status, 200, "{amount}");
            up.once(&call.token);
        }
        for amount in [
            "1001",
            "1000.5",
            "1.001e3",
            "1e400",
            "1000.0000000000000000001",
            "999.99999999999999999999",
            "\"1\"",
            "\"1001\"",
            "null",
            "[1]",
            "{}",
        ] {
            let call = transfer(&clerk, amount);
            forbidden(&mut clerk, &up, &call, "access.no-big-transfers");
        }
        for (first, second) in [("amount", "amount"), ("amount", r"\u0061mount"), (r"am\u006Funt", "amount")]
        {
            let call = clerk.tool("transfer").given(first, "1").given(second, "2000");
            forbidden(&mut clerk, &up, &call, "access.no-big-transfers");
        }
        let escaped = clerk.tool("transfer").given(r"\u0061mount", "2000");
        forbidden(&mut clerk, &up, &escaped, "access.no-big-transfers");
        let escaped = Call { name: Some(r"tr\u0061nsfer".into()), ..transfer(&clerk, "2000") };
        let escaped = if run.era == Era::Modern { named(&escaped, "transfer") } else { escaped };
        forbidden(&mut clerk, &up, &escaped, "access.no-big-transfers");
        let without = clerk.tool("transfer");
        forbidden(&mut clerk, &up, &without, "access.no-big-transfers");
        clerk.passes("balance");
        let call = transfer(&gw.agent("cfo", "bank"), "2000");
        assert_eq!(gw.agent("cfo", "bank").send(&call).status, 200);
    });
}

/// Feature: rules by network. Everybody here calls from 127.0.0.1, so the networks lie around that.
#[test]
fn abac_by_network() {
    everywhere(|run| {
        let up = upstream().tool("read").tool("write").tool("drop").tool("list").run();
        let deny = |tool: &str, network: &str| {
            let when = format!("!cidr(\"{network}\").containsIP(source)");
            format!("name: {tool}, deny: [\"crm.{tool}\"], when: '{when}'")
        };
        let gw = run
            .gateway()
            .agents(&["a"])
            .access(&deny("read", "127.0.0.1/32"))
            .access(&deny("write", "126.0.0.0/7"))
            .access(&deny("drop", "127.0.0.2/31"))
            .access(&deny("list", "::ffff:127.0.0.0/120"))
            .to("crm", &up)
            .run();
        let mut agent = gw.agent("a", "crm");
        for tool in ["read", "write", "list"] {
            agent.passes(tool);
        }
        let call = agent.tool("drop");
        hidden(&mut agent, &up, &call);
    });
}

/// The call with this `Mcp-Name` in place of its own.
fn named(call: &Call, name: &str) -> Call {
    // The field is made of the name: without one there is none, and the body gets it as a further member.
    let body_name = call.name.clone().unwrap_or_default();
    let call = Call { name: None, ..call.clone() };
    call.member("name", &format!("\"{body_name}\"")).field(format!("Mcp-Name: {name}"))
}

/// Feature: the head may not say another tool than the body.
#[test]
fn abac_header_and_body_agree() {
    on_every_driver(|run| {
        let up = upstream().tool("transfer").tool("balance").run();
        let gw = bank(Run { era: Era::Modern, ..run }, &up).access(BIG).run();
        let mut clerk = gw.agent("clerk", "bank");
        let call = named(&clerk.tool("transfer").given("amount", "2000"), "balance");
        let answer = barred(&mut clerk, &up, &call);
        assert_eq!((answer.status, answer.code()), (400, -32020), "{answer:?}");
    });
}

/// Every call of a batch has its own arguments, and one that may not pass stops all.
#[test]
fn abac_in_batches() {
    on_every_driver(|run| {
        let batches = script::script(|connection, _| script::send(connection, &script::plain(200, "[]")));
        let up = upstream().every(batches).run();
        let rule = "name: big, deny: [bank.transfer], when: args.amount > 1000";
        let gw = run.gateway().access(rule).to("bank", &up).run();
        let batch = |amounts: &[&str]| {
            let call = |amount: &&str| {
                Call::tool(gw.address, Era::Legacy, "bank", "transfer").given("amount", amount)
            };
            let calls: Vec<Call> = amounts.iter().map(call).collect();
            let raw = calls[0].raw().without("mcp-protocol-version");
            let body = calls.iter().map(Call::body).collect::<Vec<_>>().join(" ,\n");
            let answer = gw.client().talk(&raw.body(format!(" [ {body} ]")).bytes()).unwrap();
            let came = calls.iter().filter(|call| up.mentions(&call.token) > 0).count();
            (answer.status, came)
        };
        assert_eq!(batch(&["1", "1000", "5"]), (200, 3));
        assert_eq!(batch(&["1", "1000", "1001"]), (403, 0));
        assert_eq!(batch(&["1001", "1"]), (403, 0));
        assert_eq!(batch(&["1", "\"1\""]), (403, 0));
    });
}

/// A name that is longer than what a record keeps of it is decided on as a whole.
#[test]
fn rbac_long_names() {
    everywhere(|run| {
        let long = |end: &str| format!("{}{end}", "x".repeat(150));
        let (open, shut) = (long("_read"), long("_drop"));
        let up = upstream().tool(&open).tool(&shut).run();
        let gw = run.gateway().access("name: drops, deny: [\"up.*_drop\"]").to("up", &up).run();
        let mut caller = gw.caller("up");
        caller.passes(&open);
        let call = caller.tool(&shut);
        hidden(&mut caller, &up, &call);
        let gw = run.gateway().access(&format!("name: only, allow: [up.{open}]")).to("up", &up).run();
        let mut caller = gw.caller("up");
        caller.passes(&open);
        let call = caller.tool(&shut);
        hidden(&mut caller, &up, &call);
    });
}

/// What is no tool: prompts, resources, completions of either, and what one listens to.
#[test]
fn rbac_prompts_and_resources() {
    everywhere(|run| {
        let prompts = script::script(|connection, request| {
            let prompts = json!({"resultType": "complete", "prompts": [{"name": "open"}, {"name": "shut"}]});
            script::send(connection, &script::plain(200, &script::result(request, &prompts)))
        });
        let up = upstream().tool("echo").method("prompts/list", prompts).run();
        let gw = run
            .gateway()
            .access("name: some, allow: [\"up.*\", \"prompt:up.open\", \"resource:up.file:///open/*\"]")
            .to("up", &up)
            .run();
        let mut caller = gw.caller("up");
        caller.passes("echo");
        let get =
            |caller: &Caller, name: &str| Call { name: Some(name.into()), ..caller.request("prompts/get") };
        let on = |caller: &Caller, method: &str, uri: &str| {
            let call = caller.request(method).member("uri", &format!("\"{uri}\""));
            if run.era == Era::Modern { call.field(format!("Mcp-Name: {uri}")) } else { call }
        };
        let complete =
            |caller: &Caller, reference: &str| caller.request("completion/complete").member("ref", reference);
        let (open, shut) = ("file:///open/a", "file:///shut/a");
        let prompt = |name: &str| format!(r#"{{"type":"ref/prompt","name":"{name}"}}"#);
        let resource = |uri: &str| format!(r#"{{"type":"ref/resource","uri":"{uri}"}}"#);
        let passing = [
            get(&caller, "open"),
            on(&caller, "resources/read", open),
            on(&caller, "resources/subscribe", open),
            complete(&caller, &prompt("open")),
            complete(&caller, &resource(open)),
            caller.request("prompts/list"),
        ];
        for call in passing {
            caller.send(&call);
            up.once(&call.token);
        }
        let hiding = [
            get(&caller, "shut"),
            on(&caller, "resources/read", shut),
            on(&caller, "resources/subscribe", shut),
            on(&caller, "resources/unsubscribe", shut),
            complete(&caller, &prompt("shut")),
            complete(&caller, &resource(shut)),
        ];
        for call in hiding {
            hidden(&mut caller, &up, &call);
        }
        let doubled = complete(&caller, &prompt("open")).member("ref", &prompt("shut"));
        assert_eq!(barred(&mut caller, &up, &doubled).status, 400);
        if run.era == Era::Modern {
            let uris = format!(r#"{{"resourceSubscriptions":["{open}","{shut}"]}}"#);
            let listen = caller.request("subscriptions/listen").member("notifications", &uris);
            hidden(&mut caller, &up, &listen);
        }
    });
}

/// Complaint: rules on arguments never matched, and everything was denied.
#[test]
fn agentgateway_3092_argument_rules_match() {
    everywhere(|run| {
        let up = upstream().tool("query").run();
        let rule = r#"name: dev-only, allow: [db.query], when: 'args.database == "dev"'"#;
        let gw = run.gateway().access(rule).to("db", &up).run();
        let mut caller = gw.caller("db");
        let query = |caller: &Caller, database: &str| caller.tool("query").given("database", database);
        let call = query(&caller, "\"dev\"");
        assert_eq!(caller.send(&call).status, 200);
        up.once(&call.token);
        let call = query(&caller, "\"prod\"");
        forbidden(&mut caller, &up, &call, "access");
        // An error allows nothing.
        let call = caller.tool("query");
        forbidden(&mut caller, &up, &call, "access");
        assert_eq!(gw.metric("ringgate_cel_errors_total", &["rule=\"access.dev-only\""]), 1.0);
    });
}

/// Complaint: rules that only deny denied everything.
#[test]
fn agentgateway_1058_deny_only_rules() {
    everywhere(|run| {
        let up = upstream().tool("read").tool("drop").run();
        let gw = run.gateway().access("name: no-drop, deny: [db.drop]").to("db", &up).run();
        let mut caller = gw.caller("db");
        caller.passes("read");
        let call = caller.tool("drop");
        hidden(&mut caller, &up, &call);
        assert_eq!(caller.send(&caller.request("tools/list")).status, 200);
    });
}

/// A gateway in front of a server of repositories, of which some calls need scopes.
fn scoped(builder: Builder, up: &Upstream) -> Gateway {
    builder
        .access(r#"name: delete-needs-scope, tools: ["github.delete_*"], scopes: ["repo:delete"]"#)
        .access(r#"name: writes, tools: ["github.delete_*"], scopes: ["repo:write", "repo:delete"]"#)
        .to("github", up)
        .run()
}

/// Feature: whoever lacks a scope sees the tool, learns which scopes its call needs, and with a token of these it passes.
#[test]
fn scopes_step_up() {
    everywhere(|run| {
        let up = upstream().tool("delete_repo").tool("read_repo").run();
        let issuer = issuer();
        let gw = scoped(run.gateway().top(issuer.identity(&[])), &up);
        let with = |scope: &str, call: Call| call.field(issuer.token("ann").claim("scope", scope).bearer());
        let list = with("repo:read", gw.request("github", "tools/list")).send().json();
        let tools: Vec<&Value> =
            list["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(tools, ["delete_repo", "read_repo"], "{list}");
        for lacking in ["repo:read", "repo:delete", "repo:write repo:deleted"] {
            let call = with(lacking, gw.call("github", "delete_repo"));
            let word = call.token.clone();
            let answer = call.send();
            answer.refused(403, "insufficient_scope");
            assert_eq!(up.mentions(&word), 0, "{lacking}");
            let challenge = answer.head.field("www-authenticate").unwrap();
            let asked = challenge.split(" scope=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let call = with(asked, gw.call("github", "delete_repo"));
            let word = call.token.clone();
            assert_eq!(call.send().status, 200, "{challenge}");
            up.once(&word);
        }
    });
}

/// Feature: a key has no scopes, so that they are missing; the challenge names all at once.
#[test]
fn scopes() {
    everywhere(|run| {
        let up = upstream().tool("delete_repo").tool("read_repo").run();
        let gw = scoped(run.gateway().agents(&["a"]), &up);
        let mut agent = gw.agent("a", "github");
        agent.passes("read_repo");
        let call = agent.tool("delete_repo");
        let answer = barred(&mut agent, &up, &call);
        answer.refused(403, "insufficient_scope");
        let rule = &answer.json()["error"]["data"]["rule"];
        assert_eq!((answer.code(), rule), (-33403, &Value::from("access.delete-needs-scope")));
        let challenge = answer.head.field("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Bearer error="insufficient_scope", scope="repo:delete repo:write""#);
        assert_eq!(gw.metric("ringgate_denied_total", &["rule=\"access.delete-needs-scope\""]), 1.0);
    });
}

/// A rule names a principal as its issuer does, letters that other names of a config do not have and all.
#[test]
fn regression_a_rule_names_whom_an_issuer_names() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = run
            .gateway()
            .top(issuer.identity(&[]))
            .access("name: one, principals: ['auth0|123', 'CN=agent-7,O=Example'], allow: [\"up.*\"]")
            .to("up", &up)
            .run();
        let status = |subject: &str| {
            let call = gw.modern("up", "echo").field(issuer.token(subject).bearer());
            call.send().json()["error"]["code"].as_i64()
        };
        assert_eq!((status("auth0|123"), status("CN=agent-7,O=Example")), (None, None));
        assert_eq!((status("auth0|124"), status("CN=agent-7")), (Some(-32602), Some(-32602)));
    });
}
