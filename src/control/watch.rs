//! Watches the files that the gateway was made of, on a plain thread.
//!
//! Directories are watched, not files: editors replace a file by renaming, Kubernetes swaps a symlink
//! two steps away. Every link on the way to a file is followed and its own directory watched too.
//!
//! Where the kernel gives no watch the same places are looked at once a second.
//!
//! Not here: what a change means (`reload`), and waiting until things are quiet (there, too).

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::control::change::Change;
use crate::control::change::Told;
use crate::control::watch::Message::Event;
use crate::control::watch::Message::Follow;
use notify::EventKind;
use notify::RecursiveMode;
use notify::Watcher as _;
use notify::event::AccessKind;
use notify::event::AccessMode;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Links that are followed for one file, as the kernel does.
const LINKS_MAX: usize = 40;
/// Events that wait for the watching thread. Past it one is lost, and then all files may have changed.
const EVENTS_MAX: usize = 1024;

/// The files to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) config: Vec<PathBuf>,
    pub(crate) keys: Option<PathBuf>,
}

enum Message {
    Event(notify::Event),
    Follow(Files),
}

/// The way to the watching thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    messages: mpsc::SyncSender<Message>,
}

impl Watcher {
    /// Starts the thread. Changes are told through `changes`.
    ///
    /// # Errors
    /// Where the kernel gives no thread.
    pub(crate) fn start(changes: Told) -> io::Result<Self> {
        let (messages, inbox) = mpsc::sync_channel(EVENTS_MAX);
        let (events, lost) = (messages.clone(), Arc::new(AtomicBool::new(false)));
        let loses = Arc::clone(&lost);
        let source = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event
                && events.try_send(Event(event)).is_err()
            {
                // Those that wait may all be about a log beside the files.
                loses.store(true, Ordering::Release);
            }
        })
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "files are not watched but looked at once a second; raise fs.inotify.max_user_instances"
            );
        });
        let watching = Watching { lost, ..Watching::new(source.ok()) };
        std::thread::Builder::new().name("watch".into()).spawn(move || watching.run(&inbox, &changes))?;
        Ok(Self { messages })
    }

    /// Watches these files from now on, and no others.
    pub(crate) fn follow(&self, files: Files) {
        // The thread waits for nobody, so a full channel is a moment.
        let _ = self.messages.send(Follow(files));
    }
}

/// What changes about a place when it is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    written: (i64, i64),
}

impl Look {
    /// None: there is nothing, or nothing that we may see. A link is looked at itself.
    fn at(path: &Path) -> Option<Self> {
        let facts = std::fs::symlink_metadata(path).ok()?;
        let written = (facts.mtime(), facts.mtime_nsec());
        Some(Self { device: facts.dev(), inode: facts.ino(), bytes: facts.len(), written })
    }
}

/// What the thread holds.
struct Watching {
    /// None: the kernel gives no watches at all.
    source: Option<notify::RecommendedWatcher>,
    /// Some place has no watch.
    blind: bool,
    /// An event found no room.
    lost: Arc<AtomicBool>,
    look_at: Moment,
    /// How each place looked last.
    seen: BTreeMap<PathBuf, Option<Look>>,
    directories: BTreeSet<PathBuf>,
    files: Files,
    /// Places whose change may change the content: the file and every link on the way to it.
    config: BTreeSet<PathBuf>,
    keys: BTreeSet<PathBuf>,
}

impl Watching {
    fn new(source: Option<notify::RecommendedWatcher>) -> Self {
        Self {
            blind: source.is_none(),
            source,
            lost: Arc::default(),
            look_at: Moment::ZERO,
            seen: BTreeMap::new(),
            directories: BTreeSet::new(),
            files: Files::default(),
            config: BTreeSet::new(),
            keys: BTreeSet::new(),
        }
    }

    fn run(mut self, inbox: &mpsc::Receiver<Message>, changes: &Told) {
        loop {
            let message = match inbox.recv_timeout(self.pause(clock::now())) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if changes.is_closed() {
                return;
            }
            match message {
                Some(Follow(files)) => {
                    let are_new = self.files != files;
                    self.files = files;
                    self.retrace();
                    if are_new {
                        // What has changed since they were read, before there was a watch, nobody else tells.
                        changes.tell(Change::Keys);
                        changes.tell(Change::Config);
                    }
                }
                Some(Event(event)) => self.event(&event, changes),
                None => {}
            }
            self.own_up(changes);
            let now = clock::now();
            if self.blind && now >= self.look_at {
                self.look(changes);
                self.look_at = now.plus_millis(limits::WATCH_POLL_MS);
            }
        }
    }

    /// For ever where every place has its watch.
    fn pause(&self, now: Moment) -> Duration {
        if self.blind { Duration::from_nanos(self.look_at.nanos_since(now)) } else { Duration::MAX }
    }

    /// Compares every place with how it looked last.
    fn look(&mut self, changes: &Told) {
        let seen = &mut self.seen;
        let mut differs = |places: &BTreeSet<PathBuf>| {
            let mut found = false;
            for path in places {
                let look = Look::at(path);
                found |= seen.insert(path.clone(), look) != Some(look);
            }
            found
        };
        let (keys, config) = (differs(&self.keys), differs(&self.config));
        self.tell(keys, config, changes);
    }

    fn event(&mut self, event: &notify::Event, changes: &Told) {
        if !changes_content(event.kind) && !event.need_rescan() {
            return;
        }
        let touches = |places: &BTreeSet<PathBuf>| {
            event.need_rescan() || event.paths.iter().any(|path| places.contains(path))
        };
        let (keys, config) = (touches(&self.keys), touches(&self.config));
        self.tell(keys, config, changes);
    }

    /// Tells of everything where an event was lost.
    fn own_up(&mut self, changes: &Told) {
        if self.lost.swap(false, Ordering::Acquire) {
            self.tell(true, true, changes);
        }
    }

    fn tell(&mut self, keys: bool, config: bool, changes: &Told) {
        if keys {
            changes.tell(Change::Keys);
        }
        if config {
            changes.tell(Change::Config);
        }
        if keys || config {
            // A link may point elsewhere now.
            self.retrace();
        }
    }

    fn retrace(&mut self) {
        self.config = self.files.config.iter().flat_map(|path| trail(path)).collect();
        self.keys = self.files.keys.iter().flat_map(|path| trail(path)).collect();
        let places = self.config.iter().chain(&self.keys);
        let wanted: BTreeSet<PathBuf> = places.filter_map(|path| Some(path.parent()?.to_owned())).collect();
        // A known place keeps its look: it may have changed since, and not be told yet.
        let places: BTreeSet<&PathBuf> = self.config.iter().chain(&self.keys).collect();
        self.seen.retain(|path, _| places.contains(path));
        for path in places {
            self.seen.entry(path.clone()).or_insert_with(|| Look::at(path));
        }
        let Some(source) = &mut self.source else { return };
        for gone in self.directories.difference(&wanted) {
            let _ = source.unwatch(gone);
        }
        self.blind = false;
        let known = std::mem::take(&mut self.directories);
        for directory in wanted {
            // A directory that was replaced under the same name needs a new watch; adding twice is one.
            match source.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(directory)),
                Err(error) => {
                    self.blind = true;
                    if !known.contains(&directory) {
                        tracing::warn!(
                            directory = %directory.display(), %error,
                            "this directory is not watched for changes but looked at once a second"
                        );
                    }
                }
            }
        }
    }
}

/// Our own reading of the files makes events as well.
fn changes_content(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Other => true,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
    }
}

/// The file and every symbolic link on the way to it, each under its real directory.
fn trail(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let mut ahead: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
    let (mut at, mut places, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                let target = std::fs::read_link(&next).ok().filter(|_| links < LINKS_MAX);
                if let Some(target) = target {
                    places.push(next);
                    links += 1;
                    for part in target.components().rev() {
                        ahead.push_front(part.as_os_str().to_owned());
                    }
                } else {
                    if ahead.is_empty() {
                        places.push(next.clone());
                    }
                    at = next;
                }
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::change::Changes;
    use crate::control::change::flags;
    use crate::control::tests::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Waits for this change; others may come before it, since one write makes several events.
    async fn told(changes: &mut Changes, expected: Change) {
        let wait = async { while changes.next().await.expect("open") != expected {} };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("a change within 5 s");
    }

    fn watch(config: &Path, keys: &Path) -> (Watcher, Changes) {
        let (told, changes) = flags();
        let watcher = Watcher::start(told).expect("inotify");
        watcher.follow(Files { config: vec![config.to_owned()], keys: Some(keys.to_owned()) });
        (watcher, changes)
    }

    /// Between the reading of a file and the watch on it, nobody would tell of a change: a revoked key stayed in force.
    #[tokio::test]
    async fn regression_what_changed_before_there_was_a_watch_is_told() {
        let folder = Folder::new("watch-first");
        let (config, keys) = (folder.path("a.yaml"), folder.path("keys.yaml"));
        for path in [&config, &keys] {
            fs::write(path, "read, and changed since").expect("written");
        }
        let (_watcher, mut changes) = watch(&config, &keys);
        told(&mut changes, Change::Keys).await;
        told(&mut changes, Change::Config).await;
    }

    /// The watch is set by another thread: change the keys until one change is told.
    async fn settled(keys: &Path, changes: &mut Changes) {
        loop {
            fs::write(keys, "first").expect("written");
            if tokio::time::timeout(Duration::from_millis(20), changes.next()).await.is_ok() {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_replaced_file_is_a_change() {
        let folder = Folder::new("watch-replace");
        let (config, keys) = (folder.path("gw.yaml"), folder.path("keys.yaml"));
        fs::write(&config, "a").expect("written");
        let (_watcher, mut changes) = watch(&config, &keys);
        settled(&keys, &mut changes).await;
        for content in ["b", "c"] {
            fs::write(folder.path("new"), content).expect("written");
            fs::rename(folder.path("new"), &config).expect("renamed");
            told(&mut changes, Change::Config).await;
        }
    }

    /// A volume as Kubernetes mounts it: the file is a link through a link that is swapped.
    fn mount_versions(folder: &Folder) {
        for version in ["..v1", "..v2"] {
            fs::create_dir(folder.path(version)).expect("made");
            fs::write(folder.path(version).join("gw.yaml"), version).expect("written");
        }
        symlink("..v1", folder.path("..data")).expect("linked");
        symlink("..data/gw.yaml", folder.path("gw.yaml")).expect("linked");
    }

    #[tokio::test]
    async fn a_swapped_link_two_steps_away_is_a_change() {
        let folder = Folder::new("watch-swap");
        let keys = folder.path("keys.yaml");
        mount_versions(&folder);
        let (_watcher, mut changes) = watch(&folder.path("gw.yaml"), &keys);
        settled(&keys, &mut changes).await;
        for version in ["..v2", "..v1"] {
            symlink(version, folder.path("..new")).expect("linked");
            fs::rename(folder.path("..new"), folder.path("..data")).expect("swapped");
            told(&mut changes, Change::Config).await;
        }
    }

    /// Where the kernel gave no watch a change was noticed at the next SIGHUP only.
    #[test]
    fn without_watches_changes_are_noticed_by_looking() {
        let folder = Folder::new("watch-blind");
        let keys = folder.path("keys.yaml");
        mount_versions(&folder);
        let mut watching = Watching::new(None);
        watching.files = Files { config: vec![folder.path("gw.yaml")], keys: Some(keys.clone()) };
        watching.retrace();
        let (told, mut changes) = flags();
        let mut noticed = |watching: &mut Watching| {
            watching.look(&told);
            (changes.now(), changes.now())
        };
        assert_eq!(noticed(&mut watching), (None, None), "nothing changed");
        fs::write(&keys, "keys: []").expect("written");
        assert_eq!(noticed(&mut watching), (Some(Change::Keys), None));
        assert_eq!(noticed(&mut watching), (None, None), "told once");
        symlink("..v2", folder.path("..new")).expect("linked");
        fs::rename(folder.path("..new"), folder.path("..data")).expect("swapped");
        assert_eq!(noticed(&mut watching), (Some(Change::Config), None));
        fs::write(folder.path("..v2/gw.yaml"), "longer than before").expect("written");
        // A reload follows the files anew; what changed in between is still noticed.
        watching.retrace();
        fs::remove_file(&keys).expect("removed");
        assert_eq!(noticed(&mut watching), (Some(Change::Keys), Some(Change::Config)));
    }

    #[test]
    fn only_a_changed_content_of_our_own_files_counts() {
        let folder = Folder::new("watch-filter");
        let (config, keys) = (folder.path("gw.yaml"), folder.path("keys.yaml"));
        let mut watching = Watching::new(notify::recommended_watcher(|_| {}).ok());
        watching.files = Files { config: vec![config.clone()], keys: Some(keys.clone()) };
        watching.retrace();
        let modified = EventKind::Modify(notify::event::ModifyKind::Any);
        let created = EventKind::Create(notify::event::CreateKind::File);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let table = [
            (modified, config.clone(), Some(Change::Config)),
            (created, keys, Some(Change::Keys)),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), config.clone(), Some(Change::Config)),
            (opened, config.clone(), None),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), config, None),
            (created, folder.path("keys.yaml.last-used"), None),
            (modified, folder.path("calls.log"), None),
        ];
        for (kind, path, expected) in table {
            let (told, mut changes) = flags();
            watching.event(&notify::Event::new(kind).add_path(path.clone()), &told);
            assert_eq!(changes.now(), expected, "{kind:?} {path:?}");
        }
    }

    /// The events that wait may all be about other files: a log in the same directory.
    #[test]
    fn a_lost_event_is_a_change_of_everything() {
        let mut watching = Watching::new(None);
        let (told, mut changes) = flags();
        watching.own_up(&told);
        assert_eq!(changes.now(), None, "none was lost");
        watching.lost.store(true, Ordering::Release);
        watching.own_up(&told);
        assert_eq!((changes.now(), changes.now()), (Some(Change::Keys), Some(Change::Config)));
        watching.own_up(&told);
        assert_eq!(changes.now(), None, "told once");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = Folder::new("watch-circle");
        symlink("b", folder.path("a")).expect("linked");
        symlink("a", folder.path("b")).expect("linked");
        assert!(trail(&folder.path("a")).len() <= LINKS_MAX + 1);
    }
}
