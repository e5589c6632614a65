//! What a call of `ringgate explain` is for, as it is typed, and the message that a client would send.
//!
//! Not here: whether there is such a server.

use crate::config::pattern::Named;
use crate::config::problem::quoted;
use crate::mcp::catalogue::Annotations;
use crate::mcp::envelope::Method;
use crate::policy::claims::Claims;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A tool, prompt or resource of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) named: Named,
    pub(super) server: String,
    /// As the server knows it.
    pub(super) name: String,
}

impl Subject {
    /// `server.name` as in the config, or `server__name` as at `/mcp`. A server's name contains neither separator, so
    /// that the first one ends it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (named, rest) = Named::split(text);
        let split = [".", "__"].into_iter().filter_map(|separator| rest.split_once(separator));
        match split.min_by_key(|(server, _)| server.len()) {
            Some((server, name)) if !server.is_empty() && !name.is_empty() => {
                Ok(Self { named, server: server.into(), name: name.into() })
            }
            _ => Err(format!("{} names no server and tool. Write `server.tool`", quoted(text))),
        }
    }

    pub(super) fn method(&self) -> Method {
        Method::from_text(self.named.method())
    }

    /// The name of a tool; None for what is none.
    pub(super) fn tool(&self) -> Option<&str> {
        (self.named == Named::Tool).then_some(&*self.name)
    }

    /// `arguments` stand in it as they were typed: a duplicate key is for the rules to judge.
    pub(super) fn body(&self, arguments: &str) -> String {
        let (method, name) = (self.named.method(), json!(self.name));
        let params = match self.named {
            Named::Resource => format!(r#"{{"uri":{name}}}"#),
            Named::Tool | Named::Prompt => format!(r#"{{"name":{name},"arguments":{arguments}}}"#),
        };
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    }
}

/// The claims of a token, as its issuer would write them.
pub(super) fn claims(text: &str) -> Result<Claims, String> {
    serde_json::from_str(text).map(Claims).map_err(|error| format!("no JSON object: {error}"))
}

/// Hints by their names in `ToolAnnotations`; what is not said has the specification's default.
pub(super) fn annotations(text: &str) -> Result<Annotations, String> {
    let written: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut annotations = Annotations::default();
    for (name, value) in &written {
        let hint = match name.as_str() {
            "readOnlyHint" => &mut annotations.read_only,
            "destructiveHint" => &mut annotations.destructive,
            "idempotentHint" => &mut annotations.idempotent,
            "openWorldHint" => &mut annotations.open_world,
            _ => return Err(format!("{} is no hint of a tool", quoted(name))),
        };
        *hint = value.as_bool().ok_or_else(|| format!("{} is true or false", quoted(name)))?;
    }
    Ok(annotations)
}

/// Refuses what is no JSON object. Its values stay as they were typed: what `1e400` is, the rules judge.
pub(super) fn arguments(text: &str) -> Result<String, String> {
    let checked: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(text);
    checked.map(|_| text.to_owned()).map_err(|error| format!("no JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_ends_the_servers_name() {
        let check = |text: &str, named, server: &str, name: &str| {
            let expected = Subject { named, server: server.into(), name: name.into() };
            assert_eq!(Subject::parse(text), Ok(expected), "{text}");
        };
        check("db.run_sql", Named::Tool, "db", "run_sql");
        check("db__run_sql", Named::Tool, "db", "run_sql");
        check("db__v1.run", Named::Tool, "db", "v1.run");
        check("db.v1__run", Named::Tool, "db", "v1__run");
        check("my_db___x", Named::Tool, "my_db", "_x");
        check("prompt:db.reply", Named::Prompt, "db", "reply");
        check("resource:files.file:///a.txt", Named::Resource, "files", "file:///a.txt");
        for bad in ["", "db", "db.", ".query", "__query", "prompt:db"] {
            assert!(Subject::parse(bad).is_err_and(|said| said.contains("`server.tool`")), "{bad}");
        }
    }

    #[test]
    fn the_message_is_what_a_client_sends() {
        let message = |text: &str| -> Value {
            let subject = Subject::parse(text).unwrap();
            serde_json::from_str(&subject.body(r#"{"a":1}"#)).unwrap()
        };
        assert_eq!(message("db.a\"b")["params"], json!({ "name": "a\"b", "arguments": { "a": 1 } }));
        assert_eq!(message("prompt:db.x")["method"], "prompts/get");
        assert_eq!(message("resource:db.u:x")["params"], json!({ "uri": "u:x" }));
    }

    #[test]
    fn arguments_are_an_object() {
        for good in [r#"{"a":1,"a":2}"#, r#"{"a":1e400}"#, r#"{"a":["\ud800"]}"#] {
            assert_eq!(arguments(good).as_deref(), Ok(good));
        }
        for bad in ["", "1", "[]", "{", "{}{}"] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }
}
