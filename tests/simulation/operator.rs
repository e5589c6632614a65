//! The configuration of a seed as its operator wrote it, and what it means, said once more in the plainest way: whom
//! a rule is about, which limits a call meets, and whose bucket each of them is.
//!
//! Not here: the live code, which is never asked what a rule means, and how much of a limit is left (`ledger`).

use crate::simulation::random::Random;

pub const MINUTE_NS: u64 = 60_000_000_000;
pub const TOOLS: [&str; 3] = ["query", "run_sql", "run_job"];

/// Who calls. Two of one name belong to two tenants, and two of one tenant share an address.
pub struct Agent {
    pub name: &'static str,
    pub tenant: &'static str,
    pub role: Option<&'static str>,
    pub source: &'static str,
    /// Known by nothing, and so one of many of that name.
    pub is_anonymous: bool,
}

pub const AGENTS: [Agent; 4] = [
    Agent { name: "ann", tenant: "acme", role: Some("batch"), source: "192.0.2.1", is_anonymous: false },
    Agent { name: "bob", tenant: "acme", role: None, source: "192.0.2.1", is_anonymous: false },
    Agent { name: "ann", tenant: "umbrella", role: None, source: "192.0.2.2", is_anonymous: false },
    Agent { name: "dan", tenant: "", role: Some("batch"), source: "2001:db8::1", is_anonymous: true },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Call,
    Prompt,
    Handshake,
}

impl Method {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Call => "tools/call",
            Self::Prompt => "prompts/get",
            Self::Handshake => "initialize",
        }
    }
}

/// What one agent asks of one server.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub agent: usize,
    pub server: &'static str,
    pub method: Method,
    /// Its place in [`TOOLS`].
    pub tool: usize,
    /// An argument that some calls do not have.
    pub database: Option<&'static str>,
}

impl Message {
    pub fn draw(random: &mut Random, agent: usize) -> Self {
        let method = match random.between(0, 15) {
            0 => Method::Prompt,
            1 => Method::Handshake,
            _ => Method::Call,
        };
        Self {
            agent,
            server: if random.one_in(5) { "notes" } else { "db" },
            method,
            tool: random.between(0, TOOLS.len() as u64 - 1) as usize,
            database: random.one_of(&[Some("prod"), Some("prod"), Some("test"), None]),
        }
    }

    /// What it names: a tool, a prompt, nothing.
    pub fn target(&self) -> &'static str {
        match self.method {
            Method::Call => TOOLS[self.tool],
            Method::Prompt => "greet",
            Method::Handshake => "",
        }
    }

    pub fn body(&self) -> String {
        let (method, target) = (self.method.text(), self.target());
        let arguments = self.database.map(|name| format!(r#""database":"{name}""#)).unwrap_or_default();
        let params = format!(r#"{{"name":"{target}","arguments":{{{arguments}}}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    }

    fn agent(&self) -> &'static Agent {
        &AGENTS[self.agent]
    }
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Rate { count: u64, per_ms: u64, burst: u64 },
    Quota { count: u64, minutes: u64 },
    Tokens { count: u64, per_ms: u64, burst: u64 },
}

/// Of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Tool calls: nothing is said.
    Calls,
    Servers(&'static str),
    Tools(&'static str),
    Methods(&'static str),
}

/// Whether: an expression.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Prod,
    Batch,
    Tool,
}

/// Whose.
#[derive(Clone, Copy, Debug)]
enum Key {
    Gateway,
    Principal,
    Tenant,
    Server,
    Source,
    /// The principal, and the address of who is known by nothing. Nobody can write it.
    Caller,
    PrincipalAndTool,
    /// An expression.
    Database,
}

/// Why a limit counts a call not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    OtherMethod,
    OtherServer,
    OtherTool,
    No,
    Failed,
    Uncounted,
}

/// One limit.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub kind: Kind,
    about: About,
    when: Option<Condition>,
    key: Key,
    /// The call meets it twice, as if two limits had got the same bucket: it can pass the check of both and yet have
    /// room for one only, which without threads is the one way to lose a race.
    pub twice: bool,
}

impl Rule {
    /// One is there whatever the operator wrote: handshakes.
    pub const HANDSHAKES: Self = Self {
        kind: Kind::Rate { count: 25, per_ms: 10_000, burst: 25 },
        about: About::Methods("initialize"),
        when: None,
        key: Key::Caller,
        twice: false,
    };

    pub fn draw(random: &mut Random, kind: Kind) -> Self {
        use About::{Calls, Methods, Servers, Tools};
        use Key::{Database, Gateway, Principal, PrincipalAndTool, Server, Source, Tenant};
        let (prod, batch, tool) = (Some(Condition::Prod), Some(Condition::Batch), Some(Condition::Tool));
        let about = [Calls, Calls, Servers("db"), Tools("db.run_*"), Tools("*.query"), Methods("prompts/*")];
        let key =
            [Gateway, Gateway, Principal, Principal, Tenant, Server, Source, PrincipalAndTool, Database];
        Self {
            kind,
            about: random.one_of(&about),
            when: random.one_of(&[None, None, prod, batch, tool]),
            key: random.one_of(&key),
            twice: random.one_in(4),
        }
    }

    pub fn times(&self) -> u64 {
        1 + u64::from(self.twice)
    }

    /// Whose bucket counts the message.
    pub fn bucket(&self, message: &Message) -> Result<String, Missed> {
        let tool = if message.method == Method::Call { TOOLS[message.tool] } else { "" };
        match (self.about, message.method) {
            (About::Methods("initialize"), Method::Handshake) => {}
            (About::Methods("prompts/*"), Method::Prompt) => {}
            (About::Methods(_), _) => return Err(Missed::OtherMethod),
            (_, Method::Prompt | Method::Handshake) => return Err(Missed::OtherMethod),
            (About::Servers(server), _) if message.server != server => return Err(Missed::OtherServer),
            (About::Tools("db.run_*"), _) if message.server != "db" || tool == "query" => {
                return Err(Missed::OtherTool);
            }
            (About::Tools("*.query"), _) if tool != "query" => return Err(Missed::OtherTool),
            (About::Calls | About::Servers(_) | About::Tools(_), Method::Call) => {}
        }
        let holds = match self.when {
            None => true,
            Some(Condition::Prod) => message.database.ok_or(Missed::Failed)? == "prod",
            Some(Condition::Batch) => message.agent().role == Some("batch"),
            Some(Condition::Tool) => tool.starts_with("run_"),
        };
        if !holds {
            return Err(Missed::No);
        }
        let Agent { name, tenant, source, is_anonymous, .. } = message.agent();
        Ok(match self.key {
            Key::Gateway => String::new(),
            Key::Caller if *is_anonymous => (*source).into(),
            Key::Principal | Key::Caller => format!("{tenant} {name}"),
            Key::Tenant => (*tenant).into(),
            Key::Server => message.server.into(),
            Key::Source => (*source).into(),
            // Two servers may have tools of one name.
            Key::PrincipalAndTool => format!("{tenant} {name} {} {}", message.server, message.target()),
            Key::Database => message.database.ok_or(Missed::Failed)?.into(),
        })
    }

    fn yaml(&self, number: usize) -> String {
        let per = |per_ms| if per_ms == 60_000 { "min" } else { "s" };
        let amount = match self.kind {
            Kind::Rate { count, per_ms, burst } => format!("rate: {count}/{}, burst: {burst}", per(per_ms)),
            Kind::Quota { count, minutes: 1 } => format!("quota: {count}/min"),
            Kind::Quota { count, .. } => format!("quota: {count}/hour"),
            Kind::Tokens { count, per_ms, burst } => {
                format!("rate: {count}/{}, burst: {burst}, count: tokens", per(per_ms))
            }
        };
        let about = match self.about {
            About::Calls => String::new(),
            About::Servers(name) => format!(", servers: [{name}]"),
            About::Tools(pattern) => format!(", tools: ['{pattern}']"),
            About::Methods(pattern) => format!(", methods: ['{pattern}']"),
        };
        let when = match self.when {
            None => "",
            Some(Condition::Prod) => r#", when: 'args.database == "prod"'"#,
            Some(Condition::Batch) => r#", when: '"batch" in roles'"#,
            Some(Condition::Tool) => r#", when: 'tool.startsWith("run_")'"#,
        };
        let key = match self.key {
            Key::Gateway => "gateway",
            Key::Principal => "principal",
            Key::Tenant => "tenant",
            Key::Server => "server",
            Key::Source => "source",
            Key::Caller => unreachable!("nobody writes it"),
            Key::PrincipalAndTool => "[principal, tool]",
            Key::Database => "args.database",
        };
        format!("  - {{name: limit-{number}, key: {key}, {amount}{about}{when}}}\n")
    }
}

/// The limits that the operator wrote, and a rule of access that refuses before any of them is asked.
pub struct Written {
    pub rules: Vec<Rule>,
    guarded: bool,
}

impl Written {
    pub fn draw(random: &mut Random) -> Self {
        let rate = |count, per_ms, burst| Kind::Rate { count, per_ms, burst };
        let kinds = [
            rate(random.between(2, 8), 1_000, random.between(2, 10)),
            rate(random.one_of(&[20, 25, 40]), 1_000, random.between(3, 30)),
            rate(1_000_000, 1_000, random.between(2, 3)),
            rate(random.between(100, 400), 60_000, random.between(20, 60)),
            Kind::Quota { count: random.between(100, 300), minutes: random.one_of(&[1, 1, 1, 60]) },
            Kind::Tokens { count: 10_000, per_ms: 1_000, burst: random.between(1_000, 20_000) },
        ];
        let mut rules = Vec::new();
        for kind in kinds {
            let rule = Rule::draw(random, kind);
            if !random.one_in(4) {
                rules.push(rule);
            }
        }
        let turns = rules.len().max(1) as u64;
        rules.rotate_left((random.bits() % turns) as usize);
        Self { rules, guarded: random.one_in(2) }
    }

    /// Whether the rule of access refuses: it does where it cannot be evaluated, too.
    pub fn forbids(&self, message: &Message) -> bool {
        let concerns = message.server == "db" && message.target() == "run_job";
        self.guarded && concerns && message.database.is_none_or(|name| name == "prod")
    }

    pub fn yaml(&self) -> String {
        let limits: String = self.rules.iter().enumerate().map(|(index, rule)| rule.yaml(index)).collect();
        let limits = if limits.is_empty() { "  []\n".into() } else { limits };
        let guard = r#"access: [{name: guard, deny: [db.run_job], when: 'args.database == "prod"'}]"#;
        let access = if self.guarded { guard } else { "" };
        format!(
            "listen: 127.0.0.1:0\nlimitTable: {{buckets: 1000}}\nmcpServers:\n  db: {{url: 'http://127.0.0.1:1/mcp'}}\n  \
             notes: {{url: 'http://127.0.0.1:2/mcp'}}\nlimits:\n{limits}{access}\n"
        )
    }
}
