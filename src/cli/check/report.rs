//! What `rearguard check` says, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::Report;
use super::reach::Told;
use crate::cli::meaning;
use crate::cli::output::{Ink, Paint, count};
use crate::engine::budget::Budget;
use crate::engine::detector;
use crate::engine::evidence::promise;
use crate::engine::rule::compile::RuleNote;
use crate::engine::rule::{Rule, RuleAction, span};

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
    /// Why it is accepted that nothing bounds the time until it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_time_bound: Option<&'a str>,
    /// The platform that serves the flag, unless Rearguard does.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    /// What simulation says, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated: Option<serde_json::Value>,
}

impl Report {
    /// How many rules are refused.
    pub fn refused(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.is_error()).count()
    }

    /// What simulation says of the rule at a place.
    pub fn simulated(&self, place: usize) -> Option<&Told> {
        self.reaches.get(place)
    }

    /// The rules, each with what there is to say about it.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, &RuleNote)> {
        self.compiled.rules.rules.iter().map(AsRef::as_ref).zip(&self.compiled.notes)
    }

    /// The report for machines.
    pub fn as_json(&self) -> serde_json::Value {
        let rules: Vec<RuleJson<'_>> = self
            .rules()
            .enumerate()
            .map(|(place, (rule, note))| {
                let budget = Budget::of(rule, &self.timing.on(note.served.as_ref()));
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
                    meaning: format!(
                        "{}; {}",
                        meaning::condition(&rule.condition, &self.catalogue),
                        meaning::effect(rule)
                    ),
                    confirm: rule.confirm.as_str(),
                    for_seconds: rule.hold.as_secs(),
                    dwell_seconds: rule.dwell.as_secs(),
                    min_samples: rule.min_samples,
                    rounded: meaning::roundings(note),
                    dry_run: rule.dry_run || self.dry_run,
                    budget: budget
                        .terms
                        .iter()
                        .map(|(term, d)| TermJson { term, seconds: d.as_secs() })
                        .collect(),
                    budget_seconds: budget.total.as_secs(),
                    fits: budget.fits(),
                    hash: &rule.hash.0,
                    no_time_bound: note.no_time_bound.as_ref().map(|(reason, _)| reason.as_str()),
                    platform: note.served.as_ref().map(|served| served.platform.as_str()),
                    simulated: self.simulated(place).and_then(Told::as_json),
                }
            })
            .collect();
        serde_json::json!({ "ok": self.refused() == 0, "rules": rules, "diagnostics": self.diagnostics })
    }

    /// The report for people.
    pub fn as_text(&self, paint: Paint) -> String {
        let mut out = String::new();
        let mut file = "";
        let mut variant = "";
        for (place, (rule, note)) in self.rules().enumerate() {
            if (file, variant) != (rule.origin.file.as_str(), rule.variant.as_str()) {
                (file, variant) = (&rule.origin.file, rule.variant.as_str());
                let baseline = rule.baseline.as_ref().map_or("none", |b| b.as_str());
                let _ = writeln!(out, "{} {}", paint.bold(variant), paint.dim(&format!("({file})")));
                let _ = writeln!(out, "  flag {}, baseline {baseline}\n", rule.flag);
            }
            self.rule_text(place, rule, note, paint, &mut out);
        }
        out
    }

    fn rule_text(&self, place: usize, rule: &Rule, note: &RuleNote, paint: Paint, out: &mut String) {
        let budget = Budget::of(rule, &self.timing.on(note.served.as_ref()));
        let verdict = match (budget.fits(), rule.action) {
            (true, _) => paint.ink(Ink::Good, "ok"),
            (false, RuleAction::Rollback) => paint.ink(Ink::Bad, "refused"),
            (false, _) => paint.ink(Ink::Doubt, "slow"),
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
        line("means", &meaning::condition(&rule.condition, &self.catalogue));
        line("then", &meaning::effect(rule));
        for rounding in meaning::roundings(note) {
            line("rounded", &rounding);
        }
        for objective in meaning::objectives(rule, &self.catalogue) {
            line("objective", &objective);
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
        if let Some(reason) = meaning::accepted(rule, note) {
            line("accepted", &format!("no bound on the time it takes: {reason}"));
        }
        if let (Some(served), RuleAction::Rollback) = (&note.served, rule.action) {
            line("platform", &meaning::platform(served));
        }
        line("ten minutes", &meaning::sum(&budget));
        for (name, text) in self.simulated(place).map(|told| told.lines(rule)).unwrap_or_default() {
            line(name, &text);
        }
        out.push('\n');
    }
}

impl Report {
    /// The last line.
    pub fn summary(&self) -> String {
        let rules = count(self.compiled.rules.rules.len() as u64, "rule");
        let warnings = self.diagnostics.len() - self.refused();
        let also =
            if warnings > 0 { format!(", {}", count(warnings as u64, "warning")) } else { String::new() };
        match self.refused() {
            0 => format!("{rules}: every rollback keeps the ten minutes{also}\n"),
            n => format!("{rules}: {n} refused{also}\n"),
        }
    }
}
