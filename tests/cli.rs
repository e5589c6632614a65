//! The command line as a user types it: exit codes, and what goes to stdout and stderr.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringgate-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs in that directory; the words are separated by spaces.
    fn run(&self, words: &str) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(words.split(' ').filter(|word| !word.is_empty()))
            .current_dir(&self.0)
            .output()
            .unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_says_everything_and_exits_1() {
    let scratch = Scratch::new("check");
    scratch.write("good.yaml", "mcpServers: {a: {url: \"http://localhost:1/mcp\", timeout: 60}}\n");
    scratch.write("bad.yaml", "lisen: 1\nmcpServers: {a: {uri: x}}\n");
    let (code, out, err) = scratch.run("check -c good.yaml");
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{err}");
    assert!(err.starts_with("warning: good.yaml:1:58: "), "{err}");
    let (code, out, err) = scratch.run("check -c bad.yaml");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = "bad.yaml:1:1: `lisen` is not a key. Did you mean `listen`?\n\
                    bad.yaml:2:14: the server `a` has no `url`. Write `url: http://…/mcp`.\n\
                    bad.yaml:2:18: `uri` is not a key of `mcpServers.NAME`. Did you mean `url`?\n";
    assert_eq!(err, expected);
    let (code, _, err) = scratch.run("check -c none.yaml");
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "none.yaml: cannot read the config: there is no such file. Name a file that this user can read: \
         `-c FILE`.\n"
    );
}

/// Feature `faults`: "without `run --allow-faults` such a config is refused at start".
#[test]
fn faults_are_refused_without_the_flag() {
    let scratch = Scratch::new("faults");
    let server = "{url: \"http://localhost:1/mcp\", faults: [{ratio: 0.5, status: 503}]}";
    // An address of nobody (RFC 5737): a gateway that started all the same would end here too, with another reason.
    let nowhere = "listen: 192.0.2.1:1\nidentity: {anonymous: guest}\n";
    scratch.write("faulty.yaml", &format!("mcpServers: {{db: {server}}}\n{nowhere}"));
    let (code, out, err) = scratch.run("run -c faulty.yaml");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("`faults` of the server `db`") && err.contains("`run --allow-faults`"), "{err}");
    let (code, out, err) = scratch.run("check -c faulty.yaml");
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{err}");
    assert!(err.starts_with("warning: faulty.yaml:1:59: ") && err.contains("--allow-faults"), "{err}");
}

#[test]
fn usage_errors_exit_2() {
    let scratch = Scratch::new("usage");
    for words in [
        "",
        "check",
        "chekc",
        "run",
        "key add --file k",
        "key revoke --file k",
        "kill",
        "kill principal",
        "kill all x",
        "unkill ls",
        "run -c x --driver kqueue",
    ] {
        let (code, out, err) = scratch.run(words);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{words}: {err}");
        assert!(err.contains("Usage") || err.contains("--help"), "{words}: {err}");
        assert!(!err.contains('\u{1b}'), "colours: {err:?}");
    }
    let (code, out, _) = scratch.run("version");
    assert_eq!((code, out), (Some(0), format!("ringgate {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = scratch.run("schema");
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), ringgate::config::schema::schema());
}

/// A gateway that serves, killed at the end, and its admin address.
struct Serving(Child, String);

impl Serving {
    fn start(scratch: &Scratch) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["run", "-c", "gw.yaml"])
            .current_dir(&scratch.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let admin =
            lines.map(Result::unwrap).find_map(|line| line.strip_prefix("admin on ").map(str::to_owned));
        Self(child, admin.unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const KILLABLE: &str = "listen: 127.0.0.1:0\nadmin: {address: \"127.0.0.1:0\"}\nworkers: 1\n\
                        mcpServers: {db: {url: \"http://127.0.0.1:9/mcp\"}}\n";

#[test]
fn kill_and_unkill_say_in_one_line_what_they_did() {
    let scratch = Scratch::new("kill");
    scratch.write("gw.yaml", KILLABLE);
    let serving = Serving::start(&scratch);
    let run = |words: &str| scratch.run(&format!("{words} --admin {}", serving.1));
    let brief = ", until the gateway restarts: its config has no `state.dir`\n";
    let table = [
        ("kill ls", 0, "nothing is killed\n".to_owned(), ""),
        ("kill principal a/b --reason loops", 0, format!("killed principal a/b{brief}"), ""),
        ("kill tool db.query", 0, format!("killed tool db.query{brief}"), ""),
        (
            "kill server bd",
            1,
            String::new(),
            "The configuration in force has no server `bd`. Did you mean `db`?\n",
        ),
        ("unkill principal a/b --reason mended", 0, format!("unkilled principal a/b{brief}"), ""),
        (
            "unkill all",
            1,
            String::new(),
            "Nothing of that kind and name is killed. GET /api/v1/kills lists what is.\n",
        ),
    ];
    for (words, code, out, err) in table {
        assert_eq!(run(words), (Some(code), out, err.to_owned()), "{words}");
    }
    let (code, out, _) = run("kill ls");
    assert!(code == Some(0) && out.starts_with("tool db.query since 2") && out.lines().count() == 1, "{out}");
    let (code, _, err) = scratch.run("kill all -c gw.yaml");
    assert!(code == Some(1) && err.contains("port 0") && err.contains("--admin"), "{err}");
    let (code, _, err) = scratch.run("kill all --admin 127.0.0.1:9");
    assert!(code == Some(1) && err.contains("Is the gateway running?"), "{err}");
}

/// What was acknowledged is there after a kill of the process; a damaged file refuses the start.
#[test]
fn kills_survive_the_gateway() {
    let scratch = Scratch::new("kill-kept");
    scratch.write("gw.yaml", &format!("{KILLABLE}state: {{dir: state}}\n"));
    let first = Serving::start(&scratch);
    for (words, said) in [
        ("kill principal agent-7 --reason loops", "killed principal agent-7\n"),
        ("kill server db", "killed server db\n"),
        ("unkill server db", "unkilled server db\n"),
    ] {
        let (code, out, err) = scratch.run(&format!("{words} --admin {}", first.1));
        assert_eq!((code, out.as_str()), (Some(0), said), "{err}");
    }
    drop(first);
    let second = Serving::start(&scratch);
    let (_, out, err) = scratch.run(&format!("kill ls --admin {}", second.1));
    assert!(out.starts_with("principal agent-7 since ") && out.ends_with(": loops\n"), "{out}{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    drop(second);
    scratch.write("state/kills.json", "{");
    let (code, _, err) = scratch.run("run -c gw.yaml");
    assert!(code == Some(1) && err.contains("kills.json") && err.contains("Mend the file"), "{err}");
}

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

/// The key is printed once, alone on the last line of stdout, and works; a revoked one does not.
#[test]
fn a_key_lives_from_add_to_revoke() {
    let scratch = Scratch::new("key");
    let (code, out, err) =
        scratch.run("key add --file keys.yaml --principal agent-7 --roles support,dev --expires 30d");
    assert_eq!(code, Some(0), "{err}");
    let key = out.lines().next_back().unwrap();
    assert!(key.starts_with("rgk_") && key.len() == 47, "{out}");
    let file = scratch.0.join("keys.yaml");
    let hash = ringgate::config::keys::hash(key.as_bytes());
    let ring = ringgate::config::keys::read(&file).unwrap();
    let id = ring.find(&hash).unwrap().id.clone();
    let (code, out, _) = scratch.run("key list --file keys.yaml");
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{out}");
    assert!(out.contains(&*id) && out.contains("support,dev") && out.contains("never") && !out.contains(key));
    let (code, _, err) = scratch.run("key revoke --file keys.yaml nosuch");
    assert_eq!(code, Some(1), "{err}");
    let (code, out, _) = scratch.run(&format!("key revoke --file keys.yaml {id}"));
    assert_eq!((code, out), (Some(0), format!("revoked {id}\n")));
    assert!(ringgate::config::keys::read(&file).unwrap().find(&hash).is_none());
    let (code, _, err) = scratch.run("key add --file none/keys.yaml --principal a");
    assert_eq!(code, Some(1));
    assert!(err.starts_with("none/keys.yaml: cannot lock `none/keys.yaml`: there is no such file."), "{err}");
}

/// A key that could not be printed is a failure that is told.
#[test]
fn a_full_stdout_is_told() {
    let scratch = Scratch::new("full");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate")).arg("version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("cannot write to stdout: "));
    drop(scratch);
}

/// A key that nobody saw stayed valid, and nobody knew its id.
#[test]
fn a_key_that_cannot_be_shown_can_be_taken_back() {
    let scratch = Scratch::new("unseen");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command
        .current_dir(&scratch.0)
        .args(["key", "add", "--file", "keys.yaml", "--principal", "a"])
        .stdout(full);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let cure = told.split_once("`ringgate ").and_then(|(_, rest)| rest.split_once('`')).expect(&told).0;
    let (code, out, err) = scratch.run(cure);
    assert!(code == Some(0) && out.starts_with("revoked "), "{cure}: {out}{err}");
}

/// Feature: which key to revoke can be said in two ways, and the usage tells both.
#[test]
fn revoke_without_a_key_tells_both_ways_to_name_one() {
    let (code, _, err) = Scratch::new("which").run("key revoke --file k");
    assert!(code == Some(2) && err.contains("ID") && err.contains("--principal"), "{err}");
}

/// Where it listens was lost in silence.
#[test]
fn where_a_gateway_listens_is_told_on_stderr_if_stdout_is_full() {
    let scratch = Scratch::new("unheard");
    scratch.write(
        "gw.yaml",
        "listen: 127.0.0.1:0\nadmin: off\nmcpServers: {a: {url: \"http://localhost:1/mcp\"}}\n",
    );
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // One that says nothing ends, and the test with it.
    let mut command = Command::new("timeout");
    command.current_dir(&scratch.0).args(["20", env!("CARGO_BIN_EXE_ringgate"), "run", "--driver", "epoll"]);
    let mut gateway = command.args(["-c", "gw.yaml"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let told = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on 127.0.0.1:")));
    let id = rustix::process::Pid::from_child(&gateway);
    // Ended already where it said nothing.
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    gateway.wait().unwrap();
    assert!(told.is_some(), "it ended without saying where it listens");
}
