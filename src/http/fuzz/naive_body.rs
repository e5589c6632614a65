//! A second decoder of chunked bodies and a second reader of event streams; see [`super::naive`].
//!
//! Not here: anything that the gateway runs. May not know: the codecs' code.

use crate::http::chunked::ChunkLimits;
use crate::http::fuzz::naive::Verdict;
use crate::http::fuzz::naive::critical;
use crate::http::fuzz::naive::disguised;
use crate::http::fuzz::naive::field;
use crate::http::fuzz::naive::find;
use crate::http::fuzz::naive::lower;
use crate::http::fuzz::naive::visible_or_blank;
use crate::http::fuzz::naive::without_blanks;

/// The body and the bytes used.
pub(super) fn chunked(data: &[u8], limits: ChunkLimits) -> Verdict<(Vec<u8>, usize)> {
    let (mut body, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let Some(line) = find(&data[at..], b"\r\n").map(|end| &data[at..at + end]) else {
            return Verdict::Unfinished;
        };
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let extension = &line[digits..];
        extensions += extension.len();
        let announced = extension.is_empty() || without_blanks(extension).starts_with(b";");
        if !(1..=16).contains(&digits)
            || !announced
            || !visible_or_blank(extension)
            || line.len() > limits.line_bytes
            || extensions > limits.extension_bytes
        {
            return Verdict::Refused;
        }
        at += line.len() + 2;
        let text = String::from_utf8_lossy(&line[..digits]);
        let Ok(size) = usize::from_str_radix(&text, 16) else { return Verdict::Refused };
        if size == 0 {
            return trailers(data, at, limits).map_whole(|used| (body, used));
        }
        let rest = &data[at..];
        match size.checked_add(2) {
            Some(needed) if needed <= rest.len() => {}
            _ => {
                let after = rest.get(size..).unwrap_or(&[]);
                return if b"\r\n".starts_with(after) { Verdict::Unfinished } else { Verdict::Refused };
            }
        }
        if &rest[size..size + 2] != b"\r\n" {
            return Verdict::Refused;
        }
        body.extend_from_slice(&rest[..size]);
        at += size + 2;
    }
}

impl<T> Verdict<T> {
    fn map_whole<U>(self, change: impl FnOnce(T) -> U) -> Verdict<U> {
        match self {
            Self::Refused => Verdict::Refused,
            Self::Unfinished => Verdict::Unfinished,
            Self::Whole(whole) => Verdict::Whole(change(whole)),
        }
    }
}

fn trailers(data: &[u8], mut at: usize, limits: ChunkLimits) -> Verdict<usize> {
    let (start, mut count) = (at, 0);
    while let Some(end) = find(&data[at..], b"\r\n") {
        let line = &data[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Verdict::Whole(at);
        }
        count += 1;
        let allowed =
            field(line).is_some_and(|(name, _)| critical(&lower(&name)).is_none() && !disguised(&name));
        if !allowed || count > limits.trailer_fields || at - start > limits.trailer_bytes {
            return Verdict::Refused;
        }
    }
    Verdict::Unfinished
}

fn stream_lines(stream: &[u8]) -> Vec<u8> {
    let text: Vec<char> = stream.iter().map(|byte| char::from(*byte)).collect();
    let text: String = text.into_iter().collect();
    text.replace("\r\n", "\n").replace('\r', "\n").chars().map(|c| u8::try_from(c).unwrap_or(0)).collect()
}

/// After an empty line or before everything, and not behind a CR.
pub(super) fn at_boundary(stream: &[u8]) -> bool {
    let lines = stream_lines(stream);
    !stream.ends_with(b"\r") && (lines.is_empty() || lines == b"\n" || lines.ends_with(b"\n\n"))
}

/// The events of a stream: their fields in order, comments left out.
pub(super) fn events(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let lines = stream_lines(stream);
    let mut all = vec![Vec::new()];
    for line in lines.split(|byte| *byte == b'\n') {
        match (line.first(), all.last_mut()) {
            (None, Some(last)) if !last.is_empty() => all.push(Vec::new()),
            (Some(byte), Some(last)) if *byte != b':' => last.push(line.to_vec()),
            _ => {}
        }
    }
    all
}
