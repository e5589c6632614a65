//! What a pass-through call allocates in steady state, counted around a real worker on both drivers.
//!
//! The worker is started as `ringgate run` starts it, in this process, whose allocator counts. The threads of
//! the test mark themselves; whatever any other thread allocates belongs to the worker.
//!
//! Not here: how much memory is held (tests/exchange, memory).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use ringgate::cli::demo::calls::Call;
use ringgate::cli::demo::calls::Caller;
use ringgate::cli::demo::client::Client;
use ringgate::cli::demo::client::Request;
use ringgate::config;
use ringgate::config::keys::KeyRing;
use ringgate::handoff::Addresses;
use ringgate::handoff::Phase;
use ringgate::handoff::Shared;
use ringgate::net::listen;
use ringgate::net::runtime::Driver;
use ringgate::policy::limits::keys::Keys;
use ringgate::worker::start;
use ringgate::worker::start::Report;
use ringgate::worker::start::Seat;
use serde_json::json;
use std::cell::Cell;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

/// Allocations of all threads but those of the test.
static COUNTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OF_THE_TEST: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting.
struct Counting;

impl Counting {
    fn count() {
        // A thread that is being torn down has no mark any more, and no calls either.
        if !OF_THE_TEST.try_with(Cell::get).unwrap_or(true) {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

mod allocator {
    #![expect(unsafe_code, reason = "an allocator is unsafe by its trait; each call is handed on as it came")]

    use super::Counting;
    use std::alloc::GlobalAlloc;
    use std::alloc::Layout;
    use std::alloc::System;

    // SAFETY: every promise is the system allocator's: arguments and results pass unchanged.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            Self::count();
            // SAFETY: the caller's promises are those that `System` asks for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            Self::count();
            // SAFETY: as above.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            Self::count();
            // SAFETY: as above; `block` came from `System`.
            unsafe { System.realloc(block, layout, size) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: `block` came from `System` with this layout.
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;
}

const ANSWER_BYTES: usize = 500;
const CONNECTIONS: usize = 4;
const WARM_UP: usize = 200;
const CALLS: usize = 1_000;
/// The budget of docs/PERFORMANCE.md.
const ALLOCATIONS_PER_CALL: f64 = 2.0;
/// A hang is a failure: longer than anything here takes on a busy machine.
const SILENCE: Duration = Duration::from_secs(30);

fn mark() {
    OF_THE_TEST.set(true);
}

fn drivers() -> Vec<Driver> {
    match std::env::var("RINGGATE_TEST_DRIVER").as_deref() {
        Err(_) => vec![Driver::Uring, Driver::Epoll],
        Ok("uring") => vec![Driver::Uring],
        Ok("epoll") => vec![Driver::Epoll],
        Ok(other) => panic!("RINGGATE_TEST_DRIVER={other}: say uring or epoll"),
    }
}

/// A server that answers every POST of each connection with `ANSWER_BYTES`; its threads end with its connections.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        mark();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || {
                mark();
                while answer(&stream).is_some() {}
            });
        }
    });
    address
}

/// None: the gateway closed the connection.
fn answer(mut stream: &TcpStream) -> Option<()> {
    // A client that waits for its answer sends nothing behind a request: the reader holds nothing back.
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let front =
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":""#;
    let back = r#""}]}}"#;
    let text = "x".repeat(ANSWER_BYTES - front.len() - back.len());
    let body = format!("{front}{text}{back}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).ok()
}

/// One worker on a port of its own, as `ringgate run` makes it.
struct Gateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    worker: mpsc::Receiver<Report>,
}

impl Gateway {
    fn start(driver: Driver, upstream: SocketAddr) -> Self {
        let text = format!(
            "listen: 127.0.0.1:0\nworkers: 1\nmcpServers: {{up: {{url: \"http://{upstream}/mcp\", era: modern}}}}\n"
        );
        let plan = config::load_text(&text, "test.yaml", Path::new("")).unwrap().plan;
        let listeners = listen::bind(plan.listeners[0].address, (1, 64), "listen").unwrap();
        let address = listeners[0].local_addr().unwrap();
        let (shared, mut bells) =
            Shared::new(Arc::new(plan), KeyRing::default(), Addresses::default(), Keys { seeds: [1, 2] })
                .unwrap();
        let (reports, worker) = mpsc::sync_channel(2);
        let seat = Seat { index: 0, core: None, driver, listeners, bell: bells.remove(0), reports };
        start::start(seat, Arc::clone(&shared)).unwrap();
        assert!(matches!(worker.recv(), Ok(Report::Up)));
        shared.enter(Phase::Serving);
        Self { shared, address, worker }
    }

    fn stop(self) {
        self.shared.enter(Phase::Stopping);
        let ended = self.worker.recv();
        assert!(matches!(ended, Ok(Report::Ended { result: Ok(()), .. })), "{ended:?}");
    }
}

fn call(client: &mut Client<TcpStream>, request: &Request) {
    let answer = client.call(request).unwrap();
    assert_eq!(answer.head.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.body.len(), ANSWER_BYTES);
}

#[test]
fn a_pass_through_call_allocates_at_most_twice() {
    mark();
    for driver in drivers() {
        let gateway = Gateway::start(driver, upstream());
        let caller = Caller { target: "/mcp/up".to_owned(), key: None };
        let request = caller.modern(1, &Call::tool("echo", json!({ "text": "y".repeat(40) })));
        let mut clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let stream = TcpStream::connect(gateway.address).unwrap();
                stream.set_read_timeout(Some(SILENCE)).unwrap();
                Client::new(stream, &gateway.address.to_string())
            })
            .collect();
        let mut calls = |count: usize| {
            for number in 0..count {
                call(&mut clients[number % CONNECTIONS], &request);
            }
        };
        calls(WARM_UP);
        let before = COUNTED.load(Ordering::Relaxed);
        calls(CALLS);
        let per_call = (COUNTED.load(Ordering::Relaxed) - before) as f64 / CALLS as f64;
        println!(
            "{driver:?}: {per_call:.3} allocations a call of {} B answered by {ANSWER_BYTES} B",
            request.body.len()
        );
        drop(clients);
        gateway.stop();
        assert!(before > 0, "the worker's own start was not counted: nothing is");
        assert!(per_call <= ALLOCATIONS_PER_CALL, "{driver:?}: {per_call:.3} allocations a call");
    }
}
