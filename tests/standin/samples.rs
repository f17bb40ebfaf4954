//! One flag, `ai.a`, as each platform has it, half-way through a rollout of `a.v2`.

use std::time::Duration;

use serde_json::json;

use super::{configcat as cc, house, launchdarkly as ld, statsig as st, unleash as un};

pub fn sample() -> un::Unleash {
    let environment = json!({"name": "production", "enabled": true, "variants": [], "strategies": [{
        "id": "s0", "name": "flexibleRollout", "disabled": false, "sortOrder": 0, "segments": [], "constraints": [],
        "parameters": {"rollout": "50", "stickiness": "default", "groupId": "ai.a"},
        "variants": [{"name": "a.v1", "weight": 500}, {"name": "a.v2", "weight": 500}],
    }]});
    let feature = json!({"name": "ai.a", "archived": false, "environments": [environment]});
    un::Unleash::new(feature, Duration::from_millis(200))
}

pub fn darkly_sample() -> ld::LaunchDarkly {
    let config = json!({
        "on": true, "archived": false, "salt": "s", "sel": "s", "lastModified": 1_700_000_000_000_i64, "version": 3,
        "_site": {"href": "/", "type": "text/html"}, "_environmentName": "P", "trackEvents": false,
        "trackEventsFallthrough": false, "offVariation": 0, "contextTargets": [], "prerequisites": [],
        "targets": [{"values": ["beta"], "variation": 1, "contextKind": "user"}],
        "rules": [], "fallthrough": {"rollout": {"variations": [
            {"variation": 0, "weight": 90_000}, {"variation": 1, "weight": 10_000}]}},
    });
    let flag = json!({
        "name": "A", "kind": "multivariate", "key": "ai.a", "_version": 1, "creationDate": 1, "temporary": true,
        "tags": ["ai"], "_links": {}, "archived": false,
        "variations": [{"_id": "i0", "value": "a.v1"}, {"_id": "i1", "value": "a.v2"}],
        "environments": {"production": config},
    });
    ld::LaunchDarkly::new(flag)
}

pub fn setting() -> cc::ConfigCat {
    let half = |text: &str| json!({"percentage": 50, "value": {"stringValue": text}});
    let rule = json!({"conditions": [], "percentageOptions": [half("a.v1"), half("a.v2")]});
    let value = json!({"defaultValue": {"stringValue": "a.v1"}, "targetingRules": [rule], "readOnly": false,
        "lastVersionId": "v0", "updatedAt": "2026-01-01T00:00:00Z", "lastUpdaterUserEmail": "ann@example.com"});
    cc::ConfigCat::new("ai.a", value)
}

/// With an override that has to go, a rollback takes two writes.
pub fn experiment(forced: bool) -> st::Statsig {
    let group = |name: &str, id: &str| json!({"name": name, "id": id, "size": 50, "parameterValues": {"model": name}});
    let data = json!({"id": "ai.a", "status": "active", "launchedGroupID": null, "allocation": 40, "lastModifiedTime": 5,
        "groups": [group("a.v1", "g0"), group("a.v2", "g1")]});
    let forced = if forced { json!([{"groupID": "a.v2", "ids": ["beta"]}]) } else { json!([]) };
    st::Statsig::new(data, json!({"overrides": [], "userIDOverrides": forced}))
}

pub fn gate() -> st::Statsig {
    let rule = json!({"name": "r", "passPercentage": 10, "conditions": []});
    let data = json!({"id": "ai.a", "isEnabled": true, "status": "In Progress", "rules": [rule], "lastModifiedTime": 5});
    st::Statsig::new(data, json!(null))
}

/// Ten percent more every hour.
pub fn in_house() -> house::House {
    let flag = json!({
        "version": 7, "variants": ["a.v1", "a.v2"], "serving": ["a.v1", "a.v2"], "pinned": null,
        "moves": "10 % an hour", "changed": {"by": "ann", "at": "2026-11-01T09:00:00Z"},
    });
    house::House::new("ai.a", flag)
}
