//! HTTP/2 in terms of HTTP/1.1: the preface, a request head as HTTP/1.1 bytes, an answer head as HTTP/2 fields.
//!
//! What the crate `h2` hands up passes RFC 9113 section 8 here and is then read by the same parser as any other
//! request, so that HTTP/2 is no way around its rules.
//!
//! Not here: frames and HPACK (`h2`), floods (`frames`), streams and flow control (worker).

use crate::http::chunked::is_value_byte;
use crate::http::fields::Field;
use crate::http::fields::Known;
use crate::http::host;
use crate::http::response::ResponseHead;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;

/// What a client of HTTP/2 sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection begins as HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    No,
    /// So far; more bytes are needed.
    Partial,
    Whole,
}

pub fn preface(received: &[u8]) -> Preface {
    match received.get(..PREFACE.len()) {
        Some(begin) if begin == PREFACE => Preface::Whole,
        None if PREFACE.starts_with(received) => Preface::Partial,
        _ => Preface::No,
    }
}

/// What the body of a request and its answer are read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub body: BodyForm,
    /// The answer has no body, whatever its fields say.
    pub is_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    None,
    Length(u64),
    Chunked,
}

/// What is wrong with a request head: a stream error PROTOCOL_ERROR (RFC 9113 section 8.1.1). Carries no text of
/// the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Appends the head as HTTP/1.1. `ends`: the request has no body.
///
/// # Errors
/// What RFC 9113 section 8 forbids and `h2` lets pass, and what our HTTP/1.1 has no words for. `out` is then good
/// for nothing.
pub fn write_request(out: &mut Vec<u8>, head: &Parts, ends: bool) -> Result<Form, Malformed> {
    if head.method == Method::CONNECT {
        return Err(Malformed("CONNECT"));
    }
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    if !target.starts_with('/') {
        return Err(Malformed(":path is no path"));
    }
    if !matches!(head.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Malformed(":scheme is neither http nor https"));
    }
    let authority = authority(head)?;
    for part in [head.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\nHost: ", authority]
    {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
    let mut length = None;
    for (name, value) in &head.headers {
        check_value(value.as_bytes())?;
        match name.as_str() {
            "host" => continue,
            // About the connection that ends here.
            "te" if value == "trailers" => continue,
            "te" | "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection" => {
                return Err(Malformed("a field of the connection"));
            }
            "content-length" => {
                let parsed =
                    parse_length(value.as_bytes()).ok_or(Malformed("content-length is no number"))?;
                if length.replace(parsed).is_some() {
                    return Err(Malformed("two content-lengths"));
                }
            }
            _ => {}
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    let body = match length {
        Some(length @ 1..) if !ends => BodyForm::Length(length),
        Some(1..) => return Err(Malformed("a content-length without a body")),
        Some(0) => BodyForm::Length(0),
        None if ends => BodyForm::None,
        None => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            BodyForm::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(Form { body, is_head: head.method == Method::HEAD })
}

/// `:authority`, or the Host of a client that has translated HTTP/1.1; one host, if both are there.
fn authority(head: &Parts) -> Result<&[u8], Malformed> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let named = match (head.uri.authority(), host) {
        _ if second.is_some() => return Err(Malformed("two hosts")),
        (None, None) => return Err(Malformed("no :authority")),
        (None, Some(host)) => host.as_bytes(),
        (Some(named), Some(host)) if !named.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            return Err(Malformed(":authority and host disagree"));
        }
        (Some(named), _) => named.as_str().as_bytes(),
    };
    match host::parse_authority(named) {
        Ok(_) => Ok(named),
        Err(_) => Err(Malformed(":authority is no host")),
    }
}

/// RFC 9113 section 8.2.1.
fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) || !value.iter().all(|byte| is_value_byte(*byte)) {
        return Err(Malformed("a value with a control character, or blanks around it"));
    }
    Ok(())
}

fn parse_length(value: &[u8]) -> Option<u64> {
    // Rust's own parser takes a sign.
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Appends one chunk of a chunked body (RFC 9112 section 7.1); an empty one would end it and is left out.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The head of an answer as HTTP/2 has it: without the fields of the connection. None where HTTP/2 has no words for
/// it, which no answer of ours is.
pub fn response(head: &ResponseHead, source: &[u8], fields: &[Field]) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    let headers = response.headers_mut();
    for field in fields.iter().filter(|field| !is_of_connection(field.known)) {
        let name = HeaderName::from_bytes(field.name.of(source)).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value.of(source)).ok()?);
    }
    Some(response)
}

const fn is_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

#[cfg(test)]
mod tests;
