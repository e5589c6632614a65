//! A small HTTP service on loopback for the tests of control: answers as it is told, and remembers what was asked.
//!
//! Not here: whole gateways (`tests/`).

#![expect(clippy::disallowed_types, reason = "what a test server has seen")]

use crate::config::plan::Endpoint;
use crate::config::plan::Plan;
use crate::config::plan::Transport;
use crate::control::state::State;
use crate::control::tests::state_with;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// What a service says to a request: all of its bytes.
type Script = dyn Fn(&str) -> Vec<u8> + Send + Sync;

pub(crate) struct Stub {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

struct Seen {
    script: Mutex<Arc<Script>>,
    requests: Mutex<Vec<String>>,
    /// Answers wait for one.
    permits: Semaphore,
    /// What event streams are sent; empty: they end. Without it they end at once.
    pushes: broadcast::Sender<String>,
    keeps_streams: AtomicBool,
    streams: AtomicUsize,
}

impl Stub {
    pub(crate) async fn start(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen {
            script: Mutex::new(Arc::new(script)),
            requests: Mutex::default(),
            permits: Semaphore::new(1_000_000),
            pushes: broadcast::Sender::new(64),
            keeps_streams: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(Arc::clone(&seen), stream));
                }
            }
        });
        Self { address, seen, _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers like this from now on.
    pub(crate) fn turn(&self, script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) {
        *self.seen.script.lock().expect("not poisoned") = Arc::new(script);
    }

    /// No answer leaves until `release`.
    pub(crate) fn hold(&self) {
        self.seen.permits.forget_permits(1_000_000);
    }

    pub(crate) fn release(&self) {
        self.seen.permits.add_permits(1_000_000);
    }

    /// Event streams stay open from now on.
    pub(crate) fn keep_streams(&self) {
        self.seen.keeps_streams.store(true, Ordering::Relaxed);
    }

    /// Sends an event to all that are open; an empty one ends them.
    pub(crate) fn push(&self, event: &str) {
        let _ = self.seen.pushes.send(event.to_owned());
    }

    pub(crate) fn streams(&self) -> usize {
        self.seen.streams.load(Ordering::Relaxed)
    }

    /// Requests that came so far, head and body as they were.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().expect("not poisoned").clone()
    }
}

async fn answer(seen: Arc<Seen>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    while !is_whole(&bytes) {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(bytes).expect("text");
    seen.requests.lock().expect("not poisoned").push(request.clone());
    seen.permits.acquire().await.expect("open").forget();
    let script = Arc::clone(&seen.script.lock().expect("not poisoned"));
    let answer = script(&request);
    let mut pushes = seen.pushes.subscribe();
    // A client that left early is what some tests are about.
    let _ = stream.write_all(&answer).await;
    let is_stream = String::from_utf8_lossy(&answer).contains("text/event-stream");
    if is_stream && seen.keeps_streams.load(Ordering::Relaxed) {
        seen.streams.fetch_add(1, Ordering::Relaxed);
        let mut rest = [0; 64];
        loop {
            tokio::select! {
                event = pushes.recv() => match event {
                    Ok(event) if !event.is_empty() => drop(stream.write_all(event.as_bytes()).await),
                    _ => break,
                },
                // A client sends nothing more.
                _ = stream.read(&mut rest) => break,
            }
        }
        seen.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
}

/// A plain config whose one server, `up`, is these.
pub(crate) fn state_of(stubs: &[&Stub]) -> State {
    state_with(1, |plan| serve_by(plan, stubs))
}

pub(crate) fn serve_by(plan: &mut Plan, stubs: &[&Stub]) {
    let instances = stubs.iter().map(|stub| Endpoint {
        transport: Transport::Address(stub.address),
        target: b"/mcp".to_vec().into(),
        authority: b"fake".to_vec().into(),
        tls_name: None,
        label: format!("http://{}", stub.address).as_str().into(),
    });
    let server = &mut plan.servers[0];
    server.instances = instances.collect();
    server.tls = None;
    server.traffic.weights = vec![1; stubs.len()].into();
    server.traffic.pools[0].count = stubs.len();
}

/// An answer with a length, after which the connection closes.
pub(crate) fn json(status: u16, body: &str) -> Vec<u8> {
    with_field(status, "Content-Type: application/json", body)
}

/// The same with another field.
pub(crate) fn with_field(status: u16, field: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Reason\r\nContent-Length: {length}\r\nConnection: close\r\n{field}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}
