//! Snapshots: every pane, so that a restart need not read six hours of events again. The store keeps them in files with a
//! checksum; what else the engine remembers lives in SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fleet::{Traffic, shape_of};
use super::input::{Settings, Source};
use super::late::LateSamples;
use super::layout::Layout;
use super::machine::Engine;
use super::memory::Memory;
use super::rollup::RollupRow;
use super::series::{Series, SeriesPanes};
use crate::model::flag::Scope;
use crate::model::metric::MetricId;
use crate::model::time::Minute;

/// What a snapshot holds. Names, not numbers: ids may differ after a restart.
#[derive(Serialize, Deserialize)]
struct Contents {
    closed: Option<Minute>,
    /// Where each source stood: the offset that its next delta starts at.
    positions: Vec<(Source, i64)>,
    variants: Vec<String>,
    metrics: Vec<MetricShape>,
    series: Vec<(u16, u16, Scope, SeriesPanes)>,
    traffic: Vec<(u16, Traffic)>,
    late: Vec<LateSamples>,
}

/// A metric's panes can be read back only under the layout that they were recorded with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct MetricShape {
    name: String,
    shape: String,
}

/// Why a snapshot could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot cannot be decoded: {0}")]
    Decode(#[from] postcard::Error),
}

impl Engine {
    /// All panes as bytes, consistent with the inputs taken so far.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let schema = self.fleet.schema();
        let contents = Contents {
            closed: self.fleet.closed(),
            positions: self.memory.core.sources.positions().map(|p| (p.0.clone(), p.1)).collect(),
            variants: schema.variants().iter().map(|v| v.as_str().to_owned()).collect(),
            metrics: shapes(&self.settings),
            series: self.fleet.all().map(|(k, s)| (k.0.0, k.1.0, k.2.clone(), s.panes())).collect(),
            traffic: self.fleet.traffic().iter().map(|(v, t)| (v.0, t.clone())).collect(),
            late: self.fleet.late().all(),
        };
        Ok(postcard::to_stdvec(&contents)?)
    }

    /// An engine that goes on from stored memory. Panes come from `snapshot`, and from the deltas that are stepped until
    /// [`Engine::finish_loading`]; meanwhile nothing is judged. Returns where each source has to be read from: nowhere
    /// without a snapshot.
    pub fn restore(
        settings: Settings,
        memory: Memory,
        snapshot: Option<&[u8]>,
    ) -> Result<(Self, BTreeMap<Source, i64>), SnapshotError> {
        let mut engine = Self::new(settings);
        engine.memory = memory;
        engine.loading = true;
        let mut positions = BTreeMap::new();
        if let Some(bytes) = snapshot {
            let contents: Contents = postcard::from_bytes(bytes)?;
            positions = contents.positions.iter().cloned().collect();
            engine.fill(contents);
        }
        Ok((engine, positions))
    }

    /// The hourly roll-ups that have been made since the last call, for the transaction that stores this step.
    pub fn changed_rollups(&mut self) -> Vec<RollupRow> {
        self.fleet.changed_rollups()
    }

    /// Takes in the stored roll-ups of an engine that is being restored; how many of them nobody reads any more.
    pub fn restore_rollups(&mut self, rows: &[RollupRow]) -> usize {
        rows.iter().filter(|row| !self.fleet.restore_rollup(row)).count()
    }

    /// All panes up to the stored position are there: windows move on to the stored minute, judging goes on from it.
    pub fn finish_loading(&mut self) {
        if let Some(closed) = self.memory.core.closed {
            self.fleet.jump_to(closed);
        }
        self.loading = false;
    }

    fn fill(&mut self, contents: Contents) {
        let schema = Arc::clone(self.fleet.schema());
        let now = shapes(&self.settings);
        let variant = |id: u16| schema.find(contents.variants.get(usize::from(id))?);
        let metric = |id: u16| -> Option<MetricId> {
            let then = contents.metrics.get(usize::from(id))?;
            now.contains(then).then(|| schema.catalogue().find_series(&then.name))?
        };
        if let Some(closed) = contents.closed {
            self.fleet.jump_to(closed);
        }
        for (v, m, scope, panes) in contents.series {
            let (Some(v), Some(m)) = (variant(v), metric(m)) else {
                continue;
            };
            let layout = Layout::of(schema.catalogue().get(m));
            if let Some(series) = Series::from_panes(panes, layout) {
                self.fleet.restore_series((v, m, scope), series);
            }
        }
        self.fleet.derive();
        for (v, traffic) in contents.traffic {
            if let Some(v) = variant(v) {
                self.fleet.restore_traffic(v, traffic);
            }
        }
        for late in contents.late {
            if let (Some(v), Some(m)) = (variant(late.variant.0), metric(late.metric.0)) {
                self.fleet.add_late(LateSamples { variant: v, metric: m, ..late });
            }
        }
    }
}

/// By the number of the metric: what events carry, then what objectives are derived to.
fn shapes(settings: &Settings) -> Vec<MetricShape> {
    let catalogue = settings.schema.catalogue();
    let ids = catalogue.iter().map(|(id, _)| id).chain(catalogue.slos().iter().map(|slo| slo.id));
    ids.map(|id| MetricShape { name: catalogue.get(id).name.clone(), shape: shape_of(catalogue, id) })
        .collect()
}
