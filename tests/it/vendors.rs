//! The cores of flag platforms against the stand-in's models, and the stand-in's faults.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rearguard::dispatch::flag::launchdarkly::LaunchDarkly;
use rearguard::dispatch::flag::unleash::Unleash;
use rearguard::dispatch::flag::vendor::{Call, KEY_IN_PATH, Vendor, Verdict};
use serde_json::{Value, json};

use crate::standin::launchdarkly as ld;
use crate::standin::samples::sample;
use crate::standin::server::{Fault, Standin};
use crate::standin::unleash as un;
use crate::standin::{Asked, Platform, SECRET};

fn darkly() -> LaunchDarkly {
    LaunchDarkly {
        project: "shop".into(),
        flag: "ai.a".into(),
        environment: ld::ENVIRONMENT.into(),
        control: "a.v1".into(),
        treatment: "a.v2".into(),
    }
}

fn unleash() -> Unleash {
    Unleash {
        project: "default".into(),
        feature: "ai.a".into(),
        environment: un::ENVIRONMENT.into(),
        control: "a.v1".into(),
        treatment: "a.v2".into(),
    }
}

fn send(platform: &mut impl Platform, call: &Call) -> Value {
    let mut headers: BTreeMap<String, String> =
        call.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.insert("authorization".into(), "Basic token".into());
    headers.insert("statsig-api-key".into(), "token".into());
    let path = call.path.replace(KEY_IN_PATH, SECRET);
    let asked =
        Asked { method: call.method.to_string(), path, headers, body: call.body.clone(), bytes: Vec::new() };
    let (status, body) = platform.answer(&asked);
    assert_eq!(status, 200, "{call:?}: {body}");
    body
}

fn ask(platform: &mut impl Platform, calls: &[Call]) -> Vec<Value> {
    calls.iter().map(|call| send(platform, call)).collect()
}

/// Pins; afterwards it is pinned, safe and clear, and there is nothing more to do.
pub fn pin(core: &impl Vendor, platform: &mut impl Platform) {
    let answers = ask(platform, &core.read());
    let before = core.state(&answers).unwrap();
    let calls = core.pin(&answers, "test").unwrap();
    assert_eq!(before.pinned, calls.is_empty());
    let judged = core.judge(&ask(platform, &core.evaluation())).unwrap();
    assert_eq!(before.safe, matches!(judged, Verdict::Clear { .. }), "both planes agree: {judged:?}");
    ask(platform, &calls);
    let answers = ask(platform, &core.read());
    let after = core.state(&answers).unwrap();
    assert!(after.pinned && after.safe, "{after:?}");
    assert_eq!(after.share.unwrap_or(0), 0);
    assert!(core.pin(&answers, "test").unwrap().is_empty());
    let judged = core.judge(&ask(platform, &core.evaluation())).unwrap();
    assert!(matches!(judged, Verdict::Clear { .. }), "{judged:?}");
}

fn outcome() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..3_u64).prop_map(|variation| json!({"variation": variation})),
        (0..=100_000_u64, 0..3_u64, 0..3_u64)
            .prop_map(|(weight, one, other)| json!({"rollout": {"variations": [
            {"variation": one, "weight": weight}, {"variation": other, "weight": 100_000 - weight}]}})),
    ]
}

prop_compose! {
    fn darkly_flag()(
        on in any::<bool>(),
        off in 0..3_u64,
        prerequisite in any::<bool>(),
        targets in prop::collection::vec((0..3_u64, any::<bool>()), 0..3),
        rules in prop::collection::vec((outcome(), any::<bool>()), 0..4),
        fallthrough in outcome(),
    ) -> Value {
        let target = |place: usize, variation: u64| json!({"values": [format!("key-{place}")], "variation": variation, "contextKind": "user"});
        let pick = |wanted: bool| -> Vec<Value> {
            targets.iter().enumerate().filter(|(_, one)| one.1 == wanted).map(|(place, one)| target(place, one.0)).collect()
        };
        let rules: Vec<Value> = rules.into_iter().enumerate().map(|(place, (mut rule, disabled))| {
            rule["_id"] = json!(format!("rule-{place}"));
            rule["disabled"] = json!(disabled);
            rule["trackEvents"] = json!(false);
            rule["clauses"] = json!([{"attribute": "segmentMatch", "op": "segmentMatch", "values": ["beta"], "negate": false}]);
            rule
        }).collect();
        let config = json!({
            "on": on, "archived": false, "salt": "s", "sel": "s", "lastModified": 1_700_000_000_000_i64, "version": 3,
            "_site": {"href": "/", "type": "text/html"}, "_environmentName": "P", "trackEvents": false,
            "trackEventsFallthrough": false, "offVariation": off, "targets": pick(true), "contextTargets": pick(false),
            "rules": rules, "fallthrough": fallthrough,
            "prerequisites": if prerequisite { json!([{"key": "base", "variation": 0}]) } else { json!([]) },
        });
        json!({
            "name": "A", "kind": "multivariate", "key": "ai.a", "_version": 1, "creationDate": 1, "temporary": true,
            "tags": ["ai"], "_links": {}, "archived": false,
            "variations": [{"_id": "i0", "value": "a.v1"}, {"_id": "i1", "value": "a.v2"}, {"_id": "i2", "value": "off"}],
            "environments": {"production": config, "test": config},
        })
    }
}

fn variants() -> impl Strategy<Value = Value> {
    (0..=1000_u64).prop_map(|weight| {
        let variant = |name: &str, weight: u64| json!({"name": name, "weight": weight, "weightType": "variable", "stickiness": "default"});
        json!([variant("a.v1", weight), variant("a.v2", 1000 - weight)])
    })
}

prop_compose! {
    fn unleash_feature()(
        enabled in any::<bool>(),
        own in variants(),
        strategies in prop::collection::vec((any::<bool>(), any::<bool>(), 0..=100_u32, variants(), any::<bool>()), 0..4),
    ) -> Value {
        let strategies: Vec<Value> = strategies.into_iter().enumerate()
            .map(|(place, (conditional, disabled, rollout, variants, inherits))| json!({
                "id": format!("s{place}"), "name": "flexibleRollout", "disabled": disabled, "sortOrder": place, "segments": [],
                "constraints": if conditional { json!([{"contextName": "tenant", "operator": "IN", "values": ["acme"]}]) } else { json!([]) },
                "parameters": {"rollout": rollout.to_string(), "stickiness": "default", "groupId": "ai.a"},
                "variants": if inherits { json!([]) } else { variants },
            })).collect();
        let environment = |name: &str| json!({"name": name, "enabled": enabled, "variants": own, "strategies": strategies});
        json!({"name": "ai.a", "project": "default", "archived": false, "tags": ["ai"],
            "environments": [environment("development"), environment("production")]})
    }
}

proptest! {
    #[test]
    fn launchdarkly_gives_nobody_the_treatment_after_a_pin(flag in darkly_flag()) {
        let mut platform = ld::LaunchDarkly::new(flag.clone());
        pin(&darkly(), &mut platform);
        for key in ["key-0", "key-1", "key-2", "nobody"] {
            for fits in [None, Some(0), Some(1), Some(2), Some(3)] {
                for bucket in (0..100_000).step_by(9_999) {
                    for met in [true, false] {
                        let served = platform.evaluate(&ld::Context { key, fits, bucket, met });
                        prop_assert_ne!(served, Some(1));
                        let is_off = flag["environments"]["production"]["on"] == false;
                        prop_assert!(is_off || !met || served == Some(0));
                    }
                }
            }
        }
        // All else is as it was.
        prop_assert_eq!(&platform.flag["environments"]["test"], &flag["environments"]["test"]);
        for key in ["variations", "tags", "archived"] {
            prop_assert_eq!(&platform.flag[key], &flag[key]);
        }
        for key in ["on", "prerequisites", "salt"] {
            prop_assert_eq!(&platform.config()[key], &flag["environments"]["production"][key]);
        }
    }

    #[test]
    fn unleash_gives_everybody_control_after_a_pin(feature in unleash_feature()) {
        let mut platform = un::Unleash::new(feature.clone(), Duration::ZERO);
        let known = feature["environments"][1]["enabled"] == true;
        pin(&unleash(), &mut platform);
        for fits in 0..32 {
            for percent in [0.0, 33.0, 99.9] {
                for weight in [0, 500, 999] {
                    let served = platform.evaluate(&un::Context { fits, percent, weight });
                    prop_assert_eq!(served.as_str(), if known { "a.v1" } else { "disabled" });
                }
            }
        }
        prop_assert_eq!(&platform.feature["environments"][0], &feature["environments"][0]);
        let kept = platform.environment()["strategies"].as_array().unwrap().iter();
        let kept: Vec<&Value> = kept.filter(|one| one["id"].as_str().unwrap().starts_with('s')).collect();
        let old: Vec<&Value> = feature["environments"][1]["strategies"].as_array().unwrap().iter().collect();
        prop_assert_eq!(kept, old);
    }
}

async fn post(standin: &Standin<un::Unleash>, call: &Call) -> reqwest::Result<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let request = client
        .request(call.method.clone(), format!("{}{}", standin.url, call.path))
        .timeout(Duration::from_millis(300))
        .header("authorization", "token");
    let request = match &call.body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    let mut platform = sample();
    let call = unleash().pin(&ask(&mut platform, &unleash().read()), "test").unwrap().remove(0);
    for (fault, status, applied) in [
        (Fault::Pass, Some(200), true),
        (Fault::Status(403), Some(403), false),
        (Fault::After(429, "7"), Some(429), false),
        (Fault::Hang, None, false),
        (Fault::Half, None, true),
        (Fault::Ignore, Some(200), false),
        (Fault::Late, None, true),
        (Fault::Redirect, Some(307), false),
        (Fault::Huge, Some(200), false),
    ] {
        let standin = Standin::start(platform.clone()).await;
        standin.misbehave(&[fault]);
        let answer = post(&standin, &call).await;
        assert_eq!(answer.ok().map(|(status, _)| status), status, "{fault:?}");
        let now = standin.platform().environment()["strategies"].as_array().unwrap().len();
        assert_eq!(now == 2, applied, "{fault:?}");
        assert_eq!(standin.asked().len(), 1);
    }
}

#[tokio::test]
async fn unleash_is_read_back_a_little_later_and_refuses_what_breaks_the_contract() {
    let mut platform = sample();
    let call = unleash().pin(&ask(&mut platform, &unleash().read()), "test").unwrap().remove(0);
    let standin = Standin::start(platform).await;
    let mut broken = call.clone();
    broken.body = Some(json!({"name": "flexibleRollout", "rollout": 100}));
    assert_eq!(post(&standin, &broken).await.unwrap().0, 400);
    assert_eq!(post(&standin, &call).await.unwrap().0, 200);
    let read = unleash().evaluation().remove(0);
    let judge = |body: &str| unleash().judge(&[serde_json::from_str(body).unwrap()]).unwrap();
    let early = post(&standin, &read).await.unwrap().1;
    assert!(matches!(judge(&early), Verdict::Exposed { .. }), "{early}");
    tokio::time::sleep(Duration::from_millis(250)).await;
    let late = post(&standin, &read).await.unwrap().1;
    assert_eq!(judge(&late), Verdict::Clear { revision: Some("8".into()) });
}
