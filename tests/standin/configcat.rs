//! ConfigCat: one setting in one environment, JSON Patch, and the config that SDKs download.

use serde_json::{Map, Value, json};

use super::contract::Contract;
use super::{Asked, Flags, Platform, SECRET};

#[derive(Clone, Debug)]
pub struct ConfigCat {
    /// As the management API shows it.
    pub value: Value,
    key: String,
    changes: u64,
    contract: Contract,
}

/// Who asks: which conditional rules fit, and a place in percentages.
pub struct Context {
    pub fits: u32,
    pub percent: f64,
}

impl ConfigCat {
    pub fn new(key: &str, value: Value) -> Self {
        Self { value, key: key.to_owned(), changes: 0, contract: Contract::of("configcat") }
    }

    /// The value that a context gets, as the SDKs' evaluation goes.
    pub fn evaluate(&self, context: &Context) -> Value {
        for (place, rule) in self.value["targetingRules"].as_array().unwrap().iter().enumerate() {
            let conditional = !rule["conditions"].as_array().unwrap().is_empty();
            if conditional && context.fits & (1 << place) == 0 {
                continue;
            }
            let options = rule["percentageOptions"].as_array().unwrap();
            if options.is_empty() {
                return plain(&rule["value"]);
            }
            let mut upto = 0.0;
            for option in options {
                upto += option["percentage"].as_f64().unwrap();
                if context.percent < upto {
                    return plain(&option["value"]);
                }
            }
        }
        plain(&self.value["defaultValue"])
    }

    fn patch(&mut self, operations: &Value) -> Result<(), String> {
        for operation in operations.as_array().ok_or("no JSON Patch")? {
            let path = operation["path"].as_str().ok_or("no path")?;
            let place = self.value.pointer_mut(path).ok_or(format!("nothing at {path}"))?;
            if operation["op"] != "replace" {
                return Err(format!("unknown operation {}", operation["op"]));
            }
            *place = operation["value"].clone();
        }
        for rule in self.value["targetingRules"].as_array().unwrap() {
            let options = rule["percentageOptions"].as_array().unwrap();
            let sum: f64 = options.iter().map(|option| option["percentage"].as_f64().unwrap()).sum();
            if !options.is_empty() && (sum - 100.0).abs() > 1e-9 {
                return Err(format!("percentages add up to {sum}"));
            }
        }
        Ok(())
    }

    fn downloaded(&self) -> Value {
        let rules = self.value["targetingRules"].as_array().unwrap().iter().map(|rule| {
            let options = rule["percentageOptions"].as_array().unwrap();
            let mut short = Map::new();
            short.insert("c".into(), rule["conditions"].clone());
            if options.is_empty() {
                short.insert("s".into(), json!({"v": held(&rule["value"])}));
            } else {
                let parts = options.iter().map(|o| json!({"p": o["percentage"], "v": held(&o["value"])}));
                short.insert("p".into(), parts.collect());
            }
            Value::Object(short)
        });
        let setting = json!({"t": 1, "v": held(&self.value["defaultValue"]), "r": rules.collect::<Vec<_>>()});
        json!({"p": {"u": "https://cdn-global.configcat.com", "r": 0}, "f": {self.key.as_str(): setting}})
    }
}

impl Flags for ConfigCat {
    fn changes(&self) -> u64 {
        self.changes
    }
}

impl Platform for ConfigCat {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.place().starts_with("/configuration-files/") {
            let known = asked.place() == format!("/configuration-files/{SECRET}/config_v6.json");
            return if known {
                (200, self.downloaded())
            } else {
                (404, json!({"message": "no such SDK key"}))
            };
        }
        if !asked.headers.get("authorization").is_some_and(|given| given.starts_with("Basic ")) {
            return (401, json!({"message": "no credentials"}));
        }
        if let Err(why) = self.contract.check(asked) {
            return (400, json!({"message": why}));
        }
        if asked.method == "PATCH" {
            let mut next = self.clone();
            if let Err(why) = next.patch(asked.body.as_ref().unwrap_or(&Value::Null)) {
                return (400, json!({"message": why}));
            }
            next.changes += 1;
            next.value["lastVersionId"] = json!(format!("version-{}", next.changes));
            *self = next;
        }
        (200, self.value.clone())
    }
}

const FIELDS: [(&str, &str); 4] =
    [("boolValue", "b"), ("stringValue", "s"), ("intValue", "i"), ("doubleValue", "d")];

/// The one field of a value that is set, and its short name in the download.
fn set(value: &Value) -> (&'static str, &Value) {
    let found = FIELDS.into_iter().find(|(long, _)| !value[*long].is_null());
    let (long, short) = found.expect("a value");
    (short, &value[long])
}

fn plain(value: &Value) -> Value {
    set(value).1.clone()
}

fn held(value: &Value) -> Value {
    let (short, inner) = set(value);
    json!({short: inner})
}
