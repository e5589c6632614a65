//! What servers offer, as it outlives the process: one file in `state.dir`, so that a server that is down when the gateway
//! starts is listed as it was, for its time (`cache.maxStale`), and marked.
//!
//! Not here: what is kept of single callers: it is never written. What is written the gateway has listed as itself, and a
//! list that its server calls private is of the credential that it was shown (2026-07-28, caching): another address, or
//! another credential, and it is none of this server's. Without `state.dir` nothing is written. A file that cannot be used is
//! told of and written anew: nothing is lost but the memory of servers.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::reader;
use crate::config::replace::replace;
use crate::control::catalogue::desk;
use crate::control::state::State;
use crate::handoff::Catalogues;
use crate::handoff::Failing;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::catalogue::about::About;
use crate::mcp::catalogue::about::Capabilities;
use crate::mcp::envelope::Era;
use crate::mcp::listing::Kind;
use crate::mcp::sealed;
use aws_lc_rs::digest;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Name of the file in the state directory.
const FILE: &str = "catalogues";
/// Its first bytes. Then the SHA-256 of the rest, which is one line of JSON for each server.
const MAGIC: &[u8; 16] = b"ringgate-lists-1";

/// What is written of a server beside its lists.
#[derive(Deserialize, Serialize)]
struct Entry {
    server: String,
    /// Tells its addresses, and what it is shown, from others (`place`).
    place: u64,
    listed_unix_ms: u64,
    ttl_ms: Option<u64>,
    is_private: bool,
    is_modern: bool,
    revision: String,
    has: Capabilities,
    info: String,
    instructions: String,
}

/// A line: an entry, and its lists in the order of [`Kind::ALL`], as they were listed.
#[derive(Deserialize)]
struct Line<'l>(Entry, #[serde(borrow)] [Vec<&'l RawValue>; Kind::ALL.len()]);

/// Where a server is, and what the gateway shows it: what was listed elsewhere, or as another, is none of its. Of
/// credentials this has 64 bits of a digest, in a file that only this user can read.
fn place(server: &Server) -> u64 {
    let auth = format!("{:?}", server.auth);
    let instances = server.instances.iter().flat_map(|one| [one.label.as_bytes(), &*one.target]);
    let headers = server.headers.iter().flat_map(|one| [&*one.name, &*one.value]);
    let parts: Vec<&[u8]> = instances.chain([auth.as_bytes()]).chain(headers).collect();
    sealed::number_of(sealed::digest(&parts))
}

/// Until when what was listed then is shown while the server cannot be asked, in Unix milliseconds.
pub(super) fn shown_until_unix_ms(server: &Server, known: &Catalogue) -> u64 {
    let cache = server.list_cache;
    let fresh_ms = desk::fresh_ms(cache.fresh_ms, known.ttl_ms, 0);
    known.listed_unix_ms.saturating_add(fresh_ms).saturating_add(cache.stale_ms)
}

/// What an earlier process knew of the servers of a plan. All of it counts as old until they are listed.
pub(in crate::control) fn read(plan: &Plan) -> Catalogues {
    let Some(directory) = &plan.state_dir else { return Catalogues::default() };
    let path = directory.join(FILE);
    if let Ok(false) = path.try_exists() {
        return Catalogues::default();
    }
    let bytes = reader::read_up_to(&path, limits::CATALOGUES_FILE_BYTES_MAX);
    let decoded = bytes
        .and_then(|bytes| decode(&bytes).ok_or_else(|| String::from("it is damaged, or of another version")));
    match decoded {
        Ok(found) => known(plan, found, clock::unix_millis()),
        Err(reason) => {
            tracing::warn!(
                file = %path.display(), reason,
                "what servers offered before this start cannot be read: one that is down now is not listed"
            );
            Catalogues::default()
        }
    }
}

/// Those of them that are of this plan, and may still be shown.
fn known(plan: &Plan, found: Vec<(Entry, Catalogue)>, now_unix_ms: u64) -> Catalogues {
    let mut catalogues = Catalogues::default();
    for (entry, mut catalogue) in found {
        let Some(server) = plan.server_of(&entry.server).filter(|server| place(server) == entry.place) else {
            continue;
        };
        // A clock that was set back must not keep it for longer.
        catalogue.listed_unix_ms = catalogue.listed_unix_ms.min(now_unix_ms);
        if shown_until_unix_ms(server, &catalogue) > now_unix_ms {
            catalogues.by_server.insert(Arc::clone(&server.name), Arc::new(catalogue));
            catalogues.failing.insert(Arc::clone(&server.name), Failing::Down);
        }
    }
    catalogues
}

/// None for anything that `encode` does not write.
fn decode(bytes: &[u8]) -> Option<Vec<(Entry, Catalogue)>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_at_checked(digest::SHA256_OUTPUT_LEN)?;
    if digest::digest(&digest::SHA256, body).as_ref() != sum {
        return None;
    }
    std::str::from_utf8(body).ok()?.lines().map(restored).collect()
}

/// What one line says, read as a server's own answers are.
fn restored(line: &str) -> Option<(Entry, Catalogue)> {
    let Line(entry, lists) = serde_json::from_str(line).ok()?;
    let mut catalogue = Catalogue::default();
    for (kind, items) in Kind::ALL.into_iter().zip(&lists).filter(|(_, items)| !items.is_empty()) {
        let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
        let message = format!(r#"{{"result":{{"{}":[{}]}}}}"#, kind.list(), items.join(","));
        catalogue.add(message.as_bytes()).ok()?;
    }
    catalogue.about = About {
        era: if entry.is_modern { Era::Modern } else { Era::Legacy },
        revision: entry.revision.as_str().into(),
        has: entry.has,
        info: entry.info.as_str().into(),
        instructions: entry.instructions.as_str().into(),
    };
    (catalogue.ttl_ms, catalogue.listed_unix_ms) = (entry.ttl_ms, entry.listed_unix_ms);
    (catalogue.is_private, catalogue.listed) = (entry.is_private, Moment::ZERO);
    Some((entry, catalogue.summed()))
}

/// One server's line.
fn line(server: &Server, known: &Catalogue) -> Option<String> {
    let about = &known.about;
    let entry = Entry {
        server: server.name.to_string(),
        place: place(server),
        listed_unix_ms: known.listed_unix_ms,
        ttl_ms: known.ttl_ms,
        is_private: known.is_private,
        is_modern: about.era == Era::Modern,
        revision: about.revision.to_string(),
        has: about.has,
        info: about.info.to_string(),
        instructions: about.instructions.to_string(),
    };
    let list = |items: &Vec<crate::mcp::catalogue::Item>| {
        // A line feed between the members of an entry is white space: a line stays one.
        let texts: Vec<String> = items.iter().map(|item| item.text.replace(['\n', '\r'], " ")).collect();
        format!("[{}]", texts.join(","))
    };
    let lists: Vec<String> = known.items.iter().map(list).collect();
    Some(format!("[{},[{}]]\n", serde_json::to_string(&entry).ok()?, lists.join(",")))
}

/// What is known of the servers of a plan, in so many bytes at most. What there is no room for is left out.
fn encode(plan: &Plan, catalogues: &Catalogues, bytes_max: u64) -> Vec<u8> {
    let mut body = String::new();
    let room = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let room = room.saturating_sub(MAGIC.len() + digest::SHA256_OUTPUT_LEN);
    for server in &plan.servers {
        let Some(known) = catalogues.by_server.get(&server.name) else { continue };
        match line(server, known) {
            Some(line) if body.len() + line.len() <= room => body.push_str(&line),
            Some(_) => tracing::warn!(
                server = &*server.name,
                "its lists are not kept over a restart: those of all servers are too long together"
            ),
            None => {}
        }
    }
    let sum = digest::digest(&digest::SHA256, body.as_bytes());
    [&MAGIC[..], sum.as_ref(), body.as_bytes()].concat()
}

/// What was written: of each server what tells its lists from others, and when they were listed.
type Written = Vec<(Arc<str>, u64, u64)>;

fn outline(catalogues: &Catalogues) -> Written {
    let of = |(name, known): (&Arc<str>, &Arc<Catalogue>)| {
        let moment = known.listed_unix_ms / limits::CATALOGUES_AGE_MS;
        (Arc::clone(name), known.revision, moment)
    };
    let mut all: Written = catalogues.by_server.iter().map(of).collect();
    all.sort_unstable();
    all
}

/// Writes what is new, no more often than once a second; that lists have been confirmed, once a minute.
pub(in crate::control) async fn keep(state: Arc<State>) {
    let Some(path) = state.plan().state_dir.as_ref().map(|directory| directory.join(FILE)) else { return };
    let mut changed = state.catalogues_changed.subscribe();
    let mut written = outline(&state.shared.catalogues.load());
    let mut warned = false;
    while changed.changed().await.is_ok() {
        let catalogues = state.shared.catalogues.load_full();
        let newest = outline(&catalogues);
        if newest == written {
            continue;
        }
        let (plan, target) = (state.plan(), path.clone());
        let task = move || write(&target, &plan, &catalogues);
        let Ok(result) = tokio::task::spawn_blocking(task).await else { return };
        match result {
            Ok(()) => (written, warned) = (newest, false),
            Err(error) if !std::mem::replace(&mut warned, true) => tracing::error!(
                file = %path.display(), %error,
                "cannot write what servers offer: after a restart one that is down is not listed; give the disk room"
            ),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(limits::CATALOGUES_FLUSH_MS)).await;
    }
}

fn write(path: &Path, plan: &Plan, catalogues: &Catalogues) -> std::io::Result<()> {
    replace(path, &encode(plan, catalogues, limits::CATALOGUES_FILE_BYTES_MAX), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::plan::InjectedHeader;
    use crate::control::tests::Folder;
    use crate::control::tests::state_with;

    const NOW: u64 = 1_800_000_000_000;
    const MAX: u64 = limits::CATALOGUES_FILE_BYTES_MAX;

    fn plan() -> Arc<Plan> {
        state_with(1, |_| ()).plan()
    }

    /// What its one server lists.
    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for message in [
            r#"{"result":{"tools":[{"name":"a","x":1.50,
                "annotations":{"readOnlyHint":true}},{"name":"\u00e9","description":"d"}],"ttlMs":60000}}"#,
            r#"{"result":{"prompts":[{"name":"p"}]}}"#,
            r#"{"result":{"resources":[{"uri":"file:///a","name":"n"}]}}"#,
        ] {
            catalogue.add(message.as_bytes()).expect("a list");
        }
        catalogue.about.has.tools_changed = true;
        catalogue.about.instructions = "Be\nkind.".into();
        (catalogue.listed_unix_ms, catalogue.is_private) = (NOW, true);
        catalogue.summed()
    }

    fn all(catalogue: Catalogue) -> Catalogues {
        let mut catalogues = Catalogues::default();
        catalogues.by_server.insert("up".into(), Arc::new(catalogue));
        catalogues
    }

    fn read_back(plan: &Plan, bytes: &[u8], now: u64) -> Option<Arc<Catalogue>> {
        known(plan, decode(bytes)?, now).by_server.get("up").cloned()
    }

    #[test]
    fn what_was_written_is_read() {
        let (plan, before) = (plan(), catalogue());
        let bytes = encode(&plan, &all(catalogue()), MAX);
        let after = read_back(&plan, &bytes, NOW).expect("known");
        assert_eq!((after.sums[1..].to_vec(), &after.about), (before.sums[1..].to_vec(), &before.about));
        assert_eq!((&after.tools, &after.prompts), (&before.tools, &before.prompts));
        assert_eq!((after.ttl_ms, after.listed_unix_ms, after.is_private), (Some(60_000), NOW, true));
        let texts =
            |known: &Catalogue| known.items[0].iter().map(|item| item.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&after)[1], texts(&before)[1]);
        assert_eq!(texts(&after)[0], texts(&before)[0].replace('\n', " ").into());
        let failing = known(&plan, decode(&bytes).expect("good"), NOW).failing;
        assert_eq!(failing.get("up"), Some(&Failing::Down), "old until it is listed");
    }

    #[test]
    fn what_is_too_old_or_another_servers_is_not_known() {
        let plan = plan();
        let bytes = encode(&plan, &all(catalogue()), MAX);
        let until = NOW + 60_000 + plan.servers[0].list_cache.stale_ms;
        assert!(read_back(&plan, &bytes, until - 1).is_some() && read_back(&plan, &bytes, until).is_none());
        let set_back = read_back(&plan, &bytes, NOW - 1_000).expect("known");
        assert_eq!(set_back.listed_unix_ms, NOW - 1_000);
        let elsewhere = state_with(1, |plan| plan.servers[0].instances[0].target = b"/other".to_vec().into());
        assert!(read_back(&elsewhere.plan(), &bytes, NOW).is_none());
        let other = state_with(1, |plan| {
            let field = InjectedHeader { name: b"x-key".to_vec().into(), value: b"2".to_vec().into() };
            plan.servers[0].headers.push(field);
        });
        assert!(read_back(&other.plan(), &bytes, NOW).is_none(), "shown to another");
        let gone = state_with(1, |plan| plan.by_name.clear());
        assert!(read_back(&gone.plan(), &bytes, NOW).is_none());
    }

    #[test]
    fn every_damage_is_seen() {
        let good = encode(&plan(), &all(catalogue()), MAX);
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_none(), "cut at {length}");
        }
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 1;
            assert!(decode(&bytes).is_none(), "byte {place}");
        }
        // Whole, and nothing that we write.
        for body in ["{}\n", "[]\n", "[{},[[],[],[],[]]]\n", "\u{0}\n"] {
            let sum = digest::digest(&digest::SHA256, body.as_bytes());
            let bytes = [&MAGIC[..], sum.as_ref(), body.as_bytes()].concat();
            assert!(decode(&bytes).is_none(), "{body:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_no_obstacle() {
        let folder = Folder::new("catalogues");
        let state = state_with(1, |plan| plan.state_dir = Some(folder.path("")));
        let plan = state.plan();
        assert!(read(&plan).by_server.is_empty(), "none yet");
        std::fs::write(folder.path(FILE), b"rubbish").expect("written");
        assert!(read(&plan).by_server.is_empty());
        let recent = Catalogue { listed_unix_ms: clock::unix_millis(), ..catalogue() };
        write(&folder.path(FILE), &plan, &all(recent)).expect("written");
        assert_eq!(read(&plan).by_server.len(), 1);
        let file = std::fs::File::options().write(true).open(folder.path(FILE)).expect("there");
        file.set_len(limits::CATALOGUES_FILE_BYTES_MAX + 1).expect("as long");
        assert!(read(&plan).by_server.is_empty(), "too long");
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out() {
        let servers: String =
            (0..6).map(|number| format!("  s{number}: {{url: 'http://127.0.0.1:1/mcp'}}\n")).collect();
        let plan = config::load_text(&format!("mcpServers:\n{servers}"), "test.yaml", Path::new(""));
        let plan = plan.expect("a good config").plan;
        let mut catalogues = Catalogues::default();
        for number in 0..6 {
            catalogues.by_server.insert(format!("s{number}").into(), Arc::new(catalogue()));
        }
        let whole = encode(&plan, &catalogues, limits::CATALOGUES_FILE_BYTES_MAX).len() as u64;
        for (bytes_max, count) in [(whole, 6), (whole - 1, 5), (whole / 2 + 40, 3), (50, 0), (0, 0)] {
            let bytes = encode(&plan, &catalogues, bytes_max);
            assert!(bytes.len() as u64 <= bytes_max.max(48), "{bytes_max}");
            assert_eq!(decode(&bytes).expect("good").len(), count, "{bytes_max}");
        }
    }
}
