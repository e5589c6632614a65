//! What an operator calls tools of a server, for policies: classes of data, environments.
//!
//! Not here: what a policy makes of it.

use crate::config::pattern::Pattern;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of everything that the server has.
    pub all: Vec<Box<str>>,
    /// Of the tools that a pattern names.
    pub tools: Vec<(Pattern, Vec<Box<str>>)>,
}

impl Labels {
    /// Of a server that has none.
    pub const NONE: &'static Self = &Self { all: Vec::new(), tools: Vec::new() };

    /// The labels of a tool, each once; of what is no tool (an empty name) those of the server.
    pub fn of(&self, tool: &str) -> Vec<&str> {
        let matching = self.tools.iter().filter(|(pattern, _)| !tool.is_empty() && pattern.matches(tool));
        let mut labels: Vec<&str> = Vec::new();
        for label in self.all.iter().chain(matching.flat_map(|(_, labels)| labels)) {
            if !labels.contains(&&**label) {
                labels.push(label);
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_has_the_servers_labels_and_its_own() {
        let labels = Labels {
            all: vec!["prod".into()],
            tools: vec![
                (Pattern::new("query*"), vec!["pii".into(), "prod".into()]),
                (Pattern::new("*_all"), vec!["bulk".into()]),
            ],
        };
        assert_eq!(labels.of("query_all"), ["prod", "pii", "bulk"]);
        assert_eq!((labels.of("other"), labels.of("")), (vec!["prod"], vec!["prod"]));
        assert_eq!(Labels::NONE.of("query"), [""; 0]);
    }
}
