//! `demo --traffic`: two sample agents that call a few tools a second, so that metrics and log move.
//!
//! Plain threads and blocking sockets: the demo's load must not live on a runtime of the gateway.
//!
//! Not here: a measurement. The crate `loadtest` measures.

use crate::cli::demo::calls::Call;
use crate::cli::demo::calls::Caller;
use crate::cli::demo::client::Client;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two calls of one agent: about three calls a second from each.
const PAUSE: Duration = Duration::from_millis(300);
/// After a failed connection, such as during a drain.
const RETRY: Duration = Duration::from_secs(1);
/// Longer than any call of the rounds below takes.
const SILENCE: Duration = Duration::from_secs(10);

/// The agents' keys.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) support: String,
    pub(super) operations: String,
}

/// The running load. Dropping it ends it; a call in progress is finished first.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    agents: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(gateway: SocketAddr, keys: &Keys) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut traffic = Self { stop: Arc::clone(&stop), agents: Vec::new() };
        let rounds: [(&str, &str, Round); 2] = [
            ("support-agent", &keys.support, support_round),
            ("ops-agent", &keys.operations, operations_round),
        ];
        for (name, key, round) in rounds {
            let agent = Agent { gateway, key: key.to_owned(), stop: Arc::clone(&stop), next_id: 0 };
            let thread =
                std::thread::Builder::new().name(name.to_owned()).spawn(move || agent.live(round))?;
            traffic.agents.push(thread);
        }
        Ok(traffic)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for agent in self.agents.drain(..) {
            agent.thread().unpark();
            // A panic of the thread was printed; the demo ends all the same.
            let _ = agent.join();
        }
    }
}

type Round = fn(&mut Agent, &mut Client<TcpStream>) -> io::Result<()>;

struct Agent {
    gateway: SocketAddr,
    key: String,
    stop: Arc<AtomicBool>,
    next_id: u64,
}

impl Agent {
    fn live(mut self, round: Round) {
        while !self.stopped() {
            let done = self.connect().and_then(|mut client| round(&mut self, &mut client));
            if done.is_err() {
                self.pause(RETRY);
            }
        }
    }

    fn connect(&self) -> io::Result<Client<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.gateway, RETRY)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Client::new(stream, &self.gateway.to_string()))
    }

    fn caller(&self, server: &str) -> Caller {
        Caller { target: format!("/mcp/{server}"), key: Some(self.key.clone()) }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Ends early when the load is stopped.
    fn pause(&self, how_long: Duration) {
        if !self.stopped() {
            std::thread::park_timeout(how_long);
        }
    }
}

/// The support agent speaks revision 2026-07-28 and calls both servers.
fn support_round(agent: &mut Agent, client: &mut Client<TcpStream>) -> io::Result<()> {
    let shop = agent.caller("shop");
    let operations = agent.caller("operations");
    let calls = [
        (&shop, Call::plain("tools/list")),
        (&shop, Call::tool("search_orders", json!({ "query": "tent" }))),
        (&shop, Call::tool("order_status", json!({ "order_id": "FO-1002" }))),
        (&shop, Call::tool("track_parcel", json!({ "order_id": "FO-1002" }))),
        (&shop, Call::resource("shop://policies/refunds")),
        (&shop, Call::tool("issue_refund", json!({ "order_id": "FO-1003", "amount_cents": 3_600 }))),
        // More than an agent may: the tool says no.
        (&shop, Call::tool("issue_refund", json!({ "order_id": "FO-1002", "amount_cents": 34_900 }))),
        (&shop, Call::prompt("reply_to_customer", json!({ "order_id": "FO-1002" }))),
        (&shop, Call::tool("export_report", json!({ "bytes": 262_144 }))),
        (&operations, Call::tool("list_services", json!({}))),
    ];
    for (caller, call) in calls {
        if agent.stopped() {
            break;
        }
        let id = agent.id();
        client.call(&caller.modern(id, &call))?;
        agent.pause(PAUSE);
    }
    Ok(())
}

/// The operations agent is an older client: a session, in it a slow call, a stream and an error.
fn operations_round(agent: &mut Agent, client: &mut Client<TcpStream>) -> io::Result<()> {
    let operations = agent.caller("operations");
    let id = agent.id();
    let opened = client.call(&operations.initialize(id))?;
    let session = opened.head.field("mcp-session-id").map(str::to_owned);
    let session = session.ok_or_else(|| io::Error::other("no session was opened"))?;
    client.call(&operations.initialized(&session))?;
    let backup = json!({ "database": "orders", "steps": 5, "step_ms": 100 });
    let calls = [
        Call::plain("tools/list"),
        Call::tool("list_services", json!({})),
        Call::tool("run_backup", backup).with_progress(agent.id()),
        Call::tool("slow_query", json!({ "sql": "select count(*) from parcels", "delay_ms": 700 })),
        Call::tool("restart_service", json!({ "service": "mailer" })),
        // No such service: an error of the protocol.
        Call::tool("restart_service", json!({ "service": "coffee" })),
    ];
    for call in calls {
        if agent.stopped() {
            break;
        }
        let id = agent.id();
        client.call(&operations.legacy(&session, id, &call))?;
        agent.pause(PAUSE);
    }
    client.call(&operations.delete(&session))?;
    Ok(())
}
