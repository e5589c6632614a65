//! Writing the file of API keys: `ringgate key add|revoke`, and the last uses that the gateway notes.
//!
//! Not here: reading it (`keys`). A change is a new file renamed over the old one, under a lock on a
//! side file, so that a reader never sees half a file and two changes never lose one another.

use crate::base::base64url;
use crate::config::identity;
use crate::config::keys;
use crate::config::keys::HASH_PREFIX;
use crate::config::keys::KEY_PREFIX;
use crate::config::keys::KeyRing;
use crate::config::keys::WrittenKey;
use crate::config::limits;
use crate::config::problem::Problems;
use crate::config::problem::nearest;
use crate::config::reader::reason;
use crate::config::replace::beside;
use crate::config::replace::replace;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Random bytes of a key: 256 bits, so that its plain SHA-256 cannot be searched.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id; ids of one file are compared, so a clash is only drawn again.
const ID_BYTES: usize = 5;
const HEADER: &str = "# API keys of Ringgate, as hashes. Written by `ringgate key`; comments are not kept.\n";

/// What `key add` is told.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    pub principal: &'a str,
    pub roles: &'a [String],
    /// Seconds since the Unix epoch; `u64::MAX`: never.
    pub expires_unix: u64,
    /// Seconds since the Unix epoch.
    pub now_unix: u64,
}

/// A key that was just made; the only time that it is known.
pub struct Added {
    pub id: String,
    pub key: String,
}

/// Which keys to revoke.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    Id(&'a str),
    Principal(&'a str),
}

/// Makes a key, and the file if there is none.
///
/// # Errors
/// A name that is none, a file that is no key file, and whatever the file system says.
pub fn add(path: &Path, new: &NewKey<'_>) -> Result<Added, Problems> {
    let name = path.display().to_string();
    if !identity::is_principal(new.principal) {
        let what = format!("`{}` is no name of a principal", new.principal);
        return Err(Problems::of_file(&name, what, identity::PRINCIPAL_CURE));
    }
    for word in new.roles {
        if !keys::is_name(word) {
            let what = format!("`{word}` is no name of a role");
            let cure = format!("It has 1 to {} letters, digits and `-_.@:/+`.", limits::PRINCIPAL_BYTES_MAX);
            return Err(Problems::of_file(&name, what, cure));
        }
    }
    let secret = base64url::encode(&random::<SECRET_BYTES>(&name)?);
    let key = format!("{KEY_PREFIX}{secret}");
    change(path, true, |written| {
        if written.len() >= limits::KEYS_MAX {
            let what = format!("`{name}` already has {} keys", limits::KEYS_MAX);
            return Err(Problems::of_file(&name, what, "Revoke some, or use JWTs for that many."));
        }
        let id = free_id(&name, written)?;
        written.push(WrittenKey {
            id: id.clone(),
            principal: new.principal.into(),
            roles: new.roles.to_vec(),
            hash: keys::hash(key.as_bytes()),
            created_unix: new.now_unix,
            expires_unix: new.expires_unix,
        });
        Ok(Added { id, key: key.clone() })
    })
}

/// Removes keys; gives back their ids.
///
/// # Errors
/// Where none matches, and as [`add`].
pub fn revoke(path: &Path, which: Which<'_>) -> Result<Vec<String>, Problems> {
    let name = path.display().to_string();
    change(path, false, |written| {
        let matches = |key: &WrittenKey| match which {
            Which::Id(id) => key.id == id,
            Which::Principal(principal) => key.principal == principal,
        };
        let (gone, kept): (Vec<WrittenKey>, Vec<WrittenKey>) =
            std::mem::take(written).into_iter().partition(matches);
        *written = kept;
        if gone.is_empty() {
            return Err(no_match(&name, written, which));
        }
        Ok(gone.into_iter().map(|key| key.id).collect())
    })
}

fn no_match(name: &str, written: &[WrittenKey], which: Which<'_>) -> Problems {
    let (what, word, known): (_, _, Vec<&str>) = match which {
        Which::Id(id) => ("id", id, written.iter().map(|key| key.id.as_str()).collect()),
        Which::Principal(word) => {
            ("principal", word, written.iter().map(|key| key.principal.as_str()).collect())
        }
    };
    // Somebody may have pasted the key itself.
    if word.starts_with(KEY_PREFIX) {
        let what = format!("a key of `{name}` is named by its id, not by the key itself");
        return Problems::of_file(name, what, "`ringgate key list` shows the ids.");
    }
    let cure = match nearest(word, known) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "`ringgate key list` shows what there is.".into(),
    };
    Problems::of_file(name, format!("`{name}` has no key with the {what} `{word}`"), cure)
}

/// Reads, changes and replaces the file under its lock.
fn change<T>(
    path: &Path,
    create: bool,
    edit: impl FnOnce(&mut Vec<WrittenKey>) -> Result<T, Problems>,
) -> Result<T, Problems> {
    let name = path.display().to_string();
    let failed = |what: &str, error: &std::io::Error| {
        let cure = "The directory must exist, have room, and be writable by this user.";
        Problems::of_file(&name, format!("cannot {what} `{name}`: {}", reason(error)), cure)
    };
    // A link stays a link: what it points to is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let lock = lock(&target).map_err(|error| failed("lock", &error))?;
    let mut written = if create && !target.exists() { Vec::new() } else { keys::read_written(&target)? };
    let result = edit(&mut written)?;
    replace(&target, render(&written).as_bytes(), true).map_err(|error| failed("write", &error))?;
    // Held until here; closing it frees it.
    drop(lock);
    Ok(result)
}

fn lock(target: &Path) -> std::io::Result<File> {
    let side = beside(target, ".lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(side)?;
    file.lock()?;
    Ok(file)
}

fn render(written: &[WrittenKey]) -> String {
    let mut out = String::from(HEADER);
    out.push_str(if written.is_empty() { "keys: []\n" } else { "keys:\n" });
    for key in written {
        let hash: String = key.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let roles: Vec<String> = key.roles.iter().map(|role| format!("\"{role}\"")).collect();
        // Other names hold nothing that would need an escape (`keys::is_name`).
        let principal = escaped(&key.principal);
        let _ = writeln!(out, "  - id: \"{}\"\n    principal: \"{principal}\"", key.id);
        let _ = writeln!(out, "    roles: [{}]\n    hash: \"{HASH_PREFIX}{hash}\"", roles.join(", "));
        let _ = writeln!(out, "    created: \"{}\"", keys::show_moment(key.created_unix));
        if key.expires_unix != u64::MAX {
            let _ = writeln!(out, "    expires: \"{}\"", keys::show_moment(key.expires_unix));
        }
    }
    out
}

/// Between double quotes, and not expanded.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${")
}

fn free_id(name: &str, written: &[WrittenKey]) -> Result<String, Problems> {
    loop {
        let id: String = random::<ID_BYTES>(name)?.iter().map(|byte| format!("{byte:02x}")).collect();
        if written.iter().all(|key| key.id != id) {
            return Ok(id);
        }
    }
}

fn random<const N: usize>(name: &str) -> Result<[u8; N], Problems> {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Problems::of_file(name, "the system gives no random numbers", "Try again.")),
    }
}

/// Notes when each key was last used, beside the key file. The gateway calls it now and then; a lost
/// note is a convenience lost, so it is not forced to the disk.
///
/// # Errors
/// What the file system says.
pub fn write_last_used(path: &Path, ring: &KeyRing) -> std::io::Result<()> {
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in ring.by_hash.values() {
        let at = entry.last_used_unix.load(Ordering::Relaxed);
        if at > 0 {
            used.insert(&entry.id, at);
        }
    }
    let json = serde_json::to_vec(&used).map_err(std::io::Error::other)?;
    replace(&keys::last_used_path(path), &json, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringgate-key-file-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("keys.yaml")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn agent(principal: &str) -> NewKey<'_> {
        NewKey { principal, roles: &[], expires_unix: u64::MAX, now_unix: 1_800_000_000 }
    }

    #[test]
    fn a_key_is_found_by_its_hash_and_never_stands_in_the_file() {
        let scratch = Scratch::new("found");
        let roles = ["support".to_string(), "dev".to_string()];
        let new = NewKey { roles: &roles, expires_unix: 1_900_000_000, ..agent("spiffe://corp/agent/7") };
        let added = add(&scratch.file(), &new).unwrap();
        assert!(added.key.starts_with("rgk_") && added.key.len() == 4 + 43, "{}", added.key.len());
        let ring = keys::read(&scratch.file()).unwrap();
        let entry = ring.find(&keys::hash(added.key.as_bytes())).unwrap();
        assert_eq!(
            (&*entry.principal, entry.roles.len(), entry.expires_unix),
            ("spiffe://corp/agent/7", 2, 1_900_000_000)
        );
        assert!(ring.find(&keys::hash(b"rgk_other")).is_none());
        let text = std::fs::read_to_string(scratch.file()).unwrap();
        assert!(!text.contains(&added.key[4..]), "the key itself is in the file");
        assert_eq!(std::fs::metadata(scratch.file()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn revoking_takes_one_key_or_all_of_a_principal() {
        let scratch = Scratch::new("revoke");
        let first = add(&scratch.file(), &agent("a")).unwrap();
        let second = add(&scratch.file(), &agent("a")).unwrap();
        add(&scratch.file(), &agent("b")).unwrap();
        assert_eq!(revoke(&scratch.file(), Which::Id(&first.id)).unwrap(), [first.id.as_str()]);
        assert_eq!(revoke(&scratch.file(), Which::Principal("a")).unwrap(), [second.id.as_str()]);
        let left = keys::read_written(&scratch.file()).unwrap();
        assert_eq!(left.len(), 1);
        let problems = revoke(&scratch.file(), Which::Principal("bb")).unwrap_err().to_string();
        assert!(problems.contains("Did you mean `b`?"), "{problems}");
        let problems = revoke(&scratch.file(), Which::Id(&second.key)).unwrap_err().to_string();
        assert!(!problems.contains(&second.key), "a pasted key was repeated");
        revoke(&scratch.file(), Which::Principal("b")).unwrap();
        assert!(keys::read(&scratch.file()).unwrap().by_hash.is_empty());
    }

    /// Eight writers at once: the lock and the rename keep every key.
    #[test]
    fn concurrent_changes_lose_nothing() {
        let scratch = Scratch::new("concurrent");
        add(&scratch.file(), &agent("first")).unwrap();
        std::thread::scope(|scope| {
            for index in 0..8 {
                let file = scratch.file();
                scope.spawn(move || {
                    for _ in 0..4 {
                        add(&file, &agent(&format!("p{index}"))).unwrap();
                    }
                });
            }
        });
        assert_eq!(keys::read_written(&scratch.file()).unwrap().len(), 33);
    }

    #[test]
    fn last_uses_survive() {
        let scratch = Scratch::new("used");
        let added = add(&scratch.file(), &agent("a")).unwrap();
        let ring = keys::read(&scratch.file()).unwrap();
        let hash = keys::hash(added.key.as_bytes());
        ring.find(&hash).unwrap().last_used_unix.store(1_800_000_123, Ordering::Relaxed);
        write_last_used(&scratch.file(), &ring).unwrap();
        assert_eq!(keys::read_last_used(&scratch.file()).get(&added.id), Some(&1_800_000_123));
        let again = keys::read(&scratch.file()).unwrap();
        assert_eq!(again.find(&hash).unwrap().last_used_unix.load(Ordering::Relaxed), 1_800_000_123);
        std::fs::write(keys::last_used_path(&scratch.file()), "{broken").unwrap();
        let fresh = keys::read(&scratch.file()).unwrap();
        fresh.inherit(&ring);
        assert_eq!(fresh.find(&hash).unwrap().last_used_unix.load(Ordering::Relaxed), 1_800_000_123);
    }

    #[test]
    fn what_is_no_key_file_is_left_alone() {
        let scratch = Scratch::new("alone");
        std::fs::write(scratch.file(), "mcpServers: {}\n").unwrap();
        let problems = add(&scratch.file(), &agent("a")).map(|_| ()).unwrap_err().to_string();
        assert!(problems.contains("keys.yaml:1:1: `mcpServers` is not a key"), "{problems}");
        assert_eq!(std::fs::read_to_string(scratch.file()).unwrap(), "mcpServers: {}\n");
        assert!(add(&scratch.0.join("none/keys.yaml"), &agent("a")).is_err());
        assert!(add(&scratch.file(), &agent("a\tb")).is_err());
    }

    /// Issuers and authorities choose names that other parts of a config do not have.
    #[test]
    fn regression_a_principal_of_an_issuer_has_a_key() {
        let scratch = Scratch::new("foreign");
        for principal in
            ["CN=agent-7,O=Example", "auth0|123", r#"CN=a\,"b\\"#, "${HOME} $${x}", "a$${b}$", "Zoë: #1", "'"]
        {
            let added = add(&scratch.file(), &agent(principal)).unwrap();
            let ring = keys::read(&scratch.file()).unwrap();
            let entry = ring.find(&keys::hash(added.key.as_bytes())).unwrap();
            assert_eq!(&*entry.principal, principal);
            assert_eq!(revoke(&scratch.file(), Which::Principal(principal)).unwrap(), [added.id]);
        }
    }
}
