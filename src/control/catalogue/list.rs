//! One listing of one server.
//!
//! Not here: what is said (`probe::dialogue`), and when (`desk`, `own`).

use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::control::credentials;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::handoff::Failing;
use crate::handoff::Phase;
use crate::mcp::catalogue::Catalogue;
use crate::policy::credential::Credential;
use std::time::Duration;

/// Why there is no list.
pub(super) struct Failure {
    /// A sentence's end.
    pub(super) why: String,
    pub(super) kind: Failing,
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self { why: why.into(), kind: Failing::Down }
    }
}

/// Lists a server as the gateway itself.
pub(super) async fn list(
    state: &State,
    name: &str,
    era: EraChoice,
) -> Result<(EraChoice, Catalogue), Failure> {
    let plan = state.plan();
    let server = plan.server_of(name).ok_or("the plan has it no more")?;
    let credential = credentials::of_gateway(state, server).await;
    list_as(state, name, era, credential.as_deref()).await
}

/// Lists a server at the first of its instances that answers, those in rotation first, and shows it this.
pub(super) async fn list_as(
    state: &State,
    name: &str,
    era: EraChoice,
    credential: Option<&Credential>,
) -> Result<(EraChoice, Catalogue), Failure> {
    let plan = state.plan();
    let server = plan.server_of(name).ok_or("the plan has it no more")?;
    let patience = Duration::from_millis(limits::CATALOGUE_MS);
    let shown = credential.map_or(&[][..], |credential| &credential.fields);
    let mut failure = Failure::from("it has no instance");
    for endpoint in probe::in_order(state, server).into_iter().take(limits::CATALOGUE_INSTANCES_MAX) {
        // With it a drain waits until the session is closed.
        let _permit = state.listings.acquire().await;
        if matches!(state.shared.phase(), Phase::Draining | Phase::Stopping) {
            return Err("the gateway ends".into());
        }
        let addresses = probe::addresses(state, endpoint);
        let mut dialogue = Dialogue::new(Target { server, endpoint, addresses: &addresses, shown });
        let listed = tokio::time::timeout(patience, dialogue.list(era)).await;
        let kind = dialogue.failing();
        dialogue.close(Duration::from_millis(limits::QUESTION_MS)).await;
        match listed {
            Ok(Ok((era, found))) => return Ok((era, numbered(found).await)),
            Ok(Err(why)) => failure = Failure { why, kind },
            Err(_) => {
                let why = format!("no whole list within {} ms", limits::CATALOGUE_MS);
                failure = Failure { why, kind: Failing::Silent };
            }
        }
    }
    Err(failure)
}

/// With what tells it from other lists.
async fn numbered(found: Catalogue) -> Catalogue {
    // Long lists take milliseconds. Only a defect of ours panics there; then nothing is listed.
    tokio::task::spawn_blocking(move || found.summed()).await.unwrap_or_default()
}
