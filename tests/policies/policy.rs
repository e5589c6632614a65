//! Policies as data, as the text of a config, and what they mean, as the specification has it (features.md chapter 5).
//!
//! Not here: conditions (`evaluate`), and drawing (`draw`).

use crate::policies::evaluate::Truth;
use crate::policies::evaluate::outcomes;
use crate::policies::tree::Test;
use crate::policies::value::Arguments;
use crate::policies::value::Value;
use crate::policies::value::quoted;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tool,
    Prompt,
    Resource,
}

/// What a caller may want.
#[derive(Clone, Debug)]
pub struct Thing {
    pub kind: Kind,
    pub server: &'static str,
    pub name: String,
    /// readOnly, destructive, idempotent, openWorld; None: the server says nothing.
    pub hints: Option<[bool; 4]>,
}

#[derive(Clone, Debug)]
pub struct Person {
    pub name: &'static str,
    pub roles: Vec<&'static str>,
    pub tenant: &'static str,
    pub claims: Value,
    pub scopes: Vec<&'static str>,
}

/// When and from where.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now_ms: i64,
    pub source: &'static str,
    /// An IPv4 address is written as one, however it arrived.
    pub source_as_text: &'static str,
}

/// Everything that a condition may look at.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub person: &'a Person,
    pub thing: &'a Thing,
    pub moment: Moment,
    pub method: &'a str,
    /// None: not known.
    pub arguments: Option<&'a Arguments>,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub effect: Effect,
    pub roles: Vec<&'static str>,
    pub principals: Vec<&'static str>,
    pub patterns: Vec<String>,
    pub when: Option<Test>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
    Scopes(Vec<&'static str>),
}

/// What becomes of a call. The names are those of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Passes,
    /// By one of these; none: nothing allows it.
    Hidden(Vec<String>),
    Forbidden(Vec<String>),
    Scopes(String, Vec<String>),
}

pub const SERVERS: [&str; 3] = ["bank", "crm", "db-2"];

impl Kind {
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/call",
            Self::Prompt => "prompts/get",
            Self::Resource => "resources/read",
        }
    }
}

impl Thing {
    /// As the config and `explain` name it.
    pub fn shown(&self) -> String {
        let kind = match self.kind {
            Kind::Tool => "",
            Kind::Prompt => "prompt:",
            Kind::Resource => "resource:",
        };
        format!("{kind}{}.{}", self.server, self.name)
    }

    pub fn hints_as_json(&self) -> Option<String> {
        self.hints.map(|[read_only, destructive, idempotent, open_world]| {
            format!(
                r#"{{"readOnlyHint":{read_only},"destructiveHint":{destructive},"idempotentHint":{idempotent},"openWorldHint":{open_world}}}"#
            )
        })
    }
}

impl Policy {
    /// What the specification makes of a call.
    pub fn answer(&self, facts: &Facts<'_>) -> Answer {
        if let Err(rules) = self.is_listed(facts) {
            return Answer::Hidden(rules);
        }
        if let Err(rules) = self.pass(facts) {
            return Answer::Forbidden(rules);
        }
        self.scopes(facts)
    }

    /// Err: hidden, by each of these rules; none: no rule allows it.
    pub fn is_listed(&self, facts: &Facts<'_>) -> Result<(), Vec<String>> {
        self.pass(&Facts { arguments: None, method: facts.thing.kind.method(), ..*facts })
    }

    /// Err: refused whatever is unknown, by each of these rules; none: no rule allows it.
    fn pass(&self, facts: &Facts<'_>) -> Result<(), Vec<String>> {
        let denies = |rule: &&Rule| rule.effect == Effect::Deny && rule.is_certain(facts);
        let denying: Vec<String> = self.rules.iter().filter(denies).map(|rule| rule.name.clone()).collect();
        let mut allowing = self.rules.iter().filter(|rule| rule.effect == Effect::Allow).peekable();
        let may_be_allowed = allowing.peek().is_none() || allowing.any(|rule| rule.is_possible(facts));
        if denying.is_empty() && may_be_allowed { Ok(()) } else { Err(denying) }
    }

    /// Of a call that everything else lets pass: which scopes it needs, if the caller lacks any.
    fn scopes(&self, facts: &Facts<'_>) -> Answer {
        let mut needed = Vec::new();
        let mut lacking = None;
        for rule in self.rules.iter().filter(|rule| rule.is_certain(facts)) {
            let Effect::Scopes(scopes) = &rule.effect else { continue };
            for scope in scopes {
                if !facts.person.scopes.contains(scope) {
                    lacking = lacking.or(Some(rule.name.clone()));
                }
                if !needed.iter().any(|known| known == scope) {
                    needed.push((*scope).to_owned());
                }
            }
        }
        lacking.map_or(Answer::Passes, |rule| Answer::Scopes(rule, needed))
    }

    /// A whole config.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::from("mcpServers:\n");
        for server in SERVERS {
            writeln!(yaml, "  {server}: {{url: \"http://127.0.0.1:9/mcp\"}}").expect("a String takes all");
        }
        yaml + &self.access()
    }

    /// The rules of a config.
    pub fn access(&self) -> String {
        let rules: String = self.rules.iter().map(|rule| format!("  - {}\n", rule.to_yaml())).collect();
        format!("access:\n{rules}")
    }
}

impl Rule {
    /// It matches in every case that is possible.
    fn is_certain(&self, facts: &Facts<'_>) -> bool {
        self.matches(facts).into_iter().all(|matches| matches)
    }

    pub fn is_possible(&self, facts: &Facts<'_>) -> bool {
        self.matches(facts).into_iter().any(|matches| matches)
    }

    /// One for each case.
    fn matches(&self, facts: &Facts<'_>) -> Vec<bool> {
        if !self.concerns(facts) {
            return vec![false];
        }
        let Some(when) = &self.when else { return vec![true] };
        // An error makes a rule match, unless it allows.
        let holds = |truth: Truth| truth.unwrap_or(self.effect != Effect::Allow);
        outcomes(when, facts).into_iter().map(holds).collect()
    }

    /// It is for this caller and about this thing.
    pub fn concerns(&self, facts: &Facts<'_>) -> bool {
        let named = self.principals.contains(&facts.person.name)
            || self.roles.iter().any(|role| facts.person.roles.contains(role));
        let for_all = self.roles.is_empty() && self.principals.is_empty();
        (for_all || named) && self.patterns.iter().any(|pattern| is_about(pattern, facts.thing))
    }

    fn to_yaml(&self) -> String {
        let list = |texts: &[&str]| {
            let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", quoted.join(", "))
        };
        let patterns: Vec<&str> = self.patterns.iter().map(String::as_str).collect();
        let mut members = vec![format!("name: {}", self.name)];
        let mut member = |key: &str, texts: &[&str]| {
            if !texts.is_empty() {
                members.push(format!("{key}: {}", list(texts)));
            }
        };
        member("roles", &self.roles);
        member("principals", &self.principals);
        match &self.effect {
            Effect::Allow => member("allow", &patterns),
            Effect::Deny => member("deny", &patterns),
            Effect::Scopes(scopes) => {
                member("tools", &patterns);
                member("scopes", scopes);
            }
        }
        members
            .extend(self.when.as_ref().map(|when| format!("when: '{}'", when.to_cel().replace('\'', "''"))));
        format!("{{{}}}", members.join(", "))
    }
}

/// Whether a pattern of the config names it.
fn is_about(pattern: &str, thing: &Thing) -> bool {
    let (kind, rest) = if let Some(rest) = pattern.strip_prefix("prompt:") {
        (Kind::Prompt, rest)
    } else if let Some(rest) = pattern.strip_prefix("resource:") {
        (Kind::Resource, rest)
    } else {
        (Kind::Tool, pattern)
    };
    if kind != thing.kind {
        return false;
    }
    match rest.split_once('.') {
        Some((server, name)) => {
            fits(server.as_bytes(), thing.server.as_bytes()) && fits(name.as_bytes(), thing.name.as_bytes())
        }
        None => rest == "*",
    }
}

/// A star stands for anything.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
        ([first, rest @ ..], [byte, behind @ ..]) => first == byte && fits(rest, behind),
        _ => false,
    }
}
