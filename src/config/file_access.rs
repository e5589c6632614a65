//! What the operator writes about access, as types. Doc comments are the texts of the JSON Schema.
//!
//! Not here: meaning, and whether parts fit together (`compile_access`).

use crate::config::expression::Expression;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// A rule of access: exactly one of `allow`, `deny`, `scopes` and `opa`. The order of the rules does not matter: one
/// that denies wins, and as soon as any allows, what none allows is denied.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRule {
    #[schemars(skip)]
    pub place: Place,
    /// Names it in refusals and metrics.
    #[schemars(with = "String")]
    pub name: Option<Located<String>>,
    /// Callers with one of these roles. A rule that names neither roles nor principals is for all.
    #[schemars(with = "Option<schema::Names>")]
    pub roles: Vec<Located<String>>,
    /// Callers of one of these names, beside those with the roles.
    #[schemars(with = "Option<schema::Names>")]
    pub principals: Vec<Located<String>>,
    /// What is allowed: `server.tool`, `prompt:server.name`, `resource:server.URI`, `*` for any characters; `*` alone
    /// is every tool.
    #[schemars(with = "Option<schema::Names>")]
    pub allow: Vec<Located<String>>,
    /// What is denied, whatever else allows it.
    #[schemars(with = "Option<schema::Names>")]
    pub deny: Vec<Located<String>>,
    /// What `scopes` or `opa` is about. Default for `opa` everything.
    #[schemars(with = "Option<schema::Names>")]
    pub tools: Vec<Located<String>>,
    /// What the caller's token must have for it, all of them.
    #[schemars(with = "Option<schema::Names>")]
    pub scopes: Vec<Located<String>>,
    /// Who else decides: the URL of a rule in Open Policy Agent's data API.
    pub opa: Option<Located<String>>,
    /// How long `opa` may take. Default 100ms.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<u64>,
    /// What happens to a call on which `opa` does not decide in time. Default deny.
    #[schemars(with = "Option<schema::OnError>")]
    pub on_error: Option<OnError>,
    /// How long a decision of `opa` stands for equal calls. Default 0.
    #[schemars(with = "Option<schema::Duration>")]
    pub cache_for: Option<u64>,
    /// CEL condition on a call. Where it cannot be evaluated the rule matches, and one that allows does not.
    #[schemars(with = "Option<String>")]
    pub when: Option<Expression>,
    /// Which of the four are written, readable or not.
    #[schemars(skip)]
    pub effects: Vec<Written>,
}

/// What a rule does, and where it says so.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub key: &'static str,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Allow,
    Deny,
}
