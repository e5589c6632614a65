//! Whose credential goes to a server: the gateway's own, obtained, renewed, and never said; the caller's never.
//!
//! Not here: a token's days and whose credential is whose (unit tests of `control::credentials`).

use crate::support::Folder;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::line::at_once;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::reserved::Reserved;
use crate::support::script;
use crate::support::script::Script;
use crate::support::script::plain;
use crate::support::script::script;
use crate::support::script::send;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use crate::user_oauth;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// What alice's agent shows the gateway, and bob's.
pub const ALICE: &str = "alices-token-5a7c";
pub const BOB: &str = "bobs-token-90f2";
const SECRET: &str = "canary-secret-41d8";

/// What a token service says to a form.
type Tell = dyn Fn(&str) -> (u16, Value) + Send + Sync;

/// An identity provider: it knows the callers' tokens (RFC 7662) and gives out others.
pub struct Provider {
    pub up: Upstream,
    tell: Arc<Mutex<Arc<Tell>>>,
}

impl Provider {
    pub fn new(tell: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let tell: Arc<Mutex<Arc<Tell>>> = Arc::new(Mutex::new(Arc::new(tell)));
        let told = Arc::clone(&tell);
        let answer = script(move |connection, request| {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let (status, body) = match &*request.head.start[1] {
                "/introspect" => (200, known(&form)),
                _ => {
                    let tell = Arc::clone(&told.lock().unwrap());
                    tell(&form)
                }
            };
            send(connection, &plain(status, &body.to_string()))
        });
        Self { up: upstream().every(answer).hears_tokens().run(), tell }
    }

    pub fn turn(&self, tell: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) {
        *self.tell.lock().unwrap() = Arc::new(tell);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.up.address)
    }

    /// Forms that came for a token.
    pub fn asked(&self) -> Vec<Received> {
        self.up.requests().into_iter().filter(|request| request.head.start[1] == "/token").collect()
    }

    /// `auth` of a server with this provider.
    pub fn auth(&self, kind: &str) -> String {
        let endpoint = self.url("/token");
        format!(
            "auth: {{kind: {kind}, endpoint: \"{endpoint}\", clientId: gw, secret: {SECRET}, audience: crm, scopes: [crm.read]}}"
        )
    }

    /// The callers of this provider's tokens.
    pub fn callers(&self, builder: Builder) -> Builder {
        let (issuer, url) = (self.url(""), self.url("/introspect"));
        builder
            .top(format!(
                "identity: {{jwt: [{{issuer: \"{issuer}\", audiences: [\"http://gw.test/mcp\"], introspection: {{url: \
                 \"{url}\", clientId: gw, secret: {SECRET}}}}}]}}"
            ))
            .top("limits: [{name: handshakes, methods: [initialize], key: principal, rate: 1k/s}]")
    }
}

fn known(form: &str) -> Value {
    let claims = |sub: &str| {
        json!({"active": true, "sub": sub, "act": {"sub": "agent-7"}, "aud": "http://gw.test/mcp", "team": "red",
               "exp": 4_000_000_000_u64})
    };
    match () {
        () if form.contains(ALICE) => claims("alice"),
        () if form.contains(BOB) => claims("bob"),
        () => json!({"active": false}),
    }
}

/// A token for an hour.
pub fn token(text: &str) -> (u16, Value) {
    (200, json!({"access_token": text, "token_type": "Bearer", "expires_in": 3600}))
}

pub fn refusal(status: u16, challenge: &str) -> Vec<u8> {
    let body = r#"{"error":"the server's own words"}"#;
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Some Reason\r\nWWW-Authenticate: {challenge}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Does what `script` says for whoever shows the credential of the moment, and sends others away.
pub fn guarded(good: &Arc<Mutex<String>>, challenge: &'static str, then: Script) -> Script {
    let good = Arc::clone(good);
    script(move |connection, request| {
        let expected = good.lock().unwrap().clone();
        if request.head.field("authorization") == Some(&*expected) {
            return then(connection, request);
        }
        send(connection, &refusal(401, challenge))
    })
}

pub fn good(text: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(text.into()))
}

pub fn by(caller: &str, call: Call) -> Call {
    call.field(format!("Authorization: Bearer {caller}"))
}

/// The typed error of a credential that does not work.
#[track_caller]
pub fn unauthorized(answer: &Answer, cause: &str) {
    answer.refused(502, "upstream_unauthorized");
    let data = &answer.json()["error"]["data"];
    assert_eq!((&data["cause"], &data["rule"]), (&cause.into(), &"mcpServers.up.auth".into()), "{answer:?}");
    assert!(answer.head.field("www-authenticate").is_none(), "the server's challenge is not the caller's");
}

fn gateway(run: Run, provider: &Provider, up: &Upstream, kind: &str) -> Gateway {
    provider.callers(run.gateway().pinned()).with("up", up, &[&provider.auth(kind)]).run()
}

/// All that the admin listener has to say.
fn admin_says(gw: &Gateway) -> String {
    let pages = ["/", "/metrics", "/livez", "/readyz", "/version"];
    let pages = pages.into_iter().chain(["/api/v1/info", "/api/v1/kills", "/api/v1/quotas/alice"]);
    let page = |path| {
        let answer = gw.admin(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        format!("{answer:?} {}", answer.text())
    };
    pages.map(page).collect()
}

/// Feature: a credential from a file, renewed by writing the file; of a service and of a vault; and no canary is in
/// anything that the gateway says.
#[test]
fn credentials() {
    const GIVEN: &str = "canary-token-77b1";
    const VAULTED: &str = "canary-vault-3c3c";
    everywhere(|run| {
        let provider = Provider::new(|form| match form {
            "" => (200, json!({"lease_duration": 60, "data": {"key": VAULTED}})),
            _ => token(GIVEN),
        });
        let ups: [Upstream; 3] = std::array::from_fn(|_| upstream().tool("echo").run());
        let folder = Folder::new();
        let file = folder.file("github", "canary-file-1");
        let log = folder.path().join("calls.jsonl");
        let vault_token = folder.file("vault", "canary-vault-token");
        let builder = provider
            .callers(run.gateway())
            .call_log(&log)
            .top(format!(
                "vault: {{url: \"{}\", tokenFile: \"{}\"}}",
                provider.url(""),
                vault_token.display()
            ))
            .with(
                "file",
                &ups[0],
                &[&format!("headers: {{Authorization: \"Bearer ${{file:{}}}\"}}", file.display())],
            )
            .with("service", &ups[1], &[&provider.auth("clientCredentials")])
            .with("vault", &ups[2], &["headers: {X-Key: \"${vault:kv/x#key}\"}"]);
        let mut command = builder.command();
        command.env("RUST_LOG", "trace");
        let gw = builder.run_as(command);
        let mut said = String::new();
        let mut call = |server: &str| {
            let call = by(ALICE, gw.call(server, "echo")).field("X-Key: from-outside");
            let word = call.token.clone();
            let answer = call.send();
            assert_eq!(answer.status, 200, "{answer:?}");
            said.push_str(&format!("{answer:?}"));
            word
        };
        let (first, second, third) = (call("file"), call("service"), call("vault"));
        let field = |up: &Upstream, word: &str, name: &str| {
            up.once(word)
                .head
                .all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(field(&ups[0], &first, "authorization"), ["Bearer canary-file-1"]);
        assert_eq!(field(&ups[1], &second, "authorization"), [format!("Bearer {GIVEN}")]);
        assert_eq!(field(&ups[2], &third, "x-key"), [VAULTED]);
        // Written as rotation does it: a new file over the old one.
        std::fs::rename(folder.file("next", "canary-file-2"), &file).unwrap();
        let written = Instant::now();
        assert!(
            within(Duration::from_secs(5), || field(&ups[0], &call("file"), "authorization")
                == ["Bearer canary-file-2"]),
            "the new file is not in use"
        );
        assert!(written.elapsed() < Duration::from_secs(1), "in use after {:?}", written.elapsed());
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(within(Duration::from_secs(5), || lines().contains("vault")), "{}", lines());
        said.push_str(&[admin_says(&gw), gw.stderr(), gw.stdout().join("\n"), lines()].concat());
        said.push_str(&std::fs::read_to_string(format!("/proc/{}/cmdline", gw.pid())).unwrap());
        for canary in ["canary-file", SECRET, GIVEN, VAULTED, "canary-vault-token", ALICE] {
            let at = said.find(canary).map(|at| said.get(at.saturating_sub(200)..at + 40));
            assert_eq!(at, None, "{canary} was said");
        }
        assert!(ups.iter().all(|up| up.mentions(ALICE) == 0), "the caller's token left for a server");
    });
}

/// Feature: the server learns who calls for whom, in three ways; what a client says about that itself is dropped.
#[test]
fn identity_propagation() {
    everywhere(|run| {
        let provider =
            Provider::new(|form| token(if form.contains(ALICE) { "for-alice" } else { "for-bob" }));
        let forbids = script(|connection, _| send(connection, &refusal(403, "Bearer realm=\"crm\"")));
        let ups: [Upstream; 3] =
            std::array::from_fn(|_| upstream().tool("echo").on("forbids", Arc::clone(&forbids)).run());
        let folder = Folder::new();
        let key = folder.file("key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        let gw = provider
            .callers(run.gateway())
            .with("exchange", &ups[0], &[&provider.auth("tokenExchange")])
            .with("signed", &ups[1], &[&format!("auth: {{kind: signedJwt, key: \"{}\"}}", key.display())])
            .with(
                "headers",
                &ups[2],
                &["auth: {kind: headers, claims: {X-User: sub, X-Agent: act.sub, X-Team: team}}"],
            )
            .call_log(&folder.path().join("calls.jsonl"))
            .run();
        let received = |server: &str, up: &Upstream, caller: &str| {
            let call = by(caller, gw.call(server, "echo")).field("X-User: admin").field("x-agent: root");
            let word = call.token.clone();
            assert_eq!(call.send().status, 200);
            up.once(&word).head
        };
        for (caller, expected) in
            [(ALICE, "Bearer for-alice"), (BOB, "Bearer for-bob"), (ALICE, "Bearer for-alice")]
        {
            assert_eq!(received("exchange", &ups[0], caller).all("authorization"), [expected.as_bytes()]);
        }
        // One for each caller, and the caller's own token in it.
        let forms = provider.asked();
        assert_eq!(forms.len(), 2, "{forms:?}");
        assert!(forms[0].mentions(&format!("subject_token={ALICE}")) && forms[0].mentions("audience=crm"));
        let head = received("signed", &ups[1], ALICE);
        let jwt = head.field("authorization").unwrap().trim_start_matches("Bearer ").to_owned();
        let claims = ringgate::base::base64url::decode(jwt.split('.').nth(1).unwrap().as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["sub"], &claims["act"]["sub"]), (&"alice".into(), &"agent-7".into()));
        assert_eq!(claims["aud"], ups[1].url);
        assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 60);
        let head = received("headers", &ups[2], BOB);
        let fields = ["x-user", "x-agent", "x-team"].map(|name| head.all(name));
        assert_eq!(fields, [[b"bob".as_slice()], [b"agent-7"], [b"red"]]);
        for server in ["exchange", "signed", "headers"] {
            let answer = by(ALICE, gw.call(server, "forbids")).send();
            assert_eq!((answer.status, &*answer.text()), (403, r#"{"error":"the server's own words"}"#));
        }
        let left: usize = ups.iter().map(|up| up.mentions(ALICE) + up.mentions(BOB)).sum();
        assert_eq!(left, 0, "a caller's token left for a server");
        let log = || std::fs::read_to_string(folder.path().join("calls.jsonl")).unwrap_or_default();
        eventually("recorded", || log().contains(r#""principal":"alice","actor":"agent-7""#));
    });
}

/// Feature: a token service that asks no client who it is: the exchange has the caller's token and nothing of a client.
#[test]
fn identity_propagation_without_a_client() {
    everywhere(|run| {
        let provider = Provider::new(|_| token("for-alice"));
        let up = upstream().tool("echo").run();
        let auth = format!(
            "auth: {{kind: tokenExchange, endpoint: \"{}\", audience: crm, scopes: [crm.read]}}",
            provider.url("/token")
        );
        let gw = provider.callers(run.gateway().pinned()).with("up", &up, &[&auth]).run();
        let call = by(ALICE, gw.call("up", "echo"));
        let word = call.token.clone();
        assert_eq!(call.send().status, 200);
        assert_eq!(up.once(&word).head.all("authorization"), [b"Bearer for-alice"]);
        let forms = provider.asked();
        let [form] = forms.as_slice() else { panic!("{forms:?}") };
        assert!(
            form.mentions(&format!("subject_token={ALICE}")) && form.mentions("scope=crm.read"),
            "{form:?}"
        );
        assert!(form.head.field("authorization").is_none() && !form.mentions("client_id"), "{form:?}");
    });
}

/// A thousand first calls of one principal at once: its token is exchanged once, and each call shows what came of that.
#[test]
fn identity_propagation_exchanges_once() {
    on_every_driver(|run| {
        let provider = Provider::new(|form| {
            // So slowly that the others come meanwhile.
            pace(Duration::from_millis(200));
            token(if form.contains(ALICE) { "for-alice" } else { "for-bob" })
        });
        let up = upstream().tool("echo").run();
        // More at once than wait in the queue of its listener: connections to it take their time.
        let lines = [&*provider.auth("tokenExchange"), "timeout: {connect: 10s}"];
        let gw = provider.callers(run.gateway().pinned()).with("up", &up, &lines).run();
        for (caller, shown, exchanges) in [(ALICE, "Bearer for-alice", 1), (BOB, "Bearer for-bob", 2)] {
            let calls: Vec<Call> = (0..1_000).map(|_| by(caller, gw.modern("up", "echo"))).collect();
            let words: Vec<String> = calls.iter().map(|call| call.token.clone()).collect();
            let answers = at_once(calls);
            let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
            assert!(refused.is_empty(), "{} of them: {:?}", refused.len(), refused[0]);
            assert_eq!(provider.asked().len(), exchanges, "{caller}");
            for word in words.iter().step_by(100) {
                assert_eq!(up.once(word).head.field("authorization"), Some(shown));
            }
        }
        assert_eq!(up.mentions(ALICE) + up.mentions(BOB), 0, "a caller's token left for a server");
    });
}

/// The server has forgotten a token: 100 calls at once are one renewal, and each is answered; none is executed twice.
#[test]
fn a_401_is_one_renewal_and_one_more_try() {
    on_every_driver(|run| {
        let good = good("Bearer t1");
        let next = Mutex::new(1);
        let provider = Provider::new(move |_| {
            let mut next = next.lock().unwrap();
            *next += 1;
            token(&format!("t{}", *next - 1))
        });
        let done = Arc::new(Mutex::new(Vec::new()));
        let executed = Arc::clone(&done);
        let echo = script::echo();
        let counts = script(move |connection, request| {
            executed.lock().unwrap().push(request.body.clone());
            echo(connection, request)
        });
        let challenge = r#"Bearer error="invalid_token""#;
        let up = upstream().on("echo", guarded(&good, challenge, counts)).run();
        let gw = gateway(run, &provider, &up, "clientCredentials");
        assert_eq!(by(ALICE, gw.call("up", "echo")).send().status, 200);
        *good.lock().unwrap() = "Bearer t2".into();
        std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..100).map(|_| scope.spawn(|| by(ALICE, gw.call("up", "echo")).send().status)).collect();
            let statuses: Vec<u16> = calls.into_iter().map(|call| call.join().unwrap()).collect();
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        });
        assert_eq!(provider.asked().len(), 2, "one renewal");
        let mut done = done.lock().unwrap().clone();
        done.sort();
        done.dedup();
        assert_eq!(done.len(), 101, "each call was executed once");
    });
}

/// LiteLLM #30227: a token that is no good any more is renewed once, or its end is told within a second of what the token
/// service says; and a token service that says nothing.
#[test]
fn litellm_30227_expired_token_never_hangs() {
    everywhere(|run| {
        let answered = Arc::new(Mutex::new(Vec::new()));
        let moments = Arc::clone(&answered);
        let refuses = Provider::new(move |_| {
            let mut moments = moments.lock().unwrap();
            moments.push(Instant::now());
            match moments.len() {
                1 => token("t1"),
                _ => (400, json!({"error": "invalid_grant", "error_description": "it has expired"})),
            }
        });
        let forgets = guarded(&good("Bearer t2"), "Bearer error=\"invalid_token\"", script::echo());
        let forgetful = upstream().on("echo", forgets).run();
        let gw = gateway(run, &refuses, &forgetful, "tokenExchange");
        let answer = by(ALICE, gw.call("up", "echo")).try_send().unwrap();
        let told = answered.lock().unwrap().last().unwrap().elapsed();
        unauthorized(&answer, "expired");
        assert_eq!(answered.lock().unwrap().len(), 2, "one renewal");
        assert!(told < Duration::from_secs(1), "told after {told:?}");
        let provider = Provider::new(|_| token("t1"));
        let challenge = r#"Bearer error="invalid_token", error_description="The token expired""#;
        let up = upstream().on("echo", guarded(&good("Bearer t2"), challenge, script::echo())).run();
        let gw = gateway(run, &provider, &up, "tokenExchange");
        let silent = crate::support::Gate::default();
        let door = silent.clone();
        unauthorized(&by(ALICE, gw.call("up", "echo")).send(), "expired");
        provider.turn(move |_| {
            door.wait();
            token("t2")
        });
        let began = Instant::now();
        unauthorized(&by(BOB, gw.call("up", "echo")).try_send().unwrap(), "token_service_down");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        silent.open();
    });
}

/// LiteLLM #38208: a wrong credential of the operator's is an error of that server, never a list without tools.
#[test]
fn litellm_38208_wrong_credential_is_no_empty_list() {
    everywhere(|run| {
        let list = script(|connection, _| send(connection, &refusal(401, "Bearer")));
        let up = upstream().tool("echo").method("tools/list", list).run();
        let gw = run.gateway().with("up", &up, &["headers: {Authorization: Bearer wrong}"]).run();
        let answer = gw.request("up", "tools/list").send();
        unauthorized(&answer, "revoked");
        assert!(!answer.text().contains("\"tools\""));
        assert_eq!(up.count("tools/list"), 1, "there is no other credential to try");
        // Among others it is missing.
        let other = upstream().tool("open").run();
        let wrong = ["headers: {Authorization: Bearer wrong}"];
        let gw = run.gateway().with("up", &up, &wrong).to("other", &other).run();
        let answer = gw.request("", "tools/list").send();
        assert_eq!(crate::own_lists::missing(&answer), (1, json!(["up"])), "{answer:?}");
    });
}

/// LiteLLM #31011: what is refused is called refused.
#[test]
fn litellm_31011_auth_failure_is_no_cancel() {
    everywhere(|run| {
        let provider = Provider::new(|_| (400, json!({"error": "invalid_grant"})));
        let up = upstream().tool("echo").run();
        let folder = Folder::new();
        let log = folder.path().join("calls.jsonl");
        let gw = provider
            .callers(run.gateway().pinned())
            .call_log(&log)
            .with("up", &up, &[&provider.auth("tokenExchange")])
            .run();
        unauthorized(&by(ALICE, gw.call("up", "echo")).try_send().unwrap(), "revoked");
        assert_eq!(up.bytes(), 0, "a refused call reached the upstream");
        // Where a consent would help, with the place to give it.
        let consents = user_oauth::provider();
        let asking = user_oauth::builder(run, &consents, &up).run();
        let answer = by(ALICE, asking.call("up", "echo")).try_send().unwrap();
        let url = user_oauth::asks(&answer);
        let data = &answer.json()["error"]["data"];
        assert_eq!((&data["cause"], &data["url"]), (&"no_consent".into(), &url.into()));
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(within(Duration::from_secs(5), || lines().contains("upstream_unauthorized")), "{}", lines());
        assert!(!lines().contains("cancelled"), "{}", lines());
    });
}

/// MetaMCP #142: the end of a credential is told to the caller and to the operator, and is no fault of the server.
#[test]
fn metamcp_142_oauth_expiry_is_loud() {
    everywhere(|run| {
        let provider = Provider::new(|_| token("t1"));
        let challenge = r#"Bearer error="invalid_token", error_description="expired""#;
        let up = upstream().on("echo", guarded(&good("none"), challenge, script::echo())).run();
        let gw = provider
            .callers(run.gateway())
            .with("up", &up, &[&provider.auth("clientCredentials"), "health: {interval: 100ms}"])
            .run();
        let is_up = || gw.metric("ringgate_instance_up", &["up"]) == 1.0;
        assert!(within(Duration::from_secs(5), is_up));
        for _ in 0..30 {
            unauthorized(&by(ALICE, gw.call("up", "echo")).send(), "expired");
        }
        assert!(is_up(), "a credential is no matter of health");
        let told = gw.stderr();
        let lines: Vec<&str> = told.lines().filter(|line| line.contains("expired")).collect();
        assert!((1..=4).contains(&lines.len()) && lines[0].contains("up"), "{told}");
    });
}

/// Seven causes, each with a sentence and a word of its own, none of them an empty list or a wait.
#[test]
fn auth_failures_have_seven_names() {
    on_every_driver(|run| {
        let of_server = [
            ("expired", r#"error_description="The access token expired""#),
            ("revoked", r#"error_description="The token was revoked""#),
            ("wrong_audience", r#"error_description="invalid audience""#),
            ("clock_skew", r#"error_description="token is not yet valid""#),
            ("missing_scope", r#"error="insufficient_scope", scope="crm.write""#),
        ];
        let mut sentences = std::collections::HashSet::new();
        for (cause, words) in of_server {
            let provider = Provider::new(|_| token("t1"));
            let status = if cause == "missing_scope" { 403 } else { 401 };
            let refuses = script(move |connection, _| {
                let challenge = format!("Bearer error=\"invalid_token\", {words}");
                send(connection, &refusal(status, &challenge))
            });
            let up = upstream().on("echo", refuses).run();
            let gw = gateway(run, &provider, &up, "clientCredentials");
            let answer = by(ALICE, gw.call("up", "echo")).send();
            unauthorized(&answer, cause);
            sentences.insert(answer.json()["error"]["message"].to_string());
        }
        let provider = Provider::new(|_| (503, json!({})));
        let up = upstream().tool("echo").run();
        let gw = gateway(run, &provider, &up, "clientCredentials");
        let answer = by(ALICE, gw.call("up", "echo")).send();
        unauthorized(&answer, "token_service_down");
        sentences.insert(answer.json()["error"]["message"].to_string());
        provider.turn(|_| (400, json!({"error": "consent_required"})));
        let gw = gateway(run, &provider, &up, "clientCredentials");
        let answer = by(ALICE, gw.call("up", "echo")).send();
        answer.refused(403, "consent_required");
        sentences.insert(answer.json()["error"]["message"].to_string());
        assert_eq!((sentences.len(), up.bytes()), (7, 0), "{sentences:?}");
    });
}

/// A vault that is not there stops no start, only the calls that need it.
#[test]
fn a_vault_that_is_down_stops_no_start() {
    everywhere(|run| {
        let (up, other) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let folder = Folder::new();
        let token_file = folder.file("token", "hvs.1");
        let gone = Reserved::new();
        let gw = run
            .gateway()
            .pinned()
            .top(format!(
                "vault: {{url: \"http://{}\", tokenFile: \"{}\"}}",
                gone.address(),
                token_file.display()
            ))
            .with("up", &up, &["headers: {X-Key: \"${vault:kv/x#key}\"}"])
            .to("other", &other)
            .run();
        unauthorized(&gw.call("up", "echo").try_send().unwrap(), "token_service_down");
        assert_eq!(up.bytes(), 0, "a refused call reached the upstream");
        assert_eq!(gw.call("other", "echo").send().status, 200);
    });
}
