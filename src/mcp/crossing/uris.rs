//! URIs of resources where several servers are served as one: each says whose it is.
//!
//! Not here: where URIs stand (`answer`, `request`), and which servers there are.
//!
//! `scheme:rest` becomes `NAME+scheme:rest`, and templates alike. A scheme has no `_` (RFC 3986 section 3.1): one in a
//! name is written `.`, which no name has. What begins `ui://` must do so for hosts of apps: `ui://NAME/rest`.

use std::borrow::Cow;

const APP: &str = "ui://";

/// A server's name as it stands in URIs.
pub fn label(server: &str) -> Cow<'_, str> {
    if server.contains('_') { Cow::Owned(server.replace('_', ".")) } else { Cow::Borrowed(server) }
}

/// Whether `text`, which [`unwrap`] gave, stands for this server. Libraries that handle URIs write schemes and hosts
/// small.
pub fn is_label_of(text: &str, server: &str) -> bool {
    text.eq_ignore_ascii_case(&label(server))
}

/// What is written into a URI of this server, and before which of its bytes.
pub(crate) fn mark(server: &str, uri: &str) -> (usize, String) {
    let label = label(server);
    if is_app(uri) { (APP.len(), format!("{label}/")) } else { (0, format!("{label}+")) }
}

/// The URI as clients get it.
pub fn wrap(server: &str, uri: &str) -> String {
    let (at, mark) = mark(server, uri);
    // Behind ASCII, or at the beginning.
    let (before, behind) = uri.split_at(at);
    format!("{before}{mark}{behind}")
}

/// Whose URI it is ([`is_label_of`]), and what the server calls it. None: it was wrapped by nobody.
pub fn unwrap(uri: &str) -> Option<(&str, Cow<'_, str>)> {
    let (label, original) = if is_app(uri) {
        let (scheme, rest) = uri.split_at(APP.len());
        let (label, rest) = rest.split_once('/')?;
        (label, Cow::Owned(format!("{scheme}{rest}")))
    } else {
        let (label, rest) = uri.split_once('+')?;
        (label, Cow::Borrowed(rest))
    };
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (!label.is_empty() && label.bytes().all(is_label)).then_some((label, original))
}

fn is_app(uri: &str) -> bool {
    uri.get(..APP.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(APP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uris_say_whose_they_are() {
        for (server, uri, wrapped) in [
            ("up", "file:///a+b", "up+file:///a+b"),
            ("my_files", "file:///a", "my.files+file:///a"),
            ("up", "test://{id}/data", "up+test://{id}/data"),
            ("my_app", "ui://w/index.html", "ui://my.app/w/index.html"),
            ("up", "UI://w", "UI://up/w"),
            ("up", "ui:w", "up+ui:w"),
            ("up", "", "up+"),
        ] {
            assert_eq!(wrap(server, uri), wrapped);
            let (label, original) = unwrap(wrapped).unwrap();
            assert!(is_label_of(&label.to_uppercase(), server), "{label}");
            assert_eq!(original, uri);
        }
        for uri in
            ["", "file:///a", "https://a/?b+c", "+a:b", "ui://a", "ui://", "ui:///a", "my_files+file:///a"]
        {
            assert_eq!(unwrap(uri), None, "{uri}");
        }
        assert!(!is_label_of("up", "down"));
    }

    proptest! {
        #[test]
        fn every_uri_comes_back(server in "[A-Za-z][A-Za-z0-9_-]{0,9}", uri in "(ui://)?\\PC{0,20}") {
            let wrapped = wrap(&server, &uri);
            let (label, original) = unwrap(&wrapped).unwrap();
            prop_assert!(is_label_of(label, &server));
            prop_assert_eq!(original, uri);
        }
    }
}
