//! Names to numbers: the schema's variants and metrics as ingest looks them up, built once per schema.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::fate::{Fate, Poison, Refusal};
use super::shape::same;
use crate::engine::layout::Layout;
use crate::engine::schema::{Schema, VariantId};
use crate::model::event::Sample;
use crate::model::metric::{Kind, MetricId};

/// A schema with its lookups.
#[derive(Debug)]
pub struct Names {
    schema: Arc<Schema>,
    variants: HashMap<Box<str>, VariantId, RandomState>,
    by_name: HashMap<Box<str>, MetricId, RandomState>,
    metrics: Vec<Recorded>,
}

/// What recording needs to know of a metric.
#[derive(Debug)]
pub struct Recorded {
    name: Box<str>,
    kind: Kind,
    /// `None` for booleans.
    pub layout: Option<Layout>,
}

impl Names {
    /// Builds the lookups of a schema.
    pub fn new(schema: Arc<Schema>) -> Self {
        let variants = (0u16..)
            .map(VariantId)
            .zip(schema.variants())
            .map(|(id, variant)| (variant.as_str().into(), id))
            .collect();
        let catalogue = schema.catalogue();
        let by_name = catalogue.iter().map(|(id, metric)| (metric.name.as_str().into(), id)).collect();
        let metrics = catalogue
            .iter()
            .map(|(_, metric)| Recorded {
                name: metric.name.as_str().into(),
                kind: metric.kind,
                layout: Layout::of(metric),
            })
            .collect();
        Self { schema, variants, by_name, metrics }
    }

    /// The schema that these are the names of.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The number of a configured variant; `last` is a guess that is tried first.
    #[inline]
    pub fn variant(&self, name: &str, last: &mut VariantId) -> Option<VariantId> {
        let guess = self.schema.variants().get(usize::from(last.0));
        if guess.is_some_and(|variant| same(variant.as_str().as_bytes(), name.as_bytes())) {
            return Some(*last);
        }
        let found = self.variants.get(name).copied()?;
        *last = found;
        Some(found)
    }

    /// The number of a metric; `guess` is tried first and learns the answer.
    #[inline]
    pub fn metric(&self, name: &str, guess: &mut MetricId) -> Option<MetricId> {
        let guessed = self.metrics.get(usize::from(guess.0));
        if guessed.is_some_and(|metric| same(metric.name.as_bytes(), name.as_bytes())) {
            return Some(*guess);
        }
        let found = self.by_name.get(name).copied()?;
        *guess = found;
        Some(found)
    }

    /// What recording needs to know of a metric of this schema.
    #[inline]
    pub fn recorded(&self, metric: MetricId) -> &Recorded {
        &self.metrics[usize::from(metric.0)]
    }

    /// How many metrics there are.
    pub fn metrics(&self) -> usize {
        self.metrics.len()
    }
}

impl Recorded {
    /// The sample as a number that the metric can hold.
    ///
    /// # Errors
    ///
    /// The fate of the whole event, if it cannot.
    #[inline]
    pub fn accept(&self, sample: Sample) -> Result<f64, Fate> {
        match (self.kind, sample) {
            (Kind::Value, Sample::Bool(_)) => Err(Fate::DeadLetter(Poison::WrongType)),
            (Kind::Score | Kind::Boolean, Sample::Bool(truth)) => Ok(f64::from(u8::from(truth))),
            (_, Sample::Number(n)) if !n.is_finite() => Err(Fate::Refused(Refusal::NonFinite)),
            (_, Sample::Number(n)) if n < 0.0 => Err(Fate::Refused(Refusal::Negative)),
            (Kind::Score, Sample::Number(n)) if n > 1.0 => Err(Fate::Refused(Refusal::ScoreAboveOne)),
            (Kind::Boolean, Sample::Number(n)) if n != 0.0 && n != 1.0 => {
                Err(Fate::Refused(Refusal::NotBoolean))
            }
            (_, Sample::Number(n)) => Ok(n),
        }
    }
}
