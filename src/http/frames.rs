//! `Meter`: counts the frames of an HTTP/2 connection against what the connection has done, so that frames that
//! bring nothing end it.
//!
//! ```text
//!   bytes ──▶ frame heads (9 bytes, RFC 9113 section 4.1) ──▶ allowance of frames  ◀── time, bodies, answers
//!                                      └──── RST_STREAM ────▶ allowance of resets  ◀── time
//! ```
//!
//! The crate `h2` bounds what a flood can make it hold; this bounds what it can make us do: PING, SETTINGS,
//! PRIORITY, WINDOW_UPDATE and CONTINUATION floods, empty DATA, rapid reset (CVE-2023-44487, CVE-2024-27316).
//!
//! Not here: what a frame means. Time is an argument.

use crate::base::clock::Moment;
use crate::http::http2::PREFACE;

/// How many frames and resets are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowances {
    pub frames: Allowance,
    pub resets: Allowance,
    /// Body bytes, either way, that pay for one frame.
    pub bytes_per_frame: usize,
    /// Frames that an answer, or a piece of one, pays for.
    pub frames_per_answer: u32,
}

/// A bucket: so many at once, and so many more each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub at_once: u32,
    pub per_second: u32,
}

/// What a client sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    Frames,
    Resets,
}

const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
/// Of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

/// What has come on one connection.
#[derive(Debug)]
pub struct Meter {
    allowances: Allowances,
    frames: Bucket,
    resets: Bucket,
    /// The head of the next frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Bytes of the payload at hand that are still to come.
    payload: usize,
    /// When the head of the request that is not whole yet began.
    block: Option<Moment>,
}

impl Meter {
    /// For a connection of which nothing has been read, its preface included.
    pub const fn new(allowances: Allowances, now: Moment) -> Self {
        Self {
            allowances,
            frames: Bucket::full(allowances.frames, now),
            resets: Bucket::full(allowances.resets, now),
            head: [0; HEAD_BYTES],
            filled: 0,
            payload: PREFACE.len(),
            block: None,
        }
    }

    /// Takes note of the next bytes; a cut anywhere changes nothing.
    ///
    /// # Errors
    /// The flood, with the frame that passes its allowance.
    pub fn receive(&mut self, mut bytes: &[u8], now: Moment) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let passed = self.payload.min(bytes.len());
            self.payload -= passed;
            let wanted = if self.payload == 0 { HEAD_BYTES - self.filled } else { 0 };
            let taken = wanted.min(bytes.len() - passed);
            // Both are inside: taken <= HEAD_BYTES - filled, and passed + taken <= bytes.len().
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[passed..passed + taken]);
            self.filled += taken;
            bytes = &bytes[passed + taken..];
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                self.frame(now)?;
            }
        }
        Ok(())
    }

    /// A frame head is whole.
    fn frame(&mut self, now: Moment) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 => self.block = None,
            HEADERS => self.block = Some(now),
            DATA => self.frames.put(self.pays(self.payload)),
            RST_STREAM => self.reset(now)?,
            _ => {}
        }
        if self.frames.take(now) { Ok(()) } else { Err(Flood::Frames) }
    }

    /// A stream is given up, by the client or, for what it sent, by us (CVE-2025-8671).
    ///
    /// # Errors
    /// Where it is one too many.
    pub fn reset(&mut self, now: Moment) -> Result<(), Flood> {
        if self.resets.take(now) { Ok(()) } else { Err(Flood::Resets) }
    }

    /// An answer, or a piece of one, left with so many bytes of body.
    pub fn answer(&mut self, bytes: usize) {
        self.frames.put(self.allowances.frames_per_answer.saturating_add(self.pays(bytes)));
    }

    /// When a request head began that has not ended.
    pub const fn unfinished_head(&self) -> Option<Moment> {
        self.block
    }

    fn pays(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / self.allowances.bytes_per_frame.max(1)).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    allowance: Allowance,
    left: u32,
    /// Up to when time has filled it.
    filled: Moment,
}

impl Bucket {
    const fn full(allowance: Allowance, now: Moment) -> Self {
        Self { allowance, left: allowance.at_once, filled: now }
    }

    fn put(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.allowance.at_once);
    }

    fn take(&mut self, now: Moment) -> bool {
        let step = 1_000_000_000 / u64::from(self.allowance.per_second.max(1));
        let steps = now.nanos_since(self.filled) / step;
        if steps > 0 {
            // What is left of a step goes on counting.
            self.filled = Moment::from_nanos(self.filled.as_nanos() + steps * step);
            self.put(u32::try_from(steps).unwrap_or(u32::MAX));
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCES: Allowances = Allowances {
        frames: Allowance { at_once: 10, per_second: 10 },
        resets: Allowance { at_once: 3, per_second: 1 },
        bytes_per_frame: 100,
        frames_per_answer: 2,
    };

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0xff; payload]].concat()
    }

    fn meter() -> Meter {
        let mut meter = Meter::new(ALLOWANCES, at(0));
        meter.receive(PREFACE, at(0)).unwrap();
        meter
    }

    /// How many of a frame pass at once.
    fn borne(frame: &[u8]) -> usize {
        let mut meter = meter();
        (0..100).find(|_| meter.receive(frame, at(0)).is_err()).unwrap_or(100)
    }

    #[test]
    fn frames_that_bring_nothing_are_counted_whatever_they_are() {
        for (kind, payload) in [(0, 0), (0, 99), (2, 5), (4, 0), (6, 8), (8, 4), (9, 50), (200, 3)] {
            assert_eq!(borne(&frame(kind, END_HEADERS, payload)), 10, "type {kind}");
        }
        assert_eq!(borne(&frame(DATA, 0, 100)), 100);
        assert_eq!(borne(&frame(RST_STREAM, 0, 4)), 3);
    }

    #[test]
    fn time_and_answers_pay() {
        let mut meter = meter();
        // Without a payload: what follows a flood is not looked at.
        let ping = frame(6, 0, 0);
        for _ in 0..10 {
            meter.receive(&ping, at(0)).unwrap();
        }
        assert_eq!(meter.receive(&ping, at(99)), Err(Flood::Frames));
        assert_eq!(meter.receive(&ping, at(100)), Ok(()));
        assert_eq!(meter.receive(&ping, at(150)), Err(Flood::Frames));
        meter.answer(250);
        for _ in 0..4 {
            meter.receive(&ping, at(150)).unwrap();
        }
        assert_eq!(meter.receive(&ping, at(150)), Err(Flood::Frames));
        // No more than the bucket holds, however long it was.
        (0..10).for_each(|_| meter.receive(&ping, at(1_000_000)).unwrap());
        assert_eq!(meter.receive(&ping, at(1_000_000)), Err(Flood::Frames));
    }

    #[test]
    fn streams_that_we_give_up_count_like_resets() {
        let mut meter = meter();
        meter.receive(&frame(RST_STREAM, 0, 4), at(0)).unwrap();
        meter.reset(at(0)).unwrap();
        meter.reset(at(0)).unwrap();
        assert_eq!(meter.reset(at(0)), Err(Flood::Resets));
    }

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        let bytes = [frame(DATA, 0, 5), frame(HEADERS, 0, 7), frame(CONTINUATION, 0, 0)].concat();
        for step in 1..bytes.len() {
            let mut meter = Meter::new(ALLOWANCES, at(0));
            for piece in [PREFACE, &bytes].concat().chunks(step) {
                meter.receive(piece, at(7)).unwrap();
            }
            assert_eq!((meter.frames.left, meter.unfinished_head()), (7, Some(at(7))), "step {step}");
            meter.receive(&frame(CONTINUATION, END_HEADERS, 3), at(9)).unwrap();
            assert_eq!(meter.unfinished_head(), None);
        }
    }
}
