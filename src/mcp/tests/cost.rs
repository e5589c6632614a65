//! What large, deep or hostile bodies cost.

use super::*;
use crate::base::clock;
use crate::config::limits;
use crate::mcp::envelope::raw_id;

/// Milliseconds of processor time that the verdict on `body` takes: other load on the machine does not count.
/// The bounds below are far above what is measured, and far below what anything that is not linear would take.
fn milliseconds(body: &[u8], expected: Result<(), i32>) -> u128 {
    let mut scratch = Scratch::new();
    let start = clock::thread_cpu();
    let got = inspect(&mut scratch, body, &MODERN);
    let _ = raw_id(body);
    let spent = (clock::thread_cpu() - start).as_millis();
    assert_eq!(got.map(|_| ()).map_err(|fault| fault.wire().code), expected);
    spent
}

#[test]
fn a_megabyte_of_keys() {
    let keys: Vec<_> = (0..60_000).map(|n| format!("\"key{n}\":{n}")).collect();
    let arguments = format!("{{{}}}", keys.join(","));
    assert!(milliseconds(call(&arguments).as_bytes(), Ok(())) < 500);
    // The same where the keys are compared with the critical ones.
    let body = call("{}").replacen(r#""_meta":{"#, &format!(r#""_meta":{{{},"#, keys.join(",")), 1);
    assert!(milliseconds(body.as_bytes(), Ok(())) < 500);
    let escaped: Vec<_> = (0..60_000).map(|n| format!("\"\\u0041{n}\":{n}")).collect();
    let body = call("{}").replacen(r#""_meta":{"#, &format!(r#""_meta":{{{},"#, escaped.join(",")), 1);
    assert!(milliseconds(body.as_bytes(), Ok(())) < 500);
}

#[test]
fn brackets() {
    let arrays = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    // Two brackets are open around the arguments.
    for arguments in [arrays(32), arrays(limits::JSON_DEPTH_MAX - 2), objects(limits::JSON_DEPTH_MAX - 2)] {
        let body = call(&arguments);
        assert!(verdict(body.as_bytes(), &MODERN).is_ok());
        // And by the skipper alone.
        let large = format!("{}{body}", " ".repeat(limits::SCRATCH_BYTES_MAX));
        assert!(verdict(large.as_bytes(), &MODERN).is_ok());
    }
    for arguments in [
        arrays(limits::JSON_DEPTH_MAX - 1),
        objects(limits::JSON_DEPTH_MAX - 1),
        arrays(100_000),
        objects(50_000),
        "[".repeat(60_000),
    ] {
        assert!(milliseconds(call(&arguments).as_bytes(), Err(-32700)) < 500);
    }
    for body in ["[".repeat(500_000), "{\"params\":".repeat(50_000), "{\"params\":{\"_meta\":".repeat(50_000)]
    {
        assert!(milliseconds(body.as_bytes(), Err(-32700)) < 500);
    }
}

#[test]
fn a_scratch_does_not_remember() {
    let mut scratch = Scratch::new();
    let uri = format!("\"{}\"", r"\u0061".repeat(100_000));
    let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":{uri}}}}}"#);
    assert!(inspect(&mut scratch, long.as_bytes(), &McpHeaders::NONE).unwrap().target.was_cut());
    assert!(scratch.text.capacity() <= limits::SCRATCH_BYTES_MAX);
    let call = inspect(&mut scratch, call("{}").as_bytes(), &MODERN).unwrap();
    assert_eq!(call.target.as_str(), "echo");
    assert!(inspect(&mut scratch, b"{}", &MODERN).is_err());
}

#[test]
fn a_warm_scratch_does_not_grow() {
    let mut scratch = Scratch::new();
    let large = call(&format!("[{}0]", "1,".repeat(30_000)));
    let escaped = call("{}").replace("echo", r"\u0065cho").replace("7,", "18446744073709551616,");
    let mut capacities = Vec::new();
    for _ in 0..3 {
        for body in [&large, &escaped] {
            assert!(inspect(&mut scratch, body.as_bytes(), &MODERN).is_ok());
        }
        let tape = &scratch.tape.0;
        assert!(tape.is_empty());
        capacities.push((scratch.padded.capacity(), tape.capacity(), scratch.text.capacity()));
    }
    assert!(
        capacities.iter().all(|capacity| *capacity == capacities[0] && capacity.1 > 30_000),
        "{capacities:?}"
    );
}
