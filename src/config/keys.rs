//! API keys: the ring that workers look into, and the file that it is read from.
//!
//! Not here: writing the file (`key_file`), and who may do what with a key.

use crate::config::identity;
use crate::config::limits;
use crate::config::problem::Place;
use crate::config::problem::Problems;
use crate::config::reader;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::table::Strangers;
use crate::config::tree;
use crate::config::tree::Node;
use ahash::HashMap;
use aws_lc_rs::digest;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// How every key begins, so that scanners for leaked secrets know one.
pub const KEY_PREFIX: &str = "rgk_";
/// How a hash is written in the file.
pub const HASH_PREFIX: &str = "sha256:";

/// API keys by the SHA-256 of the key; a reload or a revocation makes a new ring. Looking up by hash
/// takes no time that depends on how much of a wrong key is right.
#[derive(Debug, Default)]
pub struct KeyRing {
    pub by_hash: HashMap<[u8; 32], Arc<KeyEntry>>,
}

#[derive(Debug)]
pub struct KeyEntry {
    pub id: Box<str>,
    pub principal: Arc<str>,
    pub roles: Vec<Box<str>>,
    /// Seconds since the Unix epoch; `u64::MAX`: never.
    pub expires_unix: u64,
    /// Seconds since the Unix epoch of the newest use; written at most once a second by a worker.
    pub last_used_unix: AtomicU64,
}

impl KeyRing {
    /// The key with this hash, expired or not.
    pub fn find(&self, hash: &[u8; 32]) -> Option<&Arc<KeyEntry>> {
        self.by_hash.get(hash)
    }

    /// Takes over when each key was last used, so that a reload forgets nothing.
    pub fn inherit(&self, old: &Self) {
        for (hash, entry) in &self.by_hash {
            if let Some(before) = old.by_hash.get(hash) {
                let used = before.last_used_unix.load(Ordering::Relaxed);
                entry.last_used_unix.fetch_max(used, Ordering::Relaxed);
            }
        }
    }
}

/// SHA-256 of a key as a client presents it.
pub fn hash(presented: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, presented).as_ref());
    bytes
}

/// Whether this can be the name of a role, a key, or a part of a config. Principals have names that others choose
/// ([`identity::is_principal`]).
pub fn is_name(text: &str) -> bool {
    (1..=limits::PRINCIPAL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:/+".contains(&byte))
}

/// One entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenKey {
    pub id: String,
    pub principal: String,
    pub roles: Vec<String>,
    pub hash: [u8; 32],
    /// Seconds since the Unix epoch.
    pub created_unix: u64,
    /// Seconds since the Unix epoch; `u64::MAX`: never.
    pub expires_unix: u64,
}

/// The file in which the gateway keeps when each key was last used: JSON, id to Unix seconds.
pub fn last_used_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".last-used");
    name.into()
}

/// Unix seconds of the last use by id; empty where nothing is known.
pub fn read_last_used(path: &Path) -> std::collections::BTreeMap<String, u64> {
    let bytes = reader::read_bounded(&last_used_path(path), limits::KEY_FILE_BYTES_MAX).unwrap_or_default();
    // Only a convenience for people: a broken one is as good as none.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The keys of a file, with their last uses.
///
/// # Errors
/// Everything that is wrong with it. A file that cannot be read has one problem without a place.
pub fn read(path: &Path) -> Result<KeyRing, Problems> {
    let used = read_last_used(path);
    let mut ring = KeyRing::default();
    for key in read_written(path)? {
        let last_used = used.get(&key.id).copied().unwrap_or(0);
        let entry = KeyEntry {
            id: key.id.into(),
            principal: key.principal.into(),
            roles: key.roles.into_iter().map(Into::into).collect(),
            expires_unix: key.expires_unix,
            last_used_unix: AtomicU64::new(last_used),
        };
        ring.by_hash.insert(key.hash, Arc::new(entry));
    }
    Ok(ring)
}

/// The entries of a key file in their order.
///
/// # Errors
/// As [`read`].
pub fn read_written(path: &Path) -> Result<Vec<WrittenKey>, Problems> {
    let name = path.display().to_string();
    let cure = "Make one: `ringgate key add --file FILE --principal NAME`.";
    let bytes = reader::read_bounded(path, limits::KEY_FILE_BYTES_MAX)
        .map_err(|reason| Problems::of_file(&name, format!("cannot read the key file: {reason}"), cure))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problems::of_file(&name, "the key file is not UTF-8 text", "Restore it from a copy."))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader::new(&name, base, &|_| None);
    let keys = match tree::parse(&text) {
        Ok(root) => entries(&mut reader, &root),
        Err(broken) => {
            reader.problem(broken.place, broken.what, broken.cure);
            Vec::new()
        }
    };
    match reader.into_problems() {
        None => Ok(keys),
        Some(problems) => Err(problems),
    }
}

fn entries(reader: &mut Reader<'_>, root: &Node) -> Vec<WrittenKey> {
    let Some(mut table) = reader.table(root, "") else { return Vec::new() };
    let list = table.take("keys");
    table.close(reader, &Strangers::default());
    let Some(list) = list else {
        reader.problem(
            root.place,
            "`keys` is missing",
            "Write `keys: []`, and add keys by `ringgate key add`.",
        );
        return Vec::new();
    };
    let Some(items) = reader.list(list) else { return Vec::new() };
    if let Some(node) = items.get(limits::KEYS_MAX) {
        reader.problem(node.place, format!("more than {} keys", limits::KEYS_MAX), "Use JWTs for that many.");
        return Vec::new();
    }
    let mut ids: HashMap<String, Place> = HashMap::default();
    let mut hashes: HashMap<[u8; 32], Place> = HashMap::default();
    let mut keys = Vec::new();
    for node in items {
        let Some(key) = entry(reader, node) else { continue };
        for (what, other) in
            [("id", ids.insert(key.id.clone(), node.place)), ("hash", hashes.insert(key.hash, node.place))]
        {
            if let Some(Place { line, column }) = other {
                let cure = format!("The other one is at {line}:{column}.");
                reader.problem(node.place, format!("two keys have the same `{what}`"), cure);
            }
        }
        keys.push(key);
    }
    keys
}

fn entry(reader: &mut Reader<'_>, node: &Node) -> Option<WrittenKey> {
    let mut table = reader.table(node, "keys")?;
    let whole = ["id", "principal", "hash"].iter().all(|key| table.has(key));
    let id = table.take("id").and_then(|node| name(reader, node));
    let principal = table.take("principal").and_then(|node| principal(reader, node));
    let roles = table.take("roles").map(|node| roles(reader, node)).unwrap_or_default();
    let hash =
        table.take("hash").and_then(|node| reader.text(node)).and_then(|text| written_hash(reader, &text));
    let created = table.take("created").and_then(|node| moment(reader, node)).unwrap_or(0);
    let expires = table.take("expires").map_or(Some(u64::MAX), |node| moment(reader, node));
    table.close(reader, &Strangers::default());
    if !whole {
        reader.problem(node.place, "a key needs `id`, `principal` and `hash`", "");
    }
    Some(WrittenKey {
        id: id?,
        principal: principal?,
        roles,
        hash: hash?,
        created_unix: created,
        expires_unix: expires?,
    })
}

fn roles(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let Some(items) = reader.list(node) else { return Vec::new() };
    items.iter().filter_map(|item| name(reader, item)).collect()
}

fn name(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let cure = format!("It has 1 to {} letters, digits and `-_.@:/+`.", limits::PRINCIPAL_BYTES_MAX);
    text_that(reader, node, is_name, &cure)
}

fn principal(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    text_that(reader, node, identity::is_principal, identity::PRINCIPAL_CURE)
}

fn text_that(reader: &mut Reader<'_>, node: &Node, fits: fn(&str) -> bool, cure: &str) -> Option<String> {
    let text = reader.text(node)?;
    if !fits(&text.value) {
        // Not quoted: somebody may have put the key itself here.
        reader.problem(text.place, "this is no name", cure);
        return None;
    }
    Some(text.value)
}

fn written_hash(reader: &mut Reader<'_>, text: &Located<String>) -> Option<[u8; 32]> {
    let parsed = text.value.strip_prefix(HASH_PREFIX).and_then(hash_of_hex);
    if parsed.is_none() {
        // Not quoted: somebody may have put the key itself here.
        reader.problem(text.place, "this is no hash of a key", "It is `sha256:` and 64 hexadecimal digits.");
    }
    parsed
}

fn hash_of_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        let digits = hex.get(at..at + 2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

/// An RFC 3339 time, as Unix seconds.
fn moment(reader: &mut Reader<'_>, node: &Node) -> Option<u64> {
    let text = reader.text(node)?;
    let seconds =
        text.value.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_second()).ok());
    if seconds.is_none() {
        reader.problem(text.place, format!("{} is no time", text.shown()), "Write `2027-01-31T12:00:00Z`.");
    }
    seconds
}

/// Unix seconds as RFC 3339, UTC.
pub fn show_moment(unix: u64) -> String {
    let at = i64::try_from(unix).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "9999-12-30T22:00:00Z".into(), |at| at.to_string())
}

/// RFC 3339 as Unix seconds; nothing for a time before 1970.
pub fn parse_moment(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
}
