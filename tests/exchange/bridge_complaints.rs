//! Complaints of users of other gateways about sessions on older servers: one for each call, forgotten ones, leaking ones.
//!
//! Not here: whose sessions they are (federation_sessions), and the bridge as such (bridge).

use crate::federation::Lister;
use crate::federation_streams::TOOLS;
use crate::federation_streams::listen;
use crate::support::Era;
use crate::support::agent::Caller;
use crate::support::bell::Bell;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::line::together;
use crate::support::shelf::Shelf;
use crate::support::size;
use crate::support::upstream::upstream;
use serde_json::json;
use std::collections::BTreeSet;

/// One session of a principal on an older server serves all of its calls, over all workers.
#[test]
fn contextforge_1918_no_session_per_call() {
    let calls: usize = size(300, 1_000);
    everywhere(|run| {
        let up = upstream().only(Era::Legacy).tool("echo").run();
        let gw = run.gateway().workers(4).agents(&["ann"]).to("up", &up).run();
        // What finding out the era, and listing, takes.
        let mut first = Lister::new(gw.agent("ann", ""));
        assert_eq!(first.tools(), ["up__echo"]);
        first.caller().passes("up__echo");
        let before = up.sessions().0;
        let own = first.caller().beside();
        together(8, |_| {
            let mut line = own.beside();
            for _ in 0..calls / 8 {
                line.passes("up__echo");
            }
        });
        assert_eq!(up.sessions().0, before, "a session for a call");
        let used: BTreeSet<_> = up
            .requests()
            .iter()
            .filter(|request| request.envelope().method == "tools/call")
            .map(|request| request.head.field("mcp-session-id").unwrap().to_owned())
            .collect();
        assert_eq!(used.len(), 1, "{used:?}");
    });
}

/// Feature, agentgateway #3622: an older server forgets a session. Where nothing is lost with it another one is opened;
/// a client that has a session of its own is told 404; other servers go on.
#[test]
fn agentgateway_3622_expired_upstream_session() {
    everywhere(|run| {
        let up = upstream().only(Era::Legacy).tool("echo").run();
        let well = upstream().only(Era::Legacy).tool("echo").run();
        let gw = run.gateway().to("up", &up).to("well", &well).run();
        let mut agent = gw.caller("");
        agent.passes("up__echo");
        agent.passes("well__echo");
        up.forget_sessions();
        let call = agent.tool("up__echo");
        let answer = agent.send(&call);
        match run.era {
            Era::Modern => assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}"),
            Era::Legacy => answer.refused(404, "session_not_found"),
        }
        agent.passes("well__echo");
        let list = agent.request("tools/list");
        assert_eq!(agent.send(&list).code(), 0);
        // The specified way out.
        let mut again = gw.caller("");
        again.passes("up__echo");
        again.passes("well__echo");
    });
}

/// Feature, MetaMCP #324: listing again and again leaves no session more open.
#[test]
fn metamcp_324_refresh_leaks_no_session() {
    let refreshes: usize = size(12, 40);
    everywhere(|run| {
        let shelf = Shelf::of(&["t0"]).fresh_for(0, "public");
        let up = upstream().only(Era::Legacy).tool("echo").shelf(&shelf).run();
        let gw = run.gateway().with("up", &up, &["cache: {list: 1s}"]).run();
        let mut lister = Lister::new(gw.caller(""));
        assert_eq!(lister.tools(), ["up__t0"]);
        let open = || up.sessions().1;
        let before = open();
        for number in 1..=refreshes {
            let name = format!("t{number}");
            shelf.set(0, &[&name]);
            let expected = [format!("up__{name}")];
            eventually("the new list is there", || lister.tools() == expected);
        }
        eventually("no session more is open", || open() <= before);
        assert!(up.count("tools/list") > refreshes);
    });
}

/// The same for refreshes that a server asks for: 1,000 of them, under many names at once, as each is no more than 10 a
/// second.
#[test]
fn metamcp_324_refresh_on_change_leaks_no_session() {
    let (names, rounds) = size((5, 5), (50, 20));
    everywhere(|run| {
        let (shelf, bell) = (Shelf::of(&["t0"]), Bell::default());
        let up = upstream().only(Era::Legacy).tool("echo").shelf(&shelf).rings(&bell).run();
        let gw = (0..names).fold(run.gateway(), |gw, name| gw.to(&format!("s{name}"), &up)).run();
        let call = gw.call("", "none").in_session();
        let mut lister = Lister::new(Caller::new(call.clone()));
        let listed = |tool: &str| (0..names).map(|name| format!("s{name}__{tool}")).collect::<Vec<_>>();
        assert_eq!(lister.tools(), listed("t0"));
        let _ear = listen(&call, &json!({"toolsListChanged": true}));
        eventually("each is listened to", || bell.open() == names);
        let open = || up.sessions().1;
        // What the first lists took is closed.
        eventually("one session for each stream, and each of the client's", || open() <= 2 * names);
        let (before, lists) = (open(), up.count("tools/list"));
        for round in 1..=rounds {
            let tool = format!("t{round}");
            shelf.set(0, &[&tool]);
            bell.ring(TOOLS, json!({}));
            eventually("the new lists are there", || lister.tools() == listed(&tool));
        }
        assert!(up.count("tools/list") >= lists + names * rounds);
        eventually("no session more is open", || open() <= before);
    });
}
