//! YAML text to a tree in which every key and value knows its place.
//!
//! Not here: types. A scalar stays the text that the operator wrote, so that `012`, `no` and `1.10`
//! arrive as written; `reader` decides what a value means.
//!
//! serde is not used for this: it stops at the first mistake and knows no places.

use crate::config::limits;
use crate::config::problem::Place;
use granit_parser::ErrorKind;
use granit_parser::Event;
use granit_parser::Marker;
use granit_parser::Parser;
use granit_parser::ScalarStyle;
use granit_parser::ScanError;
use granit_parser::Span;
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
    /// Values in it, itself included, aliases counted in full.
    weight: usize,
    /// Levels in it, itself included.
    depth: usize,
}

#[derive(Debug)]
pub enum Value {
    /// `plain`: written without quotes, so that `null`, `true` and numbers may be meant.
    Scalar {
        text: String,
        plain: bool,
        /// Where its first letter stands, if the file has its lines as they are, one below the other: not where
        /// YAML folds them or knows escapes.
        first: Option<Place>,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Rc<Node>,
}

impl Node {
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true, .. } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// Where a letter of a text stands in the file, by its line and column in the text, both from 1.
    pub fn inside(&self, line: usize, column: usize) -> Option<Place> {
        let Value::Scalar { first: Some(first), .. } = &self.value else { return None };
        Some(Place {
            line: first.line + line.saturating_sub(1),
            column: first.column + column.saturating_sub(1),
        })
    }
}

/// Where and why the text is no tree.
#[derive(Debug)]
pub struct Broken {
    pub place: Place,
    pub what: String,
    pub cure: &'static str,
}

/// # Errors
/// The first thing that is no YAML, or that we refuse: tags, keys that are not text, more than one
/// document, too many values (an alias bomb), too deep nesting. Duplicate keys are kept: the reader
/// reports every one of them.
pub fn parse(text: &str) -> Result<Rc<Node>, Broken> {
    let mut builder = Builder::default();
    let options = granit_parser::options! {
        flow_nesting_limit: limits::CONFIG_DEPTH_MAX,
        block_nesting_limit: limits::CONFIG_DEPTH_MAX,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for step in Parser::new_from_str_with_options(text, options) {
        let (event, span) = step.map_err(|error| syntax(&error, text))?;
        builder.take(event, &span, text)?;
    }
    builder.root.ok_or_else(|| Broken {
        place: Place { line: 1, column: 1 },
        what: "the file is empty".into(),
        cure: "The least it needs is `mcpServers`.",
    })
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// See [`Value::Scalar`]. The span of a block (`|`) starts at its first letter that is no line break.
fn first_letter(text: &str, style: ScalarStyle, span: &Span, source: &str) -> Option<Place> {
    let Place { line, column } = place(span.start);
    if style == ScalarStyle::Literal {
        let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
        return line.checked_sub(empty).map(|line| Place { line, column });
    }
    let quote = usize::from(style != ScalarStyle::Plain);
    let written = span.slice(source)?;
    let same = written.get(quote..written.len().checked_sub(quote)?)? == text;
    same.then_some(Place { line, column: column + quote })
}

fn syntax(error: &ScanError, text: &str) -> Broken {
    let marker = error.marker();
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_deep(place(*marker));
    }
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or("");
    let cure = if line.contains("${") && line.contains(['{', '[']) {
        "Inside `{…}` and `[…]` a value with `${…}` must be quoted."
    } else if line.contains('\t') {
        "YAML is indented by spaces, not by tabs."
    } else if line.trim_start().starts_with("//") || line.trim_start().starts_with("/*") {
        "Comments start with `#`."
    } else {
        "Look here and a little before: a bracket, a quote, a `:` or the indentation."
    };
    let what = error.info();
    Broken { place: place(*marker), what: format!("this is not YAML: {}", what.trim_end_matches('.')), cure }
}

/// A collection that is still open.
struct Open {
    place: Place,
    anchor: usize,
    kind: OpenKind,
    weight: usize,
    depth: usize,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(String, Place)> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    total: usize,
    documents: usize,
    root: Option<Rc<Node>>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span, source: &str) -> Result<(), Broken> {
        let place = place(span.start);
        if let Some(tag) = span.tag_start() {
            let cure = "Remove the word that starts with `!`.";
            return Err(broken(self::place(tag), "tags are not used here", cure));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(broken(place, "a second document starts here", "A config is one document."));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let first = first_letter(&text, style, span, source);
                let value = Value::Scalar { text: text.into_owned(), plain, first };
                self.count(place, 1)?;
                self.finish(Node { place, value, weight: 1, depth: 1 }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(place, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenKind::Map { entries: Vec::new(), key: None };
                self.start(place, anchor, kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(broken(place, "an alias inside what it stands for", "Write the value out."));
                };
                let copy = Node {
                    place: node.place,
                    value: match &node.value {
                        Value::Scalar { text, plain, first } => {
                            Value::Scalar { text: text.clone(), plain: *plain, first: *first }
                        }
                        Value::List(items) => Value::List(items.clone()),
                        Value::Map(entries) => Value::Map(entries.iter().map(Entry::share).collect()),
                    },
                    weight: node.weight,
                    depth: node.depth,
                };
                self.count(place, copy.weight)?;
                self.finish(copy, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), Broken> {
        if self.open.len() >= limits::CONFIG_DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.count(place, 1)?;
        self.open.push(Open { place, anchor, kind, weight: 1, depth: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        // The parser balances its events.
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { entries, .. } => Value::Map(entries),
        };
        let node = Node { place: open.place, value, weight: open.weight, depth: open.depth };
        self.finish(node, open.anchor)
    }

    /// `came`: values that are new here; those inside a collection are counted when they come.
    fn count(&mut self, place: Place, came: usize) -> Result<(), Broken> {
        self.total = self.total.saturating_add(came);
        if self.total <= limits::CONFIG_VALUES_MAX {
            return Ok(());
        }
        let what = format!("more than {} values, aliases counted in full", limits::CONFIG_VALUES_MAX);
        Err(broken(place, &what, "Use fewer aliases, or split the gateway."))
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(node.weight);
        open.depth = open.depth.max(node.depth + 1);
        if open.depth > limits::CONFIG_DEPTH_MAX {
            return Err(too_deep(node.place));
        }
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, key } => match key.take() {
                Some((key, key_place)) => entries.push(Entry { key, key_place, value: node }),
                None => match &node.value {
                    Value::Scalar { text, .. } => *key = Some((text.clone(), node.place)),
                    _ => return Err(broken(node.place, "a key must be text", "Put it in quotes.")),
                },
            },
        }
        Ok(())
    }
}

impl Entry {
    fn share(&self) -> Self {
        Self { key: self.key.clone(), key_place: self.key_place, value: self.value.clone() }
    }
}

fn broken(place: Place, what: &str, cure: &'static str) -> Broken {
    Broken { place, what: what.into(), cure }
}

fn too_deep(place: Place) -> Broken {
    broken(place, &format!("nested more than {} levels deep", limits::CONFIG_DEPTH_MAX), "")
}
