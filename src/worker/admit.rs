//! The stages before anything leaves: our host and path, the caller, the meaning of the body.
//!
//! Not here: I/O. Every check is a call into a pure folder; this file only hands each what it needs.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::compile_auth;
use crate::config::compile_server;
use crate::config::hub::Form;
use crate::config::hub::Hub;
use crate::config::hub::HubId;
use crate::edge::host;
use crate::http::fields::Fields;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::http::host as authority;
use crate::http::host::HostName;
use crate::http::request;
use crate::http::request::Framing;
use crate::http::request::Method;
use crate::http::request::RequestHead;
use crate::mcp::envelope;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::HeaderValue;
use crate::mcp::envelope::McpHeaders;
use crate::mcp::refusal::Denial;
use crate::mcp::trace;
use crate::policy::certificate;
use crate::policy::identity;
use crate::policy::identity::Presented;
use crate::policy::resource;
use crate::telemetry::record::Called;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::allowance;
use crate::worker::authenticate;
use crate::worker::body::Body;
use crate::worker::callers::Known as KnownCaller;
use crate::worker::client::Client;
use crate::worker::pages;
use crate::worker::pages::Page;
use crate::worker::state::Exchange;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The way in that a request took.
pub struct Door {
    pub head: RequestHead,
    pub hub: HubId,
    /// What the hub is called, over reloads.
    pub name: Arc<str>,
}

impl Door {
    pub fn hub<'a>(&self, adopted: &'a Adopted) -> &'a Hub {
        // The id was found in this very plan.
        &adopted.plan.hubs[usize::from(self.hub)]
    }

    /// The server behind it, where there is only one.
    pub fn only<'a>(&self, adopted: &'a Adopted) -> Option<&'a ServerState> {
        if let Form::Server(id) = self.hub(adopted).form { adopted.server(id) } else { None }
    }
}

/// What a request is for.
pub enum Entry {
    Call(Door),
    /// An endpoint that could be here, and is not.
    Nowhere(RequestHead),
    /// Somebody comes back from a token service.
    Callback(RequestHead),
    Page(RequestHead, Page),
}

/// What the rest of the exchange must know about the request.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    pub era: Era,
    /// A closed connection is a cancelled call (2026-07-28), or a stream that nobody reads (GET).
    pub leaving_cancels: bool,
    pub stream_only: bool,
}

const NOT_FOUND: Fault = Fault::new(
    Kind::NotFound,
    "There is no such endpoint here; that of all servers is /mcp, that of one is /mcp/NAME.",
);

/// Host, Origin, method and path.
///
/// # Errors
/// 403 for a host or origin that is not ours, 404 for a path, 405 for a method that no revision has.
pub fn enter(
    worker: &Worker,
    adopted: &Adopted,
    client: &mut Client,
    exchange: &mut Exchange,
) -> Result<Entry, Fault> {
    let Some(head) = exchange.head else {
        return Err(Fault::new(Kind::Malformed, "The request has no head."));
    };
    let source = &client.input[client.start..client.end];
    exchange.record.trace_id = trace_id(worker, source, &exchange.fields);
    exchange.record.method.set(match head.method {
        Method::Post => "POST",
        _ => std::str::from_utf8(head.method_text.of(source)).unwrap_or("?"),
    });
    let http = &adopted.plan.http;
    let named = head.host.of(source);
    let known = client.known_host.0 == adopted.epoch && client.known_host.1 == named;
    if !known && !named.is_empty() {
        let (name, _port) = authority::parse_authority(named)?;
        let (address, text) = parts(&name);
        host::check_host(http, client.ends.local, address, text)?;
        client.known_host = (adopted.epoch, named.to_vec());
    }
    let source = &client.input[client.start..client.end];
    match exchange.fields.single(Known::Origin) {
        Single::Missing => {}
        Single::One(span) => {
            let value = span.of(source);
            let parsed = authority::parse_origin(value);
            let host = parsed.as_ref().map(|(_, name, _)| parts(name));
            host::check_origin(http, client.ends.local, value, host)?;
        }
        Single::Twice => return Err(host::TWO_ORIGINS),
    }
    let path = head.path.of(source);
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| NOT_FOUND);
    let Some(name) = path.strip_prefix(b"/mcp") else {
        let path = text(path)?;
        if path == compile_auth::CALLBACK_PATH && adopted.plan.asks_for_consent() {
            pages::check(&head)?;
            return Ok(Entry::Callback(head));
        }
        let page = pages::find(&adopted.plan, path).ok_or(NOT_FOUND)?;
        pages::check(&head)?;
        return Ok(Entry::Page(head, page));
    };
    let name = match name {
        [] => "",
        [b'/', name @ ..] if !name.is_empty() => text(name)?,
        _ => return Err(NOT_FOUND),
    };
    let Some(hub) = adopted.plan.hub_by_name.get(name).copied() else {
        // Only names that an endpoint can have are worth a question.
        if !adopted.plan.identity.is_configured() || compile_server::server_name_flaw(name).is_some() {
            return Err(NOT_FOUND);
        }
        method(&head, source, &exchange.fields)?;
        return Ok(Entry::Nowhere(head));
    };
    exchange.record.server.set(name);
    method(&head, source, &exchange.fields)?;
    let name = adopted.plan.hubs.get(usize::from(hub)).map_or_else(|| "".into(), |hub| Arc::clone(&hub.name));
    Ok(Entry::Call(Door { head, hub, name }))
}

/// The caller's trace, else a new one. A valid `_meta.traceparent` of the body wins over this header later.
fn trace_id(worker: &Worker, source: &[u8], fields: &Fields) -> [u8; 16] {
    let given = match fields.single(Known::Traceparent) {
        Single::One(value) => std::str::from_utf8(value.of(source)).ok().and_then(trace::trace_id),
        Single::Missing | Single::Twice => None,
    };
    given.unwrap_or_else(|| worker.new_trace_id())
}

fn parts<'a>(name: &HostName<'a>) -> (Option<IpAddr>, &'a [u8]) {
    match name {
        HostName::Address(address) => (Some(*address), b""),
        HostName::Name(name) => (None, name),
    }
}

/// POST carries calls; GET and DELETE belong to the sessions of the older revisions.
fn method(head: &RequestHead, source: &[u8], fields: &Fields) -> Result<(), Fault> {
    match head.method {
        Method::Post => return Ok(()),
        Method::Get | Method::Delete => {}
        _ => {
            return Err(Fault::new(
                Kind::MethodNotAllowed,
                "This endpoint takes POST, and GET and DELETE of sessions.",
            ));
        }
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(Fault::new(Kind::Malformed, "GET and DELETE carry no body here."));
    }
    match fields.single(Known::ProtocolVersion) {
        Single::One(version) if version.of(source) == envelope::REVISION_MODERN.as_bytes() => {
            Err(Fault::new(Kind::MethodNotAllowed, "Revision 2026-07-28 has no GET and DELETE; send a POST."))
        }
        Single::Twice => {
            Err(Fault::new(Kind::InvalidRequest, "MCP-Protocol-Version came twice; send it once."))
        }
        _ => Ok(()),
    }
}

/// Who calls.
///
/// # Errors
/// 401 where a credential is missing, wrong, expired, given twice, or for another endpoint; 404 where the server is
/// not for the caller's tenant.
pub async fn identify(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    door: &Door,
) -> Result<Rc<KnownCaller>, Fault> {
    let endpoint = &door.hub(adopted).name;
    let known = at_endpoint(worker, adopted, client, exchange, (&door.head, endpoint)).await?;
    if door.only(adopted).is_some_and(|server| !server.config().is_for_tenant(&known.caller.tenant)) {
        return Err(NOT_FOUND);
    }
    exchange.record.principal.set(&known.caller.name);
    exchange.record.actor.set(&known.caller.actor);
    exchange.owner = known.owner;
    exchange.expires = worker.moment_of(known.caller.expires_unix);
    Ok(known)
}

/// What a request gets that is for an endpoint that is not here: strangers are told who they should be, as at every other,
/// so that nobody finds out without a credential which endpoints there are.
pub async fn nowhere(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    head: &RequestHead,
) -> Fault {
    let path = head.path.of(&client.input[client.start..client.end]);
    let endpoint =
        std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix("/mcp/")).unwrap_or_default();
    at_endpoint(worker, adopted, client, exchange, (head, endpoint)).await.err().unwrap_or(NOT_FOUND)
}

/// The caller, where it may be at an endpoint of this name; a challenge for whom else.
async fn at_endpoint(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    (head, endpoint): (&RequestHead, &str),
) -> Result<Rc<KnownCaller>, Fault> {
    let known = recognise(worker, adopted, client, exchange, (head, endpoint)).await;
    if known.as_ref().is_err_and(|fault| fault.kind == Kind::Unauthenticated) {
        let sent = [Known::Authorization, Known::ApiKey];
        let sent = sent.iter().any(|field| exchange.fields.single(*field) != Single::Missing);
        let challenge = resource::challenge(&adopted.plan.identity, endpoint, sent);
        exchange.deny(Denial { challenge, ..Denial::default() });
    }
    known
}

async fn recognise(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    (head, endpoint): (&RequestHead, &str),
) -> Result<Rc<KnownCaller>, Fault> {
    let source = &client.input[client.start..client.end];
    let presented = Presented {
        authorization: header(source, &exchange.fields, Known::Authorization),
        api_key: header(source, &exchange.fields, Known::ApiKey),
        certificate: client
            .certificate
            .as_deref()
            .zip(adopted.plan.identity.mtls.as_ref())
            .map_or(Ok(None), |(shown, mtls)| certificate::accepted(shown, mtls)),
        in_query: identity::has_token(head.target.of(source)),
    };
    exchange.callers_ms = allowance::callers_deadline(header(source, &exchange.fields, Known::Deadline))?;
    let now = worker.wall_seconds(worker.coarse_now());
    let offered = identity::offered(&adopted.plan.identity, &presented)?;
    // What has expired is asked for anew: what an introspection said is believed for less time than its token lives.
    let known = worker.callers.find(&offered).filter(|known| now < known.caller.expires_unix);
    let known = match known {
        Some(known) if adopted.generation == worker.adopt().generation => known,
        // Boxed: most callers are known, and each call would have to hold the state of a verification.
        _ => Box::pin(authenticate::ask(worker, adopted, client.slot, &offered)).await?,
    };
    known.caller.stands(endpoint, now)?;
    Ok(known)
}

/// What the body asks, and whether header and body agree.
///
/// # Errors
/// The specification's codes; 415 for a body that is not declared as JSON.
pub fn understand(
    worker: &Worker,
    client: &Client,
    exchange: &mut Exchange,
    door: &Door,
    body: &Body,
) -> Result<Intent, Fault> {
    let source = &client.input[client.start..client.end];
    let fields = &exchange.fields;
    if door.head.method != Method::Post {
        let revision = header(source, fields, Known::ProtocolVersion);
        if let HeaderValue::One(revision) = revision {
            exchange.record.revision.set(std::str::from_utf8(revision).unwrap_or(""));
        }
        return Ok(Intent { era: Era::Legacy, leaving_cancels: true, stream_only: true });
    }
    let json = match fields.single(Known::ContentType) {
        Single::One(value) => request::json_media_type(value.of(source)),
        Single::Missing | Single::Twice => false,
    };
    let plain = fields.single(Known::ContentEncoding) == Single::Missing;
    if !json || !plain {
        return Err(Fault::new(
            Kind::MediaType,
            "The body must be application/json in UTF-8 without a content coding.",
        ));
    }
    let headers = McpHeaders {
        protocol_version: header(source, fields, Known::ProtocolVersion),
        method: header(source, fields, Known::McpMethod),
        name: header(source, fields, Known::McpName),
        session: fields.single(Known::SessionId) != Single::Missing,
    };
    let text = &client.input[body.bytes.clone()];
    let scratch = &mut worker.scratch.borrow_mut();
    let call = if envelope::may_be_batch(text) {
        let mut calls = Vec::new();
        let mut each = |call: &Call| calls.push(Called { method: call.method_text, target: call.target });
        let call = envelope::inspect_each(scratch, text, &headers, &mut each)?;
        exchange.batch = calls;
        call
    } else {
        envelope::inspect(scratch, text, &headers)?
    };
    exchange.record.method = call.method_text;
    // Not its text alone: whether it was cut counts.
    exchange.record.target = call.target;
    exchange.record.revision = call.revision;
    if let Some(trace_id) = call.trace_id {
        exchange.record.trace_id = trace_id;
    }
    exchange.call = Some(call);
    // A listener is a stream of its own: it ends when either side does (2026-07-28, subscriptions).
    let stream_only = call.method == envelope::Method::SubscriptionsListen;
    Ok(Intent { era: call.era, leaving_cancels: call.era == Era::Modern, stream_only })
}

fn header<'a>(source: &'a [u8], fields: &Fields, known: Known) -> HeaderValue<'a> {
    match fields.single(known) {
        Single::Missing => HeaderValue::Missing,
        Single::One(span) => HeaderValue::One(span.of(source)),
        Single::Twice => HeaderValue::Twice,
    }
}
