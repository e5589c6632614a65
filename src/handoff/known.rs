//! Down: what control has found out about names and servers, for all workers.
//!
//! Not here: finding it out.

use crate::config::plan::EraChoice;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::Era;
use crate::policy::credential::Cause;
use ahash::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Addresses of upstream names, under `host:port`. A name that does not resolve keeps its old set.
#[derive(Debug, Default)]
pub struct Addresses {
    pub by_name: HashMap<Box<str>, Arc<[SocketAddr]>>,
}

/// What servers offer, by the server's name; of those that nobody needs to know about, and that could not be listed,
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Catalogues {
    pub by_server: HashMap<Arc<str>, Arc<Catalogue>>,
    /// The eras that servers have shown.
    pub eras: HashMap<Arc<str>, Eras>,
    /// Servers that could not be listed the last time, and why: what is known of them may be old.
    pub failing: HashMap<Arc<str>, Failing>,
}

/// Why a server cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It cannot be reached, or says that it cannot answer.
    Down,
    /// It does not take what it is shown.
    Refused(Cause),
    /// It does not answer in time.
    Silent,
    /// What it answers is no list.
    Unfit,
}

/// Which eras a server speaks: none where nobody has asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eras {
    /// It has answered `server/discover`.
    pub modern: Option<bool>,
    /// It has answered `initialize`.
    pub legacy: Option<bool>,
    /// It has, and without a session: it cannot ask its clients anything in that era.
    pub is_sessionless: bool,
}

impl Eras {
    /// It answers in no way that tells: each client is served in its own.
    pub const NEITHER: Self = Self { modern: Some(false), legacy: Some(false), is_sessionless: false };

    /// The era in which a client is served: its own, unless the server is known to speak only the other. None: it has to
    /// be asked.
    pub const fn way(self, client: Era) -> Option<Era> {
        let (own, other, other_era) = match client {
            Era::Modern => (self.modern, self.legacy, Era::Legacy),
            Era::Legacy => (self.legacy, self.modern, Era::Modern),
        };
        match (own, other) {
            (Some(true), _) | (_, Some(false)) => Some(client),
            (Some(false), Some(true)) => Some(other_era),
            _ => None,
        }
    }

    /// As a configuration pins them.
    pub const fn pinned(choice: EraChoice) -> Self {
        match choice {
            EraChoice::Auto => Self { modern: None, legacy: None, is_sessionless: false },
            EraChoice::Modern => Self { modern: Some(true), legacy: Some(false), is_sessionless: false },
            EraChoice::Legacy => Self { modern: Some(false), legacy: Some(true), is_sessionless: false },
        }
    }

    /// It was listed in this era; in the older one only because it has refused the newer.
    pub const fn learn(&mut self, era: EraChoice) {
        match era {
            EraChoice::Auto => {}
            EraChoice::Modern => self.modern = Some(true),
            EraChoice::Legacy => (self.modern, self.legacy) = (Some(false), Some(true)),
        }
    }

    pub const fn speaks(self, era: Era) -> Option<bool> {
        match era {
            Era::Modern => self.modern,
            Era::Legacy => self.legacy,
        }
    }
}
