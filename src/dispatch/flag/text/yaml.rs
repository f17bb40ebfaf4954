//! YAML: in block style edited by lines, in braces by members, where the reader of rule files says that keys and values stand.

mod flow;

use serde_json::Value;

use super::{Change, no_flag};
use crate::engine::rule::yaml::{Document, Node, Value as Yaml};

pub(super) fn parse(text: &str) -> Result<Value, String> {
    tree(text).map(|root| meant(&root))
}

/// One change after the other, each on the tree of what the one before has left.
pub(super) fn edit(text: &str, path: &[&str], changes: &[Change]) -> Result<String, String> {
    let mut text = text.to_owned();
    for change in changes {
        let root = tree(&text)?;
        let (flag, after) = find(&root, path)?;
        text = match (flow::Flow::of(&text, flag), change) {
            (Some(flag), Change::Set(key, value)) => flag.set(key, value)?,
            (Some(flag), Change::Remove(key)) => flag.remove(key)?,
            (None, Change::Set(key, value)) => Block::of(&text, flag, after, path)?.set(key, value)?,
            (None, Change::Remove(key)) => Block::of(&text, flag, after, path)?.remove(key)?,
        };
    }
    Ok(text)
}

fn tree(text: &str) -> Result<Node, String> {
    let mut document = Document::new("line", text);
    document.parse().ok_or_else(|| {
        let found = document.diagnostics.first();
        found.map_or_else(
            || "not valid YAML".to_owned(),
            |found| format!("{}: line {}", found.message, found.line),
        )
    })
}

fn meant(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(yes) => (*yes).into(),
        Yaml::Number(n) => (*n).into(),
        Yaml::Text(text) => text.as_str().into(),
        Yaml::List(items) => items.iter().map(meant).collect(),
        Yaml::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (name(key), meant(value))).collect())
        }
    }
}

/// A key as text: `true:` and `1:` are keys, too.
fn name(key: &Node) -> String {
    match meant(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A flag's definition, and where the key that it stands under ends.
fn find<'t>(root: &'t Node, path: &[&str]) -> Result<(&'t Node, usize), String> {
    let missing = || no_flag(path);
    let (mut at, mut after) = (root, 0);
    for step in path {
        match &at.value {
            Yaml::Map(entries) => {
                let (key, value) = entries.iter().find(|(key, _)| name(key) == **step).ok_or_else(missing)?;
                (at, after) = (value, key.at.end());
            }
            Yaml::List(items) => {
                at = items.iter().find(|item| meant(item)["key"] == **step).ok_or_else(missing)?;
            }
            _ => return Err(missing()),
        }
    }
    Ok((at, after))
}

/// The place of a key among entries.
fn place(entries: &[(Node, Node)], key: &str) -> Option<usize> {
    entries.iter().position(|(other, _)| name(other) == key)
}

/// A mapping in block style: each entry begins a line.
struct Block<'t> {
    text: &'t str,
    entries: &'t [(Node, Node)],
}

impl<'t> Block<'t> {
    fn of(text: &'t str, flag: &'t Node, after: usize, path: &[&str]) -> Result<Self, String> {
        let missing = || no_flag(path);
        let Yaml::Map(entries) = &flag.value else { return Err(missing()) };
        let first = entries.first().ok_or_else(missing)?.0.at.offset;
        if text.get(after..first).is_none() {
            return Err(format!("`{}` is an alias: write its definition out", path.last().unwrap_or(&"")));
        }
        Ok(Self { text, entries })
    }

    fn remove(&self, key: &str) -> Result<String, String> {
        let Some(place) = place(self.entries, key) else { return Ok(self.text.to_owned()) };
        let (from, to) = self.lines(place)?;
        Ok(format!("{}{}", &self.text[..from], &self.text[to..]))
    }

    fn set(&self, key: &str, value: &Value) -> Result<String, String> {
        let (text, eol) = (self.text, if self.text.contains("\r\n") { "\r\n" } else { "\n" });
        let Some(place) = place(self.entries, key) else {
            let last = self.entries.len() - 1;
            let (from, to) = self.lines(last)?;
            let indent = &text[from..self.entries[last].0.at.offset];
            let open = if text[..to].ends_with('\n') { "" } else { eol };
            return Ok(format!("{}{open}{indent}{key}: {value}{eol}{}", &text[..to], &text[to..]));
        };
        let (written, old) = &self.entries[place];
        let scalar = matches!(old.value, Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_));
        let (start, end) = (old.at.offset, old.at.end());
        // A value within its line is replaced alone, so that a remark behind it stays.
        if scalar && text.get(start..end).is_some_and(|old| !old.is_empty() && !old.contains('\n')) {
            return Ok(format!("{}{value}{}", &text[..start], &text[end..]));
        }
        let (from, to) = self.lines(place)?;
        let key = text.get(from..written.at.end()).unwrap_or_default();
        Ok(format!("{}{key}: {value}{eol}{}", &text[..from], &text[to..]))
    }

    /// The lines of an entry, from the start of its first to the start of what follows. Blank lines and remarks behind it that
    /// stand no deeper than its key belong to what follows.
    fn lines(&self, place: usize) -> Result<(usize, usize), String> {
        let text = self.text;
        let key = self.entries[place].0.at.offset;
        let from = text[..key].rfind('\n').map_or(0, |at| at + 1);
        let indent = &text[from..key];
        if !indent.bytes().all(|byte| byte == b' ') {
            return Err(format!("`{}` does not begin a line", name(&self.entries[place].0)));
        }
        let (mut at, mut end) = (from, text.len());
        let mut behind = None;
        for (number, line) in text[from..].split_inclusive('\n').enumerate() {
            let body = line.trim_end();
            let deep = body.len() - body.trim_start().len();
            let item = body.trim_start() == "-" || body.trim_start().starts_with("- ");
            let loose = body.is_empty() || (body.trim_start().starts_with('#') && deep <= indent.len());
            if number > 0 && loose {
                behind.get_or_insert(at);
            } else if number > 0 && (deep < indent.len() || (deep == indent.len() && !item)) {
                end = at;
                break;
            } else {
                behind = None;
            }
            at += line.len();
        }
        Ok((from, behind.unwrap_or(end)))
    }
}
