//! A message to a server beside the call that it is about: an answer to a question of the server's, a cancellation.
//!
//! Not here: what it says. It goes on a connection of its own, because the call's own is taken; whoever waits for it
//! waits no longer than [`limits::ASIDE_MS`].

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Transport;
use crate::http::write;
use crate::mcp::envelope::Era;
use crate::net::stream::Stream;
use crate::policy::credential::Credential;
use crate::upstream::connect;
use crate::upstream::pool::Instance;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::crossing::held::Held;
use crate::worker::start;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use std::net::SocketAddr;
use std::rc::Rc;

/// A message on its way to a session.
pub struct Note {
    instance: Rc<Instance>,
    /// In the order in which they are tried; none is the one way to a Unix socket.
    addresses: Vec<Option<SocketAddr>>,
    request: Vec<u8>,
}

impl Note {
    /// To the session that a call goes by. None: the server has gone from the plan.
    pub fn new(
        adopted: &Adopted,
        exchange: &Exchange,
        server: &str,
        held: &Held,
        body: &[u8],
    ) -> Option<Self> {
        Self::showing(adopted, exchange.shown.as_ref().map(|shown| &*shown.credential), server, held, body)
    }

    /// The same, whose server is shown this of the caller.
    pub fn showing(
        adopted: &Adopted,
        shown: Option<&Credential>,
        server: &str,
        held: &Held,
        body: &[u8],
    ) -> Option<Self> {
        let server = adopted.find(server)?;
        let instance = Rc::clone(server.instances.get(held.instance)?);
        let addresses = match &instance.endpoint.transport {
            Transport::Address(address) => vec![Some(*address)],
            Transport::Unix(_) => vec![None],
            Transport::Name { key, .. } => {
                adopted.addresses.by_name.get(key)?.iter().copied().map(Some).collect()
            }
        };
        let line = write::RequestLine {
            method: b"POST",
            target: &instance.endpoint.target,
            authority: &instance.endpoint.authority,
        };
        let shown = shown.map_or(&[][..], |shown| &shown.fields);
        let injected = server.config().headers.iter().chain(shown).map(|one| (&*one.name, &*one.value));
        let ours: [(&[u8], &[u8]); 4] = [
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json, text/event-stream"),
            (b"MCP-Protocol-Version", held.revision.as_bytes()),
            (b"Connection", b"close"),
        ];
        let session = (!held.name.is_empty()).then_some((&b"Mcp-Session-Id"[..], &*held.name));
        let mut request = Vec::with_capacity(512 + body.len());
        let fields = ours.into_iter().chain(session).chain(injected);
        write::request_head(&mut request, line, b"", std::iter::empty(), fields, Some(body.len() as u64));
        request.extend_from_slice(body);
        Some(Self { instance, addresses, request })
    }

    /// Ends a session (2025-11-25, transports, "Session Management"). None: there is none, or its server has gone.
    pub fn ending(adopted: &Adopted, exchange: &Exchange, server: &str, held: &Held) -> Option<Self> {
        if held.name.is_empty() {
            return None;
        }
        let mut note = Self::new(adopted, exchange, server, held, b"")?;
        // The same head for another method.
        note.request.splice(..b"POST".len(), *b"DELETE");
        Some(note)
    }

    /// Sends it, to the first address that takes a connection: from then on it may have been delivered. True where the
    /// server has taken it.
    pub async fn send(self, worker: &Worker) -> bool {
        let deadline = clock::now().plus_millis(limits::ASIDE_MS);
        for address in &self.addresses {
            if let Ok(status) = self.exchange_on(worker, *address, deadline).await {
                return status.is_some_and(|status| (200..300).contains(&status));
            }
        }
        false
    }

    /// Sends it without waiting.
    pub fn send_behind(self, worker: &Rc<Worker>) {
        let worker = Rc::clone(worker);
        monoio::spawn(start::guard(move || async move {
            self.send(&worker).await;
        }));
    }

    /// The status of the answer; none where the connection ended before it.
    ///
    /// # Errors
    /// Where no connection came about: nothing was sent.
    async fn exchange_on(
        &self,
        worker: &Worker,
        address: Option<SocketAddr>,
        deadline: Moment,
    ) -> Result<Option<u16>, NotConnected> {
        let now = clock::now();
        // The watch ends whatever takes too long by shutting the socket down.
        let slot = std::cell::Cell::new(None);
        let began = |fd| {
            let key = worker.watch.register(fd, now, deadline);
            worker.watch.enter(key, Phase::Handshake, now, deadline);
            slot.set(Some(key));
        };
        let tls = self.instance.tls.as_ref();
        let status = match connect::open(&self.instance.endpoint, address, tls, began).await {
            Ok(stream) => Ok(self.exchange_over(worker, stream).await),
            Err(_) => Err(NotConnected),
        };
        if let Some(key) = slot.get() {
            worker.watch.remove(key);
        }
        status
    }

    async fn exchange_over(&self, worker: &Worker, mut stream: Stream) -> Option<u16> {
        stream.write_all(&self.request).await.ok()?;
        let mut head = Vec::new();
        while head.len() < STATUS_BYTES {
            let arrived = stream.receive(&worker.buffers).await.ok()??;
            head.extend_from_slice(arrived.buffer.get(arrived.start..arrived.end).unwrap_or_default());
            worker.buffers.give_back(arrived.buffer);
        }
        std::str::from_utf8(head.get(9..STATUS_BYTES)?).ok()?.parse().ok()
    }
}

/// No connection came about.
struct NotConnected;

/// `HTTP/1.1 202`
const STATUS_BYTES: usize = 12;

/// What tells an older server that nobody waits for a request any more (2025-11-25, cancellation).
pub fn cancelled(id: &str) -> Vec<u8> {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the client has left"}}}}"#
    )
    .into_bytes()
}

/// Whether a server of this era is told by a message.
pub fn is_told(era: Era) -> bool {
    era == Era::Legacy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runtime::Driver;
    use crate::worker::stub::on_worker;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    /// A server that reads what it is sent and goes away: how much that was.
    fn rude() -> (SocketAddr, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            connection.read(&mut [0; 1024]).unwrap_or(0)
        });
        (address, heard)
    }

    /// Sends a note to these addresses. Whether it was taken.
    fn sent_to(driver: Driver, addresses: &[SocketAddr]) -> bool {
        let config = format!("mcpServers: {{up: {{url: \"http://{}/mcp\"}}}}", addresses[0]);
        on_worker(driver, &config, async |worker| {
            let instance = Rc::clone(&worker.adopt().find("up").expect("the server").instances[0]);
            let addresses = addresses.iter().copied().map(Some).collect();
            let note = Note { instance, addresses, request: b"POST /mcp HTTP/1.1\r\n\r\n".to_vec() };
            let taken = note.send(&worker).await;
            assert!(worker.watch.is_empty(), "a slot of a note that is over");
            taken
        })
    }

    /// An answer of a caller that was delivered twice could run a tool twice.
    #[test]
    fn what_was_sent_once_is_not_sent_to_another_address() {
        for driver in [Driver::Uring, Driver::Epoll] {
            let (first, heard) = rude();
            let second = TcpListener::bind("127.0.0.1:0").expect("a port");
            second.set_nonblocking(true).expect("a socket");
            assert!(!sent_to(driver, &[first, second.local_addr().expect("an address")]));
            assert!(heard.join().expect("the server") > 0);
            assert!(second.accept().is_err(), "{driver:?}: delivered twice");
        }
    }

    #[test]
    fn an_address_that_takes_no_connection_is_passed_over() {
        for driver in [Driver::Uring, Driver::Epoll] {
            let gone = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
            let (second, heard) = rude();
            assert!(!sent_to(driver, &[gone, second]));
            assert!(heard.join().expect("the server") > 0, "{driver:?}");
        }
    }
}
