//! ConfigCat: control as every value that a setting can serve.
//!
//! `PATCH /v2/environments/{environment}/settings/{setting}/value` takes a JSON Patch (RFC 6902) and leaves alone what it does not
//! name; `PUT` would reset it (api.configcat.com/docs). A ConfigCat setting has values, not named variants, so control and
//! treatment are values here: `true`, `7`, `"model-a"`. A pin
//!
//! - replaces the default value and the value of each targeting rule that is not control,
//! - in percentage options gives control 100 % and the others 0 %; the values stay, so that a human sees what was there. Where no
//!   option is control, the first becomes control.
//!
//! Conditions, segments, prerequisites, the order of rules, tags and other environments stay. Rules are named by place: the patch
//! may meet rules in another order when a human moves them in the same second. Reading back finds that, and the next patch mends
//! it; RFC 6902's `test` is left out, since a refused patch is worse. 204 means no change. Where "Config changes require a reason"
//! is on, the note is the reason.
//!
//! Read-back: the config that SDKs download, `GET https://cdn-global.configcat.com/configuration-files/{SDK key}/config_v6.json`
//! (`cdn-eu` under EU data governance; the address of a ConfigCat proxy also works). `p.r` = 2 says that another address must be
//! asked. Keys of the format as in the SDKs' open source (`ConfigV6`).

use reqwest::Method;
use serde_json::{Value, json};

use super::Result;
use super::vendor::{
    Auth, Call, Change, KEY_IN_PATH, Plane, State, Vendor, Verdict, answer, fingerprint, list, odd, segment,
    share_of_percent, text,
};
use crate::dispatch::failure::Failure;
use crate::model::time::Timestamp;

/// One setting in one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigCat {
    /// The id (a UUID).
    pub environment: String,
    /// The number of the setting.
    pub setting: u32,
    /// Its key, by which SDKs read it.
    pub key: String,
    /// Values: a boolean, a text or a number.
    pub control: Value,
    pub treatment: Value,
}

impl Vendor for ConfigCat {
    fn auth(&self, plane: Plane) -> Auth {
        match plane {
            Plane::Admin => Auth::Basic,
            Plane::Evaluation => Auth::Path,
        }
    }

    fn read(&self) -> Vec<Call> {
        vec![Call::get(Plane::Admin, self.path())]
    }

    fn state(&self, answers: &[Value]) -> Result<State> {
        let value = self.value(answers)?;
        let served = self.served(value);
        Ok(State {
            version: fingerprint(&json!([value["lastVersionId"], value["updatedAt"]])),
            safe: !served.iter().any(|(_, value)| self.is_treatment(value)),
            pinned: self.operations(value).is_empty(),
            share: self.share(value),
            locked: (value["readOnly"] == true).then(|| "the setting is read-only".to_owned()),
            moves: None,
            last_change: Some(Change {
                by: text(value, "lastUpdaterUserEmail").or_else(|| text(value, "lastUpdaterUserFullName")),
                at: value["updatedAt"].as_str().and_then(Timestamp::parse),
            }),
        })
    }

    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>> {
        let operations = self.operations(self.value(answers)?);
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let path = format!("{}?reason={}", self.path(), segment(note));
        Ok(vec![Call::write(Method::PATCH, path, Value::Array(operations))])
    }

    fn evaluation(&self) -> Vec<Call> {
        let path = format!("/configuration-files/{KEY_IN_PATH}/config_v6.json");
        vec![Call::get(Plane::Evaluation, path)]
    }

    fn judge(&self, answers: &[Value]) -> Result<Verdict> {
        let config = answer(answers, 0, "config")?;
        if config["p"]["r"] == 2 {
            let elsewhere = config["p"]["u"].as_str().unwrap_or("another address");
            return Err(Failure::permanent(format!("this config is served from {elsewhere}; ask there")));
        }
        let Some(setting) = config["f"].get(&self.key) else {
            return Err(odd(format!("setting `{}` is not served", self.key)));
        };
        let exposed = downloaded(setting).into_iter().find(|(_, value)| self.is_treatment(value));
        Ok(match exposed {
            Some((by, _)) => Verdict::Exposed { by: format!("{by} serves the treatment") },
            None => Verdict::Clear { revision: None },
        })
    }

    fn undo(&self, web: &str) -> String {
        // The audit log rolls single changes back; its address needs ids that the API does not give.
        format!("{}/auditlog", web.trim_end_matches('/'))
    }
}

impl ConfigCat {
    fn path(&self) -> String {
        format!("/v2/environments/{}/settings/{}/value", segment(&self.environment), self.setting)
    }

    fn value<'a>(&self, answers: &'a [Value]) -> Result<&'a Value> {
        let value = answer(answers, 0, "setting value")?;
        let default = served_value(&value["defaultValue"]);
        if default.is_none_or(|default| kind(default) != kind(&self.control)) {
            return Err(Failure::permanent(format!(
                "setting {} does not serve values like control's {}",
                self.setting, self.control
            )));
        }
        Ok(value)
    }

    fn is_treatment(&self, value: &Value) -> bool {
        same(value, &self.treatment)
    }

    /// All that can be served, with the place.
    fn served<'a>(&self, value: &'a Value) -> Vec<(String, &'a Value)> {
        let mut served = vec![("the default".to_owned(), &value["defaultValue"])];
        for (place, rule) in list(value, "targetingRules").iter().enumerate() {
            let options = list(rule, "percentageOptions");
            if options.is_empty() {
                served.push((format!("rule {}", place + 1), &rule["value"]));
            }
            let chosen = options.iter().filter(|option| option["percentage"] != 0);
            served.extend(
                chosen.map(|option| (format!("a percentage of rule {}", place + 1), &option["value"])),
            );
        }
        served.into_iter().filter_map(|(place, value)| Some((place, served_value(value)?))).collect()
    }

    fn operations(&self, value: &Value) -> Vec<Value> {
        let mut operations = Vec::new();
        self.replace(&value["defaultValue"], "/defaultValue", &mut operations);
        for (place, rule) in list(value, "targetingRules").iter().enumerate() {
            let path = format!("/targetingRules/{place}");
            let options = list(rule, "percentageOptions");
            if options.is_empty() {
                self.replace(&rule["value"], &format!("{path}/value"), &mut operations);
            } else {
                self.percentages(options, &path, &mut operations);
            }
        }
        operations
    }

    fn percentages(&self, options: &[Value], rule: &str, operations: &mut Vec<Value>) {
        let is_control =
            |option: &Value| served_value(&option["value"]).is_some_and(|value| same(value, &self.control));
        let chosen = options.iter().position(is_control).unwrap_or(0);
        for (place, option) in options.iter().enumerate() {
            let path = format!("{rule}/percentageOptions/{place}");
            let percentage = if place == chosen { 100 } else { 0 };
            if option["percentage"] != percentage {
                let path = format!("{path}/percentage");
                operations.push(json!({"op": "replace", "path": path, "value": percentage}));
            }
            if place == chosen {
                self.replace(&option["value"], &format!("{path}/value"), operations);
            }
        }
    }

    fn replace(&self, old: &Value, path: &str, operations: &mut Vec<Value>) {
        if served_value(old).is_some_and(|old| same(old, &self.control)) {
            return;
        }
        let field = KINDS.into_iter().find(|field| !old[field].is_null()).unwrap_or(kind(&self.control));
        operations.push(json!({"op": "replace", "path": format!("{path}/{field}"), "value": self.control}));
    }

    /// The treatment's part where no condition decides: a last rule without conditions, otherwise the default.
    fn share(&self, value: &Value) -> Option<u32> {
        let open = list(value, "targetingRules").iter().find(|rule| list(rule, "conditions").is_empty());
        let whole = |value: &Value| {
            let treated = served_value(value).is_some_and(|value| self.is_treatment(value));
            share_of_percent(if treated { 100.0 } else { 0.0 })
        };
        let Some(rule) = open else { return Some(whole(&value["defaultValue"])) };
        let options = list(rule, "percentageOptions");
        if options.is_empty() {
            return Some(whole(&rule["value"]));
        }
        let treated = options
            .iter()
            .filter(|option| served_value(&option["value"]).is_some_and(|value| self.is_treatment(value)));
        Some(share_of_percent(treated.filter_map(|option| option["percentage"].as_f64()).sum()))
    }
}

/// The fields of a `ValueModel`, one of which is set.
const KINDS: [&str; 4] = ["boolValue", "stringValue", "intValue", "doubleValue"];

fn served_value(value: &Value) -> Option<&Value> {
    KINDS.into_iter().map(|kind| &value[kind]).find(|value| !value.is_null())
}

/// The field for a value; whole numbers and others are told apart by the setting, not by the value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolValue",
        Value::Number(_) => "doubleValue",
        _ => "stringValue",
    }
}

/// Whether two values are one: 1 and 1.0 are.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

/// All that a downloaded setting can serve: `v` default, `r` rules, `s` a rule's value, `p` percentage options with `p` percent.
fn downloaded(setting: &Value) -> Vec<(String, &Value)> {
    let mut served = vec![("the default".to_owned(), &setting["v"])];
    served.extend(options(setting, "the setting"));
    for (place, rule) in list(setting, "r").iter().enumerate() {
        let name = format!("rule {}", place + 1);
        if !rule["s"].is_null() {
            served.push((name.clone(), &rule["s"]["v"]));
        }
        served.extend(options(rule, &name));
    }
    let value = |value: &'_ Value| ["b", "s", "i", "d"].into_iter().find(|kind| !value[kind].is_null());
    served.into_iter().filter_map(|(place, held)| Some((place, &held[value(held)?]))).collect()
}

fn options<'a>(holder: &'a Value, name: &str) -> Vec<(String, &'a Value)> {
    let chosen = list(holder, "p").iter().filter(|option| option["p"] != 0);
    chosen.map(|option| (format!("a percentage of {name}"), &option["v"])).collect()
}

#[cfg(test)]
mod tests;
