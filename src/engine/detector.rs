//! The change detector: evidence that a rule's claim of health has begun to fail, minute by minute.
//!
//! Windowed Shiryaev–Roberts (`stats::detector`) over factors that are recomputed from panes whenever these change, so late
//! data and deleted minutes are exact. All that has to be remembered is the minute since which evidence counts; factors are
//! kept from closing to closing only to save time.

mod claim;
mod factor;
#[cfg(test)]
mod tests;

pub use claim::{Claim, Events, Healthy, NoEvidence, claims};

use super::measure::Lookup;
use super::rule::Condition;
use crate::model::metric::Catalogue;
use crate::model::time::Minute;
use crate::stats::detector::{BETS, Step, shiryaev_roberts, without_pairs};

/// W: how many minutes back evidence may begin.
pub const SPAN: i64 = 360;

/// The factors of one rule on one slice, kept between closings.
#[derive(Clone, Debug)]
pub struct Track {
    claims: Vec<OneTrack>,
    /// The minute of the first step.
    first: Minute,
}

/// The factors against one claim.
#[derive(Clone, Debug)]
struct OneTrack {
    claim: Claim,
    weights: [f64; BETS],
    steps: Vec<Step<f32>>,
    /// Of the own arm's and of the baseline's pane when the step was computed.
    revisions: Vec<(u32, u32)>,
}

impl Track {
    /// Nothing computed yet; an error where the condition gives no evidence.
    pub fn new(condition: &Condition, catalogue: &Catalogue) -> Result<Self, NoEvidence> {
        let claims = claims(condition, catalogue)?;
        let one = |claim| OneTrack {
            weights: factor::weights(&claim),
            claim,
            steps: Vec::new(),
            revisions: Vec::new(),
        };
        Ok(Self { claims: claims.into_iter().map(one).collect(), first: Minute::default() })
    }

    /// Brings the factors up to date with the panes: the minutes that have closed since, and those that late data changed.
    /// `cap` is the number of samples that one minute may count for.
    pub fn follow(&mut self, lookup: &impl Lookup, closed: Minute, cap: f64) {
        let first = closed.plus(1 - SPAN);
        let have = self.claims.first().map_or(0, |one| one.steps.len()) as i64;
        let gone = first.0 - self.first.0;
        if gone < 0 || gone > have {
            self.claims.iter_mut().for_each(OneTrack::clear);
        } else if let Ok(gone) = usize::try_from(gone) {
            self.claims.iter_mut().for_each(|one| one.forget(gone));
        }
        self.first = first;
        for one in &mut self.claims {
            one.follow(lookup, first, closed, cap);
        }
    }

    /// D at the last closing followed: the least over the claims. `since` is the first minute that counts.
    pub fn evidence(&self, since: Minute) -> f64 {
        let d = |one: &OneTrack| shiryaev_roberts(self.counted(one, since), &one.weights);
        self.claims.iter().map(d).fold(f64::INFINITY, f64::min)
    }

    /// The pair of neighbouring minutes without which D is least, and that D.
    pub fn least_without_a_pair(&self, since: Minute) -> (Minute, f64) {
        let first = since.max(self.first);
        let mut least = (first, f64::INFINITY);
        for one in &self.claims {
            let without = without_pairs(self.counted(one, since), &one.weights);
            for (pair, d) in (first.0 - 1..).zip(without) {
                if d < least.1 {
                    least = (Minute(pair), d);
                }
            }
        }
        least
    }

    fn counted<'a>(&self, one: &'a OneTrack, since: Minute) -> &'a [Step<f32>] {
        let skip = usize::try_from(since.0 - self.first.0).unwrap_or(0).min(one.steps.len());
        &one.steps[skip..]
    }
}

impl OneTrack {
    fn clear(&mut self) {
        self.steps.clear();
        self.revisions.clear();
    }

    fn forget(&mut self, gone: usize) {
        self.steps.drain(..gone);
        self.revisions.drain(..gone);
    }

    fn follow(&mut self, lookup: &impl Lookup, first: Minute, closed: Minute, cap: f64) {
        let own = lookup.series(&self.claim.own);
        let base = self.claim.base.as_ref().and_then(|m| lookup.series(m));
        for (minute, at) in (first.0..=closed.0).map(Minute).zip(0..) {
            let revision = |series: Option<&super::series::Series>| series.map_or(0, |s| s.revision(minute));
            let now = (revision(own), revision(base));
            if self.revisions.get(at) == Some(&now) {
                continue;
            }
            let step = own.and_then(|own| factor::factors(&self.claim, own, base, minute, cap));
            if at < self.steps.len() {
                (self.steps[at], self.revisions[at]) = (step, now);
            } else {
                self.steps.push(step);
                self.revisions.push(now);
            }
        }
    }
}
