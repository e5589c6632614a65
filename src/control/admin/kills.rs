//! `/api/v1/kills`: GET lists the kill switches, POST sets one, DELETE `/KIND/NAME` ends one.
//!
//! Not here: keeping them and telling workers (`control::kills`).

use crate::base::clock;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::config::problem::nearest;
use crate::control::admin::Answer;
use crate::control::admin::api;
use crate::control::admin::json;
use crate::control::admin::not_allowed;
use crate::control::kills;
use crate::control::kills::Change;
use crate::control::kills::Refused;
use crate::control::state::State;
use crate::policy::kills::Kill;
use crate::policy::kills::Kind;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;

const EXAMPLE: &str = r#"{"kind": "principal", "name": "agent-7", "reason": "it loops", "operator": "ann"}"#;
/// Where nobody says who asks.
const UNKNOWN: &str = "unknown";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    kind: Kind,
    #[serde(default)]
    name: String,
    #[serde(default)]
    reason: String,
    operator: Option<String>,
}

/// `below` is what follows `/api/v1/kills/`.
pub(super) async fn answer(state: &Arc<State>, below: &str, request: Request<Incoming>) -> Answer {
    match (request.method(), below) {
        (&Method::GET | &Method::HEAD, "") => list(state),
        (&Method::POST, "") => match api::body(request, EXAMPLE).await {
            Ok(wanted) => kill(state, wanted).await,
            Err(answer) => answer,
        },
        (&Method::DELETE, path) if !path.is_empty() => unkill(state, path, &request).await,
        (_, "") => not_allowed("GET, HEAD, POST"),
        _ => not_allowed("DELETE"),
    }
}

fn list(state: &State) -> Answer {
    json(&serde_json::json!({
        "kills": state.shared.kills.load().iter().collect::<Vec<_>>(),
        "survivesRestart": state.plan().state_dir.is_some(),
    }))
}

async fn kill(state: &Arc<State>, wanted: Wanted) -> Answer {
    let Wanted { kind, name, reason, operator } = wanted;
    let operator = named(operator);
    if let Err(said) =
        check(&state.plan(), kind, &name).and_then(|()| check_texts(&[&name, &reason, &operator]))
    {
        return api::problem(StatusCode::BAD_REQUEST, &said);
    }
    let since_unix_ms = clock::unix_millis();
    let kill =
        Kill { kind, name: name.into(), operator: operator.into(), reason: reason.into(), since_unix_ms };
    match kills::change(state, Change::Kill(kill.clone())).await {
        Ok(survives) => json(&serde_json::json!({ "killed": kill, "survivesRestart": survives })),
        Err(refused) => refusal(&refused, "The kill is in force, but would not survive a restart"),
    }
}

/// Who turns the switch, as far as that is said.
fn named(operator: Option<String>) -> String {
    operator.filter(|operator| !operator.is_empty()).unwrap_or_else(|| UNKNOWN.into())
}

async fn unkill(state: &Arc<State>, path: &str, request: &Request<Incoming>) -> Answer {
    let (word, name) = path.split_once('/').unwrap_or((path, ""));
    let (Some(kind), Some(name)) = (Kind::from_word(word), api::decoded(name)) else {
        let said = "The path names no kill switch. Write /api/v1/kills/KIND/NAME with a percent-encoded NAME; KIND is \
                    one of all, tenant, principal, server, tool, and `all` has no NAME.";
        return api::problem(StatusCode::BAD_REQUEST, said);
    };
    let operator = named(api::parameter(request, "operator"));
    let reason = api::parameter(request, "reason").unwrap_or_default();
    if let Err(said) = check_texts(&[&operator, &reason]) {
        return api::problem(StatusCode::BAD_REQUEST, &said);
    }
    let unkilled = serde_json::json!({ "kind": kind, "name": name });
    match kills::change(state, Change::Unkill { kind, name, operator, reason }).await {
        Ok(survives) => json(&serde_json::json!({ "unkilled": unkilled, "survivesRestart": survives })),
        Err(refused) => {
            refusal(&refused, "The kill switch stays in force, because its end would not survive a restart")
        }
    }
}

fn refusal(refused: &Refused, unwritten: &str) -> Answer {
    match refused {
        Refused::NotKilled => api::problem(
            StatusCode::NOT_FOUND,
            "Nothing of that kind and name is killed. GET /api/v1/kills lists what is.",
        ),
        Refused::Full => {
            let most = limits::KILLS_MAX;
            let said =
                format!("{most} kill switches are set, the most there can be. End some, or use `all`.");
            api::problem(StatusCode::CONFLICT, &said)
        }
        Refused::NotWritten(reason) => {
            let said =
                format!("{unwritten}: {reason}. Give the state directory room and rights, and try again.");
            api::problem(StatusCode::INTERNAL_SERVER_ERROR, &said)
        }
    }
}

/// A name that can match something. A kill switch for a misspelt server would stop nothing and look as if it did.
fn check(plan: &Plan, kind: Kind, name: &str) -> Result<(), String> {
    let server = match kind {
        Kind::All if name.is_empty() => return Ok(()),
        Kind::All => return Err("`all` has no name. Leave it out, or name the kind.".into()),
        _ if name.is_empty() => {
            return Err(format!("A kind other than `all` needs a name. For example: {EXAMPLE}"));
        }
        Kind::Tenant | Kind::Principal => return Ok(()),
        Kind::Server => name,
        Kind::Tool => match name.split_once('.') {
            Some((server, tool)) if !tool.is_empty() => server,
            _ => return Err(format!("`{name}` is no tool. Write `SERVER.TOOL`, for example `db.query`.")),
        },
    };
    if plan.by_name.contains_key(server) {
        return Ok(());
    }
    let near = nearest(server, plan.by_name.keys().map(|known| &**known));
    let cure = near.map_or("Name one of its servers.".into(), |near| format!("Did you mean `{near}`?"));
    Err(format!("The configuration in force has no server `{server}`. {cure}"))
}

fn check_texts(texts: &[&str]) -> Result<(), String> {
    let good = |text: &&str| text.len() <= limits::KILL_TEXT_BYTES_MAX && !text.contains(char::is_control);
    if texts.iter().all(good) {
        return Ok(());
    }
    let most = limits::KILL_TEXT_BYTES_MAX;
    Err(format!(
        "Name, reason and operator have at most {most} bytes each and no control characters. Shorten them."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admin::tests::Admin;

    const KILLS: &str = "/api/v1/kills";

    #[tokio::test]
    async fn a_kill_is_set_listed_and_ended() {
        let admin = Admin::with(|_| {}).await;
        let asked = r#"{"kind":"principal","name":"a/b c","reason":"it loops","operator":"ann"}"#;
        let (status, body) = admin.post(KILLS, asked).await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#""survivesRestart":false"#), "{body}");
        assert_eq!(admin.state.shared.kills.load().find("a/b c", "", "up", ""), Some(Kind::Principal));
        let (status, body) = admin.get(KILLS).await;
        for part in [r#""name":"a/b c""#, r#""operator":"ann""#, r#""reason":"it loops""#] {
            assert!(status == 200 && body.contains(part), "{body}");
        }
        let (status, body) =
            admin.send("DELETE", "/api/v1/kills/principal/a%2Fb%20c?operator=ann", "", "").await;
        assert_eq!(status, 200, "{body}");
        assert!(admin.state.shared.kills.load().is_empty());
    }

    #[tokio::test]
    async fn what_would_match_nothing_is_refused_with_a_cure() {
        let admin = Admin::with(|_| {}).await;
        let long =
            format!(r#"{{"kind":"principal","name":"{}"}}"#, "a".repeat(limits::KILL_TEXT_BYTES_MAX + 1));
        let huge = format!(r#"{{"kind":"all"{}}}"#, " ".repeat(limits::ADMIN_BODY_BYTES_MAX));
        let table = [
            ("", 400, "An example"),
            (r#"{"kind":"agent","name":"a"}"#, 400, "unknown variant `agent`"),
            (r#"{"kind":"all","who":"a"}"#, 400, "unknown field `who`"),
            (r#"{"kind":"all","name":"a"}"#, 400, "`all` has no name"),
            (r#"{"kind":"principal"}"#, 400, "needs a name"),
            (r#"{"kind":"server","name":"upp"}"#, 400, "Did you mean `up`?"),
            (r#"{"kind":"tool","name":"up"}"#, 400, "SERVER.TOOL"),
            (r#"{"kind":"tool","name":"up."}"#, 400, "SERVER.TOOL"),
            (r#"{"kind":"tool","name":"down.x"}"#, 400, "no server `down`"),
            (r#"{"kind":"tenant","name":"a\nb"}"#, 400, "control characters"),
            (&long, 400, "Shorten"),
            (&huge, 413, "bytes"),
        ];
        for (body, expected, part) in table {
            let (status, said) = admin.post(KILLS, body).await;
            assert!(status == expected && said.contains(part), "{body:.60}: {status} {said}");
        }
        for (target, expected) in [
            ("/api/v1/kills/agent/a", 400),
            ("/api/v1/kills/principal/%zz", 400),
            ("/api/v1/kills/principal/a", 404),
            ("/api/v1/kills/all", 404),
            ("/api/v1/kills", 405),
        ] {
            assert_eq!(admin.send("DELETE", target, "", "").await.0, expected, "{target}");
        }
        assert!(admin.state.shared.kills.load().is_empty());
    }

    /// What a page of another site can send without asking first.
    #[tokio::test]
    async fn a_form_cannot_kill() {
        let admin = Admin::with(|_| {}).await;
        for kind in
            ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"]
        {
            assert_eq!(admin.send("POST", KILLS, kind, r#"{"kind":"all"}"#).await.0, 415, "{kind}");
        }
        let foreign = "Content-Type: application/json\r\nOrigin: http://evil.test\r\n";
        assert_eq!(admin.send("POST", KILLS, foreign, r#"{"kind":"all"}"#).await.0, 403);
        assert!(admin.state.shared.kills.load().is_empty());
        let own = "Content-Type: application/json; charset=utf-8\r\nOrigin: http://localhost:9090\r\n";
        assert_eq!(admin.send("POST", KILLS, own, r#"{"kind":"all"}"#).await.0, 200);
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_told_and_the_kill_acts() {
        let admin = Admin::with(|plan| plan.state_dir = Some("/nowhere/at/all".into())).await;
        let (status, said) = admin.post(KILLS, r#"{"kind":"all"}"#).await;
        assert!(status == 500 && said.contains("The kill is in force"), "{status} {said}");
        assert_eq!(admin.state.shared.kills.load().len(), 1);
    }
}
