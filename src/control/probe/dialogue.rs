//! What control says to a server, in either era, and what the answers prove: that it lives, and which era is its own.
//!
//! Not here: when to ask, and what follows from it (`probe`, `catalogue`, `eras`); what it lists (`lists`), and what it
//! tells by itself (`streams`).

mod lists;
pub(in crate::control) mod streams;

use crate::config::plan::EraChoice;
use crate::control::probe::link::Begun;
use crate::control::probe::link::Link;
use crate::control::probe::link::Said;
use crate::control::probe::link::Target;
use crate::handoff::Eras;
use crate::handoff::Failing;
use crate::mcp::catalogue::about::About;
use crate::mcp::crossing::Abilities;
use crate::mcp::envelope::Era;
use crate::mcp::log_level;
use crate::policy::credential::Cause;
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
use std::io;
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
    /// What it has said of itself.
    about: Option<About>,
    /// Whether anything was answered.
    is_answered: bool,
    /// Why it does not take what it is shown, as its last answer says; None: it takes it.
    refused: Option<Cause>,
    /// The status of the answer to what was said last; None: there is none.
    status: Option<u16>,
    /// It took no connection in time.
    is_silent: bool,
    /// Utilisation in thousandths, if any answer reported it.
    pub(in crate::control) load: Option<u16>,
}

/// What the answer to `server/discover` shows.
enum Shown {
    /// It lives; `Auto` where its era stays open.
    Alive(EraChoice),
    Legacy,
}

impl<'a> Dialogue<'a> {
    pub(in crate::control) const fn new(target: Target<'a>) -> Self {
        let link = Link::new(target);
        Self {
            target,
            link,
            session: None,
            version: LEGACY,
            about: None,
            is_answered: false,
            refused: None,
            status: None,
            is_silent: false,
            load: None,
        }
    }

    /// One that can only be closed: in a session that was opened before. None: it was none of a name.
    pub(in crate::control) fn of(target: Target<'a>, name: &[u8], revision: &str) -> Option<Self> {
        let session = HeaderValue::from_bytes(name).ok().filter(|name| !name.is_empty())?;
        let version = HeaderValue::from_str(revision).unwrap_or(LEGACY);
        Some(Self { session: Some(session), version, ..Self::new(target) })
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

    /// Finds out whether the server speaks the era of a client, and, where it does not, whether it speaks the other;
    /// what is known of it is not asked again.
    pub(in crate::control) async fn eras(&mut self, mut known: Eras, client: Era) -> Result<Eras, Dead> {
        if known.modern.is_none() {
            match self.discover().await {
                Ok(Shown::Alive(EraChoice::Modern)) => known.modern = Some(true),
                // It wants to know who asks: nobody can tell.
                Ok(Shown::Alive(_)) => return Ok(Eras::NEITHER),
                Err(why) if !self.is_answered => return Err(why),
                // Some older servers break over what they do not know.
                Ok(Shown::Legacy) | Err(_) => known.modern = Some(false),
            }
        }
        if known.way(client).is_some() {
            return Ok(known);
        }
        let (status, said) = self.initialize(Abilities::default()).await?;
        known.is_sessionless = said.facts.has_result && self.session.is_none();
        known.legacy = match status {
            200..=299 => Some(said.facts.has_result),
            400 if said.facts.error_code.is_some_and(|code| MODERN_ERRORS.contains(&code)) => {
                known.modern = Some(true);
                Some(false)
            }
            // Not its last word.
            408 | 425 | 429 | 500..=599 => return Err(format!("it answers initialize with {status}")),
            _ => Some(false),
        };
        Ok(known)
    }

    /// Opens a session in the older era, for a client that can do this much; what the server said of itself. Its name
    /// is [`Self::name`].
    pub(in crate::control) async fn open(&mut self, abilities: Abilities) -> Result<About, Dead> {
        self.shake_hands(abilities).await?.ok_or(UNWELCOME)?;
        Ok(self.about.clone().unwrap_or_default())
    }

    /// Of the session that is open; empty: the server keeps none.
    pub(in crate::control) fn name(&self) -> &[u8] {
        self.session.as_ref().map_or(&[], |name| name.as_bytes())
    }

    /// The revision of the session that is open.
    pub(in crate::control) fn revision(&self) -> &str {
        self.version.to_str().unwrap_or("2025-11-25")
    }

    /// Asks for log messages from this level on, of the eight in the order of RFC 5424 (2025-11-25, logging). `number` makes
    /// the id one that was not used in the session before.
    pub(in crate::control) async fn set_log_level(&mut self, level: u8, number: u64) -> Result<(), Dead> {
        let level = log_level::LEVELS.get(usize::from(level)).ok_or("there is no such level")?;
        let mut message = message("logging/setLevel", &json!({ "level": level }));
        message["id"] = json!(format!("ringgate-{number}"));
        let fields = self.fields();
        let (status, said) = self.post(&message, &fields).await?;
        has_result("logging/setLevel", status, &said)
    }

    /// Says that the client of the session has other roots than before (2025-11-25, roots).
    pub(in crate::control) async fn roots_changed(&mut self) -> Result<(), Dead> {
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
        let fields = self.fields();
        self.post(&message, &fields).await.map(drop)
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
        if matches!(status, 200..=299) {
            self.about = About::read(Era::Modern, &said.message());
        }
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
        let Some(fields) = self.shake_hands(Abilities::default()).await? else { return Ok(()) };
        let (status, said) = self.post(&message("ping", &json!({})), &fields).await?;
        has_result("ping", status, &said)
    }

    async fn initialize(&mut self, abilities: Abilities) -> Result<(u16, Said), Dead> {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities(abilities),
            "clientInfo": client_info(),
        });
        let (status, said) = self.post(&message("initialize", &params), &[]).await?;
        if let Some(about) = About::read(Era::Legacy, &said.message()) {
            self.version = HeaderValue::from_str(&about.revision).unwrap_or(LEGACY);
            self.about = Some(about);
        }
        Ok((status, said))
    }

    /// Opens a session in the older era: the fields of all that follows. None: it lives, and wants to know who asks.
    async fn shake_hands(
        &mut self,
        abilities: Abilities,
    ) -> Result<Option<Vec<(HeaderName, HeaderValue)>>, Dead> {
        let (status, said) = self.initialize(abilities).await?;
        if matches!(status, 401 | 403) {
            return Ok(None);
        }
        has_result("initialize", status, &said)?;
        let fields = self.fields();
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let (status, _) = self.post(&initialized, &fields).await?;
        if !matches!(status, 200..=299) {
            return Err(format!("it answers notifications/initialized with {status}"));
        }
        Ok(Some(fields))
    }

    /// Of every request in the session that is open.
    fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let session = self.session.clone().map(|session| (SESSION, session));
        session.into_iter().chain([(VERSION, self.version.clone())]).collect()
    }

    /// The status, and what the body says.
    async fn post(
        &mut self,
        message: &Value,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<(u16, Said), Dead> {
        let request = self.request(Method::POST, Some(message), fields)?;
        let begun = self.send(request).await?;
        let status = begun.head.status.as_u16();
        let said = self.link.read(begun).await.map_err(|error| format!("half an answer: {error}"))?;
        Ok((status, said))
    }

    /// Sends a request, and notes what the head of its answer says.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Begun, Dead> {
        self.status = None;
        match self.link.send(request).await {
            Ok(begun) => {
                self.note(&begun);
                Ok(begun)
            }
            Err(error) => {
                self.is_silent = error.kind() == io::ErrorKind::TimedOut;
                Err(format!("no answer: {error}"))
            }
        }
    }

    /// What it shows of a server that what was said last came to nothing.
    pub(in crate::control) const fn failing(&self) -> Failing {
        match (self.refused, self.status) {
            (Some(cause), _) => Failing::Refused(cause),
            (None, Some(200..=299)) => Failing::Unfit,
            (None, None) if self.is_silent => Failing::Silent,
            (None, _) => Failing::Down,
        }
    }

    /// What a head says, before its body is waited for.
    fn note(&mut self, begun: &Begun) {
        self.is_answered = true;
        self.status = Some(begun.head.status.as_u16());
        let fields = &begun.head.headers;
        if self.session.is_none() {
            self.session = fields.get(SESSION).cloned();
        }
        let challenge =
            fields.get(header::WWW_AUTHENTICATE).and_then(|value| Cause::of_challenge(value.as_bytes()));
        let has_shown = !(self.target.server.headers.is_empty() && self.target.shown.is_empty());
        self.refused = match (begun.head.status.as_u16(), challenge) {
            (401, None) if !has_shown => Some(Cause::NoCredential),
            (401, None) => Some(Cause::Revoked),
            (401, cause) => cause,
            // What it thinks of whoever asks is no matter of the credential.
            (403, cause) => cause.filter(|cause| *cause == Cause::MissingScope),
            _ => None,
        };
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

fn client_info() -> Value {
    json!({ "name": "ringgate", "version": env!("CARGO_PKG_VERSION") })
}

/// What a client of the older era declares (2025-11-25, `ClientCapabilities`).
fn capabilities(Abilities(bits): Abilities) -> Value {
    let has = |ability: u8| bits & ability != 0;
    let with = |parts: &[(u8, &str)]| {
        let parts = parts.iter().filter(|(ability, _)| has(*ability));
        Value::Object(parts.map(|(_, name)| ((*name).to_owned(), json!({}))).collect())
    };
    let mut all = json!({});
    if has(Abilities::FORM | Abilities::URL) {
        all["elicitation"] = with(&[(Abilities::FORM, "form"), (Abilities::URL, "url")]);
    }
    if has(Abilities::SAMPLING | Abilities::SAMPLING_TOOLS | Abilities::SAMPLING_CONTEXT) {
        let parts = [(Abilities::SAMPLING_TOOLS, "tools"), (Abilities::SAMPLING_CONTEXT, "context")];
        all["sampling"] = with(&parts);
    }
    if has(Abilities::ROOTS) {
        all["roots"] = if has(Abilities::ROOTS_CHANGED) { json!({"listChanged": true}) } else { json!({}) };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_declares_what_it_can_do_and_no_more() {
        let all = Abilities::FORM | Abilities::URL | Abilities::SAMPLING | Abilities::ROOTS;
        for (bits, expected) in [
            (0, json!({})),
            (Abilities::FORM, json!({"elicitation": {"form": {}}})),
            (Abilities::SAMPLING | Abilities::SAMPLING_TOOLS, json!({"sampling": {"tools": {}}})),
            (Abilities::ROOTS | Abilities::ROOTS_CHANGED, json!({"roots": {"listChanged": true}})),
            (all, json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}})),
        ] {
            assert_eq!(capabilities(Abilities(bits)), expected, "{bits}");
        }
    }
}
