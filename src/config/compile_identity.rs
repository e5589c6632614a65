//! `identity` of the file to what the plan says about callers.
//!
//! Not here: keys of the file and their types (`read_identity`), and the keys of issuers: control fetches them.

use crate::config::address;
use crate::config::compile;
use crate::config::compile_tls;
use crate::config::expression::Variable;
use crate::config::file;
use crate::config::file::Anonymous;
use crate::config::file_identity;
use crate::config::file_identity::Jwt;
use crate::config::file_tls;
use crate::config::identity::ClaimPath;
use crate::config::identity::Identity;
use crate::config::identity::Introspection;
use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::config::identity::Mtls;
use crate::config::identity::MtlsPrincipal;
use crate::config::identity::Secret;
use crate::config::keys;
use crate::config::limits;
use crate::config::plan::Transport;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The principal of callers where no identity is configured.
const ANONYMOUS: &str = "anonymous";
/// How a trust domain is written (SPIFFE ID section 2).
const TRUST_DOMAIN: &str = "spiffe://";

/// `exposed`: a listener that others than this machine can reach.
pub fn identity(reader: &mut Reader<'_>, identity: file::Identity, exposed: Option<Place>) -> Identity {
    let configured = identity.api_keys.is_some() || !identity.jwt.is_empty() || identity.mtls.is_some();
    let api_keys = identity.api_keys.as_ref().and_then(|keys| keys.file.as_ref()).map(|file| {
        let path = reader.path(&file.value);
        check_keys(reader, &path, file);
        path
    });
    let anonymous: Option<Arc<str>> = match &identity.anonymous {
        Some(Anonymous::Principal(name)) => principal(reader, name),
        Some(Anonymous::Deny(_)) => None,
        None if configured => None,
        None => {
            if let Some(place) = exposed {
                let what = "this listener can be reached from other machines and no identity is configured: \
                            everybody could call every tool";
                let cure = "Listen on 127.0.0.1, add `identity: {apiKeys: {file: keys.yaml}}`, or, if this is \
                            meant, `identity: {anonymous: NAME}`.";
                reader.problem(place, what, cure);
            }
            Some(ANONYMOUS.into())
        }
    };
    if let Some(Anonymous::Deny(place)) = identity.anonymous
        && !configured
    {
        let what = "nobody can call: `anonymous: deny`, and no identity is configured";
        reader.warn(place, what, "Add `apiKeys: {file: keys.yaml}`.");
    }
    let issuers = issuers(reader, &identity.jwt);
    let tenant = identity.tenant.map(|tenant| {
        check_tenant(reader, &tenant);
        tenant.expression
    });
    let mtls = identity.mtls.map(|mtls| self::mtls(reader, &mtls.value));
    Identity { api_keys, issuers, mtls, anonymous, tenant }
}

fn mtls(reader: &mut Reader<'_>, written: &file_tls::Mtls) -> Mtls {
    if written.principal == MtlsPrincipal::Subject
        && let Some(first) = written.trust_domains.first()
    {
        let cure = "Write `principal: sanUri`, or remove `trustDomains`.";
        reader.problem(first.place, "a subject is of no trust domain", cure);
    }
    // SPIFFE ID section 2.1.
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    for domain in &written.trust_domains {
        // One that is empty was told before.
        if domain.value.len() > limits::TRUST_DOMAIN_BYTES_MAX || !domain.value.bytes().all(is_letter) {
            let cure =
                "Write it as in `spiffe://corp.example/agent/7`, alone and in lower case: `corp.example`.";
            reader.problem(domain.place, format!("{} is no trust domain", domain.shown()), cure);
        }
    }
    let trust_domains = written.trust_domains.iter().map(|domain| domain.value.as_str().into()).collect();
    Mtls { principal: written.principal, roles: written.roles, trust_domains }
}

fn principal(reader: &mut Reader<'_>, name: &Located<String>) -> Option<Arc<str>> {
    compile::is_principal(reader, name).then(|| name.value.as_str().into())
}

/// The key file is read for its mistakes only: keys are not part of the plan, they change by themselves.
fn check_keys(reader: &mut Reader<'_>, path: &Path, written: &Located<String>) {
    watch(reader, path);
    if let Err(problems) = keys::read(path) {
        for mut problem in problems.0 {
            // A file that is not there is a mistake of the config, at the place where it is named.
            if problem.place.is_none() {
                reader.problem(written.place, format!("the key file: {}", problem.what), problem.cure);
            } else {
                problem.file = path.display().to_string().into();
                reader.problems.push(problem);
            }
        }
    }
}

fn watch(reader: &mut Reader<'_>, path: &Path) {
    if !reader.watched.iter().any(|known| known == path) {
        reader.watched.push(path.to_path_buf());
    }
}

fn issuers(reader: &mut Reader<'_>, written: &[Jwt]) -> Vec<Arc<Issuer>> {
    let mut issuers: Vec<Arc<Issuer>> = Vec::new();
    for jwt in written {
        let Some(issuer) = &jwt.issuer else { continue };
        if issuers.iter().any(|known| *known.issuer == *issuer.value) {
            let cure = "Join the two: its audiences are a list.";
            reader.problem(
                issuer.place,
                format!("the issuer {} stands here a second time", issuer.shown()),
                cure,
            );
        }
        issuers.push(Arc::new(one(reader, jwt, issuer)));
    }
    if let Some(jwt) = written.get(limits::ISSUERS_MAX)
        && let Some(place) = jwt.place
    {
        reader.problem(place, format!("more than {} issuers of tokens", limits::ISSUERS_MAX), "");
    }
    issuers
}

fn one(reader: &mut Reader<'_>, jwt: &Jwt, issuer: &Located<String>) -> Issuer {
    let trust_domain = issuer.value.starts_with(TRUST_DOMAIN);
    if !trust_domain {
        check_url(reader, issuer);
    }
    let resource =
        |audience: &Located<String>| audience.value.ends_with("/mcp") && audience.value.contains("://");
    if let Some(first) = jwt.audiences.first()
        && !trust_domain
        && !jwt.audiences.iter().any(resource)
    {
        let what = format!(
            "{} is no URL of this gateway: clients cannot be told where to get a token",
            first.shown()
        );
        reader.warn(first.place, what, "Add the URL that they use, `https://gw.example/mcp`.");
    }
    let path = |claim: &Option<Located<String>>, usual: &str| {
        ClaimPath(claim.as_ref().map_or(usual, |claim| claim.value.as_str()).into())
    };
    let keys = key_source(reader, jwt, issuer, trust_domain);
    let introspection = jwt.introspection.as_ref().and_then(|written| introspection(reader, written));
    let tls = jwt.tls.as_ref().and_then(|tls| {
        if matches!(keys, KeySource::File(_)) && introspection.is_none() {
            let cure = "Remove it, or write where this issuer is asked: `jwks: {url: …}` or `introspection`.";
            reader.problem(tls.ca.place, "`tls` means nothing here: this issuer is asked nothing", cure);
        }
        compile_tls::service(reader, &tls.ca)
    });
    Issuer {
        issuer: issuer.value.as_str().into(),
        audiences: jwt.audiences.iter().map(|audience| audience.value.as_str().into()).collect(),
        keys,
        introspection,
        tls,
        principal: path(&jwt.principal, "sub"),
        roles: jwt.roles.as_ref().map(|claim| ClaimPath(claim.value.as_str().into())),
        act: path(&jwt.act, "act.sub"),
        max_stale_ms: jwt.max_stale.unwrap_or(limits::TOKEN_KEYS_STALE_MS_DEFAULT),
    }
}

fn key_source(reader: &mut Reader<'_>, jwt: &Jwt, issuer: &Located<String>, trust_domain: bool) -> KeySource {
    match &jwt.jwks {
        Some(file_identity::Jwks { url: Some(url), .. }) => {
            check_url(reader, url);
            KeySource::Url(url.value.as_str().into())
        }
        Some(file_identity::Jwks { file: Some(file), .. }) => {
            let path: PathBuf = reader.path(&file.value);
            if let Err(why) = reader.referenced(&path, limits::JWKS_BYTES_MAX as u64) {
                reader.problem(file.place, format!("the file of keys {}: {why}", file.shown()), "");
            }
            KeySource::File(path)
        }
        _ if jwt.introspection.is_some() => KeySource::None,
        _ => {
            if trust_domain {
                let cure = "Write `jwks: {url: …}` or `jwks: {file: …}` with the trust domain's bundle.";
                reader.problem(issuer.place, "a trust domain has no metadata that tells its keys", cure);
            }
            KeySource::Discovery
        }
    }
}

fn introspection(reader: &mut Reader<'_>, written: &file_identity::Introspection) -> Option<Introspection> {
    let url = written.url.as_ref()?;
    check_url(reader, url);
    Some(Introspection {
        url: url.value.as_str().into(),
        client_id: written.client_id.as_ref()?.value.as_str().into(),
        secret: Secret(written.secret.as_ref()?.value.as_str().into()),
    })
}

/// `https`, or this machine: whoever can change the answer decides who may call.
pub fn check_url(reader: &mut Reader<'_>, text: &Located<String>) {
    check_service(reader, text, "who can change its answers decides who may call");
}

/// `why`: what somebody could do who reads along.
pub fn check_service(reader: &mut Reader<'_>, text: &Located<String>, why: &str) {
    let flaw = match address::url(&text.value) {
        Err(flaw) => flaw.to_owned(),
        Ok(url) if url.tls => return,
        Ok(address::Url { transport: Transport::Address(address), .. }) if address.ip().is_loopback() => {
            return;
        }
        Ok(url) if &*url.host == "localhost" => return,
        Ok(_) => format!("is not `https://`: {why}"),
    };
    reader.problem(
        text.place,
        format!("{} {flaw}", text.shown()),
        "Write `https://HOST/…`; `http://` is for this machine.",
    );
}

/// A tenant is one for all calls of a caller.
fn check_tenant(reader: &mut Reader<'_>, tenant: &file_identity::Tenant) {
    let of_the_call = [
        (Variable::Annotations, "annotations"),
        (Variable::Args, "args"),
        (Variable::Body, "body"),
        (Variable::Labels, "labels"),
        (Variable::Meta, "meta"),
        (Variable::Method, "method"),
        (Variable::Name, "body.params.name"),
        (Variable::Now, "now"),
        (Variable::Server, "server"),
        (Variable::Source, "source"),
        (Variable::Tenant, "tenant"),
        (Variable::Tool, "tool"),
    ];
    if let Some((_, name)) = of_the_call.iter().find(|(variable, _)| tenant.expression.uses(*variable)) {
        let what = format!(
            "`{name}` says something about a call, and a tenant is the same for all calls of a caller"
        );
        reader.problem(tenant.place, what, "Use `jwt`, `roles` and `principal`: `tenant: jwt.org`.");
    }
}
