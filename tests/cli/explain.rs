//! `ringgate explain` as a user types it.
//!
//! Not here: that it says what becomes of a live call (tests/policies.rs, tests/exchange/explain.rs).

use crate::Scratch;

const EXPLAINED: &str = r#"mcpServers:
  db:
    instances: [{url: "http://127.0.0.1:9/mcp", weight: 3}, {url: "http://127.0.0.1:8/mcp"}]
    balance: weighted
    timeout: {tools: {"export_*": 30m}}
    idempotent: ["get_*"]
    retry: {hedge: 50ms}
    faults: [{tools: ["get_*"], ratio: 0.125, delay: 2s}]
  files: {url: "http://127.0.0.1:7/mcp"}
  crm: {pools: {a: {url: "http://127.0.0.1:6/"}, b: {url: "http://127.0.0.1:5/"}}, route: [{hook: "http://127.0.0.1:4/"}]}
identity: {apiKeys: {file: keys.yaml}}
state: {dir: state}
limits:
  - {name: per-agent, key: principal, rate: 60/min, burst: 25}
  - {name: files, servers: [files], key: server, rate: 1/s}
  - {name: sql, tools: [db.run_sql], key: [principal, tool], rate: 10/min, burst: 2}
  - {name: prod, when: 'args.database == "prod"', key: args.region, rate: 10/hour}
  - {name: support, when: '"support" in roles', key: source, rate: 1/day}
  - {name: daily, key: gateway, quota: 5/day, tz: Asia/Kolkata}
  - {name: tokens, key: principal, rate: 100k/hour, count: tokens}
"#;

#[test]
fn explain_tells_of_hooks_and_asks_none() {
    let scratch = Scratch::new("explain-hooks");
    scratch.write("gw.yaml", &EXPLAINED.replace("identity: {apiKeys: {file: keys.yaml}}", ""));
    let (_, out, err) = scratch.run("explain -c gw.yaml --as a crm.x");
    let says = "pool a, unless the hook of mcpServers.crm.route[0] names another: nobody is asked here\n";
    assert!(out.contains(says), "{out}{err}");
}

/// Each line is a run and what must stand in its output; the decision is the last line.
#[test]
fn explain_tells_each_rule_and_the_decision() {
    let scratch = Scratch::new("explain");
    scratch.write("gw.yaml", EXPLAINED);
    scratch.write("keys.yaml", "keys: []\n");
    let (code, ..) = scratch.run("key add --file keys.yaml --principal agent-7 --roles support,dev");
    assert_eq!(code, Some(0));
    let prod = r#"--args {"database":"prod","region":"eu"}"#;
    let table = [
        ("--as a db.run_sql", &["per-agent   principal=a: 24 of 25 left, 1 a second\n"][..], "allowed"),
        ("--as a db__run_sql", &["tools/call db.run_sql by a from 127.0.0.1\n"], "allowed"),
        ("--as a db.run_sql", &["files       no match: it is for other servers\n"], "allowed"),
        (
            "--as a db.run_sql",
            &["sql         principal=a, tool=db.run_sql: 1 of 2 left, 10 a minute\n"],
            "allowed",
        ),
        ("--as a db.x", &["sql         no match: it is for other tools\n", "it has no key in "], "allowed"),
        ("--as a db.x", &["prod        no match: its expression cannot be evaluated: a field or"], "allowed"),
        (&*format!("--as a db.x {prod}"), &["prod        key=\"eu\": 9 of 10 left, 10 an hour\n"], "allowed"),
        ("--as a db.x", &["support     no match: its `when` is false\n"], "allowed"),
        (
            "--as agent-7 db.x --source 192.0.2.7",
            &["support     source=192.0.2.7: 0 of 1 left, 1 a day\n", ", roles support, dev\n"],
            "allowed",
        ),
        (
            "--as a db.x",
            &["daily       gateway: 4 of 5 left, until 20", "T00:00:00+05:30[Asia/Kolkata]\n"],
            "allowed",
        ),
        ("--as a db.x", &["principal=a: 100000 of 100000 tokens left, 100000 an hour; charged"], "allowed"),
        ("--as a db.x", &["handshakes  no match: it is for other methods\n"], "allowed"),
        (
            "--as a prompt:db.x",
            &["prompts/get db.x", "per-agent   no match: it is for other methods\n"],
            "allowed",
        ),
        (
            "--as a files.x",
            &["files       server=files: 0 of 1 left, 1 a second\n", "pool default"],
            "allowed",
        ),
        (
            "--as a db.run_sql --after 2",
            &[
                "sql         principal=a, tool=db.run_sql: 0 of 2 left, 10 a minute; room again in 6s\n",
                "not asked",
            ],
            "refused: 429 rate_limited by limits.sql",
        ),
        ("--as a db.x --after 5", &["0 of 5 left, until 20"], "refused: 429 rate_limited by limits.daily"),
        ("--as a db.x", &["http://127.0.0.1:9 (weight 3), http://127.0.0.1:8 (weight 1)\n"], "allowed"),
        (
            "--as a db.export_all",
            &["first byte 30m, silence 5m, whole 30m;", "once it is sent, never again"],
            "allowed",
        ),
        (
            "--as a db.get_x",
            &["idempotent: again up to 1 times", "after 50ms", "12.5 % sent 2s later"],
            "allowed",
        ),
    ];
    for (words, parts, last) in table {
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml {words}"));
        assert_eq!((code, out.lines().next_back()), (Some(0), Some(last)), "{words}\n{out}{err}");
        for part in parts {
            assert!(out.contains(part), "{words}: {part:?} is not in\n{out}");
        }
    }
    assert!(!scratch.0.join("state").exists(), "an explanation changes nothing");
}

/// What `loadtest compare` measures is what its targets are named for: ringgate takes their files, and each rule and limit
/// meets a call.
#[test]
fn setups_of_the_load_tool_do_what_they_are_named_for() {
    let setups = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/setups");
    let scratch = Scratch::new("setups");
    scratch.write("jwks.json", r#"{"keys":[]}"#);
    let passes = ["breaker        off", "balance        roundRobin: ", "\nallowed\n"];
    let limits = ["  caller      principal=", "  tool        tool=up.load: ", "  server      server=up: "];
    let shared = [
        "leastConnections: the one with the fewest calls in flight\n  slowStart      an instance that comes back begins with a tenth of its share, and has all of it after 10s\n",
        "breaker        opens ",
        ":1 (weight 1), http://127.0.0.1:1 (weight 1)",
        "\nallowed\n",
    ];
    let rules = ["suspended", "contractors", "retired-agent"]
        .map(|name| format!("  {name:<13}  no match: its `when` is false"));
    let allows = "  support        match: it allows, its `when` is true";
    let rules: Vec<&str> = rules.iter().map(String::as_str).chain([allows]).chain(passes).collect();
    let untested = "  untested       no match: its `when` is false\n";
    let oversized = "  oversized      no match: its `when` is false for these arguments\n";
    let table = [
        ("ringgate", vec!["breaker        opens ", "balance        roundRobin: ", "\nallowed\n"]),
        ("plain", passes.to_vec()),
        ("limited", [&limits[..], &shared].concat()),
        ("identified", [&rules[..], &[untested]].concat()),
        ("inspected", [&rules[..], &[oversized]].concat()),
    ];
    assert_eq!(std::fs::read_dir(&setups).unwrap().count(), table.len());
    let claims = r#"{"sub":"alice","scope":"crm.read","org":"acme","stage":"live","groups":["support"],"act":{"sub":"agent-7"}}"#;
    let call =
        format!(r#"--as alice --roles support --claims {claims} up.load --args {{"load":{{"size":500}}}}"#);
    for (name, parts) in table {
        let text = std::fs::read_to_string(setups.join(format!("{name}.yaml"))).unwrap();
        scratch.write("gw.yaml", &text.replace("{upstream}", "127.0.0.1:1"));
        let (code, out, err) = scratch.run("check -c gw.yaml");
        assert_eq!((code, &*err), (Some(0), ""), "{name}: {out}");
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml {call}"));
        assert_eq!((code, &*err), (Some(0), ""), "{name}: {out}");
        for part in parts {
            assert!(out.contains(part), "{name}: {part:?} is not in\n{out}");
        }
    }
}

#[test]
fn explain_knows_kept_kills_and_says_what_it_cannot_read() {
    let scratch = Scratch::new("explain-kills");
    scratch.write("gw.yaml", EXPLAINED);
    scratch.write("keys.yaml", "keys: []\n");
    std::fs::create_dir(scratch.0.join("state")).unwrap();
    let kill = r#"{"kills":[{"kind":"tool","name":"db.x","operator":"ann","sinceUnixMs":1}]}"#;
    let table = [
        (kill, "kill switches: 1 in ", "refused: 403 killed by kill.tool"),
        ("{", "kill switches: not known: cannot read the kill switches in ", "allowed"),
    ];
    for (file, known, last) in table {
        scratch.write("state/kills.json", file);
        let (code, out, _) = scratch.run("explain -c gw.yaml --as a db.x");
        assert_eq!((code, out.lines().next_back()), (Some(0), Some(last)), "{out}");
        assert!(out.contains(known), "{out}");
    }
    scratch.write("state/kills.json", kill);
    let (_, out, _) = scratch.run("explain -c gw.yaml --as a db.x --json");
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    let refused = serde_json::json!({
        "allowed": false, "status": 403, "reason": "killed", "rule": "kill.tool"
    });
    assert_eq!(said["decision"], refused);
    assert_eq!((&said["call"]["server"], said["limits"].as_array().unwrap().len()), (&"db".into(), 9));
}

#[test]
fn explain_refuses_what_it_cannot_explain() {
    let scratch = Scratch::new("explain-bad");
    scratch.write("gw.yaml", EXPLAINED);
    scratch.write("keys.yaml", "keys: []\n");
    scratch.write("bad.yaml", "lisen: 1\n");
    let table = [
        ("-c gw.yaml --as a bd.x", 1, "gw.yaml has no server `bd`. Did you mean `db`?\n"),
        ("-c gw.yaml --as a unknown.x", 1, "gw.yaml has no server `unknown`. It has: db, files, crm.\n"),
        ("-c bad.yaml --as a db.x", 1, "bad.yaml:1:1: `lisen` is not a key."),
        ("-c gw.yaml --as a db", 2, "`db` names no server and tool. Write `server.tool`"),
        ("-c gw.yaml --as a db.x --args [1]", 2, "no JSON object"),
        ("-c gw.yaml --as a db.x --source here", 2, "--source"),
        ("-c gw.yaml --as a db.x --claims [1]", 2, "no JSON object"),
        ("-c gw.yaml --as a db.x --at noon", 2, "--at"),
        ("-c gw.yaml --as a db.x --annotations {\"read\":true}", 2, "`read` is no hint of a tool"),
        ("-c gw.yaml db.x", 2, "--as"),
    ];
    for (words, code, said) in table {
        let (exit, out, err) = scratch.run(&format!("explain {words}"));
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{words}");
        assert!(err.contains(said), "{words}: {err}");
    }
}

const RULED: &str = r#"
mcpServers: {crm: {url: "http://127.0.0.1:9/"}, bank: {url: "http://127.0.0.1:9/"}}
identity: {apiKeys: {file: keys.yaml}, tenant: jwt.org}
limits: [{name: shared, key: tenant, rate: 9/hour}]
access:
  - {name: support-reads, roles: [support], allow: ["crm.read_*"]}
  - {name: tellers, roles: [teller], allow: ["bank.*"]}
  - {name: big, deny: [bank.transfer], when: 'args.amount > 1000 && !("finance" in roles)'}
  - {name: night, deny: ["bank.*"], when: 'now.getHours("UTC") < 8'}
  - {name: acme, deny: [crm.read_all], when: 'tenant != "acme"'}
  - {name: writes, deny: ["crm.*"], when: '!annotations.readOnlyHint && tool.startsWith("read_w")'}
  - {name: scoped, tools: ["bank.close_*"], scopes: ["bank:close"]}
  - {name: policy, tools: [crm.read_x], opa: "http://127.0.0.1:8181/v1/data/x", onError: allow}
"#;

/// A folder with that config, and a key for sam.
fn ruled(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.write("gw.yaml", RULED);
    scratch.write("keys.yaml", "keys: []\n");
    let (code, ..) = scratch.run("key add --file keys.yaml --principal sam --roles support");
    assert_eq!(code, Some(0));
    scratch
}

/// Each line is a run, the decision, and what rules say of it.
#[test]
fn explain_tells_each_access_rule() {
    let scratch = ruled("explain-access");
    let day = "--at 2026-01-31T08:00:00Z --as a --roles teller";
    let table = [
        (
            "--as sam crm.read_ticket",
            "allowed",
            &[
                "support-reads  match: it allows\n",
                "tellers        no match: it is for roles teller\n",
                "big            no match: it is about other things\n",
            ][..],
        ),
        ("--as sam crm.drop", "refused: 200 unknown by access, hidden as if it did not exist", &[]),
        ("--as a crm.read_ticket", "refused: 200 unknown by access, hidden as if it did not exist", &[]),
        (
            "--as a --roles x,support crm.read_x",
            "allowed",
            &["policy         match: http://127.0.0.1:8181/v1/data/x decides"],
        ),
        (
            &format!("{day} bank.transfer --args {{\"amount\":1000}}"),
            "allowed",
            &["big            no match: its `when` is false for these arguments\n"],
        ),
        (
            &format!("{day} bank.transfer --args {{\"amount\":1001}}"),
            "refused: 403 forbidden by access.big",
            &[
                "big            match: it denies, its `when` is true for these arguments\n",
                "tellers        match: it allows\n",
                "scoped         not asked\n",
                "handshakes  no match: not asked\n",
            ],
        ),
        (
            &format!("{day} bank.transfer"),
            "refused: 403 forbidden by access.big",
            &["big            match: its `when` cannot be evaluated for these arguments: a field"],
        ),
        (
            "--at 2026-01-31T07:59:59.999Z --as a --roles teller bank.x",
            "refused: 200 unknown by access.night, hidden as if it did not exist",
            &["night          match: it denies, its `when` is true\n"],
        ),
        (
            &format!("{day} bank.close_account"),
            "refused: 403 insufficient_scope by access.scoped",
            &["scoped         match: it needs the scopes bank:close\n"],
        ),
        (&format!("{day} bank.close_account --scopes bank:close"), "allowed", &[]),
        (&format!("{day} bank.close_account --claims {{\"scope\":[\"bank:close\"]}}"), "allowed", &[]),
        ("--as sam crm.read_all", "refused: 200 unknown by access.acme, hidden as if it did not exist", &[]),
        (
            "--as sam crm.read_write",
            "refused: 200 unknown by access.writes, hidden as if it did not exist",
            &[],
        ),
        ("--as sam crm.read_write --annotations {\"readOnlyHint\":true}", "allowed", &[]),
        ("--as sam crm.read_all --tenant acme", "allowed", &["tenant=acme: 8 of 9 left"]),
        ("--as sam crm.read_all --claims {\"org\":\"acme\"}", "allowed", &[]),
    ];
    for (words, last, parts) in table {
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml {words}"));
        assert_eq!((code, out.lines().next_back()), (Some(0), Some(last)), "{words}\n{out}{err}");
        for part in parts {
            assert!(out.contains(part), "{words}: {part:?} is not in\n{out}");
        }
    }
}

const CLAIMED: &str = r#"
mcpServers: {crm: {url: "http://127.0.0.1:9/", tenants: [acme]}, open: {url: "http://127.0.0.1:9/"}}
identity:
  tenant: jwt.org
  jwt:
    - {issuer: "https://idp.test", audiences: ["http://gw.test/mcp"], jwks: {file: jwks.json}, roles: groups}
access:
  - {name: support-reads, roles: [support], allow: ["*"]}
  - {name: drops, tools: ["*.drop"], scopes: [all]}
"#;

/// Claims are read as those of a live token, and a server of other tenants is not there.
#[test]
fn explain_reads_claims_as_the_gateway_does() {
    let scratch = Scratch::new("explain-claims");
    scratch.write("gw.yaml", CLAIMED);
    scratch.write("jwks.json", r#"{"keys":[]}"#);
    let absent = "refused: 404 not_found by mcpServers.crm.tenants, hidden as if it did not exist";
    let table = [
        (
            r#"{"org":"acme","groups":["support"]} crm.x"#,
            "allowed",
            "a token of https://idp.test, roles support\n",
        ),
        (r#"{"org":"evil","groups":["support"]} crm.x"#, absent, "support-reads  not asked\n"),
        (r#"{"org":"evil","groups":["support"]} open.x"#, "allowed", "hints of the tool: not known, "),
        (r#"{"groups":["support"]} crm.x"#, absent, "no tenant: live such a caller is 401"),
        (r#"{"org":"acme","groups":["support"],"scp":["all"]} crm.drop"#, "allowed", "match: it needs"),
        (r#"{"org":"acme"} crm.x --roles support"#, "allowed", "roles as given, roles support"),
        (
            r#"{"org":"acme","groups":"support","sub":"ann","scope":"some"} crm.drop"#,
            "refused: 403 insufficient_scope by access.drops",
            "support-reads  match: it allows\n",
        ),
    ];
    for (words, last, part) in table {
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml --as ann --claims {words}"));
        assert_eq!((code, out.lines().next_back()), (Some(0), Some(last)), "{words}\n{out}{err}");
        assert!(out.contains(part), "{words}: {part:?} is not in\n{out}");
    }
    for (claims, said) in [
        (
            r#"{"iss":"https://other.test"}"#,
            "No issuer has tokens with these claims. Say `iss`: https://idp.test.\n",
        ),
        (r#"{"sub":"bob"}"#, "The claim `sub` names `bob`. Say `--as` so, or leave it out.\n"),
        (r#"{"sub":7}"#, "names nobody"),
    ] {
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml --as ann --claims {claims} crm.x"));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{claims}");
        assert!(err.contains(said), "{claims}: {err}");
    }
}

/// An expired key lets nobody in, and gives no role.
#[test]
fn explain_passes_over_expired_keys() {
    let scratch = Scratch::new("explain-expired");
    scratch.write("gw.yaml", RULED);
    let key = |id: &str, role: &str, more: &str| {
        let hash = id.repeat(64);
        format!("  - {{id: {id}, principal: sam, roles: [{role}], hash: \"sha256:{hash}\"{more}}}\n")
    };
    let old = key("a", "support", ", expires: \"2020-01-01T00:00:00Z\"");
    let table = [
        (old.clone(), "", "identity: its keys have expired: live it is 401 in "),
        (old.clone(), "--at 2019-12-31T23:59:59Z", "identity: key a in "),
        (old + &key("b", "teller", ""), "", "identity: key b in "),
    ];
    for (keys, words, part) in table {
        scratch.write("keys.yaml", &format!("keys:\n{keys}"));
        let (code, out, err) = scratch.run(&format!("explain -c gw.yaml --as sam crm.read_x {words}"));
        assert!(code == Some(0) && out.contains(part), "{part:?} is not in\n{out}{err}");
        assert_eq!(out.ends_with("allowed\n"), part.contains("key a"), "{out}");
    }
}

/// As JSON an explanation says the same.
#[test]
fn explain_tells_access_rules_as_json() {
    let scratch = ruled("explain-access-json");
    let (_, out, _) = scratch.run("explain -c gw.yaml --as sam crm.drop --json");
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    let refused =
        serde_json::json!({ "allowed": false, "status": 200, "reason": "unknown", "rule": "access" });
    assert_eq!(said["decision"], refused);
    let first = serde_json::json!({
        "rule": "support-reads", "matches": false, "says": "it is about other things"
    });
    assert_eq!(said["access"][0], first);
}
