//! What issuers know of tokens that are no JWT (RFC 7662): each token is asked for once at a time, however many calls
//! carry it.
//!
//! Not here: remembering good answers (workers do), and checking what they say (`policy::token`). Tokens that nobody
//! vouches for are remembered and rated by `fruitless`.

mod fruitless;

use crate::base::clock;
use crate::config::identity::Introspection;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::control::fetch;
use crate::control::fetch::Fetched;
use crate::control::fetch::Fetcher;
use crate::control::introspect::fruitless::Fruitless;
use crate::control::introspect::fruitless::Leave;
use crate::control::introspect::fruitless::Patience;
use crate::control::state::State;
use crate::control::token_keys::source;
use crate::handoff::Answer;
use crate::policy::claims::Claims;
use crate::policy::token::json;
use crate::telemetry::family::Family;
use rustls::ClientConfig;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A token, and whose it is said to be.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    issuer: Box<str>,
    token: Box<str>,
}

/// A request that is over.
struct Over {
    asked: Asked,
    found: Found,
}

enum Found {
    Active(Claims),
    Inactive,
    /// Too many others had led to nothing before its turn came.
    Unasked,
    /// Why, as a sentence's end.
    Failed(String),
}

pub(crate) struct Introspector {
    state: Arc<State>,
    requests: JoinSet<Over>,
    permits: Arc<Semaphore>,
    /// Requests under way, with who waits for them: worker and ticket.
    under_way: HashMap<Asked, Vec<(usize, u64)>>,
    /// Issuers whose last request failed, so that it is told once.
    failing: HashSet<Box<str>>,
    fruitless: Fruitless,
}

impl Introspector {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            requests: JoinSet::new(),
            permits: Arc::new(Semaphore::new(limits::ANSWERS_MAX)),
            under_way: HashMap::new(),
            failing: HashSet::new(),
            fruitless: Fruitless::new(),
        }
    }

    pub(crate) fn ask(&mut self, worker: usize, ticket: u64, issuer: Box<str>, token: Secret) {
        let asked = Asked { issuer, token: token.0 };
        if let Some(waiting) = self.under_way.get_mut(&asked) {
            if waiting.len() < limits::QUESTION_RING {
                waiting.push((worker, ticket));
            } else {
                self.state.reply(worker, ticket, Answer::Busy);
            }
            return;
        }
        if self.requests.len() >= limits::QUESTION_RING {
            self.state.reply(worker, ticket, Answer::Busy);
            return;
        }
        match self.fruitless.leave(&asked.issuer, &asked.token, clock::now()) {
            Leave::Remembered => self.refuse(worker, ticket, &asked.issuer, "remembered"),
            Leave::HeldBack => self.refuse(worker, ticket, &asked.issuer, "held_back"),
            Leave::Given(patience) => {
                self.under_way.insert(asked.clone(), vec![(worker, ticket)]);
                self.begin(asked, patience);
            }
        }
    }

    fn begin(&mut self, asked: Asked, patience: Option<Patience>) {
        let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
        self.requests.spawn(async move {
            let _permit = permits.acquire().await;
            let plan = state.plan();
            let issuer = plan.identity.issuers.iter().find(|issuer| issuer.issuer == asked.issuer);
            let found = match issuer.and_then(|issuer| issuer.introspection.as_ref()) {
                Some(_) if patience.is_some_and(|patience| !patience.is_left(clock::now())) => Found::Unasked,
                Some(introspection) => {
                    let service = (introspection, issuer.and_then(|issuer| issuer.tls.as_ref()));
                    introspect(&state.fetcher, service, &asked.token).await
                }
                None => Found::Inactive,
            };
            Over { asked, found }
        });
    }

    /// Answers whoever waited for the next request that is over; None: none is under way.
    pub(crate) async fn settle_next(&mut self) -> Option<()> {
        match self.requests.join_next().await? {
            Ok(over) => self.settle(over),
            Err(error) => tracing::error!(%error, "a token was not asked for; its call is refused"),
        }
        Some(())
    }

    fn settle(&mut self, Over { asked, found }: Over) {
        let Asked { issuer, token } = &asked;
        let now = clock::now();
        let (outcome, forgot) = match &found {
            Found::Active(_) => ("active", self.fruitless.vouched(issuer, token, now)),
            Found::Inactive => ("inactive", self.fruitless.disowned(issuer, token, now)),
            Found::Unasked => ("held_back", false),
            Found::Failed(_) => {
                self.fruitless.failed(issuer, now);
                ("failed", false)
            }
        };
        self.count(issuer, outcome);
        if forgot {
            self.count(issuer, "forgotten");
        }
        self.tell(issuer, &found);
        let claims = if let Found::Active(claims) = found { Some(claims) } else { None };
        for (worker, ticket) in self.under_way.remove(&asked).unwrap_or_default() {
            self.answer(worker, ticket, claims.clone());
        }
    }

    /// Tells the operator once that an issuer cannot be asked, and that it can be again.
    fn tell(&mut self, issuer: &str, found: &Found) {
        match found {
            Found::Unasked => {}
            Found::Active(_) | Found::Inactive => {
                if self.failing.remove(issuer) {
                    tracing::info!(issuer, "it answers again what it knows of tokens");
                }
            }
            Found::Failed(why) => {
                if self.failing.insert(issuer.into()) {
                    tracing::warn!(issuer, why, "it cannot be asked for tokens: they are refused");
                }
            }
        }
    }

    fn count(&self, issuer: &str, outcome: &str) {
        self.state.families.count(Family::Introspections, &[issuer, outcome], 1);
    }

    /// Refuses a token without asking for it.
    fn refuse(&self, worker: usize, ticket: u64, issuer: &str, outcome: &str) {
        self.count(issuer, outcome);
        self.answer(worker, ticket, None);
    }

    fn answer(&self, worker: usize, ticket: u64, claims: Option<Claims>) {
        self.state.reply(worker, ticket, Answer::Introspected(claims.map(Box::new)));
    }
}

/// RFC 7662 section 2.
async fn introspect(
    fetcher: &Fetcher,
    service: (&Introspection, Option<&Arc<ClientConfig>>),
    token: &str,
) -> Found {
    match ask(fetcher, service, token).await {
        Ok(Some(claims)) => Found::Active(claims),
        Ok(None) => Found::Inactive,
        Err(why) => Found::Failed(why),
    }
}

async fn ask(
    fetcher: &Fetcher,
    (Introspection { url, client_id, secret }, tls): (&Introspection, Option<&Arc<ClientConfig>>),
    token: &str,
) -> Result<Option<Claims>, String> {
    let form = [("token", token), ("token_type_hint", "access_token")];
    let request = fetch::post_form(url, &form).basic(client_id, &secret.0).trusting(tls);
    let sent = fetcher.send(request).await;
    let Fetched { status, body, .. } = sent.map_err(|error| format!("{error}{}", source::cure(&error)))?;
    match status {
        200 => {}
        401 | 403 => return Err(format!("it answers {status}: look at `clientId` and `secret`")),
        _ => return Err(format!("it answers {status}; look at the URL of `introspection`")),
    }
    let claims = json::object(&body).ok_or("its answer is no JSON object, or says something twice")?;
    match claims.get("active") {
        Some(Value::Bool(true)) => Ok(Some(Claims(claims))),
        Some(Value::Bool(false)) => Ok(None),
        _ => Err("its answer does not say whether the token is `active`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::identity::ClaimPath;
    use crate::config::identity::Issuer;
    use crate::config::identity::KeySource;
    use crate::control::stub::Stub;
    use crate::control::stub::json;
    use crate::control::stub::with_field;
    use crate::control::tests::state_with;
    use crate::handoff::Letter;

    fn introspector(stub: &Stub) -> Introspector {
        let introspection = Introspection {
            url: stub.url("/introspect").into(),
            client_id: "gate".into(),
            secret: Secret("way".into()),
        };
        let issuer = Issuer {
            issuer: "one".into(),
            audiences: Vec::new(),
            keys: KeySource::None,
            introspection: Some(introspection),
            tls: None,
            principal: ClaimPath("sub".into()),
            roles: None,
            act: ClaimPath("act.sub".into()),
            max_stale_ms: 0,
        };
        Introspector::new(Arc::new(state_with(1, |plan| plan.identity.issuers = vec![Arc::new(issuer)])))
    }

    impl Introspector {
        fn wants(&mut self, ticket: u64, issuer: &str, token: &str) {
            self.ask(0, ticket, issuer.into(), Secret(token.into()));
        }

        /// The answers to all that was asked, by ticket: the subject of each.
        async fn answers(&mut self) -> Vec<(u64, Option<String>)> {
            while self.settle_next().await.is_some() {}
            let mailbox = &self.state.shared.posts[0].mailbox;
            let mut answers: Vec<_> = std::iter::from_fn(|| mailbox.take())
                .map(|letter| match letter {
                    Letter::Answered { ticket, answer: Answer::Introspected(claims) } => {
                        let subject =
                            |claims: Box<Claims>| claims.text(&ClaimPath("sub".into())).map(str::to_owned);
                        (ticket, claims.and_then(subject))
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            answers.sort();
            answers
        }

        fn counted(&self, outcome: &str) -> u64 {
            let table = self.state.families.table(Family::Introspections);
            table.sets().filter(|(labels, _)| *labels[1] == *outcome).map(|(_, count)| count).sum()
        }
    }

    #[tokio::test]
    async fn one_request_asks_for_a_token_however_many_wait() {
        let stub = Stub::start(|request| {
            let subject = if request.contains("token=t%2B1&") { "alice" } else { "bob" };
            json(200, &format!("{{\"active\": true, \"sub\": \"{subject}\"}}"))
        })
        .await;
        let mut introspector = introspector(&stub);
        for ticket in 0..100 {
            introspector.wants(ticket, "one", if ticket == 50 { "t2" } else { "t+1" });
        }
        let answers = introspector.answers().await;
        assert_eq!(answers.len(), 100);
        for (ticket, subject) in answers {
            assert_eq!(subject.as_deref(), Some(if ticket == 50 { "bob" } else { "alice" }), "{ticket}");
        }
        assert_eq!((stub.requests().len(), introspector.counted("active")), (2, 2));
        let requests = stub.requests();
        // gate:way
        assert!(requests[0].contains("authorization: Basic Z2F0ZTp3YXk=\r\n"), "{requests:?}");
        assert!(requests.iter().any(|request| request.ends_with("token=t%2B1&token_type_hint=access_token")));
        introspector.wants(1, "one", "t+1");
        assert_eq!(introspector.answers().await, [(1, Some("alice".into()))]);
        assert_eq!(stub.requests().len(), 3, "nothing good is remembered here");
    }

    /// Found in an audit: one inactive token, sent fifty times, was fifty requests.
    #[tokio::test]
    async fn a_token_that_is_not_active_is_asked_for_once() {
        let stub = Stub::start(|_| json(200, "{\"active\": false}")).await;
        let mut introspector = introspector(&stub);
        for ticket in 0..50 {
            introspector.wants(ticket, "one", "t");
            assert_eq!(introspector.answers().await, [(ticket, None)]);
        }
        assert_eq!((stub.requests().len(), introspector.counted("remembered")), (1, 49));
    }

    /// Found in an audit: fifty tokens that mean nothing were fifty requests.
    #[tokio::test]
    async fn tokens_that_mean_nothing_are_asked_for_at_a_rate() {
        let stub = Stub::start(|request| {
            let active = request.contains("token=good");
            json(200, &format!("{{\"active\": {active}, \"sub\": \"alice\"}}"))
        })
        .await;
        let mut introspector = introspector(&stub);
        introspector.wants(0, "one", "good");
        let alice = [(0, Some("alice".into()))];
        assert_eq!(introspector.answers().await, alice);
        for ticket in 1..=limits::FRUITLESS_BURST * 4 {
            introspector.wants(ticket, "one", &format!("rubbish-{ticket}"));
            assert_eq!(introspector.answers().await, [(ticket, None)]);
        }
        let (asked, held_back) = (introspector.counted("inactive"), introspector.counted("held_back"));
        assert!(asked >= limits::FRUITLESS_BURST && held_back > 0, "{asked} {held_back}");
        assert_eq!(asked + held_back, limits::FRUITLESS_BURST * 4);
        assert_eq!(stub.requests().len() as u64, asked + 1);
        introspector.wants(0, "one", "good");
        assert_eq!(introspector.answers().await, alice, "who is known is not shut out");
    }

    #[tokio::test]
    async fn those_who_wait_have_a_bound() {
        let stub = Stub::start(|_| json(200, "{\"active\": true, \"sub\": \"alice\"}")).await;
        let mut introspector = introspector(&stub);
        let most = limits::QUESTION_RING as u64;
        (0..=most).for_each(|ticket| introspector.wants(ticket, "one", "t"));
        // The token may be a good one.
        let told = introspector.state.shared.posts[0].mailbox.take();
        let busy = |letter: &Letter| matches!(letter, Letter::Answered { ticket, answer: Answer::Busy } if *ticket == most);
        assert!(told.as_ref().is_some_and(busy), "{told:?}");
        let answers = introspector.answers().await;
        assert_eq!(answers.len() as u64, most);
        assert!(answers.iter().all(|(_, subject)| subject.is_some()));
        assert_eq!(stub.requests().len(), 1);
    }

    #[tokio::test]
    async fn nobody_is_let_in_by_anything_else() {
        let inactive = "{\"active\": false, \"sub\": \"alice\"}";
        let huge = format!("{{\"active\": true, \"sub\": \"{}\"}}", "a".repeat(limits::FETCHED_BYTES_MAX));
        let table = [
            ("inactive", json(200, inactive)),
            ("failed", json(200, "{\"active\": \"true\", \"sub\": \"alice\"}")),
            ("failed", json(200, "{\"active\": 1, \"sub\": \"alice\"}")),
            ("failed", json(200, "{\"active\": false, \"active\": true, \"sub\": \"alice\"}")),
            ("failed", json(200, "{\"sub\": \"alice\"}")),
            ("failed", json(200, "[{\"active\": true, \"sub\": \"alice\"}]")),
            ("failed", json(200, "")),
            ("failed", json(401, "{\"active\": true, \"sub\": \"alice\"}")),
            ("failed", json(500, "{\"active\": true, \"sub\": \"alice\"}")),
            ("failed", json(201, "{\"active\": true, \"sub\": \"alice\"}")),
            ("failed", with_field(302, "Location: /", "{\"active\": true, \"sub\": \"alice\"}")),
            ("failed", json(200, &huge)),
            ("failed", Vec::new()),
        ];
        for (outcome, answer) in table {
            let shown = String::from_utf8_lossy(&answer).chars().take(200).collect::<String>();
            let stub = Stub::start(move |_| answer.clone()).await;
            let mut introspector = introspector(&stub);
            introspector.wants(1, "one", "t");
            assert_eq!(introspector.answers().await, [(1, None)], "{shown}");
            assert_eq!(introspector.counted(outcome), 1, "{shown}");
        }
        let stub = Stub::start(|_| json(200, "{\"active\": true, \"sub\": \"alice\"}")).await;
        let mut introspector = introspector(&stub);
        introspector.wants(1, "another", "t");
        assert_eq!(introspector.answers().await, [(1, None)], "not in the plan");
        assert!(stub.requests().is_empty());
    }
}
