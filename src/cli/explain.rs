//! `ringgate explain`: what would become of a call, rule by rule, and where it would go.
//!
//! The call is put to `policy::decide::decide`, which decides live, with counters of its own: nothing is charged.
//!
//! Not here: what a running gateway has counted (`/api/v1/quotas`) and observed of its servers (`/metrics`).

mod access;
mod caller;
mod limits;
mod route;
mod subject;

use crate::base::clock;
use crate::base::fault::Kind;
use crate::cli;
use crate::cli::explain::access::Rule;
use crate::cli::explain::limits::Bucket;
use crate::cli::explain::limits::Sightings;
use crate::cli::explain::route::Setting;
use crate::cli::explain::subject::Subject;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::control::kills;
use crate::control::store;
use crate::mcp::catalogue::Annotations;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::target::Target;
use crate::policy::access::Standing;
use crate::policy::claims::Claims;
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
use jiff::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
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
    /// Roles of the caller, instead of those of its first key, or in its claims
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    roles: Option<Vec<Box<str>>>,
    /// Scopes of the caller's token, instead of those in its claims
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    scopes: Option<Vec<Box<str>>>,
    /// Claims of the caller's token
    #[arg(long, value_name = "JSON", value_parser = subject::claims)]
    claims: Option<Claims>,
    /// Tenant of the caller, instead of the one that the config reads from its claims
    #[arg(long, value_name = "NAME")]
    tenant: Option<Box<str>>,
    /// Hints of the tool, instead of those that its server listed, as far as `state.dir` knows them
    #[arg(long, value_name = "JSON", value_parser = subject::annotations)]
    annotations: Option<Annotations>,
    /// When it calls, instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
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
    match tell(&plan, &Counters::new(plan.limits.table, KEYS), args) {
        Ok(told) => cli::print(told),
        Err(problem) => cli::fail(problem),
    }
}

/// What is printed of a call by this plan: text, or one JSON object. `counters`: of nobody else; the call is charged.
///
/// # Errors
/// The plan has no such server, or the caller's claims are nobody's.
pub fn tell(plan: &Plan, counters: &Counters, args: &Args) -> Result<String, String> {
    let server = plan.servers.iter().find(|server| *server.name == *args.subject.server);
    let server = server.ok_or_else(|| unknown_server(plan, args))?;
    let explanation = explain((plan, counters), server, args)?;
    if !args.json {
        return Ok(explanation.to_string());
    }
    serde_json::to_string_pretty(&explanation).map_err(|error| format!("cannot write JSON: {error}."))
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
    access: Vec<Rule>,
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
    /// Where the hints of the tool are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hints: Option<&'static str>,
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

fn explain<'a>(
    (plan, counters): (&Plan, &Counters),
    server: &Server,
    args: &'a Args,
) -> Result<Explanation<'a>, String> {
    let (kills, known_kills) = kills_of(plan);
    let subject = &args.subject;
    let body = subject.body(&args.args);
    let rules = Rules::new(&plan.limits, &counters.keys);
    let patterns = RefCell::new(Patterns::default());
    let desk = Desk {
        access: &plan.access,
        limits: &plan.limits,
        rules: &rules,
        counters,
        kills: &kills,
        patterns: &patterns,
    };
    let (caller, identity) = caller::caller(plan, args, &patterns)?;
    let standing = Standing::new(&plan.access, &caller, &patterns);
    let at = args.at.and_then(|at| u64::try_from(at.as_nanosecond()).ok());
    let (hints, known_hints) = hints(plan, server, args);
    let catalogue = offered(subject, hints);
    let targets = [Target { named: subject.named, name: Cow::Borrowed(&subject.name) }];
    let answers = access::assumed(&plan.access);
    let asked = Asked {
        caller: &caller,
        standing: &standing,
        server: &server.name,
        catalogue: Some(&catalogue),
        labels: &server.labels,
        method: subject.method(),
        method_text: subject.method().as_str(),
        target: &subject.name,
        targets: &targets,
        source: args.source,
        body: body.as_bytes(),
        when: When { moment: clock::now(), unix_ns: at.unwrap_or_else(clock::unix_nanos) },
        number: 0,
        answers: &answers,
    };
    let is_there = server.is_for_tenant(&caller.tenant);
    let mut sightings = Sightings::default();
    let decided = match is_there {
        true => decided(desk, &asked, args.after, &mut sightings),
        // Nothing is asked about what is not there.
        false => Err(Refused::Hidden(None)),
    };
    let limits = limits::buckets(desk, &asked, &sightings, &decided);
    let access = access::rules(&plan.access, &sightings);
    let settings = route::settings(server, subject);
    let decision = if is_there { Decision::of(decided.as_ref().err()) } else { Decision::of_tenants(server) };
    let call = Call {
        method: subject.method().as_str(),
        server: &subject.server,
        name: &subject.name,
        principal: &args.principal,
        roles: caller.roles.clone(),
        identity,
        hints: subject.tool().map(|_| known_hints),
        source: args.source,
        after: args.after,
    };
    Ok(Explanation {
        call,
        kills: known_kills,
        access,
        limits,
        route: route::aim(server, &asked, &patterns).into_iter().chain(settings).collect(),
        decision,
    })
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

/// The tool's hints, and where they are from.
fn hints(plan: &Plan, server: &Server, args: &Args) -> (Annotations, &'static str) {
    if let Some(given) = args.annotations {
        return (given, "as given");
    }
    let kept = store::catalogues(plan);
    let listed = kept.by_server.get(&*server.name);
    match listed.and_then(|listed| listed.tools.get(args.subject.name.as_str())) {
        Some(kept) => (*kept, "as the server listed them"),
        None => (Annotations::default(), "not known, the specification's defaults: say `--annotations`"),
    }
}

/// Whatever is asked about is taken to be there.
fn offered(subject: &Subject, hints: Annotations) -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.tools.insert(subject.name.as_str().into(), hints);
    catalogue.prompts.insert(subject.name.as_str().into());
    catalogue
}

/// The decision, after so many equal calls; charged.
fn decided<'d>(
    desk: Desk<'d>,
    asked: &Asked<'_>,
    after: u32,
    sightings: &mut Sightings,
) -> Result<Admission<'d>, Refused<'d>> {
    let mut admission = Admission::default();
    for _ in 0..after {
        // What it says is of no interest here, only what it leaves.
        let _ = decide::decide(desk, asked, &mut admission, &mut Sightings::default());
    }
    decide::decide(desk, asked, &mut admission, sightings).map(|()| admission)
}

impl Decision {
    /// Of a server that is not for the caller's tenant: its endpoint is not there, and no hub shows what it has.
    fn of_tenants(server: &Server) -> Self {
        let wire = Kind::NotFound.wire();
        let rule = format!("mcpServers.{}.tenants", server.name);
        Self { allowed: false, refusal: Some(Refusal { status: wire.status, reason: wire.reason, rule }) }
    }

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
            Some(Refusal { status, reason, rule }) => {
                let hidden = [Kind::Unknown, Kind::NotFound].iter().any(|kind| kind.wire().reason == *reason);
                let hidden = if hidden { ", hidden as if it did not exist" } else { "" };
                write!(f, "refused: {status} {reason} by {rule}{hidden}")
            }
        }
    }
}

impl Display for Explanation<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Call { method, server, name, principal, roles, identity, hints, source, after } = &self.call;
        writeln!(f, "{method} {server}.{name} by {principal} from {source}")?;
        let roles = if roles.is_empty() { String::new() } else { format!(", roles {}", roles.join(", ")) };
        writeln!(f, "identity: {identity}{roles}")?;
        if let Some(hints) = hints {
            writeln!(f, "hints of the tool: {hints}")?;
        }
        writeln!(f, "kill switches: {}", self.kills)?;
        if !self.access.is_empty() {
            writeln!(f, "access rules:")?;
            table(f, self.access.iter().map(|rule| (&*rule.rule, rule)))?;
        }
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
