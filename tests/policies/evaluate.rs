//! What a condition comes to, by trying: whatever cannot be known without the message is guessed, each time that it is
//! met, and all guesses are tried.
//!
//! The live evaluator computes sets of outcomes instead; both must find the same ones.
//!
//! Not here: terms (`terms`), and what follows for a rule (`policy`).

use crate::policies::operators::relate;
use crate::policies::policy::Facts;
use crate::policies::terms::Found;
use crate::policies::terms::Stop;
use crate::policies::terms::both;
use crate::policies::tree::Test;
use crate::policies::value::Value;

/// True, false, or an evaluation error.
pub type Truth = Option<bool>;

const ALL: [Truth; 3] = [Some(true), Some(false), None];

/// Every truth that a condition may come to.
pub fn outcomes(test: &Test, facts: &Facts<'_>) -> Vec<Truth> {
    let mut found = Vec::new();
    let mut guesses = Guesses { digits: Vec::new(), at: 0 };
    loop {
        guesses.at = 0;
        let truth = facts.truth(test, None, &mut guesses);
        if !found.contains(&truth) {
            found.push(truth);
        }
        if found.len() == ALL.len() || !guesses.advance() {
            return found;
        }
    }
}

/// An odometer: one place for each thing that was guessed, in the order in which they were met.
struct Guesses {
    digits: Vec<usize>,
    at: usize,
}

impl Guesses {
    fn guess(&mut self) -> Truth {
        if self.at == self.digits.len() {
            self.digits.push(0);
        }
        let truth = ALL[self.digits[self.at]];
        self.at += 1;
        truth
    }

    /// To the next row; false after the last.
    fn advance(&mut self) -> bool {
        self.digits.truncate(self.at);
        while let Some(last) = self.digits.pop() {
            if last + 1 < ALL.len() {
                self.digits.push(last + 1);
                return true;
            }
        }
        false
    }

    fn settle(&mut self, found: Result<Truth, Stop>) -> Truth {
        match found {
            Ok(truth) => truth,
            Err(Stop::Error) => None,
            Err(Stop::Unknown) => self.guess(),
        }
    }
}

impl Facts<'_> {
    fn truth(&self, test: &Test, element: Option<&Value>, guesses: &mut Guesses) -> Truth {
        match test {
            Test::Constant(value) => Some(*value),
            Test::Not(test) => self.truth(test, element, guesses).map(|truth| !truth),
            Test::And(parts) => {
                let sides: Vec<Truth> = parts.iter().map(|part| self.truth(part, element, guesses)).collect();
                joined(&sides, false)
            }
            Test::Or(parts) => {
                let sides: Vec<Truth> = parts.iter().map(|part| self.truth(part, element, guesses)).collect();
                joined(&sides, true)
            }
            Test::If(parts) => {
                let way = if self.truth(&parts[0], element, guesses)? { &parts[1] } else { &parts[2] };
                self.truth(way, element, guesses)
            }
            Test::Bare(term) => {
                let found = self.term(term, element);
                guesses.settle(
                    found.map(|value| if let Value::Bool(value) = value { Some(value) } else { None }),
                )
            }
            Test::Binary(relation, left, right) => {
                let sides = both(self.term(left, element), self.term(right, element));
                guesses.settle(sides.map(|(left, right)| relate(*relation, &left, &right)))
            }
            Test::Has(of, name) => {
                let found = self.term(of, element);
                let has = |value: Value| matches!(value, Value::Map(_)).then(|| value.field(name).is_some());
                guesses.settle(found.map(has))
            }
            Test::Each { all, of, holds } => self.each((*all, holds), self.term(of, element), guesses),
        }
    }

    fn each(&self, (all, holds): (bool, &Test), of: Found, guesses: &mut Guesses) -> Truth {
        let elements = match of {
            Ok(Value::List(values)) => values,
            Ok(Value::Map(entries)) => entries.into_iter().map(|(key, _)| Value::Text(key)).collect(),
            Ok(_) | Err(Stop::Error) => return None,
            Err(Stop::Unknown) => return guesses.guess(),
        };
        let truths: Vec<Truth> =
            elements.iter().map(|element| self.truth(holds, Some(element), guesses)).collect();
        joined(&truths, !all)
    }
}

/// `&&` and `||`: one that decides is enough, whatever fails beside it.
fn joined(truths: &[Truth], deciding: bool) -> Truth {
    if truths.contains(&Some(deciding)) {
        Some(deciding)
    } else if truths.contains(&None) {
        None
    } else {
        Some(!deciding)
    }
}
