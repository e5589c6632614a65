//! What servers offer one caller alone: one that is shown a credential of each caller's own is listed with it.
//!
//! Not here: listing (control, which is asked and keeps the lists: a worker holds them weakly, so that what control
//! forgets is gone everywhere), and what follows from a list (`hub`, `permit`, `sight`).

use crate::base::clock::Moment;
use crate::config::credentials::Method;
use crate::config::limits;
use crate::config::plan::Server;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Failing;
use crate::handoff::OwnAsked;
use crate::mcp::catalogue::Catalogue;
use crate::policy::credential as policy;
use crate::policy::credential::Trouble;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use crate::worker::credential;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Weak;

/// The catalogues of one caller, by server.
#[derive(Debug, Default)]
pub struct Own(RefCell<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    server: Arc<str>,
    catalogue: Weak<Catalogue>,
    /// Control is asked again from then on, whatever for.
    until: Moment,
}

impl Own {
    /// What control still keeps.
    pub fn find(&self, server: &str, now: Moment) -> Option<Arc<Catalogue>> {
        let all = self.0.borrow();
        let kept = all.iter().find(|kept| *kept.server == *server && now < kept.until)?;
        kept.catalogue.upgrade()
    }

    fn keep(&self, server: &Arc<str>, catalogue: &Arc<Catalogue>, now: Moment) {
        self.forget(server);
        let mut all = self.0.borrow_mut();
        if all.len() >= limits::CREDENTIALS_PER_CALLER_MAX {
            all.remove(0);
        }
        let until = now.plus_millis(limits::CATALOGUE_INTERVAL_MS);
        all.push(Kept { server: Arc::clone(server), catalogue: Arc::downgrade(catalogue), until });
    }

    pub fn forget(&self, server: &str) {
        self.0.borrow_mut().retain(|kept| *kept.server != *server);
    }

    fn all(&self, now: Moment) -> Vec<(Arc<str>, Arc<Catalogue>)> {
        let all = self.0.borrow();
        let kept = all.iter().filter(|kept| now < kept.until);
        kept.filter_map(|kept| Some((Arc::clone(&kept.server), kept.catalogue.upgrade()?))).collect()
    }
}

/// What is known of servers, in the eyes of one caller. Nothing is allocated where it has nothing of its own.
pub struct Shelf {
    newest: Rc<Adopted>,
    own: Vec<(Arc<str>, Arc<Catalogue>)>,
}

impl Shelf {
    pub fn of(worker: &Worker, known: &Known) -> Self {
        Self { newest: worker.adopt(), own: known.own.all(worker.coarse_now()) }
    }

    pub fn find(&self, server: &str) -> Option<&Catalogue> {
        let own = self.own.iter().find(|(name, _)| **name == *server).map(|(_, known)| known);
        own.or_else(|| self.newest.catalogues.by_server.get(server)).map(|known| &**known)
    }

    /// It is of this caller alone.
    pub fn is_own(&self, server: &str) -> bool {
        self.own.iter().any(|(name, _)| **name == *server)
    }

    /// There is anything of this caller alone.
    pub const fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// What is known of it may be old, or it could not be listed for all.
    pub fn is_failing(&self, server: &Server, worker: &Worker) -> bool {
        match self.own.iter().find(|(name, _)| *name == server.name) {
            Some((_, own)) => is_old(own, server, worker),
            None => self.newest.catalogues.failing.contains_key(&server.name),
        }
    }

    /// Why a server does not take what the gateway shows it for all; None: it does, fails otherwise, or is shown something
    /// of each caller.
    pub fn trouble(&self, server: &Server) -> Option<Box<Trouble>> {
        if is_shown_callers(server) {
            return None;
        }
        let Some(Failing::Refused(cause)) = self.newest.catalogues.failing.get(&server.name) else {
            return None;
        };
        Some(Box::new(Trouble::new(*cause, "the server does not list anything for it")))
    }

    /// Why nothing is known of a server, of which a list was waited for.
    pub fn failing(&self, server: &Server) -> Failing {
        match self.newest.catalogues.failing.get(&server.name) {
            // What it does for the gateway says nothing of what it does for a caller.
            _ if is_shown_callers(server) => Failing::Down,
            Some(failing) => *failing,
            None => Failing::Silent,
        }
    }
}

fn is_old(catalogue: &Catalogue, server: &Server, worker: &Worker) -> bool {
    worker.coarse_now().max(catalogue.listed) >= catalogue.fresh_until(server.list_cache)
}

/// Whether it is shown a credential of each caller's own.
pub(super) fn is_shown_callers(server: &Server) -> bool {
    server.auth.as_ref().is_some_and(|auth| !auth.is_shared())
}

/// What came of questions for lists of a caller's own.
#[derive(Default)]
pub struct Learned {
    /// Why servers are not listed for this caller.
    troubles: Vec<(Arc<str>, Box<Trouble>)>,
    /// Kept until the call has looked at them, whatever control forgets meanwhile.
    held: Vec<Arc<Catalogue>>,
    /// Something was not known, and waited for.
    pub has_waited: bool,
}

impl Learned {
    pub fn hold(&mut self, catalogue: Arc<Catalogue>) {
        self.held.push(catalogue);
    }

    /// Takes an answer in.
    pub fn note(&mut self, worker: &Worker, known: &Known, server: &Server, answer: Option<Answer>) {
        match answer {
            Some(Answer::OwnCatalogue(Ok(catalogue))) => {
                known.own.keep(&server.name, &catalogue, worker.coarse_now());
                self.held.push(catalogue);
            }
            Some(Answer::OwnCatalogue(Err(Some(trouble)))) => {
                known.own.forget(&server.name);
                self.troubles.push((Arc::clone(&server.name), trouble));
            }
            // What is known stands.
            _ => {}
        }
    }

    /// Why a server is not listed for this caller.
    pub fn trouble(&mut self, server: &str) -> Option<Box<Trouble>> {
        let at = self.troubles.iter().position(|(name, _)| **name == *server)?;
        Some(self.troubles.swap_remove(at).1)
    }
}

/// What is known of a server for this caller alone, and fresh.
pub(super) fn fresh(worker: &Worker, known: &Known, server: &Server) -> Option<Arc<Catalogue>> {
    known.own.find(&server.name, worker.coarse_now()).filter(|own| !is_old(own, server, worker))
}

/// The question for what a server offers this caller. None: it offers all the same, or the caller cannot be shown to it.
/// `anew`: even if what is known is fresh.
pub(super) fn question(known: &Known, server: &Server, anew: bool) -> Option<Asked> {
    let auth = server.auth.as_ref().filter(|_| is_shown_callers(server))?;
    let shown = match &auth.method {
        Method::Headers(fields) => Some(Arc::new(policy::of_claims(fields, &known.caller).ok()?)),
        _ => None,
    };
    let needed = credential::needed(&server.name, auth, known);
    Some(Asked::OwnCatalogue(Box::new(OwnAsked { needed, shown, anew })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_has_of_its_own_has_a_bound_and_an_end() {
        let (own, now) = (Own::default(), Moment::ZERO);
        let catalogues: Vec<_> = (0..=limits::CREDENTIALS_PER_CALLER_MAX)
            .map(|number| (Arc::from(number.to_string()), Arc::new(Catalogue::default())))
            .collect();
        catalogues.iter().for_each(|(server, catalogue)| own.keep(server, catalogue, now));
        let known = |now| catalogues.iter().filter(|(server, _)| own.find(server, now).is_some()).count();
        assert_eq!(known(now), limits::CREDENTIALS_PER_CALLER_MAX);
        assert!(own.find("0", now).is_none() && own.find("1", now).is_some(), "the oldest went");
        let end = now.plus_millis(limits::CATALOGUE_INTERVAL_MS);
        assert_eq!((known(end), own.all(end).len()), (0, 0), "control is asked again");
        drop(catalogues);
        assert!(own.find("1", now).is_none() && own.all(now).is_empty(), "control has forgotten it");
    }
}
