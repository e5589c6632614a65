//! Where bytes come in: accepting connections, TLS with clients, and whether a request names a host that is ours.
//!
//! Not here: what a call means.

pub mod accept;
pub mod host;
pub mod tls;
