//! The message as values of CEL. Texts without escapes are borrowed from it.
//!
//! Not here: the grammar of JSON (`mcp::grammar`), which also bounds the nesting.
//!
//! Numbers are CEL's int where they are written as integers and fit, else doubles: `1e400` is infinite. One that no double
//! is worth has no value that could be judged.

use crate::config::limits;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::unescape::Unescaped;
use crate::mcp::unescape::unescape;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::decimal;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use crate::policy::expression::value::map;
use std::ops::Range;

/// Reads a whole message.
pub(super) fn read(body: &[u8]) -> Result<Value<'_>, EvaluationError> {
    let text = std::str::from_utf8(body).map_err(|_| EvaluationError::Body)?;
    let mut reader = Reader { text, values_left: limits::EXPRESSION_VALUES_MAX };
    let mut cursor = Cursor::new(body, 0);
    cursor.space();
    let value = reader.value(&mut cursor, 0)?;
    cursor.space();
    if cursor.peek().is_none() { Ok(value) } else { Err(EvaluationError::Body) }
}

struct Reader<'b> {
    text: &'b str,
    values_left: usize,
}

impl<'b> Reader<'b> {
    /// `depth` brackets are open around it; it calls itself at most [`limits::JSON_DEPTH_MAX`] times.
    fn value(&mut self, cursor: &mut Cursor<'b>, depth: usize) -> Result<Value<'b>, EvaluationError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(EvaluationError::BodySize)?;
        match cursor.peek() {
            Some(b'[' | b'{') if depth == limits::JSON_DEPTH_MAX => Err(EvaluationError::BodySize),
            Some(b'[') => {
                let mut elements = Vec::new();
                cursor.elements(|cursor| {
                    elements.push(self.value(cursor, depth + 1)?);
                    Ok::<(), EvaluationError>(())
                })?;
                Ok(Value::List(elements.into()))
            }
            Some(b'{') => {
                let mut entries = Vec::new();
                cursor.members(|cursor, key| {
                    let key = self.string(key)?;
                    entries.push((key, self.value(cursor, depth + 1)?));
                    Ok::<(), EvaluationError>(())
                })?;
                map(entries)
            }
            _ => {
                let slot = cursor.value(depth)?;
                self.scalar(slot)
            }
        }
    }

    fn scalar(&self, slot: Slot) -> Result<Value<'b>, EvaluationError> {
        let raw = self.text.get(slot.start..slot.end).unwrap_or("");
        let double = || {
            let value = raw.parse().map_err(|_| EvaluationError::Body)?;
            Ok(if decimal::survives(raw, value) { Value::Double(value) } else { Value::Inexact })
        };
        match slot.shape {
            Shape::Null => Ok(Value::Null),
            Shape::Bool => Ok(Value::Bool(raw == "true")),
            Shape::Integer => raw.parse().map(Value::Int).or_else(|_| double()),
            Shape::Fraction => double(),
            Shape::Plain | Shape::Escaped => self.string(slot.start + 1..slot.end - 1).map(Value::Text),
            Shape::Missing | Shape::Array | Shape::Object => Err(EvaluationError::Body),
        }
    }

    /// What stands between these quotes.
    fn string(&self, inside: Range<usize>) -> Result<Text<'b>, EvaluationError> {
        let inside = self.text.get(inside).unwrap_or("");
        if !inside.contains('\\') {
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
