//! The types of CEL as far as they are known at load, and what each operator and function takes and gives.
//!
//! Not here: the walk over an expression (`check`).

use crate::config::expression::Function;
use crate::config::expression::LoopKind;
use crate::config::expression::Part;
use crate::config::expression::Variable;
use std::fmt::{self, Display, Formatter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Double,
    Duration,
    /// Known only at run time.
    Dyn,
    Int,
    /// Of values that are known only at run time.
    List,
    /// From strings to values that are known only at run time.
    Map,
    Null,
    Text,
    /// A list of strings.
    Texts,
    Timestamp,
    Uint,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`
    Global,
    /// `x.f()`
    Method,
    Both,
}

pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) style: Style,
    pub(super) first: &'static [Type],
    /// Empty: there is no second argument.
    pub(super) second: &'static [Type],
    pub(super) result: Type,
    pub(super) function: Function,
}

pub(super) const VARIABLES: &[(&str, Variable, Type)] = &[
    ("annotations", Variable::Annotations, Type::Map),
    ("args", Variable::Args, Type::Map),
    ("body", Variable::Body, Type::Dyn),
    ("jwt", Variable::Jwt, Type::Map),
    ("labels", Variable::Labels, Type::Map),
    ("meta", Variable::Meta, Type::Map),
    ("method", Variable::Method, Type::Text),
    ("now", Variable::Now, Type::Timestamp),
    ("principal", Variable::Principal, Type::Text),
    ("roles", Variable::Roles, Type::Texts),
    ("server", Variable::Server, Type::Text),
    ("source", Variable::Source, Type::Text),
    ("tenant", Variable::Tenant, Type::Text),
    ("tool", Variable::Tool, Type::Text),
];

/// Paths that other gateways taught people to write, and that need no look into the message.
pub(super) const PATHS: &[(&str, Variable)] = &[
    ("body.method", Variable::Method),
    ("body.params.name", Variable::Name),
    ("mcp.tool.name", Variable::Tool),
];

/// Fields of `annotations` (2026-07-28, `ToolAnnotations`); others are nobody's.
pub(super) const HINTS: [&str; 4] = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

const ALL: &[Type] = &[
    Type::Bool,
    Type::Double,
    Type::Duration,
    Type::Int,
    Type::List,
    Type::Map,
    Type::Null,
    Type::Text,
    Type::Texts,
    Type::Timestamp,
    Type::Uint,
];
pub(super) const KEY: &[Type] = &[
    Type::Bool,
    Type::Double,
    Type::Duration,
    Type::Int,
    Type::List,
    Type::Null,
    Type::Text,
    Type::Texts,
    Type::Timestamp,
    Type::Uint,
];
pub(super) const TEXT: &[Type] = &[Type::Text];
pub(super) const RANGE: &[Type] = &[Type::List, Type::Map, Type::Texts];
pub(super) const TIME: &[Type] = &[Type::Duration, Type::Timestamp];
pub(super) const NEGATED: &[Type] = &[Type::Double, Type::Duration, Type::Int];
const SIZED: &[Type] = &[Type::List, Type::Map, Type::Text, Type::Texts];
const ORDERED: &[Type] =
    &[Type::Bool, Type::Double, Type::Duration, Type::Int, Type::Text, Type::Timestamp, Type::Uint];

const fn method(name: &'static str, function: Function) -> Signature {
    Signature { name, style: Style::Method, first: TEXT, second: TEXT, result: Type::Bool, function }
}

const fn conversion(
    name: &'static str,
    first: &'static [Type],
    result: Type,
    function: Function,
) -> Signature {
    Signature { name, style: Style::Global, first, second: &[], result, function }
}

pub(super) const FUNCTIONS: &[Signature] = &[
    method("contains", Function::Contains),
    method("endsWith", Function::EndsWith),
    method("startsWith", Function::StartsWith),
    Signature { style: Style::Both, ..method("matches", Function::Matches) },
    Signature { style: Style::Both, ..conversion("size", SIZED, Type::Int, Function::Size) },
    conversion("bool", &[Type::Bool, Type::Text], Type::Bool, Function::ToBool),
    conversion(
        "double",
        &[Type::Double, Type::Int, Type::Text, Type::Uint],
        Type::Double,
        Function::ToDouble,
    ),
    conversion("duration", &[Type::Duration, Type::Text], Type::Duration, Function::ToDuration),
    conversion(
        "int",
        &[Type::Double, Type::Int, Type::Text, Type::Timestamp, Type::Uint],
        Type::Int,
        Function::ToInt,
    ),
    conversion("string", ORDERED, Type::Text, Function::ToText),
    conversion(
        "timestamp",
        &[Type::Int, Type::Text, Type::Timestamp],
        Type::Timestamp,
        Function::ToTimestamp,
    ),
    conversion("uint", &[Type::Double, Type::Int, Type::Text, Type::Uint], Type::Uint, Function::ToUint),
];

/// Months and days of the month and year begin with 0, as CEL has it, but for `getDate`; Sunday is 0.
pub(super) const PARTS: &[(&str, Part)] = &[
    ("getDate", Part::DayOfMonthFromOne),
    ("getDayOfMonth", Part::DayOfMonthFromZero),
    ("getDayOfWeek", Part::DayOfWeek),
    ("getDayOfYear", Part::DayOfYear),
    ("getFullYear", Part::Year),
    ("getHours", Part::Hours),
    ("getMilliseconds", Part::Milliseconds),
    ("getMinutes", Part::Minutes),
    ("getMonth", Part::Month),
    ("getSeconds", Part::Seconds),
];

pub(super) const LOOPS: &[(&str, LoopKind)] = &[
    ("all", LoopKind::All),
    ("exists", LoopKind::Exists),
    ("existsOne", LoopKind::ExistsOne),
    ("exists_one", LoopKind::ExistsOne),
    ("filter", LoopKind::Filter),
    ("map", LoopKind::Map),
];

/// `cidr("10.0.16.0/20").containsIP(source)`, as the CEL of Kubernetes has it. A network is written out, and is of no other
/// use.
pub(super) const NETWORK: &str = "cidr";
pub(super) const WITHIN: &str = "containsIP";

impl Type {
    /// Whether a value of this type may be one of those.
    pub(super) fn is_one_of(self, types: &[Self]) -> bool {
        self == Self::Dyn || types.contains(&self)
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Double | Self::Int | Self::Uint)
    }

    fn is_list(self) -> bool {
        matches!(self, Self::List | Self::Texts)
    }

    /// Whether values of the two can be equal. Numbers are compared by value, as CEL does.
    pub(super) fn is_comparable_with(self, other: Self) -> bool {
        self == other
            || self == Self::Dyn
            || other == Self::Dyn
            || self.is_number() && other.is_number()
            || self.is_list() && other.is_list()
    }

    /// What a loop over it hands to its body; a map gives its keys.
    pub(super) fn element(self) -> Self {
        if matches!(self, Self::Map | Self::Texts) { Self::Text } else { Self::Dyn }
    }

    pub(super) fn list_of(element: Self) -> Self {
        if element == Self::Text { Self::Texts } else { Self::List }
    }
}

/// How the function of this name is called; None: there is none.
pub(super) fn style(name: &str) -> Option<Style> {
    if ["has", "dyn", NETWORK].contains(&name) {
        return Some(Style::Global);
    }
    let is_method =
        LOOPS.iter().any(|(known, _)| *known == name) || PARTS.iter().any(|(known, _)| *known == name);
    let row = FUNCTIONS.iter().find(|row| row.name == name).map(|row| row.style);
    row.or((is_method || name == WITHIN).then_some(Style::Method))
}

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    (FUNCTIONS.iter().map(|row| row.name))
        .chain(PARTS.iter().map(|(name, _)| *name))
        .chain(LOOPS.iter().map(|(name, _)| *name))
        .chain(["has", "dyn", NETWORK, WITHIN])
}

/// The result of an operator between two values; None: it does not take them.
pub(super) fn operator(function: Function, left: Type, right: Type) -> Option<Type> {
    use Function::{Add, Divide, Equal, In, Index, Multiply, NotEqual, Remainder, Subtract};
    use Type::{Bool, Double, Duration, Dyn, Int, List, Map, Text, Texts, Timestamp, Uint};
    match (function, left, right) {
        (Equal | NotEqual, ..) => left.is_comparable_with(right).then_some(Bool),
        (_, Dyn, Dyn) => Some(if function == In { Bool } else { Dyn }),
        (_, Dyn, _) => unknown(ALL.iter().filter_map(|left| operator(function, *left, right))),
        (_, _, Dyn) => unknown(ALL.iter().filter_map(|right| operator(function, left, *right))),
        (Add | Subtract | Multiply | Divide, Int, Int) | (Remainder, Int, Int) => Some(Int),
        (Add | Subtract | Multiply | Divide, Uint, Uint) | (Remainder, Uint, Uint) => Some(Uint),
        (Add | Subtract | Multiply | Divide, Double, Double) => Some(Double),
        (Add, Text, Text) => Some(Text),
        (Add, List | Texts, List | Texts) => Some(if left == right { left } else { List }),
        (Add, Timestamp, Duration) | (Add, Duration, Timestamp) => Some(Timestamp),
        (Add | Subtract, Duration, Duration) | (Subtract, Timestamp, Timestamp) => Some(Duration),
        (Subtract, Timestamp, Duration) => Some(Timestamp),
        (In, _, List) | (In, Text, Map | Texts) => Some(Bool),
        (Index, List, Int) | (Index, Map, Text) => Some(Dyn),
        (Index, Texts, Int) => Some(Text),
        (Function::Less | Function::LessOrEqual | Function::Greater | Function::GreaterOrEqual, ..) => {
            (ORDERED.contains(&left) && left.is_comparable_with(right)).then_some(Bool)
        }
        _ => None,
    }
}

/// The one result that is possible, or `Dyn` for several.
fn unknown(mut results: impl Iterator<Item = Type>) -> Option<Type> {
    let first = results.next()?;
    Some(if results.all(|other| other == first) { first } else { Type::Dyn })
}

/// With its article.
impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "a bool",
            Self::Double => "a double",
            Self::Duration => "a duration",
            Self::Dyn => "a value of any type",
            Self::Int => "an int",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Null => "null",
            Self::Text => "a string",
            Self::Texts => "a list of strings",
            Self::Timestamp => "a timestamp",
            Self::Uint => "a uint",
        })
    }
}
