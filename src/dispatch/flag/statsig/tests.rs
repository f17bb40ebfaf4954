use super::*;

fn experiment() -> Statsig {
    let kind = Kind::Experiment { control: "Control".into(), treatment: "Test".into() };
    Statsig { id: "exp".into(), kind }
}

fn answers(status: &str, launched: Value, forced: &str) -> [Value; 2] {
    let group = |name: &str, id: &str| json!({"name": name, "id": id, "size": 50.0, "parameterValues": {"model": name}});
    let data = json!({"id": "exp", "status": status, "launchedGroupID": launched, "allocation": 40.0,
        "lastModifiedTime": 9, "groups": [group("Control", "g0"), group("Test", "g1")]});
    let overrides = json!({"overrides": [], "userIDOverrides": [{"groupID": forced, "ids": ["u"]}]});
    [json!({"data": data}), json!({"data": overrides})]
}

#[test]
fn an_experiment_is_decided_for_control_and_loses_its_overrides() {
    let running = answers("active", Value::Null, "Test");
    let state = experiment().state(&running).unwrap();
    assert_eq!((state.safe, state.pinned, state.share, state.version), (false, false, Some(200_000), 9));
    let calls = experiment().pin(&running, "why").unwrap();
    assert_eq!(calls[0].path, "/console/v1/experiments/exp/overrides");
    assert_eq!(calls[0].body, Some(json!({"overrides": [], "userIDOverrides": []})));
    assert_eq!(calls[1].path, "/console/v1/experiments/exp/make_decision");
    assert_eq!(calls[1].body, Some(json!({"id": "g0", "decisionReason": "why"})));
    assert!(calls.iter().all(|call| call.headers.contains(&RESPECT_REVIEW)));
    let decided = answers("decision_made", json!("g0"), "Control");
    let state = experiment().state(&decided).unwrap();
    assert!(state.safe && state.pinned);
    assert!(experiment().pin(&decided, "why").unwrap().is_empty());
    assert!(!experiment().state(&answers("decision_made", json!("g1"), "Control")).unwrap().safe);
}

#[test]
fn a_gate_is_disabled() {
    let gate = Statsig { id: "g".into(), kind: Kind::Gate };
    let data = |on: bool| [json!({"data": {"id": "g", "isEnabled": on, "rules": []}})];
    let calls = gate.pin(&data(true), "why").unwrap();
    assert_eq!((calls[0].method.as_str(), calls[0].path.as_str()), ("PUT", "/console/v1/gates/g/disable"));
    assert!(gate.pin(&data(false), "why").unwrap().is_empty());
    let spec = |on: bool| {
        let rule = json!({"name": "r", "passPercentage": 1, "returnValue": true});
        json!({"feature_gates": [{"name": "g", "enabled": on, "defaultValue": false, "rules": [rule]}]})
    };
    assert!(matches!(gate.judge(&[spec(true)]).unwrap(), Verdict::Exposed { .. }));
    assert_eq!(gate.judge(&[spec(false)]).unwrap(), Verdict::Clear { revision: None });
}

#[test]
fn an_experiment_is_exposed_while_some_rule_gives_the_treatments_parameters() {
    let [data, _] = answers("active", Value::Null, "Control");
    let spec = |model: &str, pass: u32| {
        let rule = json!({"groupName": model, "passPercentage": pass, "returnValue": {"model": model}});
        let spec =
            json!({"name": "exp", "enabled": true, "defaultValue": {"model": "Control"}, "rules": [rule]});
        [json!({"dynamic_configs": [spec], "time": 7}), data.clone()]
    };
    let clear = Verdict::Clear { revision: Some("7".into()) };
    assert!(matches!(experiment().judge(&spec("Test", 50)).unwrap(), Verdict::Exposed { .. }));
    assert_eq!(experiment().judge(&spec("Test", 0)).unwrap(), clear);
    assert_eq!(experiment().judge(&spec("Control", 100)).unwrap(), clear);
    assert_eq!(experiment().evaluation().len(), 2);
}
