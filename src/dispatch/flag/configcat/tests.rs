use super::*;

fn core() -> ConfigCat {
    ConfigCat {
        environment: "e".into(),
        setting: 7,
        key: "ai_a".into(),
        control: json!("v1"),
        treatment: json!("v2"),
    }
}

/// All that a patch of the core does.
fn apply(value: &mut Value, operations: &Value) {
    for operation in operations.as_array().unwrap() {
        assert_eq!(operation["op"], "replace");
        let place = value.pointer_mut(operation["path"].as_str().unwrap()).unwrap();
        *place = operation["value"].clone();
    }
}

#[test]
fn a_pin_leaves_nothing_but_control_to_serve() {
    let text = |value: &str| json!({"stringValue": value});
    for (default, rule, shares) in [("v2", "v2", [50, 50]), ("v1", "v2", [0, 100]), ("v2", "v1", [100, 0])] {
        let mut value = json!({"defaultValue": text(default), "updatedAt": "2026-11-23T22:00:00Z", "targetingRules": [
            {"conditions": [{"segmentCondition": {}}], "percentageOptions": [], "value": text(rule)},
            {"conditions": [], "percentageOptions": [
                {"percentage": shares[0], "value": text("v1")}, {"percentage": shares[1], "value": text("v2")}]},
        ]});
        let answers = [value.clone()];
        let before = core().state(&answers).unwrap();
        assert!(!before.safe && !before.pinned);
        assert_eq!(before.share, Some(shares[1] * 10_000));
        let calls = core().pin(&answers, "why").unwrap();
        apply(&mut value, calls[0].body.as_ref().unwrap());
        assert_eq!(calls[0].path, "/v2/environments/e/settings/7/value?reason=why");
        let answers = [value.clone()];
        let after = core().state(&answers).unwrap();
        assert!(after.safe && after.pinned);
        assert!(core().pin(&answers, "why").unwrap().is_empty());
        assert_eq!(value["targetingRules"][0]["conditions"], json!([{"segmentCondition": {}}]));
    }
}

#[test]
fn the_downloaded_config_is_judged_by_all_it_can_serve() {
    let config = |default: &str, rule: &str, percent: u32| {
        json!({"p": {"r": 0}, "f": {"ai_a": {"t": 1, "v": {"s": default}, "r": [{"c": [], "s": {"v": {"s": rule}}}],
            "p": [{"p": percent, "v": {"s": "v2"}}, {"p": 100 - percent, "v": {"s": "v1"}}]}}})
    };
    let clear = |config: Value| core().judge(&[config]).unwrap() == Verdict::Clear { revision: None };
    assert!(clear(config("v1", "v1", 0)));
    assert!(!clear(config("v2", "v1", 0)));
    assert!(!clear(config("v1", "v2", 0)));
    assert!(!clear(config("v1", "v1", 1)));
    assert!(core().judge(&[json!({"p": {"r": 2, "u": "https://x"}})]).unwrap_err().is_permanent());
}
