//! What the watching thread tells the side thread: that files may have changed, one flag a kind.
//!
//! A flag and no queue: a change of the keys is never lost because changes of the configuration wait, nor forgotten
//! with them. One that is told again before it was heard is one.
//!
//! Not here: which files these are (`watch`), and what follows (`reload`).

use tokio::sync::mpsc;

/// Which of the watched files may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Config,
    Keys,
}

/// The telling end.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    config: mpsc::Sender<()>,
    keys: mpsc::Sender<()>,
}

/// The hearing end.
#[derive(Debug)]
pub(crate) struct Changes {
    config: mpsc::Receiver<()>,
    keys: mpsc::Receiver<()>,
}

pub(crate) fn flags() -> (Told, Changes) {
    // One place each: a full one is a flag that is up, and what it says is still to be heard.
    let ((config, hears_config), (keys, hears_keys)) = (mpsc::channel(1), mpsc::channel(1));
    (Told { config, keys }, Changes { config: hears_config, keys: hears_keys })
}

impl Told {
    /// Never waits.
    pub(crate) fn tell(&self, change: Change) {
        let flag = match change {
            Change::Config => &self.config,
            Change::Keys => &self.keys,
        };
        let _ = flag.try_send(());
    }

    /// Whether nobody hears any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.keys.is_closed()
    }
}

impl Changes {
    /// The next change, of the keys first: a revocation waits for nothing. None: nobody tells any more.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        tokio::select! {
            biased;
            heard = self.keys.recv() => heard.map(|()| Change::Keys),
            heard = self.config.recv() => heard.map(|()| Change::Config),
        }
    }

    /// Takes the flag of the configuration down: it is about to be read anyway. That of the keys stays up.
    pub(crate) fn forget_config(&mut self) {
        let _ = self.config.try_recv();
    }

    /// What is told already.
    #[cfg(test)]
    pub(crate) fn now(&mut self) -> Option<Change> {
        let keys = self.keys.try_recv().map(|()| Change::Keys);
        keys.or_else(|_| self.config.try_recv().map(|()| Change::Config)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key's revocation was dropped where sixteen changes of the configuration waited.
    #[tokio::test]
    async fn a_flood_of_one_kind_loses_nothing_of_the_other() {
        let (told, mut changes) = flags();
        for _ in 0..1_000 {
            told.tell(Change::Config);
        }
        told.tell(Change::Keys);
        changes.forget_config();
        assert_eq!(changes.now(), Some(Change::Keys));
        assert_eq!(changes.now(), None, "a flood is one change");
        told.tell(Change::Config);
        drop(told);
        assert_eq!(changes.config.recv().await, Some(()), "told before the end");
        assert_eq!(changes.next().await, None);
    }
}
