//! Functions and operators over values, as CEL defines them: arithmetic is between numbers of one type, and what
//! does not fit is an error, never wrapped.
//!
//! Not here: which operands are evaluated (`evaluate`); equality and order (`value`).

use crate::config::expression::Function;
use crate::config::expression::Part;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Patterns;
use crate::policy::expression::Steps;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::cmp::Ordering;

type Evaluated<'e> = Result<Value<'e>, EvaluationError>;

pub(super) fn unary<'e>(function: Function, operand: Value<'e>, steps: &mut Steps) -> Evaluated<'e> {
    if let Value::Text(text) = &operand {
        steps.charge_text(text.len())?;
    }
    match function {
        Function::Not => match operand {
            Value::Bool(value) => Ok(Value::Bool(!value)),
            _ => Err(EvaluationError::Type),
        },
        Function::Negate => negate(&operand),
        Function::Size => size(&operand),
        Function::ToBool => to_bool(&operand),
        Function::ToDouble => to_double(&operand),
        Function::ToDuration => to_duration(&operand),
        Function::ToInt => to_int(&operand),
        Function::ToText => to_text(operand),
        Function::ToTimestamp => to_timestamp(&operand),
        Function::ToUint => to_uint(&operand),
        _ => Err(EvaluationError::Type),
    }
}

pub(super) fn binary<'e>(
    function: Function,
    left: &Value<'e>,
    right: &Value<'e>,
    steps: &mut Steps,
    patterns: &mut Patterns,
) -> Evaluated<'e> {
    let ordered = |steps: &mut Steps, wanted: fn(Ordering) -> bool| {
        Ok(Value::Bool(left.order(right, steps)?.is_some_and(wanted)))
    };
    match function {
        Function::Equal => left.equals(right, steps).map(Value::Bool),
        Function::NotEqual => left.equals(right, steps).map(|equal| Value::Bool(!equal)),
        Function::Less => ordered(steps, Ordering::is_lt),
        Function::LessOrEqual => ordered(steps, Ordering::is_le),
        Function::Greater => ordered(steps, Ordering::is_gt),
        Function::GreaterOrEqual => ordered(steps, Ordering::is_ge),
        Function::In => is_in(left, right, steps).map(Value::Bool),
        Function::Index => index(left, right),
        Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
            let (Value::Text(text), Value::Text(part)) = (left, right) else {
                return Err(EvaluationError::Type);
            };
            steps.charge_text(text.len())?;
            steps.charge_text(part.len())?;
            Ok(Value::Bool(match function {
                Function::Contains => text.contains(&**part),
                Function::StartsWith => text.starts_with(&**part),
                Function::EndsWith => text.ends_with(&**part),
                _ => patterns.compiled(part, steps)?.is_match(text),
            }))
        }
        _ => arithmetic(function, left, right, steps),
    }
}

fn is_in(element: &Value<'_>, of: &Value<'_>, steps: &mut Steps) -> Result<bool, EvaluationError> {
    match (of, element) {
        (Value::List(elements), _) => {
            for candidate in elements.iter() {
                steps.charge(1)?;
                if candidate.equals(element, steps)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Map(_), Value::Text(key)) => Ok(of.field(key)?.is_some()),
        _ => Err(EvaluationError::Type),
    }
}

fn index<'e>(of: &Value<'e>, at: &Value<'_>) -> Evaluated<'e> {
    let found = match (of, at) {
        (Value::List(elements), Value::Int(at)) => usize::try_from(*at).ok().and_then(|at| elements.get(at)),
        (Value::Map(_), Value::Text(key)) => of.field(key)?,
        _ => return Err(EvaluationError::Type),
    };
    found.cloned().ok_or(EvaluationError::Missing)
}

fn arithmetic<'e>(
    function: Function,
    left: &Value<'e>,
    right: &Value<'e>,
    steps: &mut Steps,
) -> Evaluated<'e> {
    use Function::{Add, Divide, Multiply, Remainder, Subtract};
    let zero = matches!(right, Value::Int(0) | Value::Uint(0));
    if zero && matches!(function, Divide | Remainder) && matches!(left, Value::Int(_) | Value::Uint(_)) {
        return Err(EvaluationError::DivisionByZero);
    }
    let value = match (function, left, right) {
        (Add, Value::Int(left), Value::Int(right)) => left.checked_add(*right).map(Value::Int),
        (Subtract, Value::Int(left), Value::Int(right)) => left.checked_sub(*right).map(Value::Int),
        (Multiply, Value::Int(left), Value::Int(right)) => left.checked_mul(*right).map(Value::Int),
        (Divide, Value::Int(left), Value::Int(right)) => left.checked_div(*right).map(Value::Int),
        (Remainder, Value::Int(left), Value::Int(right)) => left.checked_rem(*right).map(Value::Int),
        (Add, Value::Uint(left), Value::Uint(right)) => left.checked_add(*right).map(Value::Uint),
        (Subtract, Value::Uint(left), Value::Uint(right)) => left.checked_sub(*right).map(Value::Uint),
        (Multiply, Value::Uint(left), Value::Uint(right)) => left.checked_mul(*right).map(Value::Uint),
        (Divide, Value::Uint(left), Value::Uint(right)) => left.checked_div(*right).map(Value::Uint),
        (Remainder, Value::Uint(left), Value::Uint(right)) => left.checked_rem(*right).map(Value::Uint),
        (Add, Value::Double(left), Value::Double(right)) => Some(Value::Double(left + right)),
        (Subtract, Value::Double(left), Value::Double(right)) => Some(Value::Double(left - right)),
        (Multiply, Value::Double(left), Value::Double(right)) => Some(Value::Double(left * right)),
        (Divide, Value::Double(left), Value::Double(right)) => Some(Value::Double(left / right)),
        (Add, Value::Text(left), Value::Text(right)) => {
            steps.charge_text(left.len().saturating_add(right.len()))?;
            Some(Value::made_text([&**left, &**right].concat()))
        }
        (Add, Value::List(left), Value::List(right)) => {
            steps.charge(left.len().saturating_add(right.len()))?;
            Some(Value::List(left.iter().chain(right.iter()).cloned().collect()))
        }
        _ => return time_arithmetic(function, left, right),
    };
    value.ok_or(EvaluationError::Overflow)
}

fn time_arithmetic<'e>(function: Function, left: &Value<'_>, right: &Value<'_>) -> Evaluated<'e> {
    use Function::{Add, Subtract};
    let value = match (function, left, right) {
        (Add, Value::Timestamp(time), Value::Duration(duration))
        | (Add, Value::Duration(duration), Value::Timestamp(time)) => {
            time.checked_add(*duration).ok().map(Value::Timestamp)
        }
        (Subtract, Value::Timestamp(time), Value::Duration(duration)) => {
            time.checked_sub(*duration).ok().map(Value::Timestamp)
        }
        (Subtract, Value::Timestamp(left), Value::Timestamp(right)) => {
            Some(Value::Duration(left.duration_since(*right)))
        }
        (Add, Value::Duration(left), Value::Duration(right)) => left.checked_add(*right).map(Value::Duration),
        (Subtract, Value::Duration(left), Value::Duration(right)) => {
            left.checked_sub(*right).map(Value::Duration)
        }
        _ => return Err(EvaluationError::Type),
    };
    value.ok_or(EvaluationError::Overflow)
}

fn negate<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    let value = match operand {
        Value::Int(value) => value.checked_neg().map(Value::Int),
        Value::Double(value) => Some(Value::Double(-value)),
        Value::Duration(value) => value.checked_neg().map(Value::Duration),
        _ => return Err(EvaluationError::Type),
    };
    value.ok_or(EvaluationError::Overflow)
}

/// Of a text its characters.
fn size<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    let size = match operand {
        Value::Text(text) => text.chars().count(),
        Value::List(elements) => elements.len(),
        Value::Map(entries) => entries.len(),
        _ => return Err(EvaluationError::Type),
    };
    whole(size)
}

fn whole<'e>(number: impl TryInto<i64>) -> Evaluated<'e> {
    number.try_into().map(Value::Int).map_err(|_| EvaluationError::Overflow)
}

fn parsed<T: std::str::FromStr>(text: &Text<'_>) -> Result<T, EvaluationError> {
    text.parse().map_err(|_| EvaluationError::Conversion)
}

/// Towards zero; None: no int or uint is near it.
fn truncated(value: f64) -> Result<i128, EvaluationError> {
    if !value.is_finite() {
        return Err(EvaluationError::Overflow);
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and i128 is wider than what it becomes")]
    Ok(value.trunc() as i128)
}

fn to_int<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    match operand {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Uint(value) => whole(*value),
        Value::Double(value) => whole(truncated(*value)?),
        Value::Text(text) => parsed(text).map(Value::Int),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        _ => Err(EvaluationError::Type),
    }
}

fn to_uint<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    let number = match operand {
        Value::Int(value) => i128::from(*value),
        Value::Uint(value) => i128::from(*value),
        Value::Double(value) => truncated(*value)?,
        Value::Text(text) => return parsed(text).map(Value::Uint),
        _ => return Err(EvaluationError::Type),
    };
    number.try_into().map(Value::Uint).map_err(|_| EvaluationError::Overflow)
}

/// Rounded to the nearest, as CEL has it.
fn to_double<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    Ok(Value::Double(match operand {
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::Double(value) => *value,
        Value::Text(text) => parsed(text)?,
        _ => return Err(EvaluationError::Type),
    }))
}

fn to_bool<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    match operand {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::Text(text) => match &**text {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(EvaluationError::Conversion),
        },
        _ => Err(EvaluationError::Type),
    }
}

fn to_text(operand: Value<'_>) -> Evaluated<'_> {
    Ok(match operand {
        Value::Text(_) => operand,
        Value::Bool(value) => Value::text(if value { "true" } else { "false" }),
        Value::Int(value) => Value::made_text(value.to_string()),
        Value::Uint(value) => Value::made_text(value.to_string()),
        Value::Double(value) => Value::made_text(value.to_string()),
        Value::Timestamp(time) => Value::made_text(time.to_string()),
        Value::Duration(duration) => Value::made_text(format!("{}s", duration.as_secs_f64())),
        _ => return Err(EvaluationError::Type),
    })
}

fn to_timestamp<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    match operand {
        Value::Timestamp(time) => Ok(Value::Timestamp(*time)),
        Value::Text(text) => parsed(text).map(Value::Timestamp),
        Value::Int(seconds) => {
            let time = Timestamp::from_second(*seconds);
            time.map(Value::Timestamp).map_err(|_| EvaluationError::Overflow)
        }
        _ => Err(EvaluationError::Type),
    }
}

fn to_duration<'e>(operand: &Value<'_>) -> Evaluated<'e> {
    match operand {
        Value::Duration(duration) => Ok(Value::Duration(*duration)),
        Value::Text(text) => parsed(text).map(Value::Duration),
        _ => Err(EvaluationError::Type),
    }
}

pub(super) fn part<'e>(of: &Value<'_>, part: Part, zone: &TimeZone) -> Evaluated<'e> {
    match of {
        Value::Timestamp(time) => whole(part_of_time(*time, part, zone)),
        Value::Duration(duration) => part_of_duration(*duration, part).map(Value::Int),
        _ => Err(EvaluationError::Type),
    }
}

fn part_of_time(time: Timestamp, part: Part, zone: &TimeZone) -> i16 {
    let civil = zone.to_datetime(time);
    match part {
        Part::DayOfMonthFromOne => i16::from(civil.day()),
        Part::DayOfMonthFromZero => i16::from(civil.day()) - 1,
        Part::DayOfWeek => i16::from(civil.weekday().to_sunday_zero_offset()),
        Part::DayOfYear => civil.day_of_year() - 1,
        Part::Hours => i16::from(civil.hour()),
        Part::Milliseconds => civil.millisecond(),
        Part::Minutes => i16::from(civil.minute()),
        Part::Month => i16::from(civil.month()) - 1,
        Part::Seconds => i16::from(civil.second()),
        Part::Year => civil.year(),
    }
}

/// All of it in the unit, but for milliseconds: those beside the whole seconds.
fn part_of_duration(duration: SignedDuration, part: Part) -> Result<i64, EvaluationError> {
    match part {
        Part::Hours => Ok(duration.as_hours()),
        Part::Minutes => Ok(duration.as_mins()),
        Part::Seconds => Ok(duration.as_secs()),
        Part::Milliseconds => Ok(i64::from(duration.subsec_millis())),
        _ => Err(EvaluationError::Type),
    }
}
