//! Consents on a clock of the test's: links, the way back, renewal, the issuer's metadata, and what is kept.
//!
//! Not here: browsers and workers (`tests/exchange/user_oauth.rs`).

use super::*;
use crate::config::credentials::Consent;

const GIVEN: &str = r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"token_type":"Bearer"}"#;

fn terms(stub: &Stub) -> Consent {
    Consent {
        service: service(stub),
        authorize: Some("https://idp.test/authorize".into()),
        callback: "https://gw.test/oauth/callback".into(),
        issuer: None,
    }
}

fn by(terms: Consent) -> Needed {
    needed(&auth(Method::UserOauth(terms)), alice())
}

impl Lab {
    /// The link that is given instead of a credential.
    async fn link(&self, needed: &Needed, now: Now) -> (Cause, String) {
        let trouble = self.obtain(needed, now).await.expect_err("no consent");
        (trouble.cause, trouble.consent_url.into())
    }

    async fn back(&self, query: &str, now: Now) -> Result<(), Unwelcome> {
        self.credentials.accept(&Services { fetcher: &self.fetcher, vault: None }, query, now).await
    }
}

fn state_of(link: &str) -> &str {
    let after = link.split("state=").nth(1).unwrap_or_else(|| panic!("no state in {link}"));
    after.split('&').next().unwrap_or_default()
}

#[tokio::test]
async fn a_link_is_good_once_and_for_ten_minutes() {
    let lab = Lab::new(|_| json(200, GIVEN)).await;
    let needed = by(terms(&lab.stub));
    let (cause, first) = lab.link(&needed, at(0)).await;
    assert_eq!(cause, Cause::NoConsent);
    assert_eq!(lab.link(&needed, at(299)).await.1, first, "while half of its life is left");
    let (_, second) = lab.link(&needed, at(301)).await;
    assert_ne!(first, second);
    let back = |link: &str| format!("code=c&state={}", state_of(link));
    assert!(lab.back(&back(&first), at(600)).await.is_err(), "too old");
    assert_eq!(lab.back(&back(&second), at(600)).await, Ok(()));
    assert!(lab.back(&back(&second), at(600)).await.is_err(), "used");
    assert_eq!(lab.asked(), 1);
    assert_eq!(lab.value(&needed, at(600)).await, Ok("Bearer a1".to_owned()));
}

/// A renewal that gives no new refresh token goes on with the old one; one that is refused asks again.
#[tokio::test]
async fn a_consent_is_renewed_until_it_is_taken_back() {
    let lab = Lab::new(|_| json(200, GIVEN)).await;
    let needed = by(terms(&lab.stub));
    let (_, link) = lab.link(&needed, at(0)).await;
    lab.back(&format!("code=c&state={}", state_of(&link)), at(0)).await.expect("a token");
    lab.stub.turn(|_| json(200, r#"{"access_token":"a2","expires_in":3600}"#));
    assert_eq!(lab.value(&needed, at(3_600)).await, Ok("Bearer a2".to_owned()));
    lab.stub.turn(|_| json(500, ""));
    assert_eq!(lab.value(&needed, at(7_300)).await, Err(Cause::ServiceDown), "the consent stays");
    lab.stub.turn(|_| json(400, r#"{"error":"invalid_grant"}"#));
    let (cause, link) = lab.link(&needed, at(7_302)).await;
    assert_eq!((cause, link.is_empty()), (Cause::Revoked, false));
    let asked = lab.stub.requests();
    assert!(asked[1..].iter().all(|form| form.contains("refresh_token=r1")), "{asked:?}");
    assert_eq!(lab.link(&needed, at(7_310)).await.0, Cause::NoConsent);
}

/// Alice has consented, and the server has refused this version of her token.
fn refused(needed: &Needed, version: u64) -> Needed {
    Needed { refused: Some(version), ..super::needed(&needed.auth, alice()) }
}

impl Lab {
    async fn consent(&self, needed: &Needed, now: Now) {
        let (_, link) = self.link(needed, now).await;
        self.back(&format!("code=c&state={}", state_of(&link)), now).await.expect("a token");
    }
}

/// Found in an audit: a token whose service does not say how long it lives was asked for anew after five minutes, and where
/// nothing could be renewed its user; one with an end was gone half a minute before it, and after a day whatever it said.
#[tokio::test]
async fn regression_a_consent_lasts_as_long_as_its_service_says() {
    const DAY: u64 = 86_400;
    let table = [
        ("no end, no refresh token", r#"{"access_token":"a1"}"#, 400 * DAY, 1, None),
        ("no end", r#"{"access_token":"a1","refresh_token":"r1"}"#, 400 * DAY, 1, None),
        ("no refresh token", r#"{"access_token":"a1","expires_in":3600}"#, 3_600, 1, Some(Cause::Expired)),
        ("a long end", r#"{"access_token":"a1","expires_in":864000}"#, 10 * DAY, 1, Some(Cause::Expired)),
    ];
    for (what, given, seconds, asked, end) in table {
        let lab = Lab::new(move |_| json(200, given)).await;
        let needed = by(terms(&lab.stub));
        lab.consent(&needed, at(0)).await;
        for second in (0..seconds).step_by(599).chain([seconds - 1]) {
            assert_eq!(lab.value(&needed, at(second)).await, Ok("Bearer a1".to_owned()), "{what} {second}");
        }
        assert_eq!(lab.asked(), asked, "{what}");
        let later = lab.value(&needed, at(seconds)).await;
        assert_eq!(later.err(), end, "{what}");
    }
}

/// What nobody has said the end of is renewed, or asked for anew, once its server refuses it; also after a restart.
#[tokio::test]
async fn what_has_no_end_ends_with_a_refusal() {
    let folder = Folder::new("endless");
    for (given, renewed) in [
        (r#"{"access_token":"a1","refresh_token":"r1"}"#, Ok("Bearer a1".to_owned())),
        (r#"{"access_token":"a1"}"#, Err(Cause::Revoked)),
    ] {
        let mut lab = Lab::new(move |_| json(200, given)).await;
        let needed = by(terms(&lab.stub));
        lab.credentials = Credentials::new(Some(&folder.path("state")));
        lab.consent(&needed, at(0)).await;
        lab.credentials = Credentials::new(Some(&folder.path("state")));
        let first = lab.obtain(&needed, at(4_000_000)).await.expect("a token");
        assert_eq!((first.fresh_until_unix, lab.asked()), (u64::MAX, 1));
        assert_eq!(lab.value(&refused(&needed, first.version), at(4_000_001)).await, renewed);
        assert_eq!(lab.asked(), if renewed.is_ok() { 2 } else { 1 });
    }
}

/// A token of an hour, renewed for three days with a refresh token that is good once: nobody is asked again.
#[tokio::test]
async fn contextforge_1023_refresh_past_24h_of_a_consent() {
    let next = AtomicUsize::new(1);
    let lab = Lab::new(move |form| {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let shown =
            if number == 1 { "code=c&".to_owned() } else { format!("refresh_token=r{}&", number - 1) };
        if !form.contains(&shown) {
            return json(400, r#"{"error":"invalid_grant"}"#);
        }
        json(200, &format!(r#"{{"access_token":"a{number}","refresh_token":"r{number}","expires_in":3600}}"#))
    })
    .await;
    let needed = by(terms(&lab.stub));
    lab.consent(&needed, at(0)).await;
    for minute in (0..72 * 60).step_by(10) {
        lab.value(&needed, at(minute * 60)).await.expect("a token");
    }
    // An hour less the margin, in steps of ten minutes: one in every hour.
    assert_eq!(lab.value(&needed, at(72 * 3_600)).await, Ok("Bearer a73".to_owned()));
}

/// The server refuses the first token and the renewed one: the caller is asked once more, and what it has given stays, as it
/// was not the token service that took it back.
#[tokio::test]
async fn what_a_server_refuses_twice_asks_again() {
    let lab = Lab::new(|_| json(200, GIVEN)).await;
    let needed = by(terms(&lab.stub));
    lab.consent(&needed, at(0)).await;
    let first = lab.obtain(&needed, at(1)).await.expect("a token").version;
    let second = lab.obtain(&refused(&needed, first), at(2)).await.expect("renewed").version;
    let (cause, link) = lab.link(&refused(&needed, second), at_ms(2_500)).await;
    assert_eq!((cause, link.is_empty(), lab.asked()), (Cause::Revoked, false, 2));
    let twice = Needed { is_last: true, ..refused(&needed, second) };
    let (cause, link) = lab.link(&twice, at(60)).await;
    assert_eq!((cause, link.is_empty(), lab.asked()), (Cause::Revoked, false, 2));
    assert_eq!(lab.value(&needed, at(61)).await, Ok("Bearer a1".to_owned()), "it may be taken again");
}

/// Found in an audit: whatever a token service said other than that it was down took a consent away.
#[tokio::test]
async fn regression_only_a_grant_that_has_ended_takes_a_consent_away() {
    for (says, stays) in [
        (r#"{"error":"invalid_client"}"#, true),
        (r#"{"error":"invalid_scope"}"#, true),
        (r#"{"error":"interaction_required"}"#, true),
        (r#"{"error":"invalid_grant"}"#, false),
        (r#"{"error":"invalid_grant","error_description":"expired"}"#, false),
    ] {
        let lab = Lab::new(|_| json(200, GIVEN)).await;
        let needed = by(terms(&lab.stub));
        lab.consent(&needed, at(0)).await;
        let first = lab.obtain(&needed, at(1)).await.expect("a token").version;
        lab.stub.turn(move |_| json(400, says));
        let (_, link) = lab.link(&refused(&needed, first), at(2)).await;
        assert!(!link.is_empty(), "{says}");
        lab.stub.turn(|_| json(200, r#"{"access_token":"a2","expires_in":3600}"#));
        let found = lab.value(&refused(&needed, first), at(5)).await;
        let expected = if stays { Ok("Bearer a2".to_owned()) } else { Err(Cause::NoConsent) };
        assert_eq!(found, expected, "{says}");
    }
}

/// Found in an audit: who had consented anew was asked once more, for a worker still showed the token before.
#[tokio::test]
async fn regression_a_consent_is_not_taken_for_the_one_before() {
    let lab = Lab::new(|_| json(200, r#"{"access_token":"a1","expires_in":3600}"#)).await;
    let needed = by(terms(&lab.stub));
    lab.consent(&needed, at(0)).await;
    let first = lab.obtain(&needed, at(1)).await.expect("a token").version;
    let (cause, _) = lab.link(&refused(&needed, first), at(2)).await;
    assert_eq!(cause, Cause::Revoked, "there is nothing to renew it with");
    lab.stub.turn(|_| json(200, r#"{"access_token":"a2","expires_in":3600}"#));
    lab.consent(&needed, at(5)).await;
    assert_eq!(lab.value(&refused(&needed, first), at(6)).await, Ok("Bearer a2".to_owned()));
    assert_eq!(lab.asked(), 2);
}

/// Where no endpoints are written the issuer's metadata counts, if it is the issuer's own and knows PKCE.
#[tokio::test]
async fn endpoints_are_found_by_the_issuer() {
    let issuer = Arc::new(Mutex::new(String::new()));
    let of = |methods: &'static str, named: &'static str| {
        let issuer = Arc::clone(&issuer);
        move |request: &str| {
            let base = issuer.lock().expect("not poisoned").clone();
            match request.starts_with("GET /.well-known/oauth-authorization-server") {
                true => json(
                    200,
                    &format!(
                        r#"{{"issuer":"{base}{named}","authorization_endpoint":"https://idp.test/a",
                         "token_endpoint":"{base}/t","code_challenge_methods_supported":[{methods}],
                         "authorization_response_iss_parameter_supported":true}}"#
                    ),
                ),
                false if request.starts_with("POST /t ") => json(200, GIVEN),
                false => json(404, ""),
            }
        }
    };
    for (methods, named) in [(r#""plain""#, ""), (r#""S256""#, "/other"), ("", "")] {
        let lab = Lab::new(of(methods, named)).await;
        *issuer.lock().expect("not poisoned") = lab.stub.url("");
        let found = Consent { authorize: None, issuer: Some(lab.stub.url("").into()), ..terms(&lab.stub) };
        assert_eq!(lab.value(&by(found), at(0)).await, Err(Cause::ServiceDown), "{methods} {named}");
    }
    let lab = Lab::new(of(r#""plain","S256""#, "")).await;
    *issuer.lock().expect("not poisoned") = lab.stub.url("");
    let found = Consent { authorize: None, issuer: Some(lab.stub.url("").into()), ..terms(&lab.stub) };
    let needed = by(found);
    let (_, link) = lab.link(&needed, at(0)).await;
    assert!(link.starts_with("https://idp.test/a?response_type=code"), "{link}");
    let nameless = format!("code=c&state={}", state_of(&link));
    assert!(lab.back(&nameless, at(1)).await.is_err(), "it promised to name itself (RFC 9207)");
    let (_, link) = lab.link(&needed, at(2)).await;
    let named = fetch_query(&lab.stub.url(""), state_of(&link));
    assert_eq!(lab.back(&named, at(2)).await, Ok(()));
    assert_eq!(lab.value(&needed, at(2)).await, Ok("Bearer a1".to_owned()));
}

fn fetch_query(issuer: &str, state: &str) -> String {
    crate::control::fetch::query(&[("code", "c"), ("state", state), ("iss", issuer)])
}

/// What is kept is read again with the key beside it, with no other, and by nobody who looks at the file.
#[tokio::test]
async fn consents_outlive_the_process_encrypted() {
    let folder = Folder::new("consents");
    let dir = folder.path("state");
    // So long that chance does not write them.
    let given = GIVEN.replace("a1", "an-access-token").replace("r1", "a-refresh-token");
    let mut lab = Lab::new(move |_| json(200, &given)).await;
    let needed = by(terms(&lab.stub));
    lab.credentials = Credentials::new(Some(&dir));
    let (_, link) = lab.link(&needed, at(0)).await;
    lab.back(&format!("code=c&state={}", state_of(&link)), at(0)).await.expect("a token");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a file");
    for secret in ["access", "refresh", "alice"] {
        assert!(!String::from_utf8_lossy(&read("consents")).contains(secret), "{secret} can be read");
    }
    for name in ["consents", "consents.key"] {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(dir.join(name)).expect("a file").mode() & 0o777, 0o600, "{name}");
    }
    lab.credentials = Credentials::new(Some(&dir));
    assert_eq!(lab.value(&needed, at(1)).await, Ok("Bearer an-access-token".to_owned()), "after a restart");
    let bob = Needed { whom: Whom { principal: "bob".into(), ..alice() }, ..by(terms(&lab.stub)) };
    assert_eq!(lab.link(&bob, at(1)).await.0, Cause::NoConsent);
    std::fs::write(dir.join("consents.key"), [7; 32]).expect("written");
    lab.credentials = Credentials::new(Some(&dir));
    assert_eq!(lab.link(&needed, at(2)).await.0, Cause::NoConsent, "another key opens nothing");
}
