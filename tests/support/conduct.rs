//! How a scripted server conducts itself over time: as the call's argument says, as a dial stands, or as the test
//! decides at that very moment.
//!
//! Not here: single answers (script).

use super::Gate;
use super::PATIENCE;
use super::pace;
use super::script;
use super::script::Script;
use super::upstream::Next;
use super::upstream::Received;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

/// A number that a test turns while scripts read it.
#[derive(Clone, Default)]
pub struct Dial(Arc<AtomicU64>);

impl Dial {
    pub fn at(value: u64) -> Self {
        let dial = Self::default();
        dial.turn(value);
        dial
    }

    pub fn turn(&self, value: u64) {
        self.0.store(value, SeqCst);
    }

    pub fn value(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// What the call's argument (`params.arguments.x`) says; empty where it is no text.
pub fn asked(request: &Received) -> String {
    let arguments = request.envelope().params.arguments;
    let parsed = arguments.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    parsed.and_then(|value| value["x"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// Does what the call asks for: a status (`500`), `error -32603`, `isError`, `error in a stream`, `hang up`, `silence`,
/// `stall` (a head, then silence), `cut`, `half a head`, `half a stream`, `slow` (200 ms), `wait` (for `gate`), or else the echo.
pub fn obedient(gate: &Gate) -> Script {
    let gate = gate.clone();
    script::script(move |connection, request| {
        let wish = asked(request);
        match wish.as_str() {
            "hang up" => return Next::Close,
            "silence" | "stall" => {
                if wish == "stall" {
                    connection.send(script::STREAM);
                }
                connection.until_gone();
                return Next::Close;
            }
            "cut" => {
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\"");
                return Next::Close;
            }
            "half a head" => {
                connection.send(b"HTTP/1.1 200 O");
                return Next::Close;
            }
            "half a stream" => {
                connection.send(&[script::STREAM, &script::progress(1)].concat());
                return Next::Close;
            }
            "isError" => {
                let content = json!([{"type": "text", "text": "no such order"}]);
                let failed = json!({"content": content, "isError": true, "resultType": "complete"});
                return script::send(connection, &script::plain(200, &script::result(request, &failed)));
            }
            "error in a stream" => {
                let id = request.envelope();
                let error = format!(
                    r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32603,"message":"inside"}}}}"#,
                    id.raw_id()
                );
                connection.send(script::STREAM);
                return script::send(
                    connection,
                    &[script::event(&error), script::LAST_CHUNK.into()].concat(),
                );
            }
            "slow" => pace(Duration::from_millis(200)),
            "wait" => assert!(gate.wait(), "nobody opened"),
            _ => {}
        }
        if let Some(code) = wish.strip_prefix("error ") {
            return script::error(connection, request, code.parse().unwrap(), "inside");
        }
        match wish.parse() {
            Ok(status) => script::send(connection, &script::plain(status, "")),
            Err(_) => script::send(connection, &script::plain(200, &script::echo_result(request))),
        }
    })
}

/// The echo after as many milliseconds as the dial says.
pub fn delayed(millis: &Dial) -> Script {
    Inside::default().delayed(millis)
}

/// 500 while the dial stands at 1, else what `well` does.
pub fn sick_at_1(dial: &Dial, well: Script) -> Script {
    let dial = dial.clone();
    script::script(move |connection, request| match dial.value() {
        1 => script::send(connection, &script::plain(500, "")),
        _ => well(connection, request),
    })
}

/// What a server of either era answers to a probe: a result.
pub fn alive() -> Script {
    script::script(|connection, request| match request.envelope().method.as_str() {
        "server/discover" => script::discover(connection, request, r#"{"tools":{}}"#),
        _ => script::send(connection, &script::plain(200, &script::result(request, &json!({})))),
    })
}

/// The test's end of `on_trial`.
pub struct Trial {
    came: mpsc::Receiver<Instant>,
    verdict: mpsc::Sender<bool>,
}

impl Trial {
    /// Waits until the next request is there; when it came. Whatever came before it has been dealt with.
    #[track_caller]
    pub fn next(&self) -> Instant {
        self.came.recv_timeout(PATIENCE).expect("no further request")
    }

    /// Answers it.
    pub fn answer(&self, alive: bool) {
        self.verdict.send(alive).unwrap();
    }
}

/// A script whose every answer is the test's: a result or a 500. Once the test has gone it answers results.
pub fn on_trial() -> (Script, Trial) {
    let (tell, came) = mpsc::sync_channel(1000);
    let (verdict, verdicts) = mpsc::channel();
    let verdicts = Mutex::new(verdicts);
    let well = alive();
    let script = script::script(move |connection, request| {
        let _ = tell.send(Instant::now());
        if verdicts.lock().unwrap().recv().unwrap_or(true) {
            well(connection, request)
        } else {
            script::send(connection, &script::plain(500, ""))
        }
    });
    (script, Trial { came, verdict })
}

/// How many calls are inside a script at once, and the most that ever were.
#[derive(Clone, Default)]
pub struct Inside(Arc<(AtomicUsize, AtomicUsize)>);

impl Inside {
    pub fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    /// Counts who is inside `script`, and perhaps whoever was answered a moment ago.
    pub fn of(&self, script: Script) -> Script {
        let count = self.clone();
        script::script(move |connection, request| {
            count.enter();
            let next = script(connection, request);
            count.leave();
            next
        })
    }

    /// [`delayed`], counted until before the answer: with it somebody else may come in while this thread does not run.
    pub fn delayed(&self, millis: &Dial) -> Script {
        let (count, millis) = (self.clone(), millis.clone());
        script::script(move |connection, request| {
            count.enter();
            pace(Duration::from_millis(millis.value()));
            count.leave();
            script::send(connection, &script::plain(200, &script::echo_result(request)))
        })
    }

    fn enter(&self) {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}
