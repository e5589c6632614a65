//! Which servers have no stream on which they could tell anything: found out once for all who would listen, and remembered
//! until the next reload.
//!
//! Not here: listening (`stream`, and `sessions` for single clients).

#![expect(clippy::disallowed_types, reason = "control only: a map that its tasks share for a moment")]

use crate::control::probe::dialogue::Dead;
use crate::control::probe::dialogue::streams::Ear;
use crate::mcp::envelope::Era;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::OwnedMutexGuard;

/// A server, the label of its instance, and the era in which it is asked: in each a stream is another thing.
pub(in crate::control) type Place = (Arc<str>, Arc<str>, Era);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::control) enum Verdict {
    /// Nobody knows yet: whoever holds it is finding out.
    #[default]
    Open,
    Deaf,
    Hears,
}

/// By instance; no more of them than a plan has.
#[derive(Default)]
pub(crate) struct Deaf(Mutex<HashMap<Place, Arc<tokio::sync::Mutex<Verdict>>>>);

/// Leave to ask for a stream.
pub(in crate::control) enum Turn {
    /// Nobody knows yet what comes of it, and nobody else asks meanwhile.
    First(OwnedMutexGuard<Verdict>),
    /// Others have had one.
    Any(Arc<tokio::sync::Mutex<Verdict>>),
}

impl Turn {
    /// What came of asking.
    pub(in crate::control) async fn settle(self, place: &Place, asked: &Result<Ear, Dead>) {
        let found = match asked {
            Ok(Ear::Deaf) => Verdict::Deaf,
            Ok(Ear::Open(_)) => Verdict::Hears,
            // Nothing is said of other sessions.
            Ok(Ear::Gone) | Err(_) => return,
        };
        let mut verdict = match self {
            Self::First(verdict) => verdict,
            Self::Any(verdict) => verdict.lock_owned().await,
        };
        if std::mem::replace(&mut *verdict, found) != found && found == Verdict::Deaf {
            tracing::info!(server = &*place.0, "it tells nothing by itself; asked again after a reload");
        }
    }
}

impl Deaf {
    /// Waits for leave to ask for a stream. None: it is known that there is none.
    pub(in crate::control) async fn turn(&self, place: &Place) -> Option<Turn> {
        let shared = Arc::clone(self.all().entry(place.clone()).or_default());
        let verdict = Arc::clone(&shared).lock_owned().await;
        match *verdict {
            Verdict::Deaf => None,
            Verdict::Open => Some(Turn::First(verdict)),
            Verdict::Hears => Some(Turn::Any(shared)),
        }
    }

    /// Asks for a stream, unless it is known that there is none.
    ///
    /// # Errors
    /// Those of `asking`.
    pub(in crate::control) async fn ask(
        &self,
        place: &Place,
        asking: impl Future<Output = Result<Ear, Dead>>,
    ) -> Result<Ear, Dead> {
        let Some(turn) = self.turn(place).await else { return Ok(Ear::Deaf) };
        let asked = asking.await;
        turn.settle(place, &asked).await;
        asked
    }

    /// Whether it is known that there is no stream.
    pub(in crate::control) fn has(&self, place: &Place) -> bool {
        let all = self.all();
        all.get(place)
            .is_some_and(|verdict| verdict.try_lock().is_ok_and(|verdict| *verdict == Verdict::Deaf))
    }

    /// There is another plan: its servers may be others.
    pub(crate) fn forget(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Place, Arc<tokio::sync::Mutex<Verdict>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn place(label: &str, era: Era) -> Place {
        ("up".into(), label.into(), era)
    }

    #[tokio::test]
    async fn a_server_is_asked_until_it_has_answered_and_never_again_if_it_is_deaf() {
        let (deaf, asked) = (Deaf::default(), Cell::new(0));
        let answer = async |answer: Result<Ear, Dead>| {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            answer
        };
        let one = place("one", Era::Legacy);
        assert!(deaf.ask(&one, answer(Err("no answer".into()))).await.is_err() && !deaf.has(&one));
        assert!(matches!(deaf.ask(&one, answer(Ok(Ear::Gone))).await, Ok(Ear::Gone)) && !deaf.has(&one));
        // All at once: the first one finds out for the others.
        let asking = || deaf.ask(&one, answer(Ok(Ear::Deaf)));
        let all = tokio::join!(asking(), asking(), asking());
        assert!(matches!(all, (Ok(Ear::Deaf), Ok(Ear::Deaf), Ok(Ear::Deaf))));
        assert_eq!((asked.get(), deaf.has(&one)), (3, true));
        for other in [place("two", Era::Legacy), place("one", Era::Modern)] {
            assert!(!deaf.has(&other));
            let _ = deaf.ask(&other, answer(Ok(Ear::Gone))).await;
        }
        assert_eq!(asked.get(), 5, "another instance, and another era");
        // One that has had streams, and has none any more; nobody waits for others there.
        let three = place("three", Era::Legacy);
        *deaf.all().entry(three.clone()).or_default().try_lock().expect("free") = Verdict::Hears;
        let asking = || deaf.ask(&three, answer(Ok(Ear::Deaf)));
        let _ = tokio::join!(asking(), asking());
        assert_eq!((asked.get(), deaf.has(&three)), (7, true));
        deaf.forget();
        assert!(!deaf.has(&one));
        let _ = deaf.ask(&one, answer(Ok(Ear::Deaf))).await;
        assert_eq!(asked.get(), 8, "after a reload");
    }
}
