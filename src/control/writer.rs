//! The writer of call records, a plain thread: drains the rings of all workers into stdout, stderr or a
//! file, in big writes. What cannot be written is counted, line by line.
//!
//! Not here: the form of a line (`telemetry::line`). A line that was written in part counts as lost, and
//! the next one starts on a line of its own.

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
            writer.sweep(clock::now());
            if last {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(limits::WRITER_PAUSE_MS));
        }
    })
}

struct Writer {
    state: Arc<State>,
    lines: Lines,
    /// Whole lines that wait for one write.
    buffer: Vec<u8>,
    /// What the plan asks for.
    choice: CallLog,
    /// Open destination; none: off, or not openable now.
    out: Option<File>,
    epoch: u64,
    reopen: u64,
    /// The destination ends in a line that is not whole.
    torn: bool,
    /// Until then nothing is tried.
    retry_at: Option<Moment>,
    /// Lost since the trouble began; 0 without trouble.
    lost_in_trouble: u64,
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
            torn: false,
            retry_at: None,
            lost_in_trouble: 0,
            told_at: None,
        }
    }

    /// Empties every ring once.
    fn sweep(&mut self, now: Moment) {
        self.follow_plan(now);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if self.out.is_none() {
                self.open(now);
            }
        }
        let state = Arc::clone(&self.state);
        for post in &state.shared.posts {
            // At most one ring full, so that a busy worker cannot keep the others waiting.
            for _ in 0..limits::RECORD_RING {
                let Some(record) = post.records.pop() else { break };
                if self.choice == CallLog::Off {
                    continue;
                }
                if self.out.is_none() || self.retry_at.is_some() {
                    self.lose(1);
                    continue;
                }
                self.lines.write(&mut self.buffer, &record);
                if self.buffer.len() >= limits::WRITER_BATCH_BYTES {
                    self.flush(now);
                }
            }
        }
        self.flush(now);
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
            self.retry_at = None;
            self.torn = false;
            self.open(now);
        }
    }

    fn open(&mut self, now: Moment) {
        match open(&self.choice) {
            Ok(out) => self.out = out,
            Err(error) => {
                self.out = None;
                self.trouble(now, &error);
            }
        }
    }

    /// Writes what is gathered. After an error the rest is lost, counted, and the destination left alone
    /// for a while.
    fn flush(&mut self, now: Moment) {
        if self.buffer.is_empty() {
            return;
        }
        let Some(out) = &mut self.out else { return };
        let mut result = Ok(());
        if self.torn {
            result = out.write_all(b"\n");
            self.torn = result.is_err();
        }
        let mut written = 0;
        while result.is_ok() && written < self.buffer.len() {
            match out.write(&self.buffer[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let (done, rest) = self.buffer.split_at(written);
        self.torn |= done.last().is_some_and(|byte| *byte != b'\n');
        // A line in part has its newline in the rest.
        let lost = memchr::memchr_iter(b'\n', rest).count() as u64;
        self.buffer.clear();
        match result {
            Ok(()) if self.lost_in_trouble > 0 => {
                let lost = std::mem::take(&mut self.lost_in_trouble);
                self.told_at = None;
                tracing::info!(lost, "the call log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.lose(lost);
                if matches!(self.choice, CallLog::File(_)) {
                    self.out = None;
                }
                self.trouble(now, &error);
            }
        }
    }

    fn lose(&mut self, lines: u64) {
        self.state.lines_lost.add(lines);
        self.lost_in_trouble += lines;
    }

    fn trouble(&mut self, now: Moment, error: &io::Error) {
        self.retry_at = Some(now.plus_millis(limits::WRITER_RETRY_MS));
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
        let lost = self.lost_in_trouble;
        tracing::error!(destination, %error, lost, "cannot write the call log: {}", cure(error));
    }
}

/// What the operator can do about it.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space; it is tried again every second, lost lines are counted in \
             ringgate_call_log_lost_total"
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

    #[test]
    fn a_full_disk_loses_exactly_what_is_missing_and_says_the_cure() {
        let mut writer = writer(&CallLog::File("/dev/full".into()));
        push(&writer, 0, 700);
        writer.sweep(NOW);
        push(&writer, 0, 300);
        writer.sweep(NOW.plus_millis(1));
        assert_eq!(writer.state.lines_lost.read(), 1_000);
        push(&writer, 0, 5);
        writer.sweep(NOW.plus_millis(limits::WRITER_RETRY_MS + 1));
        assert_eq!(writer.state.lines_lost.read(), 1_005);
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
        assert_eq!(writer.state.lines_lost.read(), 0);
        drop(end);
        push(&writer, 0, 40);
        writer.sweep(NOW);
        assert_eq!(writer.state.lines_lost.read(), 40);
    }

    /// The pipe takes a part of a batch: whole lines in it are not lost, the torn one is.
    #[test]
    fn a_torn_line_is_lost_and_the_next_stands_alone() {
        let (mut end, pipe) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&pipe, true).expect("non-blocking");
        let mut writer = writer(&CallLog::Stdout);
        writer.sweep(NOW);
        writer.out = Some(File::from(OwnedFd::from(pipe)));
        push(&writer, 0, 2_000);
        writer.sweep(NOW);
        let lost = writer.state.lines_lost.read();
        assert!(lost > 0, "the pipe holds 64 KiB, the lines are more");
        let mut got = vec![0; 1 << 20];
        let mut filled = io::Read::read(&mut end, &mut got).expect("read");
        push(&writer, 0, 1);
        writer.sweep(NOW.plus_millis(limits::WRITER_RETRY_MS + 1));
        drop(writer.out.take());
        filled += io::Read::read(&mut end, &mut got[filled..]).expect("read");
        let text = String::from_utf8_lossy(&got[..filled]);
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(whole.count() as u64, 2_001 - lost);
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
        assert_eq!((writer.state.lines_lost.read(), lines(&path)), (4, 2));
    }

    #[test]
    fn the_destination_follows_the_plan() {
        let folder = Folder::new("writer-plan");
        let path = folder.path("calls.log");
        let mut writer = writer(&CallLog::Off);
        push(&writer, 0, 3);
        writer.sweep(NOW);
        let other = state_with(2, |plan| plan.call_log = CallLog::File(path.clone()));
        writer.state.shared.plan.store(other.plan());
        writer.state.shared.announce();
        push(&writer, 0, 2);
        writer.sweep(NOW);
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
