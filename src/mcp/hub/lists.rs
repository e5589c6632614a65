//! The lists of a hub: the entries of its servers' catalogues under the hub's names, in the hub's order, in pages.
//!
//! Not here: who may see an entry (an argument), and cursors on the wire.

use crate::config::hub::Pick;
use crate::config::limits;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::catalogue::Item;
use crate::mcp::crossing::path;
use crate::mcp::crossing::uris;
use crate::mcp::hub::Scene;
use crate::mcp::hub::claims::Claim;
use crate::mcp::hub::claims::Same;
use crate::mcp::hub::claims::Weight;
use crate::mcp::hub::names;
use crate::mcp::listing::Kind;
use ahash::HashMap;
use std::borrow::Cow;
use std::ops::Range;

/// An entry that somebody has to decide on.
pub struct Entry<'a> {
    pub kind: Kind,
    pub id: ServerId,
    pub server: &'a Server,
    pub catalogue: &'a Catalogue,
    pub item: &'a Item,
}

/// The pages of a list: the entries of each, joined by commas. There is always one.
pub fn pages<'a>(scene: &Scene<'a>, kind: Kind, sees: &mut dyn FnMut(&Entry<'a>) -> bool) -> Vec<String> {
    let mut pages = vec![String::new()];
    let mut entries = 0;
    each(scene, kind, &mut |entry, shown| {
        if !sees(entry) {
            return;
        }
        // There is one from the beginning.
        let Some(page) = pages.last_mut() else { return };
        let full = page.len() >= limits::LIST_PAGE_BYTES || entries >= limits::LIST_PAGE_ENTRIES;
        if full {
            pages.push(String::new());
            entries = 0;
        }
        let Some(page) = pages.last_mut() else { return };
        if !page.is_empty() {
            page.push(',');
        }
        entries += 1;
        render(scene, kind, entry, shown, page);
    });
    pages
}

/// The members of which this caller may know: each that has nothing, or something that he sees.
pub fn members<'a>(scene: &Scene<'a>, sees: &mut dyn FnMut(&Entry<'a>) -> bool) -> Vec<ServerId> {
    let mut seen: HashMap<ServerId, bool> = HashMap::default();
    for kind in Kind::ALL {
        entries(scene, kind, &mut |_, entry, _| {
            let seen = seen.entry(entry.id).or_insert(false);
            *seen = *seen || sees(entry);
        });
    }
    scene.members.iter().copied().filter(|id| seen.get(id) != Some(&false)).collect()
}

/// A name that several servers give, and no pick decides whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    pub kind: Kind,
    pub name: String,
    /// Names of the servers, in the order of the picks.
    pub servers: Vec<String>,
}

/// The names under which nothing is shown because several servers give them, by kind and name.
pub fn contested(scene: &Scene<'_>) -> Vec<Contested> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let claims = claims(scene, kind);
        let mut names: Vec<&str> =
            claims.iter().filter(|(_, claim)| claim.is_contested()).map(|(name, _)| &**name).collect();
        names.sort_unstable();
        all.extend(names.into_iter().map(|name| Contested {
            kind,
            name: name.to_owned(),
            servers: servers_of(scene, kind, name),
        }));
    }
    all
}

/// The servers that have something which could be shown under a name.
fn servers_of(scene: &Scene<'_>, kind: Kind, name: &str) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    entries(scene, kind, &mut |_, entry, shown| {
        if *shown == *name && !servers.iter().any(|known| **known == *entry.server.name) {
            servers.push(entry.server.name.to_string());
        }
    });
    servers
}

/// What is shown, in order, each with its name there.
fn each<'a>(scene: &Scene<'a>, kind: Kind, then: &mut dyn FnMut(&Entry<'a>, &str)) {
    let claims = claims(scene, kind);
    entries(scene, kind, &mut |place, entry, shown| {
        let who = Claimant { place, server: entry.id, name: &entry.item.name };
        if claims.is_empty() || claims.get(&*shown).and_then(Claim::holder) == Some(&who) {
            then(entry, &shown);
        }
    });
}

/// What could be shown: the place of its pick, and its name there.
fn entries<'a>(scene: &Scene<'a>, kind: Kind, then: &mut dyn FnMut(usize, &Entry<'a>, Cow<'a, str>)) {
    for (place, pick) in scene.hub.picks(kind.named()).iter().enumerate() {
        let Some((server, catalogue)) = scene.known(pick.server) else { continue };
        for item in catalogue.items[kind as usize].iter().filter(|item| pick.pattern.matches(&item.name)) {
            if let Some(shown) = names::shown(scene.hub, server, pick.server, kind, &item.name) {
                then(place, &Entry { kind, id: pick.server, server, catalogue, item }, shown);
            }
        }
    }
}

/// A thing of a server, and the place of the pick that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claimant<'a> {
    place: usize,
    server: ServerId,
    /// The server's own.
    name: &'a str,
}

impl Same for Claimant<'_> {
    /// Of two picks that take it the first shows it.
    fn is_same(&self, other: &Self) -> bool {
        (self.server, self.name) == (other.server, other.name)
    }
}

/// Who shows which name, where more than one server, or more than one pick, could.
fn claims<'a>(scene: &Scene<'a>, kind: Kind) -> HashMap<String, Claim<Claimant<'a>>> {
    let mut claims: HashMap<String, Claim<Claimant<'_>>> = HashMap::default();
    let picks = scene.hub.picks(kind.named());
    if picks.len() < 2 || scene.hub.is_prefixed() {
        return claims;
    }
    let mut add = |shown: Cow<'_, str>, who, weight| {
        claims.entry(shown.into_owned()).or_insert(Claim::None).add(who, weight);
    };
    entries(scene, kind, &mut |place, entry, shown| {
        let is_exact = picks.get(place).is_some_and(Pick::is_exact) || *shown != *entry.item.name;
        let who = Claimant { place, server: entry.id, name: &entry.item.name };
        add(shown, who, Weight { is_exact, is_listed: true });
    });
    // What is named, and not there now.
    let named = picks.iter().filter(|pick| pick.is_exact()).map(|pick| (pick.server, pick.pattern.as_str()));
    let renamed = scene.hub.overrides.iter().filter(|one| one.name.is_some());
    for (id, name) in named.chain(renamed.map(|one| (one.server, &*one.tool))) {
        let Some(server) = scene.server(id) else { continue };
        if let Some(shown) = names::shown(scene.hub, server, id, kind, name) {
            let who = Claimant { place: usize::MAX, server: id, name };
            add(shown, who, Weight { is_exact: true, is_listed: false });
        }
    }
    claims
}

/// One entry, under its name here. Every other byte is the server's.
fn render(scene: &Scene<'_>, kind: Kind, entry: &Entry<'_>, shown: &str, out: &mut String) {
    let Item { name, text, name_at, description_at } = entry.item;
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    if **name != *shown {
        changes.push((name_at.clone(), quoted(shown)));
    }
    if kind == Kind::Tool {
        let described = scene.hub.shown(entry.id, name).and_then(|one| one.description.as_deref());
        if let Some(described) = described {
            match description_at {
                Some(at) => changes.push((at.clone(), quoted(described))),
                // Before the first member: an entry has at least its name.
                None => changes.push((1..1, format!("\"description\":{},", quoted(described)))),
            }
        }
        if scene.hub.is_prefixed()
            && let Some((at, uri)) = page_of(text)
        {
            changes.push((at, quoted(&uris::wrap(&entry.server.name, &uri))));
        }
    }
    changes.sort_by_key(|(at, _)| at.start);
    let mut copied = 0;
    for (at, with) in changes {
        out.push_str(text.get(copied..at.start).unwrap_or_default());
        out.push_str(&with);
        copied = at.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
}

/// Where a tool's entry names a page, with the quotes, and which (`_meta.ui.resourceUri`, MCP Apps).
fn page_of(entry: &str) -> Option<(Range<usize>, Cow<'_, str>)> {
    // Nearly no tool has one.
    if !entry.contains("resourceUri") {
        return None;
    }
    let path = ["_meta", "ui", "resourceUri"];
    Some((path::find(entry, &path)?, path::text(entry, &path)?))
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
