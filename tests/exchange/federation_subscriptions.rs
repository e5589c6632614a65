//! Subscriptions to resources at hubs, where a server offers none, or has no such resource.
//!
//! Not here: changes that are told (federation_streams).

use crate::bridge::message;
use crate::bridge::post;
use crate::federation_streams::UPDATED;
use crate::federation_streams::acknowledged;
use crate::federation_streams::caller;
use crate::federation_streams::listen;
use crate::support::Era;
use crate::support::bell::Bell;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::script;
use crate::support::shelf::Shelf;
use crate::support::upstream::upstream;
use serde_json::json;

/// Subscribes as an older client does: the code of the answer.
#[track_caller]
fn subscribe(call: &Call, uri: &str) -> i64 {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": uri}});
    let answer = post(call, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.code()
}

/// A server that does not offer subscriptions is not taken for one that does because others at the address do: who listens is
/// told so, and who subscribes hears what the server would say.
#[test]
fn regression_hub_honours_no_subscription_that_a_server_does_not_offer() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let (bell, shelf) = (Bell::default(), Shelf::of(&[]).with(2, &["file:///a"]));
            let up = upstream().only(only).shelf(&shelf).rings(&bell).run();
            let mute = upstream().only(only).shelf(&shelf).able(r#"{"resources":{}}"#).rings(&bell).run();
            let gw = run.gateway().to("up", &up).to("mute", &mute).run();
            let (mut caller, call) = caller(&gw);
            let list = caller.request("resources/list");
            assert_eq!(caller.send(&list).code(), 0);
            let uris = ["up+file:///a", "mute+file:///a"];
            if run.era == Era::Modern {
                let (_ear, honoured) = acknowledged(&call, &json!({"resourceSubscriptions": uris}));
                assert_eq!(honoured["resourceSubscriptions"], json!([uris[0]]), "{honoured}");
            } else {
                assert_eq!(uris.map(|uri| subscribe(&call, uri)), [0, -32601]);
            }
            assert_eq!(mute.count("resources/subscribe"), 0);
        }
    });
}

/// What an older server says of a resource that it does not have reaches who wants to hear of it.
#[test]
fn regression_hub_passes_refused_subscriptions_on() {
    everywhere(|run| {
        let (bell, shelf) = (Bell::default(), Shelf::of(&[]).with(2, &["file:///a", "file:///gone"]));
        let judge = script::script(|connection, request| {
            if message(request)["params"]["uri"] == "file:///gone" {
                return script::error(connection, request, -32002, "Resource not found");
            }
            script::send(connection, &script::plain(200, &script::result(request, &json!({}))))
        });
        let up = upstream().only(Era::Legacy).shelf(&shelf).rings(&bell).method("resources/subscribe", judge);
        let up = up.run();
        let gw = run.gateway().to("up", &up).run();
        let (mut caller, call) = caller(&gw);
        let list = caller.request("resources/list");
        assert_eq!(caller.send(&list).code(), 0);
        let uris = ["up+file:///gone", "up+file:///a"];
        // Where the server is not listened to in time nobody knows yet.
        let wanted = json!({"resourceSubscriptions": uris});
        if run.era == Era::Modern {
            let honoured = || acknowledged(&call, &wanted).1["resourceSubscriptions"].take();
            eventually("it is not honoured", || honoured() == json!([uris[1]]));
        } else {
            eventually("it is refused", || subscribe(&call, uris[0]) == -32002);
            assert_eq!(subscribe(&call, uris[1]), 0);
        }
        let mut ear = listen(&call, &wanted);
        bell.ring(UPDATED, json!({"uri": "file:///gone"}));
        bell.ring(UPDATED, json!({"uri": "file:///a"}));
        assert_eq!(ear.hears(UPDATED)["params"]["uri"], uris[1]);
    });
}
