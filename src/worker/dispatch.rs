//! Sending a call: choose an instance, take or open a connection, write the request, once.
//!
//! Not here: the answer. A request of which a byte was handed to a socket is never sent again.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::plan::InjectedHeader;
use crate::config::plan::Transport;
use crate::http::fields;
use crate::http::fields::Field;
use crate::http::fields::Known;
use crate::http::request::Method;
use crate::http::request::RequestHead;
use crate::http::write;
use crate::mcp::envelope::Era;
use crate::mcp::refusal::Denial;
use crate::route::NoRoute;
use crate::route::breaker::Outcome;
use crate::upstream::connect;
use crate::upstream::pool::Instance;
use crate::upstream::pool::Lease;
use crate::upstream::send;
use crate::upstream::send::Sent;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::aim;
use crate::worker::attempt;
use crate::worker::body::Body;
use crate::worker::bridge;
use crate::worker::client::Client;
use crate::worker::crossing::held::Held;
use crate::worker::obstacle;
use crate::worker::obstacle::Obstacle;
use crate::worker::passage::Passage;
use crate::worker::session;
use crate::worker::state::Exchange;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A request on its way.
pub struct Dispatched {
    pub lease: Lease,
    /// Whether all of it left; if not, the connection carries at most the answer.
    pub whole: bool,
}

const REFUSED: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint cannot be reached; retry later or tell the operator to check that it runs.",
);
const UNKNOWN_NAME: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The name of the server behind this endpoint does not resolve; tell the operator to check its url.",
);
const NONE_HEALTHY: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "No instance of the server behind this endpoint is healthy; retry later.",
);
const OPEN: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint failed too often and is left alone for a while; retry later.",
);
const FULL: Fault =
    Fault::new(Kind::Overloaded, "Too many connections to this server are open; retry later.")
        .at(Bound::Pool);
const CONNECT_TIMEOUT: Fault = Fault::new(
    Kind::UpstreamTimeout,
    "The server behind this endpoint did not take the connection in time; retry later.",
);
pub const BROKE: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint broke the connection; the call may have happened.",
);

pub const KILLED: Fault =
    Fault::new(Kind::Killed, "An operator has stopped this call; ask the operator before you try again.");

/// Notes that no instance of the server may be called.
pub fn no_route(worker: &Worker, exchange: &mut Exchange, server: &ServerState, none: NoRoute) -> Fault {
    let (obstacle, retry_ms, fault) = match none {
        NoRoute::BreakerOpen { retry_ms } => (Obstacle::Breaker, Some(retry_ms), OPEN),
        NoRoute::NoneHealthy | NoRoute::AllTried => (Obstacle::Health, None, NONE_HEALTHY),
    };
    let denial = Denial { retry_ms, ..Denial::default() };
    obstacle::meet(worker, exchange, &server.config().name, obstacle, denial);
    fault
}

/// One call on its way out: what every attempt needs.
pub struct Departure<'a> {
    pub worker: &'a Rc<Worker>,
    pub adopted: &'a Adopted,
    pub server: &'a ServerState,
    /// As the client sent it.
    pub head: &'a RequestHead,
    pub client: &'a mut Client,
    pub exchange: &'a mut Exchange,
    pub body: &'a Body,
    /// A second copy may be sent before the first is answered: sending it must not wait for its answer.
    pub races: bool,
}

impl Departure<'_> {
    /// Sends the request to the first instance that takes it. The exchange holds the passage to it.
    ///
    /// # Errors
    /// 503 where none can be reached, 504 where that took too long, 502 where the connection broke.
    pub async fn send(&mut self) -> Result<Dispatched, Fault> {
        let mut fault = REFUSED;
        loop {
            let instance = match self.choose() {
                Ok(instance) => instance,
                Err(NoRoute::AllTried) => return Err(fault),
                Err(NoRoute::NoneHealthy) if self.is_bound_in_vain() => return Err(bridge::SESSION_GONE),
                Err(none) => return Err(no_route(self.worker, self.exchange, self.server, none)),
            };
            self.write_head(&instance);
            // A pooled connection that turns out closed costs nothing: not a byte was handed over.
            while let Some(lease) = instance.take_idle() {
                if let Some(result) = self.transmit(lease).await {
                    return result;
                }
            }
            // Boxed: the state of a handshake would be part of every call's.
            match Box::pin(self.open(&instance)).await {
                Ok(lease) => match self.transmit(lease).await {
                    Some(result) => return result,
                    None => fault = REFUSED,
                },
                Err(error) => fault = error,
            }
            self.gone_by(fault);
            // One address that does not answer does not end the call; the caller or the total does.
            if let Some(cause) = self.worker.watch.cause(self.client.slot) {
                if cause != Cause::ConnectTimeout {
                    return Err(timeout(cause));
                }
                self.worker.watch.forgive(self.client.slot);
            }
        }
    }

    /// The next instance to try.
    fn choose(&mut self) -> Result<Rc<Instance>, NoRoute> {
        let server = self.server;
        let random = self.worker.random();
        let now = self.worker.coarse_now();
        let route = server.way.route();
        let held = self.exchange.crossing.as_ref().and_then(|crossing| crossing.held.as_ref());
        let bound = self.exchange.session.as_ref().map(|session| session.instance);
        let pick = match bound.or(held.map(|held| held.instance)) {
            Some(instance) => route.only(instance, &mut self.exchange.tried, now)?,
            None => {
                let wish = aim::wish(self.exchange.aim, server.config());
                route.choose_as(wish, &mut self.exchange.tried, random, now)?
            }
        };
        // One for each instance of the plan, in its order.
        let instance = server.instances.get(pick.index).map(Rc::clone).ok_or(NoRoute::NoneHealthy)?;
        self.exchange.passage = Some(Passage::new(&server.way, pick));
        Ok(instance)
    }

    /// The instance of the moment did not take the call.
    fn gone_by(&mut self, fault: Fault) {
        let Some(passage) = self.exchange.passage.take() else { return };
        passage.name(&mut self.exchange.record);
        let now = clock::now();
        if fault.kind == Kind::Overloaded {
            // Our own bound.
            passage.settle(Outcome::Neutral, now);
        } else {
            passage.unreachable(now);
        }
    }

    /// Whether the call is part of a client's session on an instance that is out of rotation, while others are in: its client
    /// begins anew there, which is all that a session can be helped by (2025-11-25, transports, "Session Management").
    fn is_bound_in_vain(&self) -> bool {
        let held = self.exchange.crossing.as_ref().and_then(|crossing| crossing.held.as_ref());
        let is_of_client = self.exchange.session.is_some() || held.is_some_and(Held::is_of_client);
        let wish = aim::wish(self.exchange.aim, self.server.config());
        is_of_client && self.server.way.route().has_rotation(wish.pool, self.worker.coarse_now())
    }

    /// The head as the upstream gets it, in `exchange.out`.
    fn write_head(&mut self, instance: &Instance) {
        let server = self.server;
        let Exchange { out, fields, call, begun, timeouts, shown, session, crossing, .. } =
            &mut *self.exchange;
        let crossing = crossing.as_deref();
        let listens = crossing.is_some_and(|crossing| crossing.listens);
        let source = &self.client.input[self.client.start..self.client.end];
        let modern = call.is_some_and(|call| call.era == Era::Modern);
        let injected = &server.config().headers;
        let owned: &[Box<[u8]>] = shown.as_ref().map_or(&[], |shown| &shown.auth.fields);
        let shown: &[InjectedHeader] = shown.as_ref().map_or(&[], |shown| &shown.credential.fields);
        let options = write::connection_options(source, fields);
        let drops = |field: &Field| {
            write::drops_upstream(field)
                || session::is_named(field)
                || (modern && is_event_id(field))
                || options.names(source, field)
                || crossing.is_some_and(|crossing| crossing.drops(field, source))
                || injected.iter().any(|one| fields::is_same(&one.name, field.name.of(source)))
                || owned.iter().any(|name| fields::is_same(name, field.name.of(source)))
        };
        let head = self.head;
        let line = write::RequestLine {
            method: if listens { b"GET" } else { head.method_text.of(source) },
            target: &instance.endpoint.target,
            authority: &instance.endpoint.authority,
        };
        let kept = fields.iter().filter(|field| !drops(field));
        let mut digits = itoa::Buffer::new();
        let left = server.config().forward_deadline.then(|| {
            let deadline = begun.plus_millis(timeouts.total_ms);
            digits.format(deadline.nanos_since(clock::now()) / 1_000_000).as_bytes()
        });
        let pairs = injected.iter().chain(shown).map(|one| (&*one.name, &*one.value));
        let pairs = pairs.chain(left.map(|left| (&b"ringgate-deadline"[..], left)));
        let session = session.as_ref().map(|session| (&b"Mcp-Session-Id"[..], &*session.name));
        let other = crossing.map_or(&[][..], |crossing| &crossing.fields);
        let pairs = pairs.chain(session).chain(other.iter().map(|(name, value)| (*name, &**value)));
        let length = crossing.map_or(self.body.bytes.len(), |crossing| crossing.body.len()) as u64;
        let mirrored = crossing.map_or(&[][..], |crossing| &crossing.mirrored);
        let pairs = pairs.chain(mirrored.iter().map(|(name, value)| (&**name, &**value)));
        let length = (head.method == Method::Post && !listens).then_some(length);
        out.clear();
        write::request_head(out, line, source, kept, pairs, length);
    }

    /// None: not a byte was handed over, try elsewhere.
    async fn transmit(&mut self, mut lease: Lease) -> Option<Result<Dispatched, Fault>> {
        // Deadlines are compared once a tick: the time of the last one is as good.
        let now = self.worker.coarse_now();
        let deadline = now.plus_millis(self.exchange.timeouts.first_byte_ms);
        let slot = self.client.slot;
        if let Some(passage) = &self.exchange.passage {
            passage.count(self.worker.metrics());
        }
        self.worker.watch.upstream(slot, Some(lease.stream.fd()));
        self.worker.watch.enter(slot, Phase::FirstByte, now, deadline);
        let sent = self.write(&mut lease).await;
        self.exchange.upstream_began = match sent {
            Sent::Whole(at) => at,
            _ => clock::now(),
        };
        match sent {
            Sent::Whole(_) => return Some(Ok(Dispatched { lease, whole: true })),
            Sent::AnsweredEarly => return Some(Ok(Dispatched { lease, whole: false })),
            Sent::Nothing(_) | Sent::Part(_) => {}
        }
        self.worker.watch.upstream(slot, None);
        lease.close();
        match self.worker.watch.cause(slot) {
            Some(cause) => Some(Err(timeout(cause))),
            None if matches!(sent, Sent::Nothing(_)) => None,
            None => Some(Err(BROKE)),
        }
    }

    /// Head and body in one piece: the head is put before the body, over the client's own head, so that the
    /// body is not copied.
    async fn write(&mut self, lease: &mut Lease) -> Sent {
        if self.exchange.crossing.is_some() {
            return self.write_other(lease).await;
        }
        let body = self.body.bytes.clone();
        let Some(begin) = body.start.checked_sub(self.exchange.out.len()) else {
            return self.write_apart(lease).await;
        };
        self.client.input[begin..body.start].swap_with_slice(&mut self.exchange.out);
        let range = begin..body.end;
        let sent = if self.client.input.len() == limits::BUFFER_BYTES {
            let buffer = std::mem::take(&mut self.client.input);
            let (sent, buffer) = send::send_small(&mut lease.stream, buffer, range, self.races).await;
            self.client.input = buffer;
            sent
        } else {
            send::send(&mut lease.stream, &self.client.input[range]).await
        };
        self.exchange.lent = Some(begin..body.start);
        if matches!(sent, Sent::Nothing(_)) {
            // The next attempt needs both heads as they were.
            attempt::take_head_back(self.client, self.exchange);
        }
        sent
    }

    /// A body that is not the client's own: one copy puts it behind its head.
    async fn write_other(&mut self, lease: &mut Lease) -> Sent {
        let Exchange { out, crossing, .. } = &mut *self.exchange;
        let body = crossing.as_ref().map_or(&[][..], |crossing| &crossing.body);
        let length = out.len() + body.len();
        if limits::HEADROOM_BYTES + length > limits::BUFFER_BYTES {
            out.extend_from_slice(body);
            return send::send(&mut lease.stream, out).await;
        }
        let mut buffer = self.worker.buffers.small();
        let begin = limits::HEADROOM_BYTES;
        buffer[begin..begin + out.len()].copy_from_slice(out);
        buffer[begin + out.len()..begin + length].copy_from_slice(body);
        let (sent, buffer) =
            send::send_small(&mut lease.stream, buffer, begin..begin + length, self.races).await;
        self.worker.buffers.give_back(buffer);
        sent
    }

    /// For a head that has no room before its body: many injected fields, a short head of the client.
    async fn write_apart(&mut self, lease: &mut Lease) -> Sent {
        let head = send::send(&mut lease.stream, &self.exchange.out).await;
        if !matches!(head, Sent::Whole(_)) || self.body.bytes.is_empty() {
            return head;
        }
        match send::send(&mut lease.stream, &self.client.input[self.body.bytes.clone()]).await {
            // The head has left.
            Sent::Nothing(error) => Sent::Part(error),
            other => other,
        }
    }

    async fn open(&mut self, instance: &Rc<Instance>) -> Result<Lease, Fault> {
        if !instance.has_room() {
            return Err(FULL);
        }
        let (worker, slot) = (self.worker, self.client.slot);
        let began = clock::now();
        let deadline = began.plus_millis(self.exchange.timeouts.connect_ms);
        worker.watch.enter(slot, Phase::Connect, began, deadline);
        let addresses = self.addresses(instance).await?;
        self.exchange.waited_ns += clock::now().nanos_since(began);
        if addresses.is_empty() {
            return self.open_one(instance, None).await;
        }
        let mut fault = REFUSED;
        for address in addresses.iter() {
            match self.open_one(instance, Some(*address)).await {
                Err(error) => fault = error,
                opened => return opened,
            }
            // An address that is silent has used up its own time and nobody else's.
            match worker.watch.cause(slot) {
                Some(Cause::ConnectTimeout) => worker.watch.forgive(slot),
                Some(_) => return Err(fault),
                None => {}
            }
        }
        Err(fault)
    }

    /// One address, which has the time to connect for itself; none for a Unix socket.
    async fn open_one(
        &mut self,
        instance: &Rc<Instance>,
        address: Option<SocketAddr>,
    ) -> Result<Lease, Fault> {
        let (worker, slot) = (self.worker, self.client.slot);
        let began = clock::now();
        let deadline = began.plus_millis(self.exchange.timeouts.connect_ms);
        worker.watch.enter(slot, Phase::Connect, began, deadline);
        let told = |fd| worker.watch.upstream(slot, Some(fd));
        let opened = connect::open(&instance.endpoint, address, instance.tls.as_ref(), told).await;
        worker.watch.upstream(slot, None);
        let now = clock::now();
        self.exchange.waited_ns += now.nanos_since(began);
        let cause = worker.watch.cause(slot);
        match opened {
            Ok(stream) if cause.is_none() => return Ok(instance.lease(stream, address)),
            Ok(_) => {}
            Err(error) => worker.tell_failure(self.server, instance, &error, now),
        }
        Err(cause.map_or(REFUSED, timeout))
    }

    /// The addresses of an instance: its own, or those that control has found, asked for where there are none.
    async fn addresses(&self, instance: &Instance) -> Result<Arc<[SocketAddr]>, Fault> {
        match &instance.endpoint.transport {
            Transport::Address(address) => Ok(Arc::from([*address])),
            Transport::Unix(_) => Ok(Arc::from([])),
            Transport::Name { host, port, key } => {
                if let Some(known) = self.adopted.addresses.by_name.get(key) {
                    return Ok(Arc::clone(known));
                }
                self.worker.ask_addresses(host, *port, key, self.client.slot).await.ok_or(UNKNOWN_NAME)
            }
        }
    }
}

/// Modern servers ignore event ids; ignored means not forwarded.
fn is_event_id(field: &Field) -> bool {
    field.known == Known::LastEventId
}

/// What a wait that was ended from outside means for the caller.
pub fn timeout(cause: Cause) -> Fault {
    match cause {
        Cause::ConnectTimeout | Cause::RoomTimeout => CONNECT_TIMEOUT,
        Cause::FirstByteTimeout => Fault::new(
            Kind::UpstreamTimeout,
            "The server behind this endpoint did not begin to answer in time; the call may still happen.",
        ),
        Cause::RelayTimeout => Fault::new(
            Kind::UpstreamTimeout,
            "The server behind this endpoint stopped in the middle of its answer; the call may have happened.",
        ),
        Cause::TotalTimeout => Fault::new(
            Kind::UpstreamTimeout,
            "The call took longer than this gateway allows; the call may still happen.",
        ),
        Cause::Killed(_) => KILLED,
        Cause::Stopping => Fault::new(
            Kind::Draining,
            "The gateway is shutting down; repeat the call, it goes to another one.",
        ),
        Cause::ClientIdle
        | Cause::HeadTimeout
        | Cause::BodyTimeout
        | Cause::ClientStalled
        | Cause::ClientLeft => Fault::new(Kind::ClientGone, "The client left before the answer."),
    }
}
