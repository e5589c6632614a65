//! `idle`: thousands of keep-alive connections that have carried one call each, and what holding them costs
//! the process at the other end.
//! Not here: load.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;

use crate::account;
use crate::http::Kind;
use crate::http::Reader;
use crate::mcp;
use crate::mcp::Era;
use crate::mcp::Request;
use crate::mcp::Shape;
use crate::mcp::Target;
use crate::ring;
use crate::run;

/// How many connections, where to, whose memory.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to; loopback only
    #[arg(long, value_name = "http://HOST:PORT/PATH")]
    url: String,
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: u32,
    /// The process whose memory is looked at, with its descendants
    #[arg(long)]
    pid: Option<u32>,
    /// How long to hold them
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = run::duration)]
    time: Duration,
    #[arg(long)]
    key: Option<String>,
}

/// Opens, calls, holds, tells.
///
/// # Errors
/// A connection refused, an answer that is wrong, connections that did not last.
pub(crate) fn idle(options: &Options) -> anyhow::Result<()> {
    if ring::raise_open_files() < u64::from(options.connections) + 64 {
        bail!("the limit of open files is too low for {} connections", options.connections);
    }
    let target = run::target(&options.url, options.key.clone())?;
    let rss = || options.pid.map(account::rss_kib);
    // One call first, so that what is made once is not counted to connections.
    let first = open(&target, 0)?;
    let before = rss();
    let mut held = Vec::with_capacity(options.connections as usize);
    for index in 1..=options.connections {
        if ring::stopped() {
            bail!("interrupted");
        }
        held.push(open(&target, u64::from(index)).with_context(|| format!("connection {index}"))?);
    }
    let until = ring::monotonic_nanos() + u64::try_from(options.time.as_nanos())?;
    while ring::monotonic_nanos() < until && !ring::stopped() {
        // The connections are to idle; a signal ends it within this time.
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = rss();
    let closed = held.iter().filter(|connection| has_ended(connection)).count();
    let mut out = std::io::stdout();
    writeln!(out, "{} idle connections, each answered one call; {closed} closed by the peer", held.len())?;
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.saturating_sub(before);
        let each = f64::from(u32::try_from(grown)?) / f64::from(options.connections);
        writeln!(out, "RSS before {before} KiB, after {after} KiB, per connection {each:.2} KiB")?;
    }
    drop(first);
    if closed > 0 {
        bail!("{closed} connections did not last");
    }
    Ok(())
}

/// A connection that has carried one call.
fn open(target: &Target, index: u64) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&target.address, Duration::from_secs(5))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let shape = Shape {
        era: Era::Modern,
        tool: "load".to_owned(),
        size: 300,
        answer: 500,
        events: 0,
        interval_ms: 0,
        delay_ms: 0,
        fail: None,
    };
    let id = mcp::FIRST_ID + index;
    let (mut bytes, ids) = mcp::call(target, &shape, None).into_parts();
    Request::set_id(&mut bytes, &ids, id);
    socket.write_all(&bytes)?;
    let mut reader = Reader::new(Kind::Answer);
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            bail!("closed without an answer");
        }
        let part = buffer.get(..count).unwrap_or_default();
        let message = reader.feed(part).map_err(|fault| anyhow::Error::msg(fault.to_string()))?;
        let Some(message) = message else { continue };
        if message.head.status != 200 || mcp::check_answer(message.body, id, None).is_err() {
            bail!("status {}, wrong answer", message.head.status);
        }
        return Ok(socket);
    }
}

fn has_ended(socket: &TcpStream) -> bool {
    let _ = socket.set_nonblocking(true);
    !matches!(socket.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
