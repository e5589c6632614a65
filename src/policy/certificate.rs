//! Who a client certificate says that its owner is. The chain was verified before (`edge::tls`).
//!
//! Not here: verification, and which principal may do what.

use crate::base::der;
use crate::base::der::Element;
use crate::base::der::Elements;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity;
use crate::config::identity::Mtls;
use crate::config::identity::MtlsPrincipal;
use crate::config::identity::MtlsRoles;
use aws_lc_rs::digest;
use std::fmt::Write;

/// What a verified client certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The URIs of its subject alternative name, in its order.
    pub uris: Box<[Box<str>]>,
    /// Its subject as text (RFC 4514): `CN=agent-7,O=Example`. Empty where it has none.
    pub subject: Box<str>,
    /// The organizational units of its subject, in its order.
    pub units: Box<[Box<str>]>,
    /// SHA-256 of the whole certificate (RFC 8705 section 3.1 binds tokens to it).
    pub fingerprint: [u8; 32],
}

/// Whom a certificate stands for at this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'c> {
    pub principal: &'c str,
    pub roles: &'c [Box<str>],
    /// Of the certificate: two of one principal may give it different roles.
    pub fingerprint: &'c [u8; 32],
}

/// The identity in a certificate (DER); none where it is no certificate, which a verified one always is.
pub fn identity(certificate: &[u8]) -> Option<CertificateIdentity> {
    let whole = certificate.into();
    let parsed = webpki::EndEntityCert::try_from(&whole).ok()?;
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    Some(CertificateIdentity {
        uris: parsed.valid_uri_names().map(Box::from).collect(),
        subject: subject(parsed.subject())?.into(),
        units: units(parsed.subject())?.into(),
        fingerprint,
    })
}

/// The principal that a certificate stands for; none where it says none, or more than one (SPIFFE X.509-SVID
/// section 2: exactly one URI), or is no name that may be shown.
pub fn principal(identity: &CertificateIdentity, choice: MtlsPrincipal) -> Option<&str> {
    let name = match choice {
        MtlsPrincipal::SanUri => match &*identity.uris {
            [only] => only,
            _ => return None,
        },
        MtlsPrincipal::Subject => &identity.subject,
    };
    Some(&**name).filter(|name| identity::is_principal(name))
}

const FOREIGN: Fault = Fault::new(
    Kind::Unauthenticated,
    "The client certificate is of a trust domain that is not accepted here; ask the operator.",
);

/// Whom a certificate stands for at this gateway; none where it says none.
///
/// # Errors
/// `Unauthenticated` where the operator has named trust domains, and the principal is of none of them: it is not
/// anonymous either.
pub fn accepted<'c>(identity: &'c CertificateIdentity, mtls: &Mtls) -> Result<Option<Owner<'c>>, Fault> {
    let Some(principal) = principal(identity, mtls.principal) else { return Ok(None) };
    if !mtls.trust_domains.is_empty() {
        let path = principal.strip_prefix("spiffe://");
        let domain = path.and_then(|path| path.split('/').next()).ok_or(FOREIGN)?;
        if mtls.trust_domains.iter().all(|known| **known != *domain) {
            return Err(FOREIGN);
        }
    }
    let roles = match mtls.roles {
        Some(MtlsRoles::Units) => &*identity.units,
        None => &[],
    };
    Ok(Some(Owner { principal, roles, fingerprint: &identity.fingerprint }))
}

const UNIT: &[u8] = &[0x55, 4, 11];

/// Attribute types that have a name in text (RFC 4514 section 3), by their object identifiers.
const NAMED: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (UNIT, "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// A distinguished name as text, its last part first (RFC 4514 section 2.1); none where it is no name.
fn subject(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for part in Elements(name).all()? {
        let mut text = String::new();
        for pair in Elements(part.of(der::SET)?).all()? {
            if !text.is_empty() {
                text.push('+');
            }
            attribute(&mut text, pair.of(der::SEQUENCE)?)?;
        }
        parts.push(text);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The organizational units of a distinguished name. One that is no text of a known kind is nobody's role.
fn units(name: &[u8]) -> Option<Vec<Box<str>>> {
    let mut units = Vec::new();
    for part in Elements(name).all()? {
        for pair in Elements(part.of(der::SET)?).all()? {
            let (kind, value) = halves(pair.of(der::SEQUENCE)?)?;
            units.extend(text(value).filter(|_| kind == UNIT).map(Box::from));
        }
    }
    Some(units)
}

/// The type and the value of an attribute.
fn halves(pair: &[u8]) -> Option<(&[u8], Element<'_>)> {
    let mut pair = Elements(pair);
    let kind = pair.next_of(der::OBJECT_IDENTIFIER)?;
    let value = pair.next().filter(|_| pair.0.is_empty())?;
    Some((kind, value))
}

fn text(value: Element<'_>) -> Option<&str> {
    let is_text = matches!(value.tag, der::UTF8_STRING | der::PRINTABLE_STRING | der::IA5_STRING);
    std::str::from_utf8(value.content).ok().filter(|_| is_text)
}

/// `TYPE=value`, or `1.2.3=#hex` where either has no text of its own (section 2.4): two subjects never look alike.
fn attribute(into: &mut String, pair: &[u8]) -> Option<()> {
    let (kind, value) = halves(pair)?;
    match (NAMED.iter().find(|(known, _)| *known == kind), text(value)) {
        (Some((_, name)), Some(text)) => {
            into.push_str(name);
            into.push('=');
            escaped(into, text);
        }
        (named, _) => {
            match named {
                Some((_, name)) => into.push_str(name),
                None => dotted(into, kind),
            }
            into.push_str("=#");
            value.whole.iter().for_each(|byte| {
                let _ = write!(into, "{byte:02x}");
            });
        }
    }
    Some(())
}

/// Section 2.4: what separates, and what a reader could take for something else, is escaped.
fn escaped(into: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\' => into.extend(['\\', letter]),
            ' ' if at == 0 || at == last => into.push_str("\\ "),
            '#' if at == 0 => into.push_str("\\#"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(into, "\\{byte:02x}");
                }
            }
            letter => into.push(letter),
        }
    }
}

/// An object identifier as numbers (X.690 section 8.19).
fn dotted(into: &mut String, identifier: &[u8]) {
    let mut number = 0_u64;
    let mut first = true;
    for byte in identifier {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        let _ = if first {
            let root = (number / 40).min(2);
            write!(into, "{root}.{}", number - 40 * root)
        } else {
            write!(into, ".{number}")
        };
        (first, number) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateParams;
    use rcgen::DnType;
    use rcgen::KeyPair;
    use rcgen::SanType;

    fn certificate(uris: &[&str], subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn check(uris: &[&str], subject: &[(DnType, &str)], by_uri: Option<&str>, by_subject: Option<&str>) {
        let identity = identity(&certificate(uris, subject)).unwrap();
        assert_eq!(principal(&identity, MtlsPrincipal::SanUri), by_uri, "{identity:?}");
        assert_eq!(principal(&identity, MtlsPrincipal::Subject), by_subject, "{identity:?}");
    }

    const AGENT: &str = "spiffe://corp/agent/7";

    #[test]
    fn one_uri_is_a_principal_and_two_are_none() {
        check(&[AGENT], &[], Some(AGENT), None);
        check(&[], &[], None, None);
        check(&[AGENT, "https://corp.example/"], &[], None, None);
        check(&[AGENT, AGENT], &[], None, None);
        check(&[""], &[], None, None);
    }

    #[test]
    fn a_principal_of_another_trust_domain_is_nobody_and_not_anonymous() {
        let verdict = |uri: &str, domains: &[&str]| {
            let mtls = Mtls {
                principal: MtlsPrincipal::SanUri,
                roles: None,
                trust_domains: domains.iter().map(|domain| Box::from(*domain)).collect(),
            };
            let identity = identity(&certificate(&[uri], &[])).unwrap();
            accepted(&identity, &mtls).map(|owner| owner.map(|owner| owner.principal.to_owned()))
        };
        assert_eq!(verdict(AGENT, &[]), Ok(Some(AGENT.into())));
        assert_eq!(verdict(AGENT, &["other", "corp"]), Ok(Some(AGENT.into())));
        assert_eq!(verdict("spiffe://corp", &["corp"]), Ok(Some("spiffe://corp".into())));
        for foreign in [
            "spiffe://other/agent/7",
            "spiffe://corp.evil/agent/7",
            "spiffe://corpx/agent/7",
            "spiffe://CORP/agent/7",
            "spiffe://corp:443/agent/7",
            "spiffe://a@corp/agent/7",
            "spiffe:///corp/agent/7",
            "https://corp/agent/7",
            "spiffe:corp/agent/7",
        ] {
            assert_eq!(verdict(foreign, &["corp"]), Err(FOREIGN), "{foreign}");
        }
        let two = identity(&certificate(&[AGENT, AGENT], &[])).unwrap();
        let mtls = Mtls { principal: MtlsPrincipal::SanUri, roles: None, trust_domains: vec!["corp".into()] };
        assert_eq!(accepted(&two, &mtls), Ok(None), "it names nobody");
    }

    #[test]
    fn units_are_roles_where_the_operator_says_so() {
        let unit = DnType::OrganizationalUnitName;
        // The same type once more: rcgen keeps one of each.
        let again = DnType::CustomDnType(vec![2, 5, 4, 11]);
        let subject =
            [(unit.clone(), "support"), (DnType::OrganizationName, "admin"), (again, "on call, night")];
        let roles = |subject: &[(DnType, &str)], roles| {
            let identity = identity(&certificate(&[AGENT], subject)).unwrap();
            let mtls = Mtls { principal: MtlsPrincipal::SanUri, roles, trust_domains: vec![] };
            let owner = accepted(&identity, &mtls).unwrap().unwrap();
            assert_eq!((owner.principal, owner.fingerprint), (AGENT, &identity.fingerprint));
            owner.roles.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(roles(&subject, Some(MtlsRoles::Units)), ["support", "on call, night"]);
        assert_eq!(roles(&[(unit, "Zoë's")], Some(MtlsRoles::Units)), ["Zoë's"]);
        assert!(roles(&subject[1..2], Some(MtlsRoles::Units)).is_empty(), "an organization is no unit");
        assert!(roles(&subject, None).is_empty());
        // BMPString, of which no text is made.
        assert_eq!(units(&[0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 11, 0x1e, 2, 0, 65]), Some(vec![]));
    }

    #[test]
    fn a_subject_is_text_that_no_other_subject_has() {
        let name = DnType::CommonName;
        let unit = DnType::OrganizationalUnitName;
        let organization = DnType::OrganizationName;
        check(
            &[],
            &[(organization.clone(), "Example"), (name.clone(), "agent-7")],
            None,
            Some("CN=agent-7,O=Example"),
        );
        for (value, shown) in [
            ("a,O=bank", "CN=a\\,O\\=bank"),
            ("a+OU=b", "CN=a\\+OU\\=b"),
            (" a b ", "CN=\\ a b\\ "),
            ("#a#", "CN=\\#a#"),
            ("a\\b\"c;<d>", "CN=a\\\\b\\\"c\\;\\<d\\>"),
            ("a\0b\n", "CN=a\\00b\\0a"),
            ("é", "CN=é"),
        ] {
            check(&[], &[(name.clone(), value)], None, Some(shown));
        }
        check(
            &[],
            &[(unit, "x"), (DnType::CustomDnType(vec![1, 2, 840, 5]), "y")],
            None,
            Some("1.2.840.5=#0c0179,OU=x"),
        );
    }

    #[test]
    fn what_is_no_name_is_none() {
        assert_eq!(subject(&[]).as_deref(), Some(""));
        let cut = &[0x31, 0x00, 0x31][..];
        for broken in [cut, &[0x30, 0x00], &[0x31, 0x02, 0x05, 0x00], &[0x31, 0x04, 0x30, 0x02, 0x05, 0x00]] {
            assert_eq!(subject(broken), None, "{broken:02x?}");
        }
        // Two attributes of one part, and a text that is none.
        let two = [0x31, 18, 0x30, 7, 6, 3, 0x55, 4, 3, 0x13, 0, 0x30, 7, 6, 3, 0x55, 4, 6, 0x1e, 0];
        assert_eq!(subject(&two).as_deref(), Some("CN=+C=#1e00"));
    }

    #[test]
    fn the_fingerprint_is_of_the_whole_certificate() {
        let (one, other) = (certificate(&[AGENT], &[]), certificate(&[AGENT], &[]));
        let print = |der: &[u8]| identity(der).unwrap().fingerprint;
        assert_eq!(print(&one), *digest::digest(&digest::SHA256, &one).as_ref());
        assert_ne!(print(&one), print(&other));
        assert_eq!(identity(&one[1..]), None);
    }
}
