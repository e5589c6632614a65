//! Sending one request on one connection, and noticing an answer that comes before it was sent whole.
//!
//! Not here: retries. The caller learns whether any byte was handed to the socket, because only a request of
//! which none was may be sent again (at most once).

use crate::base::buffer::Buffer;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::net::stream::Stream;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

/// How far a request got.
#[derive(Debug)]
pub enum Sent {
    /// The kernel has all of it, since then.
    Whole(Moment),
    /// The peer answered (or closed) first; the connection may carry that answer and nothing after it.
    AnsweredEarly,
    /// Nothing was handed over: it may be sent on another connection.
    Nothing(io::Error),
    /// Some of it was handed over: it may have happened, it is never sent again.
    Part(io::Error),
}

/// Sends a request that fits one pooled buffer: through the ring, where the sends of one turn go together, and the
/// wait for the answer begins with it. A server that takes nothing while it answers early is met only by larger
/// requests; see [`send`].
///
/// `races`: the caller waits for the answer itself, beside another's.
pub async fn send_small(
    stream: &mut Stream,
    buffer: Buffer,
    range: Range<usize>,
    races: bool,
) -> (Sent, Buffer) {
    let (result, buffer) = if races {
        let (result, buffer) = stream.write(buffer, range).await;
        (result.map(|()| clock::now()), buffer)
    } else {
        stream.ask(buffer, range).await
    };
    let sent = match result {
        Ok(at) => Sent::Whole(at),
        Err(cut) if cut.written == 0 => Sent::Nothing(cut.error),
        // An answer may be waiting behind the broken pipe (RFC 9112 section 9.5).
        Err(_) => Sent::AnsweredEarly,
    };
    (sent, buffer)
}

/// Sends `bytes`.
pub async fn send(stream: &mut Stream, bytes: &[u8]) -> Sent {
    if matches!(stream, Stream::Tls(..)) {
        return match stream.write_all(bytes).await {
            Ok(()) => Sent::Whole(clock::now()),
            // Bytes that a session has encrypted may have left.
            Err(error) => Sent::Part(error),
        };
    }
    let mut written = 0;
    let mut interim = false;
    loop {
        match stream.write_now(bytes.get(written..).unwrap_or_default()) {
            Ok(more) => written += more,
            // After an interim answer something is readable all the time: only room to write is waited for.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && interim => {
                if let Err(error) = stream.writable().await {
                    return Sent::Part(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if readable_first(stream).await {
                    // Only a final answer means that the rest is not wanted (RFC 9112 section 9.5).
                    interim = stream.interim_waits();
                    if !interim {
                        return Sent::AnsweredEarly;
                    }
                }
            }
            Err(error) if written == 0 => return Sent::Nothing(error),
            // An answer may be waiting behind the broken pipe (RFC 9112 section 9.5).
            Err(_) => return Sent::AnsweredEarly,
        }
        if written == bytes.len() {
            return Sent::Whole(clock::now());
        }
    }
}

/// Waits for whichever comes first: room to write, or something to read. Both are waits without a buffer, so
/// that dropping the loser loses nothing.
async fn readable_first(stream: &Stream) -> bool {
    let mut readable = pin!(stream.readable());
    let mut writable = pin!(stream.writable());
    std::future::poll_fn(|cx| {
        if readable.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        writable.as_mut().poll(cx).map(|_| false)
    })
    .await
}
