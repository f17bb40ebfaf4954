//! What is said about rules that compile: whether they keep the ten minutes, whether they are fast enough, and whether they
//! mean what was meant.

use std::collections::BTreeMap;

use super::compile::{Compiled, RuleNote};
use super::diagnostic::Diagnostic;
use super::shadow::shadowed;
use super::token::tidy;
use super::{Arm, Measurement, Rule, RuleAction, Shape, Side, Stat, Threshold, Window, identifier, span};
use crate::engine::budget::{Budget, Timing};
use crate::model::metric::{Catalogue, Direction};

/// A threshold moved by its bucket by more than this part of itself is worth a warning: the buckets alone move it by 1/128.
const COARSE: f64 = 0.05;

/// All doubts about rules that compile, beside the ten minutes. `whole` says that no rule is missing because of a mistake.
pub fn review(compiled: &Compiled, catalogue: &Catalogue, whole: bool) -> Vec<Diagnostic> {
    let mut out = shadowed(compiled, catalogue);
    if whole {
        out.extend(without_fast_companion(compiled));
        out.extend(without_time_bound(compiled));
    }
    for (rule, note) in rules(compiled) {
        out.extend(forgets_its_breach(rule, note));
        out.extend(good_side(rule, note, catalogue));
        out.extend(fires_at_par(rule, note, catalogue));
        out.extend(finer_than_buckets(rule, note));
        out.extend(only_pages(rule, note));
    }
    out
}

fn rules(compiled: &Compiled) -> impl Iterator<Item = (&Rule, &RuleNote)> {
    compiled.rules.rules.iter().map(AsRef::as_ref).zip(&compiled.notes)
}

/// What the ten minutes say: rollback rules above them are errors, others warnings.
pub fn check_budgets(compiled: &Compiled, timing: &Timing) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for (rule, note) in rules(compiled) {
        let budget = Budget::of(rule, &timing.on(note.served.as_ref()));
        if budget.fits() {
            continue;
        }
        let help = match budget.longest_hold() {
            Some(hold) => format!("the longest `for` that fits is {}", span::show(hold)),
            None => "shorten `lateness`, `tick` or `flip_deadline` under `timing:`".to_owned(),
        };
        let message = format!(
            "`{}` can take {} s from breach to page, more than the 600 s that are promised",
            rule.id,
            budget.total.as_secs()
        );
        let found = note.hold.warning(&rule.origin.file, message, help);
        out.push(if rule.action == RuleAction::Rollback { found.as_error() } else { found });
    }
    out
}

/// Rollback rules that evidence alone confirms: nothing bounds how long a breach lasts before there is enough, unless another
/// rule on the same metric acts by persistence, or somebody has said why that is accepted. And such words where there is nothing
/// to accept: they would be read as if there were.
fn without_time_bound(compiled: &Compiled) -> Vec<Diagnostic> {
    let told = |(rule, note): (&Rule, &RuleNote)| match (bound(rule, compiled), &note.no_time_bound) {
        (None, Some(_)) => None,
        (None, None) => {
            let message = format!(
                "`{}` is confirmed by evidence alone: nothing bounds how long a breach lasts before it acts",
                rule.id
            );
            let help = "add a `pause_rollout` or `rollback` on the same metric with `confirm: either` or `persistence`, or say \
                        why that is accepted: `no_time_bound: <reason>`";
            Some(note.at.warning(&rule.origin.file, message, help))
        }
        (Some(_), None) => None,
        (Some(why), Some((_, at))) => {
            let message = format!("`no_time_bound` of `{}` accepts nothing: {why}", rule.id);
            Some(at.warning(&rule.origin.file, message, "remove the key"))
        }
    };
    rules(compiled).filter_map(told).collect()
}

/// Why a rule needs nobody to accept that it may take any time; `None` if it does.
fn bound(rule: &Rule, compiled: &Compiled) -> Option<String> {
    if rule.action != RuleAction::Rollback {
        return Some(format!("`{}` rolls nothing back", rule.action.as_str()));
    }
    if rule.confirm.by_persistence() {
        return Some(format!("`confirm: {}` acts on a breach that lasts", rule.confirm.as_str()));
    }
    let same = |slot: &Measurement| rule.condition.slots.iter().any(|own| own.metric == slot.metric);
    let companion = |other: &Rule| {
        other.variant == rule.variant
            && other.action != RuleAction::Notify
            && other.confirm.by_persistence()
            && other.condition.slots.iter().any(same)
    };
    let (other, _) = rules(compiled).find(|(other, _)| companion(other))?;
    Some(format!("`{}` bounds the time by acting on the same metric", other.id))
}

/// Rollback rules that look at 6 h alone: without a faster rule on the same metric a sharp drop takes long to cross.
fn without_fast_companion(compiled: &Compiled) -> Vec<Diagnostic> {
    let mut fastest: BTreeMap<_, Window> = BTreeMap::new();
    for (rule, _) in rules(compiled).filter(|(rule, _)| rule.action != RuleAction::Notify) {
        for slot in &rule.condition.slots {
            let entry = fastest.entry((rule.variant.clone(), slot.metric)).or_insert(slot.window);
            *entry = slot.window.min(*entry);
        }
    }
    let mut out = Vec::new();
    for (rule, note) in rules(compiled) {
        let slow = rule.action == RuleAction::Rollback
            && rule.condition.slots.iter().all(|slot| {
                slot.window >= Window::LONGEST
                    && fastest.get(&(rule.variant.clone(), slot.metric)) >= Some(&Window::LONGEST)
            });
        if slow {
            let message = format!(
                "`{}` looks at 6 h only: a sharp drop can take hours to cross its threshold",
                rule.id
            );
            let help = "add a rule on the 5m or 1h window of the same metric, `rollback` or `pause_rollout`";
            out.push(note.at.warning(&rule.origin.file, message, help));
        }
    }
    out
}

/// A `for` longer than all history: when it fires, nothing is left of the minutes that began the breach.
fn forgets_its_breach(rule: &Rule, note: &RuleNote) -> Option<Diagnostic> {
    let kept = Window::LONGEST.span();
    (rule.hold > kept).then(|| {
        let message = format!(
            "`for: {}` is longer than the {} of history that are kept: when it fires, nothing is left of the minutes that began the breach",
            span::show(rule.hold),
            span::show(kept)
        );
        note.hold.warning(&rule.origin.file, message, "name a longer window instead, and a shorter `for`")
    })
}

/// A rollback of a slice where the flag's platform knows only everybody.
fn only_pages(rule: &Rule, note: &RuleNote) -> Option<Diagnostic> {
    let (by, served) = (rule.by?, note.served.as_ref()?);
    (rule.action == RuleAction::Rollback && !rule.whole_flag).then(|| {
        let message = format!(
            "`{}` only pages: `{}` ({}) serves its flag, and there a rollback of one {} alone is not possible",
            rule.id,
            served.platform,
            served.kind,
            by.as_str()
        );
        let help = "write `scope: all` to roll everybody back, or let Rearguard serve the flag";
        note.at.warning(&rule.origin.file, message, help)
    })
}

/// A rule that acts when its metric is good.
fn good_side(rule: &Rule, note: &RuleNote, catalogue: &Catalogue) -> Option<Diagnostic> {
    let Shape::Simple { slot, side, .. } = rule.condition.shape else { return None };
    let of = &rule.condition.slots[slot];
    let metric = catalogue.get(of.metric);
    let level = !matches!(of.stat, Stat::Sum | Stat::Count | Stat::PerMin | Stat::Stddev);
    let (good, what) = match metric.direction {
        Direction::HigherIsBetter => (Side::Above, "higher"),
        Direction::LowerIsBetter => (Side::Below, "lower"),
    };
    (level && side == good && rule.action != RuleAction::Notify).then(|| {
        let sign = if side == Side::Above { "<" } else { ">" };
        let message = format!("`{}` acts when `{}` is good: {what} is better", rule.id, metric.name);
        let help = format!(
            "turn the comparison round (`{sign}`), or say `direction` of `{}` under `metrics:` in the configuration",
            metric.name
        );
        note.condition.warning(&rule.origin.file, message, help)
    })
}

/// A comparison with the baseline that holds while both are equal.
fn fires_at_par(rule: &Rule, note: &RuleNote, catalogue: &Catalogue) -> Option<Diagnostic> {
    let Shape::Simple { slot, side, threshold: Threshold::Baseline { factor, .. } } = rule.condition.shape
    else {
        return None;
    };
    let holds = match side {
        Side::Above => factor < 1.0,
        Side::Below => factor > 1.0,
    };
    let of = &rule.condition.slots[slot];
    (holds && of.arm == Arm::Own && !of.stat.is_extensive()).then(|| {
        let message =
            format!("`{}` holds while the variant is exactly as good as its baseline", rule.condition.source);
        let help = format!(
            "`{}` is compared with {} times the baseline's: is the factor on the wrong side of 1?",
            identifier::name(of, catalogue),
            tidy(factor)
        );
        note.condition.warning(&rule.origin.file, message, help)
    })
}

/// A threshold that the metric's histogram cannot tell from its neighbours.
fn finer_than_buckets(rule: &Rule, note: &RuleNote) -> Option<Diagnostic> {
    let found = note.roundings.iter().find(|r| (r.to - r.from).abs() > COARSE * r.from.abs())?;
    let message = format!(
        "`{} {}` is finer than the metric's buckets: it is judged as `{}`",
        found.measurement, found.written, found.judged
    );
    Some(note.condition.warning(
        &rule.origin.file,
        message,
        "say a smaller `resolution` of the metric under `metrics:` in the configuration, or use the mean",
    ))
}
