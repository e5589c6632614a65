//! Claims of the caller (`jwt`) and hints of a tool (`annotations`) as values of CEL.
//!
//! Not here: where they are from. Numbers are what they are in a message (`json`).

use crate::config::labels::Labels;
use crate::mcp::catalogue::Annotations;
use crate::policy::claims::Claims;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use crate::policy::expression::value::map;
use serde_json::Map;
use serde_json::Value as Json;

pub(super) fn claims(claims: &Claims) -> Result<Value<'_>, EvaluationError> {
    object(&claims.0)
}

/// Its depth is bounded by the parser of tokens.
pub(super) fn claim(json: &Json) -> Result<Value<'_>, EvaluationError> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Double(number.as_f64().ok_or(EvaluationError::Overflow)?),
        },
        Json::String(text) => Value::text(text),
        Json::Array(elements) => {
            let elements: Result<Vec<_>, _> = elements.iter().map(claim).collect();
            Value::List(elements?.into())
        }
        Json::Object(entries) => object(entries)?,
    })
}

fn object(entries: &Map<String, Json>) -> Result<Value<'_>, EvaluationError> {
    let entries = entries.iter().map(|(key, value)| Ok((Text::Borrowed(key.as_str()), claim(value)?)));
    map(entries.collect::<Result<_, EvaluationError>>()?)
}

pub(super) fn hints<'v>(annotations: Annotations) -> Result<Value<'v>, EvaluationError> {
    let hint = |(name, value)| (Text::Borrowed(name), Value::Bool(value));
    map(named(annotations).map(hint).into())
}

/// Each label as a name in a map: `"pii" in labels`.
pub(super) fn labels<'v>(labels: &'v Labels, tool: &str) -> Result<Value<'v>, EvaluationError> {
    map(labels.of(tool).into_iter().map(|label| (Text::Borrowed(label), Value::Bool(true))).collect())
}

pub(super) fn hint(annotations: Annotations, name: &str) -> Option<bool> {
    named(annotations).into_iter().find_map(|(known, value)| (known == name).then_some(value))
}

const fn named(annotations: Annotations) -> [(&'static str, bool); 4] {
    let Annotations { read_only, destructive, idempotent, open_world } = annotations;
    [
        ("readOnlyHint", read_only),
        ("destructiveHint", destructive),
        ("idempotentHint", idempotent),
        ("openWorldHint", open_world),
    ]
}
