//! Conditions as trees, and their text in CEL.
//!
//! Not here: what they come to (`evaluate`, `terms`), and drawing them (`draw`).

use crate::policies::value::Value;
use crate::policies::value::quoted;

/// What is true, false, or fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Constant(bool),
    Not(Box<Self>),
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    /// Condition, then, else.
    If(Box<[Self; 3]>),
    /// A term that must be a bool.
    Bare(Term),
    Binary(Relation, Term, Term),
    Has(Term, &'static str),
    /// Whether the test holds for all elements of the term, or for any.
    Each {
        all: bool,
        of: Term,
        holds: Box<Self>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Contains,
    StartsWith,
    EndsWith,
    /// A regular expression: `^` and a text without any meaning.
    Matches,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    Literal(Value),
    /// A time as it is written, and what it is.
    Time(&'static str, i64),
    Variable(Variable),
    /// Of the loop around.
    Element,
    Field(Box<Self>, &'static str),
    Index(Box<Self>, Box<Self>),
    List(Vec<Self>),
    Arithmetic(char, Box<[Self; 2]>),
    Size(Box<Self>),
    ToInt(Box<Self>),
    /// Of a time in UTC.
    Hours(Box<Self>),
    Weekday(Box<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Annotations,
    Args,
    Body,
    BodyMethod,
    BodyParamsName,
    Jwt,
    McpToolName,
    Meta,
    Method,
    Now,
    Principal,
    Roles,
    Server,
    Source,
    Tenant,
    Tool,
}

impl Variable {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Annotations => "annotations",
            Self::Args => "args",
            Self::Body => "body",
            Self::BodyMethod => "body.method",
            Self::BodyParamsName => "body.params.name",
            Self::Jwt => "jwt",
            Self::McpToolName => "mcp.tool.name",
            Self::Meta => "meta",
            Self::Method => "method",
            Self::Now => "now",
            Self::Principal => "principal",
            Self::Roles => "roles",
            Self::Server => "server",
            Self::Source => "source",
            Self::Tenant => "tenant",
            Self::Tool => "tool",
        }
    }

    /// Known only when the message is.
    pub const fn is_of_message(self) -> bool {
        matches!(self, Self::Args | Self::Body | Self::Meta)
    }
}

impl Test {
    pub fn to_cel(&self) -> String {
        match self {
            Self::Constant(value) => value.to_string(),
            Self::Not(test) => format!("!({})", test.to_cel()),
            Self::And(parts) => format!("({} && {})", parts[0].to_cel(), parts[1].to_cel()),
            Self::Or(parts) => format!("({} || {})", parts[0].to_cel(), parts[1].to_cel()),
            Self::If(parts) => {
                format!("({} ? {} : {})", parts[0].to_cel(), parts[1].to_cel(), parts[2].to_cel())
            }
            Self::Bare(term) => term.to_cel(),
            Self::Binary(relation, left, right) => relation.to_cel(&left.to_cel(), &right.to_cel()),
            Self::Has(of, name) => format!("has({}.{name})", of.to_cel()),
            Self::Each { all, of, holds } => {
                let name = if *all { "all" } else { "exists" };
                format!("{}.{name}(element, {})", of.to_cel(), holds.to_cel())
            }
        }
    }

    /// The tests right below.
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Not(test) => vec![test],
            Self::And(parts) | Self::Or(parts) => parts.iter().collect(),
            Self::If(parts) => parts.iter().collect(),
            // The test of a loop has no element outside of it.
            _ => Vec::new(),
        }
    }

    /// Whether it names anything of the message.
    pub fn reads_message(&self) -> bool {
        match self {
            Self::Bare(term) | Self::Has(term, _) => term.reads_message(),
            Self::Binary(_, left, right) => left.reads_message() || right.reads_message(),
            Self::Each { of, holds, .. } => of.reads_message() || holds.reads_message(),
            _ => self.parts().into_iter().any(Self::reads_message),
        }
    }
}

impl Relation {
    fn to_cel(self, left: &str, right: &str) -> String {
        let operator = match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Contains => return format!("{left}.contains({right})"),
            Self::StartsWith => return format!("{left}.startsWith({right})"),
            Self::EndsWith => return format!("{left}.endsWith({right})"),
            Self::Matches => return format!("{left}.matches({right})"),
        };
        format!("{left} {operator} {right}")
    }
}

impl Term {
    pub fn to_cel(&self) -> String {
        match self {
            Self::Literal(value) => value.to_cel(),
            Self::Time(text, _) => format!("timestamp({})", quoted(text)),
            Self::Variable(variable) => variable.text().into(),
            Self::Element => "element".into(),
            Self::Field(of, name) => format!("{}.{name}", of.to_cel()),
            Self::Index(of, at) => format!("{}[{}]", of.to_cel(), at.to_cel()),
            Self::List(terms) => {
                format!("[{}]", terms.iter().map(Self::to_cel).collect::<Vec<_>>().join(", "))
            }
            Self::Arithmetic(operator, sides) => {
                format!("({} {operator} {})", sides[0].to_cel(), sides[1].to_cel())
            }
            Self::Size(of) => format!("size({})", of.to_cel()),
            Self::ToInt(of) => format!("int({})", of.to_cel()),
            Self::Hours(of) => format!("{}.getHours()", of.to_cel()),
            Self::Weekday(of) => format!("{}.getDayOfWeek()", of.to_cel()),
        }
    }

    pub fn reads_message(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Time(..) | Self::Element => false,
            Self::Variable(variable) => variable.is_of_message(),
            Self::Index(of, at) => of.reads_message() || at.reads_message(),
            Self::List(terms) => terms.iter().any(Self::reads_message),
            Self::Arithmetic(_, sides) => sides.iter().any(Self::reads_message),
            Self::Field(of, _) | Self::Size(of) | Self::ToInt(of) | Self::Hours(of) | Self::Weekday(of) => {
                of.reads_message()
            }
        }
    }
}
