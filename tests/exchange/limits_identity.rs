//! Every kind of limit under every kind of identity: by whatever a caller is known, it is limited, and what one kind has used
//! up no other feels.
//!
//! Not here: how limits count (limits_rates, limits_quota, limits_tokens), and whose principal a credential is.

use crate::secrets::key_command;
use crate::support::Era;
use crate::support::Run;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::issuer::AUDIENCE;
use crate::support::issuer::Issuer;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::tls::Authority;
use crate::support::tls::Secure;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;

/// What is limited, and how: of each two calls pass.
const LIMITS: [(&str, &str); 3] = [
    ("rate", "rate: 1/hour, burst: 2"),
    ("quota", "quota: 2/month"),
    // The second call overshoots.
    ("tokens", "rate: 600/hour, count: tokens"),
];
const KEYS: [&str; 2] = ["principal", "tenant"];
/// Of its bytes the arguments have one quarter as tokens, and the answer gives them back.
const ARGUMENT_BYTES: usize = 1_000;

/// Two callers of one kind, who are of one tenant; a kind without names has one.
struct Kind(Vec<Shows>);

/// What a caller shows.
enum Shows {
    Nothing,
    Field(String),
    Certificate(Secure),
}

/// One kind's name is in each of its principals' names, and is their tenant.
fn tenant() -> String {
    let kinds = ["key", "jwt", "opaque", "svid", "mtls", "spiffe"];
    let chosen = kinds.map(|kind| format!("principal.contains(\"{kind}-\") ? \"{kind}\" : "));
    format!("'{}\"anonymous\"'", chosen.concat())
}

struct Stage {
    gw: Gateway,
    up: Upstream,
    kinds: Vec<Kind>,
    _issuers: [Issuer; 2],
}

/// A server for each limit and key, and one more listener for those without a certificate.
fn stage(run: Run) -> Stage {
    let (idp, spire, up) = (issuer(), issuer(), upstream().tool("echo").run());
    let (own, agents) = (Authority::new(), Authority::new());
    let builder = run.gateway().workers(1);
    let keys = builder.folder.path().join("keys.yaml");
    let kinds = kinds(&idp, &spire, &own, &agents, |principal| {
        key_command(&keys, &["add", "--principal", principal])
    });
    builder.folder.file("agents.pem", &agents.pem());
    builder.folder.file("bundle.json", &spire.bundle());
    let jwks = format!("jwks: {{url: \"{}/keys\"}}", idp.url());
    let domain =
        format!("{{issuer: \"spiffe://corp\", audiences: [\"{AUDIENCE}\"], jwks: {{file: bundle.json}}}}");
    let identity = format!(
        "identity: {{apiKeys: {{file: keys.yaml}}, jwt: [{}, {domain}], mtls: {{principal: sanUri}}, \
         anonymous: visitor, tenant: {}}}",
        idp.entry(&[&idp.introspection(), &jwks]),
        tenant(),
    );
    let builder = builder.top(identity).listen_too("\"127.0.0.1:0\"").tls(&own, ", clientCa: agents.pem");
    let gw = limited(builder, &up).run();
    Stage { gw, up, kinds, _issuers: [idp, spire] }
}

fn kinds(
    idp: &Issuer,
    spire: &Issuer,
    own: &Authority,
    agents: &Authority,
    key: impl Fn(&str) -> String,
) -> Vec<Kind> {
    let bearer = |token: String| Shows::Field(format!("Authorization: Bearer {token}"));
    let certificate = |uri: String| Shows::Certificate(own.agent(&agents.uris(&[&uri])));
    let svid = |sub: &str| spire.token(sub).header("typ", "JWT").claim("iss", "spiffe://corp").sign();
    let both = |name: &str, shows: &dyn Fn(&str) -> Shows| {
        Kind(["a", "b"].map(|one| shows(&format!("{name}-{one}"))).into())
    };
    vec![
        both("key", &|name| Shows::Field(format!("X-API-Key: {}", key(name)))),
        both("jwt", &|name| bearer(idp.token(name).sign())),
        both("opaque", &|name| bearer(idp.opaque(name, &json!({})))),
        both("svid", &|name| bearer(svid(&format!("spiffe://corp/{name}")))),
        both("mtls", &|name| certificate(format!("https://corp.example/{name}"))),
        both("spiffe", &|name| certificate(format!("spiffe://corp/{name}"))),
        Kind(vec![Shows::Nothing]),
    ]
}

fn limited(builder: Builder, up: &Upstream) -> Builder {
    let each = LIMITS.iter().flat_map(|limit| KEYS.map(|key| (limit, key)));
    each.fold(builder, |builder, ((name, how), key)| {
        let server = format!("{name}-{key}");
        let limit = format!("name: {server}, servers: [{server}], key: {key}, {how}");
        builder.limit(&limit).to(&server, up)
    })
}

impl Stage {
    fn caller(&self, shows: &Shows, server: &str) -> Caller {
        let mut call = self.gw.call(server, "echo");
        call.argument = format!("\"{}\"", "x".repeat(ARGUMENT_BYTES));
        Caller::new(self.shown(shows, call))
    }

    fn shown(&self, shows: &Shows, call: Call) -> Call {
        match shows {
            Shows::Certificate(secure) => Call { via: Some(secure.clone()), ..call },
            Shows::Field(field) => self.plain(call).field(field.as_str()),
            Shows::Nothing => self.plain(call),
        }
    }

    /// At the listener that asks for no certificate.
    fn plain(&self, call: Call) -> Call {
        Call { via: None, address: self.gw.addresses()[1], ..call }
    }

    /// Two calls pass, the third does not, and nothing of it reaches the server.
    fn spends(&self, caller: &mut Caller, rule: &str) {
        for _ in 0..2 {
            caller.passes("echo");
        }
        self.has_nothing(caller, rule);
    }

    fn has_nothing(&self, caller: &mut Caller, rule: &str) {
        let call = caller.tool("echo");
        caller.refused(&self.up, &call, rule);
    }
}

/// Complaint, Envoy AI Gateway #2448, as a matrix: identities by limits by keys. All share one server's answers, so that a
/// bucket that two of them shared would refuse the later one too soon.
#[test]
fn envoy_2448_every_limit_under_every_identity() {
    everywhere(|run| {
        let stage = stage(run);
        for Kind(callers) in &stage.kinds {
            for (limit, _) in LIMITS {
                // By principal: each of the two has all of it.
                for shows in callers {
                    let mut caller = stage.caller(shows, &format!("{limit}-principal"));
                    stage.spends(&mut caller, &format!("limits.{limit}-principal"));
                }
                // By tenant: what the first has used up the second does not have.
                let (server, rule) = (format!("{limit}-tenant"), format!("limits.{limit}-tenant"));
                let mut callers = callers.iter().map(|shows| stage.caller(shows, &server));
                stage.spends(&mut callers.next().unwrap(), &rule);
                callers.for_each(|mut caller| stage.has_nothing(&mut caller, &rule));
            }
        }
        // Six kinds of two callers and one of one: two calls each by principal, two by tenant, of each kind of limit.
        assert_eq!(stage.up.calls(), LIMITS.len() * (13 * 2 + 7 * 2));
    });
}

/// The limits that are built in do the same: of each principal, and of the address of whoever shows nothing.
#[test]
fn envoy_2448_handshakes_under_every_identity() {
    on_every_driver(|run| {
        let stage = stage(Run { era: Era::Legacy, ..run });
        let statuses = |shows: &Shows| {
            let call = stage.shown(shows, stage.gw.request("", "initialize"));
            let call = call.member("protocolVersion", "\"2025-11-25\"").member("capabilities", "{}");
            let call = call.member("clientInfo", r#"{"name":"test","version":"1"}"#);
            let raw = call.raw().without("mcp-protocol-version").bytes();
            let mut client = call.connect();
            let mut next = || client.talk(&raw).unwrap();
            let last = (0..100).map(|_| next()).position(|answer| answer.status == 429);
            next().limited("limits.handshakes");
            last.expect("100 handshakes at once")
        };
        for shows in stage.kinds.iter().flat_map(|Kind(callers)| callers) {
            assert!((25..).contains(&statuses(shows)), "another's");
        }
    });
}
