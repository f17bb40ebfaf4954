//! What is missing until a rule fires, test by test.

use serde::{Deserialize, Serialize};

use super::{EvidenceTest, PersistenceTest};
use crate::engine::alert::{Alert, State};
use crate::engine::rule::Rule;
use crate::engine::rule::eval::Unknown;
use crate::engine::verdict::{BAD_MINUTES, Inspection, Judgement, Reason, Verdict};
use crate::model::time::Minute;

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "lack", rename_all = "snake_case")]
pub enum Lack {
    /// A test of the verdict does not hold.
    Test { reason: Reason },
    /// The condition is not true.
    NotTrue,
    /// Everything else holds, and has not held long enough: minutes, of those needed.
    Hold { held: u32, needed: u32 },
    /// D is below c without a pair of minutes.
    WithoutPair { pair: Minute, evidence: f64, needed: f64 },
    /// Verdicts may not act: Rearguard is blind, or still starting.
    NotArmed { why: String },
}

/// What the list is made from.
pub(super) struct Facts<'a> {
    pub rule: &'a Rule,
    pub found: &'a Inspection,
    pub alert: &'a Alert,
    pub judgement: &'a Judgement,
    pub persistence: &'a PersistenceTest,
    /// What lies before is known by the hour.
    pub seam: Minute,
    pub not_armed: Option<&'a Reason>,
}

impl Facts<'_> {
    /// What P and `for` still ask for.
    pub(super) fn of_persistence(&self) -> Vec<Lack> {
        if self.has_fired() {
            return Vec::new();
        }
        let mut lacks = self.unknown();
        let p = self.persistence;
        if lacks.is_empty() {
            if let Some(have) = p.samples.filter(|have| *have < p.min_samples) {
                lacks.push(test(Reason::TooFewSamples { have, need: p.min_samples }));
            }
            if self.found.full == Ok(false) {
                lacks.push(Lack::NotTrue);
            } else {
                self.of_a_true_condition(&mut lacks);
            }
            self.bad_minutes(&mut lacks);
        }
        let held = p.held.unwrap_or(0);
        if held < p.hold {
            lacks.push(Lack::Hold { held, needed: p.hold });
        }
        self.armed(&mut lacks);
        lacks
    }

    /// What E still asks for.
    pub(super) fn of_evidence(&self, evidence: &EvidenceTest) -> Vec<Lack> {
        if self.has_fired() {
            return Vec::new();
        }
        let mut lacks = Vec::new();
        self.missing(&mut lacks);
        let EvidenceTest { evidence: d, needed, .. } = *evidence;
        if d < needed {
            lacks.push(test(Reason::Unproven { evidence: d, needed }));
        } else if let Some((pair, least)) = evidence.without.filter(|(_, least)| *least < needed) {
            lacks.push(Lack::WithoutPair { pair, evidence: least, needed });
        }
        if evidence.recent_holds != Some(true) {
            lacks.push(test(Reason::Over));
        }
        self.bad_minutes(&mut lacks);
        let named = self.judgement.proof.as_ref().and_then(|proof| proof.short_of.clone());
        if let (true, Some(reason)) = (lacks.is_empty(), named) {
            lacks.push(test(reason));
        }
        self.armed(&mut lacks);
        lacks
    }

    /// Whether the rule's own action has been decided upon, and is not looked at again.
    fn has_fired(&self) -> bool {
        match &self.alert.state {
            State::Quiet | State::Pending(_) => false,
            State::Firing(firing) => firing.action >= self.rule.action && !firing.is_looked_at_again(),
            State::Latched { .. } => true,
        }
    }

    fn of_a_true_condition(&self, lacks: &mut Vec<Lack>) {
        let p = self.persistence;
        let enough = p.samples.is_none_or(|have| have >= p.min_samples);
        if let Some((pair, have)) = p.fewest_left.filter(|(_, have)| enough && *have < p.min_samples) {
            lacks.push(test(Reason::rests_on(pair, self.seam, Some((have, p.min_samples)))));
        }
        if let Some(left_out) = p.without.as_ref().filter(|left_out| !left_out.holds) {
            lacks.push(test(Reason::rests_on(left_out.pair, self.seam, None)));
        }
        if p.noise_matters && p.beyond_noise == Some(false) {
            let baseline = self.rule.condition.reads_baseline();
            lacks.push(test(if baseline { Reason::WithinNoise } else { Reason::Doubtful }));
        }
    }

    fn bad_minutes(&self, lacks: &mut Vec<Lack>) {
        let bad = self.found.bad_minutes;
        if bad < BAD_MINUTES {
            lacks.push(test(Reason::FewBadMinutes { bad }));
        }
    }

    /// What keeps the condition from having a value at all.
    fn unknown(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        self.missing(&mut lacks);
        match self.found.full {
            Err(Unknown::NoBaseline) => lacks.push(test(Reason::NoBaseline)),
            Err(Unknown::NotFinite) => lacks.push(test(Reason::NotFinite)),
            Err(Unknown::NoHistogram) => lacks.push(test(Reason::NoHistogram)),
            Err(Unknown::NoData) => lacks.push(test(Reason::NoData)),
            Ok(_) if self.persistence.samples == Some(0) => lacks.push(test(Reason::NoData)),
            Ok(_) => {}
        }
        lacks
    }

    /// Events that could not be read and belong into the window.
    fn missing(&self, lacks: &mut Vec<Lack>) {
        if let Verdict::Inconclusive { reason: reason @ Reason::Missing { .. } } = &self.judgement.verdict {
            lacks.push(test(reason.clone()));
        }
    }

    fn armed(&self, lacks: &mut Vec<Lack>) {
        if let Some(why) = self.not_armed {
            lacks.push(Lack::NotArmed { why: why.to_string() });
        }
    }
}

fn test(reason: Reason) -> Lack {
    Lack::Test { reason }
}
