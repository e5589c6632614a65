//! The targets of a comparison: how each is written down, started, and ended.
//! Not here: their configuration (`setup`); loading and judging them.

use std::fs;
use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;

use crate::ring;
use crate::setup;
use crate::setup::Setup;
use crate::token;

const START: Duration = Duration::from_secs(10);
/// How long it may take to end before it is made to.
const END_NANOS: u64 = 2_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// No proxy: what generator and upstream reach alone.
    Direct,
    Relay,
    Nginx,
    Ringgate(Setup, PathBuf),
    /// Words; `{port}`, `{upstream}` and `{dir}` are replaced.
    Command(Vec<String>),
}

/// A target as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) label: String,
    kind: Kind,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, rest) = text.split_once('=').map_or((text, None), |(label, rest)| (label, Some(rest)));
        if label.is_empty() || label.len() > 32 || label.contains(['/', '<', '>', ' ']) {
            return Err(format!("`{label}` is no name for a target"));
        }
        let setup = Setup::of(label);
        let kind = match (label.trim_end_matches('\''), rest) {
            ("direct", None) => Kind::Direct,
            ("relay", None) => Kind::Relay,
            ("nginx", None) => Kind::Nginx,
            (_, None) => return Err(format!("`{text}` is none of direct, relay, nginx, NAME=COMMAND")),
            (_, Some(command)) => {
                let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
                match (setup, words.as_slice()) {
                    (_, []) => return Err(format!("`{text}` names no command")),
                    (Some(setup), [path]) => Kind::Ringgate(setup, PathBuf::from(path)),
                    _ => Kind::Command(words),
                }
            }
        };
        Ok(Self { label: label.to_owned(), kind })
    }
}

impl Spec {
    /// The same once more, for the null run.
    pub(crate) fn twin(&self) -> Self {
        Self { label: format!("{}'", self.label), kind: self.kind.clone() }
    }

    pub(crate) fn has_process(&self) -> bool {
        self.kind != Kind::Direct
    }
}

/// A child with its process group; ended, with all that it started, when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(mut command: Command, cpu: Option<usize>, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        ring::bind_to_us(&mut command, cpu);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child, log })
    }

    /// What it said on stderr, at most the last 2,000 bytes.
    fn complaint(&self) -> String {
        let mut text = String::new();
        if let Ok(file) = File::open(&self.log) {
            let _ = file.take(1 << 20).read_to_string(&mut text);
        }
        let from = text.len().saturating_sub(2000);
        text.get(from..).unwrap_or(&text).trim().to_owned()
    }

    /// The address of its line `listening on ADDRESS`; the rest of its output is thrown away.
    fn announced(&mut self) -> anyhow::Result<SocketAddr> {
        let stdout = self.child.stdout.take().context("no stdout")?;
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
                let (_, address) = line.split_once("listening on ")?;
                address.split_whitespace().next()?.trim_start_matches("http://").parse().ok()
            });
            let _ = sender.send(address);
            for _ in lines.map_while(Result::ok) {}
        });
        match receiver.recv_timeout(START) {
            Ok(Some(address)) => Ok(address),
            _ => bail!("it did not say `listening on ADDRESS` within 10 s: {}", self.complaint()),
        }
    }

    /// Waits until something listens on `address`.
    fn listens(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let until = ring::monotonic_nanos() + u64::try_from(START.as_nanos())?;
        while ring::monotonic_nanos() < until && !ring::stopped() {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(address);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", self.complaint());
            }
            // Another program tells nobody that it listens.
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("nothing listens on {address} after 10 s: {}", self.complaint())
    }

    /// Lets it end by itself, for a while: what records something writes it then.
    fn leave(&mut self) {
        ring::signal_group(self.child.id(), libc::SIGTERM);
        let until = ring::monotonic_nanos() + END_NANOS;
        while ring::monotonic_nanos() < until && matches!(self.child.try_wait(), Ok(None)) {
            // No system call of std's waits for a child and for a time.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.leave();
        // Also those that it has left behind.
        ring::signal_group(self.child.id(), libc::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of ours that goes when we go.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let name = format!("loadtest-{}-{}", std::process::id(), ring::monotonic_nanos());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A target that runs.
pub(crate) struct Running {
    pub(crate) label: String,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    /// What the tool of the mock upstream is called there.
    pub(crate) tool: String,
    /// The access token that its calls need.
    pub(crate) token: Option<String>,
    pub(crate) process: Option<Process>,
}

/// Our own mock upstream, pinned to `cpu`.
pub(crate) fn start_upstream(cpu: usize, scratch: &Scratch) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut process = Process::start(command, Some(cpu), scratch.path().join("serve.log"))?;
    let address = process.announced().context("the mock upstream")?;
    Ok((process, address))
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Spec {
    /// Starts it, pinned to `cpu`, in front of `upstream`. `tls`: it listens with the certificate in `scratch`.
    ///
    /// # Errors
    /// With what it said, if it does not listen within 10 s.
    pub(crate) fn start(
        &self,
        cpu: usize,
        upstream: SocketAddr,
        scratch: &Scratch,
        tls: bool,
    ) -> anyhow::Result<Running> {
        if tls && !matches!(self.kind, Kind::Nginx | Kind::Ringgate(..)) {
            bail!("only nginx and ringgate are set up for TLS");
        }
        let tls = tls.then(|| scratch.path());
        let directory = scratch.path().join(&self.label);
        fs::create_dir(&directory).with_context(|| format!("two targets named {}", self.label))?;
        let begin = |command| Process::start(command, Some(cpu), directory.join("log"));
        let (mut setup, mut token) = (Setup::Ringgate, None);
        let (address, process) = match &self.kind {
            Kind::Direct => (upstream, None),
            Kind::Relay => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", "--to", &upstream.to_string()]);
                let mut process = begin(command)?;
                (process.announced()?, Some(process))
            }
            Kind::Ringgate(kind, path) => {
                let file = directory.join("ringgate.yaml");
                fs::write(&file, kind.config(upstream, tls))?;
                if kind.has_token() {
                    token = Some(token::issue(&directory)?);
                }
                setup = *kind;
                let mut command = Command::new(path);
                command.args(["run".as_ref(), "-c".as_ref(), file.as_os_str()]);
                let mut process = begin(command)?;
                (process.announced()?, Some(process))
            }
            Kind::Nginx => {
                let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
                let file = directory.join("nginx.conf");
                fs::write(&file, setup::nginx(address, upstream, &directory, tls))?;
                let mut command = Command::new("nginx");
                command.args(["-p".as_ref(), directory.as_os_str(), "-c".as_ref(), file.as_os_str()]);
                let mut process = begin(command).context("is nginx installed?")?;
                (process.listens(address)?, Some(process))
            }
            Kind::Command(words) => {
                let port = free_port()?;
                let fill = |word: &String| {
                    word.replace("{port}", &port.to_string())
                        .replace("{upstream}", &upstream.to_string())
                        .replace("{dir}", &directory.to_string_lossy())
                };
                let mut words = words.iter().map(fill);
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                let mut process = begin(command)?;
                (process.listens(SocketAddr::from(([127, 0, 0, 1], port)))?, Some(process))
            }
        };
        let url = format!("http://{address}{}", setup.path());
        Ok(Running { label: self.label.clone(), address, url, tool: setup.tool(), token, process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Kind)>) {
        let spec = text.parse::<Spec>().ok().map(|spec| (spec.label, spec.kind));
        assert_eq!(spec, expected.map(|(label, kind)| (label.to_owned(), kind)), "{text}");
    }

    #[test]
    fn targets_are_read() {
        check("relay", Some(("relay", Kind::Relay)));
        check("relay'", Some(("relay'", Kind::Relay)));
        check("nginx", Some(("nginx", Kind::Nginx)));
        check("direct", Some(("direct", Kind::Direct)));
        check("ringgate=/x/y", Some(("ringgate", Kind::Ringgate(Setup::Ringgate, "/x/y".into()))));
        check("ringgate-old=/x", Some(("ringgate-old", Kind::Ringgate(Setup::Ringgate, "/x".into()))));
        check("limited-new'=/x", Some(("limited-new'", Kind::Ringgate(Setup::Limited, "/x".into()))));
        let words = ["envoy", "-p", "{port}"].map(str::to_owned).to_vec();
        check("envoy=envoy -p {port}", Some(("envoy", Kind::Command(words.clone()))));
        check("plainly=envoy -p {port}", Some(("plainly", Kind::Command(words))));
        for wrong in ["caddy", "a/b=x", "x=", "=x", "", "plain", "plain= "] {
            check(wrong, None);
        }
        assert_eq!("nginx".parse::<Spec>().unwrap().twin().label, "nginx'");
    }
}
