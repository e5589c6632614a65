//! Sessions of the older revisions: the client holds a sealed name, the server's own name never leaves the gateway.
//!
//! Not here: the sealing (`mcp::sealed`). A session belongs to the principal that opened it, to its server and to the
//! instance that it lives on; for anybody else, anywhere else and after its time it is one that never was (2025-11-25,
//! transports, "Session Management"; security best practices, "Session Hijacking").

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::http::fields::Field;
use crate::http::fields::Known as Name;
use crate::http::fields::Single;
use crate::mcp::envelope::Era;
use crate::mcp::sealed;
use crate::mcp::sealed::Bond;
use crate::upstream::pool::Instance;
use crate::worker::Worker;
use crate::worker::adopted::ServerState;
use crate::worker::callers::Known;
use crate::worker::client::Client;
use crate::worker::state::Exchange;

/// The session of a call, on its server.
#[derive(Debug)]
pub struct Session {
    /// As the server calls it.
    pub name: Vec<u8>,
    /// Where it lives, of the server's instances.
    pub instance: usize,
}

const UNKNOWN: Fault =
    Fault::new(Kind::SessionNotFound, "There is no such session here, or it has ended; initialize again.");
const UNFIT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint gave its session a name that no session may have.",
);

/// The session that a request of an older client names, if it names one. At hubs sessions are others.
///
/// # Errors
/// 404 where it is unknown, expired, somebody else's, another server's, or was on an instance that is gone.
pub fn recognise(
    worker: &Worker,
    server: &ServerState,
    client: &Client,
    exchange: &mut Exchange,
    known: &Known,
) -> Result<(), Fault> {
    if exchange.era() == Era::Modern || exchange.crossing.is_some() {
        return Ok(());
    }
    let token = match exchange.fields.single(Name::SessionId) {
        Single::Missing => return Ok(()),
        Single::Twice => return Err(UNKNOWN),
        Single::One(span) => span.of(&client.input[client.start..client.end]),
    };
    let (bond, name) = worker.shared.seal_keys.load().open(token).ok_or(UNKNOWN)?;
    let now = worker.wall_seconds(worker.coarse_now());
    let stands =
        bond.owner == known.owner && bond.server == server.sealed_name && u64::from(bond.expires_unix) > now;
    let instance = server.instances.iter().position(|instance| instance.sealed_name == bond.instance);
    let instance = instance.filter(|_| stands).ok_or(UNKNOWN)?;
    exchange.session = Some(Session { name, instance });
    Ok(())
}

/// Notes the sealed name of a session that an answer names, as a line of our own.
///
/// # Errors
/// 502 where the server's name for it is none, or longer than we keep.
pub fn seal(worker: &Worker, exchange: &mut Exchange, head: &[u8], instance: &Instance) -> Result<(), Fault> {
    let name = match exchange.answer_fields.single(Name::SessionId) {
        Single::Missing => return Ok(()),
        Single::Twice => return Err(UNFIT),
        Single::One(span) => span.of(head),
    };
    let fits = (1..=limits::SESSION_NAME_BYTES_MAX).contains(&name.len());
    if !fits || !name.iter().all(u8::is_ascii_graphic) {
        return Err(UNFIT);
    }
    let now = worker.wall_seconds(worker.coarse_now());
    let bond = Bond {
        expires_unix: u32::try_from(now + limits::SESSION_SECONDS_MAX).unwrap_or(u32::MAX),
        owner: exchange.owner,
        server: sealed::name_of(exchange.record.server.as_str()),
        instance: instance.sealed_name,
    };
    let mut nonce = [0; 12];
    // Without randomness nothing may be sealed: the same nonce twice would show which sessions are equal.
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| UNFIT)?;
    exchange.own_lines.extend_from_slice(b"Mcp-Session-Id: ");
    worker.shared.seal_keys.load().seal(&bond, name, nonce, &mut exchange.own_lines);
    exchange.own_lines.extend_from_slice(b"\r\n");
    Ok(())
}

/// The field of a request or an answer that names a session; what is said instead of it is ours.
pub fn is_named(field: &Field) -> bool {
    field.known == Name::SessionId
}
