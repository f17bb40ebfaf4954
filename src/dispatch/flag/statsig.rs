//! Statsig: a gate is disabled; an experiment is decided for its control group.
//!
//! Console API (docs.statsig.com/console-api), `STATSIG-API-KEY`, about 100 writes in 10 seconds.
//!
//! **Gate.** It passes or fails; passing is the treatment, failing is control. `PUT /console/v1/gates/{id}/disable` makes it fail
//! for everybody: SDKs answer a disabled gate with its default, `false`, before they look at any rule or override. One call, whole
//! or not at all; rules, pass percentages, overrides and tags stay, so that enabling it again is the undo. Unlike on other
//! platforms this holds for *all* environments of the gate: Statsig keeps environments inside rules, and a rule that names none
//! belongs to each. A gate whose control is `true` cannot be rolled back this way and is refused.
//!
//! **Experiment.** `PUT …/make_decision {"id": <control group>, "decisionReason": …}` serves control's parameters. Overrides force
//! users, gates and segments into groups and outlive a decision, so those that lead elsewhere are taken out first
//! (`POST …/overrides` replaces the list). A decision cannot be taken back: the undo is a new start by a human, as the pages say.
//! Contexts outside of the experiment's targeting get the caller's default, before and after.
//!
//! `x-respect-review-settings` keeps Statsig from passing over a required review: by default its API does so silently.
//!
//! Read-back: `GET https://api.statsigcdn.com/v1/download_config_specs/{server secret}.json`, what server SDKs download (open source
//! of the SDKs; not in the console's contract). It is judged without evaluating rules: any value that can be reached counts.

use reqwest::Method;
use serde_json::{Value, json};

use super::Result;
use super::vendor::{
    Auth, Call, Change, KEY_IN_PATH, Meaning, Plane, State, Vendor, Verdict, answer, fingerprint, list,
    meaning, odd, segment, share_of_percent, text,
};
use crate::dispatch::failure::Failure;
use crate::model::time::Timestamp;

const RESPECT_REVIEW: (&str, &str) = ("x-respect-review-settings", "true");

/// A gate or an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Statsig {
    pub id: String,
    pub kind: Kind,
}

/// What of Statsig's a flag is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Passing is the treatment.
    Gate,
    Experiment {
        /// The names of the groups.
        control: String,
        treatment: String,
    },
}

impl Vendor for Statsig {
    fn auth(&self, plane: Plane) -> Auth {
        match plane {
            Plane::Admin => Auth::Header("statsig-api-key"),
            Plane::Evaluation => Auth::Path,
        }
    }

    fn read(&self) -> Vec<Call> {
        let mut calls = vec![Call::get(Plane::Admin, self.path())];
        if matches!(self.kind, Kind::Experiment { .. }) {
            calls.push(Call::get(Plane::Admin, format!("{}/overrides", self.path())));
        }
        calls
    }

    fn state(&self, answers: &[Value]) -> Result<State> {
        let data = &answer(answers, 0, "gate or experiment")?["data"];
        let at = data["lastModifiedTime"].as_i64();
        let review = data["reviewSettings"]["requiredReview"] == true;
        let archived = matches!(data["status"].as_str(), Some("Archived" | "archived"));
        let (safe, pinned, share) = match &self.kind {
            Kind::Gate => {
                let off = self.gate(data)?["isEnabled"] == false;
                // An enabled gate that no rule passes may still pass those whom overrides name.
                (off, off, gate_share(data))
            }
            Kind::Experiment { control, treatment, .. } => {
                let seen = Experiment::new(answers, control, treatment)?;
                (seen.way_to_treatment().is_none(), seen.is_pinned(), seen.share())
            }
        };
        Ok(State {
            version: at.and_then(|at| u64::try_from(at).ok()).unwrap_or_else(|| fingerprint(data)),
            safe,
            pinned,
            share,
            locked: match (archived, review) {
                (true, _) => Some("it is archived".to_owned()),
                (_, true) => Some("changes need a review".to_owned()),
                _ => None,
            },
            moves: None,
            last_change: Some(Change {
                by: text(data, "lastModifierEmail").or_else(|| text(data, "lastModifierName")),
                at: at.map(Timestamp::from_millis),
            }),
        })
    }

    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>> {
        let data = &answer(answers, 0, "gate or experiment")?["data"];
        let mut calls = match &self.kind {
            Kind::Gate if self.gate(data)?["isEnabled"] == false => Vec::new(),
            Kind::Gate => {
                let path = format!("{}/disable", self.path());
                vec![Call { method: Method::PUT, ..Call::get(Plane::Admin, path) }]
            }
            Kind::Experiment { control, treatment, .. } => {
                self.decide(&Experiment::new(answers, control, treatment)?, note)?
            }
        };
        for call in &mut calls {
            call.headers.push(RESPECT_REVIEW);
        }
        Ok(calls)
    }

    fn evaluation(&self) -> Vec<Call> {
        let specs = format!("/v1/download_config_specs/{KEY_IN_PATH}.json");
        let mut calls = vec![Call::get(Plane::Evaluation, specs)];
        if matches!(self.kind, Kind::Experiment { .. }) {
            // The treatment group's parameters tell it from control where SDKs read.
            calls.push(Call::get(Plane::Admin, self.path()));
        }
        calls
    }

    fn judge(&self, answers: &[Value]) -> Result<Verdict> {
        let specs = answer(answers, 0, "set of specs")?;
        let listed = match self.kind {
            Kind::Gate => "feature_gates",
            Kind::Experiment { .. } => "dynamic_configs",
        };
        let Some(spec) = list(specs, listed).iter().find(|spec| spec["name"] == *self.id) else {
            return Err(odd(format!("`{}` is not served", self.id)));
        };
        let parameters = match &self.kind {
            Kind::Gate => &Value::Bool(true),
            Kind::Experiment { treatment, .. } => {
                let data = &answer(answers, 1, "experiment")?["data"];
                &group(data, treatment)?["parameterValues"]
            }
        };
        let treated = |value: &Value| value == parameters;
        let revision = specs["time"].as_u64().map(|time| time.to_string());
        if treated(&spec["defaultValue"]) {
            return Ok(Verdict::Exposed { by: "the default is the treatment".to_owned() });
        }
        let live = list(spec, "rules").iter().filter(|rule| rule["passPercentage"] != 0);
        let exposed = live.into_iter().find(|rule| treated(&rule["returnValue"]));
        Ok(match exposed {
            Some(rule) if spec["enabled"] != false => {
                let name = rule["groupName"].as_str().or(rule["name"].as_str()).unwrap_or("?");
                Verdict::Exposed { by: format!("rule `{name}` serves the treatment") }
            }
            _ => Verdict::Clear { revision },
        })
    }

    fn meaning(&self, status: u16, body: &str) -> Meaning {
        match status {
            400..=499 if status != 429 && body.to_lowercase().contains("review") => Meaning::Approval,
            _ => meaning(status, body),
        }
    }

    fn undo(&self, web: &str) -> String {
        let web = web.trim_end_matches('/');
        let kind = match self.kind {
            Kind::Gate => "gates",
            Kind::Experiment { .. } => "experiments",
        };
        format!("{web}/{kind}/{}", segment(&self.id))
    }
}

impl Statsig {
    fn path(&self) -> String {
        let kind = match self.kind {
            Kind::Gate => "gates",
            Kind::Experiment { .. } => "experiments",
        };
        format!("/console/v1/{kind}/{}", segment(&self.id))
    }

    fn gate<'a>(&self, data: &'a Value) -> Result<&'a Value> {
        match data["isEnabled"] {
            Value::Bool(_) => Ok(data),
            _ => Err(odd(format!("the answer is not gate `{}`", self.id))),
        }
    }

    fn decide(&self, seen: &Experiment<'_>, note: &str) -> Result<Vec<Call>> {
        let mut calls = Vec::new();
        if seen.kept() != seen.overrides() {
            let path = format!("{}/overrides", self.path());
            calls.push(Call::write(Method::POST, path, seen.kept()));
        }
        if !seen.is_decided() {
            let id = seen.control["id"].as_str();
            let id = id.ok_or_else(|| odd(format!("the control group of `{}` has no id", self.id)))?;
            let path = format!("{}/make_decision", self.path());
            calls.push(Call::write(Method::PUT, path, json!({"id": id, "decisionReason": note})));
        }
        Ok(calls)
    }
}

fn gate_share(data: &Value) -> Option<u32> {
    if data["isEnabled"] == false {
        return Some(0);
    }
    let [rule] = list(data, "rules") else { return None };
    let open = list(rule, "conditions").iter().all(|condition| condition["type"] == "public");
    let percent = rule["passPercentage"].as_f64().filter(|_| open && rule["environments"].is_null())?;
    Some(share_of_percent(percent))
}

fn group<'a>(data: &'a Value, name: &str) -> Result<&'a Value> {
    let found = list(data, "groups").iter().find(|group| group["name"] == name);
    found.ok_or_else(|| Failure::permanent(format!("experiment {} has no group `{name}`", data["id"])))
}

/// An experiment with its overrides.
struct Experiment<'a> {
    data: &'a Value,
    overrides: &'a Value,
    control: &'a Value,
    treatment: &'a Value,
}

impl<'a> Experiment<'a> {
    fn new(answers: &'a [Value], control: &str, treatment: &str) -> Result<Self> {
        let data = &answer(answers, 0, "experiment")?["data"];
        let overrides = &answer(answers, 1, "list of overrides")?["data"];
        Ok(Self { data, overrides, control: group(data, control)?, treatment: group(data, treatment)? })
    }

    fn is_decided(&self) -> bool {
        let launched = &self.data["launchedGroupID"];
        launched.is_string() && *launched == self.control["id"]
    }

    fn is_pinned(&self) -> bool {
        self.is_decided() && self.kept() == self.overrides()
    }

    fn way_to_treatment(&self) -> Option<&'static str> {
        let launched = &self.data["launchedGroupID"];
        let running = self.data["status"] == "active" && launched.is_null();
        if running && self.treatment["disabled"] != true && self.treatment["size"] != 0.0 {
            return Some("it runs");
        }
        if launched.is_string() && *launched == self.treatment["id"] {
            return Some("the treatment was launched");
        }
        (self.kept() != self.overrides()).then_some("an override may lead there")
    }

    /// The overrides as they are, in the form in which they are written.
    fn overrides(&self) -> Value {
        json!({
            "overrides": list(self.overrides, "overrides"),
            "userIDOverrides": list(self.overrides, "userIDOverrides"),
        })
    }

    /// Those that lead to control. An override names its group by name or by id.
    fn kept(&self) -> Value {
        let leads = |entry: &&Value| {
            entry["groupID"] == self.control["name"]
                || (self.control["id"].is_string() && entry["groupID"] == self.control["id"])
        };
        let kept = |key: &str| -> Vec<&Value> { list(self.overrides, key).iter().filter(leads).collect() };
        json!({"overrides": kept("overrides"), "userIDOverrides": kept("userIDOverrides")})
    }

    fn share(&self) -> Option<u32> {
        if self.data["status"] != "active" {
            return Some(share_of_percent(
                if self.way_to_treatment() == Some("the treatment was launched") { 100.0 } else { 0.0 },
            ));
        }
        let allocated = self.data["allocation"].as_f64()?;
        Some(share_of_percent(allocated * self.treatment["size"].as_f64()? / 100.0))
    }
}

#[cfg(test)]
mod tests;
