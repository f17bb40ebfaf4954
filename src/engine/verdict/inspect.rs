//! Every test of P at one closing, also those that judging does not come to: what `explain` is made of.

use super::minutes::Minutes;
use super::{lay_out, masked, samples_without, true_without, worst_pair};
use crate::engine::measure::{self, Frame, Lookup, SlotPanes};
use crate::engine::rule::eval::{Unknown, truth};
use crate::engine::rule::{Condition, Rule};
use crate::model::time::Minute;

/// What each test finds, whatever came of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Whether the condition is true in full, and over the recent part of every window.
    pub full: Result<bool, Unknown>,
    pub recent: Result<bool, Unknown>,
    /// The pair of neighbouring minutes that weighs most; `None` where no pair is singled out.
    pub without: Option<Without>,
    /// The fewest samples that any pair leaves, and that pair; `None` where no samples are needed.
    pub fewest_left: Option<(Minute, u64)>,
    pub bad_minutes: u32,
    /// Whether the breach is beyond noise; `None` for conditions that are taken literally.
    pub beyond_noise: Option<bool>,
}

/// The window without a pair of minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct Without {
    /// The first minute of the pair.
    pub pair: Minute,
    /// Each measurement of the condition, by slot.
    pub values: Vec<Option<f64>>,
    /// Whether the condition is true.
    pub holds: bool,
}

/// Runs every test of P on what a rule reads.
pub fn inspect(rule: &Rule, lookup: &impl Lookup, frame: Frame) -> Inspection {
    let condition = &rule.condition;
    let full = truth(&condition.expr, &mut |slot| measure::full(lookup, &condition.slots[slot], frame));
    let recent = truth(&condition.expr, &mut |slot| measure::recent(lookup, &condition.slots[slot], frame));
    let panes = lay_out(condition, lookup, frame);
    let minutes = Minutes::of(condition, &panes, lookup, frame);
    let left = |pair| (pair, samples_without(condition, &panes, pair));
    let least = frame.pairs(condition.window()).map(left).min_by_key(|(_, left)| *left);
    let pair = singled_out(rule, full, &panes, lookup, frame);
    Inspection {
        full,
        recent,
        without: pair.map(|pair| without(condition, &panes, lookup, frame, pair)),
        fewest_left: least.filter(|(_, left)| *left < u64::MAX),
        bad_minutes: minutes.bad(),
        beyond_noise: match minutes {
            Minutes::Deficits(_) => Some(minutes.beyond_noise(condition, &panes, None)),
            Minutes::Alone(_) => None,
        },
    }
}

/// The pair that the condition depends on, if it does; else the one that weighs most.
fn singled_out(
    rule: &Rule,
    full: Result<bool, Unknown>,
    panes: &[SlotPanes<'_>],
    lookup: &impl Lookup,
    frame: Frame,
) -> Option<Minute> {
    let condition = &rule.condition;
    let decisive = match full {
        Ok(true) => frame.pairs(condition.window()).find(|pair| !true_without(condition, panes, *pair)),
        Ok(false) => masked(rule, lookup, frame),
        Err(_) => return None,
    };
    decisive.or_else(|| worst_pair(condition, lookup, frame).map(|(pair, _)| pair))
}

fn without(
    condition: &Condition,
    panes: &[SlotPanes<'_>],
    lookup: &impl Lookup,
    frame: Frame,
    pair: Minute,
) -> Without {
    let value = |m| SlotPanes::new(lookup, m, frame).without(pair).ok();
    Without {
        pair,
        values: condition.slots.iter().map(value).collect(),
        holds: true_without(condition, panes, pair),
    }
}
