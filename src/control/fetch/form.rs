//! How forms and client credentials are written.
//!
//! Not here: what they say.

use crate::base::base64url;
use hyper::header::HeaderValue;

/// `application/x-www-form-urlencoded` of UTF-8 (RFC 6749 appendix B).
pub(super) fn encode(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

/// What [`encode`] makes, the other way.
pub(super) fn decode(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape(name)?, unescape(value)?))
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

/// Basic credentials, both parts encoded first (RFC 6749 section 2.3.1).
pub(super) fn basic(id: &str, secret: &str) -> HeaderValue {
    let credentials = base64(format!("{}:{}", escape(id), escape(secret)).as_bytes());
    let mut value = HeaderValue::try_from(format!("Basic {credentials}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'*' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// RFC 4648 section 4: the other alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    let mut text = base64url::encode(bytes).replace('-', "+").replace('_', "/");
    text.push_str(["", "", "==", "="][text.len() % 4]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let fields = [("token", "a b&c=d+e%"), ("hint", "é~*-._")];
        assert_eq!(encode(&fields), "token=a+b%26c%3Dd%2Be%25&hint=%C3%A9%7E*-._");
        assert_eq!(encode(&[]), "");
    }

    /// RFC 4648 section 10, and an example of RFC 7617.
    #[test]
    fn base64_is_that_of_its_rfc() {
        let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in table {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        let value = basic("Aladdin", "open sesame");
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuK3Nlc2FtZQ==");
        assert!(!format!("{value:?}").contains("QWxh"), "it is not printed");
    }
}
