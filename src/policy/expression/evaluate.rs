//! The walk over a checked expression, also where not all of the call is known.
//!
//! Not here: functions and operators whose operands are all evaluated first (`function`).
//!
//! What reads something unknown is unknown, unless it fails whatever that is. `!`, `&&`, `||`, `?:` and the loops `all`
//! and `exists` follow what may still come out ([`Possible`]); for all others it is anything.

use crate::config::expression::Function;
use crate::config::expression::Loop;
use crate::config::expression::LoopKind;
use crate::config::expression::Node;
use crate::config::expression::Variable;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Scope;
use crate::policy::expression::Steps;
use crate::policy::expression::attributes;
use crate::policy::expression::function;
use crate::policy::expression::possible::Possible;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use crate::policy::expression::value::map;
use jiff::Timestamp;
use std::net::IpAddr;
use std::rc::Rc;

type Evaluated<'e> = Result<Value<'e>, Stop>;

/// Why an evaluation yields no value.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Failed(EvaluationError),
    /// It needs what is not known; as a condition it may come to these.
    Unknown(Possible),
}

const UNKNOWN: Stop = Stop::Unknown(Possible::ANY);

impl From<EvaluationError> for Stop {
    fn from(error: EvaluationError) -> Self {
        Self::Failed(error)
    }
}

/// One evaluation of one expression, whose depth is bounded at load.
pub(super) struct Evaluation<'s, 'v, 'e> {
    scope: &'s mut Scope<'v>,
    /// The elements at which the loops around are.
    locals: Vec<Value<'e>>,
    /// Something unknown was read: what was evaluated is not what a call would evaluate.
    guessed: bool,
    pub(super) steps: Steps,
}

impl<'s, 'v: 'e, 'e> Evaluation<'s, 'v, 'e> {
    pub(super) fn new(scope: &'s mut Scope<'v>) -> Self {
        Self { scope, locals: Vec::new(), guessed: false, steps: Steps::new() }
    }

    /// What a condition may come to.
    pub(super) fn condition(&mut self, node: &'e Node) -> Result<Possible, EvaluationError> {
        match self.possible(node) {
            // A call may take fewer.
            Err(EvaluationError::Steps) if self.guessed => Ok(Possible::ANY),
            outcome => outcome,
        }
    }

    /// The value of a key; nothing else than a call makes one.
    pub(super) fn value(&mut self, node: &'e Node) -> Result<Value<'e>, EvaluationError> {
        match self.follow(node) {
            Ok(value) => Ok(value),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Unknown(_)) => Err(EvaluationError::Missing),
        }
    }

    /// The value of an operand. Where it is unknown, nothing more is known of it.
    fn evaluate(&mut self, node: &'e Node) -> Evaluated<'e> {
        self.follow(node).map_err(|stop| match stop {
            Stop::Failed(_) => stop,
            Stop::Unknown(_) => UNKNOWN,
        })
    }

    fn possible(&mut self, node: &'e Node) -> Result<Possible, EvaluationError> {
        match self.follow(node) {
            Ok(Value::Bool(value)) => Ok(Possible::of(value)),
            Ok(_) => Err(EvaluationError::Type),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Unknown(possible)) => Ok(possible),
        }
    }

    fn follow(&mut self, node: &'e Node) -> Evaluated<'e> {
        if !matches!(node, Node::Constant(_) | Node::Variable(_) | Node::Local(_)) {
            self.steps.charge(1)?;
        }
        match node {
            Node::Constant(constant) => Ok(constant.into()),
            Node::Variable(variable) => self.variable(*variable),
            Node::Local(slot) => Ok(self.locals.get(*slot).cloned().ok_or(EvaluationError::Missing)?),
            Node::Field(operand, name) => Ok(self.field(operand, name)?.ok_or(EvaluationError::Missing)?),
            Node::HasField(operand, name) => Ok(Value::Bool(self.field(operand, name)?.is_some())),
            Node::Call(function, operands) => self.call(*function, operands),
            Node::And(operands) => self.decide(operands, false),
            Node::Or(operands) => self.decide(operands, true),
            Node::Conditional(parts) => self.conditional(parts),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Matches(operand, regex) => {
                let text = self.evaluate(operand)?.into_text()?;
                self.steps.charge_text(text.len())?;
                Ok(Value::Bool(regex.is_match(&text)))
            }
            Node::Part(operand, part, zone) => Ok(function::part(&self.evaluate(operand)?, *part, zone)?),
            Node::Loop(node) => self.run_loop(node),
            Node::Within(operand, network) => Ok(Value::Bool(network.contains(self.address(operand)?))),
        }
    }

    /// That of the caller is not made a text first.
    fn address(&mut self, node: &'e Node) -> Result<IpAddr, Stop> {
        if let Node::Variable(variable @ Variable::Source) = node {
            self.require(*variable)?;
            return Ok(self.scope.variables.source);
        }
        let text = self.evaluate(node)?.into_text()?;
        self.steps.charge_text(text.len())?;
        Ok(text.parse().map_err(|_| EvaluationError::Conversion)?)
    }

    fn variable(&mut self, variable: Variable) -> Evaluated<'e> {
        self.require(variable)?;
        let variables = &self.scope.variables;
        Ok(match variable {
            Variable::Annotations => attributes::hints(variables.annotations())?,
            Variable::Args => return Ok(self.param("arguments")?),
            Variable::Body => return Ok(self.scope.body()?),
            Variable::Jwt => attributes::claims(variables.claims)?,
            Variable::Labels => attributes::labels(variables.labels, variables.tool)?,
            Variable::Meta => return Ok(self.param("_meta")?),
            Variable::Method => Value::text(variables.method),
            Variable::Name => Value::text(variables.name.ok_or(EvaluationError::Missing)?),
            Variable::Now => {
                let now = Timestamp::from_millisecond(variables.now);
                Value::Timestamp(now.map_err(|_| EvaluationError::Overflow)?)
            }
            Variable::Principal => Value::text(variables.principal),
            Variable::Roles => return Ok(self.scope.roles()),
            Variable::Server => Value::text(variables.server),
            Variable::Source => Value::made_text(variables.source.to_canonical().to_string()),
            Variable::Tenant => Value::text(variables.tenant),
            Variable::Tool => Value::text(variables.tool),
        })
    }

    fn require(&mut self, variable: Variable) -> Result<(), Stop> {
        if self.scope.known.has(variable) {
            return Ok(());
        }
        self.guessed = true;
        Err(UNKNOWN)
    }

    /// None: the operand has no such field. Of claims and hints only the one that is asked for is made a value.
    fn field(&mut self, operand: &'e Node, name: &str) -> Result<Option<Value<'e>>, Stop> {
        match operand {
            Node::Variable(variable @ Variable::Jwt) => {
                self.require(*variable)?;
                Ok(self.scope.variables.claims.0.get(name).map(attributes::claim).transpose()?)
            }
            Node::Variable(variable @ Variable::Annotations) => {
                self.require(*variable)?;
                Ok(attributes::hint(self.scope.variables.annotations(), name).map(Value::Bool))
            }
            _ => Ok(self.evaluate(operand)?.field(name)?.cloned()),
        }
    }

    /// A field of the message's `params`; where it is absent an empty map, so that `has` can be asked.
    fn param(&mut self, name: &str) -> Result<Value<'e>, EvaluationError> {
        let body = self.scope.body()?;
        let params = body.field("params")?;
        let value = params.map(|params| params.field(name)).transpose()?.flatten();
        Ok(value.cloned().unwrap_or_else(|| Value::Map(Rc::default())))
    }

    /// `&&` and `||`: one operand that decides is enough, on either side of one that fails.
    fn decide(&mut self, operands: &'e [Node; 2], deciding: bool) -> Evaluated<'e> {
        let mut joined = Joined::new(deciding);
        for operand in operands {
            joined.take(self.possible(operand))?;
            if joined.is_decided() {
                break;
            }
        }
        joined.outcome()
    }

    fn conditional(&mut self, [condition, yes, no]: &'e [Node; 3]) -> Evaluated<'e> {
        let condition = self.possible(condition)?;
        match condition {
            Possible::TRUE => return self.follow(yes),
            Possible::FALSE => return self.follow(no),
            _ => {}
        }
        let mut found = condition.may_be(Possible::ERROR).then_some(Possible::ERROR);
        let mut failed = None;
        for (branch, way) in [(yes, Possible::TRUE), (no, Possible::FALSE)] {
            if !condition.may_be(way) {
                continue;
            }
            let possible = match self.follow(branch) {
                Ok(Value::Bool(value)) => Possible::of(value),
                // What becomes of one of two values is not followed.
                Ok(_) => return Err(UNKNOWN),
                Err(Stop::Unknown(possible)) => possible,
                Err(Stop::Failed(EvaluationError::Steps)) => return Err(EvaluationError::Steps.into()),
                Err(Stop::Failed(error)) => {
                    failed = failed.or(Some(error));
                    Possible::ERROR
                }
            };
            found = Some(found.map_or(possible, |found| found.or(possible)));
        }
        settled(found.unwrap_or(Possible::ERROR), failed)
    }

    fn call(&mut self, function: Function, operands: &'e [Node]) -> Evaluated<'e> {
        match operands {
            [operand] if function == Function::Not => match self.follow(operand) {
                Err(Stop::Unknown(possible)) => Err(Stop::Unknown(possible.negated())),
                operand => Ok(function::unary(function, operand?, &mut self.steps)?),
            },
            [operand] => {
                let operand = self.evaluate(operand)?;
                Ok(function::unary(function, operand, &mut self.steps)?)
            }
            [left, right] => {
                let left = self.unless_failed(left)?;
                let right = self.evaluate(right)?;
                let left = left.ok_or(UNKNOWN)?;
                Ok(function::binary(function, &left, &right, &mut self.steps, self.scope.patterns)?)
            }
            _ => Err(EvaluationError::Type.into()),
        }
    }

    /// None: unknown. Then what stands beside it may still fail, whatever this is.
    fn unless_failed(&mut self, node: &'e Node) -> Result<Option<Value<'e>>, EvaluationError> {
        match self.follow(node) {
            Ok(value) => Ok(Some(value)),
            Err(Stop::Unknown(_)) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn list(&mut self, elements: &'e [Node]) -> Evaluated<'e> {
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            values.extend(self.unless_failed(element)?);
        }
        if values.len() == elements.len() { Ok(Value::List(values.into())) } else { Err(UNKNOWN) }
    }

    fn map(&mut self, entries: &'e [(Node, Node)]) -> Evaluated<'e> {
        let mut values: Vec<(Text<'e>, Value<'e>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            values.push((self.evaluate(key)?.into_text()?, self.evaluate(value)?));
        }
        Ok(map(values)?)
    }

    fn run_loop(&mut self, node: &'e Loop) -> Evaluated<'e> {
        match self.evaluate(&node.range)? {
            Value::List(elements) => self.over(node, elements.iter().cloned()),
            Value::Map(entries) => self.over(node, entries.iter().map(|(key, _)| Value::Text(key.clone()))),
            _ => Err(EvaluationError::Type.into()),
        }
    }

    fn over(&mut self, node: &'e Loop, elements: impl Iterator<Item = Value<'e>>) -> Evaluated<'e> {
        match node.kind {
            LoopKind::All => self.quantify(node, elements, false),
            LoopKind::Exists => self.quantify(node, elements, true),
            LoopKind::ExistsOne | LoopKind::Filter | LoopKind::Map => self.gather(node, elements),
        }
    }

    /// `all` and `exists`: `&&` and `||` over the elements.
    fn quantify(
        &mut self,
        node: &'e Loop,
        elements: impl Iterator<Item = Value<'e>>,
        deciding: bool,
    ) -> Evaluated<'e> {
        let mut joined = Joined::new(deciding);
        for element in elements {
            self.steps.charge(1)?;
            self.locals.push(element);
            let holds = self.possible(&node.body);
            self.locals.pop();
            joined.take(holds)?;
            if joined.is_decided() {
                break;
            }
        }
        joined.outcome()
    }

    fn gather(&mut self, node: &'e Loop, elements: impl Iterator<Item = Value<'e>>) -> Evaluated<'e> {
        let mut made = Vec::new();
        let mut holds = 0_usize;
        let mut is_known = true;
        for element in elements {
            self.steps.charge(1)?;
            self.locals.push(element);
            let outcome = self.turn(node);
            let element = self.locals.pop();
            match (node.kind, outcome) {
                (_, Err(Stop::Failed(error))) => return Err(error.into()),
                (_, Err(Stop::Unknown(_))) => is_known = false,
                (LoopKind::Filter, Ok(Turn::Holds)) => made.extend(element),
                (_, Ok(Turn::Holds)) => holds += 1,
                (_, Ok(Turn::Yields(value))) => made.push(value),
                (_, Ok(Turn::Fails)) => {}
            }
        }
        match node.kind {
            _ if !is_known => Err(UNKNOWN),
            LoopKind::ExistsOne => Ok(Value::Bool(holds == 1)),
            _ => Ok(Value::List(made.into())),
        }
    }

    /// The body for the element on top of the locals.
    fn turn(&mut self, node: &'e Loop) -> Result<Turn<'e>, Stop> {
        if let Some(filter) = &node.filter
            && !self.truth(filter)?
        {
            return Ok(Turn::Fails);
        }
        if node.kind == LoopKind::Map {
            return self.evaluate(&node.body).map(Turn::Yields);
        }
        Ok(if self.truth(&node.body)? { Turn::Holds } else { Turn::Fails })
    }

    fn truth(&mut self, node: &'e Node) -> Result<bool, Stop> {
        match self.evaluate(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvaluationError::Type.into()),
        }
    }
}

/// What the body of a loop makes of one element.
enum Turn<'e> {
    Holds,
    Fails,
    Yields(Value<'e>),
}

/// Operands of which one that decides is enough, one after the other.
struct Joined {
    deciding: bool,
    possible: Possible,
    failed: Option<EvaluationError>,
}

impl Joined {
    const fn new(deciding: bool) -> Self {
        Self { deciding, possible: Possible::of(!deciding), failed: None }
    }

    fn take(&mut self, operand: Result<Possible, EvaluationError>) -> Result<(), EvaluationError> {
        let operand = match operand {
            Ok(possible) => possible,
            Err(EvaluationError::Steps) => return Err(EvaluationError::Steps),
            Err(error) => {
                self.failed = self.failed.or(Some(error));
                Possible::ERROR
            }
        };
        self.possible = self.possible.joined(operand, self.deciding);
        Ok(())
    }

    fn is_decided(&self) -> bool {
        self.possible == Possible::of(self.deciding)
    }

    fn outcome<'e>(self) -> Evaluated<'e> {
        settled(self.possible, self.failed)
    }
}

/// A set with one member is no set any more. `failed` is what made it an error.
fn settled<'e>(possible: Possible, failed: Option<EvaluationError>) -> Evaluated<'e> {
    match possible {
        Possible::TRUE => Ok(Value::Bool(true)),
        Possible::FALSE => Ok(Value::Bool(false)),
        Possible::ERROR => Err(failed.unwrap_or(EvaluationError::Missing).into()),
        possible => Err(Stop::Unknown(possible)),
    }
}
