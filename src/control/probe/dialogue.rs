//! What control says to a server, in either era, and what the answers prove: that it lives, and what it offers.
//!
//! Not here: when to ask, and what follows from it (`probe`, `catalogue`).

use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::control::probe::link::Begun;
use crate::control::probe::link::Link;
use crate::control::probe::link::Said;
use crate::control::probe::link::Target;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use crate::mcp::catalogue::Catalogue;
use crate::route::load;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

const MODERN: HeaderValue = HeaderValue::from_static("2026-07-28");
const LEGACY: HeaderValue = HeaderValue::from_static("2025-11-25");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LOAD: &str = "endpoint-load-metrics";
/// Errors that only modern servers know: header mismatch, missing capability, unsupported version.
const MODERN_ERRORS: std::ops::RangeInclusive<i32> = -32022..=-32020;
const METHOD_NOT_FOUND: i32 = -32601;
const INTERNAL_ERROR: i32 = -32603;
const UNWELCOME: &str = "it wants to know who asks (401 or 403): give it credentials under `headers`";

/// The server does not live, as a sentence's end; never bytes of its own.
pub(in crate::control) type Dead = String;

/// One probe of one instance.
pub(in crate::control) struct Dialogue<'a> {
    target: Target<'a>,
    link: Link<'a>,
    /// To be closed, whatever happens.
    session: Option<HeaderValue>,
    /// The revision of that session.
    version: HeaderValue,
    /// Utilisation in thousandths, if any answer reported it.
    pub(in crate::control) load: Option<u16>,
}

/// What is listed so far.
struct Lists {
    era: EraChoice,
    /// Of every request.
    fields: Vec<(HeaderName, HeaderValue)>,
    bytes_left: usize,
    found: Catalogue,
}

/// What the answer to `server/discover` shows.
enum Shown {
    /// It lives; `Auto` where its era stays open.
    Alive(EraChoice),
    Legacy,
}

impl<'a> Dialogue<'a> {
    pub(in crate::control) const fn new(target: Target<'a>) -> Self {
        Self { target, link: Link::new(target), session: None, version: LEGACY, load: None }
    }

    /// Asks in the era that is given; in the newer one first where that is open. Tells the era that was shown.
    pub(in crate::control) async fn talk(&mut self, era: EraChoice) -> Result<EraChoice, Dead> {
        if era != EraChoice::Legacy {
            match self.discover().await? {
                Shown::Alive(era) => return Ok(era),
                Shown::Legacy if era == EraChoice::Modern => {
                    return Err("it does not know server/discover".into());
                }
                Shown::Legacy => {}
            }
        }
        self.ping().await.map(|()| EraChoice::Legacy)
    }

    /// Ends the session that was opened, if any; `patience` for each of two tries.
    pub(in crate::control) async fn close(&mut self, patience: Duration) {
        let Some(session) = self.session.take() else { return };
        for _ in 0..2 {
            let fields = [(SESSION, session.clone()), (VERSION, self.version.clone())];
            let Ok(request) = self.request(Method::DELETE, None, &fields) else { return };
            // Any answer is the last word: a server need not allow it.
            if let Ok(Ok(_)) = tokio::time::timeout(patience, self.link.send(request)).await {
                return;
            }
        }
    }

    async fn discover(&mut self) -> Result<Shown, Dead> {
        let message = message("server/discover", &json!({ "_meta": meta() }));
        let fields = [(VERSION, MODERN), (METHOD, HeaderValue::from_static("server/discover"))];
        let (status, said) = self.post(&message, &fields).await?;
        let error = said.facts.error_code;
        match status {
            401 | 403 => Ok(Shown::Alive(EraChoice::Auto)),
            200..=299 if said.facts.has_result => Ok(Shown::Alive(EraChoice::Modern)),
            400 if error.is_some_and(|code| MODERN_ERRORS.contains(&code)) => {
                Ok(Shown::Alive(EraChoice::Modern))
            }
            404 if error == Some(METHOD_NOT_FOUND) => Ok(Shown::Alive(EraChoice::Modern)),
            400..=499 => Ok(Shown::Legacy),
            200..=299 if error.is_some() => Ok(Shown::Legacy),
            _ => Err(format!("it answers server/discover with {status} and no result")),
        }
    }

    async fn ping(&mut self) -> Result<(), Dead> {
        let Some(fields) = self.shake_hands().await? else { return Ok(()) };
        let (status, said) = self.post(&message("ping", &json!({})), &fields).await?;
        has_result("ping", status, &said)
    }

    /// Opens a session in the older era: the fields of all that follows. None: it lives, and wants to know who asks.
    async fn shake_hands(&mut self) -> Result<Option<Vec<(HeaderName, HeaderValue)>>, Dead> {
        let params =
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client_info() });
        let (status, said) = self.post(&message("initialize", &params), &[]).await?;
        if matches!(status, 401 | 403) {
            return Ok(None);
        }
        has_result("initialize", status, &said)?;
        if let Some(version) = negotiated(&said.body) {
            self.version = version;
        }
        let session = self.session.clone().map(|session| (SESSION, session));
        let fields: Vec<_> = session.into_iter().chain([(VERSION, self.version.clone())]).collect();
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let (status, _) = self.post(&initialized, &fields).await?;
        if !matches!(status, 200..=299) {
            return Err(format!("it answers notifications/initialized with {status}"));
        }
        Ok(Some(fields))
    }

    /// Asks for all that the server offers, in the era that is given or that it shows; tells the era.
    pub(in crate::control) async fn list(&mut self, era: EraChoice) -> Result<(EraChoice, Catalogue), Dead> {
        let shown = match era {
            EraChoice::Auto => self.discover().await?,
            EraChoice::Modern => Shown::Alive(EraChoice::Modern),
            EraChoice::Legacy => Shown::Legacy,
        };
        let (era, fields) = match shown {
            Shown::Alive(EraChoice::Modern) => (EraChoice::Modern, vec![(VERSION, MODERN)]),
            Shown::Alive(_) => return Err(UNWELCOME.into()),
            Shown::Legacy => (EraChoice::Legacy, self.shake_hands().await?.ok_or(UNWELCOME)?),
        };
        let mut lists =
            Lists { era, fields, bytes_left: limits::CATALOGUE_BYTES_MAX, found: Catalogue::default() };
        for method in ["tools/list", "prompts/list"] {
            self.pages(method, &mut lists).await?;
        }
        Ok((era, lists.found))
    }

    /// Adds all pages of one list.
    async fn pages(&mut self, method: &'static str, lists: &mut Lists) -> Result<(), Dead> {
        let is_modern = lists.era == EraChoice::Modern;
        let mut fields = lists.fields.clone();
        fields.extend(is_modern.then_some((METHOD, HeaderValue::from_static(method))));
        let mut cursor = None;
        for _ in 0..limits::CATALOGUE_PAGES_MAX {
            let mut params = if is_modern { json!({ "_meta": meta() }) } else { json!({}) };
            if let Some(cursor) = cursor {
                params["cursor"] = Value::String(cursor);
            }
            let request = self.request(Method::POST, Some(&message(method, &params)), &fields)?;
            let begun = self.link.send(request).await.map_err(|error| format!("no answer: {error}"))?;
            self.note(&begun);
            let status = begun.head.status.as_u16();
            let body = self.link.read_whole(begun, lists.bytes_left).await;
            let body = body.map_err(|error| format!("no whole answer to {method}: {error}"))?;
            lists.bytes_left = lists.bytes_left.saturating_sub(body.len());
            if has_no(method, &body) {
                return Ok(());
            }
            if !matches!(status, 200..=299) {
                return Err(format!("it answers {method} with {status}"));
            }
            // A long list takes milliseconds.
            let mut found = std::mem::take(&mut lists.found);
            let read = tokio::task::spawn_blocking(move || (found.add(&body), found));
            let next;
            (next, lists.found) = read.await.map_err(|error| error.to_string())?;
            cursor = next?;
            if cursor.is_none() {
                return Ok(());
            }
        }
        Err(format!("its {method} has more than {} pages", limits::CATALOGUE_PAGES_MAX))
    }

    /// The status, and what the body says.
    async fn post(
        &mut self,
        message: &Value,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<(u16, Said), Dead> {
        let request = self.request(Method::POST, Some(message), fields)?;
        let begun = self.link.send(request).await.map_err(|error| format!("no answer: {error}"))?;
        self.note(&begun);
        let status = begun.head.status.as_u16();
        let said = self.link.read(begun).await.map_err(|error| format!("half an answer: {error}"))?;
        Ok((status, said))
    }

    /// What a head says, before its body is waited for.
    fn note(&mut self, begun: &Begun) {
        let fields = &begun.head.headers;
        if self.session.is_none() {
            self.session = fields.get(SESSION).cloned();
        }
        self.load = fields.get(LOAD).and_then(|value| load::parse(value.as_bytes())).or(self.load);
    }

    fn request(
        &self,
        method: Method,
        message: Option<&Value>,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, Dead> {
        let body = message.map(Value::to_string).unwrap_or_default();
        let endpoint = self.target.endpoint;
        let mut request = Request::builder()
            .method(method)
            .uri(&*endpoint.target)
            .header(header::HOST, &*endpoint.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("no request can be made for it: {error}"))?;
        let all = request.headers_mut();
        for (name, value) in fields {
            all.insert(name.clone(), value.clone());
        }
        for injected in self.target.server.headers.iter().chain(self.target.shown) {
            // Both were checked when the configuration was read, or the credential obtained.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(&injected.name), HeaderValue::from_bytes(&injected.value))
            {
                all.insert(name, value);
            }
        }
        Ok(request)
    }
}

fn has_result(method: &str, status: u16, said: &Said) -> Result<(), Dead> {
    let good = matches!(status, 200..=299) && said.facts.has_result;
    if good { Ok(()) } else { Err(format!("it answers {method} with {status} and no result")) }
}

fn message(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// `_meta` of every request of 2026-07-28.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// Whether a server says that it has nothing of the kind: it does not know the method, or, as some say it of prompts,
/// its capabilities have none.
fn has_no(method: &str, body: &[u8]) -> bool {
    let mut scan = AnswerScan::new(Form::Json);
    scan.feed(body);
    match scan.facts().error_code {
        Some(METHOD_NOT_FOUND) => true,
        Some(code) => method == "prompts/list" && code != INTERNAL_ERROR,
        None => false,
    }
}

fn client_info() -> Value {
    json!({ "name": "ringgate", "version": env!("CARGO_PKG_VERSION") })
}

/// The revision that the server chose, in JSON or as the data of an event.
fn negotiated(body: &[u8]) -> Option<HeaderValue> {
    let lines = body.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let messages = std::iter::once(body).chain(lines).filter_map(|json| serde_json::from_slice(json).ok());
    let mut versions = messages.filter_map(|message: Value| {
        let version = message.get("result")?.get("protocolVersion")?.as_str()?;
        HeaderValue::from_str(version).ok()
    });
    versions.next()
}
