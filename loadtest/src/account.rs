//! What processes cost: CPU time and memory from the kernel's own accounts.
//! Not here: starting processes, judging figures.

use std::fs;

use crate::ring;

/// `/proc` counts in hundredths of a second on every Linux that we know (`USER_HZ`).
const TICK_NANOS: u64 = 10_000_000;

/// `pid` and all its descendants that live now.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return vec![pid] };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|child| Some((child, u32::try_from(*stat(child)?.get(1)?).ok()?)))
        .collect();
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    tree
}

/// The numbers of `/proc/PID/stat` after the name: `[0]` is the state, read as 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the last one ends it.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// CPU nanoseconds of the tree of `pid`: the scheduler's sum for each live process (its ended threads
/// included), and the ticks of children that ended.
pub(crate) fn cpu(pid: u32) -> u64 {
    tree(pid)
        .into_iter()
        .map(|process| {
            let ended = stat(process).map_or(0, |fields| {
                fields.get(13).copied().unwrap_or(0) + fields.get(14).copied().unwrap_or(0)
            });
            ring::cpu_nanos(process).unwrap_or(0) + ended * TICK_NANOS
        })
        .sum()
}

/// Resident KiB of the tree of `pid`.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let of = |process| {
        let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(of).sum()
}

/// CPU nanoseconds that the whole machine has been busy, time stolen by its host included.
pub(crate) fn machine_busy() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&text) * TICK_NANOS
}

/// user, nice, system, (idle, iowait), irq, softirq, steal; guests are part of user.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_ascii_whitespace().skip(1).take(8).enumerate();
    ticks.filter(|(index, _)| !matches!(index, 3 | 4)).filter_map(|(_, text)| text.parse::<u64>().ok()).sum()
}

/// What others than the `ours` trees used of the machine between two looks.
pub(crate) struct Others {
    at: u64,
    busy: u64,
    ours: u64,
}

impl Others {
    pub(crate) fn look(ours: &[u32]) -> Self {
        let ours = ours.iter().map(|&pid| cpu(pid)).sum();
        Self { at: ring::monotonic_nanos(), busy: machine_busy(), ours }
    }

    /// The share of all CPUs, 0 to 1, since `earlier`.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes are exact in f64")]
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let span = self.at.saturating_sub(earlier.at) as f64 * cpus() as f64;
        let busy = self.busy.saturating_sub(earlier.busy);
        busy.saturating_sub(self.ours.saturating_sub(earlier.ours)) as f64 / span.max(1.0)
    }
}

/// CPUs of the machine, not only those that we are pinned to.
pub(crate) fn cpus() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_cpu =
        |line: &&str| line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
    text.lines().filter(is_cpu).count().max(1)
}

/// Kernel and processor, for a result that is read elsewhere.
pub(crate) fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!("{} x {}, Linux {}", cpus(), model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 …"), 63);
        assert_eq!(busy_ticks(""), 0);
    }

    #[test]
    fn work_is_accounted_to_its_process() {
        let own = std::process::id();
        let before = cpu(own);
        let mut sum = 0_u64;
        while ring::cpu_nanos(own).unwrap() - before < 20_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu(own) - before >= 20_000_000);
        assert!(tree(own).contains(&own));
        assert!(rss_kib(own) > 100);
        assert_eq!(ring::cpu_nanos(4_194_305), None);
    }
}
