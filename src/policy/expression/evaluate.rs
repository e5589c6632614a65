//! The walk over a checked expression.
//!
//! Not here: functions and operators whose operands are all evaluated first (`function`).

use crate::config::expression::Function;
use crate::config::expression::Loop;
use crate::config::expression::LoopKind;
use crate::config::expression::Node;
use crate::config::expression::Variable;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Scope;
use crate::policy::expression::Steps;
use crate::policy::expression::function;
use crate::policy::expression::value::Text;
use crate::policy::expression::value::Value;
use crate::policy::expression::value::map;
use jiff::Timestamp;
use std::rc::Rc;

type Evaluated<'e> = Result<Value<'e>, EvaluationError>;

/// One evaluation of one expression, whose depth is bounded at load.
pub(super) struct Evaluation<'s, 'v, 'e> {
    scope: &'s mut Scope<'v>,
    /// The elements at which the loops around are.
    locals: Vec<Value<'e>>,
    pub(super) steps: Steps,
}

impl<'s, 'v: 'e, 'e> Evaluation<'s, 'v, 'e> {
    pub(super) fn new(scope: &'s mut Scope<'v>) -> Self {
        Self { scope, locals: Vec::new(), steps: Steps::new() }
    }

    pub(super) fn evaluate(&mut self, node: &'e Node) -> Evaluated<'e> {
        if !matches!(node, Node::Constant(_) | Node::Variable(_) | Node::Local(_)) {
            self.steps.charge(1)?;
        }
        match node {
            Node::Constant(constant) => Ok(constant.into()),
            Node::Variable(variable) => self.variable(*variable),
            Node::Local(slot) => self.locals.get(*slot).cloned().ok_or(EvaluationError::Missing),
            Node::Field(operand, name) => {
                let operand = self.evaluate(operand)?;
                operand.field(name)?.cloned().ok_or(EvaluationError::Missing)
            }
            Node::HasField(operand, name) => Ok(Value::Bool(self.evaluate(operand)?.field(name)?.is_some())),
            Node::Call(function, operands) => self.call(*function, operands),
            Node::And(operands) => self.decide(operands, false),
            Node::Or(operands) => self.decide(operands, true),
            Node::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                if self.truth(condition)? { self.evaluate(yes) } else { self.evaluate(no) }
            }
            Node::List(elements) => {
                let values: Result<Vec<_>, _> =
                    elements.iter().map(|element| self.evaluate(element)).collect();
                Ok(Value::List(values?.into()))
            }
            Node::Map(entries) => self.map(entries),
            Node::Matches(operand, regex) => {
                let text = self.evaluate(operand)?.into_text()?;
                self.steps.charge_text(text.len())?;
                Ok(Value::Bool(regex.is_match(&text)))
            }
            Node::Part(operand, part, zone) => function::part(&self.evaluate(operand)?, *part, zone),
            Node::Loop(node) => self.run_loop(node),
        }
    }

    fn variable(&mut self, variable: Variable) -> Evaluated<'e> {
        let variables = &self.scope.variables;
        Ok(match variable {
            Variable::Annotations | Variable::Jwt | Variable::Labels => Value::Map(Rc::default()),
            Variable::Args => return self.param("arguments"),
            Variable::Body => return self.scope.body(),
            Variable::Meta => return self.param("_meta"),
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

    /// A field of the message's `params`; where it is absent an empty map, so that `has` can be asked.
    fn param(&mut self, name: &str) -> Evaluated<'e> {
        let body = self.scope.body()?;
        let params = body.field("params")?;
        let value = params.map(|params| params.field(name)).transpose()?.flatten();
        Ok(value.cloned().unwrap_or_else(|| Value::Map(Rc::default())))
    }

    fn truth(&mut self, node: &'e Node) -> Result<bool, EvaluationError> {
        match self.evaluate(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvaluationError::Type),
        }
    }

    /// `&&` and `||`: one operand that decides is enough, on either side of one that fails.
    fn decide(&mut self, operands: &'e [Node; 2], deciding: bool) -> Evaluated<'e> {
        let mut failed = None;
        for operand in operands {
            match self.truth(operand) {
                Ok(value) if value == deciding => return Ok(Value::Bool(deciding)),
                Ok(_) => {}
                Err(EvaluationError::Steps) => return Err(EvaluationError::Steps),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn call(&mut self, function: Function, operands: &'e [Node]) -> Evaluated<'e> {
        match operands {
            [operand] => {
                let operand = self.evaluate(operand)?;
                function::unary(function, operand, &mut self.steps)
            }
            [left, right] => {
                let left = self.evaluate(left)?;
                let right = self.evaluate(right)?;
                function::binary(function, &left, &right, &mut self.steps, self.scope.patterns)
            }
            _ => Err(EvaluationError::Type),
        }
    }

    fn map(&mut self, entries: &'e [(Node, Node)]) -> Evaluated<'e> {
        let mut values: Vec<(Text<'e>, Value<'e>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            values.push((self.evaluate(key)?.into_text()?, self.evaluate(value)?));
        }
        map(values)
    }

    fn run_loop(&mut self, node: &'e Loop) -> Evaluated<'e> {
        match self.evaluate(&node.range)? {
            Value::List(elements) => self.over(node, elements.iter().cloned()),
            Value::Map(entries) => self.over(node, entries.iter().map(|(key, _)| Value::Text(key.clone()))),
            _ => Err(EvaluationError::Type),
        }
    }

    fn over(&mut self, node: &'e Loop, elements: impl Iterator<Item = Value<'e>>) -> Evaluated<'e> {
        let mut made = Vec::new();
        let mut holds = 0_usize;
        let mut failed = None;
        for element in elements {
            self.steps.charge(1)?;
            self.locals.push(element);
            let outcome = self.turn(node);
            let element = self.locals.pop();
            match (node.kind, outcome) {
                (LoopKind::All, Ok(Turn::Fails)) => return Ok(Value::Bool(false)),
                (LoopKind::Exists, Ok(Turn::Holds)) => return Ok(Value::Bool(true)),
                (LoopKind::All | LoopKind::Exists, Err(error)) if error != EvaluationError::Steps => {
                    failed = failed.or(Some(error));
                }
                (_, Err(error)) => return Err(error),
                (LoopKind::Filter, Ok(Turn::Holds)) => made.extend(element),
                (_, Ok(Turn::Holds)) => holds += 1,
                (_, Ok(Turn::Yields(value))) => made.push(value),
                (_, Ok(Turn::Fails)) => {}
            }
        }
        match (node.kind, failed) {
            (_, Some(error)) => Err(error),
            (LoopKind::All, None) => Ok(Value::Bool(true)),
            (LoopKind::Exists, None) => Ok(Value::Bool(false)),
            (LoopKind::ExistsOne, None) => Ok(Value::Bool(holds == 1)),
            (LoopKind::Filter | LoopKind::Map, None) => Ok(Value::List(made.into())),
        }
    }

    /// The body for the element on top of the locals.
    fn turn(&mut self, node: &'e Loop) -> Result<Turn<'e>, EvaluationError> {
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
}

/// What the body of a loop makes of one element.
enum Turn<'e> {
    Holds,
    Fails,
    Yields(Value<'e>),
}
