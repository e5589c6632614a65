//! What a refusal by policy says on the wire: which fault it is, and what its rule adds.
//!
//! Not here: deciding (`policy::decide`), and rendering (`refuse`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity::Identity;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::refusal::Denial;
use crate::policy::decide::Refused;
use crate::policy::limits::fields;
use crate::policy::limits::terms::Verdict;
use crate::policy::resource;
use crate::telemetry::family::Family;
use crate::telemetry::metrics::WorkerMetrics;
use crate::worker::Worker;
use crate::worker::dispatch::KILLED;
use crate::worker::state::Exchange;
use crate::worker::watch::Cause;

/// Of what there is not and of what a caller may not know of: both are answered with the same bytes.
pub const UNKNOWN: Fault = Fault::new(
    Kind::Unknown,
    "Nothing of this name is here; list tools, prompts or resources to see what is.",
);
/// The same in the words of the older revisions, where it is a resource.
const UNKNOWN_RESOURCE: Fault = Fault::new(Kind::UnknownResource, UNKNOWN.detail);
/// Of every name of a server that nobody can list, where rules hide some.
const UNLISTED: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint does not say now what it has; retry later or tell the operator to check that it runs.",
);
const FORBIDDEN: Fault = Fault::new(Kind::Forbidden, "An access rule forbids this call; ask the operator.");
const NO_SCOPE: Fault =
    Fault::new(Kind::InsufficientScope, "The access token lacks a scope; get one that has it and repeat.");
const LIMITED: Fault = Fault::new(Kind::RateLimited, "A limit is used up; wait and retry.");
const UNCOUNTED: Fault =
    Fault::new(Kind::Overloaded, "The gateway has no room to count more callers; retry later.");
const TOO_MANY: Fault = Fault::new(
    Kind::Overloaded,
    "More limits match this call than the gateway checks; tell the operator to name fewer for one tool.",
);

/// As a revision says it.
pub fn in_words_of(era: Era, method: Method, fault: Fault) -> Fault {
    let of_resource =
        matches!(method, Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe);
    if era == Era::Legacy && of_resource && fault.kind == Kind::Unknown { UNKNOWN_RESOURCE } else { fault }
}

/// What a refusal says on the wire.
pub fn of(refused: &Refused<'_>, endpoint: (&Identity, &str), metrics: &WorkerMetrics) -> (Fault, Denial) {
    let rule = refused.rule();
    match refused {
        Refused::Killed(_) => (KILLED, Denial { rule, ..Denial::default() }),
        Refused::Absent
        | Refused::Unlisted
        | Refused::Hidden(_)
        | Refused::Forbidden(_)
        | Refused::MissingScopes { .. }
        | Refused::Barred { .. }
        | Refused::Undecided { .. } => {
            metrics.count(Family::Denied, &[&rule], 1);
            barred(refused, rule, endpoint)
        }
        Refused::Limited(limit, Verdict::Exhausted { retry_ns, reset_ns }) => {
            metrics.count(Family::Limited, &[&limit.name], 1);
            let wait_ns = if *retry_ns == u64::MAX { *reset_ns } else { *retry_ns };
            let seconds = fields::seconds(wait_ns);
            let message = format!("The limit `{}` is used up; wait {seconds} s and retry.", limit.name);
            let retry_ms = Some(wait_ns.div_ceil(1_000_000));
            (LIMITED, Denial { message, rule, retry_ms, ..Denial::default() })
        }
        Refused::Limited(..) => {
            metrics.count(Family::LimitTableFull, &[], 1);
            (UNCOUNTED, Denial { rule, ..Denial::default() })
        }
        Refused::TooManyLimits => (TOO_MANY, Denial { rule, ..Denial::default() }),
    }
}

/// A call that a kill switch ends under way is told by what, as one that it does not let in.
pub fn note_kill(worker: &Worker, slot: usize, exchange: &mut Exchange, fault: Fault) {
    if fault.kind == Kind::Killed
        && let Some(Cause::Killed(Some(kind))) = worker.watch.cause(slot)
    {
        let rule = Refused::Killed(kind).rule();
        exchange.record.reason = fault.wire().reason;
        exchange.record.rule.set(&rule);
        exchange.deny(Denial { rule, ..Denial::default() });
    }
}

/// What a refusal by access rules says on the wire; of a hidden thing nothing.
fn barred(refused: &Refused<'_>, rule: String, (identity, endpoint): (&Identity, &str)) -> (Fault, Denial) {
    match refused {
        Refused::MissingScopes { scopes, .. } => {
            let shown = scopes.join(" ");
            let message =
                format!("This call needs a token with the scopes `{shown}`; get one and repeat it.");
            let challenge = resource::step_up(identity, endpoint, scopes);
            (NO_SCOPE, Denial { message, rule, challenge, ..Denial::default() })
        }
        Refused::Forbidden(by) => {
            let message = by.map_or_else(
                || "No access rule allows this call; ask the operator for one.".into(),
                |by| format!("The access rule `{}` forbids this call as it is; ask the operator.", by.name),
            );
            (FORBIDDEN, Denial { message, rule, ..Denial::default() })
        }
        Refused::Barred { rule: by, reason } => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let message =
                format!("The access rule `{}` forbids this call{reason}; ask the operator.", by.name);
            (FORBIDDEN, Denial { message, rule, ..Denial::default() })
        }
        Refused::Undecided { .. } => (FORBIDDEN, Denial { rule, ..Denial::default() }),
        // Nothing of a rule: the same of all names.
        Refused::Unlisted => (UNLISTED, Denial::default()),
        _ => (UNKNOWN, Denial { rule, ..Denial::default() }),
    }
}
