//! `Text<N>`: a string of at most N bytes inside its owner, so that a record crosses threads
//! without an allocation and without a shared reference count.
//!
//! Not here: unbounded strings. Longer input is cut at a character boundary and says so.

/// At most `N` bytes of UTF-8.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u16,
    cut: bool,
}

impl<const N: usize> Text<N> {
    pub const EMPTY: Self = Self { bytes: [0; N], len: 0, cut: false };

    /// The first bytes of `text` that fit, cut at a character boundary.
    pub fn new(text: &str) -> Self {
        let mut new = Self::EMPTY;
        new.set(text);
        new
    }

    /// Takes over the first bytes of `text` that fit; writes no more than they need.
    pub fn set(&mut self, text: &str) {
        let mut end = text.len();
        // Nearly every text fits, and its end is a boundary.
        if end > N {
            end = N;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
        }
        self.bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.len = u16::try_from(end).unwrap_or(u16::MAX);
        self.cut = end < text.len();
    }

    pub fn clear(&mut self) {
        self.len = 0;
        self.cut = false;
    }

    pub fn as_str(&self) -> &str {
        // The constructor copied whole characters only.
        std::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("")
    }

    /// The same text without the check that `as_str` pays for.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the original was longer.
    pub fn was_cut(&self) -> bool {
        self.cut
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_a_character() {
        let text = Text::<4>::new("abcé");
        assert_eq!((text.as_str(), text.was_cut()), ("abc", true));
        assert_eq!(Text::<5>::new("abcé").as_str(), "abcé");
        assert!(Text::<4>::new("").is_empty());
    }
}
