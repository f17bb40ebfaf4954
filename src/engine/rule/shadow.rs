//! Rules that never do anything of their own, because another one does as much whenever their condition holds.

use super::compile::Compiled;
use super::diagnostic::Diagnostic;
use super::{Page, Rule, RuleAction, Shape, logic};
use crate::model::metric::Catalogue;

/// A warning per rule that stands in the shadow of another.
pub fn shadowed(compiled: &Compiled, catalogue: &Catalogue) -> Vec<Diagnostic> {
    let rules = &compiled.rules.rules;
    let covers = |by: usize, rule: usize| covers(&rules[by], &rules[rule], catalogue);
    let mut out = Vec::new();
    for (place, (rule, note)) in rules.iter().zip(&compiled.notes).enumerate() {
        // Of two that do the same the first one stays.
        let by = (0..rules.len())
            .find(|by| *by != place && covers(*by, place) && (*by < place || !covers(place, *by)));
        let Some(by) = by.map(|by| &rules[by]) else { continue };
        let does = match by.action {
            RuleAction::Rollback => "rolls back",
            RuleAction::PauseRollout => "pauses",
            RuleAction::Notify => "notifies",
        };
        let message = format!(
            "`{}` never does anything of its own: whenever its condition holds, so does that of `{}` on {}, which {does}",
            rule.id,
            by.id,
            by.origin.seen_from(&rule.origin)
        );
        let help = match (&rule.condition.shape, rule.action == by.action) {
            (Shape::Simple { .. }, false) => {
                "remove it, or choose a threshold that is crossed earlier than the other's"
            }
            _ => "remove one of the two",
        };
        out.push(note.condition.warning(&rule.origin.file, message, help));
    }
    out
}

/// Whether `by` does at least what `rule` does, whenever that would.
fn covers(by: &Rule, rule: &Rule, catalogue: &Catalogue) -> bool {
    let same = by.flag == rule.flag
        && by.variant == rule.variant
        && by.by == rule.by
        && by.confirm == rule.confirm
        && by.dry_run == rule.dry_run
        && by.no_data == rule.no_data;
    let baseline = by.baseline == rule.baseline || !rule.condition.reads_baseline();
    let as_strong = by.action >= rule.action
        && by.severity >= rule.severity
        && by.whole_flag >= rule.whole_flag
        && wakes(rule).is_none_or(|who| wakes(by) == Some(who));
    let as_soon = by.hold <= rule.hold && by.min_samples <= rule.min_samples;
    // A rule with a longer `dwell`, or another `clear`, would hold a pause for longer.
    let as_long = by.action == RuleAction::Rollback
        || by.action > rule.action
        || (by.dwell >= rule.dwell && logic::implies(&by.clear, &rule.clear, catalogue));
    same && baseline
        && as_strong
        && as_soon
        && as_long
        && logic::implies(&rule.condition, &by.condition, catalogue)
}

/// Whom a rule pages: `Some("")` for those routed for it.
fn wakes(rule: &Rule) -> Option<&str> {
    match &rule.page {
        Page::Receiver(name) => Some(name),
        Page::Always => Some(""),
        Page::Default if rule.action == RuleAction::Rollback => Some(""),
        Page::Default | Page::Never => None,
    }
}
