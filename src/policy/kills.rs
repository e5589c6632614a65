//! Kill switches: who and what is refused at once, whatever else the configuration says.
//!
//! Not here: their file, how operators set them (control), and cutting calls that run (worker).

use serde::Deserialize;
use serde::Serialize;

/// What a kill switch is about, in the order in which they are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every call. It has no name.
    All,
    Tenant,
    Principal,
    Server,
    /// Its name is `server.tool`.
    Tool,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::All, Self::Tenant, Self::Principal, Self::Server, Self::Tool];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tenant => "tenant",
            Self::Principal => "principal",
            Self::Server => "server",
            Self::Tool => "tool",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One kill switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kill {
    pub kind: Kind,
    /// Empty for [`Kind::All`] only.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub name: Box<str>,
    pub operator: Box<str>,
    #[serde(default)]
    pub reason: Box<str>,
    /// Milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// The kill switches in force. Immutable: a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Ordered by kind and name, one of each: looked up by halves, with names that are never put together.
    sorted: Vec<Kill>,
}

impl Kills {
    /// The first that matches a call. `tenant` and `tool` are empty where the call has none.
    pub fn find(&self, principal: &str, tenant: &str, server: &str, tool: &str) -> Option<Kind> {
        if self.sorted.is_empty() {
            return None;
        }
        Kind::ALL.into_iter().find(|kind| match kind {
            Kind::All => self.place(*kind, [""]).is_ok(),
            Kind::Tenant => self.place(*kind, [tenant]).is_ok(),
            Kind::Principal => self.place(*kind, [principal]).is_ok(),
            Kind::Server => self.place(*kind, [server]).is_ok(),
            Kind::Tool => self.place(*kind, [server, ".", tool]).is_ok(),
        })
    }

    /// In their order: by kind, then by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Kill> {
        self.sorted.iter()
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// These and one more; of two with the same kind and name the newer one stays.
    #[must_use]
    pub fn with(&self, kill: Kill) -> Self {
        let mut sorted = self.sorted.clone();
        match self.place(kill.kind, [&*kill.name]) {
            Ok(at) => sorted[at] = kill, // In bounds: found there.
            Err(at) => sorted.insert(at, kill),
        }
        Self { sorted }
    }

    /// These without one; nothing where it is not among them.
    pub fn without(&self, kind: Kind, name: &str) -> Option<Self> {
        let at = self.place(kind, [name]).ok()?;
        let mut sorted = self.sorted.clone();
        sorted.remove(at);
        Some(Self { sorted })
    }

    /// Where the kill switch of a name given in parts is, or would be.
    fn place<const N: usize>(&self, kind: Kind, name: [&str; N]) -> Result<usize, usize> {
        self.sorted.binary_search_by(|kill| {
            let by_name = || kill.name.bytes().cmp(name.iter().flat_map(|part| part.bytes()));
            kill.kind.cmp(&kind).then_with(by_name)
        })
    }
}

impl FromIterator<Kill> for Kills {
    fn from_iter<I: IntoIterator<Item = Kill>>(kills: I) -> Self {
        kills.into_iter().fold(Self::default(), |kills, kill| kills.with(kill))
    }
}

impl<'a> IntoIterator for &'a Kills {
    type Item = &'a Kill;
    type IntoIter = std::slice::Iter<'a, Kill>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(kind: Kind, name: &str) -> Kill {
        Kill { kind, name: name.into(), operator: "ann".into(), reason: "loops".into(), since_unix_ms: 7 }
    }

    fn kills(list: &[(Kind, &str)]) -> Kills {
        list.iter().map(|(kind, name)| kill(*kind, name)).collect()
    }

    #[test]
    fn the_first_kind_that_matches_is_found() {
        let one = |kind, name| kills(&[(kind, name)]);
        let table = [
            (Kills::default(), None),
            (one(Kind::All, ""), Some(Kind::All)),
            (one(Kind::Tenant, "acme"), Some(Kind::Tenant)),
            (one(Kind::Tenant, "agent-7"), None),
            (one(Kind::Principal, "agent-7"), Some(Kind::Principal)),
            (one(Kind::Principal, "agent-70"), None),
            (one(Kind::Principal, "agent-"), None),
            (one(Kind::Server, "db"), Some(Kind::Server)),
            (one(Kind::Server, "db.query"), None),
            (one(Kind::Tool, "db.query"), Some(Kind::Tool)),
            (one(Kind::Tool, "db.quer"), None),
            (one(Kind::Tool, "db.query2"), None),
            (one(Kind::Tool, "query"), None),
            (kills(&[(Kind::Tool, "db.query"), (Kind::Principal, "agent-7")]), Some(Kind::Principal)),
            (kills(&[(Kind::Server, "db"), (Kind::All, ""), (Kind::Tenant, "acme")]), Some(Kind::All)),
        ];
        for (kills, expected) in table {
            assert_eq!(kills.find("agent-7", "acme", "db", "query"), expected, "{kills:?}");
        }
    }

    #[test]
    fn each_of_many_is_found_and_reversed() {
        let names: Vec<String> = (0..200).map(|number| format!("agent-{number}")).collect();
        let mut killed: Kills = names.iter().rev().map(|name| kill(Kind::Principal, name)).collect();
        for name in &names {
            assert_eq!(killed.find(name, "", "s", ""), Some(Kind::Principal), "{name}");
            killed = killed.without(Kind::Principal, name).expect("it was there");
            assert_eq!(killed.find(name, "", "s", ""), None, "{name}");
        }
        assert!(killed.is_empty());
        assert_eq!(killed.without(Kind::Principal, "agent-1"), None);
    }

    #[test]
    fn a_second_one_of_the_same_name_replaces_the_first() {
        let newer = Kill { reason: "again".into(), ..kill(Kind::Server, "db") };
        let killed = kills(&[(Kind::Server, "db"), (Kind::Server, "a")]).with(newer.clone());
        assert_eq!(killed.iter().collect::<Vec<_>>(), [&kill(Kind::Server, "a"), &newer]);
    }

    #[test]
    fn words_and_json_agree() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.as_str());
        }
        assert_eq!(Kind::from_word("agent"), None);
        let json = serde_json::to_value(kill(Kind::All, "")).expect("an object");
        let expected = serde_json::json!({
            "kind": "all", "operator": "ann", "reason": "loops", "sinceUnixMs": 7
        });
        assert_eq!(json, expected);
    }
}
