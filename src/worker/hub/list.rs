//! The lists of a hub, as one caller may see them: rendered once, kept until anything changes.
//!
//! Not here: what they say (`mcp::hub::lists`), and fetching (control).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::hub::HubId;
use crate::config::limits;
use crate::config::plan::Server;
use crate::handoff::Failing;
use crate::mcp::crossing::path;
use crate::mcp::envelope::Era;
use crate::mcp::hub::Scene;
use crate::mcp::hub::lists;
use crate::mcp::hub::lists::Entry;
use crate::mcp::listing::Kind as ListKind;
use crate::mcp::sealed;
use crate::mcp::sealed::Kind as TokenKind;
use crate::policy::access::Standing;
use crate::policy::access::View;
use crate::policy::identity::Caller;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::address::Visit;
use crate::worker::admit::Door;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::credential;
use crate::worker::hub;
use crate::worker::own::Learned;
use crate::worker::own::Shelf;
use crate::worker::reply;
use crate::worker::sight;
use crate::worker::state::Exchange;
use ahash::HashMap;
use std::cell::Cell;
use std::cell::RefCell;
use std::fmt::Write;
use std::hash::Hash;
use std::net::IpAddr;
use std::rc::Rc;

const NO_CURSOR: Fault = Fault::new(
    Kind::InvalidCursor,
    "The list cannot go on there: it has changed, or the cursor is none of this endpoint. List again from the start.",
);

const ALL_DOWN: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "None of the servers behind this endpoint can be listed; retry later or tell the operator to check that they run.",
);
const ALL_SILENT: Fault = Fault::new(
    Kind::UpstreamTimeout,
    "None of the servers behind this endpoint says in time what it has; retry later or tell the operator.",
);
const ALL_UNFIT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "What the servers behind this endpoint list cannot be read; tell the operator that they break the protocol.",
);

/// Lists that a worker has rendered. Bounded; past the bound all are rendered anew.
#[derive(Default)]
pub struct Rendered {
    kept: RefCell<HashMap<Key, Pages>>,
    /// Of all pages.
    bytes: Cell<usize>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    hub: HubId,
    kind: ListKind,
    /// The address of the caller; 0 where everybody sees the same.
    caller: usize,
}

#[derive(Clone)]
struct Pages {
    /// Of what it was made.
    made_of: u64,
    content: [u8; 16],
    pages: Rc<[String]>,
    /// Kept, so that no other caller is ever found at its address.
    _caller: Option<Rc<Known>>,
}

/// Answers one of the four lists.
///
/// # Errors
/// 503, or 502 or 504 where that is the one cause, where nothing is known of any server, -32602 for a cursor that is none.
pub async fn answer(
    worker: &Worker,
    adopted: &Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    ((door, known, intent), kind): (Visit<'_>, ListKind),
) -> Result<After, Fault> {
    let visitor = (client.slot, &**known);
    let learned = hub::learn(worker, adopted, exchange, visitor, &door.hub(adopted).members).await;
    let is_hit = !learned.has_waited;
    let shelf = Shelf::of(worker, known);
    let members: Vec<&Server> = members(adopted, &shelf, (door, known)).collect();
    let missing = names(&members, |server| shelf.find(&server.name).is_none());
    if !members.is_empty() && missing.len() == members.len() {
        return Err(nothing(adopted, exchange, &members, (&shelf, learned)));
    }
    let stale = stale(worker, (adopted, &shelf), (door, known, client.ends.peer), &members);
    let eyes = Eyes { known, standing: &known.standing, source: client.ends.peer };
    let made = pages(worker, adopted, &shelf, (door, eyes), kind);
    let place = Place { hub: adopted.hub_names[usize::from(door.hub)], owner: known.owner, kind };
    let number = wanted(worker, client, exchange, &place, made.content)?;
    let page = made.pages.get(number).ok_or(NO_CURSOR)?;
    let mut text = String::with_capacity(page.len() + 512);
    text.push('{');
    if intent.era == Era::Modern {
        text.push_str("\"resultType\":\"complete\",");
    }
    let _ = write!(text, "\"{}\":[{page}]", kind.list());
    if number + 1 < made.pages.len() {
        let cursor = place.seal(worker, number + 1, made.content).ok_or(NO_CURSOR)?;
        let _ = write!(text, ",\"nextCursor\":\"{cursor}\"");
    }
    let (modern, tenant) = (intent.era == Era::Modern, &*known.caller.tenant);
    if modern {
        text.push(',');
        text.push_str(&freshness(worker, adopted, &shelf, (door, known)));
    }
    text.push_str(&meta(modern.then(|| info(adopted, &shelf, (door, tenant))), &missing, &stale));
    text.push('}');
    if is_hit {
        worker.metrics().count(Family::CacheHits, &["list"], 1);
    }
    Ok(reply::result(worker, client, exchange, &text).await)
}

/// Why a list has nothing: the caller or the operator can mend that a server does not take what it is shown.
fn nothing(
    adopted: &Adopted,
    exchange: &mut Exchange,
    members: &[&Server],
    (shelf, mut learned): (&Shelf, Learned),
) -> Fault {
    for server in members {
        let Some(trouble) = learned.trouble(&server.name).or_else(|| shelf.trouble(server)) else {
            continue;
        };
        let Some(state) = adopted.find(&server.name) else { continue };
        return credential::refuse_at(exchange, (&server.name, &state.way.told), &trouble);
    }
    let is_all = |kind: Failing| members.iter().all(|server| shelf.failing(server) == kind);
    if is_all(Failing::Silent) {
        ALL_SILENT
    } else if is_all(Failing::Unfit) {
        ALL_UNFIT
    } else {
        ALL_DOWN
    }
}

/// The servers of a hub that a caller may know of: of one that nobody can list, as far as rules tell without its list.
fn members<'a>(
    adopted: &'a Adopted,
    shelf: &'a Shelf,
    (door, known): (&'a Door, &'a Known),
) -> impl Iterator<Item = &'a Server> {
    let access = &adopted.plan.access;
    let is_hidden = |server: &Server| {
        shelf.find(&server.name).is_none() && known.standing.hides_all(access, &server.name)
    };
    let all = hub::members(adopted, door, &known.caller.tenant).map(|(_, server)| server);
    all.filter(move |server| access.rules.is_empty() || !is_hidden(server))
}

/// Those whose list may be old, and of which the caller sees anything.
fn stale(
    worker: &Worker,
    (adopted, shelf): (&Adopted, &Shelf),
    visitor: (&Door, &Known, IpAddr),
    members: &[&Server],
) -> Vec<String> {
    let is_stale = |server: &Server| shelf.find(&server.name).is_some() && shelf.is_failing(server, worker);
    if !members.iter().any(|server| is_stale(server)) {
        return Vec::new();
    }
    hub::visible_scene(worker, (adopted, shelf), visitor, |scene| {
        let is_seen = |server: &Server| {
            let mut seen = scene.members.iter().filter_map(|id| scene.servers.get(usize::from(*id)));
            seen.any(|seen| seen.name == server.name)
        };
        names(members, |server| is_stale(server) && is_seen(server))
    })
}

fn names(members: &[&Server], of: impl Fn(&Server) -> bool) -> Vec<String> {
    members.iter().filter(|server| of(server)).map(|server| lists::quoted(&server.name)).collect()
}

fn info(adopted: &Adopted, shelf: &Shelf, (door, tenant): (&Door, &str)) -> String {
    hub::scene(adopted, shelf, (door, tenant), crate::mcp::hub::about::info)
}

/// `_meta` with its comma before it, or nothing.
fn meta(info: Option<String>, missing: &[String], stale: &[String]) -> String {
    let mut members = Vec::new();
    members.extend(info.map(|info| format!("\"io.modelcontextprotocol/serverInfo\":{info}")));
    for (key, names) in [("io.ringgate/missing", missing), ("io.ringgate/stale", stale)] {
        if !names.is_empty() {
            members.push(format!("\"{key}\":[{}]", names.join(",")));
        }
    }
    if members.is_empty() { String::new() } else { format!(",\"_meta\":{{{}}}", members.join(",")) }
}

/// `ttlMs` and `cacheScope` as members (2026-07-28, caching): the shortest time that any of the lists stays fresh, and for
/// others than the caller only where nobody sees anything else.
pub fn freshness(
    worker: &Worker,
    adopted: &Adopted,
    shelf: &Shelf,
    (door, known): (&Door, &Known),
) -> String {
    let now = worker.coarse_now();
    let mut ttl_ms = u64::MAX;
    let mut public = adopted.plan.access.rules.is_empty();
    for server in members(adopted, shelf, (door, known)) {
        let Some(known) = shelf.find(&server.name) else {
            ttl_ms = ttl_ms.min(limits::CATALOGUE_FRESH_MS_MIN);
            continue;
        };
        // The clock of a worker may be a moment behind that of control.
        let left_ms = known.fresh_until(server.list_cache).nanos_since(now.max(known.listed)) / 1_000_000;
        let failing = shelf.is_failing(server, worker);
        // It may be back at any time.
        ttl_ms = ttl_ms.min(if failing { limits::CATALOGUE_FRESH_MS_MIN } else { left_ms });
        public &= known.about.era == Era::Modern && !known.is_private && server.tenants.is_empty();
        public &= !shelf.is_own(&server.name);
    }
    let ttl_ms = if ttl_ms == u64::MAX { 0 } else { ttl_ms };
    format!("\"ttlMs\":{ttl_ms},\"cacheScope\":\"{}\"", if public { "public" } else { "private" })
}

/// Who looks at a list, by which rules, and from where.
#[derive(Clone, Copy)]
pub struct Eyes<'e> {
    pub known: &'e Rc<Known>,
    pub standing: &'e Standing,
    pub source: IpAddr,
}

/// What tells a list, as this caller may see it, from any other.
pub fn shown(
    worker: &Worker,
    adopted: &Adopted,
    shelf: &Shelf,
    (door, eyes): (&Door, Eyes<'_>),
    kind: ListKind,
) -> u64 {
    let made = pages(worker, adopted, shelf, (door, eyes), kind);
    hash(&made.pages)
}

/// The pages of a list for a caller.
fn pages(
    worker: &Worker,
    adopted: &Adopted,
    shelf: &Shelf,
    (door, eyes): (&Door, Eyes<'_>),
    kind: ListKind,
) -> Pages {
    let Eyes { known, standing, source } = eyes;
    let access = &adopted.plan.access;
    let same_for_all = access.rules.is_empty() && known.caller.tenant.is_empty() && !shelf.has_own();
    let caller = if same_for_all { 0 } else { Rc::as_ptr(known).addr() };
    let key = Key { hub: door.hub, kind, caller };
    let made_of = fingerprint(adopted, shelf, door);
    let lasting = !sight::reads_moment(access);
    if lasting
        && let Some(kept) = worker.rendered.kept.borrow().get(&key)
        && kept.made_of == made_of
    {
        return kept.clone();
    }
    let pages = hub::scene(adopted, shelf, (door, &known.caller.tenant), |scene: &Scene<'_>| {
        let sees = sees(worker, adopted, (&known.caller, standing, source));
        lists::pages(scene, kind, &mut |entry| access.rules.is_empty() || sees(entry))
    });
    let content = content(&pages);
    let _caller = (caller != 0).then(|| Rc::clone(known));
    let pages = Pages { made_of, content, pages: pages.into(), _caller };
    if lasting {
        worker.rendered.keep(key, &pages);
    }
    pages
}

/// Whether a caller may know of an entry.
pub fn sees<'w>(
    worker: &'w Worker,
    adopted: &'w Adopted,
    (caller, standing, source): (&'w Caller, &'w Standing, IpAddr),
) -> impl Fn(&Entry<'_>) -> bool + 'w {
    let now = i64::try_from(worker.wall_millis(worker.coarse_now())).unwrap_or(i64::MAX);
    move |entry| {
        let view = View {
            caller,
            standing,
            server: &entry.server.name,
            catalogue: Some(entry.catalogue),
            labels: &entry.server.labels,
            source,
            now,
        };
        view.sees(&adopted.plan.access, entry.kind.named(), &entry.item.name, &worker.patterns)
    }
}

/// What tells a list of several pages from any other: the same on every gateway that shows the same, whatever else its file
/// says, so that a cursor goes on there and after a reload.
fn content(pages: &[String]) -> [u8; 16] {
    if pages.len() < 2 {
        return [0; 16];
    }
    sealed::digest(&pages.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// Of what a hub's lists are made: other catalogues, or another plan, make other lists.
fn fingerprint(adopted: &Adopted, shelf: &Shelf, door: &Door) -> u64 {
    let known = door.hub(adopted).members.iter().map(|id| {
        let server = adopted.plan.servers.get(usize::from(*id))?;
        Some((&*server.name, shelf.find(&server.name)?.revision))
    });
    let known: Vec<Option<(&str, u64)>> = known.collect();
    hash((&adopted.plan.digest, known))
}

/// Tells things of a hub from others, in this process.
pub fn hash(of: impl Hash) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(of)
}

impl Rendered {
    pub fn forget(&self) {
        self.kept.borrow_mut().clear();
        self.bytes.set(0);
    }

    fn keep(&self, key: Key, pages: &Pages) {
        let of = |pages: &Pages| pages.pages.iter().map(String::len).sum::<usize>();
        let full = self.bytes.get() + of(pages) > limits::RENDERED_BYTES_MAX;
        if full || self.kept.borrow().len() >= limits::RENDERED_LISTS_MAX {
            self.forget();
        }
        let before = self.kept.borrow_mut().insert(key, pages.clone());
        self.bytes.set(self.bytes.get() + of(pages) - before.as_ref().map_or(0, of));
    }
}

/// Which list a cursor is of.
struct Place {
    hub: u64,
    owner: [u8; 16],
    kind: ListKind,
}

impl Place {
    fn plain(&self, number: usize, content: [u8; 16]) -> Vec<u8> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let parts: [&[u8]; 5] =
            [&self.hub.to_le_bytes(), &self.owner, &[self.kind as u8], &content, &number.to_le_bytes()];
        parts.concat()
    }

    /// The cursor of a page.
    fn seal(&self, worker: &Worker, number: usize, content: [u8; 16]) -> Option<String> {
        let mut nonce = [0; 12];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut token = Vec::new();
        let keys = worker.shared.seal_keys.load();
        keys.seal_as(TokenKind::Cursor, self.plain(number, content), nonce, &mut token);
        String::from_utf8(token).ok()
    }

    /// The page of a cursor. None: it is of another list, caller or endpoint, or the list has changed.
    fn open(&self, worker: &Worker, token: &[u8], content: [u8; 16]) -> Option<usize> {
        let plain = worker.shared.seal_keys.load().open_as(TokenKind::Cursor, token)?;
        let (_, number) = plain.split_last_chunk::<4>()?;
        let number = usize::try_from(u32::from_le_bytes(*number)).ok()?;
        (plain == self.plain(number, content)).then_some(number)
    }
}

/// The page that is asked for.
fn wanted(
    worker: &Worker,
    client: &Client,
    exchange: &Exchange,
    place: &Place,
    content: [u8; 16],
) -> Result<usize, Fault> {
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    match path::find(text, &["params", "cursor"]) {
        None => Ok(0),
        Some(_) => {
            let cursor = path::text(text, &["params", "cursor"]).ok_or(NO_CURSOR)?;
            place.open(worker, cursor.as_bytes(), content).ok_or(NO_CURSOR)
        }
    }
}
