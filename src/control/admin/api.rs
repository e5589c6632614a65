//! What the parts of the admin API share: paths, bodies, and how a problem is said.
//!
//! Not here: Host and Origin, which are checked before any of it (`admin`).

use crate::config::limits;
use crate::control::admin::Answer;
use crate::control::admin::typed;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header;
use serde::de::DeserializeOwned;

/// What follows `/api/v1/RESOURCE` in the path, without its slash; nothing where the path is another.
pub(super) fn below(request: &Request<Incoming>, resource: &str) -> Option<String> {
    let rest = request.uri().path().strip_prefix("/api/v1/")?.strip_prefix(resource)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
}

/// One sentence or two: cause and cure.
pub(super) fn problem(status: StatusCode, said: &str) -> Answer {
    typed(status, "application/json", format!("{}\n", serde_json::json!({ "error": said })))
}

/// The body as JSON. `example` is one that would do.
///
/// # Errors
/// The answer that says what is wrong. A content type is asked for because a page of another site cannot send this
/// one without asking first, which is refused.
pub(super) async fn body<T: DeserializeOwned>(
    request: Request<Incoming>,
    example: &str,
) -> Result<T, Answer> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let said = "The body must be JSON and say so: send `Content-Type: application/json`.";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, said));
    }
    let body = Limited::new(request.into_body(), limits::ADMIN_BODY_BYTES_MAX);
    let bytes = body.collect().await.map_err(|_| {
        let said = format!("The body did not come whole within {} bytes.", limits::ADMIN_BODY_BYTES_MAX);
        problem(StatusCode::PAYLOAD_TOO_LARGE, &said)
    })?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, &format!("The body does not fit: {error}. An example: {example}"))
    })
}

/// A percent-encoded part of a path or query; nothing where it is malformed or not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
            let [high, low] = [digit(*digits.first()?)?, digit(*digits.last()?)?];
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A parameter of the query, decoded; nothing where it is absent or malformed.
pub(super) fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| decoded(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        let table = [
            ("", Some("")),
            ("agent-7", Some("agent-7")),
            ("a%2Fb%20c", Some("a/b c")),
            ("%c3%A9", Some("é")),
            ("a+b", Some("a+b")),
            ("%", None),
            ("%2", None),
            ("%2g", None),
            ("%+1", None),
            ("%ff", None),
        ];
        for (text, expected) in table {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }
}
