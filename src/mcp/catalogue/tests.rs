//! Pages of lists, and what a catalogue says of them.
//!
//! Not here: what a server says about itself (`about`).

use super::*;
use serde_json::json;

#[test]
fn what_a_server_lists_is_all_that_it_has_of_a_kind() {
    let catalogue = Catalogue {
        tools: [("a".into(), Annotations::default())].into_iter().collect(),
        ..Catalogue::default()
    };
    for (named, name, expected) in [
        (Named::Tool, "a", true),
        (Named::Tool, "A", false),
        (Named::Tool, "", false),
        (Named::Prompt, "b", true),
        (Named::Resource, "b", true),
    ] {
        assert_eq!(catalogue.may_have(&Target { named, name: name.into() }), expected, "{named:?} {name}");
    }
}

fn page(result: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string().into_bytes()
}

#[test]
fn pages_add_up_and_hints_have_their_defaults() {
    let mut catalogue = Catalogue::default();
    let first = page(&json!({"nextCursor": "", "tools": [
        {"name": "a", "inputSchema": {}},
        {"name": "b", "annotations": {"readOnlyHint": true, "title": "B", "destructiveHint": false}},
    ]}));
    assert_eq!(catalogue.add(&first), Ok(Some(String::new())), "an empty cursor is one");
    let second = page(&json!({"tools": [
        {"name": "c", "annotations": {"idempotentHint": true, "openWorldHint": false}},
        {"name": "d", "annotations": {"idempotentHint": "true", "destructiveHint": null}},
        {"name": "e", "annotations": null},
    ]}));
    assert_eq!(catalogue.add(&second), Ok(None));
    assert_eq!(catalogue.add(&page(&json!({"prompts": [{"name": "p"}, {"name": "q"}]}))), Ok(None));
    let usual = Annotations::default();
    for (name, expected) in [
        ("a", usual),
        ("b", Annotations { read_only: true, destructive: false, ..usual }),
        ("c", Annotations { idempotent: true, open_world: false, ..usual }),
        ("d", usual),
        ("e", usual),
    ] {
        assert_eq!(catalogue.tools.get(name), Some(&expected), "{name}");
    }
    assert_eq!((catalogue.tools.len(), catalogue.prompts.len()), (5, 2));
    assert!(catalogue.prompts.contains("p"));
}

#[test]
fn what_is_no_list_is_an_error() {
    for message in [
        b"".to_vec(),
        b"[]".to_vec(),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}).to_string().into(),
        page(&json!([])),
        page(&json!({"tools": {}})),
        page(&json!({"tools": [{"title": "nameless"}]})),
        page(&json!({"tools": [], "nextCursor": 2})),
    ] {
        let shown = String::from_utf8_lossy(&message).into_owned();
        assert!(Catalogue::default().add(&message).is_err(), "{shown}");
    }
}

#[test]
fn names_have_a_bound() {
    let tools = |count: usize| {
        let names = (0..count).map(|number| json!({"name": format!("t{number}")}));
        page(&json!({"tools": names.collect::<Vec<_>>()}))
    };
    assert!(Catalogue::default().add(&tools(limits::CATALOGUE_NAMES_MAX)).is_ok());
    assert!(Catalogue::default().add(&tools(limits::CATALOGUE_NAMES_MAX + 1)).is_err());
}
