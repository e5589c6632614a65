//! What of a result counts, wherever it stands: its type, who may cache it, the URIs in it.
//!
//! Not here: what becomes of them (`answer`).
//!
//! What a result is, is told by its shape: results of tasks have that of the call.

use crate::mcp::crossing::fields;
use crate::mcp::envelope::Method;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::listing::Unfit;

const RESULT: [&str; 6] = ["resultType", "ttlMs", "cacheScope", "content", "contents", "messages"];
const CONTENT: usize = 3;
const CONTENTS: usize = 4;
const MESSAGES: usize = 5;

/// Places in a message.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) kind: Slot,
    ttl: Slot,
    scope: Slot,
    /// URIs of resources, in any order.
    pub(super) uris: Vec<Slot>,
    has_members: bool,
}

impl Results {
    /// Reads a result, on whose bracket the cursor stands; the message's own is open around it.
    pub(super) fn read<'m>(&mut self, text: &str, cursor: &mut Cursor<'m>) -> Result<Slot, Unfit> {
        let start = cursor.at;
        let [kind, ttl, scope, ..] = fields::fields(text, cursor, &RESULT, |cursor, key| {
            self.has_members = true;
            match (key, cursor.peek()) {
                (Some(CONTENT), Some(b'{' | b'[')) => self.content(text, cursor, 2),
                (Some(CONTENTS), Some(b'[')) => self.array(
                    cursor,
                    |results, cursor| {
                        let start = cursor.at;
                        let [uri] = fields::fields(text, cursor, &["uri"], |cursor, _| Ok(cursor.value(4)?))?;
                        results.uri(uri);
                        Ok(fields::gone(Shape::Object, start, cursor))
                    },
                    3,
                ),
                (Some(MESSAGES), Some(b'[')) => self.array(
                    cursor,
                    |results, cursor| {
                        let start = cursor.at;
                        fields::fields(text, cursor, &["content"], |cursor, key| {
                            match (key, cursor.peek()) {
                                (Some(0), Some(b'{' | b'[')) => results.content(text, cursor, 4),
                                _ => Ok(cursor.value(4)?),
                            }
                        })?;
                        Ok(fields::gone(Shape::Object, start, cursor))
                    },
                    3,
                ),
                _ => Ok(cursor.value(2)?),
            }
        })?;
        (self.kind, self.ttl, self.scope) = (kind, ttl, scope);
        Ok(fields::gone(Shape::Object, start, cursor))
    }

    /// Members that a result of 2026-07-28 has and this one lacks, as they come behind its bracket.
    pub(super) fn lacks(&self, method: Method) -> String {
        // 2026-07-28, caching: these must say it.
        let is_cacheable = matches!(
            method,
            Method::Discover
                | Method::ToolsList
                | Method::PromptsList
                | Method::ResourcesList
                | Method::ResourcesTemplatesList
                | Method::ResourcesRead
        );
        let mut added = String::new();
        for (slot, needed, member) in [
            (self.kind, true, r#""resultType":"complete""#),
            (self.ttl, is_cacheable, r#""ttlMs":0"#),
            (self.scope, is_cacheable, r#""cacheScope":"private""#),
        ] {
            if needed && slot.shape == Shape::Missing {
                if !added.is_empty() {
                    added.push(',');
                }
                added.push_str(member);
            }
        }
        if !added.is_empty() && self.has_members {
            added.push(',');
        }
        added
    }

    fn uri(&mut self, uri: Slot) {
        if let Shape::Plain | Shape::Escaped = uri.shape {
            self.uris.push(uri);
        }
    }

    /// Goes over an array; `object` reads an element that is one. `depth` brackets are open around an element.
    fn array<'m>(
        &mut self,
        cursor: &mut Cursor<'m>,
        mut object: impl FnMut(&mut Self, &mut Cursor<'m>) -> Result<Slot, Unfit>,
        depth: usize,
    ) -> Result<Slot, Unfit> {
        let start = cursor.at;
        cursor.elements(|cursor| {
            if cursor.peek() == Some(b'{') {
                object(self, cursor)?;
            } else {
                cursor.value(depth)?;
            }
            Ok::<(), Unfit>(())
        })?;
        Ok(fields::gone(Shape::Array, start, cursor))
    }

    /// One block of content, or an array of them; `depth` brackets are open around it.
    fn content<'m>(&mut self, text: &str, cursor: &mut Cursor<'m>, depth: usize) -> Result<Slot, Unfit> {
        if cursor.peek() == Some(b'{') {
            return self.block(text, cursor, depth);
        }
        self.array(cursor, |results, cursor| results.block(text, cursor, depth + 1), depth + 1)
    }

    fn block<'m>(&mut self, text: &str, cursor: &mut Cursor<'m>, depth: usize) -> Result<Slot, Unfit> {
        let start = cursor.at;
        let mut embedded = Slot::default();
        let [kind, uri, _] = fields::fields(text, cursor, &["type", "uri", "resource"], |cursor, key| {
            if key != Some(2) || cursor.peek() != Some(b'{') {
                return Ok(cursor.value(depth + 1)?);
            }
            let start = cursor.at;
            [embedded] = fields::fields(text, cursor, &["uri"], |cursor, _| Ok(cursor.value(depth + 2)?))?;
            Ok(fields::gone(Shape::Object, start, cursor))
        })?;
        match fields::string(text, kind).as_deref() {
            Some("resource_link") => self.uri(uri),
            Some("resource") => self.uri(embedded),
            _ => {}
        }
        Ok(fields::gone(Shape::Object, start, cursor))
    }
}
