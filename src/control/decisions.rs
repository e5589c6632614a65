//! Decisions of others about calls: Open Policy Agent's data API, `POST URL` with `{"input": …}`.
//!
//! Not here: what is asked (the worker writes it), and what follows where nobody answers in time: that is the rule's.
//! Equal questions that come together are asked once, and an answer stands for as long as the rule says.

#![expect(clippy::disallowed_types, reason = "control only: no worker ever sees these answers")]

use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::text::Text;
use crate::config::limits;
use crate::control::fetch;
use crate::control::fetch::FetchError;
use crate::control::fetch::Fetched;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Inquiry;
use crate::policy::external::Ruling;
use crate::policy::external::Silence;
use crate::telemetry::family::Family;
use aws_lc_rs::digest;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Questions of workers that are being asked, by decision point: each has a bounded number of its own, so that one that
/// hangs holds up nobody else.
#[derive(Default)]
pub(crate) struct Deciding {
    /// Each ends with the URL that it has asked.
    asking: JoinSet<Box<str>>,
    points: HashMap<Box<str>, Point>,
}

struct Point {
    /// Requests to it that may be under way at a time.
    turns: Arc<Semaphore>,
    /// Questions that wait for it; never 0.
    waiting: usize,
}

impl Deciding {
    /// Asks, and has the worker told what came of it. One too many is told at once that nobody has answered.
    pub(crate) fn ask(&mut self, state: &Arc<State>, worker: usize, ticket: u64, inquiry: Box<Inquiry>) {
        let point = self
            .points
            .entry(inquiry.url.clone())
            .or_insert_with(|| Point { turns: Arc::new(Semaphore::new(limits::ANSWERS_MAX)), waiting: 0 });
        if point.waiting >= limits::QUESTION_RING {
            count(state, &inquiry, "busy");
            return state.reply(worker, ticket, Answer::Decided(None));
        }
        point.waiting += 1;
        let (state, turns) = (Arc::clone(state), Arc::clone(&point.turns));
        self.asking.spawn(async move {
            let ruling = ask(&state, &inquiry, &turns).await;
            state.reply(worker, ticket, Answer::Decided(ruling));
            inquiry.url
        });
    }

    /// Takes note of the next question that is over. None: there is none.
    pub(crate) async fn settle_next(&mut self) -> Option<()> {
        // None of them panics, and none is aborted.
        let url = self.asking.join_next().await?.unwrap_or_default();
        if let Some(point) = self.points.get_mut(&url) {
            point.waiting -= 1;
            if point.waiting == 0 {
                self.points.remove(&url);
            }
        }
        Some(())
    }
}

/// An answer that is known or on its way. None: nobody gave one in time.
type Slot = Arc<OnceCell<Option<Ruling>>>;
type Question = [u8; 32];

/// What was asked lately, by the question.
#[derive(Default)]
pub(crate) struct Decisions(Mutex<HashMap<Question, Known>>);

struct Known {
    slot: Slot,
    /// Until when the answer stands, once there is one.
    until: Moment,
}

impl Known {
    /// Whether a question like it needs no request of its own: it is being asked, or the answer stands.
    fn counts(&self, now: Moment) -> bool {
        self.slot.get().is_none_or(|answer| answer.is_some() && now < self.until)
    }
}

/// Asks, or finds out what was answered. None: nobody has answered within the rule's time.
async fn ask(state: &State, inquiry: &Inquiry, turns: &Semaphore) -> Option<Ruling> {
    let question = name(inquiry);
    let slot = state.decisions.slot(question, inquiry, clock::now());
    let answer = slot.get_or_init(|| put(state, inquiry, turns)).await.clone();
    if answer.is_none() || inquiry.cache_ms == 0 {
        // What failed is asked again, and so is all that nobody may keep.
        state.decisions.forget(&question, &slot);
    }
    answer
}

fn count(state: &State, inquiry: &Inquiry, outcome: &str) {
    state.families.count(Family::ExternalDecisions, &[&inquiry.rule, outcome], 1);
}

async fn put(state: &State, inquiry: &Inquiry, turns: &Semaphore) -> Option<Ruling> {
    // Whoever has to wait for its turn has no more time for that.
    let asking = async {
        // Never closed.
        let _turn = turns.acquire().await;
        post(state, inquiry, limits::FETCHED_BYTES_MAX).await
    };
    let asked = tokio::time::timeout(Duration::from_millis(inquiry.timeout_ms), asking).await;
    let (ruling, outcome) = match asked.unwrap_or(Err(Silence::Late)) {
        Err(silence) => (None, silence.as_str()),
        Ok(answer) => match read(answer.status, &answer.body) {
            Some(ruling) if ruling.allow => (Some(ruling), "allow"),
            Some(ruling) => (Some(ruling), "deny"),
            None => (None, Silence::Unreadable.as_str()),
        },
    };
    count(state, inquiry, outcome);
    ruling
}

/// Puts one question, in the words of that API. The answer has at most `bytes_max`.
///
/// # Errors
/// Why there is none in time.
pub(crate) async fn post(state: &State, inquiry: &Inquiry, bytes_max: usize) -> Result<Fetched, Silence> {
    let document = format!("{{\"input\":{}}}", inquiry.input);
    let patience = Duration::from_millis(inquiry.timeout_ms);
    let fetch = fetch::post_json(&inquiry.url, document).at_most(bytes_max).patient(patience);
    let error = match state.fetcher.send(fetch).await {
        Ok(answer) => return Ok(answer),
        Err(FetchError::Late) => return Err(Silence::Late),
        Err(error) => error,
    };
    tracing::debug!(rule = &*inquiry.rule, %error, "who is asked about a call does not answer");
    Err(if error == FetchError::TooLong { Silence::Unreadable } else { Silence::Unreachable })
}

/// `{"result": true}` or `{"result": {"allow": …, "reason": …}}`. A policy that is undefined for the input has no
/// result, and allows nothing.
fn read(status: u16, body: &[u8]) -> Option<Ruling> {
    if status != 200 {
        return None;
    }
    let Value::Object(mut answer) = serde_json::from_slice(body).ok()? else { return None };
    match answer.remove("result") {
        None => Some(Ruling { allow: false, reason: Box::default() }),
        Some(Value::Bool(allow)) => Some(Ruling { allow, reason: Box::default() }),
        Some(Value::Object(result)) => {
            let allow = result.get("allow")?.as_bool()?;
            let reason = result.get("reason").and_then(Value::as_str).unwrap_or_default();
            Some(Ruling { allow, reason: cut(reason).as_str().into() })
        }
        Some(_) => None,
    }
}

/// A reason stands in a refusal.
fn cut(reason: &str) -> Text<{ limits::REASON_BYTES_MAX }> {
    Text::new(reason)
}

fn name(inquiry: &Inquiry) -> Question {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [&inquiry.url, &*inquiry.input] {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}

impl Decisions {
    fn slot(&self, question: Question, inquiry: &Inquiry, now: Moment) -> Slot {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&question).filter(|known| known.counts(now)) {
            return Arc::clone(&known.slot);
        }
        if known.len() >= limits::DECISIONS_MAX {
            known.retain(|_, known| known.counts(now));
        }
        if known.len() >= limits::DECISIONS_MAX {
            known.clear();
        }
        // From when it was asked: an answer is no newer than its question.
        let until = now.plus_millis(inquiry.cache_ms);
        let slot = Slot::default();
        known.insert(question, Known { slot: Arc::clone(&slot), until });
        slot
    }

    fn forget(&self, question: &Question, slot: &Slot) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(question).is_some_and(|known| Arc::ptr_eq(&known.slot, slot)) {
            known.remove(question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stub::Stub;
    use crate::control::stub::json;
    use crate::control::tests::state;
    use crate::handoff::Letter;

    fn ruling(body: &str) -> Option<(bool, String)> {
        read(200, body.as_bytes()).map(|ruling| (ruling.allow, ruling.reason.to_string()))
    }

    #[test]
    fn answers_are_read_strictly() {
        assert_eq!(ruling(r#"{"result": true}"#), Some((true, String::new())));
        assert_eq!(ruling(r#"{"result": false}"#), Some((false, String::new())));
        assert_eq!(ruling("{}"), Some((false, String::new())), "undefined");
        let said = ruling(r#"{"result": {"allow": false, "reason": "not on Fridays"}, "decision_id": "1"}"#);
        assert_eq!(said, Some((false, "not on Fridays".into())));
        for bad in [
            "",
            "true",
            "[]",
            r#"{"result": 1}"#,
            r#"{"result": "true"}"#,
            r#"{"result": null}"#,
            r#"{"result": {}}"#,
            r#"{"result": {"allow": "true"}}"#,
        ] {
            assert_eq!(ruling(bad), None, "{bad}");
        }
        assert!(read(500, br#"{"result": true}"#).is_none());
        let long = "ä".repeat(limits::REASON_BYTES_MAX);
        assert!(
            ruling(&format!(r#"{{"result": {{"allow": true, "reason": "{long}"}}}}"#)).unwrap().1.len()
                <= 256
        );
    }

    /// Found in an audit: a point that hung had a bounded number of questions, and every other question of the gateway
    /// waited for them.
    #[tokio::test]
    async fn regression_a_point_that_hangs_holds_up_nobody_else() {
        let state = Arc::new(state(1));
        let allow = |_: &str| json(200, r#"{"result": true}"#);
        let (hangs, works) = (Stub::start(allow).await, Stub::start(allow).await);
        hangs.hold();
        let mut deciding = Deciding::default();
        let asks = |stub: &Stub, input: u64| {
            let (url, input) = (stub.url("/v1/data/mcp").into(), input.to_string().into());
            Box::new(Inquiry { rule: "r".into(), url, timeout_ms: 60_000, cache_ms: 60_000, input })
        };
        let answers = || {
            let letters = std::iter::from_fn(|| state.shared.posts[0].mailbox.take());
            let answers = letters.map(|letter| match letter {
                Letter::Answered { ticket, answer: Answer::Decided(said) } => {
                    (ticket, said.map(|said| said.allow))
                }
                other => panic!("{other:?}"),
            });
            answers.collect::<Vec<_>>()
        };
        // As many different ones as are asked at a time, and one that all others share.
        let most = limits::QUESTION_RING as u64;
        let input = |ticket: u64| ticket.min(limits::ANSWERS_MAX as u64);
        (0..=most).for_each(|ticket| deciding.ask(&state, 0, ticket, asks(&hangs, input(ticket))));
        assert_eq!(answers(), [(most, None)], "one too many");
        deciding.ask(&state, 0, 7_777, asks(&works, 1));
        assert_eq!(deciding.settle_next().await, Some(()));
        assert_eq!(answers(), [(7_777, Some(true))]);
        assert!(hangs.requests().len() <= limits::ANSWERS_MAX, "{}", hangs.requests().len());
        hangs.release();
        while deciding.settle_next().await.is_some() {}
        let answers = answers();
        assert_eq!(answers.len() as u64, most);
        assert!(answers.iter().all(|(_, said)| *said == Some(true)), "{answers:?}");
        assert!(deciding.points.is_empty());
        assert_eq!(hangs.requests().len(), limits::ANSWERS_MAX + 1);
    }

    fn inquiry(input: &str, cache_ms: u64) -> Inquiry {
        Inquiry {
            rule: "r".into(),
            url: "http://127.0.0.1:1/".into(),
            timeout_ms: 5,
            cache_ms,
            input: input.into(),
        }
    }

    /// Found in an audit: an answer stood for as long as the rule waits for one, whatever `cacheFor` said.
    #[test]
    fn equal_questions_share_an_answer_for_a_time() {
        for (cache_ms, timeout_ms) in [(1_000, 5), (100, 10_000), (0, 10_000)] {
            let decisions = Decisions::default();
            let at = |input: &str, millis| {
                let inquiry = Inquiry { timeout_ms, ..inquiry(input, cache_ms) };
                decisions.slot(name(&inquiry), &inquiry, Moment::ZERO.plus_millis(millis))
            };
            let first = at("1", 0);
            assert!(Arc::ptr_eq(&first, &at("1", 4_999)), "asked once, however long it takes");
            assert!(!Arc::ptr_eq(&first, &at("2", 1)));
            first.set(Some(Ruling { allow: true, reason: Box::default() })).expect("the first answer");
            if cache_ms > 0 {
                assert!(Arc::ptr_eq(&first, &at("1", cache_ms - 1)));
            }
            let second = at("1", cache_ms);
            assert!(!Arc::ptr_eq(&first, &second), "as old as the question {cache_ms}");
            decisions.forget(&name(&inquiry("1", 0)), &first);
            assert!(Arc::ptr_eq(&second, &at("1", 10_001)), "a newer one is not forgotten for an older");
            second.set(None).expect("the first answer");
            assert!(!Arc::ptr_eq(&second, &at("1", cache_ms)), "nobody has answered");
        }
    }

    #[tokio::test]
    async fn what_nobody_may_keep_is_not_kept() {
        let stub = Stub::start(|_| json(200, r#"{"result": true}"#)).await;
        let state = state(1);
        for (cache_ms, kept) in [(0, 0), (60_000, 1)] {
            let url = stub.url("/").into();
            let inquiry = Inquiry { url, timeout_ms: 10_000, ..inquiry("1", cache_ms) };
            assert!(ask(&state, &inquiry, &Semaphore::new(1)).await.is_some_and(|ruling| ruling.allow));
            assert_eq!(state.decisions.0.lock().unwrap().len(), kept);
        }
        assert_eq!(stub.requests().len(), 2);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let decisions = Decisions::default();
        for number in 0..=limits::DECISIONS_MAX {
            let inquiry = inquiry(&number.to_string(), 1_000);
            decisions.slot(name(&inquiry), &inquiry, Moment::ZERO);
        }
        assert_eq!(decisions.0.lock().unwrap().len(), 1);
    }
}
