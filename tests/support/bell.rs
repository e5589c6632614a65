//! A scripted server's streams of changes, in both eras, on which the test rings.
//!
//! Not here: what has changed (shelf), and who wants to know.

use super::call::MODERN;
use super::eventually;
use super::script;
use super::script::Script;
use super::upstream::Builder;
use super::upstream::Connection;
use super::upstream::Next;
use serde_json::Value;
use serde_json::json;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;

/// All streams of a server.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<Rung>, Condvar)>);

#[derive(Default)]
struct Rung {
    /// Whole messages.
    notes: Vec<Value>,
    open: usize,
    ever: usize,
}

impl Bell {
    /// Tells every stream that is open, or is opened before long, of a change.
    pub fn ring(&self, method: &str, params: Value) {
        self.say(json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Asks something on every such stream.
    pub fn ask(&self, id: Value, method: &str) {
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}));
    }

    fn say(&self, message: Value) {
        eventually("somebody listens", || self.open() > 0);
        self.0.0.lock().unwrap().notes.push(message);
        self.0.1.notify_all();
    }

    pub fn open(&self) -> usize {
        self.0.0.lock().unwrap().open
    }

    /// Streams that were ever opened.
    pub fn ever(&self) -> usize {
        self.0.0.lock().unwrap().ever
    }

    fn script(&self) -> Script {
        let bell = self.clone();
        script::script(move |connection, request| {
            let is_modern = request.head.field("mcp-protocol-version") == Some(MODERN);
            let id: Value = serde_json::from_str(request.envelope().raw_id()).unwrap();
            let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
            // Who is told that it listens misses nothing from then on.
            let mut told = {
                let mut rung = bell.0.0.lock().unwrap();
                rung.open += 1;
                rung.ever += 1;
                rung.notes.len()
            };
            connection.send(script::STREAM);
            if is_modern {
                let params = json!({"notifications": {}, "_meta": meta});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params});
                connection.send(&script::event(&note.to_string()));
            }
            while !is_gone(connection) {
                let new: Vec<Value> = {
                    let rung = bell.0.0.lock().unwrap();
                    let pause = Duration::from_millis(20);
                    let (rung, _) =
                        bell.0.1.wait_timeout_while(rung, pause, |rung| rung.notes.len() == told).unwrap();
                    rung.notes[told..].to_vec()
                };
                told += new.len();
                for mut note in new {
                    if is_modern {
                        note["params"]["_meta"] = meta.clone();
                    }
                    connection.send(&script::event(&note.to_string()));
                }
            }
            bell.0.0.lock().unwrap().open -= 1;
            Next::Close
        })
    }
}

/// Whether the other side has closed.
fn is_gone(connection: &Connection) -> bool {
    // MSG_PEEK | MSG_DONTWAIT
    let seen = socket2::SockRef::from(&connection.tcp).recv_with_flags(&mut [MaybeUninit::uninit()], 0x42);
    match seen {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

impl Builder {
    /// Streams its changes.
    #[must_use]
    pub fn rings(self, bell: &Bell) -> Self {
        let subscribed = script::script(|connection, request| {
            script::send(connection, &script::plain(200, &script::result(request, &json!({}))))
        });
        self.method("subscriptions/listen", bell.script())
            .get(bell.script())
            .method("resources/subscribe", Arc::clone(&subscribed))
            .method("resources/unsubscribe", subscribed)
    }
}
