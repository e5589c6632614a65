//! `requestState`: where a call goes on that an older server has put a question to, while its client of 2026-07-28 asks
//! its user (2026-07-28, multi round-trip requests). Everything is in it: any worker, and any gateway with the key, goes on.
//!
//! Not here: the sealing (`sealed`), and the wire to the server.

use crate::config::limits;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;

/// Sealed as JSON: it is short, and read once for each question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallState<'a> {
    /// Seconds since the Unix epoch.
    #[serde(rename = "x")]
    pub expires_unix: u64,
    #[serde(rename = "o")]
    pub owner: [u8; 16],
    /// Of the names of hub and server.
    #[serde(rename = "h")]
    pub hub: u64,
    #[serde(rename = "s")]
    pub server: u64,
    /// Of the instance that the session lives on.
    #[serde(rename = "i")]
    pub instance: u32,
    #[serde(rename = "n", borrow)]
    pub session: Cow<'a, str>,
    #[serde(rename = "r", borrow)]
    pub revision: Cow<'a, str>,
    /// The id of the request, as the server got it: raw JSON.
    #[serde(rename = "q", borrow)]
    pub request: Cow<'a, str>,
    /// Of the event that the questions came with.
    #[serde(rename = "e", borrow)]
    pub event: Cow<'a, str>,
    /// Of method, name and arguments.
    #[serde(rename = "d")]
    pub digest: [u8; 16],
    /// How many rounds there were.
    #[serde(rename = "c")]
    pub round: u8,
    #[serde(rename = "p")]
    pub pending: Vec<Pending>,
    /// Where the call waits, if it does: the process, its worker, and the place there.
    #[serde(rename = "w")]
    pub waits: Option<(u64, usize, u64)>,
}

/// A question that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The key that the client knows.
    #[serde(rename = "k")]
    pub key: String,
    /// The server's id, as it was written.
    #[serde(rename = "i")]
    pub id: String,
    /// What it asks, to be asked again where no answer comes.
    #[serde(rename = "m")]
    pub method: String,
    #[serde(rename = "a")]
    pub params: Option<String>,
}

impl CallState<'_> {
    /// As it is sealed; none: it would be longer than what is taken back.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        // There is nothing in it that JSON cannot say.
        let bytes = serde_json::to_vec(self).ok()?;
        (bytes.len() <= limits::SEALED_STATE_BYTES_MAX / 2).then_some(bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<CallState<'_>> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut state = CallState {
            expires_unix: 1,
            owner: [2; 16],
            hub: u64::MAX,
            server: 4,
            instance: 5,
            session: "abc\"".into(),
            revision: "2025-11-25".into(),
            request: "12".into(),
            event: "e_1".into(),
            digest: [6; 16],
            round: 1,
            pending: vec![Pending {
                key: "elicitation-1".into(),
                id: "\"a\"".into(),
                method: "elicitation/create".into(),
                params: Some("{}".into()),
            }],
            waits: Some((1, 0, u64::MAX)),
        };
        let bytes = state.to_bytes().unwrap();
        assert_eq!(CallState::from_bytes(&bytes), Some(state.clone()));
        assert_eq!(CallState::from_bytes(b"{}"), None);
        state.event = "x".repeat(limits::SEALED_STATE_BYTES_MAX).into();
        assert_eq!(state.to_bytes(), None);
    }
}
