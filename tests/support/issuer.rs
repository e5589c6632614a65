//! An issuer of access tokens: metadata, keys, introspection and a token endpoint, which a test may turn, hold or take
//! away. It signs with ES256.
//!
//! Not here: consent, and what a gateway should make of its tokens. It shares no code with the gateway's own reading of
//! them.

use super::script;
use super::script::Script;
use super::upstream::Builder;
use super::upstream::Connection;
use super::upstream::Next;
use super::upstream::Received;
use super::upstream::Upstream;
use super::upstream::upstream;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair;
use rustls::ServerConfig;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The audience that its tokens are for where a test says nothing.
pub const AUDIENCE: &str = "https://gw.test/mcp";
/// The client that may use its token endpoint and ask for tokens.
pub const CLIENT: (&str, &str) = ("ringgate", "client-secret");
/// How long a token lives where a test says nothing.
const LIFE_SECONDS: u64 = 300;

/// A running issuer.
pub struct Issuer {
    up: Upstream,
    desk: Arc<Desk>,
}

/// What its answers are made of.
#[derive(Default)]
struct Desk {
    url: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last one signs; all are published.
    keys: Vec<(String, Arc<EcdsaKeyPair>)>,
    /// Tokens that are no JWT, with what is known of them.
    opaque: HashMap<String, Value>,
    /// Other answers, by path.
    scripts: HashMap<String, Script>,
    /// How long answers take, by path.
    pauses: HashMap<String, Duration>,
    minted: usize,
}

/// Starts one with the key `key-1`.
pub fn issuer() -> Issuer {
    begin(upstream())
}

/// The same over HTTPS, proved by this.
pub fn issuer_over(tls: Arc<ServerConfig>) -> Issuer {
    begin(upstream().tls(tls))
}

fn begin(server: Builder) -> Issuer {
    let desk = Arc::new(Desk::default());
    let answering = Arc::clone(&desk);
    let up = server.every(script::script(move |connection, request| answering.answer(connection, request)));
    let up = up.hears_tokens().run();
    desk.url.set(up.url.strip_suffix("/mcp").unwrap().to_owned()).unwrap();
    let issuer = Issuer { up, desk };
    issuer.rotate("key-1");
    issuer
}

impl Issuer {
    /// As `iss` says it.
    pub fn url(&self) -> &str {
        self.desk.url.get().unwrap()
    }

    /// The config's line for this issuer alone, with further keys of its entry.
    pub fn identity(&self, lines: &[&str]) -> String {
        format!("identity: {{jwt: [{}]}}", self.entry(lines))
    }

    /// One entry of `identity.jwt`, with further keys; its keys are found by its metadata.
    pub fn entry(&self, lines: &[&str]) -> String {
        let issuer = format!("issuer: \"{}\"", self.url());
        let audiences = format!("audiences: [\"{AUDIENCE}\"]");
        format!("{{{}}}", [&[issuer.as_str(), &audiences], lines].concat().join(", "))
    }

    /// `introspection` of such an entry.
    pub fn introspection(&self) -> String {
        let (id, secret) = CLIENT;
        format!("introspection: {{url: \"{}/introspect\", clientId: {id}, secret: {secret}}}", self.url())
    }

    /// A token for this subject, to be changed before it is signed.
    pub fn token(&self, subject: &str) -> Token {
        let (kid, key) = self.desk.change(|state| state.keys.last().unwrap().clone());
        let now = now();
        let Value::Object(claims) = json!({
            "iss": self.url(), "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + LIFE_SECONDS,
        }) else {
            unreachable!("an object")
        };
        Token { header: json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}), claims, key }
    }

    /// A token that is no JWT, known to `/introspect` with these claims beside the usual ones.
    pub fn opaque(&self, subject: &str, claims: &Value) -> String {
        let mut known = Value::Object(self.token(subject).claims);
        known["active"] = true.into();
        known.as_object_mut().unwrap().extend(claims.as_object().cloned().unwrap_or_default());
        self.desk.change(|state| {
            state.minted += 1;
            let token = format!("opaque-{}", state.minted);
            state.opaque.insert(token.clone(), known);
            token
        })
    }

    /// `/introspect` says that this token is not active any more.
    pub fn revoke(&self, token: &str) {
        self.desk.change(|state| state.opaque.remove(token));
    }

    /// Signs with a new key from now on; the others stay published.
    pub fn rotate(&self, kid: &str) {
        let key = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        self.desk.change(|state| state.keys.push((kid.into(), key)));
    }

    /// Publishes this key no more.
    pub fn retire(&self, kid: &str) {
        self.desk.change(|state| state.keys.retain(|(known, _)| known != kid));
    }

    /// The published keys as the bundle of a trust domain (SPIFFE Trust Domain and Bundle, section 4).
    pub fn bundle(&self) -> String {
        let mut bundle = self.desk.keys();
        bundle["spiffe_sequence"] = 1.into();
        bundle["spiffe_refresh_hint"] = 60.into();
        for key in bundle["keys"].as_array_mut().unwrap() {
            key["use"] = "jwt-svid".into();
        }
        bundle.to_string()
    }

    /// This path (without its query) is answered otherwise from now on.
    pub fn on(&self, path: &str, script: Script) {
        self.desk.change(|state| state.scripts.insert(path.into(), script));
    }

    /// This path is answered so slowly from now on.
    pub fn slows(&self, path: &str, pause: Duration) {
        self.desk.change(|state| state.pauses.insert(path.into(), pause));
    }

    /// All paths are answered as they were in the beginning.
    pub fn restore(&self) {
        self.desk.change(|state| state.scripts.clear());
    }

    /// Nobody answers any path.
    pub fn goes_down(&self) {
        for path in ["/.well-known/openid-configuration", "/keys", "/introspect", "/token"] {
            self.on(path, script::hang_up());
        }
    }

    /// How often this path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.requests(path).len()
    }

    /// What this path was asked, in order.
    pub fn requests(&self, path: &str) -> Vec<Received> {
        let mut requests = self.up.requests();
        requests.retain(|request| self::path(request) == path);
        requests
    }
}

impl Desk {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    fn answer(&self, connection: &mut Connection, request: &Received) -> Next {
        if let Some(pause) = self.change(|state| state.pauses.get(path(request)).copied()) {
            super::pace(pause);
        }
        if let Some(script) = self.change(|state| state.scripts.get(path(request)).cloned()) {
            return script(connection, request);
        }
        let (status, body) = match (request.method(), path(request)) {
            ("GET", "/.well-known/openid-configuration") => (200, self.metadata()),
            ("GET", "/keys") => (200, self.keys()),
            ("POST", "/introspect") => self.introspect(request),
            ("POST", "/token") => self.grant(request),
            _ => (404, json!({})),
        };
        script::send(connection, &script::plain(status, &body.to_string()))
    }

    fn metadata(&self) -> Value {
        let url = self.url.get().unwrap();
        json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"), "token_endpoint": format!("{url}/token"),
            "introspection_endpoint": format!("{url}/introspect"),
        })
    }

    fn keys(&self) -> Value {
        let keys = self.change(|state| state.keys.clone());
        let jwks = keys.iter().map(|(kid, key)| {
            // 4, x, y: the point as it stands (SEC 1 section 2.3.3).
            let point = key.public_key().as_ref();
            json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                "x": base64url(&point[1..33]), "y": base64url(&point[33..65]),
            })
        });
        json!({ "keys": jwks.collect::<Vec<_>>() })
    }

    fn introspect(&self, request: &Received) -> (u16, Value) {
        if !is_client(request) {
            return (401, json!({"error": "invalid_client"}));
        }
        let token = field(request, "token").unwrap_or_default();
        (200, self.change(|state| state.opaque.get(&token).cloned()).unwrap_or(json!({"active": false})))
    }

    /// A new opaque token for whatever grant, which names it: `granted-1`, `granted-2`, and so on.
    fn grant(&self, request: &Received) -> (u16, Value) {
        if !is_client(request) {
            return (401, json!({"error": "invalid_client"}));
        }
        let number = self.change(|state| {
            state.minted += 1;
            state.minted
        });
        let scope = field(request, "scope").unwrap_or_default();
        let answer = json!({
            "access_token": format!("granted-{number}"), "token_type": "Bearer", "expires_in": LIFE_SECONDS,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "scope": scope,
        });
        (200, answer)
    }
}

fn path(request: &Received) -> &str {
    let target = &request.head.start[1];
    target.split('?').next().unwrap_or(target)
}

/// A field of a form, decoded.
pub fn field(request: &Received, name: &str) -> Option<String> {
    let form = std::str::from_utf8(&request.body).ok()?;
    let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let (mut bytes, mut letters) = (Vec::new(), value.bytes());
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'+' => b' ',
            b'%' => {
                let digits = [letters.next()?, letters.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            letter => letter,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Basic credentials or those of the form are the client's.
fn is_client(request: &Received) -> bool {
    let (id, secret) = CLIENT;
    let letters = base64url(format!("{id}:{secret}").as_bytes());
    let basic = request.head.field("authorization").and_then(|value| value.strip_prefix("Basic "));
    basic.is_some_and(|given| given.trim_end_matches('=').replace('+', "-").replace('/', "_") == letters)
        || field(request, "client_secret").as_deref() == Some(secret)
}

/// A token that is not signed yet.
#[derive(Clone)]
pub struct Token {
    header: Value,
    claims: Map<String, Value>,
    key: Arc<EcdsaKeyPair>,
}

impl Token {
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// A parameter of its header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// Ends so many seconds from now; past where they are negative.
    #[must_use]
    pub fn expires(self, seconds: i64) -> Self {
        self.claim("exp", now().saturating_add_signed(seconds))
    }

    /// Without this parameter of its header, or this claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.header.as_object_mut().unwrap().remove(name);
        self.claims.remove(name);
        self
    }

    /// The compact form.
    pub fn sign(self) -> String {
        let [header, claims] = self.parts();
        self.sign_parts(&header, &claims)
    }

    /// Header and claims, as JSON.
    pub fn parts(&self) -> [String; 2] {
        [self.header.to_string(), Value::Object(self.claims.clone()).to_string()]
    }

    /// The compact form of these very texts, signed by the issuer.
    pub fn sign_parts(&self, header: &str, claims: &str) -> String {
        let signed = [header, claims].map(|part| base64url(part.as_bytes())).join(".");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature.as_ref()))
    }

    /// The field that carries it.
    pub fn bearer(self) -> String {
        format!("Authorization: Bearer {}", self.sign())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// RFC 4648 section 5, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        text.extend(
            (0..=group.len()).map(|place| char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize])),
        );
    }
    text
}
