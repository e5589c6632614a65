//! The io_uring of one thread: sockets in a fixed table, multishot accept and receive into a provided
//! buffer ring, sends of owned bytes or of a received buffer; and the few system calls that std lacks.
//! Not here: any protocol; what a connection means is its user's business.
//!
//! # JUSTIFICATION
//! The only file of the harness with `unsafe`. The kernel reads and writes memory behind the borrow
//! checker's back, so the buffers of an operation are owned by the [`Ring`] from submission to completion:
//! a [`Lease`] is the right to read one received buffer and is moved into the ring to be sent, a `Vec` to
//! send is kept in a table and handed back by its completion. The interface is safe: no caller can free or
//! change bytes that the kernel still uses.
#![expect(unsafe_code, reason = "io_uring; every block states its invariant")]

use std::alloc::Layout;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use io_uring::IoUring;
use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types::BufRingEntry;
use io_uring::types::Fd;
use io_uring::types::Fixed;
use io_uring::types::SubmitArgs;
use io_uring::types::Timespec;

use crate::completion::Completion;
use crate::completion::Received;

const GROUP: u16 = 0;
/// Bytes between two buffers beyond their size, so that they do not all start in the same cache set.
const STAGGER: usize = 320;

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Sockets at once; slots are `0..sockets`.
    pub(crate) sockets: u32,
    /// Provided buffers, a power of two up to 32,768.
    pub(crate) buffers: u16,
    /// Bytes of a provided buffer.
    pub(crate) buffer_bytes: usize,
}

/// The right to read one received buffer. Give it back or send it: dropping it loses the buffer.
#[derive(Debug)]
#[must_use = "a lease that is not given back is a buffer lost"]
pub(crate) struct Lease {
    ring: u16,
    buffer: u16,
    start: u32,
    end: u32,
}

impl Lease {
    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Leaves out the first `bytes`, at most all.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.start = self.start.saturating_add(bytes).min(self.end);
    }
}

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND_LEASE: u64 = 3;
const SEND_BYTES: u64 = 4;
const CANCEL: u64 = 5;

/// kind (8 bits), operand (24 bits), slot (32 bits).
fn tag(kind: u64, operand: u32, slot: u32) -> u64 {
    (kind << 56) | (u64::from(operand) << 32) | u64::from(slot)
}

struct Buffers {
    entries: NonNull<BufRingEntry>,
    entries_layout: Layout,
    memory: NonNull<u8>,
    memory_layout: Layout,
    count: u16,
    bytes: usize,
    stride: usize,
    tail: u16,
}

/// An io_uring with its buffers; used by the one thread that made it.
pub(crate) struct Ring {
    uring: IoUring,
    id: u16,
    buffers: Buffers,
    sockets: Vec<Option<TcpStream>>,
    /// Length of a lease in flight, by buffer.
    lent: Vec<(u32, u32)>,
    /// Bytes in flight, and the free places among them.
    sending: Vec<Vec<u8>>,
    free: Vec<u32>,
    ready: VecDeque<cqueue::Entry>,
    in_flight: usize,
    /// Buffers that the kernel may receive into.
    provided: usize,
    accepting: Option<TcpListener>,
}

static NEXT_RING: AtomicU16 = AtomicU16::new(0);

fn build(entries: u32) -> io::Result<IoUring> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for defer in [true, false] {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(entries.saturating_mul(8)).setup_clamp().setup_submit_all();
        builder.setup_single_issuer();
        if defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        match builder.build(entries) {
            Ok(ring) => return Ok(ring),
            Err(error) => last = error,
        }
    }
    Err(io::Error::new(last.kind(), format!("io_uring refused: {last}; kernel 6.0 or newer is needed")))
}

impl Buffers {
    fn new(count: u16, bytes: usize) -> io::Result<Self> {
        let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
        let stride = bytes + STAGGER;
        let entries_layout =
            Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), 4096).map_err(invalid)?;
        let memory_layout = Layout::from_size_align(usize::from(count) * stride, 4096).map_err(invalid)?;
        if memory_layout.size() == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: both layouts have a size above zero, checked just above (count and stride are factors).
        let (entries, memory) =
            unsafe { (std::alloc::alloc_zeroed(entries_layout), std::alloc::alloc_zeroed(memory_layout)) };
        let out_of_memory = || io::Error::from_raw_os_error(libc::ENOMEM);
        Ok(Self {
            entries: NonNull::new(entries.cast()).ok_or_else(out_of_memory)?,
            entries_layout,
            memory: NonNull::new(memory).ok_or_else(out_of_memory)?,
            memory_layout,
            count,
            bytes,
            stride,
            tail: 0,
        })
    }

    fn address(&self, buffer: u16) -> NonNull<u8> {
        debug_assert!(buffer < self.count);
        // SAFETY: `buffer < count`, so the offset stays inside the allocation of `count * stride` bytes.
        unsafe { self.memory.add(usize::from(buffer) * self.stride) }
    }

    /// Hands `buffer` to the kernel.
    fn provide(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place < count` because count is a power of two. The kernel reads an entry only below the
        // tail, which is published after the entry is written; the entry at the tail is ours.
        unsafe {
            let entry = self.entries.add(place).as_mut();
            entry.set_addr(self.address(buffer).as_ptr() as u64);
            entry.set_len(u32::try_from(self.bytes).unwrap_or(u32::MAX));
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the page-aligned base of the ring; the tail lives in its first entry and is
        // written by us alone, read by the kernel.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }
}

impl Ring {
    /// Makes the ring, its table of sockets and its buffers.
    ///
    /// # Errors
    /// What the kernel says: io_uring forbidden, too few descriptors, no memory.
    pub(crate) fn new(size: Size) -> io::Result<Self> {
        let uring = build(1024)?;
        uring.submitter().register_files_sparse(size.sockets)?;
        let count = size.buffers.next_power_of_two();
        let mut buffers = Buffers::new(count, size.buffer_bytes)?;
        // SAFETY: the entries are page-aligned, hold `count` of them, and live until the ring is closed:
        // `Drop` frees them only if nothing is in flight, after unregistering.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                count,
                GROUP,
                0,
            )?;
        }
        for buffer in 0..count {
            buffers.provide(buffer);
        }
        Ok(Self {
            uring,
            id: NEXT_RING.fetch_add(1, Ordering::Relaxed),
            buffers,
            sockets: (0..size.sockets).map(|_| None).collect(),
            lent: vec![(0, 0); usize::from(count)],
            sending: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::with_capacity(4096),
            in_flight: 0,
            provided: usize::from(count),
            accepting: None,
        })
    }

    /// Puts a connected socket into `slot`, which must be free.
    pub(crate) fn adopt(&mut self, slot: u32, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let place = self
            .sockets
            .get_mut(slot as usize)
            .filter(|place| place.is_none())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
        self.uring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        *place = Some(socket);
        Ok(())
    }

    /// Closes the socket of `slot`. Its receive and sends must have completed, else their completions would
    /// be taken for those of the slot's next socket.
    pub(crate) fn release(&mut self, slot: u32) {
        if let Some(place) = self.sockets.get_mut(slot as usize)
            && place.take().is_some()
        {
            let _ = self.uring.submitter().register_files_update(slot, &[-1]);
        }
    }

    /// Ends a direction of `slot`: its receive completes, its peer sees the end.
    pub(crate) fn shutdown(&self, slot: u32, how: Shutdown) {
        if let Some(Some(socket)) = self.sockets.get(slot as usize) {
            let _ = socket.shutdown(how);
        }
    }

    /// Accepts connections until the ring goes.
    pub(crate) fn accept(&mut self, listener: TcpListener) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(ACCEPT, 0, 0));
        self.accepting = Some(listener);
        self.push(entry);
    }

    /// Receives on `slot` until the peer ends, buffers run out or it is cancelled.
    pub(crate) fn receive(&mut self, slot: u32) {
        let entry = opcode::RecvMulti::new(Fixed(slot), GROUP).build().user_data(tag(RECEIVE, 0, slot));
        self.push(entry);
    }

    /// Stops the receive of `slot`; it completes as [`Received::Cancelled`].
    pub(crate) fn cancel_receive(&mut self, slot: u32) {
        let entry = opcode::AsyncCancel::new(tag(RECEIVE, 0, slot)).build().user_data(tag(CANCEL, 0, slot));
        self.push(entry);
    }

    /// Sends what `lease` holds.
    pub(crate) fn send_lease(&mut self, slot: u32, lease: Lease) {
        assert_eq!(lease.ring, self.id, "a lease belongs to the ring that gave it");
        // SAFETY: start is within the buffer.
        let from = unsafe { self.buffers.address(lease.buffer).add(lease.start as usize) };
        let length = lease.end - lease.start;
        self.lent[usize::from(lease.buffer)] = (lease.start, lease.end);
        let entry = opcode::Send::new(Fixed(slot), from.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(tag(SEND_LEASE, u32::from(lease.buffer), slot));
        self.push(entry);
    }

    /// Sends `bytes[skip..]`; the completion hands the vector back.
    pub(crate) fn send_bytes(&mut self, slot: u32, bytes: Vec<u8>, skip: usize) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.sending.push(Vec::new());
            u32::try_from(self.sending.len() - 1).unwrap_or(u32::MAX)
        });
        let part = &bytes[skip.min(bytes.len())..];
        // The vector's heap block does not move when the vector does.
        let entry =
            opcode::Send::new(Fixed(slot), part.as_ptr(), u32::try_from(part.len()).unwrap_or(u32::MAX))
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build()
                .user_data(tag(SEND_BYTES, place, slot));
        self.sending[place as usize] = bytes;
        self.push(entry);
    }

    /// The bytes of a received buffer.
    pub(crate) fn bytes(&self, lease: &Lease) -> &[u8] {
        assert_eq!(lease.ring, self.id, "a lease belongs to the ring that gave it");
        // SAFETY: the lease was made from a completion that gave this buffer to us with `end` bytes written,
        // `end <= bytes`; the kernel does not write it again until it is provided again, which consumes the
        // lease, and the borrow of `self` ends before that.
        unsafe {
            let from = self.buffers.address(lease.buffer).add(lease.start as usize);
            std::slice::from_raw_parts(from.as_ptr(), lease.len())
        }
    }

    /// The buffer may be received into again.
    #[expect(clippy::needless_pass_by_value, reason = "taking the lease ends the right to read")]
    pub(crate) fn give_back(&mut self, lease: Lease) {
        assert_eq!(lease.ring, self.id, "a lease belongs to the ring that gave it");
        self.buffers.provide(lease.buffer);
        self.provided += 1;
    }

    /// A receive that found no buffer may try again.
    pub(crate) fn has_buffers(&self) -> bool {
        self.provided > 0
    }

    /// Submits, then waits for something to happen, at most for `timeout`.
    ///
    /// # Errors
    /// Only such that no retry mends.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.ready.is_empty() {
            let outcome = match timeout {
                None => self.uring.submitter().submit_and_wait(1),
                Some(timeout) => {
                    let until = Timespec::from(timeout);
                    self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&until))
                }
            };
            match outcome {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        self.ready.extend(self.uring.completion());
        Ok(())
    }

    /// The next completion of the last wait.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.ready.pop_front()?;
        let (data, result) = (entry.user_data(), entry.result());
        let armed = cqueue::more(entry.flags());
        if !armed {
            self.in_flight -= 1;
        }
        let slot = (data & 0xffff_ffff) as u32;
        let operand = ((data >> 32) & 0x00ff_ffff) as u32;
        let sized = |result: i32| usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Some(match data >> 56 {
            ACCEPT => self.accepted(result, armed),
            RECEIVE => {
                let received = self.received(result, cqueue::buffer_select(entry.flags()));
                Completion::Received { slot, received, armed }
            }
            SEND_LEASE => {
                let buffer = operand as u16;
                let (start, end) = self.lent[usize::from(buffer)];
                let lease = Lease { ring: self.id, buffer, start, end };
                Completion::SentLease { slot, lease, result: sized(result) }
            }
            SEND_BYTES => {
                let bytes = std::mem::take(&mut self.sending[operand as usize]);
                self.free.push(operand);
                Completion::SentBytes { slot, bytes, result: sized(result) }
            }
            _ => Completion::Internal,
        })
    }

    fn accepted(&mut self, result: i32, armed: bool) -> Completion {
        if !armed && let Some(listener) = self.accepting.take() {
            self.accept(listener);
        }
        if result < 0 {
            return Completion::Accepted(Err(io::Error::from_raw_os_error(-result)));
        }
        // SAFETY: the kernel just made this descriptor for us, nobody else has it.
        Completion::Accepted(Ok(unsafe { TcpStream::from_raw_fd(result) }))
    }

    fn received(&mut self, result: i32, buffer: Option<u16>) -> Received {
        match (result, buffer) {
            (1.., Some(buffer)) => {
                self.provided -= 1;
                let end = u32::try_from(result).unwrap_or(0);
                Received::Bytes(Lease { ring: self.id, buffer, start: 0, end })
            }
            (_, Some(buffer)) => {
                self.buffers.provide(buffer);
                Received::End
            }
            (0.., None) => Received::End,
            (_, None) if -result == libc::ENOBUFS => Received::NoBuffers,
            (_, None) if -result == libc::ECANCELED => Received::Cancelled,
            (_, None) => Received::Failed,
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        loop {
            // SAFETY: the memory of every entry (a provided buffer, a vector in `sending`) is owned by this
            // ring until its completion, and `Drop` does not free it while anything is in flight.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // A full queue: the kernel takes entries without waiting.
            let _ = self.uring.submit();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still use the memory: it stays until the process ends.
            std::mem::forget(std::mem::take(&mut self.sending));
            return;
        }
        let _ = self.uring.submitter().unregister_buf_ring(GROUP);
        // SAFETY: allocated with these layouts, unregistered, and no operation is in flight.
        unsafe {
            std::alloc::dealloc(self.buffers.entries.as_ptr().cast(), self.buffers.entries_layout);
            std::alloc::dealloc(self.buffers.memory.as_ptr(), self.buffers.memory_layout);
        }
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP set [`stopped`] instead of ending the process, so that what was
/// started is ended too. A second signal ends it at once.
pub(crate) fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic; the structure is valid when zeroed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note_signal as *const () as usize;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Somebody asked us to end.
pub(crate) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

fn clock(id: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and valid for the call.
    let done = unsafe { libc::clock_gettime(id, &raw mut time) } == 0;
    let seconds = u64::try_from(time.tv_sec).ok()?;
    done.then_some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

/// Nanoseconds of the machine's monotonic clock, comparable between processes.
pub(crate) fn monotonic_nanos() -> u64 {
    clock(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// CPU nanoseconds that process `pid` has used, its dead threads included, from the scheduler's own sum;
/// `None` if it is gone.
pub(crate) fn cpu_nanos(pid: u32) -> Option<u64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut id: libc::clockid_t = 0;
    // SAFETY: `id` is ours and valid for the call.
    if unsafe { libc::clock_getcpuclockid(pid, &raw mut id) } != 0 {
        return None;
    }
    clock(id)
}

/// Pins the calling thread, and what it starts, to `cpu`.
///
/// # Errors
/// No such CPU, or not ours to use.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= 1024 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a zeroed set is an empty set, and `cpu` is below its 1,024 bits.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Timers of this thread wake on the nanosecond that was asked for, not up to 50 us later.
pub(crate) fn precise_timers() {
    // SAFETY: changes one number of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Lifts the soft limit of open files to the hard one and says what it is.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and valid for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur
}

/// A burst of thousands of connections must not be dropped by our own listener.
pub(crate) fn widen_backlog(listener: &TcpListener) {
    // SAFETY: a descriptor that we hold; calling listen again only changes the backlog.
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
}

/// The child gets its own process group, the given CPU, and dies with the thread that started it.
pub(crate) fn bind_to_us(command: &mut Command, cpu: Option<usize>) {
    command.process_group(0);
    // SAFETY: runs between fork and exec; only system calls, no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            cpu.map_or(Ok(()), pin)
        });
    }
}

/// Grandchildren whose parent ended become ours, so that they stay in our tree and are counted and ended.
pub(crate) fn adopt_orphans() {
    // SAFETY: changes one flag of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Sends `signal` to a process group that we made.
pub(crate) fn signal_group(leader: u32, signal: libc::c_int) {
    if let Ok(leader) = libc::pid_t::try_from(leader)
        && leader > 1
    {
        // SAFETY: a signal to a group; the group is our child's own, made by `bind_to_us`.
        unsafe { libc::kill(-leader, signal) };
    }
}
