//! Questions of workers that take time: each goes to the part of the side thread that finds its answer.
//!
//! Not here: how an answer is found, and names of upstreams (`resolve`).

use crate::config::limits;
use crate::control::catalogue::CatalogueAsked;
use crate::control::credentials::Answering;
use crate::control::decisions;
use crate::control::introspect::Introspector;
use crate::control::state::State;
use crate::control::token_keys::KeyAsked;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Question;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Hands them on until the process ends.
pub(crate) async fn serve(
    state: Arc<State>,
    keys: mpsc::Sender<KeyAsked>,
    catalogues: mpsc::Sender<CatalogueAsked>,
) {
    let Some(mut questions) = state.questions() else { return };
    let mut introspector = Introspector::new(Arc::clone(&state));
    let mut credentials = Answering::new(Arc::clone(&state));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(question) = questions.recv(), if tasks.len() < limits::ANSWERS_MAX => {
                let Question { worker, ticket, what } = question;
                match what {
                    Asked::TokenKeys { issuer, kid } => {
                        if keys.try_send(KeyAsked { worker, ticket, issuer, kid }).is_err() {
                            state.reply(worker, ticket, Answer::Known(false));
                        }
                    }
                    Asked::Credential(needed) => credentials.ask(worker, ticket, needed),
                    Asked::Consent { query } => credentials.accept(worker, ticket, query),
                    Asked::Introspect { issuer, token } => introspector.ask(worker, ticket, issuer, token),
                    Asked::Decide(inquiry) => {
                        let state = Arc::clone(&state);
                        tasks.spawn(async move {
                            let ruling = decisions::ask(&state, *inquiry).await;
                            state.reply(worker, ticket, Answer::Decided(ruling));
                        });
                    }
                    Asked::Catalogue { server } => {
                        if catalogues.try_send(CatalogueAsked { worker, ticket, server }).is_err() {
                            state.reply(worker, ticket, Answer::Known(false));
                        }
                    }
                    Asked::Resolve { .. } => state.reply(worker, ticket, Answer::Known(false)),
                }
            }
            Some(()) = introspector.settle_next() => {}
            Some(()) = credentials.settle_next() => {}
            Some(_) = tasks.join_next() => {}
            else => return,
        }
    }
}
