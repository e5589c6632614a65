//! The runtime of one worker: io_uring with the flags that make it worth having, or epoll.
//!
//! Not here: what runs on it.

use crate::base::sys::ring::Ring;
use monoio::RuntimeBuilder;
use std::future::Future;
use std::io;

/// How a worker waits for its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// io_uring, the default.
    Uring,
    /// epoll: for hosts that forbid io_uring; costs more CPU a call.
    Epoll,
}

thread_local! {
    static CURRENT: std::cell::Cell<Driver> = const { std::cell::Cell::new(Driver::Uring) };
}

/// The driver of the calling worker.
pub fn current() -> Driver {
    CURRENT.get()
}

/// Entries of the runtime's submission ring: the bytes of calls have a ring of their own.
const RING_ENTRIES: u32 = 1024;

/// Runs `main` on a runtime of this thread until it ends.
///
/// # Errors
/// Where the driver cannot be built; see [`explain`].
pub fn block_on<F: Future<Output = ()>>(driver: Driver, main: impl FnOnce() -> F) -> io::Result<()> {
    CURRENT.set(driver);
    match driver {
        Driver::Uring => {
            let builder = RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(RING_ENTRIES);
            builder.uring_builder(ring()).build()?.block_on(async { main().await });
        }
        Driver::Epoll => {
            let builder = RuntimeBuilder::<monoio::LegacyDriver>::new().with_entries(RING_ENTRIES);
            builder.build()?.block_on(async { main().await });
        }
    }
    Ok(())
}

/// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): completions are delivered when this thread asks for them
/// instead of interrupting it, half the CPU of the default flags (docs/decisions/0005).
fn ring() -> io_uring_06::Builder {
    let mut deferred = io_uring_06::IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun();
    if deferred.build(8).is_ok() {
        return deferred;
    }
    let mut cooperative = io_uring_06::IoUring::builder();
    cooperative.setup_coop_taskrun();
    if cooperative.build(8).is_ok() { cooperative } else { io_uring_06::IoUring::builder() }
}

/// Whether this host lets us use io_uring, tried before a worker starts.
///
/// # Errors
/// A sentence that names the cause and the cure.
pub fn check_uring() -> Result<(), String> {
    let Err(error) = Ring::probe() else { return Ok(()) };
    Err(explain(&error, std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().as_deref()))
}

fn explain(error: &io::Error, sysctl: Option<&str>) -> String {
    let cause = match (error.raw_os_error(), sysctl.map(str::trim)) {
        (Some(libc::EPERM), Some("2")) => {
            "the setting kernel.io_uring_disabled is 2: run `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM), Some("1")) => {
            "the setting kernel.io_uring_disabled is 1 and this process has no CAP_SYS_ADMIN: run `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile or security module forbids it (container runtimes do by default): allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring, or a seccomp profile hides it: Linux 5.19 or later is needed"
        }
        (Some(libc::EINVAL), _) => {
            "this kernel's io_uring is too old: Linux 5.19 or later is needed, 6.1 is better"
        }
        (Some(libc::ENOMEM), _) => {
            "not enough lockable memory: raise LimitMEMLOCK (ulimit -l) or the memory limit"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => "no descriptor is free: raise LimitNOFILE (ulimit -n)",
        _ => "see the error",
    };
    format!(
        "cannot use io_uring: {error}: {cause}, or run with `--driver epoll`, which costs more CPU a call"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_ring_names_cause_and_cure() {
        let cases = [
            (libc::EPERM, Some("2\n"), "kernel.io_uring_disabled is 2"),
            (libc::EPERM, Some("1\n"), "CAP_SYS_ADMIN"),
            (libc::EPERM, Some("0\n"), "seccomp"),
            (libc::ENOSYS, None, "no io_uring"),
            (libc::EINVAL, None, "too old"),
            (libc::ENOMEM, None, "LimitMEMLOCK"),
        ];
        for (errno, sysctl, part) in cases {
            let text = explain(&io::Error::from_raw_os_error(errno), sysctl);
            assert!(text.contains(part) && text.contains("--driver epoll"), "{text}");
        }
    }
}
