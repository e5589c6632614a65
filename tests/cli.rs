//! The command line as a user types it: exit codes, and what goes to stdout and stderr.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

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
         `ringgate run -c FILE`.\n"
    );
}

#[test]
fn usage_errors_exit_2() {
    let scratch = Scratch::new("usage");
    for words in
        ["", "check", "chekc", "run", "key add --file k", "key revoke --file k", "run -c x --driver kqueue"]
    {
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
