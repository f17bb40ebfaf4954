//! What a rule means, in words: for `check` and `rules explain`.

use std::time::Duration;

use crate::engine::budget::{Budget, PROMISE};
use crate::engine::detector;
use crate::engine::objective::bad_in_words;
use crate::engine::rule::compile::RuleNote;
use crate::engine::rule::identifier::period;
use crate::engine::rule::shape::Rounding;
use crate::engine::rule::token::tidy;
use crate::engine::rule::write::write;
use crate::engine::rule::{
    Arm, Compare, Condition, Confirm, Expr, Measurement, NoData, Page, Rule, RuleAction, Stat, shape, span,
};
use crate::model::flag::Served;
use crate::model::metric::Catalogue;
use crate::model::slo::Slo;

/// A condition as a clause: `the mean of faithfulness over the last 1h is below 0.92`.
pub fn condition(condition: &Condition, catalogue: &Catalogue) -> String {
    let words = Words { slots: &condition.slots, catalogue };
    words.truth(&condition.expr)
}

/// When it fires and what it does then: `after 3m, 100 samples or more: notify`.
pub fn effect(rule: &Rule) -> String {
    let slice = rule.by.map(|by| format!(" in one {}", by.as_str())).unwrap_or_default();
    let samples = match samples(rule) {
        Some(samples) => format!(", {samples}"),
        None => String::new(),
    };
    format!("after {}{slice}{samples}: {}", span::show(rule.hold), action(rule))
}

/// The ten minutes, term by term: `60 pane + … = 435 s ≤ 600 s`.
pub fn sum(budget: &Budget) -> String {
    let terms: Vec<String> = budget.terms.iter().map(|(name, d)| format!("{} {name}", d.as_secs())).collect();
    let sign = if budget.fits() { "≤" } else { ">" };
    format!("{} = {} s {sign} {} s", terms.join(" + "), budget.total.as_secs(), PROMISE.as_secs())
}

/// Thresholds that are judged otherwise than written.
pub fn roundings(note: &RuleNote) -> Vec<String> {
    let one = |r: &Rounding| {
        let unit = if r.unit.is_empty() { String::new() } else { format!(" {}", r.unit) };
        format!(
            "{} {} is judged as {}{unit}: samples in the threshold's own bucket never count as bad",
            r.measurement, r.written, r.judged
        )
    };
    note.roundings.iter().map(one).collect()
}

/// What the objectives of a rule count: `slo.answers: faithfulness < 0.8 is bad, 0.5% of samples may be in 30d`.
pub fn objectives(rule: &Rule, catalogue: &Catalogue) -> Vec<String> {
    let mut slos: Vec<&Slo> = rule.condition.slots.iter().filter_map(|m| catalogue.slo(m.metric)).collect();
    slos.dedup_by_key(|slo| slo.id);
    let one = |slo: &Slo| {
        format!(
            "slo.{}: {} is bad, {}% of samples may be in {}",
            slo.name,
            bad_in_words(slo, catalogue),
            tidy(f64::from(slo.allowed) / 1e4),
            period(slo).word()
        )
    };
    slos.into_iter().map(one).collect()
}

/// A whole rule in sentences, for somebody who has never seen a rule file. `dry_run` is the configuration's.
pub fn sentences(rule: &Rule, note: &RuleNote, catalogue: &Catalogue, dry_run: bool) -> Vec<String> {
    let whose = match rule.by {
        Some(by) => format!("of {}, for every {} on its own", rule.variant, by.as_str()),
        None => format!("of {}", rule.variant),
    };
    let mut out = vec![
        format!("Once a minute Rearguard looks at the answers {whose}."),
        format!("When {}, that is a breach.", condition(&rule.condition, catalogue)),
    ];
    if rule.condition.reads_baseline() {
        out.push(match &rule.baseline {
            Some(baseline) => format!(
                "The baseline is {baseline}: the same measurement over the same time. The difference must be greater than noise explains."
            ),
            None => "No baseline is known, so this rule is never judged.".to_owned(),
        });
    }
    out.extend(roundings(note).into_iter().chain(objectives(rule, catalogue)).map(|text| format!("{text}.")));
    let samples = samples(rule).map_or_else(String::new, |samples| format!(", on {samples}"));
    let persists = format!(
        "it shows with every pair of neighbouring minutes left out as well{samples}, in three minutes or more, and lasts for {}",
        long(rule.hold)
    );
    let proved = "every minute's samples together prove that the level has left the good side, whether or not the window is in breach yet";
    let counts = match (rule.confirm, detector::claims(&rule.condition, catalogue).is_ok()) {
        (Confirm::Persistence, _) | (_, false) => persists,
        (Confirm::Either, true) => format!("{persists}; or as soon as {proved}"),
        (Confirm::Significant, true) => format!("{persists} and is beyond noise; or as soon as {proved}"),
        (Confirm::Evidence, true) => proved.to_owned(),
    };
    out.push(format!("It counts if {counts} (`confirm: {}`).", rule.confirm.as_str()));
    if let Some(reason) = accepted(rule, note) {
        out.push(format!(
            "Nothing bounds how long that may take. This is accepted: {}.",
            sentence_end(reason)
        ));
    }
    out.push(format!("Then {}.", deed(rule, dry_run)));
    out.push(match rule.action {
        RuleAction::Rollback => "That stays so until a human re-arms the flag.".to_owned(),
        RuleAction::PauseRollout | RuleAction::Notify => format!(
            "That is over when {} for {}, over the window and its last {}.",
            condition(&rule.clear, catalogue),
            long(rule.dwell),
            long(rule.condition.window().recent().span())
        ),
    });
    out.push(silence(rule));
    out
}

/// Why somebody accepts that a rule may take any time, where it may.
pub fn accepted<'a>(rule: &Rule, note: &'a RuleNote) -> Option<&'a str> {
    let may = rule.action == RuleAction::Rollback && !rule.confirm.by_persistence();
    note.no_time_bound.as_ref().filter(|_| may).map(|(reason, _)| reason.as_str())
}

/// Text that a full stop can follow.
fn sentence_end(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

fn samples(rule: &Rule) -> Option<String> {
    let counts = rule.condition.slots.iter().all(|s| matches!(s.stat, Stat::Count | Stat::PerMin));
    let arms = if rule.condition.reads_baseline() { " of each variant" } else { "" };
    (!counts).then(|| format!("{} samples or more{arms}", rule.min_samples))
}

fn action(rule: &Rule) -> String {
    match (rule.action, &rule.page) {
        (RuleAction::Rollback, Page::Never) => {
            "serve control to everybody and open an incident, page nobody".to_owned()
        }
        (RuleAction::Rollback, Page::Receiver(name)) => {
            format!("serve control to everybody, open an incident, page {name}")
        }
        (RuleAction::Rollback, _) => "serve control to everybody, open an incident, page".to_owned(),
        (RuleAction::PauseRollout, Page::Always) => "hold the share where it is, notify and page".to_owned(),
        (RuleAction::PauseRollout, Page::Receiver(name)) => {
            format!("hold the share where it is, page {name}")
        }
        (RuleAction::PauseRollout, _) => "hold the share where it is, notify".to_owned(),
        (RuleAction::Notify, Page::Always) => "notify and page".to_owned(),
        (RuleAction::Notify, Page::Receiver(name)) => format!("page {name}"),
        (RuleAction::Notify, _) => "notify".to_owned(),
    }
}

/// Who serves a flag, and how long a flip may take there.
pub fn platform(served: &Served) -> String {
    format!(
        "`{}` ({}) serves the flag, as `{}`: a flip takes up to {} s there, read-back included",
        served.platform,
        served.kind,
        served.key,
        served.worst.as_secs()
    )
}

/// What is done, who is told.
fn deed(rule: &Rule, dry_run: bool) -> String {
    let flag = &rule.flag;
    let to = match (rule.by, rule.whole_flag) {
        (Some(by), false) => format!("that {}", by.as_str()),
        _ => "everybody".to_owned(),
    };
    let done = match rule.action {
        RuleAction::Rollback => {
            format!("{flag} serves control to {to}, an incident is opened ({})", rule.failure_class)
        }
        RuleAction::PauseRollout => format!("the share of {flag} is held where it is"),
        RuleAction::Notify => "nothing is changed".to_owned(),
    };
    let told = match &rule.page {
        Page::Receiver(name) => format!("{name} is paged"),
        Page::Always => "the on-call is paged".to_owned(),
        Page::Default if rule.action == RuleAction::Rollback => "the on-call is paged".to_owned(),
        Page::Default => "those who get notices are told".to_owned(),
        Page::Never => "nobody is paged, those who get notices are told".to_owned(),
    };
    let owner = rule.owner.as_ref().map_or_else(String::new, |owner| format!(", owner {owner}"));
    let done = format!("{done}, and {told} (severity {}{owner})", rule.severity.as_str());
    if rule.dry_run || dry_run { format!("it only says what it would do (dry run): {done}") } else { done }
}

fn silence(rule: &Rule) -> String {
    match rule.no_data {
        NoData::Hold => "Silence changes nothing; after 15 minutes of it somebody is told.".to_owned(),
        NoData::Notify => "Silence changes nothing; somebody is told at once.".to_owned(),
        NoData::Pause => {
            format!("After {} of silence the share is held, and somebody is told.", long(rule.hold))
        }
    }
}

struct Words<'a> {
    slots: &'a [Measurement],
    catalogue: &'a Catalogue,
}

impl Words<'_> {
    fn truth(&self, expr: &Expr) -> String {
        // What is nested otherwise says where it begins.
        let part = |e: &Expr| match (expr, e) {
            (Expr::And(..), Expr::Or(..)) => format!("either {}", self.truth(e)),
            (Expr::Or(..), Expr::And(..)) => format!("both {}", self.truth(e)),
            _ => self.truth(e),
        };
        match expr {
            Expr::And(l, r) => format!("{}, and {}", part(l), part(r)),
            Expr::Or(l, r) => format!("{}, or {}", part(l), part(r)),
            Expr::Compare(op, l, r) => {
                format!("{} is {} {}", self.number(l), relation(*op), self.bound(l, r))
            }
            other => write(other, self.slots, self.catalogue),
        }
    }

    fn number(&self, expr: &Expr) -> String {
        match expr {
            Expr::Slot(slot) => self.measurement(&self.slots[*slot]),
            other => format!("`{}`", write(other, self.slots, self.catalogue)),
        }
    }

    fn bound(&self, left: &Expr, right: &Expr) -> String {
        let of = match left {
            Expr::Slot(slot) => Some(&self.slots[*slot]),
            _ => None,
        };
        match (of, right, shape::multiple(right)) {
            (Some(of), Expr::Const(value), _) => {
                let unit = if matches!(of.stat, Stat::Count | Stat::PerMin) {
                    ""
                } else {
                    self.catalogue.get(of.metric).unit.as_str()
                };
                format!("{} {unit}", tidy(*value)).trim_end().to_owned()
            }
            (_, Expr::Const(value), _) => tidy(*value),
            (Some(of), _, Some((base, factor)))
                if (Measurement { arm: Arm::Baseline, ..*of }) == self.slots[base] =>
            {
                if tidy(factor) == "1" {
                    "that of the baseline".to_owned()
                } else {
                    format!("{} times that of the baseline", tidy(factor))
                }
            }
            _ => self.number(right),
        }
    }

    fn measurement(&self, of: &Measurement) -> String {
        let metric = &self.catalogue.get(of.metric).name;
        let window = of.window.word();
        let arm = if of.arm == Arm::Baseline { " on the baseline" } else { "" };
        let what = match of.stat {
            Stat::Count => format!("the number of {metric} samples"),
            Stat::PerMin => format!("the number of {metric} samples per minute"),
            Stat::Rate => format!("the rate of {metric}"),
            Stat::Mean => format!("the mean of {metric}"),
            Stat::Sum => format!("the sum of {metric}"),
            Stat::Min => format!("the smallest {metric}"),
            Stat::Max => format!("the greatest {metric}"),
            Stat::Stddev => format!("the standard deviation of {metric}"),
            Stat::P50 => format!("the median of {metric}"),
            Stat::P90 => format!("the 90th percentile of {metric}"),
            Stat::P95 => format!("the 95th percentile of {metric}"),
            Stat::P99 => format!("the 99th percentile of {metric}"),
            Stat::P999 => format!("the 99.9th percentile of {metric}"),
            Stat::Burn(_) => format!("the burn rate of {metric}"),
            Stat::Budget(_) => {
                return format!("what is left of the error budget of {metric} for {window}{arm}");
            }
        };
        format!("{what} over the last {window}{arm}")
    }
}

const fn relation(op: Compare) -> &'static str {
    match op {
        Compare::Lt => "below",
        Compare::Le => "at most",
        Compare::Gt => "above",
        Compare::Ge => "at least",
        Compare::Eq => "exactly",
        Compare::Ne => "anything but",
    }
}

/// `3 minutes`, `1h30m`.
fn long(of: Duration) -> String {
    match of.as_secs() {
        60 => "one minute".to_owned(),
        s if s < 3_600 && s % 60 == 0 => format!("{} minutes", s / 60),
        _ => span::show(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::compile::{Compiled, compile_rules};

    fn compiled(condition: &str, more: &str) -> Compiled {
        let text = format!(
            "- variant: a.v2\n  baseline: a.v1\n  owner: team-a\n  rules: [{{ condition: \"{condition}\", {more} }}]\n"
        );
        compile_rules(&[("r.yaml", text)], &Catalogue::default(), &[]).unwrap()
    }

    #[test]
    fn conditions_read_as_clauses() {
        for (text, words) in [
            ("cost_p95_1h > 0.05", "the 95th percentile of cost over the last 1h is above 0.05023 USD"),
            ("latency_count_5m <= 9", "the number of latency samples over the last 5m is at most 9"),
            ("cost_1h > baseline", "the mean of cost over the last 1h is above that of the baseline"),
            (
                "error_rate_1h >= baseline*3",
                "the rate of error over the last 1h is at least 3 times that of the baseline",
            ),
            (
                "cost_1h > baseline(cost_6h)",
                "the mean of cost over the last 1h is above the mean of cost over the last 6h on the baseline",
            ),
            (
                "cost_1h > 1 && (latency_max_5m > 9 || error_1h > 0.1 && tokens_sum_1h > 3)",
                "the mean of cost over the last 1h is above 1 USD, and either the greatest latency over the last 5m is above 9 ms, \
                 or both the rate of error over the last 1h is above 0.1, and the sum of tokens over the last 1h is above 3 tokens",
            ),
            ("tokens_1h / ttft_1h > 4", "`tokens_1h / ttft_1h` is above 4"),
            ("cost_1h > tokens_1h + 1", "the mean of cost over the last 1h is above `tokens_1h + 1`"),
        ] {
            let compiled = compiled(text, "action: notify");
            assert_eq!(condition(&compiled.rules.rules[0].condition, &Catalogue::default()), words, "{text}");
        }
    }

    #[test]
    fn every_key_that_changes_what_happens_is_said() {
        let said = |more: &str, dry_run: bool| {
            let compiled = compiled("error_rate_1h > baseline*3", more);
            sentences(&compiled.rules.rules[0], &compiled.notes[0], &Catalogue::default(), dry_run).join(" ")
        };
        let plain = said("action: rollback", false);
        for (more, dry_run, part) in [
            ("action: rollback, for: 2m", false, "and lasts for 2 minutes"),
            ("action: rollback, min_samples: 7", false, "on 7 samples or more of each variant"),
            ("action: rollback, confirm: persistence", false, "`confirm: persistence`"),
            ("action: rollback, by: tenant", false, "for every tenant on its own"),
            ("action: rollback, by: tenant", false, "serves control to that tenant"),
            ("action: rollback, by: tenant, scope: all", false, "for every tenant on its own"),
            ("action: rollback, page: false", false, "nobody is paged"),
            ("action: rollback, page: night", false, "night is paged (severity critical, owner team-a)"),
            ("action: rollback, severity: info", false, "(severity info, owner team-a)"),
            ("action: rollback, failure_class_hint: x", false, "an incident is opened (x)"),
            ("action: rollback, no_data: pause", false, "After 3 minutes of silence the share is held"),
            ("action: rollback, no_data: notify", false, "somebody is told at once"),
            ("action: rollback, mode: dry_run", false, "it only says what it would do (dry run)"),
            (
                "action: rollback, confirm: evidence, no_time_bound: 'Watched by hand.'",
                false,
                "Nothing bounds how long that may take. This is accepted: Watched by hand. Then",
            ),
            ("action: rollback", true, "it only says what it would do (dry run)"),
            ("action: notify", false, "nothing is changed, and those who get notices are told"),
            ("action: notify, dwell: 20m", false, "for 20 minutes, over the window and its last 5 minutes"),
            (
                "action: notify, clear: error_rate_1h < 0.1",
                false,
                "That is over when the rate of error over the last 1h is below 0.1",
            ),
        ] {
            let text = said(more, dry_run);
            assert!(text.contains(part), "{more}: {text}");
            assert!(!plain.contains(part), "{part}: {plain}");
        }
        assert!(
            said("action: rollback, by: tenant, scope: all", false).contains("serves control to everybody")
        );
        assert!(plain.contains("The baseline is a.v1"), "{plain}");
    }
}
