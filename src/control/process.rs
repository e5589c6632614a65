//! What the kernel counts for this process, from `/proc/self`.
//!
//! Not here: what the gateway counts itself. A number that cannot be read is 0.

use std::fs;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    pub(crate) open_fds: u64,
}

pub(crate) fn usage() -> Usage {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Usage {
        resident_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
        cpu_seconds: ticks(&stat) as f64 / rustix::param::clock_ticks_per_second() as f64,
        // The directory's own descriptor is among them.
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64),
    }
}

/// utime and stime of `/proc/PID/stat` (proc(5)): fields 14 and 15, counted after the command's name,
/// which stands in parentheses and may hold anything.
fn ticks(stat: &str) -> u64 {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_may_hold_anything() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat), 42);
        assert_eq!(ticks(""), 0);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 1024 * 1024);
        assert!(usage.open_fds >= 3);
    }
}
