//! Requests to a service on loopback that answers well, badly, or not at all.
//!
//! Not here: what answers mean.

use super::*;
use crate::control::probe::tests::tls_of;
use crate::control::resolve;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::with_field;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn fetcher() -> Fetcher {
    Fetcher::new(resolve::system)
}

#[tokio::test]
async fn an_answer_comes_whole_whatever_its_status() {
    for status in [200, 204, 400, 401, 500] {
        let body = if status == 204 { "" } else { "{\"a\": 1}" };
        let stub = Stub::start(move |_| json(status, body)).await;
        let fetched = fetcher().send(get(&stub.url("/keys?a=b"))).await.expect("an answer");
        assert_eq!((fetched.status, &*fetched.body), (status, body.as_bytes()));
        assert_eq!(fetched.reach, Reach::Peer(Zone::Loopback));
        let requests = stub.requests();
        assert!(requests[0].starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{requests:?}");
    }
}

#[tokio::test]
async fn forms_and_documents_are_sent_with_credentials() {
    let stub = Stub::start(|_| json(200, "{}")).await;
    let url = stub.url("/token");
    let form = post_form(&url, &[("grant_type", "client_credentials"), ("scope", "a b")]);
    fetcher().send(form.basic("gate way", "s:1")).await.expect("an answer");
    fetcher().send(post_json(&url, serde_json::json!({"input": 1}).to_string())).await.expect("an answer");
    let requests = stub.requests();
    for part in [
        "POST /token HTTP/1.1\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        // gate+way:s%3A1
        "authorization: Basic Z2F0ZSt3YXk6cyUzQTE=\r\n",
        "\r\n\r\ngrant_type=client_credentials&scope=a+b",
    ] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
    assert!(requests[1].contains("content-type: application/json\r\n"), "{}", requests[1]);
    assert!(requests[1].ends_with("{\"input\":1}") && !requests[1].contains("authorization"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Stub::start(|_| json(200, "{}")).await;
    let location = format!("Location: {}", other.url("/"));
    for status in [301, 302, 303, 307, 308, 304] {
        let location = location.clone();
        let stub = Stub::start(move |_| with_field(status, &location, "")).await;
        let error = fetcher().send(get(&stub.url("/"))).await.expect_err("no answer");
        assert_eq!(error, FetchError::Redirected(status));
    }
    assert!(other.requests().is_empty());
}

/// Sends for ever, and says how much was taken before the client left.
async fn flood(head: &'static str) -> (String, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let sending = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut sent = 0;
        // Chunks of 4 KiB.
        let piece = ["1000\r\n".as_bytes(), &[b' '; 0x1000], b"\r\n"].concat();
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    });
    (url, sending)
}

/// 1 GB, or no end at all: as much is read as an answer may have, and the connection is closed.
#[tokio::test]
async fn an_answer_without_end_is_a_bounded_read() {
    let heads = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ];
    for head in heads {
        let (url, sending) = flood(head).await;
        assert_eq!(fetcher().send(get(&url)).await.expect_err("too long"), FetchError::TooLong, "{head}");
        let sent = sending.await.expect("no panic");
        // What the sockets held beside it.
        assert!(sent < 16 * limits::FETCHED_BYTES_MAX, "{sent} bytes were taken");
    }
}

/// Before its head, inside it, and inside its body.
#[tokio::test]
async fn a_silent_service_is_not_waited_for() {
    for bytes in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let fetcher = Fetcher { patience: Duration::from_millis(20), ..fetcher() };
        let asked = async { fetcher.send(get(&url)).await };
        let silent = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(bytes.as_bytes()).await.expect("sent");
            stream
        };
        let (asked, _open) = tokio::join!(asked, silent);
        assert_eq!(asked.expect_err("late"), FetchError::Late, "{bytes:?}");
    }
    assert_eq!(fetcher().patience, Duration::from_millis(limits::QUESTION_MS));
}

/// A rule that asked a decision point for ten seconds waited for two, as long as for all others.
#[tokio::test]
async fn regression_a_service_has_the_time_that_was_said() {
    let stub = Stub::start(|_| json(200, "{}")).await;
    let url = stub.url("/");
    let fetcher = Fetcher { patience: Duration::from_millis(20), ..fetcher() };
    stub.hold();
    // Both are asked at once, and answered when the one has given up.
    let patient = fetcher.send(get(&url).patient(Duration::from_secs(10)));
    let hurried = async {
        let hurried = fetcher.send(get(&url)).await;
        stub.release();
        hurried
    };
    let (patient, hurried) = tokio::join!(patient, hurried);
    assert_eq!(hurried.expect_err("late"), FetchError::Late);
    assert_eq!(patient.expect("an answer").status, 200);
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    for bytes in ["", "SSH-2.0\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc"] {
        let stub = Stub::start(move |_| bytes.into()).await;
        let error = fetcher().send(get(&stub.url("/"))).await.expect_err("no answer");
        assert!(matches!(error, FetchError::Broken(_)), "{bytes:?}: {error:?}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let error = fetcher().send(get(&format!("http://{gone}/"))).await.expect_err("nobody");
    assert!(matches!(error, FetchError::Unconnected(_)), "{error:?}");
}

/// RFC 6761: `.test` names never resolve.
fn inside(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = match host {
        "metadata.test" => "169.254.169.254",
        "private.test" => "10.0.0.1",
        "mapped.test" => "::ffff:127.0.0.1",
        "loopback.test" => "127.0.0.1",
        "open.test" => "93.184.216.34",
        _ => return Err(io::Error::other("NXDOMAIN")),
    };
    Ok(vec![SocketAddr::new(addresses.parse().expect("an address"), port)])
}

/// What a peer names is looked at after its name was resolved; nothing is connected to where it may not lead.
#[tokio::test]
async fn a_peer_names_nothing_nearer_than_itself() {
    let stub = Stub::start(|_| json(200, "{}")).await;
    let port = stub.url("").rsplit(':').next().expect("a port").to_owned();
    let fetcher = Fetcher::new(inside);
    let near = |zone| {
        let urls = [
            ("loopback.test", Zone::Loopback),
            ("mapped.test", Zone::Loopback),
            ("127.0.0.1", Zone::Loopback),
            ("[::ffff:127.0.0.1]", Zone::Loopback),
            ("private.test", Zone::Private),
            ("10.0.0.1", Zone::Private),
        ];
        urls.into_iter().filter(move |(_, place)| *place > zone).map(|(host, _)| host)
    };
    for zone in [Zone::Open, Zone::Private] {
        for host in near(zone).chain(["metadata.test", "169.254.169.254", "[fe80::1]", "0.0.0.0"]) {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}:{port}/");
                let asked = fetcher.send(get(&url).within(Reach::Peer(zone))).await;
                assert_eq!(asked.expect_err("refused"), FetchError::TooNear, "{url} from {zone:?}");
            }
        }
    }
    let metadata = get("http://169.254.169.254/").within(Reach::Peer(Zone::Loopback));
    assert_eq!(fetcher.send(metadata).await.expect_err("refused"), FetchError::TooNear);
    assert!(stub.requests().is_empty());
    for host in ["loopback.test", "127.0.0.1"] {
        let url = format!("http://{host}:{port}/");
        for reach in [Reach::Operator, Reach::Peer(Zone::Loopback)] {
            assert_eq!(fetcher.send(get(&url).within(reach)).await.expect("an answer").status, 200);
        }
    }
}

#[tokio::test]
async fn plain_http_and_odd_addresses_are_refused_before_a_connection() {
    let fetcher = Fetcher::new(inside);
    for url in ["http://private.test/", "http://open.test/", "http://10.0.0.1/", "http://8.8.8.8/"] {
        assert_eq!(fetcher.send(get(url)).await.expect_err("refused"), FetchError::Plain, "{url}");
    }
    assert_eq!(fetcher.send(get("https://a.test/")).await.expect_err("refused"), FetchError::Unresolved);
    for url in [
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://a@b.test/",
        "file:///etc/passwd",
        "ftp://a.test/",
        "unix:/run/a.sock:/",
        "https://open.test/#a",
        "",
    ] {
        let error = fetcher.send(get(url)).await.expect_err("refused");
        assert!(matches!(error, FetchError::Url(_)), "{url}: {error:?}");
    }
}

/// The certificate must name the host, and be signed by an authority of the system.
#[tokio::test]
async fn a_service_over_tls_must_prove_its_name() {
    let (server, client) = tls_of("loopback.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let serving = tokio::spawn(async move {
        let mut served = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&server));
            if let Ok(mut session) = acceptor.accept(stream).await {
                session.write_all(&json(200, "{}")).await.expect("sent");
                let _ = session.shutdown().await;
                served += 1;
                if served == 2 {
                    break;
                }
            }
        }
    });
    let trusting = Fetcher { tls: OnceCell::from(client), ..Fetcher::new(inside) };
    let good = format!("https://loopback.test:{port}/");
    for reach in [Reach::Operator, Reach::Peer(Zone::Loopback)] {
        assert_eq!(trusting.send(get(&good).within(reach)).await.expect("an answer").status, 200);
        let other = format!("https://127.0.0.1:{port}/");
        for (fetcher, url) in [(&trusting, &other), (&Fetcher::new(inside), &good)] {
            if reach == Reach::Operator {
                let error = fetcher.send(get(url)).await.expect_err("refused");
                assert!(matches!(error, FetchError::Untrusted(_)), "{url}: {error:?}");
            }
        }
    }
    serving.await.expect("no panic");
}

#[tokio::test]
async fn an_answer_says_how_long_it_is_fresh() {
    for (text, expected) in [
        ("Cache-Control: public, max-age=300, must-revalidate", Some(300)),
        ("cache-control: MAX-AGE=\"5\"", Some(5)),
        ("Cache-Control: max-age=60, no-store", Some(0)),
        ("Cache-Control: no-cache", Some(0)),
        ("Cache-Control: max-age=-1", None),
        ("Cache-Control: s-maxage=9", None),
        ("X-Other: max-age=9", None),
    ] {
        let stub = Stub::start(move |_| with_field(200, text, "{}")).await;
        assert_eq!(fetcher().send(get(&stub.url("/"))).await.expect("an answer").max_age, expected, "{text}");
    }
}

#[tokio::test]
async fn nothing_of_an_answer_is_printed() {
    let stub = Stub::start(|_| json(200, "canary")).await;
    let fetched = fetcher().send(get(&stub.url("/"))).await.expect("an answer");
    assert_eq!(format!("{fetched:?}"), "200 with 6 bytes");
}
