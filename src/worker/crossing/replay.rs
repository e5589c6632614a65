//! The rest of a stream that an older client has lost: its server is asked to say it once more (2025-11-25, transports,
//! "Resumability and Redelivery").
//!
//! Not here: finding out whose event it was (`address`), and what comes (`relay::cross`).

use crate::base::fault::Fault;
use crate::config::pattern::Named;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::worker::Worker;
use crate::worker::adopted::ServerState;
use crate::worker::bridge;
use crate::worker::crossing::Crossing;
use crate::worker::crossing::held;
use crate::worker::state::Exchange;

impl Crossing {
    /// A stream that goes on behind an event, on that instance of its server.
    pub fn replaying(event: &[u8], instance: usize) -> Self {
        let nothing = (Named::Tool, String::new(), String::new());
        let eras = (Era::Legacy, Era::Legacy);
        Self { replays: Some(instance), event: Some(event.into()), ..Self::new(nothing, Method::Other, eras) }
    }

    /// Listens in the client's session, whose server knows what it has said there.
    ///
    /// # Errors
    /// 404 where it has none there.
    pub(super) async fn replay(
        &mut self,
        worker: &Worker,
        slot: usize,
        exchange: &Exchange,
        (server, instance, wraps): (&ServerState, usize, bool),
    ) -> Result<(), Fault> {
        let own = exchange.own.as_ref().ok_or(bridge::SESSION_GONE)?;
        let held = held::of_client(worker, slot, exchange, own, (server, instance)).await;
        self.held = Some(held.ok_or(bridge::SESSION_GONE)?);
        let event = self.event.take().unwrap_or_default();
        self.listen(event);
        self.lens = self.lens(b"", server, wraps, own.abilities);
        Ok(())
    }
}
