//! The end of one session on a server.
//!
//! Not here: which, and when.

use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::control::credentials;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::policy::credential::Credential;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A session that is to be closed.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) server: Arc<str>,
    /// Of the instance that it lives on.
    pub(crate) label: Arc<str>,
    /// As the server calls it.
    pub(crate) name: Box<[u8]>,
    pub(crate) revision: Box<str>,
    /// What the server is shown of whoever it was opened for; None: what it is shown of the gateway.
    pub(crate) shown: Option<Arc<Credential>>,
}

impl Closing {
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

    /// Where it lives by a plan. None: its server, or its instance, has left that.
    pub(crate) fn home<'p>(&self, plan: &'p Plan) -> Option<(&'p Server, &'p Endpoint)> {
        let server = plan.server_of(&self.server)?;
        Some((server, server.instances.iter().find(|instance| instance.label == self.label)?))
    }

    /// What its server is shown in it.
    pub(crate) async fn credential(&self, state: &State, server: &Server) -> Option<Arc<Credential>> {
        match &self.shown {
            Some(shown) => Some(Arc::clone(shown)),
            None => credentials::of_gateway(state, server).await,
        }
    }
}

/// Closes it, as far as the server lets us: one that keeps silence is not waited for long.
pub(crate) async fn close(state: Arc<State>, permits: Arc<Semaphore>, session: Closing) {
    // Never closed.
    let _permit = permits.acquire_owned().await;
    let plan = state.plan();
    let Some((server, endpoint)) = session.home(&plan) else { return };
    let shown = session.credential(&state, server).await;
    let addresses = probe::addresses(&state, endpoint);
    let shown = shown.as_ref().map_or(&[][..], |credential| &credential.fields);
    let target = Target { server, endpoint, addresses: &addresses, shown };
    if let Some(mut dialogue) = Dialogue::of(target, &session.name, &session.revision) {
        dialogue.close(Duration::from_millis(limits::QUESTION_MS)).await;
    }
}
