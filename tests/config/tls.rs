//! What the config says about TLS, and what is in the files that it names.
//!
//! Not here: handshakes (tests/exchange/tls.rs).

use crate::check;
use crate::load;
use crate::problems;
use crate::server;
use crate::with;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::KeyPair;
use ringgate::config::Loaded;
use ringgate::config::identity::Mtls;
use ringgate::config::identity::MtlsPrincipal;
use ringgate::config::identity::MtlsRoles;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder with certificates: `good` and `other` with their keys, `old`, which has expired, with its key, and `ca`.
struct Files(PathBuf);

#[expect(clippy::unwrap_used, reason = "a test without its files fails")]
impl Files {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringgate-config-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, year) in [("good", 2099), ("other", 2099), ("old", 2020)] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            std::fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem())
                .unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        std::fs::write(
            folder.join("broken.pem"),
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        std::fs::write(folder.join("broken.crl"), "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n")
            .unwrap();
        std::fs::write(folder.join("empty"), "").unwrap();
        Self(folder)
    }

    /// `@name` as the path of that file.
    fn place(&self, text: &str) -> String {
        text.replace('@', &format!("{}/", self.0.display()))
    }

    fn listener(&self, tls: &str) -> String {
        with(&self.place(&format!("listen: {{address: \"127.0.0.1:1\", tls: {tls}}}")))
    }

    fn upstream(&self, tls: &str) -> String {
        self.place(&server(&format!("url: \"https://localhost:1/\", tls: {tls}")))
    }

    fn load(&self, tls: &str) -> Loaded {
        load(&self.listener(tls)).unwrap_or_else(|problems| panic!("{tls}\n{problems}"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = "cert: @good.pem, key: @good.key";

#[test]
fn a_listener_with_tls() {
    let files = Files::new("listener");
    let more = "certificates: [{cert: @other.pem, key: @other.key}], clientCa: @other.pem";
    let loaded = files.load(&format!("{{{GOOD}, {more}}}"));
    let tls = loaded.plan.listeners[0].tls.as_ref().expect("TLS");
    assert_eq!(tls.config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    let watched: Vec<_> = loaded.watched.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(watched, ["good.pem", "good.key", "other.pem", "other.key"]);
    assert_eq!(loaded.warnings, []);
    assert!(load(&with("listen: 127.0.0.1:1")).unwrap().plan.listeners[0].tls.is_none());
    // Nothing of a key may reach a log.
    assert_eq!(format!("{tls:?}"), "ListenerTls { .. }");
}

#[test]
fn every_mistake_has_its_place() {
    let files = Files::new("mistakes");
    for (tls, what) in [
        ("»{}", "there is no certificate"),
        ("»{cert: @good.pem}", "`cert` without `key`"),
        ("»{key: @good.key}", "`key` without `cert`"),
        ("»7", "expected keys and values"),
        ("{cert: »@none.pem, key: @good.key}", "`cert` cannot be used: there is no such file"),
        ("{cert: @good.pem, key: »@none.key}", "`key` cannot be used: there is no such file"),
        ("{cert: »@empty, key: @good.key}", "`cert` cannot be used: there is no certificate in it"),
        ("{cert: »@good.key, key: @good.key}", "there is no certificate in it"),
        ("{cert: »@broken.pem, key: @good.key}", "its first certificate cannot be read"),
        ("{cert: @good.pem, key: »@good.pem}", "`key` cannot be used: there is no private key in it"),
        ("{cert: @good.pem, key: »@other.key}", "it is not the key of the certificate"),
        (
            "{cert: @good.pem, key: @good.key, clientCa: »@empty}",
            "`clientCa` cannot be used: there is no certificate",
        ),
        (
            "{cert: @good.pem, key: @good.key, clientCa: »@none}",
            "`clientCa` cannot be used: there is no such file",
        ),
        ("{cert: @good.pem, key: @good.key, crl: »@broken.crl}", "`crl` without `clientCa` has no effect"),
        ("{cert: @good.pem, key: @good.key, clientCa: @good.pem, crl: »@empty}", "there is no list in it"),
        (
            "{cert: @good.pem, key: @good.key, clientCa: @good.pem, crl: »@broken.crl}",
            "a list in it cannot be read",
        ),
        ("{cert: @good.pem, key: @good.key, »clientCA: @good.pem}", "Did you mean `clientCa`?"),
        ("{cert: @good.pem, key: @good.key, certificates: [»{}]}", "there is no certificate"),
        (
            "{cert: @good.pem, key: @good.key, certificates: [{cert: @good.pem, key: »@other.key}]}",
            "it is not the key",
        ),
        (
            "{cert: @good.pem, key: @good.key, certificates: [{cert: @good.pem, key: @good.key, »x: 1}]}",
            "not a key of",
        ),
    ] {
        check(&files.listener(tls), what);
    }
    for (tls, what) in [
        ("»{cert: @good.pem}", "`cert` without `key`"),
        ("{cert: »@none, key: @good.key}", "`cert` cannot be used: there is no such file"),
        ("{cert: @good.pem, key: »@other.key}", "it is not the key of the certificate"),
        ("{ca: »@empty, cert: @good.pem, key: @good.key}", "`ca` cannot be used"),
    ] {
        check(&files.upstream(tls), what);
    }
    // All of one listener at once.
    let all = files.listener(
        "{cert: @none, key: @none, certificates: [{cert: @empty, key: @good.key}], clientCa: @none}",
    );
    assert_eq!(problems(&all).len(), 4);
}

/// It may be renewed any moment: a gateway that does not start would be worse.
#[test]
fn an_expired_certificate_is_a_warning() {
    let files = Files::new("expired");
    let warnings = files.load("{cert: @old.pem, key: @old.key}").warnings;
    assert_eq!(warnings.len(), 1);
    let shown = warnings[0].to_string();
    assert!(shown.contains("has expired. Renew it"), "{shown}");
    assert!(
        load(&files.upstream("{cert: @good.pem, key: @good.key}")).unwrap().plan.servers[0].tls.is_some()
    );
}

#[test]
fn client_certificates_are_an_identity() {
    let files = Files::new("mtls");
    let listener = |more: &str| files.listener(&format!("{{{GOOD}, {more}}}"));
    for (written, principal) in [("sanUri", MtlsPrincipal::SanUri), ("subject", MtlsPrincipal::Subject)] {
        let text =
            listener("clientCa: @good.pem") + &format!("identity: {{mtls: {{principal: {written}}}}}\n");
        let identity = load(&text).unwrap().plan.identity;
        assert_eq!(identity.mtls, Some(Mtls { principal, roles: None, trust_domains: vec![] }));
        // Where any identity is configured, nobody is anonymous.
        assert_eq!(identity.anonymous, None);
    }
    let mtls = "identity: {mtls: {principal: sanUri}}\n";
    check(&(with("") + &mtls.replace("mtls: ", "mtls: »")), "without a listener that asks for certificates");
    let plain = files.listener(&format!("{{{GOOD}}}"));
    check(&(plain + &mtls.replace("mtls: ", "mtls: »")), "without a listener that asks for certificates");
    let asking = listener("clientCa: @good.pem");
    check(
        &(asking.clone() + "identity: {mtls: {principal: sanUri, »failureMode: x}}\n"),
        "not a key of `identity.mtls`",
    );
    check(&(asking.clone() + "identity: {mtls: »{}}\n"), "`identity.mtls` has no `principal`");
    check(&(asking.clone() + "identity: {mtls: {principal: »san}}\n"), "It is one of: sanUri, subject.");
    let with_roles =
        |word| asking.clone() + &format!("identity: {{mtls: {{principal: subject, roles: {word}}}}}\n");
    let roles = load(&with_roles("ou")).unwrap().plan.identity.mtls.unwrap().roles;
    assert_eq!(roles, Some(MtlsRoles::Units));
    check(&with_roles("»groups"), "It is one of: ou.");
    let domains = |list: &str| {
        asking.clone() + &format!("identity: {{mtls: {{principal: sanUri, trustDomains: {list}}}}}\n")
    };
    let named = load(&domains("[corp.example, a-b_1]")).unwrap().plan.identity.mtls.unwrap();
    assert_eq!(named.trust_domains, ["corp.example".into(), Box::from("a-b_1")]);
    for bad in ["[»\"spiffe://corp\"]", "[corp, »Corp]", "[»\"corp/\"]", "[»\"*\"]"] {
        check(&domains(bad), "is no trust domain");
    }
    check(&domains(&format!("[»{}]", "a".repeat(256))), "is no trust domain");
    assert!(load(&domains(&format!("[{}]", "a".repeat(255)))).is_ok());
    check(&domains("»[]"), "the list is empty");
    check(&domains("[»corp]").replace("sanUri", "subject"), "a subject is of no trust domain");
    // Beyond loopback it is an identity like any other.
    let beyond = listener("clientCa: @good.pem").replace("127.0.0.1", "0.0.0.0");
    assert!(load(&(beyond + mtls)).is_ok());
}

/// A reload keeps the sessions of a listener of which nothing changed, and no others.
#[test]
fn unchanged_listeners_keep_their_sessions() {
    let files = Files::new("kept");
    let plan = |tls: &str, more: &str| {
        load(&(files.listener(tls) + more)).unwrap_or_else(|problems| panic!("{tls}\n{problems}")).plan
    };
    let before = plan(&format!("{{{GOOD}}}"), "");
    let tls_of = |plan: &ringgate::config::plan::Plan| plan.listeners[0].tls.clone();
    let kept = |mut after: ringgate::config::plan::Plan| {
        let same = after.keep_listeners(&before);
        let tls = tls_of(&after).zip(tls_of(&before));
        (same, tls.is_some_and(|(new, old)| Arc::ptr_eq(&new, &old)))
    };
    assert_eq!(kept(plan(&format!("{{{GOOD}}}"), "http: {maxHead: 16KiB}\n")), (true, true));
    assert_eq!(kept(plan("{cert: @other.pem, key: @other.key}", "")), (true, false));
    assert_eq!(kept(plan(&format!("{{{GOOD}, clientCa: @good.pem}}"), "")), (true, false));
    assert_eq!(
        kept(plan(&format!("{{{GOOD}, certificates: [{{cert: @other.pem, key: @other.key}}]}}"), "")),
        (true, false)
    );
    // TLS comes and goes without a restart; another address does not.
    let mut plain = load(&with("listen: 127.0.0.1:1")).unwrap().plan;
    assert!(plain.keep_listeners(&before) && tls_of(&plain).is_none());
    let mut moved =
        load(&files.listener("{cert: @other.pem, key: @other.key}").replace("127.0.0.1:1", "127.0.0.1:2"))
            .unwrap()
            .plan;
    assert!(!moved.keep_listeners(&before));
    assert_eq!(moved.listeners[0].address, before.listeners[0].address);
    assert!(tls_of(&moved).zip(tls_of(&before)).is_some_and(|(new, old)| Arc::ptr_eq(&new, &old)));
}
