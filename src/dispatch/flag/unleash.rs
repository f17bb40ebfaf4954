//! Unleash 8.2: control by a strategy of its own in front of all others.
//!
//! Switching the environment off would give everybody the variant `disabled`, which is the caller's default, not control; setting
//! the rollout to 0 % does the same. SDKs try an environment's strategies in order and take the variant of the first that
//! applies (docs.getunleash.io, "Strategy variants"), and `GET /api/client/features` lists them by `sortOrder`. So a pin adds one
//! strategy before the first: `flexibleRollout` at 100 %, no constraint, no segment, the one variant `control` at weight 1000. It
//! catches every context, whatever rules, segments and overrides say behind it; nothing else is touched, and deleting it is the
//! undo. Seen on a running 8.2: `sortOrder` may be negative, `POST` answers 200 with the strategy, and the client plane follows
//! about a second later.
//!
//! - A flag without a variant named like control is refused: `isEnabled()` would become true for everybody.
//! - An environment that is off is left off: nobody gets the treatment, and turning it on is nobody's order.
//! - A parent flag (dependency) that is not met gives `disabled`. Dependencies hold for all environments and are left alone.
//! - SDKs from before strategy variants (2023) read the environment's own variants only; they are not protected by this.
//! - Where change requests are required, a write without the permission `SKIP_CHANGE_REQUEST` is answered 403 that names it.
//! - `If-Match` is ignored; two writers can add two strategies of control, which does no harm.

use reqwest::Method;
use serde_json::{Value, json};

use super::Result;
use super::vendor::{
    Auth, Call, Change, Meaning, Plane, State, Vendor, Verdict, WHOLE, answer, fingerprint, list, meaning,
    odd, segment, share_of_percent, text,
};
use crate::dispatch::failure::Failure;
use crate::model::time::Timestamp;

/// How the strategy of a pin is called in Unleash; what it is recognised by is its effect.
const TITLE: &str = "Rearguard: rolled back to";

/// One flag in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unleash {
    pub project: String,
    pub feature: String,
    pub environment: String,
    /// The names of the variants, as `getVariant` answers them.
    pub control: String,
    pub treatment: String,
}

impl Vendor for Unleash {
    fn auth(&self, _: Plane) -> Auth {
        Auth::Header("authorization")
    }

    fn read(&self) -> Vec<Call> {
        let feature = format!("{}?variantEnvironments=true", self.path());
        let events = format!("/api/admin/search/events?feature=IS:{}&limit=50", segment(&self.feature));
        let events = Call { optional: true, ..Call::get(Plane::Admin, events) };
        vec![Call::get(Plane::Admin, feature), events]
    }

    fn state(&self, answers: &[Value]) -> Result<State> {
        let (feature, environment) = self.environment(answers)?;
        let reach = self.walk(environment);
        let event = self.newest_event(answers.get(1));
        let off = environment["enabled"] == false;
        Ok(State {
            // Not the newest event's number: whether events may be read can change between two reads.
            version: fingerprint(&settings(environment)),
            safe: off || reach.treatment.is_none(),
            pinned: self.is_pinned(environment),
            share: if off { Some(0) } else { self.share(environment) },
            locked: (feature["archived"] == true).then(|| "the flag is archived".to_owned()),
            moves: list(environment, "strategies")
                .iter()
                .any(|strategy| strategy["milestoneId"].is_string())
                .then(|| "a release plan moves its milestones".to_owned()),
            last_change: event.map(change),
        })
    }

    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>> {
        let (_, environment) = self.environment(answers)?;
        if self.is_pinned(environment) {
            return Ok(Vec::new());
        }
        let strategies = list(environment, "strategies");
        let first = strategies.iter().filter_map(|one| one["sortOrder"].as_i64()).min().unwrap_or(1);
        let mut variant = json!({
            "name": self.control, "weight": 1000, "weightType": "variable", "stickiness": "default"
        });
        // What control carries along is what it carried before.
        let payload = self.controls(environment).find_map(|control| control.get("payload"));
        if let Some(payload) = payload.filter(|payload| payload.is_object()) {
            variant["payload"] = payload.clone();
        }
        let body = json!({
            "name": "flexibleRollout",
            "title": format!("{TITLE} {} ({note})", self.control),
            "disabled": false,
            "sortOrder": first - 1,
            "constraints": [],
            "segments": [],
            "parameters": {"rollout": "100", "stickiness": "default", "groupId": self.feature},
            "variants": [variant],
        });
        let path = format!("{}/environments/{}/strategies", self.path(), segment(&self.environment));
        Ok(vec![Call::write(Method::POST, path, body)])
    }

    fn evaluation(&self) -> Vec<Call> {
        // The whole environment may be larger than what is read of an answer.
        let path = format!("/api/client/features?namePrefix={}", segment(&self.feature));
        vec![Call::get(Plane::Evaluation, path)]
    }

    fn judge(&self, answers: &[Value]) -> Result<Verdict> {
        let features = answer(answers, 0, "list of features")?;
        let asked = features["query"]["environment"].as_str();
        if let Some(other) = asked.filter(|asked| *asked != self.environment) {
            return Err(Failure::permanent(format!(
                "the client token reads environment `{other}`, not `{}`",
                self.environment
            )));
        }
        let served = list(features, "features").iter().find(|feature| feature["name"] == *self.feature);
        let Some(feature) = served else {
            return Err(odd(format!("feature `{}` is not served", self.feature)));
        };
        let revision = features["meta"]["revisionId"].as_u64().map(|id| id.to_string());
        match self.walk(feature).treatment {
            Some(by) if feature["enabled"] != false => Ok(Verdict::Exposed { by }),
            _ => Ok(Verdict::Clear { revision }),
        }
    }

    fn meaning(&self, status: u16, body: &str) -> Meaning {
        match status {
            403 if body.contains("SKIP_CHANGE_REQUEST") || body.to_lowercase().contains("change request") => {
                Meaning::Approval
            }
            _ => meaning(status, body),
        }
    }

    fn undo(&self, web: &str) -> String {
        let web = web.trim_end_matches('/');
        format!("{web}/projects/{}/features/{}", segment(&self.project), segment(&self.feature))
    }
}

/// What a walk through strategies finds.
#[derive(Default)]
struct Reach {
    /// The first way to the treatment.
    treatment: Option<String>,
}

impl Unleash {
    fn path(&self) -> String {
        format!("/api/admin/projects/{}/features/{}", segment(&self.project), segment(&self.feature))
    }

    /// The flag and its part for the environment. Fails for good if control is unknown there.
    fn environment<'a>(&self, answers: &'a [Value]) -> Result<(&'a Value, &'a Value)> {
        let feature = answer(answers, 0, "feature")?;
        let found = list(feature, "environments").iter().find(|one| one["name"] == *self.environment);
        let Some(environment) = found else {
            return Err(Failure::permanent(format!(
                "feature `{}` has no environment `{}`",
                self.feature, self.environment
            )));
        };
        if self.controls(environment).next().is_none() {
            return Err(Failure::permanent(format!(
                "feature `{}` has no variant `{}` in `{}`: add it to a strategy, or name the right control",
                self.feature, self.control, self.environment
            )));
        }
        Ok((feature, environment))
    }

    /// The variants named like control, of the strategies and of the environment.
    fn controls<'a>(&'a self, environment: &'a Value) -> impl Iterator<Item = &'a Value> {
        let strategies = list(environment, "strategies").iter().flat_map(|one| list(one, "variants"));
        strategies.chain(list(environment, "variants")).filter(|variant| variant["name"] == *self.control)
    }

    /// Follows the strategies as an SDK does, up to the first that catches everybody.
    fn walk(&self, environment: &Value) -> Reach {
        let live = || list(environment, "strategies").iter().filter(|strategy| strategy["disabled"] != true);
        // An environment without strategies serves everybody its own variants; the client plane leaves out disabled ones.
        if live().next().is_none() {
            return Reach {
                treatment: self.treated(list(environment, "variants"), "the environment's variants"),
            };
        }
        for (place, strategy) in live().enumerate() {
            if rollout(strategy) == Some(0.0) {
                continue;
            }
            let place = place + 1;
            if let Some(by) = self.treated(variants(environment, strategy), &format!("strategy {place}")) {
                return Reach { treatment: Some(by) };
            }
            if catches_all(strategy) {
                break;
            }
        }
        Reach::default()
    }

    fn treated(&self, variants: &[Value], place: &str) -> Option<String> {
        let found = variants.iter().find(|variant| {
            let named = variant["name"] == *self.treatment;
            named && (variant["weight"] != 0 || !list(variant, "overrides").is_empty())
        })?;
        Some(format!("{place} gives `{}` a weight of {}", self.treatment, found["weight"]))
    }

    /// Whether the first strategy that can apply gives everybody control.
    fn is_pinned(&self, environment: &Value) -> bool {
        let strategies = list(environment, "strategies");
        let first =
            strategies.iter().find(|strategy| strategy["disabled"] != true && rollout(strategy) != Some(0.0));
        first.is_some_and(|strategy| {
            let variants = variants(environment, strategy);
            catches_all(strategy)
                && !variants.is_empty()
                && variants.iter().all(|variant| {
                    let none = variant["weight"] == 0 && list(variant, "overrides").is_empty();
                    variant["name"] == *self.control || none
                })
                && variants.iter().any(|variant| variant["name"] == *self.control && variant["weight"] != 0)
        })
    }

    /// The treatment's share, if one strategy without conditions decides.
    fn share(&self, environment: &Value) -> Option<u32> {
        if self.walk(environment).treatment.is_none() {
            return Some(0);
        }
        let mut live = list(environment, "strategies").iter().filter(|strategy| strategy["disabled"] != true);
        let first = live.next()?;
        if !is_open(first) || (!catches_all(first) && live.next().is_some()) {
            return None;
        }
        let variants = variants(environment, first);
        let weight = |variant: &Value| variant["weight"].as_u64().unwrap_or(0);
        let sum: u64 = variants.iter().map(weight).sum();
        let treated: u64 = variants.iter().filter(|one| one["name"] == *self.treatment).map(weight).sum();
        let part = u64::from(share_of_percent(rollout(first)?)) * treated / sum.max(1);
        u32::try_from(part).ok().map(|part| part.min(WHOLE))
    }

    fn newest_event<'a>(&self, events: Option<&'a Value>) -> Option<&'a Value> {
        list(events?, "events")
            .iter()
            .filter(|event| event["environment"].is_null() || event["environment"] == *self.environment)
            .max_by_key(|event| event["id"].as_u64())
    }
}

/// A strategy's own variants; those of the environment if it has none.
fn variants<'a>(environment: &'a Value, strategy: &'a Value) -> &'a [Value] {
    let own = list(strategy, "variants");
    if own.is_empty() { list(environment, "variants") } else { own }
}

/// The rollout in percent. None for strategies that know none.
fn rollout(strategy: &Value) -> Option<f64> {
    match (strategy["name"].as_str()?, &strategy["parameters"]["rollout"]) {
        ("default", _) => Some(100.0),
        ("flexibleRollout", Value::String(percent)) => percent.parse().ok(),
        ("flexibleRollout", percent) => percent.as_f64(),
        _ => None,
    }
}

/// No constraint and no segment, and sticky to nothing that a context may lack.
fn is_open(strategy: &Value) -> bool {
    let stickiness = strategy["parameters"]["stickiness"].as_str().unwrap_or("default");
    list(strategy, "constraints").is_empty()
        && list(strategy, "segments").is_empty()
        && (strategy["name"] == "default" || ["default", "random"].contains(&stickiness))
}

fn catches_all(strategy: &Value) -> bool {
    is_open(strategy) && rollout(strategy).is_some_and(|percent| percent >= 100.0)
}

fn change(event: &Value) -> Change {
    let at = event["createdAt"].as_str().and_then(Timestamp::parse);
    Change { by: text(event, "createdBy"), at }
}

/// What of an environment is settings; the rest counts evaluations.
fn settings(environment: &Value) -> Value {
    json!([environment["enabled"], environment["strategies"], environment["variants"]])
}
