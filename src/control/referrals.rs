//! Questions to hooks of `route`: which pool of its server a call is for.
//!
//! Not here: what is asked (the worker writes it), how (`decisions`), and what follows where no pool is named: the next
//! route counts. Each hook has a bounded number of questions of its own, so that one that hangs holds up nobody else.

use crate::config::limits;
use crate::control::decisions;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Inquiry;
use crate::policy::external::Silence;
use crate::policy::external::Unrouted;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What is being asked.
#[derive(Default)]
pub(crate) struct Referrals {
    /// Each ends with the URL that it has asked.
    asking: JoinSet<Box<str>>,
    /// Questions under way, by URL; none is 0.
    in_flight: HashMap<Box<str>, usize>,
}

impl Referrals {
    /// Asks, and has the worker told what came of it.
    pub(crate) fn ask(&mut self, state: &Arc<State>, worker: usize, ticket: u64, inquiry: Box<Inquiry>) {
        let in_flight = self.in_flight.entry(inquiry.url.clone()).or_default();
        if *in_flight >= limits::ROUTE_QUESTIONS_MAX {
            state.reply(worker, ticket, Answer::Routed(Err(Unrouted::Busy)));
            return;
        }
        *in_flight += 1;
        let state = Arc::clone(state);
        self.asking.spawn(async move {
            let answer = decisions::post(&state, &inquiry, limits::ROUTE_ANSWER_BYTES_MAX).await;
            let pool = answer.map_err(Unrouted::Silent).and_then(|answer| read(answer.status, &answer.body));
            state.reply(worker, ticket, Answer::Routed(pool));
            inquiry.url
        });
    }

    /// Takes note of the next question that is over. None: there is none.
    pub(crate) async fn settle_next(&mut self) -> Option<()> {
        // None of them panics, and none is aborted.
        let url = self.asking.join_next().await?.unwrap_or_default();
        if let Some(in_flight) = self.in_flight.get_mut(&url) {
            *in_flight -= 1;
            if *in_flight == 0 {
                self.in_flight.remove(&url);
            }
        }
        Some(())
    }
}

/// `{"result": "eu"}` or `{"result": {"pool": "eu"}}`. Without a result, or with null, it names none.
fn read(status: u16, body: &[u8]) -> Result<Box<str>, Unrouted> {
    const UNREADABLE: Unrouted = Unrouted::Silent(Silence::Unreadable);
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else { return Err(UNREADABLE) };
    if status != 200 {
        return Err(UNREADABLE);
    }
    let said = match answer.remove("result") {
        Some(Value::Object(mut result)) => result.remove("pool"),
        said => said,
    };
    match said {
        None | Some(Value::Null) => Err(Unrouted::None),
        Some(Value::String(pool)) => Ok(pool.into()),
        Some(_) => Err(UNREADABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stub::Stub;
    use crate::control::stub::json;
    use crate::control::tests::state;
    use crate::handoff::Letter;

    fn inquiry(stub: &Stub) -> Box<Inquiry> {
        let url = stub.url("/class").into();
        Box::new(Inquiry { rule: "r".into(), url, timeout_ms: 60_000, cache_ms: 0, input: "{}".into() })
    }

    fn answers(state: &State) -> Vec<(u64, Result<Box<str>, Unrouted>)> {
        let letters = std::iter::from_fn(|| state.shared.posts[0].mailbox.take());
        let answers = letters.map(|letter| match letter {
            Letter::Answered { ticket, answer: Answer::Routed(said) } => (ticket, said),
            other => panic!("{other:?}"),
        });
        answers.collect()
    }

    /// A hook that hangs has a bounded number of questions, and another one answers all the same.
    #[tokio::test]
    async fn a_hook_that_hangs_holds_up_nobody_else() {
        let state = Arc::new(state(1));
        let (hangs, works) =
            (Stub::start(|_| json(200, "{}")).await, Stub::start(|_| json(200, r#"{"result": "eu"}"#)).await);
        hangs.hold();
        let mut referrals = Referrals::default();
        let most = limits::ROUTE_QUESTIONS_MAX as u64;
        (0..=most).for_each(|ticket| referrals.ask(&state, 0, ticket, inquiry(&hangs)));
        assert_eq!(answers(&state), [(most, Err(Unrouted::Busy))], "one too many");
        referrals.ask(&state, 0, 7_777, inquiry(&works));
        assert_eq!(referrals.settle_next().await, Some(()));
        assert_eq!(answers(&state), [(7_777, Ok("eu".into()))]);
        hangs.release();
        while referrals.settle_next().await.is_some() {}
        assert_eq!(answers(&state).len() as u64, most);
        assert!(referrals.in_flight.is_empty());
    }

    #[tokio::test]
    async fn a_long_answer_is_none() {
        let state = Arc::new(state(1));
        let long = format!(r#"{{"result": "eu", "more": "{}"}}"#, "x".repeat(limits::ROUTE_ANSWER_BYTES_MAX));
        let stub = Stub::start(move |_| json(200, &long)).await;
        let mut referrals = Referrals::default();
        referrals.ask(&state, 0, 1, inquiry(&stub));
        referrals.settle_next().await;
        assert_eq!(answers(&state), [(1, Err(Unrouted::Silent(Silence::Unreadable)))]);
    }

    #[test]
    fn answers_are_read_strictly() {
        for said in [r#"{"result": "eu"}"#, r#"{"result": {"pool": "eu", "why": 1}, "decision_id": "1"}"#] {
            assert_eq!(read(200, said.as_bytes()), Ok("eu".into()), "{said}");
        }
        for said in ["{}", r#"{"result": null}"#, r#"{"result": {}}"#, r#"{"result": {"pool": null}}"#] {
            assert_eq!(read(200, said.as_bytes()), Err(Unrouted::None), "{said}");
        }
        let unreadable = Err(Unrouted::Silent(Silence::Unreadable));
        for said in [
            "",
            "eu",
            "\"eu\"",
            "[]",
            r#"{"result": 1}"#,
            r#"{"result": ["eu"]}"#,
            r#"{"result": {"pool": 1}}"#,
        ] {
            assert_eq!(read(200, said.as_bytes()), unreadable, "{said}");
        }
        assert_eq!(read(500, br#"{"result": "eu"}"#), unreadable);
    }
}
