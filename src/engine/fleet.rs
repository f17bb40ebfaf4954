//! All series of all variants, and how many events and tenants each variant had per minute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::late::{Late, LateSamples};
use super::layout::Layout;
use super::measure::Lookup;
use super::objective::bad_samples;
use super::pane::PaneData;
use super::pane::VariantPane;
use super::rollup::RollupRow;
use super::rule::{Arm, Measurement, RuleSet, Window};
use super::schema::{Schema, VariantId};
use super::series::{KEEP, Series};
use super::tenants::Tenants;
use crate::model::flag::{Dimension, Scope};
use crate::model::metric::{Catalogue, Kind, Metric, MetricId};
use crate::model::slo::Slo;
use crate::model::time::Minute;

/// A series' place: whole variants are looked up by number alone.
pub type SeriesKey = (VariantId, MetricId, Scope);

/// Every window that exists.
#[derive(Clone, Debug)]
pub struct Fleet {
    schema: Arc<Schema>,
    series: BTreeMap<SeriesKey, Series>,
    traffic: BTreeMap<VariantId, Traffic>,
    admitted: BTreeMap<(VariantId, Dimension), BTreeSet<String>>,
    late: Late,
    /// Which totals rules read, per (variant, metric): windows, and whether a quantile is asked.
    wanted: BTreeMap<(VariantId, MetricId), Vec<(Window, bool)>>,
    closed: Option<Minute>,
    slice_quota: usize,
}

/// Events and tenants of one variant, minute by minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    first: Minute,
    minutes: VecDeque<(u64, Tenants)>,
}

/// The value that stands for all slices beyond the quota.
pub const OTHER: &str = "";

impl Fleet {
    /// No series yet.
    pub fn new(schema: Arc<Schema>, slice_quota: usize) -> Self {
        Self {
            schema,
            series: BTreeMap::new(),
            traffic: BTreeMap::new(),
            admitted: BTreeMap::new(),
            late: Late::default(),
            wanted: BTreeMap::new(),
            closed: None,
            slice_quota,
        }
    }

    /// Takes a new schema and new rules: totals are built for what they read. Ids keep their meaning.
    pub fn configure(&mut self, schema: Arc<Schema>, rules: &RuleSet, slice_quota: usize) {
        self.schema = schema;
        self.slice_quota = slice_quota;
        self.wanted.clear();
        for rule in rules.rules.iter().chain(&rules.canary) {
            for slot in rule.condition.slots.iter().chain(&rule.clear.slots) {
                for variant in [Some(&rule.variant), rule.baseline.as_ref()].into_iter().flatten() {
                    let Some(id) = self.schema.find(variant.as_str()) else {
                        continue;
                    };
                    let wanted = self.wanted.entry((id, slot.metric)).or_default();
                    let quantile = slot.stat.quantile().is_some();
                    match wanted.iter_mut().find(|(window, _)| *window == slot.window) {
                        Some(entry) => entry.1 |= quantile,
                        None => wanted.push((slot.window, quantile)),
                    }
                }
            }
        }
        for (key, series) in &mut self.series {
            series.want(self.wanted.get(&(key.0, key.1)).map_or(&[], Vec::as_slice), self.closed);
        }
        self.derive();
    }

    /// Adds one variant's part of a delta.
    pub fn add(&mut self, pane: VariantPane) {
        if self.closed.is_some_and(|closed| pane.minute.0 <= closed.0 - KEEP) {
            return;
        }
        self.traffic.entry(pane.variant).or_default().add(pane.minute, pane.events, &pane.tenants);
        for part in pane.series {
            let scope = self.admit(pane.variant, part.slice);
            let key = (pane.variant, part.metric, scope);
            for (id, counts) in self.derived_from(&key, &part.data) {
                self.record((key.0, id, key.2.clone()), pane.minute, counts);
            }
            self.record(key, pane.minute, part.data);
        }
    }

    /// Counts samples that came after their minute had closed. Slices that are not admitted count together.
    pub fn add_late(&mut self, late: LateSamples) {
        if self.closed.is_some_and(|closed| late.minute.0 <= closed.0 - KEEP) {
            return;
        }
        let slice = match late.slice {
            Scope::Only(dimension, value) if !self.slices(late.variant, dimension).any(|v| *v == value) => {
                Scope::Only(dimension, OTHER.into())
            }
            slice => slice,
        };
        self.late.add((late.variant, late.metric, slice), late.minute, late.samples);
    }

    /// Samples of a series that came too late for the minutes `from..=to`, as far back as minutes are kept.
    pub fn late_between(&self, key: &SeriesKey, from: Minute, to: Minute) -> u64 {
        self.late.between(key, from, to)
    }

    /// All late samples, for snapshots.
    pub fn late(&self) -> &Late {
        &self.late
    }

    fn record(&mut self, key: SeriesKey, minute: Minute, data: PaneData) {
        let closed = self.closed;
        self.entry(key).add(minute, data, closed);
    }

    /// A series, made on first sight.
    fn entry(&mut self, key: SeriesKey) -> &mut Series {
        let (schema, wanted, closed) = (&self.schema, &self.wanted, self.closed);
        self.series.entry(key).or_insert_with_key(|key| {
            let mut series = Series::new(Layout::of(schema.catalogue().get(key.1)));
            series.want(wanted.get(&(key.0, key.1)).map_or(&[], Vec::as_slice), closed);
            series
        })
    }

    /// What a pane says of the objectives on its metric that some rule asks for: good and bad samples.
    fn derived_from(&self, key: &SeriesKey, data: &PaneData) -> Vec<(MetricId, PaneData)> {
        let catalogue = self.schema.catalogue();
        let asked = |slo: &&Slo| slo.metric == key.1 && self.wanted.contains_key(&(key.0, slo.id));
        let layout = Layout::of(catalogue.get(key.1));
        catalogue
            .slos()
            .iter()
            .filter(asked)
            .map(|slo| (slo.id, bad_samples(slo, data, layout.as_ref())))
            .collect()
    }

    /// Makes the series of objectives that are asked for and have none yet from the panes of their metrics.
    pub fn derive(&mut self) {
        let mut made = Vec::new();
        let slos = self.schema.catalogue().slos();
        let counted = |key: &SeriesKey| slos.iter().any(|slo| slo.metric == key.1);
        for (key, series) in self.series.iter().filter(|(key, _)| counted(key)) {
            for (minute, data) in series.recorded() {
                for (id, counts) in self.derived_from(key, &data) {
                    let derived = (key.0, id, key.2.clone());
                    if !self.series.contains_key(&derived) {
                        made.push((derived, minute, counts));
                    }
                }
            }
        }
        for (key, minute, counts) in made {
            self.record(key, minute, counts);
        }
    }

    /// The hourly roll-ups that have been made since the last call.
    pub fn changed_rollups(&mut self) -> Vec<RollupRow> {
        let (schema, mut rows) = (&self.schema, Vec::new());
        for ((variant, metric, slice), series) in &mut self.series {
            let Some(hours) = series.hours_mut().filter(|hours| hours.is_fresh()) else {
                continue;
            };
            let catalogue = schema.catalogue();
            for (hour, data) in hours.take_fresh() {
                rows.extend(RollupRow::encode(&data).map(|data| RollupRow {
                    variant: schema.variant(*variant).as_str().to_owned(),
                    metric: catalogue.get(*metric).name.clone(),
                    slice: slice.clone(),
                    hour,
                    shape: shape_of(catalogue, *metric),
                    data,
                }));
            }
        }
        rows
    }

    /// Puts a stored roll-up in its place; false if no long rule reads it any more, or it was recorded as something else.
    pub fn restore_rollup(&mut self, row: &RollupRow) -> bool {
        let catalogue = self.schema.catalogue();
        let metric = catalogue.find_series(&row.metric);
        let (Some(variant), Some(metric)) = (self.schema.find(&row.variant), metric) else {
            return false;
        };
        let wanted = self.wanted.get(&(variant, metric));
        let long = wanted.is_some_and(|wanted| wanted.iter().any(|w| w.0.is_long()));
        let Some(data) = row.decode().filter(|_| long && row.shape == shape_of(catalogue, metric)) else {
            return false;
        };
        let slice = self.admit(variant, row.slice.clone());
        if let Some(hours) = self.entry((variant, metric, slice)).hours_mut() {
            hours.restore(row.hour, data);
        }
        true
    }

    /// Closes a minute: every total moves on.
    pub fn close(&mut self, minute: Minute) {
        self.closed = Some(minute);
        for series in self.series.values_mut() {
            series.close(minute);
        }
        self.forget_traffic(minute);
    }

    fn forget_traffic(&mut self, closed: Minute) {
        for traffic in self.traffic.values_mut() {
            traffic.evict(closed);
        }
        self.late.forget_before(closed.plus(1 - KEEP));
    }

    /// Sets the clock of windows without judging what lies before: totals are built anew, panes too old are dropped.
    pub fn jump_to(&mut self, minute: Minute) {
        for (key, series) in &mut self.series {
            series.jump(minute, self.wanted.get(&(key.0, key.1)).map_or(&[], Vec::as_slice));
        }
        self.forget_traffic(minute);
        self.closed = Some(minute);
    }

    /// The last closed minute.
    pub fn closed(&self) -> Option<Minute> {
        self.closed
    }

    /// What is recorded, and under which numbers.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// One series.
    pub fn series(&self, variant: VariantId, metric: MetricId, scope: &Scope) -> Option<&Series> {
        self.series.get(&(variant, metric, scope.clone()))
    }

    /// All series, for snapshots.
    pub fn all(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.series.iter()
    }

    /// All traffic, for snapshots.
    pub fn traffic(&self) -> &BTreeMap<VariantId, Traffic> {
        &self.traffic
    }

    /// The admitted values of a dimension of a variant, in order.
    pub fn slices(&self, variant: VariantId, dimension: Dimension) -> impl Iterator<Item = &String> {
        self.admitted.get(&(variant, dimension)).into_iter().flatten()
    }

    /// Events of a variant in `from..=to`, and the tenants they came from.
    pub fn traffic_between(&self, variant: VariantId, from: Minute, to: Minute) -> (u64, Tenants) {
        let mut tenants = Tenants::default();
        let mut events = 0;
        if let Some(traffic) = self.traffic.get(&variant) {
            for (minute, (n, seen)) in (traffic.first.0..).zip(&traffic.minutes) {
                if minute >= from.0 && minute <= to.0 {
                    events += n;
                    tenants.merge(seen);
                }
            }
        }
        (events, tenants)
    }

    /// Events per minute of a variant in `from..=to`, counted since the first one there: a variant that has been served for ten
    /// minutes is as busy as one that was always served.
    pub fn pace_between(&self, variant: VariantId, from: Minute, to: Minute) -> f64 {
        let first = self.traffic.get(&variant).and_then(|traffic| {
            let mut counted = (traffic.first.0..).zip(&traffic.minutes);
            counted.find(|(minute, (n, _))| (from.0..=to.0).contains(minute) && *n > 0)
        });
        first.map_or(0.0, |(first, _)| {
            let events = self.traffic_between(variant, Minute(first), to).0;
            events as f64 / (to.0 - first + 1) as f64
        })
    }

    /// Makes a total of every series wrong.
    #[cfg(test)]
    pub fn damage(&mut self) {
        self.series.values_mut().for_each(Series::damage);
    }

    /// Recomputes every total from its panes; how many were wrong.
    pub fn audit(&mut self) -> usize {
        let Some(closed) = self.closed else { return 0 };
        self.series.values_mut().map(|s| s.audit(closed)).sum()
    }

    /// Puts a restored series in its place.
    pub fn restore_series(&mut self, key: SeriesKey, mut series: Series) {
        series.want(self.wanted.get(&(key.0, key.1)).map_or(&[], Vec::as_slice), self.closed);
        if let Scope::Only(dimension, value) = &key.2
            && value != OTHER
        {
            self.admitted.entry((key.0, *dimension)).or_default().insert(value.clone());
        }
        self.series.insert(key, series);
    }

    /// Puts restored traffic in its place.
    pub fn restore_traffic(&mut self, variant: VariantId, traffic: Traffic) {
        self.traffic.insert(variant, traffic);
    }

    /// First seen, first admitted; beyond the quota a slice counts into `other`.
    fn admit(&mut self, variant: VariantId, slice: Scope) -> Scope {
        let Scope::Only(dimension, value) = slice else {
            return Scope::All;
        };
        let admitted = self.admitted.entry((variant, dimension)).or_default();
        let known = value == OTHER || admitted.contains(&value);
        if !known && admitted.len() >= self.slice_quota {
            return Scope::Only(dimension, OTHER.into());
        }
        if !known {
            admitted.insert(value.clone());
        }
        Scope::Only(dimension, value)
    }
}

/// What a metric was when it was recorded, in a word: numbers of another shape mean something else.
pub fn shape_of(catalogue: &Catalogue, metric: MetricId) -> String {
    let of = |metric: &Metric| match metric.kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Score | Kind::Value => format!("{} to {}", metric.resolution, metric.max),
    };
    match catalogue.slo(metric) {
        Some(slo) => {
            let source = catalogue.get(slo.metric);
            format!("{:?} of {} ({})", slo.bad, source.name, of(source))
        }
        None => of(catalogue.get(metric)),
    }
}

impl Traffic {
    fn add(&mut self, minute: Minute, events: u64, tenants: &Tenants) {
        if self.minutes.is_empty() {
            self.first = minute;
        }
        while minute < self.first {
            self.minutes.push_front((0, Tenants::default()));
            self.first = self.first.plus(-1);
        }
        let at = usize::try_from(minute.0 - self.first.0).unwrap_or(0);
        if at >= self.minutes.len() {
            self.minutes.resize(at + 1, (0, Tenants::default()));
        }
        self.minutes[at].0 += events;
        self.minutes[at].1.merge(tenants);
    }

    fn evict(&mut self, closed: Minute) {
        while !self.minutes.is_empty() && self.first.0 <= closed.0 - KEEP {
            self.minutes.pop_front();
            self.first = self.first.plus(1);
        }
    }
}

/// What one rule on one slice reads.
#[derive(Debug)]
pub struct RuleView<'a> {
    fleet: &'a Fleet,
    own: Option<VariantId>,
    baseline: Option<VariantId>,
    scope: &'a Scope,
}

impl<'a> RuleView<'a> {
    /// The series of a variant and its baseline in a slice.
    pub fn new(
        fleet: &'a Fleet,
        own: Option<VariantId>,
        baseline: Option<VariantId>,
        scope: &'a Scope,
    ) -> Self {
        Self { fleet, own, baseline, scope }
    }
}

impl Lookup for RuleView<'_> {
    fn series(&self, m: &Measurement) -> Option<&Series> {
        let variant = match m.arm {
            Arm::Own => self.own,
            Arm::Baseline => self.baseline,
        };
        self.fleet.series(variant?, m.metric, self.scope)
    }

    fn has_arm(&self, arm: Arm) -> bool {
        arm == Arm::Own || self.baseline.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{RuleAction, Side, Stat};
    use super::super::testkit::{CONTROL, TREATMENT, engine, rule, settings};
    use super::*;
    use crate::engine::rule::Rule;

    fn latency(stat: Stat, window: u32) -> Rule {
        rule("latency", stat, window, Side::Above, 1_000.0, RuleAction::Rollback)
    }

    #[test]
    fn a_total_is_kept_per_window_and_its_histogram_where_a_quantile_is_asked() {
        let rules = vec![
            latency(Stat::Mean, 60),
            latency(Stat::P95, 5),
            latency(Stat::P50, 60),
            latency(Stat::Max, 360),
        ];
        let fleet = engine(rules).fleet;
        let latency = fleet.schema.catalogue().find("latency").unwrap();
        let wanted = vec![(Window(60), true), (Window(5), true), (Window(360), false)];
        for variant in [TREATMENT, CONTROL] {
            let id = fleet.schema.find(variant).unwrap();
            assert_eq!(fleet.wanted[&(id, latency)], wanted, "{variant}");
        }
    }

    #[test]
    fn restored_slices_are_admitted_and_those_beyond_the_quota_stay_together() {
        let settings = settings(vec![latency(Stat::P95, 5)]);
        let tenant = |name: &str| Scope::Only(Dimension::Tenant, name.into());
        let (variant, metric) =
            (settings.schema.find(TREATMENT).unwrap(), settings.schema.catalogue().find("latency").unwrap());
        let mut fleet = Fleet::new(Arc::clone(&settings.schema), 2);
        for name in ["a", OTHER] {
            fleet.restore_series((variant, metric, tenant(name)), Series::new(None));
        }
        for (seen, counted) in [("a", "a"), ("b", "b"), ("c", OTHER), ("a", "a"), (OTHER, OTHER)] {
            assert_eq!(fleet.admit(variant, tenant(seen)), tenant(counted), "{seen}");
        }
    }
}
