//! Changes that servers tell by themselves: one stream to each server that somebody wants to hear of, however many do.
//!
//! Not here: what is wanted (`interests`), and one stream (`stream`). A changed list is listed again (`catalogue`), a
//! changed resource is told to workers.

pub(in crate::control) mod deaf;
mod interests;
pub(in crate::control) mod pause;
mod stream;
#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::control::catalogue::Wish;
use crate::control::listen::interests::Interests;
use crate::control::listen::interests::Stream;
use crate::control::listen::interests::Uris;
use crate::control::listen::stream::Ear;
use crate::control::listen::stream::Heard;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Interest;
use crate::handoff::Subscriptions;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a stream of a client wants from now on.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) worker: usize,
    pub(crate) ticket: u64,
    pub(crate) stream: u64,
    /// None: it has ended.
    pub(crate) what: Option<Interest>,
}

/// Somebody who waits until servers are listened to.
struct Waiting {
    worker: usize,
    ticket: u64,
    what: Interest,
    until: Moment,
}

/// One server that is listened to. Its task ends when the sender is dropped.
struct Listener {
    /// Tells it from one before it.
    number: u64,
    wanted: watch::Sender<Uris>,
    /// None: nothing is yet.
    heard: watch::Receiver<Option<Heard>>,
    /// Since when nobody is interested; None: somebody is.
    idle: Option<Moment>,
    /// When it is told that less is wanted; None: all that it was told is. Who subscribes and who listens may be two.
    shrinks: Option<Moment>,
}

/// A task that has ended by itself: its server tells nothing.
struct Over {
    server: Arc<str>,
    number: u64,
}

pub(crate) struct ListenKeeper {
    state: Arc<State>,
    wishes: mpsc::Sender<Wish>,
    interests: Interests,
    listeners: HashMap<Arc<str>, Listener>,
    tasks: JoinSet<Over>,
    number: u64,
    look: Moment,
    waiting: Vec<Waiting>,
    /// A stream was opened.
    opened: Arc<Notify>,
}

/// Whether one stream stands for all callers: not where each shows a credential of its own.
fn may_listen(plan: &Plan, name: &str) -> bool {
    plan.server_of(name).is_some_and(|server| {
        server.auth.as_ref().is_none_or(|auth| !auth.is_consented() && !auth.exchanges())
    })
}

impl ListenKeeper {
    pub(crate) fn new(state: Arc<State>, wishes: mpsc::Sender<Wish>) -> Self {
        Self {
            state,
            wishes,
            interests: Interests::default(),
            listeners: HashMap::new(),
            tasks: JoinSet::new(),
            number: 0,
            look: clock::now(),
            waiting: Vec::new(),
            opened: Arc::default(),
        }
    }

    pub(crate) async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut changed = self.state.plan_changed.subscribe();
        let mut ends = self.state.sessions_end.subscribe();
        if self.state.sessions_ends() {
            return self.end().await;
        }
        loop {
            self.turn(clock::now());
            self.answer(clock::now());
            let idle = self.listeners.values().filter_map(|listener| listener.idle);
            let idle = idle.min().map_or(Moment::NEVER, |idle| idle.plus_millis(limits::LISTEN_LINGER_MS));
            let until = self.waiting.iter().map(|one| one.until).min().unwrap_or(Moment::NEVER);
            let shrinks = self.listeners.values().filter_map(|listener| listener.shrinks);
            let next = shrinks.fold(self.look.min(idle).min(until), Moment::min);
            let pause = Duration::from_nanos(next.nanos_since(clock::now()));
            let opened = Arc::clone(&self.opened);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => self.follow_plan(),
                () = opened.notified() => {}
                Some(news) = news.recv() => self.hear(news, clock::now()),
                Some(over) = self.tasks.join_next() => match over {
                    Ok(over) => self.settle(over),
                    Err(error) => tracing::error!(%error, "a server is not listened to; restart the gateway"),
                },
                _ = ends.changed() => return self.end().await,
            }
        }
    }

    async fn end(mut self) {
        self.listeners.clear();
        while self.tasks.join_next().await.is_some() {}
        self.state.sessions_ended.add_permits(1);
    }

    /// All streams begin anew, so that none holds an old plan.
    fn follow_plan(&mut self) {
        self.listeners.clear();
        let wanted: Vec<Arc<str>> = self.interests.servers().cloned().collect();
        for server in wanted {
            self.follow(server, clock::now());
        }
    }

    fn hear(&mut self, News { worker, ticket, stream, what }: News, now: Moment) {
        let stream: Stream = (worker, stream);
        if let Some(what) = what.clone().filter(|_| ticket != u64::MAX) {
            let until = now.plus_millis(limits::LISTEN_WAIT_MS);
            self.waiting.push(Waiting { worker, ticket, what, until });
        }
        for server in self.interests.set(stream, what) {
            self.follow(server, now);
        }
    }

    /// Answers those who wait for nothing any more.
    fn answer(&mut self, now: Moment) {
        let waiting = std::mem::take(&mut self.waiting);
        for one in waiting {
            if now < one.until && !self.is_heard(&one.what) {
                self.waiting.push(one);
            } else {
                let refused = self.refused(&one.what);
                self.state.reply(one.worker, one.ticket, Answer::Listening { refused });
            }
        }
    }

    /// Whether all that is wanted is listened to, as far as it can be.
    fn is_heard(&self, what: &Interest) -> bool {
        let all = what.servers.iter().chain(what.resources.iter().map(|(server, _)| server));
        all.into_iter().all(|server| {
            let Some(listener) = self.listeners.get(server) else { return true };
            let heard = listener.heard.borrow();
            let Some(heard) = &*heard else { return self.is_mute(server) };
            what.resources.iter().filter(|(of, _)| of == server).all(|(_, uri)| heard.uris.contains(uri))
        })
    }

    /// The resources that are wanted, and of which their servers say that there is none.
    fn refused(&self, what: &Interest) -> Subscriptions {
        let is_refused = |(server, uri): &&(Arc<str>, Arc<str>)| {
            let heard = self.listeners.get(server).map(|listener| listener.heard.borrow());
            heard.is_some_and(|heard| heard.as_ref().is_some_and(|heard| heard.refused.contains(uri)))
        };
        what.resources.iter().filter(is_refused).cloned().collect()
    }

    /// Whether a server says that it never tells of changes.
    fn is_mute(&self, server: &str) -> bool {
        let known = self.state.shared.catalogues.load().by_server.get(server).cloned();
        known.is_some_and(|known| {
            let has = known.about.has;
            !(has.tools_changed || has.prompts_changed || has.resources_changed || has.subscribe)
        })
    }

    /// Does what follows from what is wanted of a server now.
    fn follow(&mut self, server: Arc<str>, now: Moment) {
        let Some(uris) = self.interests.of(&server) else {
            if let Some(listener) = self.listeners.get_mut(&server) {
                listener.idle.get_or_insert(now);
            }
            return;
        };
        // Full: the next look says it again.
        let _ = self.wishes.try_send(Wish::Interest { server: Arc::clone(&server) });
        if let Some(listener) = self.listeners.get_mut(&server) {
            listener.idle = None;
            let told = listener.wanted.borrow().clone();
            let shrinks = uris.len() < told.len() && uris.iter().all(|uri| told.contains(uri));
            if shrinks && listener.shrinks.is_none_or(|due| now < due) {
                listener.shrinks.get_or_insert(now.plus_millis(limits::LISTEN_SHRINK_MS));
                return;
            }
            listener.shrinks = None;
            listener.wanted.send_if_modified(|wanted| {
                let differs = *wanted != uris;
                *wanted = uris;
                differs
            });
            return;
        }
        if !may_listen(&self.state.plan(), &server) || stream::is_deaf(&self.state, &server) {
            return;
        }
        self.number += 1;
        let (wanted, wants) = watch::channel(uris);
        let (hears, heard) = watch::channel(None);
        let ear = Ear::new(Arc::clone(&self.state), Arc::clone(&server), self.wishes.clone());
        let ear = ear.telling(hears, Arc::clone(&self.opened));
        let over = Over { server: Arc::clone(&server), number: self.number };
        self.listeners
            .insert(server, Listener { number: self.number, wanted, heard, idle: None, shrinks: None });
        self.tasks.spawn(async move {
            ear.listen(wants).await;
            over
        });
    }

    fn turn(&mut self, now: Moment) {
        self.listeners.retain(|_, listener| {
            listener.idle.is_none_or(|idle| now < idle.plus_millis(limits::LISTEN_LINGER_MS))
        });
        let shrink = |(name, listener): (&Arc<str>, &Listener)| {
            listener.shrinks.is_some_and(|due| due <= now).then(|| Arc::clone(name))
        };
        for server in self.listeners.iter().filter_map(shrink).collect::<Vec<_>>() {
            self.follow(server, now);
        }
        if self.look <= now {
            self.look = now.plus_millis(limits::LISTEN_LINGER_MS);
            for server in self.interests.servers() {
                let _ = self.wishes.try_send(Wish::Interest { server: Arc::clone(server) });
            }
        }
    }

    fn settle(&mut self, Over { server, number }: Over) {
        // Else it has ended because it was told to.
        if self.listeners.get(&server).is_some_and(|listener| listener.number == number) {
            self.listeners.remove(&server);
        }
    }
}
