//! A scripted server of the older revisions that asks its client something in the midst of a call, and keeps the events
//! of its streams, so that they can be asked for again.
//!
//! Not here: what the gateway makes of it.

use super::PATIENCE;
use super::call::chunk;
use super::pace;
use super::script;
use super::script::Script;
use super::upstream::Builder;
use super::upstream::Received;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Its memory: the answers that came, and the results that wait to be fetched.
#[derive(Clone, Default)]
pub struct Asker(Arc<(Mutex<Memory>, Condvar)>);

#[derive(Default)]
struct Memory {
    begun: usize,
    /// Its events have no ids.
    nameless: bool,
    /// Answers by the id of their question, whole messages.
    answers: HashMap<String, Value>,
    /// The last event of each call.
    results: HashMap<usize, String>,
}

fn event(id: &str, data: &str) -> Vec<u8> {
    chunk(format!("id: {id}\nevent: message\ndata: {data}\n\n").as_bytes())
}

impl Asker {
    /// One whose events have no ids, so that none of its streams can be asked for again.
    pub fn nameless() -> Self {
        let asker = Self::default();
        asker.change(|memory| memory.nameless = true);
        asker
    }

    /// How many calls began.
    pub fn begun(&self) -> usize {
        self.0.0.lock().unwrap().begun
    }

    /// All answers that came, in no order.
    pub fn answers(&self) -> Vec<Value> {
        self.0.0.lock().unwrap().answers.values().cloned().collect()
    }

    /// A tool that puts these questions, each a method and its params, and then tells the answers as its text.
    pub fn tool(&self, questions: &'static [(&'static str, &'static str)]) -> Script {
        let asker = self.clone();
        script::script(move |connection, request| {
            let (number, nameless) = asker.change(|memory| {
                memory.begun += 1;
                (memory.begun, memory.nameless)
            });
            let event = |id: &str, data: &str| if nameless { script::event(data) } else { event(id, data) };
            let ids: Vec<String> = (0..questions.len()).map(|at| format!("q-{number}-{at}")).collect();
            connection.send(script::STREAM);
            for (id, (method, params)) in ids.iter().zip(questions) {
                let ask = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params}}}"#);
                connection.send(&event(&format!("e-{number}-{id}"), &ask));
            }
            let Some(answers) = asker.wait(|memory| {
                ids.iter().map(|id| memory.answers.get(id).cloned()).collect::<Option<Vec<_>>>()
            }) else {
                return super::upstream::Next::Close;
            };
            let told: Vec<&Value> = answers.iter().map(|answer| &answer["result"]).collect();
            let text = serde_json::to_string(&told).unwrap();
            let result = script::result(
                request,
                &json!({"content": [{"type": "text", "text": text}], "isError": false}),
            );
            asker.change(|memory| memory.results.insert(number, result.clone()));
            connection.send(&event(&format!("e-{number}-last"), &result));
            script::send(connection, script::LAST_CHUNK)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        let value = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        value
    }

    fn wait<T>(&self, ready: impl Fn(&Memory) -> Option<T>) -> Option<T> {
        let memory = self.0.0.lock().unwrap();
        let wait = self.0.1.wait_timeout_while(memory, PATIENCE, |memory| ready(memory).is_none());
        ready(&wait.unwrap().0)
    }

    /// Takes an answer.
    fn hear(&self) -> Script {
        let asker = self.clone();
        script::script(move |connection, request| {
            let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            if let Some(id) = message["id"].as_str() {
                asker.change(|memory| drop(memory.answers.insert(id.to_owned(), message.clone())));
            }
            script::send(connection, &script::plain(202, ""))
        })
    }

    /// The stream behind an event: the result, once it is there.
    fn replay(&self) -> Script {
        let asker = self.clone();
        script::script(move |connection, request| {
            let Some(number) = number_of(request) else { return script::silent_stream(connection, request) };
            connection.send(script::STREAM);
            let Some(result) = asker.wait(|memory| memory.results.get(&number).cloned()) else {
                return super::upstream::Next::Close;
            };
            connection.send(&event(&format!("e-{number}-last"), &result));
            script::send(connection, script::LAST_CHUNK)
        })
    }
}

/// The call of the event that a stream goes on behind.
fn number_of(request: &Received) -> Option<usize> {
    request.head.field("last-event-id")?.strip_prefix("e-")?.split('-').next()?.parse().ok()
}

impl Builder {
    /// The same, but refuses the first of its streams: it has not seen yet that the one before was closed.
    #[must_use]
    pub fn asks_late(self, asker: &Asker) -> Self {
        let (replay, busy) = (asker.replay(), AtomicBool::new(true));
        let late = script::script(move |connection, request| {
            if request.head.field("last-event-id").is_some() && busy.swap(false, SeqCst) {
                return script::send(connection, &script::plain(409, r#"{"error":"busy"}"#));
            }
            replay(connection, request)
        });
        self.method("", asker.hear()).get(late)
    }

    /// The same, but so many of its streams, of which it counts all, say nothing but that they are there.
    #[must_use]
    pub fn asks_alive(self, asker: &Asker, dead: usize, streams: &Arc<AtomicUsize>) -> Self {
        let (replay, streams) = (asker.replay(), Arc::clone(streams));
        let alive = script::script(move |connection, request| {
            if number_of(request).is_none() || streams.fetch_add(1, SeqCst) >= dead {
                return replay(connection, request);
            }
            connection.send(script::STREAM);
            // Shorter than any silence that counts.
            while connection.send(&chunk(b": alive\n\n")) {
                pace(Duration::from_millis(10));
            }
            super::upstream::Next::Close
        });
        self.method("", asker.hear()).get(alive)
    }

    /// Hears answers and gives streams again.
    #[must_use]
    pub fn asks(self, asker: &Asker) -> Self {
        self.method("", asker.hear()).get(asker.replay())
    }
}
