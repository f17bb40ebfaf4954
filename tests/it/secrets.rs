//! No mistake in a configuration brings a secret into what is said about it.

use std::path::Path;

use rearguard::cli::diagnostics::render;
use rearguard::config::Config;

use crate::readme::{DOCUMENTS, blocks, read};

/// What every secret has in it. One is an address, as Slack's is, the others cannot be read as anything.
fn variable(name: &str) -> Option<String> {
    Some(match name {
        "SLACK_WEBHOOK_URL" => "https://hooks.slack.com/services/planted".to_owned(),
        _ => format!("planted value of {name}"),
    })
}

/// What is said of a configuration: mistakes, warnings, and the configuration itself as a dump would show it.
fn said(text: &str) -> String {
    let path = Path::new("/etc/rearguard/rearguard.yaml");
    let (config, errors) = Config::attempt(path, text, &variable);
    let mut said = render(&errors, false);
    let Some(config) = config else { return said };
    said += &render(&config.warnings, false);
    said += &format!("{config:?}");
    said
}

/// Every configuration of the documents, with each of its lines left out, doubled, indented and turned into a text.
#[test]
fn no_mistake_in_a_configuration_shows_a_secret() {
    let mut tried = 0;
    for file in DOCUMENTS {
        for block in blocks(&read(file), "yaml") {
            if block.starts_with("- variant") || !block.contains("${") {
                continue;
            }
            let lines: Vec<&str> = block.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                for changed in [
                    String::new(),
                    format!("{line}\n{line}"),
                    format!("  {line}"),
                    format!("{name}: [{value}]"),
                    format!("{name}x: {value}"),
                    line.replace("${", "x${"),
                    line.replace("https://", "http://other."),
                ] {
                    let mut text = lines.clone();
                    text[at] = &changed;
                    let text = format!("kafka: {{ brokers: b, topics: [t] }}\n{}\n", text.join("\n"));
                    let said = said(&text);
                    assert!(!said.contains("planted"), "{file}: {text}\n{said}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 500, "{tried} configurations");
}
