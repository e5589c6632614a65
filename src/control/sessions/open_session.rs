//! A session that is open on an older server: where it lives, and what it is told beside the calls that go by it.
//!
//! Not here: opening it (`sessions`), and when it is told what.

use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::control::credentials;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::mcp::sealed;
use crate::mcp::sealed::own::Member;
use crate::policy::credential::Credential;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where a session lives, and how it is called there.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    pub(crate) server: Arc<str>,
    /// Of the instance that it lives on.
    pub(crate) label: Arc<str>,
    /// As the server calls it.
    pub(crate) name: Box<[u8]>,
    pub(crate) revision: Box<str>,
    /// What the server is shown of whoever it was opened for; None: what it is shown of the gateway.
    pub(crate) shown: Option<Arc<Credential>>,
}

impl OpenSession {
    /// The session that a dialogue has opened; None: it has opened none.
    pub(crate) fn of(
        dialogue: &Dialogue<'_>,
        server: &Arc<str>,
        label: &Arc<str>,
        shown: Option<Arc<Credential>>,
    ) -> Option<Self> {
        let name: Box<[u8]> = dialogue.name().into();
        let (server, label) = (Arc::clone(server), Arc::clone(label));
        (!name.is_empty()).then(|| Self { server, label, name, revision: dialogue.revision().into(), shown })
    }

    /// One that is sealed in a client's. None: its server, or its instance, has left the plan.
    pub(crate) fn of_member(plan: &Plan, (server, member): &(Arc<str>, Member)) -> Option<Self> {
        let instances = &plan.server_of(server)?.instances;
        let instance = instances.iter().find(|one| sealed::instance_name(&one.label) == member.instance)?;
        Some(Self {
            server: Arc::clone(server),
            label: Arc::clone(&instance.label),
            name: member.name.as_slice().into(),
            revision: member.revision.into(),
            shown: None,
        })
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.server, &self.label, &self.name) == (&other.server, &other.label, &other.name)
    }

    /// Where it lives by a plan. None: its server, or its instance, has left that.
    pub(crate) fn home<'p>(&self, plan: &'p Plan) -> Option<(&'p Server, &'p Endpoint)> {
        let server = plan.server_of(&self.server)?;
        Some((server, server.instances.iter().find(|instance| instance.label == self.label)?))
    }

    /// What its server is shown in it.
    async fn credential(&self, state: &State, server: &Server) -> Option<Arc<Credential>> {
        match &self.shown {
            Some(shown) => Some(Arc::clone(shown)),
            None => credentials::of_gateway(state, server).await,
        }
    }
}

/// What it takes to speak to the server of a session.
pub(super) struct Way {
    plan: Arc<Plan>,
    shown: Option<Arc<Credential>>,
    addresses: Arc<[SocketAddr]>,
}

impl Way {
    /// None: its server, or its instance, has left the plan.
    pub(super) async fn of(state: &State, session: &OpenSession) -> Option<Self> {
        let plan = state.plan();
        let (server, endpoint) = session.home(&plan)?;
        let shown = session.credential(state, server).await;
        let addresses = probe::addresses(state, endpoint);
        Some(Self { shown, addresses, plan })
    }

    /// None: the session is none of a name.
    pub(super) fn dialogue(&self, session: &OpenSession) -> Option<Dialogue<'_>> {
        let (server, endpoint) = session.home(&self.plan)?;
        let shown = self.shown.as_ref().map_or(&[][..], |credential| &credential.fields);
        let target = Target { server, endpoint, addresses: &self.addresses, shown };
        Dialogue::of(target, &session.name, &session.revision)
    }
}

/// What a session is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// It is closed.
    End,
    /// Log messages are wanted from this level on, of the eight in the order of RFC 5424. The number tells the request from
    /// all before it.
    LogLevel { level: u8, number: u64 },
    /// Its client has other roots than before.
    RootsChanged,
}

/// Tells it, as far as the server lets us: one that keeps silence is not waited for long.
pub(crate) async fn tell(state: Arc<State>, permits: Arc<Semaphore>, session: OpenSession, word: Word) {
    // Never closed.
    let _permit = permits.acquire_owned().await;
    let Some(way) = Way::of(&state, &session).await else { return };
    let Some(mut dialogue) = way.dialogue(&session) else { return };
    let patience = Duration::from_millis(limits::QUESTION_MS);
    let told = async {
        match word {
            Word::End => {
                dialogue.close(patience).await;
                Ok(())
            }
            Word::LogLevel { level, number } => dialogue.set_log_level(level, number).await,
            Word::RootsChanged => dialogue.roots_changed().await,
        }
    };
    // Closing is tried twice.
    if !matches!(tokio::time::timeout(2 * patience, told).await, Ok(Ok(()))) {
        tracing::debug!(server = &*session.server, ?word, "a session was not told");
    }
}
