//! The demo's private directory: config, keys, the sockets of the sample servers. Gone when it is dropped.
//!
//! Not here: what is printed about it (`greeting`).

use crate::adapters::sample;
use crate::base::clock;
use crate::cli::demo::Arguments;
use crate::cli::demo::issuer;
use crate::cli::demo::traffic::Keys;
use crate::config::key_file;
use crate::config::key_file::NewKey;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

/// `sockaddr_un` holds 108 bytes, the last one a zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Two instances of the sample servers.
const SOCKETS: [&str; 2] = ["sample.sock", "second.sock"];
/// The key set of the demo's issuer of tokens.
const TOKEN_KEYS: &str = "idp-keys.json";
/// Directories left over by demos that were killed; after this many something else is wrong.
const NAMES_TRIED: u32 = 100;

pub(super) struct Scene {
    directory: PathBuf,
    pub(super) keys: Keys,
    /// An access token of the third agent.
    pub(super) token: String,
}

impl Scene {
    pub(super) fn set(arguments: &Arguments) -> anyhow::Result<Self> {
        let directory = private_directory(&std::env::temp_dir())?;
        // From here on the directory is removed whatever happens.
        let keys = Keys { support: String::new(), operations: String::new() };
        let mut scene = Self { directory, keys, token: String::new() };
        let sockets = scene.sockets();
        if let Some(long) = sockets.iter().find(|path| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX) {
            anyhow::bail!(
                "{} is too long for a Unix socket ({SOCKET_PATH_BYTES_MAX} bytes). Set TMPDIR to a shorter path",
                long.display()
            );
        }
        scene.keys = scene.issue_keys()?;
        scene.token = issuer::token(&scene.directory.join(TOKEN_KEYS), &audience(arguments))?;
        // With the load running, the log would push the greeting off the screen.
        let call_log = if arguments.traffic {
            format!("{{file: {}}}", quoted(&scene.call_log().display().to_string()))
        } else {
            "stdout".to_owned()
        };
        let text = config_text(arguments, &sockets, &call_log);
        std::fs::write(scene.config(), text)?;
        Ok(scene)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.directory.join("ringgate.yaml")
    }

    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        SOCKETS.iter().map(|name| self.directory.join(name)).collect()
    }

    pub(super) fn call_log(&self) -> PathBuf {
        self.directory.join("calls.jsonl")
    }

    fn issue_keys(&self) -> anyhow::Result<Keys> {
        let file = self.directory.join("keys.yaml");
        Ok(Keys {
            support: new_key(&file, "support-agent", "support")?,
            operations: new_key(&file, "ops-agent", "operations")?,
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "left behind");
        }
    }
}

fn new_key(file: &Path, principal: &str, role: &str) -> anyhow::Result<String> {
    let roles = [role.to_owned()];
    let new = NewKey { principal, roles: &roles, expires_unix: u64::MAX, now_unix: clock::wall().as_secs() };
    let added = key_file::add(file, &new).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    Ok(added.key)
}

/// A directory that only its owner may enter. A name that exists is never used: it may be someone's trap.
fn private_directory(parent: &Path) -> anyhow::Result<PathBuf> {
    let process = std::process::id();
    for attempt in 0..NAMES_TRIED {
        let directory = parent.join(format!("ringgate-demo-{process}-{attempt}"));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => anyhow::bail!(
                "cannot make a directory in {}: {error}. Set TMPDIR to one that you may write",
                parent.display()
            ),
        }
    }
    anyhow::bail!("{} is full of ringgate-demo-* directories. Remove them", parent.display())
}

/// What tokens are for: this gateway, as its clients know it. Of a port that is not known yet, the host alone.
fn audience(arguments: &Arguments) -> String {
    let listen = arguments.listen;
    let authority = if listen.port() == 0 { listen.ip().to_string() } else { listen.to_string() };
    format!("http://{authority}/mcp")
}

/// The config that the demo runs, short enough to be read as an example.
fn config_text(arguments: &Arguments, sockets: &[PathBuf], call_log: &str) -> String {
    let instances = |path: &str| {
        let urls = sockets.iter().map(|socket| quoted(&format!("unix:{}:{path}", socket.display())));
        urls.map(|url| format!("\n      - {{url: {url}}}")).collect::<String>()
    };
    format!(
        "# Written by `ringgate demo`; gone when it ends.
listen: {listen}
admin: {{address: {admin}}}
mcpServers:
  shop:
    instances:{shop}
    balance: leastConnections
  operations:
    instances:{operations}
    # A query may take three seconds.
    timeout: {{tools: {{slow_query: 3s}}}}
    # A slow query must not close the whole server: a breaker for each tool beside those of the instances.
    breaker: {{perTool: true, minCalls: 2, open: 10s}}
identity:
  apiKeys: {{file: keys.yaml}}
  # Tokens of an identity provider. A real one tells its keys at a URL.
  jwt: [{{issuer: {issuer}, audiences: [{audience}], roles: groups, jwks: {{file: {keys}}}}}]
access:
  # Agents of partners show their tokens, which say what they were given them for.
  - {{name: partner-refunds, roles: [{role}], tools: [shop.issue_refund], scopes: [\"shop:refund\"]}}
  # Nobody but the operations desk sees that there are backups.
  - {{name: backups, deny: [operations.run_backup], when: '!(\"operations\" in roles)'}}
  # Everybody sees that there are refunds; large ones are for the desk.
  - {{name: large-refunds, deny: [shop.issue_refund], when: 'args.amount_cents > 50000 && !(\"operations\" in roles)'}}
limits:
  # Each agent has its own pace: 30 calls at once, then ten a second.
  - {{name: per-agent, key: principal, rate: 10/s, burst: 30}}
  # A report is expensive: three at once, then one in ten seconds. The operations desk may have more.
  - {{name: reports, tools: [shop.export_report], when: '!(\"operations\" in roles)', key: principal, rate: 6/min, burst: 3}}
telemetry: {{callLog: {call_log}}}
",
        listen = quoted(&arguments.listen.to_string()),
        admin = quoted(&arguments.admin.to_string()),
        shop = instances(sample::SHOP_PATH),
        operations = instances(sample::OPERATIONS_PATH),
        issuer = quoted(issuer::ISSUER),
        audience = quoted(&audience(arguments)),
        keys = TOKEN_KEYS,
        role = issuer::ROLE,
    )
}

/// A JSON string is a YAML scalar whatever the text contains.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directories_are_private_and_new() {
        let first = private_directory(&std::env::temp_dir()).unwrap();
        let second = private_directory(&std::env::temp_dir()).unwrap();
        assert_ne!(first, second);
        for directory in [first, second] {
            assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
            std::fs::remove_dir(directory).unwrap();
        }
    }

    #[test]
    fn a_missing_parent_is_a_sentence_with_the_cure() {
        let said = private_directory(Path::new("/nonexistent/ringgate")).unwrap_err().to_string();
        assert!(said.contains("TMPDIR"), "{said:?}");
    }
}
