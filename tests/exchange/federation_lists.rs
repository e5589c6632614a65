//! Lists of hubs: how often servers are asked, how long a list is fresh, and long lists in pages.
//!
//! Not here: names and order (federation), who sees what (federation_policy), servers that are down (federation_faults).

use crate::federation::Lister;
use crate::federation::listed;
use crate::federation::names_in;
use crate::federation_streams::TOOLS;
use crate::federation_streams::listen;
use crate::support::Era;
use crate::support::Run;
use crate::support::bell::Bell;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::conduct::Dial;
use crate::support::conduct::sick_at_1;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::line::together;
use crate::support::pace;
use crate::support::script;
use crate::support::shelf::LISTS;
use crate::support::shelf::Shelf;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

/// Feature: 1,000 lists cause one upstream list, over all workers and eras, and are counted as what they are: only the one
/// that nobody had yet is no hit.
#[test]
fn cache_list() {
    let times = size(400, 1_000);
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let up = upstream().only(only).tool("echo").run();
            let gw = run.gateway().workers(4).with("up", &up, &["cache: {list: 10m}"]).run();
            let hits = || gw.metric("ringgate_cache_hits_total", &["layer=\"list\""]);
            let first = gw.caller("");
            assert_eq!(Lister::new(first.beside()).tools(), ["up__echo"]);
            // An older client's session has asked for it before.
            let before = if run.era == Era::Legacy { 1.0 } else { 0.0 };
            assert_eq!(hits(), before, "{only:?}");
            together(8, |_| {
                let mut lister = Lister::new(first.beside());
                for _ in 0..times / 8 {
                    assert_eq!(lister.tools(), ["up__echo"]);
                }
            });
            assert_eq!(up.count("tools/list"), 1, "{only:?}");
            assert_eq!(hits(), before + times as f64, "{only:?}");
        }
    });
}

/// Feature: many that ask at once for a list that nobody has yet cause one as well.
#[test]
fn cache_list_is_asked_for_once() {
    everywhere(|run| {
        let slow = script::script(|connection, request| {
            pace(Duration::from_millis(200));
            script::list(connection, request, &["echo".to_owned()], 1)
        });
        let up = upstream().method("tools/list", slow).run();
        let gw = run.gateway().workers(4).with("up", &up, &["cache: {list: 10m}"]).run();
        let first = gw.caller("");
        together(12, |_| assert_eq!(Lister::new(first.beside()).tools(), ["up__echo"]));
        assert_eq!(up.count("tools/list"), 1);
    });
}

/// Feature: "`list_changed` invalidates at once", also where no client listens: a server whose list is kept for long is
/// listened to.
#[test]
fn cache_list_is_invalidated_by_its_server() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let (shelf, bell) = (Shelf::of(&["one"]).fresh_for(0, "public"), Bell::default());
            let up = upstream().only(only).shelf(&shelf).rings(&bell).run();
            let gw = run.gateway().workers(4).with("up", &up, &["cache: {list: 10m}"]).run();
            let mut lister = Lister::new(gw.caller(""));
            assert_eq!(lister.tools(), ["up__one"]);
            for (count, name) in [(2, "two"), (3, "three")] {
                eventually("the server is listened to", || bell.open() == 1);
                shelf.set(0, &[name]);
                assert_ne!(lister.tools(), [format!("up__{name}")], "listed, and nobody said a word");
                let begun = Instant::now();
                bell.ring(TOOLS, json!({}));
                eventually("the new list", || lister.tools() == [format!("up__{name}")]);
                assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
                assert_eq!((up.count("tools/list"), bell.ever()), (count, 1), "{only:?}");
            }
        }
    });
}

/// Feature: `ttlMs` is lowered by the age of the list, and is the smaller of the server's and the operator's.
#[test]
fn cache_list_lowers_its_ttl() {
    everywhere(|run| {
        if run.era == Era::Legacy {
            return;
        }
        for (ttl_ms, lines, most) in [
            (60_000, &[][..], 60_000),
            (60_000, &["cache: {list: 20s}"], 20_000),
            (10_000, &["cache: {list: 20s}"], 10_000),
            (0, &["cache: {list: 20s}"], 20_000),
        ] {
            let shelf = Shelf::of(&["a"]).fresh_for(ttl_ms, "public");
            let up = upstream().tool("a").shelf(&shelf).run();
            let gw = run.gateway().with("up", &up, lines).run();
            let ttl = || listed(gw.request("", "tools/list"))["ttlMs"].as_u64().unwrap();
            let first = ttl();
            // A tenth may be taken off, so that gateways do not all ask at once.
            assert!((most * 85 / 100..=most).contains(&first), "{first} of {most}");
            pace(Duration::from_millis(60));
            let later = ttl();
            assert!(later + 50 <= first && later + 5_000 > first, "{later} after {first}");
            assert_eq!(up.count("tools/list"), 1);
        }
    });
}

/// Feature: a server's `private` and an older server's silence are never made public.
#[test]
fn cache_list_keeps_its_scope() {
    everywhere(|run| {
        if run.era == Era::Legacy {
            return;
        }
        for (only, scope, expected) in [
            (Era::Modern, "public", "public"),
            (Era::Modern, "private", "private"),
            (Era::Legacy, "public", "private"),
        ] {
            let shelf = Shelf::of(&["a"]).fresh_for(60_000, scope);
            let up = upstream().only(only).tool("a").shelf(&shelf).run();
            let other = upstream().only(Era::Modern).tool("b").shelf(&Shelf::of(&["b"])).run();
            let gw = run.gateway().to("up", &up).to("other", &other).run();
            assert_eq!(listed(gw.request("", "tools/list"))["cacheScope"], expected, "{only:?} {scope}");
        }
    });
}

/// Feature: down, the list is served for as long as `maxStale` says, marked, and then the server is missing.
#[test]
fn cache_list_serves_stale() {
    everywhere(|run| {
        for (stale, kept) in [("1h", true), ("0s", false)] {
            let sick = Dial::default();
            let shelf = Shelf::of(&["a"]).fresh_for(1_000, "public");
            let listing = sick_at_1(&sick, shelf.script(0));
            let up = upstream().tool("a").shelf(&shelf).method("tools/list", listing).run();
            let well = upstream().tool("b").run();
            let line = format!("cache: {{list: 1s, maxStale: {stale}}}");
            let gw = run.gateway().with("up", &up, &[&line]).to("well", &well).run();
            let mut lister = Lister::new(gw.caller(""));
            assert_eq!(lister.tools(), ["up__a", "well__b"]);
            sick.turn(1);
            let mark = if kept { "io.ringgate/stale" } else { "io.ringgate/missing" };
            eventually("it is marked", || lister.result(0)["_meta"][mark] == json!(["up"]));
            let expected: &[&str] = if kept { &["up__a", "well__b"] } else { &["well__b"] };
            assert_eq!(lister.tools(), expected, "{stale}");
        }
    });
}

/// A server that refuses one of its lists for a while still has it: the list stays, marked, and nobody is told of a change.
#[test]
fn regression_a_list_that_is_refused_is_old_and_not_empty() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let sick = Dial::default();
            let shelf = Shelf::of(&["a"]).with(1, &["p"]).with(2, &["r://1"]).fresh_for(1_000, "public");
            let mut up = upstream().only(only).shelf(&shelf);
            for (number, status) in [(1, 503), (2, 429)] {
                let (sick, well) = (sick.clone(), shelf.script(number));
                let busy = script::script(move |connection, request| match sick.value() {
                    0 => well(connection, request),
                    _ => {
                        let said = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"busy"}}"#;
                        script::send(connection, &script::plain(status, said))
                    }
                });
                up = up.method(LISTS[number].0, busy);
            }
            let up = up.run();
            let gw = run.gateway().with("up", &up, &["cache: {list: 1s}"]).run();
            let mut lister = Lister::new(gw.caller(""));
            let names = |lister: &mut Lister| [1, 2].map(|list| names_in(&lister.result(list), list));
            let before = names(&mut lister);
            assert_eq!(before, [["up__p"], ["up+r://1"]]);
            let call = gw.call("", "none").in_session();
            let mut ear = listen(&call, &json!({"promptsListChanged": true, "resourcesListChanged": true}));
            sick.turn(1);
            eventually("it is marked", || lister.result(1)["_meta"]["io.ringgate/stale"] == json!(["up"]));
            assert_eq!(names(&mut lister), before, "{only:?}");
            assert!(ear.is_quiet(), "told of a change that was none");
            sick.turn(0);
            eventually("it is fresh", || lister.result(1)["_meta"]["io.ringgate/stale"].is_null());
            assert_eq!(names(&mut lister), before, "{only:?}");
        }
    });
}

/// A server of so many tools.
fn long(count: usize) -> (Upstream, Vec<String>) {
    let names: Vec<String> = (0..count).map(|number| format!("t{number:05}")).collect();
    let shelf = Shelf::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    (upstream().tool("t00000").shelf(&shelf).run(), names)
}

fn cursor_of(answer: &Answer) -> Option<String> {
    answer.json()["result"]["nextCursor"].as_str().map(str::to_owned)
}

fn with_cursor(like: &Call, cursor: &str) -> Call {
    like.again().member("cursor", &Value::from(cursor).to_string())
}

/// A list of 2,500 tools comes in pages, whole, in order, by sealed cursors that both gateways of a fleet know.
#[test]
fn long_lists_come_in_pages() {
    everywhere(|run: Run| {
        let (up, names) = long(2_500);
        let other = upstream().tool("z").run();
        let seals = "state: {sealKeys: [\"0123456789abcdef0123456789abcdef\"]}";
        // What else their files say does not matter.
        let gateway =
            |line: &str| run.gateway().top(seals).http(line).to("archive", &up).to("other", &other).run();
        let (gw, twin) = (gateway("maxBody: 1MiB"), gateway("maxBody: 2MiB"));
        let like = gw.request("", "tools/list").in_session();
        let mut answer = like.again().send();
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut cursors = BTreeSet::new();
        loop {
            pages += 1;
            let page = names_in(&answer.json()["result"], 0);
            assert!(page.len() <= 1_000, "{}", page.len());
            found.extend(page);
            let Some(cursor) = cursor_of(&answer) else { break };
            assert!(!cursor.contains("archive") && cursors.insert(cursor.clone()), "{cursor}");
            let call = with_cursor(&like, &cursor);
            // Now here, now there.
            let address = if pages % 2 == 0 { gw.address } else { twin.address };
            answer = Call { address, ..call }.send();
            assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
        }
        let expected: Vec<String> =
            names.iter().map(|name| format!("archive__{name}")).chain(["other__z".into()]).collect();
        assert_eq!((found.len(), pages), (2_501, 3));
        assert!(found == expected, "another order");
    });
}

/// A cursor that was changed, or is another caller's, another list's, another URL's or another time's, is -32602.
#[test]
fn cursors_belong_to_their_list() {
    everywhere(|run| {
        let names: Vec<String> = (0..1_500).map(|number| format!("t{number:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shelf = Shelf::of(&names).with(1, &names).fresh_for(1_000, "public");
        let up = upstream().tool("t00000").shelf(&shelf).run();
        let gw = run
            .gateway()
            .agents(&["ann", "bob"])
            .top("virtualServers: {v: {tools: [\"up.*\"], prompts: [\"up.*\"]}}")
            .to("up", &up)
            .run();
        let like = |agent: &str, endpoint: &str, list: usize| {
            gw.keyed(agent, gw.request(endpoint, LISTS[list].0)).in_session()
        };
        let own = like("ann", "", 0);
        let cursor = cursor_of(&own.again().send()).expect("two pages");
        assert_eq!(with_cursor(&own, &cursor).send().code(), 0);
        let mut flipped = cursor.clone().into_bytes();
        let middle = flipped.len() / 2;
        flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        let wrong = [
            with_cursor(&own, &flipped),
            with_cursor(&own, &cursor[..cursor.len() - 1]),
            with_cursor(&own, &format!("{cursor}A")),
            with_cursor(&own, ""),
            with_cursor(&own, "page-1"),
            with_cursor(&own, &"A".repeat(100_000)),
            own.again().member("cursor", "7"),
            own.again().member("cursor", "{}"),
            with_cursor(&like("bob", "", 0), &cursor),
            with_cursor(&like("ann", "v", 0), &cursor),
            with_cursor(&like("ann", "", 1), &cursor),
        ];
        let before = up.count("tools/list");
        for (number, call) in wrong.into_iter().enumerate() {
            let answer = call.send();
            assert_eq!((answer.status, answer.code()), (200, -32602), "{number}: {answer:?}");
        }
        assert_eq!(up.count("tools/list"), before, "a cursor reached the server");
        // Of a list that has changed since.
        shelf.set(0, &names[1..]);
        eventually("the cursor is too old", || {
            assert_eq!(own.again().send().code(), 0);
            with_cursor(&own, &cursor).send().code() == -32602
        });
    });
}

/// Pages of servers are all read, in both eras, and a server that gives pages for ever is missing, not waited for.
#[test]
fn pages_of_servers_are_gathered() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let up = upstream().only(only).pages(20).run();
            let endless = script::script(|connection, request| {
                let page = json!({"resultType": "complete", "tools": [], "nextCursor": "again"});
                script::send(connection, &script::plain(200, &script::result(request, &page)))
            });
            let odd = upstream().only(only).method("tools/list", endless).run();
            let gw = run.gateway().to("up", &up).to("odd", &odd).run();
            let mut lister = Lister::new(gw.caller(""));
            let result = lister.result(0);
            assert_eq!(names_in(&result, 0).len(), 1_000, "{only:?}");
            assert_eq!(result["_meta"]["io.ringgate/missing"], json!(["odd"]), "{only:?}");
        }
    });
}
