//! A second parser of heads: slow, allocating, whole inputs only, written from the
//! rules and not from the codecs, so that an error must be made twice to go unseen.
//!
//! Not here: anything that the gateway runs. May not know: the codecs' code; it shares their result types only.

use crate::http::request::Framing;
use crate::http::request::HeadLimits;
use crate::http::request::Version;
use crate::http::response::AnswerFraming;

pub(super) type Pair = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
pub(super) enum Verdict<T> {
    Refused,
    Unfinished,
    Whole(T),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) host: Vec<u8>,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    pub(super) fields: Vec<Pair>,
    pub(super) len: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) framing: AnswerFraming,
    pub(super) keep_alive: bool,
    pub(super) fields: Vec<Pair>,
    pub(super) len: usize,
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Whether a whole head lies in `data`.
pub(super) fn has_end(data: &[u8]) -> bool {
    find(data.strip_prefix(b"\r\n").unwrap_or(data), b"\r\n\r\n").is_some()
}

fn token(text: &[u8]) -> bool {
    let others = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte))
}

pub(super) fn visible_or_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

pub(super) fn without_blanks(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

pub(super) fn lower(text: &[u8]) -> String {
    String::from_utf8_lossy(text).to_ascii_lowercase()
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (text, Vec::new());
    while let Some(end) = find(rest, b"\r\n") {
        all.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    all.push(rest);
    all
}

pub(super) fn field(line: &[u8]) -> Option<Pair> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], without_blanks(&line[colon + 1..]));
    (token(name) && visible_or_blank(value)).then(|| (name.to_vec(), value.to_vec()))
}

const CRITICAL: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "endpoint-load-metrics",
    "endpoint-load-metrics-bin",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-endpoint-load-metrics",
    "x-endpoint-load-metrics-bin",
    "x-real-ip",
];
/// Longer before shorter.
const CRITICAL_STARTS: &[&str] = &["mcp-param-", "mcp-", "proxy-", "ringgate-", "x-forwarded-"];

/// The critical name or start that a name has.
pub(super) fn critical(name: &str) -> Option<&'static str> {
    let exact = CRITICAL.iter().find(|critical| **critical == name);
    exact.or_else(|| CRITICAL_STARTS.iter().find(|start| name.starts_with(**start))).copied()
}

/// A name that is another, critical one with all that is no letter or digit read as a hyphen.
pub(super) fn disguised(name: &[u8]) -> bool {
    let name = lower(name);
    let read = critical(&name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
    read.is_some() && read != critical(&name)
}

struct Fields(Vec<Pair>);

impl Fields {
    fn parse(lines: &[&[u8]], limit: usize) -> Option<Self> {
        let fields: Option<Vec<Pair>> = lines.iter().map(|line| field(line)).collect();
        let fields = fields.filter(|fields| fields.len() <= limit)?;
        (!fields.iter().any(|(name, _)| disguised(name))).then_some(Self(fields))
    }

    fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(key, _)| lower(key) == name);
        named.map(|(_, value)| value.iter().map(|byte| char::from(*byte)).collect()).collect()
    }

    /// `Some(close)`, or `None` where Connection is not to be borne.
    fn close(&self) -> Option<bool> {
        let kept = [
            "authorization",
            "content-encoding",
            "content-length",
            "content-type",
            "host",
            "origin",
            "transfer-encoding",
            "x-api-key",
        ];
        let (mut close, mut others) = (false, 0);
        for option in self.all("connection").join(",").split(',') {
            let option = lower(without_blanks(option.as_bytes()));
            match option.as_str() {
                "" | "keep-alive" => {}
                "close" => close = true,
                name if !token(name.as_bytes()) || kept.contains(&name) => return None,
                name if name.starts_with("mcp-") || name.starts_with("ringgate-") => return None,
                _ => others += 1,
            }
        }
        (others <= 16).then_some(close)
    }

    /// Chunked, or a length, or neither. `None`: refused.
    fn framing(&self, version: Version) -> Option<Framing> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Some(Framing::None),
            ([length], [])
                if (1..=19).contains(&length.len()) && length.chars().all(|c| c.is_ascii_digit()) =>
            {
                length.parse().ok().map(Framing::Length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && version == Version::Http11 => {
                Some(Framing::Chunked)
            }
            _ => None,
        }
    }
}

/// Host and port; `None`: refused.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(digits) if (1..=5).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|number: &u16| *number > 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    if let Some(inside) = host.strip_prefix('[') {
        let address: std::net::Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some((address.to_string(), port));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return None;
    }
    let last = name.rsplit('.').next()?.to_ascii_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()));
    if hex || last.chars().all(|c| c.is_ascii_digit()) {
        host.parse::<std::net::Ipv4Addr>().ok()?;
    }
    Some((host.to_ascii_lowercase(), port))
}

/// The origin form and the authority (empty where there is none); `None`: refused.
fn origin_form(target: &str, host: Option<&str>) -> Option<(String, String)> {
    if !target.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return None;
    }
    if target.starts_with('/') {
        return Some((target.to_owned(), String::new()));
    }
    let (scheme, rest) = target.split_once("://")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (place, path) = rest.split_once('/')?;
    let with_port = |text| authority(text).map(|(name, port)| (name, port.unwrap_or(default)));
    let asked = with_port(place)?;
    match host {
        Some(host) if with_port(host)? != asked => None,
        _ => Some((format!("/{path}"), place.to_owned())),
    }
}

/// The head in `data`, split into its first line and the others, and its length.
fn head(data: &[u8], limit: usize) -> Verdict<(Vec<&[u8]>, usize)> {
    match find(data, b"\r\n\r\n") {
        None if data.len() >= limit => Verdict::Refused,
        None => Verdict::Unfinished,
        Some(end) if end + 4 > limit => Verdict::Refused,
        Some(end) => {
            let lines = lines(&data[..end]);
            if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
                return Verdict::Refused;
            }
            Verdict::Whole((lines, end + 4))
        }
    }
}

fn version(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.0" => Some(Version::Http10),
        b"HTTP/1.1" => Some(Version::Http11),
        _ => None,
    }
}

pub(super) fn request(data: &[u8], limits: HeadLimits) -> Verdict<Request> {
    let skipped = if data.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &data[skipped..];
    if rest.starts_with(b"\r") || rest.starts_with(b"\n") {
        // A lone CR may become the CRLF that is allowed.
        return if data == b"\r" { Verdict::Unfinished } else { Verdict::Refused };
    }
    match head(rest, limits.head_bytes.saturating_sub(skipped)) {
        Verdict::Refused => Verdict::Refused,
        Verdict::Unfinished => Verdict::Unfinished,
        Verdict::Whole((lines, len)) => {
            request_lines(&lines, skipped + len, limits).map_or(Verdict::Refused, Verdict::Whole)
        }
    }
}

fn request_lines(lines: &[&[u8]], len: usize, limits: HeadLimits) -> Option<Request> {
    let words: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, target, version_text] = words.as_slice() else { return None };
    if !token(method) || method.len() > 32 || target.is_empty() || target.len() > limits.target_bytes {
        return None;
    }
    let version = version(version_text)?;
    let fields = Fields::parse(&lines[1..], limits.fields)?;
    let hosts = fields.all("host");
    let host = match hosts.as_slice() {
        [] if version == Version::Http10 => None,
        [host] => Some(host.as_str()).filter(|host| authority(host).is_some()).map(Some)?,
        _ => return None,
    };
    let text = std::str::from_utf8(target).ok()?;
    let connect = *method == b"CONNECT";
    let (target, place) = if connect {
        authority(text)?;
        (text.to_owned(), String::new())
    } else {
        origin_form(text, host)?
    };
    let path = if connect { "" } else { target.split('?').next()? };
    let framing = fields.framing(version)?;
    let expect = match fields.all("expect").as_slice() {
        [] => false,
        [word] if word.eq_ignore_ascii_case("100-continue") => true,
        _ => return None,
    };
    Some(Request {
        method: method.to_vec(),
        path: path.as_bytes().to_vec(),
        target: target.as_bytes().to_vec(),
        host: host.unwrap_or(&place).as_bytes().to_vec(),
        version,
        framing,
        keep_alive: !fields.close()? && version == Version::Http11 && !connect,
        expect_continue: expect && version == Version::Http11 && framing != Framing::None,
        fields: fields.0,
        len,
    })
}

pub(super) fn response(data: &[u8], limits: HeadLimits, head_request: bool) -> Verdict<Response> {
    if data.first().is_some_and(|byte| *byte != b'H') {
        return Verdict::Refused;
    }
    match head(data, limits.head_bytes) {
        Verdict::Refused => Verdict::Refused,
        Verdict::Unfinished => Verdict::Unfinished,
        Verdict::Whole((lines, len)) => {
            response_lines(&lines, len, limits, head_request).map_or(Verdict::Refused, Verdict::Whole)
        }
    }
}

fn response_lines(lines: &[&[u8]], len: usize, limits: HeadLimits, head_request: bool) -> Option<Response> {
    let (version_text, rest) = lines[0].split_at_checked(8)?;
    let version = version(version_text)?;
    let (code, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    // Many servers leave out the space before an empty phrase.
    if !code.iter().all(u8::is_ascii_digit)
        || !(reason.is_empty() || reason.starts_with(b" "))
        || !visible_or_blank(reason)
    {
        return None;
    }
    let status: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
    if status == 101 || !(100..600).contains(&status) {
        return None;
    }
    let fields = Fields::parse(&lines[1..], limits.fields)?;
    let declared = fields.framing(version)?;
    if fields.all("content-type").len() > 1 {
        return None;
    }
    let bodiless = status < 200 || status == 204;
    let framing = match declared {
        _ if bodiless || status == 304 || head_request => AnswerFraming::None,
        Framing::Chunked => AnswerFraming::Chunked,
        Framing::Length(length) => AnswerFraming::Length(length),
        Framing::None => AnswerFraming::UntilClose,
    };
    let stray = bodiless && !matches!(declared, Framing::None | Framing::Length(0));
    let reusable = version == Version::Http11 && !stray && framing != AnswerFraming::UntilClose;
    Some(Response {
        status,
        version,
        framing,
        keep_alive: !fields.close()? && reusable,
        fields: fields.0,
        len,
    })
}
