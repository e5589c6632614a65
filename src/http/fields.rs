//! The fields of a head as spans into its buffer, each with the name that the gateway knows it by.
//!
//! Not here: what a field means for framing (`head`, `request`, `response`) or whether it is forwarded
//! (`write`). May not know: whose head it is.

use std::ops::Deref;

/// A range of bytes of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The bytes of this span; empty if `buf` is not the buffer it was made for and too short for it.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Where `part` lies in `whole`. Both must come from one buffer; a stranger's address gives a span
    /// that `of` answers with nothing or with other bytes of `whole`, never with a panic.
    #[inline]
    pub(super) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        // Heads end far below 4 GiB: `HeadLimits` bounds them.
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        Self { start, end: start.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX)) }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without the whitespace around it; empty if there is none.
    pub value: Span,
    pub known: Known,
}

/// The field names that some stage of the gateway treats on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    Accept,
    AcceptEncoding,
    AltSvc,
    /// `X-API-Key`.
    ApiKey,
    Authorization,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Cookie,
    /// `Ringgate-Deadline`: milliseconds that the sender still waits.
    Deadline,
    /// `Endpoint-Load-Metrics`, `-Bin`, and their old `X-` forms (ORCA).
    EndpointLoadMetrics,
    Expect,
    /// `Forwarded`, `X-Forwarded-*`, `X-Real-IP`.
    Forwarded,
    Host,
    Http2Settings,
    /// `Ringgate-*`: words between our own parts, never from outside.
    Internal,
    KeepAlive,
    LastEventId,
    Location,
    McpMethod,
    McpName,
    /// `Mcp-*` that has no name of its own here.
    McpOther,
    /// `Mcp-Param-*`.
    McpParam,
    Origin,
    Other,
    /// `MCP-Protocol-Version`.
    ProtocolVersion,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    /// `Proxy-*` that has no name of its own here.
    ProxyOther,
    RetryAfter,
    ServerTiming,
    /// `Mcp-Session-Id`.
    SessionId,
    SetCookie,
    Te,
    Traceparent,
    Trailer,
    TransferEncoding,
    Upgrade,
    WwwAuthenticate,
    XRequestId,
}

impl Known {
    /// Fields by which a message is framed, routed, admitted or read. No peer may delete one through
    /// `Connection`, hide one in a trailer, or send one in a spelling that some servers fold into it.
    pub const fn is_critical(self) -> bool {
        !matches!(
            self,
            Self::Accept
                | Self::AltSvc
                | Self::KeepAlive
                | Self::LastEventId
                | Self::Location
                | Self::Other
                | Self::RetryAfter
                | Self::ServerTiming
                | Self::Traceparent
                | Self::WwwAuthenticate
                | Self::XRequestId
        )
    }
}

/// How often a field occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Single {
    #[default]
    Missing,
    One(Span),
    Twice,
}

impl Single {
    pub(super) fn saw(&mut self, value: Span) {
        *self = match self {
            Self::Missing => Self::One(value),
            Self::One(_) | Self::Twice => Self::Twice,
        };
    }
}

/// The fields of a head, in their order, and which names are among them: most that are asked for are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<Field>,
    /// Bit per [`Known`].
    names: u64,
}

const _: () = assert!((Known::XRequestId as u32) < u64::BITS);

impl Fields {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.names = 0;
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.list.reserve(more);
    }

    pub(super) fn push(&mut self, field: Field) {
        self.names |= 1 << field.known as u32;
        self.list.push(field);
    }

    pub const fn has(&self, known: Known) -> bool {
        self.names & 1 << known as u32 != 0
    }

    /// The value of the field `known`, if it stands there exactly once.
    pub fn single(&self, known: Known) -> Single {
        let mut found = Single::Missing;
        if self.has(known) {
            self.list.iter().filter(|field| field.known == known).for_each(|field| found.saw(field.value));
        }
        found
    }
}

impl Deref for Fields {
    type Target = [Field];

    fn deref(&self) -> &[Field] {
        &self.list
    }
}

#[inline]
fn starts_with<const N: usize>(name: &[u8], prefix: &[u8; N]) -> bool {
    name.first_chunk::<N>().is_some_and(|start| is(start, prefix))
}

/// Names that are known by how they begin.
fn by_prefix(name: &[u8]) -> Known {
    if starts_with(name, b"mcp-param-") {
        Known::McpParam
    } else if starts_with(name, b"mcp-") {
        Known::McpOther
    } else if starts_with(name, b"proxy-") {
        Known::ProxyOther
    } else if starts_with(name, b"ringgate-") {
        Known::Internal
    } else if starts_with(name, b"x-forwarded-") {
        Known::Forwarded
    } else {
        Known::Other
    }
}

/// Whether a token is `candidate`, which holds lower-case letters, digits and hyphens only. Setting bit 5 then
/// equals ignoring case: the other byte that it would make equal is a control character, never in a token.
/// With the length known when compiling this is a few wide compares.
#[inline]
fn is<const N: usize>(name: &[u8], candidate: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    name.iter().zip(candidate).fold(0, |differing, (byte, wanted)| differing | ((byte | 0x20) ^ wanted)) == 0
}

/// Which field a name is, in any case of its letters. `name` is a token. The length and the first letter leave
/// at most two candidates, so no hash is needed.
#[inline]
pub fn classify(name: &[u8]) -> Known {
    let Some(first) = name.first().map(|byte| byte | 0x20) else { return Known::Other };
    match (name.len(), first) {
        (2, b't') if is(name, b"te") => Known::Te,
        (4, b'h') if is(name, b"host") => Known::Host,
        (6, b'a') if is(name, b"accept") => Known::Accept,
        (6, b'c') if is(name, b"cookie") => Known::Cookie,
        (6, b'e') if is(name, b"expect") => Known::Expect,
        (6, b'o') if is(name, b"origin") => Known::Origin,
        (7, b'a') if is(name, b"alt-svc") => Known::AltSvc,
        (7, b't') if is(name, b"trailer") => Known::Trailer,
        (7, b'u') if is(name, b"upgrade") => Known::Upgrade,
        (8, b'l') if is(name, b"location") => Known::Location,
        (8, b'm') if is(name, b"mcp-name") => Known::McpName,
        (9, b'f') if is(name, b"forwarded") => Known::Forwarded,
        (9, b'x') if is(name, b"x-api-key") => Known::ApiKey,
        (9, b'x') if is(name, b"x-real-ip") => Known::Forwarded,
        (10, b'c') if is(name, b"connection") => Known::Connection,
        (10, b'k') if is(name, b"keep-alive") => Known::KeepAlive,
        (10, b'm') if is(name, b"mcp-method") => Known::McpMethod,
        (10, b's') if is(name, b"set-cookie") => Known::SetCookie,
        (11, b'r') if is(name, b"retry-after") => Known::RetryAfter,
        (11, b't') if is(name, b"traceparent") => Known::Traceparent,
        (12, b'c') if is(name, b"content-type") => Known::ContentType,
        (12, b'x') if is(name, b"x-request-id") => Known::XRequestId,
        (13, b'a') if is(name, b"authorization") => Known::Authorization,
        (13, b'l') if is(name, b"last-event-id") => Known::LastEventId,
        (13, b's') if is(name, b"server-timing") => Known::ServerTiming,
        (14, b'c') if is(name, b"content-length") => Known::ContentLength,
        (14, b'h') if is(name, b"http2-settings") => Known::Http2Settings,
        (14, b'm') if is(name, b"mcp-session-id") => Known::SessionId,
        (15, b'a') if is(name, b"accept-encoding") => Known::AcceptEncoding,
        (16, b'c') if is(name, b"content-encoding") => Known::ContentEncoding,
        (16, b'p') if is(name, b"proxy-connection") => Known::ProxyConnection,
        (16, b'w') if is(name, b"www-authenticate") => Known::WwwAuthenticate,
        (17, b'r') if is(name, b"ringgate-deadline") => Known::Deadline,
        (17, b't') if is(name, b"transfer-encoding") => Known::TransferEncoding,
        (18, b'p') if is(name, b"proxy-authenticate") => Known::ProxyAuthenticate,
        (19, b'p') if is(name, b"proxy-authorization") => Known::ProxyAuthorization,
        (20, b'm') if is(name, b"mcp-protocol-version") => Known::ProtocolVersion,
        (21, b'e') if is(name, b"endpoint-load-metrics") => Known::EndpointLoadMetrics,
        (23, b'x') if is(name, b"x-endpoint-load-metrics") => Known::EndpointLoadMetrics,
        (25, b'e') if is(name, b"endpoint-load-metrics-bin") => Known::EndpointLoadMetrics,
        (27, b'x') if is(name, b"x-endpoint-load-metrics-bin") => Known::EndpointLoadMetrics,
        (_, b'm' | b'p' | b'r' | b'x') => by_prefix(name),
        _ => Known::Other,
    }
}

/// Whether a server may take one field name for the other. CGI and what grew out of it hand names on in capitals with
/// `_` for all that is no letter or digit: to them `X_User`, `X.User` and `X-User` are one, and the first or last counts.
pub fn is_same(name: &[u8], other: &[u8]) -> bool {
    let folded = |byte: u8| if byte.is_ascii_alphanumeric() { byte | 0x20 } else { b'-' };
    name.len() == other.len() && name.iter().zip(other).all(|(one, two)| folded(*one) == folded(*two))
}

/// Whether a name has letters, digits and hyphens only.
#[inline]
pub(super) fn is_plain(name: &[u8]) -> bool {
    // A fold without an early end looks at many bytes at once.
    name.iter().fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | (*byte == b'-')))
}

/// Longest name that [`disguised`] compares: longer than every exact name above, and a longer name can only be
/// critical by its prefix, which still fits.
const FOLDED_NAME_BYTES: usize = 32;

/// Whether a name, known as `known`, becomes another and critical one where all that is no letter or digit is read as
/// `-`, as servers do that [`is_same`] tells of: behind such a server `Content_Length` and `Content.Length` are a second
/// `Content-Length` that nobody checked. White space is in no name, and the case of letters hides nothing.
#[inline]
pub(super) fn disguised(name: &[u8], known: Known) -> bool {
    // Every name that is known exactly is plain, and these prefixes are the longest of their kind.
    if !matches!(known, Known::McpOther | Known::Other | Known::ProxyOther) || is_plain(name) {
        return false;
    }
    unfolded(name, known)
}

/// The second half of [`disguised`], for the few names with other letters.
#[cold]
fn unfolded(name: &[u8], known: Known) -> bool {
    let mut folded = [0; FOLDED_NAME_BYTES];
    for (to, from) in folded.iter_mut().zip(name) {
        *to = if from.is_ascii_alphanumeric() { *from } else { b'-' };
    }
    // The zip stopped at the shorter of both.
    let other = classify(&folded[..name.len().min(FOLDED_NAME_BYTES)]);
    other != known && other.is_critical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_never_panic() {
        for (start, end, expected) in [
            (1, 3, b"bc".as_slice()),
            (0, 0, b""),
            (3, 1, b""),
            (2, 9, b""),
            (9, 12, b""),
            (u32::MAX, u32::MAX, b""),
        ] {
            let span = Span { start, end };
            assert_eq!(span.of(b"abcd"), expected, "{span:?}");
            assert_eq!(span.is_empty(), end <= start);
        }
        assert_eq!(Span { start: 3, end: 1 }.len(), 0);
        assert!(Span::within(b"abcd", b"elsewhere").of(b"abcd").len() <= 4);
    }

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in [
            ("Accept", Known::Accept),
            ("Accept-Encoding", Known::AcceptEncoding),
            ("Alt-Svc", Known::AltSvc),
            ("X-API-Key", Known::ApiKey),
            ("Authorization", Known::Authorization),
            ("Connection", Known::Connection),
            ("Content-Encoding", Known::ContentEncoding),
            ("Content-Length", Known::ContentLength),
            ("Content-Type", Known::ContentType),
            ("Cookie", Known::Cookie),
            ("Endpoint-Load-Metrics", Known::EndpointLoadMetrics),
            ("Endpoint-Load-Metrics-Bin", Known::EndpointLoadMetrics),
            ("X-Endpoint-Load-Metrics", Known::EndpointLoadMetrics),
            ("X-Endpoint-Load-Metrics-Bin", Known::EndpointLoadMetrics),
            ("Expect", Known::Expect),
            ("Forwarded", Known::Forwarded),
            ("X-Forwarded-Proto", Known::Forwarded),
            ("X-Real-IP", Known::Forwarded),
            ("Host", Known::Host),
            ("HTTP2-Settings", Known::Http2Settings),
            ("Ringgate-Child", Known::Internal),
            ("Ringgate-Deadline", Known::Deadline),
            ("Keep-Alive", Known::KeepAlive),
            ("Last-Event-ID", Known::LastEventId),
            ("Location", Known::Location),
            ("Mcp-Method", Known::McpMethod),
            ("Mcp-Name", Known::McpName),
            ("Mcp-Anything", Known::McpOther),
            ("Mcp-Param-Tenant", Known::McpParam),
            ("Origin", Known::Origin),
            ("MCP-Protocol-Version", Known::ProtocolVersion),
            ("Proxy-Authenticate", Known::ProxyAuthenticate),
            ("Proxy-Authorization", Known::ProxyAuthorization),
            ("Proxy-Connection", Known::ProxyConnection),
            ("Proxy-Status", Known::ProxyOther),
            ("Retry-After", Known::RetryAfter),
            ("Server-Timing", Known::ServerTiming),
            ("Mcp-Session-Id", Known::SessionId),
            ("Set-Cookie", Known::SetCookie),
            ("TE", Known::Te),
            ("Traceparent", Known::Traceparent),
            ("Trailer", Known::Trailer),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("Upgrade", Known::Upgrade),
            ("WWW-Authenticate", Known::WwwAuthenticate),
            ("X-Request-Id", Known::XRequestId),
            ("Content-Lengths", Known::Other),
            ("Hose", Known::Other),
            ("X-Api-Kez", Known::Other),
            ("X-Forwarded", Known::Other),
            ("Mcp", Known::Other),
            ("", Known::Other),
        ] {
            for spelled in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                assert_eq!(classify(spelled.as_bytes()), known, "{spelled}");
            }
        }
    }

    #[test]
    fn no_other_letter_hides_a_critical_name() {
        for (name, hidden) in [
            ("Content_Length", true),
            ("transfer_encoding", true),
            ("Mcp_Name", true),
            ("mcp-session_id", true),
            ("mcp_param-x", true),
            ("proxy_connection", true),
            ("Proxy-Authoriza_tion", false),
            ("x_api_key", true),
            ("x_forwarded_for", true),
            ("ringgate_x", true),
            ("mcp_a_name_that_is_far_longer_than_what_is_folded", true),
            ("Content.Length", true),
            ("TRANSFER.ENCODING", true),
            ("X.Api.Key", true),
            ("x-api_key", true),
            ("X.Forwarded-For", true),
            ("ringgate.principal", true),
            ("mcp.session~id", true),
            ("proxy!authorization", true),
            ("Author.ization", false),
            ("author-ization", false),
            ("my.field", false),
            ("x.request.id", false),
            ("Mcp-Param-a_b", false),
            ("Mcp-Param-a.b", false),
            ("x_request_id", false),
            ("my_field", false),
            ("Content-Length", false),
        ] {
            assert_eq!(disguised(name.as_bytes(), classify(name.as_bytes())), hidden, "{name}");
        }
    }

    #[test]
    fn each_letter_of_a_token_that_is_none_of_ours_is_seen_through() {
        for letter in (0x21..0x7f_u8).map(char::from).filter(|letter| !letter.is_ascii_alphanumeric()) {
            let name = format!("X{letter}Api{letter}Key");
            let hidden = disguised(name.as_bytes(), classify(name.as_bytes()));
            assert_eq!(hidden, letter != '-', "{name}");
        }
    }

    #[test]
    fn names_are_the_same_where_a_server_may_not_tell_them_apart() {
        for (one, other, expected) in [
            ("X-User", "x-user", true),
            ("X_User", "x-user", true),
            ("x-user", "X_USER", true),
            ("x.user", "x-user", true),
            ("X-User-0", "x_user_0", true),
            ("xuser", "x-user", false),
            ("x-user", "x-users", false),
            ("x-user-1", "x-user-2", false),
            ("x-user^", "x-user~", true),
            ("x-user0", "x-user-", false),
            ("", "", true),
        ] {
            assert_eq!(is_same(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_field_is_missing_there_or_twice() {
        let field = |known, start| Field { name: Span::default(), value: Span { start, end: start }, known };
        let mut fields = Fields::default();
        for (known, start) in [(Known::Host, 1), (Known::Te, 2), (Known::Host, 3), (Known::XRequestId, 4)] {
            fields.push(field(known, start));
        }
        assert_eq!(fields.single(Known::Origin), Single::Missing);
        assert_eq!(fields.single(Known::Te), Single::One(Span { start: 2, end: 2 }));
        assert_eq!(fields.single(Known::XRequestId), Single::One(Span { start: 4, end: 4 }));
        assert_eq!(fields.single(Known::Host), Single::Twice);
        fields.clear();
        assert_eq!((fields.single(Known::Host), fields.len()), (Single::Missing, 0));
    }
}
