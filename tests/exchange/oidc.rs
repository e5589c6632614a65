//! Access tokens of an OpenID provider: its keys turn, are unknown, or cannot be fetched; tokens that are no JWT.
//!
//! Not here: which tokens are good (`policy::token`), and what a caller may do.

use crate::support::Run;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::Issuer;
use crate::support::issuer::issuer;
use crate::support::issuer::issuer_over;
use crate::support::line::at_once;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::tls::Authority;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use serde_json::json;
use std::time::Duration;
use std::time::SystemTime;

/// A gateway that trusts this issuer, with further keys of its entry.
fn trusting(run: Run, issuer: &Issuer, up: &Upstream, lines: &[&str]) -> Gateway {
    run.gateway().top(issuer.identity(lines)).to("up", up).run()
}

/// The status that a call with this field gets, in the older era already its `initialize`.
fn status(gw: &Gateway, field: &str) -> u16 {
    gw.call("up", "echo").field(field).send().status
}

/// Tokens as three products write them pass, found by metadata alone.
#[test]
fn oidc() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &["roles: groups"]);
        let shapes = [
            json!({"typ": "Bearer", "azp": "agents", "realm_access": {"roles": ["a"]}, "scope": "openid"}),
            json!({"ver": 1, "jti": "AT.1", "cid": "0oa1", "scp": ["mcp"]}),
            json!({"ver": "2.0", "oid": "1-2", "tid": "3-4", "groups": ["x"], "idp": "https://sts.test"}),
        ];
        for shape in shapes {
            let mut token = issuer.token("alice");
            for (name, value) in shape.as_object().unwrap() {
                token = token.claim(name, value.clone());
            }
            assert_eq!(status(&gw, &token.bearer()), 200, "{shape}");
        }
        let calls = up.calls();
        for field in [
            issuer.token("alice").claim("aud", "https://other.test/mcp").bearer(),
            issuer.token("alice").claim("iss", "https://evil.test").bearer(),
            issuer.token("alice").expires(-61).bearer(),
            format!("{}x", issuer.token("alice").bearer()),
        ] {
            assert_eq!(status(&gw, &field), 401, "{field}");
        }
        assert_eq!((up.calls(), issuer.asked("/keys")), (calls, 1));
        assert_eq!(up.mentions("eyJ"), 0, "a token went upstream");
    });
}

/// A new key causes one request however many calls carry it; the old one is good while it is published.
#[test]
fn oidc_rotation() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &[]);
        let old = issuer.token("alice").bearer();
        assert_eq!(status(&gw, &old), 200);
        assert_eq!(issuer.asked("/keys"), 1);
        issuer.rotate("key-2");
        let statuses = together(16, |number| {
            let token = issuer.token(&format!("agent-{number}")).bearer();
            status(&gw, &token)
        });
        assert_eq!(statuses, [200; 16]);
        assert_eq!((status(&gw, &old), issuer.asked("/keys")), (200, 2), "one request for the new key");
        assert_eq!(gw.metric("ringgate_jwks_refreshes_total", &["outcome=\"ok\""]), 2.0);
    });
}

/// Found in an audit: of many calls at once with a new key, or with one token that only its issuer can read, the 257th and
/// all after it were told that their token is bad.
#[test]
fn regression_a_thousand_calls_wait_for_one_answer() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let keys = format!("jwks: {{url: \"{}/keys\"}}", issuer.url());
        let gw = trusting(run, &issuer, &up, &[&issuer.introspection(), &keys]);
        let list = |field: &str| gw.request("", "tools/list").field(field);
        assert_eq!(list(&issuer.token("alice").bearer()).send().status, 200);
        ["/keys", "/introspect"].iter().for_each(|path| issuer.slows(path, Duration::from_millis(500)));
        issuer.rotate("key-2");
        let opaque = format!("Authorization: Bearer {}", issuer.opaque("alice", &json!({})));
        for field in [&issuer.token("alice").bearer(), &opaque] {
            let answers = at_once((0..1_000).map(|_| list(field)));
            let refused = answers.iter().filter(|answer| answer.status != 200).collect::<Vec<_>>();
            assert!(refused.is_empty(), "{} of them: {:?}", refused.len(), refused[0]);
        }
        assert_eq!(issuer.asked("/keys"), 2, "one request for the new key");
    });
}

/// A key that its issuer published no more lets nobody in once the key set was fetched again.
#[test]
fn oidc_rotation_withdraws_the_old_key() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &[]);
        let old = issuer.token("alice").bearer();
        assert_eq!(status(&gw, &old), 200);
        issuer.rotate("key-2");
        issuer.retire("key-1");
        assert_eq!(status(&gw, &issuer.token("bob").bearer()), 200);
        // Even where the old token was known to a worker.
        assert_eq!(status(&gw, &old), 401);
        assert_eq!(issuer.asked("/keys"), 2, "the old one is an unknown one, within 30 s of the last");
    });
}

/// However many tokens name keys that nobody has: one request, and 401 at once for the rest.
#[test]
fn oidc_unknown_kid() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &[]);
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 200);
        let calls = up.calls();
        let statuses = together(16, |number| {
            let unknown = issuer.token("alice").header("kid", format!("nobody's-{number}"));
            (0..4).map(|_| status(&gw, &unknown.clone().bearer())).collect::<Vec<_>>()
        });
        assert_eq!(statuses.concat(), [401; 64]);
        assert_eq!((issuer.asked("/keys"), up.calls()), (2, calls));
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 200);
    });
}

/// Known keys serve while their issuer is away, unknown ones are 401; past `maxStale` nobody is let in, until it is back.
#[test]
fn oidc_outage() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &["maxStale: 2s"]);
        let known = issuer.token("alice").bearer();
        assert_eq!(status(&gw, &known), 200);
        issuer.goes_down();
        assert_eq!(status(&gw, &known), 200);
        assert_eq!(status(&gw, &issuer.token("bob").bearer()), 200, "another token, the same key");
        issuer.rotate("key-2");
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 401);
        let out = || status(&gw, &known) == 401;
        assert!(within(Duration::from_secs(4), out), "let in past maxStale");
        assert!(gw.metric("ringgate_jwks_refreshes_total", &["outcome=\"failed\""]) > 0.0);
        issuer.restore();
        let back = || status(&gw, &known) == 200;
        assert!(within(Duration::from_secs(8), back), "not let in again");
    });
}

/// What is no key set changes nothing.
#[test]
fn oidc_outage_of_another_kind() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = trusting(run, &issuer, &up, &["maxStale: 1m"]);
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 200);
        issuer.on("/keys", script::bytes(script::plain(200, "{\"keys\": []}")));
        issuer.rotate("key-2");
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 401);
        issuer.retire("key-2");
        assert_eq!(status(&gw, &issuer.token("alice").bearer()), 200);
        let stderr = gw.stderr();
        assert_eq!(stderr.matches("its keys cannot be fetched").count(), 1, "{stderr}");
    });
}

/// An issuer that is down at the start lets nobody in, and everybody once it is there.
#[test]
fn oidc_outage_at_the_start() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        issuer.goes_down();
        let gw = trusting(run, &issuer, &up, &[]);
        let token = issuer.token("alice").bearer();
        assert_eq!(status(&gw, &token), 401);
        issuer.restore();
        assert!(within(Duration::from_secs(8), || status(&gw, &token) == 200), "never let in");
        assert_eq!(up.calls(), 1);
    });
}

/// Tokens that only their issuer can read are asked for once, believed while they live, and never sent upstream.
#[test]
fn oidc_introspection() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        // Each worker asks for itself.
        let gw =
            run.gateway().workers(1).top(issuer.identity(&[&issuer.introspection()])).to("up", &up).run();
        let token = issuer.opaque("alice", &json!({}));
        let field = format!("Authorization: Bearer {token}");
        for _ in 0..5 {
            assert_eq!(status(&gw, &field), 200);
        }
        issuer.revoke(&token);
        assert_eq!((status(&gw, &field), issuer.asked("/introspect")), (200, 1), "believed for a minute");
        assert_eq!((up.mentions(&token), up.calls()), (0, 6));
        let late = issuer.opaque("alice", &json!({"exp": 1}));
        let stranger = issuer.opaque("alice", &json!({"aud": "https://other.test/mcp"}));
        for token in ["nobody's", &late, &stranger] {
            assert_eq!(status(&gw, &format!("Authorization: Bearer {token}")), 401, "{token}");
        }
        issuer.goes_down();
        let other = issuer.opaque("bob", &json!({}));
        assert_eq!(status(&gw, &format!("Authorization: Bearer {other}")), 401);
        assert_eq!((status(&gw, &field), up.calls()), (200, 7));
    });
}

/// An answer is kept no longer than it says that the token lives: then the issuer is asked once more, and who shows the token
/// is let in no more.
#[test]
fn oidc_introspection_ends_with_the_token() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw =
            run.gateway().workers(1).top(issuer.identity(&[&issuer.introspection()])).to("up", &up).run();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let token = issuer.opaque("alice", &json!({"exp": now + 3}));
        let field = format!("Authorization: Bearer {token}");
        assert_eq!((status(&gw, &field), issuer.asked("/introspect")), (200, 1));
        assert!(within(Duration::from_secs(8), || status(&gw, &field) == 401), "let in past its end");
        assert_eq!(issuer.asked("/introspect"), 2);
    });
}

/// An issuer with a certificate of this authority.
fn private(authority: &Authority) -> Issuer {
    issuer_over(authority.server("127.0.0.1"))
}

/// Metadata, keys and introspection over HTTPS, by an authority that the entry names: a wrong one lets nobody in, says what to
/// look at, and is mended without a restart.
#[test]
fn oidc_over_https() {
    everywhere(|run| {
        let (good, wrong) = (Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let keys = |issuer: &Issuer| vec![format!("jwks: {{url: \"{}/keys\"}}", issuer.url())];
        let opaque = |issuer: &Issuer| vec![issuer.introspection()];
        for (way, lines) in
            [("metadata", None), ("keys", Some(keys as fn(&Issuer) -> _)), ("tokens", Some(opaque))]
        {
            let issuer = private(&good);
            let mut lines = lines.map_or(Vec::new(), |lines| lines(&issuer));
            lines.push("tls: {ca: ca.pem}".into());
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let builder = run.gateway();
            builder.folder.file("ca.pem", &wrong.pem());
            let gw = builder.top(issuer.identity(&lines)).to("up", &up).run();
            let calls = up.calls();
            let token = || match way {
                "tokens" => format!("Authorization: Bearer {}", issuer.opaque("alice", &json!({}))),
                _ => issuer.token("alice").bearer(),
            };
            let refused = gw.modern("up", "echo").field(token()).send();
            refused.refused(401, "unauthenticated");
            assert_eq!(
                (up.calls(), issuer.asked("/keys"), issuer.asked("/introspect")),
                (calls, 0, 0),
                "{way}"
            );
            let look = "UnknownIssuer); look at `tls: {ca: FILE}` of this issuer in `identity.jwt`";
            eventually("it is told what to look at", || gw.stderr().contains(look));
            gw.builder.folder.file("ca.pem", &good.pem());
            eventually("the new file is used", || {
                gw.modern("up", "echo").field(token()).send().status == 200
            });
            assert_eq!(status(&gw, &token()), 200, "{way}");
        }
        assert_eq!(up.mentions("opaque-") + up.mentions("eyJ"), 0, "a token went upstream");
    });
}

/// The system's authorities do not vouch for a private one, and a name is proved as well as an authority.
#[test]
fn oidc_over_https_of_strangers() {
    on_every_driver(|run| {
        let (authority, up) = (Authority::new(), upstream().tool("echo").run());
        let named = issuer_over(authority.server("idp.example"));
        for (issuer, lines, why) in [
            (&private(&authority), &[][..], "UnknownIssuer"),
            (&named, &["tls: {ca: ca.pem}"], "NotValidForName"),
        ] {
            let builder = run.gateway();
            builder.folder.file("ca.pem", &authority.pem());
            let gw = builder.top(issuer.identity(lines)).to("up", &up).run();
            assert_eq!(gw.modern("up", "echo").field(issuer.token("alice").bearer()).send().status, 401);
            eventually("it is told", || gw.stderr().contains(why));
            assert_eq!(issuer.asked("/.well-known/openid-configuration"), 0);
        }
        assert_eq!(up.calls(), 0);
    });
}
