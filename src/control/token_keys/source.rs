//! Where the keys of an issuer are read: at a URL, in a file, or where the issuer's own metadata says.
//!
//! Not here: when (`desk`), and what a key set means (`policy::token`).

use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::config::limits;
use crate::control::fetch;
use crate::control::fetch::FetchError;
use crate::control::fetch::Fetched;
use crate::control::fetch::Fetcher;
use crate::control::fetch::Reach;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Where an issuer's metadata says that its keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    url: Box<str>,
    reach: Reach,
}

/// A key set as it was read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    /// Seconds for which it is fresh, where it says so.
    pub(super) max_age: Option<u64>,
    /// Kept for the next key that is not known.
    pub(super) found: Option<Found>,
}

/// What went wrong and what may cure it, as the end of a sentence.
pub(super) type Trouble = String;

/// Reads the keys of an issuer. With `found` its metadata is not asked for.
///
/// # Errors
/// Why there are none.
pub(super) async fn read(
    fetcher: &Fetcher,
    issuer: &Issuer,
    found: Option<Found>,
) -> Result<Document, Trouble> {
    match &issuer.keys {
        KeySource::Url(url) => at(fetcher, issuer, url, Reach::Operator).await,
        KeySource::File(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || file(&path)).await;
            read.map_err(|error| error.to_string()).flatten()
        }
        KeySource::Discovery => {
            let found = match found {
                Some(found) => found,
                None => discover(fetcher, issuer).await?,
            };
            let document = at(fetcher, issuer, &found.url, found.reach).await?;
            Ok(Document { found: Some(found), ..document })
        }
        KeySource::None => Err("it has none: its tokens are known by introspection only".into()),
    }
}

async fn at(fetcher: &Fetcher, issuer: &Issuer, url: &str, reach: Reach) -> Result<Document, Trouble> {
    let Fetched { status, body, max_age, .. } = fetcher
        .send(fetch::get(url).within(reach).trusting(issuer.tls.as_ref()))
        .await
        .map_err(|error| format!("the key set cannot be read: {error}{}", cure(&error)))?;
    match status {
        200 => Ok(Document { bytes: body, max_age, found: None }),
        _ => Err(format!("the key set is answered with {status}; look at the URL")),
    }
}

fn file(path: &Path) -> Result<Document, Trouble> {
    let mut bytes = Vec::new();
    let limit = limits::FETCHED_BYTES_MAX as u64;
    let opened = std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    opened.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{} is longer than 1 MiB; it is hardly a key set", path.display()));
    }
    Ok(Document { bytes, max_age: None, found: None })
}

/// What the operator can do about it.
pub(in crate::control) const fn cure(error: &FetchError) -> &'static str {
    match error {
        FetchError::Untrusted(_) => {
            "; look at `tls: {ca: FILE}` of this issuer in `identity.jwt`, which names who may vouch for it"
        }
        _ => "",
    }
}

async fn discover(fetcher: &Fetcher, issuer: &Issuer) -> Result<Found, Trouble> {
    let mut last = String::new();
    for url in metadata_urls(&issuer.issuer) {
        match fetcher.send(fetch::get(&url).trusting(issuer.tls.as_ref())).await {
            Ok(fetched) if fetched.status == 200 => return keys_of(&fetched, &issuer.issuer),
            Ok(fetched) => last = format!("{url} answers {}", fetched.status),
            // Another place is no better where nobody answers.
            Err(
                error @ (FetchError::Late
                | FetchError::Unconnected(_)
                | FetchError::Untrusted(_)
                | FetchError::Unresolved),
            ) => {
                return Err(format!("its metadata cannot be read: {error}{}", cure(&error)));
            }
            Err(error) => last = format!("{url}: {error}"),
        }
    }
    Err(format!("its metadata is nowhere ({last}); write `jwks: {{url: …}}` instead"))
}

/// OpenID Connect Discovery 1.0 section 4.1, then RFC 8414 section 3.1 and its form of the former (section 5).
pub(in crate::control) fn metadata_urls(issuer: &str) -> Vec<String> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let mut urls = vec![format!("{base}/.well-known/openid-configuration")];
    let path_at = base.find("://").and_then(|at| Some(at + 3 + base.get(at + 3..)?.find('/')?));
    let (origin, path) = base.split_at(path_at.unwrap_or(base.len()));
    urls.push(format!("{origin}/.well-known/oauth-authorization-server{path}"));
    if !path.is_empty() {
        urls.push(format!("{origin}/.well-known/openid-configuration{path}"));
    }
    urls
}

/// Metadata counts only where it says that it is this issuer's (RFC 8414 section 3.3).
fn keys_of(fetched: &Fetched, issuer: &str) -> Result<Found, Trouble> {
    let metadata: Value =
        serde_json::from_slice(&fetched.body).map_err(|_| "its metadata is no JSON".to_owned())?;
    if metadata.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("its metadata is another issuer's; write `issuer` exactly as the metadata does".into());
    }
    let url = metadata.get("jwks_uri").and_then(Value::as_str).ok_or("its metadata names no `jwks_uri`")?;
    Ok(Found { url: url.into(), reach: fetched.reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_standards_say() {
        let table: [(&str, &[&str]); 3] = [
            (
                "https://a.test",
                &[
                    "https://a.test/.well-known/openid-configuration",
                    "https://a.test/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://a.test:8443/",
                &[
                    "https://a.test:8443/.well-known/openid-configuration",
                    "https://a.test:8443/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://a.test/realms/one",
                &[
                    "https://a.test/realms/one/.well-known/openid-configuration",
                    "https://a.test/.well-known/oauth-authorization-server/realms/one",
                    "https://a.test/.well-known/openid-configuration/realms/one",
                ],
            ),
        ];
        for (issuer, expected) in table {
            assert_eq!(metadata_urls(issuer), expected);
        }
    }
}
