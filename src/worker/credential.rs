//! What a call shows its server: a credential of the gateway's, obtained before the request is written, and another one
//! after a 401.
//!
//! Not here: obtaining one (`control`, which is asked; only this call waits), and what the causes mean (`policy`). A 401
//! proves that the call was not executed, so that it may be sent once more, whatever it is (docs/decisions/0017).

use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::config::credentials::Auth;
use crate::config::credentials::Method;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::http::fields::Known as KnownField;
use crate::http::fields::Single;
use crate::mcp::consent;
use crate::mcp::refusal::Denial;
use crate::policy::credential;
use crate::policy::credential::Cause;
use crate::policy::credential::Credential;
use crate::policy::credential::Needed;
use crate::policy::credential::Trouble;
use crate::policy::credential::Whom;
use crate::worker::Worker;
use crate::worker::adopted::ServerState;
use crate::worker::callers::Known;
use crate::worker::client::Client;
use crate::worker::dispatch;
use crate::worker::state::Exchange;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// How often an operator is told of the same trouble with a server.
const TELL_INTERVAL_NS: u64 = 10_000_000_000;

const REFUSED: &str = "the server refused it";

/// What a call shows its server, and what it takes to show something else.
pub struct Shown {
    known: Rc<Known>,
    pub auth: Arc<Auth>,
    pub credential: Arc<Credential>,
    /// It was obtained because the server had refused the one before it.
    renewed: bool,
}

/// When the trouble with a server was told last, and which.
#[derive(Default)]
pub struct Told(Cell<Option<(Moment, &'static str)>>);

/// Has the credential that the call's server is to be shown.
///
/// # Errors
/// 502 or 403 by the cause where there is none.
pub async fn obtain(
    worker: &Worker,
    client: &Client,
    exchange: &mut Exchange,
    server: &ServerState,
    known: &Rc<Known>,
) -> Result<(), Fault> {
    let Some(auth) = &server.config().auth else { return Ok(()) };
    if auth.is_consented() {
        // Looked at while the body is at hand; few servers need it.
        look(client, exchange);
    }
    let now = worker.wall_seconds(worker.coarse_now());
    let credential = match (known.credentials.find(auth, now), &auth.method) {
        (Some(credential), _) => credential,
        (None, Method::Headers(fields)) => {
            let credential = Arc::new(credential::of_claims(fields, &known.caller)?);
            known.credentials.keep(auth, &credential);
            credential
        }
        (None, _) => {
            let began = clock::now();
            let needed = needed(&exchange.record.server.as_str().into(), auth, known);
            let asked = ask(worker, client.slot, needed, known).await;
            exchange.waited_ns += clock::now().nanos_since(began);
            asked.map_err(|trouble| refuse(exchange, &server.way.told, trouble))?
        }
    };
    exchange.shown =
        Some(Shown { known: Rc::clone(known), auth: Arc::clone(auth), credential, renewed: false });
    Ok(())
}

/// Looks at how the caller can be asked to consent.
pub fn look(client: &Client, exchange: &mut Exchange) {
    let Some(call) = &exchange.call else { return };
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let begun = exchange.own.as_ref().map(|own| own.abilities);
    exchange.elicits = consent::way(call, body, begun);
}

/// Has another credential in place of the one that the server refused with `fault`.
///
/// # Errors
/// `fault` where the second one was refused as well, or nothing can be renewed; else the cause why there is none.
pub async fn renew(
    worker: &Worker,
    slot: usize,
    exchange: &mut Exchange,
    told: &Told,
    fault: Fault,
) -> Result<(), Fault> {
    let refused = |exchange: &mut Exchange| {
        told.tell(exchange, exchange.record.server.as_str(), REFUSED);
        exchange.waited_ns += clock::now().nanos_since(exchange.upstream_began);
        Err(fault)
    };
    if exchange.denial.as_ref().is_some_and(|denial| denial.cause == Cause::MissingScope.word()) {
        // Another token would have the same scopes.
        return refused(exchange);
    }
    let Some(Shown { known, auth, credential, renewed }) = &exchange.shown else {
        return refused(exchange);
    };
    let again = *renewed;
    // A second refusal may still be worth a link.
    if matches!(auth.method, Method::Headers(_)) || (again && !auth.is_consented()) {
        return refused(exchange);
    }
    let (known, auth) = (Rc::clone(known), Arc::clone(auth));
    let needed = Needed {
        refused: Some(credential.version),
        is_last: again,
        ..needed(&exchange.record.server.as_str().into(), &auth, &known)
    };
    match ask(worker, slot, needed, &known).await {
        Ok(_) if again => refused(exchange),
        Ok(credential) => {
            exchange.denial = None;
            // What was there before this attempt took the place of what only this worker still knew: it may be as old as
            // that for the server, and is no answer to the refusal.
            let renewed = exchange.upstream_began <= credential.made;
            exchange.shown = Some(Shown { known, auth, credential, renewed });
            Ok(())
        }
        // What the server said itself says more.
        Err(Wanting::Trouble(trouble))
            if trouble.cause == Cause::Revoked && trouble.consent_url.is_empty() =>
        {
            refused(exchange)
        }
        Err(wanting) => {
            exchange.waited_ns += clock::now().nanos_since(exchange.upstream_began);
            Err(refuse(exchange, told, wanting))
        }
    }
}

/// What an answer of this status means where it is not for the caller: the server does not take what it was shown. What
/// it thinks of the caller itself is the caller's to read.
pub fn refused(exchange: &mut Exchange, status: u16, head: &[u8]) -> Option<Fault> {
    if !matches!(status, 401 | 403) {
        if let Some(shown) = &exchange.shown
            && status < 300
        {
            shown.credential.worked.note();
        }
        return None;
    }
    let challenge = match exchange.answer_fields.single(KnownField::WwwAuthenticate) {
        Single::One(value) => Cause::of_challenge(value.of(head)),
        Single::Missing | Single::Twice => None,
    };
    let cause = match (status, challenge) {
        (403, Some(Cause::MissingScope)) => Cause::MissingScope,
        (403, _) => return None,
        (_, Some(cause)) => cause,
        (_, None) if exchange.shown.is_none() && !exchange.injects => Cause::NoCredential,
        (_, None) => Cause::Revoked,
    };
    let server = exchange.record.server;
    deny(exchange, server.as_str(), &Trouble::new(cause, REFUSED));
    Some(cause.fault())
}

/// Why nothing was obtained.
enum Wanting {
    Trouble(Box<Trouble>),
    /// The call has ended meanwhile.
    Ended(Fault),
}

/// What is to be obtained for a caller.
pub fn needed(server: &Arc<str>, auth: &Arc<Auth>, known: &Known) -> Needed {
    Needed {
        server: Arc::clone(server),
        auth: Arc::clone(auth),
        whom: Whom::of(auth, &known.caller),
        token: if auth.exchanges() { known.token.clone() } else { None },
        refused: None,
        is_last: false,
    }
}

/// Asks control; what comes is kept for the caller's next calls.
async fn ask(
    worker: &Worker,
    slot: usize,
    needed: Needed,
    known: &Known,
) -> Result<Arc<Credential>, Wanting> {
    let auth = Arc::clone(&needed.auth);
    // However long a token service takes, a caller waits no longer for it than twice control's own deadline.
    let answer = worker.question(Asked::Credential(Box::new(needed)), slot, limits::QUESTION_MS).await;
    match (answer, worker.watch.cause(slot)) {
        (Some(Answer::Credential(Ok(credential))), _) => {
            known.credentials.keep(&auth, &credential);
            Ok(credential)
        }
        (Some(Answer::Credential(Err(trouble))), _) => Err(Wanting::Trouble(trouble)),
        (_, Some(cause)) => Err(Wanting::Ended(dispatch::timeout(cause))),
        _ => Err(Wanting::Trouble(Box::new(Trouble::new(Cause::ServiceDown, "no answer in time")))),
    }
}

fn refuse(exchange: &mut Exchange, told: &Told, wanting: Wanting) -> Fault {
    match wanting {
        Wanting::Ended(fault) => fault,
        Wanting::Trouble(trouble) => {
            let server = exchange.record.server;
            refuse_at(exchange, (server.as_str(), told), &trouble)
        }
    }
}

/// A call is refused because of a trouble with this server, whatever endpoint it came to.
pub fn refuse_at(exchange: &mut Exchange, (server, told): (&str, &Told), trouble: &Trouble) -> Fault {
    deny(exchange, server, trouble);
    told.tell(exchange, server, &trouble.detail);
    trouble.fault()
}

fn deny(exchange: &mut Exchange, server: &str, trouble: &Trouble) {
    let rule = format!("mcpServers.{server}.auth");
    let mut denial = Denial { rule, cause: trouble.cause.word(), ..Denial::default() };
    if !trouble.consent_url.is_empty() {
        denial.message = format!(
            "The server behind this endpoint needs your consent first; open {} and repeat the call.",
            trouble.consent_url
        );
        denial.consent_url = trouble.consent_url.to_string();
        denial.elicits = exchange.elicits;
    }
    exchange.deny(denial);
}

impl Told {
    /// Tells the operator why a call was refused, as its denial says; at most once in a while for the same cause.
    fn tell(&self, exchange: &Exchange, server: &str, detail: &str) {
        let cause = exchange.denial.as_ref().map_or("", |denial| denial.cause);
        let now = clock::now();
        if let Some((at, before)) = self.0.get()
            && before == cause
            && now.nanos_since(at) < TELL_INTERVAL_NS
        {
            return;
        }
        self.0.set(Some((now, cause)));
        if cause == Cause::NoConsent.word() {
            tracing::info!(server, cause, "a caller is asked for consent: {detail}");
        } else {
            tracing::warn!(server, cause, "no credential that the server takes: {detail}");
        }
    }
}

/// The credentials of one caller, by the part of the plan that they were made for.
#[derive(Debug, Default)]
pub struct Credentials(std::cell::RefCell<Vec<(Arc<Auth>, Arc<Credential>)>>);

impl Credentials {
    fn find(&self, auth: &Arc<Auth>, now: u64) -> Option<Arc<Credential>> {
        let all = self.0.borrow();
        let (_, found) = all.iter().find(|(known, _)| Arc::ptr_eq(known, auth))?;
        (now < found.fresh_until_unix).then(|| Arc::clone(found))
    }

    fn keep(&self, auth: &Arc<Auth>, credential: &Arc<Credential>) {
        let mut all = self.0.borrow_mut();
        all.retain(|(known, _)| !Arc::ptr_eq(known, auth));
        if all.len() >= limits::CREDENTIALS_PER_CALLER_MAX {
            all.remove(0);
        }
        all.push((Arc::clone(auth), Arc::clone(credential)));
    }
}
