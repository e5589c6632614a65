//! Keys of issuers that answer well, badly, or not at all.
//!
//! Not here: times (`desk`), and requests (`fetch`).

use super::*;
use crate::config::identity::ClaimPath;
use crate::config::limits;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::with_field;
use crate::control::tests::Folder;
use crate::control::tests::state_with;
use crate::handoff::Letter;

const HOUR_MS: u64 = 3_600_000;

/// A key set with these names; each key is the one of RFC 7517 appendix A.1.
fn key_set(kids: &[&str]) -> String {
    let keys: Vec<_> = kids
        .iter()
        .map(|kid| {
            serde_json::json!({
                "kty": "EC", "crv": "P-256", "kid": kid,
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            })
        })
        .collect();
    serde_json::json!({ "keys": keys }).to_string()
}

pub(super) fn issuer(name: &str, keys: KeySource) -> Arc<Issuer> {
    Arc::new(Issuer {
        issuer: name.into(),
        audiences: Vec::new(),
        keys,
        introspection: None,
        tls: None,
        principal: ClaimPath("sub".into()),
        roles: None,
        act: ClaimPath("act.sub".into()),
        max_stale_ms: HOUR_MS,
    })
}

/// A keeper of the keys of these issuers, which has not begun.
fn keeper(issuers: Vec<Arc<Issuer>>) -> TokenKeyKeeper {
    TokenKeyKeeper::new(Arc::new(state_with(1, |plan| plan.identity.issuers = issuers)))
}

fn of_url(stub: &Stub) -> TokenKeyKeeper {
    keeper(vec![issuer("one", KeySource::Url(stub.url("/keys").into()))])
}

fn at(millis: u64) -> Moment {
    Moment::ZERO.plus_millis(millis)
}

impl TokenKeyKeeper {
    /// Does what is due at this time, to its end.
    async fn work(&mut self, now: Moment) {
        self.turn(now);
        while let Some(over) = self.fetches.join_next().await {
            self.settle(over.expect("no panic"), now);
        }
    }

    fn wants(&mut self, ticket: u64, kid: &str, now: Moment) {
        self.ask(KeyAsked { worker: 0, ticket, issuer: "one".into(), kid: kid.into() }, now);
    }

    fn answers(&self) -> Vec<(u64, bool)> {
        let mailbox = &self.state.shared.posts[0].mailbox;
        let letters = std::iter::from_fn(|| mailbox.take());
        let answers = letters.map(|letter| match letter {
            Letter::Answered { ticket, answer: Answer::Known(known) } => (ticket, known),
            other => panic!("{other:?}"),
        });
        answers.collect()
    }

    fn set_issuers(&self, issuers: Vec<Arc<Issuer>>) {
        let other = state_with(1, |plan| plan.identity.issuers = issuers);
        self.state.shared.set_plan(other.plan());
    }

    fn counted(&self, outcome: &str) -> u64 {
        let table = self.state.families.table(Family::JwksRefreshes);
        let of = table.sets().filter(|(labels, _)| *labels[1] == *outcome);
        of.map(|(_, count)| count).sum()
    }
}

#[tokio::test]
async fn keys_are_there_after_the_start() {
    let stub = Stub::start(|_| json(200, &key_set(&["a", "b"]))).await;
    let mut keeper = of_url(&stub);
    let epoch = keeper.state.shared.epoch();
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    assert!(keeper.is_known("one", "a") && keeper.is_known("one", "b") && !keeper.is_known("one", "c"));
    assert_eq!((keeper.state.shared.epoch(), keeper.counted("ok")), (epoch + 1, 1));
    keeper.wants(1, "a", at(1));
    assert_eq!(keeper.answers(), [(1, true)], "known already");
    assert_eq!(stub.requests().len(), 1);
    let stale = keeper.state.shared.token_keys.load().by_issuer["one"].stale_unix;
    assert!((clock::unix_millis() / 1000 + 3_590..=clock::unix_millis() / 1000 + 3_601).contains(&stale));
}

#[tokio::test]
async fn a_new_key_causes_one_request_and_an_unknown_one_no_more_than_one_in_thirty_seconds() {
    let stub = Stub::start(|_| json(200, &key_set(&["a"]))).await;
    let mut keeper = of_url(&stub);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    stub.turn(|_| json(200, &key_set(&["a", "b"])));
    (0..50).for_each(|ticket| keeper.wants(ticket, "b", at(1_000)));
    assert_eq!(keeper.answers(), [], "they wait");
    keeper.work(at(1_000)).await;
    assert_eq!(keeper.answers(), (0..50).map(|ticket| (ticket, true)).collect::<Vec<_>>());
    assert_eq!(stub.requests().len(), 2);
    for (now, kid, requests) in [(1_001, "c", 2), (30_999, "d", 2), (31_000, "d", 3), (31_001, "d", 3)] {
        keeper.wants(now, kid, at(now));
        if requests == 2 {
            assert_eq!(keeper.answers(), [(now, false)], "at once");
        }
        keeper.work(at(now)).await;
        assert_eq!(stub.requests().len(), requests, "{now}");
    }
    assert_eq!(keeper.answers(), [(31_000, false), (31_001, false)]);
}

/// However many wait for a key, one request finds it; whoever is one too many is told that, and not that there is none.
#[tokio::test]
async fn those_who_wait_have_a_bound() {
    let stub = Stub::start(|_| json(200, &key_set(&["new"]))).await;
    let mut keeper = of_url(&stub);
    let most = limits::QUESTION_RING as u64;
    keeper.follow_plan(at(0));
    (0..=most).for_each(|ticket| keeper.wants(ticket, "new", at(0)));
    let told = keeper.state.shared.posts[0].mailbox.take();
    let busy = |letter: &Letter| matches!(letter, Letter::Answered { ticket, answer: Answer::Busy } if *ticket == most);
    assert!(told.as_ref().is_some_and(busy), "{told:?}");
    keeper.work(at(0)).await;
    let answers = keeper.answers();
    assert_eq!((answers.len() as u64, stub.requests().len()), (most, 1));
    assert!(answers.iter().all(|(_, known)| *known));
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let stub = Stub::start(|_| json(200, &key_set(&["a"]))).await;
    let mut keeper = of_url(&stub);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    let before = keeper.state.shared.token_keys.load_full();
    let huge = vec![b' '; limits::FETCHED_BYTES_MAX + 1];
    let bad: [Vec<u8>; 9] = [
        json(200, ""),
        json(200, "<html>sign in</html>"),
        json(200, "{}"),
        json(200, "{\"keys\": []}"),
        json(200, "{\"keys\": {}}"),
        json(404, &key_set(&["b"])),
        json(500, ""),
        with_field(302, "Location: /elsewhere", ""),
        json(200, &String::from_utf8(huge).expect("spaces")),
    ];
    for (number, answer) in bad.into_iter().enumerate() {
        stub.turn(move |_| answer.clone());
        let now = at(400_000 + 40_000 * number as u64);
        keeper.work(now).await;
        assert_eq!((keeper.counted("ok"), keeper.counted("failed")), (1, number as u64 + 1));
        assert!(Arc::ptr_eq(&before, &keeper.state.shared.token_keys.load()), "the {number}th");
    }
}

#[tokio::test]
async fn a_new_key_set_takes_the_place_of_the_old() {
    let stub = Stub::start(|_| json(200, &key_set(&["a", "b"]))).await;
    let mut keeper = of_url(&stub);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    stub.turn(|_| json(200, &key_set(&["b", "c"])));
    keeper.work(at(300_000)).await;
    let known: Vec<bool> = ["a", "b", "c"].iter().map(|kid| keeper.is_known("one", kid)).collect();
    assert_eq!(known, [false, true, true]);
}

#[tokio::test]
async fn keys_of_an_issuer_that_is_gone_are_used_until_they_are_stale() {
    let stub = Stub::start(|_| json(200, &key_set(&["a"]))).await;
    let mut keeper = of_url(&stub);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    stub.turn(|_| Vec::new());
    for minute in 6..60 {
        keeper.work(at(60_000 * minute)).await;
        assert!(keeper.is_known("one", "a"), "{minute}");
        keeper.wants(minute, "b", at(60_000 * minute));
        keeper.work(at(60_000 * minute)).await;
        assert_eq!(keeper.answers(), [(minute, false)], "unknown keys let nobody in");
    }
    keeper.turn(at(HOUR_MS - 1));
    assert!(keeper.is_known("one", "a"));
    let epoch = keeper.state.shared.epoch();
    keeper.turn(at(HOUR_MS));
    assert!(!keeper.is_known("one", "a"));
    assert_eq!(keeper.state.shared.epoch(), epoch + 1, "workers forget whom they let in");
    stub.turn(|_| json(200, &key_set(&["a"])));
    keeper.work(at(HOUR_MS + 30_000)).await;
    assert!(keeper.is_known("one", "a"), "back again");
}

/// Serves metadata of `issuer` at the URL that `names` says, and keys.
async fn with_metadata(issuer: &'static str, metadata_at: &'static str) -> Stub {
    let stub = Stub::start(|_| Vec::new()).await;
    let base = stub.url("");
    stub.turn(move |request| {
        let target = request.split(' ').nth(1).expect("a target");
        match target {
            "/keys" => json(200, &key_set(&["a"])),
            _ if target == metadata_at => {
                let issuer = issuer.replace("BASE", &base);
                json(200, &format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"{base}/keys\"}}"))
            }
            _ => json(404, ""),
        }
    });
    stub
}

fn discovering(issuer_url: &str) -> TokenKeyKeeper {
    keeper(vec![issuer(issuer_url, KeySource::Discovery)])
}

#[tokio::test]
async fn metadata_says_where_keys_are_at_each_of_its_places() {
    for place in [
        "/realms/x/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/x",
        "/.well-known/openid-configuration/realms/x",
    ] {
        let stub = with_metadata("BASE/realms/x", place).await;
        let name = stub.url("/realms/x");
        let mut keeper = discovering(&name);
        keeper.follow_plan(at(0));
        keeper.work(at(0)).await;
        assert!(keeper.is_known(&name, "a"), "{place}: {:?}", stub.requests());
        // An unknown key asks for the keys alone.
        let before = stub.requests().len();
        keeper
            .ask(KeyAsked { worker: 0, ticket: 1, issuer: name.as_str().into(), kid: "b".into() }, at(1_000));
        keeper.work(at(1_000)).await;
        let requests = stub.requests();
        assert_eq!(requests.len(), before + 1);
        assert!(requests[before].starts_with("GET /keys "), "{requests:?}");
    }
}

/// RFC 8414 section 3.3: the issuer of metadata is the one that its URL was made of, to the letter.
#[tokio::test]
async fn metadata_of_another_issuer_is_not_used() {
    for other in ["https://evil.test", "BASE/", "BASE/realms/y", ""] {
        let stub = with_metadata(other, "/.well-known/openid-configuration").await;
        let name = stub.url("");
        let mut keeper = discovering(&name);
        keeper.follow_plan(at(0));
        keeper.work(at(0)).await;
        assert!(!keeper.is_known(&name, "a"), "{other}");
        assert!(!stub.requests().iter().any(|request| request.starts_with("GET /keys ")), "{other}");
    }
}

#[tokio::test]
async fn metadata_names_no_place_in_our_networks() {
    for inside in ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "file:///etc/passwd"] {
        let stub = Stub::start(|_| Vec::new()).await;
        let name = stub.url("");
        let issuer = name.clone();
        stub.turn(move |_| json(200, &format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"{inside}\"}}")));
        let (state, asked) = (discovering(&name).state, self::issuer(&name, KeySource::Discovery));
        let why = source::read(&state.fetcher, &asked, None).await.expect_err("refused");
        assert!(why.contains("network of ours") || why.contains("its URL"), "{inside}: {why}");
    }
}

#[tokio::test]
async fn a_file_of_keys_is_read_again() {
    let folder = Folder::new("token-keys");
    let path = folder.path("keys.json");
    std::fs::write(&path, key_set(&["a"])).expect("written");
    let mut keeper = keeper(vec![issuer("one", KeySource::File(path.clone()))]);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    assert!(keeper.is_known("one", "a"));
    std::fs::write(&path, key_set(&["b"])).expect("written");
    keeper.work(at(limits::TOKEN_KEYS_FILE_MS)).await;
    assert!(keeper.is_known("one", "b") && !keeper.is_known("one", "a"));
    std::fs::remove_file(&path).expect("removed");
    keeper.work(at(2 * limits::TOKEN_KEYS_FILE_MS)).await;
    assert!(keeper.is_known("one", "b"), "kept");
}

#[tokio::test]
async fn issuers_that_left_the_plan_and_places_that_are_no_issuers_any_more_are_forgotten() {
    let stub = Stub::start(|_| json(200, &key_set(&["a"]))).await;
    let url = |path| KeySource::Url(stub.url(path).into());
    let mut keeper = keeper(vec![issuer("one", url("/1")), issuer("two", url("/2"))]);
    keeper.follow_plan(at(0));
    keeper.work(at(0)).await;
    assert!(keeper.is_known("one", "a") && keeper.is_known("two", "a"));
    keeper.set_issuers(vec![issuer("one", url("/3"))]);
    keeper.follow_plan(at(10));
    assert!(!keeper.is_known("one", "a") && !keeper.is_known("two", "a"));
    keeper.work(at(10)).await;
    assert!(keeper.is_known("one", "a") && !keeper.is_known("two", "a"));
    // The same again is asked for again, and stays meanwhile.
    keeper.set_issuers(vec![issuer("one", url("/3"))]);
    keeper.follow_plan(at(20));
    assert!(keeper.is_known("one", "a"));
    keeper.work(at(20)).await;
    assert_eq!(stub.requests().len(), 4);
}

/// A fetch that was under way for another place is no answer for this one.
#[tokio::test]
async fn keys_of_the_place_before_are_not_taken() {
    let stub = Stub::start(|_| json(200, &key_set(&["old"]))).await;
    let mut keeper = of_url(&stub);
    keeper.follow_plan(at(0));
    keeper.turn(at(0));
    keeper.set_issuers(vec![issuer("one", KeySource::File("/nowhere".into()))]);
    keeper.follow_plan(at(1));
    keeper.work(at(1)).await;
    assert!(!keeper.is_known("one", "old"));
}

#[tokio::test]
async fn the_running_keeper_answers_who_asks_before_the_keys_are_there() {
    let stub = Stub::start(|_| json(200, &key_set(&["a"]))).await;
    stub.hold();
    let keeper = of_url(&stub);
    let state = Arc::clone(&keeper.state);
    let (asked, keys_asked) = mpsc::channel(8);
    for (ticket, kid) in [(7, "a"), (8, "nobody's")] {
        let question = KeyAsked { worker: 0, ticket, issuer: "one".into(), kid: kid.into() };
        asked.try_send(question).expect("room");
    }
    let answers = async {
        while stub.requests().is_empty() || asked.capacity() < 8 {
            tokio::task::yield_now().await;
        }
        stub.release();
        let mut answers = Vec::new();
        while answers.len() < 2 {
            tokio::task::yield_now().await;
            if let Some(Letter::Answered { ticket, answer: Answer::Known(known) }) =
                state.shared.posts[0].mailbox.take()
            {
                answers.push((ticket, known));
            }
        }
        answers
    };
    tokio::select! {
        () = keeper.run(keys_asked) => panic!("the keeper ended"),
        answers = answers => assert_eq!(answers, [(7, true), (8, false)]),
    }
    assert_eq!(stub.requests().len(), 1);
}
