//! Every file of `examples/` is what it says: the configs load, the schema is the one that
//! `ringgate schema` prints.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SerialNumber;
use ringgate::config;
use std::path::Path;
use std::path::PathBuf;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(examples().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands beside a config: the files of `examples/`, and certificates, which are made at run time so that none
/// expires in the repository and no private key is in it.
struct Beside(PathBuf);

#[expect(clippy::unwrap_used, reason = "a test without its files fails")]
impl Beside {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("ringgate-examples-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(examples()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        for name in ["gw", "other", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(folder.join("clients.pem"), authority.pem()).unwrap();
        std::fs::write(folder.join("clients.crl"), list.signed_by(&authority).unwrap().pem().unwrap())
            .unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_example_loads() {
    let mut configs = 0;
    let beside = Beside::new();
    for entry in std::fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.as_str() {
            "bundle.json" | "ca.pem" | "config.schema.json" => continue,
            "keys.yaml" => {
                let ring = config::keys::read(&examples().join(&name)).unwrap();
                assert_eq!(ring.by_hash.len(), 1);
                continue;
            }
            _ => {}
        }
        configs += 1;
        let text = read(&name);
        let known = ["GITHUB_TOKEN", "IDP_SECRET", "SEAL_KEY"];
        let environment = |variable: &str| known.contains(&variable).then(|| "0123456789".repeat(4));
        let loaded = config::load_with(&text, &name, beside.path(), &environment);
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
