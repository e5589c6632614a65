//! Mistakes that stand in one entry: one does not hide another.
//!
//! Not here: what each message says (the other files of this test).

use crate::check;
use crate::problems;
use crate::server;
use crate::with;

/// The entry, and what its messages say: one each, and no more.
const ENTRIES: &[(&str, &[&str])] = &[
    ("url: \"nothing\", tls: {ca: /gone/ca.pem}", &["the url does not start", "`ca` cannot be used"]),
    ("url: \"http://me:pw@localhost:0/a b#c\"", &["user name", "fragment", "port", "in its path"]),
    ("url: \"http://localhost:1/\", headers: {\"a b\": \"${NO}\"}", &["not a token", "`NO` is not set"]),
    (
        "url: \"http://localhost:1/\", headers: {A: \"${NO} ${NEITHER}\"}",
        &["`NO` is not", "`NEITHER` is not"],
    ),
    (
        "url: \"http://localhost:1/\", headers: {Host: \"${NO}${vault:a}\"}",
        &["the gateway's own", "`NO` is not", "no path and field"],
    ),
];

#[test]
fn n_mistakes_in_one_entry_give_n_messages() {
    for (members, expected) in ENTRIES {
        tells(&server(members), expected);
    }
    let both = "access: [{name: x, principals: [\"a\\u200bb\"], allow: [gone.t], deny: [\"\", a]}]";
    tells(
        &with(both),
        &["exclude each other", "no name of a principal", "`gone`", "no value", "names no server"],
    );
}

#[track_caller]
fn tells(text: &str, expected: &[&str]) {
    let found = problems(text);
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for what in expected {
        let count = found.iter().filter(|problem| problem.contains(what)).count();
        assert_eq!(count, 1, "{what}\n{found:#?}");
    }
}

/// The admin listener that nobody wrote took the port, and another process was blamed.
#[test]
fn the_default_admin_address_is_taken_too() {
    for address in ["127.0.0.1:9090", "0.0.0.0:9090"] {
        let text = with(&format!("listen: \"{address}\"\nidentity: {{anonymous: guest}}"));
        assert!(problems(&text).iter().any(|problem| problem.contains("`admin: off`")), "{address}");
        let off = format!("{text}admin: off\n");
        assert!(crate::load(&off).is_ok(), "{address}: {:?}", crate::load(&off).err());
    }
    check(&with("listen: »\"127.0.0.1:9090\""), "the admin listener is if nothing is said");
    assert!(crate::load(&with("listen: \"[::1]:9090\"")).is_ok());
}

/// Accepted, they were useless: the log never came to be.
#[test]
fn a_call_log_that_can_be_no_file_is_told() {
    check(&with("telemetry: {callLog: {file: »\"\"}}"), "is empty. Name the file itself");
    check(&with("telemetry: {callLog: {file: »/}}"), "is a directory. Name the file itself");
}

/// Each message has a cure, a whole sentence.
#[test]
fn values_of_another_kind_have_a_cure() {
    check(&server("url: »[a]"), "expected text, found a list. Write one value");
    check(&with("access: [{name: x, allow: »a.t}]"), "expected a list, found a single value. Write a list");
    check(
        &server("url: \"http://localhost:1/\", headers: {A: »\"${BREAK}\"}"),
        "character in it. Write it on one",
    );
}
