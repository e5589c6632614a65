//! Servers and virtual servers to hubs: `/mcp`, one for each server, one for each virtual server.
//!
//! Not here: servers themselves (`compile_server`), single overrides (`compile_override`).

use crate::config::compile_limit;
use crate::config::compile_override;
use crate::config::compile_server;
use crate::config::file::File;
use crate::config::file_hub::VirtualServer;
use crate::config::hub::Form;
use crate::config::hub::Hub;
use crate::config::hub::Override;
use crate::config::hub::Pick;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::pattern::Pattern;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::config::problem::Place;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use ahash::HashMap;
use ahash::HashMapExt;
use ahash::HashSet;
use std::sync::Arc;

/// All of them, `/mcp` first.
pub fn hubs(reader: &mut Reader<'_>, file: &File, servers: &[Server]) -> Vec<Hub> {
    check_names(reader, file);
    let each = || (0..).zip(servers);
    let all = whole("".into(), Form::All, each().map(|(id, _)| id).collect(), servers);
    let singles = each().map(|(id, one)| whole(Arc::clone(&one.name), Form::Server(id), vec![id], servers));
    let mut hubs: Vec<Hub> = std::iter::once(all).chain(singles).collect();
    let known = Known {
        names: file.mcp_servers.iter().map(|(name, _)| name.value.as_str()).collect(),
        ids: each().map(|(id, server)| (&*server.name, id)).collect(),
        servers,
    };
    hubs.extend(file.virtual_servers.iter().map(|(name, written)| selected(reader, name, written, &known)));
    hubs
}

/// One that shows everything of its members.
fn whole(name: Arc<str>, form: Form, members: Vec<ServerId>, servers: &[Server]) -> Hub {
    let picks = || members.iter().map(|id| Pick { server: *id, pattern: Pattern::new("*") }).collect();
    let overrides = members.iter().filter_map(|id| servers.get(usize::from(*id)));
    let overrides = overrides.flat_map(|server| server.overrides.iter().cloned()).collect();
    Hub { name, form, tools: picks(), prompts: picks(), resources: picks(), overrides, members }
}

/// Servers and virtual servers share one space of names: both are `/mcp/NAME`.
fn check_names(reader: &mut Reader<'_>, file: &File) {
    let mut taken: HashMap<String, (&str, &str, Place)> = HashMap::new();
    for (name, _) in &file.mcp_servers {
        taken.insert(name.value.to_ascii_lowercase(), ("server", &name.value, name.place));
    }
    for (name, _) in &file.virtual_servers {
        compile_server::check_name(reader, name, "virtual server");
        let before =
            taken.insert(name.value.to_ascii_lowercase(), ("virtual server", &name.value, name.place));
        if let Some((kind, other, Place { line, column })) = before {
            let what =
                format!("the virtual server {} has the name of a {kind}, {}", name.shown(), quoted(other));
            reader.problem(name.place, what, format!("That one is at {line}:{column}; rename one."));
        }
    }
}

/// What patterns may name.
struct Known<'f> {
    /// Of all servers, disabled ones among them: these may come back.
    names: Vec<&'f str>,
    ids: HashMap<&'f str, ServerId>,
    servers: &'f [Server],
}

/// A pick, and the entry of the file that it is from.
struct Picked<'f> {
    text: &'f Located<String>,
    pick: Pick,
    /// The entry names one tool of one server.
    exact: bool,
}

fn selected(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    written: &VirtualServer,
    known: &Known<'_>,
) -> Hub {
    let mut room = limits::PICKS_MAX;
    let tools = picks(reader, &written.tools, Named::Tool, known, &mut room);
    let prompts = picks(reader, &written.prompts, Named::Prompt, known, &mut room);
    let resources = picks(reader, &written.resources, Named::Resource, known, &mut room);
    let kinds = [&tools, &prompts, &resources];
    let mut members: Vec<_> = kinds.into_iter().flatten().map(|from| from.pick.server).collect();
    members.sort_unstable();
    members.dedup();
    let says = !written.tools.is_empty() || !written.prompts.is_empty() || !written.resources.is_empty();
    if members.is_empty() && says {
        let what = format!("the virtual server {} shows nothing: its servers are disabled", name.shown());
        reader.warn(name.place, what, "");
    }
    let own = own_overrides(reader, written, &tools, known);
    let overrides = merged(&members, &own, known);
    let plain = |picks: Vec<Picked<'_>>| picks.into_iter().map(|from| from.pick).collect();
    Hub {
        name: Arc::from(name.value.as_str()),
        form: Form::Virtual,
        tools: apart(reader, tools, &own, &overrides),
        prompts: plain(prompts),
        resources: plain(resources),
        overrides,
        members,
    }
}

/// What is picked of one kind. `room`: how many more there may be.
fn picks<'f>(
    reader: &mut Reader<'_>,
    written: &'f [Located<String>],
    named: Named,
    known: &Known<'_>,
    room: &mut usize,
) -> Vec<Picked<'f>> {
    let mut texts: HashMap<&str, Place> = HashMap::new();
    let mut seen: HashMap<(ServerId, &str), usize> = HashMap::new();
    let mut picks: Vec<Picked<'_>> = Vec::new();
    // Empty ones were reported.
    for text in written.iter().filter(|text| !text.value.is_empty()) {
        if let Some(Place { line, column }) = texts.insert(&text.value, text.place) {
            let what = format!("{} stands here a second time", text.shown());
            reader.problem(text.place, what, format!("The first one is at {line}:{column}; remove one."));
            continue;
        }
        let Some((server, name)) = parts(reader, text, named) else { continue };
        let exact = !server.contains('*') && !name.contains('*');
        for id in meant(reader, text, server, known) {
            if let Some(before) = seen.get(&(id, name)).and_then(|at| picks.get_mut(*at)) {
                // A pattern of servers made it first: it stays where it is, and is what the file names.
                if exact {
                    (before.exact, before.text) = (true, text);
                }
                continue;
            }
            seen.insert((id, name), picks.len());
            if *room == 0 {
                let what = format!("this virtual server picks more than {} names", limits::PICKS_MAX);
                reader.problem(text.place, what, "Use `*`, or make two of it.");
                return picks;
            }
            *room -= 1;
            picks.push(Picked { text, pick: Pick { server: id, pattern: Pattern::new(name) }, exact });
        }
    }
    picks
}

/// The server's part and the rest. None: there are no two parts, and that was reported.
fn parts<'f>(reader: &mut Reader<'_>, text: &'f Located<String>, named: Named) -> Option<(&'f str, &'f str)> {
    let (key, form) = match named {
        Named::Tool => ("tools", "server.tool"),
        Named::Prompt => ("prompts", "server.name"),
        Named::Resource => ("resources", "server.URI"),
    };
    let cure = format!("Write `{form}`; `*` is everything that servers have of it.");
    match Named::split(&text.value) {
        (Named::Tool, "*") => Some(("*", "*")),
        (Named::Tool, rest) => match rest.split_once('.') {
            Some((_, "")) => {
                reader.problem(text.place, format!("{} names nothing of a server", text.shown()), cure);
                None
            }
            Some(parts) => Some(parts),
            None => {
                reader.problem(text.place, format!("{} names no server", text.shown()), cure);
                None
            }
        },
        // As rules and limits write it; here the key says it.
        (other, _) => {
            let word = if other == Named::Prompt { "prompts" } else { "resources" };
            let what = format!("{} is not written so under `{key}`", text.shown());
            reader.problem(
                text.place,
                what,
                format!("Write it under `{word}`, without what stands before `:`."),
            );
            None
        }
    }
}

/// The servers that a pattern of servers names, in the order of the file, without those that are disabled.
fn meant(reader: &mut Reader<'_>, text: &Located<String>, server: &str, known: &Known<'_>) -> Vec<ServerId> {
    if !server.contains('*') {
        if !known.names.contains(&server) {
            compile_limit::unknown_server(reader, text, server, &known.names);
        }
        return known.ids.get(server).copied().into_iter().collect();
    }
    let pattern = Pattern::new(server);
    if !known.names.iter().any(|name| pattern.matches(name)) {
        let cure = format!("It is one of: {}.", known.names.join(", "));
        reader.problem(text.place, format!("{} names no server that there is", text.shown()), cure);
    }
    (0..).zip(known.servers).filter(|(_, server)| pattern.matches(&server.name)).map(|(id, _)| id).collect()
}

/// What the virtual server itself says about its tools.
fn own_overrides<'f>(
    reader: &mut Reader<'_>,
    written: &'f VirtualServer,
    tools: &[Picked<'_>],
    known: &Known<'_>,
) -> Vec<(&'f Located<String>, Override)> {
    let mut own = Vec::new();
    for (text, change) in &written.overrides {
        let Some((server, tool)) = parts(reader, text, Named::Tool) else { continue };
        if !compile_override::names_one(reader, text, tool) {
            continue;
        }
        if !known.names.contains(&server) {
            compile_limit::unknown_server(reader, text, server, &known.names);
            continue;
        }
        // A disabled one may come back.
        let Some(id) = known.ids.get(server) else { continue };
        let is_shown = |from: &Picked<'_>| from.pick.server == *id && from.pick.pattern.matches(tool);
        if !tools.iter().any(is_shown) {
            let what = format!("{} is no tool of this virtual server", text.shown());
            reader.problem(text.place, what, "Name it under `tools` too, or remove the override.");
        }
        own.push((text, compile_override::changed(reader, *id, tool, change)));
    }
    own
}

/// Those of the virtual server, and below them those of the servers: what the first do not say, the second do.
fn merged(members: &[ServerId], own: &[(&Located<String>, Override)], known: &Known<'_>) -> Vec<Override> {
    let servers = members.iter().filter_map(|id| known.servers.get(usize::from(*id)));
    let mut all: Vec<Override> = servers.flat_map(|server| server.overrides.iter().cloned()).collect();
    let places: HashMap<(ServerId, Box<str>), usize> =
        all.iter().zip(0..).map(|(one, at)| ((one.server, one.tool.clone()), at)).collect();
    for (_, one) in own {
        match places.get(&(one.server, one.tool.clone())).and_then(|at| all.get_mut(*at)) {
            Some(below) => {
                below.name = one.name.clone().or_else(|| below.name.take());
                below.description = one.description.clone().or_else(|| below.description.take());
            }
            None => all.push(one.clone()),
        }
    }
    all
}

/// The tools, no two of those that the file names shown under one name.
fn apart(
    reader: &mut Reader<'_>,
    tools: Vec<Picked<'_>>,
    own: &[(&Located<String>, Override)],
    overrides: &[Override],
) -> Vec<Pick> {
    let names: HashMap<(ServerId, &str), &str> =
        overrides.iter().filter_map(|one| Some(((one.server, &*one.tool), one.name.as_deref()?))).collect();
    let shown = |server: ServerId, tool: &str| -> Box<str> {
        names.get(&(server, tool)).copied().unwrap_or(tool).into()
    };
    let exact = tools.iter().filter(|from| from.exact);
    let exact = exact.map(|from| (from.pick.server, from.pick.pattern.as_str(), from.text));
    let renamed = own.iter().map(|(text, one)| (one.server, &*one.tool, *text));
    // What a server itself calls otherwise stands under that name here, too, where an entry takes it.
    let taken = |one: &Override| {
        let takes =
            |from: &&Picked<'_>| from.pick.server == one.server && from.pick.pattern.matches(&one.tool);
        tools.iter().find(takes).map(|from| from.text)
    };
    let below = overrides.iter().filter(|one| one.name.is_some());
    let below = below.filter_map(|one| Some((one.server, &*one.tool, taken(one)?)));
    let renamed = renamed.chain(below);
    let mut seen: HashSet<(ServerId, &str)> = HashSet::default();
    let mut first: HashMap<Box<str>, (ServerId, &Located<String>)> = HashMap::new();
    for (server, tool, text) in exact.chain(renamed).filter(|(server, tool, _)| seen.insert((*server, tool)))
    {
        let name = shown(server, tool);
        compile_override::check_length(reader, text.place, name.len(), "here");
        if let Some((_, other)) = first.get(&name) {
            let what = format!("{} and {} would have the same name", other.shown(), text.shown());
            reader.problem(
                text.place,
                what,
                "Show one under another: `overrides: {\"server.tool\": {name: …}}`.",
            );
        } else {
            first.insert(name, (server, text));
        }
    }
    // What an entry names exactly beats what a pattern finds (`mcp::hub`), also where the pattern is one of servers.
    let beaten = |from: &Picked<'_>| {
        let pattern = &from.pick.pattern;
        let taken = first.get(&shown(from.pick.server, pattern.as_str()));
        !from.exact && from.pick.is_exact() && taken.is_some_and(|(server, _)| *server != from.pick.server)
    };
    let left: Vec<Pick> = tools.iter().filter(|from| !beaten(from)).map(|from| from.pick.clone()).collect();
    left
}
