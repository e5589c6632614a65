//! What the rules want to know of a message, whoever read it: the critical keys of its three levels.
//!
//! Not here: reading (`skipper`, `tape`) and judging (`rules`).

/// The objects whose keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The message itself.
    Envelope,
    Params,
    /// `params._meta`
    Meta,
}

/// Keys that must not be ambiguous, because the gateway or a server acts on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    JsonRpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Name,
    Uri,
    TaskId,
    Meta,
    Arguments,
    RequestState,
    InputResponses,
    ProtocolVersion,
    Cursor,
    Claim,
    ClientInfo,
    ClientCapabilities,
    LogLevel,
    ProgressToken,
    TraceParent,
    TraceState,
    Baggage,
}

pub(crate) const KEYS: usize = Key::Baggage as usize + 1;

const ENVELOPE: &[(&str, Key)] = &[
    ("jsonrpc", Key::JsonRpc),
    ("id", Key::Id),
    ("method", Key::Method),
    ("params", Key::Params),
    ("result", Key::Result),
    ("error", Key::Error),
];
const PARAMS: &[(&str, Key)] = &[
    ("name", Key::Name),
    ("arguments", Key::Arguments),
    ("_meta", Key::Meta),
    ("uri", Key::Uri),
    ("taskId", Key::TaskId),
    ("requestState", Key::RequestState),
    ("inputResponses", Key::InputResponses),
    ("protocolVersion", Key::ProtocolVersion),
    ("cursor", Key::Cursor),
];
const META: &[(&str, Key)] = &[
    ("io.modelcontextprotocol/protocolVersion", Key::Claim),
    ("io.modelcontextprotocol/clientInfo", Key::ClientInfo),
    ("io.modelcontextprotocol/clientCapabilities", Key::ClientCapabilities),
    ("io.modelcontextprotocol/logLevel", Key::LogLevel),
    ("progressToken", Key::ProgressToken),
    ("traceparent", Key::TraceParent),
    ("tracestate", Key::TraceState),
    ("baggage", Key::Baggage),
];

/// Longer than every critical key, in characters.
const FOLDED_BYTES_MAX: usize = 48;
/// Longer than every spelling that folds to a critical key: the Kelvin sign has three bytes.
pub(crate) const KEY_BYTES_MAX: usize = 3 * FOLDED_BYTES_MAX;

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Envelope, Self::Params, Self::Meta];

    pub(crate) const fn keys(self) -> &'static [(&'static str, Key)] {
        match self {
            Self::Envelope => ENVELOPE,
            Self::Params => PARAMS,
            Self::Meta => META,
        }
    }

    /// The level that opens behind this key of this one, if its value is an object.
    pub(crate) const fn below(self, key: Key) -> Option<Self> {
        match (self, key) {
            (Self::Envelope, Key::Params) => Some(Self::Params),
            (Self::Params, Key::Meta) => Some(Self::Meta),
            _ => None,
        }
    }
}

/// How a key of a message relates to the critical keys of its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    Exact(Key),
    /// Equal only after case folding: some reader takes it for the key (CVE-2026-27896).
    Variant(Key),
    Foreign,
}

/// Compares an unescaped key with the critical ones.
#[inline]
pub(crate) fn spelling(level: Level, key: &str) -> Spelling {
    if let Some(known) = exact(level, key.as_bytes()) {
        return Spelling::Exact(known);
    }
    // Most other keys have none of the lengths that a spelling of a critical key can have: folding is a
    // character for a character, of one byte or, where it is not ASCII, of two or three.
    if key.is_ascii() && !level.keys().iter().any(|(text, _)| text.len() == key.len()) {
        return Spelling::Foreign;
    }
    folds_to(level, key)
}

/// The critical key that is spelled so. Length and first byte leave one candidate, so that a key costs one
/// comparison and not one for each critical key.
fn exact(level: Level, key: &[u8]) -> Option<Key> {
    let at = match (level, key.len(), key.first()?) {
        (Level::Envelope, 7, _) => 0,
        (Level::Envelope, 2, _) => 1,
        (Level::Envelope, 6, b'm') => 2,
        (Level::Envelope, 6, b'p') => 3,
        (Level::Envelope, 6, b'r') => 4,
        (Level::Envelope, 5, _) => 5,
        (Level::Params, 4, _) => 0,
        (Level::Params, 9, _) => 1,
        (Level::Params, 5, _) => 2,
        (Level::Params, 3, _) => 3,
        (Level::Params, 6, b't') => 4,
        (Level::Params, 12, _) => 5,
        (Level::Params, 14, _) => 6,
        (Level::Params, 15, _) => 7,
        (Level::Params, 6, b'c') => 8,
        (Level::Meta, 39, _) => 0,
        (Level::Meta, 34, _) => 1,
        (Level::Meta, 42, _) => 2,
        (Level::Meta, 32, _) => 3,
        (Level::Meta, 13, _) => 4,
        (Level::Meta, 11, _) => 5,
        (Level::Meta, 10, _) => 6,
        (Level::Meta, 7, _) => 7,
        _ => return None,
    };
    let (text, known) = level.keys().get(at)?;
    (text.as_bytes() == key).then_some(*known)
}

/// Whether a key that is no exact one equals one after folding. Few keys come here: it may not cost the
/// others the room of its copy.
#[inline(never)]
fn folds_to(level: Level, key: &str) -> Spelling {
    let mut folded = [0; FOLDED_BYTES_MAX];
    let mut len = 0;
    for character in key.chars() {
        let (Some(byte), Some(place)) = (fold(character), folded.get_mut(len)) else {
            return Spelling::Foreign;
        };
        *place = byte;
        len += 1;
    }
    let folded = folded.get(..len).unwrap_or_default();
    let same = |(text, _): &&(&str, Key)| text.as_bytes().eq_ignore_ascii_case(folded);
    level.keys().iter().find(same).map_or(Spelling::Foreign, |(_, key)| Spelling::Variant(*key))
}

/// Whether some reader takes `key` for `known`, which is ASCII and has no underscore: spelled so, equal after folding,
/// or with its words apart (`resource_templates`), as readers do whose own fields are written so.
pub(crate) fn is_alike(key: &str, known: &str) -> bool {
    let mut folded = key.chars().filter(|character| *character != '_').map(fold);
    let same = |byte: u8| matches!(folded.next(), Some(Some(other)) if other.eq_ignore_ascii_case(&byte));
    known.bytes().all(same) && folded.next().is_none()
}

/// Simple case folding (Unicode CaseFolding.txt, C and S) onto ASCII: beside the letters themselves only
/// the long s and the Kelvin sign fold there. The two Turkish letters do not, but readers that map to
/// upper or to lower case, as Java's do, take them for `i`: no honest key has them.
fn fold(character: char) -> Option<u8> {
    match character {
        '\u{17F}' => Some(b's'),
        '\u{212A}' => Some(b'k'),
        '\u{130}' | '\u{131}' => Some(b'i'),
        _ => u8::try_from(character).ok().filter(u8::is_ascii),
    }
}

/// A value, as far as rules look into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    #[default]
    Missing,
    Null,
    Bool,
    /// `-?(0|[1-9][0-9]*)` of any size: no sign of a fraction, no exponent.
    Integer,
    /// A number with a fraction or an exponent.
    Fraction,
    /// Unescaped; empty where no rule reads the text.
    String(&'a str),
    /// A string that no Unicode text can express: it has a lone surrogate (`"\ud800"`).
    Surrogate,
    Array,
    Object,
}

/// The facts of one message.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    values: [Value<'a>; KEYS],
    /// Bit per [`Key`]: it came twice, or in a case variant.
    ambiguous: u32,
    /// Bit per [`Level`]: one of its keys has a lone surrogate.
    broken: u8,
    /// Raw length of the id, its quotes included; 0 from a reader that knows it to be within the limit.
    pub(crate) id_bytes: usize,
}

impl<'a> Facts<'a> {
    pub(crate) const fn new() -> Self {
        Self { values: [Value::Missing; KEYS], ambiguous: 0, broken: 0, id_bytes: 0 }
    }

    pub(crate) const fn value(&self, key: Key) -> Value<'a> {
        self.values[key as usize]
    }

    pub(crate) fn is_present(&self, key: Key) -> bool {
        self.value(key) != Value::Missing
    }

    pub(crate) fn set(&mut self, key: Key, value: Value<'a>) {
        if self.is_present(key) {
            self.mark_ambiguous(key);
        }
        self.values[key as usize] = value;
    }

    /// Sets a value again that one reader learns in two steps.
    pub(crate) const fn replace(&mut self, key: Key, value: Value<'a>) {
        self.values[key as usize] = value;
    }

    pub(crate) const fn mark_ambiguous(&mut self, key: Key) {
        self.ambiguous |= 1 << key as u32;
    }

    pub(crate) const fn is_ambiguous(&self, key: Key) -> bool {
        self.ambiguous & 1 << key as u32 != 0
    }

    pub(crate) const fn mark_broken(&mut self, level: Level) {
        self.broken |= 1 << level as u8;
    }

    /// Whether any key of the level is ambiguous or cannot be read.
    pub(crate) fn is_unclear(&self, level: Level) -> bool {
        self.broken & 1 << level as u8 != 0
            || self.ambiguous != 0 && level.keys().iter().any(|(_, key)| self.is_ambiguous(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_critical_key_is_found_by_its_length_and_first_byte() {
        for level in Level::ALL {
            for (text, key) in level.keys() {
                assert_eq!(spelling(level, text), Spelling::Exact(*key), "{text}");
                assert_eq!(spelling(level, &text.to_uppercase()), Spelling::Variant(*key), "{text}");
                assert_eq!(spelling(level, &format!("{text}x")), Spelling::Foreign, "{text}");
                assert_eq!(spelling(level, text.get(1..).unwrap_or_default()), Spelling::Foreign, "{text}");
                let long_s = text.replacen('s', "\u{17F}", 1);
                if long_s != *text {
                    assert_eq!(spelling(level, &long_s), Spelling::Variant(*key), "{text}");
                }
            }
            assert_eq!(spelling(level, ""), Spelling::Foreign);
        }
    }
}
