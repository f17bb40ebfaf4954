//! Unleash: one feature, strategies, a client plane that follows later.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contract::Contract;
use super::{Asked, Flags, Platform};

const FIRST_REVISION: u64 = 7;

pub const ENVIRONMENT: &str = "production";

#[derive(Clone, Debug)]
pub struct Unleash {
    /// As the admin API shows it.
    pub feature: Value,
    /// How long the client plane stays behind.
    delay: Duration,
    /// What was so before the newest write, and when that was.
    before: Option<(Instant, Value)>,
    revision: u64,
    contract: Contract,
}

/// Who asks: which conditional strategies fit, and places in rollouts and variants.
pub struct Context {
    pub fits: u32,
    pub percent: f64,
    pub weight: u64,
}

impl Unleash {
    pub fn new(feature: Value, delay: Duration) -> Self {
        Self { feature, delay, before: None, revision: FIRST_REVISION, contract: Contract::of("unleash") }
    }

    pub fn environment(&self) -> &Value {
        environment(&self.feature)
    }

    /// The variant that a context gets, as the SDKs' evaluation goes.
    pub fn evaluate(&self, context: &Context) -> String {
        let environment = self.environment();
        let strategies = environment["strategies"].as_array().unwrap();
        if environment["enabled"] == false {
            return "disabled".into();
        }
        if strategies.is_empty() {
            return choose(&environment["variants"], context.weight);
        }
        for (place, strategy) in strategies.iter().enumerate() {
            let conditional = !strategy["constraints"].as_array().unwrap().is_empty();
            let rollout: f64 = strategy["parameters"]["rollout"].as_str().unwrap().parse().unwrap();
            let out = strategy["disabled"] == true || (conditional && context.fits & (1 << place) == 0);
            if out || context.percent >= rollout {
                continue;
            }
            let own = !strategy["variants"].as_array().unwrap().is_empty();
            let variants = if own { &strategy["variants"] } else { &environment["variants"] };
            return choose(variants, context.weight);
        }
        "disabled".into()
    }

    fn add(&mut self, strategy: &Value) -> Value {
        self.before = Some((Instant::now(), self.feature.clone()));
        self.revision += 1;
        let mut strategy = strategy.clone();
        strategy["id"] = json!(format!("new-{}", self.revision));
        let environments = self.feature["environments"].as_array_mut().unwrap();
        let environment = environments.iter_mut().find(|one| one["name"] == ENVIRONMENT).unwrap();
        let strategies = environment["strategies"].as_array_mut().unwrap();
        strategies.push(strategy.clone());
        strategies.sort_by_key(|strategy| strategy["sortOrder"].as_i64());
        strategy
    }

    fn client(&self) -> Value {
        let old = self.before.as_ref().filter(|(at, _)| at.elapsed() < self.delay);
        let feature = old.map_or(&self.feature, |(_, feature)| feature);
        let environment = environment(feature);
        let live = environment["strategies"].as_array().unwrap().iter().filter(|one| one["disabled"] != true);
        json!({
            "version": 2,
            "features": [{
                "name": feature["name"], "enabled": environment["enabled"],
                "strategies": live.collect::<Vec<_>>(), "variants": environment["variants"],
            }],
            "query": {"environment": ENVIRONMENT},
            "meta": {"revisionId": self.revision - u64::from(old.is_some())},
        })
    }
}

impl Flags for Unleash {
    fn changes(&self) -> u64 {
        self.revision - FIRST_REVISION
    }
}

impl Platform for Unleash {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.headers.get("authorization").is_none_or(String::is_empty) {
            return (401, json!({"name": "AuthenticationRequired"}));
        }
        if let Err(why) = self.contract.check(asked) {
            return (400, json!({"name": "BadDataError", "message": why}));
        }
        match (asked.method.as_str(), asked.place()) {
            ("GET", "/api/client/features") => (200, self.client()),
            ("GET", "/api/admin/search/events") => (
                200,
                json!({"events": [{
                "id": self.revision, "createdBy": "ann", "createdAt": "2026-11-23T22:32:36.730Z",
                "environment": ENVIRONMENT,
            }], "total": 1}),
            ),
            ("POST", _) => (200, self.add(asked.body.as_ref().unwrap())),
            _ => (200, self.feature.clone()),
        }
    }
}

fn environment(feature: &Value) -> &Value {
    feature["environments"].as_array().unwrap().iter().find(|one| one["name"] == ENVIRONMENT).unwrap()
}

fn choose(variants: &Value, bucket: u64) -> String {
    let mut upto = 0;
    for variant in variants.as_array().unwrap() {
        upto += variant["weight"].as_u64().unwrap();
        if bucket < upto {
            return variant["name"].as_str().unwrap().to_owned();
        }
    }
    "disabled".into()
}
