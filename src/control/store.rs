//! What outlives the process: kill switches, what quotas and token counts have used, and what servers offer.
//!
//! Not here: rates, which forget within a day at most, and keeping kill switches (`kills`) and lists (`catalogue::stored`).
//! The quotas are written whole once a second, if anything changed: after a kill by the system at most the last second is
//! lost.

use crate::base::clock;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::config::reader;
use crate::config::replace::beside;
use crate::config::replace::replace;
use crate::control::catalogue::stored;
use crate::control::kills;
use crate::control::seal;
use crate::control::state::State;
use crate::handoff::Catalogues;
use crate::handoff::Shared;
use crate::mcp::sealed::SealKeys;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::gate::When;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::pinned;
use crate::policy::limits::terms::UNIT_NS;
use aws_lc_rs::digest;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Name of the file in the state directory.
const FILE: &str = "quotas";
/// Its first bytes. Then numbers of 8 bytes, the least significant first: the two seeds of keys, how many cells are
/// quotas, and the key and word of each cell, quotas first. At the end the SHA-256 of all before it.
const MAGIC: &[u8; 16] = b"ringgate-quota-1";

/// What the wall clock has to move by against that of the process before debts are written anew.
const STEP_NS: u64 = 500_000_000;

/// What an earlier process left.
pub struct Kept {
    kills: Kills,
    used: Used,
    /// None: the plan names keys, or has no state directory.
    seal: Option<SealKeys>,
    catalogues: Catalogues,
}

/// What of quotas and token counts was used, under keys that these seeds make.
#[derive(Debug)]
struct Used {
    keys: Keys,
    quotas: Vec<pinned::Kept>,
    debts: Vec<pinned::Kept>,
}

/// Reads the state directory of a plan, if it has one.
///
/// # Errors
/// A sentence with cause and cure: no directory, or kill switches that cannot be read. Quotas that cannot be read are
/// set aside and told, and begin anew.
pub fn open(plan: &Plan) -> Result<Kept, String> {
    let Some(directory) = &plan.state_dir else {
        let (kills, catalogues) = (Kills::default(), Catalogues::default());
        return Ok(Kept { kills, used: Used::nothing(), seal: None, catalogues });
    };
    let (kills, used) = (kills::load(directory)?, read(&directory.join(FILE))?);
    Ok(Kept { kills, used, seal: seal::open(plan)?, catalogues: stored::read(plan) })
}

/// What the servers of a plan offered to an earlier process, or offer to one that runs, as the state directory has it.
pub fn catalogues(plan: &Plan) -> Catalogues {
    stored::read(plan)
}

impl Kept {
    /// What keys of limits are made with.
    pub fn keys(&self) -> Keys {
        self.used.keys
    }

    /// Puts it where workers find it; before they serve. `shared` was made with [`Self::keys`].
    pub fn give_to(self, shared: &Shared) {
        shared.kills.store(Arc::new(self.kills));
        shared.catalogues.store(Arc::new(self.catalogues));
        if let Some(keys) = self.seal {
            shared.seal_keys.store(Arc::new(keys));
        }
        self.used.give_to(&shared.limits, now());
    }
}

impl Used {
    fn nothing() -> Self {
        let mut seeds = [[0; 8]; 2];
        for seed in &mut seeds {
            // A failing random source must not stop the gateway: keys that are known cost fairness, not safety.
            let _ = aws_lc_rs::rand::fill(seed);
        }
        Self { keys: Keys { seeds: seeds.map(u64::from_le_bytes) }, quotas: Vec::new(), debts: Vec::new() }
    }

    fn give_to(&self, limits: &Counters, now: When) {
        let quotas = self.quotas.iter().filter(|kept| !limits.quotas.seed(**kept)).count();
        let since_units = now.unix_ns.saturating_sub(now.moment.as_nanos()) / UNIT_NS;
        let debts = self.debts.iter().filter(|kept| {
            // Of a debt that was paid meanwhile nothing is left to count.
            let word = kept.word.saturating_sub(since_units);
            word > now.moment.as_nanos() / UNIT_NS && !limits.debts.seed(pinned::Kept { word, ..**kept })
        });
        let debts = debts.count();
        if quotas + debts > 0 {
            tracing::error!(quotas, debts, "more was kept than there is room for: these callers begin anew");
        }
    }

    /// `start_ns`: when the clock of this process was at its beginning, since the Unix epoch. The next process has
    /// another one, so that debts are kept by the wall clock.
    fn of(limits: &Counters, now: When, start_ns: u64) -> Self {
        let by_wall =
            |kept: pinned::Kept| pinned::Kept { word: kept.word.saturating_add(start_ns / UNIT_NS), ..kept };
        Self {
            keys: limits.keys,
            quotas: limits.quotas.snapshot(now.unix_ns).collect(),
            debts: limits.debts.snapshot(now.moment.as_nanos()).map(by_wall).collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let head = self.keys.seeds.into_iter().chain([self.quotas.len() as u64]);
        let cells = self.quotas.iter().chain(&self.debts).flat_map(|kept| [kept.key, kept.word]);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(head.chain(cells).flat_map(u64::to_le_bytes));
        let sum = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(sum.as_ref());
        bytes
    }

    /// None for anything that `encode` does not write.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(digest::SHA256_OUTPUT_LEN)?)?;
        if digest::digest(&digest::SHA256, body).as_ref() != sum {
            return None;
        }
        let (numbers, []) = body.strip_prefix(MAGIC)?.as_chunks::<8>() else { return None };
        let numbers: Vec<u64> = numbers.iter().copied().map(u64::from_le_bytes).collect();
        let ([first, second, quotas], cells) = numbers.split_first_chunk::<3>()?;
        let (cells, []) = cells.as_chunks::<2>() else { return None };
        let kept = |cells: &[[u64; 2]]| {
            cells.iter().map(|[key, word]| pinned::Kept { key: *key, word: *word }).collect()
        };
        let (quotas, debts) = cells.split_at_checked(usize::try_from(*quotas).ok()?)?;
        Some(Self { keys: Keys { seeds: [*first, *second] }, quotas: kept(quotas), debts: kept(debts) })
    }
}

fn now() -> When {
    When { moment: clock::now(), unix_ns: clock::unix_nanos() }
}

fn read(path: &Path) -> Result<Used, String> {
    let shown = path.display();
    let exists = path.try_exists().map_err(|error| {
        let reason = reader::reason(&error);
        format!("cannot look for quotas in {shown}: {reason}. Give this user the state directory.")
    })?;
    if !exists {
        return Ok(Used::nothing());
    }
    let decoded = reader::read_up_to(path, limits::QUOTAS_FILE_BYTES_MAX).and_then(|bytes| {
        Used::decode(&bytes).ok_or_else(|| String::from("it is damaged, or of another version"))
    });
    decoded.or_else(|reason| {
        let aside = beside(path, ".damaged");
        std::fs::rename(path, &aside).map_err(|error| {
            let why = reader::reason(&error);
            format!(
                "cannot use the quotas in {shown}: {reason}; nor move them aside: {why}. Remove the file."
            )
        })?;
        tracing::error!(
            reason, aside = %aside.display(),
            "the kept quotas cannot be used: every quota and token count begins anew"
        );
        Ok(Used::nothing())
    })
}

/// Writes the quotas of one process.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// None: there is no state directory.
    path: Option<PathBuf>,
    written: Vec<u8>,
    warned: bool,
    /// When the clock of this process was at its beginning, since the Unix epoch.
    start_ns: u64,
}

impl Keeper {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { path: plan.state_dir.as_ref().map(|directory| directory.join(FILE)), ..Self::default() }
    }

    /// Forced to the disk, so that a power cut loses no more than a kill. Nothing new is not written again.
    pub(crate) fn keep(&mut self, limits: &Counters) {
        let now = now();
        let start_ns = now.unix_ns.saturating_sub(now.moment.as_nanos());
        // Two clocks are never read at once: what only trembles is nothing new, a step is.
        if self.start_ns.abs_diff(start_ns) > STEP_NS {
            self.start_ns = start_ns;
        }
        let Some(path) = &self.path else { return };
        let bytes = Used::of(limits, now, self.start_ns).encode();
        if bytes == self.written {
            return;
        }
        match replace(path, &bytes, true) {
            Ok(()) => (self.written, self.warned) = (bytes, false),
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                tracing::error!(
                    file = %path.display(), %error,
                    "cannot write the quotas: a restart would forget what was used since; give the disk room"
                );
            }
            Err(_) => {}
        }
    }
}

/// Once a second, on the blocking pool.
pub(crate) async fn keep_quotas(state: Arc<State>) {
    let mut pause = tokio::time::interval(Duration::from_millis(limits::QUOTAS_FLUSH_MS));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let state = Arc::clone(&state);
        if tokio::task::spawn_blocking(move || state.keep_quotas()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;
    use crate::config::keys::KeyRing;
    use crate::config::limit::LimitTable;
    use crate::config::limit::OnFull;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;
    use crate::handoff::Addresses;
    use crate::policy::limits::pinned::Quota;
    use crate::policy::limits::terms::Terms;
    use crate::policy::limits::terms::Verdict;

    const MINUTE_NS: u64 = 60_000_000_000;

    fn now_ns() -> u64 {
        clock::unix_nanos()
    }

    /// The limits of a process that finds `used`.
    fn limits(used: &Used) -> Counters {
        let limits = Counters::new(LimitTable { buckets: 8, on_full: OnFull::Refuse }, used.keys);
        used.give_to(&limits, now());
        limits
    }

    fn used(limits: &Counters, name: &str, quota: &Quota) -> u64 {
        match limits.quotas.check(limits.keys.text(name), quota, 0, now_ns()) {
            Verdict::Room { left, .. } => quota.count - left,
            other => panic!("{other:?}"),
        }
    }

    fn quota() -> Quota {
        Quota { count: 1_000, ends_ns: (now_ns() / MINUTE_NS + 60) * MINUTE_NS }
    }

    fn keeper(path: PathBuf) -> Keeper {
        Keeper { path: Some(path), ..Keeper::default() }
    }

    #[test]
    fn what_was_used_comes_back_under_the_same_names() {
        let folder = Folder::new("quotas-kept");
        let path = folder.path(FILE);
        let first = limits(&read(&path).expect("no file yet"));
        let passed = Quota { ends_ns: (now_ns() / MINUTE_NS) * MINUTE_NS, ..quota() };
        let terms = Terms::new(10, 3_600_000, 10).expect("good terms");
        first.quotas.take(first.keys.text("daily"), &quota(), 7, now_ns());
        first.quotas.take(first.keys.text("passed"), &passed, 7, 0);
        first.debts.charge(first.keys.text("tokens"), &terms, 10, clock::now().as_nanos());
        let mut keeper = keeper(path.clone());
        keeper.keep(&first);
        let again = limits(&read(&path).expect("readable"));
        assert_eq!((used(&again, "daily", &quota()), used(&again, "other", &quota())), (7, 0));
        assert!(!again.quotas.remembers(again.keys.text("passed")), "its window is over");
        assert!(!again.debts.check(again.keys.text("tokens"), &terms, clock::now().as_nanos()).has_room());
        std::fs::remove_file(&path).expect("removed");
        keeper.keep(&first);
        assert!(!path.exists(), "nothing new");
        first.quotas.take(first.keys.text("daily"), &quota(), 1, now_ns());
        keeper.keep(&first);
        assert_eq!(used(&limits(&read(&path).expect("readable")), "daily", &quota()), 8);
    }

    /// What is owed is kept by the wall clock, whatever that did while it was owed.
    #[test]
    fn debts_outlive_a_process_and_steps_of_the_wall_clock() {
        const SECOND_NS: u64 = 1_000_000_000;
        const HOUR_NS: u64 = 3_600 * SECOND_NS;
        let terms = Terms::new(1, 1_000, 1).expect("good terms");
        let when = |moment, unix_ns| When { moment: Moment::from_nanos(moment), unix_ns };
        let empty = |keys| Counters::new(LimitTable { buckets: 8, on_full: OnFull::Refuse }, keys);
        // The first process is a day old, the second has just begun.
        let (old, unix) = (24 * HOUR_NS, 400_000 * HOUR_NS);
        for unix in [unix, unix + HOUR_NS, unix - HOUR_NS] {
            let first = empty(Keys { seeds: [1, 2] });
            assert!(first.debts.charge(7, &terms, 10, old) && first.debts.charge(8, &terms, 3, old));
            let kept = Used::of(&first, when(old + SECOND_NS, unix), unix - old - SECOND_NS);
            let second = empty(first.keys);
            kept.give_to(&second, when(SECOND_NS, unix + 3 * SECOND_NS));
            // Of ten seconds four have passed, and of three.
            let refused = Verdict::Exhausted { retry_ns: 6 * SECOND_NS, reset_ns: 6 * SECOND_NS };
            assert_eq!(second.debts.check(7, &terms, SECOND_NS), refused);
            assert!(!second.debts.remembers(8), "it was paid meanwhile");
        }
    }

    /// One gateway after another, as `run` puts them together.
    #[test]
    fn the_next_process_finds_kills_and_quotas() {
        let folder = Folder::new("kept");
        let start = || {
            let state = state_with(1, |plan| plan.state_dir = Some(folder.path("state")));
            // Its keys are what the directory says; `state_with` knows none.
            let kept = open(&state.plan()).expect("readable");
            let (shared, _) =
                Shared::new(state.plan(), KeyRing::default(), Addresses::default(), kept.keys())
                    .expect("sockets");
            kept.give_to(&shared);
            State::new(shared)
        };
        let first = start();
        assert!(first.shared.kills.load().is_empty());
        first.shared.limits.quotas.take(first.shared.limits.keys.text("daily"), &quota(), 7, now_ns());
        first.keep_quotas();
        let kill = r#"{"kills":[{"kind":"all","operator":"ann","reason":"","sinceUnixMs":1}]}"#;
        std::fs::write(folder.path("state/kills.json"), kill).expect("written");
        let second = start();
        assert_eq!(second.shared.kills.load().len(), 1);
        assert_eq!(used(&second.shared.limits, "daily", &quota()), 7);
    }

    #[test]
    fn every_damage_is_seen_and_set_aside() {
        let folder = Folder::new("quotas-damaged");
        let path = folder.path(FILE);
        let first = limits(&Used::nothing());
        first.quotas.take(first.keys.text("daily"), &quota(), 7, now_ns());
        let good = Used::of(&first, now(), 0).encode();
        assert!(Used::decode(&good).is_some());
        for length in 0..good.len() {
            assert!(Used::decode(&good[..length]).is_none(), "cut at {length}");
        }
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 1;
            assert!(Used::decode(&bytes).is_none(), "byte {place}");
        }
        std::fs::write(&path, &good[1..]).expect("written");
        let fresh = limits(&read(&path).expect("the gateway starts"));
        assert_eq!(used(&fresh, "daily", &quota()), 0);
        assert!(!path.exists() && folder.path("quotas.damaged").exists());
    }

    #[test]
    fn a_disk_that_fails_is_tried_again() {
        let folder = Folder::new("quotas-disk");
        let mut keeper = keeper(folder.path("missing/quotas"));
        let limits = limits(&Used::nothing());
        keeper.keep(&limits);
        assert!(keeper.warned);
        std::fs::create_dir(folder.path("missing")).expect("made");
        keeper.keep(&limits);
        assert!(!keeper.warned && folder.path("missing/quotas").exists());
    }
}
