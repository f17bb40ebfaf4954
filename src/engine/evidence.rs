//! Evidence: the numbers that a decision is stored with and that an incident shows.

use std::time::Duration;

use super::fleet::{Fleet, RuleView};
use super::measure::{self, Frame, Lookup};
use super::output::{ContextLine, Evidence, PicturePoint, WorstPair};
use super::rule::{Arm, Condition, Measurement, Rule, Shape, Stat, identifier};
use super::schema::VariantId;
use super::verdict::{Judgement, limit, worst_pair};
use crate::model::flag::Scope;
use crate::model::metric::{Catalogue, Kind};
use crate::model::time::{MINUTE_MS, Minute};

/// Collects what a reader needs to believe a decision.
pub fn collect(
    rule: &Rule,
    fleet: &Fleet,
    scope: &Scope,
    frame: Frame,
    judgement: &Judgement,
    held: u32,
) -> Evidence {
    let schema = fleet.schema();
    let own = schema.find(rule.variant.as_str());
    let baseline = rule.baseline.as_ref().and_then(|b| schema.find(b.as_str()));
    let view = RuleView::new(fleet, own, baseline, scope);
    let condition = &rule.condition;
    let window = condition.window();
    let name = |m: &Measurement| identifier::name(m, schema.catalogue());
    let full = |m: &Measurement| measure::full(&view, m, frame).ok();
    let (value, threshold, side) = match &condition.shape {
        Shape::Simple { slot, side, threshold } => {
            (full(&condition.slots[*slot]), limit(condition, *threshold, &view, frame), Some(*side))
        }
        Shape::Other => (None, None, None),
    };
    let (_, tenants) =
        own.map(|v| fleet.traffic_between(v, frame.from(window), frame.closed)).unwrap_or_default();
    let main = condition.slots.iter().find(|m| m.arm == Arm::Own);
    Evidence {
        values: condition.slots.iter().map(|m| (name(m), full(m))).collect(),
        value,
        threshold,
        side,
        unit: unit_of(condition, schema.catalogue()),
        samples: main.map_or(0, |m| measure::samples(&view, m, frame)),
        baseline_samples: condition
            .slots
            .iter()
            .find(|m| m.arm == Arm::Baseline)
            .map(|m| measure::samples(&view, m, frame)),
        min_samples: rule.min_samples,
        worst_pair: worst_pair(condition, &view, frame).map(|(first, value)| WorstPair { first, value }),
        bad_minutes: judgement.bad_minutes,
        held: Duration::from_millis(u64::from(held) * MINUTE_MS.unsigned_abs()),
        tenants: tenants.estimate(),
        tenants_exact: tenants.is_exact(),
        window_minutes: u32::try_from(frame.minutes(window)).unwrap_or(0),
        picture: main.map(|m| picture(&view, m, frame)).unwrap_or_default(),
        context: context(fleet, own, baseline, frame, main),
    }
}

/// The unit of what a condition measures first; empty for scores and rates.
pub fn unit_of(condition: &Condition, catalogue: &Catalogue) -> String {
    let Some(m) = condition.slots.iter().find(|m| m.arm == Arm::Own) else {
        return String::new();
    };
    match m.stat {
        Stat::Count => "samples".into(),
        Stat::PerMin => "samples/min".into(),
        _ => catalogue.get(m.metric).unit.clone(),
    }
}

fn picture(view: &RuleView<'_>, m: &Measurement, frame: Frame) -> Vec<PicturePoint> {
    let panes = measure::SlotPanes::new(view, m, frame);
    (frame.from(m.window).0..=frame.closed.0)
        .map(Minute)
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
    catalogue
        .iter()
        .filter_map(|(id, metric)| {
            let stat = match metric.kind {
                Kind::Score => Stat::Mean,
                Kind::Boolean => Stat::Rate,
                Kind::Value => Stat::P95,
            };
            let own = Measurement { metric: id, stat, window: main.window, arm: Arm::Own };
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
