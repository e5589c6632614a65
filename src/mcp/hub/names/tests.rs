//! Names at hubs, there and back.
//!
//! Not here: lists.

use super::*;
use crate::mcp::hub::stage::Stage;
use crate::mcp::hub::stage::tools;
use serde_json::json;

const TWO: &str =
    "mcpServers:\n  a: {url: \"http://127.0.0.1:1/mcp\"}\n  b_c: {url: \"http://127.0.0.1:2/mcp\"}\n";

fn found(stage: &Stage, hub: &str, named: Named, name: &str) -> Option<(ServerId, String)> {
    stage.with(hub, |scene| find(scene, named, name).map(|found| (found.server, found.name.into_owned())))
}

#[test]
fn a_name_at_the_hub_of_all_begins_with_its_server() {
    let stage = Stage::new(TWO, &[json!(null), json!(null)]);
    for (named, name, expected) in [
        (Named::Tool, "a__x", Some((0, "x"))),
        (Named::Prompt, "a__x__y", Some((0, "x__y"))),
        (Named::Tool, "b_c___x", Some((1, "_x"))),
        (Named::Tool, "a__", Some((0, ""))),
        (Named::Tool, "x", None),
        (Named::Tool, "A__x", None),
        (Named::Tool, "__x", None),
        (Named::Tool, "c__x", None),
        (Named::Resource, "b.c+file:///x+y", Some((1, "file:///x+y"))),
        (Named::Resource, "B.C+x:y", Some((1, "x:y"))),
        (Named::Resource, "ui://b.c/page", Some((1, "ui://page"))),
        (Named::Resource, "file:///x", None),
        (Named::Resource, "z+x:y", None),
    ] {
        let expected = expected.map(|(server, name)| (server, name.to_owned()));
        assert_eq!(found(&stage, "", named, name), expected, "{name}");
    }
}

#[test]
fn one_server_keeps_its_names() {
    let stage = Stage::new(TWO, &[json!(null), json!(null)]);
    for name in ["x", "a__x", ""] {
        assert_eq!(found(&stage, "b_c", Named::Tool, name), Some((1, name.to_owned())));
        assert_eq!(found(&stage, "b_c", Named::Resource, name), Some((1, name.to_owned())));
    }
}

#[test]
fn what_is_shown_is_found() {
    let stage = Stage::new(TWO, &[json!([tools(&["x", "a__x"])]), json!([tools(&["x"])])]);
    for hub in ["", "a", "b_c"] {
        stage.with(hub, |scene| {
            for id in &scene.hub.members {
                let server = &scene.servers[usize::from(*id)];
                for kind in Kind::ALL {
                    for name in ["x", "a__x", "_x", "u:v"] {
                        let shown = shown(scene.hub, server, *id, kind, name).expect("everything is shown");
                        let found = find(scene, kind.named(), &shown).expect("it is found");
                        assert_eq!((found.server, &*found.name), (*id, name), "{shown}");
                    }
                }
            }
        });
    }
}
