//! A mapping whose keys are ours: each is asked for by name, and what is left is a mistake, with the
//! nearest known key or the place where it belongs.
//!
//! Not here: which keys there are (`read`, `read_server`).

use crate::config::limits;
use crate::config::problem::Place;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::config::reader::Reader;
use crate::config::tree::Entry;
use crate::config::tree::Node;

/// A mapping with known keys. Whatever is left when it closes is a mistake.
pub struct Table<'n> {
    entries: Vec<&'n Entry>,
    path: &'static str,
    asked: Vec<&'static str>,
}

/// Why a key that others know is not one of ours, and what to do.
pub struct Foreign {
    pub key: &'static str,
    /// Ends the sentence that starts with the key, without a full stop.
    pub what: &'static str,
    pub cure: &'static str,
}

/// What is known about keys that are not asked for.
#[derive(Default)]
pub struct Strangers {
    /// Keys of a later version.
    pub later: &'static [&'static str],
    pub foreign: &'static [Foreign],
    /// A key, and where it belongs if it stands elsewhere.
    pub homes: &'static [(&'static str, &'static str)],
}

impl<'n> Table<'n> {
    pub fn new(entries: Vec<&'n Entry>, path: &'static str) -> Self {
        Self { entries, path, asked: Vec::new() }
    }

    /// The value of `key`, if the operator wrote it.
    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.take_entry(key).map(|entry| &*entry.value)
    }

    pub fn take_entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.asked.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(at))
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Where the key stands, if the operator wrote it.
    pub fn place(&self, key: &str) -> Option<Place> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.key_place)
    }

    /// Drops a key that another report already covers.
    pub fn forget(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// Reports every key that nobody asked for.
    pub fn close(self, reader: &mut Reader<'_>, strangers: &Strangers) {
        // A file of another kind has more strangers than anybody reads about.
        let (told, untold) = self.entries.split_at(self.entries.len().min(limits::PROBLEMS_MAX));
        reader.untold += untold.len();
        for entry in told {
            let (what, cure) = self.stranger(&entry.key, strangers);
            reader.problem(entry.key_place, what, cure);
        }
        #[cfg(test)]
        for key in &self.asked {
            let dot = if self.path.is_empty() { "" } else { "." };
            reader.asked.insert(format!("{}{dot}{key}", self.path));
        }
    }

    fn stranger(&self, key: &str, strangers: &Strangers) -> (String, String) {
        let owner = if self.path.is_empty() { String::new() } else { format!(" of `{}`", self.path) };
        if strangers.later.contains(&key) {
            let what = format!("`{key}`{owner} is not available in this version");
            return (what, "Remove it: it would have no effect.".into());
        }
        if let Some(foreign) = strangers.foreign.iter().find(|foreign| foreign.key == key) {
            return (format!("`{key}` {}", foreign.what), foreign.cure.into());
        }
        if key == "<<" {
            return ("merge keys are not used here".into(), "Write the keys out.".into());
        }
        let what = format!("{} is not a key{owner}", quoted(key));
        if let Some((_, home)) =
            strangers.homes.iter().find(|(word, home)| *word == key && *home != self.path)
        {
            return (what, format!("It belongs under `{home}`."));
        }
        let cure = match nearest(key, self.asked.iter().copied()) {
            Some(word) => format!("Did you mean `{word}`?"),
            None => format!("Its keys are: {}.", self.asked.join(", ")),
        };
        (what, cure)
    }
}
