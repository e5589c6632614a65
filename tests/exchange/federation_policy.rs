//! Access, limits, kills and tenants at hubs: decided by the server's own names, whatever the caller called them.
//!
//! Not here: the same at one server's own URL of the same era (access, limits, kill_switch, oauth).

use crate::bridge::other;
use crate::federation::names_in;
use crate::support::Era;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::issuer;
use crate::support::reserved::Reserved;
use crate::support::script;
use crate::support::shelf::LISTS;
use crate::support::shelf::Shelf;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;
use std::sync::Arc;

/// Status, fields and text.
pub type Whole = (u16, Vec<(String, String)>, String);

/// All of an answer but the times and the trace: what a caller could tell two answers apart by.
pub fn whole(answer: &Answer) -> Whole {
    let (status, text) = crate::federation::bytes_of(answer);
    let fields = answer
        .head
        .fields
        .iter()
        .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(value).into_owned()));
    let told = |(name, _): &(String, String)| name != "server-timing" && name != "date";
    (status, fields.filter(told).collect(), text)
}

/// A server with a hidden thing of each kind and a visible one, in this era alone or in both.
fn server(only: Option<Era>) -> Upstream {
    let shelf = Shelf::of(&["open", "secret"])
        .with(1, &["open", "secret"])
        .with(2, &["file:///open", "file:///secret"])
        .with(3, &["file:///open/{x}", "file:///secret/{x}"]);
    let up = upstream().tool("open").tool("secret").shelf(&shelf);
    let answer = script::script(|connection, request| {
        script::send(connection, &script::plain(200, &script::echo_result(request)))
    });
    let up = up.method("prompts/get", Arc::clone(&answer)).method("resources/read", answer);
    if let Some(era) = only { up.only(era).run() } else { up.run() }
}

/// Where the server is served, and what its names begin with there; resources are marked otherwise.
const URLS: [(&str, &str, &str); 3] = [("", "up__", "up+"), ("up", "", ""), ("v", "", "")];

const VIRTUAL: &str = "virtualServers: {v: {tools: [\"up.*\"], prompts: [\"up.*\"], resources: [\"up.*\"]}}";

/// A call that names something of that kind.
fn naming(gw: &Gateway, (endpoint, prefix, mark): (&str, &str, &str), kind: usize, name: &str) -> Call {
    match kind {
        0 => gw.call(endpoint, &format!("{prefix}{name}")),
        1 => Call { name: Some(format!("{prefix}{name}")), ..gw.request(endpoint, "prompts/get") },
        _ => {
            let uri = format!("{mark}file:///{name}");
            let call = gw.request(endpoint, "resources/read").member("uri", &format!("\"{uri}\""));
            if call.era == Era::Modern { call.field(format!("Mcp-Name: {uri}")) } else { call }
        }
    }
}

/// A hidden tool, prompt or resource is answered byte for byte like one that never was, at every URL, bridged or not, and
/// its server sees nothing.
#[test]
fn what_is_hidden_looks_like_what_never_was() {
    everywhere(|run| {
        for only in [None, Some(other(run.era))] {
            let up = server(only);
            let gw = run
                .gateway()
                .top(VIRTUAL)
                .access("name: open, allow: [\"up.open\", \"prompt:up.open\", \"resource:up.file:///open*\"]")
                .to("up", &up)
                .run();
            for url in URLS {
                for kind in 0..3 {
                    let like = naming(&gw, url, kind, "open").in_session();
                    let ask = |name: &str| {
                        let call = naming(&gw, url, kind, name);
                        let call = Call { session: like.session.clone(), ..call };
                        let token = call.token.clone();
                        let answer = call.send();
                        (whole(&answer), up.mentions(&token))
                    };
                    let open = ask("open");
                    assert!(open.0.0 == 200 && open.1 > 0, "{url:?} {kind}: {open:?}");
                    assert!(!open.0.2.contains("\"error\""), "{url:?} {kind}: {open:?}");
                    let hidden = ask("secret");
                    assert_eq!(hidden.1, 0, "{url:?} {kind} reached the server");
                    // Of the same length: its echo, where there is one, is no difference.
                    let never = ask("sekret");
                    let never = (never.0.0, never.0.1, never.0.2.replace("sekret", "secret"));
                    assert_eq!(hidden.0, never, "{url:?} {kind} {only:?}");
                }
                for (method, ..) in LISTS {
                    let answer = gw.request(url.0, method).send();
                    assert!(answer.text().contains("open"), "{url:?} {method}: {answer:?}");
                    assert!(!answer.text().contains("secret"), "{url:?} {method}: {answer:?}");
                }
            }
        }
    });
}

/// Limits count by the server's own names: calls at all URLs together.
#[test]
fn limits_count_calls_of_all_urls_together() {
    everywhere(|run| {
        let up = server(Some(other(run.era)));
        let gw = run
            .gateway()
            .top(VIRTUAL)
            .limit("name: few, tools: [\"up.open\"], key: principal, rate: 1/hour, burst: 6")
            .to("up", &up)
            .run();
        let mut served = 0;
        for number in 0..9 {
            let call = naming(&gw, URLS[number % 3], 0, "open");
            let token = call.token.clone();
            let answer = call.send();
            if answer.status == 200 {
                served += 1;
                assert_eq!(answer.code(), 0, "{answer:?}");
                up.once(&token);
            } else {
                answer.limited("limits.few");
                assert_eq!(up.mentions(&token), 0);
            }
        }
        assert_eq!(served, 6);
        assert_eq!(naming(&gw, URLS[0], 0, "secret").send().code(), 0, "another tool");
    });
}

/// A kill of a tool or a server holds at every URL, and hits nobody else.
#[test]
fn kills_hold_at_every_url() {
    everywhere(|run| {
        let (up, well) = (server(Some(other(run.era))), upstream().tool("echo").run());
        let gw = run.gateway().top(VIRTUAL).to("up", &up).to("well", &well).run();
        let likes: Vec<Call> = URLS.iter().map(|url| naming(&gw, *url, 0, "open").in_session()).collect();
        let ask = |url: usize, name: &str| {
            let (_, prefix, _) = URLS[url];
            let call = Call { name: Some(format!("{prefix}{name}")), ..likes[url].again() };
            let token = call.token.clone();
            let answer = call.send();
            (answer, up.mentions(&token))
        };
        for (words, others) in [(&["tool", "up.open"][..], true), (&["server", "up"], false)] {
            gw.operate(&[&["kill"], words, &["--reason", "drill"]].concat());
            for url in 0..URLS.len() {
                eventually("it acts", || ask(url, "open").0.status == 403);
                let (answer, reached) = ask(url, "open");
                answer.refused(403, "killed");
                assert_eq!(reached, 0, "{words:?} {url}");
                assert_eq!(ask(url, "secret").0.status == 200, others, "{words:?} {url}");
            }
            let call = Call { name: Some("well__echo".into()), ..likes[0].again() };
            assert_eq!(call.send().code(), 0, "{words:?}");
            gw.operate(&[&["unkill"], words].concat());
            eventually("it ends", || ask(0, "open").0.status == 200);
        }
    });
}

/// Rules read the arguments of a call at a hub too, and tell the same.
#[test]
fn rules_read_the_arguments_of_calls_at_hubs() {
    everywhere(|run| {
        let up = server(Some(other(run.era)));
        let gw = run
            .gateway()
            .top(VIRTUAL)
            .access("name: all, allow: [\"*\"]")
            .access("name: not-seven, deny: [\"up.open\"], when: 'args.x == 7'")
            .to("up", &up)
            .run();
        for url in URLS {
            let like = naming(&gw, url, 0, "open").in_session();
            let call = like.again().argument("7");
            let token = call.token.clone();
            let answer = call.send();
            answer.refused(403, "forbidden");
            assert_eq!(
                (&answer.json()["error"]["data"]["rule"], up.mentions(&token)),
                (&"access.not-seven".into(), 0)
            );
            assert_eq!(like.again().argument("8").send().code(), 0);
        }
    });
}

/// A tenant sees its own servers, and nothing tells of the others.
#[test]
fn tenants_see_only_their_servers() {
    everywhere(|run: Run| {
        let (issuer, all, own) = (issuer(), upstream().tool("echo").run(), introduced("own"));
        let identity = format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[]));
        let gw = run
            .gateway()
            .top(identity)
            .top("virtualServers: {v: {tools: [\"own.*\", \"all.echo\"], overrides: {\"own.echo\": {name: ours}}}}")
            .to("all", &all)
            .with("own", &own, &["tenants: [acme]"])
            .run();
        let bearer = |org: &str| issuer.token("alice").claim("org", org).bearer();
        let names = |org: &str, endpoint: &str| {
            let call = gw.request(endpoint, "tools/list").field(bearer(org));
            names_in(&call.send().json()["result"], 0)
        };
        assert_eq!(names("acme", ""), ["all__echo", "own__echo"]);
        assert_eq!(names("other", ""), ["all__echo"]);
        assert_eq!(names("acme", "v"), ["ours", "echo"]);
        assert_eq!(names("other", "v"), ["echo"]);
        for (endpoint, name, never) in [("", "own__echo", "owm__echo"), ("v", "ours", "outs")] {
            let ask = |org: &str, name: &str| {
                let call = gw.call(endpoint, name).field(bearer(org));
                let token = call.token.clone();
                let answer = call.send();
                (whole(&answer), own.mentions(&token))
            };
            let served = ask("acme", name);
            assert!(served.0.0 == 200 && served.1 > 0, "{served:?}");
            assert_eq!(ask("other", name), ask("other", never), "{endpoint}");
        }
        // Nor does the answer to a list or a handshake tell of it.
        for endpoint in ["", "v"] {
            let answer = gw.request(endpoint, "tools/list").field(bearer("other")).send();
            assert!(!answer.text().contains("own"), "{answer:?}");
            let greeting = |org: &str| {
                let method = if run.era == Era::Modern { "server/discover" } else { "initialize" };
                gw.request(endpoint, method).field(bearer(org)).send()
            };
            assert!(greeting("acme").text().contains("# own"), "{:?}", greeting("acme"));
            assert!(!greeting("other").text().contains("own"), "{:?}", greeting("other"));
        }
    });
}

/// A server of which rules leave a caller nothing is not among those that are down either, nor does it make a list fail; to
/// whom it is open it is.
#[test]
fn what_is_hidden_wholly_is_not_missing() {
    everywhere(|run: Run| {
        let (all, own, down) = (upstream().tool("echo").run(), introduced("own"), Reserved::new());
        let gw = run
            .gateway()
            .agents_with_roles(&[("ann", "staff"), ("bob", "guest"), ("cat", "nobody")])
            .access("name: guests, roles: [guest], allow: [\"all.*\"]")
            .access("name: staff, roles: [staff], allow: [\"*\", \"resource:down.*\"]")
            .to("all", &all)
            .with("own", &own, &["cache: {list: 1s, maxStale: 1h}"])
            .server("down", &[&down.url()])
            .run();
        let lists = |gw: &Gateway, agent| gw.keyed(agent, gw.request("", "tools/list")).in_session();
        let callers = ["ann", "bob", "cat"].map(|agent| (agent, lists(&gw, agent)));
        let told = |agent: &str| {
            let (_, list) = callers.iter().find(|(name, _)| *name == agent).unwrap();
            let result = list.again().send().json()["result"].clone();
            let of = |mark: &str| result["_meta"][format!("io.ringgate/{mark}")].clone();
            (names_in(&result, 0), of("missing"), of("stale"))
        };
        let nothing = json!(null);
        let tools = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let both = tools(&["all__echo", "own__echo"]);
        assert_eq!(told("ann"), (both.clone(), json!(["down"]), nothing.clone()));
        let bobs = (tools(&["all__echo"]), nothing.clone(), nothing.clone());
        assert_eq!(told("bob"), bobs);
        own.stop();
        eventually("its list may be old", || told("ann").2 == json!(["own"]));
        assert_eq!(told("ann"), (both, json!(["down"]), json!(["own"])));
        assert_eq!(told("bob"), bobs);
        assert_eq!(told("cat"), (tools(&[]), nothing.clone(), nothing.clone()));
        // Where nobody is there, whom they are hidden from finds nothing, as ever, and all others why.
        let gw = run
            .gateway()
            .agents_with_roles(&[("ann", "staff"), ("bob", "guest")])
            .access("name: staff, roles: [staff], allow: [\"*\"]")
            .server("down", &[&down.url()])
            .run();
        lists(&gw, "ann").send().refused(503, "upstream_unavailable");
        assert_eq!(lists(&gw, "bob").send().json()["result"]["tools"], json!([]));
    });
}

/// A server of which a caller may use nothing is not told of either.
#[test]
fn what_is_hidden_wholly_introduces_nobody() {
    everywhere(|run: Run| {
        let (all, own) = (upstream().tool("echo").run(), introduced("own"));
        let gw = run
            .gateway()
            .agents_with_roles(&[("ann", "staff"), ("bob", "guest")])
            .access("name: all, allow: [\"all.*\"]")
            .access("name: own, allow: [\"own.*\"], when: '\"staff\" in roles'")
            .to("all", &all)
            .to("own", &own)
            .run();
        let greeting = |agent: &str| {
            let method = if run.era == Era::Modern { "server/discover" } else { "initialize" };
            gw.keyed(agent, gw.request("", method)).send()
        };
        assert!(greeting("ann").text().contains("# own"), "{:?}", greeting("ann"));
        assert!(!greeting("bob").text().contains("own"), "{:?}", greeting("bob"));
    });
}

/// A server that says something about itself.
fn introduced(name: &str) -> Upstream {
    let about = json!({
        "supportedVersions": ["2026-07-28"], "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
        "resultType": "complete", "serverInfo": {"name": name, "version": "1"}, "instructions": format!("I am {name}"),
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": name, "version": "1"}}
    });
    let says = script::script(move |connection, request| {
        let text = script::result(request, &about);
        script::send(connection, &script::plain(200, &text))
    });
    upstream().tool("echo").method("server/discover", Arc::clone(&says)).method("initialize", says).run()
}

/// A list is filtered for each caller after it was cached.
#[test]
fn cache_list_leaks_nothing() {
    everywhere(|run| {
        let up = server(None);
        let gw = run
            .gateway()
            .agents(&["ann", "bob"])
            .access("name: ann, principals: [ann], allow: [\"up.secret\"]")
            .access("name: bob, principals: [bob], allow: [\"up.open\"]")
            .to("up", &up)
            .run();
        for _ in 0..3 {
            for (agent, expected) in [("ann", "up__secret"), ("bob", "up__open")] {
                let result = crate::federation::listed(gw.keyed(agent, gw.request("", "tools/list")));
                assert_eq!(names_in(&result, 0), [expected]);
                if run.era == Era::Modern {
                    assert_eq!(result["cacheScope"], "private");
                }
            }
        }
        assert_eq!(up.count("tools/list"), 1);
    });
}
