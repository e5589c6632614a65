//! The claims of a verified token: what its issuer says about the caller.
//!
//! Not here: verifying (`token`), and what follows from a claim.

use crate::config::identity::ClaimPath;
use serde_json::Map;
use serde_json::Value;

/// Claims as a JSON object; empty for callers without a token.
#[derive(Clone, Default, PartialEq)]
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// The claim of this name, else the one at the end of the path that its dots make.
    pub fn get(&self, path: &ClaimPath) -> Option<&Value> {
        if let Some(value) = self.0.get(&*path.0) {
            return Some(value);
        }
        let mut parts = path.0.split('.');
        let first = self.0.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    pub fn text(&self, path: &ClaimPath) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// `scope` (RFC 8693 section 4.2, RFC 9068 section 2.2.3), or `scp` as Entra ID and Okta have it.
    pub fn scopes(&self) -> Vec<Box<str>> {
        let claim = if self.0.contains_key("scope") { "scope" } else { "scp" };
        self.texts(&ClaimPath(claim.into()))
    }

    /// A list of strings, or one string of names between spaces, as `scope` is (RFC 6749 section 3.3). What is
    /// neither has none.
    pub fn texts(&self, path: &ClaimPath) -> Vec<Box<str>> {
        match self.get(path) {
            Some(Value::String(text)) => text.split_ascii_whitespace().map(Box::from).collect(),
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(Box::from).collect(),
            _ => Vec::new(),
        }
    }
}

/// Claims tell about people: only their names are printed.
impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims() -> Claims {
        let Value::Object(claims) = json!({
            "sub": "alice", "act": {"sub": "agent-7"}, "https://x.test/roles": ["a", 1, "b"],
            "scope": "crm.read  crm.write", "deep": {"a": {"b": "c"}},
        }) else {
            panic!("an object")
        };
        Claims(claims)
    }

    #[test]
    fn a_path_leads_to_a_claim() {
        let text = |path: &str| claims().text(&ClaimPath(path.into())).map(str::to_owned);
        assert_eq!(text("sub").as_deref(), Some("alice"));
        assert_eq!(text("act.sub").as_deref(), Some("agent-7"));
        assert_eq!(text("deep.a.b").as_deref(), Some("c"));
        for none in ["", "act", "act.", "sub.x", "deep.a.b.c", "nobody"] {
            assert_eq!(text(none), None, "{none}");
        }
    }

    #[test]
    fn lists_and_spaced_texts_are_names() {
        let texts = |path: &str| claims().texts(&ClaimPath(path.into())).join(",");
        assert_eq!(texts("https://x.test/roles"), "a,b");
        assert_eq!(texts("scope"), "crm.read,crm.write");
        assert_eq!(texts("act"), "");
    }

    #[test]
    fn values_are_not_printed() {
        let shown = format!("{:?}", claims());
        assert!(shown.contains("\"sub\"") && !shown.contains("alice"), "{shown}");
    }
}
