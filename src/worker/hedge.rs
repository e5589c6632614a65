//! Hedging: where an idempotent call is slow to be answered, a copy goes to another instance, and the first answer
//! counts. The other is cancelled.
//!
//! Not here: whether a call may be sent twice at all (`attempt`). What a TLS session has buffered cannot be seen
//! without reading it: of servers with such instances no call is hedged (config).

use crate::base::fault::Fault;
use crate::base::sys::Queue;
use crate::config::traffic::Hedge;
use crate::net::stream::Stream;
use crate::telemetry::family::Family;
use crate::worker::attempt;
use crate::worker::dispatch;
use crate::worker::dispatch::Departure;
use crate::worker::dispatch::Dispatched;
use crate::worker::passage::Way;
use crate::worker::watch::Watch;
use std::pin::pin;
use std::task::Poll;

/// Waits for the first byte of an answer, from the instance that the call went to or from a second one.
///
/// # Errors
/// The call's end while it waits.
pub async fn race(departure: &mut Departure<'_>, first: Dispatched, way: &Way) -> Result<Dispatched, Fault> {
    let (worker, slot) = (departure.worker, departure.client.slot);
    let delay_ms = match way.traffic.retry.hedge {
        Hedge::Off => None,
        Hedge::AfterMs(millis) => Some(millis),
        Hedge::P95 => way.latencies.quantile(95).map(|nanos| nanos.div_ceil(1_000_000)),
    };
    let Some(delay_ms) = delay_ms else { return Ok(first) };
    worker.watch.nudge_at(slot, worker.coarse_now().plus_millis(delay_ms));
    let late = first_of(&worker.watch, slot, [Some(&first.lease.stream), None]).await.is_none();
    if !late || worker.watch.cause(slot).is_some() || !way.budget.take() {
        return Ok(first);
    }
    let passage = departure.exchange.passage.take();
    attempt::take_head_back(departure.client, departure.exchange);
    let began = departure.exchange.upstream_began;
    let second = departure.send().await.ok();
    let winner = match &second {
        Some(second) => {
            departure.exchange.repeats += 1;
            worker.metrics().count(Family::Retries, &[&way.server, "hedged"], 1);
            faster(&worker.watch, slot, [&first.lease.stream, &second.lease.stream]).await
        }
        None => {
            // Nobody else takes it: the first goes on.
            way.budget.give_back();
            departure.exchange.denial = None;
            0
        }
    };
    let (winner, loser) = match (winner, second) {
        (1, Some(second)) => (second, Some(first)),
        (_, second) => {
            departure.exchange.passage = passage;
            departure.exchange.upstream_began = began;
            (first, second)
        }
    };
    if let Some(loser) = loser {
        loser.lease.close();
    }
    if let Some(cause) = worker.watch.cause(slot) {
        // The watch shut down one of two connections, and shuts no other down for this call.
        worker.watch.upstream(slot, None);
        winner.lease.close();
        return Err(dispatch::timeout(cause));
    }
    worker.watch.upstream(slot, Some(winner.lease.stream.fd()));
    Ok(winner)
}

/// Which of two streams is answered first; any where the call ends meanwhile.
async fn faster(watch: &Watch, slot: usize, streams: [&Stream; 2]) -> usize {
    loop {
        if let Some(winner) = first_of(watch, slot, streams.map(Some)).await {
            return winner;
        }
        if watch.cause(slot).is_some() {
            return 0;
        }
    }
}

/// Which of the streams has something to read; none where the watch nudged first. A connection that was closed without
/// an answer wins only where no other is left.
async fn first_of(watch: &Watch, slot: usize, streams: [Option<&Stream>; 2]) -> Option<usize> {
    let mut came = streams.map(|stream| if stream.is_some() { Came::NotYet } else { Came::End });
    let [first, second] = streams;
    let mut first = pin!(arrival(first));
    let mut second = pin!(arrival(second));
    std::future::poll_fn(|cx| {
        for (came, wait) in came.iter_mut().zip([first.as_mut(), second.as_mut()]) {
            if *came == Came::NotYet
                && let Poll::Ready(what) = wait.poll(cx)
            {
                *came = what;
            }
        }
        if let Some(winner) = came.iter().position(|came| *came == Came::Bytes) {
            return Poll::Ready(Some(winner));
        }
        if came == [Came::End; 2] {
            return Poll::Ready(Some(0));
        }
        if watch.poll_nudge(slot, cx.waker()) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    NotYet,
    Bytes,
    End,
}

async fn arrival(stream: Option<&Stream>) -> Came {
    let Some(stream) = stream else { return Came::End };
    match stream.readable().await {
        Ok(()) if stream.queue() != Queue::Closed => Came::Bytes,
        _ => Came::End,
    }
}
