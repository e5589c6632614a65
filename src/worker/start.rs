//! Starting a worker: its thread, its core, its runtime, its listeners.
//!
//! Not here: what a connection does. A worker that panics ends the process: half a gateway would hold a
//! listener to which the kernel keeps sending connections.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::sys;
use crate::config::limits;
use crate::edge::accept;
use crate::edge::accept::Event;
use crate::handoff::Phase;
use crate::handoff::Shared;
use crate::net::listen;
use crate::net::ring;
use crate::net::runtime;
use crate::net::runtime::Driver;
use crate::worker::Worker;
use crate::worker::client;
use crate::worker::doors::Door;
use crate::worker::doors::Doors;
use crate::worker::handshake;
use crate::worker::post;
use monoio::net::TcpListener;
use monoio::net::UnixStream as RuntimeUnixStream;
use std::io;
use std::io::Write;
use std::net::TcpListener as BoundListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

/// What a worker tells whoever started it: that it is up, later that it ended. Two at most from each.
#[derive(Debug)]
pub enum Report {
    /// It accepts connections.
    Up,
    /// It is drained, or could not start or go on.
    Ended { worker: usize, result: io::Result<()> },
}

/// What one worker thread is given.
pub struct Seat {
    pub index: usize,
    /// None: not pinned.
    pub core: Option<usize>,
    pub driver: Driver,
    pub listeners: Vec<BoundListener>,
    pub bell: UnixStream,
    /// Has room for all that all workers tell.
    pub reports: SyncSender<Report>,
}

/// Starts the thread of one worker. It ends when the phase is `Stopping`, or draining is done.
///
/// # Errors
/// Where no thread can be started. What fails later comes as a [`Report`].
pub fn start(seat: Seat, shared: Arc<Shared>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(format!("worker-{}", seat.index));
    thread.spawn(move || {
        let (worker, reports) = (seat.index, seat.reports.clone());
        let work = std::panic::AssertUnwindSafe(|| work(seat, Arc::clone(&shared)));
        let result = std::panic::catch_unwind(work).unwrap_or_else(|_| end_by_defect());
        // However it ended: no drain waits for it.
        shared.posts[worker].closed.store(true, Ordering::Release);
        // Nobody listens where the process ends already.
        let _ = reports.send(Report::Ended { worker, result });
    })?;
    Ok(())
}

fn work(seat: Seat, shared: Arc<Shared>) -> io::Result<()> {
    // Unpinned is slower, not wrong: a cpuset may forbid it.
    if let Some(core) = seat.core
        && let Err(error) = sys::pin_to_core(core)
    {
        tracing::warn!("worker {} is not pinned to core {core}: {error}", seat.index);
    }
    let driver = seat.driver;
    let mut result = Ok(());
    runtime::block_on(driver, || async {
        result = serve(seat, shared).await;
    })?;
    result
}

async fn serve(seat: Seat, shared: Arc<Shared>) -> io::Result<()> {
    let worker = Rc::new(Worker::new(seat.index, shared)?);
    seat.bell.set_nonblocking(seat.driver == Driver::Epoll)?;
    let bell = RuntimeUnixStream::from_std(seat.bell)?;
    if seat.driver == Driver::Uring {
        let pump = ring::open(Rc::clone(&worker.buffers), limits::READ_AHEAD_BYTES)?;
        monoio::spawn(guard(move || async {
            // Nothing of this worker moves any more: the process ends as with any other defect.
            let ended = pump.await;
            assert!(ended.is_ok(), "the ring of a worker is broken: {ended:?}");
        }));
    }
    let mut doors = Doors::default();
    for (index, bound) in seat.listeners.into_iter().enumerate() {
        let listener = listen::adopt(bound)?;
        let door = doors.add(listener.as_raw_fd());
        let worker = Rc::clone(&worker);
        monoio::spawn(guard(move || accept_on(worker, (listener, door), index)));
    }
    let listening = Rc::clone(&worker);
    monoio::spawn(guard(move || post::listen(listening, bell)));
    let _ = seat.reports.send(Report::Up);
    loop {
        worker.ticker.tick().await?;
        worker.tick();
        let phase = worker.follow_phase();
        let serves = matches!(phase, Phase::Starting | Phase::Serving);
        worker.ticker.pace(serves && worker.watch.is_empty());
        if doors.turn(phase, clock::now()) {
            worker.shared.posts[worker.index].closed.store(true, Ordering::Release);
            if worker.watch.is_empty() {
                return Ok(());
            }
        }
    }
}

/// `index`: which of the plan's listeners it is. A reload keeps their order.
async fn accept_on(worker: Rc<Worker>, (listener, door): (TcpListener, Door), index: usize) {
    let over = || door.is_closed();
    let tell = |event| match event {
        Event::Connection(stream, ends) => {
            worker.metrics().accepted_connections.add(1);
            if worker.watch.len() >= limits::CLIENT_CONNECTIONS_MAX {
                worker.metrics().hit(Bound::Connections);
                return;
            }
            worker.wake_up();
            let tls = worker.adopt().plan.listeners.get(index).and_then(|listener| listener.tls.clone());
            let worker = Rc::clone(&worker);
            match tls {
                None => monoio::spawn(guard(move || client::serve(worker, stream, ends, None))),
                Some(tls) => monoio::spawn(guard(move || handshake::serve(worker, stream, ends, tls))),
            };
        }
        Event::Failed(_) => worker.metrics().hit(Bound::AcceptErrors),
    };
    let pause = || worker.pause(limits::EXHAUSTED_PAUSE_MS);
    accept::run(&listener, over, tell, pause).await;
}

/// A panic in one task ends the process with its message instead of leaving a core without a worker.
///
/// The task is made here and not handed in: a future that is an argument lies in its caller's state twice.
pub(super) async fn guard<Task: Future<Output = ()>>(make: impl FnOnce() -> Task) {
    let mut task = std::pin::pin!(make());
    std::future::poll_fn(|cx| {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| end_by_defect())
    })
    .await;
}

/// Half a gateway would hold a listener to which the kernel keeps sending connections.
fn end_by_defect() -> ! {
    // Not `eprintln!`: it panics where stderr is full, and the process would go on.
    let _ = writeln!(
        io::stderr(),
        "ringgate: a worker met a defect and the process ends; please report the message above"
    );
    std::process::exit(70)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    /// Set in the process that is to end.
    const CHILD: &str = "RINGGATE_TEST_DEFECT";

    /// Saying so panicked where stderr was full, and the process ended with another code or not at all.
    #[test]
    fn a_defect_ends_the_process_even_if_nobody_can_read_why() {
        if std::env::var_os(CHILD).is_some() {
            let mut task = std::pin::pin!(guard(async || panic!("a defect")));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = task.as_mut().poll(&mut context);
            return;
        }
        let name = "worker::start::tests::a_defect_ends_the_process_even_if_nobody_can_read_why";
        let full = File::options().write(true).open("/dev/full").expect("a full device");
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").stderr(full);
        assert_eq!(child.status().expect("started").code(), Some(70));
    }
}
