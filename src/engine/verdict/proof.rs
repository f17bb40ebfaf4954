//! The test E: enough evidence that health has ended, and the recent part in breach, both also without every pair of
//! neighbouring minutes.

use super::minutes::Minutes;
use super::{BAD_MINUTES, Reason, fails_without, lay_out, needed_slots, samples_without};
use crate::engine::detector::Track;
use crate::engine::measure::{self, Frame, Lookup};
use crate::engine::rule::eval::truth;
use crate::engine::rule::{Condition, Measurement};
use crate::model::time::Minute;

/// Samples that evidence needs at least, in the window, per arm.
const LEAST_SAMPLES: u64 = 10;

/// The evidence on one rule and slice before a closing is judged.
#[derive(Clone, Copy, Debug)]
pub struct Gathered<'a> {
    pub track: &'a Track,
    /// The first minute that counts as evidence.
    pub since: Minute,
    /// c: the evidence needed.
    pub needed: f64,
}

/// What came of the test E.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// D, the least over the comparisons of the condition.
    pub evidence: f64,
    /// c.
    pub needed: f64,
    pub since: Minute,
    /// The pair of minutes without which D is least, and that D; looked for once D has reached c.
    pub without: Option<(Minute, f64)>,
    pub bad_minutes: u32,
    /// Why the test does not hold; `None` if it does.
    pub short_of: Option<Reason>,
}

/// Asks the test E at a closing. Deletions are computed only when everything else holds.
pub(super) fn prove(
    condition: &Condition,
    lookup: &impl Lookup,
    frame: Frame,
    gathered: Gathered<'_>,
) -> Proof {
    let Gathered { track, since, needed } = gathered;
    let mut proof = Proof {
        evidence: track.evidence(since),
        needed,
        since,
        without: None,
        bad_minutes: 0,
        short_of: None,
    };
    proof.short_of = short_of(condition, lookup, frame, track, &mut proof);
    proof
}

fn short_of(
    condition: &Condition,
    lookup: &impl Lookup,
    frame: Frame,
    track: &Track,
    proof: &mut Proof,
) -> Option<Reason> {
    if proof.evidence < proof.needed {
        return Some(Reason::Unproven { evidence: proof.evidence, needed: proof.needed });
    }
    let recent = recent_part(condition);
    let in_breach = truth(&recent.expr, &mut |slot| measure::full(lookup, &recent.slots[slot], frame));
    if in_breach != Ok(true) {
        return Some(Reason::Over);
    }
    let samples = |m: &Measurement| measure::samples(lookup, m, frame);
    let have = needed_slots(condition).map(|slot| samples(&condition.slots[slot])).min().unwrap_or(u64::MAX);
    if have < LEAST_SAMPLES {
        return Some(Reason::TooFewSamples { have, need: LEAST_SAMPLES });
    }
    let panes = lay_out(condition, lookup, frame);
    proof.bad_minutes = Minutes::of(condition, &panes, lookup, frame).bad();
    if proof.bad_minutes < BAD_MINUTES {
        return Some(Reason::FewBadMinutes { bad: proof.bad_minutes });
    }
    let (pair, least) = track.least_without_a_pair(proof.since);
    proof.without = Some((pair, least));
    if least < proof.needed {
        return Some(Reason::SingleMinute { pair });
    }
    let few = |pair| {
        let have = samples_without(condition, &panes, pair);
        (have < LEAST_SAMPLES).then_some(Reason::TooFewWithout { pair, have, need: LEAST_SAMPLES })
    };
    let recent_panes = lay_out(&recent, lookup, frame);
    let fails = |pair| fails_without(&recent, &recent_panes, frame, pair, 0);
    let few = frame.pairs(condition.window()).find_map(few);
    few.or_else(|| frame.pairs(recent.window()).find_map(fails))
}

/// The same condition over the recent part of every window. Claims hold no sums or counts, so nothing is to be scaled.
fn recent_part(condition: &Condition) -> Condition {
    let recent = |m: &Measurement| Measurement { window: m.window.recent(), ..*m };
    Condition { slots: condition.slots.iter().map(recent).collect(), ..condition.clone() }
}
