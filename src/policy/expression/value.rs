//! `Value`: what an expression yields, and which values are equal, ordered, and the same key.
//!
//! Not here: functions and operators (`function`).

use crate::config::expression::Constant;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Steps;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};
use std::hash::Hasher;
use std::ops::Deref;
use std::rc::Rc;

/// Cheap to clone: texts are borrowed from the expression or the message where they stand there as they are, and
/// what was made is shared.
#[derive(Clone, Debug)]
pub(super) enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    /// A number of the message that no double is worth: whoever asks for its worth gets an error.
    Inexact,
    Text(Text<'v>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    List(Rc<[Self]>),
    /// Sorted by key, every key once.
    Map(Rc<[(Text<'v>, Self)]>),
}

#[derive(Clone, Debug)]
pub(super) enum Text<'v> {
    Borrowed(&'v str),
    Shared(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'v> From<&'v Constant> for Value<'v> {
    fn from(constant: &'v Constant) -> Self {
        match constant {
            Constant::Null => Self::Null,
            Constant::Bool(value) => Self::Bool(*value),
            Constant::Int(value) => Self::Int(*value),
            Constant::Uint(value) => Self::Uint(*value),
            Constant::Double(value) => Self::Double(*value),
            Constant::Text(value) => Self::text(value),
            Constant::Timestamp(value) => Self::Timestamp(*value),
            Constant::Duration(value) => Self::Duration(*value),
        }
    }
}

/// As CEL writes it, nearly: for people, who are told which bucket a call counts in.
impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Inexact => f.write_str("a number that is too exact"),
            Self::Text(value) => write!(f, "{:?}", &**value),
            Self::Timestamp(value) => value.fmt(f),
            Self::Duration(value) => value.fmt(f),
            Self::List(values) => {
                let shown: Vec<String> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", shown.join(", "))
            }
            // No key of a bucket.
            Self::Map(_) => f.write_str("a map"),
        }
    }
}

/// A map of these entries in whatever order.
pub(super) fn map<'v>(mut entries: Vec<(Text<'v>, Value<'v>)>) -> Result<Value<'v>, EvaluationError> {
    entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    if entries.is_sorted_by(|(left, _), (right, _)| **left < **right) {
        Ok(Value::Map(entries.into()))
    } else {
        Err(EvaluationError::DuplicateKey)
    }
}

impl<'v> Value<'v> {
    pub(super) fn text(text: &'v str) -> Self {
        Self::Text(Text::Borrowed(text))
    }

    pub(super) fn made_text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    pub(super) fn into_text(self) -> Result<Text<'v>, EvaluationError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(EvaluationError::Type),
        }
    }

    /// The value of a field of a map; None: it has no such field.
    pub(super) fn field(&self, name: &str) -> Result<Option<&Self>, EvaluationError> {
        let Self::Map(entries) = self else { return Err(EvaluationError::Type) };
        let found = entries.binary_search_by(|(key, _)| (**key).cmp(name));
        Ok(found.ok().and_then(|at| entries.get(at)).map(|(_, value)| value))
    }

    /// Values of different types are not equal, but numbers are compared by what they are worth.
    pub(super) fn equals(&self, other: &Self, steps: &mut Steps) -> Result<bool, EvaluationError> {
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(left), Self::Text(right)) if left.len() != right.len() => false,
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len() && all_equal(left.iter().zip(right.iter()), steps)?
            }
            (Self::Map(left), Self::Map(right)) => {
                // Both are sorted: equal keys stand at equal places.
                steps.charge(left.len())?;
                let pairs = || left.iter().zip(right.iter());
                left.len() == right.len()
                    && pairs().all(|((left, _), (right, _))| **left == **right)
                    && all_equal(pairs().map(|((_, left), (_, right))| (left, right)), steps)?
            }
            _ => match self.order(other, steps) {
                Ok(order) => order == Some(Ordering::Equal),
                Err(EvaluationError::Type) => false,
                Err(error) => return Err(error),
            },
        })
    }

    /// None: one of them is no number (NaN).
    pub(super) fn order(&self, other: &Self, steps: &mut Steps) -> Result<Option<Ordering>, EvaluationError> {
        Ok(match (self, other) {
            (Self::Inexact, _) | (_, Self::Inexact) => return Err(EvaluationError::Inexact),
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Text(left), Self::Text(right)) => {
                steps.charge_text(left.len().min(right.len()))?;
                Some((**left).cmp(right))
            }
            (Self::Timestamp(left), Self::Timestamp(right)) => Some(left.cmp(right)),
            (Self::Duration(left), Self::Duration(right)) => Some(left.cmp(right)),
            _ => {
                let numbers = self.number().zip(other.number());
                let (left, right) = numbers.ok_or(EvaluationError::Type)?;
                left.order(right)
            }
        })
    }

    fn number(&self) -> Option<Number> {
        match *self {
            Self::Int(value) => Some(Number::Whole(value.into())),
            Self::Uint(value) => Some(Number::Whole(value.into())),
            Self::Double(value) => Some(Number::of_double(value)),
            _ => None,
        }
    }

    /// Feeds equal values equally and others differently to `hasher`. A map is refused.
    pub(super) fn feed(&self, hasher: &mut impl Hasher, steps: &mut Steps) -> Result<(), EvaluationError> {
        steps.charge(1)?;
        match self {
            Self::Null => hasher.write_u8(0),
            Self::Bool(value) => {
                hasher.write_u8(1);
                hasher.write_u8(u8::from(*value));
            }
            Self::Int(_) | Self::Uint(_) | Self::Double(_) => match self.number() {
                Some(Number::Whole(value)) => {
                    hasher.write_u8(2);
                    hasher.write_i128(value);
                }
                Some(Number::Double(value)) => {
                    hasher.write_u8(3);
                    hasher.write_u64(if value.is_nan() { f64::NAN } else { value }.to_bits());
                }
                None => {}
            },
            Self::Text(text) => {
                steps.charge_text(text.len())?;
                hasher.write_u8(4);
                hasher.write_usize(text.len());
                hasher.write(text.as_bytes());
            }
            Self::Timestamp(time) => {
                hasher.write_u8(5);
                hasher.write_i128(time.as_nanosecond());
            }
            Self::Duration(duration) => {
                hasher.write_u8(6);
                hasher.write_i128(duration.as_nanos());
            }
            Self::List(elements) => {
                hasher.write_u8(7);
                hasher.write_usize(elements.len());
                for element in elements.iter() {
                    element.feed(hasher, steps)?;
                }
            }
            Self::Inexact => return Err(EvaluationError::Inexact),
            Self::Map(_) => return Err(EvaluationError::Type),
        }
        Ok(())
    }
}

fn all_equal<'a, 'v: 'a>(
    pairs: impl Iterator<Item = (&'a Value<'v>, &'a Value<'v>)>,
    steps: &mut Steps,
) -> Result<bool, EvaluationError> {
    for (left, right) in pairs {
        steps.charge(1)?;
        if !left.equals(right, steps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A number by its worth: each has one form.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    /// With a fraction, beyond every int and uint, or NaN.
    Double(f64),
}

impl Number {
    fn of_double(value: f64) -> Self {
        // Beyond 2^64 there is no int or uint to be equal to.
        const BOUND: f64 = 18_446_744_073_709_551_616.0;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within ±2^64, which i128 holds")]
        if value.fract() == 0.0 && value.abs() <= BOUND {
            Self::Whole(value as i128)
        } else {
            Self::Double(value)
        }
    }

    fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(&right),
            (Self::Whole(left), Self::Double(right)) => order_with_double(left, right),
            (Self::Double(left), Self::Whole(right)) => order_with_double(right, left).map(Ordering::reverse),
        }
    }
}

/// The double is not whole, or beyond the whole number's range: they are never equal, and rounding the double
/// down, where the conversion ends at the range of i128, tells which is greater.
fn order_with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, which keeps the order")]
    let floor = double.floor() as i128;
    Some(if whole <= floor { Ordering::Less } else { Ordering::Greater })
}
