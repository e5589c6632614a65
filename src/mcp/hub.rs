//! A hub in words: which of its servers a name belongs to, what its lists say, and what it says about itself.
//!
//! Not here: what a caller may see of it (policy), pages and their cursors on the wire (worker), calls (`crossing`).
//! Catalogues are arguments: what is not known of a server is not shown.

pub mod about;
pub mod lists;
pub mod names;
#[cfg(test)]
mod stage;

use crate::config::hub::Hub;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::mcp::catalogue::Catalogue;

/// A hub and what is known of its servers at one moment.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub hub: &'a Hub,
    /// All servers of the plan.
    pub servers: &'a [Server],
    pub catalogue: &'a dyn Fn(ServerId) -> Option<&'a Catalogue>,
}

impl<'a> Scene<'a> {
    fn server(&self, id: ServerId) -> Option<&'a Server> {
        self.servers.get(usize::from(id))
    }

    /// The members of which something is known, in the order of the file.
    fn known(&self) -> impl Iterator<Item = (&'a Server, &'a Catalogue)> {
        let Self { hub, servers, catalogue } = *self;
        hub.members.iter().filter_map(move |id| Some((servers.get(usize::from(*id))?, catalogue(*id)?)))
    }
}
