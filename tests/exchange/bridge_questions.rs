//! Questions of servers in the midst of a call, across the eras: a modern client of an older server finds them in its
//! result and calls again, an older client of a modern server gets them as requests on its stream.
//!
//! Not here: everything else that crosses (bridge).

use crate::bridge::message;
use crate::bridge::post;
use crate::support::Era;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::is_quick;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

pub const ELICIT: (&str, &str) = (
    "elicitation/create",
    r#"{"message":"who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}"#,
);
pub const SAMPLE: (&str, &str) = (
    "sampling/createMessage",
    r#"{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}],"maxTokens":12345678901234567890}"#,
);
const ROOTS: (&str, &str) = ("roots/list", "{}");
/// A client that can be asked everything.
pub const ABLE: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;
pub const SEALS: &str = "state: {sealKeys: [\"0123456789abcdef0123456789abcdef\"]}";

pub fn of_era(era: Era, test: impl Fn(Run)) {
    drivers().into_iter().for_each(|driver| test(Run { driver, era }));
}

/// An older server whose tools ask: one thing, three at once, too many.
pub fn asking(asker: &Asker) -> Upstream {
    upstream()
        .only(Era::Legacy)
        .able(r#"{"tools":{}}"#)
        .on("one", asker.tool(&[ELICIT]))
        .on("three", asker.tool(&[ELICIT, SAMPLE, ROOTS]))
        .on("many", asker.tool(&[ELICIT; 17]))
        .tool("echo")
        .asks(asker)
        .run()
}

/// The result of a call that asks for input: its keys in order, its questions, its state.
#[track_caller]
pub fn asked(answer: &Answer) -> (Vec<String>, Value, String) {
    assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
    let result = &answer.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{result}");
    let questions = result["inputRequests"].clone();
    let keys = questions.as_object().unwrap_or_else(|| panic!("{result}")).keys().cloned().collect();
    (keys, questions, result["requestState"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned())
}

/// The same call with answers.
pub fn again(call: &Call, responses: &Value, state: &str) -> Call {
    let call = call.clone().id("\"retry\"");
    call.member("inputResponses", &responses.to_string()).member("requestState", &json!(state).to_string())
}

pub fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// Feature: elicitation for a modern client of an older server, at every URL, at another worker and at another gateway;
/// the tool runs once, however often its state is shown.
#[test]
fn bridge_elicits_of_a_modern_client() {
    of_era(Era::Modern, |run| {
        for (endpoint, name) in [("", "up__one"), ("up", "one")] {
            let asker = Asker::default();
            let up = asking(&asker);
            let gateway = || run.gateway().top(SEALS).to("up", &up).run();
            let (first, second) = (gateway(), gateway());
            let call = first.call(endpoint, name).able(ABLE).id("5");
            let answer = call.clone().send();
            assert_eq!(answer.json()["id"], 5);
            let (keys, questions, state) = asked(&answer);
            let [key] = keys.as_slice() else { panic!("{questions}") };
            assert_eq!(questions[key]["method"], "elicitation/create");
            assert_eq!(questions[key]["params"], serde_json::from_str::<Value>(ELICIT.1).unwrap());
            assert!(!state.contains("q-1") && !state.contains("session-"), "the state is open: {state}");
            let retry = again(&call, &json!({key.as_str(): accept("ann")}), &state);
            let retry = Call { address: second.address, ..retry };
            for _ in 0..2 {
                let answer = retry.clone().send();
                let said = answer.json();
                assert_eq!((answer.status, &said["id"]), (200, &json!("retry")), "{answer:?}");
                assert_eq!(said["result"]["resultType"], "complete", "{said}");
                let text = said["result"]["content"][0]["text"].as_str().unwrap();
                assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!([accept("ann")]));
            }
            assert_eq!((asker.begun(), up.calls()), (1, 1), "the tool ran twice");
        }
    });
}

/// Regression: a server that still held the stream before (409, as the TypeScript SDK answers) ended one call in some
/// thousand with 502.
#[test]
fn bridge_waits_for_a_stream_that_is_still_held() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = upstream().only(Era::Legacy).able(r#"{"tools":{}}"#).on("one", asker.tool(&[ELICIT]));
        let up = up.asks_late(&asker).run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("up", "one").able(ABLE);
        let (keys, _, state) = asked(&call.clone().send());
        let answer = again(&call, &json!({keys[0].as_str(): accept("ann")}), &state).send();
        assert_eq!(answer.json()["result"]["resultType"], "complete", "{answer:?}");
        assert_eq!((asker.begun(), up.calls()), (1, 1), "the tool ran twice");
    });
}

/// Feature: questions that come together are one result; sampling and roots as well, in bytes as they came.
#[test]
fn bridge_asks_together_what_is_asked_together() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = asking(&asker);
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__three").able(ABLE);
        let answer = call.clone().send();
        assert!(answer.text().contains("\"maxTokens\":12345678901234567890"), "{answer:?}");
        let (keys, questions, state) = asked(&answer);
        assert_eq!(keys.len(), 3, "{questions}");
        let method = |key: &String| questions[key]["method"].as_str().unwrap().to_owned();
        let mut methods: Vec<String> = keys.iter().map(method).collect();
        methods.sort();
        assert_eq!(methods, ["elicitation/create", "roots/list", "sampling/createMessage"]);
        let reply = |key: &String| match method(key).as_str() {
            "elicitation/create" => accept("bob"),
            "roots/list" => json!({"roots": [{"uri": "file:///r"}]}),
            _ => json!({"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}),
        };
        // Answered in part: the same is asked again, and nothing is made up.
        let part: serde_json::Map<String, Value> = [(keys[0].clone(), reply(&keys[0]))].into_iter().collect();
        let (still, _, state) = asked(&again(&call, &part.into(), &state).send());
        assert_eq!(still, keys);
        let all: serde_json::Map<String, Value> = keys.iter().map(|key| (key.clone(), reply(key))).collect();
        let answer = again(&call, &all.into(), &state).send();
        let text = answer.json()["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .to_owned();
        assert!(text.contains("bob") && text.contains("file:///r") && text.contains("hello"), "{text}");
        assert_eq!(asker.begun(), 1);
    });
}

/// More questions at once than can be asked: an explicit error within 1 s, and nothing waits.
#[test]
fn bridge_refuses_too_many_questions() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = asking(&asker);
        let gw = run.gateway().to("up", &up).run();
        is_quick(Duration::from_secs(1), || {
            let begun = Instant::now();
            let answer = gw.call("", "up__many").able(ABLE).send();
            assert!(answer.code() != 0, "{answer:?}");
            begun.elapsed()
        });
        assert_eq!(gw.call("", "up__echo").able(ABLE).send().code(), 0);
    });
}

/// A client is asked nothing that it did not declare, and its server is told what it can be asked.
#[test]
fn bridge_asks_only_what_was_declared() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = asking(&asker);
        let gw = run.gateway().to("up", &up).run();
        for (able, declared) in
            [("{}", json!({})), (r#"{"elicitation":{"form":{}}}"#, json!({"elicitation": 1}))]
        {
            let call = gw.call("", "up__three").able(able);
            let begun = Instant::now();
            let answer = call.clone().send();
            assert!(begun.elapsed() < Duration::from_secs(2), "{answer:?}");
            // The server counts its sessions.
            let session = up.once(&call.token).head.field("mcp-session-id").unwrap().to_owned();
            let number: usize = session.strip_prefix("session-").unwrap().parse().unwrap();
            let all = up.requests();
            let mut openings = all.iter().filter(|one| one.envelope().method == "initialize");
            let opened = openings.nth(number - 1).unwrap();
            let told = message(opened)["params"]["capabilities"].clone();
            for kind in ["elicitation", "sampling", "roots"] {
                assert_eq!(told[kind].is_null(), declared[kind].is_null(), "{able} {told}");
            }
            let questions = answer.json()["result"]["inputRequests"].clone();
            let asked =
                questions.as_object().map(|all| all.values().cloned().collect()).unwrap_or(Vec::new());
            assert!(asked.iter().all(|one| one["method"] == "elicitation/create"), "{able}: {questions}");
            assert_eq!(asked.is_empty(), able == "{}", "{answer:?}");
        }
    });
}

/// An older server whose streams have no event ids: the call is parked, or refused at once; it never hangs.
#[test]
fn bridge_elicits_without_event_ids() {
    of_era(Era::Modern, |run| {
        let answers: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (came, inside) = (Arc::clone(&answers), Arc::clone(&answers));
        let ask = script::script(move |connection, request| {
            connection.send(script::STREAM);
            let question =
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{}","params":{}}}"#, ELICIT.0, ELICIT.1);
            connection.send(&script::event(&question));
            crate::support::within(PATIENCE, || !inside.lock().unwrap().is_empty());
            script::send(connection, &script::last_event(request))
        });
        let hear = script::script(move |connection, request| {
            came.lock().unwrap().push(message(request));
            script::send(connection, &script::plain(202, ""))
        });
        let up = upstream().only(Era::Legacy).on("ask", ask).method("", hear).run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__ask").able(ABLE);
        let begun = Instant::now();
        let answer = call.clone().send();
        assert!(begun.elapsed() < Duration::from_secs(1), "{answer:?}");
        let (keys, _, state) = asked(&answer);
        let answer = again(&call, &json!({keys[0].as_str(): accept("ann")}), &state).send();
        assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
        assert!(answer.text().contains(&call.token), "{answer:?}");
        let answers = answers.lock().unwrap();
        assert_eq!((answers.len(), &answers[0]["id"], &answers[0]["result"]), (1, &json!(7), &accept("ann")));
    });
}

/// `-32042` of an older server: the pages to open are questions of the result.
#[test]
fn bridge_passes_on_pages_to_open() {
    of_era(Era::Modern, |run| {
        let wants = script::script(|connection, request| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32042,"message":"open","data":{{"elicitations":[{{"mode":"url","elicitationId":"e1","url":"https://x.example/","message":"go"}}]}}}}}}"#,
                request.envelope().raw_id()
            );
            script::send(connection, &script::plain(200, &text))
        });
        let up = upstream().only(Era::Legacy).on("auth", wants).run();
        let gw = run.gateway().to("up", &up).run();
        let result = gw.call("", "up__auth").able(ABLE).send().json()["result"].clone();
        assert_eq!(result["resultType"], "input_required", "{result}");
        let questions = result["inputRequests"].as_object().unwrap();
        let question = questions.values().next().unwrap();
        assert_eq!((questions.len(), &question["method"]), (1, &json!("elicitation/create")));
        assert_eq!(question["params"]["url"], "https://x.example/");
        assert_eq!(question["params"]["mode"], "url");
        // A client that opens no pages is asked nothing, and the code is none that its revision has.
        let error = gw.call("", "up__auth").send().json()["error"].clone();
        assert!(error["code"].is_i64() && error["code"] != -32042, "{error}");
    });
}

/// A modern server's tool that wants input in so many rounds before it answers, with all that it was told.
pub fn wanting(rounds: u64, questions: Value) -> Script {
    script::script(move |connection, request| {
        let said = message(request);
        let params = &said["params"];
        let round = match params["requestState"].as_str() {
            None => 0,
            Some(state) => state.strip_prefix("round \u{e9}\" ").map_or(99, |round| round.parse().unwrap()),
        };
        let result = if round < rounds {
            json!({"resultType": "input_required", "inputRequests": questions,
                   "requestState": format!("round \u{e9}\" {}", round + 1)})
        } else {
            let text = json!([params["inputResponses"], params["arguments"]]).to_string();
            json!({"resultType": "complete", "content": [{"type": "text", "text": text}], "isError": false})
        };
        script::send(connection, &script::plain(200, &script::result(request, &result)))
    })
}

pub fn question(of: (&str, &str)) -> Value {
    json!({"method": of.0, "params": serde_json::from_str::<Value>(of.1).unwrap()})
}

/// The next message of a stream that is none of a comment.
#[track_caller]
pub fn next_message(client: &mut Client) -> Value {
    loop {
        let (_, event) = client.event().unwrap().expect("the stream ended");
        if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data:")) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

pub fn gateway(run: Run, up: &Upstream) -> Builder {
    run.gateway().workers(2).to("up", up)
}

/// An open call, and the call that it is like.
#[track_caller]
pub fn open(gw: &Gateway, endpoint: &str, name: &str, able: &str) -> (Call, Client) {
    let call = gw.call(endpoint, name).able(able).id("\"c\\u0031\"").in_session();
    let mut client = call.connect();
    client.send(&call.raw().bytes());
    (call, client)
}

/// Feature: an older client of a modern server gets the question as a request on its stream, answers it in a request of
/// its own, at any worker, and gets the result under its own id; two rounds, the state byte for byte.
#[test]
fn bridge_elicits_of_an_older_client() {
    of_era(Era::Legacy, |run| {
        let up = upstream()
            .only(Era::Modern)
            .on("ask", wanting(2, json!({"user name": question(ELICIT), "s": question(SAMPLE)})))
            .run();
        let gw = gateway(run, &up).run();
        for (endpoint, name) in [("", "up__ask"), ("up", "ask")] {
            up.take_requests();
            let (call, mut client) = open(&gw, endpoint, name, ABLE);
            let head = client.head().unwrap();
            assert!(head.field("content-type").unwrap().starts_with("text/event-stream"));
            let mut told = 0;
            for round in 0..2 {
                let asked = [next_message(&mut client), next_message(&mut client)];
                for one in &asked {
                    assert!(one["id"].is_string() || one["id"].is_number(), "{one}");
                    let method = one["method"].as_str().unwrap();
                    let expected = if method == ELICIT.0 { ELICIT.1 } else { SAMPLE.1 };
                    assert_eq!(one["params"], serde_json::from_str::<Value>(expected).unwrap());
                    let result =
                        json!({"action": "accept", "content": {"said": format!("{method} {round}")}});
                    let reply = json!({"jsonrpc": "2.0", "id": one["id"], "result": result});
                    // Each over a connection of its own: at any worker.
                    assert_eq!(post(&call, &reply).status, 202);
                    told += 1;
                }
                assert_ne!(asked[0]["id"], asked[1]["id"]);
            }
            let last = next_message(&mut client);
            assert_eq!(last["id"], "c1", "{last}");
            let text = last["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{last}"));
            let text: Value = serde_json::from_str(text).unwrap();
            assert_eq!(text[0]["user name"]["content"]["said"], "elicitation/create 1", "{text}");
            assert_eq!(text[0]["s"]["content"]["said"], "sampling/createMessage 1", "{text}");
            assert_eq!(text[1]["token"], call.token.as_str());
            assert!(client.event().unwrap().is_none(), "the stream ends with the answer");
            assert_eq!(told, 4);
            let sent = up.with(&call.token);
            assert_eq!(sent.len(), 3);
            let ids: std::collections::BTreeSet<String> =
                sent.iter().map(|one| one.envelope().raw_id().to_owned()).collect();
            assert_eq!(ids.len(), 3, "each round has an id of its own: {ids:?}");
            let able = &message(&sent[0])["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
            assert!(able["elicitation"].is_object() && able["sampling"].is_object(), "{able}");
        }
    });
}

/// Nobody but the session that was asked can answer.
#[test]
fn bridge_takes_no_answer_of_a_stranger() {
    of_era(Era::Legacy, |run| {
        let up = upstream().only(Era::Modern).on("ask", wanting(1, json!({"k": question(ELICIT)}))).run();
        let gw = gateway(run, &up).agents(&["ann", "bob"]).run();
        let begin = |agent: &str| {
            let call = gw.keyed(agent, gw.call("", "up__ask")).able(ABLE).in_session();
            let mut client = call.connect();
            client.send(&call.raw().bytes());
            client.head().unwrap();
            let asked = next_message(&mut client);
            (call, client, asked)
        };
        let (call, mut client, asked) = begin("ann");
        let (stranger, _kept, _) = begin("bob");
        let sibling = Call { session: None, ..call.clone() }.in_session();
        let reply = |name: &str| json!({"jsonrpc": "2.0", "id": asked["id"], "result": accept(name)});
        for other in [&stranger, &sibling] {
            assert_eq!(post(other, &reply("mallory")).status, 202);
        }
        let wrong = json!({"jsonrpc": "2.0", "id": "ringgate~0~1", "result": accept("mallory")});
        assert_eq!(post(&call, &wrong).status, 202);
        assert_eq!(post(&call, &reply("ann")).status, 202);
        let last = next_message(&mut client).to_string();
        assert!(last.contains("ann") && !last.contains("mallory"), "{last}");
        assert_eq!(up.with(&call.token).len(), 2);
    });
}

/// A modern server that asks for ever, for too much at once, for what nobody can be asked, or an older client that can be
/// asked nothing: an explicit error within 1 s.
#[test]
fn bridge_ends_what_cannot_be_asked() {
    of_era(Era::Legacy, |run| {
        let many: serde_json::Map<String, Value> =
            (0..17).map(|number| (format!("k{number}"), question(ELICIT))).collect();
        let up = upstream()
            .only(Era::Modern)
            .on("forever", wanting(1000, json!({"k": question(ELICIT)})))
            .on("many", wanting(1, many.into()))
            .on("odd", wanting(1, json!({"k": {"method": "tools/call", "params": {}}})))
            .on(
                "empty",
                script::script(|connection, request| {
                    let result = json!({"resultType": "input_required"});
                    script::send(connection, &script::plain(200, &script::result(request, &result)))
                }),
            )
            .on("unable", wanting(1, json!({"k": question(ELICIT)})))
            .run();
        let gw = gateway(run, &up).run();
        for tool in ["many", "odd", "empty", "unable"] {
            let able = if tool == "unable" { "{}" } else { ABLE };
            let begun = Instant::now();
            let (_, mut client) = open(&gw, "", &format!("up__{tool}"), able);
            let answer = client.try_answer().unwrap_or_else(|broken| panic!("{tool}: {broken:?}"));
            assert!(begun.elapsed() < Duration::from_secs(1), "{tool}: {:?}", begun.elapsed());
            assert!(answer.code() != 0, "{tool}: {answer:?}");
            assert_eq!(answer.json()["id"], "c1", "{tool}: {answer:?}");
            assert!(!answer.text().contains("elicitation/create"), "{tool}: {answer:?}");
        }
        let (call, mut client) = open(&gw, "", "up__forever", ABLE);
        client.head().unwrap();
        let mut rounds = 0;
        let error = loop {
            let next = next_message(&mut client);
            if next["method"].is_null() {
                break next;
            }
            rounds += 1;
            assert!(rounds <= 20, "it asks for ever");
            post(&call, &json!({"jsonrpc": "2.0", "id": next["id"], "result": accept("ann")}));
        };
        assert!(error["error"]["code"].is_i64() && error["id"] == "c1", "{error}");
        assert_eq!(rounds, 10);
    });
}

/// An older client that answers with an error, or leaves while it is asked: the server is not called again, and the
/// gateway keeps nothing of it.
#[test]
fn bridge_survives_clients_that_do_not_answer() {
    of_era(Era::Legacy, |run| {
        let up = upstream().only(Era::Modern).on("ask", wanting(1, json!({"k": question(SAMPLE)}))).run();
        let gw = gateway(run, &up).run();
        let (call, mut client) = open(&gw, "", "up__ask", ABLE);
        client.head().unwrap();
        let asked = next_message(&mut client);
        let error =
            json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "no user here"}});
        assert_eq!(post(&call, &error).status, 202);
        let last = next_message(&mut client);
        assert!(last["error"].is_object() && last["id"] == "c1", "{last}");
        assert_eq!(up.with(&call.token).len(), 1);
        // Cancelled while it is asked: no answer is owed, the stream ends.
        let call = gw.call("", "up__ask").able(ABLE).id("\"c2\"").in_session();
        let mut client = call.connect();
        client.send(&call.raw().bytes());
        client.head().unwrap();
        next_message(&mut client);
        let params = json!({"requestId": "c2"});
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        assert_eq!(post(&call, &cancel).status, 202);
        assert!(client.rest() != Err(Broken::Silent), "it goes on");
        eventually("the call is over", || gw.metric("ringgate_inflight", &[]) == 0.0);
        assert_eq!(up.with(&call.token).len(), 1);
    });
}

/// Older client, older server, one URL of many: the question comes under an id of the gateway's, the answer reaches its
/// server under the server's own.
#[test]
fn hub_passes_questions_of_older_servers() {
    of_era(Era::Legacy, |run| {
        let askers = [Asker::default(), Asker::default()];
        let ups = [asking(&askers[0]), asking(&askers[1])];
        let gw = run.gateway().to("one", &ups[0]).to("two", &ups[1]).run();
        let call = gw.call("", "one__one").able(ABLE).in_session();
        for (number, server) in ["one", "two"].into_iter().enumerate() {
            let call = Call { name: Some(format!("{server}__one")), ..call.again() };
            let mut client = call.connect();
            client.send(&call.raw().bytes());
            client.head().unwrap();
            let asked = next_message(&mut client);
            assert_eq!(asked["method"], "elicitation/create", "{asked}");
            let reply = json!({"jsonrpc": "2.0", "id": asked["id"], "result": accept(server)});
            assert!(post(&call, &reply).status < 300);
            let last = next_message(&mut client);
            assert!(last["result"]["content"][0]["text"].as_str().unwrap().contains(server), "{last}");
            let answers = askers[number].answers();
            assert_eq!((answers.len(), &answers[0]["id"]), (1, &json!("q-1-0")), "{answers:?}");
        }
    });
}
