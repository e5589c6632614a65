//! What a hub says about itself: to `server/discover` (2026-07-28) and to `initialize` (the older revisions).
//!
//! Not here: sessions, and whether anybody may ask.

use crate::config::hub::Form;
use crate::config::limits;
use crate::mcp::catalogue::about::Capabilities;
use crate::mcp::envelope::REVISION_MODERN;
use crate::mcp::envelope::REVISION_WITH_BATCHES;
use crate::mcp::envelope::REVISIONS_LEGACY;
use crate::mcp::hub::Scene;
use crate::mcp::hub::lists::quoted;
use std::fmt::Write;

/// What its servers offer together. A hub of several says itself when something of its lists changes.
pub fn capabilities(scene: &Scene<'_>) -> Capabilities {
    let mut all = Capabilities::default();
    for (_, known) in scene.known_members() {
        let has = known.about.has;
        all.tools |= has.tools || !known.tools.is_empty();
        all.prompts |= has.prompts || !known.prompts.is_empty();
        all.resources |= has.resources;
        all.subscribe |= has.subscribe;
        all.completions |= has.completions;
        all.logging |= has.logging;
    }
    match scene.hub.form {
        Form::Server(_) => {}
        // Its servers may come later.
        Form::All => all.tools = true,
        Form::Virtual => {
            all.tools = !scene.hub.tools.is_empty();
            all.prompts &= !scene.hub.prompts.is_empty();
            all.resources &= !scene.hub.resources.is_empty();
            all.subscribe &= all.resources;
        }
    }
    all
}

/// `capabilities` as JSON. Each list may change, because a server may come or go.
fn capabilities_text(has: Capabilities) -> String {
    let mut members = Vec::new();
    let changing = [(has.tools, "tools"), (has.prompts, "prompts")];
    members.extend(
        changing
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, name)| format!("\"{name}\":{{\"listChanged\":true}}")),
    );
    if has.resources {
        let subscribe = has.subscribe;
        members.push(format!("\"resources\":{{\"listChanged\":true,\"subscribe\":{subscribe}}}"));
    }
    let plain = [(has.completions, "completions"), (has.logging, "logging")];
    members.extend(plain.iter().filter(|(has, _)| *has).map(|(_, name)| format!("\"{name}\":{{}}")));
    format!("{{{}}}", members.join(","))
}

/// `serverInfo`: of one server its own.
pub fn info(scene: &Scene<'_>) -> String {
    if let Form::Server(id) = scene.hub.form
        && let Some((_, known)) = scene.known(id)
        && !known.about.info.is_empty()
    {
        return known.about.info.to_string();
    }
    format!(r#"{{"name":"ringgate","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}

/// `instructions`, with its comma before it, or nothing. Those of several servers stand under their names, cut where
/// they get too long for a model's context.
fn instructions(scene: &Scene<'_>) -> String {
    let mut all = String::new();
    for (server, known) in scene.known_members() {
        let text = &*known.about.instructions;
        if text.is_empty() {
            continue;
        }
        if let Form::Server(_) = scene.hub.form {
            all.push_str(text);
            break;
        }
        let _ = write!(all, "{}# {}\n{text}\n", if all.is_empty() { "" } else { "\n" }, server.name);
    }
    if all.len() > limits::INSTRUCTIONS_BYTES_MAX {
        let end =
            (0..=limits::INSTRUCTIONS_BYTES_MAX).rev().find(|at| all.is_char_boundary(*at)).unwrap_or(0);
        all.truncate(end);
    }
    if all.is_empty() { String::new() } else { format!(",\"instructions\":{}", quoted(&all)) }
}

/// The result of `server/discover`. `freshness`: `ttlMs` and `cacheScope` as members.
pub fn discovered(scene: &Scene<'_>, freshness: &str) -> String {
    let older = served().rev().fold(String::new(), |all, one| all + ",\"" + one + "\"");
    format!(
        r#"{{"resultType":"complete","supportedVersions":["{REVISION_MODERN}"{older}],"capabilities":{}{},{freshness},"_meta":{{"io.modelcontextprotocol/serverInfo":{}}}}}"#,
        capabilities_text(capabilities(scene)),
        instructions(scene),
        info(scene),
    )
}

/// The older revisions that a hub serves: not the one whose servers must take batches.
fn served() -> impl DoubleEndedIterator<Item = &'static str> {
    REVISIONS_LEGACY.into_iter().filter(|known| *known != REVISION_WITH_BATCHES)
}

/// The revision that a client of the older ones is served in: the one that it asks for, where there is such a one.
pub fn agreed(wanted: &str) -> &'static str {
    let newest = REVISIONS_LEGACY[REVISIONS_LEGACY.len() - 1];
    served().find(|known| *known == wanted).unwrap_or(newest)
}

/// The result of `initialize`.
pub fn initialized(scene: &Scene<'_>, revision: &str) -> String {
    format!(
        r#"{{"protocolVersion":"{revision}","capabilities":{},"serverInfo":{}{}}}"#,
        capabilities_text(capabilities(scene)),
        info(scene),
        instructions(scene),
    )
}
