//! YAML as a tree that knows where each node stands, and typed access that collects every error instead of the first.
//!
//! Rule files and configuration are both read through [`Document`]: parsed once by serde-saphyr (bounded: no alias bombs, no
//! deep nesting), then walked by hand, because a person wants all mistakes of a file at once.

mod value;

use serde_saphyr::{Location, Spanned};

use super::diagnostic::{Diagnostic, Span, nearest, one_of};

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub at: Span,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// What a person would call it.
    fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A file being read: its text and what has been found wrong with it.
#[derive(Debug)]
pub struct Document<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub diagnostics: Vec<Diagnostic>,
}

impl<'a> Document<'a> {
    /// A document with nothing found yet.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, diagnostics: Vec::new() }
    }

    /// The tree of the file; `None` with an error recorded when there is none. An empty file is an error too.
    pub fn parse(&mut self) -> Option<Node> {
        if self.text.len() > MAX_FILE_BYTES {
            self.diagnostics.push(
                Diagnostic::whole_file(
                    self.file,
                    format!("the file is {} bytes long, more than the 1 MiB that is read", self.text.len()),
                )
                .with_help("split it into several files"),
            );
            return None;
        }
        let bom = if self.text.starts_with('\u{feff}') { 3 } else { 0 };
        let body = &self.text[bom..];
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if body.lines().all(|line| blank(line) || line.trim() == "---") {
            self.diagnostics.push(Diagnostic::whole_file(self.file, "the file is empty"));
            return None;
        }
        match serde_saphyr::from_str_with_options::<Spanned<Value>>(body, options()) {
            Ok(root) => Some(shift(node(root), bom)),
            Err(error) => {
                let found = self.syntax_error(&error, body, bom);
                self.diagnostics.push(found);
                None
            }
        }
    }

    fn syntax_error(&self, error: &serde_saphyr::Error, body: &str, bom: usize) -> Diagnostic {
        let place = error.location().unwrap_or(Location::UNKNOWN);
        let at = match place.span().byte_offset() {
            Some(_) => span(place),
            None => Span::new(offset(body, place.line(), place.column()), 1),
        };
        let whole = error.without_snippet().to_string();
        let message = whole.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message).trim();
        let at = Span::new((at.offset + bom).min(self.text.len()), at.len);
        let found = Diagnostic::error(self.file, self.text, at, format!("not valid YAML: {message}"));
        let tab = self.text.lines().take(found.line).any(|l| l.trim_start_matches(' ').starts_with('\t'));
        if tab {
            found.with_help("a tab stands at the start of a line: YAML is indented with spaces")
        } else {
            found
        }
    }

    /// Records an error.
    pub fn error(&mut self, at: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(self.file, self.text, at, message));
    }

    /// Records an error with what would be right.
    pub fn error_help(&mut self, at: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(self.file, self.text, at, message).with_help(help));
    }

    /// Records a doubt.
    pub fn warn(&mut self, at: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics
            .push(Diagnostic::error(self.file, self.text, at, message).with_help(help).as_warning());
    }

    /// The entries of a mapping; keys that are not `known` are errors with a suggestion.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for (key, at, _) in &entries {
            if !known.contains(key) {
                let help = match nearest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("{what} may have {}", one_of(known.iter().copied())),
                };
                self.error_help(*at, format!("unknown key `{key}` in {what}"), help);
            }
        }
        Some(Fields { entries, at: node.at })
    }

    /// The entries of a mapping with free keys: key, where it stands, value.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<(&'n str, Span, &'n Node)>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, what, "a mapping (`key: value`)");
            return None;
        };
        let mut out = Vec::new();
        for (key, value) in entries {
            match &key.value {
                Value::Text(text) => out.push((text.as_str(), key.at, value)),
                _ => self.error(key.at, format!("keys in {what} must be text")),
            }
        }
        Some(out)
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.expected(node, what, "a list");
                None
            }
        }
    }

    /// Text that is not empty.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                let raw = self.raw(node.at);
                self.error_help(
                    node.at,
                    format!("{what} must be text, not {}", node.value.noun()),
                    format!("put it in quotes: \"{raw}\""),
                );
                None
            }
            Value::Text(_) => {
                self.error(node.at, format!("{what} must not be empty"));
                None
            }
            _ => {
                self.expected(node, what, "text");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Bool(b) => Some(*b),
            Value::Text(t) if ["yes", "on", "no", "off"].contains(&t.to_lowercase().as_str()) => {
                let right = ["yes", "on"].contains(&t.to_lowercase().as_str());
                self.error_help(node.at, format!("{what} must be true or false"), format!("write `{right}`"));
                None
            }
            _ => {
                self.expected(node, what, "true or false");
                None
            }
        }
    }

    /// A finite number.
    pub fn number(&mut self, node: &Node, what: &str) -> Option<f64> {
        match node.value {
            Value::Number(n) if n.is_finite() => Some(n),
            _ => {
                self.expected(node, what, "a number");
                None
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub fn integer(&mut self, node: &Node, what: &str, least: u64, most: u64) -> Option<u64> {
        let n = self.number(node, what)?;
        if n.fract() != 0.0 || n < least as f64 || n > most as f64 {
            self.error(node.at, format!("{what} must be a whole number from {least} to {most}"));
            return None;
        }
        Some(n as u64)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let help = match nearest(text, names()) {
            Some(near) if !text.is_empty() => format!("did you mean `{near}`?"),
            _ => format!("it may be {}", one_of(names())),
        };
        let raw = self.raw(node.at);
        self.error_help(node.at, format!("{what} cannot be `{raw}`"), help);
        None
    }

    /// The first line of what stands at a place, for messages.
    pub fn raw(&self, at: Span) -> String {
        let end = at.end().min(self.text.len());
        let slice = self.text.get(at.offset..end).unwrap_or_default();
        let line = slice.trim().lines().next().unwrap_or_default();
        line.chars().take(60).collect()
    }

    fn expected(&mut self, node: &Node, what: &str, wanted: &str) {
        self.error(node.at, format!("{what} must be {wanted}, not {}", node.value.noun()));
    }
}

/// The entries of one mapping.
#[derive(Debug)]
pub struct Fields<'n> {
    entries: Vec<(&'n str, Span, &'n Node)>,
    /// Where the mapping begins.
    pub at: Span,
}

impl<'n> Fields<'n> {
    /// The value of a key; a key without a value (`key:`) counts as absent.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(name, _, _)| *name == key)
            .map(|(_, _, node)| *node)
            .filter(|node| node.value != Value::Null)
    }

    /// Where a key stands.
    pub fn key_at(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(name, _, _)| *name == key).map(|(_, at, _)| *at)
    }

    /// Where the first key stands, else the mapping.
    pub fn first_key_at(&self) -> Span {
        self.entries.first().map_or(self.at, |(_, at, _)| *at)
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 200_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
        },
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

fn span(at: Location) -> Span {
    let of = |n: Option<u64>| usize::try_from(n.unwrap_or_default()).unwrap_or_default();
    Span::new(of(at.span().byte_offset()), of(at.span().byte_len()))
}

/// The byte offset of a line and column, both from 1.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let of = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or_default();
    let start: usize = text.split_inclusive('\n').take(of(line)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.chars().take(of(column)).map(char::len_utf8).sum::<usize>()
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { value: spanned.value, at: span(spanned.referenced) }
}

fn shift(node: Node, by: usize) -> Node {
    let value = match node.value {
        Value::List(items) => Value::List(items.into_iter().map(|n| shift(n, by)).collect()),
        Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(k, v)| (shift(k, by), shift(v, by))).collect())
        }
        scalar => scalar,
    };
    Node { value, at: node.at.shifted(by) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        let mut doc = Document::new("f.yaml", text);
        doc.parse().ok_or_else(|| doc.diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nodes_know_where_they_stand() {
        for (bom, eol) in [("", "\n"), ("\u{feff}", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n")] {
            let text = format!("{bom}- variant: é-v1{eol}  rules: [1, \"a b\"]{eol}");
            let root = read(&text).unwrap();
            let Value::List(items) = &root.value else { panic!() };
            let Value::Map(entries) = &items[0].value else { panic!() };
            let slice = |n: &Node| &text[n.at.offset..n.at.end()];
            assert_eq!(slice(&entries[0].0), "variant");
            assert_eq!(slice(&entries[0].1), "é-v1");
            assert_eq!(slice(&entries[1].0), "rules");
            let Value::List(rules) = &entries[1].1.value else { panic!() };
            assert_eq!(slice(&rules[1]), "\"a b\"");
            assert_eq!(rules[0].value, Value::Number(1.0));
        }
    }

    #[test]
    fn bad_files_are_errors() {
        for (text, wanted) in [
            ("", "f.yaml: error: the file is empty"),
            ("\u{feff}\n# only a comment\n---\n", "f.yaml: error: the file is empty"),
            ("a:\n\t- b", "f.yaml:2:2: error: not valid YAML: tabs disallowed"),
            ("a: 1\na: 2", "f.yaml:2:1: error: not valid YAML: duplicate mapping key: a"),
            ("a: [1", "f.yaml:1:"),
            ("a: 1\n---\nb: 2", "not valid YAML"),
            ("a: *x", "not valid YAML"),
            ("\0", "not valid YAML"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        assert!(read(&" ".repeat(MAX_FILE_BYTES + 1)).unwrap_err().contains("1 MiB"));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(read(&laughs).unwrap_err().contains("not valid YAML"));
        assert!(read(&"[".repeat(100_000)).unwrap_err().contains("not valid YAML"));
        assert!(read(&"- ".repeat(100_000)).unwrap_err().contains("not valid YAML"));
        assert!(read(&"{a: ".repeat(1_000)).unwrap_err().contains("not valid YAML"));
    }
}
