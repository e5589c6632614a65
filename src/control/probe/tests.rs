//! Probes against small servers of both eras, well and sick.
//!
//! Not here: whole gateways (`tests/`).

#![expect(clippy::disallowed_types, reason = "what a test server has seen")]

use super::*;
use crate::config::plan::Endpoint;
use crate::config::plan::InjectedHeader;
use crate::config::tls;
use crate::control::tests::Folder;
use crate::control::tests::state_with;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Either;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;

/// How a test server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Modern,
    Legacy,
    /// Legacy, in event streams that stay open, without sessions.
    Streaming,
    /// Legacy; `ping` fails.
    BadPing,
    /// Legacy; `ping` is never answered.
    SilentPing,
    /// Every request with this status and body.
    Fixed(u16, &'static str),
    Silent,
}

type Said = Either<Full<Bytes>, Endless>;

/// One piece, and then silence.
struct Endless(Option<Bytes>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

/// A request that is being answered, until its client leaves.
struct UnderWay<'a>(&'a Fake);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

struct Fake {
    mood: Mutex<Mood>,
    /// Sessions that are open, and how many there have been.
    sessions: Mutex<(HashSet<String>, usize)>,
    /// Methods in the order in which they came, with their revision.
    methods: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            sessions: Mutex::default(),
            methods: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("not poisoned") = mood;
    }

    fn open(&self) -> usize {
        self.sessions.lock().expect("not poisoned").0.len()
    }

    fn methods(&self) -> Vec<String> {
        std::mem::take(&mut *self.methods.lock().expect("not poisoned"))
    }

    async fn tcp(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let fake = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                Arc::clone(&fake).serve(stream);
            }
        });
        address
    }

    fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| {
            let fake = Arc::clone(&self);
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Said> {
        self.most.fetch_max(self.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
        let _until_answered = UnderWay(self);
        self.answer_calmly(request).await
    }

    async fn answer_calmly(&self, request: Request<Incoming>) -> Response<Said> {
        let field = |name| request.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(field("authorization").as_deref(), Some("Bearer of-the-server"));
        assert_eq!((request.uri().path(), request.headers().contains_key("host")), ("/mcp", true));
        let (session, version) = (field("mcp-session-id"), field("mcp-protocol-version").unwrap_or_default());
        if request.method() == Method::DELETE {
            let known = self.sessions.lock().expect("not poisoned").0.remove(&session.expect("a session"));
            return answered(if known { 204 } else { 404 }, "");
        }
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let message: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let method = message["method"].as_str().expect("a method").to_owned();
        self.methods.lock().expect("not poisoned").push(format!("{method} {version}"));
        let mood = *self.mood.lock().expect("not poisoned");
        match (mood, method.as_str()) {
            (Mood::Fixed(status, body), _) => answered(status, body),
            (Mood::Silent, _) | (Mood::SilentPing, "ping") => std::future::pending().await,
            (Mood::Modern, "server/discover") => answered(200, RESULT),
            (Mood::Modern, _) | (_, "server/discover") => answered(400, NO_SESSION),
            (Mood::Streaming, "notifications/initialized") => answered(202, ""),
            (Mood::Streaming, _) => stream(),
            (_, "initialize") => self.initialized(),
            (_, _) if !session.is_some_and(|session| self.knows(&session)) => answered(404, NO_SESSION),
            (_, "notifications/initialized") => answered(202, ""),
            (Mood::BadPing, "ping") => answered(200, NO_SESSION),
            (_, _) => answered(200, RESULT),
        }
    }

    fn knows(&self, session: &str) -> bool {
        self.sessions.lock().expect("not poisoned").0.contains(session)
    }

    fn initialized(&self) -> Response<Said> {
        let mut sessions = self.sessions.lock().expect("not poisoned");
        sessions.1 += 1;
        let id = format!("s{}", sessions.1);
        sessions.0.insert(id.clone());
        let mut answer = answered(200, INITIALIZED);
        answer.headers_mut().insert("mcp-session-id", id.parse().expect("a value"));
        answer
    }
}

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
const NO_SESSION: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Server not initialized"}}"#;
const NOT_FOUND: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
const UNSUPPORTED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"no"}}"#;

fn answered(status: u16, body: &'static str) -> Response<Said> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    let response = response.header("endpoint-load-metrics", "TEXT cpu_utilization=0.25");
    response.body(Either::Left(Full::new(Bytes::from_static(body.as_bytes())))).expect("a response")
}

/// The message, and no end.
fn stream() -> Response<Said> {
    let event = format!(": hello\n\nevent: message\ndata: {INITIALIZED}\n\n");
    let response = Response::builder().header("content-type", "text/event-stream");
    response.body(Either::Right(Endless(Some(event.into())))).expect("a response")
}

const HEALTH: Health = Health { interval_ms: 20, timeout_ms: 2_000, unhealthy: 3, healthy: 2 };

/// A gateway's state with one server of one instance.
fn state_for(transport: Transport, health: Health, era: EraChoice) -> (Arc<State>, Identity) {
    let state = Arc::new(state_with(1, |plan| {
        let server = &mut plan.servers[0];
        server.traffic.health = Some(health);
        server.era = era;
        server.tls = None;
        let authorization = InjectedHeader {
            name: b"authorization".to_vec().into(),
            value: b"Bearer of-the-server".to_vec().into(),
        };
        server.headers = vec![authorization];
        server.instances = vec![Endpoint {
            transport,
            target: b"/mcp".to_vec().into(),
            authority: b"fake".to_vec().into(),
            tls_name: None,
            label: "http://fake:1".into(),
        }];
    }));
    let identity = Identity::of(&state.plan().servers[0], 0).expect("an instance");
    (state, identity)
}

async fn over_tcp(fake: &Arc<Fake>, health: Health, era: EraChoice) -> (Arc<State>, Identity) {
    state_for(Transport::Address(fake.tcp().await), health, era)
}

fn is_up(state: &State) -> bool {
    state.shared.cells.load().by_server["up"].instances[0].health.is_up()
}

#[tokio::test]
async fn three_failures_take_out_and_two_successes_bring_back() {
    for (well, sick) in [
        (Mood::Modern, Mood::Fixed(500, "")),
        (Mood::Modern, Mood::Fixed(200, "hello")),
        (Mood::Legacy, Mood::Fixed(503, NOT_FOUND)),
        (Mood::Legacy, Mood::BadPing),
    ] {
        let fake = Fake::new(well);
        let (state, identity) = over_tcp(&fake, HEALTH, EraChoice::Auto).await;
        let mut learned = Learned::default();
        let steps = [
            (sick, true),
            (sick, true),
            (well, true),
            (sick, true),
            (sick, true),
            (sick, false),
            (sick, false),
            (well, false),
            (sick, false),
            (well, false),
            (well, true),
        ];
        for (step, (mood, up)) in steps.into_iter().enumerate() {
            fake.set(mood);
            probe(&state, &identity, &mut learned).await;
            assert_eq!(is_up(&state), up, "step {step} of {well:?}, {sick:?}");
        }
        assert_eq!(fake.open(), 0, "{sick:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_failures() {
    let fake = Fake::new(Mood::Silent);
    let brief = Health { timeout_ms: 20, unhealthy: 1, ..HEALTH };
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let nameless = Transport::Name { host: "fake".into(), port: 1, key: "fake:1".into() };
    for transport in [Transport::Address(fake.tcp().await), Transport::Address(gone), nameless] {
        let (state, identity) = state_for(transport.clone(), brief, EraChoice::Auto);
        probe(&state, &identity, &mut Learned::default()).await;
        assert!(!is_up(&state), "{transport:?}");
    }
}

#[tokio::test]
async fn the_answer_shows_the_era_and_whether_the_server_lives() {
    use EraChoice::Auto;
    use EraChoice::Legacy;
    use EraChoice::Modern;
    let table = [
        (Mood::Modern, Auto, Some(Modern)),
        (Mood::Modern, Modern, Some(Modern)),
        (Mood::Modern, Legacy, None),
        (Mood::Legacy, Auto, Some(Legacy)),
        (Mood::Legacy, Legacy, Some(Legacy)),
        (Mood::Legacy, Modern, None),
        (Mood::Streaming, Auto, Some(Legacy)),
        (Mood::Fixed(401, ""), Auto, Some(Auto)),
        (Mood::Fixed(403, NO_SESSION), Legacy, Some(Legacy)),
        (Mood::Fixed(400, UNSUPPORTED), Auto, Some(Modern)),
        (Mood::Fixed(404, NOT_FOUND), Auto, Some(Modern)),
        (Mood::Fixed(200, NOT_FOUND), Auto, None),
        (Mood::Fixed(404, ""), Auto, None),
        (Mood::Fixed(502, RESULT), Auto, None),
    ];
    for (mood, era, expected) in table {
        let fake = Fake::new(mood);
        let once = Health { unhealthy: 1, ..HEALTH };
        let (state, identity) = over_tcp(&fake, once, era).await;
        let mut learned = Learned::default();
        probe(&state, &identity, &mut learned).await;
        assert_eq!((learned.era, is_up(&state)), (expected, expected.is_some()), "{mood:?} {era:?}");
        assert_eq!(fake.open(), 0, "{mood:?} {era:?}");
    }
}

/// What was learned saves a request at each probe, and is forgotten with the plan and after a failure.
#[tokio::test]
async fn a_legacy_server_is_asked_in_its_era_and_revision_until_the_next_reload() {
    let fake = Fake::new(Mood::Legacy);
    let (state, identity) = over_tcp(&fake, HEALTH, EraChoice::Auto).await;
    let mut learned = Learned::default();
    let legacy = ["initialize ", "notifications/initialized 2025-06-18", "ping 2025-06-18"];
    let both = [&["server/discover 2026-07-28"][..], &legacy].concat();
    probe(&state, &identity, &mut learned).await;
    assert_eq!(fake.methods(), both);
    probe(&state, &identity, &mut learned).await;
    assert_eq!(fake.methods(), legacy);
    fake.set(Mood::Fixed(500, ""));
    probe(&state, &identity, &mut learned).await;
    fake.set(Mood::Legacy);
    assert_eq!(fake.methods(), ["initialize "]);
    probe(&state, &identity, &mut learned).await;
    assert_eq!(fake.methods(), both, "after a failure");
    let again = learned.plan.upgrade().expect("in force");
    learned.plan = Weak::new();
    probe(&state, &identity, &mut learned).await;
    assert_eq!(fake.methods(), both, "under another plan");
    drop(again);
}

#[tokio::test]
async fn two_hundred_probes_leave_no_session_open_however_they_end() {
    let fake = Fake::new(Mood::Legacy);
    let brief = Health { timeout_ms: 100, ..HEALTH };
    let (state, identity) = over_tcp(&fake, brief, EraChoice::Legacy).await;
    let mut learned = Learned::default();
    for round in 0..200 {
        fake.set(match round % 20 {
            0 => Mood::SilentPing,
            1..=5 => Mood::BadPing,
            _ => Mood::Legacy,
        });
        probe(&state, &identity, &mut learned).await;
    }
    assert_eq!((fake.open(), fake.sessions.lock().expect("not poisoned").1), (0, 200));
}

#[tokio::test]
async fn load_reports_of_probes_are_noted_and_unix_sockets_are_probed() {
    let fake = Fake::new(Mood::Modern);
    let folder = Folder::new("probe-unix");
    let listener = UnixListener::bind(folder.path("s")).expect("bound");
    let (state, identity) = state_for(Transport::Unix(folder.path("s")), HEALTH, EraChoice::Auto);
    let serving = Arc::clone(&fake);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            Arc::clone(&serving).serve(stream);
        }
    });
    let mut learned = Learned::default();
    probe(&state, &identity, &mut learned).await;
    assert_eq!(learned.era, Some(EraChoice::Modern));
    let cells = state.shared.cells.load();
    assert_eq!(cells.by_server["up"].instances[0].load.latest(60_000, clock::now()), Some(250));
}

/// Puts another plan in force, as a reload does.
fn adopt(state: &State, edit: impl FnOnce(&mut Server)) {
    let old = state.plan();
    let mut plan = crate::config::load_text(crate::control::tests::CONFIG, "t", std::path::Path::new(""))
        .expect("a good config")
        .plan;
    let (from, to) = (&old.servers[0], &mut plan.servers[0]);
    to.instances.clone_from(&from.instances);
    to.headers.clone_from(&from.headers);
    to.traffic = from.traffic.clone();
    to.tls = None;
    edit(to);
    state.shared.set_plan(Arc::new(plan));
    state.plan_changed.send_replace(());
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = clock::now().plus_millis(20_000);
    while !done() {
        assert!(clock::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn probes_of_one_instance_do_not_overlap_and_follow_the_plan() {
    let fake = Fake::new(Mood::Silent);
    // Each takes five intervals.
    let slow = Health { interval_ms: 10, timeout_ms: 50, unhealthy: 3, healthy: 2 };
    let (state, _) = over_tcp(&fake, slow, EraChoice::Auto).await;
    let began = clock::now();
    let prober = tokio::spawn(Prober::new(Arc::clone(&state)).run());
    let asked = || fake.methods.lock().expect("not poisoned").len();
    until("out of rotation", || !is_up(&state)).await;
    until("more probes", || asked() >= 10).await;
    let most = clock::now().nanos_since(began) / 50_000_000 + 1;
    assert!(asked() as u64 <= most, "{} probes in the time of {most}", asked());
    fake.set(Mood::Modern);
    until("back in rotation", || is_up(&state)).await;
    adopt(&state, |server| server.traffic.health = None);
    until("the last probe", || fake.under_way.load(Relaxed) == 0).await;
    let after = asked();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(asked() <= after + 1, "the plan asks for no probes");
    adopt(&state, |server| server.traffic.health = Some(slow));
    let before = asked();
    until("probed again", || asked() > before + 2).await;
    prober.abort();
}

#[tokio::test]
async fn an_interval_is_kept_whatever_it_was_before() {
    let fake = Fake::new(Mood::Modern);
    let rare = Health { interval_ms: 3_600_000, ..HEALTH };
    let (state, _) = over_tcp(&fake, rare, EraChoice::Auto).await;
    let prober = tokio::spawn(Prober::new(Arc::clone(&state)).run());
    tokio::task::yield_now().await;
    adopt(&state, |server| server.traffic.health = Some(HEALTH));
    let asked = || fake.methods.lock().expect("not poisoned").len();
    until("the new interval", || asked() > 3).await;
    assert_eq!(fake.most.load(Relaxed), 1);
    prober.abort();
}

/// A server that proves to be `name`, and what a client of its own authority needs to see that.
pub(in crate::control) fn tls_of(name: &str) -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, authority_key).expect("an authority");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .expect("a certificate");
    let roots = tls::roots_of_pem(authority.pem().as_bytes()).expect("an authority");
    (Arc::new(server), tls::client(roots, None).expect("a client"))
}

#[tokio::test]
async fn a_server_over_tls_must_prove_its_name() {
    let fake = Fake::new(Mood::Modern);
    let (server, client) = tls_of("fake.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = Arc::clone(&fake);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(session) = tokio_rustls::TlsAcceptor::from(Arc::clone(&server)).accept(stream).await {
                Arc::clone(&serving).serve(session);
            }
        }
    });
    for (name, alive) in [("fake.test", true), ("other.test", false)] {
        let once = Health { unhealthy: 1, ..HEALTH };
        let (state, identity) = state_for(Transport::Address(address), once, EraChoice::Auto);
        adopt(&state, |server| {
            server.tls = Some(Arc::clone(&client));
            server.era = EraChoice::Auto;
            server.instances[0].tls_name = Some(name.try_into().expect("a name"));
        });
        probe(&state, &identity, &mut Learned::default()).await;
        assert_eq!((is_up(&state), fake.methods().len()), (alive, usize::from(alive)), "{name}");
    }
}
