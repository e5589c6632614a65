//! The walk over a parsed expression: resolves names, checks types, and builds the [`Node`]s.
//!
//! Not here: which types go together (`signature`), and calls by name (`call`).
//!
//! The parser gives one place for each part of an expression: an operator's is the operator, a selection's its
//! dot, a call's its parenthesis. [`Checker::start`] and [`Checker::name_of_call`] find the better ones.

mod call;

use crate::config::expression::Constant;
use crate::config::expression::Flaw;
use crate::config::expression::Function;
use crate::config::expression::Node;
use crate::config::expression::Variable;
use crate::config::expression::signature;
use crate::config::expression::signature::Type;
use crate::config::expression::signature::operator;
use crate::config::expression::too_deep;
use crate::config::limits;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use cel::IdedExpr;
use cel::common::ast::CallExpr;
use cel::common::ast::EntryExpr;
use cel::common::ast::Expr;
use cel::common::ast::IdedEntryExpr;
use cel::common::ast::LiteralValue;
use cel::common::ast::SelectExpr;
use cel::common::ast::SourceInfo;
use cel::common::ast::operators;

type Checked = Result<(Node, Type), Flaw>;

pub(super) struct Checker<'t> {
    text: &'t str,
    info: &'t SourceInfo,
    /// The variables of the loops around, the innermost last.
    locals: Vec<(&'t str, Type)>,
    /// Loops around that go over something other than a list that is written out.
    open_loops: usize,
    depth: usize,
    used: u32,
}

impl<'t> Checker<'t> {
    pub(super) fn new(text: &'t str, info: &'t SourceInfo) -> Self {
        Self { text, info, locals: Vec::new(), open_loops: 0, depth: 0, used: 0 }
    }

    /// One bit for each variable that was met.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn expression(&mut self, tree: &'t IdedExpr) -> Checked {
        if self.depth == limits::EXPRESSION_DEPTH_MAX {
            return Err(too_deep(self.text, self.place(tree)));
        }
        self.depth += 1;
        let checked = match &tree.expr {
            Expr::Ident(name) => self.name(tree, name),
            Expr::Literal(literal) => self.literal(tree, literal),
            Expr::Select(select) => self.select(tree, select),
            Expr::Call(call) => self.call(tree, call),
            Expr::List(list) => self.list(&list.elements),
            Expr::Map(map) => self.map(&map.entries),
            Expr::Struct(_) => Err(self.flaw(self.place(tree), "messages have no use here", "")),
            Expr::Comprehension(_) | Expr::Unspecified => {
                Err(self.flaw(self.place(tree), "this is no expression", ""))
            }
        };
        self.depth -= 1;
        checked
    }

    // --- Places -----------------------------------------------------------------------------------

    fn flaw(&self, at: usize, what: impl Into<String>, cure: impl Into<String>) -> Flaw {
        Flaw::new(self.text, at, what, cure)
    }

    /// Where the parser says that it is.
    fn place(&self, tree: &IdedExpr) -> usize {
        self.info.offset_for(tree.id).map_or(0, |(start, _)| start as usize)
    }

    /// What stands there: an operator.
    fn token(&self, tree: &IdedExpr) -> &str {
        let range = self.info.offset_for(tree.id);
        range.and_then(|(start, stop)| self.text.get(start as usize..=stop as usize)).unwrap_or("")
    }

    /// Its first character, but for parentheses around it.
    pub(super) fn start(&self, tree: &IdedExpr) -> usize {
        match &tree.expr {
            Expr::Select(select) => self.start(&select.operand),
            Expr::Call(call) => match (&call.target, call.args.first()) {
                (Some(target), _) => self.start(target),
                (None, Some(first)) if call.func_name.starts_with('_') || call.func_name == operators::IN => {
                    self.start(first)
                }
                _ => self.name_of_call(tree, call),
            },
            _ => self.place(tree),
        }
    }

    /// The name before the parenthesis; the operator where it is one.
    fn name_of_call(&self, tree: &IdedExpr, call: &CallExpr) -> usize {
        let place = self.place(tree);
        let before = self.text.get(..place).unwrap_or("").trim_end();
        if before.ends_with(call.func_name.as_str()) { before.len() - call.func_name.len() } else { place }
    }

    // --- Names and literals -----------------------------------------------------------------------

    fn name(&mut self, tree: &IdedExpr, name: &str) -> Checked {
        if let Some(slot) = self.locals.iter().rposition(|(local, _)| *local == name) {
            // `slot` is a place in `locals`.
            return Ok((Node::Local(slot), self.locals[slot].1));
        }
        if let Some((_, variable, kind)) = signature::VARIABLES.iter().find(|(known, ..)| *known == name) {
            return Ok((self.variable(*variable), *kind));
        }
        let at = self.place(tree);
        if name == "mcp" {
            return Err(self.flaw(at, "of `mcp` only the tool's name is known", "Write `mcp.tool.name`."));
        }
        let locals = self.locals.iter().map(|(local, _)| *local);
        let known = signature::VARIABLES.iter().map(|(known, ..)| *known).chain(locals);
        let listed = || {
            let names: Vec<&str> = signature::VARIABLES.iter().map(|(known, ..)| *known).collect();
            format!("Known are {}.", names.join(", "))
        };
        let cure = nearest(name, known).map_or_else(listed, |near| format!("Did you mean `{near}`?"));
        Err(self.flaw(at, format!("{} is not a variable", quoted(name)), cure))
    }

    fn variable(&mut self, variable: Variable) -> Node {
        self.used |= variable.bit();
        Node::Variable(variable)
    }

    fn literal(&self, tree: &IdedExpr, literal: &LiteralValue) -> Checked {
        let (constant, kind) = match literal {
            LiteralValue::Boolean(value) => (Constant::Bool(*value.inner()), Type::Bool),
            LiteralValue::Double(value) => (Constant::Double(*value.inner()), Type::Double),
            LiteralValue::Int(value) => (Constant::Int(*value.inner()), Type::Int),
            LiteralValue::Null => (Constant::Null, Type::Null),
            LiteralValue::String(value) => (Constant::Text(value.inner().into()), Type::Text),
            LiteralValue::UInt(value) => (Constant::Uint(*value.inner()), Type::Uint),
            LiteralValue::Bytes(_) => {
                let cure = "Nothing that a call offers is bytes: write a string.";
                return Err(self.flaw(self.place(tree), "bytes have no use here", cure));
            }
        };
        Ok((Node::Constant(constant), kind))
    }

    fn select(&mut self, tree: &'t IdedExpr, select: &'t SelectExpr) -> Checked {
        let path = path(&tree.expr).unwrap_or_default();
        if let Some((_, variable)) = signature::PATHS.iter().find(|(known, _)| *known == path) {
            return Ok((self.variable(*variable), Type::Text));
        }
        self.hint(tree, select)?;
        let operand = self.map_with_fields(&select.operand)?;
        let kind = if path == "jwt.sub" { Type::Text } else { Type::Dyn };
        Ok((Node::Field(operand, select.field.as_str().into()), kind))
    }

    /// Which hints there are is known: another one would be false for every tool.
    fn hint(&self, tree: &IdedExpr, select: &SelectExpr) -> Result<(), Flaw> {
        let is_local = |(local, _): &(&str, Type)| *local == "annotations";
        if path(&select.operand.expr).as_deref() != Some("annotations")
            || self.locals.iter().any(is_local)
            || signature::HINTS.contains(&select.field.as_str())
        {
            return Ok(());
        }
        let cure = match nearest(&select.field, signature::HINTS) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("Known are {}.", signature::HINTS.join(", ")),
        };
        // Behind the dot.
        let at = self.place(tree) + 1;
        Err(self.flaw(at, format!("{} is no hint of a tool", quoted(&select.field)), cure))
    }

    fn map_with_fields(&mut self, tree: &'t IdedExpr) -> Result<Box<Node>, Flaw> {
        let (node, kind) = self.expression(tree)?;
        if !kind.is_one_of(&[Type::Map]) {
            return Err(self.flaw(self.start(tree), format!("{kind} has no fields"), ""));
        }
        Ok(Box::new(node))
    }

    fn list(&mut self, elements: &'t [IdedExpr]) -> Checked {
        let mut nodes = Vec::with_capacity(elements.len());
        let mut texts_only = !elements.is_empty();
        for element in elements {
            let (node, kind) = self.expression(element)?;
            texts_only &= kind == Type::Text;
            nodes.push(node);
        }
        Ok((Node::List(nodes.into()), if texts_only { Type::Texts } else { Type::List }))
    }

    fn map(&mut self, entries: &'t [IdedEntryExpr]) -> Checked {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            // The grammar has no other entries in a map.
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.operand(&entry.key, signature::TEXT, "a key of a map")?;
            nodes.push((key, self.expression(&entry.value)?.0));
        }
        Ok((Node::Map(nodes.into()), Type::Map))
    }

    // --- Calls ------------------------------------------------------------------------------------

    fn call(&mut self, tree: &'t IdedExpr, call: &'t CallExpr) -> Checked {
        let pair = |left, right| Box::new([left, right]);
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (operators::LOGICAL_AND, None, [left, right]) => {
                Ok((Node::And(pair(self.truth(left)?, self.truth(right)?)), Type::Bool))
            }
            (operators::LOGICAL_OR, None, [left, right]) => {
                Ok((Node::Or(pair(self.truth(left)?, self.truth(right)?)), Type::Bool))
            }
            (operators::LOGICAL_NOT, None, [operand]) => {
                Ok((Node::Call(Function::Not, [self.truth(operand)?].into()), Type::Bool))
            }
            (operators::NEGATE, None, [operand]) => {
                let (node, kind) = self.expression(operand)?;
                if !kind.is_one_of(signature::NEGATED) {
                    return Err(self.flaw(self.place(tree), format!("{kind} cannot be negated"), ""));
                }
                Ok((Node::Call(Function::Negate, [node].into()), kind))
            }
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                self.conditional(tree, [condition, yes, no])
            }
            ("has", None, [argument]) => self.has(argument),
            (name, None, [left, right]) if let Some(function) = binary(name) => {
                self.binary(tree, function, [left, right])
            }
            _ => self.named(tree, call),
        }
    }

    fn truth(&mut self, tree: &'t IdedExpr) -> Result<Node, Flaw> {
        self.operand(tree, &[Type::Bool], "this operand")
    }

    /// An expression that must be of one of `types`; `role` says in a message what it is.
    fn operand(&mut self, tree: &'t IdedExpr, types: &[Type], role: &str) -> Result<Node, Flaw> {
        let (node, kind) = self.expression(tree)?;
        if kind.is_one_of(types) {
            return Ok(node);
        }
        let wanted: Vec<String> = types.iter().map(Type::to_string).collect();
        let what = format!("this is {kind}, and {role} must be {}", wanted.join(" or "));
        Err(self.flaw(self.start(tree), what, ""))
    }

    fn conditional(&mut self, tree: &'t IdedExpr, [condition, yes, no]: [&'t IdedExpr; 3]) -> Checked {
        let condition = self.truth(condition)?;
        let (yes, left) = self.expression(yes)?;
        let (no, right) = self.expression(no)?;
        if !left.is_comparable_with(right) {
            let what = format!("one result is {left} and the other {right}");
            return Err(self.flaw(self.place(tree), what, "Give both the same type."));
        }
        let kind = if left == right { left } else { Type::Dyn };
        Ok((Node::Conditional(Box::new([condition, yes, no])), kind))
    }

    fn has(&mut self, argument: &'t IdedExpr) -> Checked {
        let Expr::Select(select) = &argument.expr else {
            let cure = "Write `has(args.name)`.";
            return Err(self.flaw(self.start(argument), "`has` asks for a field", cure));
        };
        self.hint(argument, select)?;
        let operand = self.map_with_fields(&select.operand)?;
        Ok((Node::HasField(operand, select.field.as_str().into()), Type::Bool))
    }

    fn binary(
        &mut self,
        tree: &'t IdedExpr,
        function: Function,
        [left, right]: [&'t IdedExpr; 2],
    ) -> Checked {
        let (left, left_kind) = self.expression(left)?;
        let (right, right_kind) = self.expression(right)?;
        if let Some(result) = operator(function, left_kind, right_kind) {
            return Ok((Node::Call(function, [left, right].into()), result));
        }
        let both = format!("{left_kind} and {right_kind}");
        let (what, cure) = match function {
            Function::Equal | Function::NotEqual => {
                (format!("{both} are never equal"), "Compare values of the same type.")
            }
            Function::In if right_kind == Type::Text => (
                format!("{left_kind} cannot be in a string"),
                "For a part of a string write `x.contains(…)`.",
            ),
            Function::In => (format!("{left_kind} cannot be in {right_kind}"), ""),
            Function::Index => (format!("{left_kind} has no elements that {right_kind} names"), ""),
            _ => {
                let cure = "Convert one of them, for example with `int(…)`, `double(…)` or `string(…)`.";
                let cure = if left_kind == right_kind { "" } else { cure };
                (format!("`{}` does not take {both}", self.token(tree)), cure)
            }
        };
        Err(self.flaw(self.place(tree), what, cure))
    }
}

/// `a.b.c` where an expression is only that.
fn path(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", path(&select.operand.expr)?, select.field)),
        _ => None,
    }
}

fn binary(operator: &str) -> Option<Function> {
    Some(match operator {
        operators::ADD => Function::Add,
        operators::DIVIDE => Function::Divide,
        operators::EQUALS => Function::Equal,
        operators::GREATER => Function::Greater,
        operators::GREATER_EQUALS => Function::GreaterOrEqual,
        operators::IN => Function::In,
        operators::INDEX => Function::Index,
        operators::LESS => Function::Less,
        operators::LESS_EQUALS => Function::LessOrEqual,
        operators::MODULO => Function::Remainder,
        operators::MULTIPLY => Function::Multiply,
        operators::NOT_EQUALS => Function::NotEqual,
        operators::SUBSTRACT => Function::Subtract,
        _ => return None,
    })
}
