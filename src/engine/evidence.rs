//! Evidence: the numbers that a decision is stored with and that an incident shows.

use std::time::Duration;

use super::detector::claims;
use super::fleet::{Fleet, RuleView};
use super::input::Limits;
use super::interval::interval;
use super::measure::{self, Frame, Lookup};
use super::message::number;
use super::output::{ContextLine, Evidence, PicturePoint, WorstPair};
use super::rule::{
    Arm, Condition, Confirm, ConfirmedBy, Measurement, Rule, Shape, Stat, Window, identifier, span,
};
use super::schema::VariantId;
use super::verdict::{Judgement, Reason, Verdict, brief, limit, worst_pair};
use crate::model::flag::Scope;
use crate::model::metric::{Catalogue, Kind};
use crate::model::time::MINUTE_MS;

/// Collects what a reader needs to believe a decision.
pub fn collect(
    rule: &Rule,
    fleet: &Fleet,
    scope: &Scope,
    frame: Frame,
    judgement: &Judgement,
    held: u32,
    limits: &Limits,
) -> Evidence {
    let schema = fleet.schema();
    let catalogue = schema.catalogue();
    let own = schema.find(rule.variant.as_str());
    let baseline = rule.baseline.as_ref().and_then(|b| schema.find(b.as_str()));
    let view = RuleView::new(fleet, own, baseline, scope);
    let window = frame.from(rule.condition.window());
    let (_, tenants) = own.map(|v| fleet.traffic_between(v, window, frame.closed)).unwrap_or_default();
    let main = rule.condition.slots.iter().find(|m| m.arm == Arm::Own);
    Evidence {
        tenants: tenants.estimate(),
        tenants_exact: tenants.is_exact(),
        context: context(fleet, own, baseline, frame, main),
        ..numbers(rule, &view, catalogue, frame, judgement, held, limits)
    }
}

/// What of it follows from the rule's own measurements: all but tenants and context.
pub(super) fn numbers(
    rule: &Rule,
    view: &impl Lookup,
    catalogue: &Catalogue,
    frame: Frame,
    judgement: &Judgement,
    held: u32,
    limits: &Limits,
) -> Evidence {
    let condition = &rule.condition;
    let name = |m: &Measurement| identifier::name(m, catalogue);
    let full = |m: &Measurement| measure::full(view, m, frame).ok();
    let (value, threshold, side) = match &condition.shape {
        Shape::Simple { slot, side, threshold } => {
            (full(&condition.slots[*slot]), limit(condition, *threshold, view, frame), Some(*side))
        }
        Shape::Other => (None, None, None),
    };
    let main = condition.slots.iter().find(|m| m.arm == Arm::Own);
    let base = condition.slots.iter().find(|m| m.arm == Arm::Baseline);
    Evidence {
        values: condition.slots.iter().map(|m| (name(m), full(m))).collect(),
        value,
        threshold,
        side,
        unit: unit_of(condition, catalogue),
        samples: main.map_or(0, |m| measure::samples(view, m, frame)),
        baseline_samples: base.map(|m| measure::samples(view, m, frame)),
        min_samples: rule.min_samples,
        interval: main.filter(|_| value.is_some()).and_then(|m| interval(view, m, frame, catalogue)),
        confirm: rule.confirm,
        promise: promise(rule, claims(condition, catalogue).is_ok(), limits.false_rollback_every),
        statement: statement(rule, view, frame, judgement, held, catalogue),
        evidence: judgement.proof.as_ref().map(|proof| proof.evidence),
        evidence_needed: judgement.proof.as_ref().map(|proof| proof.needed),
        within_noise: judgement.verdict == Verdict::Inconclusive { reason: Reason::Doubtful },
        // By evidence the pair that weighs most is part of the statement.
        worst_pair: worst_pair(condition, view, frame)
            .filter(|_| judgement.by != Some(ConfirmedBy::Evidence))
            .map(|(first, value)| WorstPair { first, value }),
        bad_minutes: judgement.bad_minutes,
        held: Duration::from_millis(u64::from(held) * MINUTE_MS.unsigned_abs()),
        window_minutes: u32::try_from(frame.minutes(condition.window())).unwrap_or(0),
        picture: main.map(|m| picture(view, m, frame)).unwrap_or_default(),
        ..Evidence::default()
    }
}

/// The unit of what a condition measures first; empty for scores and rates.
pub fn unit_of(condition: &Condition, catalogue: &Catalogue) -> String {
    let main = condition.slots.iter().find(|m| m.arm == Arm::Own);
    main.map(|m| unit(m, catalogue)).unwrap_or_default()
}

/// Which statement held: the window, its recent part, and what confirmed it.
fn statement(
    rule: &Rule,
    view: &impl Lookup,
    frame: Frame,
    judgement: &Judgement,
    held: u32,
    catalogue: &Catalogue,
) -> String {
    let own: Vec<&Measurement> = rule.condition.slots.iter().filter(|m| m.arm == Arm::Own).collect();
    let mut parts = Vec::new();
    for m in &own {
        let unit = unit(m, catalogue);
        let say = |value: Option<f64>| value.map_or_else(|| "no data".to_owned(), |v| number(v, &unit));
        let label = if own.len() == 1 && !m.stat.turns_round() {
            m.window.word()
        } else {
            identifier::name(m, catalogue)
        };
        parts.push(format!("{label} {}", say(measure::full(view, m, frame).ok())));
        if m.window != m.window.recent() {
            let recent = say(measure::recent(view, m, frame).ok());
            parts.push(format!("last {} {recent}", lasting(m.window.recent())));
        }
    }
    parts.push(match (judgement.by, &judgement.proof) {
        (Some(ConfirmedBy::Evidence), Some(proof)) => {
            let without = proof.without.map_or_else(String::new, |(pair, least)| {
                format!(" ({} without the two minutes from {pair})", brief(least))
            });
            format!("D {}{without} ≥ {}", brief(proof.evidence), brief(proof.needed))
        }
        (_, Some(proof)) => {
            format!("held for {held} min; D {} of {}", brief(proof.evidence), brief(proof.needed))
        }
        (_, None) => format!("held for {held} min"),
    });
    parts.join("; ")
}

/// A part of a window in words: `5 min`, `14h`.
fn lasting(window: Window) -> String {
    if window.0 <= 60 { format!("{} min", window.0) } else { window.word() }
}

/// What a rule's `confirm` promises (docs/rules.md, "When a rule fires").
pub fn promise(rule: &Rule, gives_evidence: bool, false_rollback_every: Duration) -> String {
    match rule.confirm {
        Confirm::Either if gives_evidence => {
            "acts within ten minutes of the literal breach, on evidence earlier; no bound on false alarms"
                .into()
        }
        Confirm::Either | Confirm::Persistence => {
            "the literal rule: acts within ten minutes of the breach; no bound on false alarms".into()
        }
        Confirm::Significant => {
            "far fewer false rollbacks: within noise it pauses and pages; a small drop takes longer".into()
        }
        Confirm::Evidence => format!(
            "over all rules at most one false rollback in {} on average, as long as at every minute the expectation is on \
             the good side; no bound on the time it takes",
            span::show(false_rollback_every)
        ),
    }
}

pub(super) fn unit(m: &Measurement, catalogue: &Catalogue) -> String {
    match m.stat {
        Stat::Count => "samples".into(),
        Stat::PerMin => "samples/min".into(),
        _ => catalogue.get(m.metric).unit.clone(),
    }
}

fn picture(view: &impl Lookup, m: &Measurement, frame: Frame) -> Vec<PicturePoint> {
    let panes = measure::SlotPanes::new(view, m, frame);
    frame
        .cells(m.window)
        .map(|minute| PicturePoint {
            minute,
            value: panes.pane_value(minute).ok(),
            samples: panes.pane(minute).map_or(0, |p| p.n),
        })
        .collect()
}

/// The variant's other metrics beside its control, over the rule's window.
fn context(
    fleet: &Fleet,
    own: Option<VariantId>,
    baseline: Option<VariantId>,
    frame: Frame,
    main: Option<&Measurement>,
) -> Vec<ContextLine> {
    let Some(main) = main else { return Vec::new() };
    let view = RuleView::new(fleet, own, baseline, &Scope::All);
    let catalogue = fleet.schema().catalogue();
    // Other metrics have no roll-ups unless a long rule reads them too.
    let window = main.window.min(Window::LONGEST);
    catalogue
        .iter()
        .filter_map(|(id, metric)| {
            let stat = match metric.kind {
                Kind::Score => Stat::Mean,
                Kind::Boolean => Stat::Rate,
                Kind::Value => Stat::P95,
            };
            let own = Measurement { metric: id, stat, window, arm: Arm::Own };
            let control = Measurement { arm: Arm::Baseline, ..own };
            view.series(&own)?;
            Some(ContextLine {
                metric: identifier::name(&own, catalogue),
                unit: metric.unit.clone(),
                value: measure::full(&view, &own, frame).ok(),
                control: measure::full(&view, &control, frame).ok(),
            })
        })
        .collect()
}
