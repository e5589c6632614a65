//! `Expression`: one CEL expression of a rule, parsed and checked at load, ready to be evaluated.
//!
//! Only the parser of the crate `cel` is used. It has no type checker, no count of steps, and evaluates in a
//! context that is allocated for each call; so its tree becomes a smaller one ([`Node`]) in which every name is
//! resolved, every written-out pattern compiled, every zone and network looked up and every type checked.
//!
//! Not here: checking (`expression/check`), evaluating (`policy::expression`).

mod check;
mod network;
mod signature;

#[cfg(test)]
mod tests;

use crate::config::limits;
use crate::config::problem::quoted;
use cel::Env;
use cel::ParseErrors;
use check::Checker;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
pub use network::Network;
use regex::Regex;
use regex::RegexBuilder;
use signature::Type;

/// Immutable, and the same for every worker.
#[derive(Debug)]
pub struct Expression {
    root: Node,
    /// One bit for each [`Variable`] that is named.
    used: u32,
}

/// Why a text is no expression for us, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Byte within the text.
    pub at: usize,
    /// Line and column (in characters) of `at` within the text, both starting at 1.
    pub line: usize,
    pub column: usize,
    /// What is wrong, without a full stop.
    pub what: String,
    /// The cure: a whole sentence, or empty.
    pub cure: String,
}

/// What a call offers to expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Annotations,
    /// `params.arguments`; an empty map where there are none.
    Args,
    /// The whole message.
    Body,
    Jwt,
    Labels,
    /// `params._meta`; an empty map where there is none.
    Meta,
    /// Also written `body.method`.
    Method,
    /// `params.name` as the caller wrote it: `body.params.name`.
    Name,
    Now,
    Principal,
    Roles,
    Server,
    Source,
    Tenant,
    /// Also written `mcp.tool.name`.
    Tool,
}

/// A checked expression. Where the type of an operand was known at load it is right; where it comes from the
/// caller the evaluation checks it.
#[derive(Debug)]
pub enum Node {
    Constant(Constant),
    Variable(Variable),
    /// The variable of a loop around this node, counted from the outermost.
    Local(usize),
    Field(Box<Node>, Box<str>),
    HasField(Box<Node>, Box<str>),
    Call(Function, Box<[Node]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    /// Condition, then, else.
    Conditional(Box<[Node; 3]>),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
    Matches(Box<Node>, Regex),
    /// A part of a timestamp in a zone, or of a duration.
    Part(Box<Node>, Part, TimeZone),
    Loop(Box<Loop>),
    /// Whether an address is of a network.
    Within(Box<Node>, Network),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
}

/// Functions and operators that evaluate all their operands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Add,
    Contains,
    Divide,
    EndsWith,
    Equal,
    Greater,
    GreaterOrEqual,
    In,
    Index,
    Less,
    LessOrEqual,
    /// With a pattern that is known only at run time.
    Matches,
    Multiply,
    Negate,
    Not,
    NotEqual,
    Remainder,
    Size,
    StartsWith,
    Subtract,
    ToBool,
    ToDouble,
    ToDuration,
    ToInt,
    ToText,
    ToTimestamp,
    ToUint,
}

/// What CEL counts from 0 and what from 1 is said at the names of its functions (`signature`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    DayOfMonthFromOne,
    DayOfMonthFromZero,
    DayOfWeek,
    DayOfYear,
    Hours,
    Milliseconds,
    Minutes,
    Month,
    Seconds,
    Year,
}

/// A loop over a list, or over the keys of a map.
#[derive(Debug)]
pub struct Loop {
    pub kind: LoopKind,
    pub range: Node,
    /// Elements for which it is false are left out (`map` with three arguments).
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Expression {
    /// An expression that says yes or no: `when` of a rule.
    ///
    /// # Errors
    /// The first thing that is wrong with it, a result that cannot be a bool among them.
    pub fn compile_condition(text: &str) -> Result<Self, Flaw> {
        Self::compile(text, &[Type::Bool], "a condition is true or false")
    }

    /// An expression whose value is the key of a bucket or of an affinity: a scalar or a list.
    ///
    /// # Errors
    /// The first thing that is wrong with it, a result that can only be a map among them.
    pub fn compile_key(text: &str) -> Result<Self, Flaw> {
        Self::compile(text, signature::KEY, "a key is one value or a list")
    }

    fn compile(text: &str, wanted: &[Type], rule: &str) -> Result<Self, Flaw> {
        within_bounds(text)?;
        // An environment without macros: loops stay calls, each with its own place in the text.
        let (tree, info) = Env::default()
            .parser()
            .parse_with_source_info(text)
            .map_err(|errors| syntax_flaw(text, &errors))?;
        let mut checker = Checker::new(text, &info);
        let (root, kind) = checker.expression(&tree)?;
        if !kind.is_one_of(wanted) {
            let cure = "Compare it with something, for example with `==`.";
            let cure = if wanted == [Type::Bool] { cure } else { "Name one of its fields." };
            return Err(Flaw::new(text, checker.start(&tree), format!("this is {kind}, and {rule}"), cure));
        }
        Ok(Self { root, used: checker.used() })
    }

    pub fn root(&self) -> &Node {
        &self.root
    }

    pub fn uses(&self, variable: Variable) -> bool {
        self.used & variable.bit() != 0
    }

    /// Whether the JSON of the message must be read, and not only what every call offers.
    pub fn uses_body(&self) -> bool {
        [Variable::Args, Variable::Body, Variable::Meta].into_iter().any(|variable| self.uses(variable))
    }
}

impl Variable {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Flaw {
    fn new(text: &str, at: usize, what: impl Into<String>, cure: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            at,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
            cure: cure.into(),
        }
    }
}

/// Compiles a pattern of `matches` to at most about `bytes_max` bytes.
///
/// # Errors
/// Why it is refused, without a full stop.
pub fn pattern(text: &str, bytes_max: usize) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(bytes_max).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the pattern {} takes too much memory", quoted(text)),
        // The last line says why, those before it repeat the pattern.
        error => {
            let shown = error.to_string();
            let reason = shown.lines().next_back().unwrap_or("").trim_start_matches("error: ");
            format!("{} is no regular expression: {reason}", quoted(text))
        }
    })
}

/// Refuses what would take the parser too long or too deep. Brackets inside of strings count too: 128 of them
/// unclosed in a string are no expression that anybody needs.
fn within_bounds(text: &str) -> Result<(), Flaw> {
    if text.len() > limits::EXPRESSION_BYTES_MAX {
        let what = format!("the expression is longer than {} bytes", limits::EXPRESSION_BYTES_MAX);
        return Err(Flaw::new(text, 0, what, "Make several rules of it."));
    }
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::EXPRESSION_DEPTH_MAX {
            return Err(too_deep(text, at));
        }
    }
    Ok(())
}

fn too_deep(text: &str, at: usize) -> Flaw {
    let what = format!("the expression is nested more than {} deep", limits::EXPRESSION_DEPTH_MAX);
    Flaw::new(text, at, what, "Make several rules of it.")
}

/// The first complaint of the parser in plain words: its own list every token that it would have taken.
fn syntax_flaw(text: &str, errors: &ParseErrors) -> Flaw {
    // Complaints of later passes come with the place of a whole subtree, and only follow from the first ones.
    let is_first = |error: &&cel::ParseError| error.msg.starts_with("Syntax error");
    let Some(error) = errors.errors.iter().find(is_first).or(errors.errors.first()) else {
        return Flaw::new(text, 0, "this is no expression", "");
    };
    let (line, column) = error.pos;
    let (Ok(line @ 1..), Ok(column @ 1..)) = (usize::try_from(line), usize::try_from(column)) else {
        return too_deep(text, 0);
    };
    let line_start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(line_start..).unwrap_or("");
    let at = line_start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at);
    let message = error.msg.trim_start_matches("Syntax error: ");
    let message = message.split(" expecting ").next().unwrap_or(message);
    if message.contains("Recursion limit") {
        return too_deep(text, at);
    }
    let token = message.split_once('\'').and_then(|(_, token)| token.strip_suffix('\''));
    match token.map(str::trim_end) {
        Some(token) if token.ends_with("<EOF>") => {
            Flaw::new(text, at, "the expression ends too early", "Something is missing at its end.")
        }
        Some(token) if token.starts_with(['"', '\'']) => {
            let what = "the string does not end, or has an escape that does not exist";
            Flaw::new(
                text,
                at,
                what,
                "Close it with the quote that opens it, and write `\\\\` for a backslash.",
            )
        }
        Some(token) => {
            let cure = match token {
                "=" => "Compare with `==`.",
                "&" | "and" => "Write `&&`.",
                "|" | "or" => "Write `||`.",
                _ => "",
            };
            Flaw::new(text, at, format!("{} is not expected here", quoted(token)), cure)
        }
        None => Flaw::new(text, at, message, ""),
    }
}
