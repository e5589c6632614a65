//! What a listener at a hub has seen of its lists, so that it hears of what has changed for it, and of nothing else.
//!
//! Not here: the streams (`stream`), and rendering lists (`list`).

use crate::config::plan::ServerId;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::listing::Kind as ListKind;
use crate::policy::access::Standing;
use crate::worker::Worker;
use crate::worker::address::Visit;
use crate::worker::adopted::Adopted;
use crate::worker::hub;
use crate::worker::hub::list;
use crate::worker::hub::list::hash;
use crate::worker::hub::stream::KINDS;
use crate::worker::own::Shelf;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Of each kind of list.
type Kinds = [u64; KINDS.len()];
/// How often each server has said that its lists have changed.
type Told = Vec<(Arc<str>, Kinds)>;

/// A hub, and who looks at it.
pub struct Look<'l> {
    pub adopted: &'l Rc<Adopted>,
    pub visit: Visit<'l>,
    pub source: IpAddr,
}

/// What a listener has seen: of the lists as it may see them, and of what its servers have said of theirs.
pub struct Seen {
    /// Of what it was made; the same: nothing can have changed.
    made_of: u64,
    /// Tells the lists from any others, by kind, as the listener may see them, and as servers list them.
    shown: Kinds,
    listed: Kinds,
    /// How often each server has said that its lists have changed, by kind.
    told: Told,
}

impl Seen {
    pub fn of(worker: &Worker, look: &Look<'_>) -> Self {
        let (made_of, told, listed) = made_of(worker, look);
        Self { made_of, shown: shown_lists(worker, look), listed, told }
    }

    /// Looks again; which kinds of lists the listener has to hear of.
    pub fn renew(&mut self, worker: &Worker, look: &Look<'_>) -> [bool; KINDS.len()] {
        let (made_of, told, listed) = made_of(worker, look);
        if made_of == self.made_of {
            return [false; KINDS.len()];
        }
        let now = Self { made_of, shown: shown_lists(worker, look), listed, told };
        let before = std::mem::replace(self, now);
        std::array::from_fn(|at| {
            // What a list says that the listener may not see is none of its business; that a server speaks of a list which
            // is as it was is told to those who may see anything of the server.
            self.shown[at] != before.shown[at]
                || self.listed[at] == before.listed[at] && self.has_heard(&before, at, worker, look)
        })
    }

    /// Whether a server that the listener may know of has said that its lists of this kind have changed.
    fn has_heard(&self, before: &Self, at: usize, worker: &Worker, look: &Look<'_>) -> bool {
        let is_same = |(name, told): &(Arc<str>, Kinds)| {
            before.told.iter().all(|(other, was)| other != name || was[at] == told[at])
        };
        let mut spoke = self.told.iter().filter(|one| !is_same(one)).map(|(name, _)| name).peekable();
        if spoke.peek().is_none() {
            return false;
        }
        let may_know = visible(worker, look);
        spoke.any(|name| may_know.contains(name))
    }
}

/// What tells that nothing can have changed, and of what it was made.
fn made_of(worker: &Worker, look: &Look<'_>) -> (u64, Told, Kinds) {
    let (told, listed) = said(worker, look);
    (hash((&look.adopted.plan.digest, &told, listed)), told, listed)
}

/// How often servers have said that their lists have changed, and what tells their lists from others, by kind.
fn said(worker: &Worker, look: &Look<'_>) -> (Told, Kinds) {
    let newest = worker.adopt();
    let members = door_members(look.adopted, look.visit);
    let known: Vec<_> = members
        .into_iter()
        .filter_map(|name| newest.catalogues.by_server.get(&name).map(|known| (name, known)))
        .collect();
    let listed = KINDS.map(|(named, _)| {
        let kinds: Vec<ListKind> = ListKind::ALL.into_iter().filter(|kind| kind.named() == named).collect();
        // A server that has nothing of a kind changes none of its lists by coming and going.
        let has = |known: &Catalogue| kinds.iter().any(|kind| !known.items[*kind as usize].is_empty());
        let sums =
            |known: &Catalogue| kinds.iter().map(|kind| known.sums[*kind as usize]).collect::<Vec<u64>>();
        hash(
            known
                .iter()
                .filter(|(_, known)| has(known))
                .map(|(name, known)| (name, sums(known)))
                .collect::<Vec<_>>(),
        )
    });
    (known.into_iter().map(|(name, known)| (name, known.told)).collect(), listed)
}

/// What tells the lists from others, by kind, as the listener may see them by the rules of now.
fn shown_lists(worker: &Worker, look: &Look<'_>) -> Kinds {
    let (door, known, _) = look.visit;
    let shelf = Shelf::of(worker, known);
    let standing = Standing::new(&look.adopted.plan.access, &known.caller, &worker.patterns);
    let eyes = list::Eyes { known, standing: &standing, source: look.source };
    KINDS.map(|(named, _)| {
        let kinds = ListKind::ALL.into_iter().filter(|kind| kind.named() == named);
        hash(
            kinds
                .map(|kind| list::shown(worker, look.adopted, &shelf, (door, eyes), kind))
                .collect::<Vec<_>>(),
        )
    })
}

/// The servers of a hub of which the caller may use something.
pub fn visible(worker: &Worker, look: &Look<'_>) -> Vec<Arc<str>> {
    let (door, known, _) = look.visit;
    let shelf = Shelf::of(worker, known);
    hub::visible_scene(worker, (look.adopted, &shelf), (door, known, look.source), |scene| {
        let name = |id: &ServerId| scene.servers.get(usize::from(*id)).map(|server| Arc::clone(&server.name));
        scene.members.iter().filter_map(name).collect()
    })
}

/// The servers of a hub that the caller may know of.
pub fn door_members(adopted: &Adopted, (door, known, _): Visit<'_>) -> Vec<Arc<str>> {
    hub::members(adopted, door, &known.caller.tenant).map(|(_, server)| Arc::clone(&server.name)).collect()
}
