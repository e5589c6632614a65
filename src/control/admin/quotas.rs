//! `/api/v1/quotas/PRINCIPAL`: what a principal has used of its quotas. `/api/v1/usage`: tokens used elsewhere.
//!
//! Not here: counting (`policy::limits`). Quotas are shown where the principal alone is their key.

use crate::base::clock;
use crate::config::limit::Limit;
use crate::config::limits;
use crate::control::admin::Answer;
use crate::control::admin::api;
use crate::control::admin::json;
use crate::control::admin::not_allowed;
use crate::control::state::State;
use crate::policy::limits::calendar;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::rules;
use crate::policy::limits::terms::Verdict;
use crate::policy::limits::usage;
use crate::policy::limits::usage::Usage;
use crate::telemetry::family::Family;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

const EXAMPLE: &str =
    r#"{"from": "llm-router", "principal": "agent-7", "inputTokens": 1200, "outputTokens": 300}"#;

/// `below` is what follows `/api/v1/quotas/`.
pub(super) fn answer(state: &State, below: &str, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let Some(principal) = api::decoded(below).filter(|principal| !principal.is_empty()) else {
        let said = "The path names no principal. Write /api/v1/quotas/PRINCIPAL, percent-encoded.";
        return api::problem(StatusCode::BAD_REQUEST, said);
    };
    let plan = state.plan();
    let shown = plan.limits.list.iter().filter_map(|limit| quota(state, limit, &principal));
    json(&serde_json::json!({ "principal": principal, "quotas": shown.collect::<Vec<_>>() }))
}

/// None for a rate, and where more than the principal makes the key.
fn quota(state: &State, limit: &Limit, principal: &str) -> Option<Value> {
    let counters = &state.shared.limits;
    let wanted = limit.quota.as_ref()?;
    let key = rules::key_of_principal(limit, &counters.keys, "", principal)?;
    let unix_ns = clock::unix_nanos();
    let window = calendar::window(wanted, unix_ns / 1_000_000);
    let quota = Quota { count: wanted.count, ends_ns: window.end_ms.saturating_mul(1_000_000) };
    let left = match counters.quotas.check(key, &quota, 0, unix_ns) {
        Verdict::Room { left, .. } => left,
        Verdict::Exhausted { .. } | Verdict::Full => 0,
    };
    let reset = i64::try_from(window.end_ms).ok().and_then(|end| jiff::Timestamp::from_millisecond(end).ok());
    Some(serde_json::json!({
        "name": *limit.name,
        "limit": quota.count,
        "used": quota.count.saturating_sub(left),
        "left": left,
        "resetAt": reset.map(|end| end.to_string()),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Report {
    from: String,
    principal: String,
    #[serde(default)]
    server: String,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

pub(super) async fn usage(state: &State, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let report: Report = match api::body(request, EXAMPLE).await {
        Ok(report) => report,
        Err(answer) => return answer,
    };
    let plan = state.plan();
    if !plan.limits.usage_from.iter().any(|name| **name == *report.from) {
        let said = format!("Reports of `{}` are not believed. List it in `usage.from`.", report.from);
        return api::problem(StatusCode::FORBIDDEN, &said);
    }
    let most = limits::REPORTED_TOKENS_MAX;
    if report.principal.is_empty() || report.input_tokens > most || report.output_tokens > most {
        let said =
            format!("A report needs a principal and at most {most} tokens each way. An example: {EXAMPLE}");
        return api::problem(StatusCode::BAD_REQUEST, &said);
    }
    for (direction, tokens) in [("in", report.input_tokens), ("out", report.output_tokens)] {
        let labels = [report.server.as_str(), &report.tool, &report.principal, direction];
        state.families.count(Family::Tokens, &labels, tokens);
    }
    let used = Usage {
        principal: &report.principal,
        server: &report.server,
        tool: &report.tool,
        tokens: report.input_tokens + report.output_tokens,
    };
    json(
        &serde_json::json!({ "charged": usage::charge(&plan.limits, &state.shared.limits, &used, clock::now()) }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limit;
    use crate::config::limit::Count;
    use crate::config::limit::KeyPart;
    use crate::config::limit::Rate;
    use crate::config::limit::Window;
    use crate::config::plan::Plan;
    use crate::control::admin::tests::Admin;

    fn limits(plan: &mut Plan) {
        let named = |name: &str, key| Limit {
            name: name.into(),
            servers: Vec::new(),
            tools: Vec::new(),
            methods: Vec::new(),
            when: None,
            key,
            count: Count::Calls,
            rate: None,
            quota: Some(limit::Quota { count: 50, window: Window::Day, zone: jiff::tz::TimeZone::UTC }),
        };
        let rate = Some(Rate { count: 1_000, per_ms: 3_600_000, burst: 1_000 });
        plan.limits.list = vec![
            named("daily", vec![KeyPart::Principal]),
            named("per-tool", vec![KeyPart::Principal, KeyPart::Tool]),
            Limit { quota: None, rate, count: Count::Tokens, ..named("tokens", vec![KeyPart::Principal]) },
        ];
        plan.limits.usage_from = vec!["llm-router".into()];
    }

    #[tokio::test]
    async fn a_quota_is_shown_with_what_was_used_and_when_it_turns_over() {
        let admin = Admin::with(limits).await;
        let plan = admin.state.plan();
        let counters = &admin.state.shared.limits;
        let key = rules::key_of_principal(&plan.limits.list[0], &counters.keys, "", "a/7").expect("a key");
        let window = calendar::window(
            plan.limits.list[0].quota.as_ref().expect("one"),
            clock::unix_nanos() / 1_000_000,
        );
        let quota = Quota { count: 50, ends_ns: window.end_ms * 1_000_000 };
        for (take, used) in [(0, 0), (12, 12), (38, 50)] {
            assert!(counters.quotas.take(key, &quota, take, clock::unix_nanos()).has_room());
            let (status, body) = admin.get("/api/v1/quotas/a%2F7").await;
            let said: Value = serde_json::from_str(&body).expect("JSON");
            let shown = said["quotas"].as_array().expect("a list");
            assert_eq!((status, shown.len()), (200, 1), "{body}");
            let left = 50 - used;
            assert_eq!(shown[0]["name"], "daily");
            assert_eq!([&shown[0]["limit"], &shown[0]["used"], &shown[0]["left"]], [50, used, left]);
            assert!(shown[0]["resetAt"].as_str().is_some_and(|end| end.ends_with("T00:00:00Z")), "{body}");
        }
        let (_, body) = admin.get("/api/v1/quotas/b").await;
        assert!(body.contains(r#""used":0"#), "{body}");
        assert_eq!(admin.get("/api/v1/quotas/").await.0, 400);
        assert_eq!(admin.post("/api/v1/quotas/a", "{}").await.0, 405);
    }

    #[tokio::test]
    async fn usage_is_believed_of_those_who_are_listed() {
        let admin = Admin::with(limits).await;
        let table = [
            (r#"{"from":"agent-7","principal":"agent-7","inputTokens":1}"#, 403, "usage.from"),
            (r#"{"from":"llm-router","principal":"","inputTokens":1}"#, 400, "needs a principal"),
            (r#"{"from":"llm-router","principal":"a","inputTokens":1000000001}"#, 400, "at most"),
            (r#"{"from":"llm-router","principal":"a","tokens":1}"#, 400, "unknown field"),
            (
                r#"{"from":"llm-router","principal":"a","inputTokens":12,"outputTokens":5}"#,
                200,
                r#"["tokens"]"#,
            ),
        ];
        for (body, expected, part) in table {
            let (status, said) = admin.post("/api/v1/usage", body).await;
            assert!(status == expected && said.contains(part), "{body}: {status} {said}");
        }
        let (_, metrics) = admin.get("/metrics").await;
        for (direction, tokens) in [("in", 12), ("out", 5)] {
            let line = format!(
                "\nringgate_tokens_total{{server=\"\",tool=\"\",principal=\"a\",direction=\"{direction}\"}} {tokens}\n"
            );
            assert!(metrics.contains(&line), "{metrics}");
        }
        assert_eq!(admin.get("/api/v1/usage").await.0, 405);
    }
}
