//! The ring against real sockets, on whatever kernel there is and as on an older one.
//!
//! Not here: who waits for what (`net::ring`).

use super::*;
use crate::base::sys::take_signal;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

fn ring() -> Ring {
    Ring::new(4..12, 8, || vec![0; 16].into_boxed_slice()).unwrap()
}

fn next(ring: &mut Ring) -> Option<Completion> {
    ring.turn().unwrap();
    ring.next(|| vec![0; 16].into_boxed_slice())
}

#[test]
fn a_receive_waits_without_a_buffer_and_fills_one_when_bytes_come() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // More often than there are buffers: each comes back into the kernel's hands.
    for round in 0..PROVIDED * 2 + 1 {
        ring.receive(7, ours.as_raw_fd(), true, false);
        assert!(next(&mut ring).is_none());
        let digit = b"0123456789"[round % 10];
        theirs.write_all(&[b'a', digit]).unwrap();
        let Some(Completion::Received(7, Ok((buffer, 2)), false)) = next(&mut ring) else {
            panic!("{round}")
        };
        assert_eq!(buffer[4..6], [b'a', digit]);
    }
    drop(theirs);
    ring.receive(7, ours.as_raw_fd(), true, false);
    let ended = next(&mut ring);
    assert!(matches!(ended, Some(Completion::Received(7, Ok((_, 0)), false))), "{ended:?}");
}

/// Where the kernel can, a receive brings piece after piece, and ends with the one that makes up its bytes.
#[test]
fn a_receive_stays_until_it_has_brought_its_bytes() {
    let mut ring = ring();
    let stays = ring.can_stay;
    let (ours, theirs) = UnixStream::pair().unwrap();
    ring.receive(5, ours.as_raw_fd(), true, true);
    for (sent, last) in [("abc", false), ("de", false), ("fgh", true)] {
        (&theirs).write_all(sent.as_bytes()).unwrap();
        let Some(Completion::Received(5, Ok((buffer, count)), more)) = next(&mut ring) else { panic!() };
        assert_eq!((&buffer[4..4 + count], more), (sent.as_bytes(), stays && !last));
        if !more && !last {
            ring.receive(5, ours.as_raw_fd(), true, true);
        }
    }
    (&theirs).write_all(b"i").unwrap();
    assert!(next(&mut ring).is_none(), "more than was asked for");
}

/// As on a kernel that knows no receives that stay.
#[test]
fn a_receive_that_cannot_stay_brings_one_piece() {
    let mut ring = ring();
    ring.be_older();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"ab").unwrap();
    ring.receive(5, ours.as_raw_fd(), false, true);
    assert!(matches!(next(&mut ring), Some(Completion::Received(5, Ok((_, 2)), false))));
    theirs.write_all(b"c").unwrap();
    assert!(next(&mut ring).is_none());
}

#[test]
fn a_receive_that_stays_is_taken_back() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.receive(5, ours.as_raw_fd(), true, true);
    theirs.write_all(b"a").unwrap();
    let Some(Completion::Received(5, Ok((_, 1)), stays)) = next(&mut ring) else { panic!() };
    assert_eq!(stays, ring.can_stay);
    ring.cancel(5);
    ring.flush();
    if stays {
        let Some(Completion::Received(5, Err(error), false)) = next(&mut ring) else { panic!() };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    }
    drop(ours);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn more_than_fits_comes_with_the_next_receive() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"0123456789").unwrap();
    for expected in [&b"01234567"[..], b"89"] {
        ring.receive(0, ours.as_raw_fd(), false, false);
        let Some(Completion::Received(0, Ok((buffer, count)), _)) = next(&mut ring) else { panic!() };
        assert_eq!(&buffer[4..4 + count], expected);
    }
}

#[test]
fn reads_and_sends_bring_their_buffers_back() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.send(1, ours.as_raw_fd(), b"xxhello".to_vec().into_boxed_slice(), 2..7);
    let Some(Completion::Sent(1, Ok(5), buffer)) = next(&mut ring) else { panic!() };
    assert_eq!(&*buffer, b"xxhello");
    let mut got = [0; 5];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    ring.read(1, ours.as_raw_fd(), vec![0; 4].into_boxed_slice(), 1..3);
    assert!(next(&mut ring).is_none());
    theirs.write_all(b"abc").unwrap();
    let Some(Completion::Read(1, Ok(2), buffer)) = next(&mut ring) else { panic!() };
    assert_eq!(&*buffer, b"\0ab\0");
}

#[test]
fn a_cancelled_receive_says_so_and_its_file_closes() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.receive(3, ours.as_raw_fd(), true, false);
    ring.cancel(3);
    ring.flush();
    drop(ours);
    let Some(Completion::Received(3, Err(error), false)) = next(&mut ring) else { panic!() };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_bell_rings_for_what_happens_while_the_ring_listens_and_when_it_is_struck() {
    let mut ring = ring();
    let bell = ring.bell().unwrap();
    let rang = || take_signal(bell.as_raw_fd());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    for (hushed, expected) in [(false, true), (true, false)] {
        ring.receive(0, ours.as_raw_fd(), true, false);
        assert!(next(&mut ring).is_none());
        ring.listen(false);
        let _ = rang();
        if hushed {
            ring.hush();
        }
        theirs.write_all(b"x").unwrap();
        assert_eq!(rang(), expected, "hushed: {hushed}");
        if hushed {
            // Nobody was told: the tick's stroke finds it.
            ring.strike();
            assert!(rang());
        }
        assert!(matches!(next(&mut ring), Some(Completion::Received(0, Ok((_, 1)), _))));
    }
}

#[test]
fn more_operations_than_entries_are_all_carried_out() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    for port in 0..ENTRIES + 10 {
        ring.send(port, ours.as_raw_fd(), b"x".to_vec().into_boxed_slice(), 0..1);
    }
    let mut sent = 0;
    while sent < ENTRIES + 10 {
        let _ = theirs.read(&mut [0; 64]).unwrap();
        while next(&mut ring).is_some() {
            sent += 1;
        }
    }
}
