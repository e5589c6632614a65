//! The grammar of JSON (RFC 8259), with a bound on the nesting: a cursor that walks over values in one
//! pass and says what they were.
//!
//! Not here: keys that matter (`skipper`); unescaping (`unescape`); UTF-8, which the caller has checked.
//!
//! Iterative: the open brackets are the bits of one word.

use crate::base::words;
use crate::config::limits;
use std::ops::Range;

// The stack of open brackets is one u128.
const _: () = assert!(limits::JSON_DEPTH_MAX == 128);

/// Why a body is no JSON for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Empty,
    ByteOrderMark,
    Encoding,
    Depth,
    Syntax,
}

/// What a value is, by its first byte and, for numbers, its form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Missing,
    Null,
    Bool,
    Integer,
    Fraction,
    /// Without a backslash: its text is the bytes between the quotes.
    Plain,
    /// With at least one escape.
    Escaped,
    Array,
    Object,
}

/// A value and its raw bytes, quotes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) shape: Shape,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A place in a body. Methods that read something expect to stand on its first byte.
pub(crate) struct Cursor<'b> {
    bytes: &'b [u8],
    pub(crate) at: usize,
}

impl<'b> Cursor<'b> {
    pub(crate) const fn new(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub(crate) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes over an object, from its bracket on. `member` is told where its key stands, without the quotes, and reads the
    /// value, on whose first byte the cursor stands.
    pub(crate) fn members<E: From<Broken>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each((b'{', b'}'), |cursor| {
            let start = cursor.at + 1;
            cursor.key()?;
            let key = start..cursor.at - 1;
            cursor.colon()?;
            member(cursor, key)
        })
    }

    /// Goes over an array, from its bracket on. `element` reads one, on whose first byte the cursor stands.
    pub(crate) fn elements<E: From<Broken>>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each((b'[', b']'), element)
    }

    fn each<E: From<Broken>>(
        &mut self,
        (open, close): (u8, u8),
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(open) {
            return Err(Broken::Syntax.into());
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => break self.at += 1,
                _ => return Err(Broken::Syntax.into()),
            }
            self.space();
        }
        Ok(())
    }

    /// The outermost array; how many elements it has.
    pub(crate) fn array(&mut self) -> Result<usize, Broken> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(0);
        }
        let mut elements = 0;
        loop {
            self.value(1)?;
            elements += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break self.at += 1,
                _ => return Err(Broken::Syntax),
            }
            self.space();
        }
        Ok(elements)
    }

    /// One value with everything in it; `depth` brackets are open around it.
    pub(crate) fn value(&mut self, depth: usize) -> Result<Slot, Broken> {
        let start = self.at;
        let shape = match self.peek() {
            Some(b'{') => self.nested(depth).map(|()| Shape::Object)?,
            Some(b'[') => self.nested(depth).map(|()| Shape::Array)?,
            _ => self.scalar()?,
        };
        Ok(Slot { shape, start, end: self.at })
    }

    /// An array or object that nobody reads.
    fn nested(&mut self, outer: usize) -> Result<(), Broken> {
        // Lowest bit: whether the innermost open bracket is an object's.
        let mut objects: u128 = 0;
        let mut depth = outer;
        loop {
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                if depth == limits::JSON_DEPTH_MAX {
                    return Err(Broken::Depth);
                }
                depth += 1;
                let is_object = open == b'{';
                objects = objects << 1 | u128::from(is_object);
                self.at += 1;
                self.space();
                if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                    if is_object {
                        self.key()?;
                        self.colon()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // A value has ended, or an empty bracket is about to.
            loop {
                self.space();
                match (self.peek(), objects & 1) {
                    (Some(b'}'), 1) | (Some(b']'), 0) => {
                        self.at += 1;
                        depth -= 1;
                        objects >>= 1;
                        if depth == outer {
                            return Ok(());
                        }
                    }
                    (Some(b','), 1) => {
                        self.at += 1;
                        self.space();
                        self.key()?;
                        break self.colon()?;
                    }
                    (Some(b','), _) => {
                        self.at += 1;
                        break self.space();
                    }
                    _ => return Err(Broken::Syntax),
                }
            }
        }
    }

    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Shape, Broken> {
        if self.peek() == Some(b'"') { self.string() } else { Err(Broken::Syntax) }
    }

    #[inline(always)]
    pub(crate) fn colon(&mut self) -> Result<(), Broken> {
        self.space();
        if self.peek() != Some(b':') {
            return Err(Broken::Syntax);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn scalar(&mut self) -> Result<Shape, Broken> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Shape::Bool),
            Some(b'f') => self.word(b"false", Shape::Bool),
            Some(b'n') => self.word(b"null", Shape::Null),
            _ => Err(Broken::Syntax),
        }
    }

    fn word(&mut self, word: &[u8], shape: Shape) -> Result<Shape, Broken> {
        if !self.rest().starts_with(word) {
            return Err(Broken::Syntax);
        }
        self.at += word.len();
        Ok(shape)
    }

    #[inline(always)]
    fn string(&mut self) -> Result<Shape, Broken> {
        let mut shape = Shape::Plain;
        self.at += 1;
        loop {
            self.at += plain_prefix(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(shape);
                }
                Some(b'\\') => {
                    shape = Shape::Escaped;
                    self.escape()?;
                }
                // A control character, or the end.
                _ => return Err(Broken::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.at += match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', digits @ ..]
                if digits.iter().take(4).filter(|b| b.is_ascii_hexdigit()).count() == 4 =>
            {
                6
            }
            _ => return Err(Broken::Syntax),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<Shape, Broken> {
        let mut shape = Shape::Integer;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            shape = Shape::Fraction;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            shape = Shape::Fraction;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(shape)
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Broken::Syntax) } else { Ok(()) }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

/// Length of the prefix without quote, backslash or control character. Most strings are short: they are searched by
/// words, without a call; longer ones by blocks that fill wide registers.
#[inline(always)]
fn plain_prefix(bytes: &[u8]) -> usize {
    const SHORT_BYTES: usize = 32;
    let (short, long) = bytes.split_at(bytes.len().min(SHORT_BYTES));
    let len = by_words(short);
    if len < SHORT_BYTES { len } else { len + by_blocks(long) }
}

#[inline(never)]
fn by_blocks(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let is_plain = |block: &[u8; 32]| !block.iter().fold(false, |found, byte| found | is_special(byte));
    let plain = blocks.iter().take_while(|block| is_plain(block)).count();
    plain * 32 + by_words(blocks.get(plain).map_or(rest, |block| block))
}

#[inline(always)]
fn by_words(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let special = words::equal(word, b'"') | words::equal(word, b'\\') | words::below(word, 0x20);
        let found = special & words::HIGHS;
        if found != 0 {
            return index * 8 + words::first(found);
        }
    }
    bytes.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[inline(always)]
fn is_special(byte: &u8) -> bool {
    (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20)
}
