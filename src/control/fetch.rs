//! One request to a service that the gateway needs: an issuer's keys, a token endpoint, a vault. HTTPS, one connection
//! a request, bounded in time and bytes, no redirect followed.
//!
//! Not here: what is asked and what an answer means. A URL that another service named is not trusted as the operator's
//! own: it may not lead nearer to us than that service is (`zone`), whatever its name resolves to.

mod form;
#[cfg(test)]
mod tests;
mod zone;

use crate::config::address;
use crate::config::address::Flaw;
use crate::config::address::Url;
use crate::config::limits;
use crate::config::plan::Transport;
use crate::config::tls;
use crate::control::fetch::zone::Zone;
use crate::control::resolve::Lookup;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper::header::HeaderMap;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::{self, Debug, Display, Formatter};
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Who wrote a URL, which says where it may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The operator: anywhere.
    Operator,
    /// A service of this zone: no nearer to us than itself.
    Peer(Zone),
}

/// A request to be sent. It holds secrets and is not printed.
pub(crate) struct Fetch<'a> {
    url: &'a str,
    reach: Reach,
    /// None: the system's authorities vouch for the service.
    tls: Option<&'a Arc<ClientConfig>>,
    method: Method,
    fields: HeaderMap,
    body: Bytes,
    /// Longest answer.
    bytes_max: usize,
    /// Time for a whole answer; None: as for all.
    patience: Option<Duration>,
}

/// Asks for a document.
pub(crate) fn get(url: &str) -> Fetch<'_> {
    Fetch {
        url,
        reach: Reach::Operator,
        tls: None,
        method: Method::GET,
        fields: HeaderMap::new(),
        body: Bytes::new(),
        bytes_max: limits::FETCHED_BYTES_MAX,
        patience: None,
    }
}

/// Sends a form, as OAuth's endpoints want it (RFC 6749 appendix B).
pub(crate) fn post_form<'a>(url: &'a str, fields: &[(&str, &str)]) -> Fetch<'a> {
    post(url, "application/x-www-form-urlencoded", form::encode(fields))
}

/// The query of a URL, in the same form.
pub(crate) fn query(fields: &[(&str, &str)]) -> String {
    form::encode(fields)
}

/// Names and values of such a query; what is no UTF-8 is left out.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form::decode(query)
}

/// Sends a JSON document.
pub(crate) fn post_json(url: &str, document: String) -> Fetch<'_> {
    post(url, "application/json", document)
}

fn post<'a>(url: &'a str, kind: &'static str, body: String) -> Fetch<'a> {
    let fetch = Fetch { method: Method::POST, body: Bytes::from(body), ..get(url) };
    fetch.with(header::CONTENT_TYPE, HeaderValue::from_static(kind))
}

impl<'a> Fetch<'a> {
    /// The operator said who may vouch for the service.
    pub(crate) fn trusting(self, tls: Option<&'a Arc<ClientConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// The URL was not written by the operator.
    pub(crate) fn within(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The answer has so many bytes at most.
    pub(crate) fn at_most(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Somebody has said how long it may take.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.insert(name, value);
        self
    }

    /// Says who asks: a client and its secret (RFC 6749 section 2.3.1).
    pub(crate) fn basic(self, id: &str, secret: &str) -> Self {
        self.with(header::AUTHORIZATION, form::basic(id, secret))
    }
}

/// The answer: its status is none of 1xx and 3xx, its body whole.
pub(crate) struct Fetched {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Seconds for which it is fresh, where it says so (RFC 9111 section 5.2.2); 0: it may not be kept.
    pub(crate) max_age: Option<u64>,
    /// Where URLs that it names may lead.
    pub(crate) reach: Reach,
}

/// A body may be a secret.
impl Debug for Fetched {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.status, self.body.len())
    }
}

/// Why there is no answer, as the end of a sentence; it never quotes the answer or the URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    /// What is wrong with the URL.
    Url(Flaw),
    /// Plain HTTP to another host.
    Plain,
    /// It leads nearer to us than the service that named it.
    TooNear,
    Unresolved,
    Unconnected(String),
    /// No authority that may vouch for it did so for this name.
    Untrusted(String),
    /// A redirect, which is not followed: the operator names the right URL.
    Redirected(u16),
    /// More than it may have.
    TooLong,
    Broken(String),
    /// Nothing, or no more, within `QUESTION_MS`, or the time that was said.
    Late,
}

impl Display for FetchError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(flaw) => write!(f, "its URL {flaw}"),
            Self::Plain => f.write_str("plain http:// is for loopback only; use https://"),
            Self::TooNear => f.write_str("the URL that was named leads into a network of ours"),
            Self::Unresolved => f.write_str("its name does not resolve"),
            Self::Untrusted(why) => write!(f, "its certificate is not to be trusted ({why})"),
            Self::Unconnected(why) => write!(f, "no connection: {why}"),
            Self::Redirected(status) => write!(f, "it redirects ({status}); name the final URL"),
            Self::TooLong => f.write_str("the answer is too long"),
            Self::Broken(why) => write!(f, "no whole answer: {why}"),
            Self::Late => f.write_str("no whole answer in time"),
        }
    }
}

/// What all requests share.
pub(crate) struct Fetcher {
    lookup: Lookup,
    lookups: Arc<Semaphore>,
    tls: OnceCell<Arc<ClientConfig>>,
    patience: Duration,
}

impl Fetcher {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self {
            lookup,
            lookups: Arc::new(Semaphore::new(limits::FETCH_RESOLVES_MAX)),
            tls: OnceCell::new(),
            patience: Duration::from_millis(limits::QUESTION_MS),
        }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// See [`FetchError`]; any status but a redirect's is an answer.
    pub(crate) async fn send(&self, fetch: Fetch<'_>) -> Result<Fetched, FetchError> {
        let patience = fetch.patience.unwrap_or(self.patience);
        tokio::time::timeout(patience, self.exchange(fetch)).await.unwrap_or(Err(FetchError::Late))
    }

    async fn exchange(&self, fetch: Fetch<'_>) -> Result<Fetched, FetchError> {
        let url = address::url(fetch.url).map_err(FetchError::Url)?;
        let (stream, zone) = self.connect(&url, fetch.reach, fetch.tls).await?;
        let bytes_max = fetch.bytes_max;
        let request = request(&url, fetch)?;
        let broken = |error: hyper::Error| FetchError::Broken(error.to_string());
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits::ANSWER_HEAD_BYTES_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with this request, however it ends.
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its faults are told to whoever waits for the answer.
            let _ = connection.await;
        });
        let answer = sender.send_request(request).await.map_err(broken)?;
        read(answer, Reach::Peer(zone), bytes_max).await
    }

    /// A connection to an address that was looked at, and where that is.
    async fn connect(
        &self,
        url: &Url,
        reach: Reach,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<(Box<dyn Stream>, Zone), FetchError> {
        let addresses = match &url.transport {
            Transport::Address(address) => vec![*address],
            Transport::Name { host, port, .. } => self.resolve(host, *port).await?,
            Transport::Unix(_) => return Err(FetchError::Url("is a Unix socket's")),
        };
        let permitted = permitted(&addresses, url.tls, reach)?;
        let unconnected = |error: std::io::Error| FetchError::Unconnected(error.to_string());
        let plain = TcpStream::connect(&*permitted).await.map_err(unconnected)?;
        let connected = plain.peer_addr().map_err(unconnected)?.ip();
        // An operator's service at an address that is in no zone is trusted with the open internet.
        let zone = Zone::of(connected).unwrap_or(Zone::Open);
        if !url.tls {
            return Ok((Box::new(plain), zone));
        }
        let name = ServerName::try_from(url.host.to_string())
            .map_err(|_| FetchError::Url("names a host that no certificate can name"))?;
        let tls = match tls {
            Some(tls) => Arc::clone(tls),
            None => self.tls().await?,
        };
        let secured = TlsConnector::from(tls).connect(name, plain).await.map_err(unproven)?;
        Ok((Box::new(secured), zone))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let (lookup, host) = (self.lookup, Box::<str>::from(host));
        let found = tokio::task::spawn_blocking(move || {
            let found = lookup(&host, port);
            // Held as long as the thread, whoever stopped waiting.
            drop(permit);
            found
        });
        found.await.ok().and_then(Result::ok).filter(|found| !found.is_empty()).ok_or(FetchError::Unresolved)
    }

    /// Reads the system's authorities once; that takes milliseconds.
    async fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        let made = self.tls.get_or_try_init(|| async {
            let made = tokio::task::spawn_blocking(|| tls::client(tls::system_roots(), None)).await;
            made.ok().and_then(Result::ok).ok_or_else(|| FetchError::Unconnected("there is no TLS".into()))
        });
        made.await.cloned()
    }
}

/// Why a handshake failed.
fn unproven(error: std::io::Error) -> FetchError {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        // What is wrong, without the names that it bears: those are the peer's words.
        Some(rustls::Error::InvalidCertificate(why)) => {
            let mut why = format!("{why:?}");
            let end = why.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(why.len());
            why.truncate(end);
            FetchError::Untrusted(why)
        }
        _ => FetchError::Unconnected(error.to_string()),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Those of the addresses that may be connected to; never none of them.
fn permitted(addresses: &[SocketAddr], tls: bool, reach: Reach) -> Result<Vec<SocketAddr>, FetchError> {
    let reachable = |address: IpAddr| match reach {
        Reach::Operator => true,
        Reach::Peer(own) => Zone::of(address).is_some_and(|zone| zone <= own),
    };
    let secure = |address: IpAddr| tls || Zone::of(address) == Some(Zone::Loopback);
    let near: Vec<SocketAddr> = addresses.iter().copied().filter(|address| reachable(address.ip())).collect();
    if near.is_empty() {
        return Err(FetchError::TooNear);
    }
    let permitted: Vec<_> = near.into_iter().filter(|address| secure(address.ip())).collect();
    if permitted.is_empty() { Err(FetchError::Plain) } else { Ok(permitted) }
}

fn request(url: &Url, fetch: Fetch<'_>) -> Result<Request<Full<Bytes>>, FetchError> {
    const AGENT: &str = concat!("ringgate/", env!("CARGO_PKG_VERSION"));
    let mut request = Request::builder()
        .method(fetch.method)
        .uri(&*url.target)
        .header(header::HOST, &*url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, AGENT)
        .body(Full::new(fetch.body))
        .map_err(|_| FetchError::Url("cannot be asked for"))?;
    request.headers_mut().extend(fetch.fields);
    Ok(request)
}

async fn read(answer: Response<Incoming>, reach: Reach, bytes_max: usize) -> Result<Fetched, FetchError> {
    let (head, mut body) = answer.into_parts();
    let status = head.status.as_u16();
    if head.status.is_redirection() {
        return Err(FetchError::Redirected(status));
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchError::Broken(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > bytes_max {
            return Err(FetchError::TooLong);
        }
        whole.extend_from_slice(data);
    }
    Ok(Fetched { status, body: whole, max_age: max_age(&head.headers), reach })
}

fn max_age(fields: &HeaderMap) -> Option<u64> {
    let texts = fields.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in texts.flat_map(|text| text.split(',')).map(|text| text.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if directive == "no-store" || directive == "no-cache" => return Some(0),
            Some(("max-age", seconds)) => age = seconds.trim_matches('"').parse().ok().or(age),
            _ => {}
        }
    }
    age
}
