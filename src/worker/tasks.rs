//! Tasks that servers keep (2025-11-25, and the extension of 2026-07-28): whose they are, only their server could tell.
//!
//! Not here: methods of tasks at hubs, which have none (`address`).
//!
//! A server that is shown one credential for all callers takes them for one, and gives the task of any to any. So where
//! callers have names there is no `tasks/*` there, for nobody: another's task answers as one that never was. A server
//! that is shown who calls keeps its callers apart by itself.
//!
//! Where nobody could come back to a task none is begun: who asks for one gets the result itself, as from a server that has
//! no tasks (2025-11-25, tasks, "Task Support and Handling").

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::credentials::Method as Shown;
use crate::config::identity::Identity;
use crate::config::plan::Server;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Method;
use crate::mcp::target;
use crate::mcp::tasks;
use crate::worker::address;
use crate::worker::client::Client;
use crate::worker::denial;
use crate::worker::state::Exchange;

/// Every method of either kind begins so, those that are not specified yet too.
const METHODS: &[u8] = b"tasks/";

const UNFIT: Fault = Fault::new(
    Kind::InvalidParams,
    "It cannot be told whether this call is to be a task. Send each key once, as specified.",
);

/// Keeps a call away from tasks that may be another caller's, and has it begin none that nobody could come back to.
///
/// # Errors
/// -32601 for a method of tasks, -32602 for a subscription to them, and for a request of which it cannot be told whether it
/// wants to be one.
pub(super) fn settle(
    identity: &Identity,
    server: &Server,
    client: &mut Client,
    exchange: &Exchange,
) -> Result<(), Fault> {
    let Some(call) = &exchange.call else { return Ok(()) };
    let refused = are_refused(identity, server);
    if refused {
        check(call, client, exchange)?;
    }
    if call.kind == CallKind::Request && (refused || exchange.crossing.is_some()) {
        let body = client.input.get_mut(exchange.body.clone()).unwrap_or_default();
        tasks::take_out(body).map_err(|_| UNFIT)?;
    }
    Ok(())
}

fn check(call: &Call, client: &Client, exchange: &Exchange) -> Result<(), Fault> {
    let is_of_tasks = |text: &[u8]| text.starts_with(METHODS);
    let named = is_of_tasks(call.method_text.as_bytes())
        || exchange.batch.iter().any(|called| is_of_tasks(called.method.as_bytes()));
    let body = || client.input.get(exchange.body.clone()).unwrap_or_default();
    let listens = call.method == Method::SubscriptionsListen && target::listens_to_tasks(body());
    if !(named || listens) {
        return Ok(());
    }
    Err(if listens { denial::UNKNOWN } else { address::unknown_method(call.era) })
}

/// Whether the tasks of a server are nobody's: then it is not said that it has any.
pub(super) fn are_refused(identity: &Identity, server: &Server) -> bool {
    identity.is_configured() && !tells_callers_apart(identity, server)
}

/// Whether a server is shown for whom each call is. A claim as a field may be the same for many, and a signed statement
/// names a principal without its tenant.
fn tells_callers_apart(identity: &Identity, server: &Server) -> bool {
    match server.auth.as_ref().map(|auth| &auth.method) {
        Some(Shown::TokenExchange(_) | Shown::UserOauth(_)) => true,
        Some(Shown::SignedJwt(_)) => identity.tenant.is_none(),
        Some(Shown::Headers(_) | Shown::ClientCredentials(_) | Shown::Vault(_)) | None => false,
    }
}
