//! What the gateway answers by itself on the clients' listeners: documents, not calls.
//!
//! Not here: what stands in them.

use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::http::request::Framing;
use crate::http::request::Method;
use crate::http::request::RequestHead;
use crate::http::write;
use crate::policy::resource;
use crate::worker::Worker;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;

/// A document, and how it is served.
pub struct Page {
    status: u16,
    content_type: &'static str,
    body: String,
}

/// The page at a path, if there is one.
pub fn find(plan: &Plan, path: &str) -> Option<Page> {
    let body = resource::metadata(plan, resource::endpoint(path)?)?;
    Some(Page { status: 200, content_type: "application/json", body })
}

/// Pages are read, whole and by everybody.
///
/// # Errors
/// 405 for what does not read, 400 for a request with a body.
pub fn check(head: &RequestHead) -> Result<(), Fault> {
    if !matches!(head.method, Method::Get | Method::Head) {
        return Err(Fault::new(Kind::MethodNotAllowed, "This document is only read: send a GET."));
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(Fault::new(Kind::Malformed, "GET carries no body here."));
    }
    Ok(())
}

/// Takes what a token service sends back through the caller's browser, and says what became of it.
///
/// # Errors
/// 405 for a HEAD, which must change nothing; 503 where control does not answer.
pub async fn callback(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    head: RequestHead,
) -> Result<After, Fault> {
    if head.method != Method::Get {
        return Err(Fault::new(Kind::MethodNotAllowed, "Come back with a GET."));
    }
    let target = head.target.of(&client.input[client.start..client.end]);
    let query = target.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
    let query = Secret(String::from_utf8_lossy(query).into());
    let consent = worker.question(Asked::Consent { query }, client.slot, limits::QUESTION_MS).await;
    let (status, body) = match consent {
        Some(Answer::Consent(Ok(()))) => {
            (200, "Done: your consent is kept. Go back to your agent and repeat the call.")
        }
        Some(Answer::Consent(Err(unwelcome))) => (400, unwelcome),
        _ => {
            return Err(Fault::new(
                Kind::Overloaded,
                "The consent could not be taken in time; call the tool again.",
            ));
        }
    };
    let page = Page { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") };
    Ok(answer(worker, client, exchange, head, page).await)
}

/// Sends a page.
pub async fn answer(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    head: RequestHead,
    page: Page,
) -> After {
    exchange.begun = clock::now();
    exchange.record.status = page.status;
    exchange.record.bytes_out = page.body.len() as u64;
    let close = !head.keep_alive || worker.is_draining();
    let out = &mut exchange.out;
    out.clear();
    write::status_line(out, page.status);
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(page.content_type.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(page.body.len()).as_bytes());
    out.extend_from_slice(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    if head.method != Method::Head {
        out.extend_from_slice(page.body.as_bytes());
    }
    let now = clock::now();
    let stall = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
    worker.watch.enter(client.slot, Phase::Client, now, stall);
    exchange.answered = true;
    if client.stream.write_all(&exchange.out).await.is_err() {
        return After::Close;
    }
    client.advance(client.start + head.len as usize);
    if close { After::Linger } else { After::Keep }
}
