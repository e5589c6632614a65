//! The key that sessions are sealed with, where the configuration names none: made once in the state directory.
//!
//! Not here: sealing (`mcp::sealed`). Whoever can read the file can forge sessions; it is readable by this user only.

use crate::config::limits;
use crate::config::plan::Plan;
use crate::config::reader;
use crate::config::replace::replace;
use crate::mcp::sealed::SealKeys;

/// Name of the file in the state directory.
const FILE: &str = "seal-key";
const KEY_BYTES: usize = 32;

/// The key of a plan's state directory. None: it has none, or its configuration names keys.
///
/// # Errors
/// A sentence with cause and cure, where it cannot be read or made.
pub(super) fn open(plan: &Plan) -> Result<Option<SealKeys>, String> {
    let Some(directory) = plan.state_dir.as_ref().filter(|_| plan.seal_keys.is_empty()) else {
        return Ok(None);
    };
    let path = directory.join(FILE);
    let shown = path.display();
    let failed =
        |why: String| format!("cannot use the key in {shown}: {why}. Give this user the state directory.");
    let exists = path.try_exists().map_err(|error| failed(reader::reason(&error)))?;
    if !exists {
        let mut made = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut made).map_err(|_| failed("the system gives no random bytes".into()))?;
        replace(&path, &made, true).map_err(|error| failed(reader::reason(&error)))?;
    }
    let bytes = reader::read_up_to(&path, limits::SECRET_BYTES_MAX).map_err(failed)?;
    if bytes.len() != KEY_BYTES {
        return Err(format!(
            "the key in {shown} has {} bytes and not {KEY_BYTES}. Remove the file: a new one is made, and clients \
             initialize again.",
            bytes.len()
        ));
    }
    Ok(SealKeys::new([&*bytes]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;
    use crate::mcp::sealed::Bond;
    use std::os::unix::fs::PermissionsExt;

    const BOND: Bond = Bond { expires_unix: 1, owner: [0; 16], server: 2, instance: 3 };

    fn keys(folder: &Folder) -> Result<Option<SealKeys>, String> {
        let directory = folder.path("");
        let state = state_with(1, |plan| plan.state_dir = Some(directory));
        open(&state.plan())
    }

    #[test]
    fn a_key_is_made_once_and_for_this_user_only() {
        let folder = Folder::new("seal");
        let mut token = Vec::new();
        keys(&folder).expect("made").expect("a key").seal(&BOND, b"s", [1; 12], &mut token);
        let again = keys(&folder).expect("read").expect("a key");
        assert_eq!(again.open(&token), Some((BOND, b"s".to_vec())));
        let mode = std::fs::metadata(folder.path(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_key_is_told() {
        let folder = Folder::new("seal-short");
        std::fs::write(folder.path(FILE), b"short").expect("written");
        let said = keys(&folder).expect_err("no key");
        assert!(said.contains("5 bytes") && said.contains("Remove the file"), "{said}");
        assert!(open(&state_with(1, |_| {}).plan()).expect("nothing to do").is_none());
    }
}
