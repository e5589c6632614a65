//! An access token as an identity provider would sign it, and the key set to verify it with: for targets that ask for one.
//! Not here: configuring the target (`setup`), and sending the token (`mcp`).

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;

/// What `setups/identified.yaml` asks for. It ends in 2100: comparisons do not read the wall clock.
const CLAIMS: &str = r#"{"iss":"https://idp.example","sub":"alice@example.test","aud":"https://gw.example/mcp","iat":1700000000,"exp":4102444800,"jti":"AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE","scope":"openid crm.read crm.write","groups":["everyone","support"],"org":"acme","stage":"live","act":{"sub":"agent-7"}}"#;

/// Of the key.
const BITS: usize = 2048;

/// Signs a token (RS256) with a new key, whose public half goes to `jwks.json` in `directory`.
///
/// # Errors
/// No randomness, or the directory cannot be written.
pub(crate) fn issue(directory: &Path) -> anyhow::Result<String> {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).ok().context("no RSA key")?;
    // An RSAPublicKey ends with the modulus, the two bytes that announce the exponent, and the exponent, 65537.
    let public = key.public_key().as_ref();
    let (before, _) = public.split_last_chunk::<5>().context("no public key")?;
    let (_, n) = before.split_last_chunk::<{ BITS / 8 }>().context("a short public key")?;
    let n = base64url(n);
    let keys = format!(r#"{{"keys":[{{"kty":"RSA","alg":"RS256","kid":"1","n":"{n}","e":"AQAB"}}]}}"#);
    fs::write(directory.join("jwks.json"), keys).context("cannot write jwks.json")?;
    let head = base64url(br#"{"alg":"RS256","kid":"1","typ":"at+jwt"}"#);
    let signed = format!("{head}.{}", base64url(CLAIMS.as_bytes()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .ok()
        .context("cannot sign")?;
    Ok(format!("{signed}.{}", base64url(&signature)))
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        // Six bits are a place of the 64.
        let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]));
        text.extend(digits.iter().take(group.len() + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(base64url(bytes), expected);
    }

    #[test]
    fn base64url_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")]
        {
            check(text.as_bytes(), expected);
        }
        check(&[0xfb, 0xff, 0xfe], "-__-");
    }
}
