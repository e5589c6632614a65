//! `overrides` of servers and of virtual servers: whether they name tools, and what is shown in the end.
//!
//! Not here: what single values look like (`read_hub`), and which tools a virtual server has (`compile_hub`).

use crate::config::file_hub::ToolOverride;
use crate::config::hub::Override;
use crate::config::limits;
use crate::config::plan::ServerId;
use crate::config::problem::Place;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use ahash::HashMap;

/// What stands between a server's name and a tool's at `/mcp`.
const SEPARATOR: &str = "__";

/// Those of one server.
pub fn of_server(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    id: ServerId,
    written: &[(Located<String>, ToolOverride)],
) -> Vec<Override> {
    let mut places: HashMap<Box<str>, (&str, Place)> = HashMap::default();
    let mut made = Vec::new();
    for (tool, change) in written {
        if !names_one(reader, tool, &tool.value) {
            continue;
        }
        let one = changed(reader, id, &tool.value, change);
        let shown = one.name.as_deref().unwrap_or(&tool.value);
        let place = change.name.as_ref().map_or(tool.place, |name| name.place);
        if let Some((other, Place { line, column })) = places.insert(shown.into(), (&tool.value, place)) {
            let what = format!("{} and {} would have the same name", quoted(other), quoted(&tool.value));
            reader.problem(place, what, format!("The first one is at {line}:{column}; rename one."));
        }
        check_length(reader, place, name.value.len() + SEPARATOR.len() + shown.len(), "at `/mcp`");
        made.push(one);
    }
    made
}

/// The change to one tool, as far as it can be used.
pub fn changed(reader: &mut Reader<'_>, server: ServerId, tool: &str, written: &ToolOverride) -> Override {
    if let Some(name) = written.name.as_ref().filter(|name| !is_tool_name(&name.value)) {
        let cure = format!("It has 1 to {} letters, digits and `_-.`.", limits::TOOL_NAME_BYTES_MAX);
        reader.problem(name.place, format!("{} is no name of a tool", name.shown()), cure);
    }
    if let Some(text) = written.description.as_ref()
        && text.value.len() > limits::DESCRIPTION_BYTES_MAX
    {
        let what = format!("a description of more than {} bytes", limits::DESCRIPTION_BYTES_MAX);
        reader.problem(text.place, what, "Shorten it: every agent reads it.");
    }
    let text = |text: &Option<Located<String>>| text.as_ref().map(|text| text.value.as_str().into());
    let (name, description) = (text(&written.name), text(&written.description));
    Override { server, tool: tool.into(), name, description }
}

/// MCP 2025-11-25, tools, "Tool Names". Servers may break this rule, the gateway does not.
fn is_tool_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=limits::TOOL_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether `tool`, a part of `text`, names exactly one.
pub fn names_one(reader: &mut Reader<'_>, text: &Located<String>, tool: &str) -> bool {
    let exact = !tool.is_empty() && !tool.contains('*');
    if !exact {
        let what = format!("{} does not name one tool", text.shown());
        reader.problem(text.place, what, "Write an override for each tool, by its exact name.");
    }
    exact
}

/// `bytes` of the name under which a tool is shown `place_of_use`.
pub fn check_length(reader: &mut Reader<'_>, place: Place, bytes: usize, place_of_use: &str) {
    let (most, common) = (limits::TOOL_NAME_BYTES_MAX, limits::TOOL_NAME_BYTES_COMMON);
    let what = format!("the name of this tool {place_of_use} has {bytes} characters");
    if bytes > most {
        reader.problem(
            place,
            what,
            format!("Shorten it: {most} are allowed, and many clients take {common}."),
        );
    } else if bytes > common {
        reader.warn(place, what, format!("Shorten it: many clients take {common} and no more."));
    }
}
