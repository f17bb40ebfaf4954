//! Minute factors: how one pane of each arm moves the evidence against a claim, one factor per bet.
//!
//! Each has expectation at most 1 while the claim is true of that minute, whatever the levels of other minutes, so a swing
//! between day and night makes no evidence as long as it stays on the good side.

use super::claim::{Claim, Events, Healthy};
use crate::engine::layout::Layout;
use crate::engine::pane::SealedValues;
use crate::engine::rule::Side;
use crate::engine::series::Series;
use crate::model::time::Minute;
use crate::stats::betting::ln_bet;
use crate::stats::bounded_mean::{GRID, Null};
use crate::stats::detector::{BETS, Step, equal_weights};
use crate::stats::rate::{RATIOS, arm_factors};
use crate::stats::special::ln_sum_exp;

/// Odds ratios that rates are bet on.
const ODDS: [f64; 7] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Odds ratios that two arms' quantiles are bet on: (own samples beyond, baseline samples on the near side). Which pair wins
/// depends on the place: near the baseline's quantile the first, between the two quantiles the second, far out, where
/// neither arm has many samples, the third. So the three are mixed within a minute; the sets differ in how bold they are.
const SETS: [[(f64, f64); 3]; 3] = [
    [(2.0, 1.0), (1.25, 3.0), (1.0, 3.0)],
    [(5.0, 1.0), (1.5, 5.0), (1.0, 10.0)],
    [(5.0, 1.0), (1.5, 10.0), (1.0, 40.0)],
];

/// Their weights: a minute wins least far out, so what mixing costs there decides how fast evidence gathers.
const MIX: [f64; 3] = [0.05, 0.15, 0.8];

/// Places at most at which two quantiles are compared in one minute; neighbouring buckets are taken together.
const PLACES: usize = 32;

/// The largest logarithm of a minute's factor. It fits into an `f32` and is far above any threshold; holding it there can
/// only lose evidence.
const MOST: f64 = 80.0;

/// The weights of a claim's bets.
pub fn weights(claim: &Claim) -> [f64; BETS] {
    equal_weights(match claim.healthy {
        Healthy::Score { .. } => GRID.len(),
        Healthy::Rate { .. } | Healthy::Beyond { .. } => ODDS.len(),
        Healthy::Ratio { .. } => RATIOS.len(),
        Healthy::Quantiles { .. } => SETS.len(),
    })
}

/// The factors of one minute; `None` where an arm that is needed has no samples. `cap` is the number of samples that a minute
/// may count for at most: requests inside one minute share shocks. A factor raised to min(1, cap/n), n being the samples of the
/// larger arm, keeps its expectation at most 1 (Jensen).
pub fn factors(claim: &Claim, own: &Series, base: Option<&Series>, minute: Minute, cap: f64) -> Step<f32> {
    let (n, ln) = match claim.healthy {
        Healthy::Score { m, null } => score(own, minute, m, null)?,
        Healthy::Rate { p, bad } => {
            let (n, sum) = count_and_sum(own, minute)?;
            (n, bernoulli(n, if bad { sum } else { n - sum }, p))
        }
        Healthy::Beyond { limit, side, p } => {
            let (values, layout) = (own.values(minute)?, own.layout()?);
            let edge = layout.bucket(limit);
            let (n, s) = count_where(values, |b| if side == Side::Above { b > edge } else { b < edge });
            (n, bernoulli(n, s, p))
        }
        Healthy::Ratio { events, allowed, slack } => {
            ratio(count_and_sum(own, minute)?, count_and_sum(base?, minute)?, events, allowed, slack)
        }
        Healthy::Quantiles { q, factor, side } => {
            let layout = own.layout()?;
            quantiles(own.values(minute)?, base?.values(minute)?, layout, q, factor, side)
        }
    };
    if n <= 0.0 {
        return None;
    }
    let weight = (cap / n).min(1.0);
    Some(ln.map(|x| (weight * x).min(MOST).exp() as f32))
}

fn count_and_sum(series: &Series, minute: Minute) -> Option<(f64, f64)> {
    let sums = series.pane_sums(minute);
    (sums.n > 0).then(|| (sums.n as f64, sums.sum as f64 / 1e6))
}

/// How many samples there are, and how many of them lie in buckets that qualify.
fn count_where(values: &SealedValues, qualifies: impl Fn(u16) -> bool) -> (f64, f64) {
    let (mut n, mut s) = (0, 0);
    for (bucket, count) in values.entries() {
        n += count;
        s += if qualifies(bucket) { count } else { 0 };
    }
    (n as f64, s as f64)
}

/// Exact betting over the pane's histogram. A sample counts as the end of its bucket that is nearer to the claim, half a step
/// further still because buckets are found by rounding.
fn score(series: &Series, minute: Minute, m: f64, null: Null) -> Option<(f64, [f64; BETS])> {
    let (values, layout) = (series.values(minute)?, series.layout()?);
    let half = half_step(layout);
    let mut n = 0.0;
    let mut ln = [0.0; BETS];
    for (bucket, count) in values.entries() {
        let x = match null {
            Null::AtLeast => (layout.upper(bucket) + half).min(1.0),
            Null::AtMost => (layout.lower(bucket) - half).max(0.0),
        };
        let count = count as f64;
        n += count;
        for (ln, u) in ln.iter_mut().zip(GRID) {
            *ln += count * ln_bet(x, m, null, u);
        }
    }
    Some((n, ln))
}

/// Half of the smallest step that the layout tells apart, in the metric's unit.
fn half_step(layout: &Layout) -> f64 {
    layout.lower(1) / 2.0
}

/// `s` events among `n` samples against "at most a share p": (q/p)^s·((1−q)/(1−p))^(n−s) with q at [`ODDS`] times the odds.
fn bernoulli(n: f64, s: f64, p: f64) -> [f64; BETS] {
    let mut ln = [0.0; BETS];
    for (ln, odds) in ln.iter_mut().zip(ODDS) {
        let (event, other) = moved(p, odds);
        *ln = s * event + (n - s) * other;
    }
    ln
}

/// ln(q/p) and ln((1−q)/(1−p)) for q at `odds` times the odds of p.
fn moved(p: f64, odds: f64) -> (f64, f64) {
    let whole = (1.0 - p + odds * p).ln();
    (odds.ln() - whole, -whole)
}

/// Both arms' samples and sums against "events per sample at most `allowed` times the other arm's plus `slack`", by the split
/// that this minute had.
fn ratio(own: (f64, f64), base: (f64, f64), events: Events, allowed: f64, slack: f64) -> (f64, [f64; BETS]) {
    let ((n, s), (n_other, s_other)) = match events {
        Events::Own => (own, base),
        Events::Baseline => (base, own),
        Events::Losses => ((own.0, own.0 - own.1), (base.0, base.0 - base.1)),
    };
    let split = n / (n + n_other);
    let mut ln = [0.0; BETS];
    for (ln, more) in ln.iter_mut().zip(RATIOS) {
        let (a, b) = arm_factors(allowed, allowed * more, split);
        *ln = s * a.ln() + s_other * b.ln() - slack * n * (a - 1.0);
    }
    (n.max(n_other), ln)
}

/// The q-quantile of the own arm against `factor` times that of the baseline, on their shared buckets: whichever bucket the
/// baseline's quantile lies in, each arm has its share on either side of it. Which one is not known, so the least over all
/// counts; only the baseline's own buckets, and the last one, can be the least (as `stats::quantile::ln_e_not_above`).
fn quantiles(
    own: &SealedValues,
    base: &SealedValues,
    layout: &Layout,
    q: f64,
    factor: f64,
    side: Side,
) -> (f64, [f64; BETS]) {
    let mut own: Vec<(u16, f64)> = own.entries().map(|(b, n)| (b, n as f64)).collect();
    let mut base: Vec<(u16, f64)> = base.entries().map(|(b, n)| (b, n as f64)).collect();
    if side == Side::Above {
        own.reverse();
        base.reverse();
    }
    let total = |entries: &[(u16, f64)]| entries.iter().map(|e| e.1).sum::<f64>();
    let (n_own, n_base) = (total(&own), total(&base));
    // Above: at most 1 − q of the own arm lies beyond, at most q of the baseline on the near side. Below: mirrored.
    let far = if side == Side::Above { 1.0 - q } else { q };
    let bets = SETS.map(|set| set.map(|(beyond, near)| (moved(far, beyond), moved(1.0 - far, near))));
    let half = half_step(layout);
    let beyond = |own: u16, base: u16| match side {
        Side::Above => own > layout.bucket(factor * (layout.upper(base) + half)),
        Side::Below => own < layout.bucket(factor * (layout.lower(base) - half).max(0.0)),
    };
    let mut least = [f64::INFINITY; BETS];
    // From the far end inwards: own samples beyond the place grow, baseline samples nearer than it shrink.
    let (mut at, mut s_own, mut near) = (0, 0.0, n_base);
    let end = if side == Side::Above { layout.buckets() - 1 } else { 0 };
    let outermost = [(u16::try_from(end).unwrap_or(u16::MAX), 0.0)];
    for place in outermost.chunks(1).chain(base.chunks(base.len().div_ceil(PLACES).max(1))) {
        near -= total(place);
        while at < own.len() && beyond(own[at].0, place[0].0) {
            s_own += own[at].1;
            at += 1;
        }
        for (least, set) in least.iter_mut().zip(&bets) {
            let ln = |((event, other), (event_base, other_base)): &((f64, f64), (f64, f64))| {
                s_own * event + (n_own - s_own) * other + near * event_base + (n_base - near) * other_base
            };
            *least = least.min(ln_sum_exp(set.iter().zip(MIX).map(|(bet, weight)| weight.ln() + ln(bet))));
        }
    }
    (n_own.max(n_base), least.map(|x| if x.is_finite() { x } else { 0.0 }))
}
