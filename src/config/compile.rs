//! `File` to `Plan`: defaults, meaning, and whether the parts fit together.
//!
//! Not here: keys and their types (`read`), servers (`compile_server`), limits (`compile_limit`). What is wrong
//! goes to the reader, and compiling goes on, so that one run finds every mistake.

use crate::config::address;
use crate::config::compile_limit;
use crate::config::compile_server;
use crate::config::file;
use crate::config::file::Admin;
use crate::config::file::Anonymous;
use crate::config::file::File;
use crate::config::keys;
use crate::config::limits;
use crate::config::plan::CallLog;
use crate::config::plan::Http;
use crate::config::plan::Identity;
use crate::config::plan::Listener;
use crate::config::plan::Plan;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use ahash::HashMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where clients find the gateway if the config does not say.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// The principal of callers where no identity is configured.
const ANONYMOUS: &str = "anonymous";

/// The plan, meaningful only if the reader has no problems afterwards. Its digest is still empty.
pub fn plan(reader: &mut Reader<'_>, mut file: File) -> Plan {
    let (listeners, exposed) = listeners(reader, &file.listen);
    let admin = admin(reader, file.admin.as_ref(), &listeners);
    let servers = compile_server::servers(reader, &file.mcp_servers);
    let by_name: HashMap<_, _> =
        servers.iter().zip(0..).map(|(server, id)| (Box::from(&*server.name), id)).collect();
    let identity = identity(reader, &file.identity, exposed);
    let limits = compile_limit::limits(reader, &mut file, identity.anonymous.is_some());
    Plan {
        digest: String::new(),
        listeners,
        admin,
        workers: file.workers.unwrap_or_else(cores),
        http: http(reader, &file.http),
        servers,
        by_name,
        identity,
        limits,
        state_dir: file.state.dir.map(|dir| reader.path(&dir.value)),
        call_log: call_log(reader, file.telemetry.call_log),
    }
}

/// One worker per core that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::WORKERS_MAX)
}

/// The listeners, and the place of the first one that others than this machine can reach.
fn listeners(reader: &mut Reader<'_>, written: &[Located<String>]) -> (Vec<Listener>, Option<Place>) {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut exposed = None;
    for text in written {
        let Some(address) = address::listener(&text.value) else {
            let what = format!("{} is no address to listen on", text.shown());
            reader.problem(
                text.place,
                what,
                "Write an IP address and a port: `127.0.0.1:8080`, `[::1]:8080`.",
            );
            continue;
        };
        if listeners.iter().any(|other| overlap(other.address, address)) {
            let what = format!("{} is listened on a second time", text.shown());
            reader.problem(text.place, what, "Remove one of the two.");
        }
        if !address.ip().is_loopback() {
            exposed = exposed.or(Some(text.place));
        }
        listeners.push(Listener { address });
    }
    if let Some(text) = written.get(limits::LISTENERS_MAX) {
        reader.problem(text.place, format!("more than {} listeners", limits::LISTENERS_MAX), "");
    }
    if written.is_empty() {
        listeners.push(Listener { address: LISTEN_DEFAULT });
    }
    (listeners, exposed)
}

/// Whether both cannot be bound. An IPv6 listener takes no IPv4 connections, so families are apart.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() > 0 && (a.ip() == b.ip() || (any && a.is_ipv4() == b.is_ipv4()))
}

fn admin(reader: &mut Reader<'_>, admin: Option<&Admin>, listeners: &[Listener]) -> Option<SocketAddr> {
    let text = match admin {
        None => return Some(ADMIN_DEFAULT),
        Some(Admin::Off) => return None,
        Some(Admin::At(text)) => text,
    };
    let Some(address) = address::listener(&text.value) else {
        let what = format!("{} is no address to listen on", text.shown());
        reader.problem(text.place, what, "Write an IP address and a port: `127.0.0.1:9090`.");
        return None;
    };
    if !address.ip().is_loopback() {
        let what = "an admin listener beyond loopback needs a token, which comes with a later version";
        reader.problem(
            text.place,
            what,
            "Write `127.0.0.1:9090` and reach it through a tunnel, or `admin: off`.",
        );
    }
    if listeners.iter().any(|listener| overlap(listener.address, address)) {
        reader.problem(text.place, "`admin` and `listen` overlap", "Give each its own port.");
    }
    Some(address)
}

fn http(reader: &mut Reader<'_>, http: &file::Http) -> Http {
    let mut hosts = Vec::new();
    for text in &http.hosts {
        match address::host_name(&text.value) {
            Some(host) => hosts.push(host.into()),
            None => {
                let what = format!("{} is no host name", text.shown());
                reader.problem(
                    text.place,
                    what,
                    "Write the name alone, without scheme and port: `gw.example`.",
                );
            }
        }
    }
    let mut origins = Vec::new();
    for text in &http.origins {
        match address::origin(&text.value) {
            Some(origin) => origins.push(origin.into()),
            None => {
                let what = format!("{} is no origin", text.shown());
                reader.problem(text.place, what, "Write scheme, host and port: `https://app.example`.");
            }
        }
    }
    Http {
        max_body: http.max_body.unwrap_or(limits::BODY_BYTES_DEFAULT),
        max_head: http.max_head.unwrap_or(limits::HEAD_BYTES_DEFAULT),
        header_timeout_ms: http.header_timeout.unwrap_or(limits::HEADER_TIMEOUT_MS_DEFAULT),
        idle_timeout_ms: http.idle_timeout.unwrap_or(limits::IDLE_TIMEOUT_MS_DEFAULT),
        drain_ms: http.drain.unwrap_or(limits::DRAIN_MS_DEFAULT),
        stream_comment_ms: http.stream_comment.unwrap_or(limits::STREAM_COMMENT_MS_DEFAULT),
        hosts,
        origins,
    }
}

/// `exposed`: a listener that others than this machine can reach.
fn identity(reader: &mut Reader<'_>, identity: &file::Identity, exposed: Option<Place>) -> Identity {
    let configured = identity.api_keys.is_some();
    let api_keys = identity.api_keys.as_ref().and_then(|keys| keys.file.as_ref()).map(|file| {
        let path = reader.path(&file.value);
        check_keys(reader, &path, file);
        path
    });
    let anonymous: Option<Arc<str>> = match &identity.anonymous {
        Some(Anonymous::Principal(name)) => principal(reader, name),
        Some(Anonymous::Deny(_)) => None,
        None if configured => None,
        None => {
            if let Some(place) = exposed {
                let what = "this listener can be reached from other machines and no identity is configured: \
                            everybody could call every tool";
                let cure = "Listen on 127.0.0.1, add `identity: {apiKeys: {file: keys.yaml}}`, or, if this is \
                            meant, `identity: {anonymous: NAME}`.";
                reader.problem(place, what, cure);
            }
            Some(ANONYMOUS.into())
        }
    };
    if let Some(Anonymous::Deny(place)) = identity.anonymous
        && !configured
    {
        let what = "nobody can call: `anonymous: deny`, and no identity is configured";
        reader.warn(place, what, "Add `apiKeys: {file: keys.yaml}`.");
    }
    Identity { api_keys, anonymous }
}

fn principal(reader: &mut Reader<'_>, name: &Located<String>) -> Option<Arc<str>> {
    is_name(reader, name, "a principal").then(|| name.value.as_str().into())
}

/// Whether it can name `what` ("a principal") wherever names are shown; where it cannot, that is a problem.
pub fn is_name(reader: &mut Reader<'_>, name: &Located<String>, what: &str) -> bool {
    let fits = keys::is_name(&name.value);
    if !fits {
        let cure = format!("It has 1 to {} letters, digits and `-_.@:/+`.", limits::PRINCIPAL_BYTES_MAX);
        reader.problem(name.place, format!("{} is no name of {what}", name.shown()), cure);
    }
    fits
}

/// The key file is read for its mistakes only: keys are not part of the plan, they change by themselves.
fn check_keys(reader: &mut Reader<'_>, path: &std::path::Path, written: &Located<String>) {
    if !reader.watched.iter().any(|known| known == path) {
        reader.watched.push(path.to_path_buf());
    }
    if let Err(problems) = keys::read(path) {
        for mut problem in problems.0 {
            // A file that is not there is a mistake of the config, at the place where it is named.
            if problem.place.is_none() {
                reader.problem(written.place, format!("the key file: {}", problem.what), problem.cure);
            } else {
                problem.file = path.display().to_string().into();
                reader.problems.push(problem);
            }
        }
    }
}

fn call_log(reader: &mut Reader<'_>, call_log: Option<file::CallLog>) -> CallLog {
    match call_log {
        None | Some(file::CallLog::Off) => CallLog::Off,
        Some(file::CallLog::Stdout) => CallLog::Stdout,
        Some(file::CallLog::Stderr) => CallLog::Stderr,
        Some(file::CallLog::File(path)) => {
            let path = reader.path(&path.value);
            CallLog::File(path)
        }
    }
}
