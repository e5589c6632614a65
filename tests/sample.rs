//! The sample servers over their Unix socket, in both eras, through a client that knows no SDK.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use ringgate::adapters::sample;
use ringgate::cli::demo::calls::Call;
use ringgate::cli::demo::calls::Caller;
use ringgate::cli::demo::client::Answer;
use ringgate::cli::demo::client::Client;
use serde_json::Value;
use serde_json::json;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A hang is a failure: longer than any answer here takes on a busy machine.
const SILENCE: Duration = Duration::from_secs(20);

struct Servers {
    directory: PathBuf,
    handle: Option<sample::Handle>,
}

impl Servers {
    fn start(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("ringgate-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let handle = sample::start(vec![directory.join("s")]).unwrap();
        Self { directory, handle: Some(handle) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    fn connect(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        Client::new(stream, "sample")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.handle.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Modern,
    Legacy,
}

/// A client of one server that has done what its era asks before the first call.
struct Peer {
    era: Era,
    caller: Caller,
    session: String,
    client: Client<UnixStream>,
}

impl Peer {
    fn join(servers: &Servers, era: Era, path: &str) -> Self {
        let caller = Caller { target: path.to_owned(), key: None };
        let mut client = servers.connect();
        let mut session = String::new();
        if era == Era::Legacy {
            let opened = client.call(&caller.initialize(1)).unwrap();
            assert_eq!(opened.message().unwrap()["result"]["protocolVersion"], "2025-11-25");
            session = opened.head.field("mcp-session-id").unwrap().to_owned();
            assert_eq!(client.call(&caller.initialized(&session)).unwrap().head.status, 202);
        }
        Self { era, caller, session, client }
    }

    fn request(&self, call: &Call) -> ringgate::cli::demo::client::Request {
        match self.era {
            Era::Modern => self.caller.modern(2, call),
            Era::Legacy => self.caller.legacy(&self.session, 2, call),
        }
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let request = self.request(call);
        self.client.call(&request).unwrap()
    }

    fn message(&mut self, call: &Call) -> Value {
        self.answer(call).message().unwrap()
    }

    fn result(&mut self, call: &Call) -> Value {
        self.message(call)["result"].take()
    }
}

fn in_both_eras(test: &str, path: &str, check: impl Fn(&mut Peer)) {
    let servers = Servers::start(test);
    for era in [Era::Modern, Era::Legacy] {
        check(&mut Peer::join(&servers, era, path));
    }
}

fn tool_names(peer: &mut Peer) -> Vec<String> {
    let result = peer.result(&Call::plain("tools/list"));
    let tools = result["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_shop_lists_its_tools() {
    in_both_eras("shop-list", sample::SHOP_PATH, |peer| {
        let expected = ["export_report", "issue_refund", "order_status", "search_orders", "track_parcel"];
        assert_eq!(tool_names(peer), expected, "{:?}", peer.era);
    });
}

#[test]
fn the_operations_desk_lists_other_tools() {
    in_both_eras("operations-list", sample::OPERATIONS_PATH, |peer| {
        assert_eq!(tool_names(peer), ["list_services", "restart_service", "run_backup", "slow_query"]);
    });
}

#[test]
fn orders_are_found() {
    in_both_eras("orders", sample::SHOP_PATH, |peer| {
        let found = peer.result(&Call::tool("search_orders", json!({ "query": "tent", "limit": 5 })));
        assert_eq!(found["structuredContent"]["count"], 2);
        let status = peer.result(&Call::tool("order_status", json!({ "order_id": "FO-1006" })));
        assert_eq!(status["structuredContent"]["status"], "packing");
    });
}

#[test]
fn a_large_refund_is_an_error_of_the_tool() {
    in_both_eras("refund", sample::SHOP_PATH, |peer| {
        let refund =
            |cents: u32| Call::tool("issue_refund", json!({ "order_id": "FO-1002", "amount_cents": cents }));
        for (cents, is_error) in [(20_000, false), (20_001, true), (0, true)] {
            let result = peer.result(&refund(cents));
            assert_eq!(result["isError"].as_bool().unwrap_or(false), is_error, "{cents}: {result}");
        }
    });
}

#[test]
fn the_carrier_fails_every_third_call() {
    let servers = Servers::start("carrier");
    let mut peer = Peer::join(&servers, Era::Modern, sample::SHOP_PATH);
    let call = Call::tool("track_parcel", json!({ "order_id": "FO-1002" }));
    let failed: Vec<_> = (0..6).map(|_| peer.result(&call)["isError"].as_bool().unwrap_or(false)).collect();
    assert_eq!(failed, [false, false, true, false, false, true]);
}

#[test]
fn a_report_of_8_mib_arrives_whole_and_no_larger_one_is_made() {
    in_both_eras("report", sample::SHOP_PATH, |peer| {
        for (asked, got) in [(1_000, 1_000), (8 * 1024 * 1024, 8 * 1024 * 1024), (9_000_000, 8 * 1024 * 1024)]
        {
            let result = peer.result(&Call::tool("export_report", json!({ "bytes": asked })));
            assert_eq!(result["content"][0]["text"].as_str().unwrap().len(), got);
        }
    });
}

#[test]
fn an_unknown_service_is_an_error_of_the_protocol() {
    in_both_eras("service", sample::OPERATIONS_PATH, |peer| {
        let message = peer.message(&Call::tool("restart_service", json!({ "service": "coffee" })));
        assert_eq!(message["error"]["code"], -32602, "{message}");
        assert_eq!(message["id"], 2);
    });
}

#[test]
fn the_policy_can_be_read_and_the_prompt_rendered() {
    in_both_eras("resource", sample::SHOP_PATH, |peer| {
        let listed = peer.result(&Call::plain("resources/list"));
        let uri = listed["resources"][0]["uri"].as_str().unwrap().to_owned();
        let read = peer.result(&Call::resource(&uri));
        assert!(read["contents"][0]["text"].as_str().unwrap().starts_with("# Refunds"));
        let prompt = peer.result(&Call::prompt("reply_to_customer", json!({ "order_id": "FO-1002" })));
        assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("shipped"));
    });
}

/// Without a clock: the whole backup would take 100 s, so whoever holds events back runs into `SILENCE`.
#[test]
fn progress_arrives_event_by_event() {
    in_both_eras("progress", sample::OPERATIONS_PATH, |peer| {
        let backup = json!({ "database": "orders", "steps": 1_000, "step_ms": 100 });
        let request = peer.request(&Call::tool("run_backup", backup).with_progress(77));
        let head = peer.client.send(&request).unwrap();
        assert_eq!(head.field("content-type"), Some("text/event-stream"));
        let mut seen = 0.0;
        while seen < 4.0 {
            let part = peer.client.part().unwrap().expect("the stream goes on");
            let text = String::from_utf8(part).unwrap();
            let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let events: Vec<&str> = events.into_iter().filter(|data| !data.trim().is_empty()).collect();
            assert!(events.len() <= 1, "two events in one chunk: {text}");
            if let Some(event) = events.first() {
                let event: Value = serde_json::from_str(event).unwrap();
                assert_eq!(event["params"]["progressToken"], 77);
                seen += 1.0;
                assert_eq!(event["params"]["progress"].as_f64(), Some(seen));
            }
        }
    });
}

#[test]
fn an_unknown_session_is_not_found() {
    let servers = Servers::start("session");
    let caller = Caller { target: sample::SHOP_PATH.to_owned(), key: None };
    let request = caller.legacy("no-such-session", 1, &Call::plain("tools/list"));
    assert_eq!(servers.connect().call(&request).unwrap().head.status, 404);
}

#[test]
fn a_deleted_session_is_gone() {
    let servers = Servers::start("delete");
    let mut peer = Peer::join(&servers, Era::Legacy, sample::SHOP_PATH);
    let delete = peer.caller.delete(&peer.session);
    assert!(peer.client.call(&delete).unwrap().head.status < 300);
    assert_eq!(peer.answer(&Call::plain("tools/list")).head.status, 404);
}

#[test]
fn the_socket_is_private_and_gone_after_a_stop() {
    let mut servers = Servers::start("socket");
    let mode = std::fs::metadata(servers.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut peer = Peer::join(&servers, Era::Modern, sample::OPERATIONS_PATH);
    let backup = json!({ "database": "orders", "steps": 1_000, "step_ms": 10 });
    let request = peer.request(&Call::tool("run_backup", backup).with_progress(1));
    peer.client.send(&request).unwrap();
    peer.client.part().unwrap().expect("the backup has begun");
    // The open stream does not hold up the stop, and it does not end as if it were whole.
    servers.handle.take().unwrap().stop();
    let end = std::iter::repeat_with(|| peer.client.part()).find(|part| !matches!(part, Ok(Some(_))));
    assert!(end.unwrap().is_err());
    assert!(!servers.socket().exists());
}

#[test]
fn an_open_directory_is_refused() {
    let directory = std::env::temp_dir().join(format!("ringgate-open-{}", std::process::id()));
    DirBuilder::new().mode(0o755).create(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = sample::start(vec![directory.join("s")]).map(drop).unwrap_err();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
}
