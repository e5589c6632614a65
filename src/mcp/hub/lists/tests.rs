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

/// Whatever is picked, renamed and had: a name is shown by at most one tool, a call of it reaches that one, and no other
/// name reaches anything that a server is known to have.
#[test]
fn what_is_listed_under_a_name_is_what_a_call_of_it_reaches() {
    let picks = ["a.*", "b.*", "a.x", "b.x", "a.y", "b.y", "*.x"];
    let renamed = ["", "overrides: {x: {name: y}}"];
    let own = ["", ", overrides: {b.y: {name: x}}", ", overrides: {a.x: {name: z}, b.x: {name: y}}"];
    let subsets: [&[&str]; 4] = [&[], &["x"], &["y"], &["x", "y"]];
    let mut hubs = 0;
    for first in picks {
        for second in picks.into_iter().filter(|second| *second != first) {
            for below in renamed {
                for above in own {
                    let yaml = format!(
                        "mcpServers:\n  a: {{url: \"http://127.0.0.1:1/\", {below}}}\n  b: {{url: \"http://127.0.0.1:2/\"}}\n\
                         virtualServers: {{v: {{tools: [\"{first}\", \"{second}\"]{above}}}}}"
                    );
                    let Some(mut stage) = Stage::of(&yaml, &[]) else { continue };
                    hubs += 1;
                    let unknown = (json!(null), subsets[3]);
                    let known = subsets.map(|has| (json!([tools(has)]), has));
                    for (of_a, has_a) in known.iter().chain([&unknown]) {
                        for (of_b, has_b) in &known {
                            stage.list(&[of_a.clone(), of_b.clone()]);
                            stage.with("v", |scene| agree(scene, [has_a, has_b], &yaml));
                        }
                    }
                }
            }
        }
    }
    assert!(hubs > 50, "{hubs} of the files are taken");
}

fn agree(scene: &Scene<'_>, has: [&[&str]; 2], yaml: &str) {
    let mut listed: HashMap<String, (ServerId, String)> = HashMap::default();
    each(scene, Kind::Tool, &mut |entry, shown| {
        let before = listed.insert(shown.to_owned(), (entry.id, entry.item.name.to_string()));
        assert_eq!(before, None, "{shown} stands there twice: {yaml} {has:?}");
    });
    for name in ["x", "y", "z"] {
        let found = names::find(scene, Kind::Tool.named(), name);
        let found = found.map(|found| (found.server, found.name.into_owned()));
        match listed.get(name) {
            Some(shown) => assert_eq!(found.as_ref(), Some(shown), "{name}: {yaml} {has:?}"),
            None => {
                let reached = found.filter(|(server, own)| {
                    (scene.catalogue)(*server).is_some() && has[usize::from(*server)].contains(&own.as_str())
                });
                assert_eq!(reached, None, "{name}: {yaml} {has:?}");
            }
        }
    }
}
