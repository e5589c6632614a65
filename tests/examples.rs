//! Every file of `examples/` is what it says: the configs load, the schema is the one that
//! `ringgate schema` prints.

use ringgate::config;
use std::path::Path;
use std::path::PathBuf;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(examples().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_example_loads() {
    let mut configs = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.as_str() {
            "ca.pem" | "config.schema.json" => continue,
            "keys.yaml" => {
                let ring = config::keys::read(&examples().join(&name)).unwrap();
                assert_eq!(ring.by_hash.len(), 1);
                continue;
            }
            _ => {}
        }
        configs += 1;
        let text = read(&name);
        let environment = |variable: &str| (variable == "GITHUB_TOKEN").then(|| "token".to_owned());
        let loaded = config::load_with(&text, &name, &examples(), &environment);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!loaded.plan.servers.is_empty(), "{name} has no server");
        // Only what shows members of clients' files, or faults, is warned of.
        let warned = ["every-key.yaml", "mcp.json"].contains(&&*name);
        assert!(warned || loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
        if name.ends_with(".yaml") {
            let first = text.lines().next().unwrap_or("");
            assert_eq!(first, "# yaml-language-server: $schema=config.schema.json", "{name}");
        }
    }
    assert!(configs >= 5, "only {configs} configs were found");
}

#[test]
fn the_schema_beside_the_examples_is_the_one_that_is_printed() {
    let kept: serde_json::Value = serde_json::from_str(&read("config.schema.json")).unwrap();
    let printed = config::schema::schema();
    assert!(kept == printed, "write it again: cargo run -- schema > examples/config.schema.json");
}

#[test]
fn files_that_a_config_refers_to_are_watched() {
    let loaded =
        config::load(&examples().join("tls-upstream.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.watched, [examples().join("ca.pem")]);
    let internal = &loaded.plan.servers[1];
    assert!(internal.tls.is_some());
    assert!(internal.instances.iter().all(|instance| instance.tls_name.is_some()));
}
