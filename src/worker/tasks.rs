//! Tasks that servers keep (2025-11-25, and the extension of 2026-07-28): whose they are, only their server could tell.
//!
//! Not here: hubs, which offer none.
//!
//! A server that is shown one credential for all callers takes them for one, and gives the task of any to any. So where
//! callers have names there is no `tasks/*` there, for nobody: another's task answers as one that never was. A server
//! that is shown who calls keeps its callers apart by itself.

use crate::base::fault::Fault;
use crate::config::credentials::Method as Shown;
use crate::config::identity::Identity;
use crate::config::plan::Server;
use crate::mcp::envelope::Method;
use crate::mcp::target;
use crate::worker::address;
use crate::worker::client::Client;
use crate::worker::denial;
use crate::worker::state::Exchange;

/// Every method of either kind begins so, those that are not specified yet too.
const METHODS: &[u8] = b"tasks/";

/// Whether a call would reach tasks that may be another caller's.
///
/// # Errors
/// -32601 for a method of tasks, -32602 for a subscription to them.
pub(super) fn check(
    identity: &Identity,
    server: &Server,
    client: &Client,
    exchange: &Exchange,
) -> Result<(), Fault> {
    let Some(call) = &exchange.call else { return Ok(()) };
    if !are_refused(identity, server) {
        return Ok(());
    }
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
