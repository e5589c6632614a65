//! What the gateway answers to a call by itself, whole and at once.
//!
//! Not here: refusals (`refuse`), documents (`pages`), streams (`outlet`).

use crate::base::clock;
use crate::base::fault::Fault;
use crate::http::write;
use crate::mcp::envelope;
use crate::worker::Worker;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::outlet;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;

/// A message of JSON-RPC that answers the call: `result` is raw JSON.
pub async fn result(worker: &Worker, client: &mut Client, exchange: &mut Exchange, result: &str) -> After {
    exchange.facts.has_result = true;
    let id = id(client, exchange);
    let body = [br#"{"jsonrpc":"2.0","id":"#, &*id, br#","result":"#, result.as_bytes(), b"}"].concat();
    json(worker, client, exchange, 200, &body).await
}

/// The caller's id, as it was written.
pub fn id(client: &Client, exchange: &Exchange) -> Vec<u8> {
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let id = envelope::raw_id(body).and_then(|at| body.get(at));
    // A request has one: the envelope was checked.
    id.unwrap_or(b"0").to_vec()
}

/// A notification, or an answer of a client, was taken.
pub async fn accepted(worker: &Worker, client: &mut Client, exchange: &mut Exchange) -> After {
    json(worker, client, exchange, 202, b"").await
}

/// An answer with this body; none without a type.
pub async fn json(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    status: u16,
    body: &[u8],
) -> After {
    exchange.record.status = status;
    exchange.record.bytes_out = body.len() as u64;
    let keep = exchange.head.is_some_and(|head| head.keep_alive) && !worker.is_draining();
    let own = clock::now().nanos_since(exchange.begun).saturating_sub(exchange.waited_ns);
    let out = &mut exchange.out;
    out.clear();
    write::status_line(out, status);
    if !body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/json\r\n");
    }
    out.extend_from_slice(&exchange.own_lines);
    write::server_timing(out, own);
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(if keep { b"\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" });
    out.extend_from_slice(body);
    let now = clock::now();
    let stall = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
    worker.watch.enter(client.slot, Phase::Client, now, stall);
    exchange.answered = true;
    if client.stream.write_all(&exchange.out).await.is_err() {
        exchange.fault = Some(GONE);
        return After::Close;
    }
    if let Some(next) = exchange.next.take() {
        client.advance(next);
        exchange.moved_on = true;
    }
    if keep { After::Keep } else { After::Linger }
}

/// What the client of a server is asked once more, instead of the server's answer: a fault that was to cut that cuts this.
///
/// # Errors
/// The cut.
pub async fn asked_again(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    message: &[u8],
) -> Result<After, Fault> {
    if exchange.cut_answer {
        exchange.answered = true;
        return Err(outlet::CUT);
    }
    Ok(json(worker, client, exchange, 200, message).await)
}

const GONE: Fault =
    Fault::new(crate::base::fault::Kind::ClientGone, "The client left before the answer was whole.");
