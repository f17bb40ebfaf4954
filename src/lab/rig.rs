//! The rig: the daemon's recorder and engines, mounted on recorded events.
//!
//! Messages come in as they arrived, one lane per partition; several sets of rules may be run over the same messages. A minute
//! closes when event time has passed its end and the lateness, as in the daemon, and engines take one closing per step, so
//! that whoever watches sees each. There is no wall clock: a silence in the log is as long as its event time says, timers and
//! no-data run in it, and nothing is ever blind.
//!
//! Decisions are those that the daemon would take. Nobody carries them out: the recorded traffic goes on as it did, a
//! rollback latches, and nobody re-arms.

use std::sync::Arc;
use std::time::Duration;

use super::setup::{Bench, Setup};
use crate::engine::input::{Delta, Fates, Input, Settings, Source};
use crate::engine::machine::Engine;
use crate::engine::output::Output;
use crate::engine::rule::Window;
use crate::engine::rule::compile::schema_for;
use crate::ingest::decode::LATEST;
use crate::ingest::fate::{Counters, Fate};
use crate::ingest::names::Names;
use crate::ingest::partition::{Limits, Partition};
use crate::model::time::{Minute, Timestamp};

/// The daemon takes nothing that lies more than a minute ahead of its clock. Without a clock the bound is this far ahead of
/// what has been seen, so that two wrong times cannot carry a recording to the end of the century.
const AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// The hashes of ids have to be the same in every run.
const KEY: (u64, u64) = (0x7265_6172_6775_6172, 0x6c61_626f_7261_746f);

/// Recorders and engines over one stream of messages.
#[derive(Debug)]
pub struct Rig {
    lanes: Vec<Lane>,
    engines: Vec<Engine>,
    /// Engines know one source: all lanes together.
    source: Source,
    lateness: Duration,
    /// Messages handed to the engines.
    handed: i64,
    /// The newest minute that anything was recorded in.
    newest: Option<Minute>,
    fates: Fates,
    counters: Counters,
}

#[derive(Debug)]
struct Lane {
    partition: Partition,
    /// Whether more may come of it.
    open: bool,
}

/// What one engine said to one closing.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which of the setups.
    pub set: usize,
    pub engine: &'a Engine,
    /// The minute that closed.
    pub closed: Minute,
    pub output: Output,
}

/// Whoever watches.
pub type Watch<'w> = dyn FnMut(Step<'_>) + 'w;

impl Rig {
    /// Engines for `setups`, side by side, over `lanes` partitions.
    pub fn new(setups: Vec<Setup>, bench: &Bench, lanes: usize) -> Self {
        let mut schema = None;
        for Setup { rules, flags } in &setups {
            schema = Some(schema_for(rules, flags, &bench.catalogue, schema.as_ref()));
        }
        let schema = Arc::new(schema.unwrap_or_default());
        let limits = Limits {
            lateness: bench.lateness,
            slices: usize::try_from(bench.limits.slices).unwrap_or(usize::MAX),
            ..Limits::default()
        };
        let names = Arc::new(Names::new(Arc::clone(&schema)));
        let lane = |number| Lane {
            partition: Partition::new(source(number), 0, KEY, Arc::clone(&names), limits),
            open: true,
        };
        let engine = |setup: Setup| {
            let mut engine = Engine::new(Settings {
                rules: Arc::new(setup.rules),
                flags: setup.flags,
                schema: Arc::clone(&schema),
                limits: bench.limits,
                lateness: bench.lateness,
                dry_run: false,
            });
            engine.step(Input::Assign { sources: vec![source(0)], start: None });
            engine
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
            engines: setups.into_iter().map(engine).collect(),
            source: source(0),
            lateness: bench.lateness,
            handed: 0,
            newest: None,
            fates: Fates::default(),
            counters: Counters::default(),
        }
    }

    /// Gives one message of a lane its fate, and closes the minutes that it ends.
    #[inline]
    pub fn record(&mut self, lane: usize, message: &[u8], watch: &mut Watch<'_>) -> Fate {
        let Lane { partition, .. } = &mut self.lanes[lane];
        let bound = partition.watermark().map_or(LATEST, |watermark| watermark + AHEAD);
        let fate = partition.record(message, partition.next(), bound);
        if partition.is_due() {
            self.progress(watch);
        }
        fate
    }

    /// The lane that is furthest behind in event time, of those of which more may come. Reading that one next makes nothing
    /// late and keeps little open.
    pub fn furthest_behind(&self) -> Option<usize> {
        let open = self.lanes.iter().enumerate().filter(|(_, lane)| lane.open);
        open.min_by_key(|(_, lane)| lane.partition.watermark()).map(|(number, _)| number)
    }

    /// Nothing more comes of a lane: it no longer holds event time back.
    pub fn end_lane(&mut self, lane: usize, watch: &mut Watch<'_>) {
        self.lanes[lane].open = false;
        self.progress(watch);
    }

    /// The log is silent up to `at`: everything is handed over, and minutes close as they do for an idle partition.
    pub fn idle_until(&mut self, at: Timestamp, watch: &mut Watch<'_>) {
        self.hand_over();
        self.close_until(at, watch);
    }

    /// The recording is over: every minute that it reached closes, and no later one. What would have come afterwards is
    /// unknown. A last event whose clock runs more than a longest window ahead does not count.
    pub fn finish(&mut self, watch: &mut Watch<'_>) {
        self.hand_over();
        let Some(newest) = self.newest else { return };
        let watermarks = self.lanes.iter().filter_map(|lane| lane.partition.watermark());
        let reached = watermarks.max().map_or(newest, Timestamp::minute);
        let last = newest.clamp(reached, reached.plus(i64::from(Window::LONGEST.0)));
        self.close_until(last.end() + self.lateness, watch);
    }

    /// What became of the messages handed over so far.
    pub fn fates(&self) -> Fates {
        self.fates
    }

    /// The reasons behind [`fates`](Self::fates).
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The engines, one per setup.
    pub fn engines(&self) -> &[Engine] {
        &self.engines
    }

    fn progress(&mut self, watch: &mut Watch<'_>) {
        let mut open = self.lanes.iter().filter(|lane| lane.open).map(|lane| lane.partition.watermark());
        // `None` comes first: as long as a lane has no event time there is none.
        if let Some(reached) = open.by_ref().min().flatten() {
            self.hand_over();
            self.close_until(reached, watch);
        }
    }

    /// Hands over what has been recorded. Deltas carry no event time: closings follow one by one.
    fn hand_over(&mut self) {
        let with_news = self.lanes.iter_mut().filter(|lane| lane.partition.has_news());
        let mut deltas: Vec<Delta> = Vec::new();
        for lane in with_news {
            let (delta, counters) = lane.partition.take_delta();
            self.counters.add(&counters);
            self.fates.add(&delta.fates);
            deltas.push(delta);
        }
        let panes = deltas.iter().flat_map(|delta| &delta.panes);
        self.newest = panes.map(|pane| pane.minute).max().max(self.newest);
        // An engine begins at the first pane that it is shown.
        let first = |delta: &Delta| delta.panes.iter().map(|pane| pane.minute.0).min().unwrap_or(i64::MAX);
        deltas.sort_by_key(first);
        for delta in deltas {
            let from = self.handed;
            self.handed += delta.to - delta.from;
            let delta =
                Delta { source: self.source.clone(), from, to: self.handed, watermark: None, ..delta };
            if let Some((last, others)) = self.engines.split_last_mut() {
                for engine in others {
                    engine.step(Input::Delta(delta.clone()));
                }
                last.step(Input::Delta(delta));
            }
        }
    }

    /// Closes every minute whose end lies the lateness before `at`, one after the other.
    fn close_until(&mut self, at: Timestamp, watch: &mut Watch<'_>) {
        let Some(closed) = self.engines.first().and_then(|engine| engine.memory().core.closed) else {
            return;
        };
        let last = (at - self.lateness).minute().0 - 1;
        for minute in (closed.0 + 1..=last).map(Minute) {
            for (set, engine) in self.engines.iter_mut().enumerate() {
                let at = minute.end() + self.lateness;
                let output = engine.step(Input::Idle { source: self.source.clone(), at });
                debug_assert_eq!(output.closed, Some(minute));
                watch(Step { set, engine, closed: minute, output });
            }
        }
    }
}

fn source(number: usize) -> Source {
    Source { topic: "recording".into(), partition: i32::try_from(number).unwrap_or(i32::MAX) }
}
