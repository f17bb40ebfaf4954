//! What of a series is kept outside of it: its panes in snapshots, a part of them and of its hours beside decisions.

use serde::{Deserialize, Serialize};

use super::{Series, Slots};
use crate::engine::layout::Layout;
use crate::engine::pane::PaneData;
use crate::model::time::Minute;

/// A series as it is kept outside, in snapshots and beside decisions: panes only, totals are rebuilt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPanes {
    first: Minute,
    slots: Slots,
}

impl Series {
    /// What a snapshot keeps.
    pub fn panes(&self) -> SeriesPanes {
        SeriesPanes { first: self.first, slots: self.slots.clone() }
    }

    /// The panes of `from..=to` alone.
    pub fn part(&self, from: Minute, to: Minute) -> SeriesPanes {
        let place = |minute: Minute| usize::try_from(minute.0 - self.first.0).unwrap_or(0).min(self.len());
        let range = place(from)..place(to.plus(1)).max(place(from));
        let first = self.first.plus(i64::try_from(range.start).unwrap_or(0));
        let slots = match &self.slots {
            Slots::Counts(slots) => Slots::Counts(slots.range(range).copied().collect()),
            Slots::Values(slots) => Slots::Values(slots.range(range).cloned().collect()),
        };
        SeriesPanes { first, slots }
    }

    /// The hours from `from` on of which no panes are kept.
    pub fn hours_from(&self, from: Minute) -> Vec<(i64, PaneData)> {
        self.hours.as_ref().map_or_else(Vec::new, |hours| hours.from(from).cloned().collect())
    }

    /// Gives a series hours before its panes, with whatever they hold.
    pub fn put_hours_before(&mut self, hours: Vec<(i64, PaneData)>) {
        let before = self.hours.get_or_insert_default();
        hours.into_iter().for_each(|(hour, data)| before.restore(hour, data));
    }

    /// A series with the panes of a snapshot; `None` if they are of another kind than the layout says.
    pub fn from_panes(panes: SeriesPanes, layout: Option<Layout>) -> Option<Self> {
        let fits = matches!(panes.slots, Slots::Values(_)) == layout.is_some();
        fits.then(|| {
            let mut series = Self { first: panes.first, slots: panes.slots, ..Self::new(layout) };
            series.revisions.resize(series.len(), 1);
            series
        })
    }
}
