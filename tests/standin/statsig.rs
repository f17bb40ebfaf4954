//! Statsig: a gate or an experiment with overrides, and the specs that server SDKs download.

use serde_json::{Value, json};

use super::contract::Contract;
use super::{Asked, Flags, Platform, SECRET};

#[derive(Clone, Debug)]
pub struct Statsig {
    /// As the console API shows it, under `data`.
    pub data: Value,
    pub overrides: Value,
    changes: u64,
    contract: Contract,
}

/// Who asks: a user id, which conditional rules fit, a place in allocations and groups.
pub struct Context<'a> {
    pub user: &'a str,
    pub fits: u32,
    pub percent: f64,
}

impl Statsig {
    pub fn new(data: Value, overrides: Value) -> Self {
        Self { data, overrides, changes: 0, contract: Contract::of("statsig") }
    }

    /// The rules as SDKs walk through them: (condition's place or user ids, percent, value).
    fn rules(&self) -> Vec<Value> {
        if self.data["groups"].is_null() {
            let rules = self.data["rules"].as_array().unwrap().iter();
            return rules
                .map(|rule| json!({"name": rule["name"], "passPercentage": rule["passPercentage"], "returnValue": true}))
                .collect();
        }
        let rule = |name: &Value, users: &Value, percent: f64, value: &Value| json!({"name": name, "groupName": name, "users": users, "passPercentage": percent, "returnValue": value});
        let mut rules = Vec::new();
        for forced in self.overrides["userIDOverrides"].as_array().unwrap() {
            let value = &self.group(&forced["groupID"])["parameterValues"];
            rules.push(rule(&forced["groupID"], &forced["ids"], 100.0, value));
        }
        let launched = &self.data["launchedGroupID"];
        if launched.is_string() {
            let group = self.group(launched);
            rules.push(rule(&group["name"], &Value::Null, 100.0, &group["parameterValues"]));
        } else if self.data["status"] == "active" {
            let mut upto = 0.0;
            let groups = self.data["groups"].as_array().unwrap().iter();
            for group in groups.filter(|group| group["size"].as_f64() > Some(0.0)) {
                upto += group["size"].as_f64().unwrap() * self.data["allocation"].as_f64().unwrap() / 100.0;
                rules.push(rule(&group["name"], &Value::Null, upto, &group["parameterValues"]));
            }
        }
        rules
    }

    fn group(&self, named: &Value) -> &Value {
        let groups = self.data["groups"].as_array().unwrap();
        groups.iter().find(|group| group["name"] == *named || group["id"] == *named).unwrap()
    }

    /// What a context gets; none is the caller's own default.
    pub fn evaluate(&self, context: &Context<'_>) -> Option<Value> {
        let gate = self.data["groups"].is_null();
        if gate && self.data["isEnabled"] == false {
            return Some(json!(false));
        }
        for (place, rule) in self.rules().iter().enumerate() {
            let named = rule["users"].as_array();
            let fits = named.map_or(!gate || context.fits & (1 << place) != 0, |users| {
                users.iter().any(|user| user == context.user)
            });
            if fits && context.percent < rule["passPercentage"].as_f64().unwrap() {
                return Some(rule["returnValue"].clone());
            }
        }
        gate.then_some(serde_json::Value::Bool(false))
    }

    fn specs(&self) -> Value {
        let gate = self.data["groups"].is_null();
        let default = if gate { json!(false) } else { json!({}) };
        let enabled = !gate || self.data["isEnabled"] == true;
        let spec = json!({"name": self.data["id"], "enabled": enabled, "defaultValue": default, "rules": self.rules()});
        let (gates, configs) = if gate { (json!([spec]), json!([])) } else { (json!([]), json!([spec])) };
        json!({"feature_gates": gates, "dynamic_configs": configs, "time": 1_700_000_000_000_u64 + self.changes})
    }

    fn write(&mut self, asked: &Asked) {
        let body = asked.body.clone().unwrap_or_default();
        let action = asked.place().rsplit('/').next().unwrap_or_default().to_owned();
        match action.as_str() {
            "disable" => self.data["isEnabled"] = json!(false),
            "overrides" => self.overrides = body,
            "make_decision" => {
                self.data["launchedGroupID"] = body["id"].clone();
                self.data["status"] = json!("decision_made");
            }
            other => panic!("no action {other}"),
        }
        self.changes += 1;
        self.data["lastModifiedTime"] = json!(1_700_000_000_000_u64 + self.changes);
        self.data["lastModifierEmail"] = json!("rearguard@example.com");
    }
}

impl Flags for Statsig {
    fn changes(&self) -> u64 {
        self.changes
    }
}

impl Platform for Statsig {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.place().starts_with("/v1/download_config_specs/") {
            let known = asked.place() == format!("/v1/download_config_specs/{SECRET}.json");
            return if known { (200, self.specs()) } else { (401, json!({"message": "no such key"})) };
        }
        if asked.headers.get("statsig-api-key").is_none_or(String::is_empty) {
            return (401, json!({"message": "no key"}));
        }
        if let Err(why) = self.contract.check(asked) {
            return (400, json!({"message": why}));
        }
        if asked.method != "GET" {
            self.write(asked);
            return (200, json!({"message": "done", "data": self.data}));
        }
        let overrides = asked.place().ends_with("/overrides");
        (200, json!({"message": "here", "data": if overrides { &self.overrides } else { &self.data }}))
    }
}
