//! Virtual servers, overrides and lists in the config.
//!
//! Not here: how names are looked up and lists are merged (`mcp`).

use crate::check;
use crate::load;
use crate::plan;
use crate::problems;
use crate::server;
use ringgate::config::hub::Form;
use ringgate::config::hub::Hub;
use ringgate::config::pattern::Named;
use ringgate::config::plan::Plan;

/// Three servers and a disabled one, and a virtual server of these members on line 7.
fn shown(members: &str) -> String {
    let server = |name: &str| format!("  {name}: {{url: \"http://localhost:1/mcp\"}}\n");
    let servers: String = ["crm", "docs", "Wiki"].map(server).concat();
    format!("mcpServers:\n{servers}  old: {{disabled: true}}\nvirtualServers:\n  desk: {{{members}}}\n")
}

fn hub<'p>(plan: &'p Plan, name: &str) -> &'p Hub {
    &plan.hubs[usize::from(plan.hub_by_name[name])]
}

fn picked(hub: &Hub, named: Named) -> Vec<(u16, &str)> {
    hub.picks(named).iter().map(|pick| (pick.server, pick.pattern.as_str())).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn hubs_are_all_servers_then_each_then_the_virtual_ones() {
    let plan = plan(&shown(
        "tools: [docs.find, \"crm.*\"], prompts: [\"*\"]}\n  last: {resources: [docs.a://b.c/*]",
    ));
    let names: Vec<&str> = plan.hubs.iter().map(|hub| &*hub.name).collect();
    assert_eq!(names, ["", "crm", "docs", "Wiki", "desk", "last"]);
    assert!(plan.hub_by_name.iter().all(|(name, id)| plan.hubs[usize::from(*id)].name == (&**name).into()));
    assert_eq!((plan.hubs[0].form, plan.hubs[2].form), (Form::All, Form::Server(1)));
    assert_eq!(plan.by_name.get("desk"), None);
    let desk = hub(&plan, "desk");
    assert_eq!((desk.form, &*desk.members), (Form::Virtual, &[0, 1, 2][..]));
    assert_eq!(picked(desk, Named::Tool), [(1, "find"), (0, "*")]);
    assert_eq!(picked(desk, Named::Prompt), [(0, "*"), (1, "*"), (2, "*")]);
    assert_eq!(picked(desk, Named::Resource), []);
    let last = hub(&plan, "last");
    assert_eq!((&*last.members, picked(last, Named::Resource)), (&[1][..], vec![(1, "a://b.c/*")]));
}

#[test]
fn patterns_name_servers_in_the_order_of_the_file() {
    let tools = |list: &str| {
        let plan = plan(&shown(&format!("tools: [{list}]")));
        let picks = picked(hub(&plan, "desk"), Named::Tool);
        picks.into_iter().map(|(id, name)| format!("{id}.{name}")).collect::<Vec<_>>()
    };
    assert_eq!(tools("\"*.find\""), ["0.find", "1.find", "2.find"]);
    assert_eq!(tools("docs.find, \"d*.find\", \"*.x\""), ["1.find", "0.x", "1.x", "2.x"]);
    // A name that is written beats one that a pattern of servers makes.
    assert_eq!(tools("\"*.find\", docs.find"), ["1.find"]);
    // A disabled one may come back.
    assert_eq!(tools("old.find, docs.find, \"ol*.x\""), ["1.find"]);
    assert_eq!(
        warnings(&shown("tools: [\"old.*\"]"))[1],
        "a.yaml:7:3: the virtual server `desk` shows nothing: its servers are disabled."
    );
}

#[test]
fn overrides_of_a_virtual_server_stand_above_those_of_its_servers() {
    let plan = plan(
        "mcpServers:\n  crm: {url: \"http://localhost:1/\", overrides: {a: {name: b, description: of a}, c: {description: of c}}}\n  \
         docs: {url: \"http://localhost:2/\", overrides: {x: {name: y}}}\n\
         virtualServers:\n  desk: {tools: [\"crm.*\"], overrides: {crm.a: {name: d}, crm.e: {description: of e}}}\n",
    );
    let all = |name: &str| -> Vec<String> {
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
        let one = |one: &ringgate::config::hub::Override| {
            format!("{}.{}: {}, {}", one.server, one.tool, text(&one.name), text(&one.description))
        };
        hub(&plan, name).overrides.iter().map(one).collect()
    };
    assert_eq!(all(""), ["0.a: b, of a", "0.c: -, of c", "1.x: y, -"]);
    assert_eq!(all("docs"), ["1.x: y, -"]);
    assert_eq!(all("desk"), ["0.a: d, of a", "0.c: -, of c", "0.e: -, of e"]);
    assert_eq!(plan.servers[1].overrides, hub(&plan, "docs").overrides);
    assert_eq!(hub(&plan, "desk").shown(0, "a").unwrap().name.as_deref(), Some("d"));
    assert_eq!(hub(&plan, "desk").shown(0, "d"), None);
}

#[test]
fn virtual_servers_that_cannot_be_meant() {
    let table = [
        ("tools: [»cmr.x]", "`cmr` is no server. Did you mean `crm`?"),
        ("tools: [»wiki.x]", "`wiki` is no server. Did you mean `Wiki`?"),
        ("tools: [»desk.x]", "`desk` is no server. It is one of: crm, docs, Wiki, old."),
        ("tools: [»crm]", "`crm` names no server. Write `server.tool`; `*` is everything"),
        ("tools: [»crm.]", "`crm.` names nothing of a server"),
        ("prompts: [»crm]", "Write `server.name`"),
        ("resources: [»\"x*.y\"]", "`x*.y` names no server that there is. It is one of: crm, docs"),
        (
            "tools: [»\"prompt:crm.x\"]",
            "`prompt:crm.x` is not written so under `tools`. Write it under `prompts`",
        ),
        (
            "resources: [»\"resource:crm.x\"]",
            "is not written so under `resources`. Write it under `resources`",
        ),
        (
            "tools: [crm.x, »crm.x]",
            "`crm.x` stands here a second time. The first one is at 7:18; remove one.",
        ),
        ("tools: »[]", "the list is empty"),
        ("tools: [»\"\"]", "there is no value"),
        (
            "tools: [crm.x], »search: {k: 5}",
            "`search` of `virtualServers.NAME` is not available in this version",
        ),
        ("tools: [crm.x], »prompt: []", "Did you mean `prompts`?"),
        ("tools: [crm.x, »docs.x]", "`crm.x` and `docs.x` would have the same name. Show one under another"),
        (
            "tools: [crm.x, »docs.y], overrides: {docs.y: {name: x}}",
            "`crm.x` and `docs.y` would have the same name",
        ),
        (
            "tools: [crm.x, \"docs.*\"], overrides: {»docs.y: {name: x}}",
            "`crm.x` and `docs.y` would have the same name",
        ),
        ("tools: [crm.x], overrides: {»docs.x: {name: y}}", "`docs.x` is no tool of this virtual server"),
        ("tools: [\"crm.a*\"], overrides: {»crm.x: {name: y}}", "`crm.x` is no tool of this virtual server"),
        ("tools: [\"crm.*\"], overrides: {»\"crm.*\": {name: y}}", "`crm.*` does not name one tool"),
        ("tools: [\"crm.*\"], overrides: {»x: {name: y}}", "`x` names no server"),
        ("tools: [\"crm.*\"], overrides: {»cmr.x: {name: y}}", "Did you mean `crm`?"),
        ("tools: [crm.x], overrides: {»crm.x: {}}", "an override changes nothing. Write `name: NAME`"),
        (
            "tools: [crm.x], overrides: {crm.x: {name: »\"a b\"}}",
            "`a b` is no name of a tool. It has 1 to 128",
        ),
        ("tools: [crm.x], overrides: {crm.x: {»nane: y}}", "Did you mean `name`?"),
    ];
    for (marked, what) in table {
        check(&shown(marked), what);
    }
    check(&shown("").replace("desk", "»desk"), "a virtual server shows nothing. Name what it shows");
    assert_eq!(plan(&shown("tools: [crm.x, docs.x], overrides: {docs.x: {name: y}}")).hubs.len(), 5);
    // Servers' own overrides may bring two together, or apart.
    let text = |name: &str, tool: &str| {
        format!(
            "mcpServers:\n  a: {{url: \"http://localhost:1/\", overrides: {{x: {{name: {name}}}}}}}\n  \
             b: {{url: \"http://localhost:2/\"}}\nvirtualServers:\n  v: {{tools: [a.x, »b.{tool}]}}\n"
        )
    };
    check(&text("y", "y"), "`a.x` and `b.y` would have the same name");
    // Also where a pattern takes the one that its server calls otherwise.
    let taken = text("y", "y").replace("[a.x, »b.y]", "[»\"a.*\", b.y]");
    check(&taken, "`b.y` and `a.*` would have the same name");
    assert!(load(&text("y", "x").replace('»', "")).is_ok());
}

#[test]
fn servers_and_virtual_servers_share_their_names() {
    let named = |name: &str| shown("tools: [crm.x]").replace("desk", name);
    check(
        &named("»Crm"),
        "the virtual server `Crm` has the name of a server, `crm`. That one is at 2:3; rename one.",
    );
    check(&named("»old"), "has the name of a server, `old`");
    check(&named("»a__b"), "the virtual server name `a__b` has `__`");
    check(&named("»1a"), "does not start with a letter");
    check(
        &shown("tools: [crm.x]}\n  »Desk: {tools: [crm.x]"),
        "the virtual server `Desk` has the name of a virtual server, `desk`. That one is at 7:3",
    );
    check(&shown("tools: [crm.x]}\n  »desk: {tools: [crm.x]"), "`desk` stands here a second time");
}

#[test]
fn overrides_of_a_server_name_single_tools() {
    let table = [
        ("overrides: {»\"get_*\": {name: x}}", "`get_*` does not name one tool"),
        ("overrides: {»x: {}}", "an override changes nothing"),
        ("overrides: {x: {name: »\"\"}}", "is no name of a tool"),
        ("overrides: {x: {name: »a/b}}", "is no name of a tool. It has 1 to 128 letters, digits and `_-.`."),
        (
            "overrides: {x: {name: y}, z: {name: »y}}",
            "`x` and `z` would have the same name. The first one is at 2:60",
        ),
        ("overrides: {x: {name: y}, »y: {description: t}}", "`x` and `y` would have the same name"),
        ("overrides: {x: {title: t}}", "`title` is not a key of `mcpServers.NAME.overrides.NAME`"),
    ];
    for (members, what) in table {
        let members =
            if members.contains('»') { members.to_owned() } else { members.replace("title", "»title") };
        check(&server(&format!("url: \"http://localhost:1/mcp\", {members}")), what);
    }
    let swapped =
        "url: \"http://localhost:1/\", overrides: {x: {name: y}, y: {name: x}, \"a/b\": {name: ab}}";
    assert_eq!(plan(&server(swapped)).servers[0].overrides.len(), 3);
    let long = |bytes: usize| {
        server(&format!("url: \"http://localhost:1/\", overrides: {{x: {{name: »{}}}}}", "n".repeat(bytes)))
    };
    // `a__` and the name.
    let warned = |bytes| warnings(&long(bytes).replace('»', ""));
    assert!(warned(61).is_empty());
    assert!(
        warned(62)[0]
            .starts_with("a.yaml:2:57: the name of this tool at `/mcp` has 65 characters. Shorten it")
    );
    assert_eq!(warned(125).len(), 1);
    check(&long(126), "the name of this tool at `/mcp` has 129 characters. Shorten it: 128 are allowed");
    let wide = shown(&format!("tools: [crm.{}, »crm.{}]", "n".repeat(65), "m".repeat(129)));
    check(&wide, "the name of this tool here has 129 characters");
    let text = "t".repeat(16 * 1024 + 1);
    check(
        &server(&format!("url: \"http://localhost:1/\", overrides: {{x: {{description: »{text}}}}}")),
        "a description of more than 16384 bytes",
    );
}

#[test]
fn lists_are_kept_as_long_as_is_written() {
    let cache = |members: &str| {
        let plan = plan(&server(&format!("url: \"http://localhost:1/\"{members}")));
        (plan.servers[0].list_cache.fresh_ms, plan.servers[0].list_cache.stale_ms)
    };
    assert_eq!(cache(""), (None, 3_600_000));
    assert_eq!(cache(", cache: {list: 10m}"), (Some(600_000), 3_600_000));
    assert_eq!(cache(", cache: {maxStale: 0s}"), (None, 0));
    let table = [
        ("{list: »0s}", "here from 1ms to 1d"),
        ("{maxStale: »2d}", "here from 0ms to 1d"),
        ("{»readOnly: 60s}", "`readOnly` of `mcpServers.NAME.cache` is not available in this version"),
        ("{»lists: 1s}", "Did you mean `list`?"),
    ];
    for (marked, what) in table {
        check(&server(&format!("url: \"http://localhost:1/\", cache: {marked}")), what);
    }
}

#[test]
fn virtual_servers_are_bounded() {
    let list = |count: usize| -> String {
        let lines: String = (0..count).map(|at| format!("  v{at}: {{tools: [a.x]}}\n")).collect();
        format!("{}virtualServers:\n{lines}", server("url: \"http://localhost:1/\""))
    };
    assert_eq!(plan(&list(256)).hubs.len(), 258);
    assert_eq!(problems(&list(257)), ["a.yaml:260:3: more than 256 virtual servers. Use a second gateway."]);
    let picks =
        |count: usize| -> String { (0..count).map(|at| format!("crm.t{at}")).collect::<Vec<_>>().join(", ") };
    assert_eq!(plan(&shown(&format!("tools: [{}]", picks(1024)))).hubs[4].tools.len(), 1024);
    check(&shown(&format!("tools: [{}, »crm.x]", picks(1024))), "more than 1024 names");
    // A pattern counts once for each server that it names.
    check(
        &shown(&format!("tools: [{}, »\"*.x\"]", picks(1022))),
        "this virtual server picks more than 1024 names",
    );
    check(&shown(&format!("tools: [{}], prompts: [»crm.x]", picks(1024))), "picks more than 1024 names");
    let overrides: String = (0..1025).map(|at| format!("t{at}: {{name: n{at}}}, ")).collect();
    assert!(
        problems(&server(&format!("url: \"http://localhost:1/\", overrides: {{{overrides}}}")))[0]
            .contains("more than 1024 overrides")
    );
}
