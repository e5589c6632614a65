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
use crate::mcp::hub::names;
use crate::mcp::listing::Kind;
use ahash::HashMap;
use std::borrow::Cow;
use std::ops::Range;

/// An entry that somebody has to decide on.
pub struct Entry<'a> {
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

/// What is shown, in order, each with its name there.
fn each<'a>(scene: &Scene<'a>, kind: Kind, then: &mut dyn FnMut(&Entry<'a>, &str)) {
    let picks = scene.hub.picks(kind.named());
    let claims = claims(scene, kind, picks);
    for (place, pick) in picks.iter().enumerate() {
        let (Some(server), Some(catalogue)) = (scene.server(pick.server), (scene.catalogue)(pick.server))
        else {
            continue;
        };
        for item in catalogue.items[kind as usize].iter().filter(|item| pick.pattern.matches(&item.name)) {
            let Some(shown) = names::shown(scene.hub, server, pick.server, kind, &item.name) else {
                continue;
            };
            let ours =
                claims.is_empty() || claims.get(&*shown).is_some_and(|claim| claim.is(place, &item.name));
            if ours {
                then(&Entry { id: pick.server, server, catalogue, item }, &shown);
            }
        }
    }
}

/// Who shows a name: its pick, and the server's own name of the thing; none: more than one would.
struct Claim<'a> {
    place: usize,
    is_exact: bool,
    server: ServerId,
    name: &'a str,
    contested: bool,
}

impl Claim<'_> {
    fn is(&self, place: usize, name: &str) -> bool {
        !self.contested && self.place == place && *self.name == *name
    }
}

/// Who shows which name, where more than one server, or more than one pick, could.
fn claims<'a>(scene: &Scene<'a>, kind: Kind, picks: &[Pick]) -> HashMap<String, Claim<'a>> {
    let mut claims: HashMap<String, Claim<'a>> = HashMap::default();
    if picks.len() < 2 || scene.hub.is_prefixed() {
        return claims;
    }
    for (place, pick) in picks.iter().enumerate() {
        let (Some(server), Some(catalogue)) = (scene.server(pick.server), (scene.catalogue)(pick.server))
        else {
            continue;
        };
        for item in catalogue.items[kind as usize].iter().filter(|item| pick.pattern.matches(&item.name)) {
            let Some(shown) = names::shown(scene.hub, server, pick.server, kind, &item.name) else {
                continue;
            };
            let new = Claim {
                place,
                is_exact: pick.is_exact(),
                server: pick.server,
                name: &item.name,
                contested: false,
            };
            match claims.get_mut(&*shown) {
                None => drop(claims.insert(shown.into_owned(), new)),
                Some(old) if old.server == new.server && *old.name == *new.name => {}
                Some(old) if !old.is_exact && new.is_exact => *old = new,
                Some(old) if old.is_exact && !new.is_exact => {}
                Some(old) => old.contested = true,
            }
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
