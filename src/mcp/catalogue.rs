//! What a server offers, as control has listed it: names, and what tools say about themselves.
//!
//! Not here: fetching (control), and which of it a caller may see (`policy::access`).

pub mod about;
#[cfg(test)]
mod tests;

use crate::base::clock::Moment;
use crate::config::hub::ListCache;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::catalogue::about::About;
use crate::mcp::facts::is_alike;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::listing::Kind;
use crate::mcp::mirror;
use crate::mcp::mirror::Flaw;
use crate::mcp::mirror::Mirrored;
use crate::mcp::sealed;
use crate::mcp::target::Target;
use crate::mcp::unescape;
use ahash::HashMap;
use ahash::HashSet;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::ops::Range;

/// One server's, whole or not at all.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub tools: HashMap<Box<str>, Annotations>,
    pub prompts: HashSet<Box<str>>,
    /// Arguments that its tools want repeated in header fields.
    pub mirrored: HashMap<Box<str>, Vec<Mirrored>>,
    /// What it lists, as it lists it and in its order; index is a [`Kind`].
    pub items: [Vec<Item>; Kind::ALL.len()],
    pub about: About,
    /// Tells the contents of each list, and of all with `about`, from any others: equal on every gateway that lists the same.
    pub sums: [u64; Kind::ALL.len()],
    pub revision: u64,
    /// How often the server has said that its tools, prompts and resources have changed.
    pub told: [u64; 3],
    /// When it was listed.
    pub listed: Moment,
    /// The same for whoever reads it after a restart, in milliseconds since the Unix epoch.
    pub listed_unix_ms: u64,
    /// What the server says of how long its lists stay fresh; none: it says nothing (the older revisions).
    pub ttl_ms: Option<u64>,
    /// Its lists are for the one that asked (2026-07-28, caching, `cacheScope`).
    pub is_private: bool,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Name, URI or URI template, decoded.
    pub name: Box<str>,
    /// The whole entry, as it was written.
    pub text: Box<str>,
    /// Where its name stands in the text, with its quotes.
    pub name_at: Range<usize>,
    /// Where the value of its `description` stands, if it has one.
    pub description_at: Option<Range<usize>>,
}

/// A message that answers a list request; what else it says is not looked at.
#[derive(Deserialize)]
struct Message<'m> {
    #[serde(borrow)]
    result: Page<'m>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'m> {
    #[serde(default, borrow)]
    tools: Option<Vec<&'m RawValue>>,
    #[serde(default, borrow)]
    prompts: Option<Vec<&'m RawValue>>,
    #[serde(default, borrow)]
    resources: Option<Vec<&'m RawValue>>,
    #[serde(default, borrow)]
    resource_templates: Option<Vec<&'m RawValue>>,
    next_cursor: Option<String>,
    ttl_ms: Option<Value>,
    cache_scope: Option<Value>,
}

impl Page<'_> {
    fn has_list(&self) -> bool {
        let lists = [&self.tools, &self.prompts, &self.resources, &self.resource_templates];
        lists.into_iter().any(Option::is_some)
    }
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Schemed {
    input_schema: Value,
}

const NO_LIST: &str = "its list is not what the specification says";
const TOO_MANY: &str = "its list has more names than a catalogue holds";

/// The arguments that a tool wants repeated in header fields.
fn mirrored(tool: &str) -> Result<Vec<Mirrored>, Flaw> {
    // Nearly no tool has any.
    if !tool.contains(mirror::KEYWORD) {
        return Ok(Vec::new());
    }
    let tool: Schemed = serde_json::from_str(tool).unwrap_or_default();
    Mirrored::of(&tool.input_schema)
}

impl Catalogue {
    /// Adds what a page of one of the four lists names; gives the cursor of the next page, if there is one. An entry whose
    /// name can be read in two ways is left out.
    ///
    /// # Errors
    /// A sentence's end, where the message is no such page, or the names are more than [`limits::CATALOGUE_NAMES_MAX`].
    pub fn add(&mut self, message: &[u8]) -> Result<Option<String>, &'static str> {
        let Message { result } = serde_json::from_slice(message).map_err(|_| NO_LIST)?;
        if !result.has_list() {
            return Err(NO_LIST);
        }
        for raw in result.tools.iter().flatten() {
            // Clients must not show a tool that asks for fields against the rules (2026-07-28, transports, "Custom Headers
            // from Tool Parameters").
            let Ok(mirrored) = mirrored(raw.get()) else { continue };
            let Annotated { annotations } = serde_json::from_str(raw.get()).map_err(|_| NO_LIST)?;
            let Some(item) = self.item(Kind::Tool, raw)? else { continue };
            if !mirrored.is_empty() {
                self.mirrored.insert(item.clone(), mirrored);
            }
            self.tools.insert(item, Annotations::read(&annotations));
        }
        for raw in result.prompts.iter().flatten() {
            let item = self.item(Kind::Prompt, raw)?;
            self.prompts.extend(item);
        }
        for (kind, entries) in
            [(Kind::Resource, &result.resources), (Kind::Template, &result.resource_templates)]
        {
            for raw in entries.iter().flatten() {
                self.item(kind, raw)?;
            }
        }
        // The least of all pages, and of all lists.
        let ttl_ms = result.ttl_ms.as_ref().and_then(Value::as_u64);
        self.ttl_ms = [self.ttl_ms, ttl_ms].into_iter().flatten().min();
        self.is_private |= result.cache_scope.as_ref().and_then(Value::as_str) == Some("private");
        Ok(result.next_cursor)
    }

    /// Keeps one entry; its name, unless it was left out.
    fn item(&mut self, kind: Kind, raw: &RawValue) -> Result<Option<Box<str>>, &'static str> {
        let Some(item) = Item::read(kind, raw.get())? else { return Ok(None) };
        if self.items.iter().map(Vec::len).sum::<usize>() >= limits::CATALOGUE_NAMES_MAX {
            return Err(TOO_MANY);
        }
        let name = item.name.clone();
        self.items[kind as usize].push(item);
        Ok(Some(name))
    }

    /// Sums up what was listed, once it is whole. Milliseconds for a long list.
    #[must_use]
    pub fn summed(mut self) -> Self {
        let mut all = vec![format!("{:?}", self.about).into_bytes()];
        for (sum, items) in self.sums.iter_mut().zip(&self.items) {
            let texts: Vec<&[u8]> = items.iter().map(|item| item.text.as_bytes()).collect();
            let digest = sealed::digest(&texts);
            *sum = sealed::number_of(digest);
            all.push(digest.to_vec());
        }
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        self.revision = sealed::number_of(sealed::digest(&all));
        self
    }

    /// Until when it is fresh: as long as the operator and the server both say, or as long as the one that says anything,
    /// and at least a moment, so that a burst of questions causes one listing.
    pub fn fresh_until(&self, cache: ListCache) -> Moment {
        let ttl_ms = self.ttl_ms.filter(|ttl_ms| *ttl_ms > 0);
        let fresh_ms = [cache.fresh_ms, ttl_ms].into_iter().flatten().min().unwrap_or(0);
        self.listed
            .plus_millis(fresh_ms.clamp(limits::CATALOGUE_FRESH_MS_MIN, limits::CATALOGUE_FRESH_MS_MAX))
    }

    /// Whether a tool says that calling it again with the same arguments changes nothing more.
    pub fn is_idempotent(&self, tool: &str) -> bool {
        self.tools.get(tool).is_some_and(|annotations| annotations.idempotent)
    }

    /// Whether the server lists it; a resource also where a template of the server could make its URI.
    pub fn lists(&self, named: Named, name: &str) -> bool {
        let has = |kind: Kind| self.items[kind as usize].iter().any(|item| *item.name == *name);
        match named {
            Named::Tool => self.tools.contains_key(name),
            Named::Prompt => self.prompts.contains(name),
            Named::Resource => {
                let templates = &self.items[Kind::Template as usize];
                has(Kind::Resource) || has(Kind::Template) || templates.iter().any(|item| item.makes(name))
            }
        }
    }

    /// Whether the server may have what a message names. Of resources nobody can say; and where it lists no tools, or
    /// no prompts, there are none whose names could be told from others.
    pub fn may_have(&self, target: &Target<'_>) -> bool {
        match target.named {
            Named::Tool => self.tools.is_empty() || self.tools.contains_key(&*target.name),
            Named::Prompt => self.prompts.is_empty() || self.prompts.contains(&*target.name),
            Named::Resource => true,
        }
    }
}

impl Item {
    /// Whether a URI template (RFC 6570) could make this URI, as far as its literal parts tell.
    fn makes(&self, uri: &str) -> bool {
        let mut parts = self.name.split('{');
        let Some(mut rest) = parts.next().and_then(|first| uri.strip_prefix(first)) else { return false };
        for part in parts {
            let literal = part.split_once('}').map_or("", |(_, literal)| literal);
            match rest.find(literal) {
                Some(at) => rest = rest.get(at + literal.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        true
    }

    /// None: its name, URI or template cannot be told for sure.
    ///
    /// # Errors
    /// It is no object, or has no name.
    fn read(kind: Kind, text: &str) -> Result<Option<Self>, &'static str> {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        let (mut name, mut description) = (None, None);
        let mut unclear = false;
        cursor
            .members(|cursor, key| {
                let slot = cursor.value(1)?;
                let raw = text.get(key).unwrap_or_default();
                let key = unescape::whole(raw);
                if key.as_deref() == Some(kind.member()) {
                    unclear |= name.replace(slot).is_some();
                } else if key.as_deref() == Some("description") {
                    description = Some(slot.start..slot.end);
                } else {
                    unclear |= key.is_none_or(|key| is_alike(&key, kind.member()));
                }
                Ok::<(), Broken>(())
            })
            .map_err(|_| NO_LIST)?;
        let slot: Slot = name.ok_or(NO_LIST)?;
        let (Shape::Plain | Shape::Escaped) = slot.shape else { return Err(NO_LIST) };
        let raw = text.get(slot.start + 1..slot.end - 1).unwrap_or_default();
        let decoded = unescape::whole(raw).filter(|name| !unclear && name.len() <= kind.name_bytes_max());
        Ok(decoded.map(|name| Self {
            name: name.into(),
            text: text.into(),
            name_at: slot.start..slot.end,
            description_at: description,
        }))
    }
}

/// Hints of a tool (2026-07-28, `ToolAnnotations`), with the specification's defaults where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotations {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

impl Default for Annotations {
    fn default() -> Self {
        Self { read_only: false, destructive: true, idempotent: false, open_world: true }
    }
}

impl Annotations {
    /// What is missing, or no truth value, is the default.
    fn read(annotations: &Value) -> Self {
        let usual = Self::default();
        let hint = |name, usual| annotations.get(name).and_then(Value::as_bool).unwrap_or(usual);
        Self {
            read_only: hint("readOnlyHint", usual.read_only),
            destructive: hint("destructiveHint", usual.destructive),
            idempotent: hint("idempotentHint", usual.idempotent),
            open_world: hint("openWorldHint", usual.open_world),
        }
    }
}
