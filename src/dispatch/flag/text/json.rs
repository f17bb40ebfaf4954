//! JSON, with comments where the file has them: edited in the syntax tree that keeps every character.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

use super::{Change, no_flag};

const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn parse(text: &str) -> Result<Value, String> {
    root(text)?.to_serde_value().ok_or_else(|| "not valid JSON: it holds no value".to_owned())
}

pub(super) fn edit(text: &str, path: &[&str], changes: &[Change]) -> Result<String, String> {
    let root = root(text)?;
    let mut at = root.value();
    for step in path {
        at = match at {
            Some(CstNode::Container(node)) => match (node.as_object(), node.as_array()) {
                (Some(object), _) => {
                    once(&object, step)?;
                    object.get(step).and_then(|property| property.value())
                }
                (None, Some(list)) => list.elements().into_iter().find(|item| is_called(item, step)),
                (None, None) => None,
            },
            _ => None,
        };
    }
    let flag = at.and_then(|node| node.as_object()).ok_or_else(|| no_flag(path))?;
    for change in changes {
        make(&flag, change)?;
    }
    Ok(root.to_string())
}

fn make(flag: &CstObject, change: &Change) -> Result<(), String> {
    match change {
        Change::Set(key, value) => {
            once(flag, key)?;
            match flag.get(key) {
                Some(property) => property.set_value(input(value)),
                None => {
                    flag.append(key, input(value));
                }
            }
        }
        Change::Remove(key) => {
            once(flag, key)?;
            if let Some(property) = flag.get(key) {
                property.remove();
            }
        }
    }
    Ok(())
}

fn root(text: &str) -> Result<CstRootNode, String> {
    CstRootNode::parse(text, &OPTIONS).map_err(|error| format!("not valid JSON: {error}"))
}

/// Of a name that stands twice each reader takes another one: there is no safe edit.
fn once(object: &CstObject, name: &str) -> Result<(), String> {
    let same = |property: &jsonc_parser::cst::CstObjectProp| property.decoded_name().as_deref() == Some(name);
    match object.properties().iter().filter(|property| same(property)).count() {
        0 | 1 => Ok(()),
        n => Err(format!("`{name}` stands {n} times in the same object")),
    }
}

fn is_called(item: &CstNode, name: &str) -> bool {
    item.as_object()
        .and_then(|object| object.get("key")?.value()?.to_serde_value())
        .is_some_and(|key| key == name)
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(yes) => CstInputValue::Bool(*yes),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}
