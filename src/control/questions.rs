//! Questions of workers that take time: each goes to the part of the side thread that finds its answer.
//!
//! Not here: how an answer is found, and names of upstreams (`resolve`).

use crate::control::catalogue::Wish;
use crate::control::catalogue::own;
use crate::control::credentials::Answering;
use crate::control::decisions::Deciding;
use crate::control::eras::EraAsked;
use crate::control::introspect::Introspector;
use crate::control::listen::News;
use crate::control::referrals::Referrals;
use crate::control::sessions::SessionAsked;
use crate::control::state::State;
use crate::control::token_keys::KeyAsked;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Question;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where those parts hear what they are asked; all bounded.
pub(crate) struct Doors {
    pub(crate) keys: mpsc::Sender<KeyAsked>,
    pub(crate) catalogues: mpsc::Sender<Wish>,
    pub(crate) eras: mpsc::Sender<EraAsked>,
    pub(crate) sessions: mpsc::Sender<SessionAsked>,
}

struct Desk {
    state: Arc<State>,
    doors: Doors,
    introspector: Introspector,
    credentials: Answering,
    own_catalogues: own::Answering,
    decisions: Deciding,
    referrals: Referrals,
}

/// Hands them on until the process ends.
pub(crate) async fn serve(state: Arc<State>, doors: Doors) {
    let Some(mut questions) = state.questions() else { return };
    let mut desk = Desk {
        introspector: Introspector::new(Arc::clone(&state)),
        credentials: Answering::new(Arc::clone(&state)),
        own_catalogues: own::Answering::default(),
        decisions: Deciding::default(),
        referrals: Referrals::default(),
        state,
        doors,
    };
    loop {
        tokio::select! {
            Some(question) = questions.recv() => desk.hand_on(question),
            Some(()) = desk.introspector.settle_next() => {}
            Some(()) = desk.credentials.settle_next() => {}
            Some(()) = desk.own_catalogues.settle_next() => {}
            Some(()) = desk.decisions.settle_next() => {}
            Some(()) = desk.referrals.settle_next() => {}
            else => return,
        }
    }
}

/// Hands on what workers tell, until the process ends: none of it is lost where its reader is slow.
pub(crate) async fn hear(
    state: Arc<State>,
    sessions: mpsc::Sender<SessionAsked>,
    interests: mpsc::Sender<News>,
) {
    let Some(mut telling) = state.telling() else { return };
    while let Some(Question { worker, ticket, what }) = telling.recv().await {
        // An error: the reader is gone, and the process with it.
        match what {
            Asked::Note { session, note } => {
                let _ = sessions.send(SessionAsked::Note { worker, ticket, session, note }).await;
            }
            Asked::Interest { stream, what } => {
                let _ = interests.send(News { worker, ticket, stream, what }).await;
            }
            _ => {}
        }
    }
}

impl Desk {
    fn hand_on(&mut self, Question { worker, ticket, what }: Question) {
        let full = match what {
            Asked::Credential(needed) => return self.credentials.ask(worker, ticket, needed),
            Asked::Consent { query } => return self.credentials.accept(worker, ticket, query),
            Asked::Introspect { issuer, token } => {
                return self.introspector.ask(worker, ticket, issuer, token);
            }
            Asked::Decide(inquiry) => return self.decisions.ask(&self.state, worker, ticket, inquiry),
            Asked::Route(inquiry) => return self.referrals.ask(&self.state, worker, ticket, inquiry),
            Asked::TokenKeys { issuer, kid } => {
                if self.doors.keys.try_send(KeyAsked { worker, ticket, issuer, kid }).is_err() {
                    self.state.reply(worker, ticket, Answer::Busy);
                }
                return;
            }
            Asked::Catalogue { server } => {
                self.doors.catalogues.try_send(Wish::Named { worker, ticket, server }).is_err()
            }
            Asked::Catalogues { servers } => {
                self.doors.catalogues.try_send(Wish::All { worker, ticket, servers }).is_err()
            }
            Asked::OwnCatalogue(asked) => {
                return self.own_catalogues.ask(&self.state, worker, ticket, asked);
            }
            Asked::Era { server, client, doubted } => {
                self.doors.eras.try_send(EraAsked { worker, ticket, server, client, doubted }).is_err()
            }
            Asked::Session { key, not, shown, plan } => {
                let asked = SessionAsked::Session { worker, ticket, key, not, shown, plan };
                if self.doors.sessions.try_send(asked).is_err() {
                    self.state.reply(worker, ticket, Answer::Session(None));
                }
                return;
            }
            // What is told goes another way; names are never handed on.
            Asked::Note { .. } | Asked::Interest { .. } => return,
            Asked::Resolve { .. } => true,
        };
        if full {
            self.state.reply(worker, ticket, Answer::Known(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::state;
    use crate::handoff::SessionNote;

    /// All streams of a gateway may end at the same moment.
    #[tokio::test]
    async fn what_is_told_waits_for_a_slow_reader() {
        let state = Arc::new(state(1));
        for stream in 0..20_000 {
            let what = Asked::Interest { stream, what: None };
            state.hand_on(Question { worker: 0, ticket: 0, what });
        }
        let what = Asked::Note { session: [7; 8], note: SessionNote::Ended };
        state.hand_on(Question { worker: 0, ticket: 0, what });
        assert_eq!(state.answers_lost.read(), 0);
        let (sessions, mut noted) = mpsc::channel(1);
        let (interests, mut news) = mpsc::channel(1);
        let hearing = tokio::spawn(hear(Arc::clone(&state), sessions, interests));
        for stream in 0..20_000 {
            assert_eq!(news.recv().await.expect("news").stream, stream, "in order");
        }
        let noted = noted.recv().await.expect("a note");
        assert!(matches!(noted, SessionAsked::Note { session: [7, ..], .. }));
        hearing.abort();
    }
}
