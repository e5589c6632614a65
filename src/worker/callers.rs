//! The callers that a worker knows: each credential is verified once, not once a call.
//!
//! Not here: verifying (`policy`). What was made from a plan, keys or kills that have changed since is forgotten; a
//! credential that expires is found out at each call by `Caller::stands`.

use crate::config::identity::Secret;
use crate::config::limits;
use crate::mcp::sealed;
use crate::policy::access::Standing;
use crate::policy::identity::Caller;
use crate::policy::identity::Offered;
use crate::worker::credential::Credentials;
use crate::worker::own::Own;
use ahash::RandomState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A caller, and what the access rules mean for it.
#[derive(Debug)]
pub struct Known {
    pub caller: Caller,
    pub standing: Standing,
    /// Whose sessions are its own.
    pub owner: [u8; 16],
    /// The token that it showed, kept only where a server's credential is obtained with it.
    pub token: Option<Secret>,
    /// What servers are shown of it.
    pub credentials: Credentials,
    /// What servers offer it alone.
    pub own: Own,
}

impl Known {
    pub fn new(caller: Caller, standing: Standing) -> Self {
        let owner = sealed::owner(&caller.tenant, &caller.name);
        let (credentials, own) = (Credentials::default(), Own::default());
        Self { caller, standing, owner, token: None, credentials, own }
    }
}

#[derive(Default)]
pub struct Callers {
    hashes: RandomState,
    /// By a keyed hash of the credential: which one is remembered says nothing about its bytes.
    known: RefCell<HashMap<u64, Entry, RandomState>>,
}

struct Entry {
    kind: u8,
    credential: Box<[u8]>,
    known: Rc<Known>,
}

impl Callers {
    pub fn find(&self, offered: &Offered<'_>) -> Option<Rc<Known>> {
        let (kind, credential) = parts(offered);
        let known = self.known.borrow();
        let entry = known.get(&self.hashes.hash_one((kind, credential)))?;
        (entry.kind == kind && *entry.credential == *credential).then(|| Rc::clone(&entry.known))
    }

    /// Remembers a caller; true where all others had to be forgotten for it.
    pub fn keep(&self, offered: &Offered<'_>, known: &Rc<Known>) -> bool {
        let (kind, credential) = parts(offered);
        let entry = Entry { kind, credential: credential.into(), known: Rc::clone(known) };
        let mut all = self.known.borrow_mut();
        let full = all.len() >= limits::CALLERS_MAX;
        if full {
            all.clear();
        }
        all.insert(self.hashes.hash_one((kind, credential)), entry);
        full
    }

    pub fn forget(&self) {
        self.known.borrow_mut().clear();
    }
}

/// Credentials of different kinds are never the same.
fn parts<'a>(offered: &Offered<'a>) -> (u8, &'a [u8]) {
    match offered {
        Offered::Nothing => (0, b""),
        Offered::Key(key) => (1, key),
        Offered::Token(token) => (2, token),
        Offered::Certificate(owner) => (3, owner.fingerprint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::Access;
    use crate::policy::certificate::Owner;

    fn known(name: &str) -> Rc<Known> {
        let caller = Caller::of_certificate(name);
        let standing = Standing::new(&Access::default(), &caller, &RefCell::default());
        Rc::new(Known::new(caller, standing))
    }

    #[test]
    fn a_credential_is_known_by_all_of_its_bytes_and_its_kind() {
        let callers = Callers::default();
        assert!(!callers.keep(&Offered::Key(b"abc"), &known("a")));
        let name = |offered| callers.find(&offered).map(|known| known.caller.name.to_string());
        assert_eq!(name(Offered::Key(b"abc")).as_deref(), Some("a"));
        for stranger in [Offered::Key(b"ab"), Offered::Key(b"abcd"), Offered::Token(b"abc")] {
            assert_eq!(name(stranger), None);
        }
        let (one, other) = ([1; 32], [2; 32]);
        let shown = |fingerprint| Offered::Certificate(Owner { principal: "c", roles: &[], fingerprint });
        callers.keep(&shown(&one), &known("c"));
        assert_eq!(name(shown(&one)).as_deref(), Some("c"));
        assert_eq!(name(shown(&other)), None, "it may have other roles");
        assert_eq!(name(Offered::Key(&one)), None);
        callers.forget();
        assert_eq!(name(Offered::Key(b"abc")), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let callers = Callers::default();
        let mut forgot = 0;
        for number in 0..limits::CALLERS_MAX + 1 {
            forgot += usize::from(callers.keep(&Offered::Key(&number.to_le_bytes()), &known("a")));
        }
        assert_eq!((forgot, callers.known.borrow().len()), (1, 1));
    }
}
