//! `Sight`: what the caller of one exchange may see of its server, and the decisions on it that a worker remembers.
//!
//! Not here: the rules (`policy::access`), and taking anything out of an answer (`mcp::listing`).

use crate::config::access::Access;
use crate::config::expression::Variable;
use crate::config::limits;
use crate::config::plan::Server;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::listing::Entry;
use crate::mcp::listing::Kind;
use crate::mcp::listing::Screen;
use crate::policy::access::Standing;
use crate::policy::access::View;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use crate::worker::state::Exchange;
use crate::worker::tasks;
use ahash::HashMap;
use std::cell::Cell;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Made for each exchange of a plan with access rules. Pins no plan: what passes is decided by the newest one.
pub struct Sight {
    known: Rc<Known>,
    /// Of the plan that the caller was known under.
    generation: u64,
    /// What the rules of a later one mean for the caller, with its generation.
    renewed: Option<(u64, Standing)>,
    server: Arc<str>,
    source: IpAddr,
    modern: bool,
    /// The server's tasks are nobody's.
    hides_tasks: bool,
    /// The answer as a whole may be a list, or say what the server can do. Any stream may have one among its events.
    pub is_whole: bool,
}

impl Sight {
    /// None where everybody sees everything.
    pub fn of(
        adopted: &Adopted,
        known: &Rc<Known>,
        server: &Server,
        source: IpAddr,
        exchange: &Exchange,
    ) -> Option<Self> {
        let called = exchange.batch.iter().map(|called| Method::from_text(called.method.as_str()));
        let mut methods = exchange.call.iter().map(|call| call.method).chain(called);
        let hides_tasks = tasks::are_refused(&adopted.plan.identity, server);
        let tells = hides_tasks && methods.clone().any(tells_abilities);
        if adopted.plan.access.rules.is_empty() && !tells {
            return None;
        }
        Some(Self {
            known: Rc::clone(known),
            generation: adopted.generation,
            renewed: None,
            server: Arc::clone(&server.name),
            source,
            modern: exchange.call.is_some_and(|call| call.era == Era::Modern),
            hides_tasks,
            is_whole: tells || methods.any(is_list),
        })
    }

    /// Looks at messages with the eyes of the caller.
    pub fn look<T>(&mut self, worker: &Worker, at: impl FnOnce(&mut Screen<'_>) -> T) -> T {
        let adopted = worker.adopt();
        let access = &adopted.plan.access;
        let own = self.known.own.find(&self.server, worker.coarse_now());
        let catalogue = own.as_ref().or_else(|| adopted.catalogues.by_server.get(&self.server));
        let caller = &self.known.caller;
        let renewed = self.renewed.take().filter(|(generation, _)| *generation == adopted.generation);
        if adopted.generation != self.generation {
            let renew = || (adopted.generation, Standing::new(access, caller, &worker.patterns));
            self.renewed = Some(renewed.unwrap_or_else(renew));
        }
        let view = View {
            caller,
            standing: self.renewed.as_ref().map_or(&self.known.standing, |(_, standing)| standing),
            server: &self.server,
            catalogue: catalogue.map(|catalogue| &**catalogue),
            labels: adopted.plan.labels_of(&self.server),
            source: self.source,
            now: i64::try_from(worker.wall_millis(worker.coarse_now())).unwrap_or(i64::MAX),
        };
        let decide = |entry: &Entry<'_>| view.sees(access, entry.kind.named(), entry.name, &worker.patterns);
        if reads_moment(access) {
            let keeps = &mut |entry: &Entry<'_>| decide(entry);
            return at(&mut Screen { modern: self.modern, hides_tasks: self.hides_tasks, keeps });
        }
        worker.sightings.with(&self.known, &self.server, catalogue, |sightings| {
            let mut keeps = |entry: &Entry<'_>| sightings.find(entry, decide);
            at(&mut Screen { modern: self.modern, hides_tasks: self.hides_tasks, keeps: &mut keeps })
        })
    }
}

/// Whether a decision may be another one at another time, or from another address.
pub fn reads_moment(access: &Access) -> bool {
    let mut conditions = access.rules.iter().filter_map(|rule| rule.when.as_ref());
    conditions.any(|when| when.uses(Variable::Now) || when.uses(Variable::Source))
}

/// Whether a server answers with what it can do.
const fn tells_abilities(method: Method) -> bool {
    matches!(method, Method::Initialize | Method::Discover)
}

const fn is_list(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourcesTemplatesList
    )
}

/// What one caller was found to see of one server.
struct Seen {
    #[expect(dead_code, reason = "kept, so that no other caller is ever found at its address")]
    known: Rc<Known>,
    catalogue: Option<Arc<Catalogue>>,
    /// Index is a [`Kind`].
    names: [HashMap<Box<str>, bool>; Kind::ALL.len()],
}

/// A caller that is kept counts as so many decisions: it has its claims with it.
const CALLER_WEIGHT: usize = 16;

/// All decisions that a worker remembers.
#[derive(Default)]
pub struct Sightings {
    seen: RefCell<HashMap<(usize, Arc<str>), Seen>>,
    /// Of decisions, and of callers by their weight.
    count: Cell<usize>,
}

/// The decisions on one server for one caller.
pub struct Remembered<'s> {
    seen: &'s mut Seen,
    count: &'s Cell<usize>,
}

impl Sightings {
    pub fn forget(&self) {
        self.seen.borrow_mut().clear();
        self.count.set(0);
    }

    fn with<T>(
        &self,
        known: &Rc<Known>,
        server: &Arc<str>,
        catalogue: Option<&Arc<Catalogue>>,
        then: impl FnOnce(&mut Remembered<'_>) -> T,
    ) -> T {
        if self.count.get() >= limits::SIGHTINGS_MAX {
            self.forget();
        }
        let mut all = self.seen.borrow_mut();
        let key = (Rc::as_ptr(known).addr(), Arc::clone(server));
        let seen = all.entry(key).or_insert_with(|| {
            self.count.set(self.count.get() + CALLER_WEIGHT);
            Seen { known: Rc::clone(known), catalogue: catalogue.cloned(), names: Default::default() }
        });
        if seen.catalogue.as_ref().map(Arc::as_ptr) != catalogue.map(Arc::as_ptr) {
            seen.catalogue = catalogue.cloned();
            for names in &mut seen.names {
                self.count.set(self.count.get() - names.len());
                names.clear();
            }
        }
        then(&mut Remembered { seen, count: &self.count })
    }
}

impl Remembered<'_> {
    /// The decision on an entry; made where none is remembered.
    fn find(&mut self, entry: &Entry<'_>, decide: impl FnOnce(&Entry<'_>) -> bool) -> bool {
        let names = &mut self.seen.names[entry.kind as usize];
        if let Some(known) = names.get(entry.name) {
            return *known;
        }
        let decided = decide(entry);
        if self.count.get() < limits::SIGHTINGS_MAX {
            names.insert(entry.name.into(), decided);
            self.count.set(self.count.get() + 1);
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::identity::Caller;

    fn known() -> Rc<Known> {
        let caller = Caller::of_certificate("a");
        let standing = Standing::new(&Access::default(), &caller, &RefCell::default());
        Rc::new(Known::new(caller, standing))
    }

    /// How often the rules were asked about these names.
    fn asked<'n>(
        sightings: &Sightings,
        known: &Rc<Known>,
        catalogue: Option<&Arc<Catalogue>>,
        names: impl Iterator<Item = &'n str>,
    ) -> usize {
        let mut asked = 0;
        sightings.with(known, &"server".into(), catalogue, |remembered| {
            for name in names {
                let entry = Entry { kind: Kind::Tool, name };
                let hidden = name.ends_with('h');
                let seen = remembered.find(&entry, |_| {
                    asked += 1;
                    !hidden
                });
                assert_eq!(seen, !hidden, "{name}");
            }
        });
        asked
    }

    #[test]
    fn a_decision_is_remembered_for_its_caller_and_catalogue() {
        let (sightings, ann, bob) = (Sightings::default(), known(), known());
        let again = |known, catalogue| asked(&sightings, known, catalogue, ["a", "h", "a"].into_iter());
        assert_eq!((again(&ann, None), again(&ann, None)), (2, 0));
        assert_eq!((again(&bob, None), again(&ann, None)), (2, 0));
        let newer = Arc::new(Catalogue::default());
        assert_eq!((again(&ann, Some(&newer)), again(&ann, Some(&newer)), again(&bob, None)), (2, 0, 0));
        assert_eq!(sightings.count.get(), 4 + 2 * CALLER_WEIGHT);
        sightings.forget();
        assert_eq!((again(&ann, Some(&newer)), sightings.count.get()), (2, 2 + CALLER_WEIGHT));
        let other = Entry { kind: Kind::Prompt, name: "a" };
        let is_new = sightings.with(&ann, &"server".into(), Some(&newer), |all| all.find(&other, |_| false));
        assert!(!is_new, "a prompt is no tool");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (sightings, ann) = (Sightings::default(), known());
        let names: Vec<String> = (0..limits::SIGHTINGS_MAX + 2).map(|number| number.to_string()).collect();
        let all = || names.iter().map(String::as_str);
        assert_eq!(asked(&sightings, &ann, None, all()), names.len());
        assert_eq!(sightings.count.get(), limits::SIGHTINGS_MAX);
        // Full: the next list begins anew.
        assert_eq!(asked(&sightings, &ann, None, all().take(1)), 1);
        assert_eq!(sightings.count.get(), 1 + CALLER_WEIGHT);
        // Callers who see nothing are not kept for ever either.
        for _ in 0..limits::SIGHTINGS_MAX / CALLER_WEIGHT * 2 {
            assert_eq!(asked(&sightings, &known(), None, std::iter::empty()), 0);
        }
        assert!(sightings.seen.borrow().len() <= limits::SIGHTINGS_MAX / CALLER_WEIGHT);
    }
}
