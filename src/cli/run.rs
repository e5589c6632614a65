//! `ringgate run`: serve.
//!
//! Not here: serving itself (worker, control). This file puts the parts together in order: everything that
//! can fail fails before the first connection is accepted, with a sentence that names cause and cure.

use crate::base::sys;
use crate::cli;
use crate::config;
use crate::config::Loaded;
use crate::config::keys;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::control;
use crate::handoff::Addresses;
use crate::handoff::Phase;
use crate::handoff::Shared;
use crate::net::listen;
use crate::net::runtime;
use crate::net::runtime::Driver;
use crate::worker::start;
use crate::worker::start::Report;
use crate::worker::start::Seat;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Config: YAML or JSON, a client's mcp.json too
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// How workers wait for the kernel; epoll is for hosts that forbid io_uring
    #[arg(long, value_enum, default_value_t = Driver::Uring)]
    pub driver: Driver,
    /// Serve a config with `faults`, which make calls fail on purpose
    #[arg(long)]
    pub allow_faults: bool,
}

/// The addresses that the gateway really took.
#[derive(Clone, Debug)]
pub struct Bound {
    pub listeners: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

pub fn run(args: &Args) -> ExitCode {
    let printed = |bound: &Bound| {
        let admin = bound.admin.map(|address| format!("admin on {address}"));
        let lines = bound.listeners.iter().map(|address| format!("listening on {address}")).chain(admin);
        let lines = lines.collect::<Vec<_>>().join("\n");
        // A closed stdout is no reason to end: the gateway serves all the same, and says where on stderr.
        let _ = cli::print_or(&lines, &lines);
    };
    match serve(args, printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => cli::fail(problem),
    }
}

/// Serves until a signal ends it. `ready` is called once, when connections are accepted.
///
/// # Errors
/// A sentence, or one a line for the config, that names cause and cure.
pub fn serve(args: &Args, ready: impl FnOnce(&Bound)) -> Result<(), String> {
    let Args { config, driver, allow_faults } = args;
    let Loaded { plan, watched, warnings } = config::load(config).map_err(|problems| problems.to_string())?;
    plan.check_faults(*allow_faults)?;
    control::logging::init();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if *driver == Driver::Uring {
        runtime::check_uring()?;
    }
    sys::raise_descriptor_limit();
    sys::forbid_core_dumps();
    let ring = match &plan.identity.api_keys {
        Some(path) => keys::read(path).map_err(|problems| problems.to_string())?,
        None => KeyRing::default(),
    };
    let kept = control::store::open(&plan)?;
    let (per_worker, bound) = bind(&plan)?;
    let of_admin = |address| listen::bind(address, (1, limits::LISTEN_BACKLOG), "admin.address");
    let admin = plan.admin.map(of_admin).transpose()?;
    let admin = admin.and_then(|mut sockets| sockets.pop());
    let bound = Bound { listeners: bound, admin: admin.as_ref().and_then(|socket| socket.local_addr().ok()) };
    let (shared, bells) = Shared::new(Arc::new(plan), ring, Addresses::default(), kept.keys())
        .map_err(|error| format!("cannot start: {error}: raise the limit of open descriptors (ulimit -n)"))?;
    kept.give_to(&shared);
    let options =
        control::Options { config_path: Some(config.clone()), watched, admin, allow_faults: *allow_faults };
    let side = control::start(Arc::clone(&shared), options)
        .map_err(|error| format!("cannot start the control thread: {error}: {}", cure(&error)))?;
    let mut crew = start_workers(&shared, *driver, per_worker, bells)?;
    let served = crew.until_up().and_then(|()| {
        side.ready();
        ready(&bound);
        crew.until_ended()
    });
    if served.is_err() {
        shared.enter(Phase::Stopping);
        crew.dismiss();
    }
    served?;
    side.wait().map_err(|error| error.to_string())
}

/// The sockets of each worker, and the addresses that they share.
type Sockets = (Vec<Vec<TcpListener>>, Vec<SocketAddr>);

fn bind(plan: &Plan) -> Result<Sockets, String> {
    let mut per_worker: Vec<Vec<TcpListener>> = (0..plan.workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listener in &plan.listeners {
        let sockets = listen::bind(listener.address, (plan.workers, limits::LISTEN_BACKLOG), "listen")?;
        addresses.extend(sockets.first().and_then(|socket| socket.local_addr().ok()));
        for (worker, socket) in per_worker.iter_mut().zip(sockets) {
            worker.push(socket);
        }
    }
    Ok((per_worker, addresses))
}

/// The workers that were started. Any one's failure is the failure of all: the kernel would go on giving a part
/// of the connections to a listener that nobody serves.
struct Crew {
    workers: usize,
    reports: Receiver<Report>,
    up: usize,
    ended: usize,
}

impl Crew {
    fn until_up(&mut self) -> Result<(), String> {
        while self.up < self.workers {
            self.hear()?;
        }
        Ok(())
    }

    fn until_ended(&mut self) -> Result<(), String> {
        while self.ended < self.workers {
            self.hear()?;
        }
        Ok(())
    }

    /// Waits, not long, for the workers that are left after a failure: the end of a process while its threads set
    /// themselves up is a crash now and then, and a crash has no exit code.
    fn dismiss(&mut self) {
        self.ended += 1;
        while self.ended < self.workers {
            match self.reports.recv_timeout(Duration::from_millis(limits::STOP_MS)) {
                Ok(Report::Up) => {}
                Ok(Report::Ended { .. }) => self.ended += 1,
                Err(_) => return,
            }
        }
    }

    /// Waits for what any worker tells next.
    fn hear(&mut self) -> Result<(), String> {
        match self.reports.recv() {
            Ok(Report::Up) => self.up += 1,
            Ok(Report::Ended { result: Ok(()), .. }) => self.ended += 1,
            Ok(Report::Ended { worker, result: Err(error) }) => {
                let what = if self.up < self.workers {
                    "cannot start worker"
                } else {
                    "the process ends with worker"
                };
                return Err(format!("{what} {worker}: {error}: {}", cure(&error)));
            }
            Err(_) => return Err("the workers ended and do not say why; please report this".to_owned()),
        }
        Ok(())
    }
}

/// What the operator can do for a worker that lacks something.
fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open descriptors (ulimit -n)",
        Some(libc::ENOMEM) => {
            "raise LimitMEMLOCK (ulimit -l) or the memory limit, or ask for fewer `workers`"
        }
        Some(libc::EAGAIN) => "raise the limit of threads (ulimit -u)",
        Some(libc::EPERM | libc::EACCES) => "a security module forbids it: allow it, or try `--driver epoll`",
        _ => "see the error, or try another `--driver`",
    }
}

fn start_workers(
    shared: &Arc<Shared>,
    driver: Driver,
    sockets: Vec<Vec<TcpListener>>,
    bells: Vec<UnixStream>,
) -> Result<Crew, String> {
    let cores = sys::allowed_cores();
    let workers = sockets.len();
    let (teller, reports) = mpsc::sync_channel(2 * workers);
    for (index, (listeners, bell)) in sockets.into_iter().zip(bells).enumerate() {
        // More workers than cores share them unpinned.
        let core = if shared.posts.len() <= cores.len() { cores.get(index).copied() } else { None };
        let seat = Seat { index, core, driver, listeners, bell, reports: teller.clone() };
        start::start(seat, Arc::clone(shared))
            .map_err(|error| format!("cannot start worker {index}: {error}: raise the limit of threads"))?;
    }
    Ok(Crew { workers, reports, up: 0, ended: 0 })
}
