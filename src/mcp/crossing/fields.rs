//! The members of an object that count, as places in a message.
//!
//! Not here: which count, and what becomes of them.
//!
//! A key counts in its own spelling only. One that comes twice, or in a spelling that only some readers take for it,
//! makes the message unfit: what is changed under the one key would stay as it was under the other.

use crate::mcp::facts::is_alike;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::listing::Unfit;
use crate::mcp::unescape;
use std::borrow::Cow;
use std::ops::Range;

/// The text of a message, and a cursor on its first bracket.
///
/// # Errors
/// It is no UTF-8, or no object. A batch is none: one is answered in 2025-03-26 only, which no crossing speaks.
pub(crate) fn open(message: &[u8]) -> Result<(&str, Cursor<'_>), Unfit> {
    let text = std::str::from_utf8(message).map_err(|_| Unfit::Broken)?;
    let mut cursor = Cursor::new(message, 0);
    cursor.space();
    if cursor.peek() == Some(b'{') { Ok((text, cursor)) } else { Err(Unfit::Broken) }
}

/// # Errors
/// Something follows.
pub(crate) fn close(text: &str, mut cursor: Cursor<'_>) -> Result<(), Unfit> {
    cursor.space();
    if cursor.at == text.len() { Ok(()) } else { Err(Unfit::Broken) }
}

/// Goes over an object, from its bracket on, and tells where the values of `keys` stand. `value` reads every value and is
/// told which of the keys it belongs to.
pub(crate) fn fields<'m, const N: usize>(
    text: &str,
    cursor: &mut Cursor<'m>,
    keys: &[&str; N],
    mut value: impl FnMut(&mut Cursor<'m>, Option<usize>) -> Result<Slot, Unfit>,
) -> Result<[Slot; N], Unfit> {
    let mut slots = [Slot::default(); N];
    cursor.members(|cursor, key| {
        let index = which(&name(text, key), keys)?;
        let slot = value(cursor, index)?;
        // `which` gives an index of `keys`, which are N.
        match index.and_then(|index| slots.get_mut(index)) {
            Some(known) if known.shape != Shape::Missing => Err(Unfit::Broken),
            Some(known) => {
                *known = slot;
                Ok(())
            }
            None => Ok(()),
        }
    })?;
    Ok(slots)
}

/// The same of a raw value that is no longer part of a message, with everything in it unread.
pub(crate) fn fields_of<const N: usize>(raw: &str, keys: &[&str; N]) -> Result<[Slot; N], Unfit> {
    let (text, mut cursor) = open(raw.as_bytes())?;
    let slots = fields(text, &mut cursor, keys, |cursor, _| Ok(cursor.value(1)?))?;
    close(text, cursor)?;
    Ok(slots)
}

/// The text of a key; empty for one that no text can express.
pub(crate) fn name(text: &str, key: Range<usize>) -> Cow<'_, str> {
    unescape::whole(text.get(key).unwrap_or_default()).unwrap_or_default()
}

/// Which of the known keys a key is.
///
/// # Errors
/// Some reader takes it for one that it is not.
pub(crate) fn which(key: &str, known: &[&str]) -> Result<Option<usize>, Unfit> {
    if let Some(index) = known.iter().position(|known| *known == key) {
        return Ok(Some(index));
    }
    if known.iter().any(|known| is_variant(key, known)) { Err(Unfit::Broken) } else { Ok(None) }
}

/// Whether some reader takes a key for `known`.
pub(crate) fn is_taken_for(key: &str, known: &str) -> bool {
    key == known || is_variant(key, known)
}

/// Whether a key that is not `known` may be taken for it.
fn is_variant(key: &str, known: &str) -> bool {
    match known.strip_prefix('_') {
        Some(known) => key.strip_prefix('_').is_some_and(|key| is_alike(key, known)),
        None => is_alike(key, known),
    }
}

/// The text of a string. None: it is none, or no text can express it.
pub(crate) fn string(text: &str, slot: Slot) -> Option<Cow<'_, str>> {
    match slot.shape {
        // Quotes are one byte each.
        Shape::Plain | Shape::Escaped => unescape::whole(text.get(slot.start + 1..slot.end - 1)?),
        _ => None,
    }
}

/// The value itself, as it stands.
pub(crate) fn raw(text: &str, slot: Slot) -> &str {
    text.get(slot.start..slot.end).unwrap_or_default()
}

/// What a reader has gone over, from `start` on.
pub(crate) const fn gone(shape: Shape, start: usize, cursor: &Cursor<'_>) -> Slot {
    Slot { shape, start, end: cursor.at }
}

/// The keys of raw members that the gateway adds somewhere.
pub(crate) fn keys_of(members: &str) -> Result<Vec<String>, Unfit> {
    let mut keys = Vec::new();
    if members.is_empty() {
        return Ok(keys);
    }
    let object = format!("{{{members}}}");
    let mut cursor = Cursor::new(object.as_bytes(), 0);
    cursor
        .members(|cursor, key| {
            keys.push(name(&object, key).into_owned());
            cursor.value(1).map(|_| ())
        })
        .map_err(|_: Broken| Unfit::Broken)?;
    Ok(keys)
}
