//! A private key that signs what the gateway says about callers: ES256, EdDSA or RS256, as its file has it.
//!
//! Not here: what is signed (`control`).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

pub struct SigningKey(Pair);

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// The first private key of a PEM file: PKCS #8, SEC 1 or PKCS #1.
    ///
    /// # Errors
    /// What is wrong with the file, as the end of a sentence.
    pub fn of_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "there is no private key in it (`-----BEGIN PRIVATE KEY-----`)")?;
        let ecdsa = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                EcdsaKeyPair::from_pkcs8(ecdsa, der)
                    .map(Pair::Ecdsa)
                    .or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Pair::Ed25519))
                    .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa))
            }
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(ecdsa, der.secret_sec1_der()).map(Pair::Ecdsa)
            }
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map(Pair::Rsa),
            _ => return Err("its form of a key is not known"),
        };
        match pair {
            // RFC 7518 section 3.3.
            Ok(Pair::Rsa(pair)) if pair.public_modulus_len() < KeySize::Rsa2048.len() => {
                Err("an RSA key needs 2048 bits")
            }
            Ok(pair) => Ok(Self(pair)),
            Err(_) => Err("it is no key of P-256, Ed25519 or RSA"),
        }
    }

    /// `alg` (RFC 7518 section 3.1, RFC 8037).
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Pair::Ecdsa(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// None: the system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    fn public(&self) -> &[u8] {
        match &self.0 {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for SigningKey {}

/// Never the key.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} <hidden>", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PKCS_ECDSA_P256_SHA256;
    use rcgen::PKCS_ECDSA_P384_SHA384;
    use rcgen::PKCS_ED25519;
    use rcgen::SignatureAlgorithm;

    fn pem(algorithm: &'static SignatureAlgorithm) -> String {
        rcgen::KeyPair::generate_for(algorithm).expect("a key").serialize_pem()
    }

    #[test]
    fn keys_of_each_kind_are_known_by_their_file() {
        for (algorithm, name, bytes) in [(&PKCS_ECDSA_P256_SHA256, "ES256", 64), (&PKCS_ED25519, "EdDSA", 64)]
        {
            let key = SigningKey::of_pem(pem(algorithm).as_bytes()).expect("a key");
            assert_eq!((key.algorithm(), key.sign(b"x").map(|signed| signed.len())), (name, Some(bytes)));
            assert!(!format!("{key:?}").contains("BEGIN"));
        }
    }

    #[test]
    fn what_is_no_such_key_is_told() {
        for (text, flaw) in [
            (String::new(), "no private key"),
            (pem(&PKCS_ECDSA_P384_SHA384), "no key of P-256"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into(), "no key of P-256"),
        ] {
            let found = SigningKey::of_pem(text.as_bytes()).map(|_| ()).expect_err("no key");
            assert!(found.contains(flaw), "{found}");
        }
    }
}
