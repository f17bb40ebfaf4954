//! The JSON Schema of rule files, made from the table of keys that the parser reads.
//!
//! Whatever the parser accepts is valid. The schema cannot see everything that the parser refuses (that a metric exists, that
//! a span is whole minutes within its bounds, that two rules differ): `rearguard check` has the last word.

use serde_json::{Map, Value, json};

use crate::engine::rule::keys::{self, Form, Key};
use crate::engine::rule::{span, token};

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rearguard rule file",
        "description": "What must not happen to variants of AI features, and what is done when it does",
        "type": "array",
        "minItems": 1,
        "items": { "$ref": "#/$defs/variant" },
        "$defs": {
            "variant": mapping(&keys::VARIANT, "A variant and its rules"),
            "rule": rule(),
        },
    })
}

/// A rule has a condition and an action, or names an objective that brings them.
fn rule() -> Value {
    let mut rule = mapping(&keys::RULE, "What is a breach, and what is done about it");
    let required = rule["required"].take();
    if let Some(rule) = rule.as_object_mut() {
        rule.remove("required");
    }
    rule["oneOf"] = json!([
        { "required": required, "properties": { "burn_rate": { "type": "null" } } },
        {
            "required": ["burn_rate"],
            "properties": {
                "burn_rate": { "type": "string" },
                "condition": { "type": "null" },
                "clear": { "type": "null" },
            },
        },
    ]);
    rule
}

fn mapping(keys: &[Key], about: &str) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "description": about,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn property(key: &Key) -> Value {
    let mut property = form(key.form);
    if !key.required {
        allow_nothing(&mut property);
    }
    property["description"] = json!(key.about);
    if let Some(default) = key.default {
        property["default"] = match key.form {
            Form::Whole(..) => default.parse::<u64>().map_or(Value::Null, Value::from),
            _ => json!(default),
        };
    }
    property
}

fn form(form: Form) -> Value {
    match form {
        Form::Condition => json!({
            "type": "string",
            "pattern": "\\S",
            "maxLength": token::MAX_BYTES,
            "examples": [
                "faithfulness_1h < 0.92",
                "abstain_rate_5m > 0.30",
                "latency_p95_1h > baseline*1.5",
                "error_rate_1h > baseline(error_rate_1h)*3 && error_rate_1h > 0.02",
            ],
        }),
        Form::Word => json!({ "type": "string", "pattern": "^\\S+$", "maxLength": keys::LONGEST_NAME }),
        Form::Id => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]+$", "maxLength": keys::LONGEST_ID })
        }
        Form::Text => json!({ "type": "string", "pattern": "\\S" }),
        Form::Reason => json!({ "type": "string", "pattern": "\\S\\s+\\S" }),
        Form::Choice(words) => json!({ "enum": words() }),
        Form::Minutes(..) => {
            let units: Vec<&str> = span::UNITS.iter().map(|(name, _)| *name).collect();
            let pattern = format!("^\\s*([0-9]+\\s*({})\\s*)+$", units.join("|"));
            json!({ "type": "string", "pattern": pattern, "examples": ["3m", "1h30m"] })
        }
        Form::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        // The words that other YAML versions take for true and false are refused.
        Form::Page => json!({
            "type": ["boolean", "string"],
            "pattern": "^(?!([yY][eE][sS]|[nN][oO]|[oO][nN]|[oO][fF][fF])$)\\S+$",
            "maxLength": keys::LONGEST_NAME,
            "examples": [true, false],
        }),
        Form::Rules => json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/rule" } }),
    }
}

/// A key without a value (`for:`) counts as absent.
fn allow_nothing(property: &mut Value) {
    if let Some(Value::Array(words)) = property.get_mut("enum") {
        words.push(Value::Null);
    }
    match property.get_mut("type") {
        Some(Value::Array(types)) => types.push(json!("null")),
        Some(one) => *one = json!([one.take(), "null"]),
        None => {}
    }
}
