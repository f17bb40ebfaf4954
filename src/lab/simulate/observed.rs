//! What a recording says of a world: how many events come a minute, how good they are and how they spread.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draw::{Beta, Shape};
use super::world::Measured;
use crate::ingest::decode::{Bounds, Decoder, LATEST};
use crate::model::event::Sample;
use crate::model::id::Variant;
use crate::model::metric::{Catalogue, Kind, MetricId};
use crate::model::time::Minute;

/// Adds up recorded events, by variant and metric. Duplicates count twice.
#[derive(Debug, Default)]
pub struct Observed {
    decoder: Decoder,
    catalogue: Arc<Catalogue>,
    variants: BTreeMap<String, Seen>,
}

/// One variant of a recording.
#[derive(Debug, Default)]
struct Seen {
    events: u64,
    first: Option<Minute>,
    last: Option<Minute>,
    metrics: BTreeMap<MetricId, Moments>,
}

/// Of values, those of their logarithms.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
}

/// The spread of scores that leaves room for nothing but 0 and 1 begins at this part of the widest one.
const WIDEST: f64 = 0.95;

impl Observed {
    /// Nothing seen yet.
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, ..Self::default() }
    }

    /// Looks at one message; what is no event says nothing.
    pub fn look(&mut self, message: &[u8]) {
        let Ok(event) = self.decoder.decode(message, &Bounds::default(), LATEST) else { return };
        if !self.variants.contains_key(event.variant) {
            self.variants.insert(event.variant.to_owned(), Seen::default());
        }
        let Some(seen) = self.variants.get_mut(event.variant) else { return };
        let minute = event.ts.minute();
        seen.events += 1;
        seen.first = Some(seen.first.map_or(minute, |first| first.min(minute)));
        seen.last = seen.last.max(Some(minute));
        for (name, sample) in event.metrics.iter() {
            let Some(metric) = self.catalogue.find(name) else { continue };
            let value = match sample {
                Sample::Bool(is) => f64::from(u8::from(is)),
                Sample::Number(value) => value,
            };
            let value = match self.catalogue.get(metric).kind {
                Kind::Score | Kind::Boolean => value,
                Kind::Value if value > 0.0 => value.ln(),
                Kind::Value => continue,
            };
            let moments = seen.metrics.entry(metric).or_default();
            moments.n += 1.0;
            moments.sum += value;
            moments.squares += value * value;
        }
    }

    /// Events of a variant a minute, from its first to its last.
    pub fn events_per_minute(&self, variant: &Variant) -> Option<f64> {
        let seen = self.variants.get(variant.as_str())?;
        let minutes = seen.last?.0 - seen.first?.0 + 1;
        Some(seen.events as f64 / minutes as f64)
    }

    /// A metric of a variant as it was on average; `None` where it was never seen.
    pub fn measured(&self, variant: &Variant, metric: MetricId) -> Option<Measured> {
        let moments = self.variants.get(variant.as_str())?.metrics.get(&metric)?;
        let known = self.catalogue.get(metric);
        let mean = moments.sum / moments.n;
        let sd = (moments.squares / moments.n - mean * mean).max(0.0).sqrt();
        let (shape, center) = match known.kind {
            Kind::Boolean => (Shape::Share, mean),
            Kind::Score if sd * sd > WIDEST * mean * (1.0 - mean) => (Shape::Share, mean),
            Kind::Score => (Shape::Spread(Arc::new(Beta::new(sd.max(0.01)))), mean),
            Kind::Value => (Shape::LogNormal { sigma: sd.clamp(0.01, 3.0) }, mean.exp()),
        };
        Some(Measured::new(metric, known, shape, center))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_says_how_much_comes_and_how_good_it_is() {
        let catalogue = Arc::new(Catalogue::default());
        let mut observed = Observed::new(Arc::clone(&catalogue));
        for n in 0..600 {
            let (minute, second) = (n / 60, n % 60);
            let (score, cost) = (u8::from(n % 10 != 0), if n % 2 == 0 { 0.02 } else { 0.08 });
            observed.look(
                format!(
                    r#"{{"id":"{n}","ts":"2026-01-01T00:{minute:02}:{second:02}Z","variant":"a.v2","metrics":{{"faithfulness":{score},"cost":{cost}}}}}"#
                )
                .as_bytes(),
            );
        }
        observed.look(b"no event");
        let variant = Variant::from("a.v2");
        assert_eq!(observed.events_per_minute(&variant), Some(60.0));
        let of = |name: &str| observed.measured(&variant, catalogue.find(name).unwrap());
        let score = of("faithfulness").unwrap();
        assert!((score.healthy - 0.9).abs() < 1e-12 && matches!(score.shape, Shape::Share));
        let cost = of("cost").unwrap();
        assert!((cost.healthy - 0.04).abs() < 1e-9, "{}", cost.healthy);
        assert!(matches!(cost.shape, Shape::LogNormal { sigma } if (sigma - 2f64.ln()).abs() < 1e-9));
        assert!(of("latency").is_none() && observed.events_per_minute(&"a.v1".into()).is_none());
    }
}
