//! `Ports`: who waits for which socket of a worker's [`Ring`], and the task that turns the ring.
//!
//! Not here: the system calls and their memory (`base::sys::ring`). A port is one socket; it has at most one
//! receive and one send in flight. Nothing that is in flight is lost where its waiter goes away: what came stays
//! with the port until it is asked for.
//!
//! **A receive may stay** for what comes next ([`Port::stay`]), so that not every message is asked for anew. The kernel
//! then reads ahead of whoever takes it, a bound of bytes and what comes with the last of them: two buffers at most. What a
//! receive that stays is not told of ([`Ring::receive`]) is looked for a tick later, once after each piece ([`tick`]).

pub mod port;
#[cfg(test)]
mod tests;

use crate::base::buffer::Arrived;
use crate::base::buffer::Buffer;
use crate::base::buffer::Buffers;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::sys;
use crate::base::sys::ring::Completion;
use crate::base::sys::ring::Ring;
use monoio::net::UnixStream;
use slab::Slab;
use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Ports>>> = const { RefCell::new(None) };
}

/// Completions of one turn after which the ring is turned again at once: the kernel delivers about twenty at a
/// time (IO_LOCAL_TW_DEFAULT_MAX), and does not say that it keeps more.
const FULL_TURN: usize = 16;
/// Turns in a row, so that the tasks that they wake get to run; their own calls then turn the ring on.
const TURNS_MAX: usize = 64;

/// All sockets of one worker whose bytes go through the ring.
pub struct Ports {
    ring: RefCell<Ring>,
    ports: RefCell<Slab<State>>,
    buffers: Rc<Buffers>,
    /// When completions were taken last: one look at the clock for all that come together.
    now: Cell<Moment>,
    /// Something was queued, and the pump was told.
    called: Cell<bool>,
    /// Ports whose sockets are to be looked at: their receives have brought a piece, and stay.
    unseen: RefCell<Vec<u32>>,
    pump: RefCell<Option<Waker>>,
}

struct State {
    fd: RawFd,
    /// Receives are asked to stay.
    may_stay: bool,
    receive: Receive,
    /// The receive is still in flight, whatever it has brought.
    stays: bool,
    /// What came behind that was not taken yet and ended the receive: an end, an error, or a last piece that did not fit the
    /// buffer of those before it.
    behind: Option<io::Result<Arrived>>,
    /// It stands among the unseen ones, and whether another piece has come since they were looked at.
    is_unseen: bool,
    is_recent: bool,
    send: Send,
    wants: Wants,
    /// Kept while the port lives: one task waits for a socket.
    waker: Option<Waker>,
    /// Its owner has gone; the port goes when nothing is in flight any more.
    orphan: bool,
}

enum Receive {
    Idle,
    /// Asked for; a buffer is picked when bytes come.
    Armed,
    /// Asked for, into a buffer of the caller's.
    Reading,
    Came(io::Result<Arrived>),
    Read(io::Result<usize>, Buffer),
}

enum Send {
    Idle,
    /// Its buffer goes to the pool when it is done, where nobody waits for it.
    Sending {
        alone: bool,
    },
    /// How much, and when it was found to have left.
    Sent(io::Result<(usize, Moment)>, Option<Buffer>),
}

/// What has to be there for the waiting task to be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    Receive,
    Send,
    /// The send is done, and an answer has come where it was.
    Answer,
}

impl State {
    fn has_come(&self) -> bool {
        matches!(self.receive, Receive::Came(_) | Receive::Read(..))
    }

    fn is_sending(&self) -> bool {
        matches!(self.send, Send::Sending { .. })
    }

    fn is_receiving(&self) -> bool {
        self.stays || matches!(self.receive, Receive::Armed | Receive::Reading)
    }

    fn is_in_flight(&self) -> bool {
        self.is_sending() || self.is_receiving()
    }

    /// What has come; what is there from then on is what came behind it.
    fn take(&mut self) -> Receive {
        let next = match self.behind.take() {
            Some(behind) => Receive::Came(behind),
            None if self.stays => Receive::Armed,
            None => Receive::Idle,
        };
        std::mem::replace(&mut self.receive, next)
    }

    /// What was taken and is not used up comes first again.
    fn put_back(&mut self, rest: Arrived) {
        if let Receive::Came(next) = std::mem::replace(&mut self.receive, Receive::Came(Ok(rest))) {
            self.behind = Some(next);
        }
    }

    fn satisfied(&self) -> bool {
        match self.wants {
            Wants::Nothing => false,
            Wants::Receive => self.has_come(),
            Wants::Send => !self.is_sending(),
            Wants::Answer => match &self.send {
                Send::Sending { .. } => false,
                Send::Sent(Ok(_), _) | Send::Idle => self.has_come(),
                Send::Sent(Err(_), _) => true,
            },
        }
    }

    /// Registers the task of `cx` for `wants`, or says that it is there.
    fn poll(&mut self, cx: &Context<'_>, wants: Wants) -> Poll<()> {
        self.wants = wants;
        if self.satisfied() {
            self.wants = Wants::Nothing;
            return Poll::Ready(());
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Makes the ring of the calling worker and the task that turns it; sockets that are opened from now on use it. `ahead`:
/// bytes after which a receive that stays ends.
///
/// # Errors
/// Where io_uring is forbidden or too old.
pub fn open(buffers: Rc<Buffers>, ahead: u32) -> io::Result<impl Future<Output = io::Result<()>>> {
    let ring = Ring::new(buffers.room(), ahead, || buffers.small())?;
    // Any descriptor can be waited for; the runtime only has no type of its own for this one.
    let bell = UnixStream::from_std(ring.bell()?.into())?;
    let ports = Rc::new(Ports {
        ring: RefCell::new(ring),
        ports: RefCell::default(),
        buffers,
        now: Cell::new(Moment::ZERO),
        called: Cell::new(false),
        unseen: RefCell::default(),
        pump: RefCell::default(),
    });
    CURRENT.with_borrow_mut(|current| *current = Some(Rc::clone(&ports)));
    Ok(async move { ports.run(bell).await })
}

impl Ports {
    /// Turns the ring, until the process stops: what was queued is handed over when the tasks that queue have
    /// run; what has completed is taken when the runtime says that the bell rang, so that whatever else the
    /// runtime has to tell comes through between two turns.
    async fn run(&self, bell: UnixStream) -> io::Result<()> {
        // The kernel said that something waits, and nothing did: it is not asked again before the bell rings.
        let mut vain = false;
        loop {
            let mut rung = pin!(bell.readable(false));
            loop {
                match std::future::poll_fn(|cx| self.sleep(cx, rung.as_mut(), vain)).await {
                    None => self.hand_over(),
                    Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    Some(_) => break,
                }
                vain = false;
            }
            sys::take_signal(bell.as_raw_fd());
            vain = self.take() == 0;
        }
    }

    /// Waits for a call (none) or the bell.
    fn sleep(
        &self,
        cx: &mut Context<'_>,
        rung: Pin<&mut impl Future<Output = io::Result<()>>>,
        vain: bool,
    ) -> Poll<Option<io::Result<()>>> {
        if self.called.get() {
            return Poll::Ready(None);
        }
        if !self.pump.borrow().as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *self.pump.borrow_mut() = Some(cx.waker().clone());
        }
        if let Poll::Ready(result) = rung.poll(cx) {
            return Poll::Ready(Some(result));
        }
        self.ring.borrow_mut().listen(vain);
        Poll::Pending
    }

    /// Hands what was queued to the kernel. Most sends are done with it, and need no bell.
    fn hand_over(&self) {
        self.called.set(false);
        let mut ring = self.ring.borrow_mut();
        ring.hush();
        ring.flush();
        drop(ring);
        self.complete_all();
    }

    /// Takes what has completed: how many operations.
    fn take(&self) -> usize {
        let mut taken = 0;
        for _ in 0..TURNS_MAX {
            // What was not taken by the kernel is handed over with the next turn.
            let _ = self.ring.borrow_mut().turn();
            let completed = self.complete_all();
            taken += completed;
            if completed < FULL_TURN {
                break;
            }
        }
        taken
    }

    fn complete_all(&self) -> usize {
        self.now.set(clock::now());
        let mut completed = 0;
        while let Some(completion) = self.next() {
            completed += 1;
            self.complete(completion);
        }
        completed
    }

    fn next(&self) -> Option<Completion> {
        self.ring.borrow_mut().next(|| self.buffers.small())
    }

    /// Something is queued: the ring is to be turned when the tasks that are ready have run.
    fn call(&self) {
        if !self.called.replace(true)
            && let Some(pump) = &*self.pump.borrow()
        {
            pump.wake_by_ref();
        }
    }

    fn complete(&self, completion: Completion) {
        let mut ports = self.ports.borrow_mut();
        let port = match &completion {
            Completion::Received(port, ..) | Completion::Read(port, ..) | Completion::Sent(port, ..) => *port,
        };
        let Some(state) = ports.get_mut(port as usize) else { return };
        match completion {
            Completion::Received(_, result, stays) => {
                state.stays = stays;
                if stays && !std::mem::replace(&mut state.is_unseen, true) {
                    self.unseen.borrow_mut().push(port);
                }
                state.is_recent = stays;
                let start = self.buffers.room().start;
                let arrived =
                    |(buffer, count)| Arrived { buffer, start, end: start + count, at: self.now.get() };
                self.received(port, state, result.map(arrived));
            }
            Completion::Read(_, result, buffer) => state.receive = Receive::Read(result, buffer),
            Completion::Sent(_, result, buffer) => {
                let alone = state.orphan || matches!(state.send, Send::Sending { alone: true });
                let kept = if alone {
                    self.buffers.give_back(buffer);
                    None
                } else {
                    Some(buffer)
                };
                state.send = Send::Sent(result.map(|count| (count, self.now.get())), kept);
            }
        }
        if state.orphan {
            if !state.is_in_flight() {
                self.bury(ports.remove(port as usize));
            }
        } else if state.satisfied()
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
    }

    /// A receive has brought something, or ended.
    fn received(&self, port: u32, state: &mut State, result: io::Result<Arrived>) {
        match (&mut state.receive, result) {
            // More came at once than there were buffers, of which there are some again; or the socket is looked at anew.
            (receive @ Receive::Armed, Err(error)) if is_no_news(&error) => {
                if state.orphan {
                    *receive = Receive::Idle;
                } else {
                    self.ring.borrow_mut().receive(port, state.fd, false, state.may_stay);
                    self.call();
                }
            }
            (_, Err(error)) if is_no_news(&error) => {}
            (Receive::Came(Ok(first)), Ok(next)) if self.fits(first, &next) => self.append(first, next),
            (Receive::Came(_), next) => state.behind = Some(next),
            (receive, next) => *receive = Receive::Came(next),
        }
    }

    /// Whether there are bytes, and the buffer before has room for them.
    fn fits(&self, first: &Arrived, next: &Arrived) -> bool {
        // What tells of an end has no buffer.
        let room = self.buffers.room().end.min(first.buffer.len()).saturating_sub(first.end);
        next.start < next.end && next.end - next.start <= room
    }

    /// Adds a piece that [`Self::fits`] to those that nobody has taken yet.
    fn append(&self, first: &mut Arrived, next: Arrived) {
        let end = first.end + (next.end - next.start);
        first.buffer[first.end..end].copy_from_slice(&next.buffer[next.start..next.end]);
        (first.end, first.at) = (end, next.at);
        self.buffers.give_back(next.buffer);
    }

    /// Looks at the sockets whose receives have stayed since the last look, and brought nothing more: where something waits,
    /// the receive is taken back, and the one after it finds that. Once after each piece, whatever is found.
    fn look(&self) {
        let mut ports = self.ports.borrow_mut();
        self.unseen.borrow_mut().retain(|&port| {
            let Some(state) = ports.get_mut(port as usize) else { return false };
            if !state.is_unseen || std::mem::take(&mut state.is_recent) {
                return state.is_unseen;
            }
            state.is_unseen = false;
            // The descriptor of one that was left is closed.
            if state.stays && !state.orphan && sys::has_news(state.fd) {
                self.ring.borrow_mut().cancel(port);
                self.call();
            }
            false
        });
    }

    /// What a port still held goes back to the pool.
    fn bury(&self, state: State) {
        match state.receive {
            Receive::Came(Ok(Arrived { buffer, .. })) | Receive::Read(_, buffer) => {
                self.buffers.give_back(buffer);
            }
            _ => {}
        }
        if let Some(Ok(Arrived { buffer, .. })) = state.behind {
            self.buffers.give_back(buffer);
        }
        if let Send::Sent(_, Some(buffer)) = state.send {
            self.buffers.give_back(buffer);
        }
    }
}

/// Neither bytes nor an end: the receive is only to be asked for again.
fn is_no_news(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED))
}

/// Done once a tick on the ring of the calling worker. What has completed is taken, whatever the bell says, so that no
/// completion can wait longer than that; and what a receive that stays was not told of is looked for.
pub fn tick() {
    CURRENT.with_borrow(|current| {
        if let Some(ports) = current {
            ports.look();
            ports.ring.borrow().strike();
        }
    });
}
