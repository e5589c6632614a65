//! The skipper: reads JSON of any size in one pass, without a tree, and notes where the critical keys'
//! values lie. Its verdict on what is JSON is the law.
//!
//! Not here: the grammar itself (`grammar`); what the values mean (`rules`).
//!
//! It calls itself only for the three levels of [`Level`], which are three by construction and not by the
//! input; all deeper values are walked over by the [`Cursor`].

use crate::mcp::facts::KEY_BYTES_MAX;
use crate::mcp::facts::KEYS;
use crate::mcp::facts::Key;
use crate::mcp::facts::Level;
use crate::mcp::facts::Spelling;
use crate::mcp::facts::spelling;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::unescape::Unescaped;
use crate::mcp::unescape::unescape;

/// The facts of one message as places in its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    pub(crate) slots: [Slot; KEYS],
    pub(crate) ambiguous: [bool; KEYS],
    /// Index is a [`Level`].
    pub(crate) broken: [bool; 3],
}

impl Outline {
    pub(crate) const fn new() -> Self {
        const EMPTY: Slot = Slot { shape: Shape::Missing, start: 0, end: 0 };
        Self { slots: [EMPTY; KEYS], ambiguous: [false; KEYS], broken: [false; 3] }
    }

    pub(crate) const fn slot(&self, key: Key) -> Slot {
        self.slots[key as usize]
    }

    fn set(&mut self, key: Key, slot: Slot) {
        if self.slot(key).shape != Shape::Missing {
            self.ambiguous[key as usize] = true;
        }
        self.slots[key as usize] = slot;
    }
}

/// The outermost value of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Top {
    /// A message; its outline is in the argument of [`read`].
    Message,
    /// A batch of so many elements; [`Batch`] reads them.
    Batch(usize),
    Other,
}

/// Reads a whole body. `key` is working memory for keys with escapes.
pub(crate) fn read(body: &[u8], outline: &mut Outline, key: &mut String) -> Result<Top, Broken> {
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err(Broken::ByteOrderMark);
    }
    let text = std::str::from_utf8(body).map_err(|_| Broken::Encoding)?;
    let mut skipper = Skipper { text, cursor: Cursor::new(body, 0), key };
    skipper.cursor.space();
    let top = match skipper.cursor.peek() {
        None => return Err(Broken::Empty),
        Some(b'{') => {
            skipper.object(Level::Envelope, 0, outline)?;
            Top::Message
        }
        Some(b'[') => Top::Batch(skipper.cursor.array()?),
        Some(_) => {
            skipper.cursor.value(0)?;
            Top::Other
        }
    };
    skipper.cursor.space();
    if skipper.cursor.at == body.len() { Ok(top) } else { Err(Broken::Syntax) }
}

/// Reads the elements of a batch one by one, after [`read`] found the whole body to be well-formed.
pub(crate) struct Batch<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Batch<'b> {
    pub(crate) fn new(body: &'b [u8]) -> Self {
        let text = std::str::from_utf8(body).unwrap_or_default();
        Self { text, at: text.find('[').map_or(text.len(), |bracket| bracket + 1) }
    }

    /// Whether the next element is a message, with its outline; None after the last one.
    pub(crate) fn next(&mut self, outline: &mut Outline, key: &mut String) -> Option<bool> {
        let mut skipper =
            Skipper { text: self.text, cursor: Cursor::new(self.text.as_bytes(), self.at), key };
        skipper.cursor.space();
        let is_message = match skipper.cursor.peek()? {
            b']' => return None,
            b'{' => skipper.object(Level::Envelope, 1, outline).map(|()| true),
            _ => skipper.cursor.value(1).map(|_| false),
        };
        skipper.cursor.space();
        if skipper.cursor.peek() == Some(b',') {
            skipper.cursor.at += 1;
        }
        self.at = skipper.cursor.at;
        is_message.ok()
    }
}

/// The messages of a batch that [`read`] found to be well-formed, as they were written.
pub(crate) fn elements(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bracket = body.iter().position(|byte| *byte == b'[').map_or(body.len(), |bracket| bracket + 1);
    let mut cursor = Cursor::new(body, bracket);
    std::iter::from_fn(move || {
        cursor.space();
        if cursor.peek()? == b']' {
            return None;
        }
        let start = cursor.at;
        cursor.value(1).ok()?;
        let element = body.get(start..cursor.at);
        cursor.space();
        if cursor.peek() == Some(b',') {
            cursor.at += 1;
        }
        element
    })
}

struct Skipper<'b, 'k> {
    text: &'b str,
    cursor: Cursor<'b>,
    key: &'k mut String,
}

impl Skipper<'_, '_> {
    /// An object of a level, from its bracket on; `depth` brackets are open around it.
    fn object(&mut self, level: Level, depth: usize, outline: &mut Outline) -> Result<(), Broken> {
        self.cursor.at += 1;
        self.cursor.space();
        if self.cursor.peek() == Some(b'}') {
            self.cursor.at += 1;
            return Ok(());
        }
        loop {
            let key = self.critical_key(level, outline)?;
            let start = self.cursor.at;
            let slot = match (key.and_then(|key| level.below(key)), self.cursor.peek()) {
                (Some(below), Some(b'{')) => {
                    self.object(below, depth + 1, outline)?;
                    Slot { shape: Shape::Object, start, end: self.cursor.at }
                }
                _ => self.cursor.value(depth + 1)?,
            };
            if let Some(key) = key {
                outline.set(key, slot);
            }
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.at += 1,
                Some(b'}') => break self.cursor.at += 1,
                _ => return Err(Broken::Syntax),
            }
            self.cursor.space();
        }
        Ok(())
    }

    /// A key and its colon: which critical key it is, if it is one.
    fn critical_key(&mut self, level: Level, outline: &mut Outline) -> Result<Option<Key>, Broken> {
        let start = self.cursor.at + 1;
        let shape = self.cursor.key()?;
        let Some(raw) = self.text.get(start..self.cursor.at - 1) else { return Err(Broken::Syntax) };
        self.cursor.colon()?;
        let spelled = if shape == Shape::Plain {
            spelling(level, raw)
        } else {
            self.key.clear();
            match unescape(raw, self.key, KEY_BYTES_MAX) {
                Unescaped::Whole => spelling(level, self.key),
                // Longer than any spelling of a critical key.
                Unescaped::Cut => Spelling::Foreign,
                Unescaped::Surrogate => {
                    outline.broken[level as usize] = true;
                    Spelling::Foreign
                }
            }
        };
        match spelled {
            Spelling::Exact(key) => Ok(Some(key)),
            Spelling::Variant(key) => {
                outline.ambiguous[key as usize] = true;
                Ok(None)
            }
            Spelling::Foreign => Ok(None),
        }
    }
}
