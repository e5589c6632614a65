//! What a message is about: the tools, prompts and resources that it names, whole.
//!
//! Not here: whether the message is one (`envelope`), and whether it may name them (policy).
//!
//! A [`Call`](crate::mcp::envelope::Call) has only the beginning of a long name, and nothing of what lies deeper. Where
//! that is not enough the message is read once more, and what two readers could take for different things is refused.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::text::Text;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::envelope::Method;
use crate::mcp::facts;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'m> {
    pub named: Named,
    /// As the server knows it.
    pub name: Cow<'m, str>,
}

/// All that a message names. Nearly every one names one thing: it needs no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets<'m> {
    None,
    One(Target<'m>),
    /// Resources that a listener wants to hear of.
    Many(Vec<Target<'m>>),
}

impl<'m> Targets<'m> {
    pub fn all(&self) -> &[Target<'m>] {
        match self {
            Self::None => &[],
            Self::One(target) => std::slice::from_ref(target),
            Self::Many(targets) => targets,
        }
    }

    /// The name, where there is one thing that has one.
    pub fn name(&self) -> &str {
        if let Self::One(target) = self { &target.name } else { "" }
    }
}

const UNREADABLE: Fault = Fault::new(
    Kind::InvalidParams,
    "What the message names cannot be read. Send its name or URI once, as text, under keys as specified.",
);
const NO_REFERENCE: Fault = Fault::new(
    Kind::InvalidParams,
    "params.ref names neither a prompt nor a resource. Send ref/prompt with a name, or ref/resource with a uri.",
);
const TOO_MANY: Fault = Fault::new(
    Kind::InvalidParams,
    "The subscription names too many resources. Send at most 256 in one, and open several.",
);
const _: () = assert!(limits::SUBSCRIPTIONS_MAX == 256);

/// What a message names: `known` is the beginning of it, as its envelope told. `message` is one message that passed
/// the rules of the envelope.
///
/// # Errors
/// `InvalidParams` where it cannot be read, or readers could disagree.
pub fn read<'m, const N: usize>(
    method: Method,
    known: &'m Text<N>,
    message: &'m [u8],
) -> Result<Targets<'m>, Fault> {
    let (named, key) = match method {
        Method::ToolsCall => (Named::Tool, "name"),
        Method::PromptsGet => (Named::Prompt, "name"),
        Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            (Named::Resource, "uri")
        }
        Method::Complete => return reference(&params(message)?),
        Method::SubscriptionsListen => return subscriptions(&params(message)?),
        _ => return Ok(Targets::None),
    };
    if !known.is_empty() && !known.was_cut() {
        return Ok(Targets::One(Target { named, name: Cow::Borrowed(known.as_str()) }));
    }
    match params(message)?.find(key)? {
        Some(name) => Ok(Targets::One(Target { named, name: text(name)? })),
        // A method that its revision does not have may come without.
        None if matches!(method, Method::ResourcesSubscribe | Method::ResourcesUnsubscribe) => {
            Ok(Targets::None)
        }
        None => Err(UNREADABLE),
    }
}

/// `params.ref` of `completion/complete`.
fn reference<'m>(params: &Members<'m>) -> Result<Targets<'m>, Fault> {
    let reference = members(params.find("ref")?.ok_or(NO_REFERENCE)?)?;
    let kind = text(reference.find("type")?.ok_or(NO_REFERENCE)?)?;
    let (named, key) = match &*kind {
        "ref/prompt" => (Named::Prompt, "name"),
        "ref/resource" => (Named::Resource, "uri"),
        _ => return Err(NO_REFERENCE),
    };
    let name = text(reference.find(key)?.ok_or(NO_REFERENCE)?)?;
    Ok(Targets::One(Target { named, name }))
}

/// `params.notifications.resourceSubscriptions` of `subscriptions/listen`.
fn subscriptions<'m>(params: &Members<'m>) -> Result<Targets<'m>, Fault> {
    let Some(wanted) = params.find("notifications")? else { return Ok(Targets::None) };
    let Some(uris) = members(wanted)?.find("resourceSubscriptions")? else { return Ok(Targets::None) };
    let uris: Vec<Shared<'m>> = serde_json::from_str(uris.get()).map_err(|_| UNREADABLE)?;
    if uris.len() > limits::SUBSCRIPTIONS_MAX {
        return Err(TOO_MANY);
    }
    let target = |Shared(name)| Target { named: Named::Resource, name };
    Ok(Targets::Many(uris.into_iter().map(target).collect()))
}

/// Whether a `subscriptions/listen` asks for changes of tasks (`params.notifications.taskIds`, the tasks extension), as far
/// as any reader may find.
pub fn listens_to_tasks(message: &[u8]) -> bool {
    let tasks = || {
        let Some(wanted) = params(message)?.find("notifications")? else { return Ok(None) };
        members(wanted)?.find("taskIds")
    };
    // What cannot be read may be one.
    !matches!(tasks(), Ok(None))
}

fn params(message: &[u8]) -> Result<Members<'_>, Fault> {
    let message: Members<'_> = serde_json::from_slice(message).map_err(|_| UNREADABLE)?;
    message.find("params")?.map_or(Ok(Members(Vec::new())), members)
}

fn members(object: &RawValue) -> Result<Members<'_>, Fault> {
    serde_json::from_str(object.get()).map_err(|_| UNREADABLE)
}

fn text(string: &RawValue) -> Result<Cow<'_, str>, Fault> {
    let Shared(text) = serde_json::from_str(string.get()).map_err(|_| UNREADABLE)?;
    Ok(text)
}

/// A text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Shared<'m>(#[serde(borrow)] Cow<'m, str>);

/// The members of an object as they were written, doubled ones too.
struct Members<'m>(Vec<(Cow<'m, str>, &'m RawValue)>);

impl<'m> Members<'m> {
    /// The value of a key, which may come once and in no other spelling.
    fn find(&self, key: &str) -> Result<Option<&'m RawValue>, Fault> {
        let mut alike = self.0.iter().filter(|(known, _)| facts::is_alike(known, key));
        match (alike.next(), alike.next()) {
            (None, _) => Ok(None),
            (Some((known, value)), None) if known == key => Ok(Some(value)),
            _ => Err(UNREADABLE),
        }
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Members<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Shared(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(method: Method, known: &str, params: &str) -> Result<Vec<(Named, String)>, Fault> {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{params}}}"#);
        let known = Text::<8>::new(known);
        let targets = read(method, &known, message.as_bytes())?;
        Ok(targets.all().iter().map(|target| (target.named, target.name.to_string())).collect())
    }

    fn one(named: Named, name: &str) -> Result<Vec<(Named, String)>, Fault> {
        Ok(vec![(named, name.into())])
    }

    #[test]
    fn a_name_that_was_cut_is_read_whole() {
        let long = r#"{"arguments":{"name":"no"},"name":"a\u00e9_much_longer"}"#;
        assert_eq!(about(Method::ToolsCall, "aé_much_longer", long), one(Named::Tool, "aé_much_longer"));
        assert_eq!(about(Method::ToolsCall, "short", "{}"), one(Named::Tool, "short"));
        assert_eq!(about(Method::PromptsGet, "p", "{}"), one(Named::Prompt, "p"));
        let uri = r#"{"uri":"file:///notes"}"#;
        for method in [Method::ResourcesRead, Method::ResourcesSubscribe, Method::ResourcesUnsubscribe] {
            assert_eq!(about(method, "file:///notes", uri), one(Named::Resource, "file:///notes"));
            // The newest revision knows no subscriptions of this kind, and its envelope tells no target.
            assert_eq!(about(method, "", uri), one(Named::Resource, "file:///notes"));
        }
        assert_eq!(about(Method::ResourcesSubscribe, "", "{}"), Ok(vec![]));
        assert_eq!(about(Method::ToolsCall, "", "{}"), Err(UNREADABLE));
        for bad in [r#"{"name":"a","name":"b"}"#, r#"{"name":1}"#, r#"{"Name":"x"}"#, r#"{"name":"\ud800"}"#]
        {
            assert_eq!(about(Method::ToolsCall, "aé_much_longer", bad), Err(UNREADABLE), "{bad}");
        }
    }

    #[test]
    fn a_completion_is_about_what_it_refers_to() {
        let complete = |params: &str| about(Method::Complete, "", params);
        let prompt = r#"{"ref":{"type":"ref/prompt","name":"reply"},"argument":{"name":"x","value":""}}"#;
        assert_eq!(complete(prompt), one(Named::Prompt, "reply"));
        let resource = r#"{"ref":{"uri":"file:///{path}","type":"ref/resource"}}"#;
        assert_eq!(complete(resource), one(Named::Resource, "file:///{path}"));
        for bad in [
            "{}",
            r#"{"ref":1}"#,
            r#"{"ref":{"type":"ref/prompt"}}"#,
            r#"{"ref":{"type":"ref/tool","name":"x"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a","name":"b"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a","TYPE":"ref/resource"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a"},"ref":{"type":"ref/prompt","name":"b"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a"},"r\u0065F":{"type":"ref/prompt","name":"b"}}"#,
        ] {
            assert!(complete(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_to_tasks_is_seen_however_it_asks() {
        for (params, expected) in [
            ("{}", false),
            (r#"{"notifications":{"resourceSubscriptions":["a:1"]}}"#, false),
            (r#"{"taskIds":["1"]}"#, false),
            (r#"{"notifications":{"taskIds":[]}}"#, true),
            (r#"{"notifications":{"task\u0049ds":["1"]}}"#, true),
            (r#"{"notifications":{"TaskIDs":["1"]}}"#, true),
            (r#"{"notifications":{},"notifications":{"taskIds":["1"]}}"#, true),
            (r#"{"notifications":["taskIds"]}"#, true),
        ] {
            let message = format!(r#"{{"params":{params}}}"#);
            assert_eq!(listens_to_tasks(message.as_bytes()), expected, "{params}");
        }
    }

    #[test]
    fn a_listener_is_about_every_resource_that_it_names() {
        let listen = |params: &str| about(Method::SubscriptionsListen, "", params);
        assert_eq!(listen("{}"), Ok(vec![]));
        assert_eq!(listen(r#"{"notifications":{"toolsListChanged":true}}"#), Ok(vec![]));
        let two = r#"{"notifications":{"resourceSubscriptions":["a:1","a:\u0032"]}}"#;
        let expected = ["a:1", "a:2"].map(|name| (Named::Resource, name.to_owned()));
        assert_eq!(listen(two), Ok(expected.to_vec()));
        let of = |count: usize| {
            let uris = vec!["\"a:1\""; count].join(",");
            format!(r#"{{"notifications":{{"resourceSubscriptions":[{uris}]}}}}"#)
        };
        assert_eq!(listen(&of(256)).unwrap().len(), 256);
        assert_eq!(listen(&of(257)), Err(TOO_MANY));
        for bad in ["[1]", "{}", "[\"a\",null]"] {
            let params = format!(r#"{{"notifications":{{"resourceSubscriptions":{bad}}}}}"#);
            assert_eq!(listen(&params), Err(UNREADABLE), "{bad}");
        }
        let twice = r#"{"notifications":{"resourceSubscriptions":[],"resourcesubscriptions":["a:1"]}}"#;
        assert_eq!(listen(twice), Err(UNREADABLE));
    }
}
