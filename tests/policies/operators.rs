//! Operators and functions of CEL over values of the second evaluator. None is an evaluation error.
//!
//! Not here: which operands are evaluated (`terms`).

use crate::policies::tree::Relation;
use crate::policies::value::Value;
use std::cmp::Ordering;

const HOUR_MS: i64 = 3_600_000;

pub fn relate(relation: Relation, left: &Value, right: &Value) -> Option<bool> {
    let ordered = |wanted: fn(Ordering) -> bool| match order(left, right)? {
        // Of NaN, of which nothing holds.
        None => Some(false),
        Some(order) => Some(wanted(order)),
    };
    match relation {
        Relation::Equal => Some(equal(left, right)),
        Relation::NotEqual => Some(!equal(left, right)),
        Relation::Less => ordered(Ordering::is_lt),
        Relation::LessOrEqual => ordered(Ordering::is_le),
        Relation::Greater => ordered(Ordering::is_gt),
        Relation::GreaterOrEqual => ordered(Ordering::is_ge),
        Relation::In => match (left, right) {
            (_, Value::List(values)) => Some(values.iter().any(|value| equal(value, left))),
            (Value::Text(key), Value::Map(_)) => Some(right.field(key).is_some()),
            _ => None,
        },
        _ => {
            let (Value::Text(text), Value::Text(part)) = (left, right) else { return None };
            Some(match relation {
                Relation::Contains => text.contains(part.as_str()),
                Relation::StartsWith => text.starts_with(part.as_str()),
                Relation::EndsWith => text.ends_with(part.as_str()),
                _ => text.starts_with(part.strip_prefix('^').expect("patterns begin so")),
            })
        }
    }
}

/// Values of different types differ, but numbers are what they are worth.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Map(entries), Value::Map(others)) => {
            let has =
                |(key, value): &(String, Value)| right.field(key).is_some_and(|other| equal(value, other));
            entries.len() == others.len() && entries.iter().all(has)
        }
        _ => matches!(order(left, right), Some(Some(Ordering::Equal))),
    }
}

/// None: the two cannot be compared. None inside: neither is before the other, nor are they equal.
fn order(left: &Value, right: &Value) -> Option<Option<Ordering>> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(Some(left.cmp(right))),
        (Value::Text(left), Value::Text(right)) => Some(Some(left.cmp(right))),
        (Value::Time(left), Value::Time(right)) | (Value::Int(left), Value::Int(right)) => {
            Some(Some(left.cmp(right)))
        }
        (Value::Double(left), Value::Double(right)) => Some(left.partial_cmp(right)),
        (Value::Int(whole), Value::Double(double)) => Some(whole_to_double(*whole, *double)),
        (Value::Double(double), Value::Int(whole)) => {
            Some(whole_to_double(*whole, *double).map(Ordering::reverse))
        }
        _ => None,
    }
}

/// Exact, where a double of the whole number would not be.
fn whole_to_double(whole: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= BEYOND {
        return Some(Ordering::Less);
    }
    if double < -BEYOND {
        return Some(Ordering::Greater);
    }
    let below = double.floor();
    let rest = if double > below { Ordering::Less } else { Ordering::Equal };
    Some(whole.cmp(&(below as i64)).then(rest))
}

pub fn arithmetic(operator: char, left: &Value, right: &Value) -> Option<Value> {
    match (operator, left, right) {
        ('+', Value::Int(left), Value::Int(right)) => left.checked_add(*right).map(Value::Int),
        ('-', Value::Int(left), Value::Int(right)) => left.checked_sub(*right).map(Value::Int),
        ('*', Value::Int(left), Value::Int(right)) => left.checked_mul(*right).map(Value::Int),
        ('/', Value::Int(left), Value::Int(right)) => left.checked_div(*right).map(Value::Int),
        ('%', Value::Int(left), Value::Int(right)) => left.checked_rem(*right).map(Value::Int),
        ('+', Value::Double(left), Value::Double(right)) => Some(Value::Double(left + right)),
        ('-', Value::Double(left), Value::Double(right)) => Some(Value::Double(left - right)),
        ('*', Value::Double(left), Value::Double(right)) => Some(Value::Double(left * right)),
        ('/', Value::Double(left), Value::Double(right)) => Some(Value::Double(left / right)),
        ('+', Value::Text(left), Value::Text(right)) => Some(Value::Text(format!("{left}{right}"))),
        ('+', Value::List(left), Value::List(right)) => {
            Some(Value::List(left.iter().chain(right).cloned().collect()))
        }
        _ => None,
    }
}

pub fn index(of: &Value, at: &Value) -> Option<Value> {
    match (of, at) {
        (Value::List(values), Value::Int(at)) => values.get(usize::try_from(*at).ok()?).cloned(),
        (Value::Map(_), Value::Text(key)) => of.field(key).cloned(),
        _ => None,
    }
}

/// Of a text its characters.
pub fn size(of: &Value) -> Option<Value> {
    let size = match of {
        Value::Text(text) => text.chars().count(),
        Value::List(values) => values.len(),
        Value::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(Value::Int(size as i64))
}

/// Towards zero.
pub fn to_int(of: &Value) -> Option<Value> {
    match of {
        Value::Int(whole) => Some(Value::Int(*whole)),
        Value::Double(double) if double.abs() < 9e18 => Some(Value::Int(*double as i64)),
        Value::Text(text) => text.parse().ok().map(Value::Int),
        Value::Time(millis) => Some(Value::Int(millis.div_euclid(1_000))),
        _ => None,
    }
}

pub fn hours(of: &Value) -> Option<Value> {
    let Value::Time(millis) = of else { return None };
    Some(Value::Int(millis.div_euclid(HOUR_MS).rem_euclid(24)))
}

/// Sunday is 0; the epoch began on a Thursday.
pub fn weekday(of: &Value) -> Option<Value> {
    let Value::Time(millis) = of else { return None };
    Some(Value::Int((millis.div_euclid(24 * HOUR_MS) + 4).rem_euclid(7)))
}
