//! Streams just short of a breach, attacks on one minute of them, and what a condition says of them by counting raw events.

use std::ops::Range;

use super::super::testkit::{CONTROL, Ev, Lcg, TREATMENT};

/// Values that a sample of a metric can have: healthy, bad, so-so, terrible.
pub const LEVELS: usize = 4;
const HEALTHY: usize = 0;
const BAD: usize = 1;
const SO_SO: usize = 2;
const TERRIBLE: usize = 3;
/// The share of so-so samples among those that are not bad.
const USUALLY_SO_SO: f64 = 0.1;

/// What a rule compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claim {
    MeanBelow(f64),
    RateAbove(f64),
    P95Above(f64),
    /// Scaled to the window: a deletion shortens it.
    SumAbove(f64),
    MeanUnderBaseline(f64),
    RateOverBaseline(f64),
    P95OverBaseline(f64),
}

impl Claim {
    pub fn reads_baseline(self) -> bool {
        matches!(self, Self::MeanUnderBaseline(_) | Self::RateOverBaseline(_) | Self::P95OverBaseline(_))
    }

    /// The detector has no evidence on sums.
    pub fn gives_evidence(self) -> bool {
        !matches!(self, Self::SumAbove(_))
    }

    pub fn metric(self) -> &'static str {
        match self {
            Self::MeanBelow(_) | Self::MeanUnderBaseline(_) => "faithfulness",
            Self::RateAbove(_) | Self::RateOverBaseline(_) => "abstain",
            Self::P95Above(_) | Self::P95OverBaseline(_) => "latency",
            Self::SumAbove(_) => "cost",
        }
    }

    /// In the rule language.
    pub fn condition(self, window: &str) -> String {
        match self {
            Self::MeanBelow(limit) => format!("faithfulness_{window} < {limit}"),
            Self::RateAbove(limit) => format!("abstain_rate_{window} > {limit}"),
            Self::P95Above(limit) => format!("latency_p95_{window} > {limit}"),
            Self::SumAbove(limit) => format!("cost_sum_{window} > {limit}"),
            Self::MeanUnderBaseline(factor) => format!("faithfulness_{window} < baseline*{factor}"),
            Self::RateOverBaseline(factor) => format!("abstain_rate_{window} > baseline*{factor}"),
            Self::P95OverBaseline(factor) => format!("latency_p95_{window} > baseline*{factor}"),
        }
    }

    /// The values of the levels. All but terrible latencies are kept exactly, and no quantile lies near a threshold's bucket.
    pub fn levels(self) -> [f64; LEVELS] {
        match self.metric() {
            "faithfulness" => [1.0, 0.25, 0.75, 0.0],
            "abstain" => [0.0, 1.0, 0.0, 1.0],
            "latency" => [120.0, 1_200.0, 450.0, 9_000.0],
            _ => [0.25, 1.0, 0.5, 8.0],
        }
    }

    /// The share of bad samples in the baseline.
    fn control_share(self) -> f64 {
        match self {
            Self::MeanUnderBaseline(_) => 0.02,
            Self::RateOverBaseline(_) => 0.05,
            _ => 0.01,
        }
    }

    /// The share of bad samples at which the condition begins to hold.
    fn tipping_share(self, per_window: f64) -> f64 {
        let levels = self.levels();
        let healthy = (1.0 - USUALLY_SO_SO) * levels[HEALTHY] + USUALLY_SO_SO * levels[SO_SO];
        let mean = |bad: f64| (1.0 - bad) * healthy + bad * levels[BAD];
        let share_of = |mean: f64| (mean - healthy) / (levels[BAD] - healthy);
        match self {
            Self::MeanBelow(limit) | Self::RateAbove(limit) => share_of(limit),
            Self::P95Above(_) | Self::P95OverBaseline(_) => 0.05,
            Self::SumAbove(limit) => share_of(limit / per_window),
            Self::MeanUnderBaseline(factor) | Self::RateOverBaseline(factor) => {
                share_of(factor * mean(self.control_share()))
            }
        }
    }
}

/// One sample of the rule's metric.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds since the start.
    pub at: i64,
    pub own: bool,
    level: usize,
}

impl Sample {
    pub fn event(self, claim: Claim) -> Ev {
        Ev {
            at: self.at,
            variant: if self.own { TREATMENT } else { CONTROL },
            metric: claim.metric(),
            value: claim.levels()[self.level],
            tenant: self.at.unsigned_abs() % 17,
        }
    }
}

/// How a stream lies.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    pub window: i64,
    pub per_minute: i64,
    /// How far below its tipping share the stream stays, as a part of it.
    pub margin: f64,
    /// Truly bad minutes right before the attack; together they use up half of what the window can bear.
    pub dip: i64,
    /// Bad samples at random instead of evenly spread.
    pub random: bool,
    /// From the attack on the share is twice the tipping one: a regression that the attack may hide or hasten.
    pub breaks: bool,
    pub seed: u64,
}

/// Both arms, minute by minute.
pub fn stream(claim: Claim, lie: Lie, minutes: i64, attacked: i64) -> Vec<Vec<Sample>> {
    let mut random = Lcg(lie.seed);
    let bear = claim.tipping_share((lie.window * lie.per_minute) as f64) * (1.0 - lie.margin);
    let window = lie.window as f64;
    let in_dip = if lie.dip > 0 { (bear * window / 2.0 / lie.dip as f64).min(1.0) } else { 0.0 };
    let usual = (bear * window - in_dip * lie.dip as f64) / (window - lie.dip as f64);
    let dip = attacked - lie.dip..attacked;
    let mut arms = [Spread::new(&mut random, lie.random), Spread::new(&mut random, lie.random)];
    (0..minutes)
        .map(|minute| {
            let own = match minute {
                _ if dip.contains(&minute) => in_dip,
                _ if lie.breaks && minute >= attacked => 2.0 * bear,
                _ => usual,
            };
            let at = |i: i64| minute * 60_000 + i * 60_000 / lie.per_minute;
            (0..lie.per_minute)
                .flat_map(|i| {
                    let level = arms[0].level(own, &mut random);
                    let control = arms[1].level(claim.control_share(), &mut random);
                    [Sample { at: at(i), own: true, level }, Sample { at: at(i), own: false, level: control }]
                })
                .collect()
        })
        .collect()
}

/// Makes shares come true: sample by sample evenly, or by chance.
struct Spread {
    bad: f64,
    so_so: f64,
    by_chance: bool,
}

impl Spread {
    fn new(random: &mut Lcg, by_chance: bool) -> Self {
        Self { bad: random.next(), so_so: random.next(), by_chance }
    }

    fn level(&mut self, bad: f64, random: &mut Lcg) -> usize {
        let due = |gathered: &mut f64, share: f64| {
            *gathered += share;
            let due = *gathered >= 1.0;
            *gathered -= f64::from(u8::from(due));
            due
        };
        if self.by_chance {
            self.bad = random.next();
            self.so_so = random.next();
            return if self.bad < bad {
                BAD
            } else if self.so_so < USUALLY_SO_SO {
                SO_SO
            } else {
                HEALTHY
            };
        }
        if due(&mut self.bad, bad) {
            BAD
        } else if due(&mut self.so_so, USUALLY_SO_SO) {
            SO_SO
        } else {
            HEALTHY
        }
    }
}

/// What is done to sixty seconds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Every value of the variant becomes terrible.
    Rewritten,
    /// The same with ten times the traffic, and with a hundred times.
    TenTimes,
    HundredTimes,
    /// A terrible burst of ten times the traffic over the end of one minute and the beginning of the next.
    Straddling,
    /// The variant falls silent.
    Emptied,
    /// Ten times the traffic in both arms, terrible in the variant and healthy in the baseline.
    BothArms,
    /// Ten times the traffic in the baseline alone, all of it healthy.
    BaselineShines,
    /// The baseline falls silent.
    BaselineEmptied,
    /// A hundred times the traffic, all of it healthy: it hides what is there.
    Hiding,
}

impl Attack {
    pub const ALL: [Self; 9] = [
        Self::Rewritten,
        Self::TenTimes,
        Self::HundredTimes,
        Self::Straddling,
        Self::Emptied,
        Self::BothArms,
        Self::BaselineShines,
        Self::BaselineEmptied,
        Self::Hiding,
    ];

    pub const fn words(self) -> &'static str {
        match self {
            Self::Rewritten => "whole minute rewritten",
            Self::TenTimes => "rewritten, 10 x traffic",
            Self::HundredTimes => "rewritten, 100 x traffic",
            Self::Straddling => "burst over two minutes, 10 x",
            Self::Emptied => "minute emptied",
            Self::BothArms => "both arms at once, 10 x",
            Self::BaselineShines => "baseline alone, 10 x",
            Self::BaselineEmptied => "baseline emptied",
            Self::Hiding => "all-good burst, 100 x",
        }
    }

    /// Per arm (own, baseline): how many times the usual traffic it has meanwhile, and of which level. `None`: left alone.
    const fn arms(self) -> [Option<(i64, usize)>; 2] {
        match self {
            Self::Rewritten => [Some((1, TERRIBLE)), None],
            Self::TenTimes | Self::Straddling => [Some((10, TERRIBLE)), None],
            Self::HundredTimes => [Some((100, TERRIBLE)), None],
            Self::Emptied => [Some((0, TERRIBLE)), None],
            Self::BothArms => [Some((10, TERRIBLE)), Some((10, HEALTHY))],
            Self::BaselineShines => [None, Some((10, HEALTHY))],
            Self::BaselineEmptied => [None, Some((0, HEALTHY))],
            Self::Hiding => [Some((100, HEALTHY)), None],
        }
    }

    /// The stream with the attack in the sixty seconds from `start`, in milliseconds; bursts over two minutes begin in the
    /// middle of the first.
    pub fn on(self, stream: &[Vec<Sample>], start: i64, per_minute: i64) -> Vec<Vec<Sample>> {
        let pair = start.div_euclid(60_000);
        let start = if self == Self::Straddling { pair * 60_000 + 30_000 } else { start };
        let meanwhile = start..start + 60_000;
        let mut attacked = stream.to_vec();
        for (own, change) in [true, false].into_iter().zip(self.arms()) {
            let Some((times, level)) = change else { continue };
            for minute in [pair, pair + 1] {
                attacked[minute as usize].retain(|s| s.own != own || !meanwhile.contains(&s.at));
            }
            for i in 0..times * per_minute {
                let at = start + i * 60_000 / (times * per_minute);
                attacked[at.div_euclid(60_000) as usize].push(Sample { at, own, level });
            }
        }
        attacked
    }
}

/// How often each level occurs.
type Counts = [u32; LEVELS];

/// A stream counted: brute force over raw events, with nothing of the engine in it.
pub struct Tape {
    claim: Claim,
    window: i64,
    /// Per arm, what has been counted before each minute.
    before: [Vec<Counts>; 2],
}

impl Tape {
    pub fn of(claim: Claim, window: i64, stream: &[Vec<Sample>]) -> Self {
        let count = |own: bool| {
            let mut so_far = Counts::default();
            let mut before = vec![so_far];
            for minute in stream {
                minute.iter().filter(|s| s.own == own).for_each(|s| so_far[s.level] += 1);
                before.push(so_far);
            }
            before
        };
        Self { claim, window, before: [count(true), count(false)] }
    }

    /// Whether the condition holds at the closing of a minute over the last `last` minutes, those of `gone` deleted; `None`
    /// with fewer than `least` samples in an arm that is read.
    pub fn holds(&self, closed: i64, last: i64, gone: Range<i64>, least: u64) -> Option<bool> {
        let whole = closed - last + 1..closed + 1;
        let [own, base] = [0, 1].map(|arm| {
            let (all, less) = (self.count(arm, &whole), self.count(arm, &both(&whole, &gone)));
            std::array::from_fn(|level| all[level] - less[level])
        });
        let enough = |counts: &Counts| size(counts) >= least.max(1);
        if !enough(&own) || (self.claim.reads_baseline() && !enough(&base)) {
            return None;
        }
        let levels = self.claim.levels();
        let deleted = both(&whole, &gone);
        let scale = last as f64 / (last - (deleted.end - deleted.start).max(0)) as f64;
        Some(match self.claim {
            Claim::MeanBelow(limit) => mean(&own, levels) < limit,
            Claim::RateAbove(limit) => mean(&own, levels) > limit,
            Claim::P95Above(limit) => p95(&own, levels) > limit,
            Claim::SumAbove(limit) => total(&own, levels) * scale > limit,
            Claim::MeanUnderBaseline(factor) => mean(&own, levels) < mean(&base, levels) * factor,
            Claim::RateOverBaseline(factor) => mean(&own, levels) > mean(&base, levels) * factor,
            Claim::P95OverBaseline(factor) => p95(&own, levels) > p95(&base, levels) * factor,
        })
    }

    /// [`Self::holds`] over the rule's window.
    pub fn whole(&self, closed: i64, gone: Range<i64>, least: u64) -> Option<bool> {
        self.holds(closed, self.window, gone, least)
    }

    fn count(&self, arm: usize, minutes: &Range<i64>) -> Counts {
        let at = |minute: i64| self.before[arm][minute.max(0) as usize];
        let (from, to) = (at(minutes.start), at(minutes.end.max(minutes.start)));
        std::array::from_fn(|level| to[level] - from[level])
    }
}

fn both(a: &Range<i64>, b: &Range<i64>) -> Range<i64> {
    a.start.max(b.start)..a.end.min(b.end)
}

fn size(counts: &Counts) -> u64 {
    counts.iter().map(|n| u64::from(*n)).sum()
}

fn total(counts: &Counts, levels: [f64; LEVELS]) -> f64 {
    counts.iter().zip(levels).map(|(n, level)| f64::from(*n) * level).sum()
}

fn mean(counts: &Counts, levels: [f64; LEVELS]) -> f64 {
    total(counts, levels) / size(counts) as f64
}

/// The least level that at least 95 % of samples do not exceed.
fn p95(counts: &Counts, levels: [f64; LEVELS]) -> f64 {
    let rank = (size(counts) as f64 * 0.95).ceil();
    let reaches = |level: f64| {
        let upto: u32 = counts.iter().zip(levels).filter(|(_, l)| *l <= level).map(|(n, _)| *n).sum();
        f64::from(upto) >= rank
    };
    levels.into_iter().filter(|level| reaches(*level)).fold(f64::INFINITY, f64::min)
}
