//! Made-up events: per variant a series of segments, each with a rate and a level per metric, turned into the messages that a
//! gateway would have sent.
//!
//! [`notation`] reads a series as people write it. Without a seed everything is as even as it can be: events stand at equal
//! distances, a share of 5 % is every twentieth event, spread values are taken evenly from their distribution, so that means and
//! rates hold in every window. With a seed, times, shares and values are drawn at random (ChaCha8), the same for the same seed.

pub mod notation;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::model::flag::Dimension;
use crate::model::id::Variant;
use crate::model::time::{MINUTE_MS, Timestamp};

/// One stream of events of a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub variant: Variant,
    /// The tenant, tier and region of its events.
    pub labels: BTreeMap<Dimension, String>,
    pub segments: Vec<Segment>,
}

/// A stretch with one rate and one level per metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub length: Duration,
    /// Events per minute.
    pub rate: Ramp,
    pub levels: BTreeMap<String, Level>,
}

/// A number that stays, or moves evenly from the start of a segment to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
}

impl Ramp {
    /// A number that stays.
    pub const fn steady(value: f64) -> Self {
        Self { from: value, to: value }
    }

    fn at(self, share: f64) -> f64 {
        self.from + (self.to - self.from) * share
    }
}

/// What the samples of one metric look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// True or false, for scores 1 or 0; the share of true, 0 to 1.
    Share(Ramp),
    /// Normal around a mean, cut off at equal distances on both sides where the range (0 to `top`) ends, so that the mean holds.
    Mean { mean: Ramp, spread: f64, top: f64 },
    /// Log-normal; `sigma` is that of the logarithm.
    LogNormal { median: f64, sigma: f64 },
}

/// Turns series into messages, minute by minute.
#[derive(Debug)]
pub struct Generator {
    start: Timestamp,
    tracks: Vec<Track>,
    normal: Option<Normal>,
}

/// One series on its way.
#[derive(Debug)]
struct Track {
    series: Series,
    /// What stands at the start of each message.
    head: String,
    tail: String,
    sent: u64,
    /// Parts of an event that are due and not sent.
    due: f64,
    rng: Option<ChaCha8Rng>,
    /// Per metric, where its even sequence stands.
    even: BTreeMap<String, Even>,
}

/// An even sequence: for shares the part of a true that is due, for values the last number between 0 and 1.
#[derive(Clone, Copy, Debug)]
struct Even {
    due: f64,
    place: f64,
    step: f64,
}

impl Generator {
    /// A generator of `series`, all of which begin at `start`.
    pub fn new(start: Timestamp, series: &[Series], seed: Option<u64>) -> Self {
        let track = |(number, series): (usize, &Series)| Track::new(number, series.clone(), seed);
        Self {
            start,
            tracks: series.iter().enumerate().map(track).collect(),
            normal: Normal::new(0.0, 1.0).ok(),
        }
    }

    /// Hands out every message of the first `length`, in the order of time.
    pub fn each(&mut self, length: Duration, mut take: impl FnMut(&[u8])) {
        let end = millis(length);
        let (mut from, mut events) = (0, Vec::new());
        while from < end {
            let to = (from + MINUTE_MS).min(end);
            for track in &mut self.tracks {
                track.events((from, to), self.start, self.normal.as_ref(), &mut events);
            }
            // Stable: what happens at once stays in the order of the series.
            events.sort_by_key(|(at, _)| *at);
            events.drain(..).for_each(|(_, message): (i64, String)| take(message.as_bytes()));
            from = to;
        }
    }
}

impl Track {
    fn new(number: usize, series: Series, seed: Option<u64>) -> Self {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let mut tail = format!("\"variant\":{}", text(series.variant.as_str()));
        for (dimension, value) in &series.labels {
            // Writing to a String cannot fail.
            let _ = write!(tail, ",\"{}\":{}", dimension.as_str(), text(value));
        }
        let stream = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number as u64);
            rng
        };
        Self {
            head: format!("{{\"id\":\"{number}-"),
            tail,
            sent: 0,
            due: 0.0,
            rng: seed.map(stream),
            even: BTreeMap::new(),
            series,
        }
    }

    /// The events between two times, in milliseconds from the start and within one minute.
    fn events(
        &mut self,
        (from, to): (i64, i64),
        start: Timestamp,
        normal: Option<&Normal>,
        out: &mut Vec<(i64, String)>,
    ) {
        let mut begins = 0;
        for place in 0..self.series.segments.len() {
            let ends = begins + millis(self.series.segments[place].length);
            let (here, there) = (from.max(begins), to.min(ends));
            if here < there {
                let span = (ends - begins) as f64;
                for at in self.times(place, (here, there), begins) {
                    let share = (at - begins) as f64 / span;
                    out.push((at, self.message(place, share, start + spanned(at), normal)));
                }
            }
            begins = ends;
        }
    }

    /// When events of a segment happen between two times.
    fn times(&mut self, place: usize, (from, to): (i64, i64), begins: i64) -> Vec<i64> {
        let segment = &self.series.segments[place];
        let length = (to - from) as f64;
        let middle = (from - begins) as f64 + length / 2.0;
        let expected = segment.rate.at(middle / millis(segment.length) as f64) * length / MINUTE_MS as f64;
        let at = |share: f64| from + ((share * length) as i64).min(to - from - 1);
        if expected <= 0.0 {
            return Vec::new();
        }
        if let Some(rng) = &mut self.rng {
            // Waits between the events of a Poisson process are exponential.
            let mut reached = 0.0;
            let mut next = || {
                reached -= (1.0 - rng.random::<f64>()).ln() / expected;
                reached
            };
            return std::iter::from_fn(|| Some(next()).filter(|reached| *reached < 1.0)).map(at).collect();
        }
        // A little more, since 60 × 1/60 is a little less than 1.
        self.due += expected + 1e-9;
        let n = self.due.floor();
        self.due -= n;
        (0..n as u64).map(|k| at((k as f64 + 0.5) / n)).collect()
    }

    fn message(&mut self, place: usize, share: f64, ts: Timestamp, normal: Option<&Normal>) -> String {
        let mut text = format!("{}{}\",\"ts\":\"{ts}\",{},\"metrics\":{{", self.head, self.sent, self.tail);
        self.sent += 1;
        let levels = &self.series.segments[place].levels;
        for (number, (metric, level)) in levels.iter().enumerate() {
            let known = self.even.len();
            let even = match self.even.get_mut(metric) {
                Some(even) => even,
                None => self.even.entry(metric.clone()).or_insert(Even::new(known)),
            };
            let comma = if number > 0 { "," } else { "" };
            let _ = write!(text, "{comma}\"{metric}\":");
            let _ = match level {
                Level::Share(of) => write!(text, "{}", even.flip(of.at(share), self.rng.as_mut())),
                Level::Mean { spread, mean, .. } if *spread == 0.0 => write!(text, "{}", mean.at(share)),
                level => {
                    let z = normal.map_or(0.0, |n| n.inverse_cdf(even.next(self.rng.as_mut())));
                    write!(text, "{}", level.value(share, z))
                }
            };
        }
        text.push_str("}}");
        text
    }
}

impl Level {
    /// The value at a standard normal deviate.
    fn value(&self, share: f64, z: f64) -> f64 {
        match *self {
            Self::Share(of) => of.at(share),
            Self::Mean { mean, spread, top } => {
                let mean = mean.at(share);
                let room = mean.min(top - mean).max(0.0);
                mean + (spread * z).clamp(-room, room)
            }
            Self::LogNormal { median, sigma } => median * (sigma * z).exp(),
        }
    }
}

impl Even {
    /// The sequence of the `number`th metric: steps by the square root of a prime fill the range evenly (Weyl), and different
    /// primes keep metrics apart.
    fn new(number: usize) -> Self {
        const PRIMES: [f64; 12] = [5.0, 2.0, 3.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0, 37.0];
        Self { due: 0.5, place: 0.5, step: PRIMES[number % PRIMES.len()].sqrt().fract() }
    }

    /// True as often as `share` says.
    fn flip(&mut self, share: f64, rng: Option<&mut ChaCha8Rng>) -> bool {
        if let Some(rng) = rng {
            return rng.random::<f64>() < share;
        }
        self.due += share;
        let up = self.due >= 1.0 - 1e-9;
        if up {
            self.due -= 1.0;
        }
        up
    }

    /// A number between 0 and 1, both excluded.
    fn next(&mut self, rng: Option<&mut ChaCha8Rng>) -> f64 {
        let place = match rng {
            Some(rng) => rng.random::<f64>(),
            None => {
                self.place = (self.place + self.step).fract();
                self.place
            }
        };
        place.clamp(1e-12, 1.0 - 1e-12)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn spanned(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

#[cfg(test)]
mod tests;
