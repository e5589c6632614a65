//! Where a user consents and where tokens come from: as the operator wrote it, or as the issuer's metadata says (RFC 8414,
//! OpenID Connect Discovery 1.0).
//!
//! Not here: registering there. A URL that metadata names may not lead nearer to us than the issuer itself.

use crate::config::address;
use crate::config::credentials::Consent;
use crate::config::limits;
use crate::control::fetch;
use crate::control::fetch::Fetched;
use crate::control::fetch::Fetcher;
use crate::control::fetch::Reach;
use crate::control::token_keys::source;
use crate::policy::credential::Cause;
use crate::policy::credential::Trouble;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

pub(super) struct Site {
    pub(super) authorize: Box<str>,
    pub(super) token: Box<str>,
    pub(super) reach: Reach,
    /// It says who it is when a user comes back (RFC 9207), and whoever comes without that is refused.
    pub(super) names_itself: bool,
}

impl Site {
    pub(super) fn endpoint(&self) -> (&str, Reach) {
        (&self.token, self.reach)
    }
}

/// Sites that were found, each for an hour.
#[derive(Default)]
pub(super) struct Sites(Mutex<ByIssuer>);

/// Each with the second since the Unix epoch until which it counts.
type ByIssuer = HashMap<Box<str>, (Arc<Site>, u64)>;

/// What of an authorization server's metadata counts (RFC 8414 section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Sites {
    /// The site of these terms.
    ///
    /// # Errors
    /// Where its metadata cannot be read or does not fit.
    pub(super) async fn of(
        &self,
        fetcher: &Fetcher,
        terms: &Consent,
        now: u64,
    ) -> Result<Arc<Site>, Trouble> {
        let issuer = match (&terms.authorize, &terms.issuer) {
            (None, Some(issuer)) => issuer,
            (authorize, issuer) => {
                return Ok(Arc::new(Site {
                    authorize: authorize.clone().unwrap_or_default(),
                    token: terms.service.endpoint.clone(),
                    reach: Reach::Operator,
                    names_itself: issuer.is_some(),
                }));
            }
        };
        let known =
            self.all().get(issuer).filter(|(_, until)| now < *until).map(|(site, _)| Arc::clone(site));
        if let Some(site) = known {
            return Ok(site);
        }
        let site = Arc::new(find(fetcher, issuer).await?);
        let mut all = self.all();
        if all.len() >= limits::SERVERS_MAX {
            all.clear();
        }
        all.insert(issuer.clone(), (Arc::clone(&site), now + limits::SITE_SECONDS));
        Ok(site)
    }

    fn all(&self) -> MutexGuard<'_, ByIssuer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find(fetcher: &Fetcher, issuer: &str) -> Result<Site, Trouble> {
    let mut last = String::new();
    for url in source::metadata_urls(issuer) {
        match fetcher.send(fetch::get(&url)).await {
            Ok(fetched) if fetched.status == 200 => return read(&fetched, issuer).map_err(unfit),
            Ok(fetched) => last = format!("an answer of {}", fetched.status),
            Err(error) => last = error.to_string(),
        }
    }
    Err(unfit(&format!("it cannot be read: {last}")))
}

fn unfit(why: &str) -> Trouble {
    Trouble::new(Cause::ServiceDown, format!("the issuer's metadata: {why}"))
}

/// It counts only where it says that it is this issuer's (RFC 8414 section 3.3), and knows PKCE (MCP 2026-07-28,
/// authorization, "Authorization Code Protection").
fn read(fetched: &Fetched, issuer: &str) -> Result<Site, &'static str> {
    let metadata: Metadata =
        serde_json::from_slice(&fetched.body).map_err(|_| "it names no authorization and token endpoint")?;
    if metadata.issuer != issuer {
        return Err("it is another issuer's; write `issuer` exactly as it says");
    }
    if !metadata.code_challenge_methods_supported.iter().any(|method| method == "S256") {
        return Err("it does not know PKCE with S256");
    }
    // Shown to people, whose browsers would run a script where they expect a page.
    let page =
        address::url(&metadata.authorization_endpoint).map_err(|_| "its authorization endpoint is no URL")?;
    if !page.tls && !metadata.authorization_endpoint.starts_with("http://127.0.0.1") {
        return Err("its authorization endpoint is not https");
    }
    Ok(Site {
        authorize: metadata.authorization_endpoint.into(),
        token: metadata.token_endpoint.into(),
        reach: fetched.reach,
        names_itself: metadata.authorization_response_iss_parameter_supported,
    })
}
