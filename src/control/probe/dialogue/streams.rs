//! What a server tells by itself: the stream of changes of either era, and what is subscribed to.
//!
//! Not here: when a stream is wanted, and what follows from a change (`listen`).

use crate::config::pattern::Named;
use crate::control::probe::dialogue::Dead;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::dialogue::METHOD;
use crate::control::probe::dialogue::METHOD_NOT_FOUND;
use crate::control::probe::dialogue::MODERN;
use crate::control::probe::dialogue::VERSION;
use crate::control::probe::dialogue::message;
use crate::control::probe::dialogue::meta;
use crate::control::probe::link::Listening;
use crate::mcp::catalogue::about::Capabilities;
use hyper::Method;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// With which servers of the older revisions say that there is no such resource (2025-11-25, resources), and some others.
const NO_RESOURCE: [i32; 2] = [-32002, -32602];

/// How a server answers somebody who wants to listen.
pub(in crate::control) enum Ear {
    Open(Listening),
    /// It has no such stream: asking again is of no use.
    Deaf,
    /// It knows the session no more.
    Gone,
}

/// What a message on such a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) enum Told {
    /// One of its lists has changed.
    ListChanged(Named),
    Updated(Box<str>),
    /// It asks whether we are there: the id of its request, as it was written.
    Ping(Box<str>),
    /// It asks something else: `id` and `params` as they were written.
    Asked {
        id: Box<str>,
        method: Box<str>,
        params: Option<Box<str>>,
    },
    /// The stream is over, as the server says (2026-07-28, subscriptions).
    Over,
    Nothing,
}

#[derive(Deserialize)]
struct Message<'m> {
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'m, str>>,
    #[serde(borrow)]
    id: Option<&'m RawValue>,
    #[serde(borrow)]
    params: Option<&'m RawValue>,
}

#[derive(Deserialize)]
struct Params {
    uri: Option<Box<str>>,
}

impl Told {
    pub(in crate::control) fn read(data: &[u8]) -> Self {
        let Ok(Message { method, id, params }) = serde_json::from_slice(data) else { return Self::Nothing };
        match (method.as_deref(), id) {
            (Some("notifications/tools/list_changed"), None) => Self::ListChanged(Named::Tool),
            (Some("notifications/prompts/list_changed"), None) => Self::ListChanged(Named::Prompt),
            (Some("notifications/resources/list_changed"), None) => Self::ListChanged(Named::Resource),
            (Some("notifications/resources/updated"), None) => {
                let params = params.and_then(|params| serde_json::from_str::<Params>(params.get()).ok());
                params.and_then(|params| params.uri).map_or(Self::Nothing, Self::Updated)
            }
            (Some("ping"), Some(id)) => Self::Ping(id.get().into()),
            (Some(method), Some(id)) => Self::Asked {
                id: id.get().into(),
                method: method.into(),
                params: params.map(|params| params.get().into()),
            },
            (None, Some(_)) => Self::Over,
            _ => Self::Nothing,
        }
    }
}

impl Dialogue<'_> {
    /// Asks for changes in the newer era (2026-07-28, `subscriptions/listen`).
    pub(in crate::control) async fn subscribe_all(
        &mut self,
        has: Capabilities,
        uris: &[Box<str>],
    ) -> Result<Ear, Dead> {
        let mut wanted = json!({});
        for (name, wants) in [
            ("toolsListChanged", has.tools_changed),
            ("promptsListChanged", has.prompts_changed),
            ("resourcesListChanged", has.resources_changed),
        ] {
            if wants {
                wanted[name] = true.into();
            }
        }
        if !uris.is_empty() {
            wanted["resourceSubscriptions"] = json!(uris);
        }
        let message = message("subscriptions/listen", &json!({ "_meta": meta(), "notifications": wanted }));
        let fields = [(VERSION, MODERN), (METHOD, HeaderValue::from_static("subscriptions/listen"))];
        self.ear(Method::POST, Some(&message), &fields).await
    }

    /// Asks for the stream of the session that is open, from an event on if there was one (2025-11-25, Streamable
    /// HTTP).
    pub(in crate::control) async fn hear(&mut self, after: &[u8]) -> Result<Ear, Dead> {
        let mut fields = self.fields();
        fields.push((header::ACCEPT, HeaderValue::from_static("text/event-stream")));
        if let Some(id) = HeaderValue::from_bytes(after).ok().filter(|id| !id.is_empty()) {
            fields.push((LAST_EVENT, id));
        }
        self.ear(Method::GET, None, &fields).await
    }

    async fn ear(
        &mut self,
        method: Method,
        message: Option<&Value>,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Ear, Dead> {
        let request = self.request(method, message, fields)?;
        let begun = self.link.send(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = begun.head.status.as_u16();
        match status {
            405 | 501 => return Ok(Ear::Deaf),
            404 if message.is_some() => return Ok(Ear::Deaf),
            404 => return Ok(Ear::Gone),
            200..=299 => {}
            _ => return Err(format!("it answers a listener with {status}")),
        }
        match begun.listen() {
            Some(stream) => Ok(Ear::Open(stream)),
            // A refusal in JSON: it does not know the method.
            None if message.is_some() => Ok(Ear::Deaf),
            None => Err("it answers a listener with no stream".into()),
        }
    }

    /// Asks to hear of one resource, or no longer, in the session that is open. False: the server says that there is none.
    /// Whatever else it says: what it does not tell is not heard.
    pub(in crate::control) async fn follow(&mut self, uri: &str, begins: bool) -> Result<bool, Dead> {
        let method = if begins { "resources/subscribe" } else { "resources/unsubscribe" };
        let fields = self.fields();
        let (_, said) = self.post(&message(method, &json!({ "uri": uri })), &fields).await?;
        Ok(!said.facts.error_code.is_some_and(|code| NO_RESOURCE.contains(&code)))
    }

    /// Answers a ping of the server.
    pub(in crate::control) async fn pong(&mut self, id: &str) -> Result<(), Dead> {
        self.respond(id, "result", json!({})).await
    }

    /// Says that nobody can be asked: the session is the gateway's own, and no client is behind it.
    pub(in crate::control) async fn refuse(&mut self, id: &str) -> Result<(), Dead> {
        let message =
            "This session belongs to a gateway. Ask on the stream of the call that the question is about.";
        self.respond(id, "error", json!({ "code": METHOD_NOT_FOUND, "message": message })).await
    }

    async fn respond(&mut self, id: &str, member: &str, said: Value) -> Result<(), Dead> {
        let id: Value = serde_json::from_str(id).map_err(|error| error.to_string())?;
        let mut message = json!({ "jsonrpc": "2.0", "id": id });
        message[member] = said;
        let fields = self.fields();
        self.post(&message, &fields).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_everything_else() {
        for (data, expected) in [
            (
                r#"{"method":"notifications/tools/list_changed","params":null}"#,
                Told::ListChanged(Named::Tool),
            ),
            (
                r#"{"method":"notifications/prompts/list_changed","params":{}}"#,
                Told::ListChanged(Named::Prompt),
            ),
            (
                r#"{"method":"notifications/resources/updated","params":{"uri":"a:1"}}"#,
                Told::Updated("a:1".into()),
            ),
            (r#"{"method":"notifications/resources/updated","params":{}}"#, Told::Nothing),
            (r#"{"method":"ping","id":"7"}"#, Told::Ping(r#""7""#.into())),
            (
                r#"{"method":"roots/list","id":7}"#,
                Told::Asked { id: "7".into(), method: "roots/list".into(), params: None },
            ),
            (
                r#"{"method":"sampling/createMessage","id":"7","params":{"maxTokens":1}}"#,
                Told::Asked {
                    id: r#""7""#.into(),
                    method: "sampling/createMessage".into(),
                    params: Some(r#"{"maxTokens":1}"#.into()),
                },
            ),
            (r#"{"method":"notifications/message","params":{"data":1}}"#, Told::Nothing),
            (r#"{"method":"notifications/subscriptions/acknowledged","params":{}}"#, Told::Nothing),
            (r#"{"id":1,"result":{"resultType":"complete"}}"#, Told::Over),
            ("", Told::Nothing),
            ("[]", Told::Nothing),
        ] {
            assert_eq!(Told::read(data.as_bytes()), expected, "{data}");
        }
    }
}
