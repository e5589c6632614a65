//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/version`, `/api/v1/…`.
//!
//! Not here: what changes the gateway (`kills`, `quotas`); all else is GET or HEAD and its body is never read. Host and Origin are checked, so that a web page that a name was rebound for reads nothing.
//! Connections are few and short-lived: whoever holds them open hurts only other admin connections, and
//! even these only until the oldest is closed.

mod api;
mod kills;
mod quotas;

use crate::base::clock;
use crate::config::limits;
use crate::control::gauges;
use crate::control::state::State;
use crate::handoff::Phase;
use crate::telemetry::expose;
use crate::telemetry::expose::Beside;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderMap;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Bytes of a head that the listener reads at most (hyper's least is 8 KiB).
const HEAD_BYTES: usize = 8 * 1024;
/// Pause after an accept that failed, most often for want of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

const INDEX: &str = "Ringgate admin listener: /metrics /livez /readyz /version /api/v1/info /api/v1/kills /api/v1/quotas/PRINCIPAL\n\
                     How to use them: chapter Operating of the README; tuning/README.md for the host.\n";

type Answer = Response<Full<Bytes>>;

/// Serves until the task is dropped, its connections with it.
pub(crate) async fn serve(state: Arc<State>, listener: TcpListener) {
    let mut open = Open(VecDeque::new());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.admit(tokio::spawn(connection(Arc::clone(&state), stream)).abort_handle())
            }
            Err(error) => {
                tracing::debug!(%error, "the admin listener cannot accept");
                // What failed fails again at once: descriptors have to be given back first.
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// Connections in the order in which they came.
struct Open(VecDeque<AbortHandle>);

impl Open {
    fn admit(&mut self, newest: AbortHandle) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= limits::ADMIN_CONNECTIONS_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(newest);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn connection(state: Arc<State>, stream: TcpStream) {
    let Ok(own) = stream.local_addr() else { return };
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, own.ip(), request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::ADMIN_HEADER_TIMEOUT_MS))
        .max_buf_size(HEAD_BYTES)
        .max_headers(limits::FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Faults of one connection are its own.
    let _ = tokio::time::timeout(Duration::from_millis(limits::ADMIN_CONNECTION_MS), served).await;
}

async fn answer(state: &Arc<State>, own: IpAddr, request: Request<Incoming>) -> Answer {
    if let Err(refusal) = check_source(own, &request) {
        return text(refusal.0, refusal.1);
    }
    if let Some(below) = api::below(&request, "kills") {
        return kills::answer(state, &below, request).await;
    }
    if let Some(below) = api::below(&request, "quotas") {
        return quotas::answer(state, &below, &request);
    }
    if api::below(&request, "usage").is_some() {
        return quotas::usage(state, request).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/healthz" => {
            ready(state, request.uri().query().is_some_and(|query| query.starts_with("verbose")))
        }
        "/metrics" => metrics(state).await,
        "/version" => json(&serde_json::json!({ "name": "ringgate", "version": env!("CARGO_PKG_VERSION") })),
        "/api/v1/info" => json(&info(state)),
        _ => text(StatusCode::NOT_FOUND, "Nothing is here; / lists what is.\n"),
    }
}

/// DNS rebinding: a page may make a browser send requests here under a name of its own.
fn check_source(own: IpAddr, request: &Request<Incoming>) -> Result<(), (StatusCode, &'static str)> {
    const HOST: &str = "Host is not this listener: use localhost or its own address.\n";
    const ORIGIN: &str = "Origin is not this listener: pages of other sites may not read it.\n";
    let hosts = only(request.headers(), header::HOST).map_err(|()| (StatusCode::BAD_REQUEST, HOST))?;
    let Some(host) = hosts else { return Err((StatusCode::BAD_REQUEST, HOST)) };
    if !is_ours(own, host) || request.uri().authority().is_some_and(|named| !is_ours(own, named.as_str())) {
        return Err((StatusCode::FORBIDDEN, HOST));
    }
    match only(request.headers(), header::ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if origin_is_ours(own, origin) => Ok(()),
        _ => Err((StatusCode::FORBIDDEN, ORIGIN)),
    }
}

/// The one value of a field, none if it is absent.
fn only(fields: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn origin_is_ours(own: IpAddr, origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| is_ours(own, authority))
}

/// Loopback by name or address, or the address that the connection came in at. Any port: a forwarded
/// one differs from ours.
fn is_ours(own: IpAddr, authority: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    match address.map(|address| address.to_canonical()) {
        Some(address) => address.is_loopback() || address == own.to_canonical(),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

/// `host` of `host[:port]`, an IPv6 address with its brackets.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let good = port.is_empty() || (port.starts_with(':') && digits.parse::<u16>().is_ok());
    good.then_some(host)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

/// `allowed` is the value of `Allow`.
fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("Use one of: {allowed}.\n"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn json(value: &serde_json::Value) -> Answer {
    typed(StatusCode::OK, "application/json", format!("{value}\n"))
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Off this thread: many label sets and descriptors take more than a millisecond.
async fn metrics(state: &Arc<State>) -> Answer {
    let state = Arc::clone(state);
    let rendered = tokio::task::spawn_blocking(move || {
        let mut out = String::new();
        let workers = state.shared.posts.iter().map(|post| &post.metrics);
        let beside = Beside {
            process: state.process_facts(),
            gauges: gauges::read(&state.shared, clock::now()),
            families: &state.families,
        };
        expose::render(&mut out, workers, &beside);
        out
    });
    match rendered.await {
        Ok(body) => typed(StatusCode::OK, expose::CONTENT_TYPE, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be gathered.\n"),
    }
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
    }
}

fn ready(state: &State, verbose: bool) -> Answer {
    let phase = state.shared.phase();
    let serving = phase == Phase::Serving;
    let status = if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::new();
    if verbose {
        let sign = if serving { '+' } else { '-' };
        let newest = if state.last_reload_failed.read() == 0 { "in force" } else { "rejected" };
        // Writing to a String cannot fail.
        let _ = writeln!(body, "[{sign}]phase {}", phase_name(phase));
        let _ = writeln!(body, "[+]config newest is {newest}, plan {}", state.shared.plan.load().digest);
        let _ = writeln!(body, "[+]workers {}", state.shared.posts.len());
    }
    body.push_str(if serving { "ok\n" } else { phase_name(phase) });
    text(status, body)
}

fn info(state: &State) -> serde_json::Value {
    let started = i64::try_from(state.started_unix_ms).ok();
    let started = started.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "plan": state.shared.plan.load().digest,
        "workers": state.shared.posts.len(),
        "phase": phase_name(state.shared.phase()),
        "startedAt": started.map(|time| time.to_string()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::plan::Plan;
    use crate::control::tests::state_with;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    /// A listener on port 0, and what it says to raw requests.
    pub(crate) struct Admin {
        pub(crate) state: Arc<State>,
        address: std::net::SocketAddr,
        task: tokio::task::JoinHandle<()>,
    }

    impl Admin {
        async fn new() -> Self {
            Self::with(|_| {}).await
        }

        /// Over a plan changed by `edit`.
        pub(crate) async fn with(edit: impl FnOnce(&mut Plan)) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            let state = Arc::new(state_with(2, edit));
            let task = tokio::spawn(serve(Arc::clone(&state), listener));
            Self { state, address, task }
        }

        async fn raw(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            answer
        }

        pub(crate) async fn get(&self, target: &str) -> (u16, String) {
            self.send("GET", target, "", "").await
        }

        /// `fields` are whole lines.
        pub(crate) async fn send(
            &self,
            method: &str,
            target: &str,
            fields: &str,
            body: &str,
        ) -> (u16, String) {
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}");
            let answer = self.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (status(head), body.to_owned())
        }

        /// A JSON body that says so.
        pub(crate) async fn post(&self, target: &str, body: &str) -> (u16, String) {
            self.send("POST", target, "Content-Type: application/json\r\n", body).await
        }
    }

    impl Drop for Admin {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn status(answer: &str) -> u16 {
        answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    #[tokio::test]
    async fn every_endpoint_answers() {
        let admin = Admin::new().await;
        admin.state.shared.enter(Phase::Serving);
        admin.state.shared.posts[1].metrics.inflight.set(3);
        let digest = admin.state.plan().digest.clone();
        let table = [
            ("/", 200, "/metrics"),
            ("/livez", 200, "ok"),
            ("/readyz", 200, "ok"),
            ("/readyz?verbose", 200, digest.as_str()),
            ("/healthz", 200, "ok"),
            ("/metrics", 200, "\nringgate_inflight 3\n"),
            ("/metrics", 200, "\nringgate_kills_active{kind=\"all\"} 0\n"),
            (
                "/metrics",
                200,
                "\nringgate_instance_up{server=\"up\",instance=\"https://upstream.test:3000\"} 1\n",
            ),
            ("/version", 200, env!("CARGO_PKG_VERSION")),
            ("/api/v1/info", 200, digest.as_str()),
            ("/api/v1/info", 200, "\"phase\":\"serving\""),
            ("/api/v1/other", 404, "Nothing"),
        ];
        for (target, expected, contained) in table {
            let (status, body) = admin.get(target).await;
            assert_eq!(status, expected, "{target}");
            assert!(body.contains(contained), "{target}: {body}");
        }
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_a_rejected_reload_does_not_end_it() {
        let admin = Admin::new().await;
        assert_eq!(admin.get("/readyz").await, (503, "starting".to_owned()));
        admin.state.shared.enter(Phase::Serving);
        admin.state.last_reload_failed.set(1);
        assert_eq!(admin.get("/readyz").await.0, 200);
        admin.state.shared.enter(Phase::Draining);
        assert_eq!(admin.get("/readyz").await, (503, "draining".to_owned()));
        assert_eq!(admin.get("/livez").await.0, 200);
    }

    #[tokio::test]
    async fn only_get_and_head() {
        let admin = Admin::new().await;
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            let fields = "Host: localhost\r\nConnection: close\r\nContent-Length: 0\r\n";
            let answer = admin.raw(&format!("{method} /metrics HTTP/1.1\r\n{fields}\r\n")).await;
            assert_eq!(status(&answer), 405, "{method}");
        }
        let answer = admin.raw("HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }

    #[tokio::test]
    async fn foreign_hosts_and_origins_are_refused_on_every_endpoint() {
        let admin = Admin::new().await;
        admin.state.shared.enter(Phase::Serving);
        let hosts = [
            ("localhost", 200),
            ("LOCALHOST:9090", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1:1", 200),
            ("[::1]:9090", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("evil.test", 403),
            ("localhost.evil.test", 403),
            ("127.0.0.1.evil.test", 403),
            ("10.0.0.1", 403),
            ("localhost:x", 403),
            ("", 403),
        ];
        let origins = [
            (None, 200),
            (Some("http://localhost:3000"), 200),
            (Some("http://127.0.0.1:9090"), 200),
            (Some("null"), 403),
            (Some("http://evil.test"), 403),
            (Some("http://localhost@evil.test"), 403),
            (Some("file://localhost"), 403),
        ];
        for target in
            ["/", "/livez", "/readyz", "/healthz", "/metrics", "/version", "/api/v1/info", "/api/v1/kills"]
        {
            for (host, by_host) in hosts {
                for (origin, by_origin) in origins {
                    let field = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
                    let fields = format!("Host: {host}\r\n{field}Connection: close\r\n");
                    let answer = admin.raw(&format!("GET {target} HTTP/1.1\r\n{fields}\r\n")).await;
                    let expected = by_host.max(by_origin);
                    assert_eq!(status(&answer), expected, "{target} {host:?} {origin:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_missing_or_doubled_host_is_refused() {
        let admin = Admin::new().await;
        for fields in ["", "Host: localhost\r\nHost: localhost\r\n"] {
            let request = format!("GET /livez HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
            assert_eq!(status(&admin.raw(&request).await), 400, "{fields:?}");
        }
        let request = "GET http://evil.test/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(status(&admin.raw(request).await), 403);
    }

    #[tokio::test]
    async fn whoever_holds_connections_open_does_not_keep_a_probe_out() {
        let admin = Admin::new().await;
        let mut held = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS_MAX + 10 {
            let mut stream = TcpStream::connect(admin.address).await.expect("connected");
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.expect("sent");
            held.push(stream);
        }
        assert_eq!(admin.get("/livez").await.0, 200);
        let mut end = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(5), held[0].read(&mut end)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "the oldest is closed");
    }

    #[tokio::test]
    async fn a_body_is_never_waited_for() {
        let admin = Admin::new().await;
        let mut stream = TcpStream::connect(admin.address).await.expect("connected");
        let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer before the body");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
