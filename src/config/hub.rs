//! Hubs: the addresses under which several servers are served as one, or one server in other words than its own.
//!
//! Not here: how names are looked up and lists are merged (`mcp::hub`), and the reading of a file (`compile_hub`).

use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::pattern::Pattern;
use crate::config::plan::ServerId;
use std::sync::Arc;

/// Index into `Plan::hubs`. Not stable over reloads.
pub type HubId = u16;

/// Lists are paged in all forms of a hub; only names differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/mcp`: every server, its names behind `server__`, its URIs behind `server+`.
    All,
    /// `/mcp/NAME` of one server: names and URIs as the server gave them.
    Server(ServerId),
    /// `/mcp/NAME` of a virtual server: a selection, names and URIs as the servers gave them.
    Virtual,
}

/// One address that is served from catalogues.
#[derive(Debug)]
pub struct Hub {
    /// What stands behind `/mcp/`; empty for `/mcp`.
    pub name: Arc<str>,
    pub form: Form,
    /// The servers that take part, in the order of the file, each once.
    pub members: Vec<ServerId>,
    /// What is shown, in this order. Of [`Form::All`] and [`Form::Server`] one pick of everything for each member.
    pub tools: Vec<Pick>,
    pub prompts: Vec<Pick>,
    pub resources: Vec<Pick>,
    /// Other names and texts of tools.
    pub overrides: Vec<Override>,
}

/// Things of one server, by the names that it gave them.
#[derive(Clone, Debug)]
pub struct Pick {
    pub server: ServerId,
    pub pattern: Pattern,
}

impl Pick {
    /// An entry that names one thing beats one that names many.
    pub fn is_exact(&self) -> bool {
        !self.pattern.as_str().contains('*')
    }
}

/// How a tool is shown instead of as its server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub server: ServerId,
    /// The server's own name of the tool.
    pub tool: Box<str>,
    pub name: Option<Box<str>>,
    pub description: Option<Box<str>>,
}

impl Hub {
    /// What is shown of a kind.
    pub fn picks(&self, named: Named) -> &[Pick] {
        match named {
            Named::Tool => &self.tools,
            Named::Prompt => &self.prompts,
            Named::Resource => &self.resources,
        }
    }

    /// Whether names carry the server's.
    pub fn is_prefixed(&self) -> bool {
        self.form == Form::All
    }

    /// How a tool is shown, where it is shown otherwise.
    pub fn shown(&self, server: ServerId, tool: &str) -> Option<&Override> {
        self.overrides.iter().find(|one| one.server == server && *one.tool == *tool)
    }
}

/// How long lists of a server are kept (`cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCache {
    /// `cache.list`: the longest time that a list is fresh. None: as long as the server says, else until it is asked for
    /// again.
    pub fresh_ms: Option<u64>,
    /// `cache.maxStale`: how long it is served beyond that while the server cannot be asked.
    pub stale_ms: u64,
}

impl Default for ListCache {
    fn default() -> Self {
        Self { fresh_ms: None, stale_ms: limits::LIST_STALE_MS_DEFAULT }
    }
}
