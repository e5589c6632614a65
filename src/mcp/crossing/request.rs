//! Requests and notifications of clients, as a server is to get them.
//!
//! Not here: their headers.

#[cfg(test)]
mod tests;

use crate::mcp::crossing::fields;
use crate::mcp::envelope::Method;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::listing::Unfit;
use crate::mcp::refusal::string;
use crate::mcp::splice::Cut;
use crate::mcp::splice::Splice;

/// What changes in a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite<'a> {
    /// In place of the name or URI that stands at `place`.
    pub name: Option<&'a str>,
    pub place: Place,
    /// Raw JSON, in place of the id.
    pub id: Option<&'a str>,
    /// Raw members that come into `params`, which is made where there is none, in place of those of the same names.
    pub params: &'a str,
    pub envelope: Envelope<'a>,
}

/// Where a request names what it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Nowhere,
    /// `params.name`
    Name,
    /// `params.uri`
    Uri,
    /// `params.ref`: its `name` or its `uri`, as its `type` says.
    Reference,
}

impl Place {
    pub const fn of(method: Method) -> Self {
        match method {
            Method::ToolsCall | Method::PromptsGet => Self::Name,
            Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => Self::Uri,
            Method::Complete => Self::Reference,
            _ => Self::Nowhere,
        }
    }
}

/// What becomes of the members of `_meta` that make a request one of 2026-07-28.
#[derive(Clone, Copy, Debug, Default)]
pub enum Envelope<'a> {
    #[default]
    Keep,
    /// The server is older: they go, and with them `inputResponses` and `requestState`.
    Strip,
    /// The client is older: these raw members come into `params._meta`, in place of those of the same names.
    Add(&'a str),
}

/// Keys of `_meta` that the protocol reserves (2026-07-28, basic, "`_meta`").
const PREFIX: &str = "io.modelcontextprotocol/";

/// The members of `params` that count.
const PARAMS: [&str; 6] = ["name", "uri", "ref", "_meta", "inputResponses", "requestState"];
const NAME: usize = 0;
const URI: usize = 1;
const REFERENCE: usize = 2;
const META: usize = 3;
const RESPONSES: usize = 4;
const STATE: usize = 5;

/// Appends the message as the server is to get it.
///
/// # Errors
/// It is no message of which that can be told; what `out` has got is of no use.
pub fn rewrite(message: &[u8], how: &Rewrite<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (text, mut cursor) = fields::open(message)?;
    let envelope = if let Envelope::Add(members) = how.envelope { members } else { "" };
    let mut rewriter = Rewriter {
        text,
        splice: Splice::new(message, out),
        how,
        envelope,
        added_params: fields::keys_of(how.params)?,
        added_meta: fields::keys_of(envelope)?,
        is_named: false,
    };
    rewriter.message(&mut cursor)?;
    fields::close(text, cursor)?;
    rewriter.splice.finish();
    Ok(())
}

/// One pass over a message; `_meta` is looked at twice, where members of it go.
struct Rewriter<'m, 'w> {
    text: &'m str,
    splice: Splice<'m, 'w>,
    how: &'w Rewrite<'w>,
    /// Raw members for `_meta`.
    envelope: &'w str,
    added_params: Vec<String>,
    added_meta: Vec<String>,
    /// The name has got its new text.
    is_named: bool,
}

impl<'m> Rewriter<'m, '_> {
    fn message(&mut self, cursor: &mut Cursor<'m>) -> Result<(), Unfit> {
        let mut is_empty = true;
        let [id, params] = fields::fields(self.text, cursor, &["id", "params"], |cursor, key| {
            is_empty = false;
            if key == Some(1) && cursor.peek() == Some(b'{') {
                return self.params(cursor);
            }
            let slot = cursor.value(1)?;
            if let (Some(0), Some(id)) = (key, self.how.id) {
                self.splice.replace(slot.start, slot.end, id.as_bytes());
            }
            if let (Some(1), Some(added)) = (key, self.added(false)) {
                // An object would be read above. Some clients write nothing as null.
                let Shape::Null = slot.shape else { return Err(Unfit::Broken) };
                self.splice.replace(slot.start, slot.end, format!("{{{added}}}").as_bytes());
            }
            Ok(slot)
        })?;
        if self.how.id.is_some() && id.shape == Shape::Missing || self.how.name.is_some() && !self.is_named {
            return Err(Unfit::Broken);
        }
        if let (Shape::Missing, Some(added)) = (params.shape, self.added(false)) {
            let comma = if is_empty { "" } else { "," };
            self.insert(cursor.at - 1, &format!(r#"{comma}"params":{{{added}}}"#));
        }
        Ok(())
    }

    /// What comes into `params`, and with it a `_meta` that is not there yet.
    fn added(&self, has_meta: bool) -> Option<String> {
        let mut added = self.how.params.to_owned();
        if !has_meta && !self.envelope.is_empty() {
            let comma = if added.is_empty() { "" } else { "," };
            added = format!(r#"{added}{comma}"_meta":{{{}}}"#, self.envelope);
        }
        (!added.is_empty()).then_some(added)
    }

    fn insert(&mut self, at: usize, members: &str) {
        self.splice.replace(at, at, members.as_bytes());
    }

    fn params(&mut self, cursor: &mut Cursor<'m>) -> Result<Slot, Unfit> {
        let start = cursor.at;
        let mut cut = Cut::default();
        let mut seen = [false; PARAMS.len()];
        cursor.members(|cursor, key| {
            // A key stands behind its quote.
            let member = key.start - 1;
            let name = fields::name(self.text, key);
            let index = fields::which(&name, &PARAMS)?;
            if let Some(seen) = index.and_then(|index| seen.get_mut(index))
                && std::mem::replace(seen, true)
            {
                return Err(Unfit::Broken);
            }
            let stays = match index {
                Some(RESPONSES | STATE) if matches!(self.how.envelope, Envelope::Strip) => false,
                Some(META) => !self.meta_goes(cursor)?,
                _ => !is_among(&name, &self.added_params)?,
            };
            if !stays {
                cursor.value(2)?;
            } else {
                cut.stays(&mut self.splice, member);
                self.param(cursor, index)?;
            }
            cut.entry(&mut self.splice, member..cursor.at, stays);
            Ok(())
        })?;
        let stays = cut.end(&mut self.splice);
        if let Some(added) = self.added(seen.get(META) == Some(&true)) {
            let comma = if stays { "," } else { "" };
            self.insert(cursor.at - 1, &format!("{comma}{added}"));
        }
        Ok(fields::gone(Shape::Object, start, cursor))
    }

    /// One member of `params` that stays, from its value on.
    fn param(&mut self, cursor: &mut Cursor<'m>, index: Option<usize>) -> Result<(), Unfit> {
        match (index, self.how.place, self.how.name) {
            (Some(META), ..) => return self.meta(cursor),
            (Some(NAME), Place::Name, Some(name)) | (Some(URI), Place::Uri, Some(name)) => {
                let slot = cursor.value(2)?;
                self.rename(slot, name)?;
            }
            (Some(REFERENCE), Place::Reference, Some(name)) => {
                let slots = fields::fields(self.text, cursor, &["type", "name", "uri"], |cursor, _| {
                    Ok(cursor.value(3)?)
                })?;
                let [kind, prompt, resource] = slots;
                match fields::string(self.text, kind).as_deref() {
                    Some("ref/prompt") => self.rename(prompt, name)?,
                    Some("ref/resource") => self.rename(resource, name)?,
                    _ => return Err(Unfit::Broken),
                }
            }
            _ => {
                cursor.value(2)?;
            }
        }
        Ok(())
    }

    fn rename(&mut self, slot: Slot, name: &str) -> Result<(), Unfit> {
        let (Shape::Plain | Shape::Escaped) = slot.shape else { return Err(Unfit::Broken) };
        let mut quoted = Vec::with_capacity(name.len() + 2);
        string(&mut quoted, name);
        self.splice.replace(slot.start, slot.end, &quoted);
        self.is_named = true;
        Ok(())
    }

    /// Whether nothing stays of the `_meta` that the cursor stands on.
    fn meta_goes(&self, cursor: &Cursor<'m>) -> Result<bool, Unfit> {
        if !matches!(self.how.envelope, Envelope::Strip) || cursor.peek() != Some(b'{') {
            return Ok(false);
        }
        let mut ahead = Cursor::new(self.text.as_bytes(), cursor.at);
        let (mut any_goes, mut any_stays) = (false, false);
        ahead.members(|ahead, key| {
            let goes = self.goes(&fields::name(self.text, key))?;
            any_goes |= goes;
            any_stays |= !goes;
            ahead.value(3)?;
            Ok::<(), Unfit>(())
        })?;
        Ok(any_goes && !any_stays)
    }

    /// Whether a member of `_meta` goes.
    fn goes(&self, name: &str) -> Result<bool, Unfit> {
        if !matches!(self.how.envelope, Envelope::Strip) {
            return is_among(name, &self.added_meta);
        }
        match name.get(..PREFIX.len()) {
            Some(PREFIX) => Ok(true),
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => Err(Unfit::Broken),
            _ => Ok(false),
        }
    }

    fn meta(&mut self, cursor: &mut Cursor<'m>) -> Result<(), Unfit> {
        if matches!(self.how.envelope, Envelope::Keep) || cursor.peek() != Some(b'{') {
            let slot = cursor.value(2)?;
            if !self.envelope.is_empty() {
                let Shape::Null = slot.shape else { return Err(Unfit::Broken) };
                self.splice.replace(slot.start, slot.end, format!("{{{}}}", self.envelope).as_bytes());
            }
            return Ok(());
        }
        let mut cut = Cut::default();
        cursor.members(|cursor, key| {
            let member = key.start - 1;
            let goes = self.goes(&fields::name(self.text, key))?;
            cursor.value(3)?;
            cut.entry(&mut self.splice, member..cursor.at, !goes);
            Ok::<(), Unfit>(())
        })?;
        let stays = cut.end(&mut self.splice);
        if !self.envelope.is_empty() {
            let comma = if stays { "," } else { "" };
            self.insert(cursor.at - 1, &format!("{comma}{}", self.envelope));
        }
        Ok(())
    }
}

/// Whether a member is replaced by one that is added.
///
/// # Errors
/// Some reader takes it for one.
fn is_among(name: &str, added: &[String]) -> Result<bool, Unfit> {
    if added.is_empty() {
        return Ok(false);
    }
    let added: Vec<&str> = added.iter().map(String::as_str).collect();
    Ok(fields::which(name, &added)?.is_some())
}
