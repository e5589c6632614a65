//! What the operator writes about what is shown of servers, as types: virtual servers, other names of tools, how long
//! lists are kept.
//!
//! Not here: the rest of a server (`file`), defaults and meaning (`compile_hub`). Doc comments of this file are texts of
//! the JSON Schema, written for operators.

use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// A selection of what servers have, served at `/mcp/NAME` under the names that the servers gave.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualServer {
    /// Its tools, in this order: `server.tool`, `*` for any characters; `*` alone is every tool of every server.
    #[schemars(with = "Option<schema::Names>")]
    pub tools: Vec<Located<String>>,
    /// Its prompts: `server.name`. None where nothing is said.
    #[schemars(with = "Option<schema::Names>")]
    pub prompts: Vec<Located<String>>,
    /// Its resources and templates: `server.URI`. None where nothing is said.
    #[schemars(with = "Option<schema::Names>")]
    pub resources: Vec<Located<String>>,
    /// How some of its tools are shown, by `server.tool`. What is not said here is as the server's own `overrides` say.
    #[schemars(with = "Option<std::collections::BTreeMap<String, ToolOverride>>")]
    pub overrides: Vec<(Located<String>, ToolOverride)>,
}

/// How a tool is shown instead of as its server shows it. Rules and limits go on calling it by the server's name.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolOverride {
    /// Its name: 1 to 128 letters, digits and `_-.`.
    pub name: Option<Located<String>>,
    /// Its description.
    pub description: Option<Located<String>>,
}

/// How long what a server lists is kept.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cache {
    /// Longest time that a list is fresh. Default as long as the server says.
    #[schemars(with = "Option<schema::Duration>")]
    pub list: Option<u64>,
    /// How much longer it is served while the server cannot be asked. Default 1h; 0 for no longer.
    #[schemars(with = "Option<schema::Duration>")]
    pub max_stale: Option<u64>,
}
