//! Evaluating the expressions of rules for one call.
//!
//! Our own evaluator and not the crate's: its steps are counted exactly, comparing names allocates nothing, and
//! what the caller sent is borrowed, not copied.
//!
//! Not here: parsing and checking (`config::expression`), and what an error means for a rule: in a limit no
//! match, in a `deny` a match.

mod attributes;
mod decimal;
mod evaluate;
mod function;
mod json;
mod patterns;
mod possible;
mod value;

#[cfg(test)]
mod tests;

use crate::config::expression::Expression;
use crate::config::labels::Labels;
use crate::config::limits;
use crate::mcp::catalogue::Annotations;
use crate::mcp::catalogue::Catalogue;
use crate::policy::claims::Claims;
use crate::policy::expression::evaluate::Evaluation;
use crate::policy::expression::value::Value;
use crate::policy::identity::Caller;
use std::fmt::{self, Display, Formatter};
use std::hash::Hasher;
use std::net::IpAddr;
use std::net::Ipv4Addr;

pub use patterns::Patterns;
pub use possible::Known;
pub use possible::Possible;

/// What a call offers to expressions.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    pub principal: &'a str,
    pub roles: &'a [Box<str>],
    pub tenant: &'a str,
    pub claims: &'a Claims,
    pub method: &'a str,
    pub server: &'a str,
    /// The tool's own name, without its server's; empty where the call is none of a tool.
    pub tool: &'a str,
    /// What the server offers, where that is known.
    pub catalogue: Option<&'a Catalogue>,
    pub labels: &'a Labels,
    /// `params.name` of the message as the caller wrote it, unescaped. None: it has none.
    pub name: Option<&'a str>,
    /// The address of the peer.
    pub source: IpAddr,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
    /// The message as it came, one and not a batch. Read only if an expression looks into it.
    pub body: &'a [u8],
}

impl<'a> Variables<'a> {
    /// Those that say something of a caller and of no call; the others may not be asked for ([`Known::Caller`]).
    pub fn of_caller(caller: &'a Caller) -> Self {
        Self {
            principal: &caller.name,
            roles: &caller.roles,
            tenant: &caller.tenant,
            claims: &caller.claims,
            method: "",
            server: "",
            tool: "",
            catalogue: None,
            labels: Labels::NONE,
            name: None,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            now: 0,
            body: b"{}",
        }
    }

    /// A tool that the catalogue does not know is what a tool without hints is.
    fn annotations(&self) -> Annotations {
        let known = self.catalogue.and_then(|catalogue| catalogue.tools.get(self.tool));
        known.copied().unwrap_or_default()
    }
}

/// One call, for all expressions that are evaluated for it.
#[derive(Debug)]
pub struct Scope<'a> {
    variables: Variables<'a>,
    known: Known,
    patterns: &'a mut Patterns,
    /// None until an expression has asked for them.
    roles: Option<Value<'a>>,
    /// None until an expression has looked into the message.
    body: Option<Result<Value<'a>, EvaluationError>>,
}

impl<'a> Scope<'a> {
    /// `patterns` is the worker's.
    pub fn new(variables: Variables<'a>, patterns: &'a mut Patterns) -> Self {
        Self::partly(variables, patterns, Known::Call)
    }

    /// Only these of the variables count.
    pub fn partly(variables: Variables<'a>, patterns: &'a mut Patterns, known: Known) -> Self {
        Self { variables, known, patterns, roles: None, body: None }
    }

    /// Another scope with the same patterns.
    pub fn beside<'s>(&'s mut self, variables: Variables<'s>, known: Known) -> Scope<'s> {
        Scope::partly(variables, self.patterns, known)
    }

    pub fn known(&self) -> Known {
        self.known
    }

    fn roles(&mut self) -> Value<'a> {
        let roles = self.variables.roles;
        let made = || Value::List(roles.iter().map(|role| Value::text(role)).collect());
        self.roles.get_or_insert_with(made).clone()
    }

    fn body(&mut self) -> Result<Value<'a>, EvaluationError> {
        let bytes = self.variables.body;
        self.body.get_or_insert_with(|| json::read(bytes)).clone()
    }
}

/// Why an expression has no value for this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationError {
    /// A field, an element or a name that is not there.
    Missing,
    /// An operand of a type that the function does not take.
    Type,
    DivisionByZero,
    /// A number or time that its type cannot hold.
    Overflow,
    /// A number of the message with more digits than a double keeps: the server may read another one.
    Inexact,
    /// A text that is no number, time, duration, bool or address.
    Conversion,
    /// A pattern that is no regular expression, or takes too much to compile.
    Pattern,
    /// A key that a map has twice: readers of the message could disagree on its value.
    DuplicateKey,
    /// The message is no JSON, or has a text that is no Unicode.
    Body,
    /// The message has more than [`limits::EXPRESSION_VALUES_MAX`] values or is too deep.
    BodySize,
    /// More than [`limits::EXPRESSION_STEPS_MAX`] steps.
    Steps,
}

/// Whether a condition holds for a call.
///
/// # Errors
/// It cannot be evaluated, or what it yields is no bool.
pub fn evaluate_condition(expression: &Expression, scope: &mut Scope<'_>) -> Result<bool, EvaluationError> {
    match consider(expression, scope)? {
        Possible::TRUE => Ok(true),
        Possible::FALSE => Ok(false),
        // Something that it needs is unknown.
        _ => Err(EvaluationError::Missing),
    }
}

/// What a condition may come to, as far as the scope knows the call: one outcome where it knows all of it.
///
/// # Errors
/// It cannot be evaluated, or what it yields is no bool, whatever is unknown.
pub fn consider(expression: &Expression, scope: &mut Scope<'_>) -> Result<Possible, EvaluationError> {
    Evaluation::new(scope).condition(expression.root())
}

/// The text that an expression makes of a caller alone, outside any call: its tenant. None where it cannot be
/// evaluated, or its value is no text, or an empty one.
pub fn of_caller(expression: &Expression, caller: &Caller, patterns: &mut Patterns) -> Option<Box<str>> {
    let mut scope = Scope::partly(Variables::of_caller(caller), patterns, Known::Caller);
    match Evaluation::new(&mut scope).value(expression.root()) {
        Ok(Value::Text(text)) if !text.is_empty() => Some(Box::from(&*text)),
        _ => None,
    }
}

/// Feeds the value of a key to `hasher`. Values that are equal in CEL feed the same, so that `1` and `1.0` share
/// a bucket; others do not: `1` and `"1"`, `["a", "b"]` and `["ab"]` differ.
///
/// # Errors
/// It cannot be evaluated, or its value is a map or has one in it.
pub fn evaluate_key(
    expression: &Expression,
    scope: &mut Scope<'_>,
    hasher: &mut impl Hasher,
) -> Result<(), EvaluationError> {
    let mut evaluation = Evaluation::new(scope);
    let value = evaluation.value(expression.root())?;
    value.feed(hasher, &mut evaluation.steps)
}

/// The value of a key as people read it.
///
/// # Errors
/// It cannot be evaluated.
pub fn show_key(expression: &Expression, scope: &mut Scope<'_>) -> Result<String, EvaluationError> {
    Ok(Evaluation::new(scope).value(expression.root())?.to_string())
}

/// What an evaluation may still do. One step is a call, an operator, a selection, an element that is visited,
/// and every [`limits::EXPRESSION_STEP_BYTES`] of text.
#[derive(Debug)]
struct Steps {
    left: usize,
}

impl Steps {
    const fn new() -> Self {
        Self { left: limits::EXPRESSION_STEPS_MAX }
    }

    fn charge(&mut self, steps: usize) -> Result<(), EvaluationError> {
        self.left = self.left.checked_sub(steps).ok_or(EvaluationError::Steps)?;
        Ok(())
    }

    fn charge_text(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.charge(bytes / limits::EXPRESSION_STEP_BYTES)
    }
}

impl Display for EvaluationError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a field or an element is not there",
            Self::Type => "a value is of the wrong type",
            Self::DivisionByZero => "a division by zero",
            Self::Overflow => "a number or a time is out of range",
            Self::Inexact => "a number has more digits than can be compared",
            Self::Conversion => "a text is no number, time, duration, bool or address",
            Self::Pattern => "a pattern is no regular expression, or too large",
            Self::DuplicateKey => "a key stands twice in one map",
            Self::Body => "the message cannot be read",
            Self::BodySize => "the message has too many values, or is too deep",
            Self::Steps => "the evaluation takes too many steps",
        })
    }
}

impl std::error::Error for EvaluationError {}
