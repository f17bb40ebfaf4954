//! What `rearguard check` says, for people and for machines.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Report;
use crate::engine::budget::Budget;
use crate::engine::detector;
use crate::engine::evidence::promise;
use crate::engine::rule::compile::RuleNote;
use crate::engine::rule::token::tidy;
use crate::engine::rule::{Page, Rule, RuleAction, Shape, Side, Stat, Threshold, span};
/// One term of the sum in the JSON report.
#[derive(Debug, Serialize)]
struct TermJson {
    term: &'static str,
    seconds: u64,
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
    budget: Vec<TermJson>,
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
                    confirm: rule.confirm.as_str(),
                    for_seconds: rule.hold.as_secs(),
                    dwell_seconds: rule.dwell.as_secs(),
                    min_samples: rule.min_samples,
                    rounded: roundings(note),
                    dry_run: rule.dry_run || self.dry_run,
                    budget: budget
                        .terms
                        .iter()
                        .map(|(term, d)| TermJson { term, seconds: d.as_secs() })
                        .collect(),
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
        let gives_evidence = detector::claims(&rule.condition, &self.catalogue);
        let without = gives_evidence.as_ref().err().filter(|_| rule.confirm.by_evidence());
        let why = without.map(|why| format!(", by persistence alone: {why}")).unwrap_or_default();
        line("confirm", &format!("{}{why}", rule.confirm.as_str()));
        let every = self.limits.false_rollback_every;
        line("promises", &promise(rule, gives_evidence.is_ok(), every));
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
        match self.refused() {
            0 => format!("{rules}: every rollback keeps the ten minutes{also}\n"),
            n => format!("{rules}: {n} refused{also}\n"),
        }
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

/// A number and its noun.
pub(super) fn count(n: usize, noun: &str) -> String {
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
