//! The command line as a user types it: exit codes, and what goes to stdout and stderr.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

#[path = "cli/explain.rs"]
mod explain;

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
