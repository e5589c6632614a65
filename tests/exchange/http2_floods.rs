//! HTTP/2 connections that ask for much and bring little: each is ended, is counted, and harms nobody else.
//!
//! Not here: malformed requests (http2_malformed), windows that stay shut (http2).

use crate::support::Run;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http2;
use crate::support::http2::Http2;
use crate::support::http2::block;
use crate::support::http2::fields;
use crate::support::http2::frame;
use crate::support::http2::integer;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

fn scene(run: Run, http: &str) -> (Upstream, Gateway) {
    let up = upstream().tool("echo").on("silent", script::watched(b"").0).run();
    let gw = run.gateway().workers(1).http(http).to("up", &up).run();
    (up, gw)
}

/// Sends the frames until the gateway takes no more, then reads why.
#[track_caller]
fn flood(client: &mut Http2, frames: &[u8], times: usize) -> Option<u32> {
    let many = frames.repeat(100);
    for _ in 0..times.div_ceil(100) {
        if !client.send(&many) {
            break;
        }
    }
    client.until_closed()
}

fn hits(gw: &Gateway, bound: &str) -> f64 {
    gw.metric("ringgate_bound_hits_total", &[&format!("bound=\"{bound}\"")])
}

/// Another connection, of the same worker, is served all the while.
#[track_caller]
fn others_are_served(gw: &Gateway) {
    let call = gw.modern("up", "echo");
    assert!(Http2::connect(gw.address).call(&call).is_whole(200).text().contains(&call.token));
    assert_eq!(gw.modern("up", "echo").send().status, 200);
}

/// CVE-2023-44487: streams that are opened and reset at once. Those that were let through reach the upstream, and no
/// more than may be reset at once.
#[test]
fn http2_rapid_reset() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxBody: 64KiB");
        let mut client = Http2::connect(gw.address);
        let raw = gw.modern("up", "silent").raw();
        let mut begun = 0;
        for _ in 0..5_000 {
            let stream = client.number();
            let list = fields(&raw);
            let list: Vec<_> = list.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
            let request = [
                frame(http2::HEADERS, http2::END_HEADERS, stream, &block(&list)),
                frame(http2::DATA, http2::END_STREAM, stream, &raw.body),
                frame(http2::RST_STREAM, 0, stream, &http2::CANCEL.to_be_bytes()),
            ];
            if !client.send(&request.concat()) {
                break;
            }
            begun += 1;
        }
        assert_eq!(client.until_closed(), Some(http2::ENHANCE_YOUR_CALM), "after {begun}");
        assert!(up.calls() <= 600, "{} calls reached the upstream", up.calls());
        drop(client);
        eventually("counted", || hits(&gw, "http2_resets") + hits(&gw, "http2_frames") == 1.0);
        others_are_served(&gw);
    });
}

/// A client that cancels all it has, twice, is no attacker.
#[test]
fn http2_many_cancels() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxBody: 64KiB");
        let mut client = Http2::connect(gw.address);
        for _ in 0..2 {
            let calls: Vec<_> = (0..100).map(|_| gw.modern("up", "silent")).collect();
            let streams: Vec<u32> = calls.iter().map(|call| client.open(call)).collect();
            calls.iter().for_each(|call| up.until_called(&call.token));
            streams.into_iter().for_each(|stream| client.reset(stream));
        }
        client.call(&gw.modern("up", "echo")).is_whole(200);
        assert_eq!(hits(&gw, "http2_resets"), 0.0);
    });
}

/// The same by a client that waits until each call has reached the upstream, as no client does that means its calls.
#[test]
fn http2_cancels_without_end() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxBody: 64KiB");
        let mut client = Http2::connect(gw.address);
        for _ in 0..40 {
            let calls: Vec<_> = (0..50).map(|_| gw.modern("up", "silent")).collect();
            let streams: Vec<u32> = calls.iter().map(|call| client.open(call)).collect();
            calls.iter().for_each(|call| up.until_called(&call.token));
            streams.into_iter().for_each(|stream| client.reset(stream));
            if !client.lives() {
                break;
            }
        }
        assert_eq!(client.until_closed(), Some(http2::ENHANCE_YOUR_CALM));
        assert_eq!(hits(&gw, "http2_resets"), 1.0);
        assert!(up.calls() <= 500, "{} calls reached the upstream", up.calls());
        others_are_served(&gw);
    });
}

/// CVE-2025-8671: a client that resets nothing, and makes the gateway do it, by a window that is wrong on its stream alone. It
/// waits for each reset, so that nothing but their number tells it from a client of good will.
#[test]
fn http2_made_to_reset() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxBody: 64KiB");
        let mut client = Http2::connect(gw.address);
        let mut resets = 0;
        while client.goaway().is_none() && resets < 2_000 {
            let call = gw.modern("up", "silent");
            let stream = client.open(&call);
            // RFC 9113 section 6.9.1: more than a window can hold.
            client.frame(http2::WINDOW_UPDATE, 0, stream, &[0x7f, 255, 255, 255]);
            client.until(|client| client.stream(stream).reset.is_some() || client.goaway().is_some());
            resets += 1;
        }
        assert_eq!(client.until_closed(), Some(http2::ENHANCE_YOUR_CALM), "after {resets}");
        assert!(up.calls() <= 500, "{} calls reached the upstream", up.calls());
        drop(client);
        eventually("counted", || hits(&gw, "http2_resets") + hits(&gw, "http2_frames") == 1.0);
        others_are_served(&gw);
    });
}

/// CVE-2024-27316: a header block without end, in many pieces or in one and then silence.
#[test]
fn http2_continuation_flood() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "headerTimeout: 400ms");
        for piece in [b"".to_vec(), block(&[(b"a", b"1")]), block(&[(b"b", &[b'v'; 4_000])])] {
            let mut client = Http2::connect(gw.address);
            client.frame(http2::HEADERS, 0, 1, &block(&[(b":method", b"POST")]));
            let code = flood(&mut client, &frame(http2::CONTINUATION, 0, 1, &piece), 20_000);
            assert!(code.is_some_and(|code| code != http2::NO_ERROR), "{code:?}: {} bytes each", piece.len());
        }
        eventually("counted", || hits(&gw, "http2_frames") >= 2.0);
        let mut client = Http2::connect(gw.address).greeted();
        client.frame(http2::HEADERS, 0, 1, &block(&[(b":method", b"POST")]));
        let start = Instant::now();
        assert_eq!(client.until_closed(), Some(http2::ENHANCE_YOUR_CALM));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(up.requests().len(), 0);
        others_are_served(&gw);
    });
}

/// Frames that bring nothing, of every kind.
#[test]
fn http2_empty_frames() {
    on_every_driver(|run| {
        let (_up, gw) = scene(run, "headerTimeout: 5s");
        let table = [
            ("PING", frame(http2::PING, 0, 0, &[7; 8])),
            ("SETTINGS", frame(http2::SETTINGS, 0, 0, &[])),
            ("PRIORITY", frame(http2::PRIORITY, 0, 1, &[0, 0, 0, 0, 9])),
            ("WINDOW_UPDATE", frame(http2::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
            ("DATA", frame(http2::DATA, 0, 1, &[])),
            ("DATA of padding", frame(http2::DATA, 8, 1, &[0])),
            ("DATA of one byte", frame(http2::DATA, 0, 1, b" ")),
            ("unknown", frame(0xbe, 0, 1, &[0; 40])),
        ];
        for (index, (name, bytes)) in table.iter().enumerate() {
            let mut client = Http2::connect(gw.address);
            // A request whose body does not end.
            assert_eq!(client.head(0, &fields(&gw.modern("up", "echo").raw())), 1);
            let code = flood(&mut client, bytes, 50_000);
            assert_eq!(code, Some(http2::ENHANCE_YOUR_CALM), "{name}");
            drop(client);
            eventually(name, || hits(&gw, "http2_frames") == (index + 1) as f64);
        }
        others_are_served(&gw);
    });
}

/// One large field in the table, and a byte for each time that it is meant: what unpacks to megabytes is refused.
#[test]
fn http2_header_bomb() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxHead: 16KiB");
        for repeats in [100, 16_000] {
            let mut client = Http2::connect(gw.address);
            let mut bomb = block(&[
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/mcp/up"),
                (b":authority", gw.address.to_string().as_bytes()),
            ]);
            // A literal that the table keeps: its first entry, 62.
            bomb.extend_from_slice(&[0x40, 1, b'x']);
            integer(&mut bomb, 0x7f, 3_000);
            bomb.extend_from_slice(&[b'v'; 3_000]);
            bomb.extend_from_slice(&vec![0x80 | 62; repeats]);
            let flags = http2::END_HEADERS | http2::END_STREAM;
            for (index, piece) in bomb.chunks(16_000).enumerate() {
                let last = (index + 1) * 16_000 >= bomb.len();
                let kind = if index == 0 { http2::HEADERS } else { http2::CONTINUATION };
                client.frame(kind, if last { flags } else { 0 }, 1, piece);
            }
            client.until(|client| client.stream(1).is_over() || client.closed);
            let answer = client.stream(1);
            assert!(client.goaway.is_some() || answer.status == 431, "{repeats}: {client:?} {answer:?}");
        }
        assert_eq!(up.requests().len(), 0);
        others_are_served(&gw);
    });
}

/// More streams than are allowed at once: the surplus is refused, the others are served.
#[test]
fn http2_streams_have_a_bound() {
    on_every_driver(|run| {
        let (up, gw) = scene(run, "maxBody: 64KiB");
        let mut client = Http2::connect(gw.address);
        let calls: Vec<_> = (0..200).map(|_| gw.modern("up", "silent")).collect();
        let streams: Vec<u32> = calls.iter().map(|call| client.open(call)).collect();
        let refused = |client: &Http2| {
            streams
                .iter()
                .filter(|stream| client.stream(**stream).reset == Some(http2::REFUSED_STREAM))
                .count()
        };
        client.until(|client| refused(client) == 200 - 128);
        calls[..128].iter().for_each(|call| up.until_called(&call.token));
        assert_eq!(up.calls(), 128);
        others_are_served(&gw);
    });
}

/// Frames at random, most of them nearly right: whatever becomes of the connection, nobody else notices.
#[test]
fn http2_random_frames() {
    on_every_driver(|run| {
        let (_up, gw) = scene(run, "headerTimeout: 500ms");
        let raw = gw.modern("up", "echo").raw();
        let list = fields(&raw);
        let list: Vec<_> = list.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let good = block(&list);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..size(60, 3_000) {
            let mut client = Http2::connect(gw.address);
            for step in 0..40 {
                let stream = [0, 1, 3, 2 * step + 1, 2, 0x7fff_ffff][random.below(6)];
                let mut payload = match random.below(3) {
                    0 => good.clone(),
                    1 => raw.body.clone(),
                    _ => (0..random.below(20)).map(|_| random.byte()).collect(),
                };
                if random.below(4) == 0 && !payload.is_empty() {
                    let at = random.below(payload.len());
                    payload[at] = random.byte();
                }
                let flags = [0, 1, 4, 5, 0x2d, random.byte()][random.below(6)];
                if !client.frame(random.byte() % 11, flags, stream, &payload) {
                    break;
                }
            }
        }
        others_are_served(&gw);
    });
}

/// Xorshift: the same frames in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
