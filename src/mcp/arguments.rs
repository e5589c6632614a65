//! What the arguments of one call weigh, for limits that count tokens.
//!
//! Not here: judging the message; it was found to be one before.

use crate::mcp::envelope::may_be_batch;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a message says about its own cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Of `params.arguments`, as they were written; 0 where there are none.
    pub bytes: u64,
    /// `params._meta["io.ringgate/tokens"]`: tokens of the whole call. To be believed from some callers only.
    pub tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.ringgate/tokens")]
    tokens: Option<&'a RawValue>,
}

/// Reads a message once more, or all those of a batch. What cannot be read weighs nothing.
pub fn look(body: &[u8]) -> Weight {
    if may_be_batch(body) {
        let batch: Vec<Message<'_>> = serde_json::from_slice(body).unwrap_or_default();
        let bytes = batch.into_iter().map(|message| message.weight().bytes).sum();
        return Weight { bytes, tokens: None };
    }
    serde_json::from_slice(body).map_or_else(|_| Weight::default(), |message: Message<'_>| message.weight())
}

/// `params.arguments` of one message, as they were written. None: it has none, or cannot be read.
pub fn of(message: &[u8]) -> Option<&str> {
    let message: Message<'_> = serde_json::from_slice(message).ok()?;
    message.params?.arguments.map(RawValue::get)
}

impl Message<'_> {
    fn weight(self) -> Weight {
        let Some(params) = self.params else { return Weight::default() };
        Weight {
            bytes: params.arguments.map_or(0, |arguments| arguments.get().len() as u64),
            tokens: params.meta.and_then(|meta| meta.tokens?.get().parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_weigh_what_was_written() {
        let check = |body: &str, bytes, tokens| {
            assert_eq!(look(body.as_bytes()), Weight { bytes, tokens }, "{body}");
        };
        check(r#"{"params":{"arguments":{"a": "\u0041"}}}"#, 15, None);
        check(r#"{"params":{"_meta":{"io.ringgate/tokens":12,"x":[]}}}"#, 0, Some(12));
        check(r#"{"params":{"_meta":{"io.ringgate/tokens":-1},"arguments":{}}}"#, 2, None);
        check(r#"{"params":{"_meta":{"io.ringgate/tokens":1e3},"arguments":{}}}"#, 2, None);
        check(r#"{"method":"ping"}"#, 0, None);
        check(r#"[{"params":{"arguments":{}}},{"id":1},{"params":{"arguments":{"a":1}}}]"#, 9, None);
    }
}
