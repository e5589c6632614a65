//! A small HTTP service on loopback for the tests of control: answers as it is told, and remembers what was asked.
//!
//! Not here: whole gateways (`tests/`).

#![expect(clippy::disallowed_types, reason = "what a test server has seen")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
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
}

impl Stub {
    pub(crate) async fn start(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen {
            script: Mutex::new(Arc::new(script)),
            requests: Mutex::default(),
            permits: Semaphore::new(1_000_000),
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
    // A client that left early is what some tests are about.
    let _ = stream.write_all(&script(&request)).await;
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
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
