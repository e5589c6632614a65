//! Keys that are not asked for, and what to say about them: keys of later versions, words of other
//! programs, and where a misplaced key belongs.
//!
//! Not here: the keys that there are; they are asked for by name in `read` and `read_server`.

use crate::config::table::Foreign;
use crate::config::table::Strangers;

pub const ROOT: Strangers = Strangers {
    later: &[
        "allowLookalike",
        "approvals",
        "audit",
        "budgets",
        "fleet",
        "flows",
        "guards",
        "legacySse",
        "loops",
        "pins",
    ],
    foreign: FOREIGN_ROOT,
    homes: HOMES,
};
pub const ADMIN: Strangers = Strangers { later: &["oidc", "tokenFile"], foreign: &[], homes: HOMES };
pub const SERVER: Strangers = Strangers {
    later: &[
        "arguments",
        "children",
        "cost",
        "mirror",
        "once",
        "openapi",
        "owner",
        "result",
        "sandbox",
        "transport",
        "validate",
    ],
    foreign: FOREIGN_SERVER,
    homes: HOMES,
};
pub const VIRTUAL_SERVER: Strangers = Strangers { later: &["search"], foreign: &[], homes: HOMES };
pub const CACHE: Strangers =
    Strangers { later: &["maxBytes", "readOnly", "scope", "semantic", "tools"], foreign: &[], homes: HOMES };
pub const IDENTITY: Strangers = Strangers { later: &[], foreign: &[], homes: HOMES };
pub const TELEMETRY: Strangers = Strangers { later: &["labelsMax", "otlp"], foreign: &[], homes: HOMES };
pub const STATE: Strangers = Strangers { later: &["redis"], foreign: &[], homes: HOMES };
/// Where no later version adds a key.
pub const NONE: Strangers = Strangers { later: &[], foreign: &[], homes: HOMES };

const FOREIGN_ROOT: &[Foreign] = &[
    Foreign { key: "servers", what: "is VS Code's word", cure: "Write `mcpServers`." },
    Foreign { key: "inputs", what: "asks the user of an editor", cure: "Use variables, `${NAME}`, instead." },
];

/// What to do about a server over stdio.
pub const STDIO_CURE: &str = "Run it behind a bridge that speaks Streamable HTTP and write that bridge's `url`, \
                          or set `disabled: true`.";
const FOREIGN_SERVER: &[Foreign] = &[
    Foreign { key: "command", what: "(a server over stdio) comes with a later version", cure: STDIO_CURE },
    Foreign { key: "httpUrl", what: "is another client's word", cure: "Write `url`." },
    Foreign { key: "serverUrl", what: "is another client's word", cure: "Write `url`." },
];

const HOMES: &[(&str, &str)] = &[
    ("adaptive", "mcpServers.NAME"),
    ("affinity", "mcpServers.NAME"),
    ("anonymous", "identity"),
    ("apiKeys", "identity"),
    ("auth", "mcpServers.NAME"),
    ("audiences", "identity.jwt"),
    ("balance", "mcpServers.NAME"),
    ("breaker", "mcpServers.NAME"),
    ("buckets", "limitTable"),
    ("burst", "limits"),
    ("cache", "mcpServers.NAME"),
    ("callLog", "telemetry"),
    ("claims", "mcpServers.NAME.auth"),
    ("clientId", "mcpServers.NAME.auth"),
    ("certificates", "listen.tls"),
    ("clientCa", "listen.tls"),
    ("connect", "mcpServers.NAME.timeout"),
    ("crl", "listen.tls"),
    ("dir", "state"),
    ("drain", "http"),
    ("endpoint", "mcpServers.NAME.auth"),
    ("era", "mcpServers.NAME"),
    ("failover", "mcpServers.NAME"),
    ("failureRatio", "mcpServers.NAME.breaker"),
    ("faults", "mcpServers.NAME"),
    ("firstByte", "mcpServers.NAME.timeout"),
    ("forward", "mcpServers.NAME.timeout"),
    ("headers", "mcpServers.NAME"),
    ("headerTimeout", "http"),
    ("health", "mcpServers.NAME"),
    ("hedge", "mcpServers.NAME.retry"),
    ("hook", "mcpServers.NAME.route"),
    ("hosts", "http"),
    ("idempotent", "mcpServers.NAME"),
    ("idleTimeout", "http"),
    ("instances", "mcpServers.NAME"),
    ("jwks", "identity.jwt"),
    ("jwt", "identity"),
    ("labels", "mcpServers.NAME"),
    ("maxBody", "http"),
    ("maxHead", "http"),
    ("maxOpen", "mcpServers.NAME.breaker"),
    ("minCalls", "mcpServers.NAME.breaker"),
    ("mtls", "identity"),
    ("onFull", "limitTable"),
    ("origins", "http"),
    ("overrides", "mcpServers.NAME"),
    ("perTool", "mcpServers.NAME.breaker"),
    ("plaintext", "mcpServers.NAME"),
    ("pools", "mcpServers.NAME"),
    ("probes", "mcpServers.NAME.breaker"),
    ("quota", "limits"),
    ("rate", "limits"),
    ("retry", "mcpServers.NAME"),
    ("route", "mcpServers.NAME"),
    ("serverName", "mcpServers.NAME.tls"),
    ("slowStart", "mcpServers.NAME"),
    ("split", "mcpServers.NAME"),
    ("sticky", "mcpServers.NAME"),
    ("streamComment", "http"),
    ("tenant", "identity"),
    ("tenants", "mcpServers.NAME"),
    ("timeout", "mcpServers.NAME"),
    ("tokenFile", "vault"),
    ("total", "mcpServers.NAME.timeout"),
    ("upstreamLimit", "mcpServers.NAME"),
    ("url", "mcpServers.NAME"),
];
