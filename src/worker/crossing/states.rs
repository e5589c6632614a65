//! States of calls that a newer server is not to get: those that the gateway has sealed.
//!
//! Not here: going on with a call that a state is of (`crossing`), and sealing (`mcp::sealed`).

use crate::base::fault::Fault;
use crate::mcp::crossing::questions;
use crate::mcp::envelope::Era;
use crate::mcp::sealed::Kind as TokenKind;
use crate::worker::Worker;
use crate::worker::client::Client;
use crate::worker::crossing::NO_STATE;
use crate::worker::state::Exchange;

/// Keeps a state that we have sealed, which is one of a call that an older server has put a question to, from a newer server,
/// whose states are its own: at whatever address it is used.
///
/// # Errors
/// 400 for such a state.
pub fn check(worker: &Worker, client: &Client, exchange: &Exchange) -> Result<(), Fault> {
    // Nearly no call brings one.
    let brings_one = exchange.call.as_ref().is_some_and(|call| call.era == Era::Modern && call.brings_state);
    let goes_to_older = exchange.crossing.as_ref().is_some_and(|crossing| !crossing.is_same());
    if !brings_one || goes_to_older {
        return Ok(());
    }
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    if is_ours(worker, message) { Err(NO_STATE) } else { Ok(()) }
}

/// Whether a call brings a state that we have sealed.
fn is_ours(worker: &Worker, message: &[u8]) -> bool {
    let Ok(Some(token)) = questions::request_state(message) else { return false };
    worker.shared.seal_keys.load().open_as(TokenKind::State, token.as_bytes()).is_some()
}
