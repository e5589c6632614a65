//! Load generator, mock upstream, raw relay and comparison. Shares no code with the gateway, so that a
//! mistake there cannot hide itself here.
//! Not here: what the subcommands do; each has its file.

mod account;
mod answer;
mod compare;
mod completion;
mod generate;
mod handshake;
mod http;
mod idle;
mod json;
mod mcp;
mod ratio;
mod relay;
mod report;
mod ring;
mod run;
mod schedule;
mod serve;
mod setup;
mod table;
mod target;
mod token;

use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::bail;
use clap::Parser;
use clap::Subcommand;

#[derive(Parser)]
#[command(version, about = "Loads MCP servers and gateways on this machine and compares what they cost")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A mock MCP server
    Serve(ServeOptions),
    /// A raw byte relay: the least that a proxy can cost
    Relay(RelayOptions),
    /// Load a URL and measure
    Run(run::Options),
    /// Interleaved rounds of several targets: CPU per call, ratios, memory
    Compare(compare::Options),
    /// Hold idle keep-alive connections and tell what they cost
    Idle(idle::Options),
}

#[derive(clap::Args)]
struct ServeOptions {
    /// Where to listen; loopback only
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pin to this CPU (several threads: to this one and the next)
    #[arg(long)]
    cpu: Option<usize>,
    /// Bytes of an answer's JSON-RPC message, unless the call asks
    #[arg(long, default_value_t = 500)]
    size: usize,
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Progress events before an answer
    #[arg(long, default_value_t = 0)]
    events: u32,
    #[arg(long, default_value_t = 0)]
    interval_ms: u64,
}

#[derive(clap::Args)]
struct RelayOptions {
    /// Where to listen; loopback only
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to; loopback only
    #[arg(long)]
    to: SocketAddr,
    /// Pin to this CPU
    #[arg(long)]
    cpu: Option<usize>,
}

/// Listens on a loopback address and says where, first thing on stdout.
fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        bail!("{address} is not loopback");
    }
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    ring::widen_backlog(&listener);
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    cpu.map_or(Ok(()), |cpu| ring::pin(cpu).with_context(|| format!("cannot pin to CPU {cpu}")))
}

fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    if !(1..=64).contains(&options.threads) {
        bail!("--threads must be 1 to 64");
    }
    let load = answer::Load {
        size: options.size.min(64 * 1024 * 1024),
        delay_ms: options.delay_ms,
        events: options.events,
        interval_ms: options.interval_ms,
        fail: None,
    };
    let listener = listen(options.listen)?;
    for index in 1..options.threads {
        let (listener, cpu) = (listener.try_clone()?, options.cpu.map(|cpu| cpu + index));
        std::thread::spawn(move || pin(cpu).and_then(|()| serve::serve(listener, load)));
    }
    pin(options.cpu)?;
    serve::serve(listener, load)
}

fn main() -> ExitCode {
    ring::catch_signals();
    let outcome = match Cli::parse().command {
        Command::Serve(options) => serve(&options).map(|()| 0),
        Command::Relay(options) => relay(&options).map(|()| 0),
        Command::Run(options) => run_command(&options),
        Command::Compare(options) => compare_command(&options),
        Command::Idle(options) => idle::idle(&options).map(|()| 0),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn relay(options: &RelayOptions) -> anyhow::Result<()> {
    if !options.to.ip().is_loopback() {
        bail!("{} is not loopback", options.to);
    }
    pin(options.cpu)?;
    relay::relay(listen(options.listen)?, options.to)
}

/// 0 when every call was answered rightly, 1 when not.
fn run_command(options: &run::Options) -> anyhow::Result<u8> {
    let report = run::run(options, true)?;
    writeln!(std::io::stdout(), "{}", report.text())?;
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(u8::from(report.error_count() > 0))
}

/// 0 all gates passed, 1 one failed or an answer was wrong, 3 no verdict.
fn compare_command(options: &compare::Options) -> anyhow::Result<u8> {
    let measured = compare::compare(options)?;
    let table = table::Table::new(&measured, &options.gates);
    write!(std::io::stdout(), "{}", table.text())?;
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&table)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(table.exit_code())
}
