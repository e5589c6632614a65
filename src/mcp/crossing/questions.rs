//! Questions of servers to clients of another era, and what clients answer (2026-07-28, multi round-trip requests;
//! 2025-11-25, elicitation, sampling, roots).
//!
//! An older server sends requests; a client of 2026-07-28 finds them in a result, and calls again with its answers. The
//! other way round the gateway sends the requests and calls again itself.
//!
//! Not here: what is sealed in a `requestState`, and who may be asked what (`Abilities`).

#[cfg(test)]
mod tests;

use crate::mcp::crossing::fields;
use crate::mcp::envelope::Method;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::listing::Unfit;
use crate::mcp::refusal::string;
use std::collections::HashSet;
use std::ops::Range;

/// What a server asks of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: Method,
    /// Raw JSON. Roots need none.
    pub params: Option<&'a str>,
}

/// The key of a question among those that are asked together, the first being 0. The same for the same questions on
/// every gateway.
pub fn key(at: usize, method: Method) -> String {
    let kind = match method {
        Method::ElicitationCreate => "elicitation",
        Method::SamplingCreate => "sampling",
        Method::RootsList => "roots",
        _ => "question",
    };
    format!("{kind}-{}", at + 1)
}

/// An answer to a client of 2026-07-28 that asks it what an older server asked. `id` is raw JSON, `state` is text.
pub fn input_required(id: &str, questions: &[Question<'_>], state: &str) -> Vec<u8> {
    let mut out = begin_required(id);
    for (at, question) in questions.iter().enumerate() {
        ask(&mut out, at, question);
    }
    out.extend_from_slice(b"},\"requestState\":");
    string(&mut out, state);
    out.extend_from_slice(b"}}");
    out
}

/// The same where an older server wants pages opened before it is called anew (2025-11-25, error -32042); there is no
/// state. `elicitations` is its array, raw.
///
/// # Errors
/// It is no array of objects, or an empty one.
pub fn url_required(id: &str, elicitations: &str) -> Result<Vec<u8>, Unfit> {
    let mut out = begin_required(id);
    let mut cursor = Cursor::new(elicitations.as_bytes(), 0);
    let mut at = 0;
    cursor.elements(|cursor| {
        let slot = cursor.value(1)?;
        let raw = fields::raw(elicitations, slot);
        let [mode] = fields::fields_of(raw, &["mode"])?;
        let moded;
        let params = match mode.shape {
            Shape::Missing => {
                moded = with_member(raw, "\"mode\":\"url\"");
                &moded
            }
            _ => raw,
        };
        ask(&mut out, at, &Question { method: Method::ElicitationCreate, params: Some(params) });
        at += 1;
        Ok::<(), Unfit>(())
    })?;
    fields::close(elicitations, cursor)?;
    out.extend_from_slice(b"}}}");
    if at == 0 { Err(Unfit::Broken) } else { Ok(out) }
}

fn begin_required(id: &str) -> Vec<u8> {
    let mut out = begin(id);
    out.extend_from_slice(b"\"result\":{\"resultType\":\"input_required\",\"inputRequests\":{");
    out
}

fn ask(out: &mut Vec<u8>, at: usize, question: &Question<'_>) {
    if at > 0 {
        out.push(b',');
    }
    string(out, &key(at, question.method));
    out.push(b':');
    out.push(b'{');
    method_and_params(out, question.method, question.params);
    out.push(b'}');
}

fn method_and_params(out: &mut Vec<u8>, method: Method, params: Option<&str>) {
    out.extend_from_slice(b"\"method\":");
    string(out, method.as_str());
    if let Some(params) = params {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params.as_bytes());
    }
}

/// The beginning of a message, up to the member behind its id.
fn begin(id: &str) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},").into_bytes()
}

/// A raw object with one member more, before all others.
fn with_member(object: &str, member: &str) -> String {
    let rest = object.strip_prefix('{').unwrap_or(object).trim_start_matches([' ', '\t', '\r', '\n']);
    let comma = if rest.starts_with('}') { "" } else { "," };
    format!("{{{member}{comma}{rest}")
}

/// What a client of 2026-07-28 answers, by key: where each result stands in its call. Empty: it answers nothing.
///
/// # Errors
/// Its answers cannot be read, one is no object, or two have one key.
pub fn input_responses(message: &[u8]) -> Result<Vec<(String, Range<usize>)>, Unfit> {
    let mut found = Vec::new();
    in_params(message, "inputResponses", &mut |text, cursor| {
        cursor.members(|cursor, key| {
            let key = fields::name(text, key).into_owned();
            let slot = cursor.value(3)?;
            if slot.shape != Shape::Object {
                return Err(Unfit::Broken);
            }
            found.push((key, slot.start..slot.end));
            Ok(())
        })
    })?;
    are_distinct(found.iter().map(|(key, _)| key.as_str()))?;
    Ok(found)
}

/// The state that a client of 2026-07-28 brings back.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn request_state(message: &[u8]) -> Result<Option<String>, Unfit> {
    let mut found = None;
    in_params(message, "requestState", &mut |text, cursor| {
        let slot = cursor.value(2)?;
        found = Some(fields::string(text, slot).ok_or(Unfit::Broken)?.into_owned());
        Ok(())
    })?;
    Ok(found)
}

type Read<'r> = dyn FnMut(&str, &mut Cursor<'_>) -> Result<(), Unfit> + 'r;

/// Reads one member of `params`, if there is one.
fn in_params(message: &[u8], known: &str, read: &mut Read<'_>) -> Result<(), Unfit> {
    let (text, mut cursor) = fields::open(message)?;
    fields::fields(text, &mut cursor, &["params"], |cursor, key| {
        if key.is_none() || cursor.peek() != Some(b'{') {
            return Ok(cursor.value(1)?);
        }
        let start = cursor.at;
        fields::fields(text, cursor, &[known], |cursor, key| {
            if key.is_none() {
                return Ok(cursor.value(2)?);
            }
            let start = cursor.at;
            read(text, cursor)?;
            Ok(fields::gone(Shape::Object, start, cursor))
        })?;
        Ok(fields::gone(Shape::Object, start, cursor))
    })?;
    fields::close(text, cursor)
}

fn are_distinct<'k>(mut keys: impl Iterator<Item = &'k str>) -> Result<(), Unfit> {
    let mut seen = HashSet::new();
    if keys.all(|key| seen.insert(key)) { Ok(()) } else { Err(Unfit::Broken) }
}

/// A client's answer as the older server waits for it. Both are raw JSON.
pub fn response(id: &str, result: &str) -> Vec<u8> {
    let mut out = begin(id);
    out.extend_from_slice(b"\"result\":");
    out.extend_from_slice(result.as_bytes());
    out.push(b'}');
    out
}

/// An error that ends a call, or answers a server's request. Both are raw JSON.
pub fn failure(id: &str, error: &str) -> Vec<u8> {
    let mut out = begin(id);
    out.extend_from_slice(b"\"error\":");
    out.extend_from_slice(error.as_bytes());
    out.push(b'}');
    out
}

/// What a server gets that asks what no client of this era can be asked (JSON-RPC 2.0 section 5.1).
pub fn unanswerable(id: &str) -> Vec<u8> {
    failure(id, r#"{"code":-32601,"message":"The client cannot be asked this."}"#)
}

/// What a server of 2026-07-28 wants to know before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'m> {
    /// By key; keys are distinct.
    pub questions: Vec<(String, Question<'m>)>,
    /// Raw JSON: a string, to be brought back as it is.
    pub state: Option<&'m str>,
}

/// Reads a raw result of the type `input_required`.
///
/// # Errors
/// It wants nothing, or something that no client can be asked.
pub fn parse_input_required(result: &str) -> Result<Wanted<'_>, Unfit> {
    let (text, mut cursor) = fields::open(result.as_bytes())?;
    let mut questions = Vec::new();
    let [requests, state] =
        fields::fields(text, &mut cursor, &["inputRequests", "requestState"], |cursor, key| {
            let start = cursor.at;
            if key != Some(0) || cursor.peek() != Some(b'{') {
                return Ok(cursor.value(1)?);
            }
            cursor.members(|cursor, key| {
                let slot = cursor.value(2)?;
                let raw = text.get(slot.start..slot.end).ok_or(Unfit::Broken)?;
                questions.push((fields::name(text, key).into_owned(), wish(raw)?));
                Ok::<(), Unfit>(())
            })?;
            Ok(fields::gone(Shape::Object, start, cursor))
        })?;
    fields::close(text, cursor)?;
    are_distinct(questions.iter().map(|(key, _)| key.as_str()))?;
    let state = match state.shape {
        Shape::Missing => None,
        Shape::Plain | Shape::Escaped => result.get(state.start..state.end),
        _ => return Err(Unfit::Broken),
    };
    match requests.shape {
        Shape::Missing if state.is_none() => Err(Unfit::Broken),
        Shape::Missing | Shape::Object => Ok(Wanted { questions, state }),
        _ => Err(Unfit::Broken),
    }
}

/// One of `inputRequests`.
fn wish(raw: &str) -> Result<Question<'_>, Unfit> {
    let [method, params] = fields::fields_of(raw, &["method", "params"])?;
    let name = fields::string(raw, method).ok_or(Unfit::Broken)?;
    let method = Method::from_text(&name);
    let (Method::ElicitationCreate | Method::SamplingCreate | Method::RootsList) = method else {
        return Err(Unfit::Broken);
    };
    let params = (params.shape != Shape::Missing).then(|| raw.get(params.start..params.end)).flatten();
    Ok(Question { method, params })
}

/// A question as a request to an older client; `id` is raw JSON. Pages that a user is to open have an id of their own
/// there (2025-11-25, `ElicitRequestURLParams`), which is the request's.
///
/// # Errors
/// The parameters of an elicitation are no object.
pub fn question(id: &str, question: &Question<'_>) -> Result<Vec<u8>, Unfit> {
    let mut out = begin(id);
    let mut named = None;
    if let (Method::ElicitationCreate, Some(params)) = (question.method, question.params) {
        let [mode, page] = fields::fields_of(params, &["mode", "elicitationId"])?;
        if page.shape == Shape::Missing && fields::string(params, mode).as_deref() == Some("url") {
            let quote = if id.starts_with('"') { "" } else { "\"" };
            named = Some(with_member(params, &format!("\"elicitationId\":{quote}{id}{quote}")));
        }
    }
    method_and_params(&mut out, question.method, named.as_deref().or(question.params));
    out.push(b'}');
    Ok(out)
}

/// What an older client answers to a question: raw JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'m> {
    Result(&'m str),
    Error(&'m str),
}

/// Reads the response of an older client.
///
/// # Errors
/// It is none.
pub fn answer(message: &[u8]) -> Result<Answer<'_>, Unfit> {
    let (text, mut cursor) = fields::open(message)?;
    let [result, error] =
        fields::fields(text, &mut cursor, &["result", "error"], |cursor, _| Ok(cursor.value(1)?))?;
    fields::close(text, cursor)?;
    let raw = |range: Range<usize>| text.get(range).ok_or(Unfit::Broken);
    match (result.shape, error.shape) {
        (Shape::Object, Shape::Missing | Shape::Null) => Ok(Answer::Result(raw(result.start..result.end)?)),
        (Shape::Missing | Shape::Null, Shape::Object) => Ok(Answer::Error(raw(error.start..error.end)?)),
        _ => Err(Unfit::Broken),
    }
}

/// One question and what came back.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub key: &'a str,
    pub method: Method,
    pub answer: Answer<'a>,
}

/// The raw members of `params` with which a server of 2026-07-28 is called again; `state` is [`Wanted::state`].
///
/// A user who gives no answer is one of the answers to an elicitation. Sampling and roots have none that says so.
///
/// # Errors
/// The client has refused one of those: its raw error, with which the call ends.
pub fn answers<'a>(answered: &[Answered<'a>], state: Option<&str>) -> Result<String, &'a str> {
    let mut members = Vec::new();
    for (at, Answered { key, method, answer }) in answered.iter().enumerate() {
        let result = match (answer, method) {
            (Answer::Result(result), _) => *result,
            (Answer::Error(_), Method::ElicitationCreate) => r#"{"action":"cancel"}"#,
            (Answer::Error(error), _) => return Err(error),
        };
        members.extend_from_slice(if at == 0 { b"\"inputResponses\":{" } else { b"," });
        string(&mut members, key);
        members.push(b':');
        members.extend_from_slice(result.as_bytes());
    }
    if !answered.is_empty() {
        members.push(b'}');
    }
    if let Some(state) = state {
        members.extend_from_slice(if members.is_empty() { b"" } else { b"," });
        members.extend_from_slice(b"\"requestState\":");
        members.extend_from_slice(state.as_bytes());
    }
    // All of it came as text.
    Ok(String::from_utf8(members).unwrap_or_default())
}
