//! What the documents promise is tried: configuration loads, rules compile, commands parse, metrics and files exist.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use rearguard::cli::Cli;
use rearguard::config::{Config, Receiver};
use rearguard::telemetry::catalogue::METRICS;

use crate::cli::rearguard;

pub const DOCUMENTS: [&str; 36] = [
    "README.md",
    "CHANGELOG.md",
    "deploy/README.md",
    "docs/api.md",
    "docs/configuration.md",
    "docs/demo.md",
    "docs/design.md",
    "docs/events.md",
    "docs/explain.md",
    "docs/flags.md",
    "docs/how-it-decides.md",
    "docs/incidents.md",
    "docs/integrations/README.md",
    "docs/integrations/configcat.md",
    "docs/integrations/flagd.md",
    "docs/integrations/go-feature-flag.md",
    "docs/integrations/launchdarkly.md",
    "docs/integrations/statsig.md",
    "docs/integrations/unleash.md",
    "docs/integrations/webhook-platform.md",
    "docs/integrations/incident-io.md",
    "docs/integrations/jsm.md",
    "docs/integrations/pagerduty.md",
    "docs/integrations/slack.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/practice.md",
    "docs/replay.md",
    "docs/rules.md",
    "docs/simulate.md",
    "docs/slo.md",
    "docs/templates.md",
    "docs/testing-rules.md",
    "docs/tutorial.md",
    "docs/verification.md",
];

pub fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The fenced blocks whose info string is exactly this.
pub fn blocks(text: &str, info: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line.strip_prefix("```")) {
            (true, Some(_)) => inside = false,
            (true, None) => {
                if let Some(block) = found.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            (false, Some(given)) if given == info => {
                found.push(String::new());
                inside = true;
            }
            (false, _) => {}
        }
    }
    found
}

#[test]
fn the_readme_is_short_and_names_the_test_command() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 200);
    assert_eq!(blocks(&readme, "sh test"), ["cargo test\n"]);
    for json in blocks(&readme, "json") {
        let event: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(event["metrics"].is_object() && event["variant"].is_string(), "{json}");
    }
}

#[test]
fn the_five_steps_pass_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    let yaml = blocks(&read("README.md"), "yaml");
    let (rules, config): (Vec<_>, Vec<_>) =
        yaml.into_iter().partition(|block| block.starts_with("- variant"));
    assert_eq!((rules.len(), config.len()), (2, 1));
    std::fs::write(folder.path().join("rearguard.yaml"), &config[0]).unwrap();
    std::fs::write(folder.path().join("rules/support-copilot.yaml"), &rules[0]).unwrap();
    assert_eq!(rules[0], read("rules/support-copilot.yaml"));
    let checked = rearguard(folder.path(), &[], &["check"]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{checked:?}");
    for part in read("README.md").lines().filter_map(|line| line.strip_prefix("| **sum** | **")) {
        let (sum, _) = part.split_once(" s of").unwrap();
        assert!(checked.out.contains(&format!("= {sum} s ≤ 600 s")), "{}", checked.out);
    }
}

#[test]
fn every_configuration_loads_and_every_rule_file_compiles() {
    for file in DOCUMENTS {
        for block in blocks(&read(file), "yaml") {
            if block.starts_with("- variant") {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("r.yaml"), &block).unwrap();
                let checked = rearguard(folder.path(), &[], &["check", "r.yaml"]);
                assert_eq!(checked.code, 0, "{file}: {block}\n{}", checked.err);
                continue;
            }
            let kafka = "kafka: { brokers: \"localhost:9092\", topics: [events] }\n";
            let text = if block.contains("kafka:") { block } else { format!("{kafka}{block}") };
            let variable = |name: &str| Some(format!("https://hooks.slack.com/services/value-of-{name}"));
            let loaded = Config::parse(Path::new("/etc/rearguard/rearguard.yaml"), &text, &variable);
            assert!(loaded.is_ok(), "{file}: {text}\n{loaded:?}");
        }
    }
}

#[test]
fn no_page_about_an_integration_is_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations");
    for entry in std::fs::read_dir(folder).unwrap() {
        let page = format!("docs/integrations/{}", entry.unwrap().file_name().to_str().unwrap());
        assert!(!page.ends_with(".md") || DOCUMENTS.contains(&&*page), "{page}");
    }
}

#[test]
fn the_configuration_of_compose_loads() {
    let path = Path::new("/etc/rearguard/rearguard.yaml");
    let config = Config::parse(path, &read("deploy/rearguard.yaml"), &|_| None).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.kafka.brokers, ["kafka:9092"]);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.rules, [Path::new("/etc/rearguard/rules/")]);
    let database = Path::new("/var/lib/rearguard/rearguard.db");
    assert_eq!(config.store, rearguard::config::Store::Sqlite(database.into()));
    let oncall = Receiver::Alertmanager {
        url: "http://alertmanager:9093".into(),
        labels: std::collections::BTreeMap::default(),
    };
    assert_eq!(config.receivers["oncall"], oncall);
    let compose = read("docker-compose.yml");
    for mounted in [
        "./deploy/rearguard.yaml:/etc/rearguard/rearguard.yaml:ro",
        "./rules:/etc/rearguard/rules:ro",
        "rearguard-data:/var/lib/rearguard",
    ] {
        assert!(compose.contains(mounted), "docker-compose.yml no longer mounts {mounted}");
    }
}

#[test]
fn every_command_that_is_shown_parses() {
    let known: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let mut tried = 0;
    for file in DOCUMENTS {
        let text = read(file);
        for block in blocks(&text, "sh") {
            for line in commands(&block) {
                let words = words(&line);
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{file}: {line}\n{}", parsed.unwrap_err());
                tried += 1;
            }
        }
        for (_, rest) in text.match_indices("`rearguard ").map(|(at, found)| (at, &text[at + found.len()..]))
        {
            let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            assert!(known.contains(&word), "{file} shows `rearguard {word}`");
        }
    }
    assert!(tried > 20, "only {tried} commands were found");
}

/// The command lines of ours in a shell block.
fn commands(block: &str) -> Vec<String> {
    let mut found = Vec::new();
    let joined = block.replace("\\\n", "\u{1}");
    for line in joined.lines() {
        let ours = line
            .find("rearguard token create")
            .filter(|at| line[..*at].ends_with("$("))
            .or_else(|| line.rfind("\u{1}").and_then(|_| line.find("\u{1}  rearguard ")).map(|at| at + 3))
            .or_else(|| line.find("sudo rearguard ").map(|at| at + 5))
            .or_else(|| line.starts_with("rearguard ").then_some(0))
            .or_else(|| line.find("cargo run --release -- "));
        let Some(at) = ours else { continue };
        let command = line[at..].replace('\u{1}', " ");
        let command = command.split(" >").next().unwrap_or_default().split(" #").next().unwrap_or_default();
        let command = if line[..at].ends_with("$(") { command.trim_end_matches(')') } else { command };
        found.push(command.replace("cargo run --release -- ", "rearguard "));
    }
    found
}

/// Words as a shell splits them, for as much of its syntax as the documents use.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => {
                if words.last().is_some_and(|word| !word.is_empty()) {
                    words.push(String::new());
                }
            }
            (_, c) => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words.iter().map(|word| word.replace("$USER", "ann")).collect()
}

#[test]
fn shell_lines_are_taken_apart() {
    let block = "export A=$(rearguard token create \"$USER\" --scope read)\ndocker compose run \\\n  rearguard status \\\n  >x\nrearguard flag kill KEY --reason 'a b'   # why\necho rearguard\n";
    let lines: Vec<Vec<String>> = commands(block).iter().map(|line| words(line)).collect();
    let wanted: [&[&str]; 3] = [
        &["rearguard", "token", "create", "ann", "--scope", "read"],
        &["rearguard", "status"],
        &["rearguard", "flag", "kill", "KEY", "--reason", "a b"],
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn links_lead_somewhere_and_metrics_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in DOCUMENTS {
        let text = read(file);
        let folder = root.join(file).parent().unwrap().to_owned();
        for (at, found) in text.match_indices("](") {
            let rest = &text[at + found.len()..];
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.starts_with("http") {
                assert!(folder.join(target).exists(), "{file} links to {target}");
            }
        }
    }
    for file in ["docs/operations.md", "deploy/prometheus-rules.yml", "README.md"] {
        let text = read(file);
        for (at, _) in text.match_indices("rearguard_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let family = name.trim_end_matches("_bucket").trim_end_matches("_count");
            assert!(METRICS.iter().any(|metric| metric.name == family), "{file} names {name}");
        }
    }
}
