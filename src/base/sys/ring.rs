//! `Ring`: the io_uring that carries the bytes of calls: receives into buffers that the kernel picks when
//! bytes have come, and sends of owned buffers.
//!
//! Not here: who waits for what (`net::ring`), and every operation that is not on the path of a call (the
//! runtime has a ring of its own).
//!
//! The kernel reads and writes memory behind the borrow checker's back. So a buffer that it may touch belongs to
//! the [`Ring`]: it is moved in with the operation and comes back with its completion, and a ring that is
//! dropped leaks what the kernel may still hold.

use crate::base::buffer::Buffer;
use io_uring::IoUring;
use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types::Fd;
use rustix::event::EventfdFlags;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;

/// Submission entries: more are submitted early.
const ENTRIES: u32 = 1024;
/// Buffers that wait in the kernel for bytes to come: a MiB a worker, once all were used. A power of two, and more
/// than one turn delivers (about twenty). Receives past it end with ENOBUFS and are asked for again, by which time
/// there are buffers again.
const PROVIDED: usize = PROVIDED_U16 as usize;
const PROVIDED_U16: u16 = 64;
const GROUP: u16 = 0;
/// IORING_RECVSEND_POLL_FIRST: nothing has come when a receive is asked for, so trying first is in vain.
const POLL_FIRST: u16 = 1;
/// IORING_RECV_MULTISHOT: the receive stays, and completes for each piece that comes.
const MULTISHOT: u16 = 2;
/// Where a submission entry has the most bytes that such a receive may bring (`optlen`).
const LIMIT_AT: usize = 44;
/// IORING_ENTER_GETEVENTS: with DEFER_TASKRUN completions are delivered only when asked for.
const GET_EVENTS: u32 = 1;

const RECEIVE: u64 = 1;
const READ: u64 = 2;
const SEND: u64 = 3;
const CANCEL: u64 = 4;

/// kind (8 bits) and port (32 bits).
const fn tag(kind: u64, port: u32) -> u64 {
    (kind << 32) | port as u64
}

/// What the kernel reads of a provided buffer: two words an entry, address, then length, id and, in the first
/// entry alone, the tail of the ring (io_uring_buf_ring of the kernel's interface).
#[repr(C, align(4096))]
struct Entries([[AtomicU64; 2]; PROVIDED]);

/// Half a word each would need another layout on a big-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

/// An operation that is over.
#[derive(Debug)]
pub enum Completion {
    /// What came, in a buffer of the pool, from the start of its room on; 0 bytes: the peer has ended. And whether the
    /// receive stays.
    Received(u32, io::Result<(Buffer, usize)>, bool),
    /// What came into the caller's own buffer.
    Read(u32, io::Result<usize>, Buffer),
    Sent(u32, io::Result<usize>, Buffer),
}

/// A buffer that the kernel may touch.
struct Lent(*mut [u8]);

impl Lent {
    fn new(buffer: Buffer) -> Self {
        Self(Box::into_raw(buffer))
    }

    /// The kernel is done with it.
    #[expect(unsafe_code, reason = "see the two comments")]
    fn take_back(self) -> Buffer {
        // JUSTIFICATION: a Box that moves while the kernel writes through a pointer to its content would break
        // Rust's rules of aliasing, so the buffer is kept as a raw pointer meanwhile.
        // SAFETY: the pointer came from `Box::into_raw` in `new`; `self` is consumed, so it is used once.
        unsafe { Box::from_raw(self.0) }
    }

    /// The address of `at`, for the kernel.
    fn address(&self, at: usize) -> *mut u8 {
        self.0.cast::<u8>().wrapping_add(at)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Buffers of one port in the kernel's hands: at most one for each direction.
#[derive(Default)]
struct Hands {
    read: Option<Lent>,
    send: Option<Lent>,
}

/// The ring of one worker; never leaves its thread.
pub struct Ring {
    uring: IoUring,
    entries: &'static Entries,
    tail: u16,
    provided: Vec<Option<Lent>>,
    /// Where received bytes go in a provided buffer.
    room: Range<usize>,
    hands: Vec<Hands>,
    /// Pushed, and not yet handed to the kernel.
    queued: usize,
    bell: OwnedFd,
    /// Bytes after which a receive that stays ends: never 0, which would mean no end.
    ahead: u32,
    /// Whether the kernel knows receives that end once they have brought so many bytes (Linux 6.17).
    can_stay: bool,
}

impl Ring {
    /// Makes a ring; `fresh` makes its buffers, all of one size, in which bytes are received into `room`. A receive that stays
    /// ends with the piece that makes up `ahead` bytes, which are at most a buffer's.
    ///
    /// # Errors
    /// What the kernel says: io_uring forbidden, older than Linux 5.19 (EINVAL), no memory.
    pub fn new(room: Range<usize>, ahead: u32, mut fresh: impl FnMut() -> Buffer) -> io::Result<Self> {
        let uring = build()?;
        // One look-up of a descriptor less for every system call; older kernels do without.
        let _ = uring.submitter().register_ring_fd();
        let entries: &'static Entries =
            Box::leak(Box::new(Entries([const { [const { AtomicU64::new(0) }; 2] }; PROVIDED])));
        register(&uring, entries)?;
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        uring.submitter().register_eventfd(bell.as_raw_fd())?;
        let mut ring = Self {
            uring,
            entries,
            tail: 0,
            provided: (0..PROVIDED).map(|_| None).collect(),
            room,
            hands: Vec::new(),
            queued: 0,
            bell,
            ahead: ahead.max(1),
            can_stay: false,
        };
        for id in 0..PROVIDED {
            ring.provide(id, fresh());
        }
        ring.can_stay = ring.try_to_stay().unwrap_or(false);
        Ok(ring)
    }

    /// An older kernel refuses the limit.
    fn try_to_stay(&mut self) -> io::Result<bool> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        drop(theirs);
        // Should its completion come late, it is none of a port's.
        self.push(&staying(ours.as_raw_fd(), 0, 1).user_data(tag(CANCEL, 0)));
        self.turn()?;
        let result = self.uring.completion().next().map(|entry| entry.result());
        // An end at once, and not EINVAL.
        Ok(result == Some(0))
    }

    /// Whether this host lets us have such a ring.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn probe() -> io::Result<()> {
        Self::new(0..1, 1, || vec![0].into_boxed_slice()).map(drop)
    }

    /// A descriptor that is readable once something has happened while the ring listened. Polling the ring's own
    /// descriptor is not enough: with DEFER_TASKRUN the kernel does not wake who polls it.
    ///
    /// # Errors
    /// Where no descriptor is free.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.bell.try_clone()
    }

    /// From now on the bell rings when something happens, and at once where something already has (unless
    /// `vain`: the last look found nothing, and the kernel's hint may be stale).
    pub fn listen(&mut self, vain: bool) {
        let mut completions = self.uring.completion();
        completions.enable_eventfd();
        if vain {
            return;
        }
        // Either the kernel sees that we listen, or we see what it did.
        fence(Ordering::SeqCst);
        completions.sync();
        let waiting = !completions.is_empty();
        drop(completions);
        if waiting || self.uring.submission().taskrun() {
            self.strike();
        }
    }

    /// Rings the bell, whether anything has happened or not.
    pub fn strike(&self) {
        // It cannot fail before 2^64 - 1 strokes that nobody heard.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// As on a kernel that knows no receives that stay.
    #[cfg(test)]
    pub fn be_older(&mut self) {
        self.can_stay = false;
    }

    /// The ring is about to be looked at: what happens until then needs no bell.
    pub fn hush(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Hands a buffer to the kernel, to be filled when bytes come for some receive.
    fn provide(&mut self, id: usize, buffer: Buffer) {
        let lent = Lent::new(buffer);
        let end = self.room.end.min(lent.len());
        let begin = self.room.start.min(end);
        let address = lent.address(begin) as u64;
        let place = usize::from(self.tail) % PROVIDED;
        self.tail = self.tail.wrapping_add(1);
        let length_and_id = (end - begin) as u64 | (id as u64) << 32;
        let entries = &self.entries.0;
        entries[place][0].store(address, Ordering::Relaxed);
        // The first entry's last quarter is the tail: it is kept where another place is written.
        let tail = u64::from(self.tail) << 48;
        if place == 0 {
            entries[0][1].store(length_and_id | tail, Ordering::Release);
        } else {
            entries[place][1].store(length_and_id, Ordering::Relaxed);
            let first = entries[0][1].load(Ordering::Relaxed) & !(0xFFFF << 48);
            entries[0][1].store(first | tail, Ordering::Release);
        }
        if let Some(kept) = self.provided.get_mut(id) {
            *kept = Some(lent);
        }
    }

    /// Asks for what comes next on `fd`, in a buffer that is picked when it has come; with `stay` for what comes after it
    /// as well, until a piece makes up the bytes that it may stay for, where the kernel can. At most one receive or read a
    /// port at a time: a receive lasts until a completion says that it does not stay.
    ///
    /// One that stays waits for the next event of its socket. What was part of an event that brought bytes as well, such as a
    /// reset right behind them, is told by no completion: whoever stays has to look at the socket himself once.
    pub fn receive(&mut self, port: u32, fd: RawFd, poll_first: bool, stay: bool) {
        let flags = if poll_first { POLL_FIRST } else { 0 };
        let entry = if stay && self.can_stay { staying(fd, flags, self.ahead) } else { picking(fd, flags) };
        self.push(&entry.user_data(tag(RECEIVE, port)));
    }

    /// Reads into `buffer[range]` when something has come.
    pub fn read(&mut self, port: u32, fd: RawFd, buffer: Buffer, range: Range<usize>) {
        let lent = Lent::new(buffer);
        let (at, length) = span(&lent, range);
        let entry = opcode::Recv::new(Fd(fd), lent.address(at), length).ioprio(POLL_FIRST).build();
        self.hands(port).read = Some(lent);
        self.push(&entry.user_data(tag(READ, port)));
    }

    /// Sends `buffer[range]`; less only where the connection breaks meanwhile. At most one a port at a time.
    pub fn send(&mut self, port: u32, fd: RawFd, buffer: Buffer, range: Range<usize>) {
        let lent = Lent::new(buffer);
        let (at, length) = span(&lent, range);
        let entry = opcode::Send::new(Fd(fd), lent.address(at).cast_const(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.hands(port).send = Some(lent);
        self.push(&entry.user_data(tag(SEND, port)));
    }

    /// Takes a receive or read back: it completes with ECANCELED, or with what had come by then.
    pub fn cancel(&mut self, port: u32) {
        let kind = if self.hands(port).read.is_some() { READ } else { RECEIVE };
        let entry = opcode::AsyncCancel::new(tag(kind, port)).build();
        self.push(&entry.user_data(tag(CANCEL, port)));
    }

    fn hands(&mut self, port: u32) -> &mut Hands {
        let index = port as usize;
        if index >= self.hands.len() {
            self.hands.resize_with(index + 1, Hands::default);
        }
        &mut self.hands[index]
    }

    /// Whether something was pushed that the kernel has not seen.
    pub fn is_queued(&self) -> bool {
        self.queued > 0
    }

    #[expect(unsafe_code, reason = "see the two comments")]
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // JUSTIFICATION: the io_uring crate cannot know how long an operation's memory lives.
            // SAFETY: the entry points at a buffer in `hands` or `provided`, owned there until its
            // completion is taken (and leaked with the ring), or at no memory at all.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                self.queued += 1;
                return;
            }
            // Full: the kernel takes what is there. It refuses only while completions wait to be taken, which
            // it keeps in a list of its own meanwhile.
            if let Err(error) = self.enter(0)
                && !is_busy(&error)
            {
                return;
            }
        }
    }

    /// Hands what was pushed to the kernel, so that it holds the files of every operation.
    pub fn flush(&mut self) {
        if self.queued > 0 {
            let _ = self.enter(0);
        }
    }

    /// Hands what was pushed to the kernel and lets it deliver what is ready; never waits.
    ///
    /// # Errors
    /// What the kernel says; what was pushed stays and is handed over with the next call.
    pub fn turn(&mut self) -> io::Result<()> {
        self.enter(GET_EVENTS)
    }

    #[expect(unsafe_code, reason = "see the two comments")]
    fn enter(&mut self, flags: u32) -> io::Result<()> {
        let queued = u32::try_from(self.queued).unwrap_or(u32::MAX);
        // JUSTIFICATION: the crate's safe calls ask for completions only where they also wait for one.
        // SAFETY: no argument is passed, and every pushed entry is sound by the comment in `push`.
        let taken = unsafe { self.uring.submitter().enter::<u8>(queued, 0, flags, None) }?;
        self.queued = self.queued.saturating_sub(taken);
        Ok(())
    }

    /// The next operation that is over; `fresh` makes the buffer that takes the place of a filled one.
    pub fn next(&mut self, fresh: impl FnOnce() -> Buffer) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            let port = u32::try_from(entry.user_data() & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            let result = outcome(entry.result());
            match entry.user_data() >> 32 {
                RECEIVE => {
                    let filled = self.filled(entry.flags(), result, fresh);
                    return Some(Completion::Received(port, filled, cqueue::more(entry.flags())));
                }
                READ => {
                    if let Some(lent) = self.hands(port).read.take() {
                        return Some(Completion::Read(port, result, lent.take_back()));
                    }
                }
                SEND => {
                    if let Some(lent) = self.hands(port).send.take() {
                        return Some(Completion::Sent(port, result, lent.take_back()));
                    }
                }
                _ => {}
            }
        }
    }

    fn filled(
        &mut self,
        flags: u32,
        result: io::Result<usize>,
        fresh: impl FnOnce() -> Buffer,
    ) -> io::Result<(Buffer, usize)> {
        let id = cqueue::buffer_select(flags).map(usize::from);
        let lent = id.and_then(|id| self.provided.get_mut(id)?.take());
        match (id, lent) {
            (Some(id), Some(lent)) => {
                self.provide(id, fresh());
                let buffer = lent.take_back();
                result.map(|count| (buffer, count))
            }
            // An end, or an error: no buffer was needed.
            _ => result.map(|_| (Buffer::default(), 0)),
        }
    }
}

/// A receive into a buffer that is picked when bytes have come.
fn picking(fd: RawFd, flags: u16) -> squeue::Entry {
    let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(GROUP).ioprio(flags);
    entry.build().flags(squeue::Flags::BUFFER_SELECT)
}

/// A receive that stays until it has brought `bytes`, and ends with the piece that makes them up.
#[expect(unsafe_code, reason = "see the two comments")]
fn staying(fd: RawFd, flags: u16, bytes: u32) -> squeue::Entry {
    const { assert!(size_of::<squeue::Entry>() == 64) };
    let mut entry = picking(fd, MULTISHOT | flags);
    let limit = (&raw mut entry).cast::<u8>().wrapping_add(LIMIT_AT).cast::<u32>();
    // JUSTIFICATION: the crate's receives have no place for the limit.
    // SAFETY: these are four bytes within `entry`, which is `repr(C)` around the kernel's entry of 64 bytes and aligned to
    // eight; any value is valid there.
    unsafe { limit.write(bytes) };
    entry
}

fn span(lent: &Lent, range: Range<usize>) -> (usize, u32) {
    let end = range.end.min(lent.len());
    let begin = range.start.min(end);
    (begin, u32::try_from(end - begin).unwrap_or(u32::MAX))
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR))
}

/// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1), else COOP_TASKRUN (5.19).
fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    builder.build(ENTRIES).or_else(|_| {
        let mut older = IoUring::builder();
        older.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        older.build(ENTRIES)
    })
}

#[expect(unsafe_code, reason = "see the two comments")]
fn register(uring: &IoUring, entries: &'static Entries) -> io::Result<()> {
    // JUSTIFICATION: the kernel keeps the address of the ring of buffers, which the crate cannot vouch for.
    // SAFETY: `entries` is aligned to a page, holds PROVIDED entries, and lives for ever.
    unsafe {
        uring.submitter().register_buf_ring_with_flags(
            std::ptr::from_ref(entries) as u64,
            PROVIDED_U16,
            GROUP,
            0,
        )
    }
}

#[cfg(test)]
mod tests;
