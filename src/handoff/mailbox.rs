//! Worker to worker, and control to a worker: a bounded box of letters.
//!
//! Not here: what the receiver does with a letter.

use crate::handoff::Answer;
use crossbeam_queue::ArrayQueue;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// What a mailbox carries.
#[derive(Debug)]
pub enum Letter {
    /// The answer to a question of this worker.
    Answered { ticket: u64, answer: Answer },
    /// Another worker asks whether this one still turns; answered by the same letter with `reply: None`.
    Ping { ticket: u64, reply: Option<usize> },
    /// A resource has changed, by its server and the server's own URI.
    Updated { server: Arc<str>, uri: Arc<str> },
    /// A client's answer to a question that a call of this worker has put to it.
    Reply { session: [u8; 8], question: u64, message: Box<[u8]> },
    /// Somebody brings the answer to a question of a call that waits at this worker, and wants to hear what comes of it.
    Listen { number: u64, from: usize, ticket: u64 },
    /// What came of such a call: a message, or none where it is over.
    Said { ticket: u64, message: Option<Box<[u8]>> },
    /// A client wants a call ended that may be one of this worker's: its session, and its id as it was written.
    Cancel { session: [u8; 8], id: Box<[u8]> },
    /// A server says something by itself to the client of this stream.
    Message { stream: u64, parcel: Parcel },
}

/// A message that was said once, and may be put to several streams, one after the other.
#[derive(Debug)]
pub struct Said {
    message: Box<[u8]>,
    is_taken: AtomicBool,
}

impl Said {
    pub fn new(message: Vec<u8>) -> Self {
        Self { message: message.into(), is_taken: AtomicBool::new(false) }
    }

    /// Whether somebody has begun to write it: from then on it may have arrived, and goes to nobody else.
    pub fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }
}

/// A message on its way, and the task that waits until it was taken or let go: it is woken when this is dropped.
#[derive(Debug)]
pub struct Parcel {
    /// Always there until the end.
    said: Option<Arc<Said>>,
    sender: Waker,
}

impl Parcel {
    pub const fn new(said: Arc<Said>, sender: Waker) -> Self {
        Self { said: Some(said), sender }
    }

    /// The message, which is about to be written.
    pub fn take(&self) -> &[u8] {
        let Some(said) = &self.said else { return &[] };
        said.is_taken.store(true, Ordering::Release);
        &said.message
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // First: who is woken looks whether it is gone.
        self.said = None;
        self.sender.wake_by_ref();
    }
}

/// A bounded queue of letters and a descriptor that wakes its reader.
pub struct Mailbox {
    letters: ArrayQueue<Letter>,
    /// Non-blocking: a full pipe means that the reader is already being woken.
    bell: UnixStream,
}

impl Mailbox {
    /// # Errors
    /// Where no socket pair can be made.
    pub fn new(capacity: usize) -> std::io::Result<(Self, UnixStream)> {
        let (bell, end) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok((Self { letters: ArrayQueue::new(capacity), bell }, end))
    }

    /// # Errors
    /// Gives the letter back where the box is full: the sender decides, nothing is lost unseen.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        self.letters.push(letter)?;
        self.wake();
        Ok(())
    }

    pub fn take(&self) -> Option<Letter> {
        self.letters.pop()
    }

    pub fn wake(&self) {
        // WouldBlock: the reader has unread wake-ups. Any other error: the reader is gone.
        let _ = (&self.bell).write(&[1]);
    }
}
