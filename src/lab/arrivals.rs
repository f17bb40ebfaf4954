//! When samples arrive, counted over a recording: all that a reviewer of rules needs of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::rule::RuleSet;
use crate::engine::rule::traffic::{Recorded, Traffic};
use crate::ingest::decode::{Bounds, Decoder, LATEST};
use crate::model::id::Variant;
use crate::model::metric::{Catalogue, MetricId};
use crate::model::time::Minute;

/// Counts the samples that rules ask for, by variant, metric and minute.
#[derive(Debug)]
pub struct Arrivals {
    decoder: Decoder,
    catalogue: Arc<Catalogue>,
    wanted: BTreeMap<String, (Variant, BTreeSet<MetricId>)>,
    seen: BTreeMap<(Variant, MetricId), BTreeMap<Minute, u64>>,
    /// The variants of rules of which there was an event.
    variants: BTreeSet<Variant>,
    /// Events, of whatever variant.
    pub events: u64,
}

impl Arrivals {
    /// Counts for these rules and their baselines.
    pub fn new(rules: &RuleSet, catalogue: Arc<Catalogue>) -> Self {
        let mut wanted: BTreeMap<String, (Variant, BTreeSet<MetricId>)> = BTreeMap::new();
        for rule in &rules.rules {
            for variant in std::iter::once(&rule.variant).chain(&rule.baseline) {
                let entry = wanted.entry(variant.as_str().to_owned());
                let (_, metrics) = entry.or_insert_with(|| (variant.clone(), BTreeSet::new()));
                metrics.extend(rule.condition.slots.iter().map(|slot| catalogue.recorded(slot.metric)));
            }
        }
        Self {
            decoder: Decoder::default(),
            catalogue,
            wanted,
            seen: BTreeMap::new(),
            variants: BTreeSet::new(),
            events: 0,
        }
    }

    /// Looks at one message; what is no event has no samples. Duplicates count twice.
    pub fn look(&mut self, message: &[u8]) {
        let Ok(event) = self.decoder.decode(message, &Bounds::default(), LATEST) else {
            return;
        };
        self.events += 1;
        let Some((variant, metrics)) = self.wanted.get(event.variant) else { return };
        if !self.variants.contains(variant) {
            self.variants.insert(variant.clone());
        }
        for (name, _) in event.metrics.iter() {
            if let Some(metric) = self.catalogue.find(name).filter(|metric| metrics.contains(metric)) {
                let by_minute = self.seen.entry((variant.clone(), metric)).or_default();
                *by_minute.entry(event.ts.minute()).or_default() += 1;
            }
        }
    }

    /// What was seen, and for variants of which nothing was, how many events a minute are expected.
    pub fn finish(self, mut expected: BTreeMap<Variant, f64>) -> Traffic {
        expected.retain(|variant, _| !self.variants.contains(variant));
        Traffic::Recorded(Recorded { seen: self.seen, expected })
    }
}
