//! Values of CEL as the second evaluator has them, and how the three texts that carry them write them: CEL, JSON, and
//! the claims of a caller.
//!
//! Not here: operators (`operators`).

use crate::policy::claims::Claims;
use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    /// Milliseconds since the Unix epoch.
    Time(i64),
}

/// Arguments of a call: what is sent, and what it means.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub json: String,
    /// None: readers could disagree on it, and it means nothing.
    pub value: Option<Value>,
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// As an expression writes it; maps and times are not written.
    pub fn to_cel(&self) -> String {
        match self {
            Self::List(values) => {
                format!("[{}]", values.iter().map(Self::to_cel).collect::<Vec<_>>().join(", "))
            }
            // Always with a fraction.
            Self::Double(value) => format!("{value:?}"),
            _ => self.to_json(),
        }
    }

    pub fn to_json(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => format!("{value:?}"),
            Self::Text(text) => quoted(text),
            Self::List(values) => {
                format!("[{}]", values.iter().map(Self::to_json).collect::<Vec<_>>().join(","))
            }
            Self::Map(entries) => {
                let entries =
                    entries.iter().map(|(key, value)| format!("{}:{}", quoted(key), value.to_json()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
            Self::Time(_) => panic!("a time is no JSON"),
        }
    }

    /// Of a map.
    pub fn to_claims(&self) -> Claims {
        let Self::Map(entries) = self else { panic!("claims are a map: {self:?}") };
        let mut claims = Claims::default();
        for (key, value) in entries {
            let key = key.clone();
            // Without naming the type of the values, which comes from a crate that mutants are built without.
            match value {
                Self::Null => claims.0.insert(key, ().into()),
                Self::Bool(value) => claims.0.insert(key, (*value).into()),
                Self::Int(value) => claims.0.insert(key, (*value).into()),
                Self::Double(value) => claims.0.insert(key, (*value).into()),
                Self::Text(text) => claims.0.insert(key, text.as_str().into()),
                Self::List(values) => claims.0.insert(key, texts(values).into()),
                Self::Map(_) => claims.0.insert(key, value.to_claims().0.into()),
                Self::Time(_) => panic!("a time is no claim"),
            };
        }
        claims
    }
}

/// Lists of claims have nothing else.
fn texts(values: &[Value]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        other => panic!("not a list of texts: {other:?}"),
    };
    values.iter().map(text).collect()
}

/// In quotes, as JSON and CEL both have it. Texts have no control characters.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(quoted, "\\{character}"),
            _ => write!(quoted, "{character}"),
        }
        .expect("a String takes all");
    }
    quoted + "\""
}
