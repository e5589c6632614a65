//! The rules of the envelope: one set, for the facts of either reader.
//!
//! Not here: reading, and comparing one header with one value (`header`).
//!
//! Order: what makes a message readable, then its era, then what the era demands. The first broken rule
//! is the answer. Sources: JSON-RPC 2.0; MCP 2026-07-28 basic and transports; 2025-11-25 and older.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::text::Text;
use crate::config::limits;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::HeaderValue;
use crate::mcp::envelope::McpHeaders;
use crate::mcp::envelope::Method;
use crate::mcp::envelope::REVISION_MODERN;
use crate::mcp::envelope::REVISION_WITH_BATCHES;
use crate::mcp::envelope::REVISIONS_LEGACY;
use crate::mcp::facts::Facts;
use crate::mcp::facts::Key;
use crate::mcp::facts::Level;
use crate::mcp::facts::Value;
use crate::mcp::header;
use crate::mcp::trace;

const fn invalid_request(detail: &'static str) -> Fault {
    Fault::new(Kind::InvalidRequest, detail)
}

const fn invalid_params(detail: &'static str) -> Fault {
    Fault::new(Kind::InvalidParams, detail)
}

const fn mismatch(detail: &'static str) -> Fault {
    Fault::new(Kind::HeaderMismatch, detail)
}

pub(crate) const NO_MESSAGE: Fault =
    invalid_request("The body is JSON but no JSON-RPC message. Send one object with jsonrpc, id and method.");
pub(crate) const BATCH_EMPTY: Fault =
    invalid_request("The batch is empty. Put at least one message into it.");
pub(crate) const BATCH_TOO_LONG: Fault =
    invalid_request("The batch has too many messages. Send at most 64 in one body.").at(Bound::BatchCalls);
const _: () = assert!(limits::BATCH_CALLS_MAX == 64);

/// One message that stands alone in its body.
pub(crate) fn judge(facts: &Facts<'_>, headers: &McpHeaders<'_>) -> Result<Call, Fault> {
    readable(facts)?;
    if !facts.is_present(Key::Method) {
        return response(facts, headers);
    }
    let (method_text, method) = method(facts)?;
    let kind = id(facts, method)?;
    let era = era(facts, headers, kind)?;
    let target = target(facts, era, method)?;
    let revision = match era {
        Era::Modern => modern(facts, headers, kind, &Names { method_text, method, target })?,
        Era::Legacy => legacy(facts, headers, method)?,
    };
    Ok(Call {
        kind,
        era,
        method,
        method_text: Text::new(method_text),
        target: Text::new(target),
        revision: Text::new(revision),
        trace_id: match facts.value(Key::TraceParent) {
            Value::String(text) => trace::trace_id(text),
            _ => None,
        },
        calls: 1,
        brings_state: facts.is_present(Key::RequestState),
    })
}

/// One element of a batch: what any legacy message must obey, and it may not start a session.
pub(crate) fn judge_element(facts: &Facts<'_>) -> Result<Call, Fault> {
    if facts.is_present(Key::Claim) {
        return Err(invalid_request(
            "Revision 2026-07-28 has no batches. Send each message in a body of its own.",
        ));
    }
    let call = judge(facts, &McpHeaders::NONE)?;
    if call.method == Method::Initialize {
        return Err(invalid_request("A batch cannot hold initialize. Send it in a body of its own."));
    }
    Ok(call)
}

/// Whether the headers allow a batch: only revision 2025-03-26 has them, and its clients may not say so.
pub(crate) fn batch_header(headers: &McpHeaders<'_>) -> Result<&'static str, Fault> {
    match headers.protocol_version {
        HeaderValue::Missing => Ok(""),
        HeaderValue::One(value) if header::trim(value) == REVISION_WITH_BATCHES.as_bytes() => {
            Ok(REVISION_WITH_BATCHES)
        }
        HeaderValue::Twice => Err(VERSION_TWICE),
        HeaderValue::One(_) => Err(invalid_request(
            "Batches exist in revision 2025-03-26 only. Send each message in a body of its own.",
        )),
    }
}

const VERSION_TWICE: Fault = invalid_request("MCP-Protocol-Version came twice. Send it once.");

fn readable(facts: &Facts<'_>) -> Result<(), Fault> {
    if facts.is_unclear(Level::Envelope) {
        return Err(invalid_request(
            "A key of the message is doubled, in another letter case, or no Unicode text. Send each key once, spelled as specified.",
        ));
    }
    if facts.value(Key::JsonRpc) != Value::String("2.0") {
        return Err(invalid_request("The message is no JSON-RPC 2.0. Set jsonrpc to \"2.0\"."));
    }
    if !matches!(facts.value(Key::Params), Value::Missing | Value::Object) {
        return Err(invalid_request("params is no object. Send it as an object, or leave it out."));
    }
    if facts.is_unclear(Level::Params) {
        return Err(invalid_request(
            "A key of params is doubled, in another letter case, or no Unicode text. Send each key once, spelled as specified.",
        ));
    }
    if facts.is_unclear(Level::Meta) {
        return Err(invalid_request(
            "A key of params._meta is doubled, in another letter case, or no Unicode text. Send each key once, spelled as specified.",
        ));
    }
    Ok(())
}

fn method<'a>(facts: &Facts<'a>) -> Result<(&'a str, Method), Fault> {
    if facts.is_present(Key::Result) || facts.is_present(Key::Error) {
        return Err(invalid_request(
            "The message is a request and a response at once. Send method, or result, or error.",
        ));
    }
    match facts.value(Key::Method) {
        Value::String(text) if !text.is_empty() => Ok((text, Method::from_text(text))),
        _ => Err(invalid_request("method is no text or empty. Set it to the name of an MCP method.")),
    }
}

/// Checks the id and tells requests from notifications by it.
fn id(facts: &Facts<'_>, method: Method) -> Result<CallKind, Fault> {
    match facts.value(Key::Id) {
        // A server that runs it all the same would act on a call that nobody can see answered.
        Value::Missing if method.needs_answer() => {
            Err(invalid_request("The request has no id. Give it a string or an integer as id."))
        }
        Value::Missing => Ok(CallKind::Notification),
        Value::String(_) | Value::Integer => {
            if facts.id_bytes > limits::ID_BYTES_MAX {
                return Err(invalid_request("The id is too long. Use at most 8 KiB.").at(Bound::Id));
            }
            Ok(CallKind::Request)
        }
        _ => Err(invalid_request("The id is neither text nor an integer. Use a string or an integer as id.")),
    }
}

const _: () = assert!(limits::ID_BYTES_MAX == 8 * 1024);

/// The body decides; a header alone decides only for a notification, which may come without an envelope
/// (MCP 2026-07-28, transports, "Protocol Version Header"; the TypeScript SDK classifies alike).
fn era(facts: &Facts<'_>, headers: &McpHeaders<'_>, kind: CallKind) -> Result<Era, Fault> {
    if facts.is_present(Key::Claim) {
        return Ok(Era::Modern);
    }
    if !header::says(headers.protocol_version, REVISION_MODERN) {
        return Ok(Era::Legacy);
    }
    if kind == CallKind::Notification {
        return Ok(Era::Modern);
    }
    Err(invalid_params(
        "MCP-Protocol-Version says 2026-07-28 but params._meta has no io.modelcontextprotocol/protocolVersion. Send both.",
    ))
}

/// What a modern message says of itself in its body.
struct Names<'a> {
    method_text: &'a str,
    method: Method,
    target: &'a str,
}

fn modern<'a>(
    facts: &Facts<'a>,
    headers: &McpHeaders<'_>,
    kind: CallKind,
    names: &Names<'_>,
) -> Result<&'a str, Fault> {
    let version = match facts.value(Key::Claim) {
        // A notification that only its header calls modern.
        Value::Missing => REVISION_MODERN,
        Value::String(version) => version,
        _ => {
            return Err(invalid_params(
                "params._meta has an io.modelcontextprotocol/protocolVersion that is no text. Set it to \"2026-07-28\".",
            ));
        }
    };
    if !header::says(headers.protocol_version, version) {
        return Err(mismatch(
            "MCP-Protocol-Version and the version in params._meta differ. Send the header once, equal to the body.",
        ));
    }
    if version != REVISION_MODERN {
        return Err(Fault::new(
            Kind::RevisionUnsupported,
            "The gateway does not serve this protocol version. Use one of data.supported.",
        ));
    }
    if !header::says(headers.method, names.method_text) {
        return Err(mismatch(
            "Mcp-Method and the body's method differ. Send the header once, equal to the body.",
        ));
    }
    name_header(headers.name, names)?;
    let needs_capabilities = kind == CallKind::Request || facts.is_present(Key::ClientCapabilities);
    if needs_capabilities && facts.value(Key::ClientCapabilities) != Value::Object {
        return Err(invalid_params(
            "params._meta lacks io.modelcontextprotocol/clientCapabilities. Send it as an object, empty if there are none.",
        ));
    }
    Ok(version)
}

/// `Mcp-Name` of a method that has no name says nothing that the body could contradict, and extensions
/// may give it a meaning (as tasks did): it passes. Two of them are ambiguous whatever they mean.
fn name_header(name: HeaderValue<'_>, names: &Names<'_>) -> Result<(), Fault> {
    let agrees = match name {
        HeaderValue::Twice => false,
        HeaderValue::Missing => !names.method.has_name_header(),
        HeaderValue::One(value) => !names.method.has_name_header() || header::names(value, names.target),
    };
    if agrees {
        return Ok(());
    }
    Err(mismatch(
        "Mcp-Name and the name in the body differ. Send the header once, equal to the body's name, uri or taskId.",
    ))
}

/// The revision that a legacy message speaks, as far as it says so. Its other headers prove nothing.
fn legacy<'a>(facts: &Facts<'a>, headers: &McpHeaders<'_>, method: Method) -> Result<&'a str, Fault> {
    let said = legacy_header(headers)?;
    match facts.value(Key::ProtocolVersion) {
        Value::String(asked) if method == Method::Initialize => Ok(asked),
        _ => Ok(said),
    }
}

fn legacy_header(headers: &McpHeaders<'_>) -> Result<&'static str, Fault> {
    match headers.protocol_version {
        HeaderValue::Missing => Ok(""),
        HeaderValue::Twice => Err(VERSION_TWICE),
        HeaderValue::One(value) => {
            let known = REVISIONS_LEGACY.iter().find(|known| known.as_bytes() == header::trim(value));
            known.copied().ok_or(invalid_request(
                "MCP-Protocol-Version names no known version. Send the one that was negotiated, or leave it out.",
            ))
        }
    }
}

/// A message without a method: the answer of a legacy client to its server.
fn response(facts: &Facts<'_>, headers: &McpHeaders<'_>) -> Result<Call, Fault> {
    let (result, error) = (facts.value(Key::Result), facts.value(Key::Error));
    let id = facts.value(Key::Id);
    match (result, error) {
        (Value::Missing, Value::Missing) => {
            return Err(invalid_request("The message has no method. Set it to the name of an MCP method."));
        }
        // JSON-RPC 2.0 section 5: an error is an object, and never beside a result.
        (_, Value::Missing) | (Value::Missing, Value::Object) => {}
        _ => {
            return Err(invalid_request(
                "The response has no clear outcome. Send either a result or an error object.",
            ));
        }
    }
    // An error may lack the id only where the id could not be read (schema of 2025-11-25).
    let may_lack_id = error == Value::Object;
    if id == Value::Missing && !may_lack_id || id != Value::Missing && self::id(facts, Method::None).is_err()
    {
        return Err(invalid_request(
            "The response has no valid id. Send the id of the request that it answers.",
        ));
    }
    if facts.is_present(Key::Claim) || header::says(headers.protocol_version, REVISION_MODERN) {
        return Err(invalid_request(
            "Clients send no responses in revision 2026-07-28. Answer by a new request with inputResponses.",
        ));
    }
    let revision = legacy_header(headers)?;
    Ok(Call {
        kind: CallKind::Response,
        era: Era::Legacy,
        method: Method::None,
        method_text: Text::EMPTY,
        target: Text::EMPTY,
        revision: Text::new(revision),
        trace_id: None,
        calls: 1,
        brings_state: false,
    })
}

/// What the method acts on; empty where it names nothing. Methods that 2026-07-28 has no more are its
/// servers' to refuse, whatever their parameters.
fn target<'a>(facts: &Facts<'a>, era: Era, method: Method) -> Result<&'a str, Fault> {
    let (key, fault) = match method {
        Method::ToolsCall | Method::PromptsGet => {
            (Key::Name, invalid_params("params.name is missing or no text. Set it to the name to call."))
        }
        Method::ResourcesSubscribe | Method::ResourcesUnsubscribe if era == Era::Modern => return Ok(""),
        Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            (Key::Uri, invalid_params("params.uri is missing or no text. Set it to the URI of the resource."))
        }
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel | Method::TasksResult => (
            Key::TaskId,
            invalid_params("params.taskId is missing or no text. Set it to the id of the task."),
        ),
        _ => return Ok(""),
    };
    let Value::String(text) = facts.value(key) else { return Err(fault) };
    if key == Key::Name && text.len() > limits::NAME_BYTES_MAX {
        return Err(invalid_params("params.name is too long. Names have at most 1024 bytes.").at(Bound::Name));
    }
    Ok(text)
}

const _: () = assert!(limits::NAME_BYTES_MAX == 1024);

impl Method {
    /// Whether a message of this method without an id makes no sense.
    const fn needs_answer(self) -> bool {
        !matches!(
            self,
            Self::Initialized
                | Self::Cancelled
                | Self::Progress
                | Self::RootsListChanged
                | Self::Other
                | Self::None
        )
    }

    /// Whether `Mcp-Name` is required (MCP 2026-07-28, transports; SEP-2663 for tasks).
    const fn has_name_header(self) -> bool {
        matches!(
            self,
            Self::ToolsCall
                | Self::PromptsGet
                | Self::ResourcesRead
                | Self::TasksGet
                | Self::TasksUpdate
                | Self::TasksCancel
        )
    }
}
