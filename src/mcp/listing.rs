//! Lists as one caller may see them: entries are cut out of results as they pass, every other byte stays.
//!
//! Not here: who may see what (`policy::access`), event streams (`events`), and I/O.
//!
//! What is a list is told by the shape of a result, not by what was asked: lists also come in batches and, after a
//! resume, in streams of other requests. Peers read keys in more ways than one, so that the walk takes part with the
//! most generous: a list counts under every spelling of its key, however often it comes, and an entry whose name can be
//! read in two ways is not shown to anybody. Nothing that is no JSON for us passes as a message.

pub mod events;

#[cfg(test)]
mod tests;

use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::facts::KEY_BYTES_MAX;
use crate::mcp::facts::is_alike;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::splice::Cut;
use crate::mcp::splice::Splice;
use crate::mcp::unescape::Unescaped;
use crate::mcp::unescape::unescape;

/// What an entry of a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tool,
    Prompt,
    Resource,
    Template,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];

    /// What rules take it for.
    pub const fn named(self) -> Named {
        match self {
            Self::Tool => Named::Tool,
            Self::Prompt => Named::Prompt,
            Self::Resource | Self::Template => Named::Resource,
        }
    }

    /// The member of a result that lists it.
    pub const fn list(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// The member of an entry that names it.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// What is longer cannot be called, or is nothing that rules are written for.
    pub(crate) const fn name_bytes_max(self) -> usize {
        match self {
            Self::Tool | Self::Prompt => limits::NAME_BYTES_MAX,
            Self::Resource | Self::Template => limits::LISTED_URI_BYTES_MAX,
        }
    }
}

/// The members of a result that count: lists in the order of [`Kind::ALL`], then who may cache it, and what the server
/// can do.
const RESULT: [&str; 6] =
    ["tools", "prompts", "resources", "resourceTemplates", "cacheScope", "capabilities"];
const SCOPE: usize = 4;
const CAPABILITIES: usize = 5;
/// Where a server says that it keeps tasks: the capability of 2025-11-25, and the extension of 2026-07-28.
const TASKS: [&str; 2] = ["tasks", "io.modelcontextprotocol/tasks"];
const EXTENSIONS: &str = "extensions";

/// An entry that somebody has to decide on.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub kind: Kind,
    /// Name, URI or URI template, decoded; never longer than its bound.
    pub name: &'a str,
}

/// What messages are looked at with.
pub struct Screen<'k> {
    /// Results of 2026-07-28 say who may cache them: nobody but their caller, where it decides what is in them.
    pub modern: bool,
    /// What the server says of tasks is left out: nobody may call any of their methods.
    pub hides_tasks: bool,
    /// Whether the caller may see an entry.
    pub keeps: &'k mut dyn FnMut(&Entry<'_>) -> bool,
}

/// Why a message may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no JSON, or nested too deep: a peer may still read a list out of it.
    Broken,
    /// Longer than what is held, or a list with too many entries.
    TooLarge,
}

impl From<Broken> for Unfit {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// Whether a text may be a message, or a batch, for any reader: those look behind white space and byte order marks, and
/// some guess UTF-16.
pub fn may_be_message(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | 0 | 0xEF | 0xFE | 0xFF))
}

/// Looks at one message, or a batch of them. True: `out` has got it without what the caller may not see. False: it may
/// pass as it is.
///
/// # Errors
/// The message may not pass; what `out` has got is of no use.
pub fn screen(message: &[u8], screen: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<bool, Unfit> {
    let text = std::str::from_utf8(message).map_err(|_| Unfit::Broken)?;
    let mut walk = Walk {
        text,
        cursor: Cursor::new(message, 0),
        screen,
        splice: Splice::new(message, out),
        entries: 0,
        unescaped: String::new(),
    };
    walk.cursor.space();
    match walk.cursor.peek() {
        Some(b'{') => walk.message(0)?,
        Some(b'[') => {
            walk.elements(
                |walk| {
                    if walk.cursor.peek() == Some(b'{') { walk.message(1) } else { walk.value(1) }
                },
            )?
        }
        _ => return Err(Unfit::Broken),
    }
    walk.cursor.space();
    if walk.cursor.at == message.len() { Ok(walk.splice.finish_changed()) } else { Err(Unfit::Broken) }
}

/// How a key of a message relates to one of those that count.
#[derive(Clone, Copy)]
struct Spelled {
    /// Its place among them.
    index: usize,
    /// Else some reader takes it for the key.
    exact: bool,
}

/// One pass over a message. It calls itself only for the levels that count, which are no more than four.
struct Walk<'m, 'w, 'k> {
    text: &'m str,
    cursor: Cursor<'m>,
    screen: &'w mut Screen<'k>,
    splice: Splice<'m, 'w>,
    entries: usize,
    /// The key or name at hand, where it has escapes.
    unescaped: String,
}

impl Walk<'_, '_, '_> {
    /// `depth` brackets are open around it, here and below.
    fn message(&mut self, depth: usize) -> Result<(), Unfit> {
        self.members(&["result"], |walk, key| match (key, walk.cursor.peek()) {
            (Some(_), Some(b'{')) => walk.result(depth + 1),
            _ => walk.value(depth + 1),
        })
    }

    fn result(&mut self, depth: usize) -> Result<(), Unfit> {
        let (mut listed, mut scoped) = (false, false);
        self.members(&RESULT, |walk, key| match (key, walk.cursor.peek()) {
            (Some(Spelled { index: SCOPE, exact }), _) => {
                scoped |= exact;
                walk.scope(depth + 1)
            }
            (Some(Spelled { index: CAPABILITIES, .. }), Some(b'{')) if walk.screen.hides_tasks => {
                walk.capabilities(depth + 1, TASKS[0])
            }
            (Some(Spelled { index, .. }), Some(b'[')) if index < Kind::ALL.len() => {
                listed = true;
                // The others stand in its order.
                walk.list(Kind::ALL[index], depth + 1)
            }
            _ => walk.value(depth + 1),
        })?;
        if listed && !scoped && self.screen.modern {
            // Behind the last member; a result with a list is not empty.
            self.splice.replace(self.cursor.at - 1, self.cursor.at - 1, br#","cacheScope":"private""#);
        }
        Ok(())
    }

    /// What a server can do, without tasks. `own`: what they are called at this level.
    fn capabilities(&mut self, depth: usize, own: &str) -> Result<(), Unfit> {
        let mut cut = Cut::default();
        self.each(b'}', |walk| {
            let start = walk.cursor.at;
            let key = walk.key(&[own, EXTENSIONS])?.map(|key| key.index);
            if (key, walk.cursor.peek(), own) == (Some(1), Some(b'{'), TASKS[0]) {
                cut.stays(&mut walk.splice, start);
                walk.capabilities(depth + 1, TASKS[1])?;
            } else {
                walk.value(depth + 1)?;
            }
            cut.entry(&mut walk.splice, start..walk.cursor.at, key != Some(0));
            Ok(())
        })?;
        cut.end(&mut self.splice);
        Ok(())
    }

    /// Who may cache a result that its caller's rights have a say in.
    fn scope(&mut self, depth: usize) -> Result<(), Unfit> {
        const PRIVATE: &[u8] = br#""private""#;
        let Slot { start, end, .. } = self.cursor.value(depth)?;
        if self.screen.modern && self.text.as_bytes().get(start..end) != Some(PRIVATE) {
            self.splice.replace(start, end, PRIVATE);
        }
        Ok(())
    }

    fn list(&mut self, kind: Kind, depth: usize) -> Result<(), Unfit> {
        let mut cut = Cut::default();
        self.elements(|walk| {
            walk.entries += 1;
            if walk.entries > limits::LISTED_ENTRIES_MAX {
                return Err(Unfit::TooLarge);
            }
            let start = walk.cursor.at;
            let kept = walk.entry(kind, depth + 1)?;
            cut.entry(&mut walk.splice, start..walk.cursor.at, kept);
            Ok(())
        })?;
        cut.end(&mut self.splice);
        Ok(())
    }

    /// Whether the entry stays.
    fn entry(&mut self, kind: Kind, depth: usize) -> Result<bool, Unfit> {
        if self.cursor.peek() != Some(b'{') {
            self.value(depth)?;
            return Ok(false);
        }
        // It must stand once, in its own spelling.
        let mut named = Slot::default();
        let mut unclear = false;
        self.members(&[kind.member()], |walk, key| {
            let slot = walk.cursor.value(depth + 1)?;
            if let Some(Spelled { exact, .. }) = key {
                unclear |= !exact || named.shape != Shape::Missing;
                named = slot;
            }
            Ok(())
        })?;
        if unclear {
            return Ok(false);
        }
        let most = kind.name_bytes_max();
        let raw = self.text.get(named.start + 1..named.end.saturating_sub(1)).unwrap_or_default();
        let name = match named.shape {
            Shape::Plain if raw.len() <= most => raw,
            Shape::Escaped => {
                self.unescaped.clear();
                match unescape(raw, &mut self.unescaped, most) {
                    Unescaped::Whole => &self.unescaped,
                    Unescaped::Cut | Unescaped::Surrogate => return Ok(false),
                }
            }
            _ => return Ok(false),
        };
        Ok((self.screen.keeps)(&Entry { kind, name }))
    }

    /// Goes over an object, from its bracket on. `member` is told which of the keys it is at, and reads the value.
    fn members<const N: usize>(
        &mut self,
        keys: &[&str; N],
        mut member: impl FnMut(&mut Self, Option<Spelled>) -> Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        self.each(b'}', |walk| {
            let key = walk.key(keys)?;
            member(walk, key)
        })
    }

    /// Goes over an array, from its bracket on. `element` reads one.
    fn elements(&mut self, element: impl FnMut(&mut Self) -> Result<(), Unfit>) -> Result<(), Unfit> {
        self.each(b']', element)
    }

    fn each(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Result<(), Unfit>) -> Result<(), Unfit> {
        self.cursor.at += 1;
        self.cursor.space();
        if self.cursor.peek() == Some(close) {
            self.cursor.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.at += 1,
                Some(byte) if byte == close => break self.cursor.at += 1,
                _ => return Err(Unfit::Broken),
            }
            self.cursor.space();
        }
        Ok(())
    }

    fn key<const N: usize>(&mut self, keys: &[&str; N]) -> Result<Option<Spelled>, Unfit> {
        let start = self.cursor.at + 1;
        let shape = self.cursor.key()?;
        let raw = self.text.get(start..self.cursor.at - 1).unwrap_or_default();
        self.cursor.colon()?;
        if shape == Shape::Plain {
            return Ok(spelled(keys, raw));
        }
        self.unescaped.clear();
        Ok(match unescape(raw, &mut self.unescaped, KEY_BYTES_MAX) {
            Unescaped::Whole => spelled(keys, &self.unescaped),
            // Longer than any spelling, or no text at all.
            Unescaped::Cut | Unescaped::Surrogate => None,
        })
    }

    /// A value that nobody looks into.
    fn value(&mut self, depth: usize) -> Result<(), Unfit> {
        self.cursor.value(depth)?;
        Ok(())
    }
}

fn spelled<const N: usize>(keys: &[&str; N], key: &str) -> Option<Spelled> {
    if let Some(index) = keys.iter().position(|known| *known == key) {
        return Some(Spelled { index, exact: true });
    }
    keys.iter().position(|known| is_alike(key, known)).map(|index| Spelled { index, exact: false })
}
