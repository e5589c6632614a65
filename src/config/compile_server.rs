//! `mcpServers` to servers of the plan: names, endpoints, injected headers, TLS.
//!
//! Not here: which instances there are (`compile_pools`), traffic (`compile_traffic`), the rest of the plan
//! (`compile`).

use crate::config::address::Url;
use crate::config::compile_auth;
use crate::config::compile_override;
use crate::config::compile_pools;
use crate::config::compile_routing;
use crate::config::compile_tls;
use crate::config::compile_traffic;
use crate::config::file;
use crate::config::file_tls::Tls;
use crate::config::hub::ListCache;
use crate::config::labels::Labels;
use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::EraChoice;
use crate::config::plan::InjectedHeader;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::config::plan::Timeouts;
use crate::config::problem::Place;
use crate::config::problem::quoted;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::sync::Arc;

/// Fields that are not the operator's to set: hop-by-hop and framing (RFC 9110 section 7.6.1), what
/// the gateway or the client must say itself, and what would change the form of the answer.
const RESERVED: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const RESERVED_PREFIXES: &[&str] = &["content-", "mcp-"];

/// Every server that is not disabled.
pub fn servers(reader: &mut Reader<'_>, written: &[(Located<String>, file::Server)]) -> Vec<Server> {
    if let Some((name, _)) = written.get(limits::SERVERS_MAX) {
        reader.problem(
            name.place,
            format!("more than {} servers", limits::SERVERS_MAX),
            "Use a second gateway.",
        );
        return Vec::new();
    }
    let mut places: HashMap<String, (&str, Place)> = HashMap::new();
    let mut shared_tls = None;
    let mut servers = Vec::new();
    for (name, server) in written {
        check_name(reader, name, "server");
        if let Some((other, place)) =
            places.insert(name.value.to_ascii_lowercase(), (&name.value, name.place))
        {
            let what = format!("`{}` and `{other}` differ in case only", name.value);
            let cure = format!("`{other}` is at {}:{}; rename one.", place.line, place.column);
            reader.problem(name.place, what, cure);
        }
        if server.disabled {
            reader.warn(name.place, format!("server `{}` is disabled and left out", name.value), "");
            continue;
        }
        let mut made = one(reader, name, server, &mut shared_tls);
        if let Ok(id) = ServerId::try_from(servers.len()) {
            made.overrides = compile_override::of_server(reader, name, id, &server.overrides);
        }
        servers.push(made);
    }
    servers
}

/// `kind`: what it names.
pub fn check_name(reader: &mut Reader<'_>, name: &Located<String>, kind: &str) {
    if let Some(flaw) = server_name_flaw(&name.value) {
        let what = format!("the {kind} name {} {flaw}", quoted(&name.value));
        reader.problem(name.place, what, "Rename it.");
    }
}

/// Why nothing can be called so at `/mcp/NAME`; none: it could. `[A-Za-z][A-Za-z0-9_-]{0,31}`, no `__`, no `_` at the
/// end: tool names are `server__tool`.
pub fn server_name_flaw(text: &str) -> Option<&'static str> {
    let flaw = if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        "does not start with a letter"
    } else if text.len() > limits::SERVER_NAME_BYTES_MAX {
        "is longer than 32 characters"
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        "has a character other than letters, digits, `_` and `-`"
    } else if text.contains("__") {
        "has `__`, which separates server and tool"
    } else if text.ends_with('_') {
        "ends in `_`, which would run into the `__` before a tool"
    } else {
        return None;
    };
    Some(flaw)
}

fn one(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    server: &file::Server,
    shared_tls: &mut Option<Arc<ClientConfig>>,
) -> Server {
    let pools = compile_pools::pools(reader, name, server);
    let urls = &pools.urls;
    let secure = urls.iter().any(|url| url.tls);
    if let Some(written) = &server.tls
        && !secure
        && !urls.is_empty()
    {
        reader.problem(
            written.place,
            "`tls` without an `https://` url has no effect",
            "Write `https://`, or remove it.",
        );
    }
    let tls_name = server.tls.as_ref().and_then(|tls| server_name(reader, &tls.value));
    let timeout = &server.timeout;
    Server {
        name: Arc::from(name.value.as_str()),
        instances: urls.iter().map(|url| endpoint(url, tls_name.as_ref())).collect(),
        headers: headers(reader, &server.headers),
        auth: compile_auth::auth(reader, server, urls),
        timeout: Timeouts {
            connect_ms: timeout.connect.unwrap_or(limits::CONNECT_TIMEOUT_MS_DEFAULT),
            first_byte_ms: timeout.first_byte.unwrap_or(limits::FIRST_BYTE_TIMEOUT_MS_DEFAULT),
            idle_ms: timeout.idle.unwrap_or(limits::UPSTREAM_IDLE_MS_DEFAULT),
            total_ms: timeout.total.unwrap_or(limits::TOTAL_TIMEOUT_MS_DEFAULT),
            stream_idle_ms: timeout.idle.unwrap_or(limits::NEVER_MS),
            stream_total_ms: timeout.total.unwrap_or(limits::NEVER_MS),
        },
        // Where no url can be read its files are looked at even so: one run tells all that is wrong.
        tls: if secure || (urls.is_empty() && server.tls.is_some()) {
            client(reader, name, server.tls.as_ref(), shared_tls)
        } else {
            None
        },
        era: server.era.unwrap_or(EraChoice::Auto),
        routing: compile_routing::routing(reader, name, server, &pools),
        traffic: compile_traffic::traffic(reader, server, pools),
        tool_total_ms: compile_traffic::tool_totals(&timeout.tools),
        forward_deadline: timeout.forward.unwrap_or(false),
        idempotent: server.idempotent.clone(),
        heeds_hints: server.retry.is_some(),
        faults: compile_traffic::faults(reader, &server.faults),
        labels: labels(&server.labels),
        list_cache: ListCache {
            fresh_ms: server.cache.list,
            stale_ms: server.cache.max_stale.unwrap_or(limits::LIST_STALE_MS_DEFAULT),
        },
        overrides: Vec::new(),
        tenants: server.tenants.iter().map(|tenant| tenant.value.as_str().into()).collect(),
    }
}

fn labels(written: &file::Labels) -> Labels {
    let names = |names: &[Located<String>]| names.iter().map(|name| name.value.as_str().into()).collect();
    let tools = written.tools.iter().map(|(pattern, labels)| (pattern.clone(), names(labels)));
    Labels { all: names(&written.all), tools: tools.collect() }
}

fn endpoint(url: &Url, tls_name: Option<&ServerName<'static>>) -> Endpoint {
    // `address::url` admits only hosts that are addresses or DNS names.
    let own = || ServerName::try_from(url.host.to_string()).ok();
    Endpoint {
        transport: url.transport.clone(),
        target: url.target.as_bytes().into(),
        authority: url.authority.as_bytes().into(),
        tls_name: if url.tls { tls_name.cloned().or_else(own) } else { None },
        label: Arc::from(&*url.label),
    }
}

fn server_name(reader: &mut Reader<'_>, tls: &Tls) -> Option<ServerName<'static>> {
    let text = tls.server_name.as_ref()?;
    let name = ServerName::try_from(text.value.clone()).ok();
    if name.is_none() {
        reader.problem(
            text.place,
            format!("{} is no name of a certificate", text.shown()),
            "Write a DNS name.",
        );
    }
    name
}

/// The TLS configuration; servers without files of their own share one.
fn client(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    written: Option<&Located<Tls>>,
    shared: &mut Option<Arc<ClientConfig>>,
) -> Option<Arc<ClientConfig>> {
    if written.is_some_and(|tls| tls.value.ca.is_some() || tls.value.own.is_some()) {
        return compile_tls::upstream(reader, name, written);
    }
    if shared.is_none() {
        *shared = compile_tls::upstream(reader, name, None);
    }
    shared.clone()
}

fn headers(reader: &mut Reader<'_>, written: &[(Located<String>, Located<String>)]) -> Vec<InjectedHeader> {
    let mut headers: Vec<InjectedHeader> = Vec::new();
    let mut bytes = 0_usize;
    for (name, value) in written {
        let lowered = name.value.to_ascii_lowercase();
        let before = reader.problems.len();
        check_header_name(reader, name);
        if headers.iter().any(|other| *other.name == *lowered.as_bytes()) {
            reader.problem(
                name.place,
                format!("the header {} stands here a second time", quoted(&name.value)),
                "Remove it.",
            );
        }
        let trimmed = value.value.trim_matches([' ', '\t']);
        if let Some((what, cure)) = value_flaw(trimmed) {
            // Never the value itself: it may be a secret.
            reader.problem(
                value.place,
                format!("the value of the header {} {what}", quoted(&name.value)),
                cure,
            );
        }
        if reader.problems.len() > before {
            continue;
        }
        bytes += lowered.len() + trimmed.len();
        headers.push(InjectedHeader { name: lowered.into_bytes().into(), value: trimmed.as_bytes().into() });
    }
    if let Some((name, _)) = written.first()
        && (bytes > limits::INJECTED_HEADER_BYTES_MAX || headers.len() > limits::INJECTED_HEADERS_MAX)
    {
        let what = format!(
            "more than {} headers or {} bytes of them",
            limits::INJECTED_HEADERS_MAX,
            limits::INJECTED_HEADER_BYTES_MAX
        );
        reader.problem(name.place, what, "Servers refuse heads of that size.");
    }
    headers
}

/// For a header whose value cannot be read as well: one run tells all that is wrong.
pub fn check_header_name(reader: &mut Reader<'_>, name: &Located<String>) {
    if let Some((what, cure)) = name_flaw(&name.value.to_ascii_lowercase()) {
        reader.problem(name.place, format!("the header name {} {what}", quoted(&name.value)), cure);
    }
}

/// What is wrong with the name of a field that the gateway sets, and what to do.
pub fn name_flaw(lowered: &str) -> Option<(&'static str, &'static str)> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if lowered.is_empty() || !lowered.bytes().all(token) {
        return Some(("is not a token (RFC 9110 section 5.6.2)", "Use letters, digits and `-`."));
    }
    if RESERVED.contains(&lowered) || RESERVED_PREFIXES.iter().any(|prefix| lowered.starts_with(prefix)) {
        return Some(("is the gateway's own to set", "Remove it."));
    }
    None
}

fn value_flaw(value: &str) -> Option<(&'static str, &'static str)> {
    if value.is_empty() {
        return Some(("is empty", "Write one, or remove the header."));
    }
    let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    if value.bytes().any(control) {
        let what = "has a line break or another control character in it";
        return Some((what, "Write it on one line; look at the file or variable that it is from."));
    }
    None
}
