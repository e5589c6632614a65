//! Agents: principals with an API key each, and their connections over which calls follow one another.
//!
//! Not here: bytes (call, client), and what an agent may do.

use super::call::Call;
use super::client::Answer;
use super::client::Client;
use super::gateway::Builder;
use super::gateway::Gateway;
use super::gateway::binary;
use super::line::Line;
use super::upstream::Upstream;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

impl Builder {
    /// Lets these principals in, each with a key of its own, and nobody else.
    #[must_use]
    pub fn agents(self, principals: &[&str]) -> Self {
        let without = principals.iter().map(|principal| (*principal, "")).collect::<Vec<_>>();
        self.agents_with_roles(&without)
    }

    /// The same, each with roles (names between commas, or none).
    #[must_use]
    pub fn agents_with_roles(mut self, agents: &[(&str, &str)]) -> Self {
        let file = self.folder.path().join("keys.yaml");
        for (principal, roles) in agents {
            let mut command = Command::new(binary());
            command.args(["key", "add", "--principal", principal, "--file"]).arg(&file);
            if !roles.is_empty() {
                command.args(["--roles", roles]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            self.keys.push(((*principal).into(), text.trim_end().lines().last().unwrap().into()));
        }
        self.top("identity: {apiKeys: {file: keys.yaml}}")
    }
}

impl Gateway {
    /// A connection of that agent, in a session where the era has them.
    #[track_caller]
    pub fn agent(&self, principal: &str, server: &str) -> Caller {
        Caller::new(self.keyed(principal, self.call(server, "")))
    }

    /// A connection of a caller without identity.
    #[track_caller]
    pub fn caller(&self, server: &str) -> Caller {
        Caller::new(self.call(server, ""))
    }

    /// The call with the key of that agent.
    #[track_caller]
    pub fn keyed(&self, principal: &str, call: Call) -> Call {
        let (_, key) = self.builder.keys.iter().find(|(name, _)| name == principal).unwrap();
        call.field(format!("X-API-Key: {key}"))
    }
}

/// Who calls one server over one connection.
pub struct Caller(Line);

impl Caller {
    #[track_caller]
    pub fn new(like: Call) -> Self {
        Self(Line::new(like.in_session()))
    }

    /// Another connection, in the same session.
    pub fn beside(&self) -> Self {
        Self(Line::new(self.0.next()))
    }

    /// Another connection from another address of this machine, in the same session.
    pub fn beside_from(&self, source: [u8; 4]) -> Self {
        let like = self.0.next();
        let client = Client::connect_from(source, like.address);
        Self(Line::over(like, client))
    }

    /// The next call of a tool.
    pub fn tool(&self, name: &str) -> Call {
        Call { name: Some(name.into()), ..self.0.next() }
    }

    /// The next request of another method.
    pub fn request(&self, method: &str) -> Call {
        Call { name: None, method: method.into(), ..self.0.next() }
    }

    #[track_caller]
    pub fn send(&mut self, call: &Call) -> Answer {
        self.0.make(call).unwrap_or_else(|broken| panic!("{broken:?}"))
    }

    /// Calls the tool, which must be served.
    #[track_caller]
    pub fn passes(&mut self, tool: &str) -> Answer {
        let call = self.tool(tool);
        let answer = self.send(&call);
        assert!(answer.status == 200 && answer.code() == 0, "{answer:?}");
        answer
    }

    /// Sends the call, which must be refused by that limit, and of which the upstream must see nothing.
    #[track_caller]
    pub fn refused(&mut self, up: &Upstream, call: &Call, rule: &str) -> Answer {
        let answer = self.send(call);
        answer.limited(rule);
        assert_eq!(answer.json()["id"].to_string(), call.id, "another's id: {answer:?}");
        assert_eq!(up.mentions(&call.token), 0, "reached the upstream");
        answer
    }

    /// Calls the tool until that limit refuses; nothing of the refused call may reach the upstream.
    #[track_caller]
    pub fn exhaust(&mut self, up: &Upstream, tool: &str, rule: &str) -> Spent {
        let start = Instant::now();
        for passed in 0..CALLS_MAX {
            let call = self.tool(tool);
            let answer = self.send(&call);
            if answer.status == 200 {
                up.once(&call.token);
                continue;
            }
            answer.limited(rule);
            assert_eq!(up.mentions(&call.token), 0, "reached the upstream");
            return Spent { passed, start, end: Instant::now(), refusal: answer };
        }
        panic!("{CALLS_MAX} calls, and {rule} never refused");
    }
}

/// More than any limit of the tests lets through before it refuses.
const CALLS_MAX: u64 = 2_000;

/// What passed before the first refusal.
#[derive(Debug)]
pub struct Spent {
    pub passed: u64,
    /// Before the first call.
    pub start: Instant,
    /// After the refusal.
    pub end: Instant,
    pub refusal: Answer,
}

impl Spent {
    /// Together with what passed since that earlier moment.
    #[must_use]
    pub fn with(self, passed: u64, start: Instant) -> Self {
        Self { passed: passed + self.passed, start, ..self }
    }

    /// Exactly the burst, and one more for each whole `every` that the calls took.
    #[track_caller]
    pub fn is(&self, burst: u64, every: Duration) {
        let took = self.end.duration_since(self.start);
        let back = u64::try_from(took.as_nanos() / every.as_nanos()).unwrap();
        assert!((burst..=burst + back).contains(&self.passed), "{burst} and {back} back, not {self:?}");
    }
}
