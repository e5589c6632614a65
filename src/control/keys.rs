//! API keys while the gateway runs: a changed key file acts at once, and when each key was last used is
//! written down every second.
//!
//! Not here: the format of the files (config::keys), and the file of a reload (`reload`).

use crate::config::keys;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::problem::Problems;
use crate::control::state::State;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Reads the key file again; a bad one keeps the keys in force. A revocation must act on the next
/// request, so nothing waits here unless the file is broken, which a half-written one is for a moment.
pub(crate) async fn reload(state: &Arc<State>) {
    let Some(path) = state.key_file() else { return };
    for last in [false, true] {
        let (path, current) = (path.clone(), state.shared.keys.load_full());
        let read = tokio::task::spawn_blocking(move || {
            let ring = keys::read(&path)?;
            ring.inherit(&current);
            Ok::<_, Problems>((same(&ring, &current), ring))
        });
        match read.await {
            Ok(Ok((true, _))) => return,
            Ok(Ok((false, ring))) => {
                tracing::info!(keys = ring.by_hash.len(), "the key file changed, its keys are in force");
                state.bury(state.shared.keys.swap(Arc::new(ring)));
                state.shared.announce();
                return;
            }
            Ok(Err(problems)) if last => {
                tracing::error!("the key file is bad, the old keys stay in force:\n{problems}");
            }
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(limits::KEYS_SETTLE_MS)).await,
            Err(error) => {
                tracing::error!("reading the key file failed, the old keys stay in force: {error}");
                return;
            }
        }
    }
}

/// Whether both rings let the same callers in as the same principals.
fn same(new: &KeyRing, old: &KeyRing) -> bool {
    new.by_hash.len() == old.by_hash.len()
        && new.by_hash.iter().all(|(hash, entry)| {
            old.by_hash.get(hash).is_some_and(|other| {
                entry.id == other.id
                    && entry.principal == other.principal
                    && entry.roles == other.roles
                    && entry.expires_unix == other.expires_unix
            })
        })
}

/// Writes the last uses beside the key file every second, if there is anything new.
pub(crate) async fn keep_last_used(state: Arc<State>) {
    let mut pause = tokio::time::interval(Duration::from_millis(limits::LAST_USED_FLUSH_MS));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut book = Book::default();
    loop {
        pause.tick().await;
        let Some(path) = state.key_file() else { continue };
        let ring = state.shared.keys.load_full();
        let Ok((back, failed)) = tokio::task::spawn_blocking(move || {
            let failed = book.write(&path, &ring).err().map(|error| (path, error));
            (book, failed)
        })
        .await
        else {
            return;
        };
        book = back;
        if let Some((path, error)) = failed
            && !std::mem::replace(&mut book.warned, true)
        {
            tracing::warn!(
                file = %keys::last_used_path(&path).display(), %error,
                "cannot write when keys were last used; make its directory writable, all else works"
            );
        }
    }
}

/// What was written last.
#[derive(Default)]
struct Book {
    written: BTreeMap<Box<str>, u64>,
    warned: bool,
}

impl Book {
    /// Replaces the file by renaming, so that a reader sees the old or the new one, whole.
    fn write(&mut self, path: &Path, ring: &KeyRing) -> io::Result<()> {
        let used: BTreeMap<Box<str>, u64> = ring
            .by_hash
            .values()
            .map(|entry| (entry.id.clone(), entry.last_used_unix.load(Ordering::Relaxed)))
            .filter(|(_, used)| *used > 0)
            .collect();
        if used == self.written {
            return Ok(());
        }
        let target = keys::last_used_path(path);
        let mut beside: PathBuf = target.clone();
        beside.as_mut_os_string().push(".new");
        std::fs::write(&beside, serde_json::to_vec(&used)?)?;
        std::fs::rename(&beside, &target)?;
        self.written = used;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KeyEntry;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;
    use std::sync::atomic::AtomicU64;

    fn ring(entries: &[(&str, u64)]) -> KeyRing {
        let mut ring = KeyRing::default();
        for (number, (id, used)) in (0..).zip(entries) {
            let entry = KeyEntry {
                id: (*id).into(),
                principal: "p".into(),
                roles: Vec::new(),
                expires_unix: u64::MAX,
                last_used_unix: AtomicU64::new(*used),
            };
            ring.by_hash.insert([number; 32], Arc::new(entry));
        }
        ring
    }

    #[test]
    fn last_uses_come_back_and_unchanged_ones_are_not_written_again() {
        let folder = Folder::new("last-used");
        let path = folder.path("keys.yaml");
        let mut book = Book::default();
        let keys_in_use = ring(&[("a", 7), ("b", 0)]);
        book.write(&path, &keys_in_use).expect("written");
        assert_eq!(keys::read_last_used(&path), BTreeMap::from([("a".to_owned(), 7)]));
        std::fs::remove_file(keys::last_used_path(&path)).expect("removed");
        book.write(&path, &keys_in_use).expect("nothing to do");
        assert!(!keys::last_used_path(&path).exists());
    }

    #[test]
    fn an_unwritable_place_is_an_error_and_is_tried_again() {
        let folder = Folder::new("last-used-unwritable");
        let path = folder.path("missing/keys.yaml");
        let mut book = Book::default();
        book.write(&path, &ring(&[("a", 7)])).expect_err("no such directory");
        std::fs::create_dir(folder.path("missing")).expect("made");
        book.write(&path, &ring(&[("a", 7)])).expect("written now");
        assert_eq!(keys::read_last_used(&path).len(), 1);
    }

    #[tokio::test]
    async fn a_revoked_key_is_gone_at_once_and_a_bad_file_keeps_the_ring() {
        let folder = Folder::new("keys-revoked");
        let path = folder.path("keys.yaml");
        let state = Arc::new(state_with(1, |plan| plan.identity.api_keys = Some(path.clone())));
        let hash = "07".repeat(32);
        let one = format!("keys:\n  - {{id: k1, principal: agent-7, hash: \"sha256:{hash}\"}}\n");
        // The content, the keys in force afterwards, and whether workers are told.
        let table =
            [(one.as_str(), 1, true), (&one, 1, false), ("keys: 7", 1, false), ("keys: []\n", 0, true)];
        for (content, keys, told) in table {
            std::fs::write(&path, content).expect("written");
            let epoch = state.shared.epoch();
            reload(&state).await;
            assert_eq!(state.shared.keys.load().by_hash.len(), keys, "{content}");
            assert_eq!(state.shared.epoch() > epoch, told, "{content}");
        }
    }

    #[test]
    fn rings_differ_by_what_they_allow() {
        assert!(same(&ring(&[("a", 1)]), &ring(&[("a", 2)])));
        assert!(!same(&ring(&[("a", 1)]), &ring(&[("b", 1)])));
        assert!(!same(&ring(&[("a", 1)]), &ring(&[("a", 1), ("b", 1)])));
    }
}
