//! Tokens from a token service: the gateway's own (RFC 6749 section 4.4), and those on behalf of a caller (RFC 8693).
//!
//! Not here: keeping them. The caller's token leaves this process here, to the token service that the operator named,
//! and nowhere else.

use crate::base::base64url;
use crate::config::credentials::TokenService;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::control::credentials::Obtained;
use crate::control::credentials::bearer;
use crate::control::fetch;
use crate::control::fetch::Fetcher;
use crate::control::fetch::Reach;
use crate::policy::credential::Cause;
use crate::policy::credential::Trouble;
use serde::Deserialize;
use serde_json::Value;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a token endpoint answers (RFC 6749 sections 5.1 and 5.2).
#[derive(Deserialize)]
#[serde(default)]
struct Answer {
    access_token: Option<String>,
    token_type: String,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
    error: String,
    error_description: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            access_token: None,
            // RFC 6749 asks for it; some services leave it out and mean this one.
            token_type: "Bearer".into(),
            expires_in: None,
            refresh_token: None,
            error: String::new(),
            error_description: String::new(),
        }
    }
}

/// A token as it was given.
pub(super) struct Granted {
    pub(super) token: String,
    pub(super) refresh: Option<String>,
    expires_in: Option<f64>,
}

/// Why a token service gave none.
pub(super) struct Refusal {
    pub(super) trouble: Trouble,
    /// What was shown for it is good no more (`invalid_grant`, RFC 6749 section 5.2).
    pub(super) ends_grant: bool,
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, ends_grant: false }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        refusal.trouble
    }
}

/// A token of the gateway itself.
pub(super) async fn of_gateway(
    fetcher: &Fetcher,
    service: &TokenService,
    now: u64,
) -> Result<Obtained, Trouble> {
    let scope = service.scopes.join(" ");
    let fields = with_scope(service, &scope, vec![("grant_type", "client_credentials")]);
    accept(&request(fetcher, service, written(service), fields).await?, now)
}

/// A token on behalf of whom `token` names.
pub(super) async fn of_caller(
    fetcher: &Fetcher,
    service: &TokenService,
    token: &Secret,
    now: u64,
) -> Result<Obtained, Trouble> {
    let scope = service.scopes.join(" ");
    let fields = vec![
        ("grant_type", EXCHANGE),
        ("subject_token", &*token.0),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
    ];
    let fields = with_scope(service, &scope, fields);
    accept(&request(fetcher, service, written(service), fields).await?, now)
}

/// The endpoint that the operator wrote.
fn written(service: &TokenService) -> (&str, Reach) {
    (&service.endpoint, Reach::Operator)
}

fn with_scope<'a>(
    service: &'a TokenService,
    scope: &'a str,
    mut fields: Vec<(&'a str, &'a str)>,
) -> Vec<(&'a str, &'a str)> {
    if !scope.is_empty() {
        fields.push(("scope", scope));
    }
    fields.extend(service.audience.as_deref().map(|audience| ("audience", audience)));
    fields
}

/// Asks for a token as the client that we are at this service, for the server that it is for (RFC 8707).
pub(super) async fn request<'a>(
    fetcher: &Fetcher,
    service: &'a TokenService,
    (endpoint, reach): (&str, Reach),
    mut fields: Vec<(&'a str, &'a str)>,
) -> Result<Granted, Refusal> {
    fields.extend(service.resource.as_deref().map(|resource| ("resource", resource)));
    let client_id = service.client_id.as_deref();
    if service.secret.is_none() {
        fields.extend(client_id.map(|client_id| ("client_id", client_id)));
    }
    let mut request = fetch::post_form(endpoint, &fields).within(reach);
    if let (Some(client_id), Some(secret)) = (client_id, &service.secret) {
        request = request.basic(client_id, &secret.0);
    }
    let down = |detail: String| Trouble::new(Cause::ServiceDown, detail);
    let answer = fetcher.send(request).await.map_err(|error| down(format!("the token service: {error}")))?;
    let told = serde_json::from_slice::<Answer>(&answer.body).ok();
    match (answer.status, told) {
        (200, Some(Answer { access_token: Some(token), token_type, expires_in, refresh_token, .. })) => {
            if !token_type.eq_ignore_ascii_case("bearer") {
                return Err(down("the token service gives tokens that are no bearer tokens".into()).into());
            }
            Ok(Granted { token, refresh: refresh_token, expires_in })
        }
        (400..=499, Some(told)) if !told.error.is_empty() => {
            let cause = Cause::of_error(&told.error, &told.error_description);
            // The code is one of a registry; anything else is a text of the service's own.
            let known =
                told.error.len() <= 32 && told.error.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
            let code = if known { told.error.as_str() } else { "an error of its own" };
            let trouble = Trouble::new(cause, format!("the token service refuses: {code}"));
            Err(Refusal { trouble, ends_grant: told.error == "invalid_grant" })
        }
        (status, _) => Err(down(format!("the token service answers {status} and no token")).into()),
    }
}

/// A token that can be sent, and lives by our clock.
pub(super) fn accept(granted: &Granted, now: u64) -> Result<Obtained, Trouble> {
    let token = &granted.token;
    let sendable = !token.is_empty() && token.len() <= limits::TOKEN_BYTES_MAX;
    if !sendable || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Trouble::new(Cause::ServiceDown, "the token service gives a token that cannot be sent"));
    }
    if granted.expires_in.is_some_and(|seconds| seconds <= 0.0) {
        return Err(Trouble::new(Cause::Expired, "the token service gives a token that has expired"));
    }
    let (begins, ends) = validity(token);
    if begins.is_some_and(|begins| begins > now + limits::TOKEN_LEEWAY_SECONDS)
        || ends.is_some_and(|ends| ends + limits::TOKEN_LEEWAY_SECONDS <= now)
    {
        return Err(Trouble::new(Cause::ClockSkew, "a new token is not valid now, by the gateway's clock"));
    }
    // Another one is had for the asking: nothing that says no end is trusted for long, and nothing else for ever.
    let ends_unix = end(granted, now).unwrap_or(now + limits::TOKEN_LIFE_SECONDS_DEFAULT);
    let ends_unix = ends_unix.min(now + limits::TOKEN_LIFE_SECONDS_MAX);
    let fresh_until_unix = ends_unix.saturating_sub(limits::TOKEN_MARGIN_SECONDS);
    Ok(Obtained { fields: bearer(token), fresh_until_unix, ends_unix })
}

/// When a token ends, in seconds since the Unix epoch, as its service says and it says itself; None: neither does.
pub(super) fn end(granted: &Granted, now: u64) -> Option<u64> {
    let told = granted.expires_in.map(|seconds| now.saturating_add(whole(seconds)));
    let own = validity(&granted.token).1;
    told.into_iter().chain(own).min()
}

/// Seconds, rounded down; more than any token lives where it is more.
fn whole(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates, which is meant")]
    #[expect(clippy::cast_sign_loss, reason = "it is above 0")]
    let whole = seconds as u64;
    whole
}

/// From when and until when a JWT says that it is valid. It is not verified: whom it is for does that; we only compare
/// clocks.
fn validity(token: &str) -> (Option<u64>, Option<u64>) {
    let claims = token.split('.').nth(1).and_then(|part| base64url::decode(part.as_bytes()));
    let claims: Option<Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let Some(claims) = claims else { return (None, None) };
    let moment = |name: &str| claims.get(name).and_then(Value::as_u64);
    (moment("nbf").max(moment("iat")), moment("exp"))
}
