//! A hub in words: which of its servers a name belongs to, what its lists say, and what it says about itself.
//!
//! Not here: what a caller may see of it (policy), pages and their cursors on the wire (worker), calls (`crossing`).
//! Catalogues are arguments: what is not known of a server is not shown.

pub mod about;
mod claims;
pub mod lists;
pub mod names;
#[cfg(test)]
mod stage;

use crate::config::hub::Hub;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::mcp::catalogue::Catalogue;

/// A hub and what is known of its servers at one moment.
pub struct Scene<'a> {
    pub hub: &'a Hub,
    /// All servers of the plan.
    pub servers: &'a [Server],
    pub catalogue: &'a dyn Fn(ServerId) -> Option<&'a Catalogue>,
    /// Of the hub's members those that the caller may know of. Others are not there.
    pub members: Vec<ServerId>,
}

impl<'a> Scene<'a> {
    fn server(&self, id: ServerId) -> Option<&'a Server> {
        self.members.contains(&id).then(|| self.servers.get(usize::from(id)))?
    }

    /// The members of which something is known, in the order of the file.
    fn known_members(&self) -> impl Iterator<Item = (&'a Server, &'a Catalogue)> {
        self.members.iter().filter_map(|id| self.known(*id))
    }

    /// What is known of a server.
    fn known(&self, id: ServerId) -> Option<(&'a Server, &'a Catalogue)> {
        Some((self.server(id)?, (self.catalogue)(id)?))
    }
}
