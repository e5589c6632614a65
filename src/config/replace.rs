//! Replacing a file so that a reader sees the old one or the new one, whole.
//!
//! Not here: what is in it, and a lock between two who replace the same file: the caller has one.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A new file renamed over the old one, with the old one's mode and owner; a first one is 0600. `durable`: it is on
/// the disk when this returns.
///
/// # Errors
/// What the file system says; then the old file is untouched.
pub fn replace(target: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
    let before = std::fs::metadata(target).ok();
    let fresh = beside(target, &format!(".{}.new", std::process::id()));
    let done = (|| {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        let mode = before.as_ref().map_or(0o600, |before| before.mode() & 0o777);
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        let own = file.metadata()?;
        if let Some(before) = &before
            && (before.uid(), before.gid()) != (own.uid(), own.gid())
        {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&fresh, target)
    })();
    if done.is_err() {
        // The old file is untouched; half a new one is of no use to anybody.
        let _ = std::fs::remove_file(&fresh);
    } else if durable
        && let Some(directory) = target.parent().filter(|directory| !directory.as_os_str().is_empty())
    {
        File::open(directory)?.sync_all()?;
    }
    done
}

/// The path of a side file: the target's with `ending` added.
pub fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
