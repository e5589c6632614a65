//! Every bound of the system in one place: its unit is in its name, with why this value and what
//! happens when it is hit. What an operator may change is a default here and a field of the plan.
//!
//! Not here: rates and budgets (policy), which are the operator's choice and not a bound of ours.

mod http;
mod side;

pub use self::http::*;
pub use self::side::*;

// --- Bodies -------------------------------------------------------------------------------------

/// Default of `http.maxBody`. Past it: 413, close.
pub const BODY_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
/// Highest `http.maxBody` that a config may ask for.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest chunk-size line with its extensions. Past it: 400, close.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Chunk extensions of one body together, so that one-byte chunks cannot carry a flood beside them
/// (the whole body, not a chunk, as hyper does it). Past it: 400, close.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Trailer section of one body. Past it: 431, close.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Fields of one trailer section. Past it: 431, close.
pub const TRAILER_FIELDS_MAX: usize = 32;
/// Bytes that a worker may hold in buffered request bodies larger than one pooled buffer. Past it a
/// call waits for room up to `BODY_BUDGET_WAIT_MS`, then 503.
pub const BODY_BUDGET_BYTES: usize = BODY_BYTES_MAX + 1024 * 1024;
pub const BODY_BUDGET_WAIT_MS: u64 = 1_000;

// --- Buffers ------------------------------------------------------------------------------------

/// A connection's working buffer while a call is in progress: fits nearly every call whole.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Buffer for relaying long answers: what a slow reader can hold of ours (hardening: 64 KiB).
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a connection that may be received before anybody asks for them, and what comes with the last of them: a client or
/// server that sends ahead holds two working buffers at most.
pub const READ_AHEAD_BYTES: u32 = 8 * 1024;
/// Room kept free in front of a body, so that our own head is written before it without moving it.
pub const HEADROOM_BYTES: usize = 4 * 1024;
/// Room kept free behind what is received, for what frames it on the way out: CRLF, and the last chunk.
pub const TAILROOM_BYTES: usize = 8;
/// Buffers of each size that a worker keeps for reuse. More are allocated, and freed, on demand.
pub const POOLED_BUFFERS_MAX: usize = 1024;

// --- JSON ---------------------------------------------------------------------------------------

/// Bodies up to here are parsed by simd-json on a scratch copy; larger ones by the skipper.
pub const SCRATCH_BYTES_MAX: usize = 64 * 1024;
/// Nesting of arrays and objects, the outermost counting as 1. Past it: 400, -32700.
pub const JSON_DEPTH_MAX: usize = 128;
/// Calls in one batch of revision 2025-03-26. Past it: 400, -32600.
pub const BATCH_CALLS_MAX: usize = 64;
/// Longest name of a tool or prompt (MCP: SHOULD be at most 128). Past it: 400, -32602.
pub const NAME_BYTES_MAX: usize = 1024;
/// Arguments of one tool that are mirrored in fields (MCP 2026-07-28, `x-mcp-header`): a third of the fields that a head
/// may have here. A tool with more is not shown to older clients.
pub const MIRRORED_FIELDS_MAX: usize = 32;
/// Longest mirrored argument, in bytes of its text. Past it: the call is refused.
pub const MIRRORED_BYTES_MAX: usize = 4 * 1024;
/// Longest id, as raw bytes. Past it: 400, -32600.
pub const ID_BYTES_MAX: usize = 8 * 1024;
/// Longest URI or URI template in a list that access rules look at: what a request target may have. A longer entry is
/// not shown.
pub const LISTED_URI_BYTES_MAX: usize = 8 * 1024;
/// Entries of the lists in one message that access rules look at, ten times what the largest servers have. Past it:
/// 502, or the end of the stream.
pub const LISTED_ENTRIES_MAX: usize = 64 * 1024;
/// What is held of an answer, or of one event of a stream, that access rules may take entries out of: it is whole
/// before any of it passes. Long lists have about 1 MiB; one look at the longest takes a worker about 10 ms. Past it:
/// 502, or the end of the stream.
pub const HELD_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Decisions on entries of lists that a worker remembers, over all callers and servers: about 100 bytes each. Past it
/// all are forgotten and made anew, at less than 1 µs each.
pub const SIGHTINGS_MAX: usize = 128 * 1024;
/// What the scanner of answers looks at; beyond it the facts are unknown.
pub const ANSWER_SCAN_BYTES_MAX: usize = 64 * 1024;

// --- Connections --------------------------------------------------------------------------------

/// Client connections of one worker. Past it the newest is closed at accept, and counted.
pub const CLIENT_CONNECTIONS_MAX: usize = 50_000;
/// Calls on one client connection before it is closed politely; spreads load over new workers.
pub const CALLS_PER_CONNECTION_MAX: u32 = 10_000_000;
/// Idle upstream connections that a worker keeps for one instance. Past it the one that comes back is
/// closed.
pub const POOL_IDLE_MAX: usize = 256;
/// An idle upstream connection is closed after this long: shorter than common server timeouts
/// (Node's 5 s is the shortest in wide use), so that we, not they, close first.
pub const POOL_IDLE_MS: u64 = 4_000;
/// Upstream connections of one worker to one instance, idle or not. Past it: 503.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 20_000;
/// After our last byte on a connection that must close, what is read and thrown away so that a reset
/// does not eat the answer (RFC 9112 section 9.6).
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;
pub const LINGER_MS: u64 = 1_000;
/// What is still read for a legacy client that left: its disconnect is not a cancel (2025-11-25).
pub const ABANDONED_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
pub const ABANDONED_ANSWER_MS: u64 = 60_000;
/// TLS handshakes under way on one worker, each about 40 KiB. Past it the one that has waited longest is closed if
/// that is longer than `HANDSHAKE_GRACE_MS`, because it is the likeliest to only hold a place, else the newest.
pub const HANDSHAKES_MAX: usize = 1024;
/// A client that is there needs two round trips: one second is a slow one.
pub const HANDSHAKE_GRACE_MS: u64 = 1_000;
/// What a TLS session holds of its own of an answer that a client does not take: two records. With the buffer that is
/// being written (`BUFFER_BYTES`) it stays below what a slow reader may hold.
pub const TLS_BUFFER_BYTES: usize = 32 * 1024;
/// Pending connections of one listener. The kernel caps it at net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 4096;

// --- Time ---------------------------------------------------------------------------------------

pub const HEADER_TIMEOUT_MS_DEFAULT: u64 = 5_000;
/// Silence inside a request body before 408.
pub const BODY_TIMEOUT_MS_DEFAULT: u64 = 30_000;
pub const IDLE_TIMEOUT_MS_DEFAULT: u64 = 300_000;
pub const DRAIN_MS_DEFAULT: u64 = 30_000;
pub const CONNECT_TIMEOUT_MS_DEFAULT: u64 = 1_000;
pub const FIRST_BYTE_TIMEOUT_MS_DEFAULT: u64 = 30_000;
pub const UPSTREAM_IDLE_MS_DEFAULT: u64 = 300_000;
pub const TOTAL_TIMEOUT_MS_DEFAULT: u64 = 600_000;
/// No time at all, for what may last as long as both sides keep it.
pub const NEVER_MS: u64 = u64::MAX;
/// A comment on an idle event stream, so that middleboxes keep it open (agentgateway #248).
pub const STREAM_COMMENT_MS_DEFAULT: u64 = 15_000;
/// How often a worker compares its deadlines and looks for clients that left. Half of the 50 ms in
/// which a departure must have reached the upstream, less the time to act.
pub const TICK_MS: u64 = 10;
/// The same while no connection is open: an idle gateway sleeps, its heartbeat goes on.
pub const IDLE_TICK_MS: u64 = 250;
/// At the begin of a drain: how long whoever was answered by the kernel may take to come through the listener. Longer
/// than a handshake's way, and with a slow tick before it shorter than the second after which clients knock again.
pub const DRAIN_ACCEPT_MS: u64 = 250;
/// Pause of a listener where no descriptor is free: long enough not to spin, short enough that service
/// resumes soon after one is.
pub const EXHAUSTED_PAUSE_MS: u64 = 100;
/// Names are resolved again this often.
pub const RESOLVE_INTERVAL_MS: u64 = 10_000;

// --- Between threads ----------------------------------------------------------------------------

/// Call records that wait for the writer, per worker. Full: drop and count.
pub const RECORD_RING: usize = 16 * 1024;
/// Questions that wait for control, over all workers, and those that wait there for one and the same answer. Full: the
/// question's `onError`; 503 where a caller is not known without it.
pub const QUESTION_RING: usize = 4096;
/// What workers tell control without an answer, over all workers: it may not be lost, or what it ends would live on. More
/// than all streams at once. Full: it is lost and counted.
pub const TOLD_RING: usize = 64 * 1024;
/// Letters that wait for one worker. Full: the sender is told.
pub const MAILBOX: usize = 4096;

// --- Traffic ------------------------------------------------------------------------------------

/// Buckets of the table of rates: 8 MiB.
pub const LIMIT_BUCKETS_DEFAULT: usize = 1024 * 1024;
/// What `limitTable.buckets` may ask for before it is rounded up to a power of two: 8 KiB to 512 MiB.
pub const LIMIT_BUCKETS_MIN: u64 = 1_000;
pub const LIMIT_BUCKETS_MAX: u64 = 64_000_000;
/// Largest count of a limit: what an integer of a structured field holds (RFC 9651 section 3.3.1), because
/// `RateLimit-Policy` tells it.
pub const LIMIT_COUNT_MAX: u64 = 999_999_999_999_999;
/// Fastest `rate`, and the longest time in which a `burst` may refill: what a bucket's 44 bits of time can tell apart.
pub const RATE_PER_MS_MAX: u64 = 1_000;
pub const BURST_REFILL_MS_MAX: u64 = 86_400_000;
/// Rules of `route` of one server: each may be evaluated for every call. Past it: a problem of `check`.
pub const ROUTES_MAX: usize = 64;
/// How long a hook of `route` may take, where nothing is said and at most: each of its calls waits for it.
pub const ROUTE_HOOK_MS_DEFAULT: u64 = 100;
pub const ROUTE_HOOK_MS_MAX: u64 = 2_000;
/// What such a hook is told of a call, as JSON. Past it: it is not asked, and the next route counts.
pub const ROUTE_QUESTION_BYTES_MAX: usize = 256 * 1024;
/// Weight of an instance; the sum of all stays far inside 32 bits.
pub const WEIGHT_MAX: u32 = 1_000;
/// In which an instance that comes back grows into its share, where it would else get every call until it is as busy as the
/// others: long enough for caches and compilers to warm up under a share of the calls.
pub const SLOW_START_MS_DEFAULT: u64 = 10_000;
/// Names or patterns in one list (tools, servers, methods): a call is compared with all of them.
pub const NAMES_MAX: usize = 256;
/// Faults that one server makes on purpose.
pub const FAULTS_MAX: usize = 16;
/// Probes of health: the values of the contract.
pub const HEALTH_INTERVAL_MS_DEFAULT: u64 = 5_000;
pub const HEALTH_TIMEOUT_MS_DEFAULT: u64 = 1_000;
pub const HEALTH_UNHEALTHY_DEFAULT: u8 = 3;
pub const HEALTH_HEALTHY_DEFAULT: u8 = 2;
/// Consecutive outcomes that a config may ask for; they share one word with the state.
pub const HEALTH_OUTCOMES_MAX: u8 = 100;
/// Outcomes that a breaker looks back at.
pub const BREAKER_WINDOW_DEFAULT: u32 = 100;
pub const BREAKER_WINDOW_MAX: u32 = 10_000;
pub const BREAKER_FAILURE_PERMILLE_DEFAULT: u32 = 500;
pub const BREAKER_CALLS_MIN_DEFAULT: u32 = 20;
pub const BREAKER_OPEN_MS_DEFAULT: u64 = 30_000;
pub const BREAKER_OPEN_MS_MAX_DEFAULT: u64 = 300_000;
pub const BREAKER_PROBES_DEFAULT: u8 = 3;
/// Probes of a half-open breaker; they share one word with its state.
pub const BREAKER_PROBES_MAX: u8 = 100;
/// Concurrent calls between which an adaptive limit moves.
pub const ADAPTIVE_CALLS_MIN_DEFAULT: u32 = 4;
pub const ADAPTIVE_CALLS_MAX_DEFAULT: u32 = 256;
/// More than the connections of one worker are no limit.
pub const ADAPTIVE_CALLS_MAX: u32 = 20_000;
pub const ADAPTIVE_PERCENTILE_DEFAULT: u8 = 95;
pub const ADAPTIVE_TARGET_MS_DEFAULT: u64 = 250;
/// Attempts after the first.
pub const RETRIES_DEFAULT: u8 = 1;
pub const RETRIES_MAX: u8 = 10;
pub const RETRY_BUDGET_PERMILLE_DEFAULT: u32 = 100;
/// Longest CEL expression.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// Steps that one evaluation of a CEL expression may take. Past it: an evaluation error.
pub const EXPRESSION_STEPS_MAX: usize = 1_000;
/// Bytes of text that one step may look at or copy: with the steps it bounds the time of an evaluation.
pub const EXPRESSION_STEP_BYTES: usize = 256;
/// Nesting of one CEL expression, brackets and operators: keeps every walk over it off the end of the stack.
pub const EXPRESSION_DEPTH_MAX: usize = 128;
/// JSON values of one message that expressions look into. Past it: an evaluation error.
pub const EXPRESSION_VALUES_MAX: usize = 64 * 1024;
/// Compiled form of a pattern of `matches` that a config writes out. Past it: a problem of `check`.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// A pattern that is known only at run time may be a caller's choice: its text and its compiled form are kept
/// so small that compiling it takes about 1 ms at most. Past them: an evaluation error.
pub const CALLER_PATTERN_BYTES_MAX: usize = 64;
pub const CALLER_PATTERN_COMPILED_BYTES_MAX: usize = 64 * 1024;
/// What compiling one costs: two at most in one evaluation.
pub const CALLER_PATTERN_STEPS: usize = EXPRESSION_STEPS_MAX / 2;
/// Such patterns that a worker keeps compiled. One more takes the place of the oldest.
pub const CALLER_PATTERNS_MAX: usize = 16;
/// Access rules of one config: each is looked at for every call and every name of a list.
pub const ACCESS_RULES_MAX: usize = 256;
/// Scopes of one access rule: those of all rules that a call meets stand in one header field of its refusal.
pub const SCOPES_MAX: usize = 16;
pub const SCOPE_BYTES_MAX: usize = 128;
/// What an external decision may take, and how long it is kept: a decision that is older is none.
pub const DECISION_MS_DEFAULT: u64 = 100;
pub const DECISION_MS_MAX: u64 = 10_000;
pub const DECISION_CACHE_MS_MAX: u64 = 3_600_000;
/// Resources that one `subscriptions/listen` may name. Past it: refused, where access rules have to look at each.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Limits of one config.
pub const LIMITS_MAX: usize = 256;
/// Limits that may match one call. Past it: a problem of `check`, where it can be seen, else refused.
pub const LIMITS_PER_CALL_MAX: usize = 32;
/// Cells of quotas, and as many of token counts: 16 bytes each, never forgotten while their window lasts.
pub const PINNED_CELLS_MAX: usize = 64 * 1024;
/// Tools of one server that have a breaker of their own.
pub const TOOL_BREAKERS_MAX: usize = 256;

// --- Names and labels ---------------------------------------------------------------------------

/// Different label sets of one metric per worker; beyond it `other`.
pub const SERIES_MAX: usize = 1024;
/// Issuers of tokens in one config.
pub const ISSUERS_MAX: usize = 64;
/// Bytes of a key set (RFC 7517): some hundred keys fit. Past it: it is not taken.
pub const JWKS_BYTES_MAX: usize = 512 * 1024;
/// Longest name that a server may give a session: those of the SDKs have 36 characters. Past it: 502.
pub const SESSION_NAME_BYTES_MAX: usize = 512;
/// Longest sealed token that is looked at: one of the longest session name fits. Past it: it is none of ours.
pub const SEALED_BYTES_MAX: usize = 1024;
/// Lists that a worker keeps rendered, one for each hub, kind and caller, and their bytes. Past either all are rendered
/// anew.
pub const RENDERED_LISTS_MAX: usize = 1024;
pub const RENDERED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Sessions on servers that a worker knows the names of. Past it all are asked for again.
pub const HELD_SESSIONS_MAX: usize = 4096;
/// Sessions on servers that are opened at once with a client's own. The rest is opened when it is needed.
pub const QUESTIONS_AT_ONCE_MAX: usize = 64;
/// Room for what is added to a message on its way to another era.
pub const CROSSING_ROOM_BYTES: usize = 512;
/// Entries and bytes of one page of a hub's list: past them the next page begins. Clients get most lists in one.
pub const LIST_PAGE_ENTRIES: usize = 1_000;
pub const LIST_PAGE_BYTES: usize = 1024 * 1024;
/// Instructions of a hub of several servers. What is longer is cut.
pub const INSTRUCTIONS_BYTES_MAX: usize = 16 * 1024;
/// Virtual servers of one config. Past it: a problem of `check`.
pub const VIRTUAL_SERVERS_MAX: usize = 256;
/// What one virtual server picks, a pattern counted once for each server that it names: names of lists are compared with
/// all of them. Past it: a problem of `check`.
pub const PICKS_MAX: usize = 1024;
/// `overrides` of one server, or of one virtual server. Past it: a problem of `check`.
pub const OVERRIDES_MAX: usize = 1024;
/// Bytes of a description there. Past it: a problem of `check`; every agent pays for it in its context.
pub const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a tool that the gateway makes (MCP 2025-11-25, tools, "Tool Names"). Past it: a problem of `check`.
pub const TOOL_NAME_BYTES_MAX: usize = 128;
/// Longest that model providers take. Past it: a warning of `check`.
pub const TOOL_NAME_BYTES_COMMON: usize = 64;
/// How long a list is served beyond its time while its server cannot be asked (`cache.maxStale`).
pub const LIST_STALE_MS_DEFAULT: u64 = 3_600_000;
/// The same of a session that the gateway keeps, with those of up to some thirty servers in it.
pub const SEALED_LONG_BYTES_MAX: usize = 8 * 1024;
/// The same of questions that wait for their answers: they are in it, to be asked again. Past it the call ends.
pub const SEALED_STATE_BYTES_MAX: usize = 128 * 1024;
/// How long a session may live: a day's work and the night after it. Then its client initializes again.
pub const SESSION_SECONDS_MAX: u64 = 48 * 3_600;
/// How long a question of a server may wait for its answer: no longer than servers do.
pub const QUESTION_SECONDS_MAX: u64 = 600;
/// Longest id of an event that a call may have to go on behind. Past it the stream is refused.
pub const EVENT_ID_BYTES_MAX: usize = 1024;
/// Silence after which the questions of a server are all there: some ask several at once.
pub const QUESTION_SILENCE_MS: u64 = 20;
/// Longest pause that a server may ask for before its stream is asked for again.
pub const RESUME_PAUSE_MS_MAX: u64 = 5_000;
/// Questions to older clients that wait for answers, of one worker. Past it: 503.
pub const REPLIES_MAX: usize = 4096;
/// Streams at hubs that one worker serves. Past it: 503.
pub const HUB_STREAMS_MAX: usize = 16 * 1024;
/// Messages of servers that wait for one of them. Past it their servers wait.
pub const HUB_MESSAGES_MAX: usize = 16;
/// Sessions at hubs that want to hear of resources. Past it the first of them hears no more.
pub const SUBSCRIBED_SESSIONS_MAX: usize = 8 * 1024;
/// How often a worker reminds control of lists that are old.
pub const REMINDER_MS: u64 = 20;
/// Calls that wait on one worker for the answer to a question, and messages that one of them may have said before anybody
/// takes them. Past the first: 503; past the second the call is cut.
pub const PARKED_CALLS_MAX: usize = 1_024;
pub const PARKED_MESSAGES_MAX: usize = 1_024;
/// Calls of older clients at hubs, of one worker, that can be cancelled by a message. Past it a call runs to its end.
pub const CANCELLABLE_CALLS_MAX: usize = 64 * 1024;
/// Silence after which a stream that goes on elsewhere is asked for again, and how often; then it is waited for as any
/// other. Comments are silence.
pub const RESUME_SILENCE_MS: u64 = 700;
pub const RESUME_SILENCES_MAX: u8 = 5;
/// How often a stream is asked for again, for whatever reason. Past it the call is cut.
pub const RESUMES_MAX: u8 = 10;
/// Pause between two of them, where the server asks for none.
pub const RESUME_AGAIN_MS: u64 = 250;
/// Pause before that where the server still holds the stream before it (409), and how often.
pub const RESUME_CONFLICT_MS: u64 = 150;
pub const RESUME_CONFLICTS_MAX: u8 = 30;
/// How long a request of the gateway's own to a server may take beside a call: an answer to a question, a cancellation.
pub const ASIDE_MS: u64 = 2_000;
/// Time for which no `initialize` waits for a session on a server that has just opened none.
pub const UNOPENED_MS: u64 = 10_000;
/// Rounds of questions in one call: the SDKs allow 8 and 10. Past it the call ends with an error.
pub const QUESTION_ROUNDS_MAX: u8 = 10;
/// Questions of one round. Past it the call ends with an error.
pub const QUESTIONS_MAX: usize = 16;
/// Keys that seal and open (`state.sealKeys`).
pub const SEAL_KEYS_MAX: usize = 8;
/// Shortest of them: 128 bits in hexadecimal digits.
pub const SEAL_KEY_BYTES_MIN: usize = 32;
/// Answers of external decision points that are remembered. Past it those whose time is over go, else all.
pub const DECISIONS_MAX: usize = 4096;
/// Bytes of a reason that such a point gives: what is longer is cut.
pub const REASON_BYTES_MAX: usize = 256;
/// Callers whose credential a worker remembers, so that it is verified once: about 1 KiB each. Past it all are
/// forgotten and verified anew, at 30 to 70 µs each.
pub const CALLERS_MAX: usize = 4096;
/// Credentials of servers that a worker remembers for one caller. Past it the oldest is asked for anew.
pub const CREDENTIALS_PER_CALLER_MAX: usize = 16;
/// Longest access token: those in wide use have 1 to 3 KiB, with a long list of groups 6. Past it: 401, before anything
/// of it is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How much the clocks of issuers may differ from ours (RFC 7519 section 4.1.4).
pub const TOKEN_LEEWAY_SECONDS: u64 = 60;
/// How long keys of an issuer are used that cannot be fetched again, where `maxStale` says nothing.
pub const TOKEN_KEYS_STALE_MS_DEFAULT: u64 = 3_600_000;
/// A key set of an issuer (JWKS). The largest in wide use have about 20 KiB, most of it certificates. Past it: refused.
pub const TOKEN_KEYS_BYTES_MAX: usize = 256 * 1024;
/// Keys of one set; the largest in wide use have about ten. Past it: refused.
pub const TOKEN_KEYS_MAX: usize = 128;
/// Longest name of a key, `kid`: thumbprints have 43 bytes. Past it: 401, or the key is left out.
pub const TOKEN_KEY_ID_BYTES_MAX: usize = 256;
/// Keys that are tried on one token whose key's name several bear, or that like them names none: each costs 30 to 70 µs.
pub const TOKEN_KEYS_TRIED_MAX: usize = 4;
/// RSA keys: 2,048 bits at least (RFC 7518 section 3.3), and no more than can be verified in 1 ms. Else left out.
pub const TOKEN_RSA_BITS_MIN: usize = 2048;
pub const TOKEN_RSA_BITS_MAX: usize = 8192;
/// How long an introspection's answer is believed, if its token does not expire before: so soon does a revocation act.
pub const INTROSPECTED_SECONDS_MAX: u64 = 60;
/// Longest trust domain (SPIFFE ID section 2.3). Past it: a problem of `check`.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// API keys in one file.
pub const KEYS_MAX: usize = 100_000;
/// Longest name of a server (contract); tool names are `server__tool`, and clients cap those.
pub const SERVER_NAME_BYTES_MAX: usize = 32;
/// Longest principal, role or key id: what a record keeps of a principal. The SPIFFE IDs of workloads have up to about
/// 100. Past it: a problem of `check`, or 401.
pub const PRINCIPAL_BYTES_MAX: usize = 128;
/// Servers of one config.
pub const SERVERS_MAX: usize = 4096;
/// Instances of one server.
pub const INSTANCES_MAX: usize = 256;
/// Bytes of one config file. Past it: refused by `check`.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Values of one config, aliases counted as often as they are used: ends an alias bomb.
pub const CONFIG_VALUES_MAX: usize = 500_000;
/// Nesting of one config; ours needs 6. Keeps every walk over it off the end of the stack.
pub const CONFIG_DEPTH_MAX: usize = 64;
/// Problems that one report lists; a file of another kind would make thousands.
pub const PROBLEMS_MAX: usize = 200;
/// Bytes of a file that `${file:…}` names. Past it: a problem; it is hardly a secret.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a `tls.ca` file; a bundle of every public CA has about 250 KiB.
pub const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of a file with a certificate chain or a private key; a chain of four has about 8 KiB.
pub const CERTIFICATE_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of a `crl` file; a revoked certificate has about 40. The largest public lists have tens of MiB.
pub const CRL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// `certificates` of one listener. Past it: a problem of `check`.
pub const CERTIFICATES_MAX: usize = 1024;
/// Bytes of one API key file: `KEYS_MAX` entries of about 250 bytes fit.
pub const KEY_FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Worker threads that a config may ask for.
pub const WORKERS_MAX: usize = 256;
/// Listeners of one config.
pub const LISTENERS_MAX: usize = 64;
/// Lowest `http.maxHead` and `http.maxBody`: below it no call would pass.
pub const HEAD_BYTES_MIN: usize = 1024;
pub const BODY_BYTES_MIN: usize = 1024;
/// Longest time that a config may ask for; `drain` and idle streams have no need of more.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// Shortest `http.streamComment`: below it the comments would be the traffic.
pub const STREAM_COMMENT_MS_MIN: u64 = 100;
/// Headers injected for one server, and their bytes together: they share the upstream's head with
/// what the client sent.
pub const INJECTED_HEADERS_MAX: usize = 64;
pub const INJECTED_HEADER_BYTES_MAX: usize = 16 * 1024;

// --- Sample servers of `demo` ----------------------------------------------------------------------

/// Largest result of `export_report`: twice the default of `http.maxBody`, so that an answer is seen to
/// have no such limit. More is cut to it.
pub const SAMPLE_REPORT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest `slow_query`; the first-byte timeout's default. More is cut to it.
pub const SAMPLE_DELAY_MS_MAX: u64 = 30_000;
/// Steps of one `run_backup`, and the pause after each. More is cut to it.
pub const SAMPLE_STEPS_MAX: u32 = 1_000;
pub const SAMPLE_STEP_MS_MAX: u64 = 5_000;

const _: () = {
    assert!(HEAD_BYTES_DEFAULT <= HEAD_BYTES_MAX);
    assert!(TARGET_BYTES_MAX < HEAD_BYTES_DEFAULT);
    assert!(BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);
    // One body of the largest allowed size must fit the budget beside its head, or it could never be served.
    assert!(BODY_BYTES_MAX + HEAD_BYTES_MAX + HEADROOM_BYTES <= BODY_BUDGET_BYTES);
    assert!(HEADROOM_BYTES * 2 <= BUFFER_BYTES);
    assert!(CHUNK_LINE_BYTES_MAX < BUFFER_BYTES);
    // Two ticks to start watching and one to see it leave time to act within 50 ms.
    assert!(TICK_MS * 4 <= 50);
    // A relay holds one buffer, and over TLS a small one and what is encrypted of it.
    assert!(READ_AHEAD_BYTES as usize <= BUFFER_BYTES - HEADROOM_BYTES - TAILROOM_BYTES);
    assert!(RELAY_BUFFER_BYTES <= 64 * 1024);
    assert!(BUFFER_BYTES + TLS_BUFFER_BYTES <= 64 * 1024);
    assert!(RESOLVES_MAX + FETCH_RESOLVES_MAX < BLOCKING_THREADS_MAX);
    assert!(ADAPTIVE_CALLS_MAX as usize >= UPSTREAM_CONNECTIONS_MAX);
    assert!(WEIGHT_MAX as usize * INSTANCES_MAX <= u32::MAX as usize);
};
