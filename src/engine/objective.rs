//! Service level objectives as series: each sample of a metric is good or bad, and that is a boolean metric of its own.
//!
//! Counted from panes, so that late data, deletions and restarts are as exact as for the metric itself, and ingest has
//! nothing to do. A limit inside a histogram bucket is rounded outward: samples in the limit's own bucket are good.

use super::layout::Layout;
use super::pane::{PaneData, SealedValues};
use super::rule::token::tidy;
use crate::model::metric::Catalogue;
use crate::model::slo::{Bad, Slo};

/// How many samples of a pane there are, and how many of them are bad.
pub fn bad_samples(slo: &Slo, data: &PaneData, layout: Option<&Layout>) -> PaneData {
    let outside = |values: &SealedValues, is_bad: &dyn Fn(u16) -> bool| {
        values.entries().filter(|(bucket, _)| is_bad(*bucket)).map(|(_, n)| n).sum()
    };
    let (n, trues) = match (data, slo.bad, layout) {
        (PaneData::Counts { n, trues }, Bad::When(true), _) => (*n, *trues),
        (PaneData::Counts { n, trues }, Bad::When(false), _) => (*n, n - trues),
        (PaneData::Values(values), Bad::Below(limit), Some(layout)) => {
            let edge = layout.bucket(limit);
            (values.sums().n, outside(values, &|bucket| bucket < edge))
        }
        (PaneData::Values(values), Bad::Above(limit), Some(layout)) => {
            let edge = layout.bucket(limit);
            (values.sums().n, outside(values, &|bucket| bucket > edge))
        }
        // The configuration is checked: booleans have `When`, everything else a limit.
        (PaneData::Counts { .. }, Bad::Below(_) | Bad::Above(_), _) | (PaneData::Values(_), ..) => (0, 0),
    };
    PaneData::Counts { n, trues }
}

/// What counts as a bad sample, as it is judged: `faithfulness < 0.8`, `error`.
pub fn bad_in_words(slo: &Slo, catalogue: &Catalogue) -> String {
    let metric = catalogue.get(slo.metric);
    let (name, unit) = (&metric.name, &metric.unit);
    let layout = Layout::of(metric);
    let limit =
        |sign: &str, value: f64| format!("{name} {sign} {} {unit}", tidy(value)).trim_end().to_owned();
    match (slo.bad, layout) {
        (Bad::When(true), _) => name.clone(),
        (Bad::When(false), _) => format!("not {name}"),
        (Bad::Below(value), layout) => limit("<", layout.map_or(value, |l| l.lower(l.bucket(value)))),
        (Bad::Above(value), layout) => limit(">", layout.map_or(value, |l| l.upper(l.bucket(value)))),
    }
}
