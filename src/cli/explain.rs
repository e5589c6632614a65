//! `ringgate explain`: what would become of a call, rule by rule, and where it would go.
//!
//! The call is put to `policy::decide::decide`, which decides live, with counters of its own: nothing is charged.
//!
//! Not here: what a running gateway has counted (`/api/v1/quotas`) and observed of its servers (`/metrics`).

mod limits;
mod route;
mod subject;

use crate::base::clock;
use crate::cli;
use crate::cli::explain::limits::Bucket;
use crate::cli::explain::limits::Sightings;
use crate::cli::explain::route::Setting;
use crate::cli::explain::subject::Subject;
use crate::config::keys;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::control::kills;
use crate::policy::decide;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::expression::Patterns;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::gate::When;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::rules::Rules;
use serde::Serialize;
use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Counters of one process that nobody else calls: no secret is needed.
const KEYS: Keys = Keys { seeds: [1, 2] };
/// Calls that `--after` may ask for: about a second of work.
const AFTER_MAX: i64 = 1_000_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Config file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Who calls
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: String,
    /// SERVER.TOOL or SERVER__TOOL; prompt:SERVER.NAME, resource:SERVER.URI
    #[arg(value_name = "TOOL", value_parser = Subject::parse)]
    subject: Subject,
    /// Arguments of the call, for expressions that look at them
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = subject::arguments)]
    args: String,
    /// Where the caller connects from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    source: IpAddr,
    /// Equal calls that came before it at the same moment
    #[arg(long, value_name = "CALLS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=AFTER_MAX))]
    after: u32,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// An explanation is a success, whatever it says about the call.
pub fn run(args: &Args) -> ExitCode {
    let plan = match cli::plan(&args.config) {
        Ok(plan) => plan,
        Err(failed) => return failed,
    };
    let plan = &plan;
    let Some(server) = plan.servers.iter().find(|server| *server.name == *args.subject.server) else {
        return cli::fail(unknown_server(plan, args));
    };
    let explanation = explain(plan, server, args);
    if !args.json {
        return cli::print(explanation);
    }
    match serde_json::to_string_pretty(&explanation) {
        Ok(text) => cli::print(text),
        Err(error) => cli::fail(format_args!("cannot write JSON: {error}.")),
    }
}

fn unknown_server(plan: &Plan, args: &Args) -> String {
    let known = || plan.servers.iter().map(|server| &*server.name);
    let name = &args.subject.server;
    let cure = match nearest(name, known()) {
        Some(server) => format!("Did you mean {}?", quoted(server)),
        None => format!("It has: {}.", known().collect::<Vec<_>>().join(", ")),
    };
    format!("{} has no server {}. {cure}", args.config.display(), quoted(name))
}

/// What is printed: as text by `Display`, with `--json` as it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation<'a> {
    call: Call<'a>,
    /// What is known of kill switches.
    kills: String,
    limits: Vec<Bucket>,
    route: Vec<Setting>,
    decision: Decision,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    method: &'static str,
    server: &'a str,
    name: &'a str,
    principal: &'a str,
    roles: Vec<Box<str>>,
    /// Where the roles are from.
    identity: String,
    source: IpAddr,
    after: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    allowed: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
}

#[derive(Serialize)]
struct Refusal {
    status: u16,
    reason: &'static str,
    rule: String,
}

fn explain<'a>(plan: &Plan, server: &Server, args: &'a Args) -> Explanation<'a> {
    let (kills, known_kills) = kills_of(plan);
    let (roles, identity) = roles_of(plan, &args.principal);
    let subject = &args.subject;
    let body = subject.body(&args.args);
    let counters = Counters::new(plan.limits.table, KEYS);
    let rules = Rules::new(&plan.limits, &counters.keys);
    let patterns = RefCell::new(Patterns::default());
    let desk =
        Desk { limits: &plan.limits, rules: &rules, counters: &counters, kills: &kills, patterns: &patterns };
    let unix_ns = clock::unix_nanos();
    let asked = Asked {
        principal: &args.principal,
        roles: &roles,
        tenant: "",
        server: &server.name,
        method: subject.method(),
        method_text: subject.method().as_str(),
        target: &subject.name,
        source: args.source,
        body: body.as_bytes(),
        when: When { moment: clock::now(), unix_ns },
    };
    let mut admission = Admission::default();
    for _ in 0..args.after {
        // What it says is of no interest here, only what it leaves.
        let _ = decide::decide(desk, &asked, &mut admission, &mut Sightings::default());
    }
    let mut sightings = Sightings::default();
    let decided = decide::decide(desk, &asked, &mut admission, &mut sightings).map(|()| admission);
    let limits = limits::buckets(desk, &asked, &sightings, &decided);
    let decision = Decision::of(decided.as_ref().err());
    let call = Call {
        method: subject.method().as_str(),
        server: &subject.server,
        name: &subject.name,
        principal: &args.principal,
        roles,
        identity,
        source: args.source,
        after: args.after,
    };
    Explanation { call, kills: known_kills, limits, route: route::settings(server, subject), decision }
}

/// The kill switches that a gateway of this config would start with, and what is known of them.
fn kills_of(plan: &Plan) -> (Kills, String) {
    let none = |why| (Kills::default(), why);
    let Some(directory) = &plan.state_dir else {
        return none("not known: without `state.dir` only the running gateway knows them".into());
    };
    let shown = directory.display();
    // Reading makes the directory where there is none, and an explanation changes nothing.
    if !directory.exists() {
        return none(format!("none: {shown} is not there yet"));
    }
    match kills::load(directory) {
        Ok(kills) => {
            let known = format!("{} in {shown}", kills.len());
            (kills, known)
        }
        Err(problem) => none(format!("not known: {problem}")),
    }
}

/// The roles of the principal's first key, and where they are from.
fn roles_of(plan: &Plan, principal: &str) -> (Vec<Box<str>>, String) {
    if plan.identity.anonymous.as_deref() == Some(principal) {
        return (Vec::new(), "a caller without a key".into());
    }
    let Some(path) = &plan.identity.api_keys else {
        return (Vec::new(), "nobody can be it: the config has no `identity.apiKeys`".into());
    };
    let shown = path.display();
    match keys::read_written(path) {
        Err(_) => (Vec::new(), format!("its roles are not known: {shown} cannot be read")),
        Ok(written) => match written.into_iter().find(|key| key.principal == principal) {
            Some(key) => {
                let from = format!("key {} in {shown}", key.id);
                (key.roles.into_iter().map(String::into_boxed_str).collect(), from)
            }
            None => (Vec::new(), format!("it has no key in {shown}")),
        },
    }
}

impl Decision {
    fn of(refused: Option<&Refused<'_>>) -> Self {
        let refusal = refused.map(|refused| {
            let wire = refused.kind().wire();
            Refusal { status: wire.status, reason: wire.reason, rule: refused.rule() }
        });
        Self { allowed: refusal.is_none(), refusal }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            None => f.write_str("allowed"),
            Some(Refusal { status, reason, rule }) => write!(f, "refused: {status} {reason} by {rule}"),
        }
    }
}

impl Display for Explanation<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Call { method, server, name, principal, roles, identity, source, after } = &self.call;
        writeln!(f, "{method} {server}.{name} by {principal} from {source}")?;
        let roles = if roles.is_empty() { String::new() } else { format!(", roles {}", roles.join(", ")) };
        writeln!(f, "identity: {identity}{roles}")?;
        writeln!(f, "kill switches: {}", self.kills)?;
        match after {
            0 => writeln!(f, "limits, if nobody has called before:")?,
            calls => writeln!(f, "limits, after {calls} such calls at the same moment:")?,
        }
        table(f, self.limits.iter().map(|bucket| (&*bucket.limit, bucket)))?;
        writeln!(f, "where it goes:")?;
        table(f, self.route.iter().map(|setting| (&*setting.name, &setting.says)))?;
        write!(f, "{}", self.decision)
    }
}

/// Names in one column, what there is to say in the next.
fn table<'t, T: Display>(
    f: &mut Formatter<'_>,
    rows: impl Iterator<Item = (&'t str, T)> + Clone,
) -> fmt::Result {
    let width = rows.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, says) in rows {
        writeln!(f, "  {name:width$}  {says}")?;
    }
    Ok(())
}
