//! What an operator does to a running gateway: its admin API, and the commands that use it.
//!
//! Not here: reading metrics (gateway).

use super::client::Answer;
use super::client::Client;
use super::gateway::Gateway;
use super::gateway::binary;
use serde_json::Value;
use std::process::Command;
use std::process::Output;

impl Gateway {
    /// A request to the admin API; an empty body is none.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: &str) -> Answer {
        let address = self.admin.expect("no admin line on stdout");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        if !body.is_empty() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let mut client = Client::connect(address);
        client.send(format!("{head}\r\n{body}").as_bytes());
        client.answer()
    }

    /// `ringgate WORDS --admin ADDRESS`, which must succeed; what it printed.
    #[track_caller]
    pub fn operate(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.try_operate(words);
        assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    pub fn try_operate(&self, words: &[&str]) -> Output {
        let address = self.admin.expect("no admin line on stdout").to_string();
        Command::new(binary()).args(words).args(["--admin", &address]).output().unwrap()
    }

    /// What the admin API says of one quota of a principal.
    #[track_caller]
    pub fn quota(&self, principal: &str, limit: &str) -> Quota {
        let answer = self.api("GET", &format!("/api/v1/quotas/{principal}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let all: Value = serde_json::from_str(&answer.text()).unwrap();
        let of_limit = |quota: &&Value| quota["name"] == limit;
        let found = all["quotas"].as_array().and_then(|quotas| quotas.iter().find(of_limit));
        let quota = found.unwrap_or_else(|| panic!("no {limit} in {all}"));
        let number = |name: &str| quota[name].as_u64().unwrap_or_else(|| panic!("{name} in {quota}"));
        let reset = quota["resetAt"].as_str().unwrap_or_else(|| panic!("resetAt in {quota}"));
        Quota { used: number("used"), limit: number("limit"), reset: reset.parse().unwrap() }
    }
}

/// One quota as it stands.
#[derive(Debug)]
pub struct Quota {
    pub used: u64,
    pub limit: u64,
    pub reset: jiff::Timestamp,
}
