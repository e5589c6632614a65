//! The writer of call records, a plain thread: drains the rings of all workers into stdout, stderr or a
//! file, in big writes. While nothing can be written the records wait in their bounded rings; what those
//! cannot take is lost and counted by the workers.
//!
//! Not here: the form of a line (`telemetry::line`). A write that stopped inside a line goes on at that byte,
//! if the destination is still what it was.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::CallLog;
use crate::control::state::State;
use crate::telemetry::line::Lines;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// Starts the thread; it ends after `State::writer_stop`, with the rings empty.
///
/// # Errors
/// Where no thread can be made.
pub(crate) fn start(state: Arc<State>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("call-log".into()).spawn(move || {
        let mut writer = Writer::new(state);
        loop {
            // Before the sweep: what was pushed before the stop is seen by the last sweep.
            let last = writer.state.writer_stop.load(Ordering::Acquire);
            if last {
                writer.end(clock::now());
                return;
            }
            writer.sweep(clock::now());
            std::thread::park_timeout(Duration::from_millis(limits::WRITER_PAUSE_MS));
        }
    })
}

/// Which file a destination is, and how long: where a line goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    device: u64,
    inode: u64,
    bytes: u64,
}

struct Writer {
    state: Arc<State>,
    lines: Lines,
    /// What waits for a write: whole lines, after a failed write perhaps the rest of one before them.
    buffer: Vec<u8>,
    /// What the plan asks for.
    choice: CallLog,
    /// Open destination; none: off, or not openable now.
    out: Option<File>,
    epoch: u64,
    reopen: u64,
    /// Where the buffer begins inside a line: the spot at which its front was written.
    torn: Option<Spot>,
    /// Until then nothing is tried, and records wait in their rings.
    retry_at: Option<Moment>,
    /// What was lost when the trouble began; none without trouble.
    trouble_from: Option<u64>,
    told_at: Option<Moment>,
}

impl Writer {
    fn new(state: Arc<State>) -> Self {
        let reopen = state.reopen.load(Ordering::Acquire);
        Self {
            state,
            lines: Lines::default(),
            buffer: Vec::with_capacity(limits::WRITER_BATCH_BYTES + 4096),
            choice: CallLog::Off,
            out: None,
            epoch: 0,
            reopen,
            torn: None,
            retry_at: None,
            trouble_from: None,
            told_at: None,
        }
    }

    /// Empties every ring once, as far as the destination takes it.
    fn sweep(&mut self, now: Moment) {
        self.follow_plan(now);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if self.out.is_none() || matches!(self.choice, CallLog::File(_)) {
                self.open(now);
            }
            self.flush(now);
        }
        let state = Arc::clone(&self.state);
        for post in &state.shared.posts {
            // At most one ring full, so that a busy worker cannot keep the others waiting.
            for _ in 0..limits::RECORD_RING {
                if self.retry_at.is_some() {
                    return;
                }
                let Some(record) = post.next_record() else { break };
                if self.choice == CallLog::Off {
                    continue;
                }
                self.lines.write(&mut self.buffer, &record);
                if self.buffer.len() >= limits::WRITER_BATCH_BYTES {
                    self.flush(now);
                }
            }
        }
        if self.retry_at.is_none() {
            self.flush(now);
        }
    }

    /// The last sweep. What cannot be written now never will be.
    fn end(&mut self, now: Moment) {
        if self.retry_at.is_some() {
            self.retry_at = Some(now);
        }
        self.sweep(now);
        let before = self.lost();
        self.give_up();
        let lost = self.lost() - before;
        if lost > 0 {
            tracing::error!(lost, "the last lines of the call log could not be written");
        }
    }

    /// Opens what the plan names now, and a file anew where SIGHUP asked.
    fn follow_plan(&mut self, now: Moment) {
        let epoch = self.state.shared.epoch();
        let reopen = self.state.reopen.load(Ordering::Acquire);
        let changed = epoch != self.epoch && self.state.shared.plan.load().call_log != self.choice;
        let again = reopen != self.reopen && matches!(self.choice, CallLog::File(_));
        (self.epoch, self.reopen) = (epoch, reopen);
        if changed || again {
            self.choice = self.state.shared.plan.load().call_log.clone();
            let waited = self.retry_at.take().is_some();
            if waited && self.choice == CallLog::Off {
                self.give_up();
            }
            self.open(now);
            if waited && self.retry_at.is_none() {
                self.flush(now);
            }
        }
    }

    fn open(&mut self, now: Moment) {
        match open(&self.choice) {
            Ok(next) => {
                self.end_torn_line(next.as_ref());
                self.out = next;
            }
            Err(error) => self.trouble(now, &error),
        }
    }

    /// A line that was begun elsewhere than where `next` goes on is ended there, or lost.
    fn end_torn_line(&mut self, next: Option<&File>) {
        let Some(torn) = self.torn else { return };
        if next.and_then(spot) == Some(torn) {
            return;
        }
        let end = memchr::memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
        let old = self.out.take().filter(|old| spot(old) == Some(torn));
        if old.is_none_or(|mut old| old.write_all(&self.buffer[..end]).is_err()) {
            self.state.lines_lost.add(1);
        }
        self.buffer.drain(..end);
        self.torn = None;
    }

    /// Writes what is gathered. After an error the rest is kept, and the destination left alone for a while.
    fn flush(&mut self, now: Moment) {
        if self.buffer.is_empty() {
            return;
        }
        let Some(out) = &mut self.out else { return };
        let mut result = Ok(());
        let mut written = 0;
        while result.is_ok() && written < self.buffer.len() {
            match out.write(&self.buffer[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        if let Some(last) = self.buffer[..written].last() {
            self.torn = if *last == b'\n' { None } else { spot(out) };
            self.buffer.drain(..written);
        }
        match result {
            Ok(()) => self.well(),
            Err(error) => self.trouble(now, &error),
        }
    }

    fn well(&mut self) {
        let Some(before) = self.trouble_from.take() else { return };
        self.told_at = None;
        tracing::info!(lost = self.lost() - before, "the call log is written again");
    }

    /// What waits here and in the rings is lost.
    fn give_up(&mut self) {
        let state = Arc::clone(&self.state);
        let mut lost = memchr::memchr_iter(b'\n', &self.buffer).count() as u64;
        for post in &state.shared.posts {
            lost += (0..limits::RECORD_RING).map_while(|_| post.next_record()).count() as u64;
        }
        self.state.lines_lost.add(lost);
        self.buffer.clear();
        self.torn = None;
    }

    /// All lines that were lost so far, here and at the rings.
    fn lost(&self) -> u64 {
        let at_rings: u64 = self.state.shared.posts.iter().map(|post| post.metrics.records_lost.read()).sum();
        self.state.lines_lost.read() + at_rings
    }

    fn trouble(&mut self, now: Moment, error: &io::Error) {
        self.retry_at = Some(now.plus_millis(limits::WRITER_RETRY_MS));
        let all_lost = self.lost();
        let lost = all_lost - *self.trouble_from.get_or_insert(all_lost);
        if self.told_at.is_some_and(|told| now < told.plus_millis(limits::WARN_AGAIN_MS)) {
            return;
        }
        self.told_at = Some(now);
        let destination = match &self.choice {
            CallLog::Off => "nowhere".into(),
            CallLog::Stdout => "stdout".into(),
            CallLog::Stderr => "stderr".into(),
            CallLog::File(path) => path.display().to_string(),
        };
        tracing::error!(destination, %error, lost, "cannot write the call log: {}", cure(error));
    }
}

/// What the operator can do about it.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space; it is tried again every second, lines wait until their bounded room is full, then \
             they are counted in ringgate_call_log_lost_total"
        }
        io::ErrorKind::BrokenPipe => {
            "its reader went away; start it again together with the gateway, lost lines are counted in \
             ringgate_call_log_lost_total"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
            "make the directory of telemetry.callLog and let this user write there; it is tried again \
             every second"
        }
        _ => "it is tried again every second, lost lines are counted in ringgate_call_log_lost_total",
    }
}

fn open(choice: &CallLog) -> io::Result<Option<File>> {
    // Duplicates: closing ours must not close the process's own.
    Ok(match choice {
        CallLog::Off => None,
        CallLog::Stdout => Some(io::stdout().as_fd().try_clone_to_owned()?.into()),
        CallLog::Stderr => Some(io::stderr().as_fd().try_clone_to_owned()?.into()),
        // Names of principals and tools: not for everybody.
        CallLog::File(path) => Some(File::options().append(true).create(true).mode(0o640).open(path)?),
    })
}

/// Unknown where the kernel does not tell: then a line that was begun is not gone on with.
fn spot(file: &File) -> Option<Spot> {
    let facts = file.metadata().ok()?;
    Some(Spot { device: facts.dev(), inode: facts.ino(), bytes: facts.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;
    use crate::telemetry::record::Record;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    const NOW: Moment = Moment::from_nanos(1);

    fn writer(choice: &CallLog) -> Writer {
        let choice = choice.clone();
        Writer::new(Arc::new(state_with(2, |plan| plan.call_log = choice)))
    }

    fn push(writer: &Writer, worker: usize, count: usize) {
        for n in 0..count {
            let status = u16::try_from(n).expect("few");
            writer.state.shared.posts[worker].hand_up(Record { status, ..Record::default() });
        }
    }

    fn lines(path: &Path) -> usize {
        let text = std::fs::read_to_string(path).expect("readable");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("a whole record");
        }
        text.lines().count()
    }

    #[test]
    fn every_record_of_every_worker_is_a_line() {
        let folder = Folder::new("writer-file");
        let path = folder.path("calls.log");
        let mut writer = writer(&CallLog::File(path.clone()));
        push(&writer, 0, 1_000);
        push(&writer, 1, 500);
        writer.sweep(NOW);
        assert_eq!(lines(&path), 1_500);
        assert_eq!(writer.state.lines_lost.read(), 0);
    }

    /// How long after `NOW` the destination is tried again.
    const LATER: Moment = NOW.plus_millis(limits::WRITER_RETRY_MS + 1);

    /// Its buffer and whatever came in the next second were thrown away.
    #[test]
    fn a_full_disk_loses_nothing_before_the_rings_are_full() {
        let folder = Folder::new("writer-full");
        let path = folder.path("calls.log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("linked");
        let mut writer = writer(&CallLog::File(path.clone()));
        push(&writer, 0, 700);
        writer.sweep(NOW);
        push(&writer, 0, 300);
        writer.sweep(NOW.plus_millis(1));
        assert_eq!(writer.lost(), 0);
        // More than the rings hold: exactly what is missing in the end is counted.
        push(&writer, 0, limits::RECORD_RING);
        writer.sweep(LATER);
        std::fs::remove_file(&path).expect("freed");
        push(&writer, 1, 5);
        writer.sweep(LATER.plus_millis(limits::WRITER_RETRY_MS + 1));
        let all = 700 + 300 + limits::RECORD_RING + 5;
        let lost = usize::try_from(writer.lost()).expect("few");
        assert!(lost > 0, "the rings were full");
        assert_eq!(lines(&path), all - lost);
        assert!(cure(&io::Error::from(io::ErrorKind::StorageFull)).contains("free some space"));
    }

    #[test]
    fn a_closed_pipe_loses_exactly_what_is_missing() {
        let (end, pipe) = io::pipe().expect("a pipe");
        let mut writer = writer(&CallLog::Stdout);
        writer.sweep(NOW);
        writer.out = Some(File::from(OwnedFd::from(pipe)));
        push(&writer, 0, 3);
        writer.sweep(NOW);
        drop(end);
        push(&writer, 0, 40);
        writer.sweep(NOW);
        push(&writer, 1, 2);
        writer.sweep(NOW.plus_millis(1));
        assert_eq!(writer.lost(), 0, "they wait");
        writer.end(NOW.plus_millis(2));
        assert_eq!(writer.lost(), 42);
    }

    /// A pipe takes a part of a batch and no more until it is read: every line arrives whole, in order.
    #[test]
    fn a_write_that_stopped_inside_a_line_goes_on_at_that_byte() {
        let (mut end, pipe) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&pipe, true).expect("non-blocking");
        rustix::io::ioctl_fionbio(&end, true).expect("non-blocking");
        let mut writer = writer(&CallLog::Stdout);
        writer.sweep(NOW);
        writer.out = Some(File::from(OwnedFd::from(pipe)));
        push(&writer, 0, 2_000);
        let (mut got, mut piece, mut now) = (Vec::new(), vec![0; 1 << 20], NOW);
        let mut torn = 0;
        while got.iter().filter(|byte| **byte == b'\n').count() < 2_000 {
            writer.sweep(now);
            torn += usize::from(writer.torn.is_some());
            now = now.plus_millis(limits::WRITER_RETRY_MS + 1);
            // Not all: the next write stops at another place.
            let count = io::Read::read(&mut end, &mut piece[..9_001]).expect("something was written");
            got.extend_from_slice(&piece[..count]);
        }
        assert!(torn > 0, "no write stopped inside a line");
        let text = String::from_utf8(got).expect("text");
        for (number, line) in text.lines().enumerate() {
            let value: serde_json::Value = serde_json::from_str(line).expect("a whole record");
            assert_eq!(value["status"], number);
        }
        assert_eq!(writer.lost(), 0);
    }

    /// The file was cut or replaced while a line of it waited for its rest.
    #[test]
    fn a_torn_line_does_not_go_on_in_another_file() {
        let folder = Folder::new("writer-torn");
        let path = folder.path("calls.log");
        let mut writer = writer(&CallLog::File(path.clone()));
        writer.sweep(NOW);
        for (replace, lost) in [(true, 0), (false, 1)] {
            // As a full disk would have left it.
            let out = writer.out.as_mut().expect("open");
            out.write_all(b"{\"front\":").expect("written");
            writer.torn = spot(out);
            writer.buffer.extend_from_slice(b"1}\n{\"next\":2}\n");
            writer.retry_at = Some(NOW);
            if replace {
                std::fs::rename(&path, folder.path("calls.log.1")).expect("rotated");
            } else {
                File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
            }
            writer.sweep(NOW);
            assert_eq!(std::fs::read_to_string(&path).expect("readable"), "{\"next\":2}\n");
            assert_eq!(writer.lost(), lost);
        }
        let rotated = std::fs::read_to_string(folder.path("calls.log.1")).expect("readable");
        assert_eq!(rotated, "{\"front\":1}\n", "ended where it was begun");
    }

    #[test]
    fn a_file_is_opened_anew_when_asked() {
        let folder = Folder::new("writer-rotate");
        let path = folder.path("calls.log");
        let mut writer = writer(&CallLog::File(path.clone()));
        push(&writer, 0, 1);
        writer.sweep(NOW);
        std::fs::rename(&path, folder.path("calls.log.1")).expect("rotated");
        writer.state.ask_to_reopen();
        push(&writer, 0, 2);
        writer.sweep(NOW);
        assert_eq!((lines(&folder.path("calls.log.1")), lines(&path)), (1, 2));
    }

    #[test]
    fn a_missing_directory_is_tried_again() {
        let folder = Folder::new("writer-missing");
        let path = folder.path("logs/calls.log");
        let mut writer = writer(&CallLog::File(path.clone()));
        push(&writer, 0, 4);
        writer.sweep(NOW);
        std::fs::create_dir(folder.path("logs")).expect("made");
        push(&writer, 0, 2);
        writer.sweep(NOW.plus_millis(limits::WRITER_RETRY_MS + 1));
        assert_eq!((writer.lost(), lines(&path)), (0, 6));
    }

    #[test]
    fn the_destination_follows_the_plan() {
        let folder = Folder::new("writer-plan");
        let path = folder.path("calls.log");
        let mut writer = writer(&CallLog::Stdout);
        for (choice, records) in [(CallLog::Off, 3), (CallLog::File(path.clone()), 2)] {
            let other = state_with(2, |plan| plan.call_log = choice);
            writer.state.shared.set_plan(other.plan());
            writer.state.shared.announce();
            push(&writer, 0, records);
            writer.sweep(NOW);
        }
        assert_eq!((lines(&path), writer.state.lines_lost.read()), (2, 0));
    }

    #[test]
    fn the_thread_empties_the_rings_before_it_ends() {
        let folder = Folder::new("writer-thread");
        let path = folder.path("calls.log");
        let choice = CallLog::File(path.clone());
        let state = Arc::new(state_with(1, |plan| plan.call_log = choice));
        let thread = start(Arc::clone(&state)).expect("a thread");
        for _ in 0..5_000 {
            state.shared.posts[0].hand_up(Record::default());
        }
        state.writer_stop.store(true, Ordering::Release);
        thread.join().expect("no panic");
        assert_eq!(lines(&path), 5_000);
    }
}
