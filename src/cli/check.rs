//! `rearguard check`: compiles configuration and rules, and proves the ten-minute sum for each rule.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::diagnostics;
use crate::config::{Config, rule_files};
use crate::engine::budget::{Budget, Timing};
use crate::engine::rule::compile::{
    Compiled, RuleNote, check_budgets, compile_rules, without_fast_companion,
};
use crate::engine::rule::diagnostic::{Diagnostic, nearest};
use crate::engine::rule::spec::Confirm;
use crate::engine::rule::token::tidy;
use crate::engine::rule::{Page, Rule, RuleAction, Shape, Side, Threshold, span};
use crate::model::metric::Catalogue;

/// All is well.
const GOOD: u8 = 0;
/// A rule cannot keep the promise.
const REFUSED: u8 = 1;
/// A file is wrong.
const BAD_INPUT: u8 = 2;

/// Compile configuration and rules, and prove for every rule that breach, flip and page fit into ten minutes.
///
/// Exit code 0: all good; 1: a rollback rule cannot keep the ten minutes; 2: a file is wrong.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Rule files, folders or patterns; default: those of the configuration
    pub files: Vec<PathBuf>,
    /// The configuration; without one, and with FILES given, defaults are used
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// How a command reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    match check(args) {
        Ok(report) => {
            match args.format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&report.as_json())?),
                Format::Human => {
                    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                    print!("{}", report.as_text(colour));
                    diagnostics::print(&report.diagnostics);
                    print!("{}", report.summary());
                }
            }
            Ok(if report.refused() > 0 { REFUSED } else { GOOD })
        }
        Err(errors) => {
            match args.format {
                Format::Json => {
                    let report = serde_json::json!({ "ok": false, "rules": [], "diagnostics": errors });
                    println!("{}", serde_json::to_string_pretty(&report)?);
                }
                Format::Human => {
                    diagnostics::print(&errors);
                    eprintln!("{} found; nothing was put in force", count(errors.len(), "mistake"));
                }
            }
            Ok(BAD_INPUT)
        }
    }
}

/// What there is to say when everything could be read.
#[derive(Debug)]
pub struct Report {
    pub compiled: Compiled,
    pub catalogue: std::sync::Arc<Catalogue>,
    pub timing: Timing,
    pub dry_run: bool,
    /// Warnings, and the errors of rules that cannot keep the promise.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads and judges; `Err` when a file is wrong.
pub fn check(args: &CheckArgs) -> Result<Report, Vec<Diagnostic>> {
    let standard = Path::new("rearguard.yaml");
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None if standard.exists() => Config::load(standard)?,
        None if args.files.is_empty() => {
            let missing = Diagnostic::whole_file(
                "rearguard.yaml",
                "there is no configuration here, and no rule file was named",
            );
            return Err(vec![missing.with_help("name rule files, or a configuration with `--config`")]);
        }
        None => Config::built_in(),
    };
    let places = if args.files.is_empty() { &config.rules } else { &args.files };
    let files = rule_files(places)?;
    let compiled = compile_rules(&files, &config.catalogue, &config.flags)?;
    let mut found = config.warnings.clone();
    found.extend(compiled.warnings.iter().cloned());
    if !config.path.as_os_str().is_empty() {
        let wrong = check_receivers(&compiled, &config);
        if !wrong.is_empty() {
            return Err(wrong);
        }
    }
    found.extend(without_fast_companion(&compiled));
    found.extend(check_budgets(&compiled, &config.timing));
    found.sort_by(|a, b| (&a.file, a.span).cmp(&(&b.file, b.span)));
    Ok(Report {
        compiled,
        catalogue: config.catalogue,
        timing: config.timing,
        dry_run: config.dry_run,
        diagnostics: found,
    })
}

/// `page: <receiver>` has to name one that is configured.
pub fn check_receivers(compiled: &Compiled, config: &Config) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for (rule, note) in compiled.rules.rules.iter().zip(&compiled.notes) {
        let Page::Receiver(name) = &rule.page else {
            continue;
        };
        if config.receivers.contains_key(name) {
            continue;
        }
        let help = match nearest(name, config.receivers.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `page: {near}`?"),
            None => "add it under `receivers:` in the configuration".to_owned(),
        };
        wrong.push(Diagnostic {
            file: rule.origin.file.clone(),
            line: note.line,
            column: note.column,
            span: note.at,
            message: format!("`{}` pages `{name}`, and there is no such receiver", rule.id),
            help: Some(help),
            severity: crate::engine::rule::diagnostic::Level::Error,
        });
    }
    wrong
}

/// One rule in the JSON report.
#[derive(Debug, Serialize)]
struct RuleJson<'a> {
    id: &'a str,
    file: &'a str,
    line: usize,
    flag: &'a str,
    variant: &'a str,
    baseline: Option<&'a str>,
    condition: &'a str,
    clear: &'a str,
    action: &'a str,
    meaning: String,
    confirm: &'a str,
    for_seconds: u64,
    dwell_seconds: u64,
    min_samples: u64,
    rounded: Vec<String>,
    dry_run: bool,
    budget: Vec<(&'static str, u64)>,
    budget_seconds: u64,
    fits: bool,
    hash: &'a str,
}

impl Report {
    /// How many rules are refused.
    pub fn refused(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.is_error()).count()
    }

    fn rules(&self) -> impl Iterator<Item = (&Rule, &RuleNote)> {
        self.compiled.rules.rules.iter().map(AsRef::as_ref).zip(&self.compiled.notes)
    }

    /// The report for machines.
    pub fn as_json(&self) -> serde_json::Value {
        let rules: Vec<RuleJson<'_>> = self
            .rules()
            .map(|(rule, note)| {
                let budget = Budget::of(rule, &self.timing);
                RuleJson {
                    id: rule.id.as_str(),
                    file: &rule.origin.file,
                    line: rule.origin.line,
                    flag: rule.flag.as_str(),
                    variant: rule.variant.as_str(),
                    baseline: rule.baseline.as_ref().map(|b| b.as_str()),
                    condition: &rule.condition.source,
                    clear: &rule.clear.source,
                    action: rule.action.as_str(),
                    meaning: format!("{}; {}", self.breach(rule), self.effect(rule)),
                    confirm: note.confirm.as_str(),
                    for_seconds: rule.hold.as_secs(),
                    dwell_seconds: rule.dwell.as_secs(),
                    min_samples: rule.min_samples,
                    rounded: roundings(note),
                    dry_run: rule.dry_run || self.dry_run,
                    budget: budget.terms.iter().map(|(n, d)| (*n, d.as_secs())).collect(),
                    budget_seconds: budget.total.as_secs(),
                    fits: budget.fits(),
                    hash: &rule.hash.0,
                }
            })
            .collect();
        serde_json::json!({ "ok": self.refused() == 0, "rules": rules, "diagnostics": self.diagnostics })
    }

    /// The report for people.
    pub fn as_text(&self, colour: bool) -> String {
        let mut out = String::new();
        let paint = Paint(colour);
        let mut file = "";
        let mut variant = "";
        for (rule, note) in self.rules() {
            if (file, variant) != (rule.origin.file.as_str(), rule.variant.as_str()) {
                (file, variant) = (&rule.origin.file, rule.variant.as_str());
                let baseline = rule.baseline.as_ref().map_or("none", |b| b.as_str());
                let _ = writeln!(out, "{} {}", paint.bold(variant), paint.dim(&format!("({file})")));
                let _ = writeln!(out, "  flag {}, baseline {baseline}\n", rule.flag);
            }
            self.rule_text(rule, note, &paint, &mut out);
        }
        out
    }

    fn rule_text(&self, rule: &Rule, note: &RuleNote, paint: &Paint, out: &mut String) {
        let budget = Budget::of(rule, &self.timing);
        let verdict = match (budget.fits(), rule.action) {
            (true, _) => paint.green("ok"),
            (false, RuleAction::Rollback) => paint.red("refused"),
            (false, _) => paint.yellow("slow"),
        };
        let dry = if rule.dry_run || self.dry_run { "  (dry run)" } else { "" };
        let _ = writeln!(
            out,
            "  {} {}  {verdict}{dry}",
            paint.bold(rule.id.as_str()),
            paint.dim(&format!("line {}", rule.origin.line))
        );
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(out, "    {} {text}", paint.dim(&format!("{name:<11}")));
        };
        line("when", &rule.condition.source);
        line("means", &self.breach(rule));
        line("then", &self.effect(rule));
        for rounding in roundings(note) {
            line("rounded", &rounding);
        }
        if rule.action != RuleAction::Rollback {
            let derived = if note.clear_derived { " (default)" } else { "" };
            line("clears", &format!("{}{derived}, held for {}", rule.clear.source, span::show(rule.dwell)));
        }
        let confirm = match note.confirm {
            Confirm::Either => "persistence (either)",
            Confirm::Persistence => "persistence",
        };
        line("confirm", confirm);
        let terms: Vec<String> =
            budget.terms.iter().map(|(name, d)| format!("{} {name}", d.as_secs())).collect();
        let total = budget.total.as_secs();
        let sign = if budget.fits() { "≤" } else { ">" };
        line("ten minutes", &format!("{} = {total} s {sign} 600 s", terms.join(" + ")));
        out.push('\n');
    }

    /// When it fires and what it does then.
    fn effect(&self, rule: &Rule) -> String {
        let action = match (rule.action, &rule.page) {
            (RuleAction::Rollback, Page::Never) => {
                "serve control to everybody and open an incident, page nobody".to_owned()
            }
            (RuleAction::Rollback, Page::Receiver(name)) => {
                format!("serve control to everybody, open an incident, page {name}")
            }
            (RuleAction::Rollback, _) => "serve control to everybody, open an incident, page".to_owned(),
            (RuleAction::PauseRollout, Page::Always) => {
                "hold the share where it is, notify and page".to_owned()
            }
            (RuleAction::PauseRollout, Page::Receiver(name)) => {
                format!("hold the share where it is, page {name}")
            }
            (RuleAction::PauseRollout, _) => "hold the share where it is, notify".to_owned(),
            (RuleAction::Notify, Page::Always) => "notify and page".to_owned(),
            (RuleAction::Notify, Page::Receiver(name)) => format!("page {name}"),
            (RuleAction::Notify, _) => "notify".to_owned(),
        };
        let slice = rule.by.map(|by| format!(" in one {}", by.as_str())).unwrap_or_default();
        let samples = if self.counts_only(rule) {
            String::new()
        } else {
            format!(", {} samples or more", rule.min_samples)
        };
        format!("after {}{slice}{samples}: {action}", span::show(rule.hold))
    }

    fn counts_only(&self, rule: &Rule) -> bool {
        use crate::engine::rule::Stat;
        rule.condition.slots.iter().all(|s| matches!(s.stat, Stat::Count | Stat::PerMin))
    }

    fn breach(&self, rule: &Rule) -> String {
        let Shape::Simple { slot, side, threshold } = &rule.condition.shape else {
            return format!("the condition holds over the last {}", window(rule));
        };
        let of = &rule.condition.slots[*slot];
        let metric = self.catalogue.get(of.metric);
        let side = match side {
            Side::Below => "below",
            Side::Above => "above",
        };
        let bound = match threshold {
            Threshold::Const(value) if metric.unit.is_empty() => tidy(*value),
            Threshold::Const(value) => format!("{} {}", tidy(*value), metric.unit),
            Threshold::Baseline { factor, .. } if factor.to_bits() == 1.0f64.to_bits() => {
                "that of the baseline".to_owned()
            }
            Threshold::Baseline { factor, .. } => {
                format!("{} times that of the baseline", tidy(*factor))
            }
        };
        format!("{} of {} over the last {} {side} {bound}", of.stat.as_str(), metric.name, of.window.as_str())
    }
}

impl Report {
    /// The last line.
    pub fn summary(&self) -> String {
        let rules = count(self.compiled.rules.rules.len(), "rule");
        let warnings = self.diagnostics.len() - self.refused();
        let also = if warnings > 0 { format!(", {}", count(warnings, "warning")) } else { String::new() };
        let mut out = match self.refused() {
            0 => format!("{rules}: every rollback keeps the ten minutes{also}\n"),
            n => format!("{rules}: {n} refused{also}\n"),
        };
        if self.compiled.notes.iter().any(|n| n.confirm == Confirm::Either) {
            out.push_str(
                "`confirm: either`, the default, means persistence until the change detector is there.\n",
            );
        }
        out
    }
}

fn window(rule: &Rule) -> String {
    span::show(Duration::from_secs(u64::from(rule.condition.window().0) * 60))
}

fn roundings(note: &RuleNote) -> Vec<String> {
    let one = |r: &crate::engine::rule::shape::Rounding| {
        let unit = if r.unit.is_empty() { String::new() } else { format!(" {}", r.unit) };
        format!(
            "{} {} is judged as {}{unit}: samples in the threshold's own bucket never count as bad",
            r.measurement, r.written, r.judged
        )
    };
    note.roundings.iter().map(one).collect()
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[&str]) -> CheckArgs {
        CheckArgs {
            files: files.iter().map(PathBuf::from).collect(),
            config: Some(PathBuf::from("rearguard.example.yaml")),
            format: Format::Human,
        }
    }

    #[test]
    fn the_example_is_good() {
        let report = check(&args(&[])).unwrap();
        assert_eq!((report.refused(), report.diagnostics.len()), (0, 0), "{:?}", report.diagnostics);
        let text = report.as_text(false);
        for line in [
            "flag ai.support-copilot.prompt-v18, baseline support-copilot.prompt-v17",
            "means       rate of ai.injection.suspected over the last 1h above 3 times that of the baseline",
            "then        after 3m, 100 samples or more: serve control to everybody, open an incident, page",
            "60 pane + 30 lateness + 10 tick + 180 for + 5 commit + 90 flip + 60 page = 435 s ≤ 600 s",
            "clears      faithfulness_1h >= 0.93 (default), held for 15m",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(report.as_json()["rules"][3]["budget_seconds"], 435);
    }

    #[test]
    fn exit_codes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        let write = |more: &str| {
            let rule = format!(
                "- variant: shop.v2\n  rules: [{{ condition: cost_1h > 1, action: rollback{more} }}]\n"
            );
            std::fs::write(&path, rule).unwrap();
            let files = vec![path.clone()];
            run(&CheckArgs { files, config: None, format: Format::Json }).unwrap()
        };
        assert_eq!(write(""), GOOD);
        assert_eq!(write(", for: 10m"), REFUSED);
        assert_eq!(write(", fro: 10m"), BAD_INPUT);
        assert_eq!(run(&args(&["/does/not/exist.yaml"])).unwrap(), BAD_INPUT);
        std::fs::write(
            &path,
            "- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: notify, page: oncal }]\n",
        )
        .unwrap();
        let errors = check(&args(&[path.to_str().unwrap()])).unwrap_err();
        assert_eq!(errors[0].help.as_deref(), Some("did you mean `page: oncall`?"));
    }
}
