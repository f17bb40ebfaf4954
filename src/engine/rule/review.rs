//! What is said about rules that compile: whether they keep the ten minutes, and whether they are fast enough.

use std::collections::BTreeMap;

use super::compile::Compiled;
use super::diagnostic::{Diagnostic, Level};
use super::{Rule, RuleAction, Window};
use crate::engine::budget::{Budget, Timing};

/// What the ten minutes say: rollback rules above them are errors, others warnings.
pub fn check_budgets(compiled: &Compiled, timing: &Timing) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for (rule, note) in compiled.rules.rules.iter().zip(&compiled.notes) {
        let budget = Budget::of(rule, timing);
        if budget.fits() {
            continue;
        }
        let rollback = rule.action == RuleAction::Rollback;
        let help = match budget.longest_hold() {
            Some(hold) => format!("the longest `for` that fits is {}", super::span::show(hold)),
            None => "shorten `lateness`, `tick` or `flip_deadline` under `timing:`".to_owned(),
        };
        out.push(Diagnostic {
            file: rule.origin.file.clone(),
            line: note.line,
            column: note.column,
            span: note.at,
            message: format!(
                "`{}` can take {} s from breach to page, more than the 600 s that are promised",
                rule.id,
                budget.total.as_secs()
            ),
            help: Some(help),
            severity: if rollback { Level::Error } else { Level::Warning },
        });
    }
    out
}

/// Rollback rules that evidence alone confirms: nothing bounds how long a breach lasts before there is enough, unless another
/// rule on the same metric acts by persistence.
pub fn without_time_bound(compiled: &Compiled) -> Vec<Diagnostic> {
    let rules = || compiled.rules.rules.iter();
    let bounded = |rule: &Rule| {
        rules().any(|other| {
            other.variant == rule.variant
                && other.action != RuleAction::Notify
                && other.confirm.by_persistence()
                && other
                    .condition
                    .slots
                    .iter()
                    .any(|slot| rule.condition.slots.iter().any(|s| s.metric == slot.metric))
        })
    };
    rules()
        .zip(&compiled.notes)
        .filter(|(rule, _)| {
            rule.action == RuleAction::Rollback && !rule.confirm.by_persistence() && !bounded(rule)
        })
        .map(|(rule, note)| Diagnostic {
            file: rule.origin.file.clone(),
            line: note.line,
            column: note.column,
            span: note.at,
            message: format!(
                "`{}` is confirmed by evidence alone: nothing bounds how long a breach lasts before it acts",
                rule.id
            ),
            help: Some(
                "add a `pause_rollout` or `rollback` on the same metric with `confirm: either` or `persistence`"
                    .to_owned(),
            ),
            severity: Level::Warning,
        })
        .collect()
}

/// Rollback rules that look at 6 h alone: without a faster rule on the same metric a sharp drop takes long to cross.
pub fn without_fast_companion(compiled: &Compiled) -> Vec<Diagnostic> {
    let mut fastest: BTreeMap<_, Window> = BTreeMap::new();
    let acting = |rule: &Rule| rule.action != RuleAction::Notify;
    for rule in compiled.rules.rules.iter().filter(|r| acting(r)) {
        for slot in &rule.condition.slots {
            let entry = fastest.entry((rule.variant.clone(), slot.metric)).or_insert(slot.window);
            *entry = slot.window.min(*entry);
        }
    }
    let mut out = Vec::new();
    for (rule, note) in compiled.rules.rules.iter().zip(&compiled.notes) {
        let slow = rule.action == RuleAction::Rollback
            && rule.condition.slots.iter().all(|slot| {
                slot.window >= Window::LONGEST
                    && fastest.get(&(rule.variant.clone(), slot.metric)) >= Some(&Window::LONGEST)
            });
        if slow {
            out.push(Diagnostic {
                file: rule.origin.file.clone(),
                line: note.line,
                column: note.column,
                span: note.at,
                message: format!(
                    "`{}` looks at 6 h only: a sharp drop can take hours to cross its threshold",
                    rule.id
                ),
                help: Some(
                    "add a rule on the 5m or 1h window of the same metric, `rollback` or `pause_rollout`"
                        .to_owned(),
                ),
                severity: Level::Warning,
            });
        }
    }
    out
}
