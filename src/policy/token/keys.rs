//! The keys with which an issuer signs: a JSON Web Key Set (RFC 7517) as what can verify with them.
//!
//! Not here: fetching it (control). aws-lc-rs is used as it is: a key is parsed once and not for every token, and
//! its JSON and base64 cannot disagree with ours, nor can a clock: it has none.

use crate::base::base64url;
use crate::config::limits;
use crate::policy::token::json;
use aws_lc_rs::signature;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RsaParameters;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use aws_lc_rs::signature::VerificationAlgorithm;
use serde_json::Map;
use serde_json::Value;

/// How a token may be signed (RFC 7518 section 3.1, RFC 8037 section 3.1). None of them is symmetric, so that no
/// public key can be taken for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// The algorithm of an `alg`, whose case matters.
    pub fn named(alg: &str) -> Option<Self> {
        Some(match alg {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            // The second is its name since RFC 9864.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
];

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct IssuerKeys {
    /// Seconds since the Unix epoch from which on they are not used any more unless they are fetched again.
    pub stale_unix: u64,
    /// How many of the set are not for signatures that are accepted here, or are broken.
    pub left_out: usize,
    keys: Vec<Key>,
}

/// A key for one algorithm; an RSA key that names none stands here once for each.
#[derive(Debug)]
struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

impl IssuerKeys {
    /// Reads a key set (RFC 7517 section 5). What is not for verifying (`use`, `key_ops`), is symmetric, weak, unknown,
    /// broken, or is a private key that the whole world can read, is left out. A set without keys is one: its issuer
    /// has withdrawn them all.
    ///
    /// # Errors
    /// Why this is no key set, or one beyond the bounds.
    pub fn parse(jwks: &[u8], stale_unix: u64) -> Result<Self, &'static str> {
        if jwks.len() > limits::TOKEN_KEYS_BYTES_MAX {
            return Err("the key set is too long");
        }
        let set = json::object(jwks).ok_or("the key set is no JSON object, or says something twice")?;
        let list = set.get("keys").and_then(Value::as_array).ok_or("the key set has no list `keys`")?;
        if list.len() > limits::TOKEN_KEYS_MAX {
            return Err("the key set has too many keys");
        }
        let mut new = Self { stale_unix, ..Self::default() };
        for jwk in list {
            match jwk.as_object().and_then(read) {
                Some(keys) => new.keys.extend(keys),
                None => new.left_out += 1,
            }
        }
        Ok(new)
    }

    /// Whether no token can be verified with them.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a token that names this key can be verified; an empty `kid`: one that names none.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.is_named(kid))
    }

    /// The keys with which such a token may be signed (RFC 7515 section 4.1.4): where it names none, those that have no
    /// name either. Several may bear one name (RFC 7517 section 4.5).
    pub(super) fn fitting(&self, kid: &str, algorithm: Algorithm) -> impl Iterator<Item = &ParsedPublicKey> {
        let fitting = move |key: &&Key| key.algorithm == algorithm && key.is_named(kid);
        self.keys.iter().filter(fitting).map(|key| &key.public).take(limits::TOKEN_KEYS_TRIED_MAX)
    }
}

impl Key {
    fn is_named(&self, kid: &str) -> bool {
        self.kid.as_deref().unwrap_or_default() == kid
    }
}

/// One key (RFC 7517 section 4) for each algorithm that it may be used with; None: it is left out.
fn read(jwk: &Map<String, Value>) -> Option<Vec<Key>> {
    if !is_for_verifying(jwk) {
        return None;
    }
    let kid = json::optional(jwk, "kid", |kid| is_key_id(kid).then_some(kid))?;
    let only = json::optional(jwk, "alg", Algorithm::named)?;
    let mut usable = public_keys(jwk)?;
    usable.retain(|(algorithm, _)| only.is_none_or(|only| only == *algorithm));
    let key = |(algorithm, public)| Key { kid: kid.map(Box::from), algorithm, public };
    (!usable.is_empty()).then(|| usable.into_iter().map(key).collect())
}

/// `jwt-svid` is what the bundles of trust domains say (SPIFFE Trust Domain and Bundle, section 4.2.2).
fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    let signs = |value: &Value| value == "sig" || value == "jwt-svid";
    let verifies =
        |value: &Value| value.as_array().is_some_and(|list| list.iter().any(|one| one == "verify"));
    jwk.get("use").is_none_or(signs) && jwk.get("key_ops").is_none_or(verifies) && !jwk.contains_key("d")
}

/// Whether this can name a key.
pub(super) fn is_key_id(kid: &str) -> bool {
    (1..=limits::TOKEN_KEY_ID_BYTES_MAX).contains(&kid.len()) && !kid.contains(char::is_control)
}

type Usable = Vec<(Algorithm, ParsedPublicKey)>;

/// The key of a JWK by its type (RFC 7518 section 6, RFC 8037 section 2).
fn public_keys(jwk: &Map<String, Value>) -> Option<Usable> {
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let bytes = |name| base64url::decode(text(name)?.as_bytes());
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        // Uncompressed (SEC 1 section 2.3.3); that it is on the curve is checked where it is parsed.
        (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), &y].concat())
    };
    let one = |algorithm, with: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
        Some(vec![(algorithm, ParsedPublicKey::new(with, key).ok()?)])
    };
    match (text("kty")?, text("crv")) {
        ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?),
        ("EC", Some("P-256")) => one(Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED, point(32)?),
        ("EC", Some("P-384")) => one(Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED, point(48)?),
        ("OKP", Some("Ed25519")) => one(Algorithm::EdDsa, &signature::ED25519, bytes("x")?),
        _ => None,
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Option<Usable> {
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    if !(limits::TOKEN_RSA_BITS_MIN..=limits::TOKEN_RSA_BITS_MAX).contains(&bits) {
        return None;
    }
    let key = RsaPublicKeyComponents { n, e };
    RSA.iter().map(|(algorithm, with)| Some((*algorithm, key.to_parsed_public_key(with).ok()?))).collect()
}
