//! What terms come to: a value, an error, or nothing that is known yet.
//!
//! Not here: truth (`evaluate`).

use crate::policies::operators;
use crate::policies::policy::Facts;
use crate::policies::policy::Kind;
use crate::policies::tree::Term;
use crate::policies::tree::Variable;
use crate::policies::value::Value;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Error,
    /// The message would tell.
    Unknown,
}

pub type Found = Result<Value, Stop>;

impl Facts<'_> {
    /// `element`: of the loop around.
    pub fn term(&self, term: &Term, element: Option<&Value>) -> Found {
        let of = |term: &Term| self.term(term, element);
        let applied =
            |function: fn(&Value) -> Option<Value>, term: &Term| function(&of(term)?).ok_or(Stop::Error);
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Time(_, millis) => Ok(Value::Time(*millis)),
            Term::Variable(variable) => self.variable(*variable),
            Term::Element => Ok(element.expect("inside of a loop").clone()),
            Term::Field(map, name) => of(map)?.field(name).cloned().ok_or(Stop::Error),
            Term::Index(map, at) => {
                let (map, at) = both(of(map), of(at))?;
                operators::index(&map, &at).ok_or(Stop::Error)
            }
            Term::List(terms) => {
                let found: Vec<Found> = terms.iter().map(of).collect();
                all(found).map(Value::List)
            }
            Term::Arithmetic(operator, sides) => {
                let (left, right) = both(of(&sides[0]), of(&sides[1]))?;
                operators::arithmetic(*operator, &left, &right).ok_or(Stop::Error)
            }
            Term::Size(term) => applied(operators::size, term),
            Term::ToInt(term) => applied(operators::to_int, term),
            Term::Hours(term) => applied(operators::hours, term),
            Term::Weekday(term) => applied(operators::weekday, term),
        }
    }

    fn variable(&self, variable: Variable) -> Found {
        if variable.is_of_message() {
            return self.of_message(variable);
        }
        let is_tool = self.thing.kind == Kind::Tool;
        let texts = |texts: &[&str]| Value::List(texts.iter().copied().map(Value::text).collect());
        Ok(match variable {
            Variable::Annotations => self.hints(),
            Variable::Jwt => self.person.claims.clone(),
            Variable::BodyMethod | Variable::Method => Value::text(self.method),
            Variable::BodyParamsName if self.thing.kind == Kind::Resource => return Err(Stop::Error),
            Variable::BodyParamsName => Value::text(&self.thing.name),
            Variable::Tool | Variable::McpToolName => {
                Value::text(if is_tool { &self.thing.name } else { "" })
            }
            Variable::Now => Value::Time(self.moment.now_ms),
            Variable::Principal => Value::text(self.person.name),
            Variable::Roles => texts(&self.person.roles),
            Variable::Server => Value::text(self.thing.server),
            Variable::Source => Value::text(self.moment.source_as_text),
            Variable::Tenant => Value::text(self.person.tenant),
            Variable::Args | Variable::Body | Variable::Meta => unreachable!("of the message"),
        })
    }

    fn of_message(&self, variable: Variable) -> Found {
        let arguments = self.arguments.ok_or(Stop::Unknown)?;
        let empty = || Value::Map(Vec::new());
        let is_resource = self.thing.kind == Kind::Resource;
        let value = arguments.value.clone().filter(|_| !is_resource);
        if value.is_none() && !is_resource {
            return Err(Stop::Error);
        }
        Ok(match variable {
            Variable::Args => value.unwrap_or_else(empty),
            Variable::Meta => empty(),
            _ => {
                let key = if is_resource { "uri" } else { "name" };
                let mut params = vec![(key.to_owned(), Value::text(&self.thing.name))];
                params.extend(value.map(|value| ("arguments".to_owned(), value)));
                let method = ("method".to_owned(), Value::text(self.method));
                Value::Map(vec![method, ("params".to_owned(), Value::Map(params))])
            }
        })
    }

    /// With the defaults of the specification where the server says nothing.
    fn hints(&self) -> Value {
        let [read_only, destructive, idempotent, open_world] =
            self.thing.hints.unwrap_or([false, true, false, true]);
        let hint = |name: &str, value| (name.to_owned(), Value::Bool(value));
        Value::Map(vec![
            hint("readOnlyHint", read_only),
            hint("destructiveHint", destructive),
            hint("idempotentHint", idempotent),
            hint("openWorldHint", open_world),
        ])
    }
}

/// What needs both fails if one does, whatever is unknown of the other.
pub fn both(left: Found, right: Found) -> Result<(Value, Value), Stop> {
    let mut values = all(vec![left, right])?.into_iter();
    Ok((values.next().expect("two"), values.next().expect("two")))
}

fn all(found: Vec<Found>) -> Result<Vec<Value>, Stop> {
    if found.contains(&Err(Stop::Error)) {
        return Err(Stop::Error);
    }
    found.into_iter().collect()
}
