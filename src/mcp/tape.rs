//! The tape: the facts of a message from simd-json's parse of the scratch copy.
//!
//! Not here: a verdict. What simd-json refuses, and what a tape cannot tell, is asked of the skipper.

use crate::config::limits;
use crate::mcp::facts::Facts;
use crate::mcp::facts::Key;
use crate::mcp::facts::Level;
use crate::mcp::facts::Spelling;
use crate::mcp::facts::Value;
use crate::mcp::facts::spelling;
use simd_json::Node;
use simd_json::StaticNode;

/// Notes the facts of the message on the tape in `facts`, which is empty; None where the tape cannot tell them: no object, an id that is
/// a float (perhaps an integer above 64 bits), or one that may be too long as it was written.
pub(crate) fn read<'a>(tape: &[Node<'a>], facts: &mut Facts<'a>) -> Option<()> {
    object(tape, 0, Level::Envelope, facts)?;
    let id = facts.value(Key::Id);
    if id == Value::Fraction {
        return None;
    }
    if let Value::String(text) = id {
        // No escape is longer than six bytes, so that the raw id is within the limit too.
        if text.len() * 6 + 2 > limits::ID_BYTES_MAX {
            return None;
        }
    }
    Some(())
}

/// An object of a level at `at`: the index behind it.
fn object<'a>(tape: &[Node<'a>], at: usize, level: Level, facts: &mut Facts<'a>) -> Option<usize> {
    let Node::Object { len, .. } = *tape.get(at)? else { return None };
    let mut at = at + 1;
    for _ in 0..len {
        let Node::String(key) = *tape.get(at)? else { return None };
        at += 1;
        let node = *tape.get(at)?;
        let Spelling::Exact(key) = note(level, key, facts) else {
            at = behind(node, at);
            continue;
        };
        facts.set(key, value(node));
        at = match (level.below(key), node) {
            (Some(below), Node::Object { .. }) => object(tape, at, below, facts)?,
            _ => behind(node, at),
        };
    }
    Some(at)
}

fn note(level: Level, key: &str, facts: &mut Facts<'_>) -> Spelling {
    let spelled = spelling(level, key);
    if let Spelling::Variant(key) = spelled {
        facts.mark_ambiguous(key);
    }
    spelled
}

const fn behind(node: Node<'_>, at: usize) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => at + 1 + count,
        Node::String(_) | Node::Static(_) => at + 1,
    }
}

const fn value(node: Node<'_>) -> Value<'_> {
    match node {
        Node::String(text) => Value::String(text),
        Node::Object { .. } => Value::Object,
        Node::Array { .. } => Value::Array,
        Node::Static(StaticNode::Null) => Value::Null,
        Node::Static(StaticNode::Bool(_)) => Value::Bool,
        Node::Static(StaticNode::F64(_)) => Value::Fraction,
        Node::Static(_) => Value::Integer,
    }
}
