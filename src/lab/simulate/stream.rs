//! A seeded stream of minutes out of a [`World`].
//!
//! Every minute of every run has random numbers of its own (ChaCha8: the run is its stream, the minute its position), so worlds that
//! differ in one thing only differ by that: shifts of different size are tried on the same noise, and a run is the same whichever
//! thread computes it.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::draw::{binomial, minute};
use super::world::World;
use crate::engine::layout::Layout;
use crate::engine::pane::{SeriesPane, VariantPane};
use crate::engine::schema::{Schema, VariantId};
use crate::engine::tenants::Tenants;
use crate::model::flag::Scope;
use crate::model::id::Variant;
use crate::model::metric::Catalogue;
use crate::model::time::Minute;

/// The minute at which every stream begins: 2026-02-02 00:00 UTC.
pub const START: Minute = Minute(29_499_840);
/// Random words that a minute may use before it runs into the next one's.
const WORDS: u32 = 22;
/// Where the random numbers of a run as a whole stand: behind those of every minute.
const BEFORE: u128 = 1 << 62;
const DAY: f64 = 1_440.0;
/// The one slice that rules with `by:` are given.
const SLICE: &str = "simulated";

/// The minutes of one run, one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    world: Arc<World>,
    schema: Arc<Schema>,
    own: VariantId,
    baseline: Option<VariantId>,
    rng: ChaCha8Rng,
    /// The next minute, counted from [`START`].
    next: i64,
    /// At which time of the day the run begins, in minutes.
    phase: f64,
    /// Per metric, where its slow shock stands.
    shocks: Vec<f64>,
    gap: u32,
    regressed: bool,
    late: VecDeque<(i64, VariantPane)>,
}

/// Which arm a pane belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Own,
    Baseline,
}

impl Stream {
    /// Run number `run` of a world. `variant` has to be in the schema.
    pub fn new(
        world: Arc<World>,
        schema: Arc<Schema>,
        variant: &Variant,
        baseline: Option<&Variant>,
        seed: u64,
        run: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(run);
        rng.set_word_pos(BEFORE);
        let phase = rng.random::<f64>() * DAY;
        let shocks = world.metrics.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
        Self {
            own: schema.find(variant.as_str()).unwrap_or(VariantId(0)),
            baseline: baseline.and_then(|name| schema.find(name.as_str())),
            world,
            schema,
            rng,
            next: 0,
            phase,
            shocks,
            gap: 0,
            regressed: false,
            late: VecDeque::new(),
        }
    }

    /// From the next minute on the variant is as bad as `world` says; everything else goes on as it would have.
    pub fn regress(&mut self, world: Arc<World>) {
        self.world = world;
        self.regressed = true;
    }

    /// The next minute, and what of it and of earlier ones arrives in it.
    pub fn step(&mut self) -> (Minute, Vec<VariantPane>) {
        let world = Arc::clone(&self.world);
        let at = self.next;
        self.next += 1;
        self.rng.set_word_pos(u128::from(at.unsigned_abs()) << WORDS);
        let now = START.plus(at);
        self.move_shocks(&world);
        let accident = self.happens(world.accidents);
        let begins = self.happens(world.gaps);
        if self.gap == 0 && begins {
            self.gap = world.gap_minutes;
        }
        let silent = self.gap > 0;
        self.gap = self.gap.saturating_sub(1);
        let wave = (TAU * (at as f64 + self.phase) / DAY).sin();
        let mut panes = Vec::new();
        for side in [Side::Own, Side::Baseline] {
            let accident = accident && side == Side::Own;
            let average = if side == Side::Own { world.events } else { world.baseline_events };
            let more = if accident { world.accident_traffic } else { 1.0 };
            let n = self.count(average * (1.0 + world.traffic_swing * wave) * more);
            if !silent {
                panes.extend(self.pane(&world, side, now, n, wave, accident));
            }
        }
        while self.late.front().is_some_and(|(due, _)| *due <= at) {
            panes.extend(self.late.pop_front().map(|(_, pane)| pane));
        }
        (now, panes)
    }

    fn move_shocks(&mut self, world: &World) {
        let fresh = (1.0 - world.shocks_last * world.shocks_last).max(0.0).sqrt();
        for shock in &mut self.shocks {
            let z: f64 = StandardNormal.sample(&mut self.rng);
            *shock = world.shocks_last * *shock + fresh * z;
        }
    }

    /// Whether what happens so many times a day happens now.
    fn happens(&mut self, per_day: f64) -> bool {
        self.rng.random::<f64>() < per_day / DAY
    }

    fn count(&mut self, expected: f64) -> u64 {
        Poisson::new(expected)
            .map_or(0, |poisson| Distribution::<f64>::sample(&poisson, &mut self.rng) as u64)
    }

    /// One arm's pane; what of it is late is kept for later.
    fn pane(
        &mut self,
        world: &World,
        side: Side,
        now: Minute,
        n: u64,
        wave: f64,
        accident: bool,
    ) -> Option<VariantPane> {
        let variant = match side {
            Side::Own => self.own,
            Side::Baseline => self.baseline?,
        };
        let late = if world.late > 0.0 { binomial(n, world.late, &mut self.rng) } else { 0 };
        let centers: Vec<Option<f64>> =
            (0..world.metrics.len()).map(|place| self.center(world, side, place, wave, accident)).collect();
        if late > 0 {
            let pane = self.fill(world, variant, now, late, &centers);
            self.late.push_back((self.next - 1 + i64::from(world.late_minutes), pane));
        }
        Some(self.fill(world, variant, now, n - late, &centers))
    }

    /// The centre of one metric in this minute; `None` where the arm does not carry it.
    fn center(&mut self, world: &World, side: Side, place: usize, wave: f64, accident: bool) -> Option<f64> {
        let metric = &world.metrics[place];
        let z: f64 = StandardNormal.sample(&mut self.rng);
        let center = match side {
            Side::Own if self.regressed => metric.regressed.unwrap_or(metric.healthy),
            Side::Own => metric.healthy,
            Side::Baseline => metric.baseline?,
        };
        if accident {
            return Some(metric.worst);
        }
        let shock = world.noise * z + world.shocks * self.shocks[place] - world.level_swing * wave;
        Some(metric.moved(center, shock))
    }

    fn fill(
        &mut self,
        world: &World,
        variant: VariantId,
        now: Minute,
        n: u64,
        centers: &[Option<f64>],
    ) -> VariantPane {
        let schema = Arc::clone(&self.schema);
        let catalogue: &Catalogue = schema.catalogue();
        let mut series = Vec::with_capacity(world.metrics.len());
        for (metric, center) in world.metrics.iter().zip(centers) {
            let Some(center) = center else { continue };
            let layout = Layout::of(catalogue.get(metric.metric));
            let data = minute(&metric.shape, layout.as_ref(), *center, n, &mut self.rng);
            let Some(data) = data else { continue };
            let slices = schema.slices(variant).iter().filter(|(_, id)| *id == metric.metric);
            let slices = slices.map(|(dimension, _)| Scope::Only(*dimension, SLICE.to_owned()));
            let part = |slice| SeriesPane { metric: metric.metric, slice, data: data.clone() };
            series.extend(std::iter::once(Scope::All).chain(slices).map(part));
        }
        VariantPane { variant, minute: now, events: n, tenants: Tenants::default(), series }
    }
}
