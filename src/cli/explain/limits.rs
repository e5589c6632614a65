//! What each limit has to do with a call, in words.
//!
//! Not here: the decision itself (policy).

use crate::config::access::AccessRule;
use crate::config::limit::Count;
use crate::config::limit::KeyPart;
use crate::config::limit::Limit;
use crate::config::limit::Rate;
use crate::config::units;
use crate::policy::access::Told;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::decide::Seen;
use crate::policy::decide::Trail;
use crate::policy::expression;
use crate::policy::expression::Scope;
use crate::policy::identity::Origin;
use crate::policy::limits::terms::Verdict;
use jiff::Timestamp;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// What was heard while it was decided.
#[derive(Default)]
pub(super) struct Sightings {
    /// Why limits did not count the call, by their names.
    limits: Vec<(String, String)>,
    /// What access rules said, by their names.
    access: Vec<(String, Told)>,
}

impl Trail for Sightings {
    const ALL: bool = true;

    fn seen(&mut self, limit: &Limit, seen: Seen<'_>) {
        let why = match seen {
            Seen::OtherMethod => "it is for other methods".into(),
            Seen::OtherServer => "it is for other servers".into(),
            Seen::OtherTool => "it is for other tools".into(),
            Seen::No => "its `when` is false".into(),
            Seen::Failed(error) => format!("its expression cannot be evaluated: {error}"),
            Seen::Uncounted => "not counted: `limitTable` is full".into(),
        };
        self.limits.push((limit.name.to_string(), why));
    }

    fn told(&mut self, rule: &AccessRule, told: Told) {
        self.access.push((rule.name.to_string(), told));
    }
}

impl Sightings {
    fn of(&self, limit: &Limit) -> Option<&str> {
        self.limits.iter().find(|(name, _)| **name == *limit.name).map(|(_, why)| why.as_str())
    }

    pub(super) fn told(&self, rule: &AccessRule) -> Option<Told> {
        self.access.iter().find(|(name, _)| **name == *rule.name).map(|(_, told)| *told)
    }
}

/// One limit and the call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bucket {
    pub(super) limit: String,
    /// Whose bucket it is; None: the limit does not match.
    key: Option<String>,
    says: String,
}

impl Display for Bucket {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.says),
            None => write!(f, "no match: {}", self.says),
        }
    }
}

/// One for each limit, in the order of the file.
pub(super) fn buckets(
    desk: Desk<'_>,
    asked: &Asked<'_>,
    sightings: &Sightings,
    decided: &Result<Admission<'_>, Refused<'_>>,
) -> Vec<Bucket> {
    const NOT_ASKED: &str = "not asked";
    let mut patterns = desk.patterns.borrow_mut();
    let mut scope = Scope::new(asked.variables(), &mut patterns);
    let before = matches!(
        decided,
        Err(Refused::Killed(_) | Refused::Hidden(_) | Refused::Forbidden(_) | Refused::MissingScopes { .. })
    );
    // Limits that stand after the one that refuses are not asked.
    let mut refused = matches!(decided, Err(Refused::TooManyLimits));
    let bucket = |limit: &Limit| {
        let (key, says) = if let Some(why) = sightings.of(limit) {
            (None, why.to_owned())
        } else if before {
            (None, NOT_ASKED.into())
        } else {
            let verdict = verdict(limit, decided);
            let says = match verdict {
                Some(verdict) => told(limit, verdict, asked.when.unix_ns),
                None if refused => NOT_ASKED.into(),
                None => "has room".into(),
            };
            refused |= verdict.is_some_and(|verdict| !verdict.has_room());
            (Some(key(limit, asked, &mut scope)), says)
        };
        Bucket { limit: limit.name.to_string(), key, says }
    };
    desk.limits.list.iter().map(bucket).collect()
}

/// What the limit said; None where the decision does not tell.
fn verdict(limit: &Limit, decided: &Result<Admission<'_>, Refused<'_>>) -> Option<Verdict> {
    match decided {
        Ok(admission) => {
            let (_, item) = admission.limits().find(|(met, _)| met.name == limit.name)?;
            Some(item.verdict)
        }
        Err(Refused::Limited(refusing, verdict)) if refusing.name == limit.name => Some(*verdict),
        Err(_) => None,
    }
}

/// Who shares the bucket.
fn key(limit: &Limit, asked: &Asked<'_>, scope: &mut Scope<'_>) -> String {
    let part = |part: &KeyPart| match part {
        KeyPart::Caller if matches!(asked.caller.origin, Origin::Anonymous) => {
            format!("source={}", asked.source)
        }
        KeyPart::Principal | KeyPart::Caller => format!("principal={}", asked.caller.name),
        KeyPart::Tenant => format!("tenant={}", asked.caller.tenant),
        KeyPart::Server => format!("server={}", asked.server),
        KeyPart::Tool => format!("tool={}.{}", asked.server, asked.target),
        KeyPart::Source => format!("source={}", asked.source),
        KeyPart::Gateway => "gateway".into(),
        KeyPart::Expression(value) => match expression::show_key(value, scope) {
            Ok(value) => format!("key={value}"),
            Err(error) => format!("key: {error}"),
        },
    };
    limit.key.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// What is left, of what, and when it comes back.
fn told(limit: &Limit, verdict: Verdict, unix_ns: u64) -> String {
    let (left, wait, reset_ns) = match verdict {
        Verdict::Room { left, reset_ns } => (left, String::new(), reset_ns),
        Verdict::Exhausted { retry_ns, reset_ns } => {
            let wait_ms = retry_ns.div_ceil(1_000_000);
            (0, format!("; room again in {}", units::show_ms(wait_ms)), reset_ns)
        }
        Verdict::Full => return "`limitTable` is full".into(),
    };
    let (most, comes) = match (limit.rate, &limit.quota) {
        (Some(rate), _) => (rate.burst, pace(rate)),
        (None, Some(quota)) => {
            let ends_ms = i64::try_from(unix_ns.saturating_add(reset_ns) / 1_000_000).unwrap_or(i64::MAX);
            let ends = Timestamp::from_millisecond(ends_ms).unwrap_or(Timestamp::MAX);
            (quota.count, format!("until {}", ends.to_zoned(quota.zone.clone())))
        }
        (None, None) => return "neither `rate` nor `quota`".into(),
    };
    let (what, later) = match limit.count {
        Count::Calls => ("", ""),
        Count::Requests => (" requests", ""),
        Count::Tokens => (" tokens", "; charged when the answer is known"),
    };
    format!("{left} of {most}{what} left, {comes}{wait}{later}")
}

/// In the smallest unit of time that makes it a whole number.
fn pace(rate: Rate) -> String {
    let units = [(1_000, "a second"), (60_000, "a minute"), (3_600_000, "an hour"), (86_400_000, "a day")];
    let whole = units.into_iter().find_map(|(unit_ms, name)| {
        let counted = u128::from(rate.count) * unit_ms;
        let per_ms = u128::from(rate.per_ms);
        counted.is_multiple_of(per_ms).then(|| format!("{} {name}", counted / per_ms))
    });
    whole.unwrap_or_else(|| format!("{} in {}", rate.count, units::show_ms(rate.per_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_in_the_smallest_whole_unit() {
        for ((count, per_ms), expected) in [
            ((60, 60_000), "1 a second"),
            ((10, 60_000), "10 a minute"),
            ((1_000, 60_000), "1000 a minute"),
            ((25, 10_000), "150 a minute"),
            ((100_000, 3_600_000), "100000 an hour"),
            ((1, 86_400_000), "1 a day"),
            ((1, 7 * 86_400_000), "1 in 7d"),
            ((5, 1_000), "5 a second"),
        ] {
            assert_eq!(pace(Rate { count, per_ms, burst: 1 }), expected);
        }
    }
}
