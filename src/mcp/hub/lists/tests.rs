//! Lists of hubs: order, bytes, pages, and what is not known.
//!
//! Not here: who may see an entry.

use super::*;
use crate::mcp::hub::stage::Stage;
use crate::mcp::hub::stage::tools;
use serde_json::Value;
use serde_json::json;

const TWO: &str =
    "mcpServers:\n  a: {url: \"http://127.0.0.1:1/mcp\"}\n  b_c: {url: \"http://127.0.0.1:2/mcp\"}\n";

fn all(stage: &Stage, hub: &str, kind: Kind) -> Vec<Value> {
    stage.with(hub, |scene| {
        let pages = pages(scene, kind, &mut |_| true);
        let of = |page: &String| -> Vec<Value> { serde_json::from_str(&format!("[{page}]")).expect("JSON") };
        pages.iter().flat_map(of).collect()
    })
}

fn names(entries: &[Value], member: &str) -> Vec<String> {
    entries.iter().map(|entry| entry[member].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists_stand_in_the_order_of_servers_and_keep_every_byte_but_names() {
    let resource = json!({"resources": [{"uri": "file:///x", "name": "x", "size": 1}]});
    let template = json!({"resourceTemplates": [{"uriTemplate": "t://{id}", "name": "t"}]});
    let lists = [
        json!([{"tools": [{"name": "z", "n": 9_007_199_254_740_993_u64}, {"name": "y"}]}, resource]),
        json!([tools(&["y"]), template, {"prompts": [{"name": "p"}]}]),
    ];
    let stage = Stage::new(TWO, &lists);
    let tools = all(&stage, "", Kind::Tool);
    assert_eq!(names(&tools, "name"), ["a__z", "a__y", "b_c__y"]);
    assert_eq!(tools[0]["n"], json!(9_007_199_254_740_993_u64));
    assert_eq!(names(&all(&stage, "", Kind::Prompt), "name"), ["b_c__p"]);
    assert_eq!(names(&all(&stage, "", Kind::Resource), "uri"), ["a+file:///x"]);
    assert_eq!(names(&all(&stage, "", Kind::Template), "uriTemplate"), ["b.c+t://{id}"]);
    assert_eq!(names(&all(&stage, "a", Kind::Tool), "name"), ["z", "y"]);
    assert_eq!(all(&stage, "a", Kind::Prompt), Vec::<Value>::new());
}

#[test]
fn what_is_not_known_is_not_shown() {
    let stage = Stage::new(TWO, &[json!(null), json!([tools(&["y"])])]);
    assert_eq!(names(&all(&stage, "", Kind::Tool), "name"), ["b_c__y"]);
    assert_eq!(names(&all(&stage, "", Kind::Prompt), "name"), Vec::<String>::new());
}

#[test]
fn pages_have_a_bound() {
    let many: Vec<String> = (0..limits::LIST_PAGE_ENTRIES * 2 + 1).map(|at| format!("t{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let stage = Stage::new(TWO, &[json!([tools(&many)]), json!(null)]);
    let counts = stage.with("", |scene| {
        pages(scene, Kind::Tool, &mut |_| true)
            .iter()
            .map(|page| page.matches("\"name\"").count())
            .collect::<Vec<_>>()
    });
    assert_eq!(counts, [limits::LIST_PAGE_ENTRIES, limits::LIST_PAGE_ENTRIES, 1]);
    let large = "x".repeat(limits::LIST_PAGE_BYTES);
    let lists = json!([{"tools": [{"name": "a", "description": large}, {"name": "b"}]}]);
    let stage = Stage::new(TWO, &[lists, json!(null)]);
    assert_eq!(stage.with("", |scene| pages(scene, Kind::Tool, &mut |_| true).len()), 2);
    assert_eq!(stage.with("b_c", |scene| pages(scene, Kind::Tool, &mut |_| true)), [""]);
}
