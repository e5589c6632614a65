//! The message as values of CEL. Texts without escapes are borrowed from it.
//!
//! Not here: the grammar of JSON (`mcp::grammar`), which also bounds the nesting.
//!
//! Numbers are CEL's int where they are written as integers and fit, else doubles: `1e400` is infinite.

use crate::config::limits;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::unescape::Unescaped;
use crate::mcp::unescape::unescape;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use crate::policy::expression::value::map;

/// Reads a whole message.
pub(super) fn read(body: &[u8]) -> Result<Value<'_>, EvaluationError> {
    let text = std::str::from_utf8(body).map_err(|_| EvaluationError::Body)?;
    let mut reader =
        Reader { text, cursor: Cursor::new(body, 0), values_left: limits::EXPRESSION_VALUES_MAX };
    reader.cursor.space();
    let value = reader.value(0)?;
    reader.cursor.space();
    if reader.cursor.peek().is_none() { Ok(value) } else { Err(EvaluationError::Body) }
}

struct Reader<'b> {
    text: &'b str,
    cursor: Cursor<'b>,
    values_left: usize,
}

impl<'b> Reader<'b> {
    /// `depth` brackets are open around it; it calls itself at most [`limits::JSON_DEPTH_MAX`] times.
    fn value(&mut self, depth: usize) -> Result<Value<'b>, EvaluationError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(EvaluationError::BodySize)?;
        match self.cursor.peek() {
            Some(b'[' | b'{') if depth == limits::JSON_DEPTH_MAX => Err(EvaluationError::BodySize),
            Some(b'[') => {
                let mut elements = Vec::new();
                self.members(b']', |reader| {
                    elements.push(reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::List(elements.into()))
            }
            Some(b'{') => {
                let mut entries = Vec::new();
                self.members(b'}', |reader| {
                    let start = reader.cursor.at;
                    let shape = reader.cursor.key()?;
                    let key = reader.string(Slot { shape, start, end: reader.cursor.at })?;
                    reader.cursor.colon()?;
                    entries.push((key, reader.value(depth + 1)?));
                    Ok(())
                })?;
                map(entries)
            }
            _ => {
                let slot = self.cursor.value(depth)?;
                self.scalar(slot)
            }
        }
    }

    /// What stands between the brackets, one by one, up to and with the closing one.
    fn members(
        &mut self,
        close: u8,
        mut member: impl FnMut(&mut Self) -> Result<(), EvaluationError>,
    ) -> Result<(), EvaluationError> {
        self.cursor.at += 1;
        self.cursor.space();
        if self.cursor.peek() == Some(close) {
            self.cursor.at += 1;
            return Ok(());
        }
        loop {
            member(self)?;
            self.cursor.space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.at += 1,
                Some(byte) if byte == close => break self.cursor.at += 1,
                _ => return Err(EvaluationError::Body),
            }
            self.cursor.space();
        }
        Ok(())
    }

    fn scalar(&self, slot: Slot) -> Result<Value<'b>, EvaluationError> {
        let raw = self.text.get(slot.start..slot.end).unwrap_or("");
        let double = || raw.parse().map(Value::Double).map_err(|_| EvaluationError::Body);
        match slot.shape {
            Shape::Null => Ok(Value::Null),
            Shape::Bool => Ok(Value::Bool(raw == "true")),
            Shape::Integer => raw.parse().map(Value::Int).or_else(|_| double()),
            Shape::Fraction => double(),
            Shape::Plain | Shape::Escaped => self.string(slot).map(Value::Text),
            Shape::Missing | Shape::Array | Shape::Object => Err(EvaluationError::Body),
        }
    }

    fn string(&self, slot: Slot) -> Result<Text<'b>, EvaluationError> {
        let inside = self.text.get(slot.start + 1..slot.end - 1).unwrap_or("");
        if slot.shape == Shape::Plain {
            return Ok(Text::Borrowed(inside));
        }
        // Unescaped text is never longer than its escapes.
        let mut text = String::with_capacity(inside.len());
        match unescape(inside, &mut text, inside.len()) {
            Unescaped::Whole => Ok(Text::Shared(text.into())),
            Unescaped::Cut | Unescaped::Surrogate => Err(EvaluationError::Body),
        }
    }
}

impl From<Broken> for EvaluationError {
    fn from(broken: Broken) -> Self {
        if broken == Broken::Depth { Self::BodySize } else { Self::Body }
    }
}
