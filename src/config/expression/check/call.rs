//! Calls by name: functions, parts of a time, loops.
//!
//! Not here: operators (`check`).

use crate::config::expression::Constant;
use crate::config::expression::Flaw;
use crate::config::expression::Function;
use crate::config::expression::Loop;
use crate::config::expression::LoopKind;
use crate::config::expression::Network;
use crate::config::expression::Node;
use crate::config::expression::Part;
use crate::config::expression::check::Checked;
use crate::config::expression::check::Checker;
use crate::config::expression::pattern;
use crate::config::expression::signature;
use crate::config::expression::signature::Signature;
use crate::config::expression::signature::Style;
use crate::config::expression::signature::Type;
use crate::config::limits;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use cel::IdedExpr;
use cel::common::ast::CallExpr;
use cel::common::ast::Expr;
use cel::common::ast::LiteralValue;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use std::net::IpAddr;

const WITHIN_CURE: &str = "Write `cidr(\"10.0.16.0/20\").containsIP(source)`.";

impl<'t> Checker<'t> {
    /// A loop, a part of a time, or a function of the table.
    pub(super) fn named(&mut self, tree: &'t IdedExpr, call: &'t CallExpr) -> Checked {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            if let Some((_, kind)) = signature::LOOPS.iter().find(|(known, _)| *known == name) {
                return self.loop_over(tree, call, target, *kind);
            }
            if let Some((_, part)) = signature::PARTS.iter().find(|(known, _)| *known == name) {
                return self.part(tree, call, target, *part);
            }
        }
        match (name, &call.target) {
            (signature::WITHIN, Some(target)) => return self.within(tree, call, target),
            (signature::NETWORK, None) => {
                let at = self.name_of_call(tree, call);
                return Err(self.flaw(at, "a network is only asked what it contains", WITHIN_CURE));
            }
            _ => {}
        }
        if name == "dyn"
            && call.target.is_none()
            && let [argument] = call.args.as_slice()
        {
            return Ok((self.expression(argument)?.0, Type::Dyn));
        }
        let style = signature::style(name);
        let called_so = match &call.target {
            Some(_) => style != Some(Style::Global),
            None => style != Some(Style::Method),
        };
        match signature::FUNCTIONS.iter().find(|row| row.name == name) {
            Some(row) if called_so => self.function(tree, call, row),
            _ => Err(self.unknown_function(tree, call, style)),
        }
    }

    fn unknown_function(&self, tree: &IdedExpr, call: &CallExpr, style: Option<Style>) -> Flaw {
        let name = call.func_name.as_str();
        let (problem, cure) = match style {
            Some(Style::Method) => ("is not called so", format!("Write `x.{name}(…)`.")),
            Some(_) => ("is not called so", format!("Write `{name}(x)`.")),
            None => {
                let near = nearest(name, signature::names());
                ("is not a function", near.map(|near| format!("Did you mean `{near}`?")).unwrap_or_default())
            }
        };
        self.flaw(self.name_of_call(tree, call), format!("{} {problem}", quoted(name)), cure)
    }

    fn function(&mut self, tree: &'t IdedExpr, call: &'t CallExpr, row: &Signature) -> Checked {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let nodes = match (operands.as_slice(), row.second) {
            ([first], []) => vec![self.operand(first, row.first, "this operand")?],
            ([first, second], [_, ..]) => {
                let first = self.operand(first, row.first, "this operand")?;
                if row.function == Function::Matches
                    && let Some(text) = literal_text(second)
                {
                    let regex = pattern(text, limits::PATTERN_COMPILED_BYTES_MAX)
                        .map_err(|what| self.flaw(self.place(second), what, "Correct the pattern."))?;
                    return Ok((Node::Matches(Box::new(first), regex), Type::Bool));
                }
                vec![first, self.operand(second, row.second, "this operand")?]
            }
            _ => return Err(self.wrong_count(tree, call)),
        };
        if let [operand] = operands.as_slice()
            && let Some(text) = literal_text(operand)
            && let Some(constant) = time_constant(row.function, text)
        {
            let constant = constant.map_err(|what| self.flaw(self.place(operand), what, ""))?;
            return Ok((Node::Constant(constant), row.result));
        }
        Ok((Node::Call(row.function, nodes.into()), row.result))
    }

    fn wrong_count(&self, tree: &IdedExpr, call: &CallExpr) -> Flaw {
        let count = call.args.len();
        let plural = if count == 1 { "" } else { "s" };
        let what = format!("`{}` does not take {count} argument{plural}", call.func_name);
        self.flaw(self.name_of_call(tree, call), what, "")
    }

    fn part(&mut self, tree: &'t IdedExpr, call: &'t CallExpr, target: &'t IdedExpr, part: Part) -> Checked {
        let of_durations = matches!(part, Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds);
        let zone = match call.args.as_slice() {
            [] => TimeZone::UTC,
            [zone] => self.zone(zone)?,
            _ => return Err(self.wrong_count(tree, call)),
        };
        let types = if of_durations && call.args.is_empty() { signature::TIME } else { &[Type::Timestamp] };
        let operand = self.operand(target, types, "this operand")?;
        Ok((Node::Part(Box::new(operand), part, zone), Type::Int))
    }

    /// Both are read at load where they are written out, as the network always is.
    fn within(&mut self, tree: &'t IdedExpr, call: &'t CallExpr, target: &'t IdedExpr) -> Checked {
        let cidr = match &target.expr {
            Expr::Call(cidr) if cidr.func_name == signature::NETWORK && cidr.target.is_none() => cidr,
            _ => return Err(self.flaw(self.start(target), "this is no network", WITHIN_CURE)),
        };
        let [written] = cidr.args.as_slice() else { return Err(self.wrong_count(target, cidr)) };
        let [address] = call.args.as_slice() else { return Err(self.wrong_count(tree, call)) };
        let at = self.start(written);
        let text = literal_text(written)
            .ok_or_else(|| self.flaw(at, "a network must be written out", WITHIN_CURE))?;
        let network = Network::parse(text).map_err(|(what, cure)| self.flaw(at, what, cure))?;
        if let Some(text) = literal_text(address).filter(|text| text.parse::<IpAddr>().is_err()) {
            let what = format!("{} is no address", quoted(text));
            return Err(self.flaw(self.start(address), what, "Write `source`, for example."));
        }
        let operand = self.operand(address, signature::TEXT, "an address")?;
        Ok((Node::Within(Box::new(operand), network), Type::Bool))
    }

    /// Looked up at load, so that no call reads a file of zones.
    fn zone(&self, tree: &IdedExpr) -> Result<TimeZone, Flaw> {
        let at = self.start(tree);
        let cure = "Write a zone such as \"Europe/Berlin\", or an offset such as \"+02:00\".";
        let text = literal_text(tree).ok_or_else(|| self.flaw(at, "a zone must be written out", cure))?;
        DateTimeParser::new()
            .parse_time_zone(text)
            .map_err(|_| self.flaw(at, format!("{} is not a time zone", quoted(text)), cure))
    }

    fn loop_over(
        &mut self,
        tree: &'t IdedExpr,
        call: &'t CallExpr,
        target: &'t IdedExpr,
        kind: LoopKind,
    ) -> Checked {
        let (variable, filter, body) = match (call.args.as_slice(), kind) {
            ([variable, body], _) => (variable, None, body),
            ([variable, filter, body], LoopKind::Map) => (variable, Some(filter), body),
            _ => return Err(self.wrong_count(tree, call)),
        };
        let name = self.loop_variable(variable)?;
        let (range, range_kind) = self.expression(target)?;
        if !range_kind.is_one_of(signature::RANGE) {
            let what = format!("{range_kind} has no elements to loop over");
            return Err(self.flaw(self.start(target), what, ""));
        }
        let is_open = !matches!(target.expr, Expr::List(_));
        if is_open && self.open_loops > 0 {
            let what = "this loop is inside of another one, and both go over what a caller may make long";
            let cure = "Let one of the two go over a list that is written out.";
            return Err(self.flaw(self.name_of_call(tree, call), what, cure));
        }
        let element = range_kind.element();
        self.open_loops += usize::from(is_open);
        self.locals.push((name, element));
        let checked = self.loop_body(kind, filter, body);
        self.locals.pop();
        self.open_loops -= usize::from(is_open);
        let (filter, body, body_kind) = checked?;
        let result = match kind {
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => Type::Bool,
            LoopKind::Filter => Type::list_of(element),
            LoopKind::Map => Type::list_of(body_kind),
        };
        Ok((Node::Loop(Box::new(Loop { kind, range, filter, body })), result))
    }

    fn loop_body(
        &mut self,
        kind: LoopKind,
        filter: Option<&'t IdedExpr>,
        body: &'t IdedExpr,
    ) -> Result<(Option<Node>, Node, Type), Flaw> {
        let filter = filter.map(|filter| self.truth(filter)).transpose()?;
        if kind == LoopKind::Map {
            let (body, body_kind) = self.expression(body)?;
            return Ok((filter, body, body_kind));
        }
        Ok((filter, self.truth(body)?, Type::Bool))
    }

    fn loop_variable(&self, tree: &'t IdedExpr) -> Result<&'t str, Flaw> {
        let Expr::Ident(name) = &tree.expr else {
            let what = "a loop's first argument is the name of its variable";
            return Err(self.flaw(self.start(tree), what, ""));
        };
        if name == "mcp" || signature::VARIABLES.iter().any(|(known, ..)| known == name) {
            let what = format!("{} is already a variable", quoted(name));
            return Err(self.flaw(self.place(tree), what, "Choose another name for the loop's variable."));
        }
        Ok(name)
    }
}

fn literal_text(tree: &IdedExpr) -> Option<&str> {
    match &tree.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A time that is written out is read once, at load.
fn time_constant(function: Function, text: &str) -> Option<Result<Constant, String>> {
    match function {
        Function::ToTimestamp => {
            let wrong = |_| format!("{} is no timestamp such as \"2026-01-31T08:00:00Z\"", quoted(text));
            Some(text.parse().map(Constant::Timestamp).map_err(wrong))
        }
        Function::ToDuration => {
            let wrong = |_| format!("{} is no duration such as \"1h30m\"", quoted(text));
            Some(text.parse().map(Constant::Duration).map_err(wrong))
        }
        _ => None,
    }
}
