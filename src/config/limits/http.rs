//! Bounds of HTTP heads and of HTTP/2.
//!
//! Not here: bodies, connections and times, which are the same for both versions (`limits`).

// --- HTTP heads ---------------------------------------------------------------------------------

/// Default of `http.maxHead`: request line and fields together. Envoy's edge guide and nginx's
/// defaults (4 × 8 KiB) meet here. Past it: 431 (414 if the target alone is over), close.
pub const HEAD_BYTES_DEFAULT: usize = 32 * 1024;
/// Highest `http.maxHead` that a config may ask for; the largest pooled head buffer.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Longest request target. RFC 9110 section 4.1 asks for at least 8,000. Past it: 414, close.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Fields of one head. Apache and nginx stop near 100; clients of MCP send about 15. Past it: 431.
pub const FIELDS_MAX: usize = 128;
/// Empty lines before a request line: RFC 9112 section 2.2 asks for one. Past it: 400, close.
pub const LEADING_CRLF_MAX: usize = 1;
/// Head of an upstream's answer. Past it: 502.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// 1xx answers before the final one. Past it: 502.
pub const INTERIM_ANSWERS_MAX: usize = 16;

// --- HTTP/2 -------------------------------------------------------------------------------------

/// Streams of one connection at a time; RFC 9113 section 6.5.2 asks for at least 100. Past it: REFUSED_STREAM.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Request body that a client may send on one stream ahead of us: more than distance and speed of most clients need
/// (100 ms at 20 Mbit/s), because whatever serves the call reads it at once.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same over all streams of a connection: what one connection can make us hold while `BODY_BUDGET_BYTES` is used up.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Of one answer, in the frames that wait for the client's window or its socket.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 16 * 1024;
/// Of one request or answer, in the kernel, between a stream and the call that serves it.
pub const HTTP2_LANE_BYTES: usize = 16 * 1024;
/// Lanes that a connection keeps for its next streams. Past it the one that comes back is closed.
pub const HTTP2_LANES_IDLE_MAX: usize = 8;
/// A lane without a stream ends after this long, so that an idle connection does not hold its calls' places.
pub const HTTP2_LANE_IDLE_MS: u64 = 2_000;
/// Frames that bring neither a body nor follow an answer (PING, SETTINGS, WINDOW_UPDATE, empty DATA, CONTINUATION, …):
/// at once, and more each second. Opening and cancelling all streams takes 256. Past it: GOAWAY, close.
pub const HTTP2_FRAMES_AT_ONCE: u32 = 2_000;
pub const HTTP2_FRAMES_PER_SECOND: u32 = 200;
/// Body bytes, either way, that pay for one frame.
pub const HTTP2_BYTES_PER_FRAME: usize = 64;
/// Frames that an answer, or a piece of one, pays for: a call takes about 5, and some clients acknowledge each DATA
/// with two WINDOW_UPDATE.
pub const HTTP2_FRAMES_PER_ANSWER: u32 = 8;
/// Streams that the client resets, or that we reset for what it sent: at once, and more each second. A client may
/// cancel all that it has, and do it again. Past it: GOAWAY, close (CVE-2023-44487, CVE-2025-8671).
pub const HTTP2_RESETS_AT_ONCE: u32 = 2 * HTTP2_STREAMS_MAX;
pub const HTTP2_RESETS_PER_SECOND: u32 = 50;
/// Streams that the crate `h2` resets on one connection for what was sent on them. A client that opens more than
/// `HTTP2_STREAMS_MAX` before it has read our SETTINGS makes two of each. Past it: GOAWAY, close.
pub const HTTP2_FAULTS_MAX: usize = 1_024;
/// Bytes of HPACK's table, each way (RFC 9113 section 6.5.2, the initial value).
pub const HTTP2_HEADER_TABLE_BYTES: u32 = 4096;
