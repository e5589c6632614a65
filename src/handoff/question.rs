//! Questions to control, and what it answers.
//!
//! Not here: the queue that they wait in, and who answers which (control).

use crate::config::identity::Secret;
use crate::config::plan::Plan;
use crate::handoff::SessionKey;
use crate::handoff::SessionNote;
use crate::handoff::UpstreamSession;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::Era;
use crate::policy::claims::Claims;
use crate::policy::credential::Credential;
use crate::policy::credential::Needed;
use crate::policy::credential::Trouble;
use crate::policy::external::Ruling;
use crate::policy::external::Unrouted;
use std::sync::Arc;

/// Resources, by server and the server's own URI.
pub type Subscriptions = Vec<(Arc<str>, Arc<str>)>;

/// What a stream of a client wants to hear of.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub servers: Vec<Arc<str>>,
    pub resources: Subscriptions,
}

/// Something that a worker cannot know and control can find out.
#[derive(Debug)]
pub struct Question {
    /// Worker that asked, and its name for the waiting task.
    pub worker: usize,
    pub ticket: u64,
    pub what: Asked,
}

#[derive(Debug)]
pub enum Asked {
    /// The addresses of a name that has none yet, under `host:port`.
    Resolve { host: Box<str>, port: u16, key: Box<str> },
    /// The signing keys of an issuer, because a token names one that is not known.
    TokenKeys { issuer: Box<str>, kid: Box<str> },
    /// What an issuer knows of a token that is no JWT (RFC 7662).
    Introspect { issuer: Box<str>, token: Secret },
    /// Whether a call may pass, as somebody else decides.
    Decide(Box<Inquiry>),
    /// Which pool a call is for, as a hook of `route` says.
    Route(Box<Inquiry>),
    /// What a server offers, because a caller names something that is not known.
    Catalogue { server: Arc<str> },
    /// What each of these offers: answered once every one was listed or could not be, within two seconds. From now on
    /// they are kept listed.
    Catalogues { servers: Box<[Arc<str>]> },
    /// What a server offers a caller that it is shown a credential of: answered within two seconds.
    OwnCatalogue(Box<OwnAsked>),
    /// Whether a server speaks the era of a client; where it does not, whether it speaks the other. `doubted`: what is
    /// known of it has just failed.
    Era { server: Arc<str>, client: Era, doubted: bool },
    /// A session on a server of this plan; `not`: the number of one that the server knows no more.
    Session { key: SessionKey, not: Option<u64>, shown: Option<Arc<Credential>>, plan: Arc<Plan> },
    /// What is to be remembered of a client's session: answered once every worker can know it.
    Note { session: [u8; 8], note: SessionNote },
    /// A stream wants to hear of changes; in place of what it said before. None: it has ended. Answered, if anybody waits,
    /// with what is refused, once the servers are listened to, or cannot be within a second.
    Interest { stream: u64, what: Option<Interest> },
    /// What a server is to be shown of a caller.
    Credential(Box<Needed>),
    /// Somebody comes back from a token service with this query: it holds a code.
    Consent { query: Secret },
}

/// A caller that a server is to be listed for.
#[derive(Debug)]
pub struct OwnAsked {
    pub needed: Needed,
    /// What the server is shown; None: control obtains it.
    pub shown: Option<Arc<Credential>>,
    /// A list that is fresh is asked for again, at most once a second.
    pub anew: bool,
}

/// A call that an external decision point or a hook of `route` is asked about.
#[derive(Debug)]
pub struct Inquiry {
    /// The rule that wants to know.
    pub rule: Box<str>,
    pub url: Box<str>,
    pub timeout_ms: u64,
    /// How long an answer stands for equal questions.
    pub cache_ms: u64,
    /// A JSON object.
    pub input: Box<str>,
}

/// What control has found out.
#[derive(Debug)]
pub enum Answer {
    /// Whether what was asked for is in `Live` now.
    Known(bool),
    /// So many wait for a key or for what is known of a token that this one cannot: nothing was found out.
    Busy,
    /// None: the token is not active, or nobody could be asked.
    Introspected(Option<Box<Claims>>),
    Credential(Result<Arc<Credential>, Box<Trouble>>),
    /// An error is why the server is not listed for this caller; None: it cannot be, or not in time.
    OwnCatalogue(Result<Arc<Catalogue>, Option<Box<Trouble>>>),
    /// An error is what to tell whoever came.
    Consent(Result<(), &'static str>),
    /// None: nobody has answered in time.
    Decided(Option<Ruling>),
    /// The name of a pool, which the server need not have.
    Routed(Result<Box<str>, Unrouted>),
    /// None: the server opens none.
    Session(Option<Arc<UpstreamSession>>),
    /// Servers are listened to, as far as they can be, but not for these resources: they say that there is none.
    Listening {
        refused: Subscriptions,
    },
}
