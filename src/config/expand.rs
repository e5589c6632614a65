//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in values, and `${vault:PATH#FIELD}` in header fields.
//!
//! Not here: YAML. Expansion happens after parsing, in string values only, so that a secret with `:`
//! or `#` in it can never become structure. No message carries what an expansion stood for.

use crate::config::credentials::Piece;
use crate::config::credentials::VaultReference;

/// Where values come from.
pub trait Source {
    fn variable(&mut self, name: &str) -> Option<String>;
    /// The text of a file; on failure the reason, without the path.
    fn file(&mut self, path: &str) -> Result<String, String>;
}

/// Why a value cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub struct Unexpanded {
    /// Without a full stop.
    pub what: String,
    /// A whole sentence.
    pub cure: String,
}

/// Levels of `${…}` in `${…}`: a file's path or a default may name a variable.
const NESTING_MAX: usize = 2;

/// `text` with every `${…}` replaced; `$${` stands for `${` itself.
///
/// # Errors
/// Each variable that is not set and has no default, each file that cannot be read, and `${` that is none of
/// the three forms.
pub fn expand(text: &str, source: &mut dyn Source) -> Result<String, Vec<Unexpanded>> {
    expand_level(text, source, 1)
}

/// Whether a value has pieces that only a vault knows.
pub fn names_vault(text: &str) -> bool {
    vault_at(text).is_some()
}

/// The same as [`expand`] for a value that names a vault: what is known now, and what is not.
///
/// # Errors
/// As [`expand`], and where a reference is no `PATH#FIELD`.
pub fn pieces(text: &str, source: &mut dyn Source) -> Result<Vec<Piece>, Vec<Unexpanded>> {
    let (mut pieces, mut flaws) = (Vec::new(), Vec::new());
    let mut text_piece = |text: &str, flaws: &mut Vec<Unexpanded>| match expand(text, source) {
        Ok(text) => Some(Piece::Text(text.into())),
        Err(more) => {
            flaws.extend(more);
            None
        }
    };
    let mut rest = text;
    while let Some(at) = vault_at(rest) {
        let (before, from) = rest.split_at(at);
        pieces.extend(text_piece(before, &mut flaws));
        let inner = match inside(from) {
            Ok(inner) => inner,
            Err(flaw) => {
                flaws.push(flaw);
                return Err(flaws);
            }
        };
        match reference(inner) {
            Ok(reference) => pieces.push(Piece::Vault(reference)),
            Err(flaw) => flaws.push(flaw),
        }
        // `${`, what is inside, and `}`.
        rest = from.get(inner.len() + 3..).unwrap_or("");
    }
    pieces.extend(text_piece(rest, &mut flaws));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    if flaws.is_empty() { Ok(pieces) } else { Err(flaws) }
}

/// Where the first `${vault:` begins that is not written `$${vault:`.
fn vault_at(text: &str) -> Option<usize> {
    text.match_indices("${vault:").map(|(at, _)| at).find(|at| !text[..*at].ends_with('$'))
}

fn reference(inner: &str) -> Result<VaultReference, Unexpanded> {
    let fits = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    let path = inner.strip_prefix("vault:").unwrap_or(inner);
    match path.split_once('#') {
        Some((path, field)) if fits(path, b"/-_.") && fits(field, b"-_.") && !path.contains("..") => {
            Ok(VaultReference { path: path.trim_matches('/').into(), field: field.into() })
        }
        _ => Err(unexpanded(
            "`${vault:…}` names no path and field",
            "Write `${vault:PATH#FIELD}`, for example `${vault:secret/data/github#token}`.",
        )),
    }
}

fn expand_level(text: &str, source: &mut dyn Source, level: usize) -> Result<String, Vec<Unexpanded>> {
    let (mut out, mut flaws) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        if level > NESTING_MAX {
            flaws.push(unexpanded("`${…}` nested deeper than once", "Set a variable to the inner value."));
            return Err(flaws);
        }
        let inner = match inside(from) {
            Ok(inner) => inner,
            // Where it would end nobody knows.
            Err(flaw) => {
                flaws.push(flaw);
                return Err(flaws);
            }
        };
        match replace(inner, source, level) {
            Ok(text) => out.push_str(&text),
            Err(more) => flaws.extend(more),
        }
        // `${`, what is inside, and `}`.
        rest = from.get(inner.len() + 3..).unwrap_or("");
    }
    out.push_str(rest);
    if flaws.is_empty() { Ok(out) } else { Err(flaws) }
}

/// What stands between `${` at the start of `text` and its `}`.
fn inside(text: &str) -> Result<&str, Unexpanded> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().skip(2) {
        let opens = byte == b'{' && text.as_bytes().get(at - 1) == Some(&b'$');
        match byte {
            _ if opens => depth += 1,
            b'}' if depth == 0 => return Ok(text.get(2..at).unwrap_or("")),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    Err(unexpanded("`${` has no `}`", "Write `$${` where `${` itself is meant."))
}

fn replace(inner: &str, source: &mut dyn Source, level: usize) -> Result<String, Vec<Unexpanded>> {
    if let Some(path) = inner.strip_prefix("file:") {
        let full = expand_level(path, source, level + 1)?;
        return source.file(&full).map_err(|reason| {
            let what = format!("cannot read `${{file:{path}}}`: {reason}");
            let cure =
                "The path is relative to the config file, and the gateway's user must be able to read it.";
            vec![unexpanded(&what, cure)]
        });
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_variable_name(name) {
        return Err(vec![not_a_form(inner)]);
    }
    match (source.variable(name), default) {
        (Some(value), None) => Ok(value),
        // As in a shell: `:-` also replaces an empty value.
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => expand_level(default, source, level + 1),
        (None, None) => Err(vec![Unexpanded {
            what: format!("the environment variable `{name}` is not set"),
            cure: format!("Set it, or write `${{{name}:-default}}`."),
        }]),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn not_a_form(inner: &str) -> Unexpanded {
    if inner.starts_with("input:") {
        return unexpanded(
            "`${input:…}` asks the user of an editor",
            "A gateway has nobody to ask: use a variable, `${NAME}`.",
        );
    }
    if inner.starts_with("env:") {
        return unexpanded("`${env:…}` is an editor's form", "Write `${NAME}`.");
    }
    if inner.starts_with("vault:") {
        return unexpanded(
            "`${vault:…}` can stand in `headers` of a server only",
            "Use `${file:/path}` here.",
        );
    }
    unexpanded(
        "`${…}` is not one of `${NAME}`, `${NAME:-default}` and `${file:/path}`",
        "Write `$${` where `${` itself is meant.",
    )
}

fn unexpanded(what: &str, cure: &str) -> Unexpanded {
    Unexpanded { what: what.into(), cure: cure.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Source for Fixed {
        fn variable(&mut self, name: &str) -> Option<String> {
            match name {
                "TOKEN" => Some("s3cret: #x".into()),
                "DIR" => Some("/run/cred".into()),
                "EMPTY" => Some(String::new()),
                _ => None,
            }
        }

        fn file(&mut self, path: &str) -> Result<String, String> {
            match path {
                "/run/cred/github" => Ok("from-file".into()),
                _ => Err("no such file".into()),
            }
        }
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        let got = expand(text, &mut Fixed);
        match (&got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(got), Err(expected)) => {
                assert!(got.len() == 1 && got[0].what.contains(expected), "{text}: {got:?}");
            }
            _ => panic!("{text}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn every_form() {
        check("plain $5 {x} $", Ok("plain $5 {x} $"));
        check("Bearer ${TOKEN}!", Ok("Bearer s3cret: #x!"));
        check("${NO:-a}${NO:-}${EMPTY:-b}${EMPTY}", Ok("ab"));
        check("${NO:-${DIR}/x}", Ok("/run/cred/x"));
        check("${file:/run/cred/github}", Ok("from-file"));
        check("${file:${DIR}/github}", Ok("from-file"));
        check("$${TOKEN}", Ok("${TOKEN}"));
    }

    #[test]
    fn what_is_none_of_them_is_a_problem() {
        check("${NO}", Err("`NO` is not set"));
        check("${NO:-${ALSO}}", Err("`ALSO` is not set"));
        check("${file:/gone}", Err("no such file"));
        check("${TOKEN", Err("no `}`"));
        check("${}", Err("is not one of"));
        check("${a-b}", Err("is not one of"));
        check("${NO:-${NO:-${NO:-x}}}", Err("deeper"));
        check("${input:key}", Err("editor"));
        check("${vault:a#b}", Err("`headers` of a server only"));
    }

    /// Only the first of them was told.
    #[test]
    fn all_that_is_wrong_is_told() {
        let count = |text: &str| expand(text, &mut Fixed).expect_err(text).len();
        assert_eq!(count("${NO} ${TOKEN} ${ALSO} ${file:/gone}"), 3);
        assert_eq!(count("${NO} ${a-b} ${TOKEN"), 3);
        assert_eq!(pieces("${NO} ${vault:a} ${ALSO}", &mut Fixed).expect_err("three").len(), 3);
    }

    #[test]
    fn what_a_vault_knows_stays_a_reference() {
        let shown = |text: &str| match pieces(text, &mut Fixed) {
            Ok(pieces) => pieces
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_string(),
                    Piece::Vault(VaultReference { path, field }) => format!("<{path} {field}>"),
                })
                .collect::<Vec<_>>()
                .join("|"),
            Err(flaws) => flaws[0].what.clone(),
        };
        assert_eq!(shown("Bearer ${vault:secret/data/x#token}"), "Bearer |<secret/data/x token>");
        assert_eq!(shown("${TOKEN}${vault:/a/b#c}${EMPTY}"), "s3cret: #x|<a/b c>");
        for none in ["${vault:a}", "${vault:#b}", "${vault:a#}", "${vault:a/../b#c}", "${vault:a b#c}"] {
            assert!(shown(none).contains("no path and field"), "{none}");
        }
        assert!(names_vault("a ${vault:x#y}") && !names_vault("$${vault:x#y}") && !names_vault("${file:x}"));
    }

    /// An expanded value is a value: it is not expanded again.
    #[test]
    fn what_comes_out_is_not_expanded_again() {
        struct Tricky;
        impl Source for Tricky {
            fn variable(&mut self, _: &str) -> Option<String> {
                Some("${TOKEN}".into())
            }
            fn file(&mut self, _: &str) -> Result<String, String> {
                Err(String::new())
            }
        }
        assert_eq!(expand("${A}", &mut Tricky), Ok("${TOKEN}".into()));
    }
}
