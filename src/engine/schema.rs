//! What ingest records: the configured variants, the metric catalogue and the slices that rules ask for.
//!
//! Ids only ever grow while the process lives: a reload may add variants, it never renumbers them, so panes recorded under
//! an older schema keep their meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::flag::Dimension;
use crate::model::id::Variant;
use crate::model::metric::{Catalogue, MetricId};

/// A configured variant's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VariantId(pub u16);

/// What is recorded, and under which numbers.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    catalogue: Arc<Catalogue>,
    variants: Vec<Variant>,
    /// Per variant: the metrics that some rule wants by a dimension, sorted.
    sliced: Vec<Vec<(Dimension, MetricId)>>,
    /// The variant of Rearguard's own events, and the instance that marks them as its own.
    canary: Option<(VariantId, Arc<str>)>,
}

impl Schema {
    /// A schema of no variants.
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, ..Self::default() }
    }

    /// The number of a variant, given one if it is new.
    pub fn add_variant(&mut self, variant: &Variant) -> VariantId {
        if let Some(id) = self.find(variant.as_str()) {
            return id;
        }
        self.variants.push(variant.clone());
        self.sliced.push(Vec::new());
        VariantId(u16::try_from(self.variants.len() - 1).unwrap_or(u16::MAX))
    }

    /// Asks for `metric` of a variant by `dimension`.
    pub fn add_slice(&mut self, variant: VariantId, dimension: Dimension, metric: MetricId) {
        let wanted = &mut self.sliced[usize::from(variant.0)];
        if let Err(place) = wanted.binary_search(&(dimension, metric)) {
            wanted.insert(place, (dimension, metric));
        }
    }

    /// Records the canary events of `instance` under this variant.
    pub fn set_canary(&mut self, variant: VariantId, instance: Arc<str>) {
        self.canary = Some((variant, instance));
    }

    /// The variant of canary events, and whose are recorded.
    pub fn canary(&self) -> Option<(VariantId, &str)> {
        self.canary.as_ref().map(|(variant, instance)| (*variant, &**instance))
    }

    /// The number of a configured variant.
    pub fn find(&self, variant: &str) -> Option<VariantId> {
        let place = self.variants.iter().position(|v| v.as_str() == variant)?;
        Some(VariantId(u16::try_from(place).unwrap_or(u16::MAX)))
    }

    /// The name behind a number.
    pub fn variant(&self, id: VariantId) -> &Variant {
        &self.variants[usize::from(id.0)]
    }

    /// All configured variants in the order of their numbers.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// The (dimension, metric) pairs that rules want of a variant, sorted.
    pub fn slices(&self, variant: VariantId) -> &[(Dimension, MetricId)] {
        &self.sliced[usize::from(variant.0)]
    }

    /// The metric catalogue.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }
}
