//! Sources and the two times: how far event time has come, and how far it stays behind the wall clock.
//!
//! Event time is the least watermark over the sources that hold the clock. A source read to the end of its log at wall time
//! `t` is silent up to `t`, so it counts as `t`: an idle partition never holds the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::{Delta, Fates, Source};
use super::output::SourceReport;
use super::verdict::Reason;
use crate::model::time::{Minute, Timestamp};

/// All sources and the clocks they make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sources {
    #[serde(with = "as_pairs")]
    by_source: BTreeMap<Source, SourceState>,
    time: Option<Timestamp>,
    /// Not stored: a restart learns the wall time anew.
    #[serde(skip)]
    wall: Option<Timestamp>,
    #[serde(skip)]
    down: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct SourceState {
    /// The offset that the next delta starts at; `None` before the first one.
    next: Option<i64>,
    watermark: Option<Timestamp>,
    #[serde(skip)]
    idle_at: Option<Timestamp>,
    fates: Fates,
    /// Whether it takes part in the clock.
    assigned: bool,
    #[serde(default)]
    hole: Hole,
}

/// Whether events of a source are missing from the windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hole {
    #[default]
    None,
    /// They are, and none has come since.
    Open,
    /// They are; the first event behind them lies in this minute.
    Before(Minute),
}

/// What to do with a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    Take,
    /// Its range is covered already.
    Skip,
    /// Offsets are missing before it. It is taken; a human hears of it.
    Gap {
        expected: i64,
    },
    /// It overlaps what is covered and cannot be split. It is left out; a human hears of it.
    Overlap {
        expected: i64,
    },
}

impl SourceState {
    /// Ends a hole with the first events behind it.
    fn resume(&mut self, delta: &Delta) {
        let moved = delta.watermark.filter(|watermark| self.watermark < Some(*watermark));
        let first = delta.panes.iter().map(|pane| pane.minute).min().or(moved.map(Timestamp::minute));
        if let (Hole::Open, Some(first)) = (self.hole, first) {
            self.hole = Hole::Before(first);
        }
    }
}

impl Sources {
    /// Declares which sources hold the clock.
    pub fn assign(&mut self, sources: &[Source]) {
        for (source, state) in &mut self.by_source {
            state.assigned = sources.contains(source);
            state.idle_at = None;
        }
        for source in sources {
            self.by_source.entry(source.clone()).or_default().assigned = true;
        }
    }

    /// Decides whether a delta continues its source, and moves the source on if it does.
    pub fn accept(&mut self, delta: &Delta) -> Accept {
        let state = self.by_source.entry(delta.source.clone()).or_default();
        let accept = match state.next {
            Some(next) if delta.to <= next && delta.from < next => Accept::Skip,
            Some(next) if delta.from < next => Accept::Overlap { expected: next },
            Some(next) if delta.from > next => Accept::Gap { expected: next },
            _ => Accept::Take,
        };
        if matches!(accept, Accept::Gap { .. }) {
            state.hole = Hole::Open;
        }
        if matches!(accept, Accept::Take | Accept::Gap { .. }) {
            state.resume(delta);
            state.next = Some(delta.to);
            state.watermark = state.watermark.max(delta.watermark);
            state.fates.add(&delta.fates);
        }
        accept
    }

    /// The offset at which the next delta of a source starts; zero for one that was never heard of.
    pub fn next(&self, source: &Source) -> i64 {
        self.by_source.get(source).and_then(|s| s.next).unwrap_or(0)
    }

    /// The next delta of a source starts at `to`, whatever came before.
    pub fn jump(&mut self, source: &Source, to: i64) {
        self.by_source.entry(source.clone()).or_default().next = Some(to);
    }

    /// Events of a source cannot be read any more: windows that should hold them are not to be trusted.
    pub fn lose(&mut self, source: &Source) {
        self.by_source.entry(source.clone()).or_default().hole = Hole::Open;
    }

    /// A delta of the time before the stored position is read again; it moves nothing, but ends a hole.
    pub fn reread(&mut self, delta: &Delta) {
        if let Some(state) = self.by_source.get_mut(&delta.source) {
            state.resume(delta);
        }
    }

    /// The last minute that events may be missing from, if they are from any; the largest while none has come since. Events
    /// that are late by up to `lateness` may be among them.
    pub fn incomplete(&self, lateness: Duration) -> Option<Minute> {
        let of = |state: &SourceState| match state.hole {
            Hole::None => None,
            Hole::Open => Some(Minute(i64::MAX)),
            Hole::Before(first) => Some((first.end() + lateness).minute()),
        };
        self.by_source.values().filter(|state| state.assigned).filter_map(of).max()
    }

    /// Forgets holes that no window reaches any more: those before `minute`.
    pub fn forget_holes(&mut self, minute: Minute) {
        for state in self.by_source.values_mut() {
            if matches!(state.hole, Hole::Before(first) if first < minute) {
                state.hole = Hole::None;
            }
        }
    }

    /// The source had been read to the end of its log at `at`.
    pub fn idle(&mut self, source: &Source, at: Timestamp) {
        if let Some(state) = self.by_source.get_mut(source) {
            state.idle_at = state.idle_at.max(Some(at));
            if state.hole == Hole::Open {
                state.hole = Hole::Before(at.minute());
            }
        }
    }

    /// The wall clock moved.
    pub fn advance(&mut self, wall: Timestamp) {
        self.wall = self.wall.max(Some(wall));
    }

    /// The source of events cannot be reached (a reason), or can again.
    pub fn connection(&mut self, down: Option<String>) {
        self.down = down;
    }

    /// Brings event time up to date and returns it. It never goes back.
    pub fn time(&mut self) -> Option<Timestamp> {
        let mut least = None;
        for state in self.by_source.values().filter(|s| s.assigned) {
            let reached = state.watermark.max(state.idle_at)?;
            least = Some(least.map_or(reached, |l: Timestamp| l.min(reached)));
        }
        self.time = self.time.max(least);
        self.time
    }

    /// Event time as last brought up to date.
    pub fn now(&self) -> Option<Timestamp> {
        self.time
    }

    /// The last wall time heard of.
    pub fn wall(&self) -> Option<Timestamp> {
        self.wall
    }

    /// The last minute that is closed at the present event time.
    pub fn closed(&self, lateness: Duration) -> Option<Minute> {
        self.time.map(|t| (t - lateness).minute().plus(-1))
    }

    /// Why the source of events cannot be reached, if so.
    pub fn unreachable(&self) -> Option<Reason> {
        let why = |reason| Reason::Stale { why: format!("the event source cannot be reached: {reason}") };
        self.down.as_ref().map(why)
    }

    /// Why verdicts may not act now, if so. Without a wall clock (a replay) only the connection counts.
    pub fn why_blind(&self, blind_after: Duration) -> Option<Reason> {
        if let Some(why) = self.unreachable() {
            return Some(why);
        }
        let wall = self.wall?;
        match self.time {
            None => Some(Reason::Stale { why: "no event time yet: waiting for every partition".into() }),
            Some(time) => {
                let behind = wall.since(time);
                (behind > blind_after).then_some(Reason::Lag { seconds: behind.as_secs() })
            }
        }
    }

    /// Where each source stands, for the stored position.
    pub fn positions(&self) -> impl Iterator<Item = (&Source, i64, Option<Timestamp>, &Fates)> {
        self.by_source.iter().filter_map(|(source, s)| Some((source, s.next?, s.watermark, &s.fates)))
    }

    /// For status pages.
    pub fn report(&self) -> Vec<SourceReport> {
        self.by_source
            .iter()
            .map(|(source, s)| SourceReport {
                source: source.clone(),
                next_offset: s.next.unwrap_or(0),
                watermark: s.watermark,
                idle: s.idle_at > s.watermark,
                fates: s.fates,
            })
            .collect()
    }

    /// Sources whose events do not all have exactly one fate: always none.
    pub fn unbalanced(&self) -> usize {
        self.by_source.values().filter(|s| !s.fates.balance()).count()
    }
}

/// JSON has no maps with structured keys.
mod as_pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(s)
    }

    pub fn deserialize<'de, K, V, D>(d: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(d)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(partition: i32) -> Source {
        Source { topic: "events".into(), partition }
    }

    fn delta(partition: i32, from: i64, to: i64, watermark: i64) -> Delta {
        Delta {
            source: source(partition),
            from,
            to,
            watermark: Some(Timestamp::from_millis(watermark)),
            fates: Fates::default(),
            panes: Vec::new(),
            late: Vec::new(),
        }
    }

    #[test]
    fn ranges_continue_or_are_skipped() {
        let mut sources = Sources::default();
        sources.assign(&[source(0)]);
        assert_eq!(sources.accept(&delta(0, 5, 10, 0)), Accept::Take);
        assert_eq!(sources.accept(&delta(0, 5, 10, 0)), Accept::Skip);
        assert_eq!(sources.accept(&delta(0, 10, 10, 0)), Accept::Take);
        assert_eq!(sources.accept(&delta(0, 8, 12, 0)), Accept::Overlap { expected: 10 });
        assert_eq!(sources.accept(&delta(0, 12, 14, 0)), Accept::Gap { expected: 10 });
    }

    #[test]
    fn the_slowest_source_holds_the_clock_and_an_idle_one_does_not() {
        let mut sources = Sources::default();
        sources.assign(&[source(0), source(1)]);
        sources.accept(&delta(0, 0, 1, 100));
        assert_eq!(sources.time(), None);
        sources.idle(&source(1), Timestamp::from_millis(70));
        assert_eq!(sources.time(), Some(Timestamp::from_millis(70)));
        sources.accept(&delta(1, 0, 1, 50));
        assert_eq!(sources.time(), Some(Timestamp::from_millis(70)));
        sources.assign(&[source(0)]);
        assert_eq!(sources.time(), Some(Timestamp::from_millis(100)));
    }

    #[test]
    fn a_hole_reaches_to_the_first_events_behind_it() {
        let lateness = Duration::from_secs(30);
        let minute = |n: i64| n * 60_000;
        let mut sources = Sources::default();
        sources.assign(&[source(0), source(1)]);
        sources.accept(&delta(0, 0, 10, minute(3)));
        assert_eq!(sources.incomplete(lateness), None);
        sources.lose(&source(0));
        assert_eq!(sources.incomplete(lateness), Some(Minute(i64::MAX)));
        sources.jump(&source(0), 50);
        sources.accept(&delta(0, 0, 10, minute(3)));
        sources.accept(&delta(0, 50, 60, minute(3)));
        assert_eq!(
            sources.incomplete(lateness),
            Some(Minute(i64::MAX)),
            "neither says how far the hole reaches"
        );
        sources.accept(&delta(0, 60, 70, minute(8)));
        assert_eq!(sources.incomplete(lateness), Some(Minute(9)));
        assert_eq!(sources.accept(&delta(1, 0, 5, minute(2))), Accept::Take);
        assert_eq!(sources.accept(&delta(1, 9, 12, minute(12))), Accept::Gap { expected: 5 });
        assert_eq!(sources.incomplete(lateness), Some(Minute(13)));
        sources.forget_holes(Minute(9));
        assert_eq!(sources.incomplete(lateness), Some(Minute(13)));
        sources.lose(&source(0));
        sources.idle(&source(0), Timestamp::from_millis(minute(20)));
        assert_eq!(
            sources.incomplete(lateness),
            Some(Minute(21)),
            "the log ends: nothing is to come of before"
        );
        sources.forget_holes(Minute(21));
        assert_eq!(sources.incomplete(lateness), None);
    }

    #[test]
    fn falling_behind_the_wall_clock_makes_blind() {
        let mut sources = Sources::default();
        sources.assign(&[source(0)]);
        let allowed = Duration::from_secs(120);
        assert_eq!(sources.why_blind(allowed), None);
        sources.advance(Timestamp::from_millis(200_000));
        assert!(sources.why_blind(allowed).is_some());
        sources.accept(&delta(0, 0, 1, 100_000));
        sources.time();
        assert_eq!(sources.why_blind(allowed), None);
        sources.advance(Timestamp::from_millis(300_000));
        assert!(sources.why_blind(allowed).is_some());
    }
}
