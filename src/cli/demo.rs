//! `ringgate demo`: the gateway with two sample MCP servers and two agents, nothing to install or write.
//!
//! It makes a private directory with a config, a keys file and the servers' socket, then runs the same
//! code as `ringgate run` on that config. What it prints can be pasted.
//!
//! Not here: how the gateway serves (`run`); the demo only prepares, announces and cleans up.

pub mod calls;
pub mod client;
mod greeting;
mod issuer;
mod scene;
mod traffic;

use crate::adapters::sample;
use crate::cli;
use crate::cli::demo::greeting::Greeting;
use crate::cli::demo::scene::Scene;
use crate::cli::demo::traffic::Traffic;
use crate::cli::run::Bound;
use crate::net::runtime::Driver;
use std::cell::OnceCell;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Keep a small mixed load running, so that metrics and log move
    #[arg(long)]
    pub traffic: bool,
    /// Where agents connect; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where metrics and health are; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// How workers wait for the kernel; epoll is for hosts that forbid io_uring
    #[arg(long, value_enum, default_value_t = Driver::Uring)]
    pub driver: Driver,
}

/// The addresses that a gateway really took, once it serves.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

/// Called once, when calls are answered.
pub type OnReady = Box<dyn FnOnce(Ready)>;

/// The subcommand: the demo on the same code as `ringgate run`.
pub fn start(arguments: &Arguments) -> ExitCode {
    let ended = run(arguments, |config, ready| {
        let told = |bound: &Bound| {
            // The demo's config has one listener and an admin listener.
            if let (Some(listen), Some(admin)) = (bound.listeners.first(), bound.admin) {
                ready(Ready { listen: *listen, admin });
            }
        };
        let options =
            cli::run::Args { config: config.to_owned(), driver: arguments.driver, allow_faults: false };
        cli::run::serve(&options, told).map_err(anyhow::Error::msg)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => cli::fail(problem),
    }
}

/// Sets the scene, has `serve` run the gateway on the config file it is given, and cleans up.
///
/// `serve` returns when the gateway has ended, after SIGINT or SIGTERM.
///
/// # Errors
/// A sentence with cause and cure: a taken port, no directory for temporary files.
pub fn run(
    arguments: &Arguments,
    serve: impl FnOnce(&Path, OnReady) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    require_free("--listen", arguments.listen)?;
    require_free("--admin", arguments.admin)?;
    // In this order, because locals are dropped in the opposite one: load, servers, directory.
    let scene = Scene::set(arguments)?;
    let _servers = sample::start(scene.sockets())
        .map_err(|error| anyhow::anyhow!("the sample servers cannot start: {error}"))?;
    let load = Rc::new(OnceCell::new());
    let greeting = Greeting {
        keys: scene.keys.clone(),
        token: scene.token.clone(),
        config: scene.config(),
        call_log: arguments.traffic.then(|| scene.call_log()),
    };
    let announce = announce(greeting, arguments.traffic, Rc::clone(&load));
    let ended = serve(&scene.config(), announce);
    drop(load);
    ended
}

fn announce(greeting: Greeting, with_traffic: bool, load: Rc<OnceCell<Traffic>>) -> OnReady {
    Box::new(move |ready| {
        let mut out = std::io::stdout().lock();
        // A closed stdout is no reason to end: the gateway serves all the same.
        let _ = out.write_all(greeting.text(ready).as_bytes()).and_then(|()| out.flush());
        drop(out);
        if with_traffic {
            match Traffic::start(ready.listen, &greeting.keys) {
                Ok(traffic) => drop(load.set(traffic)),
                Err(error) => tracing::warn!(%error, "the sample load could not start"),
            }
        }
    })
}

/// Listeners of the gateway share their port between workers (SO_REUSEPORT), so that a second gateway of
/// the same user would silently take half of the calls. A plain bind finds out.
fn require_free(option: &str, address: SocketAddr) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let host = address.ip();
            let free = SocketAddr::new(host, 0);
            Err(anyhow::anyhow!(
                "{address} is taken by another process (ss -ltnp 'sport = :{}' shows which). End that one, or \
                 take a free port with {option} {free}",
                address.port()
            ))
        }
        Err(error) => {
            Err(anyhow::anyhow!("cannot listen on {address}: {error}. Choose another with {option}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::calls::Call;
    use crate::cli::demo::calls::Caller;
    use crate::cli::demo::client::Client;
    use std::os::unix::net::UnixStream;

    fn arguments() -> Arguments {
        let any = "127.0.0.1:0".parse().unwrap();
        Arguments { traffic: false, listen: any, admin: any, driver: Driver::Uring }
    }

    #[test]
    fn the_scene_stands_while_the_gateway_serves_and_is_gone_after() {
        let mut directory = None;
        let ended = run(&arguments(), |config, _ready| {
            let text = std::fs::read_to_string(config).unwrap();
            assert!(text.contains("apiKeys") && text.contains("issuer"), "{text}");
            let loaded = crate::config::load(config).unwrap();
            let servers: Vec<&str> = loaded.plan.servers.iter().map(|server| &*server.name).collect();
            assert_eq!((servers, loaded.warnings.len()), (vec!["shop", "operations"], 0));
            let socket = config.with_file_name("sample.sock");
            assert!(text.contains(socket.to_str().unwrap()), "{text}");
            let mut client = Client::new(UnixStream::connect(socket).unwrap(), "sample");
            let caller = Caller { target: sample::OPERATIONS_PATH.to_owned(), key: None };
            let answer = client.call(&caller.modern(1, &Call::plain("tools/list"))).unwrap();
            assert_eq!(answer.head.status, 200);
            directory = config.parent().map(Path::to_owned);
            Ok(())
        });
        ended.unwrap();
        assert!(!directory.unwrap().exists());
    }

    #[test]
    fn a_gateway_that_fails_leaves_nothing_behind() {
        let mut directory = None;
        let ended = run(&arguments(), |config, _ready| {
            directory = config.parent().map(Path::to_owned);
            anyhow::bail!("no ring")
        });
        assert_eq!(ended.unwrap_err().to_string(), "no ring");
        assert!(!directory.unwrap().exists());
    }

    #[test]
    fn a_taken_port_is_a_sentence_with_the_cure() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let said = require_free("--listen", address).unwrap_err().to_string();
        for part in [&address.to_string(), "taken by another process", "--listen 127.0.0.1:0"] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        assert!(require_free("--listen", "127.0.0.1:0".parse().unwrap()).is_ok());
    }

    #[test]
    fn an_address_of_another_host_is_a_sentence() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no host of ours has it.
        let said = require_free("--admin", "192.0.2.1:9090".parse().unwrap()).unwrap_err().to_string();
        assert!(said.contains("--admin"), "{said:?}");
    }
}
