//! Names of upstreams: resolved at the start, every few seconds, when the plan changes, and when a
//! worker asks. A name that does not resolve keeps the addresses that it had.
//!
//! Not here: choosing among addresses (workers). `getaddrinfo` blocks, so it runs on the blocking pool,
//! a few at a time: a silent DNS server holds those threads and nothing else.

use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::Transport;
use crate::control::state::State;
use crate::handoff::Addresses;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Question;
use ahash::HashMap;
use ahash::HashSet;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How a name becomes addresses; a test puts its own here.
pub(crate) type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What the C library says, `/etc/hosts` and all.
pub(crate) fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Something that a lookup, or the end of the patience for one, has to tell.
enum Event {
    Found { key: Box<str>, addresses: io::Result<Vec<SocketAddr>> },
    Late { key: Box<str>, worker: usize, ticket: u64 },
}

pub(crate) struct Resolver {
    state: Arc<State>,
    lookup: Lookup,
    /// Lookups under way and deadlines of questions.
    tasks: JoinSet<Event>,
    permits: Arc<Semaphore>,
    /// Names under way, with who waits for them: worker and ticket.
    under_way: HashMap<Box<str>, Vec<(usize, u64)>>,
    /// Names whose last lookup failed, so that it is told once.
    failing: HashSet<Box<str>>,
}

impl Resolver {
    pub(crate) fn new(state: Arc<State>, lookup: Lookup) -> Self {
        Self {
            state,
            lookup,
            tasks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(limits::RESOLVES_MAX)),
            under_way: HashMap::default(),
            failing: HashSet::default(),
        }
    }

    /// # Errors
    /// Where the bell of questions cannot be used.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut bell = UnixStream::from_std(self.state.shared.question_bell()?)?;
        let mut pause = tokio::time::interval(Duration::from_millis(limits::RESOLVE_INTERVAL_MS));
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = Arc::clone(&self.state);
        let mut rings = [0; 256];
        loop {
            tokio::select! {
                _ = pause.tick() => self.refresh(),
                () = state.names_changed.notified() => self.refresh(),
                _ = bell.read(&mut rings) => self.take_questions(),
                Some(Ok(event)) = self.tasks.join_next() => self.settle(event),
            }
        }
    }

    /// Starts a lookup of every name of the plan and forgets names that left it.
    fn refresh(&mut self) {
        let plan = self.state.plan();
        let mut names = HashSet::default();
        for endpoint in plan.servers.iter().flat_map(|server| &server.instances) {
            if let Transport::Name { host, port, key } = &endpoint.transport
                && names.insert(key.clone())
            {
                self.start(host, *port, key);
            }
        }
        let known = self.state.shared.addresses.load_full();
        self.failing.retain(|key| names.contains(key));
        if known.by_name.keys().any(|key| !names.contains(key)) {
            let by_name = known.by_name.iter().filter(|(key, _)| names.contains(*key));
            self.publish(by_name.map(|(key, set)| (key.clone(), Arc::clone(set))).collect());
        }
    }

    fn start(&mut self, host: &str, port: u16, key: &str) {
        let Entry::Vacant(free) = self.under_way.entry(key.into()) else { return };
        free.insert(Vec::new());
        let (permits, lookup) = (Arc::clone(&self.permits), self.lookup);
        let (host, key): (Box<str>, Box<str>) = (host.into(), key.into());
        self.tasks.spawn(async move {
            let permit = permits.acquire_owned().await;
            let found = tokio::task::spawn_blocking(move || {
                let found = lookup(&host, port);
                drop(permit);
                found
            });
            Event::Found { key, addresses: found.await.unwrap_or_else(|error| Err(io::Error::other(error))) }
        });
    }

    fn take_questions(&mut self) {
        // Bounded, so that a flood of questions cannot hold this thread.
        for _ in 0..limits::QUESTION_RING {
            let Some(question) = self.state.shared.next_question() else { return };
            let Question { worker, ticket, what: Asked::Resolve { host, port, key } } = question else {
                self.state.hand_on(question);
                continue;
            };
            if self.state.shared.addresses.load().by_name.contains_key(&key) {
                self.answer(worker, ticket, true);
                continue;
            }
            self.start(&host, port, &key);
            if let Some(waiting) = self.under_way.get_mut(&key) {
                waiting.push((worker, ticket));
            }
            self.tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(limits::QUESTION_MS)).await;
                Event::Late { key, worker, ticket }
            });
        }
    }

    fn settle(&mut self, event: Event) {
        match event {
            Event::Found { key, addresses } => self.found(key, addresses),
            Event::Late { key, worker, ticket } => {
                let Some(waiting) = self.under_way.get_mut(&key) else { return };
                let before = waiting.len();
                waiting.retain(|who| *who != (worker, ticket));
                if waiting.len() < before {
                    self.answer(worker, ticket, false);
                }
            }
        }
    }

    fn found(&mut self, key: Box<str>, addresses: io::Result<Vec<SocketAddr>>) {
        let waiting = self.under_way.remove(&key).unwrap_or_default();
        let known = self.state.shared.addresses.load_full();
        let old = known.by_name.get(&key);
        match addresses {
            Ok(new) if !new.is_empty() => {
                if self.failing.remove(&key) {
                    tracing::info!(name = %key, "the name resolves again");
                }
                if !old.is_some_and(|old| same_set(old, &new)) {
                    let mut by_name = known.by_name.clone();
                    by_name.insert(key.clone(), new.into());
                    self.publish(by_name);
                }
            }
            answer => {
                let why = answer.err().map_or_else(|| "no addresses".into(), |error| error.to_string());
                let kept = old.map_or(0, |old| old.len());
                if self.failing.insert(key.clone()) {
                    let servers = self.servers_at(&key);
                    tracing::warn!(
                        name = %key, servers, why, kept,
                        "the name does not resolve, what was known stays; check `url` of the server, and the names \
                         that this machine knows (`getent hosts NAME`)"
                    );
                }
            }
        }
        let answered = self.state.shared.addresses.load().by_name.contains_key(&key);
        for (worker, ticket) in waiting {
            self.answer(worker, ticket, answered);
        }
    }

    /// Whose `url` has this name, for an operator.
    fn servers_at(&self, key: &str) -> String {
        let plan = self.state.plan();
        let is_at = |endpoint: &Endpoint| matches!(&endpoint.transport, Transport::Name { key: own, .. } if **own == *key);
        let servers = plan.servers.iter().filter(|server| server.instances.iter().any(is_at));
        servers.map(|server| &*server.name).collect::<Vec<_>>().join(", ")
    }

    fn publish(&self, by_name: HashMap<Box<str>, Arc<[SocketAddr]>>) {
        let old = self.state.shared.addresses.swap(Arc::new(Addresses { by_name }));
        self.state.bury(old);
        self.state.shared.announce();
    }

    fn answer(&self, worker: usize, ticket: u64, known: bool) {
        self.state.reply(worker, ticket, Answer::Known(known));
    }
}

/// DNS servers turn the order with every answer.
fn same_set(old: &[SocketAddr], new: &[SocketAddr]) -> bool {
    old.iter().collect::<HashSet<_>>() == new.iter().collect::<HashSet<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::state;
    use crate::handoff::Letter;
    use std::cell::RefCell;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|one| one.parse().expect("an address")).collect()
    }

    fn resolver(lookup: Lookup) -> Resolver {
        Resolver::new(Arc::new(state(1)), lookup)
    }

    fn refused(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("NXDOMAIN"))
    }

    /// Blocks until the test's end lets go of the other side.
    fn silent(host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let _ = std::fs::read(host);
        Ok(Vec::new())
    }

    fn known(resolver: &Resolver, key: &str) -> Option<Vec<SocketAddr>> {
        resolver.state.shared.addresses.load().by_name.get(key).map(|set| set.to_vec())
    }

    fn letter(resolver: &Resolver) -> Option<(u64, bool)> {
        match resolver.state.shared.posts[0].mailbox.take() {
            Some(Letter::Answered { ticket, answer: Answer::Known(known) }) => Some((ticket, known)),
            _ => None,
        }
    }

    fn ask(resolver: &Resolver, ticket: u64, host: &str) {
        let what = Asked::Resolve { host: host.into(), port: 80, key: format!("{host}:80").into() };
        resolver.state.shared.ask(Question { worker: 0, ticket, what }).expect("room");
    }

    #[tokio::test]
    async fn a_failed_or_empty_answer_keeps_the_old_set() {
        let mut resolver = resolver(refused);
        resolver.found("a:80".into(), Ok(addresses("10.0.0.1:80 10.0.0.2:80")));
        let epoch = resolver.state.shared.epoch();
        resolver.found("a:80".into(), Err(io::Error::other("NXDOMAIN")));
        resolver.found("a:80".into(), Ok(Vec::new()));
        resolver.found("a:80".into(), Ok(addresses("10.0.0.2:80 10.0.0.1:80")));
        assert_eq!(known(&resolver, "a:80"), Some(addresses("10.0.0.1:80 10.0.0.2:80")));
        assert_eq!(resolver.state.shared.epoch(), epoch, "nothing changed, so nobody is woken");
        resolver.found("a:80".into(), Ok(addresses("10.0.0.3:80")));
        assert_eq!(known(&resolver, "a:80"), Some(addresses("10.0.0.3:80")));
        assert_eq!(resolver.state.shared.epoch(), epoch + 1);
    }

    #[tokio::test]
    async fn names_of_the_plan_are_resolved_and_names_that_left_it_forgotten() {
        let mut resolver = resolver(|_, port| Ok(vec![([10, 0, 0, 1], port).into()]));
        resolver.found("gone:80".into(), Ok(addresses("10.0.0.9:80")));
        resolver.refresh();
        assert_eq!(known(&resolver, "gone:80"), None);
        let event = resolver.tasks.join_next().await.expect("one name").expect("no panic");
        resolver.settle(event);
        assert_eq!(known(&resolver, "upstream.test:3000"), Some(addresses("10.0.0.1:3000")));
    }

    #[tokio::test]
    async fn equal_questions_share_a_lookup_and_each_gets_its_answer() {
        let mut resolver = resolver(refused);
        for ticket in [7, 8] {
            ask(&resolver, ticket, "b");
        }
        resolver.take_questions();
        assert_eq!(resolver.under_way.len(), 1);
        resolver.found("b:80".into(), Ok(addresses("10.0.0.1:80")));
        assert_eq!((letter(&resolver), letter(&resolver)), (Some((7, true)), Some((8, true))));
        ask(&resolver, 9, "b");
        resolver.take_questions();
        assert_eq!(letter(&resolver), Some((9, true)), "known already");
    }

    #[tokio::test]
    async fn a_question_without_an_answer_ends_at_its_deadline() {
        let folder = crate::control::tests::Folder::new("silent-dns");
        let pipe = folder.path("dns");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("a pipe");
        let mut resolver = resolver(silent);
        ask(&resolver, 7, pipe.to_str().expect("UTF-8"));
        resolver.take_questions();
        let event = resolver.tasks.join_next().await.expect("the deadline").expect("no panic");
        resolver.settle(event);
        assert_eq!(letter(&resolver), Some((7, false)));
        // Lets the lookup go; its late answer tells nobody twice.
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).expect("opened"));
        let event = resolver.tasks.join_next().await.expect("the lookup").expect("no panic");
        resolver.settle(event);
        assert_eq!(letter(&resolver), None);
    }

    #[tokio::test]
    async fn an_answer_to_a_full_mailbox_is_counted() {
        let resolver = resolver(refused);
        let mailbox = &resolver.state.shared.posts[0].mailbox;
        while mailbox.post(Letter::Ping { ticket: 0, reply: None }).is_ok() {}
        resolver.answer(0, 1, true);
        assert_eq!(resolver.state.answers_lost.read(), 1);
    }

    #[tokio::test]
    async fn the_running_resolver_hears_the_bell() {
        let mut resolver = resolver(refused);
        resolver.found("known:80".into(), Ok(addresses("10.0.0.1:80")));
        // In the plan's place: a name that left the plan would be forgotten at the first tick.
        let state = Arc::clone(&resolver.state);
        let answer = RefCell::new(None);
        let wait = async {
            ask(&Resolver::new(Arc::clone(&state), refused), 5, "nowhere");
            while answer.borrow().is_none() {
                tokio::task::yield_now().await;
                *answer.borrow_mut() = match state.shared.posts[0].mailbox.take() {
                    Some(Letter::Answered { ticket, answer: Answer::Known(known) }) => Some((ticket, known)),
                    _ => None,
                };
            }
        };
        tokio::select! {
            ended = resolver.run() => panic!("the resolver ended: {ended:?}"),
            () = wait => {}
        }
        assert_eq!(answer.into_inner(), Some((5, false)));
    }
}
