//! Where a call comes in, and what the server behind it speaks: as it is, by another name, or in the words of the other era.
//!
//! Not here: what a call should get there.

use super::Era;
use super::Run;
use super::call::Call;
use super::gateway::Gateway;
use super::line::Line;
use super::script;
use super::upstream;
use super::upstream::upstream;
use serde_json::json;

/// One way to a server of the name `up`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    endpoint: &'static str,
    prefix: &'static str,
    /// The one era that the server speaks; none: both, and nobody opens a session.
    pub server: Option<Era>,
}

/// Where nothing changes on the way.
pub const PLAIN: Place = Place { endpoint: "up", prefix: "", server: None };

impl Run {
    /// All of them: what is true of the first must be of the others.
    pub fn places(self) -> [Place; 4] {
        let [same, other] = match self.era {
            Era::Modern => [Era::Modern, Era::Legacy],
            Era::Legacy => [Era::Legacy, Era::Modern],
        };
        let at = |endpoint, prefix, server| Place { endpoint, prefix, server: Some(server) };
        [PLAIN, at("", "up__", same), at("up", "", other), at("", "up__", other)]
    }
}

impl Place {
    /// At the server's own address, in the words that it speaks: nothing changes on the way but the session.
    pub fn at_its_own(era: Era) -> Self {
        Self { server: Some(era), ..PLAIN }
    }

    /// A server for it, which has resources too, so that its answers are looked through at `/mcp`.
    pub fn upstream(self) -> upstream::Builder {
        let Some(era) = self.server else { return upstream() };
        let none = |list: &'static str| {
            script::script(move |connection, request| {
                let page = json!({list: [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"});
                script::send(connection, &script::plain(200, &script::result(request, &page)))
            })
        };
        let able = upstream().only(era).able(r#"{"tools":{},"resources":{}}"#);
        able.method("resources/list", none("resources"))
            .method("resources/templates/list", none("resourceTemplates"))
    }

    /// What the config says of the server's era.
    pub fn era(self) -> &'static str {
        match self.server {
            None => "era: auto",
            Some(Era::Modern) => "era: modern",
            Some(Era::Legacy) => "era: legacy",
        }
    }

    /// Whether all calls go by one session on the server, and so to one instance.
    pub fn is_bound(self) -> bool {
        self.server == Some(Era::Legacy)
    }

    /// What a tool is called here.
    pub fn name(self, tool: &str) -> String {
        format!("{}{tool}", self.prefix)
    }

    /// A call of a tool, in a session where there are any.
    #[track_caller]
    pub fn call(self, gw: &Gateway, tool: &str) -> Call {
        let call = gw.call(self.endpoint, &self.name(tool));
        if self.server.is_some() { call.in_session() } else { call }
    }

    /// Calls of one tool over one connection.
    #[track_caller]
    pub fn line(self, gw: &Gateway, tool: &str) -> Line {
        Line::new(self.call(gw, tool))
    }
}
