//! Servers whose lists are fresh for long: they are listened to meanwhile, also while no client is, so that a change that
//! they tell ends the freshness at once.
//!
//! Not here: listening (`listen`), and what follows a change (`desk`).

use crate::config::limits;
use crate::control::listen::News;
use crate::handoff::Interest;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// No worker's.
const OWN: usize = usize::MAX;

pub(super) struct Attention {
    interests: mpsc::Sender<News>,
    /// Servers that are listened to on our behalf.
    told: Vec<Arc<str>>,
}

/// Whether a list is fresh for so long that its server is listened to: below that it is asked for again before long.
pub(super) const fn is_worth_it(fresh_ms: u64) -> bool {
    fresh_ms >= limits::LISTEN_FRESH_MS_MIN
}

impl Attention {
    pub(super) const fn new(interests: mpsc::Sender<News>) -> Self {
        Self { interests, told: Vec::new() }
    }

    /// Has these listened to, and no others. False: it could not be said, and has to be said again.
    pub(super) fn follow(&mut self, mut servers: Vec<Arc<str>>) -> bool {
        servers.sort_unstable();
        if servers == self.told {
            return true;
        }
        let what = Interest { servers: servers.clone(), resources: Vec::new() };
        let what = Some(what).filter(|what| !what.servers.is_empty());
        match self.interests.try_send(News { worker: OWN, ticket: u64::MAX, stream: 0, what }) {
            Err(TrySendError::Full(_)) => false,
            // Closed: the process ends.
            Ok(()) | Err(TrySendError::Closed(_)) => {
                self.told = servers;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn what_is_listened_to_is_said_once_and_again_where_there_was_no_room() {
        let (interests, mut news) = mpsc::channel(1);
        let mut attention = Attention::new(interests);
        let mut heard = || news.try_recv().ok().map(|one| one.what.map(|what| what.servers));
        assert!(attention.follow(Vec::new()));
        assert_eq!(heard(), None, "nothing to say");
        assert!(attention.follow(names(&["b", "a"])) && attention.follow(names(&["a", "b"])));
        assert!(!attention.follow(names(&["a"])), "no room");
        assert_eq!(heard(), Some(Some(names(&["a", "b"]))));
        assert!(attention.follow(names(&["a"])));
        assert_eq!(heard(), Some(Some(names(&["a"]))));
        assert!(attention.follow(Vec::new()));
        assert_eq!((heard(), heard()), (Some(None), None));
        drop(news);
        assert!(attention.follow(names(&["a"])), "nobody is left to hear it");
    }
}
