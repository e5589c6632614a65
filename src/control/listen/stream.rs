//! The stream of one server: opened, heard, opened anew.
//!
//! Not here: whether it is wanted (`listen`), and the messages (`probe::dialogue::streams`).

use crate::base::clock;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::Endpoint;
use crate::config::plan::InjectedHeader;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::control::catalogue::Wish;
use crate::control::credentials;
use crate::control::listen::deaf::Place;
use crate::control::listen::interests::Uris;
use crate::control::listen::pause::Pause;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::dialogue::streams;
use crate::control::probe::dialogue::streams::Told;
use crate::control::probe::link::Listening;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::handoff::Letter;
use crate::mcp::catalogue::about::Capabilities;
use crate::mcp::crossing::Abilities;
use crate::mcp::envelope::Era;
use crate::policy::credential::Credential;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

/// Why there is no stream any more.
enum End {
    /// Nobody wants it.
    Unwanted,
    /// The server has none.
    Deaf,
    Lost(String),
}

/// Which resources are heard of, and of which of them the server says that there is none.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) uris: Uris,
    pub(super) refused: BTreeSet<Arc<str>>,
}

/// Where that is said, and that something was said.
type Hears = (Arc<watch::Sender<Option<Heard>>>, Arc<Notify>);

/// What was asked for in a session, and refused.
#[derive(Default)]
struct Followed {
    uris: BTreeSet<Arc<str>>,
    refused: BTreeSet<Arc<str>>,
}

/// Listens to one server.
#[derive(Clone)]
pub(super) struct Ear {
    state: Arc<State>,
    server: Arc<str>,
    wishes: mpsc::Sender<Wish>,
    /// Updates since the last pause.
    told: u32,
    /// Says which resources are heard of, and that it was said.
    hears: Option<Hears>,
}

/// What it takes to speak to an instance.
struct Way {
    plan: Arc<Plan>,
    credential: Option<Arc<Credential>>,
}

impl Ear {
    pub(super) fn new(state: Arc<State>, server: Arc<str>, wishes: mpsc::Sender<Wish>) -> Self {
        Self { state, server, wishes, told: 0, hears: None }
    }

    /// Says so wherever it hears of more.
    pub(super) fn telling(self, hears: watch::Sender<Option<Heard>>, opened: Arc<Notify>) -> Self {
        Self { hears: Some((Arc::new(hears), opened)), ..self }
    }

    fn heard(&self, uris: &Uris, refused: &BTreeSet<Arc<str>>) {
        if let Some((hears, opened)) = &self.hears {
            hears.send_replace(Some(Heard { uris: Arc::clone(uris), refused: refused.clone() }));
            opened.notify_one();
        }
    }

    /// Until nobody wants it, or the server turns out to tell nothing.
    pub(super) async fn listen(mut self, mut wanted: watch::Receiver<Uris>) {
        let (mut pause, spread) = (Pause::default(), RandomState::new());
        let mut is_first = true;
        loop {
            let Some((era, has)) = self.use_of(&mut wanted).await else { return };
            let began = clock::now();
            let end = match era {
                Era::Modern => self.modern(has, is_first, &mut wanted).await,
                Era::Legacy => self.legacy(has, is_first, &mut wanted).await,
            };
            is_first = false;
            match end {
                End::Unwanted | End::Deaf => return,
                End::Lost(why) => tracing::debug!(server = &*self.server, why, "its changes are not heard"),
            }
            let now = clock::now();
            let lasted_ms = now.nanos_since(began) / 1_000_000;
            let pause_ms = pause.after(lasted_ms, spread.hash_one(now.as_nanos()) % 1_000);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                () = unwanted(&mut wanted) => return,
            }
        }
    }

    /// Waits until its server is known and has something to tell. None: nobody wants it any more.
    async fn use_of(&self, wanted: &mut watch::Receiver<Uris>) -> Option<(Era, Capabilities)> {
        let mut changed = self.state.catalogues_changed.subscribe();
        loop {
            let known = self.state.shared.catalogues.load().by_server.get(&self.server).cloned();
            if let Some(known) = known {
                let (era, has) = (known.about.era, known.about.has);
                let tells = has.tools_changed || has.prompts_changed || has.resources_changed;
                if tells || has.subscribe && !wanted.borrow().is_empty() {
                    return Some((era, has));
                }
            }
            tokio::select! {
                _ = changed.changed() => {}
                more = wanted.changed() => more.ok()?,
            }
        }
    }

    /// The place of an instance in what is remembered of servers without streams.
    fn place(&self, endpoint: &Endpoint, era: Era) -> Place {
        (Arc::clone(&self.server), Arc::clone(&endpoint.label), era)
    }

    async fn way(&self) -> Way {
        let plan = self.state.plan();
        let credential = match plan.server_of(&self.server) {
            Some(server) => credentials::of_gateway(&self.state, server).await,
            None => None,
        };
        Way { plan, credential }
    }

    /// A stream of the newer era has its wishes in its request: for others a new one is opened, and the old one is kept
    /// until then.
    async fn modern(&mut self, has: Capabilities, is_first: bool, wanted: &mut watch::Receiver<Uris>) -> End {
        let (opened, mut opens) = mpsc::channel(1);
        let mut streams = JoinSet::new();
        let mut newest = 0;
        let mut handles = Vec::new();
        let start = |number: u64, uris: Uris, streams: &mut JoinSet<(u64, End)>| {
            let (mut ear, opened) = (self.clone(), opened.clone());
            streams.spawn(async move { (number, ear.one_modern(has, &uris, (number, opened)).await) })
        };
        let uris = wanted.borrow_and_update().clone();
        handles.push((newest, start(newest, uris, &mut streams)));
        loop {
            tokio::select! {
                Some(number) = opens.recv() => {
                    handles.retain(|(one, handle)| {
                        if *one < number {
                            leave_later(handle.clone());
                        }
                        *one >= number
                    });
                    if !is_first || number > 0 {
                        self.change(None).await;
                    }
                }
                Some(over) = streams.join_next() => match over {
                    Ok((number, end)) if number == newest => return end,
                    // Of one that was followed by another.
                    _ => {}
                },
                more = wanted.changed() => {
                    if more.is_err() {
                        return End::Unwanted;
                    }
                    if !has.subscribe {
                        continue;
                    }
                    tokio::time::sleep(Duration::from_millis(limits::LISTEN_DEBOUNCE_MS)).await;
                    newest += 1;
                    let uris = wanted.borrow_and_update().clone();
                    handles.push((newest, start(newest, uris, &mut streams)));
                }
            }
        }
    }

    async fn one_modern(
        &mut self,
        has: Capabilities,
        all: &Uris,
        (number, opened): (u64, mpsc::Sender<u64>),
    ) -> End {
        let way = self.way().await;
        let Some(target) = way.target(&self.state, &self.server) else { return gone() };
        let (server, endpoint, addresses) = target;
        let target = Target { server, endpoint, addresses: &addresses, shown: way.shown() };
        let uris: Vec<Box<str>> = all.iter().filter(|_| has.subscribe).map(|uri| Box::from(&**uri)).collect();
        let mut dialogue = Dialogue::new(target);
        let (patience, place) =
            (Duration::from_millis(limits::LISTEN_OPEN_MS), self.place(endpoint, Era::Modern));
        let asking = self.state.deaf.ask(&place, dialogue.subscribe_all(has, &uris));
        let mut stream = match tokio::time::timeout(patience, asking).await {
            Ok(Ok(streams::Ear::Open(stream))) => stream,
            Ok(Ok(streams::Ear::Deaf | streams::Ear::Gone)) => return End::Deaf,
            Ok(Err(why)) => return End::Lost(why),
            Err(_) => return End::Lost("no stream in time".into()),
        };
        self.heard(all, &BTreeSet::new());
        // Its reader lives as long as this.
        let _ = opened.send(number).await;
        loop {
            match stream.next().await {
                Ok(Some(event)) => match Told::read(&event.data) {
                    Told::Over => return End::Lost("the server has ended it".into()),
                    told => self.tell(told).await,
                },
                Ok(None) => return End::Lost("it has ended".into()),
                Err(error) => return End::Lost(error.to_string()),
            }
        }
    }

    /// A session of its own, its stream, and a subscription for each resource.
    async fn legacy(&mut self, has: Capabilities, is_first: bool, wanted: &mut watch::Receiver<Uris>) -> End {
        let way = self.way().await;
        let Some((server, endpoint, addresses)) = way.target(&self.state, &self.server) else {
            return gone();
        };
        let target = Target { server, endpoint, addresses: &addresses, shown: way.shown() };
        let mut dialogue = Dialogue::new(target);
        let patience = Duration::from_millis(limits::LISTEN_OPEN_MS);
        let end = match tokio::time::timeout(patience, dialogue.open(Abilities::default())).await {
            Ok(Ok(_)) => {
                let place = self.place(endpoint, Era::Legacy);
                self.in_session((&mut dialogue, &place), has, is_first, wanted).await
            }
            Ok(Err(why)) => End::Lost(why),
            Err(_) => End::Lost("no session in time".into()),
        };
        dialogue.close(Duration::from_millis(limits::QUESTION_MS)).await;
        end
    }

    async fn in_session(
        &mut self,
        (dialogue, place): (&mut Dialogue<'_>, &Place),
        has: Capabilities,
        mut is_first: bool,
        wanted: &mut watch::Receiver<Uris>,
    ) -> End {
        let patience = Duration::from_millis(limits::LISTEN_OPEN_MS);
        let (mut last, mut followed) = (Vec::new(), Followed::default());
        let mut pause = Pause::default();
        loop {
            let began = clock::now();
            let asking = self.state.deaf.ask(place, dialogue.hear(&last));
            let mut stream = match tokio::time::timeout(patience, asking).await {
                Ok(Ok(streams::Ear::Open(stream))) => stream,
                Ok(Ok(streams::Ear::Deaf)) => return End::Deaf,
                Ok(Ok(streams::Ear::Gone)) => return End::Lost("it knows the session no more".into()),
                Ok(Err(why)) => return End::Lost(why),
                Err(_) => return End::Lost("no stream in time".into()),
            };
            if !std::mem::take(&mut is_first) {
                self.change(None).await;
            }
            let heard = self.hear(&mut stream, (dialogue, has), (&mut last, &mut followed), wanted).await;
            drop(stream);
            if let Some(end) = heard {
                return end;
            }
            // Servers may end a stream early, and go on in another (2025-11-25, Streamable HTTP): the session stays.
            let lasted_ms = clock::now().nanos_since(began) / 1_000_000;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause.after(lasted_ms, 0))) => {}
                () = unwanted(wanted) => return End::Unwanted,
            }
        }
    }

    /// Until the stream ends: None where the server has ended it in good order.
    async fn hear(
        &mut self,
        stream: &mut Listening,
        (dialogue, has): (&mut Dialogue<'_>, Capabilities),
        (last, followed): (&mut Vec<u8>, &mut Followed),
        wanted: &mut watch::Receiver<Uris>,
    ) -> Option<End> {
        let patience = Duration::from_millis(limits::LISTEN_OPEN_MS);
        loop {
            let all = wanted.borrow_and_update().clone();
            let uris: BTreeSet<Arc<str>> = all.iter().filter(|_| has.subscribe).cloned().collect();
            let Followed { uris: before, refused } = &mut *followed;
            for (uri, begins) in uris
                .difference(before)
                .map(|uri| (uri, true))
                .chain(before.difference(&uris).map(|uri| (uri, false)))
            {
                match tokio::time::timeout(patience, dialogue.follow(uri, begins)).await {
                    Ok(Ok(is_there)) if is_there || !begins => drop(refused.remove(uri)),
                    Ok(Ok(_)) => drop(refused.insert(Arc::clone(uri))),
                    Ok(Err(why)) => return Some(End::Lost(why)),
                    Err(_) => return Some(End::Lost("no answer to a subscription".into())),
                }
            }
            self.heard(&all, refused);
            followed.uris = uris;
            loop {
                let event = tokio::select! {
                    event = stream.next() => event,
                    more = wanted.changed() => {
                        if more.is_err() {
                            return Some(End::Unwanted);
                        }
                        tokio::time::sleep(Duration::from_millis(limits::LISTEN_DEBOUNCE_MS)).await;
                        break;
                    }
                };
                let event = match event {
                    Ok(Some(event)) => event,
                    Ok(None) => return None,
                    Err(error) => return Some(End::Lost(error.to_string())),
                };
                if !event.id.is_empty() {
                    *last = event.id;
                }
                match Told::read(&event.data) {
                    // A server that does not hear its answer ends the session, or waits in vain.
                    Told::Ping(id) => drop(tokio::time::timeout(patience, dialogue.pong(&id)).await),
                    Told::Asked { id, .. } => {
                        drop(tokio::time::timeout(patience, dialogue.refuse(&id)).await)
                    }
                    told => self.tell(told).await,
                }
            }
        }
    }

    async fn tell(&mut self, told: Told) {
        match told {
            Told::ListChanged(what) => self.change(Some(what)).await,
            Told::Updated(uri) => self.update(&uri).await,
            Told::Ping(_) | Told::Asked { .. } | Told::Over | Told::Nothing => {}
        }
    }

    async fn change(&self, what: Option<Named>) {
        // Waits where the keeper has much to do. An error: it is gone, and the process with it.
        let _ = self.wishes.send(Wish::Changed { server: Arc::clone(&self.server), what }).await;
    }

    async fn update(&mut self, uri: &str) {
        let uri: Arc<str> = uri.into();
        for post in &self.state.shared.posts {
            let letter = Letter::Updated { server: Arc::clone(&self.server), uri: Arc::clone(&uri) };
            if post.mailbox.post(letter).is_err() {
                self.state.answers_lost.add(1);
            }
        }
        self.told += 1;
        if self.told >= limits::LISTEN_UPDATES_AT_ONCE {
            self.told = 0;
            tokio::time::sleep(Duration::from_millis(limits::LISTEN_UPDATES_PAUSE_MS)).await;
        }
    }
}

/// Ends a stream that another has followed, once what was under way on it has come: a change that is told on both is one.
fn leave_later(stream: AbortHandle) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(limits::LISTEN_DEBOUNCE_MS)).await;
        stream.abort();
    });
}

/// Waits until nobody wants to hear of it.
async fn unwanted(wanted: &mut watch::Receiver<Uris>) {
    while wanted.changed().await.is_ok() {}
}

/// Whether it is known of a server that it tells nothing by itself, where it would be listened to.
pub(super) fn is_deaf(state: &State, name: &Arc<str>) -> bool {
    let known = state.shared.catalogues.load();
    let plan = state.plan();
    let Some((known, server)) = known.by_server.get(name).zip(plan.server_of(name)) else { return false };
    let first = probe::in_order(state, server).into_iter().next();
    first.is_some_and(|first| state.deaf.has(&(Arc::clone(name), Arc::clone(&first.label), known.about.era)))
}

fn gone() -> End {
    End::Lost("it has no instance".into())
}

impl Way {
    /// The first instance in rotation.
    fn target<'w>(
        &'w self,
        state: &State,
        name: &str,
    ) -> Option<(&'w Server, &'w Endpoint, Arc<[SocketAddr]>)> {
        let server = self.plan.server_of(name)?;
        let endpoint = probe::in_order(state, server).into_iter().next()?;
        Some((server, endpoint, probe::addresses(state, endpoint)))
    }

    fn shown(&self) -> &[InjectedHeader] {
        self.credential.as_ref().map_or(&[], |credential| &credential.fields)
    }
}
