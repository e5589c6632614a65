//! Arguments of tools that are repeated in header fields (MCP 2026-07-28, transports, "Custom Headers from Tool
//! Parameters"): whoever makes a request of that revision, and not only passes it on, writes the fields.
//!
//! Not here: fields of requests that pass, which stay as they are; the catalogue that schemas come from.

use crate::config::limits;
use crate::mcp::crossing::fields as members;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::grammar::Slot;
use crate::mcp::header;
use crate::mcp::listing::Unfit;
use serde_json::Map;
use serde_json::Value;

pub(crate) const KEYWORD: &str = "x-mcp-header";
const FIELD: &str = "Mcp-Param-";
/// Above it readers that keep numbers as doubles take two integers for one.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// One argument and the field that repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Keys from `arguments` down; never empty.
    path: Box<[Box<str>]>,
    /// The whole name of the field.
    field: Box<str>,
}

/// Why a tool is not shown: clients must drop one that asks for fields against the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The name of a field is no text, empty, or no token (RFC 9110 section 5.6.2).
    Name,
    /// Two names differ in case at most.
    Twice,
    /// The argument is no string, integer or boolean.
    Type,
    /// It is reached through other keywords than `properties`.
    Place,
    /// More than `limits::MIRRORED_FIELDS_MAX`.
    TooMany,
}

impl Flaw {
    /// For a log: what follows "a tool whose x-mcp-header".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "is no name of a header field",
            Self::Twice => "names one header field twice",
            Self::Type => "stands at something else than a string, an integer or a boolean",
            Self::Place => "is not reached through properties alone",
            Self::TooMany => "asks for too many header fields",
        }
    }
}

impl Mirrored {
    /// The arguments that a tool wants repeated, by its `inputSchema`.
    ///
    /// # Errors
    /// It asks against the rules.
    pub fn of(input_schema: &Value) -> Result<Vec<Self>, Flaw> {
        let mut found = Vec::new();
        schema(input_schema, Some(&mut Vec::new()), &mut found)?;
        Ok(found)
    }
}

/// Looks through a schema. `path` leads to it, where it is reached through `properties` alone.
fn schema<'s>(
    schema: &'s Value,
    mut path: Option<&mut Vec<&'s str>>,
    found: &mut Vec<Mirrored>,
) -> Result<(), Flaw> {
    let Value::Object(keywords) = schema else { return Ok(()) };
    if let Some(name) = keywords.get(KEYWORD) {
        // The arguments as a whole are none of them.
        let path = path.as_deref().filter(|path| !path.is_empty()).ok_or(Flaw::Place)?;
        mirrored(keywords, name, path, found)?;
    }
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            // Values, not schemas.
            ("default" | "const" | "enum" | "examples", _) => {}
            ("properties", Value::Object(properties)) => {
                for (key, property) in properties {
                    match path.as_deref_mut() {
                        Some(path) => {
                            path.push(key);
                            self::schema(property, Some(path), found)?;
                            path.pop();
                        }
                        None => self::schema(property, None, found)?,
                    }
                }
            }
            ("patternProperties" | "dependentSchemas" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values().try_for_each(|value| self::schema(value, None, found))?;
            }
            (_, Value::Array(schemas)) => {
                schemas.iter().try_for_each(|value| self::schema(value, None, found))?;
            }
            (extension, _) if extension.starts_with("x-") => {}
            (_, value) => self::schema(value, None, found)?,
        }
    }
    Ok(())
}

fn mirrored(
    keywords: &Map<String, Value>,
    name: &Value,
    path: &[&str],
    found: &mut Vec<Mirrored>,
) -> Result<(), Flaw> {
    let name = name.as_str().filter(|name| is_token(name)).ok_or(Flaw::Name)?;
    let Some("string" | "integer" | "boolean") = keywords.get("type").and_then(Value::as_str) else {
        return Err(Flaw::Type);
    };
    let field = format!("{FIELD}{name}");
    if found.iter().any(|other| other.field.eq_ignore_ascii_case(&field)) {
        return Err(Flaw::Twice);
    }
    if found.len() == limits::MIRRORED_FIELDS_MAX {
        return Err(Flaw::TooMany);
    }
    let path = path.iter().map(|key| Box::from(*key)).collect();
    found.push(Mirrored { path, field: field.into() });
    Ok(())
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_letter)
}

/// A field: its name and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// The fields for one call; `arguments` is raw JSON. What is missing or null has none, and so has what is of no type that
/// could be mirrored, or an integer that not all readers can express: its server will say what is wrong with it.
///
/// # Errors
/// `Broken`: the arguments are no JSON object, or one that is mirrored comes twice. `TooLarge`: one is too long.
pub fn fields(mirrored: &[Mirrored], arguments: Option<&str>) -> Result<Vec<Field>, Unfit> {
    let mut found = Vec::new();
    let Some(arguments) = arguments.filter(|_| !mirrored.is_empty()) else { return Ok(found) };
    let (text, mut cursor) = members::open(arguments.as_bytes())?;
    let wanted: Vec<&Mirrored> = mirrored.iter().collect();
    Walk { text, found: &mut found }.object(&mut cursor, &wanted, 0)?;
    members::close(text, cursor)?;
    Ok(found)
}

/// The field of a mirrored argument.
impl Mirrored {
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// Whether a field that came says what it has to, in either form (MCP 2026-07-28, transports, "Value Encoding").
pub fn agrees(value: &[u8], expected: &[u8]) -> bool {
    header::trim(value) == expected
        || std::str::from_utf8(expected).is_ok_and(|expected| header::names(value, expected))
}

/// One pass over the arguments. It calls itself as deep as the schema has properties.
struct Walk<'t, 'f> {
    text: &'t str,
    found: &'f mut Vec<Field>,
}

impl<'t> Walk<'t, '_> {
    /// `wanted` have the same path up to here, which is `depth` keys long.
    fn object(&mut self, cursor: &mut Cursor<'t>, wanted: &[&Mirrored], depth: usize) -> Result<(), Unfit> {
        let mut seen = Vec::new();
        cursor.members(|cursor, key| {
            let key = members::name(self.text, key);
            let here = |mirrored: &&&Mirrored| mirrored.path.get(depth).is_some_and(|known| **known == *key);
            let below: Vec<&Mirrored> = wanted.iter().filter(here).copied().collect();
            if below.is_empty() {
                cursor.value(depth + 1)?;
                return Ok(());
            }
            if seen.contains(&key) {
                return Err(Unfit::Broken);
            }
            seen.push(key);
            if cursor.peek() == Some(b'{') {
                return self.object(cursor, &below, depth + 1);
            }
            let slot = cursor.value(depth + 1)?;
            for mirrored in below.into_iter().filter(|mirrored| mirrored.path.len() == depth + 1) {
                if let Some(value) = self.value(slot)? {
                    self.found.push((mirrored.field.as_bytes().to_vec(), value));
                }
            }
            Ok(())
        })
    }

    fn value(&self, slot: Slot) -> Result<Option<Vec<u8>>, Unfit> {
        let raw = members::raw(self.text, slot);
        let value = match slot.shape {
            Shape::Bool => raw.as_bytes().to_vec(),
            Shape::Plain | Shape::Escaped => {
                let text = members::string(self.text, slot).ok_or(Unfit::Broken)?;
                if text.len() > limits::MIRRORED_BYTES_MAX {
                    return Err(Unfit::TooLarge);
                }
                header::encode(&text).into_owned()
            }
            Shape::Integer | Shape::Fraction => return Ok(integer(raw)),
            Shape::Missing | Shape::Null | Shape::Array | Shape::Object => return Ok(None),
        };
        Ok(Some(value))
    }
}

/// A number as an integer, `42.0` too.
fn integer(raw: &str) -> Option<Vec<u8>> {
    let whole = match raw.parse::<i64>() {
        Ok(whole) => whole,
        Err(_) => {
            let number: f64 = raw.parse().ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
            let whole = number as i64;
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is lost makes the two differ or is too large"
            )]
            (whole as f64 == number).then_some(whole)?
        }
    };
    (whole.unsigned_abs() <= INTEGER_MAX).then(|| whole.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region", "default": {"x-mcp-header": 1}},
            "x-mcp-header": {"type": "array", "items": {"type": "string"}},
            "deep": {"type": "object", "x-other": {"x-mcp-header": 1}, "properties": {
                "count": {"type": "integer", "x-mcp-header": "Count"},
                "on": {"type": "boolean", "x-mcp-header": "on!"},
            }},
        }})
    }

    #[test]
    fn arguments_are_repeated_in_fields() {
        let mirrored = Mirrored::of(&schema()).unwrap();
        let check = |arguments: &str, expected: &[(&str, &str)]| {
            let found = fields(&mirrored, Some(arguments)).unwrap();
            let mut found: Vec<(&str, &str)> = found
                .iter()
                .map(|(name, value)| (str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap()))
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{arguments}");
        };
        check(
            r#" {"x":[],"reg\u0069on": "eu","deep":{"on":true,"count" : 42.0,"region":"us"}, "count":1} "#,
            &[("Mcp-Param-Count", "42"), ("Mcp-Param-Region", "eu"), ("Mcp-Param-on!", "true")],
        );
        check(r#"{"region":"\u00e9\n"}"#, &[("Mcp-Param-Region", "=?base64?w6kK?=")]);
        check(r#"{"region":""}"#, &[("Mcp-Param-Region", "")]);
        check(r#"{"region":null,"deep":{"count":null}}"#, &[]);
        check(r#"{"region":{"region":"a"},"deep":"b"}"#, &[]);
        check(r#"{"region":["a"],"deep":[{"count":1}]}"#, &[]);
        check("{}", &[]);
        for (number, value) in [
            ("0", Some("0")),
            ("-7", Some("-7")),
            ("1e3", Some("1000")),
            ("1.5", None),
            ("9007199254740991", Some("9007199254740991")),
            ("9007199254740992", None),
            ("-9007199254740992", None),
            ("99999999999999999999", None),
            ("1e400", None),
        ] {
            let expected: Vec<_> = value.map(|value| ("Mcp-Param-Count", value)).into_iter().collect();
            check(&format!(r#"{{"deep":{{"count":{number}}}}}"#), &expected);
        }
        assert_eq!(fields(&mirrored, None), Ok(vec![]));
        assert_eq!(fields(&[], Some("no JSON")), Ok(vec![]));
    }

    #[test]
    fn arguments_that_readers_could_take_for_others_are_refused() {
        let mirrored = Mirrored::of(&schema()).unwrap();
        for arguments in [
            "",
            "[]",
            r#"{"region":"a","region":"a"}"#,
            r#"{"region":"a","regio\u006e":"b"}"#,
            r#"{"deep":{"count":1},"deep":{}}"#,
            r#"{"region":"\ud800"}"#,
            r#"{"region":"a"}}"#,
        ] {
            assert_eq!(fields(&mirrored, Some(arguments)), Err(Unfit::Broken), "{arguments}");
        }
        let sized = |bytes| json!({"region": "a".repeat(bytes)}).to_string();
        assert!(fields(&mirrored, Some(&sized(limits::MIRRORED_BYTES_MAX))).is_ok());
        let larger = sized(limits::MIRRORED_BYTES_MAX + 1);
        assert_eq!(fields(&mirrored, Some(&larger)), Err(Unfit::TooLarge));
    }

    #[test]
    fn tools_that_ask_against_the_rules_are_told() {
        let good = json!({"type": "string", "x-mcp-header": "A"});
        let property = |schema: Value| json!({"properties": {"a": schema}});
        for (schema, flaw) in [
            (property(json!({"type": "string", "x-mcp-header": ""})), Flaw::Name),
            (property(json!({"type": "string", "x-mcp-header": 1})), Flaw::Name),
            (property(json!({"type": "string", "x-mcp-header": "a b"})), Flaw::Name),
            (property(json!({"type": "string", "x-mcp-header": "a\n"})), Flaw::Name),
            (property(json!({"type": "string", "x-mcp-header": "\u{e9}"})), Flaw::Name),
            (property(json!({"type": "number", "x-mcp-header": "A"})), Flaw::Type),
            (property(json!({"type": "object", "x-mcp-header": "A"})), Flaw::Type),
            (property(json!({"type": ["string"], "x-mcp-header": "A"})), Flaw::Type),
            (property(json!({"x-mcp-header": "A"})), Flaw::Type),
            (json!({"properties": {"a": good, "b": {"type": "string", "x-mcp-header": "a"}}}), Flaw::Twice),
            (good.clone(), Flaw::Place),
            (property(json!({"type": "array", "items": good})), Flaw::Place),
            (property(json!({"anyOf": [{"type": "null"}, good]})), Flaw::Place),
            (json!({"if": {"properties": {"a": good}}}), Flaw::Place),
            (json!({"not": good}), Flaw::Place),
            (json!({"$defs": {"a": good}, "properties": {"a": {"$ref": "#/$defs/a"}}}), Flaw::Place),
            (json!({"$defs": {"x-a": good}}), Flaw::Place),
            (json!({"patternProperties": {"default": good}}), Flaw::Place),
            (json!({"additionalProperties": good}), Flaw::Place),
        ] {
            assert_eq!(Mirrored::of(&schema), Err(flaw), "{schema}");
        }
        for schema in [json!(true), json!({}), json!({"properties": {"x-mcp-header": {"type": "string"}}})] {
            assert_eq!(Mirrored::of(&schema), Ok(vec![]), "{schema}");
        }
        let many = |count: usize| {
            let one =
                |at: usize| (format!("p{at}"), json!({"type": "string", "x-mcp-header": format!("H{at}")}));
            json!({"properties": (0..count).map(one).collect::<Map<_, _>>()})
        };
        assert!(Mirrored::of(&many(limits::MIRRORED_FIELDS_MAX)).is_ok());
        assert_eq!(Mirrored::of(&many(limits::MIRRORED_FIELDS_MAX + 1)), Err(Flaw::TooMany));
    }
}
