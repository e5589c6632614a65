//! `Expression`: one compiled CEL expression of a rule.

#[derive(Debug)]
pub struct Expression {}
