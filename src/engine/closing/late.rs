//! What came too late for a window, at the closing that judges it.

use crate::engine::fleet::RuleView;
use crate::engine::machine::Engine;
use crate::engine::measure::Frame;
use crate::engine::rule::{Arm, Measurement, Rule};
use crate::engine::verdict::{Reason, could_turn};
use crate::model::flag::Scope;

/// Why a pass of a rule is none, if so: what came too late could turn it.
pub(super) fn why_no_pass(
    engine: &Engine,
    rule: &Rule,
    slice: &Scope,
    view: &RuleView<'_>,
    frame: Frame,
) -> Option<Reason> {
    if engine.fleet.late().is_empty() {
        return None;
    }
    let (schema, condition) = (engine.fleet.schema(), &rule.condition);
    let catalogue = schema.catalogue();
    let of = |m: &Measurement| {
        let variant = match m.arm {
            Arm::Own => Some(&rule.variant),
            Arm::Baseline => rule.baseline.as_ref(),
        };
        let id = variant.and_then(|variant| schema.find(variant.as_str()));
        id.map_or(0, |id| {
            let key = (id, catalogue.recorded(m.metric), slice.clone());
            engine.fleet.late_between(&key, frame.from(m.window), frame.closed)
        })
    };
    could_turn(condition, catalogue, view, frame, of)
}
