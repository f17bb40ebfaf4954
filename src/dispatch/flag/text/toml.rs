//! TOML: edited in a document that keeps comments, order and spacing.

use serde_json::{Map, Value};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value as Toml};

use super::{Change, no_flag};

pub(super) fn parse(text: &str) -> Result<Value, String> {
    Ok(table(document(text)?.as_table()))
}

/// The document knows plain line ends only: others are taken away before and put back afterwards.
pub(super) fn edit(text: &str, path: &[&str], changes: &[Change]) -> Result<String, String> {
    let plain = text.replace("\r\n", "\n");
    let ends = text.len() - plain.len();
    if ends > 0 && ends != plain.matches('\n').count() {
        return Err("some of its lines end in CRLF and some in LF: save it with one of both".into());
    }
    let edited = edit_plain(&plain, path, changes)?;
    Ok(if ends > 0 { edited.replace('\n', "\r\n") } else { edited })
}

fn edit_plain(text: &str, path: &[&str], changes: &[Change]) -> Result<String, String> {
    let mut document = document(text)?;
    if document.to_string() != text {
        return Err("its spacing would change elsewhere, too".into());
    }
    let mut at: &mut Item = document.as_item_mut();
    for step in path {
        at = at.as_table_like_mut().and_then(|table| table.get_mut(step)).ok_or_else(|| no_flag(path))?;
    }
    let flag = at.as_table_like_mut().ok_or_else(|| no_flag(path))?;
    for change in changes {
        match change {
            Change::Set(key, value) => set(flag, key, value),
            Change::Remove(key) => {
                flag.remove(key);
            }
        }
    }
    Ok(document.to_string())
}

/// A table keeps its header and gets new content; anything else is replaced where it stands.
fn set(flag: &mut dyn TableLike, key: &str, value: &Value) {
    match (flag.get_mut(key), value) {
        (Some(Item::Table(old)), Value::Object(members)) => {
            old.clear();
            for (name, member) in members {
                old.insert(name, Item::Value(input(member)));
            }
        }
        (Some(Item::Value(old)), value) => {
            let decor = old.decor().clone();
            *old = input(value);
            *old.decor_mut() = decor;
        }
        (_, value) => {
            flag.insert(key, Item::Value(input(value)));
        }
    }
}

fn document(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        format!("not valid TOML: line {line}: {}", error.message())
    })
}

fn table(members: &dyn TableLike) -> Value {
    Value::Object(members.iter().map(|(key, item)| (key.to_owned(), meant(item))).collect())
}

fn meant(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => scalar(value),
        Item::Table(members) => table(members),
        Item::ArrayOfTables(tables) => tables.iter().map(|one| table(one)).collect(),
    }
}

fn scalar(value: &Toml) -> Value {
    match value {
        Toml::String(text) => text.value().as_str().into(),
        Toml::Integer(n) => (*n.value()).into(),
        Toml::Float(n) => (*n.value()).into(),
        Toml::Boolean(yes) => (*yes.value()).into(),
        Toml::Datetime(time) => time.value().to_string().into(),
        Toml::Array(items) => items.iter().map(scalar).collect(),
        Toml::InlineTable(members) => table(members),
    }
}

fn input(value: &Value) -> Toml {
    match value {
        Value::Bool(yes) => (*yes).into(),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => whole.into(),
            None => n.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Toml::Array(items.iter().map(input).collect()),
        Value::Object(members) => Toml::InlineTable(inline(members)),
        // TOML knows no null; no change asks for one.
        Value::Null => "".into(),
    }
}

fn inline(members: &Map<String, Value>) -> InlineTable {
    members.iter().map(|(key, value)| (key.as_str(), input(value))).collect()
}
