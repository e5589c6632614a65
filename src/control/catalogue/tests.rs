//! Catalogues of small servers of both eras, well and sick.
//!
//! Not here: when to list (`errand`), and what a page says (`mcp::catalogue`).

use super::*;
use crate::config::access::AccessRule;
use crate::config::access::Effect;
use crate::config::pattern::Named;
use crate::config::plan::Endpoint;
use crate::config::plan::Transport;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::with_field;
use crate::control::tests::state_with;
use crate::handoff::Letter;
use serde_json::Value;

const NO_METHOD: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
const NO_SESSION: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Server not initialized"}}"#;
const EMPTY: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// A keeper of what this server offers, which has not begun; the server wants its tools' hints heeded.
fn keeper(addresses: &[&str]) -> CatalogueKeeper {
    let instances = addresses.iter().map(|address| Endpoint {
        transport: Transport::Address(address.parse().expect("an address")),
        target: b"/mcp".to_vec().into(),
        authority: b"fake".to_vec().into(),
        tls_name: None,
        label: format!("http://{address}").as_str().into(),
    });
    let (interests, _) = mpsc::channel(1);
    let state = state_with(1, |plan| {
        let server = &mut plan.servers[0];
        server.instances = instances.collect();
        server.tls = None;
        server.heeds_hints = true;
        server.traffic.weights = vec![1; server.instances.len()].into();
        server.traffic.pools[0].count = server.instances.len();
    });
    CatalogueKeeper::new(Arc::new(state), interests)
}

fn of(stub: &Stub) -> CatalogueKeeper {
    keeper(&[address(stub).as_str()])
}

fn address(stub: &Stub) -> String {
    stub.url("").trim_start_matches("http://").to_owned()
}

fn at(millis: u64) -> Moment {
    Moment::ZERO.plus_millis(millis)
}

impl CatalogueKeeper {
    /// Does what is due at this time, to its end.
    async fn work(&mut self, now: Moment) {
        self.turn(now);
        while let Some(over) = self.listings.join_next().await {
            self.settle(over.expect("no panic"), now);
        }
    }

    /// Lists for the first time.
    async fn begin(&mut self) {
        self.follow_plan(at(0));
        self.work(at(0)).await;
    }

    /// The tools and prompts that are known, in order; None: it has no catalogue.
    fn known(&self) -> Option<(Vec<String>, Vec<String>)> {
        let catalogues = self.state.shared.catalogues.load();
        let catalogue = catalogues.by_server.get("up")?;
        let sorted = |names: &mut dyn Iterator<Item = &Box<str>>| {
            let mut names: Vec<String> = names.map(ToString::to_string).collect();
            names.sort();
            names
        };
        Some((sorted(&mut catalogue.tools.keys()), sorted(&mut catalogue.prompts.iter())))
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
}

/// What of a request is told apart: its HTTP method, its JSON-RPC method and cursor.
fn told(request: &str) -> (String, Option<String>) {
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let method = message["method"].as_str().map_or_else(|| head[..6].trim().to_owned(), str::to_owned);
    (method, message["params"]["cursor"].as_str().map(str::to_owned))
}

fn methods(stub: &Stub) -> Vec<String> {
    stub.requests().iter().map(|request| told(request).0).collect()
}

fn page(tools: &[&str], next: Option<&str>) -> String {
    let tools: Vec<Value> = tools.iter().map(|name| serde_json::json!({"name": name})).collect();
    let mut result = serde_json::json!({"tools": tools});
    if let Some(next) = next {
        result["nextCursor"] = next.into();
    }
    serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string()
}

/// Two pages of tools and a page of prompts, in the newer era.
fn modern(request: &str) -> Vec<u8> {
    let (method, cursor) = told(request);
    match (method.as_str(), cursor.as_deref()) {
        ("server/discover", _) => json(200, EMPTY),
        ("tools/list", None) => json(200, &page(&["a", "b"], Some(""))),
        ("tools/list", Some("")) => json(200, &page(&["c"], None)),
        ("prompts/list", None) => {
            json(200, &page(&[], None).replace("tools", "prompts").replace("[]", r#"[{"name":"p"}]"#))
        }
        _ => json(404, NO_METHOD),
    }
}

/// The same in the older one, without prompts.
fn legacy(request: &str) -> Vec<u8> {
    let in_session =
        request.contains("mcp-session-id: s1\r\n") && request.contains("mcp-protocol-version: 2025-06-18");
    match told(request).0.as_str() {
        "initialize" => {
            let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
            with_field(200, "Content-Type: application/json\r\nMcp-Session-Id: s1", body)
        }
        "server/discover" => json(400, NO_SESSION),
        _ if !in_session => json(404, NO_SESSION),
        "notifications/initialized" => json(202, ""),
        "tools/list" => json(200, &page(&["a"], None)),
        "DELETE" => json(200, ""),
        _ => json(200, NO_METHOD),
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_server_of_the_newer_era_is_listed_page_by_page() {
    let stub = Stub::start(modern).await;
    let mut keeper = of(&stub);
    let epoch = keeper.state.shared.epoch();
    keeper.begin().await;
    assert_eq!(keeper.known(), Some((names(&["a", "b", "c"]), names(&["p"]))));
    assert_eq!(keeper.state.shared.epoch(), epoch + 1);
    let lists = ["tools/list", "tools/list", "prompts/list"];
    assert_eq!(methods(&stub), [&["server/discover"][..], &lists].concat());
    for request in &stub.requests()[1..] {
        let method = format!("mcp-method: {}\r\n", told(request).0);
        assert!(
            request.contains("mcp-protocol-version: 2026-07-28\r\n") && request.contains(&method),
            "{request}"
        );
    }
    // Its era is known by now.
    keeper.work(at(limits::CATALOGUE_INTERVAL_MS)).await;
    assert_eq!(methods(&stub)[4..], [&["server/discover"][..], &lists].concat());
}

#[tokio::test]
async fn a_server_of_the_older_era_is_listed_in_a_session_that_is_closed() {
    let stub = Stub::start(legacy).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    assert_eq!(keeper.known(), Some((names(&["a"]), Vec::new())));
    let all = [
        "server/discover",
        "initialize",
        "notifications/initialized",
        "tools/list",
        "prompts/list",
        "DELETE",
    ];
    assert_eq!(methods(&stub), all);
    stub.turn(|request| if told(request).0 == "tools/list" { json(500, "") } else { legacy(request) });
    keeper.work(at(limits::CATALOGUE_INTERVAL_MS)).await;
    assert_eq!(methods(&stub)[6..], ["initialize", "notifications/initialized", "tools/list", "DELETE"]);
    assert_eq!(keeper.known(), Some((names(&["a"]), Vec::new())), "kept");
    keeper.work(at(limits::CATALOGUE_INTERVAL_MS + limits::CATALOGUE_RETRY_MS)).await;
    assert_eq!(methods(&stub)[10], "server/discover", "what failed is asked in both eras");
}

/// A stream may say other things first, and may go on after the answer.
#[tokio::test]
async fn lists_come_in_event_streams_too_and_may_be_long() {
    let stub = Stub::start(|request| {
        let answer = modern(request);
        let text = String::from_utf8(answer).expect("text");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        let body =
            body.replace(r#""name":"a""#, &format!(r#""description":"{}","name":"a""#, "x".repeat(300_000)));
        let other = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"result":1}}"#;
        let events =
            format!(": hello\r\n\r\ndata: {other}\n\nevent: message\r\ndata: {body}\r\n\r\n: more\n\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        format!("{head}{events}").into_bytes()
    })
    .await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    assert_eq!(keeper.known(), Some((names(&["a", "b", "c"]), names(&["p"]))));
}

#[tokio::test]
async fn what_is_no_list_is_no_catalogue() {
    let endless = |request: &str| match told(request).0.as_str() {
        "tools/list" => json(200, &page(&["a"], Some("again"))),
        _ => modern(request),
    };
    let stub = Stub::start(endless).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    assert_eq!((keeper.known(), stub.requests().len()), (None, limits::CATALOGUE_PAGES_MAX + 1));
    let huge = format!("{{\"a\": \"{}\"}}", "x".repeat(limits::CATALOGUE_BYTES_MAX));
    for answer in [
        json(401, ""),
        json(403, NO_METHOD.replace("-32601", "-32000").as_str()),
        json(500, EMPTY),
        json(200, ""),
        json(200, "hello"),
        json(200, &huge),
        json(200, &NO_METHOD.replace("-32601", "-32603")),
        Vec::new(),
    ] {
        let shown = String::from_utf8_lossy(&answer).chars().take(120).collect::<String>();
        let stub = Stub::start(move |request| match told(request).0.as_str() {
            "tools/list" => answer.clone(),
            _ => modern(request),
        })
        .await;
        let mut keeper = of(&stub);
        keeper.begin().await;
        assert_eq!(keeper.known(), None, "{shown}");
    }
}

/// A server that fails at one of its lists, or in the midst of one, is one that cannot be listed: what was known of it stays.
#[tokio::test]
async fn regression_a_list_that_fails_is_not_taken_for_an_empty_one() {
    let busy = NO_METHOD.replace("-32601", "-32000");
    for (failing, cursor, answer) in [
        ("prompts/list", None, json(503, &busy)),
        ("prompts/list", None, json(429, &busy)),
        ("tools/list", Some(""), json(200, NO_METHOD)),
        ("tools/list", Some(""), json(400, &NO_METHOD.replace("-32601", "-32602"))),
    ] {
        let stub = Stub::start(modern).await;
        let mut keeper = of(&stub);
        keeper.begin().await;
        let before = keeper.known();
        let shown = String::from_utf8_lossy(&answer).into_owned();
        stub.turn(move |request| match told(request) {
            (method, after) if method == failing && after.as_deref() == cursor => answer.clone(),
            _ => modern(request),
        });
        keeper.work(at(limits::CATALOGUE_INTERVAL_MS)).await;
        assert!(keeper.is_failing() && keeper.known() == before, "{failing} {shown}");
        stub.turn(modern);
        keeper.work(at(limits::CATALOGUE_INTERVAL_MS + limits::CATALOGUE_RETRY_MS)).await;
        assert!(!keeper.is_failing() && keeper.known() == before, "{failing} {shown}");
    }
}

#[tokio::test]
async fn another_instance_is_asked_where_one_is_gone() {
    let stub = Stub::start(modern).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let mut keeper = keeper(&[&gone.to_string(), &address(&stub)]);
    keeper.begin().await;
    assert_eq!(keeper.known().map(|known| known.0), Some(names(&["a", "b", "c"])));
}

/// All who ask at a time share a listing, and a second does not cause a second one.
#[tokio::test]
async fn who_asks_gets_a_fresh_listing_once_a_second() {
    let stub = Stub::start(modern).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    let listings = || methods(&stub).iter().filter(|method| *method == "prompts/list").count();
    let ask = |keeper: &mut CatalogueKeeper, ticket, now| {
        keeper.ask("up".into(), (0, ticket), now);
    };
    stub.turn(|request| match told(request).0.as_str() {
        "tools/list" => json(200, &page(&["d"], None)),
        _ => modern(request),
    });
    (0..20).for_each(|ticket| ask(&mut keeper, ticket, at(5_000)));
    assert_eq!(keeper.answers(), []);
    keeper.work(at(5_000)).await;
    assert_eq!(keeper.answers(), (0..20).map(|ticket| (ticket, true)).collect::<Vec<_>>());
    assert_eq!((keeper.known().map(|known| known.0), listings()), (Some(names(&["d"])), 2));
    ask(&mut keeper, 20, at(5_999));
    assert_eq!(keeper.answers(), [(20, false)], "at once");
    stub.turn(|_| Vec::new());
    ask(&mut keeper, 21, at(6_000));
    keeper.work(at(6_000)).await;
    assert_eq!(keeper.answers(), [(21, false)], "nothing fresh");
    assert_eq!(keeper.known().map(|known| known.0), Some(names(&["d"])));
    keeper.ask("another".into(), (0, 22), at(9_000));
    assert_eq!(keeper.answers(), [(22, false)]);
}

#[tokio::test]
async fn only_what_somebody_needs_is_listed() {
    let stub = Stub::start(modern).await;
    let needed = |edit: &dyn Fn(&mut Plan)| {
        let state = state_with(1, |plan| {
            plan.servers[0].heeds_hints = true;
            edit(plan);
        });
        let plan = state.plan();
        needs_catalogue(&plan, &plan.servers[0])
    };
    assert!(needed(&|_| {}));
    assert!(!needed(&|plan| plan.servers[0].heeds_hints = false));
    assert!(!needed(&|plan| plan.servers[0].traffic.retry.max = 0));
    assert!(!needed(&|plan| plan.servers[0].traffic.retry.budget_permille = 0));
    assert!(needed(&|plan| {
        plan.servers[0].heeds_hints = false;
        plan.access.rules.push(AccessRule {
            name: "a".into(),
            roles: Vec::new(),
            principals: Vec::new(),
            patterns: Vec::new(),
            effect: Effect::Deny,
            when: None,
        });
    }));
    let mut keeper = of(&stub);
    let plain = state_with(1, |_| {});
    keeper.state.shared.set_plan(plain.plan());
    keeper.begin().await;
    assert!(keeper.desks.is_empty() && keeper.known().is_none(), "a plain config");
}

/// A server that left the plan, or matters no more, has no catalogue; nothing begins once a drain has.
#[tokio::test]
async fn what_is_needed_no_more_is_forgotten() {
    let stub = Stub::start(modern).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    assert!(keeper.known().is_some());
    let other = state_with(1, |_| {});
    keeper.state.shared.set_plan(other.plan());
    keeper.follow_plan(at(10));
    assert!(keeper.known().is_none());
    let mut keeper = of(&stub);
    keeper.state.shared.enter(Phase::Draining);
    let before = stub.requests().len();
    keeper.begin().await;
    assert_eq!(stub.requests().len(), before);
}

/// What a server of resources says of itself and lists.
fn with_resources(request: &str) -> Vec<u8> {
    let result = match told(request).0.as_str() {
        "server/discover" => serde_json::json!({
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}},
            "instructions": "Be kind.",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "r"}},
        }),
        "tools/list" => {
            serde_json::json!({"tools": [{"name": "a"}], "ttlMs": 60_000, "cacheScope": "private"})
        }
        "resources/list" => {
            serde_json::json!({"resources": [{"uri": "a:1", "name": "one"}], "ttlMs": 90_000})
        }
        "resources/templates/list" => serde_json::json!({"resourceTemplates": [{"uriTemplate": "a:{x}"}]}),
        _ => return json(404, NO_METHOD),
    };
    json(200, &serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string())
}

impl CatalogueKeeper {
    fn want(&mut self, ticket: u64, servers: &[&str], now: Moment) {
        let servers = servers.iter().map(|name| Arc::from(*name)).collect();
        self.hear(Wish::All { worker: 0, ticket, servers }, now);
    }

    fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.state.shared.catalogues.load().by_server.get("up").cloned()
    }

    fn is_failing(&self) -> bool {
        self.state.shared.catalogues.load().failing.contains_key("up")
    }
}

/// A keeper of a plain config: nothing is listed before somebody asks.
fn plain(stub: &Stub) -> CatalogueKeeper {
    let keeper = of(stub);
    let state = state_with(1, |plan| {
        plan.servers[0].instances = keeper.state.plan().servers[0].instances.clone();
        plan.servers[0].tls = None;
    });
    keeper.state.shared.set_plan(state.plan());
    keeper
}

#[tokio::test]
async fn what_a_server_says_of_itself_is_known_and_its_resources_are_listed() {
    let stub = Stub::start(with_resources).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    let catalogue = keeper.catalogue().expect("listed");
    let names = |at: usize| catalogue.items[at].iter().map(|item| &*item.name).collect::<Vec<_>>();
    assert_eq!([names(0), names(1), names(2), names(3)], [vec!["a"], vec![], vec!["a:1"], vec!["a:{x}"]]);
    assert_eq!((catalogue.ttl_ms, catalogue.is_private), (Some(60_000), true));
    let about = &catalogue.about;
    assert_eq!((&*about.info, &*about.instructions), (r#"{"name":"r"}"#, "Be kind."));
    assert!(about.has.tools && about.has.tools_changed && about.has.subscribe && !about.has.prompts);
    assert_eq!(keeper.state.shared.catalogues.load().eras.get("up").and_then(|eras| eras.modern), Some(true));
}

#[tokio::test]
async fn a_revision_is_another_where_something_has_changed_and_only_there() {
    let stub = Stub::start(with_resources).await;
    let mut keeper = of(&stub);
    keeper.begin().await;
    let revision = |keeper: &CatalogueKeeper| keeper.catalogue().expect("listed").revision;
    let first = revision(&keeper);
    let change = |keeper: &mut CatalogueKeeper, now| {
        keeper.hear(Wish::Changed { server: "up".into(), what: Some(Named::Tool) }, now)
    };
    change(&mut keeper, at(10));
    keeper.work(at(10)).await;
    let listed = keeper.catalogue().expect("listed");
    // Listed again, and fresh no longer for it.
    assert_eq!((revision(&keeper), listed.told, listed.listed), (first, [1, 0, 0], at(0)));
    stub.turn(|request| {
        let answer = String::from_utf8(with_resources(request)).expect("text");
        answer.replace("Be kind.", "Be wary.").into_bytes()
    });
    change(&mut keeper, at(110));
    keeper.work(at(110)).await;
    assert!(first > 0 && revision(&keeper) != first);
}

#[tokio::test]
async fn a_plain_config_lists_what_is_asked_for_once_for_all_askers() {
    let stub = Stub::start(modern).await;
    let mut keeper = plain(&stub);
    keeper.begin().await;
    assert_eq!((stub.requests().len(), keeper.known()), (0, None));
    (0..1_000).for_each(|ticket| keeper.want(ticket, &["up", "nowhere"], at(0)));
    assert_eq!(keeper.answers(), []);
    keeper.work(at(5)).await;
    keeper.turn(at(5));
    assert_eq!(keeper.answers().len(), 1_000);
    let listings = || methods(&stub).iter().filter(|method| *method == "prompts/list").count();
    assert_eq!(listings(), 1);
    for millis in (5..1_005).step_by(10) {
        keeper.want(millis, &["up"], at(millis));
        assert_eq!(keeper.answers(), [(millis, true)], "at once");
        keeper.work(at(millis)).await;
    }
    assert_eq!(listings(), 1, "fresh for a second");
    stub.turn(|_| Vec::new());
    keeper.want(1, &["up"], at(1_100));
    assert_eq!(keeper.answers(), [(1, true)], "the old one is served, and asked for behind it");
    keeper.work(at(1_100)).await;
    assert!(keeper.is_failing() && keeper.known().is_some());
    keeper.want(2, &["up"], at(1_200));
    assert_eq!(keeper.answers(), [(2, true)]);
    keeper.follow_plan(at(1_300));
    assert_eq!(keeper.desks.len(), 1, "kept over a reload");
    stub.turn(modern);
    keeper.work(at(3_400)).await;
    assert!(!keeper.is_failing());
}

#[tokio::test]
async fn who_waits_for_a_server_that_is_silent_waits_two_seconds() {
    let stub = Stub::start(modern).await;
    stub.hold();
    let mut keeper = plain(&stub);
    keeper.begin().await;
    keeper.want(7, &["up"], at(0));
    keeper.turn(at(1_999));
    assert_eq!((keeper.answers(), keeper.next()), (vec![], at(2_000)));
    keeper.turn(at(2_000));
    assert_eq!(keeper.answers(), [(7, true)]);
    (0..limits::QUESTION_RING as u64 + 1).for_each(|ticket| keeper.want(ticket, &["up"], at(2_000)));
    assert_eq!(keeper.answers(), [(limits::QUESTION_RING as u64, false)]);
}

#[tokio::test]
async fn a_catalogue_that_is_too_old_goes() {
    let stub = Stub::start(modern).await;
    let mut keeper = plain(&stub);
    keeper.want(0, &["up"], at(0));
    keeper.work(at(0)).await;
    stub.turn(|_| Vec::new());
    keeper.want(0, &["up"], at(2_000));
    keeper.work(at(2_000)).await;
    assert!(keeper.known().is_some() && keeper.is_failing());
    keeper.work(at(1_000 + limits::LIST_STALE_MS_DEFAULT)).await;
    assert!(keeper.known().is_none() && keeper.is_failing());
}

/// metamcp #324: sessions leaked during refreshes.
#[tokio::test]
async fn a_thousand_refreshes_leave_no_session_open() {
    let stub = Stub::start(legacy).await;
    let mut keeper = plain(&stub);
    for round in 0..1_000 {
        keeper.hear(Wish::Changed { server: "up".into(), what: Some(Named::Tool) }, at(round * 100));
        keeper.work(at(round * 100)).await;
    }
    let count = |wanted: &str| methods(&stub).iter().filter(|method| *method == wanted).count();
    assert_eq!((count("initialize"), count("DELETE")), (1_000, 1_000));
}
