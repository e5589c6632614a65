//! DER, as far as a certificate needs it: one element after the other (ITU-T X.690 section 10).
//!
//! Not here: what elements mean, and verification; certificates that come here were parsed by webpki before.

pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const PRINTABLE_STRING: u8 = 0x13;
pub const IA5_STRING: u8 = 0x16;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;

/// Elements that have not been looked at yet.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a>(pub &'a [u8]);

/// One element: its tag, its content, and both as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

impl<'a> Elements<'a> {
    /// All of them; none where something among them is no element.
    pub fn all(mut self) -> Option<Vec<Element<'a>>> {
        let all = self.by_ref().collect();
        self.0.is_empty().then_some(all)
    }

    /// The content of the next element, which must have that tag.
    pub fn next_of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()?.of(tag)
    }
}

impl<'a> Element<'a> {
    /// Its content, if it has that tag.
    pub fn of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

/// Ends at the end, and before what is no element.
impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Above 0x80: how many bytes of length follow. More than four are no certificate of ours.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let whole = all.get(..all.len() - rest.len())?;
        Some(Element { tag, content, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &[(u8, &[u8])]) {
        let found: Vec<(u8, &[u8])> = Elements(bytes).map(|element| (element.tag, element.content)).collect();
        assert_eq!(found, expected, "{bytes:02x?}");
        let used: usize = Elements(bytes).map(|element| element.whole.len()).sum();
        assert_eq!(Elements(bytes).all().is_some(), used == bytes.len(), "{bytes:02x?}");
    }

    #[test]
    fn elements_follow_one_another_and_end_at_what_is_none() {
        check(&[], &[]);
        check(&[0x05, 0x00, 0x0c, 0x02, b'a', b'b'], &[(0x05, b""), (0x0c, b"ab")]);
        check(&[0x0c, 0x81, 0x01, b'a', 0x05, 0x00], &[(0x0c, b"a"), (0x05, b"")]);
        check(&[0x0c, 0x02, b'a'], &[]);
        check(&[0x0c], &[]);
        check(&[0x30, 0x80, 0x00, 0x00], &[]);
        check(&[0x30, 0x85, 0, 0, 0, 0, 0], &[]);
        check(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[]);
        let long = [&[0x0c, 0x82, 0x01, 0x00][..], &[b'x'; 256]].concat();
        check(&long, &[(0x0c, &[b'x'; 256])]);
        assert_eq!(Elements(&long).next().map(|element| element.whole), Some(&*long));
        assert_eq!(Elements(&long).next_of(0x0d), None);
    }
}
