//! LaunchDarkly: one flag, semantic patches, `latest-all`.

use serde_json::{Value, json};

use super::contract::Contract;
use super::{Asked, Flags, Platform};

pub const ENVIRONMENT: &str = "production";

#[derive(Clone, Debug)]
pub struct LaunchDarkly {
    /// As the REST API shows it.
    pub flag: Value,
    changes: u64,
    contract: Contract,
}

/// Who asks: a key, the rules whose clauses fit, a place in the rollout, whether prerequisites are met.
pub struct Context<'a> {
    pub key: &'a str,
    pub fits: Option<usize>,
    pub bucket: u64,
    pub met: bool,
}

impl LaunchDarkly {
    pub fn new(flag: Value) -> Self {
        Self { flag, changes: 0, contract: Contract::of("launchdarkly") }
    }

    pub fn config(&self) -> &Value {
        &self.flag["environments"][ENVIRONMENT]
    }

    /// The variation that a context gets, as the SDKs' evaluation goes.
    pub fn evaluate(&self, context: &Context<'_>) -> Option<u64> {
        let config = self.config();
        let list = |key: &str| config[key].as_array().cloned().unwrap_or_default();
        if config["on"] == false || (!list("prerequisites").is_empty() && !context.met) {
            return config["offVariation"].as_u64();
        }
        for target in list("targets").into_iter().chain(list("contextTargets")) {
            if target["values"].as_array().unwrap().iter().any(|value| value == context.key) {
                return target["variation"].as_u64();
            }
        }
        for (place, rule) in list("rules").iter().enumerate() {
            if context.fits == Some(place) && rule["disabled"] != true {
                return outcome(rule, context.bucket);
            }
        }
        outcome(&config["fallthrough"], context.bucket)
    }

    fn place(&self, id: &Value) -> Option<usize> {
        self.flag["variations"].as_array().unwrap().iter().position(|one| one["_id"] == *id)
    }

    fn patch(&mut self, body: &Value) -> Result<(), String> {
        if body["environmentKey"] != ENVIRONMENT {
            return Err("unknown environment".into());
        }
        for instruction in body["instructions"].as_array().ok_or("no instructions")? {
            self.follow(instruction)?;
        }
        Ok(())
    }

    fn follow(&mut self, instruction: &Value) -> Result<(), String> {
        let kind = instruction["kind"].as_str().ok_or("no kind")?;
        let variation = self.place(&instruction["variationId"]);
        let chosen = variation.ok_or(format!("{kind}: no such variation"));
        let config = &mut self.flag["environments"][ENVIRONMENT];
        match kind {
            "clearTargets" => {
                let cleared = chosen?;
                for key in ["targets", "contextTargets"] {
                    if let Some(targets) = config[key].as_array_mut() {
                        targets.retain(|target| target["variation"] != cleared);
                    }
                }
            }
            "updateFallthroughVariationOrRollout" => config["fallthrough"] = json!({"variation": chosen?}),
            "updateOffVariation" => config["offVariation"] = json!(chosen?),
            "updateRuleVariationOrRollout" => {
                let rules = config["rules"].as_array_mut().ok_or("no rules")?;
                let rule = rules.iter_mut().find(|rule| rule["_id"] == instruction["ruleId"]);
                let rule = rule.and_then(Value::as_object_mut).ok_or("no such rule")?;
                rule.remove("rollout");
                rule.insert("variation".into(), json!(chosen?));
            }
            other => return Err(format!("unknown instruction {other}")),
        }
        Ok(())
    }

    fn latest(&self) -> Value {
        let mut flag = self.config().clone();
        let variations = self.flag["variations"].as_array().unwrap().iter();
        flag["variations"] = variations.map(|one| one["value"].clone()).collect();
        let key = self.flag["key"].as_str().unwrap();
        json!({"flags": {key: flag}, "segments": {}})
    }
}

impl Flags for LaunchDarkly {
    fn changes(&self) -> u64 {
        self.changes
    }
}

impl Platform for LaunchDarkly {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.headers.get("authorization").is_none_or(|token| token.starts_with("Bearer")) {
            return (401, json!({"code": "unauthorized"}));
        }
        if asked.place() == "/sdk/latest-all" {
            return (200, self.latest());
        }
        if let Err(why) = self.contract.check(asked) {
            return (400, json!({"code": "invalid_request", "message": why}));
        }
        if asked.method == "PATCH" {
            if !asked.headers["content-type"].contains("domain-model=launchdarkly.semanticpatch") {
                return (400, json!({"code": "invalid_request", "message": "no semantic patch"}));
            }
            let mut next = self.clone();
            if let Err(why) = next.patch(asked.body.as_ref().unwrap()) {
                return (400, json!({"code": "invalid_request", "message": why}));
            }
            let version = next.config()["version"].as_u64().unwrap() + 1;
            next.flag["environments"][ENVIRONMENT]["version"] = json!(version);
            next.changes += 1;
            *self = next;
        }
        (200, self.flag.clone())
    }
}

fn outcome(rule: &Value, bucket: u64) -> Option<u64> {
    if let Some(variation) = rule["variation"].as_u64() {
        return Some(variation);
    }
    let parts = rule["rollout"]["variations"].as_array()?;
    let mut upto = 0;
    for part in parts {
        upto += part["weight"].as_u64()?;
        if bucket < upto {
            return part["variation"].as_u64();
        }
    }
    parts.last()?["variation"].as_u64()
}
