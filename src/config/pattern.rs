//! `Pattern` and `ToolPattern`: globs over names, where `*` stands for any characters, none among them.
//!
//! Not here: which names there are.

/// A glob over one name. Case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

/// What most patterns are: told once, because every call meets some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Without a star.
    Exact,
    /// The star alone.
    Any,
    Glob,
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        let shape = match text {
            "*" => Shape::Any,
            _ if text.contains('*') => Shape::Glob,
            _ => Shape::Exact,
        };
        Self { text: text.into(), shape }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Characters that are no `*`: of several patterns in a map the one with most of them wins.
    pub fn literal_bytes(&self) -> usize {
        self.text.bytes().filter(|byte| *byte != b'*').count()
    }

    /// Linear in `text` for each `*`; nothing is allocated.
    pub fn matches(&self, text: &str) -> bool {
        match self.shape {
            Shape::Exact => *self.text == *text,
            Shape::Any => true,
            Shape::Glob => self.globs(text),
        }
    }

    fn globs(&self, text: &str) -> bool {
        let mut parts = self.text.split('*');
        let first = parts.next().unwrap_or("");
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(mut last) = parts.next() else { return rest.is_empty() };
        for part in parts {
            match rest.find(last) {
                Some(at) => rest = &rest[at + last.len()..],
                None => return false,
            }
            last = part;
        }
        rest.ends_with(last)
    }
}

/// What a `ToolPattern` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Tool,
    Prompt,
    Resource,
}

impl Named {
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Resource];

    /// What `prompt:…`, `resource:…` or a text without either names, and the text behind.
    pub fn split(text: &str) -> (Self, &str) {
        match text.split_once(':') {
            Some(("prompt", rest)) => (Self::Prompt, rest),
            Some(("resource", rest)) => (Self::Resource, rest),
            _ => (Self::Tool, text),
        }
    }

    /// The method that calls for it.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/call",
            Self::Prompt => "prompts/get",
            Self::Resource => "resources/read",
        }
    }
}

/// `server.tool`, `prompt:server.name`, `resource:server.URI`; `*` alone is every tool. The server is what stands
/// before the first dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPattern {
    named: Named,
    server: Pattern,
    name: Pattern,
}

impl ToolPattern {
    /// None: no dot.
    pub fn new(text: &str) -> Option<Self> {
        let (named, rest) = Named::split(text);
        let (server, name) = if rest == "*" { ("*", "*") } else { rest.split_once('.')? };
        Some(Self { named, server: Pattern::new(server), name: Pattern::new(name) })
    }

    pub fn matches(&self, named: Named, server: &str, name: &str) -> bool {
        self.named == named && self.server.matches(server) && self.name.matches(name)
    }

    /// Whether it matches everything of that kind that the server has.
    pub fn covers(&self, named: Named, server: &str) -> bool {
        self.named == named && self.server.matches(server) && self.name.as_str() == "*"
    }

    /// Whether it may match something of that kind that the server has.
    pub fn touches(&self, named: Named, server: &str) -> bool {
        self.named == named && self.server.matches(server)
    }

    pub const fn named(&self) -> Named {
        self.named
    }

    /// The pattern of the server's name.
    pub fn server(&self) -> &Pattern {
        &self.server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let table = [
            ("get", "get", true),
            ("get", "gets", false),
            ("", "", true),
            ("*", "", true),
            ("get_*", "get_", true),
            ("get_*", "xget_", false),
            ("*_sql", "run_sql", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("Get", "get", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert_eq!(Pattern::new("a*b*c").literal_bytes(), 3);
    }

    #[test]
    fn the_server_is_what_stands_before_the_first_dot() {
        let check = |pattern: &str, named, server, name, expected| {
            let pattern = ToolPattern::new(pattern).expect("a dot");
            assert_eq!(pattern.matches(named, server, name), expected, "{pattern:?} {server} {name}");
        };
        check("db.run_sql", Named::Tool, "db", "run_sql", true);
        check("db.run_sql", Named::Tool, "db2", "run_sql", false);
        check("db.a.b", Named::Tool, "db", "a.b", true);
        check("*", Named::Tool, "any", "thing", true);
        check("*", Named::Prompt, "any", "thing", false);
        check("prompt:db.*", Named::Prompt, "db", "x", true);
        check("resource:files.file:///a*", Named::Resource, "files", "file:///a/b", true);
        assert!(ToolPattern::new("db").is_none());
    }
}
