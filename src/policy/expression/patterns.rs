//! Compiled patterns of `matches` that are known only at run time.
//!
//! Not here: patterns that a config writes out; they are part of its plan.

use crate::config::expression;
use crate::config::limits;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Steps;
use regex::Regex;

const SLOW: [&str; 3] = ["(?", r"\p", r"\P"];

/// The patterns that one worker met last: a caller may choose them, so that only few are kept, and compiling one
/// costs many steps.
#[derive(Debug, Default)]
pub struct Patterns {
    kept: Vec<(Box<str>, Regex)>,
    /// Which of them makes room for the next.
    oldest: usize,
}

impl Patterns {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn compiled(&mut self, text: &str, steps: &mut Steps) -> Result<&Regex, EvaluationError> {
        let at = match self.kept.iter().position(|(known, _)| **known == *text) {
            Some(at) => at,
            None => {
                steps.charge(limits::CALLER_PATTERN_STEPS)?;
                self.keep(text)?
            }
        };
        // `position` and `keep` give places in `kept`.
        Ok(&self.kept[at].1)
    }

    fn keep(&mut self, text: &str) -> Result<usize, EvaluationError> {
        // Flags and classes by name take milliseconds to compile, however small the result is.
        if text.len() > limits::CALLER_PATTERN_BYTES_MAX || SLOW.iter().any(|slow| text.contains(slow)) {
            return Err(EvaluationError::Pattern);
        }
        let regex = expression::pattern(text, limits::CALLER_PATTERN_COMPILED_BYTES_MAX)
            .map_err(|_| EvaluationError::Pattern)?;
        let entry = (text.into(), regex);
        if self.kept.len() < limits::CALLER_PATTERNS_MAX {
            self.kept.push(entry);
            return Ok(self.kept.len() - 1);
        }
        // `kept` has `CALLER_PATTERNS_MAX` entries and `oldest` stays below that.
        let at = self.oldest;
        self.kept[at] = entry;
        self.oldest = (at + 1) % limits::CALLER_PATTERNS_MAX;
        Ok(at)
    }
}
