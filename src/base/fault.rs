//! `Fault`: the one error on the path of a call, and the one table from it to the wire.
//!
//! Not here: the text of the JSON-RPC answer (that is `mcp::refusal`) and any reason to retry that
//! depends on what was written upstream (that is `upstream`).
//!
//! A fault never carries bytes that a peer sent: its `detail` is a sentence of ours, so that no
//! upstream text and no secret can reach a client through it.

#![deny(clippy::wildcard_enum_match_arm, reason = "a new kind must say how it looks")]

use crate::base::bound::Bound;

/// What went wrong. Order: the stage at which it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    // HTTP syntax and limits (RFC 9112, RFC 9110)
    Malformed,
    VersionUnsupported,
    NotImplemented,
    ExpectationFailed,
    TargetTooLong,
    HeadTooLarge,
    BodyTooLarge,
    HeadTimeout,
    BodyTimeout,
    // Routing on our own endpoint
    HostRefused,
    OriginRefused,
    NotFound,
    MethodNotAllowed,
    MediaType,
    // JSON-RPC and MCP
    ParseError,
    InvalidRequest,
    InvalidParams,
    HeaderMismatch,
    RevisionUnsupported,
    SessionMissing,
    /// A method that this endpoint does not have, as 2026-07-28 says it.
    UnknownMethod,
    /// The same as the older revisions say it.
    UnknownMethodLegacy,
    /// A list cannot go on there.
    InvalidCursor,
    InvalidRequestState,
    /// Unknown, expired, or somebody else's.
    SessionNotFound,
    // Identity
    Unauthenticated,
    // Policy
    /// A tool, prompt or resource that is not there for this caller: it answers as one that does not exist.
    Unknown,
    /// The same of a resource, as the older revisions say it.
    UnknownResource,
    Forbidden,
    InsufficientScope,
    Killed,
    RateLimited,
    // Upstream
    UpstreamUnavailable,
    UpstreamTimeout,
    UpstreamProtocol,
    /// The server does not take the credential that it was shown, or there is none.
    UpstreamUnauthorized,
    /// There is no credential until the caller has consented.
    ConsentRequired,
    // The gateway itself
    Draining,
    Overloaded,
    // The client went away; nothing can be answered
    ClientGone,
}

/// One failure of one call. `Copy`, no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// One plain sentence of ours that stands alone and says what to do: some clients show nothing else.
    pub detail: &'static str,
    /// The bound that was hit, if it was one: it is counted where the fault is answered.
    pub bound: Option<Bound>,
}

/// How a kind of fault looks on the wire (contract: "Refusals").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireForm {
    pub status: u16,
    /// JSON-RPC code: the specification's where it fixes one, else -(33000 + status).
    pub code: i32,
    pub reason: &'static str,
    /// A framing error ends the connection (RFC 9112 section 9.6): nothing after it is parsed.
    pub closes: bool,
    /// Whole seconds for `Retry-After`; 0 sends none.
    pub retry_after_seconds: u16,
}

impl Fault {
    pub const fn new(kind: Kind, detail: &'static str) -> Self {
        Self { kind, detail, bound: None }
    }

    /// The same, because of a bound.
    #[must_use]
    pub const fn at(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    pub const fn wire(self) -> WireForm {
        self.kind.wire()
    }
}

const fn form(status: u16, code: i32, reason: &'static str) -> WireForm {
    WireForm { status, code, reason, closes: false, retry_after_seconds: 0 }
}

const fn closing(status: u16, reason: &'static str) -> WireForm {
    WireForm { status, code: -33000 - status as i32, reason, closes: true, retry_after_seconds: 0 }
}

const fn ours(status: u16, reason: &'static str) -> WireForm {
    form(status, -33000 - status as i32, reason)
}

const fn later(status: u16, reason: &'static str) -> WireForm {
    WireForm { retry_after_seconds: 1, ..ours(status, reason) }
}

impl Kind {
    /// In the order of their declaration, so that `kind as usize` is the place of a kind in it.
    pub const ALL: [Self; Self::ClientGone as usize + 1] = [
        Self::Malformed,
        Self::VersionUnsupported,
        Self::NotImplemented,
        Self::ExpectationFailed,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::HostRefused,
        Self::OriginRefused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::MediaType,
        Self::ParseError,
        Self::InvalidRequest,
        Self::InvalidParams,
        Self::HeaderMismatch,
        Self::RevisionUnsupported,
        Self::SessionMissing,
        Self::UnknownMethod,
        Self::UnknownMethodLegacy,
        Self::InvalidCursor,
        Self::InvalidRequestState,
        Self::SessionNotFound,
        Self::Unauthenticated,
        Self::Unknown,
        Self::UnknownResource,
        Self::Forbidden,
        Self::InsufficientScope,
        Self::Killed,
        Self::RateLimited,
        Self::UpstreamUnavailable,
        Self::UpstreamTimeout,
        Self::UpstreamProtocol,
        Self::UpstreamUnauthorized,
        Self::ConsentRequired,
        Self::Draining,
        Self::Overloaded,
        Self::ClientGone,
    ];

    /// Exhaustive on purpose: a new kind must say how it looks.
    pub const fn wire(self) -> WireForm {
        match self {
            Self::Malformed => closing(400, "bad_request"),
            Self::VersionUnsupported => closing(505, "http_version"),
            Self::NotImplemented => closing(501, "not_implemented"),
            Self::ExpectationFailed => closing(417, "expectation_failed"),
            Self::TargetTooLong => closing(414, "too_large"),
            Self::HeadTooLarge => closing(431, "too_large"),
            Self::BodyTooLarge => closing(413, "too_large"),
            Self::HeadTimeout | Self::BodyTimeout => closing(408, "request_timeout"),
            Self::HostRefused => ours(403, "host_refused"),
            Self::OriginRefused => ours(403, "origin_refused"),
            Self::NotFound => ours(404, "not_found"),
            Self::MethodNotAllowed => ours(405, "method_not_allowed"),
            Self::MediaType => ours(415, "media_type"),
            Self::ParseError => form(400, -32700, "parse_error"),
            Self::InvalidRequest | Self::SessionMissing => form(400, -32600, "invalid_request"),
            Self::InvalidParams => form(400, -32602, "invalid_params"),
            // 2026-07-28, streamable HTTP, "Sending Messages"; 2025-11-25 says nothing of the status.
            Self::UnknownMethod => form(404, -32601, "unknown_method"),
            Self::UnknownMethodLegacy => form(200, -32601, "unknown_method"),
            // 2026-07-28 and 2025-11-25, pagination, "Error Handling".
            Self::InvalidCursor => form(200, -32602, "invalid_cursor"),
            Self::InvalidRequestState => form(400, -32602, "invalid_request_state"),
            Self::HeaderMismatch => form(400, -32020, "header_mismatch"),
            Self::RevisionUnsupported => form(400, -32022, "unsupported_version"),
            Self::SessionNotFound => ours(404, "session_not_found"),
            Self::Unauthenticated => ours(401, "unauthenticated"),
            // As servers answer it in either era (2026-07-28 and 2025-11-25, tools, "Error Handling").
            Self::Unknown => form(200, -32602, "unknown"),
            // 2025-11-25, resources, "Error Handling".
            Self::UnknownResource => form(200, -32002, "unknown"),
            Self::Forbidden => ours(403, "forbidden"),
            Self::InsufficientScope => ours(403, "insufficient_scope"),
            Self::Killed => ours(403, "killed"),
            Self::RateLimited => later(429, "rate_limited"),
            Self::UpstreamUnavailable => later(503, "upstream_unavailable"),
            Self::UpstreamTimeout => ours(504, "upstream_timeout"),
            Self::UpstreamProtocol => ours(502, "upstream_protocol"),
            Self::UpstreamUnauthorized => ours(502, "upstream_unauthorized"),
            Self::ConsentRequired => ours(403, "consent_required"),
            Self::Draining | Self::Overloaded => later(503, "gateway_unavailable"),
            // 499 is what proxies log for it; it is never sent.
            Self::ClientGone => closing(499, "client_gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_specifications_or_ours() {
        let table = [
            (Kind::Malformed, 400, -33400, true),
            (Kind::BodyTooLarge, 413, -33413, true),
            (Kind::HeadTooLarge, 431, -33431, true),
            (Kind::HostRefused, 403, -33403, false),
            (Kind::ParseError, 400, -32700, false),
            (Kind::InvalidRequest, 400, -32600, false),
            (Kind::InvalidParams, 400, -32602, false),
            (Kind::HeaderMismatch, 400, -32020, false),
            (Kind::RevisionUnsupported, 400, -32022, false),
            (Kind::SessionNotFound, 404, -33404, false),
            (Kind::Unauthenticated, 401, -33401, false),
            (Kind::Unknown, 200, -32602, false),
            (Kind::UnknownResource, 200, -32002, false),
            (Kind::Forbidden, 403, -33403, false),
            (Kind::InsufficientScope, 403, -33403, false),
            (Kind::Killed, 403, -33403, false),
            (Kind::RateLimited, 429, -33429, false),
            (Kind::UpstreamUnavailable, 503, -33503, false),
            (Kind::UpstreamTimeout, 504, -33504, false),
            (Kind::UpstreamProtocol, 502, -33502, false),
            (Kind::UpstreamUnauthorized, 502, -33502, false),
            (Kind::ConsentRequired, 403, -33403, false),
        ];
        for (kind, status, code, closes) in table {
            let wire = kind.wire();
            assert_eq!((wire.status, wire.code, wire.closes), (status, code, closes), "{kind:?}");
        }
    }

    #[test]
    fn all_kinds_stand_at_their_place() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }

    #[test]
    fn a_fault_stays_small_enough_to_copy() {
        assert!(size_of::<Fault>() <= 24);
    }
}
