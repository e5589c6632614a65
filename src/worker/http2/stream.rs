//! One stream: the request goes into a lane as HTTP/1.1 while it comes, the answer back as it comes.
//!
//! Nothing is read that cannot be passed on: the client's window is given back when the lane has taken the bytes, and
//! the lane is read again when the client's window has taken them.
//!
//! Not here: who calls and what is answered (whatever serves the lane).

use crate::base::bound::Bound;
use crate::base::buffer::Arrived;
use crate::base::clock;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::http::chunked::Decoder;
use crate::http::chunked::Side;
use crate::http::fields::Fields;
use crate::http::http2;
use crate::http::http2::BodyForm;
use crate::http::http2::Form;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::response::AnswerFraming;
use crate::http::response::ResponseHead;
use crate::http::response::parse_response;
use crate::http::write;
use crate::net::stream::Stream;
use crate::worker::body::CHUNK_LIMITS;
use crate::worker::http2::traffic::Open;
use crate::worker::http2::traffic::Traffic;
use crate::worker::watch::Phase;
use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use h2::Reason;
use h2::RecvStream;
use h2::SendStream;
use h2::server::SendResponse;
use http::Request;
use http::Response;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

const ANSWER_LIMITS: HeadLimits =
    HeadLimits { head_bytes: limits::ANSWER_HEAD_BYTES_MAX, target_bytes: 0, fields: limits::FIELDS_MAX };
/// What is gathered of a request before the lane must take it.
const PIECE_BYTES: usize = limits::BUFFER_BYTES;

/// How a stream ends before its answer does.
enum End {
    /// The client reset it, or the connection has gone: there is nobody to tell.
    Gone,
    Reset(Reason),
}

type Ended<T> = Result<T, End>;

/// Serves one stream. Dropping the lane cancels its call, as a closed connection does.
pub(super) async fn serve(
    traffic: Rc<Traffic>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let open = Open::new(traffic);
    if let Err(End::Reset(reason)) = pass(&open.0, request, &mut respond).await {
        if reason == Reason::INTERNAL_ERROR {
            // A reset takes back what has not left. What came before a cut leaves first, as it does in HTTP/1.1.
            open.0.worker.pause(limits::TICK_MS).await;
        }
        respond.send_reset(reason);
    }
}

async fn pass(
    traffic: &Rc<Traffic>,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Ended<()> {
    let (head, body) = request.into_parts();
    let mut out = Vec::new();
    let form = http2::write_request(&mut out, &head, body.is_end_stream()).map_err(|_| {
        traffic.worker.metrics().refuse(Kind::Malformed);
        traffic.count_reset();
        End::Reset(Reason::PROTOCOL_ERROR)
    })?;
    drop(head);
    let stream = traffic.lanes.take(&traffic.worker).ok_or(End::Reset(Reason::REFUSED_STREAM))?;
    let mut lane = Lane { traffic, stream, input: BytesMut::new() };
    let mut upload = Upload::new(out, body, form.body);
    let (head, response) = lane.ask(&mut upload, form, respond).await?;
    let body = Rest::of(&head)?;
    let mut send = respond.send_response(response, body.is_none()).map_err(|_| End::Gone)?;
    traffic.meter.borrow_mut().answer(0);
    if let Some(body) = body {
        lane.relay(body, &mut send).await?;
    }
    if upload.is_whole() && head.keep_alive && lane.input.is_empty() {
        traffic.lanes.give_back(lane.stream);
    }
    Ok(())
}

/// A request on its way into a lane.
struct Upload {
    /// What the lane takes next.
    out: Vec<u8>,
    /// Body bytes in it, whose window goes back to the client with them.
    held: usize,
    body: RecvStream,
    form: BodyForm,
    state: Uploading,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Uploading {
    /// So many bytes are still announced, where a length was.
    Going(u64),
    Whole,
    /// The lane takes no more: the answer came first.
    Broken,
}

/// A request whose body is not what was announced.
struct Mismatch;

impl Upload {
    fn new(out: Vec<u8>, body: RecvStream, form: BodyForm) -> Self {
        let state = match form {
            BodyForm::None => Uploading::Whole,
            BodyForm::Length(length) => Uploading::Going(length),
            BodyForm::Chunked => Uploading::Going(u64::MAX),
        };
        Self { out, held: 0, body, form, state }
    }

    fn is_whole(&self) -> bool {
        self.state == Uploading::Whole && self.out.is_empty()
    }

    /// How much of `out` the lane may have. The last byte of a length waits for the end of the stream: with it the
    /// request would be served before the frame that shows it longer than its head says (RFC 9113 section 8.1.1).
    fn ready(&self) -> usize {
        self.out.len().saturating_sub(usize::from(self.state == Uploading::Going(0)))
    }

    /// Takes what has come of the body, as much as one piece holds. `h2` compares lengths too; a body that is not as
    /// long as its head says would let the next request of the lane begin elsewhere.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Mismatch> {
        while let Uploading::Going(left) = self.state
            && self.out.len() < PIECE_BYTES
        {
            match self.body.poll_data(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(data))) => {
                    let left = left.checked_sub(data.len() as u64).ok_or(Mismatch)?;
                    self.state = Uploading::Going(left);
                    self.held += data.len();
                    if self.form == BodyForm::Chunked {
                        http2::write_chunk(&mut self.out, &data);
                    } else {
                        self.out.extend_from_slice(&data);
                    }
                }
                Poll::Ready(Some(Err(_))) => return Err(Mismatch),
                Poll::Ready(None) if self.form == BodyForm::Chunked => {
                    self.out.extend_from_slice(write::LAST_CHUNK);
                    self.state = Uploading::Whole;
                }
                Poll::Ready(None) if left == 0 => self.state = Uploading::Whole,
                Poll::Ready(None) => return Err(Mismatch),
            }
        }
        Ok(())
    }

    /// Hands what is gathered to the lane.
    async fn flush(&mut self, lane: &mut Stream) {
        // Whatever serves the lane reads, or answers and reads no more, in bounded time.
        let ready = self.ready();
        let taken = lane.write_all(self.out.get(..ready).unwrap_or_default()).await;
        self.out.drain(..ready);
        if taken.is_err() {
            self.state = Uploading::Broken;
            self.out.clear();
        } else if self.held > 0 {
            // It was taken from the window a moment ago.
            let _ = self.body.flow_control().release_capacity(self.held);
        }
        self.held = 0;
    }
}

/// What happens next while the head of an answer is awaited.
enum Event {
    Arrived(io::Result<Option<Arrived>>),
    /// There is something for the lane.
    Flush,
    End(End),
}

struct Lane<'a> {
    traffic: &'a Rc<Traffic>,
    stream: Stream,
    /// What has come of the answer and was not passed on.
    input: BytesMut,
}

impl Lane<'_> {
    /// Sends the request while it comes, until the head of the answer is there.
    async fn ask(
        &mut self,
        upload: &mut Upload,
        form: Form,
        respond: &mut SendResponse<Bytes>,
    ) -> Ended<(ResponseHead, Response<()>)> {
        let (mut scan, mut fields) = (HeadScan::default(), Fields::default());
        loop {
            match self.next(upload, respond).await {
                Event::End(end) => return Err(end),
                Event::Flush => {
                    upload.flush(&mut self.stream).await;
                    continue;
                }
                Event::Arrived(come) => self.keep(come)?,
            }
            let broken = End::Reset(Reason::INTERNAL_ERROR);
            let parsed = parse_response(&self.input, &mut scan, ANSWER_LIMITS, form.is_head, &mut fields);
            let Ok(parsed) = parsed else { return Err(broken) };
            let Some(head) = parsed else { continue };
            let Some(response) = http2::response(&head, &self.input, &fields) else { return Err(broken) };
            self.input.advance(head.len as usize);
            if head.status >= 200 {
                return Ok((head, response));
            }
            // Where the client goes away the next look tells.
            let _ = respond.send_informational(response);
        }
    }

    async fn next(&mut self, upload: &mut Upload, respond: &mut SendResponse<Bytes>) -> Event {
        let mut receive = pin!(self.stream.receive(&self.traffic.worker.buffers));
        poll_fn(|cx| {
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Event::End(End::Gone));
            }
            if upload.gather(cx).is_err() {
                return Poll::Ready(Event::End(End::Reset(Reason::PROTOCOL_ERROR)));
            }
            if upload.ready() > 0 {
                return Poll::Ready(Event::Flush);
            }
            receive.as_mut().poll(cx).map(Event::Arrived)
        })
        .await
    }

    /// Puts what has come behind the rest of it.
    fn keep(&mut self, come: io::Result<Option<Arrived>>) -> Ended<()> {
        // An answer that ends here is cut: whoever serves the lane says so by closing it.
        let Ok(Some(arrived)) = come else { return Err(End::Reset(Reason::INTERNAL_ERROR)) };
        self.input.extend_from_slice(&arrived.buffer[arrived.start..arrived.end]);
        self.traffic.worker.buffers.give_back(arrived.buffer);
        Ok(())
    }

    /// Passes the body of an answer on, to its end.
    async fn relay(&mut self, mut rest: Rest, send: &mut SendStream<Bytes>) -> Ended<()> {
        loop {
            let (data, is_last) = rest.take(&mut self.input)?;
            if is_last || !data.is_empty() {
                self.send(data, is_last, send).await?;
            }
            if is_last {
                return Ok(());
            }
            let come = {
                let mut receive = pin!(self.stream.receive(&self.traffic.worker.buffers));
                poll_fn(|cx| match send.poll_reset(cx) {
                    Poll::Ready(_) => Poll::Ready(Err(End::Gone)),
                    Poll::Pending => receive.as_mut().poll(cx).map(Ok),
                })
                .await
            };
            self.keep(come?)?;
        }
    }

    /// Sends a piece of an answer, as the client's window takes it.
    async fn send(&self, mut data: Bytes, is_last: bool, send: &mut SendStream<Bytes>) -> Ended<()> {
        self.traffic.meter.borrow_mut().answer(data.len());
        loop {
            let room = if data.is_empty() { 0 } else { self.room(data.len(), send).await? };
            let piece = data.split_to(room.min(data.len()));
            send.send_data(piece, is_last && data.is_empty()).map_err(|_| End::Gone)?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits until the client's window has room for some of `wanted` bytes. A client that gives none for as long as
    /// one of HTTP/1.1 may take nothing loses the stream.
    async fn room(&self, wanted: usize, send: &mut SendStream<Bytes>) -> Ended<usize> {
        send.reserve_capacity(wanted);
        if send.capacity() > 0 {
            return Ok(send.capacity());
        }
        let worker = &self.traffic.worker;
        let now = clock::now();
        let deadline = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
        let slot = worker.watch.register(self.stream.fd(), now, deadline);
        worker.watch.enter(slot, Phase::Shared, now, deadline);
        let room = poll_fn(|cx| {
            loop {
                match send.poll_capacity(cx) {
                    // It may have gone again.
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(_) => return Poll::Ready(Err(End::Gone)),
                    Poll::Pending if worker.watch.poll_over(slot, cx.waker()) => {
                        worker.metrics().hit(Bound::Http2Window);
                        return Poll::Ready(Err(End::Reset(Reason::CANCEL)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        worker.watch.remove(slot);
        room
    }
}

/// How much of an answer is still to come.
enum Rest {
    Bytes(u64),
    Chunks(Decoder),
}

impl Rest {
    /// None where there is no body. An answer that ends with its connection is none of ours.
    fn of(head: &ResponseHead) -> Ended<Option<Self>> {
        match head.framing {
            AnswerFraming::None | AnswerFraming::Length(0) => Ok(None),
            AnswerFraming::Length(length) => Ok(Some(Self::Bytes(length))),
            AnswerFraming::Chunked => Ok(Some(Self::Chunks(Decoder::new(CHUNK_LIMITS, Side::Answer)))),
            AnswerFraming::UntilClose => Err(End::Reset(Reason::INTERNAL_ERROR)),
        }
    }

    /// What of `input` is body, and whether it is the last of it.
    fn take(&mut self, input: &mut BytesMut) -> Ended<(Bytes, bool)> {
        match self {
            Self::Bytes(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                Ok((input.split_to(count).freeze(), *left == 0))
            }
            Self::Chunks(decoder) => {
                let decoded = decoder.decode(input).map_err(|_| End::Reset(Reason::INTERNAL_ERROR))?;
                let data = input.split_to(decoded.payload).freeze();
                input.advance(decoded.consumed - decoded.payload);
                Ok((data, decoded.done))
            }
        }
    }
}
