//! The alerts about Rearguard itself: the rules for Prometheus ask for metrics and labels that exist, and the documentation
//! lists the very same alerts.

use std::collections::BTreeMap;
use std::path::Path;

use rearguard::telemetry::catalogue::{Described, METRICS, Shape};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(default)]
    r#for: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn rules() -> Vec<Rule> {
    let file: File = serde_saphyr::from_str(&read("deploy/prometheus-rules.yml")).unwrap();
    file.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// The metrics that an expression asks for, each with its series' name and the label names of its selector.
fn asked(expr: &str) -> Vec<(&'static Described, &str, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = expr.match_indices("rearguard_").map(|(at, _)| {
        let name = expr[at..].split(|c| !is_name(c)).next().unwrap();
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        let known = |name: &str| METRICS.iter().find(|metric| metric.name == name);
        let metric = known(name)
            .or_else(|| known(family?))
            .unwrap_or_else(|| panic!("/metrics has no {name}, asked for by {expr}"));
        let selector = expr[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let labels = selector.unwrap_or_default().split("\",").filter(|matcher| !matcher.is_empty());
        (
            metric,
            name,
            labels.map(|matcher| matcher.split(|c| !is_name(c)).next().unwrap().to_owned()).collect(),
        )
    });
    found.collect()
}

#[test]
fn every_alert_asks_for_metrics_that_exist() {
    let rules = rules();
    assert!(rules.len() > 8, "{} alerts", rules.len());
    for rule in &rules {
        assert!(["page", "ticket"].contains(&&*rule.labels["severity"]), "{}", rule.alert);
        assert!(rule.annotations.contains_key("summary"), "{}", rule.alert);
        assert!(rule.annotations.contains_key("description"), "{}", rule.alert);
        assert!(
            rule.expr.contains("up{job=\"rearguard\"}") || !asked(&rule.expr).is_empty(),
            "{}",
            rule.expr
        );
        for (metric, series, labels) in asked(&rule.expr) {
            let histogram = matches!(metric.shape, Shape::Histogram(_));
            assert_eq!(histogram, metric.name != series, "{} asks for {series}", rule.alert);
            let bucket = series.ends_with("_bucket").then_some("le");
            for label in labels {
                let known = metric.labels.split(", ").chain(bucket).any(|known| known == label);
                assert!(known, "{}: {series} has no label `{label}`", rule.alert);
            }
        }
    }
}

#[test]
fn the_documentation_lists_the_same_alerts() {
    let documentation = read("docs/operations.md");
    let listed: Vec<(&str, String)> = documentation
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
            name.starts_with("Rearguard").then(|| (name, rest.replace("\\|", "\u{1}")))
        })
        .map(|(name, rest)| (name, rest.split('|').nth(1).unwrap().trim().replace('\u{1}', "|")))
        .collect();
    let rules = rules();
    let expected: Vec<(&str, String)> = rules
        .iter()
        .map(|rule| {
            let expr = rule.expr.split_whitespace().collect::<Vec<_>>().join(" ");
            let lasting = if rule.r#for.is_empty() { String::new() } else { format!(" for {}", rule.r#for) };
            (&*rule.alert, format!("`{expr}`{lasting}"))
        })
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn an_expression_is_taken_apart() {
    let expr =
        r#"increase(rearguard_time_to_flip_seconds_bucket{since="t0",le="600"}[1h]) > rearguard_armed"#;
    let asked: Vec<_> = asked(expr).into_iter().map(|(m, series, labels)| (m.name, series, labels)).collect();
    let bucket = ("rearguard_time_to_flip_seconds", "rearguard_time_to_flip_seconds_bucket");
    let labels = vec!["since".to_owned(), "le".to_owned()];
    assert_eq!(asked, [(bucket.0, bucket.1, labels), ("rearguard_armed", "rearguard_armed", Vec::new())]);
}
