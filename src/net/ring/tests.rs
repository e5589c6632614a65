//! Ports on a real ring and a real runtime, with receives that stay and as on an older kernel.
//!
//! Not here: what the kernel does with one operation (`base::sys::ring`).

use super::*;
use crate::base::buffer::Sizes;
use crate::net::ring::port::Port;
use crate::net::runtime;
use crate::net::runtime::Driver;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream as StdUnixStream;

const ROOM: usize = 64;
const AHEAD: u32 = 64;

/// Runs `test` with the port of the first of two connected sockets, on either kind of kernel.
fn with_port(test: impl AsyncFn(Port, TcpStream, TcpStream)) {
    for is_older in [false, true] {
        runtime::block_on(Driver::Uring, async || {
            let sizes = Sizes { small: ROOM + 6, large: 256, front: 4, back: 2 };
            let pump = open(Rc::new(Buffers::new(sizes, 8)), AHEAD).unwrap();
            if is_older {
                current().ring.borrow_mut().be_older();
            }
            monoio::spawn(async move { pump.await.unwrap() });
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            theirs.set_nodelay(true).unwrap();
            let ours = listener.accept().unwrap().0;
            let port = Port::new(ours.as_raw_fd()).unwrap();
            port.stay();
            test(port, ours, theirs).await;
            CURRENT.set(None);
        })
        .unwrap();
    }
}

fn current() -> Rc<Ports> {
    CURRENT.with_borrow(|current| Rc::clone(current.as_ref().unwrap()))
}

/// Lets the ring deliver what there is.
async fn turn() {
    for _ in 0..4 {
        current().ring.borrow().strike();
        let (ours, mut theirs) = StdUnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        UnixStream::from_std(ours).unwrap().readable(false).await.unwrap();
    }
}

async fn rest(port: &Port) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(arrived) = port.receive().await? {
        got.extend_from_slice(&arrived.buffer[arrived.start..arrived.end]);
        current().buffers.give_back(arrived.buffer);
    }
    Ok(got)
}

#[test]
fn two_buffers_are_read_ahead_and_the_rest_stays_with_the_kernel() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        let mut sent = Vec::new();
        for number in 0..100_u8 {
            theirs.write_all(&[number; 3]).unwrap();
            sent.extend_from_slice(&[number; 3]);
            turn().await;
        }
        let held = port.with(|state, _| [state.behind.is_some(), state.stays]);
        let waiting = port.waiting(<[u8]>::len).unwrap();
        assert!(waiting == 3 || waiting > ROOM - 3 && held == [true, false], "{waiting}, {held:?}");
        drop(theirs);
        assert_eq!(rest(&port).await.unwrap(), sent);
    });
}

/// A piece that is read in part comes before those behind it, and all before the end.
#[test]
fn what_is_read_in_part_comes_first_again() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        for piece in ["abcd", "ef", "g"] {
            theirs.write_all(piece.as_bytes()).unwrap();
            turn().await;
        }
        drop(theirs);
        turn().await;
        let mut got = String::new();
        while let (Ok(count @ 1..), buffer) = port.read(vec![0; 3].into_boxed_slice(), 1..3).await {
            got.push_str(std::str::from_utf8(&buffer[1..=count]).unwrap());
        }
        assert_eq!(got, "abcdefg");
    });
}

/// A reset that comes with the last bytes is the same event of the socket, and some kernels tell it by no completion.
#[test]
fn a_reset_behind_the_last_bytes_is_found() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        turn().await;
        theirs.write_all(b"half of an ans").unwrap();
        socket2::SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(theirs);
        // What was on its way is taken before any look, or the look could find the reset before it was hidden.
        turn().await;
        let mut ends = std::pin::pin!(rest(&port));
        for _ in 0..100 {
            let looked = std::future::poll_fn(|cx| Poll::Ready(ends.as_mut().poll(cx))).await;
            if let Poll::Ready(result) = looked {
                return assert!(result.is_err(), "{result:?}");
            }
            tick();
            turn().await;
        }
        panic!("nobody said that the connection is broken");
    });
}

/// Where something waits that nobody was told of, the receive is asked for anew, and nothing is lost.
#[test]
fn a_look_at_a_silent_socket_finds_what_waits() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        theirs.write_all(b"a").unwrap();
        turn().await;
        let ports = current();
        let stays = port.with(|state, _| state.stays);
        let looks = || {
            ports.look();
            ports.ring.borrow().is_queued()
        };
        assert!(!looks(), "the piece is recent");
        theirs.write_all(b"b").unwrap();
        drop(theirs);
        assert_eq!(looks(), stays, "taken back where it stays");
        assert_eq!(rest(&port).await.unwrap(), b"ab");
    });
}

/// Nor is it taken back where nothing waits.
#[test]
fn a_look_at_a_silent_socket_leaves_its_receive() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        theirs.write_all(b"a").unwrap();
        turn().await;
        for _ in 0..3 {
            current().look();
            assert!(!current().ring.borrow().is_queued());
        }
        theirs.write_all(b"b").unwrap();
        drop(theirs);
        assert_eq!(rest(&port).await.unwrap(), b"ab");
    });
}

/// A socket is looked at once after a piece, and not for ever.
#[test]
fn an_idle_port_is_looked_at_once() {
    with_port(async |port, _ours, mut theirs| {
        port.arm();
        for _ in 0..3 {
            theirs.write_all(b"x").unwrap();
            turn().await;
            assert!(port.receive().await.unwrap().is_some());
            let unseen = || current().unseen.borrow().len();
            assert!(unseen() <= 1);
            tick();
            tick();
            assert_eq!(unseen(), 0);
        }
    });
}

/// The peer sees the end although a receive stayed, and what it brought is lost with the port.
#[test]
fn a_port_that_goes_takes_its_receive_back() {
    with_port(async |port, ours, mut theirs| {
        port.arm();
        for _ in 0..3 {
            theirs.write_all(b"x").unwrap();
            turn().await;
        }
        drop(port);
        drop(ours);
        theirs.set_nonblocking(true).unwrap();
        for _ in 0..100 {
            turn().await;
            if !theirs.read(&mut [0; 8]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return assert_eq!(current().ports.borrow().len(), 0);
            }
        }
        panic!("the receive keeps the socket open");
    });
}
