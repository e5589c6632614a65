//! Header fields that a vault knows parts of: HashiCorp Vault's HTTP API, secrets engines KV 1 and 2 and those that
//! lease what they give out.
//!
//! Not here: keeping them. A vault that cannot be reached is told to the calls that need it, never to the start.

use crate::config::credentials::Piece;
use crate::config::credentials::Vault;
use crate::config::credentials::VaultField;
use crate::config::credentials::VaultReference;
use crate::config::limits;
use crate::config::plan::InjectedHeader;
use crate::config::reader;
use crate::control::credentials::Obtained;
use crate::control::credentials::Services;
use crate::control::fetch;
use crate::control::fetch::Fetcher;
use crate::policy::credential::Cause;
use crate::policy::credential::Trouble;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::Value;
use std::collections::HashMap;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

fn down(detail: impl Into<Box<str>>) -> Trouble {
    Trouble::new(Cause::ServiceDown, detail)
}

/// All fields of a server. They are fresh for two thirds of the shortest lease among them.
pub(super) async fn fields(
    services: &Services<'_>,
    written: &[VaultField],
    now: u64,
) -> Result<Obtained, Trouble> {
    let vault = services.vault.ok_or_else(|| down("there is no vault in the configuration"))?;
    let token = token(vault).await?;
    let mut secrets: HashMap<&str, Value> = HashMap::new();
    let mut lease = limits::LEASE_SECONDS_MAX;
    let mut fields = Vec::new();
    for field in written {
        let mut value = String::new();
        for piece in &field.value {
            let reference = match piece {
                Piece::Text(text) => {
                    value.push_str(text);
                    continue;
                }
                Piece::Vault(reference) => reference,
            };
            if !secrets.contains_key(&*reference.path) {
                let (secret, seconds) = read(services.fetcher, vault, &token, &reference.path).await?;
                lease = lease.min(seconds);
                secrets.insert(&reference.path, secret);
            }
            value.push_str(
                secrets.get(&*reference.path).and_then(|secret| member(secret, reference)).ok_or_else(
                    || down(format!("the vault has no `{}` at `{}`", reference.field, reference.path)),
                )?,
            );
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(down("a secret of the vault cannot be sent as a header field"));
        }
        fields.push(InjectedHeader { name: field.name.clone(), value: value.into_bytes().into() });
    }
    Ok(Obtained { fields, fresh_until_unix: now + lease * 2 / 3, ends_unix: now + lease })
}

async fn token(vault: &Vault) -> Result<HeaderValue, Trouble> {
    let path = vault.token_file.clone();
    let read =
        tokio::task::spawn_blocking(move || reader::read_bounded(&path, limits::SECRET_BYTES_MAX)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(reason)) => return Err(down(format!("the vault's token file: {reason}"))),
        Err(_) => return Err(down("the vault's token file cannot be read")),
    };
    let mut token =
        HeaderValue::from_bytes(bytes.trim_ascii()).map_err(|_| down("the vault's token is none"))?;
    token.set_sensitive(true);
    Ok(token)
}

/// The secret at a path, and its lease in seconds.
async fn read(
    fetcher: &Fetcher,
    vault: &Vault,
    token: &HeaderValue,
    path: &str,
) -> Result<(Value, u64), Trouble> {
    let url = format!("{}/v1/{path}", vault.url);
    let request = fetch::get(&url).with(TOKEN, token.clone());
    let answer = fetcher.send(request).await.map_err(|error| down(format!("the vault: {error}")))?;
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, body) {
        (200, Some(mut body)) => {
            let seconds = match body.get("lease_duration").and_then(Value::as_u64) {
                None | Some(0) => limits::LEASE_SECONDS_DEFAULT,
                Some(seconds) => seconds.clamp(limits::LEASE_SECONDS_MIN, limits::LEASE_SECONDS_MAX),
            };
            Ok((body.get_mut("data").map(Value::take).unwrap_or_default(), seconds))
        }
        (status, _) => Err(down(format!("the vault answers {status} for `{path}`"))),
    }
}

/// KV 2 has the secret one level deeper, beside its `metadata`.
fn member<'a>(secret: &'a Value, reference: &VaultReference) -> Option<&'a str> {
    let deeper = secret.get("data").filter(|_| secret.get("metadata").is_some());
    deeper.unwrap_or(secret).get(&*reference.field)?.as_str()
}
