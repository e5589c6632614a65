//! Listeners: one socket per worker on the same address (SO_REUSEPORT), bound before any worker starts, so
//! that a taken port is a sentence and not a panic.
//!
//! Not here: what becomes of a connection.

use crate::base::sys;
use crate::net::runtime;
use monoio::net::TcpListener;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener as BoundListener;
use std::os::fd::RawFd;

/// Binds `count` sockets to `address`; port 0 is chosen by the first and taken by the rest. `key`: where the address is
/// written.
///
/// # Errors
/// A sentence that names cause and cure.
pub fn bind(
    address: SocketAddr,
    (count, backlog): (usize, i32),
    key: &str,
) -> Result<Vec<BoundListener>, String> {
    let mut address = address;
    let mut bound = Vec::with_capacity(count);
    // A first bind without SO_REUSEPORT finds another process that listens there with it: two gateways
    // on one port would share the connections by chance, and nobody would notice.
    if address.port() != 0 {
        probe(address).map_err(|error| sentence(address, key, &error))?;
    }
    for _ in 0..count {
        let listener = one(address, backlog).map_err(|error| sentence(address, key, &error))?;
        address = listener.local_addr().map_err(|error| sentence(address, key, &error))?;
        bound.push(listener);
    }
    Ok(bound)
}

fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

fn one(address: SocketAddr, backlog: i32) -> io::Result<BoundListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn sentence(address: SocketAddr, key: &str, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there; stop it (`ss -ltnp 'sport = :{}'` names it) or change `{key}`", address.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address (`ip addr` lists those it has); change `{key}`")
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (the shipped systemd unit grants it); use a port above 1023 or grant it".to_owned()
        }
        _ => format!("check `{key}` and the limits of open descriptors"),
    };
    format!("cannot listen on {address}: {error}: {cure}")
}

/// Hands a bound socket to the runtime of the calling worker.
///
/// # Errors
/// Where the runtime cannot register it.
pub fn adopt(listener: BoundListener) -> io::Result<TcpListener> {
    // The ring waits by itself only on blocking descriptors; epoll needs the opposite.
    listener.set_nonblocking(runtime::current() == runtime::Driver::Epoll)?;
    TcpListener::from_std(listener)
}

/// Has the kernel ignore who knocks from now on. Who was let in before can still be accepted.
///
/// # Errors
/// Where the kernel takes no filter.
pub fn turn_away(fd: RawFd) -> io::Result<()> {
    sys::ignore_new_connections(fd)
}

/// Whether a connection waits to be accepted.
pub fn is_waited_at(fd: RawFd) -> bool {
    sys::is_readable(fd)
}

/// Ends the waiting accept; connections that the kernel still queues are reset.
pub fn close(fd: RawFd) {
    sys::shut(fd, sys::Direction::Read);
}
