//! `ringgate demo` as a newcomer runs it: the real binary, the printed lines pasted, Ctrl-C at the end.
//!
//! The printed lines are tried on both drivers, or on the one that `RINGGATE_TEST_DRIVER` names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use ringgate::base::clock;
use ringgate::cli::demo::calls::Call;
use ringgate::cli::demo::calls::Caller;
use ringgate::cli::demo::client::Client;
use ringgate::cli::demo::client::Request;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// A hang is a failure: longer than anything here takes on a busy machine.
const SILENCE: Duration = Duration::from_secs(30);

/// A running demo with a temporary directory of its own.
struct Demo {
    child: Child,
    lines: mpsc::Receiver<String>,
    greeting: Vec<String>,
    directory: PathBuf,
}

impl Demo {
    fn start(test: &str, options: &[&str]) -> Self {
        Self::on(&drivers()[0], test, options)
    }

    fn on(driver: &str, test: &str, options: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("ringgate-test-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let mut child = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--driver", driver])
            .args(options)
            .env("TMPDIR", &directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads on to the end, so that the demo never waits for a reader of its log.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut demo = Self { child, lines, greeting: Vec::new(), directory };
        loop {
            let line = demo.lines.recv_timeout(SILENCE).unwrap();
            let is_last = line.starts_with("Ctrl-C");
            demo.greeting.push(line);
            if is_last {
                return demo;
            }
        }
    }

    /// The second word of the line that starts with `label`.
    fn told(&self, label: &str) -> &str {
        let line = self.greeting.iter().find(|line| line.split_whitespace().next() == Some(label));
        line.unwrap().split_whitespace().last().unwrap()
    }

    /// The printed command that contains `word`, as it stands there.
    fn pasted(&self, word: &str) -> String {
        let text = self.greeting.join("\n");
        let blocks = text.split("\n\n");
        blocks
            .filter(|block| block.starts_with("curl"))
            .find(|block| block.contains(word))
            .unwrap()
            .to_owned()
    }

    fn address(&self, label: &str) -> String {
        let url = self.told(label);
        url.trim_start_matches("http://").split('/').next().unwrap().to_owned()
    }

    fn metrics(&self) -> String {
        let request =
            Request { method: "GET", target: "/metrics".to_owned(), fields: Vec::new(), body: String::new() };
        let answer = connect(&self.address("metrics")).call(&request).unwrap();
        assert_eq!(answer.head.status, 200);
        String::from_utf8(answer.body).unwrap()
    }

    /// Ends it as Ctrl-C (INT) or a service manager (TERM) does.
    fn end(mut self, signal: Signal) -> ExitStatus {
        let id = Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
        // Its stdout closes when it is gone; a demo that does not end is killed by `drop`.
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the demo does not end"),
            }
        }
        let status = self.child.wait().unwrap();
        let left: Vec<_> = std::fs::read_dir(&self.directory).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        status
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.arg("demo").args(options);
    command
}

fn drivers() -> Vec<String> {
    match std::env::var("RINGGATE_TEST_DRIVER") {
        Ok(driver) => vec![driver],
        Err(_) => vec!["uring".to_owned(), "epoll".to_owned()],
    }
}

fn connect(address: &str) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    Client::new(stream, address)
}

/// What curl would send for a printed command: address and request.
fn parsed(command: &str) -> (String, Request) {
    // Text in single quotes stands at every odd place; no value of the demo contains a quote.
    let words: Vec<&str> = command.split('\'').collect();
    let (address, path) = words[1].trim_start_matches("http://").split_once('/').unwrap();
    let mut request =
        Request { method: "POST", target: format!("/{path}"), fields: Vec::new(), body: String::new() };
    for pair in words[2..].chunks_exact(2) {
        match pair[0].trim_matches([' ', '\\', '\n']) {
            "-H" => {
                let (name, value) = pair[1].split_once(": ").unwrap();
                request.fields.push((name.to_owned().leak(), value.to_owned()));
            }
            "-d" => request.body = pair[1].to_owned(),
            other => panic!("unknown option {other:?}"),
        }
    }
    (address.to_owned(), request)
}

/// The body that the printed command gets, from the raw request and, where there is one, from curl.
fn answers(command: &str) -> Vec<Vec<u8>> {
    let (address, request) = parsed(command);
    let mut bodies = vec![connect(&address).call(&request).unwrap().body];
    match Command::new("sh").args(["-c", command]).output() {
        Ok(done) if done.status.success() => bodies.push(done.stdout),
        // 127: the shell found no such command.
        Ok(done) if done.status.code() == Some(127) => {
            eprintln!("no curl here: sent the request itself only")
        }
        other => panic!("{command}\n{other:?}"),
    }
    bodies
}

#[test]
fn the_modern_line_works_when_pasted() {
    for driver in drivers() {
        let demo = Demo::on(&driver, "modern", &[]);
        for body in answers(&demo.pasted("order_status")) {
            let message: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(message["result"]["structuredContent"]["status"], "shipped", "{message}");
        }
        assert_eq!(demo.end(Signal::TERM).code(), Some(0));
    }
}

#[test]
fn the_streaming_line_works_when_pasted() {
    for driver in drivers() {
        let demo = Demo::on(&driver, "streaming", &[]);
        for body in answers(&demo.pasted("run_backup")) {
            let text = String::from_utf8(body).unwrap();
            assert_eq!(text.matches("notifications/progress").count(), 10, "{text}");
            assert!(text.contains("\"complete\""), "{text}");
        }
        assert_eq!(demo.end(Signal::TERM).code(), Some(0));
    }
}

#[test]
fn the_initialize_line_works_when_pasted() {
    for driver in drivers() {
        let demo = Demo::on(&driver, "initialize", &[]);
        for body in answers(&demo.pasted("\"initialize\"")) {
            let text = String::from_utf8(body).unwrap();
            assert!(text.contains("\"protocolVersion\":\"2025-11-25\""), "{text}");
        }
        assert_eq!(demo.end(Signal::INT).code(), Some(0));
    }
}

#[test]
fn both_keys_open_both_servers_and_none_opens_nothing() {
    let demo = Demo::start("keys", &[]);
    let address = demo.address("shop");
    let status = |target: &str, key: Option<&str>| {
        let caller = Caller { target: target.to_owned(), key: key.map(str::to_owned) };
        connect(&address).call(&caller.modern(1, &Call::plain("tools/list"))).unwrap().head.status
    };
    for target in ["/mcp/shop", "/mcp/operations"] {
        assert_eq!(status(target, Some(demo.told("support-agent"))), 200);
        assert_eq!(status(target, Some(demo.told("ops-agent"))), 200);
        assert_eq!(status(target, None), 401);
        assert_eq!(status(target, Some("guessed")), 401);
    }
}

/// One agent does not see what the other may call, and is refused what the arguments decide.
#[test]
fn access_rules_hide_and_refuse() {
    let demo = Demo::start("access", &[]);
    let mut listed = 0;
    for body in answers(&demo.pasted("tools/list")) {
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let tools = answer["result"]["tools"].as_array().unwrap();
        assert!(tools.iter().any(|tool| tool["name"] == "list_services"), "{answer}");
        assert!(tools.iter().all(|tool| tool["name"] != "run_backup"), "{answer}");
        listed += 1;
    }
    assert!(listed > 0);
    let mut all = 0;
    for body in answers(&demo.pasted("/mcp'")) {
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let tools = answer["result"]["tools"].as_array().unwrap();
        for name in ["shop__order_status", "operations__list_services"] {
            assert!(tools.iter().any(|tool| tool["name"] == name), "{answer}");
        }
        assert!(tools.iter().all(|tool| tool["name"] != "operations__run_backup"), "{answer}");
        all += 1;
    }
    assert!(all > 0);
    for body in answers(&demo.pasted("60000")) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let answer: Value = serde_json::from_str(text.rsplit("\r\n\r\n").next().unwrap()).unwrap();
        assert_eq!(answer["error"]["data"]["rule"], "access.large-refunds", "{answer}");
    }
    assert!(demo.end(Signal::INT).success());
}

/// A token of an issuer is as good as a key; a scope that it lacks is asked for, and who shows nothing is told where to go.
#[test]
fn a_token_opens_and_lacks_a_scope_that_is_named() {
    let demo = Demo::start("token", &[]);
    let answered = |line: &str| {
        let (address, request) = parsed(line);
        connect(&address).call(&request).unwrap()
    };
    let opened = answered(&demo.pasted("track_parcel"));
    let message: Value = serde_json::from_slice(&opened.body).unwrap();
    assert!(opened.head.status == 200 && message.get("error").is_none(), "{message}");
    let refused = answered(&demo.pasted("\"amount_cents\":500"));
    let challenge = refused.head.field("www-authenticate").unwrap();
    assert_eq!(refused.head.status, 403);
    for part in ["error=\"insufficient_scope\"", "scope=\"shop:refund\""] {
        assert!(challenge.contains(part), "{challenge}");
    }
    let target = "/.well-known/oauth-protected-resource/mcp/shop";
    assert!(demo.greeting.iter().any(|line| line.contains(target)));
    let get = Request { method: "GET", target: target.to_owned(), fields: Vec::new(), body: String::new() };
    let told = connect(&demo.address("shop")).call(&get).unwrap();
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["authorization_servers"], json!(["https://idp.example"]), "{told}");
    assert_eq!(told["scopes_supported"], json!(["shop:refund"]), "{told}");
    // The same call without the token.
    let (address, mut request) = parsed(&demo.pasted("track_parcel"));
    request.fields.retain(|(name, _)| *name != "Authorization");
    let answer = connect(&address).call(&request).unwrap();
    assert!(answer.head.status == 401 && answer.head.field("www-authenticate").unwrap().contains(target));
    assert!(demo.end(Signal::INT).success());
}

#[test]
fn metrics_move_with_a_call() {
    let demo = Demo::start("metrics", &[]);
    let series = "tool=\"order_status\"";
    let counted = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("ringgate_requests_total{"));
        let values = lines.filter(|line| line.contains(series)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>()
    };
    assert_eq!(counted(&demo.metrics()), 0.0);
    let (address, request) = parsed(&demo.pasted("order_status"));
    for calls in [1.0, 2.0] {
        assert_eq!(connect(&address).call(&request).unwrap().head.status, 200);
        // A call is counted when the last byte of its answer was taken, because its outcome and its time are
        // known no earlier: who reads faster than the worker counts must look again.
        let deadline = clock::now().plus_millis(5_000);
        while counted(&demo.metrics()) < calls && clock::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(counted(&demo.metrics()), calls);
    }
}

/// The limit of the demo is met by the printed line, told to the client, counted, and explained as it happens.
#[test]
fn the_limit_refuses_the_fourth_report_and_explain_says_so() {
    let demo = Demo::start("limit", &[]);
    let line = demo.pasted("export_report");
    let (address, request) = parsed(&line);
    let mut client = connect(&address);
    let explain = demo.greeting.iter().find(|line| line.contains("explain -c")).unwrap();
    assert!(explain.contains("--after 3"), "{explain}");
    let answers: Vec<_> = (0..4).map(|_| client.call(&request).unwrap()).collect();
    for (before, answer) in answers.iter().enumerate() {
        let command = explain.replace("--after 3", &format!("--after {before}"));
        let told = Command::new("sh").args(["-c", &command]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let (status, verdict) = match before {
            3 => (429, "refused: 429 rate_limited by limits.reports"),
            _ => (200, "allowed"),
        };
        assert_eq!(
            (answer.head.status, told.lines().next_back()),
            (status, Some(verdict)),
            "{before}: {told}"
        );
        assert_eq!(answer.head.field("ratelimit-policy"), Some("\"reports\";q=6;w=60"));
        assert_eq!(answer.head.field("retry-after").is_some(), before == 3);
    }
    let other = Caller { target: "/mcp/shop".to_owned(), key: Some(demo.told("ops-agent").to_owned()) };
    let report = Call::tool("export_report", json!({ "bytes": 1_000 }));
    let answer = connect(&address).call(&other.modern(1, &report)).unwrap();
    assert_eq!(answer.head.status, 200, "the other agent has no such limit");
    let metrics = demo.metrics();
    assert!(metrics.lines().any(|line| line == "ringgate_limited_total{limit=\"reports\"} 1"), "{metrics}");
    for socket in ["sample.sock", "second.sock"] {
        let asked =
            |line: &str| line.starts_with("ringgate_upstream_requests_total") && line.contains(socket);
        assert!(metrics.lines().any(asked), "{socket}: both instances are asked\n{metrics}");
    }
}

/// Two slow queries open the breaker of their tool: the third is refused at once, and other tools go on.
#[test]
fn the_breaker_refuses_the_third_slow_query() {
    let demo = Demo::start("breaker", &[]);
    let (address, request) = parsed(&demo.pasted("slow_query"));
    let mut client = connect(&address);
    let answers: Vec<_> = (0..3).map(|_| client.call(&request).unwrap()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.head.status).collect();
    assert_eq!(statuses, [504, 504, 503]);
    let refused: Value = serde_json::from_slice(&answers[2].body).unwrap();
    assert_eq!(refused["error"]["data"]["rule"], "mcpServers.operations.breaker", "{refused}");
    assert!(answers[2].head.field("retry-after").is_some());
    let caller =
        Caller { target: "/mcp/operations".to_owned(), key: Some(demo.told("ops-agent").to_owned()) };
    let other = Call::tool("list_services", json!({}));
    assert_eq!(connect(&address).call(&caller.modern(1, &other)).unwrap().head.status, 200);
}

/// The printed commands stop a tool for everybody and let it pass again.
#[test]
fn the_kill_switch_stops_a_tool_and_lets_it_pass_again() {
    let demo = Demo::start("kill", &[]);
    let (address, request) = parsed(&demo.pasted("order_status"));
    let order = || connect(&address).call(&request).unwrap();
    assert_eq!(order().head.status, 200);
    for (word, status) in [(" kill tool", 403), (" unkill tool", 200)] {
        let command = demo.greeting.iter().find(|line| line.contains(word)).unwrap();
        let done = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        // A switch acts on every worker within 100 ms.
        let deadline = clock::now().plus_millis(10_000);
        while order().head.status != status && clock::now() < deadline {
            std::thread::yield_now();
        }
        let answer = order();
        assert_eq!(answer.head.status, status, "{command}");
        let refused = String::from_utf8_lossy(&answer.body).contains("\"rule\":\"kill.tool\"");
        assert_eq!(refused, status == 403, "{answer:?}");
    }
}

#[test]
fn traffic_reaches_tools_of_both_servers() {
    let demo = Demo::start("traffic", &["--traffic"]);
    let caller =
        Caller { target: "/mcp/operations".to_owned(), key: Some(demo.told("ops-agent").to_owned()) };
    // A slow call is the clock of this test: each takes 300 ms, the load's rounds about four seconds.
    let wait = Call::tool("slow_query", json!({ "sql": "select 1", "delay_ms": 300 }));
    let wanted = ["issue_refund", "track_parcel", "export_report", "run_backup", "restart_service"];
    let address = demo.address("shop");
    let seen = (1..=100).any(|id| {
        connect(&address).call(&caller.modern(id, &wait)).unwrap();
        let metrics = demo.metrics();
        wanted.iter().all(|tool| metrics.contains(&format!("tool=\"{tool}\"")))
    });
    assert!(seen, "{}", demo.metrics());
    assert_eq!(demo.end(Signal::INT).code(), Some(0));
}

#[test]
fn a_taken_port_is_told_with_its_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let done = command(&[option, &address, other, "127.0.0.1:0"]).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let said = String::from_utf8(done.stderr).unwrap();
        for part in [address.as_str(), "taken by another process", &format!("{option} 127.0.0.1:0")] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
    }
}
