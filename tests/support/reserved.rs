//! An address for a server that is to come.
//!
//! Not here: the server (`upstream`).

use std::net::SocketAddr;
use std::net::TcpListener;

/// An address at which nobody listens yet, and which nobody else gets: it refuses connections.
pub struct Reserved(socket2::Socket);

impl Reserved {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    /// The address of a server that was stopped: a server that is made for it gets it, and none that asks for any. None
    /// where somebody has it already.
    pub fn left_by(address: SocketAddr) -> Option<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).ok().map(|()| Self(socket))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// Of the server that may come.
    pub fn url(&self) -> String {
        format!("url: \"http://{}/mcp\"", self.address())
    }

    /// From now on it takes connections.
    pub fn listen(self) -> TcpListener {
        self.0.listen(128).unwrap();
        self.0.into()
    }
}
