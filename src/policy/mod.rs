//! May this call pass? Pure: who calls, whether it was stopped by an operator, whether its limits have room, and which pool
//! of its server it is for.
//!
//! Not here: sockets, clocks, and who serves the call.

pub mod access;
pub mod certificate;
pub mod claims;
pub mod credential;
pub mod decide;
pub mod expression;
pub mod external;
pub mod fuzz;
pub mod identity;
pub mod kills;
pub mod limits;
pub mod resource;
pub mod routing;
pub mod token;
