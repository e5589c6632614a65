//! The gateway as an OAuth 2.1 resource server, and nobody trusted for where a call comes from.
//!
//! Not here: keys of issuers (oidc), scopes (access), and every token that must fail (unit tests of `policy::token`).

use crate::secrets::key_command;
use crate::support::Era;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::AUDIENCE;
use crate::support::issuer::Issuer;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::tls::Authority;
use crate::support::tls::GATEWAY;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use serde_json::json;

const METADATA: &str = "/.well-known/oauth-protected-resource";

fn get(gw: &Gateway, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gw.address);
    gw.client().talk(request.as_bytes()).unwrap()
}

/// What the challenge of an answer says.
fn challenge(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.code()), (401, -33401), "{answer:?}");
    answer.refused(401, "unauthenticated");
    let [challenge] = answer.head.all("www-authenticate")[..] else {
        panic!("no challenge, or two: {answer:?}")
    };
    String::from_utf8(challenge.to_vec()).unwrap()
}

/// Feature: a caller without a token is told where to get one, and no other token opens the door.
#[test]
fn oauth_resource_server() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let rule = "access: [{name: s, tools: [\"up.admin_*\"], scopes: [\"up:admin\"]}]";
        let gw = run.gateway().top(issuer.identity(&[])).top(rule).to("up", &up).run();
        let at = format!("resource_metadata=\"https://gw.test{METADATA}/mcp/up\"");
        assert_eq!(challenge(&gw.call("up", "echo").try_send().unwrap()), format!("Bearer {at}"));
        for (path, resource) in [
            (format!("{METADATA}/mcp/up"), format!("{AUDIENCE}/up")),
            (format!("{METADATA}/mcp"), AUDIENCE.to_owned()),
            (METADATA.to_owned(), AUDIENCE.to_owned()),
        ] {
            let answer = get(&gw, &path);
            assert_eq!((answer.status, answer.head.field("content-type")), (200, Some("application/json")));
            let expected = json!({
                "resource": resource, "authorization_servers": [issuer.url()],
                "bearer_methods_supported": ["header"], "resource_name": "Ringgate",
                "scopes_supported": ["up:admin"],
            });
            assert_eq!(answer.json(), expected, "{path}");
        }
        assert_eq!(get(&gw, &format!("{METADATA}/mcp/no__body")).status, 404);
        let none = base64("{\"alg\":\"none\",\"typ\":\"JWT\"}");
        let good = issuer.token("alice").sign();
        let payload = good.split('.').nth(1).unwrap();
        for bad in [
            issuer.token("alice").claim("aud", "https://gw.test").sign(),
            issuer.token("alice").claim("aud", format!("{AUDIENCE}/other")).sign(),
            issuer.token("alice").claim("aud", AUDIENCE.to_uppercase()).sign(),
            issuer.token("alice").expires(-61).sign(),
            issuer.token("alice").header("kid", "nobody").sign(),
            issuer.token("alice").claim("iss", format!("{}/", issuer.url())).sign(),
            format!("{none}.{payload}."),
            format!("{good}x"),
            good.replacen('.', "..", 1),
            "x".repeat(20_000),
        ] {
            let call = gw.call("up", "echo").field(format!("Authorization: Bearer {bad}"));
            let said = challenge(&call.try_send().unwrap());
            assert_eq!(said, format!("Bearer error=\"invalid_token\", {at}"), "{bad}");
        }
        // Control lists the server: only callers have tokens.
        assert_eq!((up.calls(), up.mentions("eyJ")), (0, 0), "nothing reached the upstream");
        for token in
            [good.clone(), issuer.token("alice").claim("aud", json!([format!("{AUDIENCE}/up")])).sign()]
        {
            let call = gw.call("up", "echo").field(format!("Authorization: Bearer {token}"));
            let mine = call.token.clone();
            assert_eq!(call.send().status, 200);
            let request = up.once(&mine);
            assert!(request.head.all("authorization").is_empty() && !request.mentions(&token));
        }
        in_the_query(&gw, &good);
    });
}

/// RFC 6750 section 2.3 is forbidden: logs keep queries.
fn in_the_query(gw: &Gateway, token: &str) {
    for query in ["access_token", "%61ccess_token", "x=1&Access_Token"] {
        let call = gw.call("up", "echo").field(format!("Authorization: Bearer {token}"));
        let line = format!("POST /mcp/up?{query}={token} HTTP/1.1");
        assert_eq!(gw.client().talk(&call.raw().line(line).bytes()).unwrap().status, 401, "{query}");
    }
}

fn base64(text: &str) -> String {
    crate::support::issuer::base64url(text.as_bytes())
}

/// A stream ends with the token that opened it.
#[test]
fn oauth_resource_server_streams_end_with_their_token() {
    everywhere(|run| {
        let endless = script::script(|connection, _| {
            connection.send(script::STREAM);
            connection.send(&script::progress(1));
            connection.until_gone();
            Next::Close
        });
        let (issuer, up) = (issuer(), upstream().on("x", endless).run());
        let gw = run.gateway().top(issuer.identity(&[])).to("up", &up).run();
        // Over in a second, the leeway of 60 s and all.
        let token = issuer.token("alice").expires(-58);
        let call = gw.call("up", "x").field(token.bearer());
        let mut client = call.open();
        assert_eq!(client.head().unwrap().status(), 200);
        assert!(client.event().unwrap().is_some());
        assert!(client.rest().is_err(), "a cut, and no clean end");
    });
}

/// Feature: the same port, from this very machine, asks everybody; what a client says about where it comes from changes
/// nothing.
#[test]
fn zero_trust() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: near, key: gateway, rate: 1/hour, when: source != \"127.0.0.1\"";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        let claims = [
            "X-Forwarded-For: 10.0.0.1",
            "Forwarded: for=10.0.0.1;by=127.0.0.1",
            "X-Real-IP: 10.0.0.1",
            "X-Forwarded-User: a",
            "Ringgate-Principal: a",
            "X-Principal: a",
        ];
        for claim in claims {
            let stranger = gw.call("up", "echo").field(claim);
            let token = stranger.token.clone();
            assert_eq!((stranger.try_send().unwrap().status, up.mentions(&token)), (401, 0), "{claim}");
            // The limit counts nobody: the source is the peer's address.
            assert_eq!(gw.keyed("a", gw.call("up", "echo")).field(claim).send().status, 200, "{claim}");
        }
    });
}

/// Complaint, Envoy AI Gateway #2448: limits did not work on routes with OAuth. They do, whoever the caller is and by
/// whatever it is known; and what one kind of credential has used up is its own.
#[test]
fn envoy_2448_limit_on_oauth_route() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let (own, agents) = (Authority::new(), Authority::new());
        let builder = run.gateway().workers(1);
        let key = key_command(&builder.folder.path().join("keys.yaml"), &["add", "--principal", "a-key"]);
        builder.folder.file("agents.pem", &agents.pem());
        let entry =
            issuer.entry(&[&issuer.introspection(), &format!("jwks: {{url: \"{}/keys\"}}", issuer.url())]);
        let identity = format!(
            "identity: {{apiKeys: {{file: keys.yaml}}, jwt: [{entry}], mtls: {{principal: sanUri}}}}"
        );
        let gw = builder
            .top(identity)
            .limit("name: pair, key: principal, rate: 1/hour, burst: 2")
            .tls(&own, ", clientCa: agents.pem")
            .to("up", &up)
            .run();
        let by = |uri: &str, field: Option<String>| {
            let mut call = gw.call("up", "echo");
            call.via = Some(own.client_with(GATEWAY, rustls::ALL_VERSIONS, Some(&agents.uris(&[uri]))));
            let call = field.into_iter().fold(call, Call::field).in_session();
            let next = || call.again().try_send().unwrap();
            let statuses: Vec<u16> = (0..2).map(|_| next().status).collect();
            assert_eq!(statuses, [200; 2]);
            next().limited("limits.pair");
        };
        let bearer = |token: &str| Some(format!("Authorization: Bearer {token}"));
        by("spiffe://corp/certificate", None);
        by("spiffe://corp/with-a-key", bearer(&key));
        by("spiffe://corp/with-a-token", bearer(&issuer.token("a-token").sign()));
        by("spiffe://corp/with-an-opaque-one", bearer(&issuer.opaque("an-opaque-one", &json!({}))));
        assert_eq!(up.calls(), 8);
    });
}

/// Feature: what two tenants do has nothing in common, though all of their names are the same.
#[test]
fn tenants() {
    everywhere(|run| {
        let (issuer, up, own) = (issuer(), upstream().tool("echo").run(), upstream().tool("echo").run());
        let identity = format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[]));
        let gw = run
            .gateway()
            .top(identity)
            .limit("name: one, key: principal, rate: 1/hour, burst: 2")
            .limit("name: two, key: [principal, tool], quota: 2/day")
            .to("up", &up)
            .with("own", &own, &["tenants: [acme]"])
            .run();
        let bearer = |org: &str| issuer.token("alice").claim("org", org).bearer();
        let status =
            |org: &str, server: &str| gw.call(server, "echo").field(bearer(org)).try_send().unwrap().status;
        for org in ["acme", "other"] {
            let statuses: Vec<u16> = (0..3).map(|_| status(org, "up")).collect();
            assert_eq!(statuses, [200, 200, 429], "{org} has buckets of its own");
        }
        let unknown = |server: &str| {
            let mut said = gw.call(server, "echo").field(bearer("other")).try_send().unwrap().json();
            said["error"]["data"]["traceId"].take();
            said
        };
        assert_eq!(status("other", "own"), 404);
        assert_eq!(unknown("own"), unknown("nobody"));
        assert_eq!(own.requests().len(), 0);
        let nobody = issuer.token("alice").bearer();
        assert_eq!(gw.call("up", "echo").field(nobody).try_send().unwrap().status, 401, "of no tenant");
        if run.era == Era::Legacy {
            sessions(&gw, &issuer);
        }
    });
}

/// Feature: `key: tenant` is one bucket for all principals of a tenant, and none that another tenant feels.
#[test]
fn tenants_share_a_bucket_by_key() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let identity = format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[]));
        let gw =
            run.gateway().top(identity).limit("name: shared, key: tenant, rate: 2/hour").to("up", &up).run();
        let call = |principal: &str, org: &str| {
            let bearer = issuer.token(principal).claim("org", org).bearer();
            gw.call("up", "echo").field(bearer).try_send().unwrap()
        };
        for org in ["acme", "other"] {
            assert_eq!((call("alice", org).status, call("bob", org).status), (200, 200), "{org}");
            for principal in ["alice", "bob", "carol"] {
                call(principal, org).limited("limits.shared");
            }
        }
        assert_eq!(up.calls(), 4);
    });
}

/// Found in an audit: without a credential a server of another tenant was 401, and an unknown name 404. Both are the same
/// to whom may not know of them, and so is all that is said before a caller is known.
#[test]
fn tenants_do_not_find_out_which_servers_others_have() {
    everywhere(|run| {
        let (issuer, up, own) = (issuer(), upstream().tool("echo").run(), upstream().tool("echo").run());
        let identity = format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[]));
        let gw = run.gateway().top(identity).to("up", &up).with("own", &own, &["tenants: [acme]"]).run();
        let expired = issuer.token("alice").claim("org", "acme").expires(-61).bearer();
        let elsewhere =
            issuer.token("alice").claim("aud", format!("{AUDIENCE}/up")).claim("org", "acme").bearer();
        let other = issuer.token("alice").claim("org", "other").bearer();
        for (field, status) in [
            ("X-Nothing: 1", 401),
            ("X-API-Key: rg_x", 401),
            (expired.as_str(), 401),
            (elsewhere.as_str(), 401),
            (other.as_str(), 404),
        ] {
            let said = |server: &str| {
                let call = gw.call(server, "echo");
                let mut answer = gw.client().talk(&call.id("1").field(field).raw().bytes()).unwrap();
                assert_eq!(answer.status, status, "{server} {field}");
                let mut body = answer.json();
                body["error"]["data"]["traceId"].take();
                answer.head.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("server-timing"));
                let names = |text: String| text.replace(&format!("/mcp/{server}"), "/mcp/NAME");
                let fields = answer
                    .head
                    .fields
                    .iter()
                    .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
                let fields: Vec<_> = fields
                    .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
                    .collect();
                (body, names(fields.join("\n")))
            };
            assert_eq!(said("own"), said("none"), "{field}");
            if status == 401 && field != elsewhere {
                assert_eq!(said("up"), said("none"), "{field}");
            }
        }
        for (path, status) in [("own", 200), ("none", 200), ("no__name", 404)] {
            assert_eq!(get(&gw, &format!("{METADATA}/mcp/{path}")).status, status, "{path}");
        }
        let strange = gw.client().talk(b"PUT /mcp/none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let known = gw.client().talk(b"PUT /mcp/own HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        assert_eq!((strange.status, known.status), (405, 405));
        assert_eq!(own.calls(), 0);
    });
}

/// A session of one tenant's alice is none of the other's.
fn sessions(gw: &Gateway, issuer: &Issuer) {
    let call =
        |org: &str| gw.request("up", "tools/list").field(issuer.token("alice").claim("org", org).bearer());
    let session = call("third").in_session().session;
    let with = |org: &str| Call { session: session.clone(), ..call(org) };
    assert_eq!(with("third").try_send().unwrap().status, 200);
    assert_eq!(with("fourth").try_send().unwrap().status, 404);
}

/// An operator stops one tenant and no other.
#[test]
fn tenants_are_killed_alone() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let identity = format!("identity: {{jwt: [{}], tenant: jwt.org}}", issuer.entry(&[]));
        let gw = run.gateway().top(identity).to("up", &up).run();
        let status = |org: &str| {
            let bearer = issuer.token("alice").claim("org", org).bearer();
            gw.call("up", "echo").field(bearer).try_send().unwrap().status
        };
        assert_eq!((status("acme"), status("other")), (200, 200));
        gw.operate(&["kill", "tenant", "acme", "--reason", "drill"]);
        eventually("killed", || status("acme") == 403);
        assert_eq!(status("other"), 200);
    });
}

/// Every scripted server of this suite fails a test in which a caller's token or key comes to it, wherever it stands.
#[test]
fn a_callers_token_at_a_server_fails_the_test() {
    let noticed = |place: &str, body: &str| {
        let up = upstream().tool("echo").run();
        // What a caller has shown anywhere, past the gateway.
        let mut client = Client::connect(up.address);
        let head = format!("POST /mcp HTTP/1.1\r\nHost: x\r\n{place}\r\n");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        client.answer();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(up))).is_err()
    };
    assert!(noticed("Authorization: Bearer straight-to-the-server", ""));
    assert!(noticed("X-API-Key: key-straight-to-the-server", ""));
    assert!(noticed("X-Mine: straight-to-the-server", ""));
    assert!(noticed("X-Mine: 1", r#"{"id":1,"x":"straight-to-the-server"}"#));
    assert!(!noticed("X-Mine: straight-to-another-server", ""));
}
