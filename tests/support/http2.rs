//! A client of HTTP/2 that writes frames byte by byte, so that it can write wrong ones, and reads just enough to know
//! what became of each stream. HPACK without a table: literals one way, and the status alone the other.
//!
//! Not here: a whole client. Real ones are in tests/peers.

use super::PATIENCE;
use super::call::Call;
use super::call::Raw;
use super::client::Link;
use super::tls::Secure;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::io::Read;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS; of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Window of a client that takes all it gets.
const WIDE: u32 = 0x4000_0000;

/// A header block: fields, each a literal that no table keeps (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0x7f, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 section 5.1.
pub fn integer(into: &mut Vec<u8>, most: u8, value: usize) {
    let Some(mut rest) = value.checked_sub(usize::from(most)) else {
        into.push(u8::try_from(value).unwrap());
        return;
    };
    into.push(most);
    while rest >= 128 {
        into.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    into.push(u8::try_from(rest).unwrap());
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a request of HTTP/1.1, as HTTP/2 has them.
pub fn fields(raw: &Raw) -> Vec<(Vec<u8>, Vec<u8>)> {
    let line = String::from_utf8(raw.line.clone()).unwrap();
    let [method, path, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path)];
    let mut fields: Vec<_> = pseudo.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    for field in &raw.fields {
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':').unwrap());
        let name = name.to_ascii_lowercase();
        let at = if name == b"host" { 0 } else { fields.len() };
        let name = if name == b"host" { b":authority".to_vec() } else { name };
        fields.insert(at, (name, value[1..].trim_ascii().to_vec()));
    }
    fields
}

/// What has come on one stream.
#[derive(Clone, Default)]
pub struct Stream {
    pub status: u16,
    pub interim: Vec<u16>,
    pub body: Vec<u8>,
    pub ended: bool,
    /// Error code of RST_STREAM.
    pub reset: Option<u32>,
    /// What the gateway takes beyond its initial window.
    window: i64,
}

/// Not all of a large body, for failed tests.
impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(300).collect();
        let Self { status, interim, ended, reset, .. } = self;
        write!(f, "{status} {interim:?} ended {ended} reset {reset:?} {} bytes {text}", self.body.len())
    }
}

impl Stream {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub struct Http2 {
    link: Link,
    buffer: Vec<u8>,
    next: u32,
    streams: BTreeMap<u32, Stream>,
    nothing: Stream,
    /// What the gateway takes on all streams, and on each at first.
    window: i64,
    initial: i64,
    /// Error code of the last GOAWAY.
    pub goaway: Option<u32>,
    pongs: usize,
    pub closed: bool,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.streams.iter().filter(|(_, stream)| !stream.is_over()).take(5);
        write!(f, "GOAWAY {:?}, open {:?}", self.goaway, open.collect::<Vec<_>>())
    }
}

impl Http2 {
    /// Takes all it gets.
    pub fn connect(address: SocketAddr) -> Self {
        Self::open_wide(plain(address))
    }

    /// The same over TLS, by ALPN.
    #[track_caller]
    pub fn secured(secure: &Secure, address: SocketAddr) -> Self {
        let mut session = secure.speaking(&[b"h2"]).try_connect(address).unwrap();
        assert_eq!(session.tls().alpn_protocol(), Some(&b"h2"[..]));
        Self::open_wide(Link::Secure(session))
    }

    /// Each stream has a window of so many bytes, and the connection the initial 65,535.
    pub fn with_window(address: SocketAddr, window: u32) -> Self {
        Self::over(plain(address), window)
    }

    fn open_wide(link: Link) -> Self {
        let mut client = Self::over(link, WIDE);
        client.give(0, WIDE);
        client
    }

    fn over(link: Link, window: u32) -> Self {
        let mut client = Self {
            link,
            buffer: Vec::new(),
            next: 1,
            streams: BTreeMap::new(),
            nothing: Stream::default(),
            window: 65_535,
            initial: 65_535,
            goaway: None,
            pongs: 0,
            closed: false,
        };
        // No table for what the gateway writes, and the window.
        let [a, b, c, d] = window.to_be_bytes();
        let settings = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 4, a, b, c, d]);
        client.send(&[PREFACE, &settings].concat());
        client
    }

    /// Reads the gateway's SETTINGS and acknowledges them, which may not stand between parts of a head.
    #[must_use]
    pub fn greeted(mut self) -> Self {
        self.until(|client| client.initial != 65_535);
        self
    }

    /// False where the gateway no longer takes it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.link.write_all(bytes).is_ok()
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// Widens a window; stream 0 is the connection.
    pub fn give(&mut self, stream: u32, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// The number of the next stream, which the caller opens.
    pub fn number(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Opens a stream with these fields.
    pub fn head(&mut self, flags: u8, fields: &[(Vec<u8>, Vec<u8>)]) -> u32 {
        let fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        fields.iter().for_each(|(name, value)| super::shown::field(name, value));
        let stream = self.number();
        let block = block(&fields);
        let pieces = block.chunks(16 * 1024);
        let (count, mut kind, mut flags) = (pieces.len(), HEADERS, flags);
        for (index, piece) in pieces.enumerate() {
            let last = if index + 1 == count { END_HEADERS } else { 0 };
            self.frame(kind, flags | last, stream, piece);
            (kind, flags) = (CONTINUATION, 0);
        }
        stream
    }

    /// Sends a whole request, in the session that the call names.
    pub fn open(&mut self, call: &Call) -> u32 {
        self.open_raw(&call.raw())
    }

    pub fn open_raw(&mut self, raw: &Raw) -> u32 {
        let stream = self.head(if raw.body.is_empty() { END_STREAM } else { 0 }, &fields(raw));
        let pieces = raw.body.chunks(16 * 1024);
        let count = pieces.len();
        for (index, piece) in pieces.enumerate() {
            if !self.may_send(stream, piece.len()) {
                break;
            }
            self.frame(DATA, if index + 1 == count { END_STREAM } else { 0 }, stream, piece);
        }
        stream
    }

    /// Waits for the windows of the gateway; false where the stream is over before they come.
    #[track_caller]
    fn may_send(&mut self, stream: u32, bytes: usize) -> bool {
        let bytes = bytes as i64;
        let fits =
            |client: &Self| client.window >= bytes && client.initial + client.stream(stream).window >= bytes;
        self.until(|client| fits(client) || client.stream(stream).is_over());
        self.window -= bytes;
        self.streams.entry(stream).or_default().window -= bytes;
        !self.stream(stream).is_over()
    }

    /// The whole answer to a call.
    #[track_caller]
    pub fn call(&mut self, call: &Call) -> Stream {
        let stream = self.open(call);
        self.answer(stream)
    }

    /// Reads until the stream has ended, well or not.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> Stream {
        self.until(|client| client.stream(stream).is_over() || client.closed);
        self.stream(stream).clone()
    }

    /// The code of the last GOAWAY that has come.
    pub fn goaway(&self) -> Option<u32> {
        self.goaway
    }

    /// What has come of it so far.
    pub fn stream(&self, stream: u32) -> &Stream {
        self.streams.get(&stream).unwrap_or(&self.nothing)
    }

    /// Reads until the condition holds.
    #[track_caller]
    pub fn until(&mut self, mut condition: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(!self.closed, "closed: {:?} {:?}", self.goaway, self.streams);
            assert!(
                self.step() && Instant::now() < end,
                "nothing more: {:?} {:?}",
                self.goaway,
                self.streams
            );
        }
    }

    /// Reads until the gateway closes; the code of its GOAWAY.
    #[track_caller]
    pub fn until_closed(&mut self) -> Option<u32> {
        self.until(|client| client.closed);
        self.goaway
    }

    /// Whether the connection lives on when all that was sent has been read.
    #[track_caller]
    pub fn lives(&mut self) -> bool {
        self.frame(PING, 0, 0, &[1; 8]);
        let before = self.pongs;
        self.until(|client| client.pongs > before || client.closed || client.goaway.is_some());
        self.goaway.is_none() && !self.closed
    }

    /// Whether the gateway leaves the connection open until nothing has come for so long.
    pub fn stays(&mut self, pause: Duration) -> bool {
        self.link.tcp().set_read_timeout(Some(pause)).unwrap();
        while self.step() && !self.closed {}
        self.link.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        !self.closed && self.goaway.is_none()
    }

    /// Reads once; false where nothing came in time.
    fn step(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.link.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => self.closed = true,
        }
        while let Some(length) = self
            .buffer
            .get(..3)
            .map(|head| usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]))
            && self.buffer.len() >= 9 + length
        {
            let frame: Vec<u8> = self.buffer.drain(..9 + length).collect();
            self.take(&frame);
        }
        true
    }

    fn take(&mut self, frame_bytes: &[u8]) {
        let (head, payload) = frame_bytes.split_at(9);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let window = payload.chunks(6).find(|setting| setting[..2] == [0, 4]);
                self.initial = window.map_or(self.initial, |setting| code_of(&setting[2..]));
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            WINDOW_UPDATE if stream == 0 => self.window += code_of(payload),
            WINDOW_UPDATE => self.streams.entry(stream).or_default().window += code_of(payload),
            PING if flags & ACK == 0 => drop(self.frame(PING, ACK, 0, payload)),
            PING => self.pongs += 1,
            GOAWAY => {
                self.goaway = Some(code(4));
            }
            DATA | HEADERS | RST_STREAM => {
                let entry = self.streams.entry(stream).or_default();
                match kind {
                    DATA => entry.body.extend_from_slice(payload),
                    HEADERS => match status(payload) {
                        interim @ ..200 => entry.interim.push(interim),
                        status => entry.status = status,
                    },
                    _ => drop(entry.reset.get_or_insert(code(0))),
                }
                entry.ended |= kind != RST_STREAM && flags & END_STREAM != 0;
            }
            _ => {}
        }
    }
}

impl Stream {
    /// Whether nothing more can come.
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }

    /// Panics unless it was answered whole.
    #[track_caller]
    pub fn is_whole(&self, status: u16) -> &Self {
        assert!(self.ended && self.status == status, "{self:?}");
        self
    }

    /// Panics unless it was reset with that code and is not whole.
    #[track_caller]
    pub fn is_reset(&self, code: u32) -> &Self {
        assert!(!self.ended && self.reset == Some(code), "{self:?}");
        self
    }
}

fn plain(address: SocketAddr) -> Link {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Link::Plain(stream)
}

fn code_of(payload: &[u8]) -> i64 {
    i64::from(u32::from_be_bytes(payload.try_into().unwrap()))
}

/// The status of an answer, which stands first: an entry of the static table, or three digits.
fn status(block: &[u8]) -> u16 {
    // Changes of the size of the table come before it.
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap()..];
    if block[0] & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(block[0] & 0x7f) - 8];
    }
    assert!(matches!(block[0], 0x48 | 0x08 | 0x18), "{block:02x?}");
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    let digits = if block[1] & 0x80 == 0 { String::from_utf8(text.to_vec()).unwrap() } else { huffman(text) };
    digits.parse().unwrap()
}

/// Three digits in the code of RFC 7541 appendix B: five bits for 0 to 2, six for the others.
fn huffman(text: &[u8]) -> String {
    let bits = text.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (32 - 8 * text.len());
    let mut at = 0;
    let mut next = || {
        let five = bits << at >> 27;
        let (digit, length) = if five < 3 { (five, 5) } else { ((bits << at >> 26) - 0x19 + 3, 6) };
        at += length;
        char::from_digit(digit, 10).unwrap()
    };
    [next(), next(), next()].into_iter().collect()
}
