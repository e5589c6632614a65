//! Accepting connections of one listener on one worker.
//!
//! Not here: what becomes of a connection.

use crate::net::stream::Stream;
use monoio::net::TcpListener;
use std::io;
use std::net::IpAddr;

/// The two addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Ours, which the client's Host must name.
    pub local: IpAddr,
    pub peer: IpAddr,
}

/// What the loop tells its owner.
pub enum Event {
    Connection(Stream, Ends),
    /// Accepting failed and is tried again after a pause.
    Failed(io::Error),
}

/// Runs until the listener is closed by [`crate::net::listen::close`]. `pause` is waited for where no
/// descriptor is free: long enough not to spin, short enough that service resumes soon after one is.
pub async fn run<P: Future<Output = ()>>(
    listener: &TcpListener,
    over: impl Fn() -> bool,
    mut tell: impl FnMut(Event),
    pause: impl Fn() -> P,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let stream = Stream::from(stream);
                crate::base::sys::no_delay(stream.fd());
                match crate::base::sys::local_address(stream.fd()) {
                    Ok(local) => {
                        let ends = Ends { local: local.ip(), peer: peer.ip() };
                        tell(Event::Connection(stream, ends));
                    }
                    // The peer reset it before we looked.
                    Err(_) => drop(stream),
                }
            }
            Err(_) if over() => return,
            Err(error) => {
                let wait = exhausted(&error);
                tell(Event::Failed(error));
                if wait {
                    pause().await;
                }
            }
        }
    }
}

fn exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EINVAL)
    )
}
