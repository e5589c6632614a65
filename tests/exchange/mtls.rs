//! Certificates of clients, and of the gateway as a client.
//!
//! Not here: who may do what, and TLS without them (tls).

use crate::support::Run;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::AUDIENCE;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::tls::Authority;
use crate::support::tls::GATEWAY;
use crate::support::tls::Issued;
use crate::support::tls::Secure;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::tls::resumes;

const AGENT: &str = "spiffe://corp/agent/7";
const VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// A gateway that lets in whoever has a certificate of `agents`, without those that `revoked` names.
fn gateway(run: Run, up: &Upstream, own: &Authority, agents: &Authority, revoked: &[&Issued]) -> Gateway {
    let builder = run.gateway();
    builder.folder.file("agents.pem", &agents.pem());
    builder.folder.file("agents.crl", &agents.revokes(revoked));
    let builder = builder.top("identity: {mtls: {principal: sanUri}}");
    let log = builder.folder.path().join("calls.jsonl");
    builder.call_log(&log).tls(own, ", clientCa: agents.pem, crl: agents.crl").to("up", up).run()
}

/// A call by a client that shows that certificate.
#[track_caller]
fn is_served(gw: &Gateway, secure: &Secure) {
    let mut call = gw.call("up", "echo");
    call.via = Some(secure.clone());
    assert_eq!(call.send().status, 200);
}

/// The alert that such a client gets instead.
#[track_caller]
fn is_alerted(gw: &Gateway, secure: &Secure, alerts: &[&str]) {
    let request = gw.modern("up", "echo").raw().bytes();
    let error = secure.try_talk(gw.address, &request).map(drop).unwrap_err().to_string();
    assert!(alerts.iter().any(|alert| error.contains(alert)), "{alerts:?}: {error}");
}

/// Feature: no certificate, or one of another authority: a TLS alert, in both versions; nothing passes.
#[test]
fn mtls() {
    everywhere(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let gw = gateway(run, &up, &own, &agents, &[]);
        for versions in VERSIONS {
            is_alerted(
                &gw,
                &own.client_with(GATEWAY, versions, None),
                &["CertificateRequired", "HandshakeFailure"],
            );
            let stranger = Authority::new().uris(&[AGENT]);
            let unknown = ["UnknownCA", "DecryptError", "BadCertificate"];
            let expired = agents.expired(AGENT);
            is_alerted(&gw, &own.client_with(GATEWAY, versions, Some(&expired)), &["CertificateExpired"]);
            is_alerted(&gw, &own.client_with(GATEWAY, versions, Some(&stranger)), &unknown);
        }
        assert_eq!(up.connections(), 0);
        for versions in VERSIONS {
            is_served(&gw, &own.client_with(GATEWAY, versions, Some(&agents.uris(&[AGENT]))));
        }
        let log =
            || std::fs::read_to_string(gw.builder.folder.path().join("calls.jsonl")).unwrap_or_default();
        let named = format!("\"principal\":\"{AGENT}\"");
        eventually("the calls are its owner's", || log().matches(&named).count() >= 2);
        // A certificate that names two, or nobody, is let in by TLS and is nobody here.
        for uris in [&[AGENT, "spiffe://corp/agent/8"][..], &[]] {
            let mut call = gw.modern("up", "echo");
            call.via = Some(own.agent(&agents.uris(uris)));
            call.send().refused(401, "unauthenticated");
        }
    });
}

/// Feature: a revoked certificate is a TLS alert, from the moment at which the list says so; a resumed session is no
/// way round.
#[test]
fn mtls_revoked() {
    on_every_driver(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let (good, bad, later) = (agents.uris(&[AGENT]), agents.uris(&[AGENT]), agents.uris(&[AGENT]));
        let up = upstream().tool("echo").run();
        let gw = gateway(run, &up, &own, &agents, &[&bad]);
        let clients =
            |issued: &Issued| VERSIONS.map(|versions| own.client_with(GATEWAY, versions, Some(issued)));
        for secure in clients(&bad) {
            is_alerted(&gw, &secure, &["CertificateRevoked"]);
        }
        let (kept, ended) = (clients(&good), clients(&later));
        for secure in kept.iter().chain(&ended) {
            assert!(!resumes(&gw, secure));
            assert!(resumes(&gw, secure), "{secure:?}");
        }
        gw.builder.folder.file("agents.crl", &agents.revokes(&[&bad, &later]));
        eventually("the list is read", || gw.reloads("ok") >= 1.0);
        for secure in &ended {
            is_alerted(&gw, secure, &["CertificateRevoked"]);
        }
        for secure in &kept {
            assert!(!resumes(&gw, secure), "a session from before the list was resumed");
            assert!(resumes(&gw, secure));
        }
    });
}

/// A session of a listener that asks for nothing is none of one that asks for a certificate.
#[test]
fn sessions_do_not_pass_between_listeners() {
    on_every_driver(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let builder = run.gateway().tls(&own, "").to("up", &up);
        builder.folder.file("agents.pem", &agents.pem());
        let asking = "{address: \"127.0.0.1:0\", tls: {cert: gw.pem, key: gw.key, clientCa: agents.pem}}";
        let gw = builder.listen_too(asking).run();
        eventually("both listen", || gw.addresses().len() == 2);
        for versions in VERSIONS {
            let secure = own.client_with(GATEWAY, versions, None);
            assert!(!resumes(&gw, &secure));
            assert!(resumes(&gw, &secure));
            let request = gw.modern("up", "echo").raw().bytes();
            let error = secure.try_talk(gw.addresses()[1], &request).map(drop).unwrap_err().to_string();
            let alerts = ["CertificateRequired", "HandshakeFailure"];
            assert!(alerts.iter().any(|alert| error.contains(alert)), "{error}");
        }
    });
}

/// Feature: the upstream takes our certificate and no other, and a renewed one without a restart.
#[test]
fn mtls_upstream() {
    on_every_driver(|run| {
        let corp = Authority::new();
        let up = upstream().tool("echo").tls(corp.asking_server("mcp.example")).run();
        let builder = run.gateway();
        builder.folder.file("corp.pem", &corp.pem());
        builder.certificate("ours", &corp.uris(&["spiffe://corp/gateway"]));
        builder.certificate("theirs", &Authority::new().uris(&["spiffe://corp/gateway"]));
        let name = "serverName: mcp.example";
        let gw = builder
            // It fails until the new certificate is there, which must not open its breaker.
            .with(
                "up",
                &up,
                &[&format!("tls: {{ca: corp.pem, cert: ours.pem, key: ours.key, {name}}}"), "breaker: off"],
            )
            .with("none", &up, &[&format!("tls: {{ca: corp.pem, {name}}}")])
            .with(
                "wrong",
                &up,
                &[&format!("tls: {{ca: corp.pem, cert: theirs.pem, key: theirs.key, {name}}}")],
            )
            .run();
        let call = || gw.modern("up", "echo").send();
        assert_eq!(call().status, 200);
        for server in ["none", "wrong"] {
            let call = gw.modern(server, "echo");
            let token = call.token.clone();
            let answer = call.send();
            assert!([502, 503].contains(&answer.status), "{server}: {answer:?}");
            assert_eq!(up.with(&token).len(), 0, "{server}");
        }
        // A certificate that the upstream refuses, and then one that it takes.
        gw.builder.certificate("ours", &Authority::new().uris(&["spiffe://corp/gateway"]));
        eventually("the new one is shown", || [502, 503].contains(&call().status));
        gw.builder.certificate("ours", &corp.uris(&["spiffe://corp/gateway"]));
        eventually("the renewed one is shown", || call().status == 200);
    });
}

/// Feature: the units of a certificate are roles; another certificate of the same principal has its own.
#[test]
fn rbac_by_certificate() {
    everywhere(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let up = upstream().tool("read_ticket").run();
        let builder = run.gateway().workers(1).tls(&own, ", clientCa: agents.pem").to("crm", &up);
        builder.folder.file("agents.pem", &agents.pem());
        let gw = builder
            .top("identity: {mtls: {principal: sanUri, roles: ou}}")
            .access(r#"name: support-reads, roles: [support], allow: ["crm.read_*"]"#)
            .run();
        let call = |issued: &Issued| {
            let mut call = gw.call("crm", "read_ticket");
            call.via = Some(own.agent(issued));
            let word = call.token.clone();
            let answer = call.send();
            (answer.json()["error"]["code"].as_i64(), up.mentions(&word) > 0)
        };
        let member = |unit| agents.member(AGENT, unit);
        assert_eq!(call(&member("support")), (None, true));
        for stranger in [member("sales"), member("Support"), agents.uris(&[AGENT]), member("support ")] {
            assert_eq!(call(&stranger), (Some(-32602), false), "answered as an unknown tool");
        }
        assert_eq!(call(&member("support")), (None, true));
    });
}

/// Feature: a trust domain that is not configured is 401, and not anonymous, though an authority of ours vouches for it.
#[test]
fn agent_identity_of_another_trust_domain() {
    everywhere(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let builder = run.gateway();
        builder.folder.file("agents.pem", &agents.pem());
        let identity = |domains: &str| {
            format!("identity: {{anonymous: guest, mtls: {{principal: sanUri, trustDomains: [{domains}]}}}}")
        };
        let builder = builder.top(identity("corp")).tls(&own, ", clientCa: agents.pem").to("up", &up);
        let gw = builder.run();
        let status = |uri: &str| {
            let mut call = gw.call("up", "echo");
            call.via = Some(own.agent(&agents.uris(&[uri])));
            let word = call.token.clone();
            let status = call.try_send().unwrap().status;
            assert_eq!(up.mentions(&word) > 0, status == 200, "{uri}");
            status
        };
        assert_eq!(status(AGENT), 200);
        for foreign in ["spiffe://other/agent/7", "spiffe://corp.other/agent/7", "https://corp/agent/7"] {
            assert_eq!(status(foreign), 401, "{foreign}");
        }
        gw.rewrite(&gw.builder.yaml().replace(&identity("corp"), &identity("corp, other")));
        eventually("it is configured", || status("spiffe://other/agent/7") == 200);
        assert_eq!(status("spiffe://corp.other/agent/7"), 401);
    });
}

/// Feature: JWT-SVIDs are verified with the bundle of their trust domain, which is replaced without a restart.
#[test]
fn agent_identity_by_jwt_svid() {
    everywhere(|run| {
        let (spire, up) = (issuer(), upstream().tool("echo").run());
        let builder = run.gateway();
        builder.folder.file("bundle.json", &spire.bundle());
        let jwt = format!(
            "identity: {{jwt: [{{issuer: \"spiffe://corp\", audiences: [\"{AUDIENCE}\"], \
             jwks: {{file: bundle.json}}, principal: sub}}]}}"
        );
        let log = builder.folder.path().join("calls.jsonl");
        let gw = builder.top(jwt).call_log(&log).to("up", &up).run();
        let svid = |domain: &str| {
            let token = spire.token(AGENT).header("typ", "JWT").claim("iss", format!("spiffe://{domain}"));
            token.bearer()
        };
        // Of the newer era: so many sessions would meet the limit of handshakes.
        let status = |field: &str| gw.modern("up", "echo").field(field).send().status;
        let old = svid("corp");
        eventually("the bundle is read", || status(&old) == 200);
        assert_eq!(gw.call("up", "echo").field(&old).send().status, 200);
        let jose = spire.token(AGENT).header("typ", "JOSE").claim("iss", "spiffe://corp").bearer();
        assert_eq!(status(&jose), 200, "the other type that a JWT-SVID may have");
        let named = format!("\"principal\":\"{AGENT}\"");
        let written = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually("the workload is the principal", || written().contains(&named));
        let calls = up.calls();
        let stranger = gw.call("up", "echo").field(svid("other")).try_send().unwrap();
        assert_eq!((stranger.status, up.calls()), (401, calls), "a trust domain that is not configured");
        // No authorization server gives out such tokens: there is nothing to point at.
        let challenge = stranger.head.field("www-authenticate").unwrap();
        assert_eq!(challenge, "Bearer error=\"invalid_token\"");
        // The next key, beside the old one and then alone.
        spire.rotate("key-2");
        let new = svid("corp");
        gw.builder.folder.file("bundle.json", &spire.bundle());
        eventually("the next key is taken", || status(&new) == 200);
        assert_eq!(status(&old), 200);
        spire.retire("key-1");
        gw.builder.folder.file("bundle.json", &spire.bundle());
        eventually("the old key is gone", || status(&old) == 401);
        assert_eq!(status(&new), 200);
    });
}

/// Feature: a new certificate of the workload, or of its authority, needs no restart, and ends no connection.
#[test]
fn agent_identity_rotates() {
    on_every_driver(|run| {
        let (own, agents, next) = (Authority::new(), Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let gw = gateway(run, &up, &own, &agents, &[]);
        let mut old = own.agent(&agents.uris(&[AGENT])).connect(gw.address);
        let mut still_serves = || {
            old.send(&gw.modern("up", "echo").raw().bytes());
            assert_eq!(old.answer().status, 200);
        };
        still_serves();
        is_served(&gw, &own.agent(&agents.uris(&[AGENT])));
        is_alerted(&gw, &own.agent(&next.uris(&[AGENT])), &["UnknownCA", "DecryptError", "BadCertificate"]);
        // Both authorities for a while, each with its list.
        gw.builder.folder.file("agents.crl", &format!("{}{}", agents.revokes(&[]), next.revokes(&[])));
        gw.builder.folder.file("agents.pem", &format!("{}{}", agents.pem(), next.pem()));
        eventually("the next authority vouches", || {
            own.agent(&next.uris(&[AGENT])).try_talk(gw.address, b"GET / HTTP/1.0\r\n\r\n").is_ok()
        });
        is_served(&gw, &own.agent(&agents.uris(&[AGENT])));
        is_served(&gw, &own.agent(&next.uris(&[AGENT])));
        still_serves();
        // Then the new one alone.
        gw.builder.folder.file("agents.pem", &next.pem());
        eventually("the old authority is gone", || {
            own.agent(&agents.uris(&[AGENT])).try_talk(gw.address, b"GET / HTTP/1.0\r\n\r\n").is_err()
        });
        is_served(&gw, &own.agent(&next.uris(&[AGENT])));
    });
}
