//! One message of an answer in other words: what becomes of it, and what the client gets.
//!
//! Not here: the words (`mcp::crossing`), and how messages come and go (`cross`).

use crate::base::fault::Fault;
use crate::config::limits;
use crate::mcp::crossing::answer::Seen;
use crate::mcp::crossing::questions;
use crate::mcp::listing;
use crate::worker::Worker;
use crate::worker::aside::Note;
use crate::worker::bridge;
use crate::worker::crossing::Turn;
use crate::worker::relay::cross::STRANGE;
use crate::worker::relay::hold;
use crate::worker::state::Exchange;
use std::rc::Rc;

/// What became of a message.
pub enum Step {
    On,
    /// It was the answer.
    Answered,
    /// Something else has to be done first.
    Turned,
}

/// Looks at one message: what becomes of it, and what the client gets.
///
/// # Errors
/// It is none that a client could be given.
pub fn see(
    worker: &Rc<Worker>,
    exchange: &mut Exchange,
    message: &[u8],
    event: &[u8],
) -> Result<(Step, Option<Vec<u8>>), Fault> {
    let text = std::str::from_utf8(message).unwrap_or_default();
    if exchange.crossing.as_ref().is_some_and(|crossing| crossing.is_strange(text)) {
        return Ok((Step::On, None));
    }
    let mut screened = Vec::new();
    let message = match &mut exchange.sight {
        Some(sight) => {
            let changed = sight.look(worker, |screen| listing::screen(message, screen, &mut screened));
            if changed.map_err(hold::fault)? { &screened } else { message }
        }
        None => message,
    };
    let Some(crossing) = &mut exchange.crossing else { return Err(STRANGE) };
    let Some(lens) = &crossing.lens else { return Err(STRANGE) };
    let mut out = Vec::new();
    let text = |at: std::ops::Range<usize>| {
        String::from_utf8_lossy(message.get(at).unwrap_or_default()).into_owned()
    };
    let note = match lens.look(message, &mut out).map_err(hold::fault)? {
        Seen::On { changed, is_answer } => {
            let step = if is_answer { Step::Answered } else { Step::On };
            return Ok((step, Some(if changed { out } else { message.to_vec() })));
        }
        Seen::Dropped => return Ok((Step::On, None)),
        Seen::Ping { id } => questions::response(&text(id), "{}"),
        Seen::Unanswerable { id } => questions::unanswerable(&text(id)),
        Seen::Asks { id, method, params } => {
            if !crossing.notes.is_empty() {
                // It was asked before: some servers replay what they ask in other calls of the session.
                return Ok((Step::On, None));
            }
            if crossing.asked.len() >= limits::QUESTIONS_MAX {
                return Err(STRANGE);
            }
            let asked = bridge::Asked { id: text(id), method, params: params.map(text) };
            crossing.asked.push(asked);
            crossing.event = Some(event.to_vec());
            return Ok((Step::On, None));
        }
        Seen::InputRequired { result } => {
            crossing.turn = Some(Turn::InputRequired(text(result)));
            return Ok((Step::Turned, None));
        }
        Seen::UrlsRequired { elicitations } => {
            let id = crossing.client_id.clone();
            let message = questions::url_required(&id, &text(elicitations)).map_err(hold::fault)?;
            return Ok((Step::Answered, Some(message)));
        }
    };
    send_behind(worker, exchange, &note);
    Ok((Step::On, None))
}

/// Tells the server something beside its answer.
fn send_behind(worker: &Rc<Worker>, exchange: &Exchange, note: &[u8]) {
    let Some(held) = exchange.crossing.as_ref().and_then(|crossing| crossing.held.as_ref()) else {
        return;
    };
    let adopted = worker.adopt();
    let server = exchange.record.server.as_str();
    if let Some(note) = Note::new(&adopted, exchange, server, held, note) {
        note.send_behind(&Rc::clone(worker));
    }
}
