//! The configuration as an operator meets it: every mistake at once, each with its place, and never a
//! secret in a message.

#[path = "config/access.rs"]
mod access;
#[path = "config/credentials.rs"]
mod credentials;
#[path = "config/hubs.rs"]
mod hubs;
#[path = "config/identity.rs"]
mod identity;
#[path = "config/limits.rs"]
mod limits;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/tls.rs"]
mod tls;
#[path = "config/traffic.rs"]
mod traffic;

use ringgate::config;
use ringgate::config::Loaded;
use ringgate::config::plan::CallLog;
use ringgate::config::plan::Plan;
use ringgate::config::plan::Transport;
use ringgate::config::problem::Problems;
use std::path::Path;

const CANARY: &str = "canary-4f1c9d";

fn load(text: &str) -> Result<Loaded, Problems> {
    let environment = |name: &str| match name {
        "SECRET" => Some(CANARY.to_owned()),
        "PORT" => Some("8081".to_owned()),
        "INJECT" => Some("x, url: http://evil.example # ".to_owned()),
        "BREAK" => Some(format!("{CANARY}\r\nX-Evil: 1")),
        _ => None,
    };
    config::load_with(text, "a.yaml", Path::new(env!("CARGO_MANIFEST_DIR")), &environment)
}

fn plan(text: &str) -> Plan {
    load(text).unwrap_or_else(|problems| panic!("{text}\n{problems}")).plan
}

/// Each problem as its line.
fn problems(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// One server, and more keys at the root.
fn with(more: &str) -> String {
    format!("mcpServers: {{a: {{url: \"http://localhost:1/mcp\"}}}}\n{more}\n")
}

/// One server with these members.
fn server(members: &str) -> String {
    format!("mcpServers:\n  a: {{{members}}}\n")
}

/// `»` marks where the only problem of the text stands; it says `what`.
fn check(marked: &str, what: &str) {
    let Some((before, after)) = marked.split_once('»') else { panic!("no mark in {marked}") };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let found = problems(&format!("{before}{after}"));
    assert_eq!(found.len(), 1, "{marked}\n{found:#?}");
    assert!(found[0].starts_with(&format!("a.yaml:{line}:{column}: ")), "{marked}\n{found:#?}");
    assert!(found[0].contains(what), "{marked}\n{found:#?}");
}

#[test]
fn the_plain_case() {
    let plan = plan(
        "mcpServers:\n  github:\n    url: http://10.0.0.7:3000/mcp\n    headers: {Authorization: Bearer x}\n",
    );
    assert_eq!(plan.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(plan.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:9090"));
    assert_eq!(plan.by_name.get("github"), Some(&0));
    assert_eq!(plan.http.max_body, 4 * 1024 * 1024);
    let server = &plan.servers[0];
    assert_eq!(&*server.instances[0].label, "http://10.0.0.7:3000");
    assert_eq!(server.instances[0].transport, Transport::Address("10.0.0.7:3000".parse().unwrap()));
    assert_eq!(&*server.headers[0].name, b"authorization");
    assert_eq!(server.timeout.total_ms, 600_000);
    assert!(server.tls.is_none());
    assert_eq!(plan.identity.anonymous.as_deref(), Some("anonymous"));
    assert_eq!(plan.call_log, CallLog::Off);
    assert_eq!(plan.digest.len(), 16);
}

/// Feature `streaming`: silence does not end a stream, unless the operator says so (agentgateway #248).
#[test]
fn streams_last_as_long_as_nothing_is_said() {
    let server = "mcpServers:\n  up:\n    url: http://10.0.0.7:3000/mcp\n";
    let silent = plan(server);
    let timeout = silent.servers[0].timeout;
    assert_eq!((timeout.stream_idle_ms, timeout.stream_total_ms), (u64::MAX, u64::MAX));
    assert_eq!((timeout.idle_ms, timeout.total_ms), (300_000, 600_000));
    assert_eq!(silent.http.stream_comment_ms, 15_000);
    let told = plan(&format!("{server}    timeout: {{idle: 7s, total: 9s}}\n"));
    let timeout = told.servers[0].timeout;
    assert_eq!((timeout.stream_idle_ms, timeout.stream_total_ms), (7_000, 9_000));
}

/// Issue: "A config with ten different mistakes yields ten located messages".
#[test]
fn ten_mistakes_are_ten_located_messages() {
    let text = r#"lisen: 127.0.0.1:8080
admin: {address: 10.0.0.1:9090}
workers: many
http: {maxBody: 4, drain: 30}
timeout: {total: 3s}
mcpServers:
  git__hub: {url: http://10.0.0.7/mcp, plaintext: yes}
  files: {url: "ftp://x", era: moden}
  old: {type: sse, url: http://localhost/sse}
"#;
    let expected = [
        ("1:1", "`lisen` is not a key. Did you mean `listen`?"),
        ("2:18", "an admin listener beyond loopback"),
        ("3:10", "`many` is not a value of this key. It is between 1 and 256."),
        ("4:17", "`4` is not a value of this key. A size"),
        ("4:27", "`30` is not a value of this key. A duration"),
        ("5:1", "`timeout` is not a key. It belongs under `mcpServers.NAME`."),
        ("7:3", "the server name `git__hub` has `__`"),
        ("7:51", "`yes` is not a value of this key. It is one of: true, false."),
        ("8:16", "the url does not start with"),
        ("8:32", "`moden` is not a value of this key. Did you mean `modern`?"),
        ("9:15", "`type: sse`"),
    ];
    let found = problems(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (place, what)) in found.iter().zip(expected) {
        assert!(
            found.starts_with(&format!("a.yaml:{place}: {what}")),
            "{found}\nexpected at {place}: {what}"
        );
    }
}

/// agentgateway #1266: a failure mode was ignored at parse. An unknown or misplaced key is an error
/// with its line, in every mapping that there is.
#[test]
fn agentgateway_1266_no_ignored_key() {
    for more in [
        "»failureMode: failOpen",
        "http: {»failureMode: x}",
        "admin: {address: \"127.0.0.1:1\", »failureMode: x}",
        "listen: {address: \"127.0.0.1:1\", »failureMode: x}",
        "listen: [{address: \"127.0.0.1:1\", »failureMode: x}]",
        "identity: {»failureMode: x}",
        "identity: {apiKeys: {file: examples/keys.yaml, »failureMode: x}}",
        "telemetry: {»failureMode: x}",
        "telemetry: {callLog: {file: x, »failureMode: x}}",
        "limits: [{name: l, key: principal, rate: 1/s, »failureMode: x}]",
        "limitTable: {»failureMode: x}",
        "usage: {»failureMode: x}",
        "state: {dir: x, »failureMode: x}",
    ] {
        check(&with(more), "`failureMode` is not a key");
    }
    for members in [
        "url: \"http://localhost:1/\", »failureMode: x",
        "url: \"http://localhost:1/\", timeout: {»failureMode: x}",
        "url: \"https://localhost:1/\", tls: {»failureMode: x}",
        "instances: [{url: \"http://localhost:1/\", »failureMode: x}]",
        "pools: {p: {url: \"http://localhost:1/\", »failureMode: x}}",
        "pools: {p: {instances: [{url: \"http://localhost:1/\", »failureMode: x}]}}",
        "url: \"http://localhost:1/\", health: {»failureMode: x}",
        "url: \"http://localhost:1/\", breaker: {»failureMode: x}",
        "url: \"http://localhost:1/\", adaptive: {»failureMode: x}",
        "url: \"http://localhost:1/\", retry: {»failureMode: x}",
        "url: \"http://localhost:1/\", faults: [{ratio: 1, cut: true, »failureMode: x}]",
    ] {
        check(&server(members), "`failureMode` is not a key");
    }
    // Misplaced: known elsewhere.
    check(&with("http: {»callLog: stdout}"), "It belongs under `telemetry`.");
    check(&server("url: \"http://localhost:1/\", »maxBody: 1MiB"), "It belongs under `http`.");
    // Known, later: not "unknown", and never ignored.
    check(&with("»audit: {}"), "`audit` is not available in this version");
    check(&server("url: \"http://localhost:1/\", »mirror: x"), "not available in this version");
    // Written twice: which of them counts?
    check(&with("workers: 1\n»workers: 2"), "`workers` stands here a second time. The first one is at 2:1.");
    check(&with("http»:"), "expected keys and values, found nothing");
}

#[test]
fn what_is_no_yaml_has_a_place_and_a_cure() {
    check("mcpServers:\n\t»a: 1\n", "spaces, not by tabs");
    check("mcpServers: {a: {url: $»{A}}}\n", "must be quoted");
    check("»", "the file is empty");
    check("»- a\n", "expected keys and values, found a list");
    check("a: 1\n»---\na: 1\n", "a second document");
    check("mcpServers: »!x {}\n", "tags are not used");
    check("a: &a [»*a]\n", "an alias inside what it stands for");
    check("a: »*b\n", "anchor");
    check(&format!("{}»{}", "[".repeat(64), "[".repeat(100)), "nested more than 64 levels deep");
    check(&format!("{}»a: 1\n", "? ".repeat(64)), "nested more than 64 levels deep");
    let large = load(&"#".repeat(5 * 1024 * 1024)).unwrap_err().to_string();
    assert_eq!(large, "a.yaml: the config is larger than 4MiB.");
    let missing = config::load(Path::new("/nowhere/a.yaml")).unwrap_err().to_string();
    assert!(
        missing.starts_with("/nowhere/a.yaml: cannot read the config: there is no such file. "),
        "{missing}"
    );
}

#[test]
fn aliases_are_counted_in_full() {
    let doubled =
        |level: usize| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
    let bomb: String = (1..5).map(doubled).collect();
    // 11, 111, … 111,111 values; five of the ten last ones would still be allowed with what stood before.
    let last = "a5: &a5 [*a4,*a4,*a4,»*a4,*a4]\n";
    check(
        &format!("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{bomb}{last}"),
        "more than 500000 values, aliases counted in full",
    );
    let chain: String = (1..62).map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1)).collect();
    check(&format!("a0: &a0 [x]\n{chain}a62: »[*a61]\n"), "nested more than 64 levels deep");
}

/// A file of another kind makes a short report, and makes it soon.
#[test]
fn a_report_is_bounded() {
    let strangers: String = (0..50_000).map(|index| format!("k{index}: 1\n")).collect();
    let found = problems(&with(&strangers));
    assert_eq!(found.len(), 201);
    assert_eq!(found[200], "a.yaml: and 49800 more problems.");
}

#[test]
fn json_of_a_client_is_a_config() {
    let text = "\u{feff}{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {\"type\": \"streamable-http\", \"url\": \"https://x.example/mcp\", \
                \"timeout\": 60, \"alwaysAllow\": [\"x\"], \"description\": \"d\"},\r\n\t\t\"b\": {\"command\": \"npx\", \
                \"args\": [\"-y\"], \"env\": {\"K\": \"${NOT_SET}\"}, \"disabled\": true},\r\n\t},\r\n}\r\n";
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.plan.servers.len(), 1);
    assert!(loaded.plan.servers[0].tls.is_some());
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert!(warnings.iter().any(|warning| warning.contains("server `b` is disabled")));
    check(
        &server("type: stdio, »command: npx, args: [-y], env: {A: b}"),
        "`command` (a server over stdio) comes with a later version. Run it behind a bridge",
    );
    check(&with("»servers: {}"), "Write `mcpServers`.");
}

#[test]
fn values_stay_what_was_written() {
    let text = server("url: \"http://localhost:1/mcp\", headers: {A: no, B: 012, C: 1.10, D: '  x  '}");
    let plan = plan(&text);
    let values: Vec<&[u8]> = plan.servers[0].headers.iter().map(|header| &*header.value).collect();
    assert_eq!(values, [&b"no"[..], b"012", b"1.10", b"x"]);
}

#[test]
fn references_are_expanded_in_values_only() {
    let dir = std::env::temp_dir().join(format!("ringgate-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("github"), "from-file\n").unwrap();
    let environment = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => Some(dir.display().to_string()),
        "INJECT" => Some("x, url: http://evil.example # ".to_owned()),
        _ => None,
    };
    let text = "mcpServers:\n  a:\n    url: http://localhost:${PORT:-81}/mcp\n    headers:\n      \
                Authorization: Bearer ${file:${CREDENTIALS_DIRECTORY}/github}\n      B: ${file:github}\n      \
                C: ${INJECT}\n";
    let loaded =
        config::load_with(text, "a.yaml", &dir, &environment).unwrap_or_else(|problems| panic!("{problems}"));
    let server = &loaded.plan.servers[0];
    let values: Vec<&[u8]> = server.headers.iter().map(|header| &*header.value).collect();
    assert_eq!(values, [&b"Bearer from-file"[..], b"from-file", b"x, url: http://evil.example #"]);
    assert_eq!(&*server.instances[0].label, "http://localhost:81");
    assert_eq!(loaded.watched, [dir.join("github")]);
    // Another secret is another plan.
    std::fs::write(dir.join("github"), "rotated\n").unwrap();
    let rotated =
        config::load_with(text, "a.yaml", &dir, &environment).unwrap_or_else(|problems| panic!("{problems}"));
    assert_ne!(rotated.plan.digest, loaded.plan.digest);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Wherever a secret is put, rightly or wrongly, no message repeats it.
#[test]
fn no_message_contains_a_secret() {
    let places = [
        "listen: \"${SECRET}\"",
        "admin: \"${SECRET}\"",
        "admin: {address: \"${SECRET}\"}",
        "workers: \"${SECRET}\"",
        "http: {maxBody: \"${SECRET}\", drain: \"${SECRET}\", streamComment: \"${SECRET}\"}",
        "http: {hosts: [\"${SECRET}/\"], origins: [\"${SECRET}\"]}",
        "identity: {apiKeys: {file: \"${file:${SECRET}}\"}}",
        "identity: {anonymous: \"${SECRET}\\u200b\"}",
        "telemetry: {callLog: \"${SECRET}\"}",
        "limits: [{name: \"${SECRET} x\", key: [\"${SECRET}\"], rate: \"${SECRET}\", burst: \"${SECRET}\"}]",
        "limits: [{name: a, key: \"${SECRET} bad\", quota: \"${SECRET}\", tz: \"${SECRET}\"}]",
        "limits: [{name: a, key: tool, quota: 1/day, tz: \"${SECRET}\", when: \"${SECRET} bad\"}]",
        "limits: [{name: a, key: tool, rate: 1/s, servers: [\"${SECRET}\"], tools: [\"${SECRET}\"]}]",
        "limits: [{name: a, key: tool, rate: 1/s, tools: [\"${SECRET}.x\"], methods: [\"${SECRET}\"]}]",
        "limits: [{name: a, key: tool, rate: 1/s, count: \"${SECRET}\", scope: \"${SECRET}\"}]",
        "limitTable: {buckets: \"${SECRET}\", onFull: \"${SECRET}\"}",
        "usage: {from: [\"${SECRET}\\u200b\"]}",
    ];
    let members = [
        "url: \"${SECRET}\"",
        "url: \"http://${SECRET}@localhost/\"",
        "url: \"http://localhost:${SECRET}/\"",
        "url: \"http://localhost/${SECRET} x\"",
        "url: \"http://localhost/\", headers: {A: \"${BREAK}\"}",
        "url: \"http://localhost/\", headers: {Host: \"${SECRET}\"}",
        "url: \"http://localhost/\", era: \"${SECRET}\", balance: \"${SECRET}\"",
        "url: \"http://localhost/\", plaintext: \"${SECRET}\", type: \"${SECRET}\"",
        "url: \"http://localhost/\", timeout: {total: \"${SECRET}\"}",
        "url: \"https://localhost/\", tls: {ca: \"${SECRET}\", serverName: \"${SECRET} x\"}",
        "url: \"http://localhost/\", headers: {A: \"${SECRET}${NOT_SET}\"}",
        "instances: [{url: \"http://localhost/\", weight: \"${SECRET}\"}]",
        "url: \"http://localhost/\", health: \"${SECRET}\", breaker: {failureRatio: \"${SECRET}\"}",
        "url: \"http://localhost/\", adaptive: {min: \"${SECRET}\", target: \"${SECRET}\"}",
        "url: \"http://localhost/\", retry: {hedge: \"${SECRET}\"}, upstreamLimit: \"${SECRET}\"",
        "url: \"http://localhost/\", faults: [{ratio: \"${SECRET}\", delay: \"${SECRET}\"}]",
        "pools: {a: {url: \"http://localhost/\"}}, failover: \"${SECRET}\"",
    ];
    let texts = places.iter().map(|more| with(more)).chain(members.iter().map(|members| server(members)));
    for text in texts {
        for problem in problems(&text) {
            assert!(!problem.contains(CANARY), "{text}\n{problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }
    let loaded =
        load(&server("url: \"http://localhost/\", headers: {Authorization: \"${SECRET}\"}")).unwrap();
    assert!(!format!("{loaded:?}").contains(CANARY));
}

#[test]
fn injected_headers_cannot_break_http() {
    for name in
        ["Host", "connection", "Transfer-Encoding", "Content-Length", "Content-Type", "Mcp-Session-Id", "TE"]
    {
        let text = server(&format!("url: \"http://localhost/\", headers: {{»{name}: x}}"));
        check(&text, "is the gateway's own to set");
    }
    check(&server("url: \"http://localhost/\", headers: {»\"a b\": x}"), "is not a token");
    check(&server("url: \"http://localhost/\", headers: {a: »\"x\\r\\ny: z\"}"), "a line break");
    check(&server("url: \"http://localhost/\", headers: {a: »\"x\\0\"}"), "control character");
    check(&server("url: \"http://localhost/\", headers: {a: »\" \"}"), "is empty");
    check(&server("url: \"http://localhost/\", headers: {a: x, »A: y}"), "`A` stands here a second time");
}

#[test]
fn names_collide_ignoring_case() {
    let text =
        "mcpServers:\n  GitHub: {url: \"http://localhost/\"}\n  »github: {url: \"http://localhost/\"}\n";
    check(text, "`github` and `GitHub` differ in case only. `GitHub` is at 2:3; rename one.");
    for name in ["1a", "a__b", "a_", "a.b", "_a", "a23456789012345678901234567890123"] {
        check(&format!("mcpServers: {{»\"{name}\": {{url: \"http://localhost/\"}}}}\n"), "the server name");
    }
}

#[test]
fn plain_http_to_a_public_address_must_be_meant() {
    check(&server("url: »\"http://8.8.8.8/mcp\""), "`plaintext: true`");
    assert_eq!(plan(&server("url: \"http://8.8.8.8/mcp\", plaintext: true")).servers.len(), 1);
    assert_eq!(plan(&server("url: \"http://192.168.1.1/mcp\"")).servers.len(), 1);
    for named in ["mcp.example", "mcp.example.", "test.example", "a.localhost.example"] {
        check(&server(&format!("url: »\"http://{named}/\"")), "Write `https://`, or `plaintext: true`");
    }
    check(&server("pools: {v1: {url: »\"http://mcp.example/\"}}"), "a name that may be public");
    let warned = |members: &str| load(&server(members)).unwrap().warnings.len();
    for good in [
        "url: \"http://mcp.example/\", plaintext: true",
        "url: \"https://mcp.example/\"",
        "url: \"http://search:3000/\"",
        "url: \"http://mcp.svc.cluster.local/\"",
        "url: \"http://mcp.internal/\"",
    ] {
        assert_eq!(warned(good), 0, "{good}");
    }
}

/// Feature, zero trust: a listener beyond loopback without identity is a start error.
#[test]
fn zero_trust_exposed_listeners_need_an_identity() {
    check(&with("listen: »0.0.0.0:8080"), "`identity: {anonymous: NAME}`");
    check(&with("listen: [127.0.0.1:1, »\"[::]:8080\"]"), "no identity is configured");
    let anonymous = |more: &str| plan(&with(more)).identity.anonymous.map(|name| name.to_string());
    assert_eq!(anonymous("listen: 0.0.0.0:1\nidentity: {anonymous: guest}").as_deref(), Some("guest"));
    assert_eq!(anonymous("listen: 0.0.0.0:1\nidentity: {apiKeys: {file: examples/keys.yaml}}"), None);
    let both = "identity: {apiKeys: {file: examples/keys.yaml}, anonymous: guest}";
    assert_eq!(anonymous(both).as_deref(), Some("guest"));
    assert_eq!(anonymous("identity: {anonymous: deny}"), None);
    check(&with("admin: {address: »\"0.0.0.0:9090\"}"), "needs a token");
}

#[test]
fn zero_trust_no_key_exempts_by_address() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
            found.extend(properties.keys().cloned());
        }
        match schema {
            serde_json::Value::Object(object) => object.values().for_each(|value| keys(value, found)),
            serde_json::Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    keys(&config::schema::schema(), &mut found);
    assert!(found.len() > 40, "{found:?}");
    // It lets in fewer of those who have shown a certificate, and nobody without.
    for key in found.iter().filter(|key| *key != "trustDomains") {
        let lowered = key.to_lowercase();
        for word in [
            "trust",
            "exempt",
            "bypass",
            "skip",
            "insecure",
            "whitelist",
            "allowlist",
            "forwarded",
            "cidr",
            "loopback",
        ] {
            assert!(!lowered.contains(word), "`{key}` sounds like an exemption");
        }
    }
}

#[test]
fn a_key_file_is_checked_with_the_config() {
    check(&with("identity: {apiKeys: {file: »examples/none.yaml}}"), "ringgate key add");
    check(&with("identity: {apiKeys: »{}}"), "has no `file`");
    let dir = std::env::temp_dir().join(format!("ringgate-config-keys-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("keys.yaml");
    std::fs::write(&file, "keys:\n  - {id: a, principal: p, hash: rgk_secret}\n  - {id: b, rolls: [x]}\n")
        .unwrap();
    let text = with(&format!("identity: {{apiKeys: {{file: {}}}}}", file.display()));
    let found = problems(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found.iter().any(|problem| problem.contains("keys.yaml:2:33: this is no hash of a key")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|problem| problem.contains("keys.yaml:3:13: `rolls` is not a key")),
        "{found:#?}"
    );
    assert!(!found.concat().contains("rgk_secret"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn listeners_and_bounds() {
    let plan = plan(&with(
        "listen: [127.0.0.1:0, {address: \"[::1]:${PORT}\"}]\nadmin: off\nworkers: 3\n\
         http: {maxBody: 1MB, maxHead: 64KiB, headerTimeout: 1500ms, drain: 0s, streamComment: off, hosts: [GW.example]}",
    ));
    let addresses: Vec<String> = plan.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:0", "[::1]:8081"]);
    assert_eq!((plan.admin, plan.workers, plan.http.max_body), (None, 3, 1_000_000));
    assert_eq!((plan.http.header_timeout_ms, plan.http.drain_ms, plan.http.stream_comment_ms), (1500, 0, 0));
    assert_eq!(&*plan.http.hosts[0], "gw.example");
    check(&with("http: {maxBody: »1GiB}"), "from 1KiB to 256MiB");
    check(&with("http: {headerTimeout: »0s}"), "from 1ms to 1d");
    check(&with("workers: »257"), "between 1 and 256");
    check(&with("listen: »8080"), "is no address to listen on");
    check(&with("listen: »[]"), "the list of listeners is empty");
    check(&with("listen: [127.0.0.1:1, »127.0.0.1:1]"), "a second time");
    check(&with("admin: {address: »\"127.0.0.1:8080\"}"), "overlap");
    check(
        &with("listen: 0.0.0.0:1\nidentity: {anonymous: a}\nadmin: {address: »\"127.0.0.1:1\"}"),
        "overlap",
    );
    check(&with("listen: [127.0.0.1:1, »0.0.0.0:1]\nidentity: {anonymous: a}"), "a second time");
    check("»workers: 1\n", "`mcpServers` is missing");
    check("mcpServers: »{}\n", "names no server");
    check("mcpServers:\n  »a: {}\n", "has no `url`");
    check(&server("url: »\"http://a/\", instances: [{url: \"http://b/\"}]"), "exclude each other");
    check(&server("url: \"http://a/\", tls: »{serverName: a}"), "without an `https://` url");
    check(&server("url: \"https://a/\", tls: {ca: »Cargo.toml}"), "there is no certificate in it");
}

proptest::proptest! {
    /// Whatever is in the file, the answer is a plan or located problems, each one line.
    #[test]
    fn any_text_is_answered(text in "([a-zA-Z]{1,3}|mcpServers|url|http|listen|http://a/|\\$\\{[A-Z]{0,2}|[-:{}\\[\\],#&*!|>'\"% \t\r\n$?0-9])*") {
        if let Err(problems) = load(&text) {
            proptest::prop_assert!(!problems.0.is_empty());
            for problem in problems.0 {
                proptest::prop_assert_eq!(problem.to_string().lines().count(), 1);
            }
        }
    }

    /// A config with one thing changed somewhere is answered too: this gets past the parser.
    #[test]
    fn any_change_of_a_config_is_answered(at in 0_usize..2_000, with in "[-:{}\\[\\],#&*!|>'\"% \t\n$a-z0-9]{0,3}") {
        let text = include_str!("../examples/every-key.yaml");
        let cut = text.char_indices().map(|(index, _)| index).nth(at % text.chars().count()).unwrap_or(0);
        let changed = format!("{}{with}{}", &text[..cut], text[cut..].chars().skip(1).collect::<String>());
        if let Err(problems) = load(&changed) {
            proptest::prop_assert!(!problems.0.is_empty());
            for problem in problems.0 {
                proptest::prop_assert_eq!(problem.to_string().lines().count(), 1, "{}", problem);
            }
        }
    }
}
