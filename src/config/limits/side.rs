//! Bounds of the side thread: control, its questions and answers, and the writer of call records.
//!
//! Not here: what a worker is bound by (limits, limits/http).

use super::PINNED_CELLS_MAX;

/// Connections of the admin listener. Past it the oldest is closed: it is the likeliest to only hold a
/// place, and a probe must get in.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Body of a request to the admin listener. Past it: 413.
pub const ADMIN_BODY_BYTES_MAX: usize = 16 * 1024;
/// Tokens of one report to `/api/v1/usage`, each way. Past it: refused, as surely a mistake.
pub const REPORTED_TOKENS_MAX: u64 = 1_000_000_000;
/// Kill switches in force at once. Past it: refused; `kill all` has no need of a list.
pub const KILLS_MAX: usize = 1024;
/// Name, operator or reason of a kill switch. Past it: refused.
pub const KILL_TEXT_BYTES_MAX: usize = 1024;
/// The file of kill switches: `KILLS_MAX` of the longest fit. Past it: the start is refused.
pub const KILLS_FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Names that a server may list, tools and prompts together, the bytes of its lists, and their pages. Past them: it has
/// no catalogue, and the log says so.
pub const CATALOGUE_NAMES_MAX: usize = 10_000;
pub const CATALOGUE_BYTES_MAX: usize = 16 * 1024 * 1024;
pub const CATALOGUE_PAGES_MAX: usize = 1_000;
/// The file in which catalogues outlive the process: four of the longest, and hundreds of usual ones. What does not fit is
/// left out, and the log says so; a longer file is not read.
pub const CATALOGUES_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// It is written this often at most, and where nothing has changed but that lists were confirmed, once in the second.
pub const CATALOGUES_FLUSH_MS: u64 = 1_000;
pub const CATALOGUES_AGE_MS: u64 = 60_000;
/// Longest time for the lists of one instance, and instances that are tried.
pub const CATALOGUE_MS: u64 = 10_000;
pub const CATALOGUE_INSTANCES_MAX: usize = 4;
/// Catalogues are listed again this often, and sooner where a caller names something that is not known: then no more
/// often than the second.
pub const CATALOGUE_INTERVAL_MS: u64 = 600_000;
pub const CATALOGUE_ASKED_MS: u64 = 1_000;
/// After a listing that failed: twice as long after each, up to the second.
pub const CATALOGUE_RETRY_MS: u64 = 250;
pub const CATALOGUE_RETRY_MS_MAX: u64 = 30_000;
/// How long a list counts as fresh at least, so that a burst of questions causes one listing, and at most, whatever its
/// server says.
pub const CATALOGUE_FRESH_MS_MIN: u64 = 1_000;
pub const CATALOGUE_FRESH_MS_MAX: u64 = 24 * 3_600_000;
/// Longest pause between two tries to list a failing server that somebody has asked for within the second: its
/// recovery is seen within two probes of health.
pub const CATALOGUE_WANTED_RETRY_MS: u64 = 2_000;
pub const CATALOGUE_WANTED_MS: u64 = 60_000;
/// Catalogues of single callers, and the bytes of their entries: past either those that nobody waits for are forgotten,
/// and listed anew for whoever asks. One that nobody has used for the third goes.
pub const OWN_CATALOGUES_MAX: usize = 1024;
pub const OWN_CATALOGUES_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const OWN_CATALOGUE_KEPT_MS: u64 = 600_000;
/// Time to find out a server's era, over all instances; after a failure the same answer stands for the second.
pub const ERA_MS: u64 = 1_500;
pub const ERA_RETRY_MS: u64 = 1_000;
/// Sessions of older servers that control keeps, about 1 KiB each. Past it the longest unused is closed.
pub const UPSTREAM_SESSIONS_MAX: usize = 16 * 1024;
/// Sessions that are opened at a time, or closed; the rest wait for their turn.
pub const SESSION_OPENINGS_MAX: usize = 64;
/// Of them those on one server: one that hangs leaves the rest to the others.
pub const SESSION_OPENINGS_SERVER_MAX: usize = 16;
/// Time to open one, from the question on. Past it the asker is told that there is none.
pub const SESSION_OPEN_MS: u64 = 5_000;
/// After a failed opening the same answer stands for this long.
pub const SESSION_RETRY_MS: u64 = 250;
/// A session that nobody has used for this long is closed; they are looked at this often.
pub const UPSTREAM_SESSION_IDLE_MS: u64 = 600_000;
pub const UPSTREAM_SESSIONS_LOOK_MS: u64 = 10_000;
/// Ended sessions of clients, and levels of others, that are remembered. Past it the oldest is forgotten.
pub const SESSION_NOTES_MAX: usize = 64 * 1024;
/// Streams of older servers that are listened to in sessions of clients, a connection each. Past it a server that says
/// something by itself to one client is not heard.
pub const SESSION_STREAMS_MAX: usize = 4 * 1024;
/// Notes are published this often at most.
pub const SESSION_NOTES_MS: u64 = 10;
/// Streams of clients whose interests control knows, over all workers. Past it a stream is told nothing but what others
/// want to hear of.
pub const INTERESTS_MAX: usize = 64 * 1024;
/// Resources of one server that are subscribed to. Past it changes of the others are not told.
pub const LISTEN_URIS_MAX: usize = 1_024;
/// Longest event on a stream of changes: they carry a name. Past it the stream is opened anew.
pub const LISTEN_EVENT_BYTES_MAX: usize = 1024 * 1024;
/// A silent connection is asked after this long whether it is still there.
pub const LISTEN_KEEPALIVE_SECONDS: u64 = 30;
/// Quiet time after a change of what is wanted of a server, before its stream is opened anew.
pub const LISTEN_DEBOUNCE_MS: u64 = 50;
/// That fewer resources of a server are wanted is told to it after this long: another stream may want them in a moment.
pub const LISTEN_SHRINK_MS: u64 = 1_000;
/// A server that says that its lists have changed is listed again this often at most.
pub const LISTEN_REFRESH_MS: u64 = 100;
/// Changed resources of one server that are told at once, and the pause after them: a flood of its may not fill the
/// mailboxes of workers.
pub const LISTEN_UPDATES_AT_ONCE: u32 = 64;
pub const LISTEN_UPDATES_PAUSE_MS: u64 = 10;
/// Time for a stream to begin, and pauses between tries: twice as long after each, up to the last. One that has lasted
/// for longer than that begins the pauses anew.
/// How long a client's stream waits until servers are listened to, before it says that it is there.
pub const LISTEN_WAIT_MS: u64 = 1_000;
pub const LISTEN_OPEN_MS: u64 = 5_000;
pub const LISTEN_RETRY_MS: u64 = 250;
pub const LISTEN_RETRY_MS_MAX: u64 = 30_000;
/// A server whose lists are fresh for this long at least is listened to meanwhile, also while no client is.
pub const LISTEN_FRESH_MS_MIN: u64 = 5_000;
/// A stream that nobody is interested in is closed after this long.
pub const LISTEN_LINGER_MS: u64 = 30_000;
/// Health probes under way at the same time, and listings: servers that keep silence hold up the latter only. Past it
/// they wait, each for its turn.
pub const PROBES_MAX: usize = 64;
pub const LISTINGS_MAX: usize = 256;
/// What quotas have used is written this often: what a kill of the process can lose.
pub const QUOTAS_FLUSH_MS: u64 = 1_000;
/// The file of quotas: all cells of both kinds fit. Past it: it is set aside.
pub const QUOTAS_FILE_BYTES_MAX: u64 = 64 * PINNED_CELLS_MAX as u64;
/// How often breakers whose time is over change without a call.
pub const TIDY_MS: u64 = 1_000;
/// All buckets of rates are looked at once in this time; the table asks for once a day.
pub const SWEEP_ROUND_MS: u64 = 3_600_000;
/// Longest wait for a request's head on the admin listener, idle keep-alive included.
pub const ADMIN_HEADER_TIMEOUT_MS: u64 = 5_000;
/// Longest life of an admin connection: ends readers that take one byte a second.
pub const ADMIN_CONNECTION_MS: u64 = 120_000;
/// Quiet time after a change of the configuration's files: editors and volume mounts write in steps.
pub const RELOAD_DEBOUNCE_MS: u64 = 250;
/// Past it a change is read although files are still written.
pub const RELOAD_DEBOUNCE_MS_MAX: u64 = 2_000;
/// How long after a file event was acted on a SIGHUP with the same content is taken for the same reload: longer
/// than a tool needs between writing and signalling, shorter than a second thought.
pub const RELOAD_JOIN_MS: u64 = 1_000;
/// How often files are looked at where the kernel watches none for us.
pub const WATCH_POLL_MS: u64 = 1_000;
/// A key file that cannot be read is read again after this long before anybody is warned: it may be
/// half written.
pub const KEYS_SETTLE_MS: u64 = 20;
/// When keys were last used is written this often.
pub const LAST_USED_FLUSH_MS: u64 = 1_000;
/// Names resolved at the same time. The rest wait: a silent DNS server may hold its threads only.
pub const RESOLVES_MAX: usize = 4;
/// Credentials of servers that control keeps, over all callers: about 2 KiB each. Past it those that nobody waits for
/// are forgotten and obtained anew.
pub const CREDENTIALS_MAX: usize = 16 * 1024;
/// A token is renewed this long before it ends.
pub const TOKEN_MARGIN_SECONDS: u64 = 30;
/// Life of a token that is had for the asking and does not say how long it lives (RFC 6749 section 5.1), and the longest
/// that is believed: a day. What a user has consented to lives as long as it says, or until its server refuses it.
pub const TOKEN_LIFE_SECONDS_DEFAULT: u64 = 300;
pub const TOKEN_LIFE_SECONDS_MAX: u64 = 86_400;
/// Life of a signed statement about a caller, and when another one is made.
pub const ASSERTION_SECONDS: u64 = 60;
pub const ASSERTION_FRESH_SECONDS: u64 = 45;
/// How long a vault's secret without a lease is kept, and the bounds of a lease that is believed.
pub const LEASE_SECONDS_DEFAULT: u64 = 300;
pub const LEASE_SECONDS_MIN: u64 = 10;
pub const LEASE_SECONDS_MAX: u64 = 3_600;
/// How long a caller has to consent.
pub const CONSENT_SECONDS: u64 = 600;
/// How long the metadata of an authorization server is believed.
pub const SITE_SECONDS: u64 = 3_600;
/// Consents that are asked for at a time. Past it no more are, until some are given or too old.
pub const CONSENTS_MAX: usize = 4_096;
/// Consents that are kept. Past it the one that ended first is forgotten.
pub const CONSENTS_KEPT_MAX: usize = 16 * 1024;
/// The file of consents: all of them fit, with tokens of 4 KiB. Past it: it is not read.
pub const CONSENTS_FILE_BYTES_MAX: u64 = 8 * 1024 * CONSENTS_KEPT_MAX as u64;
/// After a failure the same answer stands for this long: calls that waited together fail together, and a service that
/// is down is not stormed.
pub const CREDENTIAL_FAILED_MS: u64 = 1_000;
/// A credential that its server refuses is renewed once in this time: it may refuse all. Where calls have succeeded in
/// between, so many times at once.
pub const CREDENTIAL_RENEW_MS: u64 = 1_000;
pub const CREDENTIAL_RENEWALS_AT_ONCE: u64 = 4;
/// Names of services (issuers, token endpoints, vaults) resolved at the same time, beside those of upstreams.
pub const FETCH_RESOLVES_MAX: usize = 2;
/// Answer of such a service: key sets have some 20 KiB. Past it: no more is read, the answer is none.
pub const FETCHED_BYTES_MAX: usize = 1024 * 1024;
/// Keys of an issuer are fetched again when its answer is no longer fresh, within these bounds, or after the default.
pub const TOKEN_KEYS_MS_DEFAULT: u64 = 300_000;
pub const TOKEN_KEYS_MS_MIN: u64 = 60_000;
pub const TOKEN_KEYS_MS_MAX: u64 = 3_600_000;
/// A file of keys is read again this often, beside being watched.
pub const TOKEN_KEYS_FILE_MS: u64 = 60_000;
/// After a fetch that failed: twice as long after each, up to the second.
pub const TOKEN_KEYS_RETRY_MS: u64 = 1_000;
pub const TOKEN_KEYS_RETRY_MS_MAX: u64 = 30_000;
/// Keys that are not known cause one fetch of an issuer in this time: tokens may not turn into requests.
pub const TOKEN_KEYS_UNKNOWN_MS: u64 = 30_000;
/// Tokens that are asked for at the same time, and calls that one decision point is asked about; the rest wait.
pub const ANSWERS_MAX: usize = 256;
/// Questions to one hook of `route` at a time. Past it: it is not asked, and the next route counts, so that one that hangs
/// takes nothing but its own time.
pub const ROUTE_QUESTIONS_MAX: usize = 64;
/// Answer of such a hook: the name of a pool, with some room. Past it: no more is read, the answer is none.
pub const ROUTE_ANSWER_BYTES_MAX: usize = 4 * 1024;
/// How long a token that its issuer did not vouch for is refused without asking again.
pub const INACTIVE_TOKEN_MS: u64 = 15_000;
/// How long after its last answer a token that was active is asked for whatever the rate of fruitless questions is.
pub const ACTIVE_TOKEN_MS: u64 = 3_600_000;
/// Tokens of either kind that are remembered, at about 100 bytes. Past it those whose time is over go, else all.
pub const INACTIVE_TOKENS_MAX: usize = 16 * 1024;
pub const ACTIVE_TOKENS_MAX: usize = 16 * 1024;
/// Questions to one issuer that lead to nothing: so many at once, and then one in this time. Past it tokens that are not
/// known are refused without asking. Those that wait at the moment (`ANSWERS_MAX`) may come on top.
pub const FRUITLESS_BURST: u64 = 32;
pub const FRUITLESS_MS: u64 = 100;
/// Control's own deadline for a question. Past it the asker is told that nothing is known.
pub const QUESTION_MS: u64 = 2_000;
/// Threads of control's blocking pool; more than lookups of names hold, so that DNS cannot stop a reload.
pub const BLOCKING_THREADS_MAX: usize = 8;
/// Pause of the writer of call records between two looks at the rings.
pub const WRITER_PAUSE_MS: u64 = 10;
/// Bytes of lines that the writer gathers for one write.
pub const WRITER_BATCH_BYTES: usize = 64 * 1024;
/// After a failed write the destination is tried again this much later; records wait in their rings until then.
pub const WRITER_RETRY_MS: u64 = 1_000;
/// The same trouble is told again after this long at the earliest.
pub const WARN_AGAIN_MS: u64 = 60_000;
/// Between the end of a drain and the end of the process: time to cut what is still open, and time to
/// write the last records.
pub const STOP_MS: u64 = 1_000;
