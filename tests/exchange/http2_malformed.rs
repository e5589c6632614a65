//! Requests that RFC 9113 section 8 calls malformed: an error of the stream, or of the connection where the crate
//! makes it one, and nothing at the upstream (hardening, HTTP/2).
//!
//! Not here: what is refused with an answer, as in HTTP/1.1 (http2).

use crate::support::call::Raw;
use crate::support::http2;
use crate::support::http2::Http2;
use crate::support::http2::fields;
use crate::support::on_every_driver;
use crate::support::upstream::upstream;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One change of a request that is right.
enum Change {
    /// In front of all others.
    First(&'static [u8], &'static [u8]),
    /// Behind all others.
    Last(&'static [u8], &'static [u8]),
    /// Another value for a name.
    Set(&'static [u8], &'static [u8]),
    Drop(&'static [u8]),
}

use Change::Drop as Without;
use Change::First;
use Change::Last;
use Change::Set;

const TABLE: &[(&str, Change)] = &[
    ("upper-case name", Last(b"X-Upper", b"1")),
    ("space in a name", Last(b"x y", b"1")),
    ("colon in a name", Last(b"x:y", b"1")),
    ("empty name", Last(b"", b"1")),
    ("CR LF in a name", Last(b"x\r\ny", b"1")),
    ("not ASCII in a name", Last(b"x\xc3\xa4", b"1")),
    ("CR LF in a value", Last(b"x", b"1\r\nx-smuggled: 1")),
    ("CR in a value", Last(b"x", b"1\r2")),
    ("LF in a value", Last(b"x", b"1\n2")),
    ("NUL in a value", Last(b"x", b"1\x002")),
    ("control character in a value", Last(b"x", b"1\x012")),
    ("DEL in a value", Last(b"x", b"1\x7f2")),
    ("blank before a value", Last(b"x", b" 1")),
    ("blank behind a value", Last(b"x", b"1 ")),
    ("tab behind a value", Last(b"x", b"1\t")),
    ("connection", Last(b"connection", b"close")),
    ("connection that names a field", Last(b"connection", b"mcp-name")),
    ("transfer-encoding", Last(b"transfer-encoding", b"chunked")),
    ("upgrade", Last(b"upgrade", b"h2c")),
    ("keep-alive", Last(b"keep-alive", b"timeout=5")),
    ("proxy-connection", Last(b"proxy-connection", b"close")),
    ("te other than trailers", Last(b"te", b"gzip")),
    ("te with more than trailers", Last(b"te", b"trailers, gzip")),
    (":method missing", Without(b":method")),
    (":scheme missing", Without(b":scheme")),
    (":path missing", Without(b":path")),
    (":authority missing, and no host", Without(b":authority")),
    (":method twice", First(b":method", b"POST")),
    (":scheme twice", First(b":scheme", b"http")),
    (":path twice", First(b":path", b"/mcp/other")),
    (":authority twice", First(b":authority", b"evil.example")),
    (":path after a field", Last(b":path", b"/mcp/up")),
    (":authority after a field", Last(b":authority", b"127.0.0.1")),
    ("unknown pseudo-field", First(b":unknown", b"1")),
    (":status in a request", First(b":status", b"200")),
    (":protocol without CONNECT", First(b":protocol", b"websocket")),
    ("CONNECT", Set(b":method", b"CONNECT")),
    (":method with a space", Set(b":method", b"PO ST")),
    (":method empty", Set(b":method", b"")),
    (":scheme of another protocol", Set(b":scheme", b"ftp")),
    (":path empty", Set(b":path", b"")),
    (":path *", Set(b":path", b"*")),
    (":path without a slash", Set(b":path", b"mcp/up")),
    (":path of absolute form", Set(b":path", b"http://127.0.0.1/mcp/up")),
    (":path with a space", Set(b":path", b"/mcp/up HTTP/1.1")),
    (":path with CR LF", Set(b":path", b"/mcp/up HTTP/1.1\r\nx-smuggled: 1\r\n\r\n")),
    (":path with NUL", Set(b":path", b"/mcp/up\0")),
    (":authority with userinfo", Set(b":authority", b"user@127.0.0.1")),
    (":authority with a path", Set(b":authority", b"127.0.0.1/mcp")),
    (":authority with a comma", Set(b":authority", b"127.0.0.1,127.0.0.1")),
    (":authority empty", Set(b":authority", b"")),
    (":authority that disagrees with host", Last(b"host", b"evil.example")),
    ("content-length too small", Last(b"content-length", b"5")),
    ("content-length too large", Last(b"content-length", b"50000")),
    ("content-length zero before a body", Last(b"content-length", b"0")),
    ("content-length no number", Last(b"content-length", b"0x10")),
    ("content-length signed", Last(b"content-length", b"+10")),
    ("content-length as a list", Last(b"content-length", b"10, 10")),
    ("content-length past 64 bits", Last(b"content-length", b"18446744073709551626")),
];

fn changed(mut fields: Fields, change: &Change) -> Fields {
    match change {
        First(name, value) => fields.insert(0, (name.to_vec(), value.to_vec())),
        Last(name, value) => fields.push((name.to_vec(), value.to_vec())),
        Set(name, value) => {
            fields.iter_mut().filter(|field| field.0 == *name).for_each(|field| field.1 = value.to_vec())
        }
        Without(name) => fields.retain(|field| field.0 != *name),
    }
    fields
}

/// The fields of a request, with a length of its body.
fn announcing(raw: &Raw, length: usize) -> Fields {
    let mut list = fields(raw);
    list.push((b"content-length".to_vec(), length.to_string().into_bytes()));
    list
}

#[test]
fn http2_malformed_requests() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let mut failed = Vec::new();
        for (name, change) in TABLE {
            let mut client = Http2::connect(gw.address);
            let raw = gw.modern("up", "echo").raw();
            let stream = client.head(0, &changed(fields(&raw), change));
            client.frame(http2::DATA, http2::END_STREAM, stream, &raw.body);
            client.until(|client| client.stream(stream).is_over() || client.closed);
            let (answer, code) = (client.stream(stream).clone(), client.goaway);
            let of_stream = answer.reset == Some(http2::PROTOCOL_ERROR) && answer.status == 0;
            let of_connection = code.is_some_and(|code| code != http2::NO_ERROR);
            eprintln!("{name}: {answer:?} {code:?}");
            if !of_stream && !of_connection {
                failed.push(format!("{name}: {answer:?} {client:?}"));
            }
            if of_stream {
                // The connection goes on, and nothing of the stream is left in it.
                client.call(&gw.modern("up", "echo")).is_whole(200);
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(up.mentions("smuggled"), 0);
        assert_eq!(up.calls(), up.requests().iter().filter(|request| request.mentions("token-")).count());
    });
}

/// Two content-lengths, equal or not, and a body without an end that the client then resets.
#[test]
fn http2_lengths() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let call = gw.modern("up", "echo");
        let raw = call.raw();
        let length = raw.body.len().to_string().into_bytes();
        for second in [length.clone(), b"7".to_vec()] {
            let mut list = fields(&raw);
            list.push((b"content-length".to_vec(), length.clone()));
            list.push((b"content-length".to_vec(), second));
            let stream = client.head(0, &list);
            client.frame(http2::DATA, http2::END_STREAM, stream, &raw.body);
            client.answer(stream).is_reset(http2::PROTOCOL_ERROR);
        }
        let list = announcing(&raw, raw.body.len());
        for given_up in [true, false] {
            let stream = client.head(0, &list);
            client.frame(http2::DATA, 0, stream, &raw.body[..10]);
            if given_up {
                client.reset(stream);
                continue;
            }
            client.frame(http2::DATA, 0, stream, &raw.body[10..]);
            client.frame(http2::DATA, http2::END_STREAM, stream, &[]);
            assert!(client.answer(stream).is_whole(200).text().contains(&call.token));
        }
        up.once(&call.token);
    });
}

/// A request is not served before its stream has ended: the frame that is still to come may show that it is longer
/// than its head says. Once it answered "The body is empty" to a length of zero in front of a body.
#[test]
fn regression_http2_a_length_is_believed_at_the_end() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let call = gw.modern("up", "echo");
        let raw = call.raw();
        for (length, last, is_right) in
            [(0, raw.body.as_slice(), false), (raw.body.len(), b" ", false), (raw.body.len(), b"", true)]
        {
            let stream = client.head(0, &announcing(&raw, length));
            client.frame(http2::DATA, 0, stream, &raw.body[..length]);
            // By then the stream before it has had its turns.
            client.call(&gw.modern("up", "echo")).is_whole(200);
            assert_eq!((client.stream(stream).status, up.mentions(&call.token)), (0, 0), "{length}");
            client.frame(http2::DATA, http2::END_STREAM, stream, last);
            if is_right {
                client.answer(stream).is_whole(200);
            } else {
                client.answer(stream).is_reset(http2::PROTOCOL_ERROR);
            }
        }
        up.once(&call.token);
    });
}

/// Who announces nothing and never says that it was all is answered in the time that a head may take.
#[test]
fn http2_an_end_that_never_comes() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("headerTimeout: 300ms").to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let stream = client.head(0, &announcing(&gw.modern("up", "echo").raw(), 0));
        client.answer(stream).is_whole(408);
        assert_eq!(up.calls(), 0);
        client.call(&gw.modern("up", "echo")).is_whole(200);
    });
}

/// What HTTP/2 allows and other servers know: an empty te, cookies in pieces, trailers, padding, priorities.
#[test]
fn http2_unusual_requests() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let call = gw.modern("up", "echo");
        let raw = call.raw();
        let mut list = fields(&raw);
        for (name, value) in
            [("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2"), ("host", &gw.address.to_string())]
        {
            list.push((name.into(), value.into()));
        }
        let stream = client.head(0, &list);
        client.frame(http2::PRIORITY, 0, stream, &[0, 0, 0, 0, 200]);
        let padded = [&[3], raw.body.as_slice(), &[0; 3]].concat();
        client.frame(http2::DATA, 8, stream, &padded);
        let trailers = http2::block(&[(b"x-trailer", b"1"), (b"content-length", b"1")]);
        client.frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, stream, &trailers);
        assert!(client.answer(stream).is_whole(200).text().contains(&call.token));
        let seen = up.once(&call.token);
        assert!(seen.head.field("x-trailer").is_none() && seen.head.field("te").is_none(), "{seen:?}");
        assert!(seen.head.field("cookie").is_none(), "{seen:?}");
        let expecting = raw.field("expect: 100-continue");
        let stream = client.head(0, &fields(&expecting));
        client.until(|client| client.stream(stream).interim == [100]);
        client.frame(http2::DATA, http2::END_STREAM, stream, &expecting.body);
        client.answer(stream).is_whole(200);
    });
}
