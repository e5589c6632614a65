//! Calls of older clients at hubs that are under way on one worker, so that a `notifications/cancelled` finds its call.
//!
//! Not here: calls that pass to one server untouched, whose cancellations do as well.

use crate::base::text::Text;
use crate::config::limits;
use crate::mcp::envelope::Era;
use crate::mcp::unescape;
use crate::policy::credential::Credential;
use crate::worker::Worker;
use crate::worker::aside;
use crate::worker::aside::Note;
use crate::worker::crossing::held::Held;
use crate::worker::state::Exchange;
use crate::worker::watch::Cause;
use ahash::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// By the client's session, and the id.
#[derive(Default)]
pub struct Calls(RefCell<HashMap<Key, Under>>);

type Key = ([u8; 8], Box<[u8]>);

/// One call.
struct Under {
    slot: usize,
    /// Where an older server is told; none: a server of 2026-07-28 sees its stream closed.
    told: Option<Told>,
}

/// What it takes to tell a server.
struct Told {
    server: Text<32>,
    held: Held,
    /// The id that the server got: raw JSON.
    id: String,
    shown: Option<Arc<Credential>>,
}

/// Holds the place of a call for as long as it is under way.
pub struct Entry<'w> {
    worker: &'w Worker,
    key: Key,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.worker.calls.0.borrow_mut().remove(&self.key);
    }
}

/// An id, however it is written: a client that writes it anew may escape other characters.
fn plain(raw: &[u8]) -> Box<[u8]> {
    let text = std::str::from_utf8(raw).ok().and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"'));
    text.and_then(unescape::whole).map_or(raw.into(), |text| format!("\"{text}\"").into_bytes().into())
}

/// Notes a call; none where nobody could cancel it, or where so many are under way that this one cannot be.
pub fn enter<'w>(worker: &'w Worker, exchange: &Exchange, slot: usize) -> Option<Entry<'w>> {
    let (own, crossing) = (exchange.own.as_ref()?, exchange.crossing.as_ref()?);
    if crossing.replays.is_some() {
        return None;
    }
    if worker.calls.0.borrow().len() >= limits::CANCELLABLE_CALLS_MAX {
        return None;
    }
    let older = crossing.held.as_ref().filter(|_| crossing.server == Era::Legacy);
    let told = older.map(|held| Told {
        server: Text::new(exchange.record.server.as_str()),
        held: held.clone(),
        id: crossing.upstream_id.clone(),
        shown: exchange.shown.as_ref().map(|shown| Arc::clone(&shown.credential)),
    });
    let key = (own.number, plain(crossing.client_id.as_bytes()));
    worker.calls.0.borrow_mut().insert(Key::clone(&key), Under { slot, told });
    Some(Entry { worker, key })
}

/// Ends a call that its client does not want any more, if it is one of this worker's.
pub fn cancel(worker: &Rc<Worker>, session: [u8; 8], id: &[u8]) {
    let Some(Under { slot, told }) = worker.calls.0.borrow_mut().remove(&(session, plain(id))) else {
        return;
    };
    let Some(Told { server, held, id, shown }) = told else {
        return worker.watch.end(slot, Cause::ClientLeft);
    };
    // Whether it still answers is the server's to say (2025-11-25, cancellation).
    let message = aside::cancelled(&id);
    let note = Note::showing(&worker.adopt(), shown.as_deref(), server.as_str(), &held, &message);
    if let Some(note) = note {
        note.send_behind(worker);
    }
}
