//! Equipment for the engine's own tests: rules by hand, streams of events, an oracle that erases minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::input::{Answer, Delta, Fates, FlipOutcome, Input, Limits, Settings, Source};
use super::layout::Layout;
use super::machine::Engine;
use super::measure::Lookup;
use super::output::{Decision, Output};
use super::pane::{OpenValues, PaneData, SeriesPane, VariantPane};
use super::rule::{
    Arith, Arm, Compare, Condition, Confirm, Expr, Measurement, NoData, Origin, Page, Rule, RuleAction,
    RuleHash, RuleSet, Shape, Side, Stat, Threshold, Window,
};
use super::schema::Schema;
use super::series::Series;
use super::tenants::Tenants;
use crate::model::flag::{Dimension, FlagSpec, Scope};
use crate::model::incident::Severity;
use crate::model::metric::Catalogue;
use crate::model::time::{Minute, Timestamp};

/// An arbitrary minute of 2026, where every stream starts.
pub const START: i64 = 29_500_000;
pub const TREATMENT: &str = "support-copilot.prompt-v18";
pub const CONTROL: &str = "support-copilot.prompt-v17";
pub const FLAG: &str = "ai.support-copilot.prompt-v18";

/// One series, whatever is looked up.
pub struct One(pub Series);

impl Lookup for One {
    fn series(&self, _: &Measurement) -> Option<&Series> {
        Some(&self.0)
    }

    fn has_arm(&self, _: Arm) -> bool {
        true
    }
}

/// One series of each arm.
pub struct Arms {
    pub own: Series,
    pub base: Series,
}

impl Lookup for Arms {
    fn series(&self, m: &Measurement) -> Option<&Series> {
        Some(if m.arm == Arm::Own { &self.own } else { &self.base })
    }

    fn has_arm(&self, _: Arm) -> bool {
        true
    }
}

/// `metric_stat_window < threshold` or `>`, on [`TREATMENT`].
pub fn rule(metric: &str, stat: Stat, window: u32, side: Side, threshold: f64, action: RuleAction) -> Rule {
    let slot = Measurement {
        metric: Catalogue::default().find(metric).unwrap(),
        stat,
        window: Window(window),
        arm: Arm::Own,
    };
    let threshold =
        match Layout::of(Catalogue::default().get(slot.metric)).filter(|_| stat.quantile().is_some()) {
            // As the compiler rounds outward.
            Some(layout) if side == Side::Above => layout.upper(layout.bucket(threshold)),
            Some(layout) => layout.lower(layout.bucket(threshold)),
            None => threshold,
        };
    let op = if side == Side::Below { Compare::Lt } else { Compare::Gt };
    let condition = |op, threshold: f64| Condition {
        source: format!("{metric}_{window}m {op:?} {threshold}"),
        expr: Expr::Compare(op, Box::new(Expr::Slot(0)), Box::new(Expr::Const(threshold))),
        slots: vec![slot],
        shape: Shape::Simple { slot: 0, side, threshold: Threshold::Const(threshold) },
    };
    let good =
        if side == Side::Below { (Compare::Gt, threshold + 0.01) } else { (Compare::Lt, threshold - 0.01) };
    Rule {
        id: format!("{metric}-{window}-{}", action.as_str()).into(),
        flag: FLAG.into(),
        variant: TREATMENT.into(),
        baseline: Some(CONTROL.into()),
        condition: condition(op, threshold),
        clear: condition(good.0, good.1),
        action,
        confirm: Confirm::Persistence,
        hold: Duration::from_secs(180),
        dwell: Duration::from_secs(900),
        min_samples: 100,
        no_data: NoData::Hold,
        by: None,
        whole_flag: false,
        dry_run: false,
        severity: Severity::Critical,
        failure_class: "quality_regression".into(),
        runbook: None,
        page: Page::Default,
        owner: None,
        origin: Origin::default(),
        hash: RuleHash(format!("{metric}{window}{threshold}")),
    }
}

/// Settings with these rules, every variant of theirs configured, and one flag per rule's flag.
pub fn settings(rules: Vec<Rule>) -> Settings {
    let mut schema = Schema::new(Arc::new(Catalogue::default()));
    let mut flags: BTreeMap<String, FlagSpec> = BTreeMap::new();
    for rule in &rules {
        for variant in [Some(&rule.variant), rule.baseline.as_ref()].into_iter().flatten() {
            let id = schema.add_variant(variant);
            if let Some(dimension) = rule.by {
                schema.add_slice(id, dimension, rule.condition.slots[0].metric);
            }
        }
        flags.entry(rule.flag.to_string()).or_insert_with(|| FlagSpec {
            key: rule.flag.clone(),
            control: rule.baseline.clone().unwrap_or_else(|| CONTROL.into()),
            treatment: rule.variant.clone(),
            share: 500_000,
            frozen: false,
            served: None,
            drill: false,
        });
    }
    Settings {
        rules: Arc::new(RuleSet { rules: rules.into_iter().map(Arc::new).collect(), ..Default::default() }),
        flags: flags.into_values().collect(),
        schema: Arc::new(schema),
        limits: Limits::default(),
        lateness: Duration::from_secs(30),
        dry_run: false,
    }
}

/// One event as the engine's tests write it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ev {
    /// Milliseconds since [`START`].
    pub at: i64,
    pub variant: &'static str,
    pub metric: &'static str,
    pub value: f64,
    pub tenant: u64,
}

/// The source of a partition.
pub fn source(partition: i32) -> Source {
    Source { topic: "events".into(), partition }
}

/// A time, in milliseconds since [`START`].
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(Minute(START).start().as_millis() + millis)
}

/// Folds events into a delta, as ingest does.
pub fn delta(settings: &Settings, partition: i32, from: i64, watermark: Timestamp, events: &[Ev]) -> Delta {
    let mut panes: Vec<VariantPane> = Vec::new();
    let mut open: BTreeMap<(usize, usize), OpenValues> = BTreeMap::new();
    let catalogue = settings.schema.catalogue();
    for event in events {
        let variant = settings.schema.find(event.variant).unwrap();
        let metric = catalogue.find(event.metric).unwrap();
        let minute = at(event.at).minute();
        let place =
            panes.iter().position(|p| p.variant == variant && p.minute == minute).unwrap_or_else(|| {
                panes.push(VariantPane {
                    variant,
                    minute,
                    events: 0,
                    tenants: Tenants::default(),
                    series: Vec::new(),
                });
                panes.len() - 1
            });
        let pane = &mut panes[place];
        pane.events += 1;
        pane.tenants.insert(event.tenant.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut slices = vec![Scope::All];
        if settings.schema.slices(variant).iter().any(|(d, m)| *d == Dimension::Tenant && *m == metric) {
            slices.push(Scope::Only(Dimension::Tenant, format!("t{}", event.tenant)));
        }
        for slice in slices {
            let at = pane.series.iter().position(|s| s.metric == metric && s.slice == slice).unwrap_or_else(
                || {
                    pane.series.push(SeriesPane { metric, slice, data: PaneData::Counts { n: 0, trues: 0 } });
                    pane.series.len() - 1
                },
            );
            match Layout::of(catalogue.get(metric)) {
                Some(layout) => open.entry((place, at)).or_default().record(&layout, event.value),
                None => {
                    let PaneData::Counts { n, trues } = &mut pane.series[at].data else { unreachable!() };
                    *n += 1;
                    *trues += u64::from(event.value > 0.5);
                }
            }
        }
    }
    for ((place, at), values) in open {
        let series = &mut panes[place].series[at];
        if let Some(layout) = Layout::of(catalogue.get(series.metric)) {
            series.data = PaneData::Values(values.seal(&layout));
        }
    }
    let n = events.len() as u64;
    Delta {
        source: source(partition),
        from,
        to: from + events.len() as i64,
        watermark: Some(watermark),
        fates: Fates { consumed: n, windowed: n, ..Fates::default() },
        panes,
        late: Vec::new(),
    }
}

/// An engine that reads one partition from [`START`] on.
pub fn engine(rules: Vec<Rule>) -> Engine {
    let mut engine = Engine::new(settings(rules));
    engine.step(Input::Assign { sources: vec![source(0)], start: Some(at(0)) });
    engine
}

/// Feeds a stream minute by minute, watermark following, and gathers what comes out. `lateness` and one more minute are
/// waited out at the end, so that every minute that has events is judged.
pub fn run(engine: &mut Engine, events: &[Ev], minutes: std::ops::Range<i64>) -> Output {
    let mut all = Output::default();
    let mut offset = engine.memory().core.sources.positions().map(|p| p.1).next().unwrap_or(0);
    for minute in minutes {
        let input = minute_of(engine, events, minute, offset);
        offset = input.to;
        absorb(&mut all, engine.step(Input::Delta(input)));
    }
    all
}

/// Reads minutes of a stream again from an offset, as a restored engine does before it goes on: nothing may come of it.
pub fn read_again(engine: &mut Engine, events: &[Ev], minutes: std::ops::Range<i64>, mut from: i64) {
    for minute in minutes {
        let input = minute_of(engine, events, minute, from);
        from = input.to;
        assert_eq!(engine.step(Input::Delta(input)), Output::default());
    }
    engine.finish_loading();
}

/// The delta of one minute of a stream, with the watermark at which it closes.
fn minute_of(engine: &Engine, events: &[Ev], minute: i64, from: i64) -> Delta {
    let part: Vec<Ev> = events.iter().filter(|e| e.at.div_euclid(60_000) == minute).cloned().collect();
    delta(engine.settings(), 0, from, at((minute + 1) * 60_000 + 30_000), &part)
}

/// What dispatch says of a decision's flip.
pub fn answer(decision: &Decision, minute: i64, outcome: FlipOutcome) -> Input {
    let (decision, at) = (decision.id.clone(), at(minute * 60_000));
    Input::Answer(Answer { decision, flag: FLAG.into(), scope: Scope::All, at, outcome })
}

/// Appends one output to another.
pub fn absorb(all: &mut Output, more: Output) {
    all.transitions.extend(more.transitions);
    all.decisions.extend(more.decisions);
    all.grounds.extend(more.grounds);
    all.orders.extend(more.orders);
    all.latches.extend(more.latches);
    all.verdicts.pass += more.verdicts.pass;
    all.verdicts.breach += more.verdicts.breach;
    all.verdicts.inconclusive += more.verdicts.inconclusive;
    all.verdicts.error += more.verdicts.error;
    all.rebuilt += more.rebuilt;
    all.closed = more.closed.or(all.closed);
}

/// A rule of one of five kinds, in the mode of a number: a mean, a rate and a quantile against numbers, a rate and a quantile
/// against the baseline; and the metric that feeds it.
pub fn any_rule(kind: usize, window: u32, confirm: usize) -> (Rule, &'static str) {
    use RuleAction::Rollback;
    let (mut rule, metric) = match kind % 5 {
        0 => (rule("faithfulness", Stat::Mean, window, Side::Below, 0.6, Rollback), "faithfulness"),
        1 => (rule("abstain", Stat::Rate, window, Side::Above, 0.4, Rollback), "abstain"),
        2 => (rule("latency", Stat::P95, window, Side::Above, 1_000.0, Rollback), "latency"),
        3 => (rule("abstain", Stat::Rate, window, Side::Above, 0.4, Rollback), "abstain"),
        _ => (rule("latency", Stat::P95, window, Side::Above, 1_000.0, Rollback), "latency"),
    };
    rule.confirm = Confirm::ALL[confirm % Confirm::ALL.len()];
    if kind % 5 >= 3 {
        let base = Measurement { arm: Arm::Baseline, ..rule.condition.slots[0] };
        let twice = Expr::Arith(Arith::Mul, Box::new(Expr::Slot(1)), Box::new(Expr::Const(1.5)));
        rule.condition.expr = Expr::Compare(Compare::Gt, Box::new(Expr::Slot(0)), Box::new(twice));
        rule.condition.slots.push(base);
        rule.condition.shape = Shape::Simple {
            slot: 0,
            side: Side::Above,
            threshold: Threshold::Baseline { slot: 1, factor: 1.5 },
        };
    }
    (rule, metric)
}

/// Minute by minute so many events of both variants, the treatment's at a level between 0 (bad) and 1, the control's good.
pub fn rough(metric: &'static str, minutes: &[(i64, f64)]) -> Vec<Ev> {
    let value = |level: f64, i: i64| {
        let spread = f64::from(u8::try_from(i * 37 % 100).unwrap_or(0)) / 100.0;
        match metric {
            "faithfulness" => (level + 0.2 * (spread - 0.5)).clamp(0.0, 1.0),
            "latency" => 200.0 + 2_000.0 * (1.0 - level) * spread,
            _ => f64::from(spread > level),
        }
    };
    let mut events = Vec::new();
    for (minute, (n, level)) in (0..).zip(minutes) {
        for (variant, level) in [(TREATMENT, *level), (CONTROL, 0.9)] {
            let one = |i| Ev {
                at: minute * 60_000 + i * 60_000 / n.max(&1),
                variant,
                metric,
                value: value(level, i),
                tenant: i.unsigned_abs() % 17,
            };
            events.extend((0..*n).map(one));
        }
    }
    events
}

/// `per_minute` events of `value` for each minute.
pub fn steady(
    variant: &'static str,
    metric: &'static str,
    minutes: std::ops::Range<i64>,
    per_minute: i64,
    value: impl Fn(i64, i64) -> f64,
) -> Vec<Ev> {
    minutes
        .flat_map(|m| (0..per_minute).map(move |i| (m, i)))
        .map(|(m, i)| Ev {
            at: m * 60_000 + i * 60_000 / per_minute,
            variant,
            metric,
            value: value(m, i),
            tenant: i.unsigned_abs() % 17,
        })
        .collect()
}

/// A small generator of known constants (Knuth's MMIX), so that a failing seed replays anywhere.
pub struct Lcg(pub u64);

impl Lcg {
    /// A number in [0, 1).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() * of.len() as f64) as usize]
    }
}
