//! Sessions on servers of the older revisions, and what is remembered of clients': both are control's, and workers use them.
//!
//! Not here: opening, closing and remembering (control).

use crate::handoff::Subscriptions;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed::own::Member;
use ahash::HashMap;
use ahash::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A session of an older revision that the gateway has opened on a server, for one owner. It is closed by control, a
/// while after its last use.
#[derive(Debug)]
pub struct UpstreamSession {
    /// Tells it from those before it that were opened for the same purpose.
    pub number: u64,
    /// As the server calls it; empty: it keeps no sessions.
    pub name: Box<[u8]>,
    /// The revision that was agreed on.
    pub revision: Box<str>,
    /// Which instance it lives on (`sealed_name` of it).
    pub instance: u32,
    /// When it was used last, in nanoseconds of the clock. Written by workers, with each use.
    pub used_ns: AtomicU64,
    /// Until when somebody may come back to a question that was put in it: until then it outlives even the process, as
    /// the sealed state of the question does. The same clock.
    pub kept_until_ns: AtomicU64,
}

/// What a session is opened for. Equal ones share one session; different ones never do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub server: Arc<str>,
    /// Which instances it has by the plan of the call (`Server::place`): one that began before a reload and one that began
    /// after it cannot use each other's.
    pub place: u64,
    /// Whose it is (`mcp::sealed::owner`).
    pub owner: [u8; 16],
    /// Of the client's own session; all zero for a client of the newest revision, which has none.
    pub client: [u8; 8],
    /// What the client can do (`mcp::crossing::Abilities`), as bits.
    pub abilities: u8,
    /// Which of its server's pools it is for, by name; None: the first.
    pub pool: Option<Box<str>>,
}

impl SessionKey {
    /// Whether it is for a client's own session; the other kind is its owner's, for clients that have none.
    pub fn is_of_client(&self) -> bool {
        self.client != [0; 8]
    }
}

/// A session that is sealed in a client's, and its server.
pub type SealedMember = (Arc<str>, Member);

/// Who may speak to a client at a hub by themselves, in sessions that were opened for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    pub servers: Vec<Arc<str>>,
    /// Their sessions that are sealed in the client's.
    pub members: Vec<SealedMember>,
    /// What the client can be asked.
    pub abilities: Abilities,
}

/// What a worker wants control to remember of a session that the gateway holds by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionNote {
    /// It has ended; control closes the sessions on servers that were opened for it.
    Ended,
    /// Log messages from this level on, of the eight in the order of RFC 5424: 0 is `debug`. The servers in whose sessions
    /// the client is are told.
    Level(u8, Arc<[SealedMember]>),
    /// It has other roots than before; its servers are told.
    RootsChanged(Arc<[SealedMember]>),
    /// It wants to hear of a resource, by its server and the server's own URI; or no more.
    Subscribed(Arc<str>, Arc<str>),
    Unsubscribed(Arc<str>, Arc<str>),
    /// A stream of its begins to hear of changes, or ends: its worker and number.
    Listens(usize, u64),
    Leaves(usize, u64),
    /// Who may speak to it while it has a stream; in place of what was said before.
    Hears(Arc<Hearing>),
}

/// What is known of sessions beside what is sealed in their names, by their numbers. Bounded: the oldest go first.
#[derive(Clone, Debug, Default)]
pub struct SessionNotes {
    pub ended: HashSet<[u8; 8]>,
    pub levels: HashMap<[u8; 8], u8>,
    /// Resources that sessions want to hear of. Another pointer: something changed.
    pub subscriptions: Arc<HashMap<[u8; 8], Subscriptions>>,
    /// Of sessions with several streams the one that tells of changes, by worker and number: no message may come on more
    /// than one (2025-11-25, transports, "Multiple Connections").
    pub tellers: Arc<HashMap<[u8; 8], (usize, u64)>>,
}
