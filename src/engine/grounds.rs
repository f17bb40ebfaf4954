//! The grounds of a decision: everything that its verdict was judged from, so that it can be judged again, by anybody, at any
//! time, to the same verdict.
//!
//! Out: one [`Grounds`] beside every decision. [`Grounds::judge_again`] runs the very code that judged: from the panes of the
//! rule's measurements to the verdict, and from the alert as it stood to the decision. What lies outside of one rule is taken as
//! it was: the gates (other flags, limits, automation) and the counts of tenants.

mod compare;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use compare::{Check, Replayed};

use super::alert::{Alert, Change, Closing};
use super::closing::Judged;
use super::detector::{SPAN, Track};
use super::evidence;
use super::input::Limits;
use super::layout::Layout;
use super::machine::Engine;
use super::measure::{Frame, Lookup};
use super::output::{Decision, Evidence};
use super::pane::PaneData;
use super::rule::{Arm, Measurement, Rule};
use super::series::{Series, SeriesPanes};
use super::verdict::{Gathered, Judgement, judge};
use crate::model::id::DecisionId;
use crate::model::metric::{Catalogue, Metric, MetricId};
use crate::model::time::Minute;

/// What one decision was judged from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grounds {
    pub decision: DecisionId,
    /// The rule as it was.
    pub rule: Rule,
    /// What its measurements are of, under the numbers that they have in the rule.
    pub metrics: Vec<(MetricId, Metric)>,
    pub series: Vec<SeriesGrounds>,
    pub has_baseline: bool,
    /// The minute whose closing decided, and the first that counted since the rule was armed or re-armed.
    pub closed: Minute,
    pub floor: Minute,
    pub armed: bool,
    /// The last minute that events were missing from, if that reached into the window.
    pub missing: Option<Minute>,
    /// The first minute that counted as evidence, and c; `None` where there was no evidence to gather.
    pub evidence: Option<(Minute, f64)>,
    pub limits: Limits,
    /// The alert before the closing, and what the closing knew beside the verdict.
    pub before: Alert,
    pub clear: Option<bool>,
    pub latched: bool,
}

/// The panes of one series, as far as the verdict could look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesGrounds {
    pub metric: MetricId,
    pub arm: Arm,
    pub panes: SeriesPanes,
    /// Hours since 1970-01-01 before them, with what each holds: of a window longer than six hours no older panes are kept.
    #[serde(default)]
    pub hours: Vec<(i64, PaneData)>,
}

/// Why grounds cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroundsError {
    #[error("metric {0} of the rule is not among the stored ones")]
    NoMetric(u16),
    #[error("the panes of `{0}` are of another kind than the metric")]
    OtherKind(String),
    #[error("the condition gives no evidence, yet evidence was gathered")]
    NoEvidence,
}

/// What came of judging again.
pub(super) struct Again {
    pub judgement: Judgement,
    pub change: Change,
    /// `no_data: pause` was due.
    pub pauses_on_silence: bool,
    /// The first closing at which the literal condition was true, while it stayed true.
    pub crossing: Option<Minute>,
    /// Everything but tenants and context.
    pub evidence: Evidence,
}

impl Grounds {
    /// Everything that a decision rests on, taken at its closing. `before` and `closing` are what its alert was given.
    pub(super) fn take(
        engine: &Engine,
        judged: &Judged,
        decision: &Decision,
        before: Alert,
        closing: &Closing<'_>,
    ) -> Self {
        let Judged { rule, key, frame, .. } = judged;
        let view = super::closing::view_of(engine, rule, &key.slice);
        let catalogue = engine.fleet.schema().catalogue();
        let read: BTreeSet<(MetricId, Arm)> =
            rule.condition.slots.iter().map(|m| (m.metric, m.arm)).collect();
        let metrics: BTreeSet<MetricId> =
            rule.condition.slots.iter().chain(&rule.clear.slots).map(|m| m.metric).collect();
        let window = frame.from(rule.condition.window());
        let from =
            judged.evidence.map_or(window, |(since, _)| window.min(since.max(frame.closed.plus(1 - SPAN))));
        let of = |slots: &[Measurement], (metric, arm): (MetricId, Arm)| {
            let m = slots.iter().find(|m| m.metric == metric && m.arm == arm)?;
            let series = view.series(m)?;
            let hours = if rule.condition.window().is_long() { series.hours_from(from) } else { Vec::new() };
            Some(SeriesGrounds { metric, arm, panes: series.part(from, frame.closed), hours })
        };
        Self {
            decision: decision.id.clone(),
            metrics: metrics.into_iter().map(|id| (id, catalogue.get(id).clone())).collect(),
            series: read.into_iter().filter_map(|which| of(&rule.condition.slots, which)).collect(),
            has_baseline: view.has_arm(Arm::Baseline),
            rule: Rule::clone(rule),
            closed: frame.closed,
            floor: frame.floor,
            armed: closing.armed,
            missing: judged.missing,
            evidence: judged.evidence,
            limits: engine.settings().limits,
            before,
            clear: closing.clear,
            latched: closing.latched,
        }
    }

    /// Judges again and compares with what was decided.
    ///
    /// # Errors
    ///
    /// Grounds that do not fit together.
    pub fn judge_again(&self, decision: &Decision) -> Result<Replayed, GroundsError> {
        Ok(compare::compare(self, decision, &self.again()?))
    }

    pub(super) fn again(&self) -> Result<Again, GroundsError> {
        let catalogue = Catalogue::with(self.metrics.iter().map(|(_, metric)| metric.clone()).collect());
        let rule = self.renumbered(&catalogue)?;
        let panes = Panes::of(self, &catalogue)?;
        let frame = Frame { closed: self.closed, floor: self.floor };
        let track = match self.evidence {
            None => None,
            Some(_) => {
                let mut track =
                    Track::new(&rule.condition, &catalogue).map_err(|_| GroundsError::NoEvidence)?;
                track.follow(&panes, self.closed, f64::from(self.limits.minute_cap));
                Some(track)
            }
        };
        let gathered = track.as_ref().zip(self.evidence);
        let gathered = gathered.map(|(track, (since, needed))| Gathered { track, since, needed });
        let mut judgement = judge(&rule, &panes, frame, self.armed, gathered);
        if let Some(until) = self.missing {
            judgement.withdraw(super::verdict::Reason::Missing { until });
        }
        let closing = Closing {
            rule: &rule,
            judgement: &judgement,
            at: self.closed,
            armed: self.armed,
            clear: self.clear,
            latched: self.latched,
        };
        let mut alert = self.before.clone();
        let change = alert.close(&closing);
        let pauses_on_silence = alert.notices(&closing).pause_on_silence;
        let held = match &change {
            Change::Confirmed(pending)
            | Change::Doubted(pending)
            | Change::Escalated(_, pending)
            | Change::Withheld(_, pending) => pending.held,
            Change::None | Change::Began | Change::Ended | Change::Resolved(_) => 0,
        };
        let evidence = evidence::numbers(&rule, &panes, &catalogue, frame, &judgement, held, &self.limits);
        Ok(Again { judgement, change, pauses_on_silence, crossing: alert.crossing, evidence })
    }

    /// The rule with its metrics under the numbers of another catalogue.
    fn renumbered(&self, catalogue: &Catalogue) -> Result<Rule, GroundsError> {
        let mut rule = self.rule.clone();
        for slot in rule.condition.slots.iter_mut().chain(&mut rule.clear.slots) {
            slot.metric = self.number(slot.metric, catalogue)?;
        }
        Ok(rule)
    }

    fn number(&self, id: MetricId, catalogue: &Catalogue) -> Result<MetricId, GroundsError> {
        let named = self.metrics.iter().find(|(known, _)| *known == id);
        named.and_then(|(_, metric)| catalogue.find(&metric.name)).ok_or(GroundsError::NoMetric(id.0))
    }
}

/// The stored panes, as judging looks them up.
struct Panes {
    series: Vec<(MetricId, Arm, Series)>,
    has_baseline: bool,
}

impl Panes {
    fn of(grounds: &Grounds, catalogue: &Catalogue) -> Result<Self, GroundsError> {
        let one = |stored: &SeriesGrounds| {
            let metric = grounds.number(stored.metric, catalogue)?;
            let about = catalogue.get(metric);
            let series = Series::from_panes(stored.panes.clone(), Layout::of(about));
            let mut series = series.ok_or_else(|| GroundsError::OtherKind(about.name.clone()))?;
            if !stored.hours.is_empty() {
                series.put_hours_before(stored.hours.clone());
            }
            Ok((metric, stored.arm, series))
        };
        Ok(Self {
            series: grounds.series.iter().map(one).collect::<Result<_, GroundsError>>()?,
            has_baseline: grounds.has_baseline,
        })
    }
}

impl Lookup for Panes {
    fn series(&self, m: &Measurement) -> Option<&Series> {
        self.series.iter().find(|(metric, arm, _)| *metric == m.metric && *arm == m.arm).map(|found| &found.2)
    }

    fn has_arm(&self, arm: Arm) -> bool {
        arm == Arm::Own || self.has_baseline
    }
}

#[cfg(test)]
mod tests;
