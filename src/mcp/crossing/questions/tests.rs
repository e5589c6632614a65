//! Questions and answers in both directions, there and back.
//!
//! Not here: who is asked.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

fn tree(message: &[u8]) -> Value {
    serde_json::from_slice(message).unwrap()
}

const FORM: Question<'_> =
    Question { method: Method::ElicitationCreate, params: Some(r#"{"message":"a" , "n":1.50}"#) };
const ROOTS: Question<'_> = Question { method: Method::RootsList, params: None };

#[test]
fn an_older_server_asks_in_a_result() {
    let message = input_required("\"a\"", &[FORM, ROOTS, FORM], "s\"\\");
    let form = json!({"method": "elicitation/create", "params": {"message": "a", "n": 1.5}});
    assert_eq!(
        tree(&message),
        json!({"jsonrpc": "2.0", "id": "a", "result": {
            "resultType": "input_required",
            "inputRequests": {
                "elicitation-1": form, "roots-2": {"method": "roots/list"}, "elicitation-3": form,
            },
            "requestState": "s\"\\",
        }})
    );
    assert!(String::from_utf8(message).unwrap().contains(FORM.params.unwrap()));
    assert_eq!(tree(&input_required("1", &[], "s"))["result"]["inputRequests"], json!({}));
}

#[test]
fn pages_are_opened_before_a_call() {
    let list =
        r#"[{"mode":"url","url":"https://a","message":"m","elicitationId":"e"}, { "url":"https://b"},{}]"#;
    let message = tree(&url_required("7", list).unwrap());
    let asked = |params| json!({"method": "elicitation/create", "params": params});
    assert_eq!(
        message,
        json!({"jsonrpc": "2.0", "id": 7, "result": {"resultType": "input_required", "inputRequests": {
            "elicitation-1": asked(json!({"mode": "url", "url": "https://a", "message": "m", "elicitationId": "e"})),
            "elicitation-2": asked(json!({"mode": "url", "url": "https://b"})),
            "elicitation-3": asked(json!({"mode": "url"})),
        }}})
    );
    for list in ["", "[]", "{}", "[1]", "[{}", "[{}]]", r#"[{"mode":"url","Mode":"form"}]"#] {
        assert_eq!(url_required("7", list), Err(Unfit::Broken), "{list}");
    }
}

#[test]
fn clients_come_back_with_answers_and_state() {
    let message =
        br#"{"params":{"inputResponses": {"a\u0062": {"action":"accept"},"c":{}},"requestState":"\u0041"}}"#;
    let found = input_responses(message).unwrap();
    let found: Vec<(&str, &[u8])> =
        found.iter().map(|(key, at)| (key.as_str(), &message[at.clone()])).collect();
    assert_eq!(found, [("ab", &br#"{"action":"accept"}"#[..]), ("c", b"{}")]);
    assert_eq!(request_state(message), Ok(Some("A".into())));
    for message in ["{}", r#"{"params":null}"#, r#"{"params":{"x":{"requestState":1}},"requestState":2}"#] {
        assert_eq!(input_responses(message.as_bytes()), Ok(vec![]), "{message}");
        assert_eq!(request_state(message.as_bytes()), Ok(None), "{message}");
    }
    for responses in
        [r#"{"a":{},"\u0061":{}}"#, "[]", "null", r#"{"a":1}"#, r#"{"a":{}"#, "{},\"InputResponses\":{}"]
    {
        let message = format!(r#"{{"params":{{"inputResponses":{responses}}}}}"#);
        assert_eq!(input_responses(message.as_bytes()), Err(Unfit::Broken), "{message}");
    }
    for state in ["1", "null", r#""\ud800""#, r#""a","requestState":"b""#, r#""a","request_state":"b""#] {
        let message = format!(r#"{{"params":{{"requestState":{state}}}}}"#);
        assert_eq!(request_state(message.as_bytes()), Err(Unfit::Broken), "{message}");
    }
}

#[test]
fn servers_get_responses() {
    assert_eq!(response("\"q\"", r#"{"a":1.50}"#), br#"{"jsonrpc":"2.0","id":"q","result":{"a":1.50}}"#);
    assert_eq!(failure("1", r#"{"code":-1}"#), br#"{"jsonrpc":"2.0","id":1,"error":{"code":-1}}"#);
    assert_eq!(tree(&unanswerable("1"))["error"]["code"], -32601);
}

#[test]
fn a_newer_server_wants_input() {
    let result = r#" {"resultType":"input_required","requestState":"\u0041","inputRequests":
        {"k\u0065y":{"method":"sampling/createMessage","params":{"n":1.50}},"r":{"method":"roots/list"}}} "#;
    let wanted = parse_input_required(result).unwrap();
    assert_eq!(wanted.state, Some("\"\\u0041\""));
    let sampling = Question { method: Method::SamplingCreate, params: Some(r#"{"n":1.50}"#) };
    assert_eq!(wanted.questions, [("key".to_owned(), sampling), ("r".to_owned(), ROOTS)]);
    let waits = parse_input_required(r#"{"requestState":""}"#).unwrap();
    assert_eq!(waits, Wanted { questions: vec![], state: Some("\"\"") });
    for result in [
        "{}",
        "[]",
        r#"{"requestState":1}"#,
        r#"{"inputRequests":[]}"#,
        r#"{"inputRequests":null,"requestState":"a"}"#,
        r#"{"inputRequests":{"a":1}}"#,
        r#"{"inputRequests":{"a":{"method":"tools/call"}}}"#,
        r#"{"inputRequests":{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}}"#,
        r#"{"inputRequests":{"a":{"method":"roots/list","Method":"a"}}}"#,
        r#"{"requestState":"a"}}"#,
    ] {
        assert_eq!(parse_input_required(result), Err(Unfit::Broken), "{result}");
    }
}

#[test]
fn an_older_client_gets_requests() {
    for (id, asked, expected) in [
        ("\"a\"", ROOTS, r#"{"jsonrpc":"2.0","id":"a","method":"roots/list"}"#),
        (
            "1",
            FORM,
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"a" , "n":1.50}}"#,
        ),
        (
            "\"a\"",
            Question { params: Some(r#"{ "mode":"url","url":"u"}"#), ..FORM },
            r#"{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{"elicitationId":"a","mode":"url","url":"u"}}"#,
        ),
        (
            "1",
            Question { params: Some(r#"{"mode":"ur\u006c"}"#), ..FORM },
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"elicitationId":"1","mode":"ur\u006c"}}"#,
        ),
        (
            "1",
            Question { params: Some(r#"{"mode":"url","elicitationId":"e"}"#), ..FORM },
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"url","elicitationId":"e"}}"#,
        ),
    ] {
        assert_eq!(question(id, &asked).unwrap(), expected.as_bytes());
    }
    assert_eq!(question("1", &Question { params: Some("[]"), ..FORM }), Err(Unfit::Broken));
}

#[test]
fn answers_go_back_under_their_keys() {
    assert_eq!(answer(br#" {"id":1,"result": {"a":1.50}} "#), Ok(Answer::Result(r#"{"a":1.50}"#)));
    assert_eq!(answer(br#"{"id":1,"error":{"code":1},"result":null}"#), Ok(Answer::Error(r#"{"code":1}"#)));
    for message in
        ["", "[]", "{}", r#"{"result":1}"#, r#"{"result":{},"error":{}}"#, r#"{"result":{},"Result":{}}"#]
    {
        assert_eq!(answer(message.as_bytes()), Err(Unfit::Broken), "{message}");
    }
    let given = |key, method, answer| Answered { key, method, answer };
    let refused = Answer::Error(r#"{"code":-1}"#);
    let elicited = given("e\"", Method::ElicitationCreate, refused);
    let sampled = given("s", Method::SamplingCreate, Answer::Result(r#"{"n":1.50}"#));
    assert_eq!(
        answers(&[elicited, sampled], Some("\"\\u0041\"")).as_deref(),
        Ok(r#""inputResponses":{"e\"":{"action":"cancel"},"s":{"n":1.50}},"requestState":"\u0041""#)
    );
    assert_eq!(answers(&[sampled], None).as_deref(), Ok(r#""inputResponses":{"s":{"n":1.50}}"#));
    assert_eq!(answers(&[], Some("\"\"")).as_deref(), Ok(r#""requestState":"""#));
    for method in [Method::SamplingCreate, Method::RootsList] {
        let answered = [elicited, given("k", method, refused)];
        assert_eq!(answers(&answered, None), Err(r#"{"code":-1}"#));
    }
}

proptest! {
    #[test]
    fn questions_come_through_both_bridges(texts: Vec<String>, state: String) {
        let params: Vec<String> = texts.iter().map(|text| json!({"message": text}).to_string()).collect();
        let questions: Vec<Question<'_>> =
            params.iter().map(|params| Question { params: Some(params), ..FORM }).collect();
        let message = tree(&input_required("1", &questions, &state));
        let result = message["result"].to_string();
        let wanted = parse_input_required(&result).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(wanted.state.unwrap()).unwrap(), state);
        for (at, text) in texts.iter().enumerate() {
            let key = key(at, Method::ElicitationCreate);
            let (_, asked) = wanted.questions.iter().find(|(known, _)| *known == key).unwrap();
            let asked: Value = serde_json::from_str(asked.params.unwrap()).unwrap();
            prop_assert_eq!(asked, json!({"message": text}));
        }
    }
}
