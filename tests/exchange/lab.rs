//! A bench for tables of malformed and odd requests: one gateway, one upstream, many connections.
//!
//! Not here: the tables (framing, connection, json, headers, limits).

use crate::support::Run;
use crate::support::call::Raw;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;

/// A gateway with one worker, so that a call after the others proves that these were dealt with.
pub struct Lab {
    pub up: Upstream,
    pub gw: Gateway,
}

/// The parts of one malformed request.
pub struct Parts {
    /// A call that would be served.
    pub good: Raw,
    /// Its token.
    pub token: String,
    /// A whole second request to hide in a body, and its token.
    pub hidden: Vec<u8>,
    pub hidden_token: String,
    pub host: String,
}

impl Parts {
    pub fn body(&self) -> Vec<u8> {
        self.good.body.clone()
    }
}

/// Name, what is wrong, and the statuses of which one is the answer. 0: it may close without one.
pub struct Row(pub &'static str, pub &'static [u8], pub &'static [u16]);

/// Runs every row on every driver: refused with one of its statuses, closed, nothing at the upstream.
pub fn refuse(rows: &[Row], build: impl Fn(&Parts, &[u8]) -> Vec<u8>) {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for Row(name, bytes, statuses) in rows {
            let parts = lab.parts();
            let wire = build(&parts, bytes);
            lab.closed(name, &parts, &wire, statuses);
        }
        lab.finish();
    });
}

impl Lab {
    pub fn new(run: Run) -> Self {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        Self { up, gw }
    }

    pub fn parts(&self) -> Parts {
        let (good, hidden) = (self.gw.modern("up", "echo"), self.gw.modern("up", "echo"));
        Parts {
            good: good.raw(),
            token: good.token,
            hidden: hidden.raw().bytes(),
            hidden_token: hidden.token,
            host: self.gw.address.to_string(),
        }
    }

    /// Refused with one of these statuses, nothing at the upstream; the answer.
    #[track_caller]
    pub fn refused(&self, name: &str, parts: &Parts, wire: &[u8], statuses: &[u16]) -> Answer {
        let (_, answer) = self.judged(name, parts, wire, statuses);
        answer.unwrap_or_else(|| panic!("{name}: closed without an answer"))
    }

    /// As `refused`, and the connection is over: no second answer, no further request.
    #[track_caller]
    pub fn closed(&self, name: &str, parts: &Parts, wire: &[u8], statuses: &[u16]) -> Option<Answer> {
        let (mut client, answer) = self.judged(name, parts, wire, statuses);
        let answer = answer?;
        // A path or method that is not served is no framing error: the connection may live.
        let lives = [403, 404, 405, 421].contains(&answer.status);
        assert!(lives || answer.head.says_close(), "{name}: no Connection: close in {answer:?}");
        if lives {
            client.half_close();
        }
        assert!(client.is_closed(), "{name}: still open, or a second answer");
        for token in [&parts.token, &parts.hidden_token] {
            assert_eq!(self.up.mentions(token), 0, "{name}: reached the upstream");
        }
        Some(answer)
    }

    fn judged(&self, name: &str, parts: &Parts, wire: &[u8], statuses: &[u16]) -> (Client, Option<Answer>) {
        let mut client = self.gw.client();
        let answer = match client.talk(wire) {
            Ok(answer) => answer,
            Err(Broken::Closed | Broken::Reset(_)) if statuses.contains(&0) => return (client, None),
            Err(broken) => panic!("{name}: {broken:?}"),
        };
        assert!(statuses.contains(&answer.status), "{name}: {answer:?}");
        assert_ne!(answer.code(), 0, "{name}: no JSON-RPC error in {answer:?}");
        for token in [&parts.token, &parts.hidden_token] {
            assert_eq!(self.up.mentions(token), 0, "{name}: reached the upstream");
        }
        (client, Some(answer))
    }

    /// Served, once, byte for byte.
    #[track_caller]
    pub fn kept(&self, name: &str, raw: &Raw, token: &str) -> Answer {
        let answer =
            self.gw.client().talk(&raw.bytes()).unwrap_or_else(|broken| panic!("{name}: {broken:?}"));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert!(self.up.once(token).body == raw.body, "{name}: the body changed");
        answer
    }

    /// A plain call is still served, and nothing but what was kept ever arrived.
    #[track_caller]
    pub fn finish(self) {
        let call = self.gw.modern("up", "echo");
        let token = call.token.clone();
        assert_eq!(call.send().status, 200);
        self.up.once(&token);
    }
}
