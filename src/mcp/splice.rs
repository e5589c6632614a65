//! Splices: a copy of a message with other bytes in some places, made in one pass.
//!
//! Not here: which places (`listing`, `crossing`).

use std::ops::Range;

/// Bytes that are copied at a time. The C library copies more than about 2 KiB with one string instruction, which takes
/// sixteen times as long on some processors (AMD Zen 3 and 4) where the copy lies a few bytes further in its page than the
/// original: what a splice does after its first change.
const PIECE_BYTES: usize = 2_048;

/// A copy in the making: places come in their order.
pub(crate) struct Splice<'m, 'o> {
    source: &'m [u8],
    out: &'o mut Vec<u8>,
    /// So much of the source has been dealt with.
    copied: usize,
    changed: bool,
}

impl<'m, 'o> Splice<'m, 'o> {
    pub(crate) const fn new(source: &'m [u8], out: &'o mut Vec<u8>) -> Self {
        Self { source, out, copied: 0, changed: false }
    }

    pub(crate) fn replace(&mut self, start: usize, end: usize, with: &[u8]) {
        self.copy(start);
        self.out.extend_from_slice(with);
        self.copied = end;
        self.changed = true;
    }

    /// Whether anything is other than in the source. If nothing is, nothing was appended.
    pub(crate) fn finish_changed(self) -> bool {
        if self.changed {
            self.finish();
            return true;
        }
        false
    }

    /// Appends what is left, which is everything where nothing was changed.
    pub(crate) fn finish(mut self) {
        self.copy(self.source.len());
    }

    /// Appends the source up to `end`, as far as it was not dealt with.
    fn copy(&mut self, end: usize) {
        let rest = self.source.get(self.copied..end).unwrap_or_default();
        self.out.reserve(rest.len());
        rest.chunks(PIECE_BYTES).for_each(|piece| self.out.extend_from_slice(piece));
    }
}

/// Takes entries out of one array or members out of one object, each with one comma.
#[derive(Default)]
pub(crate) struct Cut {
    /// Where the last entry ended that stays.
    kept: Option<usize>,
    /// Entries that go, in one piece, before the first that stays.
    front: Option<(usize, usize)>,
}

impl Cut {
    pub(crate) fn entry(&mut self, splice: &mut Splice<'_, '_>, at: Range<usize>, kept: bool) {
        match (self.kept, kept) {
            (Some(before), false) => splice.replace(before, at.end, b""),
            (None, false) => self.front = Some((self.front.map_or(at.start, |(start, _)| start), at.end)),
            (_, true) => self.stays(splice, at.start),
        }
        if kept || self.kept.is_some() {
            // What follows, up to the end of an entry that goes, goes with it.
            self.kept = Some(at.end);
        }
    }

    /// Before anything is changed within an entry that stays; [`Cut::entry`] is told of it afterwards.
    pub(crate) fn stays(&mut self, splice: &mut Splice<'_, '_>, start: usize) {
        if let Some((front, _)) = self.front.take() {
            splice.replace(front, start, b"");
        }
    }

    /// Whether any entry stayed.
    pub(crate) fn end(self, splice: &mut Splice<'_, '_>) -> bool {
        if let Some((start, end)) = self.front {
            splice.replace(start, end, b"");
        }
        self.kept.is_some()
    }
}
