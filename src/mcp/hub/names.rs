//! Names at a hub: how a thing of a server is called there, and what a name there stands for.
//!
//! Not here: whether the server has it, and whether the caller may know (policy).

use crate::config::hub::Hub;
use crate::config::hub::Pick;
use crate::config::pattern::Named;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::mcp::crossing::uris;
use crate::mcp::hub::Scene;
use crate::mcp::hub::claims::Claim;
use crate::mcp::hub::claims::Same;
use crate::mcp::hub::claims::Weight;
use crate::mcp::listing::Kind;
use std::borrow::Cow;

/// Between a server's name and its tool's or prompt's.
pub const SEPARATOR: &str = "__";

/// What a name at a hub stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'n> {
    pub server: ServerId,
    /// As the server calls it.
    pub name: Cow<'n, str>,
}

impl Same for Found<'_> {
    fn is_same(&self, other: &Self) -> bool {
        self.server == other.server
    }
}

/// How a hub calls a thing of one of its servers. None: it is not shown there.
pub fn shown<'n>(
    hub: &Hub,
    server: &Server,
    id: ServerId,
    kind: Kind,
    name: &'n str,
) -> Option<Cow<'n, str>> {
    if !hub.picks(kind.named()).iter().any(|pick| takes(pick, id, name)) {
        return None;
    }
    let renamed = (kind == Kind::Tool).then(|| hub.shown(id, name)).flatten();
    let own = match renamed.and_then(|one| one.name.as_deref()) {
        Some(other) => Cow::Owned(other.to_owned()),
        None if is_taken(hub, id, kind, name) => return None,
        None => Cow::Borrowed(name),
    };
    Some(match (hub.is_prefixed(), kind) {
        (false, _) => own,
        (true, Kind::Tool | Kind::Prompt) => Cow::Owned(format!("{}{SEPARATOR}{own}", server.name)),
        (true, Kind::Resource | Kind::Template) => Cow::Owned(uris::wrap(&server.name, &own)),
    })
}

fn takes(pick: &Pick, id: ServerId, name: &str) -> bool {
    pick.server == id && pick.pattern.matches(name)
}

/// Whether another tool of the server is shown under this name.
fn is_taken(hub: &Hub, id: ServerId, kind: Kind, name: &str) -> bool {
    kind == Kind::Tool
        && hub
            .overrides
            .iter()
            .any(|one| one.server == id && one.name.as_deref() == Some(name) && *one.tool != *name)
}

/// What a name at a hub stands for. None: nothing there is called so.
pub fn find<'n>(scene: &Scene<'_>, named: Named, name: &'n str) -> Option<Found<'n>> {
    let hub = scene.hub;
    if !hub.is_prefixed() {
        return unprefixed(scene, named, name);
    }
    let (server, own) = match named {
        Named::Tool | Named::Prompt => {
            let (server, own) = name.split_once(SEPARATOR)?;
            (member(scene, |known| known == server)?, Cow::Borrowed(own))
        }
        Named::Resource => {
            let (server, own) = uris::unwrap(name)?;
            (member(scene, |known| uris::is_label_of(server, known))?, own)
        }
    };
    let own = original(hub, server, named, own)?;
    Some(Found { server, name: own })
}

/// The member of a name.
fn member(scene: &Scene<'_>, is_it: impl Fn(&str) -> bool) -> Option<ServerId> {
    scene.members.iter().copied().find(|id| scene.server(*id).is_some_and(|server| is_it(&server.name)))
}

/// The server's own name of what is shown under this one.
fn original<'n>(hub: &Hub, server: ServerId, named: Named, name: Cow<'n, str>) -> Option<Cow<'n, str>> {
    if named != Named::Tool || hub.overrides.is_empty() {
        return Some(name);
    }
    let ours = || hub.overrides.iter().filter(|one| one.server == server);
    if let Some(renamed) = ours().find(|one| one.name.as_deref() == Some(&*name)) {
        return Some(Cow::Owned(renamed.tool.to_string()));
    }
    // A tool that is shown under another name is not known under its own.
    let hides = ours().any(|one| *one.tool == *name && one.name.is_some());
    if hides { None } else { Some(name) }
}

/// Where names are as the servers gave them.
fn unprefixed<'n>(scene: &Scene<'_>, named: Named, name: &'n str) -> Option<Found<'n>> {
    let hub = scene.hub;
    if let [only] = *hub.members {
        let own = original(hub, only, named, Cow::Borrowed(name))?;
        let shown = hub.picks(named).iter().any(|pick| takes(pick, only, &own));
        return shown.then_some(Found { server: only, name: own });
    }
    let mut claim = Claim::None;
    for pick in hub.picks(named).iter().filter(|pick| scene.server(pick.server).is_some()) {
        let own = original(hub, pick.server, named, Cow::Borrowed(name));
        let Some(own) = own.filter(|own| pick.pattern.matches(own)) else { continue };
        let weight = Weight {
            is_exact: pick.is_exact() || *own != *name,
            is_listed: (scene.catalogue)(pick.server).is_some_and(|known| known.lists(named, &own)),
        };
        claim.add(Found { server: pick.server, name: own }, weight);
    }
    claim.holder().cloned()
}

#[cfg(test)]
mod tests;
