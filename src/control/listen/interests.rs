//! What the streams of clients want to hear of, by server.
//!
//! Not here: listening. Pure.

use crate::config::limits;
use crate::handoff::Interest;
use std::collections::HashMap;
use std::sync::Arc;

/// Worker and number.
pub(super) type Stream = (usize, u64);
/// Resources to hear of, sorted, each once.
pub(super) type Uris = Arc<[Arc<str>]>;

#[derive(Default)]
pub(super) struct Interests {
    streams: HashMap<Stream, Interest>,
    servers: HashMap<Arc<str>, Wanted>,
}

#[derive(Default)]
struct Wanted {
    /// How many streams name the server, in either part; each time counts.
    times: usize,
    uris: HashMap<Arc<str>, usize>,
}

impl Interests {
    /// A stream wants this in place of what it wanted before. Gives the servers of both.
    pub(super) fn set(&mut self, stream: Stream, what: Option<Interest>) -> Vec<Arc<str>> {
        let mut touched = Vec::new();
        if let Some(before) = self.streams.remove(&stream) {
            self.count(&before, false);
            touched.extend(servers(&before).cloned());
        }
        if let Some(what) = what
            && self.streams.len() < limits::INTERESTS_MAX
        {
            self.count(&what, true);
            touched.extend(servers(&what).cloned());
            self.streams.insert(stream, what);
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    fn count(&mut self, what: &Interest, more: bool) {
        let change = |number: &mut usize| {
            *number = if more { *number + 1 } else { number.saturating_sub(1) };
            *number == 0
        };
        for server in servers(what) {
            let wanted = self.servers.entry(Arc::clone(server)).or_default();
            change(&mut wanted.times);
        }
        for (server, uri) in &what.resources {
            let Some(wanted) = self.servers.get_mut(server) else { continue };
            if change(wanted.uris.entry(Arc::clone(uri)).or_default()) {
                wanted.uris.remove(uri);
            }
        }
        for server in servers(what) {
            if self.servers.get(server).is_some_and(|wanted| wanted.times == 0) {
                self.servers.remove(server);
            }
        }
    }

    /// What is wanted of a server; None: nobody wants to hear of it.
    pub(super) fn of(&self, server: &str) -> Option<Uris> {
        let mut uris: Vec<Arc<str>> = self.servers.get(server)?.uris.keys().cloned().collect();
        uris.sort_unstable();
        uris.truncate(limits::LISTEN_URIS_MAX);
        Some(uris.into())
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.keys()
    }
}

fn servers(what: &Interest) -> impl Iterator<Item = &Arc<str>> {
    what.servers.iter().chain(what.resources.iter().map(|(server, _)| server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(servers: &[&str], resources: &[(&str, &str)]) -> Option<Interest> {
        Some(Interest {
            servers: servers.iter().map(|name| Arc::from(*name)).collect(),
            resources: resources.iter().map(|(server, uri)| (Arc::from(*server), Arc::from(*uri))).collect(),
        })
    }

    #[test]
    fn what_all_streams_want_adds_up_and_goes_with_the_last() {
        let mut all = Interests::default();
        assert_eq!(all.set((0, 1), interest(&["a", "b"], &[("a", "u:2")])).len(), 2);
        all.set((1, 1), interest(&["a"], &[("a", "u:1"), ("a", "u:2"), ("c", "u:3")]));
        let of = |all: &Interests, server: &str| {
            all.of(server).map(|uris| uris.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&all, "a"), Some(vec!["u:1".into(), "u:2".into()]));
        assert_eq!((of(&all, "b"), of(&all, "c")), (Some(vec![]), Some(vec!["u:3".into()])));
        let touched = all.set((0, 1), interest(&["b"], &[]));
        assert_eq!(touched.len(), 2, "before and after");
        assert_eq!(of(&all, "a"), Some(vec!["u:1".into(), "u:2".into()]));
        all.set((1, 1), None);
        assert_eq!((of(&all, "a"), of(&all, "c")), (None, None));
        all.set((0, 1), None);
        assert!(all.servers().next().is_none() && all.streams.is_empty());
        assert!(all.set((0, 1), None).is_empty());
    }

    #[test]
    fn streams_and_resources_have_bounds() {
        let mut all = Interests::default();
        let uris: Vec<String> = (0..2_000).map(|number| format!("u:{number}")).collect();
        let resources: Vec<(&str, &str)> = uris.iter().map(|uri| ("a", uri.as_str())).collect();
        all.set((0, 0), interest(&[], &resources));
        assert_eq!(all.of("a").expect("wanted").len(), limits::LISTEN_URIS_MAX);
        for stream in 1..=limits::INTERESTS_MAX as u64 {
            all.set((0, stream), interest(&["b"], &[]));
        }
        assert_eq!(all.streams.len(), limits::INTERESTS_MAX);
    }
}
