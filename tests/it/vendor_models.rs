//! ConfigCat's and Statsig's cores against the stand-in's models: nobody gets the treatment after a pin, and nothing else changes.

use proptest::prelude::*;
use rearguard::dispatch::flag::configcat::ConfigCat;
use rearguard::dispatch::flag::statsig::{Kind, Statsig};
use serde_json::{Value, json};

use crate::standin::{configcat as cc, statsig as st};
use crate::vendors::pin;

fn configcat() -> ConfigCat {
    let environment = "08d86d63-2726-47cd-8bfc-59608ecb91e2".into();
    ConfigCat {
        environment,
        setting: 7,
        key: "ai.a".into(),
        control: json!("a.v1"),
        treatment: json!("a.v2"),
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["a.v1", "a.v2", "other"]).prop_map(|text| json!({"stringValue": text}))
}

prop_compose! {
    pub fn setting()(
        default in value(),
        rules in prop::collection::vec((any::<bool>(), prop::option::of((0..=100_u32, value(), value())), value()), 0..4),
    ) -> Value {
        let rules: Vec<Value> = rules.into_iter().map(|(conditional, split, value)| {
            let conditions = if conditional {
                json!([{"userCondition": {"comparisonAttribute": "tenant", "comparator": "isOneOf", "comparisonValue": {"stringValue": "acme"}}}])
            } else { json!([]) };
            match split {
                Some((percent, one, other)) => json!({"conditions": conditions, "value": null, "percentageOptions": [
                    {"percentage": percent, "value": one}, {"percentage": 100 - percent, "value": other}]}),
                None => json!({"conditions": conditions, "percentageOptions": [], "value": value}),
            }
        }).collect();
        json!({"defaultValue": default, "targetingRules": rules, "percentageEvaluationAttribute": null, "readOnly": false,
            "lastVersionId": "v0", "updatedAt": "2026-01-01T00:00:00Z", "lastUpdaterUserEmail": "ann@example.com"})
    }
}

prop_compose! {
    fn gate()(on in any::<bool>(), rules in prop::collection::vec(1..=100_u32, 1..4)) -> Value {
        let rules: Vec<Value> = rules.into_iter().enumerate().map(|(place, pass)| json!({
            "name": format!("r{place}"), "passPercentage": pass, "conditions": [{"type": "user_id"}], "environments": null})).collect();
        json!({"id": "ai.a", "isEnabled": on, "status": "In Progress", "rules": rules, "lastModifiedTime": 5,
            "lastModifierEmail": "ann@example.com", "tags": ["ai"]})
    }
}

prop_compose! {
    fn experiment()(
        status in 0..4_usize,
        treated in 0..=100_u32,
        allocation in 1..=100_u32,
        forced in prop::collection::vec(any::<bool>(), 0..3),
    ) -> (Value, Value) {
        let group = |name: &str, id: &str, size: u32| json!({"name": name, "id": id, "size": size, "parameterValues": {"model": name}});
        let (status, launched) = [("active", Value::Null), ("setup", Value::Null), ("decision_made", json!("g0")),
            ("decision_made", json!("g1"))][status].clone();
        let data = json!({"id": "ai.a", "status": status, "launchedGroupID": launched, "allocation": allocation,
            "lastModifiedTime": 5, "groups": [group("a.v1", "g0", 100 - treated), group("a.v2", "g1", treated)]});
        let forced: Vec<Value> = forced.into_iter().enumerate().map(|(place, treated)| json!({
            "groupID": if treated { "a.v2" } else { "a.v1" }, "ids": [format!("user-{place}")]})).collect();
        (data, json!({"overrides": [], "userIDOverrides": forced}))
    }
}

proptest! {
    #[test]
    fn configcat_gives_everybody_control_after_a_pin(value in setting()) {
        let mut platform = cc::ConfigCat::new("ai.a", value.clone());
        pin(&configcat(), &mut platform);
        for fits in 0..16 {
            for percent in [0.0, 33.0, 99.9] {
                prop_assert_eq!(platform.evaluate(&cc::Context { fits, percent }), json!("a.v1"));
            }
        }
        let rules = |value: &Value| value["targetingRules"].as_array().unwrap().clone();
        for (before, after) in rules(&value).iter().zip(rules(&platform.value)) {
            prop_assert_eq!(&before["conditions"], &after["conditions"]);
        }
        prop_assert_eq!(rules(&value).len(), rules(&platform.value).len());
    }

    #[test]
    fn a_gate_of_statsig_passes_nobody_after_a_pin(data in gate()) {
        let mut platform = st::Statsig::new(data.clone(), Value::Null);
        pin(&Statsig { id: "ai.a".into(), kind: Kind::Gate }, &mut platform);
        for fits in 0..8 {
            let served = platform.evaluate(&st::Context { user: "u", fits, percent: 0.0 });
            prop_assert_eq!(served, Some(json!(false)));
        }
        prop_assert_eq!(&platform.data["rules"], &data["rules"]);
    }

    #[test]
    fn an_experiment_of_statsig_gives_everybody_control_after_a_pin((data, overrides) in experiment()) {
        let mut platform = st::Statsig::new(data.clone(), overrides);
        let kind = Kind::Experiment { control: "a.v1".into(), treatment: "a.v2".into() };
        pin(&Statsig { id: "ai.a".into(), kind }, &mut platform);
        for user in ["user-0", "user-1", "user-2", "nobody"] {
            for percent in [0.0, 50.0, 99.9] {
                let served = platform.evaluate(&st::Context { user, fits: 0, percent });
                prop_assert_eq!(served, Some(json!({"model": "a.v1"})));
            }
        }
        prop_assert_eq!(&platform.data["groups"], &data["groups"]);
    }
}
