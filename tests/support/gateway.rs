//! The gateway under test: the real binary with a config of the test's making, killed at the end.
//!
//! Not here: any knowledge of its inside. Only what a user can type and see.

use super::Era;
use super::Folder;
use super::PATIENCE;
use super::Run;
use super::call::Call;
use super::client::Answer;
use super::client::Client;
use super::eventually;
use super::line::Line;
use super::process;
use super::tls::Secure;
use super::upstream::Upstream;
use std::fmt::Write;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Instant;

/// The gateway's program: the one that cargo built beside the tests, or the one that `RINGGATE_TEST_BINARY` names.
pub fn binary() -> &'static str {
    static NAMED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("RINGGATE_TEST_BINARY").ok());
    NAMED.as_deref().unwrap_or(env!("CARGO_BIN_EXE_ringgate"))
}

/// A config in parts, with a folder for its files.
pub struct Builder {
    run: Run,
    pub folder: Folder,
    listen: String,
    /// A further listener.
    listen_too: Option<String>,
    workers: usize,
    http: Vec<String>,
    top: Vec<String>,
    access: Vec<String>,
    limits: Vec<String>,
    servers: Vec<(String, Vec<String>)>,
    /// Each server is said to speak the client's era, so that nobody asks it.
    pinned: bool,
    /// Principals and their API keys.
    pub(super) keys: Vec<(String, String)>,
    flags: Vec<String>,
    /// `tls` of the listener.
    pub(super) tls: Option<String>,
    /// How clients shake hands.
    pub(super) via: Option<Secure>,
}

/// `[{url: …}, …]`, as `instances` takes it.
pub fn instances(upstreams: &[&Upstream]) -> String {
    let each: Vec<String> = upstreams.iter().map(|up| format!("{{url: \"{}\"}}", up.url)).collect();
    format!("[{}]", each.join(", "))
}

impl Builder {
    pub fn new(run: Run) -> Self {
        Self {
            run,
            folder: Folder::new(),
            listen: "127.0.0.1:0".into(),
            listen_too: None,
            workers: 2,
            http: Vec::new(),
            top: Vec::new(),
            access: Vec::new(),
            limits: Vec::new(),
            servers: Vec::new(),
            pinned: false,
            keys: Vec::new(),
            flags: Vec::new(),
            tls: None,
            via: None,
        }
    }

    #[must_use]
    pub fn to(self, name: &str, upstream: &Upstream) -> Self {
        let url = upstream.url.clone();
        self.server(name, &[&format!("url: \"{url}\"")])
    }

    /// As `to`, with further lines of the server's config.
    #[must_use]
    pub fn with(self, name: &str, upstream: &Upstream, lines: &[&str]) -> Self {
        let url = format!("url: \"{}\"", upstream.url);
        self.server(name, &[&[url.as_str()], lines].concat())
    }

    /// As `with`, for one server of several instances.
    #[must_use]
    pub fn over(self, name: &str, upstreams: &[&Upstream], lines: &[&str]) -> Self {
        let list = format!("instances: {}", instances(upstreams));
        self.server(name, &[&[list.as_str()], lines].concat())
    }

    #[must_use]
    pub fn server(mut self, name: &str, lines: &[&str]) -> Self {
        self.servers.push((name.into(), lines.iter().map(|line| (*line).to_owned()).collect()));
        self
    }

    /// Says of each server that it speaks the client's era: the first request that it gets is the test's own.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// One line below `http:`.
    #[must_use]
    pub fn http(mut self, line: &str) -> Self {
        self.http.push(line.into());
        self
    }

    /// Writes one line a call to `path`.
    #[must_use]
    pub fn call_log(self, path: &Path) -> Self {
        self.top(format!("telemetry: {{callLog: {{file: \"{}\"}}}}", path.display()))
    }

    /// One line at the top level.
    #[must_use]
    pub fn top(mut self, line: impl Into<String>) -> Self {
        self.top.push(line.into());
        self
    }

    /// One access rule, as a flow map without its braces.
    #[must_use]
    pub fn access(mut self, rule: &str) -> Self {
        self.access.push(rule.into());
        self
    }

    /// One limit, as a flow map without its braces.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.limits.push(limit.into());
        self
    }

    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.into();
        self
    }

    /// A further listener, as the config takes it.
    #[must_use]
    pub fn listen_too(mut self, listener: &str) -> Self {
        self.listen_too = Some(listener.into());
        self
    }

    pub fn era(&self) -> Era {
        self.run.era
    }

    /// A further argument of `run`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub fn yaml(&self) -> String {
        let listener = match &self.tls {
            None => format!("\"{}\"", self.listen),
            Some(tls) => format!("{{address: \"{}\", tls: {tls}}}", self.listen),
        };
        let mut yaml = match &self.listen_too {
            None => format!("listen: {listener}\n"),
            Some(more) => format!("listen:\n  - {listener}\n  - {more}\n"),
        };
        writeln!(yaml, "workers: {}", self.workers).unwrap();
        if !self.top.iter().any(|line| line.starts_with("admin:")) {
            yaml.push_str("admin: {address: \"127.0.0.1:0\"}\n");
        }
        for line in &self.top {
            writeln!(yaml, "{line}").unwrap();
        }
        if !self.access.is_empty() {
            writeln!(yaml, "access:\n  - {{{}}}", self.access.join("}\n  - {")).unwrap();
        }
        if !self.limits.is_empty() {
            writeln!(yaml, "limits:\n  - {{{}}}", self.limits.join("}\n  - {")).unwrap();
        }
        if !self.http.is_empty() {
            writeln!(yaml, "http:\n  {}", self.http.join("\n  ")).unwrap();
        }
        yaml.push_str("mcpServers:\n");
        for (name, lines) in &self.servers {
            writeln!(yaml, "  {name}:\n    {}", lines.join("\n    ")).unwrap();
            if self.pinned {
                let era = if self.run.era == Era::Modern { "modern" } else { "legacy" };
                writeln!(yaml, "    era: {era}").unwrap();
            }
        }
        yaml
    }

    /// `ringgate run` with this config, ready to be changed before it starts.
    pub fn command(&self) -> Command {
        self.command_of(&[binary()])
    }

    /// The same below another program, such as a tracer.
    pub fn command_of(&self, program: &[&str]) -> Command {
        let config = self.folder.file("ringgate.yaml", &self.yaml());
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg("run").arg("-c").arg(config);
        command.args(["--driver", self.run.driver.as_str()]).args(&self.flags);
        // A file, as a pipe is read by somebody: what was said before an answer is read after it.
        let mut file = std::fs::OpenOptions::new();
        let stderr = file.create(true).write(true).truncate(true).open(self.said()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command
    }

    /// Where its stderr goes.
    fn said(&self) -> PathBuf {
        self.folder.path().join("stderr")
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn run(self) -> Gateway {
        let command = self.command();
        self.run_as(command)
    }

    #[track_caller]
    pub fn run_as(self, command: Command) -> Gateway {
        match self.start(command) {
            Ok(gateway) => gateway,
            Err((code, stderr)) => panic!("the gateway ended with {code:?}:\n{stderr}"),
        }
    }

    /// Starts it; its exit code and stderr where it ends before it listens.
    pub fn start(self, command: Command) -> Result<Gateway, (Option<i32>, String)> {
        let (process, more) = Process::spawn(command);
        let mut gateway = Gateway {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            config: self.folder.path().join("ringgate.yaml"),
            builder: self,
            ended: false,
        };
        match gateway.listens(&more) {
            true => Ok(gateway),
            false => {
                // Its stdout is closed: it ends, or it hangs and is killed.
                let code = if gateway.address.port() == 0 { gateway.exit_code() } else { None };
                Err((code, gateway.stderr()))
            }
        }
    }
}

/// The child, and what it says.
struct Process {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// The other half gets each line of its stdout.
    fn spawn(mut command: Command) -> (Self, mpsc::Receiver<String>) {
        let mut child = command.spawn().unwrap();
        let (stdout, more) = follow(child.stdout.take().unwrap());
        (Self { child, stdout }, more)
    }
}

/// A running gateway.
pub struct Gateway {
    process: Process,
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub config: PathBuf,
    pub builder: Builder,
    ended: bool,
}

impl Gateway {
    /// Waits until it listens; false where it ends before that.
    fn listens(&mut self, more: &mpsc::Receiver<String>) -> bool {
        let wants_admin = !self.builder.top.iter().any(|line| line.starts_with("admin: off"));
        while self.address.port() == 0 || (wants_admin && self.admin.is_none()) {
            // A start takes its time where many are at once.
            let Ok(line) = more.recv_timeout(PATIENCE * 3) else { return false };
            self.learn(&line);
        }
        true
    }

    /// Ends it with that signal and starts it again from the same files, at other ports.
    #[track_caller]
    pub fn restart(&mut self, signal: rustix::process::Signal) {
        process::signal(self.pid(), signal);
        self.exit_code();
        let (process, more) = Process::spawn(self.builder.command());
        self.process = process;
        (self.address, self.admin, self.ended) = (SocketAddr::from(([127, 0, 0, 1], 0)), None, false);
        assert!(self.listens(&more), "it did not start again:\n{}", self.stderr());
    }

    /// `listening on ADDRESS:PORT` comes first; the line of the admin listener says `admin`.
    fn learn(&mut self, line: &str) {
        match address_in(line) {
            Some(address) if line.starts_with("listening on ") && self.address.port() == 0 => {
                self.address = address;
            }
            Some(address) if line.contains("admin") => self.admin = Some(address),
            _ => {}
        }
    }

    /// Of every listener, in the order of the config.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let lines = self.stdout();
        lines
            .iter()
            .filter(|line| line.starts_with("listening on "))
            .filter_map(|line| address_in(line))
            .collect()
    }

    /// A tools/call in the era of this run.
    pub fn call(&self, server: &str, tool: &str) -> Call {
        self.secured(Call::tool(self.address, self.builder.run.era, server, tool))
    }

    fn secured(&self, call: Call) -> Call {
        Call { via: self.builder.via.clone(), ..call }
    }

    /// Calls of one tool in the era of this run, over a connection of their own.
    pub fn line(&self, server: &str, tool: &str) -> Line {
        Line::new(self.call(server, tool))
    }

    /// Any other request in the era of this run.
    pub fn request(&self, server: &str, method: &str) -> Call {
        self.secured(Call::new(self.address, self.builder.run.era, server, method))
    }

    /// A call of 2026-07-28, whatever the run.
    pub fn modern(&self, server: &str, tool: &str) -> Call {
        self.secured(Call::tool(self.address, Era::Modern, server, tool))
    }

    pub fn client(&self) -> Client {
        self.modern("", "").connect()
    }

    /// GET on the admin listener.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Answer {
        let address = self.admin.expect("no admin line on stdout");
        let mut client = Client::connect(address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        client.answer()
    }

    /// The sum of all samples of a metric whose labels contain each of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").text();
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let samples =
            text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Writes another config over the old one, by a rename as editors do.
    pub fn rewrite(&self, yaml: &str) {
        let next = self.builder.folder.file("next.yaml", yaml);
        std::fs::rename(next, &self.config).unwrap();
    }

    /// Another configuration, and no signal: one reload, whose end this waits for.
    pub fn reload(&self, yaml: &str) {
        let before = self.reloads("ok");
        self.rewrite(yaml);
        eventually("the reload is counted", || self.reloads("ok") > before);
    }

    /// How many reloads ended so: `ok` or `rejected`.
    pub fn reloads(&self, outcome: &str) -> f64 {
        self.metric("ringgate_config_reloads_total", &[outcome])
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub fn hang_up(&self) {
        process::signal(self.pid(), rustix::process::Signal::HUP);
    }

    pub fn terminate(&self) {
        process::signal(self.pid(), rustix::process::Signal::TERM);
    }

    /// What it said so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.builder.said()).unwrap()).into_owned()
    }

    /// Lines on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.process.stdout.lock().unwrap().clone()
    }

    /// Waits for the process to end; `None` where a signal or our patience ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.ended = true;
        let end = Instant::now() + PATIENCE * 4;
        loop {
            if let Some(status) = self.process.child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > end {
                self.process.child.kill().unwrap();
                self.process.child.wait().unwrap();
                return None;
            }
            super::pace(std::time::Duration::from_millis(2));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.is_running();
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
        let stderr = self.stderr();
        if std::thread::panicking() {
            let tail = stderr.len().saturating_sub(8000);
            eprintln!("--- stderr of the gateway\n{}", stderr.get(tail..).unwrap_or(&stderr));
            return;
        }
        assert!(running || self.ended, "the gateway ended by itself:\n{stderr}");
        assert!(!stderr.contains("panicked at"), "the gateway panicked:\n{stderr}");
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches("http://").trim_end_matches(['/', ',', '.']);
        word.parse::<SocketAddr>().ok()
    })
}

fn follow(from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<String>>>, mpsc::Receiver<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    let into = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line.clone());
            let _ = sender.send(line);
        }
    });
    (lines, receiver)
}
