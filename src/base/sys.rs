//! The only `unsafe` of the project, and the few system calls that the runtime does not offer.
//!
//! Not here: policy of any kind. Each function does one system call and says what its answer means.
//!
//! The worker owns its sockets through the runtime's types, which lend only a raw descriptor number.
//! [`lend`] turns such a number into a borrow for the length of one call. [`ring`] has the rest: what the kernel
//! touches while we do something else.

pub mod ring;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::epoll;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::Shutdown;
use socket2::SockFilter;
use socket2::SockRef;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

/// Calls `f` with a borrow of `fd`.
#[expect(unsafe_code, reason = "the one place; see the two comments")]
fn lend<R>(fd: RawFd, f: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
    // JUSTIFICATION: the runtime's socket types implement only AsRawFd; duplicating the descriptor for a
    // safe OwnedFd would cost a system call on every send.
    // SAFETY: callers pass the descriptor of a socket that they (or the watch entry that is removed before
    // the socket is dropped) hold open across this call, so it is open and not reused while borrowed; it is
    // never -1 because every caller checks for the "none" value first.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    f(borrowed)
}

/// Sends what fits into the socket's buffer now. `Ok(0)` only for an empty slice.
///
/// # Errors
/// `WouldBlock` where nothing fits; `BrokenPipe` or `ConnectionReset` where the peer has gone.
pub fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match lend(fd, |fd| rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives what is there now. `Ok(0)`: the peer has closed its side.
///
/// # Errors
/// `WouldBlock` where nothing is there; the socket's error otherwise.
pub fn receive_now(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match lend(fd, |fd| rustix::net::recv(fd, &mut *into, RecvFlags::DONTWAIT)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?.0),
        }
    }
}

/// What stands at the head of a socket's receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nothing has come: an idle connection that is still open.
    Empty,
    /// Bytes wait.
    Bytes,
    /// The peer closed, or the socket is broken.
    Closed,
}

/// Looks without taking.
pub fn queue(fd: RawFd) -> Queue {
    let mut byte = [0u8; 1];
    match lend(fd, |fd| rustix::net::recv(fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)) {
        Ok((_, 0)) => Queue::Closed,
        Ok(_) => Queue::Bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Queue::Empty,
        Err(_) => Queue::Closed,
    }
}

/// Whether anything waits at a socket that nobody has been told of: bytes, an end, an error, which stays for who receives.
pub fn has_news(fd: RawFd) -> bool {
    // Where that cannot be asked, a look at the socket itself will tell.
    poll_now(fd, PollFlags::IN | PollFlags::RDHUP).map_or(true, |found| !found.is_empty())
}

/// Ends one or both directions; a read or poll in flight on the socket completes. Errors mean that the
/// connection is already gone, which is what the caller wants.
pub fn shut(fd: RawFd, how: Direction) {
    let how = match how {
        Direction::Both => Shutdown::Both,
        Direction::Read => Shutdown::Read,
        Direction::Write => Shutdown::Write,
    };
    let _ = lend(fd, |fd| rustix::net::shutdown(fd, how));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Both,
    Read,
    Write,
}

/// Classic BPF over a TCP segment: of those with SYN and without ACK nothing passes. The last segment of a handshake
/// and all bytes of connections pass.
const IGNORE_SYN: [SockFilter; 5] = {
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(0x30, 0, 0, FLAGS_AT),  // load the byte of flags
        SockFilter::new(0x54, 0, 0, SYN | ACK), // keep two of them
        SockFilter::new(0x15, 0, 1, SYN),       // SYN alone?
        SockFilter::new(0x06, 0, 0, 0),         // nothing of it passes
        SockFilter::new(0x06, 0, 0, u32::MAX),  // all of it passes
    ]
};

/// Has a listener ignore attempts to connect. Clients try again after a second.
///
/// # Errors
/// Where the kernel takes no filter.
pub fn ignore_new_connections(fd: RawFd) -> io::Result<()> {
    lend(fd, |fd| SockRef::from(&fd).attach_filter(&IGNORE_SYN))
}

/// Whether there is something to read now, or of a listener to accept. Takes nothing.
pub fn is_readable(fd: RawFd) -> bool {
    poll_now(fd, PollFlags::IN).is_ok_and(|found| found.contains(PollFlags::IN))
}

/// What of `events` is there now, and what ends are.
fn poll_now(fd: RawFd, events: PollFlags) -> rustix::io::Result<PollFlags> {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    lend(fd, |fd| {
        let mut asked = [PollFd::new(&fd, events)];
        rustix::event::poll(&mut asked, Some(&now)).map(|_| asked[0].revents())
    })
}

/// Whether a connection that was being made is made.
///
/// # Errors
/// Why it is not; `NotConnected` where it was shut down while it was being made.
pub fn connected(fd: RawFd) -> io::Result<()> {
    lend(fd, |fd| {
        match rustix::net::sockopt::socket_error(fd)? {
            Ok(()) => rustix::net::getpeername(fd)?,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    })
}

/// The address on our side of an IP connection.
///
/// # Errors
/// Where the connection is gone or is not an IP one.
pub fn local_address(fd: RawFd) -> io::Result<std::net::SocketAddr> {
    let address = lend(fd, |fd| rustix::net::getsockname(fd))?;
    std::net::SocketAddr::try_from(address).map_err(io::Error::from)
}

/// Whether reads and writes of the descriptor itself wait. The ring needs them to; epoll needs the opposite.
///
/// # Errors
/// Where the descriptor is not open.
pub fn set_blocking(fd: RawFd, blocking: bool) -> io::Result<()> {
    lend(fd, |fd| rustix::io::ioctl_fionbio(fd, !blocking))?;
    Ok(())
}

/// Takes a connection down with a reset: what waits on it ends, and its peer cannot take a cut answer for a whole
/// one. Unix sockets have no reset; they are shut down.
pub fn abort(fd: RawFd) {
    if lend(fd, |fd| rustix::net::connect_unspec(fd)).is_err() {
        shut(fd, Direction::Both);
    }
}

const INTERIM: &[u8] = b"HTTP/1.1 1";

/// Whether bytes begin like an interim answer (1xx) of HTTP/1.1.
pub fn is_interim(bytes: &[u8]) -> bool {
    bytes.starts_with(INTERIM)
}

/// Whether what waits on a socket begins like an interim answer. Takes nothing.
pub fn interim_waits(fd: RawFd) -> bool {
    let mut begin = [0; INTERIM.len()];
    let peeked = lend(fd, |fd| rustix::net::recv(fd, &mut begin, RecvFlags::PEEK | RecvFlags::DONTWAIT));
    peeked.is_ok_and(|(_, count)| is_interim(begin.get(..count).unwrap_or_default()))
}

/// Makes the close of this socket a reset, so that the peer cannot take a cut answer for a whole one.
pub fn reset_on_close(fd: RawFd) {
    let _ = lend(fd, |fd| rustix::net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO)));
}

/// Sends small writes at once. Fails only on sockets that have no such option (Unix sockets).
pub fn no_delay(fd: RawFd) {
    let _ = lend(fd, |fd| rustix::net::sockopt::set_tcp_nodelay(fd, true));
}

/// A set of sockets whose peers may hang up while nobody reads from them.
pub struct HangUps {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// Hang-ups that one look can return; the rest come with the next.
const HANG_UPS_PER_LOOK: usize = 256;

impl HangUps {
    /// # Errors
    /// Where no descriptor is free.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(HANG_UPS_PER_LOOK) })
    }

    /// Watches `fd` until [`Self::forget`] or one report. `token` comes back with the report.
    ///
    /// # Errors
    /// Where the kernel refuses (`fs.epoll.max_user_watches`): the departure is then seen at the next write.
    pub fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ONESHOT;
        lend(fd, |fd| epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags))?;
        Ok(())
    }

    pub fn forget(&self, fd: RawFd) {
        let _ = lend(fd, |fd| epoll::delete(&self.epoll, fd));
    }

    /// The tokens of the sockets whose peer has hung up since the last look. Never waits.
    pub fn look(&mut self, mut gone: impl FnMut(u64)) {
        self.events.clear();
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        if epoll::wait(&self.epoll, room, Some(&zero)).is_ok() {
            for event in &self.events {
                gone(event.data.u64());
            }
        }
    }
}

/// A timer that is a descriptor: readable when it fired.
pub struct Timer(OwnedFd);

impl Timer {
    /// Fires every `interval_ms`, for the first time that long from now.
    ///
    /// # Errors
    /// Where no descriptor is free.
    pub fn new(interval_ms: u64) -> io::Result<Self> {
        use rustix::time::TimerfdClockId;
        use rustix::time::TimerfdFlags;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        rustix::time::timerfd_settime(&timer, rustix::time::TimerfdTimerFlags::empty(), &every(interval_ms))?;
        Ok(Self(timer))
    }

    /// Changes the interval of a timer by its descriptor.
    pub fn set(fd: RawFd, interval_ms: u64) {
        let flags = rustix::time::TimerfdTimerFlags::empty();
        let _ = lend(fd, |fd| rustix::time::timerfd_settime(fd, flags, &every(interval_ms)));
    }
}

impl From<Timer> for std::os::unix::net::UnixStream {
    fn from(timer: Timer) -> Self {
        timer.0.into()
    }
}

/// Whether a timer or a bell has fired since the last look.
pub fn take_signal(fd: RawFd) -> bool {
    let mut count = [0; 8];
    lend(fd, |fd| rustix::io::read(fd, &mut count)).is_ok()
}

fn every(interval_ms: u64) -> rustix::time::Itimerspec {
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(interval_ms / 1_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(interval_ms % 1_000 * 1_000_000).unwrap_or(0),
    };
    rustix::time::Itimerspec { it_interval: time, it_value: time }
}

/// Pins the calling thread to one core.
///
/// # Errors
/// Where the core is not ours (cpuset) or the call is filtered.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

/// The cores that this process may use, in order.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Raises the soft limit of open descriptors to the hard one: a proxy needs two per call.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// No core dumps and no ptrace by others: the memory holds credentials.
pub fn forbid_core_dumps() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn queue_tells_empty_bytes_and_closed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fd = ours.as_raw_fd();
        assert_eq!(queue(fd), Queue::Empty);
        theirs.write_all(b"x").unwrap();
        assert_eq!(queue(fd), Queue::Bytes);
        let mut byte = [0; 4];
        assert_eq!(receive_now(fd, &mut byte).unwrap(), 1);
        drop(theirs);
        assert_eq!(queue(fd), Queue::Closed);
    }

    #[test]
    fn a_hang_up_is_seen_once_and_bytes_are_not_one() {
        let mut set = HangUps::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        set.watch(ours.as_raw_fd(), 7).unwrap();
        let mut seen = Vec::new();
        theirs.write_all(b"pipelined").unwrap();
        set.look(|token| seen.push(token));
        assert!(seen.is_empty());
        drop(theirs);
        set.look(|token| seen.push(token));
        set.look(|token| seen.push(token));
        assert_eq!(seen, [7]);
    }

    #[test]
    fn an_ignoring_listener_keeps_whom_it_has_let_in() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, address) = (listener.as_raw_fd(), listener.local_addr().unwrap());
        assert!(!is_readable(fd));
        let mut queued = std::net::TcpStream::connect(address).unwrap();
        ignore_new_connections(fd).unwrap();
        assert!(is_readable(fd));
        let late = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = listener.accept().unwrap();
        assert!(!is_readable(fd), "the late one is not in the queue");
        queued.write_all(b"x").unwrap();
        io::Read::read_exact(&mut accepted, &mut [0]).unwrap();
    }

    #[test]
    fn send_now_says_would_block() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let block = vec![0u8; 1 << 20];
        let mut last = Ok(1);
        while last.is_ok() {
            last = send_now(ours.as_raw_fd(), &block);
        }
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
