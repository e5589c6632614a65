//! Name, kind, labels and help of every metric that is counted by labels of its own, or read where others keep it.
//!
//! Not here: their values (`family`, control's gauges) and the text format (`expose`).

use crate::telemetry::family::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `server`, `instance`
    BreakerState,
    /// `server`, `tool`
    ToolBreakerState,
    /// `server`, `instance`
    InstanceUp,
    /// `server`, `instance`
    SlowStart,
    /// `server`
    ConcurrencyLimit,
    /// `server`
    UpstreamHeld,
    /// `kind`
    KillsActive,
    /// `endpoint`
    NameCollisions,
}

/// How a metric with labels is written.
pub(crate) struct Words {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Words {
    Words { name, kind: "counter", help, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Words {
    Words { name, kind: "gauge", help, labels }
}

const UNAVAILABLE: Words = counter(
    "ringgate_unavailable_total",
    &["server", "cause"],
    "Calls that were kept from their server, by what kept them: `adaptive`, `breaker`, `health`, `faults`, or \
     `upstream` while it is held.",
);
const INJECTED_FAULTS: Words = counter(
    "ringgate_injected_faults_total",
    &["server", "fault"],
    "Faults that the operator asked for and that met a call: `delay`, `status` or `cut`.",
);

const EXTERNAL_DECISIONS: Words = counter(
    "ringgate_external_decisions_total",
    &["rule", "outcome"],
    "Questions to external decision points by rule: `allow`, `deny`, or why there is no answer: `late`, \
     `unreachable`, `unreadable`, or `busy` where too many wait for one.",
);
const ROUTE_HOOKS: Words = counter(
    "ringgate_route_hooks_total",
    &["rule", "outcome"],
    "Calls that a hook of `route` was to name a pool for: `routed`, or why the next route counts: `none` named, \
     `unknown_pool`, `late`, `unreachable`, `unreadable`, `busy`, `unasked`.",
);
const OWN_CATALOGUES: Words = counter(
    "ringgate_own_catalogues_total",
    &["outcome"],
    "Lists of servers for single callers: `listed`, `refused`, `failed`, or `forgotten` for want of room.",
);

const SESSION_MESSAGES: Words = counter(
    "ringgate_session_messages_total",
    &["server", "outcome"],
    "Messages that older servers sent by themselves in clients' sessions at hubs: `passed` to the client, `refused` where \
     it cannot be asked; and `no_room` for streams of theirs that were not listened to.",
);

impl Family {
    pub(crate) const fn words(self) -> Words {
        match self {
            Self::Denied => counter("ringgate_denied_total", &["rule"], "Refusals of each access rule."),
            Self::Limited => counter("ringgate_limited_total", &["limit"], "Refusals of each limit."),
            Self::LimitTableFull => counter(
                "ringgate_limit_table_full_total",
                &[],
                "Calls that found no free bucket in the table of limits.",
            ),
            Self::CelErrors => counter(
                "ringgate_cel_errors_total",
                &["rule"],
                "Expressions that failed while a call was decided.",
            ),
            Self::UpstreamRequests => counter(
                "ringgate_upstream_requests_total",
                &["server", "instance"],
                "Requests sent to each instance of a server.",
            ),
            Self::UpstreamLimited => counter(
                "ringgate_upstream_limited_total",
                &["server", "principal"],
                "Calls that a server itself answered with 429, by who called.",
            ),
            Self::Unavailable => UNAVAILABLE,
            Self::InjectedFaults => INJECTED_FAULTS,
            Self::Retries => counter(
                "ringgate_retries_total",
                &["server", "outcome"],
                "Attempts after the first: `sent` again, `hedged`, or not made because they were `over_budget`.",
            ),
            Self::Tokens => counter(
                "ringgate_tokens_total",
                &["server", "tool", "principal", "direction"],
                "Tokens of arguments (in) and results (out).",
            ),
            Self::Wasted => counter(
                "ringgate_wasted_seconds_total",
                &["server"],
                "Time that servers spent on answers that nobody waited for any more.",
            ),
            Self::TlsHandshakes => counter(
                "ringgate_tls_handshakes_total",
                &["outcome"],
                "TLS handshakes with clients: full, resumed or failed.",
            ),
            Self::CacheHits => counter(
                "ringgate_cache_hits_total",
                &["layer"],
                "Answers that came from what the gateway knew: list.",
            ),
            Self::OwnCatalogues => OWN_CATALOGUES,
            Self::SessionMessages => SESSION_MESSAGES,
            Self::ExternalDecisions => EXTERNAL_DECISIONS,
            Self::RouteHooks => ROUTE_HOOKS,
            Self::JwksRefreshes => counter(
                "ringgate_jwks_refreshes_total",
                &["issuer", "outcome"],
                "Fetches of the signing keys of each issuer: `ok`, or `failed` and tried again.",
            ),
            Self::Introspections => counter(
                "ringgate_introspections_total",
                &["issuer", "outcome"],
                "Tokens that each issuer was asked for: they were `active`, `inactive`, or asking `failed`; that it was \
                 not asked for: `remembered` as inactive, or `held_back` after too many such; and how often all that was \
                 remembered had to be `forgotten`.",
            ),
        }
    }
}

impl Which {
    pub(crate) const ALL: [Self; Self::NameCollisions as usize + 1] = [
        Self::BreakerState,
        Self::ToolBreakerState,
        Self::InstanceUp,
        Self::SlowStart,
        Self::ConcurrencyLimit,
        Self::UpstreamHeld,
        Self::KillsActive,
        Self::NameCollisions,
    ];

    pub(crate) const fn words(self) -> Words {
        match self {
            Self::BreakerState => gauge(
                "ringgate_breaker_state",
                &["server", "instance"],
                "Breaker of an instance: 0 closed, 1 half-open, 2 open.",
            ),
            Self::ToolBreakerState => gauge(
                "ringgate_tool_breaker_state",
                &["server", "tool"],
                "Breaker of a tool: 0 closed, 1 half-open, 2 open.",
            ),
            Self::InstanceUp => gauge(
                "ringgate_instance_up",
                &["server", "instance"],
                "1 if an instance is in rotation, 0 if it is out.",
            ),
            Self::SlowStart => gauge(
                "ringgate_instance_slow_start",
                &["server", "instance"],
                "1 while an instance of a server with `slowStart` came back and has not its whole share yet, else 0.",
            ),
            Self::ConcurrencyLimit => gauge(
                "ringgate_concurrency_limit",
                &["server"],
                "Calls that a server with `adaptive` may have in flight now.",
            ),
            Self::UpstreamHeld => gauge(
                "ringgate_upstream_held",
                &["server"],
                "1 while a server with `upstreamLimit: hold` is left alone because it asked to be, else 0.",
            ),
            Self::KillsActive => gauge("ringgate_kills_active", &["kind"], "Kill switches in force."),
            Self::NameCollisions => gauge(
                "ringgate_name_collisions",
                &["endpoint"],
                "Names of a virtual server under which nothing is shown, because several of its servers give them.",
            ),
        }
    }
}
