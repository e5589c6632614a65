//! Kill switches while the gateway runs: their file, and each change of them.
//!
//! Not here: what they mean for a call (policy), and how operators ask (`admin`). Whatever fails, too much is
//! refused and not too little: a kill acts before it is on the disk, an unkill after, and a file that cannot be
//! read refuses the start.

use crate::config::limits;
use crate::config::reader;
use crate::config::replace::replace;
use crate::control::state::State;
use crate::policy::kills::Kill;
use crate::policy::kills::Kills;
use crate::policy::kills::Kind;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// Name of the file in the state directory.
const FILE: &str = "kills.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    kills: Cow<'a, [Kill]>,
}

/// The kill switches of a state directory, which is made where there is none.
///
/// # Errors
/// A sentence with cause and cure where the directory cannot be used or the file is damaged.
pub fn load(directory: &Path) -> Result<Kills, String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        let (shown, reason) = (directory.display(), reader::reason(&error));
        format!("cannot make the state directory {shown}: {reason}. Make one that this user can write.")
    })?;
    let path = directory.join(FILE);
    let refused = |reason: String| {
        let shown = path.display();
        format!(
            "cannot read the kill switches in {shown}: {reason}. Mend the file, or remove it if nothing is to \
             stay killed."
        )
    };
    if !path.try_exists().map_err(|error| refused(reader::reason(&error)))? {
        return Ok(Kills::default());
    }
    let bytes = reader::read_up_to(&path, limits::KILLS_FILE_BYTES_MAX).map_err(&refused)?;
    let written: Written<'_> = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    if let Some(nameless) = written.kills.iter().find(|kill| kill.name.is_empty() != (kill.kind == Kind::All))
    {
        return Err(refused(format!("`{}` and the name `{}`", nameless.kind.as_str(), nameless.name)));
    }
    Ok(written.kills.iter().cloned().collect())
}

/// What an operator wants.
#[derive(Debug)]
pub(crate) enum Change {
    Kill(Kill),
    Unkill { kind: Kind, name: String, operator: String, reason: String },
}

/// Why a change was not made, or not wholly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotKilled,
    Full,
    /// It could not be written, for this reason: a kill acts until the process ends, an unkill does not act.
    NotWritten(String),
}

/// Makes a change, to its end even where whoever asked has left. Tells whether it survives a restart.
///
/// # Errors
/// See [`Refused`].
pub(crate) async fn change(state: &Arc<State>, change: Change) -> Result<bool, Refused> {
    let state = Arc::clone(state);
    let made = tokio::spawn(async move {
        let _turn = state.kills_turn.lock().await;
        let made = make(&state, &change).await;
        tell(&change, &made);
        made
    });
    made.await.unwrap_or_else(|error| Err(Refused::NotWritten(error.to_string())))
}

async fn make(state: &State, change: &Change) -> Result<bool, Refused> {
    let before = state.shared.kills.load_full();
    match change {
        Change::Kill(kill) => {
            let after = Arc::new(before.with(kill.clone()));
            if after.len() > limits::KILLS_MAX {
                return Err(Refused::Full);
            }
            publish(state, Arc::clone(&after));
            write(state, after).await
        }
        Change::Unkill { kind, name, .. } => {
            let after = Arc::new(before.without(*kind, name).ok_or(Refused::NotKilled)?);
            let survives = write(state, Arc::clone(&after)).await?;
            publish(state, after);
            Ok(survives)
        }
    }
}

fn publish(state: &State, kills: Arc<Kills>) {
    state.bury(state.shared.kills.swap(kills));
    state.shared.announce();
}

/// Whether there is a file to write at all.
async fn write(state: &State, kills: Arc<Kills>) -> Result<bool, Refused> {
    let Some(path) = state.plan().state_dir.as_ref().map(|directory| directory.join(FILE)) else {
        return Ok(false);
    };
    let written = tokio::task::spawn_blocking(move || write_file(&path, &kills));
    let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
    written.map(|()| true).map_err(Refused::NotWritten)
}

fn write_file(path: &Path, kills: &Kills) -> Result<(), String> {
    let kills: Vec<Kill> = kills.iter().cloned().collect();
    let mut bytes =
        serde_json::to_vec_pretty(&Written { kills: kills.into() }).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    replace(path, &bytes, true).map_err(|error| format!("{}: {}", path.display(), reader::reason(&error)))
}

/// One line for each change, made or not.
fn tell(change: &Change, made: &Result<bool, Refused>) {
    let (what, kind, name, operator, reason) = match change {
        Change::Kill(kill) => ("killed", kill.kind, &*kill.name, &*kill.operator, &*kill.reason),
        Change::Unkill { kind, name, operator, reason } => {
            ("unkilled", *kind, &**name, &**operator, &**reason)
        }
    };
    let kind = kind.as_str();
    match made {
        Ok(survives_restart) => tracing::warn!(kind, name, operator, reason, survives_restart, "{what}"),
        Err(refused) => tracing::error!(kind, name, operator, reason, ?refused, "not wholly {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;
    use std::path::PathBuf;

    fn kill(kind: Kind, name: &str) -> Change {
        Change::Kill(Kill {
            kind,
            name: name.into(),
            operator: "ann".into(),
            reason: "it \"loops\"".into(),
            since_unix_ms: 1,
        })
    }

    fn unkill(kind: Kind, name: &str) -> Change {
        Change::Unkill { kind, name: name.into(), operator: "ann".into(), reason: String::new() }
    }

    fn state_in(directory: Option<PathBuf>) -> Arc<State> {
        Arc::new(state_with(1, |plan| plan.state_dir = directory))
    }

    #[tokio::test]
    async fn a_change_is_on_the_disk_and_known_to_workers_when_it_is_acknowledged() {
        let folder = Folder::new("kills-kept");
        let state = state_in(Some(folder.path("state")));
        assert_eq!(load(&folder.path("state")), Ok(Kills::default()), "the directory is made");
        let table = [
            (kill(Kind::Principal, "agent-7"), Ok(true), 1),
            (kill(Kind::Tool, "db.q\n"), Ok(true), 2),
            (kill(Kind::All, ""), Ok(true), 3),
            (kill(Kind::Principal, "agent-7"), Ok(true), 3),
            (unkill(Kind::Server, "db"), Err(Refused::NotKilled), 3),
            (unkill(Kind::Principal, "agent-7"), Ok(true), 2),
        ];
        for (step, (asked, expected, count)) in table.into_iter().enumerate() {
            let epoch = state.shared.epoch();
            let told = expected.is_ok();
            assert_eq!(change(&state, asked).await, expected, "{step}");
            assert_eq!(state.shared.epoch() > epoch, told, "{step}");
            let kept = load(&folder.path("state")).expect("readable");
            assert_eq!((kept.len(), &kept), (count, &**state.shared.kills.load()), "{step}");
        }
    }

    #[tokio::test]
    async fn without_a_directory_it_acts_and_says_that_it_will_not_last() {
        let state = state_in(None);
        assert_eq!(change(&state, kill(Kind::All, "")).await, Ok(false));
        assert_eq!(state.shared.kills.load().find("a", "", "b", "c"), Some(Kind::All));
        assert_eq!(change(&state, unkill(Kind::All, "")).await, Ok(false));
        assert!(state.shared.kills.load().is_empty());
    }

    #[tokio::test]
    async fn a_disk_that_fails_leaves_things_killed() {
        let folder = Folder::new("kills-disk");
        let state = state_in(Some(folder.path("state")));
        let failed = |made| matches!(made, Err(Refused::NotWritten(_)));
        assert!(failed(change(&state, kill(Kind::Server, "db")).await), "no such directory");
        assert_eq!(state.shared.kills.load().len(), 1, "it acts");
        assert!(failed(change(&state, unkill(Kind::Server, "db")).await));
        assert_eq!(state.shared.kills.load().len(), 1, "it still acts");
        load(&folder.path("state")).expect("made");
        assert_eq!(change(&state, kill(Kind::All, "")).await, Ok(true));
        assert_eq!(load(&folder.path("state")).expect("readable").len(), 2, "both are kept");
    }

    #[tokio::test]
    async fn there_is_a_bound() {
        let state = state_in(None);
        for number in 0..limits::KILLS_MAX {
            assert_eq!(change(&state, kill(Kind::Principal, &number.to_string())).await, Ok(false));
        }
        assert_eq!(change(&state, kill(Kind::Principal, "more")).await, Err(Refused::Full));
        assert_eq!(change(&state, kill(Kind::Principal, "7")).await, Ok(false), "it is one of them");
    }

    #[test]
    fn a_file_that_cannot_be_read_refuses_the_start() {
        let folder = Folder::new("kills-damaged");
        let good = r#"{"kind":"server","name":"db","operator":"ann","reason":"","sinceUnixMs":1}"#;
        let path = folder.path(FILE);
        let directory = path.parent().expect("in the folder");
        std::fs::write(&path, format!(r#"{{"kills":[{good}]}}"#)).expect("written");
        assert_eq!(load(directory).expect("good").len(), 1);
        let bad = ["".into(), "{".into(), r#"{"kills":[{}]}"#.into(), format!(r#"{{"kills":[{good}"#)];
        let named = good.replace("server", "all");
        let nameless = good.replace(r#""name":"db","#, "");
        let pairs = [named, nameless].map(|kill| format!(r#"{{"kills":[{kill}]}}"#));
        for text in bad.into_iter().chain(pairs) {
            std::fs::write(&path, &text).expect("written");
            let said = load(directory).expect_err("damaged");
            assert!(said.contains(FILE) && said.contains("Mend the file"), "{text}: {said}");
        }
        let said = load(&path.join("below")).expect_err("a file is no directory");
        assert!(said.contains("cannot make the state directory"), "{said}");
    }
}
