//! Whose a `requestState` is: its caller's, its call's and its address's, and nobody else's.
//!
//! Not here: questions as such (bridge_questions), and sessions (federation_sessions).

use crate::bridge_questions::ABLE;
use crate::bridge_questions::ELICIT;
use crate::bridge_questions::accept;
use crate::bridge_questions::again;
use crate::bridge_questions::asked;
use crate::bridge_questions::asking;
use crate::bridge_questions::of_era;
use crate::support::Era;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;

/// A state is its caller's, its call's and its URL's; everything else is refused, and reaches nobody.
#[test]
fn request_states_belong_to_their_call() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = asking(&asker);
        let twin = upstream().only(Era::Legacy).on("one", asker.tool(&[ELICIT])).asks(&asker).run();
        let gw = run
            .gateway()
            .agents(&["ann", "bob"])
            .top("virtualServers: {v: {tools: [\"up.*\"]}}")
            .to("up", &up)
            .to("twin", &twin)
            .run();
        let by =
            |agent: &str, endpoint: &str, name: &str| gw.keyed(agent, gw.call(endpoint, name).able(ABLE));
        let call = by("ann", "", "up__one");
        let (keys, _, state) = asked(&call.clone().send());
        let responses = json!({keys[0].as_str(): accept("ann")});
        // The same arguments, whoever asks: only what is named differs.
        let like = |other: Call| Call { token: call.token.clone(), ..other };
        let mut flipped = state.clone().into_bytes();
        let middle = flipped.len() / 2;
        flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        let reached = |up: &Upstream| {
            let of_calls = |one: &&Received| match one.method() {
                "POST" => matches!(one.envelope().method.as_str(), "tools/call" | ""),
                _ => one.head.field("last-event-id").is_some(),
            };
            up.requests().iter().filter(of_calls).count()
        };
        let before = (reached(&up), reached(&twin));
        let wrong = [
            again(&like(by("bob", "", "up__one")), &responses, &state),
            again(&like(by("ann", "up", "one")), &responses, &state),
            again(&like(by("ann", "v", "one")), &responses, &state),
            again(&like(by("ann", "", "twin__one")), &responses, &state),
            again(&like(by("ann", "", "up__echo")), &responses, &state),
            again(&call.clone().argument("[1]"), &responses, &state),
            again(&call, &responses, &flipped),
            again(&call, &responses, &state[..state.len() - 1]),
            again(&call, &responses, ""),
            again(&call, &responses, "nobody-made-this"),
        ];
        for (number, call) in wrong.into_iter().enumerate() {
            let answer = call.send();
            answer.refused(400, "invalid_request_state");
            assert_eq!(answer.code(), -32602, "{number}");
        }
        assert_eq!((reached(&up), reached(&twin)), before, "it reached a server");
        assert_eq!(again(&call, &responses, &state).send().code(), 0);
        assert_eq!(asker.begun(), 1);
    });
}

/// Hardening, the matrix of states by address and principal: each is good where it was made, by whom it was made for, and
/// nowhere else: not at a virtual server, nor at one of the newer era, whose states are its own.
#[test]
fn request_states_by_address_and_principal() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = asking(&asker);
        let new = upstream().only(Era::Modern).tool("one").run();
        let gw = run
            .gateway()
            .agents(&["ann", "bob"])
            .top(
                "virtualServers: {v: {tools: [\"up.*\"]}, w: {tools: [\"up.one\"]}, n: {tools: [\"new.*\"]}}",
            )
            .to("up", &up)
            .to("new", &new)
            .run();
        let older = [("", "up__one"), ("v", "one"), ("w", "one"), ("up", "one")];
        // At the last one a client of the newer era meets its server itself.
        let newer = [("", "new__one"), ("n", "one"), ("new", "one")];
        let by =
            |agent: &str, (endpoint, name): (&str, &str)| gw.keyed(agent, gw.call(endpoint, name).able(ABLE));
        for (of, at) in older.iter().enumerate() {
            for owner in ["ann", "bob"] {
                let call = by(owner, *at);
                let (keys, _, state) = asked(&call.clone().send());
                let responses = json!({keys[0].as_str(): accept(owner)});
                let retry = |agent: &str, at: (&str, &str)| {
                    again(&Call { token: call.token.clone(), ..by(agent, at) }, &responses, &state)
                };
                for (place, other) in older.iter().chain(&newer).enumerate() {
                    for agent in ["ann", "bob"].into_iter().filter(|agent| (place, *agent) != (of, owner)) {
                        let answer = retry(agent, *other).send();
                        answer.refused(400, "invalid_request_state");
                        assert_eq!(answer.code(), -32602, "{owner}'s of {at:?} by {agent} at {other:?}");
                    }
                }
                for at in newer {
                    // However its name is written.
                    let call = Call { token: call.token.clone(), ..by(owner, at) };
                    let call = call.member("request\\u0053tate", &json!(state).to_string());
                    call.send().refused(400, "invalid_request_state");
                }
                assert_eq!(new.mentions(&call.token), 0, "it reached another server");
                let text = retry(owner, *at).send().text();
                assert!(text.contains("complete") && text.contains(owner), "{text}");
            }
        }
        assert_eq!(asker.begun(), 2 * older.len());
    });
}
