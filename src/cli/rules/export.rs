//! `rearguard rules export`: every rule in force as one document, for auditors and for a review of what has changed.
//!
//! The entries under `variants` are in the language of rule files with every default written out; what was not in the rule
//! files stands under `audit` of each rule.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::in_force;
use crate::cli::GOOD;
use crate::cli::check::{Report, RuleArgs};
use crate::cli::meaning;
use crate::cli::output::time;
use crate::cli::output::{Format, Trouble, end, show};
use crate::clock::Clock;
use crate::config::read_file;
use crate::engine::budget::{Budget, PROMISE};
use crate::engine::rule::compile::RuleNote;
use crate::engine::rule::{Page, Rule, condition, keys, span};
use crate::model::time::Timestamp;

/// The first lines of the document.
const HEAD: &str = "# Every rule in force, written by `rearguard rules export`. Do not edit: change the rule files and export again.\n";

/// Write every rule in force as one YAML document, with hashes, for auditors
///
/// Two exports of the same rules at the same `--at` are the same to the byte. Nothing is written if a rule is wrong.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// Write to this file, such as ops/alerts/ai-rollback.yaml, instead of to standard output; folders are made
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The time that stands in the document (RFC 3339); default: now
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    end(Format::Human, export(args))
}

fn export(args: &ExportArgs) -> Result<u8, Trouble> {
    let report = match in_force(&args.rules, Format::Human)? {
        Ok(report) => report,
        Err(code) => return Ok(code),
    };
    let text = document(&report, args.at.unwrap_or_else(|| Clock::system().now()))?;
    match &args.output {
        Some(path) => write(path, &text)?,
        None => show(&text)?,
    }
    Ok(GOOD)
}

/// Whole or not at all: whoever reads the file never sees half of it.
fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(format!("{}: cannot be written: {error}", path.display()))
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| failed(&e))?;
    file.write_all(text.as_bytes()).map_err(|e| failed(&e))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(|e| failed(&e))?;
    }
    file.persist(path).map_err(|e| failed(&e.error))?;
    Ok(())
}

#[derive(Serialize)]
struct Document<'a> {
    /// Changes when a reader would have to.
    format: &'static str,
    generated_at: String,
    generated_by: &'static str,
    promise_seconds: u64,
    /// The configuration says so for all rules.
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<FileFact<'a>>,
    rule_files: Vec<FileFact<'a>>,
    variants: Vec<VariantEntry<'a>>,
}

#[derive(Serialize)]
struct FileFact<'a> {
    file: &'a str,
    blake3: String,
}

#[derive(Serialize)]
struct VariantEntry<'a> {
    variant: &'a str,
    flag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    rules: Vec<RuleEntry<'a>>,
}

#[derive(Serialize)]
struct RuleEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    condition: &'a str,
    action: &'static str,
    r#for: String,
    confirm: &'static str,
    min_samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear: Option<&'a str>,
    dwell: String,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_class_hint: Option<&'a str>,
    no_data: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<PageEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_time_bound: Option<&'a str>,
    audit: Audit<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PageEntry<'a> {
    Yes(bool),
    Receiver(&'a str),
}

#[derive(Serialize)]
struct Audit<'a> {
    /// The rule's identity is flag, id and hash.
    id: &'a str,
    hash: &'a str,
    file: &'a str,
    line: usize,
    blake3: String,
    meaning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounded: Vec<String>,
    ten_minutes: String,
    seconds: u64,
    keeps_promise: bool,
}

fn document(report: &Report, at: Timestamp) -> Result<String, Trouble> {
    let configuration = if report.config.as_os_str().is_empty() {
        None
    } else {
        let text = read_file(&report.config).map_err(|error| Trouble::wrong(error.to_string()))?;
        Some((report.config.display().to_string(), text))
    };
    let fact = |(file, text): &'_ (String, String)| (file.clone(), hash(text));
    let hashes: Vec<(String, String)> = report.files.iter().map(fact).collect();
    let document = Document {
        format: "rearguard.rules/1",
        generated_at: at.to_string(),
        generated_by: concat!("rearguard ", env!("CARGO_PKG_VERSION")),
        promise_seconds: PROMISE.as_secs(),
        dry_run: report.dry_run,
        configuration: configuration.as_ref().map(|(file, text)| FileFact { file, blake3: hash(text) }),
        rule_files: hashes.iter().map(|(file, hash)| FileFact { file, blake3: hash.clone() }).collect(),
        variants: variants(report, &hashes),
    };
    let body = serde_saphyr::to_string(&document)
        .map_err(|error| Trouble::new(format!("the rules cannot be written as YAML: {error}")))?;
    Ok(format!("{HEAD}{body}"))
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Sorted by variant, flag, baseline and owner, the rules of each by id: the order of files does not matter.
fn variants<'a>(report: &'a Report, hashes: &[(String, String)]) -> Vec<VariantEntry<'a>> {
    let head = |rule: &'a Rule| {
        let baseline = rule.baseline.as_ref().map(|b| b.as_str());
        (rule.variant.as_str(), rule.flag.as_str(), baseline, rule.owner.as_deref())
    };
    let mut rules: Vec<(&Rule, &RuleNote)> = report.rules().collect();
    rules.sort_by_key(|(rule, _)| (head(rule), rule.id.as_str(), rule.dry_run));
    let mut out: Vec<VariantEntry<'a>> = Vec::new();
    for (rule, note) in rules {
        let (variant, flag, baseline, owner) = head(rule);
        let entry = rule_entry(report, rule, note, hashes);
        match out.last_mut() {
            Some(last) if (last.variant, last.flag, last.baseline, last.owner) == head(rule) => {
                last.rules.push(entry);
            }
            _ => out.push(VariantEntry { variant, flag, baseline, owner, rules: vec![entry] }),
        }
    }
    out
}

fn rule_entry<'a>(
    report: &Report,
    rule: &'a Rule,
    note: &'a RuleNote,
    hashes: &[(String, String)],
) -> RuleEntry<'a> {
    let budget = Budget::of(rule, &report.timing.on(note.served.as_ref()));
    let clear = rule.clear.source.as_str();
    let class = rule.failure_class.as_str();
    let from = hashes.iter().find(|(file, _)| *file == rule.origin.file);
    RuleEntry {
        // What was derived and cannot be written is derived again.
        id: Some(rule.id.as_str()).filter(|id| keys::is_id(id)),
        condition: &rule.condition.source,
        action: rule.action.as_str(),
        r#for: span::show(rule.hold),
        confirm: rule.confirm.as_str(),
        min_samples: rule.min_samples,
        clear: Some(clear).filter(|clear| condition::parse(clear, &report.catalogue).is_ok()),
        dwell: span::show(rule.dwell),
        severity: rule.severity.as_str(),
        failure_class_hint: Some(class).filter(|class| keys::is_word(class)),
        no_data: keys::word(&keys::NO_DATA, &rule.no_data),
        by: rule.by.map(|by| by.as_str()),
        scope: rule.by.map(|_| keys::word(&keys::SCOPES, &rule.whole_flag)),
        mode: keys::word(&keys::MODES, &rule.dry_run),
        runbook: rule.runbook.as_deref(),
        page: match &rule.page {
            Page::Default => None,
            Page::Never => Some(PageEntry::Yes(false)),
            Page::Always => Some(PageEntry::Yes(true)),
            Page::Receiver(name) => Some(PageEntry::Receiver(name)),
        },
        no_time_bound: note.no_time_bound.as_ref().map(|(reason, _)| reason.as_str()),
        audit: Audit {
            id: rule.id.as_str(),
            hash: &rule.hash.0,
            file: &rule.origin.file,
            line: rule.origin.line,
            blake3: from.map(|(_, hash)| hash.clone()).unwrap_or_default(),
            meaning: format!(
                "{}; {}",
                meaning::condition(&rule.condition, &report.catalogue),
                meaning::effect(rule)
            ),
            rounded: meaning::roundings(note),
            ten_minutes: meaning::sum(&budget),
            seconds: budget.total.as_secs(),
            keeps_promise: budget.fits(),
        },
    }
}

#[cfg(test)]
mod tests;
