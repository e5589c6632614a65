//! `File` to `Plan`: defaults, meaning, and whether the parts fit together.
//!
//! Not here: keys and their types (`read`), servers (`compile_server`), limits (`compile_limit`). What is wrong
//! goes to the reader, and compiling goes on, so that one run finds every mistake.

use crate::config::access::Access;
use crate::config::address;
use crate::config::compile_access;
use crate::config::compile_auth;
use crate::config::compile_hub;
use crate::config::compile_identity;
use crate::config::compile_limit;
use crate::config::compile_server;
use crate::config::compile_tls;
use crate::config::file;
use crate::config::file::Admin;
use crate::config::file::File;
use crate::config::file_tls;
use crate::config::identity;
use crate::config::identity::Secret;
use crate::config::keys;
use crate::config::limits;
use crate::config::plan::CallLog;
use crate::config::plan::Http;
use crate::config::plan::Listener;
use crate::config::plan::Plan;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use ahash::HashMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where clients find the gateway if the config does not say.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// The plan, meaningful only if the reader has no problems afterwards. Its digest is still empty.
pub fn plan(reader: &mut Reader<'_>, mut file: File) -> Plan {
    let (listeners, exposed) = listeners(reader, &file.listen);
    let admin = admin(reader, &file, &listeners);
    let servers = compile_server::servers(reader, &file.mcp_servers);
    let vault = compile_auth::vault(reader, &file);
    let by_name: HashMap<_, _> =
        servers.iter().zip(0..).map(|(server, id)| (Box::from(&*server.name), id)).collect();
    let hubs = compile_hub::hubs(reader, &file, &servers);
    let hub_by_name = hubs.iter().zip(0..).map(|(hub, id)| (Box::from(&*hub.name), id)).collect();
    check_mtls(reader, &file);
    let identity = compile_identity::identity(reader, std::mem::take(&mut file.identity), exposed);
    if identity.tenant.is_none() {
        check_tenants(reader, &file);
    }
    let access = access(reader, &mut file);
    let limits = compile_limit::limits(reader, &mut file);
    Plan {
        digest: String::new(),
        listeners,
        admin,
        workers: file.workers.unwrap_or_else(cores),
        http: http(reader, &file.http),
        servers,
        by_name,
        hubs,
        hub_by_name,
        identity,
        access,
        limits,
        vault,
        seal_keys: seal_keys(reader, &file.state.seal_keys),
        state_dir: file.state.dir.map(|dir| reader.path(&dir.value)),
        call_log: call_log(reader, file.telemetry.call_log),
    }
}

fn access(reader: &mut Reader<'_>, file: &mut File) -> Access {
    let rules = std::mem::take(&mut file.access);
    // A disabled server may come back: rules for it are no mistake.
    let servers: Vec<&str> = file.mcp_servers.iter().map(|(name, _)| name.value.as_str()).collect();
    compile_access::access(reader, rules, &servers)
}

/// One worker per core that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::WORKERS_MAX)
}

/// The listeners, and the place of the first one that others than this machine can reach.
fn listeners(reader: &mut Reader<'_>, written: &[file_tls::Listener]) -> (Vec<Listener>, Option<Place>) {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut exposed = None;
    for file_tls::Listener { address: text, tls } in written {
        let tls = tls.as_ref().and_then(|tls| compile_tls::listener(reader, tls));
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
        listeners.push(Listener { address, tls });
    }
    if let Some(file_tls::Listener { address: text, .. }) = written.get(limits::LISTENERS_MAX) {
        reader.problem(text.place, format!("more than {} listeners", limits::LISTENERS_MAX), "");
    }
    if written.is_empty() {
        listeners.push(Listener { address: LISTEN_DEFAULT, tls: None });
    }
    (listeners, exposed)
}

/// Whether both cannot be bound. An IPv6 listener takes no IPv4 connections, so families are apart.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() > 0 && (a.ip() == b.ip() || (any && a.is_ipv4() == b.is_ipv4()))
}

fn admin(reader: &mut Reader<'_>, file: &File, listeners: &[Listener]) -> Option<SocketAddr> {
    let text = match &file.admin {
        None => {
            check_default_admin(reader, &file.listen);
            return Some(ADMIN_DEFAULT);
        }
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

/// Two sockets of ours that collide look like another process that listens there.
fn check_default_admin(reader: &mut Reader<'_>, listen: &[file_tls::Listener]) {
    let takes = |listener: &&file_tls::Listener| {
        address::listener(&listener.address.value).is_some_and(|address| overlap(address, ADMIN_DEFAULT))
    };
    if let Some(file_tls::Listener { address: text, .. }) = listen.iter().find(takes) {
        let what = format!("`listen` takes {ADMIN_DEFAULT}, where the admin listener is if nothing is said");
        let cure = "Change it, or write `admin: {address: \"127.0.0.1:9091\"}` or `admin: off`.";
        reader.problem(text.place, what, cure);
    }
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

/// A name stands in refusals, in metrics, and in header fields, where a quote would have to be escaped; each is for one
/// `what` ("limit") only.
pub fn unique<'n>(reader: &mut Reader<'_>, names: impl Iterator<Item = &'n Located<String>>, what: &str) {
    let mut first: HashMap<&str, Place> = HashMap::default();
    for name in names {
        let article = if what.starts_with('a') { "an" } else { "a" };
        is_name(reader, name, &format!("{article} {what}"));
        if let Some(Place { line, column }) = first.get(name.value.as_str()) {
            let what = format!("the {what} {} stands here a second time", name.shown());
            reader.problem(name.place, what, format!("The first one is at {line}:{column}; rename one."));
        } else {
            first.insert(&name.value, name.place);
        }
    }
}

/// Certificates are asked for by listeners: without one that does nobody can be told by them.
fn check_mtls(reader: &mut Reader<'_>, file: &File) {
    let asks = |listener: &file_tls::Listener| {
        listener.tls.as_ref().is_some_and(|tls| tls.value.client_ca.is_some())
    };
    if let Some(mtls) = &file.identity.mtls
        && !file.listen.iter().any(asks)
    {
        let cure = "Add `clientCa` to the `tls` of a listener.";
        reader.problem(mtls.place, "`mtls` without a listener that asks for certificates", cure);
    }
}

/// Whether callers can have this name; where they cannot, that is a problem.
pub fn is_principal(reader: &mut Reader<'_>, name: &Located<String>) -> bool {
    let fits = identity::is_principal(&name.value);
    if !fits {
        let what = format!("{} is no name of a principal", name.shown());
        reader.problem(name.place, what, identity::PRINCIPAL_CURE);
    }
    fits
}

/// Whether it can name `what` ("a pool") wherever names are shown; where it cannot, that is a problem.
pub fn is_name(reader: &mut Reader<'_>, name: &Located<String>, what: &str) -> bool {
    let fits = keys::is_name(&name.value);
    if !fits {
        let cure = format!("It has 1 to {} letters, digits and `-_.@:/+`.", limits::PRINCIPAL_BYTES_MAX);
        reader.problem(name.place, format!("{} is no name of {what}", name.shown()), cure);
    }
    fits
}

/// Without `identity.tenant` nobody is of any tenant.
fn check_tenants(reader: &mut Reader<'_>, file: &File) {
    for tenant in file.mcp_servers.iter().filter_map(|(_, server)| server.tenants.first()) {
        let what = "`tenants` names tenants, and no caller has one: nobody could see the server";
        reader.problem(tenant.place, what, "Write `identity: {tenant: jwt.org}`, or remove `tenants`.");
    }
}

/// Never quoted: they are secrets, wherever they are from.
fn seal_keys(reader: &mut Reader<'_>, written: &[Located<String>]) -> Vec<Secret> {
    for key in written.iter().filter(|key| key.value.len() < limits::SEAL_KEY_BYTES_MIN) {
        let what = format!("a key of `sealKeys` has less than {} characters", limits::SEAL_KEY_BYTES_MIN);
        reader.problem(key.place, what, "Make one with `openssl rand -hex 32`.");
    }
    if let Some(key) = written.get(limits::SEAL_KEYS_MAX) {
        let what = format!("more than {} keys in `sealKeys`", limits::SEAL_KEYS_MAX);
        reader.problem(key.place, what, "Leave out the oldest: sessions end after two days.");
    }
    written.iter().map(|key| Secret(key.value.as_str().into())).collect()
}

fn call_log(reader: &mut Reader<'_>, call_log: Option<file::CallLog>) -> CallLog {
    match call_log {
        None | Some(file::CallLog::Off) => CallLog::Off,
        Some(file::CallLog::Stdout) => CallLog::Stdout,
        Some(file::CallLog::Stderr) => CallLog::Stderr,
        Some(file::CallLog::File(path)) => {
            let path = log_path(reader, &path);
            CallLog::File(path)
        }
    }
}

/// What can never become a file is told now: the writer would try again for ever.
fn log_path(reader: &mut Reader<'_>, written: &Located<String>) -> PathBuf {
    let path = reader.path(&written.value);
    let what = if written.value.is_empty() {
        "`file` of `callLog` is empty".to_owned()
    } else if path.is_dir() {
        format!("{} is a directory", written.shown())
    } else {
        return path;
    };
    reader.problem(
        written.place,
        what,
        "Name the file itself: `callLog: {file: /var/log/ringgate/calls.log}`.",
    );
    path
}
