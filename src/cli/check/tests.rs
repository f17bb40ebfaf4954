use super::*;

fn args(files: &[&str]) -> RuleArgs {
    RuleArgs {
        files: files.iter().map(PathBuf::from).collect(),
        config: Some(PathBuf::from("rearguard.example.yaml")),
    }
}

fn with(rules: RuleArgs, format: CheckFormat) -> CheckArgs {
    let (events, level, spread) = (Vec::new(), Vec::new(), Vec::new());
    CheckArgs { rules, events, events_per_minute: None, level, spread, runs: 5, format }
}

#[test]
fn the_example_is_good() {
    let report = check(&args(&[])).unwrap();
    assert_eq!((report.refused(), report.diagnostics.len()), (0, 0), "{:?}", report.diagnostics);
    let text = report.as_text(Paint::new(false));
    for line in [
        "flag ai.support-copilot.prompt-v18, baseline support-copilot.prompt-v17",
        "means       the rate of ai.injection.suspected over the last 1h is above 3 times that of the baseline",
        "then        after 3m, 100 samples or more: serve control to everybody, open an incident, page",
        "60 pane + 30 lateness + 10 tick + 180 for + 5 commit + 103 flip + 60 page = 448 s ≤ 600 s",
        "clears      faithfulness_1h >= 0.93 (default), held for 15m",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(report.as_json()["rules"][3]["budget_seconds"], 448);
}

#[test]
fn exit_codes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    let write = |more: &str| {
        let rule =
            format!("- variant: shop.v2\n  rules: [{{ condition: cost_1h > 1, action: rollback{more} }}]\n");
        std::fs::write(&path, rule).unwrap();
        let rules = RuleArgs { files: vec![path.clone()], config: None };
        run(&with(rules, CheckFormat::Json)).unwrap()
    };
    assert_eq!(write(""), GOOD);
    assert_eq!(write(", for: 10m"), FAILED);
    assert_eq!(write(", fro: 10m"), WRONG);
    let missing = with(args(&["/does/not/exist.yaml"]), CheckFormat::Github);
    assert_eq!(run(&missing).unwrap(), WRONG);
    std::fs::write(
        &path,
        "- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: notify, page: oncal }]\n",
    )
    .unwrap();
    let errors = check(&args(&[path.to_str().unwrap()])).unwrap_err();
    assert_eq!(errors[0].help.as_deref(), Some("did you mean `page: oncall`?"));
}

/// A mistake in the configuration, a file that is missing, one that is no YAML, one whose rules are wrong, a receiver that
/// does not exist, a rule that is too slow and one that is doubtful: none hides another.
#[test]
fn everything_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let kafka = "kafka: { brokers: \"localhost:9092\" }\n";
    std::fs::write(at("rearguard.yaml"), format!("{kafka}rules: [a.yaml, b.yaml, c.yaml]\n")).unwrap();
    std::fs::write(at("a.yaml"), "- variant: shop.v2\n\trules: []\n").unwrap();
    std::fs::write(
        at("c.yaml"),
        "\
- variant: shop.v2
  rules:
    - { condition: latncy_1h > 1, action: notify }
    - { condition: cost_1h > 1, action: notify, page: oncal }
    - { condition: cost_1h > 2, action: rollback, for: 20m }
    - { condition: faithfulness_1h > 0.9, action: rollback }
    - { condition: faithfulness_6h > 2 || faithfulness_6h < 0 , action: rollback }
    - { action: notify, clear: cost_1h <, }
",
    )
    .unwrap();
    let found = check(&RuleArgs { files: Vec::new(), config: Some(at("rearguard.yaml")) }).unwrap_err();
    let told = |part: &str| found.iter().filter(|d| d.to_string().contains(part)).count();
    for part in [
        "rearguard.yaml:1:10: error: `kafka` names no `topics`",
        "b.yaml: error: there is no such rule file",
        "a.yaml:1:12: error: not valid YAML",
        "c.yaml:3:20: error: there is no metric `latncy`",
        "pages `oncal`, and there is no such receiver",
        "c.yaml:5:56: error: `cost_1h-rollback` can take 1468 s",
        "c.yaml:6:20: warning: `faithfulness_1h-rollback` acts when `faithfulness` is good",
        "`faithfulness_6h > 2` is never true",
        "`faithfulness_6h < 0` is never true",
        "c.yaml:8:9: error: the rule has no `condition`",
        "something is missing after `<`",
    ] {
        assert_eq!(told(part), 1, "{part}\n{found:#?}");
    }
    assert_eq!(tally(&found), "10 mistakes found, 2 warnings");
}

/// Elsewhere a slice cannot be rolled back, and a flip takes as long as the platform says.
#[test]
fn what_a_platform_cannot_do_or_does_slowly_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rearguard.yaml");
    let text = "\
kafka: { brokers: 'localhost:9092', topics: [t] }
rules: [r.yaml]
platforms: { prod: { flagd: { path: f.json, settles: 2m } } }
flags: { ai.shop.v2: { control: shop.v1, treatment: shop.v2, platform: prod } }
";
    std::fs::write(&config, text).unwrap();
    let rules = "\
- variant: shop.v2
  flag: ai.shop.v2
  rules:
    - { id: slice, condition: cost_1h > 1, action: rollback, by: tenant }
    - { id: whole, condition: error_1h > 0.5, action: rollback, by: tenant, scope: all }
";
    std::fs::write(folder.path().join("r.yaml"), rules).unwrap();
    let report = check(&RuleArgs { files: Vec::new(), config: Some(config) }).unwrap();
    let told: Vec<String> = report.diagnostics.iter().map(ToString::to_string).collect();
    let slices = told.iter().filter(|line| line.contains("only pages")).collect::<Vec<_>>();
    assert!(slices.len() == 1 && slices[0].contains("`slice` only pages: `prod` (flagd)"), "{told:#?}");
    let text = report.as_text(Paint::stdout());
    assert!(
        text.contains("`prod` (flagd) serves the flag, as `ai.shop.v2`: a flip takes up to 223 s"),
        "{text}"
    );
    // The worst of any flip and the two minutes until flagd serves it.
    assert_eq!(report.as_json()["rules"][0]["budget"][5]["seconds"], 223);
}
