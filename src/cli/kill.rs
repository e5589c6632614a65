//! `ringgate kill` and `ringgate unkill`: stop calls of a running gateway, and let them pass again.
//!
//! Not here: what is checked and kept (control).

use crate::cli;
use crate::cli::admin::Where;
use crate::cli::admin::encoded;
use crate::config::keys;
use crate::policy::kills::Kill;
use crate::policy::kills::Kind;
use serde_json::Value;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct KillArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    gateway: Where,
}

#[derive(Debug, clap::Args)]
pub struct UnkillArgs {
    #[command(subcommand)]
    what: Subject,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    gateway: Where,
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Why, for the log and for whoever asks later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, global = true)]
    reason: String,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    #[command(flatten)]
    Subject(Subject),
    /// Show what is killed
    Ls,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// All calls of a principal
    Principal { name: String },
    /// All calls of a tenant
    Tenant { name: String },
    /// All calls to a server
    Server { name: String },
    /// All calls of a tool
    Tool {
        #[arg(value_name = "SERVER.TOOL")]
        name: String,
    },
    /// Every call
    All,
}

impl Subject {
    fn parts(&self) -> (Kind, &str) {
        match self {
            Self::Principal { name } => (Kind::Principal, name),
            Self::Tenant { name } => (Kind::Tenant, name),
            Self::Server { name } => (Kind::Server, name),
            Self::Tool { name } => (Kind::Tool, name),
            Self::All => (Kind::All, ""),
        }
    }

    fn shown(&self) -> String {
        let (kind, name) = self.parts();
        format!("{} {name}", kind.as_str()).trim_end().to_owned()
    }
}

pub fn kill(args: &KillArgs) -> ExitCode {
    let What::Subject(subject) = &args.what else { return list(&args.gateway) };
    let (kind, name) = subject.parts();
    let wanted = json!({ "kind": kind, "name": name, "reason": args.why.reason, "operator": operator() });
    let answer = args.gateway.ask("POST", "/api/v1/kills", Some(&wanted));
    done("killed", subject, answer)
}

pub fn unkill(args: &UnkillArgs) -> ExitCode {
    let (kind, name) = args.what.parts();
    let slash = if name.is_empty() { "" } else { "/" };
    let target = format!(
        "/api/v1/kills/{}{slash}{}?operator={}&reason={}",
        kind.as_str(),
        encoded(name),
        encoded(&operator()),
        encoded(&args.why.reason)
    );
    let answer = args.gateway.ask("DELETE", &target, None);
    done("unkilled", &args.what, answer)
}

fn done(what: &str, subject: &Subject, answer: Result<Value, String>) -> ExitCode {
    match answer {
        Ok(answer) => {
            let lasts = answer.get("survivesRestart").and_then(Value::as_bool).unwrap_or(false);
            let until =
                if lasts { "" } else { ", until the gateway restarts: its config has no `state.dir`" };
            cli::print(format_args!("{what} {}{until}", subject.shown()))
        }
        Err(problem) => cli::fail(problem),
    }
}

/// One a line: kind, name, since when, by whom, why.
fn list(gateway: &Where) -> ExitCode {
    let answer = match gateway.ask("GET", "/api/v1/kills", None) {
        Ok(answer) => answer,
        Err(problem) => return cli::fail(problem),
    };
    let kills = answer.get("kills").cloned().unwrap_or_default();
    match serde_json::from_value::<Vec<Kill>>(kills) {
        Ok(kills) if kills.is_empty() => cli::print("nothing is killed"),
        Ok(kills) => cli::print(kills.iter().map(line).collect::<Vec<_>>().join("\n")),
        Err(error) => {
            cli::fail(format_args!("the gateway's answer is not a list of kills: {error}. Is it newer?"))
        }
    }
}

fn line(kill: &Kill) -> String {
    let since = keys::show_moment(kill.since_unix_ms / 1000);
    let subject = format!("{} {}", kill.kind.as_str(), kill.name);
    format!("{} since {since} by {}: {}", subject.trim_end(), kill.operator, kill.reason)
        .trim_end_matches([':', ' '])
        .to_owned()
}

/// Who is at the keyboard; behind `sudo` the one who called it.
fn operator() -> String {
    let known = ["SUDO_USER", "USER"].into_iter().filter_map(|name| std::env::var(name).ok());
    known.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_one_line() {
        let kill = |kind, name: &str, reason: &str| Kill {
            kind,
            name: name.into(),
            operator: "ann".into(),
            reason: reason.into(),
            since_unix_ms: 1_800_000_000_999,
        };
        let table = [
            (
                kill(Kind::Tool, "db.query", "it loops"),
                "tool db.query since 2027-01-15T08:00:00Z by ann: it loops",
            ),
            (kill(Kind::All, "", ""), "all since 2027-01-15T08:00:00Z by ann"),
        ];
        for (kill, expected) in table {
            assert_eq!(line(&kill), expected);
        }
    }
}
