//! The JSON Schema of the config: the shapes that Rust types of `file` do not have by themselves.
//!
//! Not here: the keys. They are the fields of `file`, and a test compares them with what `read` asks for.

use crate::config::file_traffic::OrOff;
use crate::config::reader::Located;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use std::borrow::Cow;

/// The schema of [`crate::config::file::File`], JSON Schema 2020-12.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(crate::config::file::File).to_value();
    without_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Ringgate configuration".into());
    }
    schema
}

/// What may be left out is an `Option` here, which schemars takes for a value that may be null; a key
/// without a value is a mistake in ours.
fn without_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    let null = serde_json::json!({"type": "null"});
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|one| *one != null);
                if any.len() == 1
                    && let Some(Value::Object(only)) = any.pop()
                {
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            object.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"enum": ["off", false]}, generator.subschema_for::<T>()]})
    }
}

/// Types that exist for their schema alone.
macro_rules! shape {
    ($($name:ident => $schema:tt);+ $(;)?) => {$(
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

/// `${` anywhere in it is a value that is not known yet.
const DURATION: &str = r"^(0|off|[0-9]+ ?(ms|s|m|h|d)|.*\$\{.*)$";
const KEY_PARTS: [&str; 6] = ["principal", "tenant", "server", "tool", "source", "gateway"];
const SIZE: &str = r"^([0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)?|.*\$\{.*)$";

shape! {
    Duration => {"type": ["string", "integer"], "pattern": DURATION, "maximum": 0, "minimum": 0};
    Size => {"type": ["string", "integer"], "pattern": SIZE, "minimum": 0};
    Admin => {"oneOf": [{"enum": ["off", false]}, address()]};
    Workers => {"oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"\$\{"}]};
    ServerName => {"type": "string", "pattern": r"^[A-Za-z](?!.*__)[A-Za-z0-9_-]{0,31}(?<!_)$"};
    TimeoutForm => {"oneOf": [timeout(), {"type": "number", "description": "As in a client's file; not read."}]};
    Era => {"enum": ["auto", "modern", "legacy"]};
    Balance => {"enum": ["roundRobin", "weighted", "leastConnections", "twoChoices", "resource"]};
    SlowStart => {"anyOf": [{"enum": ["off", false]}, {"type": "string", "pattern": DURATION}]};
    Sticky => {"enum": ["principal", "tenant", "none"]};
    ServerType => {"enum": ["http", "streamable-http", "streamableHttp"]};
    Number => {"type": ["integer", "string"], "minimum": 0, "pattern": r"^([0-9]+|.*\$\{.*)$"};
    Count => {"type": ["integer", "string"], "minimum": 1, "pattern": r"^([0-9]+ ?[kM]?|.*\$\{.*)$"};
    Ratio => {"type": ["number", "string"], "minimum": 0, "maximum": 1, "pattern": r"^([01](\.[0-9]+)?|.*\$\{.*)$"};
    Rate => {"type": "string", "pattern": r"^([0-9]+ ?[kM]?/(s|min|hour|day|[0-9]+ ?(ms|s|m|h|d))|.*\$\{.*)$"};
    Quota => {"type": "string", "pattern": r"^([0-9]+ ?[kM]?/(min|hour|day|week|month)|.*\$\{.*)$"};
    Target => {"type": "string", "pattern": r"^(p[0-9]{2} ?< ?[0-9]+ ?(ms|s|m|h|d)|.*\$\{.*)$"};
    Hedge => {"anyOf": [{"enum": ["off", false, "p95"]}, {"type": "string", "pattern": DURATION}]};
    AuthKind => {"enum": ["signedJwt", "headers", "clientCredentials", "tokenExchange", "userOAuth"]};
    Names => {"type": "array", "minItems": 1, "items": {"type": "string"}};
    LimitKey => {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"enum": KEY_PARTS}}]};
    LimitCount => {"enum": ["calls", "requests", "tokens"]};
    Scope => {"enum": ["gateway"]};
    OnStateLoss => {"enum": ["local"]};
    OnError => {"enum": ["allow", "deny"]};
    OnFull => {"enum": ["refuse", "allow"]};
    RateLimitHeaders => {"enum": ["draft", "legacy", "off", false]};
    UpstreamLimit => {"enum": ["pass", "hold"]};
    MtlsPrincipal => {"enum": ["sanUri", "subject"]};
    MtlsRoles => {"enum": ["ou"]};
    CallLog => {"oneOf": [
        {"enum": ["off", false, "stdout", "stderr"]},
        {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"], "additionalProperties": false},
    ]};
}

/// A server; one that is disabled may say anything else, as clients' files do.
pub struct ServerForm;

impl JsonSchema for ServerForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ServerForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let server = generator.subschema_for::<crate::config::file::Server>();
        json_schema!({"anyOf": [
            server,
            {"type": "object", "properties": {"disabled": {"const": true}}, "required": ["disabled"]},
        ]})
    }
}

/// One address or listener, or a list of them.
pub struct Listen;

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let listener = generator.subschema_for::<crate::config::file_tls::Listener>();
        json_schema!({"oneOf": [
            {"type": "string"},
            listener,
            {"type": "array", "minItems": 1, "items": {"oneOf": [{"type": "string"}, listener]}},
        ]})
    }
}

fn address() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "properties": {"address": {"type": "string"}},
        "required": ["address"],
        "additionalProperties": false,
    })
}

fn timeout() -> serde_json::Value {
    let mut schema = schemars::schema_for!(crate::config::file::Timeout).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
    }
    schema
}
