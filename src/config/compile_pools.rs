//! `url`, `instances` and `pools` of a server to its instances and the pools that they make.
//!
//! Not here: the rest of a server (`compile_server`, `compile_traffic`).

use crate::config::address;
use crate::config::address::Url;
use crate::config::compile;
use crate::config::file;
use crate::config::file::Instance;
use crate::config::file_traffic;
use crate::config::limits;
use crate::config::plan::Transport;
use crate::config::problem::Place;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::traffic::Balance;
use crate::config::traffic::Pool;
use rustls::pki_types::ServerName;

/// The pool of a server that names none.
const ONLY_POOL: &str = "default";

/// The instances of one server, the first pool's first.
pub struct Pools {
    pub urls: Vec<Url>,
    /// One for each url.
    pub weights: Vec<u32>,
    pub pools: Vec<Pool>,
    pub failover: Option<usize>,
}

/// One pool as it is written.
struct Written<'f> {
    name: &'f Located<String>,
    /// What messages call it: a server without pools, or a pool.
    kind: &'static str,
    url: Option<&'f Located<String>>,
    instances: &'f [Instance],
    reported: bool,
}

impl<'f> Written<'f> {
    fn texts(&self) -> impl Iterator<Item = (&'f Located<String>, Option<&'f Located<u32>>)> + use<'f> {
        let instance = |instance: &'f Instance| (&instance.url, instance.weight.as_ref());
        self.url.into_iter().map(|url| (url, None)).chain(self.instances.iter().map(instance))
    }
}

/// What is wrong is in the reader afterwards.
pub fn pools(reader: &mut Reader<'_>, name: &Located<String>, server: &file::Server) -> Pools {
    let failover = failover(reader, server);
    let written = written(reader, name, server, failover);
    let mut made = Pools { urls: Vec::new(), weights: Vec::new(), pools: Vec::new(), failover: None };
    let mut texts = written.iter().flat_map(Written::texts);
    if let Some((text, _)) = texts.nth(limits::INSTANCES_MAX) {
        reader.problem(text.place, format!("more than {} instances", limits::INSTANCES_MAX), "");
        return made;
    }
    for (name, _) in &server.pools {
        compile::is_name(reader, name, "a pool");
    }
    for pool in &written {
        check(reader, pool, server.balance.unwrap_or_default());
        let first = made.urls.len();
        for (text, weight) in pool.texts() {
            let Some(url) = url(reader, text, server) else { continue };
            if made.urls.contains(&url) {
                reader.problem(text.place, "this instance stands here a second time", "Remove it.");
            }
            made.urls.push(url);
            made.weights.push(weight.map_or(1, |weight| weight.value));
        }
        let name = if server.pools.is_empty() { ONLY_POOL } else { &pool.name.value };
        made.pools.push(Pool { name: name.into(), first, count: made.urls.len() - first });
    }
    // It is the last one.
    made.failover = failover.and(made.pools.len().checked_sub(1)).filter(|at| *at > 0);
    made
}

/// Index in `server.pools` of the pool that `failover` names.
fn failover(reader: &mut Reader<'_>, server: &file::Server) -> Option<usize> {
    let text = server.failover.as_ref()?;
    let found = server.pools.iter().position(|(name, _)| name.value == text.value);
    let names = server.pools.iter().map(|(name, _)| name.value.as_str());
    match (found, server.pools.len()) {
        (_, 0) if server.url.is_some() || !server.instances.is_empty() => {
            let cure = "Write `pools: {NAME: {url: …}, NAME: {url: …}}` instead of `url` and `instances`.";
            reader.problem(text.place, "`failover` without `pools` has no effect", cure);
        }
        // That there is no address at all, or none that could be read, is told elsewhere.
        (_, 0) => {}
        (None, _) => {
            let cure = match nearest(&text.value, names) {
                Some(name) if !text.hidden => format!("Did you mean `{name}`?"),
                _ => "Name one of `pools`.".into(),
            };
            reader.problem(text.place, format!("{} is no pool of this server", text.shown()), cure);
        }
        (Some(_), 1) => {
            let what = format!("{} is the only pool", text.shown());
            reader.problem(text.place, what, "Add a second pool.");
        }
        (Some(index), _) => return Some(index),
    }
    None
}

/// The first pool, those that `route` and `split` name, then the one of `failover`.
fn written<'f>(
    reader: &mut Reader<'_>,
    name: &'f Located<String>,
    server: &'f file::Server,
    failover: Option<usize>,
) -> Vec<Written<'f>> {
    let single = Written {
        name,
        kind: "server",
        url: server.url.as_ref(),
        instances: &server.instances,
        reported: server.reported,
    };
    let pool = |(name, pool): &'f (Located<String>, file_traffic::Pool)| Written {
        name,
        kind: "pool",
        url: pool.url.as_ref(),
        instances: &pool.instances,
        reported: pool.reported,
    };
    if server.pools.is_empty() {
        return vec![single];
    }
    if let Some((text, _)) = single.texts().next() {
        let what = "`pools` exclude `url` and `instances`";
        reader.problem(text.place, what, "Put this url into a pool.");
    }
    let backup = failover.and_then(|index| server.pools.get(index));
    let others = server.pools.iter().enumerate().filter(|(index, _)| Some(*index) != failover);
    let others: Vec<_> = others.map(|(_, pool)| pool).collect();
    unreachable(reader, server, &others);
    others.into_iter().chain(backup).map(pool).collect()
}

/// A pool that nothing sends calls to is a mistake. `others`: all but that of `failover`.
fn unreachable(
    reader: &mut Reader<'_>,
    server: &file::Server,
    others: &[&(Located<String>, file_traffic::Pool)],
) {
    let routes = server.route.iter().filter_map(|rule| rule.pool.as_ref());
    let shares = server.split.iter().flat_map(|split| split.value.iter().map(|(name, _)| name));
    let named: Vec<&str> =
        routes.chain(shares).chain(&server.failover).map(|name| name.value.as_str()).collect();
    // One that is misspelt, or has no share that could be read, was reported there. A hook may name any.
    if server.is_split_broken
        || server.route.iter().any(|rule| rule.hook.is_some())
        || named.iter().any(|name| server.pools.iter().all(|(pool, _)| pool.value != *name))
    {
        return;
    }
    let first = usize::from(server.split.is_none());
    for (name, _) in others.iter().skip(first).filter(|(name, _)| !named.contains(&name.value.as_str())) {
        let what = format!("no call would reach the pool {}", quoted(&name.value));
        reader.problem(name.place, what, "Name it in `split`, `route` or `failover`, or remove it.");
    }
}

/// Whether its parts fit together.
fn check(reader: &mut Reader<'_>, pool: &Written<'_>, balance: Balance) {
    match (pool.url, pool.instances.len()) {
        (Some(url), 1..) => {
            let what = "`url` and `instances` exclude each other";
            reader.problem(url.place, what, "Put this url into `instances`.");
        }
        // A `url` or `command` that could not be read was reported where it stands.
        (None, 0) if !pool.reported => {
            let what = format!("the {} {} has no `url`", pool.kind, quoted(&pool.name.value));
            reader.problem(pool.name.place, what, "Write `url: http://…/mcp`.");
        }
        _ => {}
    }
    let weights = || pool.instances.iter().filter_map(|instance| instance.weight.as_ref());
    let sum: u32 =
        pool.instances.iter().map(|instance| instance.weight.as_ref().map_or(1, |weight| weight.value)).sum();
    if let Some(first) = weights().next().filter(|_| sum == 0) {
        let what = format!("the weights of the {} {} sum to 0", pool.kind, quoted(&pool.name.value));
        reader.problem(first.place, what, "Give an instance a weight above 0.");
    }
    if let Some(idle) = weights().find(|weight| weight.value != 1)
        && balance != Balance::Weighted
        && sum > 0
    {
        let what = "a `weight` without `balance: weighted` has no effect";
        reader.warn(idle.place, what, "Write `balance: weighted`, or remove it.");
    }
}

fn url(reader: &mut Reader<'_>, text: &Located<String>, server: &file::Server) -> Option<Url> {
    let url = match address::url_or_flaws(&text.value) {
        Ok(url) => url,
        Err(flaws) => {
            for flaw in flaws {
                reader.problem(text.place, format!("the url {flaw}"), "Write `http://HOST:PORT/mcp`.");
            }
            return None;
        }
    };
    plaintext(reader, text.place, &url, server.plaintext);
    let named = server.tls.as_ref().is_some_and(|tls| tls.value.server_name.is_some());
    if url.tls && !named && ServerName::try_from(&*url.host).is_err() {
        let what = "no certificate can carry the host of this url";
        reader.problem(text.place, what, "Write `tls: {serverName: NAME}`.");
    }
    Some(url)
}

/// Plain HTTP to a public address needs the operator's word, and so does a name that may have one.
fn plaintext(reader: &mut Reader<'_>, place: Place, url: &Url, meant: bool) {
    if url.tls || meant {
        return;
    }
    let cure = "Write `https://`, or `plaintext: true` if this is meant.";
    match &url.transport {
        Transport::Address(address) if !address::is_near(address.ip()) => {
            let what =
                "`http://` to a public address: calls and credentials would cross the internet in clear";
            reader.problem(place, what, cure);
        }
        Transport::Name { host, .. } if !address::is_near_name(host) => {
            let what = "`http://` to a name that may be public: calls and credentials would travel in clear";
            reader.problem(place, what, cure);
        }
        _ => {}
    }
}
