//! LaunchDarkly: control for targets, rules and the default rule, in one semantic patch.
//!
//! `PATCH /api/v2/flags/{project}/{flag}` with `domain-model=launchdarkly.semanticpatch` (launchdarkly.com/docs/api, "Update
//! feature flag"). SDKs look at individual targets first, then at rules in order, then at the default rule ("fallthrough"); so
//! the default rule alone would leave targets and rules on the treatment. A pin therefore
//!
//! - clears the targets of every variation but control (`clearTargets` takes users and other contexts),
//! - lets every rule that could serve another variation serve control (`updateRuleVariationOrRollout`), disabled rules too,
//! - lets the default rule serve control (`updateFallthroughVariationOrRollout`),
//! - and, only if the off variation is the treatment and can be served (targeting is off, or there are prerequisites), sets the
//!   off variation to control (`updateOffVariation`).
//!
//! Clauses, segments, prerequisites, tags and other environments stay. A failed prerequisite serves the off variation, so
//! prerequisites need no change. Targeting that is off stays off. Instructions name ids, never places, so a change in between
//! cannot divert them; the patch is applied whole or not at all. Migration flags take rollouts only.
//!
//! `ignoreConflicts=true`: a scheduled change or an open approval request must not hold up a rollback. 405 says that approval is
//! required; Rearguard does not ask for it, it pages. 409 is optimistic locking. 429 names its end in `X-Ratelimit-Reset`.
//!
//! Read-back: what server SDKs poll, `GET https://sdk.launchdarkly.com/sdk/latest-all` with the environment's SDK key (the open
//! source of the Go, Node and .NET SDKs; the REST documentation does not describe it). It holds every flag of the environment.

use reqwest::Method;
use serde_json::{Value, json};

use super::Result;
use super::vendor::{
    Auth, Call, Change, Meaning, Plane, State, Vendor, Verdict, WHOLE, answer, list, meaning, odd, segment,
    text,
};
use crate::dispatch::failure::Failure;
use crate::model::time::Timestamp;

/// The API's version that the requests are written for.
const API_VERSION: (&str, &str) = ("ld-api-version", "20240415");

const SEMANTIC: (&str, &str) = ("content-type", "application/json; domain-model=launchdarkly.semanticpatch");

/// A whole rollout, in thousandths of a percent.
const ALL: u64 = 100_000;

/// One flag in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchDarkly {
    pub project: String,
    pub flag: String,
    pub environment: String,
    /// Variations, each by its value (text, or JSON as text): names and ids are unknown where SDKs read.
    pub control: String,
    pub treatment: String,
}

impl Vendor for LaunchDarkly {
    /// The token without `Bearer`.
    fn auth(&self, _: Plane) -> Auth {
        Auth::Header("authorization")
    }

    fn read(&self) -> Vec<Call> {
        let path = format!("{}?env={}", self.path(), segment(&self.environment));
        vec![Call { headers: vec![API_VERSION], ..Call::get(Plane::Admin, path) }]
    }

    fn state(&self, answers: &[Value]) -> Result<State> {
        let seen = self.see(answers)?;
        let config = seen.config;
        let archived = seen.flag["archived"] == true || config["archived"] == true;
        let denied = list(&config["_access"], "denied").iter().find_map(|denied| text(denied, "action"));
        let locked = if archived {
            Some("the flag is archived".to_owned())
        } else {
            denied.map(|action| format!("the token may not `{action}`"))
        };
        Ok(State {
            version: config["version"].as_u64().ok_or_else(|| odd("the environment has no version"))?,
            safe: archived || seen.way_to(seen.treatment).is_none(),
            pinned: seen.instructions().is_empty(),
            share: if archived { Some(0) } else { seen.share() },
            locked,
            moves: None,
            last_change: config["lastModified"]
                .as_i64()
                .map(|at| Change { by: None, at: Some(Timestamp::from_millis(at)) }),
        })
    }

    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>> {
        let instructions = self.see(answers)?.instructions();
        if instructions.is_empty() {
            return Ok(Vec::new());
        }
        let body = json!({"environmentKey": self.environment, "comment": note, "instructions": instructions});
        let path = format!("{}?ignoreConflicts=true", self.path());
        let headers = vec![SEMANTIC, API_VERSION];
        Ok(vec![Call { headers, ..Call::write(Method::PATCH, path, body) }])
    }

    fn evaluation(&self) -> Vec<Call> {
        vec![Call::get(Plane::Evaluation, "/sdk/latest-all".to_owned())]
    }

    fn judge(&self, answers: &[Value]) -> Result<Verdict> {
        let all = answer(answers, 0, "list of flags")?;
        let Some(flag) = all["flags"].get(&self.flag).filter(|flag| flag["deleted"] != true) else {
            return Err(odd(format!("flag `{}` is not served", self.flag)));
        };
        let treatment = self.place(list(flag, "variations"), &self.treatment)?;
        let control = self.place(list(flag, "variations"), &self.control)?;
        let seen = Seen { flag, config: flag, control, treatment };
        Ok(match seen.way_to(treatment) {
            Some(by) => Verdict::Exposed { by },
            None => Verdict::Clear { revision: flag["version"].as_u64().map(|version| version.to_string()) },
        })
    }

    fn meaning(&self, status: u16, body: &str) -> Meaning {
        match status {
            405 => Meaning::Approval,
            _ => meaning(status, body),
        }
    }

    fn undo(&self, web: &str) -> String {
        let web = web.trim_end_matches('/');
        let (project, flag, environment) =
            (segment(&self.project), segment(&self.flag), segment(&self.environment));
        format!("{web}/projects/{project}/flags/{flag}/history?env={environment}")
    }
}

impl LaunchDarkly {
    fn path(&self) -> String {
        format!("/api/v2/flags/{}/{}", segment(&self.project), segment(&self.flag))
    }

    fn see<'a>(&self, answers: &'a [Value]) -> Result<Seen<'a>> {
        let flag = answer(answers, 0, "flag")?;
        let config = &flag["environments"][&self.environment];
        if !config.is_object() {
            return Err(Failure::permanent(format!(
                "flag `{}` has no environment `{}`",
                self.flag, self.environment
            )));
        }
        let variations = list(flag, "variations");
        let control = self.place(variations, &self.control)?;
        let treatment = self.place(variations, &self.treatment)?;
        if control == treatment {
            return Err(Failure::permanent(format!("control and treatment are one variation, {control}")));
        }
        if variations.iter().any(|variation| !variation["_id"].is_string()) {
            return Err(odd("a variation has no id"));
        }
        Ok(Seen { flag, config, control, treatment })
    }

    /// Which variation is meant. Variations of the REST API are objects, those of the SDKs bare values.
    fn place(&self, variations: &[Value], wanted: &str) -> Result<usize> {
        let fits = |variation: &Value| {
            let value =
                variation.get("value").filter(|_| variation.get("_id").is_some()).unwrap_or(variation);
            let json = value.to_string();
            value.as_str() == Some(wanted) || json == wanted
        };
        variations.iter().position(fits).ok_or_else(|| {
            Failure::permanent(format!("flag `{}` has no variation whose value is `{wanted}`", self.flag))
        })
    }
}

/// A flag with the places of its two variations.
struct Seen<'a> {
    flag: &'a Value,
    config: &'a Value,
    control: usize,
    treatment: usize,
}

impl Seen<'_> {
    /// The first way in which a context could get a variation.
    fn way_to(&self, wanted: usize) -> Option<String> {
        let config = self.config;
        let is_off = config["on"] == false;
        if (is_off || self.has_prerequisites()) && config["offVariation"] == wanted {
            let why = if is_off { "targeting is off" } else { "a prerequisite may fail" };
            return Some(format!("{why}, and the off variation is {wanted}"));
        }
        if is_off {
            return None;
        }
        if targets(config).any(|target| target["variation"] == wanted && !list(target, "values").is_empty()) {
            return Some(format!("individual targets get variation {wanted}"));
        }
        let rules = list(config, "rules").iter().enumerate();
        let mut live = rules.filter(|(_, rule)| rule["disabled"] != true);
        if let Some((place, _)) = live.find(|(_, rule)| serves(rule).contains(&wanted)) {
            return Some(format!("rule {} serves variation {wanted}", place + 1));
        }
        serves(&config["fallthrough"])
            .contains(&wanted)
            .then(|| format!("the default rule serves variation {wanted}"))
    }

    fn has_prerequisites(&self) -> bool {
        !list(self.config, "prerequisites").is_empty()
    }

    fn instructions(&self) -> Vec<Value> {
        let config = self.config;
        let mut instructions = Vec::new();
        for place in 0..list(self.flag, "variations").len() {
            let named = |target: &Value| target["variation"] == place && !list(target, "values").is_empty();
            if place != self.control && targets(config).any(named) {
                instructions.push(json!({"kind": "clearTargets", "variationId": self.id(place)}));
            }
        }
        for rule in list(config, "rules").iter().filter(|rule| serves(rule) != [self.control]) {
            let mut instruction = self.control_for("updateRuleVariationOrRollout");
            instruction["ruleId"] = rule["_id"].clone();
            instructions.push(instruction);
        }
        if serves(&config["fallthrough"]) != [self.control] {
            instructions.push(self.control_for("updateFallthroughVariationOrRollout"));
        }
        let off_is_served = config["on"] == false || self.has_prerequisites();
        if off_is_served && config["offVariation"] == self.treatment {
            instructions.push(json!({"kind": "updateOffVariation", "variationId": self.id(self.control)}));
        }
        instructions
    }

    fn control_for(&self, kind: &str) -> Value {
        let id = self.id(self.control);
        if self.flag["purpose"] == "migration" || self.flag["migrationSettings"].is_object() {
            let weights = json!({id.as_str().unwrap_or_default(): ALL});
            return json!({"kind": kind, "rolloutWeights": weights});
        }
        json!({"kind": kind, "variationId": id})
    }

    fn id(&self, place: usize) -> Value {
        self.flag["variations"][place]["_id"].clone()
    }

    /// The treatment's part of the default rule.
    fn share(&self) -> Option<u32> {
        if self.config["on"] == false {
            return Some(if self.config["offVariation"] == self.treatment { WHOLE } else { 0 });
        }
        let default = &self.config["fallthrough"];
        if default["variation"].is_u64() {
            return Some(if default["variation"] == self.treatment { WHOLE } else { 0 });
        }
        let parts = list(&default["rollout"], "variations").iter();
        let weight: u64 = parts
            .filter(|part| part["variation"] == self.treatment)
            .filter_map(|part| part["weight"].as_u64())
            .sum();
        u32::try_from(weight.min(ALL) * 10).ok()
    }
}

/// Targets that are users, and targets that are contexts of other kinds.
fn targets(config: &Value) -> impl Iterator<Item = &Value> {
    list(config, "targets").iter().chain(list(config, "contextTargets"))
}

/// The variations that a rule can serve. The last of a rollout catches what rounding leaves over, so a rollout whose weights are
/// all nought serves it; an experiment's rest gets its default variation.
fn serves(rule: &Value) -> Vec<usize> {
    let place = |value: &Value| value.as_u64().and_then(|place| usize::try_from(place).ok());
    if let Some(variation) = place(&rule["variation"]) {
        return vec![variation];
    }
    let parts = list(&rule["rollout"], "variations");
    let weight = |part: &Value| part["weight"].as_u64().unwrap_or(0);
    let short = parts.iter().map(weight).sum::<u64>() < ALL;
    let last = parts.last().filter(|_| short);
    let weighed = parts.iter().filter(|part| weight(part) > 0);
    let mut served: Vec<usize> = weighed.chain(last).filter_map(|part| place(&part["variation"])).collect();
    served.extend(place(&rule["rollout"]["experimentAllocation"]["defaultVariation"]));
    served.sort_unstable();
    served.dedup();
    served
}
