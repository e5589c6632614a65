//! `route`, `split`, `sticky` and `affinity` of a server, and whether they fit its pools.
//!
//! Not here: the pools (`compile_pools`), what single values look like (`read_routing`).

use crate::config::address::Url;
use crate::config::compile_identity;
use crate::config::compile_pools::Pools;
use crate::config::file;
use crate::config::file_traffic::RouteRule;
use crate::config::limits;
use crate::config::problem::nearest;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::routing::Affinity;
use crate::config::routing::Hook;
use crate::config::routing::Routing;
use crate::config::routing::Rule;
use crate::config::routing::Share;
use crate::config::routing::To;
use crate::config::traffic::Pool;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

const PERCENT: u32 = 100;

/// `name`: of the server.
pub fn routing(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    server: &file::Server,
    pools: &Pools,
) -> Routing {
    check_company(reader, server);
    let rules = server.route.iter().enumerate().filter_map(|(index, written)| {
        let name = format!("mcpServers.{}.route[{index}]", name.value).into();
        Some(Rule { name, when: written.when.clone(), to: to(reader, written, server, &pools.pools)? })
    });
    let rules = rules.collect();
    Routing {
        rules,
        split: split(reader, server, &pools.pools),
        sticky: server.sticky.as_ref().map(|sticky| sticky.value).unwrap_or_default(),
        affinity: server.affinity.as_ref().map(|value| Affinity {
            name: format!("mcpServers.{}.affinity", name.value).into(),
            value: Arc::clone(value),
            seeds: pools.urls.iter().map(seed).collect(),
        }),
    }
}

/// None: it is not whole, which was reported.
fn to(reader: &mut Reader<'_>, written: &RouteRule, server: &file::Server, pools: &[Pool]) -> Option<To> {
    if let Some(url) = &written.hook {
        compile_identity::check_service(reader, url, "who can change its answers decides where calls go");
        let timeout_ms = written.timeout.unwrap_or(limits::ROUTE_HOOK_MS_DEFAULT);
        return Some(To::Hook(Hook { url: url.value.as_str().into(), timeout_ms }));
    }
    let pool = known(reader, written.pool.as_ref()?, server, pools)?;
    written.when.is_some().then_some(To::Pool(pool))
}

/// A key that would have no effect is a mistake.
fn check_company(reader: &mut Reader<'_>, server: &file::Server) {
    if let Some(sticky) = server.sticky.as_ref().filter(|_| server.split.is_none()) {
        reader.problem(sticky.place, "`sticky` without `split` has no effect", "Remove it.");
    }
    // That there is no address at all is told elsewhere.
    if !server.pools.is_empty() || (server.url.is_none() && server.instances.is_empty()) {
        return;
    }
    let route = server.route.first().map(|rule| ("route", rule.place));
    let split = server.split.as_ref().map(|split| ("split", split.place));
    for (key, place) in route.into_iter().chain(split) {
        let cure = "Write `pools: {NAME: {url: …}, NAME: {url: …}}` instead of `url` and `instances`.";
        reader.problem(place, format!("`{key}` without `pools` has no effect"), cure);
    }
}

/// The index of a pool.
fn known(
    reader: &mut Reader<'_>,
    text: &Located<String>,
    server: &file::Server,
    pools: &[Pool],
) -> Option<usize> {
    if server.pools.is_empty() {
        return None;
    }
    let names = server.pools.iter().map(|(name, _)| name.value.as_str());
    if !names.clone().any(|name| name == text.value) {
        let cure = match nearest(&text.value, names) {
            Some(name) if !text.hidden => format!("Did you mean `{name}`?"),
            _ => "Name one of `pools`.".into(),
        };
        reader.problem(text.place, format!("{} is no pool of this server", text.shown()), cure);
    }
    pools.iter().position(|pool| *pool.name == *text.value)
}

/// In the order of the pools, so that a share that grows takes from its neighbours only.
fn split(reader: &mut Reader<'_>, server: &file::Server, pools: &[Pool]) -> Vec<Share> {
    let Some(Located { value: written, place, .. }) = &server.split else { return Vec::new() };
    let mut shares = Vec::new();
    for (name, percent) in written {
        let pool = known(reader, name, server, pools);
        let percent = u8::try_from(*percent).ok();
        shares.extend(pool.zip(percent).map(|(pool, percent)| Share { pool, percent }));
    }
    let sum: u32 = written.iter().map(|(_, percent)| *percent).sum();
    // One that could not be read was reported.
    if sum != PERCENT && !server.is_split_broken {
        let what = format!("the shares of `split` sum to {sum}");
        reader.problem(*place, what, "They are percent: let them sum to 100.");
    }
    shares.sort_by_key(|share| share.pool);
    shares
}

/// The same in every gateway with this build: the hasher's keys are fixed.
fn seed(url: &Url) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&url.label, &url.target).hash(&mut hasher);
    hasher.finish()
}
