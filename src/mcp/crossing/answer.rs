//! Messages of servers, as a client is to get them.
//!
//! Not here: event streams (`listing::events`), and what follows from a question of a server.
//!
//! Eras differ as the revisions say (2025-11-25, 2026-07-28): results of the newest one have a type, errors have other
//! codes, and servers ask in results instead of requests.

mod results;
#[cfg(test)]
mod tests;

use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::answer::results::Results;
use crate::mcp::crossing::fields;
use crate::mcp::crossing::request_ids;
use crate::mcp::crossing::uris;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::listing::Unfit;
use crate::mcp::log_level;
use crate::mcp::refusal::string;
use crate::mcp::splice::Splice;
use std::borrow::Cow;
use std::ops::Range;

/// How messages of one server are seen by one client, in answer to one request.
#[derive(Clone, Debug)]
pub struct Lens {
    pub client: Era,
    pub server: Era,
    /// Of the request.
    pub method: Method,
    /// Raw JSON: the id that the answer gets, where it is not the one that the server uses.
    pub id: Option<Box<str>>,
    /// Raw JSON: the client's progress token, where the server was given another.
    pub progress: Option<Box<str>>,
    /// Where URIs are wrapped: the server's name.
    pub wraps: Option<Box<str>>,
    /// Where several servers ask one client of an older revision: the number of this one, for the ids of its requests.
    pub asker: Option<u32>,
    /// From which level on the client wants log messages (`log_level::number`); None: it wants none.
    pub logs: Option<u8>,
    /// What it can be asked.
    pub able: Abilities,
}

/// What a message is, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes on; `changed`: as it was appended to what was given, else as it is.
    On {
        changed: bool,
        is_answer: bool,
    },
    /// Nothing for this client.
    Dropped,
    /// `ping`, or a request that no client of this era can be asked: answered by the gateway. Where its raw id stands.
    Ping {
        id: Range<usize>,
    },
    Unanswerable {
        id: Range<usize>,
    },
    /// An older server asks a client of 2026-07-28: raw id, method and `params`.
    Asks {
        id: Range<usize>,
        method: Method,
        params: Option<Range<usize>>,
    },
    /// A server of 2026-07-28 wants input of an older client (`resultType: input_required`): where its result stands.
    InputRequired {
        result: Range<usize>,
    },
    /// An older server wants pages opened before a client of 2026-07-28 calls again (2025-11-25, error -32042): where the
    /// array of its elicitations stands.
    UrlsRequired {
        elicitations: Range<usize>,
    },
}

/// The members of a message that count.
const MESSAGE: [&str; 5] = ["id", "method", "params", "result", "error"];
const RESULT: usize = 3;

/// Error codes that 2026-07-28 has no more, and what it has instead.
const NOT_FOUND: &str = "-32002";
const URLS_REQUIRED: &str = "-32042";
const INVALID_PARAMS: &str = "-32602";
const INTERNAL: &str = "-32603";

/// Other text in a place of the message.
struct Edit<'e> {
    at: Range<usize>,
    with: Cow<'e, str>,
}

/// One message, and what changes in it.
struct Look<'m, 'l> {
    lens: &'l Lens,
    text: &'m str,
    /// Where it begins: its bracket.
    start: usize,
    slots: [Slot; MESSAGE.len()],
    results: Results,
    edits: Vec<Edit<'l>>,
}

impl Lens {
    /// Looks at one message.
    ///
    /// # Errors
    /// It is no message that a client could be given, or one that readers could take for different ones.
    pub fn look(&self, message: &[u8], out: &mut Vec<u8>) -> Result<Seen, Unfit> {
        let (text, mut cursor) = fields::open(message)?;
        let start = cursor.at;
        let mut results = Results::default();
        let reads = self.client != self.server || self.wraps.is_some();
        let slots = fields::fields(text, &mut cursor, &MESSAGE, |cursor, key| {
            if reads && key == Some(RESULT) && cursor.peek() == Some(b'{') {
                return results.read(text, cursor);
            }
            Ok(cursor.value(1)?)
        })?;
        fields::close(text, cursor)?;
        let mut look = Look { lens: self, text, start, slots, results, edits: Vec::new() };
        let seen = look.judge()?;
        let Seen::On { is_answer, .. } = seen else { return Ok(seen) };
        look.edits.sort_by_key(|edit| edit.at.start);
        let mut splice = Splice::new(message, out);
        for Edit { at, with } in look.edits {
            splice.replace(at.start, at.end, with.as_bytes());
        }
        Ok(Seen::On { changed: splice.finish_changed(), is_answer })
    }

    /// An older server's message is for a client of 2026-07-28.
    fn lifts(&self) -> bool {
        self.server == Era::Legacy && self.client == Era::Modern
    }

    /// The other way.
    fn lowers(&self) -> bool {
        self.server == Era::Modern && self.client == Era::Legacy
    }

    /// Whether a server may want input before it answers (2026-07-28, multi round-trip requests).
    const fn may_ask(&self) -> bool {
        matches!(self.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
    }
}

/// It goes on, as its edits make it.
const fn on(is_answer: bool) -> Seen {
    Seen::On { changed: false, is_answer }
}

impl Look<'_, '_> {
    fn judge(&mut self) -> Result<Seen, Unfit> {
        let [id, method, params, result, error] = self.slots;
        if method.shape == Shape::Missing {
            return match (result.shape, error.shape) {
                (Shape::Missing | Shape::Null, Shape::Object) => self.error(id, error),
                (Shape::Missing, _) => Err(Unfit::Broken),
                (_, Shape::Missing | Shape::Null) => self.result(id, result),
                _ => Err(Unfit::Broken),
            };
        }
        if (result.shape, error.shape) != (Shape::Missing, Shape::Missing) {
            return Err(Unfit::Broken);
        }
        let name = fields::string(self.text, method).ok_or(Unfit::Broken)?;
        let method = Method::from_text(&name);
        match id.shape {
            Shape::Missing => self.notification(method, params),
            Shape::Integer | Shape::Fraction | Shape::Plain | Shape::Escaped => {
                Ok(self.request(id, method, params))
            }
            _ => Err(Unfit::Broken),
        }
    }

    fn edit(&mut self, at: Range<usize>, with: impl Into<Cow<'static, str>>) {
        self.edits.push(Edit { at, with: with.into() });
    }

    fn id(&mut self, id: Slot) {
        let Some(raw) = self.lens.id.as_deref() else { return };
        if id.shape == Shape::Missing {
            // An answer has more members than its id.
            self.edit(self.start + 1..self.start + 1, format!("\"id\":{raw},"));
        } else {
            self.edits.push(Edit { at: id.start..id.end, with: Cow::Borrowed(raw) });
        }
    }

    fn result(&mut self, id: Slot, result: Slot) -> Result<Seen, Unfit> {
        self.id(id);
        let Results { kind, .. } = self.results;
        if self.lens.lowers() && fields::string(self.text, kind).as_deref() == Some("input_required") {
            if !self.lens.may_ask() {
                // No answer to this in any revision.
                return Err(Unfit::Broken);
            }
            return Ok(Seen::InputRequired { result: result.start..result.end });
        }
        if self.lens.lifts() {
            if result.shape != Shape::Object {
                return Err(Unfit::Broken);
            }
            let added = self.results.lacks(self.lens.method);
            if !added.is_empty() {
                self.edit(result.start + 1..result.start + 1, added);
            }
        }
        if let Some(server) = self.lens.wraps.as_deref() {
            for uri in std::mem::take(&mut self.results.uris) {
                self.wrap(server, uri)?;
            }
        }
        Ok(on(true))
    }

    fn wrap(&mut self, server: &str, uri: Slot) -> Result<(), Unfit> {
        let text = fields::string(self.text, uri).ok_or(Unfit::Broken)?;
        if uri.shape == Shape::Plain {
            let (at, mark) = uris::mark(server, &text);
            // Behind the quote.
            let at = uri.start + 1 + at;
            self.edit(at..at, mark);
        } else {
            let mut quoted = Vec::new();
            string(&mut quoted, &uris::wrap(server, &text));
            self.edit(uri.start..uri.end, String::from_utf8(quoted).map_err(|_| Unfit::Broken)?);
        }
        Ok(())
    }

    fn error(&mut self, id: Slot, error: Slot) -> Result<Seen, Unfit> {
        self.id(id);
        if !self.lens.lifts() {
            return Ok(on(true));
        }
        let raw = fields::raw(self.text, error);
        let [code, data] = fields::fields_of(raw, &["code", "data"])?;
        let code_at = error.start + code.start..error.start + code.end;
        match fields::raw(raw, code) {
            NOT_FOUND => self.edit(code_at, INVALID_PARAMS),
            URLS_REQUIRED => {
                if data.shape == Shape::Object && self.lens.may_ask() {
                    let [list] = fields::fields_of(fields::raw(raw, data), &["elicitations"])?;
                    let start = error.start + data.start;
                    if list.shape == Shape::Array && self.lens.able.has(Abilities::URL) {
                        return Ok(Seen::UrlsRequired { elicitations: start + list.start..start + list.end });
                    }
                }
                self.edit(code_at, INTERNAL);
            }
            _ => {}
        }
        Ok(on(true))
    }

    fn notification(&mut self, method: Method, params: Slot) -> Result<Seen, Unfit> {
        let passes = match method {
            // In its own era a server was told of the level itself.
            Method::LogMessage => self.lens.client == self.lens.server || self.is_loud(params)?,
            Method::Progress => true,
            _ => !self.lens.lifts(),
        };
        if !passes {
            return Ok(Seen::Dropped);
        }
        let raw = fields::raw(self.text, params);
        match (method, self.lens.wraps.as_deref(), self.lens.asker) {
            (Method::Progress, ..) if self.lens.progress.is_some() => {
                let [token] = fields::fields_of(raw, &["progressToken"])?;
                if let (Some(own), true) = (&self.lens.progress, token.shape != Shape::Missing) {
                    self.edit(params.start + token.start..params.start + token.end, own.to_string());
                }
            }
            (Method::ResourceUpdated, Some(server), _) => {
                let [uri] = fields::fields_of(raw, &["uri"])?;
                self.wrap(server, moved(uri, params.start))?;
            }
            (Method::Cancelled, _, Some(number)) => {
                let [id] = fields::fields_of(raw, &["requestId"])?;
                if id.shape != Shape::Missing {
                    let wrapped = request_ids::wrap(number, fields::raw(raw, id));
                    self.edit(params.start + id.start..params.start + id.end, wrapped);
                }
            }
            _ => {}
        }
        Ok(on(false))
    }

    /// Whether a log message is of a level that the client wants. One of no known level is.
    fn is_loud(&self, params: Slot) -> Result<bool, Unfit> {
        let Some(least) = self.lens.logs else { return Ok(false) };
        if params.shape != Shape::Object {
            return Ok(true);
        }
        let raw = fields::raw(self.text, params);
        let [level] = fields::fields_of(raw, &["level"])?;
        let level = fields::string(raw, level).and_then(|text| log_level::number(&text));
        Ok(level.is_none_or(|level| level >= least))
    }

    fn request(&mut self, id: Slot, method: Method, params: Slot) -> Seen {
        let at = id.start..id.end;
        if self.lens.server == Era::Modern {
            // It may send none, and nobody could answer it.
            return Seen::Dropped;
        }
        if !self.lens.lifts() {
            if let Some(number) = self.lens.asker {
                let wrapped = request_ids::wrap(number, fields::raw(self.text, id));
                self.edit(at, wrapped);
            }
            return on(false);
        }
        match method {
            Method::Ping => Seen::Ping { id: at },
            Method::ElicitationCreate | Method::SamplingCreate | Method::RootsList => {
                let raw = (params.shape != Shape::Missing).then(|| fields::raw(self.text, params));
                if !(self.lens.may_ask() && self.lens.able.allow(method, raw)) {
                    return Seen::Unanswerable { id: at };
                }
                let params = (params.shape != Shape::Missing).then_some(params.start..params.end);
                Seen::Asks { id: at, method, params }
            }
            _ => Seen::Unanswerable { id: at },
        }
    }
}

/// A place in a value as one in the message, in which the value begins at `start`.
const fn moved(slot: Slot, start: usize) -> Slot {
    Slot { shape: slot.shape, start: start + slot.start, end: start + slot.end }
}
