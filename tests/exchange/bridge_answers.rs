//! Where an older client's answer to a server's question goes: it comes in a request of its own, by any connection.
//!
//! Not here: the questions, and clients of 2026-07-28 (bridge_questions).

use crate::bridge::post;
use crate::bridge_questions::ABLE;
use crate::bridge_questions::ELICIT;
use crate::bridge_questions::accept;
use crate::bridge_questions::asking;
use crate::bridge_questions::next_message;
use crate::bridge_questions::of_era;
use crate::support::Era;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::upstream::upstream;
use serde_json::json;

/// The server of this call asks its client, by the stream of the call, and gets its answer.
#[track_caller]
fn is_asked(call: &Call, word: &str) {
    let mut client = call.connect();
    client.send(&call.raw().bytes());
    client.head().unwrap();
    let asked = next_message(&mut client);
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    let reply = json!({"jsonrpc": "2.0", "id": asked["id"], "result": accept(word)});
    assert!(post(call, &reply).status < 300);
    let last = next_message(&mut client);
    assert!(last["result"]["content"][0]["text"].as_str().unwrap().contains(word), "{last}");
}

/// Found with the official Python server: it speaks both eras, so no session was opened on it with the client's own, and an
/// answer that came to another worker than the call was dropped.
#[test]
fn hub_passes_answers_that_come_to_another_worker() {
    of_era(Era::Legacy, |run| {
        let asker = Asker::default();
        let both = upstream()
            .able(r#"{"tools":{}}"#)
            .on("one", asker.tool(&[ELICIT]))
            .asks(&asker)
            .tool("echo")
            .run();
        let gw = run.gateway().workers(4).to("both", &both).run();
        let first = gw.call("", "both__one").able(ABLE).in_session();
        for _ in 0..4 {
            is_asked(&first.again(), "both");
        }
    });
}

/// An answer goes to the pool whose server asked, not to the one that has the client's first session.
#[test]
fn hub_gives_answers_to_the_pool_that_asked() {
    of_era(Era::Legacy, |run| {
        let askers = [Asker::default(), Asker::default()];
        let [us, eu] = [0, 1].map(|at: usize| asking(&askers[at]));
        let pools = format!("pools: {{us: {{url: \"{}\"}}, eu: {{url: \"{}\"}}}}", us.url, eu.url);
        let rules = r#"route: [{when: 'args.region == "eu"', pool: eu}]"#;
        let gw = run.gateway().workers(2).server("up", &[&pools, rules]).run();
        let first = gw.call("", "up__one").able(ABLE).in_session();
        for (region, begun) in [("us", [1, 0]), ("eu", [1, 1]), ("us", [2, 1]), ("eu", [2, 2])] {
            let call = first.again().given("region", &format!("\"{region}\""));
            is_asked(&call, region);
            assert_eq!([0, 1].map(|at: usize| askers[at].begun()), begun);
        }
    });
}
