//! `--from events`: a rule on the flag, events that it has to find bad, and the producer that writes them to the daemon's topic.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};

use super::super::output::Trouble;
use super::step::Sum;
use crate::app::{rules, wiring};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::budget::Budget;
use crate::engine::rule::{Rule, RuleAction, Shape, Side, Stat, Threshold};
use crate::model::id::Variant;
use crate::model::metric::{Kind, Metric};
use crate::model::time::{MINUTE_MS, Timestamp};

/// How long a breach may take to be seen beyond what is proven: the rule's window has to fill first.
const FILLING: Duration = Duration::from_secs(600);
/// Events per minute and arm, at least and at most: as many as the rule wants samples.
const PACE: (u64, u64) = (20, 6_000);
/// How long the broker may take for the first event and for the last ones.
const DELIVER: Duration = Duration::from_secs(10);
/// How good a score is that is neither bad nor perfect.
const FAIR: f64 = 0.9;

/// What is going to be written, and how long it may take.
pub struct Plan {
    pub rule: Arc<Rule>,
    pub sum: Sum,
    config: Config,
    control: Variant,
    metric: String,
    levels: Levels,
    per_minute: u64,
}

/// What an event carries: a number, or `true` in this share of all events.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Number(f64),
    Share(f64),
}

/// The treatment's level breaches the rule, the control's does not.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Levels {
    treatment: Level,
    control: Level,
}

impl Plan {
    /// Looks for the flag's rule in the configuration: the one named, else the first that events can be made for.
    pub fn read(path: &Path, flag: &str, wanted: Option<&str>) -> Result<Self, Trouble> {
        let shown = path.display();
        let wrong = |_| {
            Trouble::wrong(format!("{shown} or its rules cannot be used"))
                .hint("`rearguard check` shows the mistakes; `--from decision` needs no configuration")
        };
        let config = Config::load(path).map_err(wrong)?;
        let (settings, _) = rules::settings(&config, None).map_err(wrong)?;
        let Some(spec) = settings.flags.iter().find(|spec| spec.drill && spec.key.as_str() == flag) else {
            return Err(Trouble::wrong(format!("{shown} has no flag `{flag}` with `drill: true`")));
        };
        let mut refused = Vec::new();
        let rules = settings.rules.rules.iter().filter(|rule| rule.flag == spec.key);
        for rule in rules.filter(|rule| wanted.is_none_or(|id| rule.id.as_str() == id)) {
            let catalogue = &config.catalogue;
            match levels_of(rule, |slot| catalogue.get(rule.condition.slots[slot].metric)) {
                Ok((metric, levels)) => {
                    let budget = Budget::of(rule, &config.timing.on(spec.served.as_ref()));
                    return Ok(Self {
                        rule: Arc::clone(rule),
                        sum: Sum::of(&budget),
                        control: rule.baseline.clone().unwrap_or_else(|| spec.control.clone()),
                        metric: metric.name.clone(),
                        levels,
                        per_minute: rule.min_samples.clamp(PACE.0, PACE.1),
                        config,
                    });
                }
                Err(why) => refused.push(format!("`{}`: {why}", rule.id)),
            }
        }
        let what = match (&refused[..], wanted) {
            ([], Some(id)) => format!("{shown} has no rule `{id}` on flag `{flag}`"),
            ([], None) => format!("{shown} has no rule on flag `{flag}`"),
            (refused, _) => {
                format!("events cannot be made for any rule on flag `{flag}`: {}", refused.join("; "))
            }
        };
        Err(Trouble::wrong(what).hint("docs/practice.md has a rule to copy; `--from decision` needs none"))
    }

    /// What is written, in one line.
    pub fn said(&self) -> String {
        format!(
            "writing {} events a minute each for {} (bad) and {} (good) to `{}`; rule `{}`. It takes minutes, as in earnest",
            self.per_minute,
            self.rule.variant,
            self.control,
            self.topic(),
            self.rule.id
        )
    }

    fn topic(&self) -> &str {
        self.config.kafka.topics.first().map_or("", String::as_str)
    }
}

/// The metric of a rule's own comparison, and levels on both sides of it.
fn levels_of<'a>(rule: &Rule, metric: impl Fn(usize) -> &'a Metric) -> Result<(&'a Metric, Levels), String> {
    if rule.action != RuleAction::Rollback {
        return Err("it does not roll back".into());
    }
    if rule.by.is_some() {
        return Err("it looks at every tenant, tier or region by itself".into());
    }
    let Shape::Simple { slot, side, threshold } = rule.condition.shape else {
        return Err("it is more than one comparison".into());
    };
    let stat = rule.condition.slots[slot].stat;
    let whole = matches!(stat, Stat::Mean | Stat::Rate | Stat::Min | Stat::Max) || stat.quantile().is_some();
    if !whole {
        return Err("it asks for neither a mean, a rate nor a quantile".into());
    }
    let metric = metric(slot);
    let (treatment, control) = match threshold {
        Threshold::Const(limit) => beyond(metric, side, limit)?,
        Threshold::Baseline { factor, .. } => apart(metric, side, factor),
    };
    let level = if metric.kind == Kind::Boolean { Level::Share } else { Level::Number };
    Ok((metric, Levels { treatment: level(treatment), control: level(control) }))
}

/// A value beyond a limit, and one on its good side.
fn beyond(metric: &Metric, side: Side, limit: f64) -> Result<(f64, f64), String> {
    let top = if metric.kind == Kind::Value { 2.0 * limit.max(metric.resolution) } else { 1.0 };
    let (low, high) = (limit / 2.0, f64::midpoint(limit, top));
    let possible = match side {
        Side::Below => limit > 0.0,
        Side::Above => metric.kind == Kind::Value || limit < 1.0,
    };
    match (possible, side) {
        (false, _) => Err(format!("no `{}` is beyond {limit}", metric.name)),
        (true, Side::Below) => Ok((low, high)),
        (true, Side::Above) => Ok((high, low)),
    }
}

/// Two values of which the first is beyond `factor` times the second.
fn apart(metric: &Metric, side: Side, factor: f64) -> (f64, f64) {
    let (most, fair) = match metric.kind {
        Kind::Value => (metric.max, metric.max / (4.0 * factor.max(1.0))),
        Kind::Score | Kind::Boolean => (1.0, FAIR),
    };
    match (side, metric.kind) {
        (Side::Above, Kind::Value) => ((2.0 * factor * fair).min(most), fair),
        (Side::Above, Kind::Score | Kind::Boolean) => (fair, (fair / (2.0 * factor)).min(most)),
        (Side::Below, _) => ((factor * fair / 2.0).min(most), fair),
    }
}

impl Level {
    /// What the `n`th event carries, counted from 0.
    fn value(self, n: u64) -> Value {
        match self {
            Self::Number(value) => json!(value),
            // True as often as the share says, evenly.
            Self::Share(share) => json!(((n + 1) as f64 * share).floor() > (n as f64 * share).floor()),
        }
    }
}

/// Remembers the first event that the broker refused.
#[derive(Clone, Default)]
struct Refusals(Arc<OnceLock<String>>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.get_or_init(|| error.to_string());
        }
    }
}

/// Writes events as their time comes.
pub struct Writer<'a> {
    plan: &'a Plan,
    clock: Clock,
    begun: Timestamp,
    name: String,
    sent: u64,
    producer: ThreadedProducer<Refusals>,
    refusals: Refusals,
}

impl<'a> Writer<'a> {
    /// Opens the topic with the daemon's own settings and writes the first events. `now` is the daemon's time.
    pub fn open(plan: &'a Plan, now: Timestamp) -> Result<Self, Trouble> {
        let no_producer = |why: String| Trouble::new(format!("no producer: {why}"));
        let kafka =
            wiring::ingest(&plan.config, now).producer().map_err(|error| no_producer(error.to_string()))?;
        let refusals = Refusals::default();
        let producer = ThreadedProducer::from_config_and_context(&kafka, refusals.clone())
            // librdkafka's own words repeat a setting's value, which may be a password.
            .map_err(|_| no_producer("librdkafka does not accept `kafka.properties`".into()))?;
        let name = format!("rearguard-drill-{}-{}", now.as_millis(), std::process::id());
        let clock = Clock::scaled(now, plan.config.clock.rate);
        let mut writer = Self { plan, clock, begun: now, name, sent: 0, producer, refusals };
        writer.send(0, now)?;
        writer.producer.flush(DELIVER).map_err(|error| writer.refused(&error.to_string()))?;
        writer.check()?;
        Ok(writer)
    }

    /// When the first event was made.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// A span of the daemon's time as this machine waits it out.
    pub fn real_span(&self, span: Duration) -> Duration {
        self.clock.real_span(span)
    }

    /// How long this machine waits for the decision.
    pub fn patience(&self) -> Duration {
        self.real_span(FILLING + Duration::from_secs_f64(self.plan.sum.seconds))
    }

    /// The rule that has to decide.
    pub fn rule(&self) -> &Rule {
        &self.plan.rule
    }

    /// Writes what is due.
    pub fn write(&mut self) -> Result<(), Trouble> {
        let now = self.clock.now();
        loop {
            let after = self.sent * MINUTE_MS.unsigned_abs() / self.plan.per_minute;
            let at = self.begun + Duration::from_millis(after);
            if at > now {
                return self.check();
            }
            self.send(self.sent, at)?;
        }
    }

    /// One event of each arm.
    fn send(&mut self, n: u64, at: Timestamp) -> Result<(), Trouble> {
        let Plan { rule, control, levels, .. } = self.plan;
        for (arm, variant, level) in [("t", &rule.variant, levels.treatment), ("c", control, levels.control)]
        {
            let event = json!({
                "id": format!("{}-{arm}-{n}", self.name),
                "ts": at.to_string(),
                "variant": variant,
                "tenant": "rearguard-drill",
                "metrics": { self.plan.metric.as_str(): level.value(n) },
            });
            let payload = event.to_string();
            let record = BaseRecord::<str, str>::to(self.plan.topic()).key(&self.name).payload(&payload);
            self.producer.send(record).map_err(|(error, _)| self.refused(&error.to_string()))?;
        }
        self.sent = n + 1;
        Ok(())
    }

    fn check(&self) -> Result<(), Trouble> {
        self.refusals.0.get().map_or(Ok(()), |why| Err(self.refused(why)))
    }

    fn refused(&self, why: &str) -> Trouble {
        Trouble::new(format!("topic `{}` cannot be written: {why}", self.plan.topic()))
            .hint("may this client write it? The drill uses the daemon's `kafka:` settings; `--from decision` writes no event")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::compile::compile_rules;
    use crate::model::metric::{Catalogue, Direction};

    fn metric(kind: Kind) -> Metric {
        Metric {
            name: "m".into(),
            kind,
            unit: String::new(),
            resolution: 1e-3,
            max: 1e4,
            direction: Direction::LowerIsBetter,
            failure_class: "x".into(),
        }
    }

    fn breaches(side: Side, value: f64, limit: f64) -> bool {
        if side == Side::Below { value < limit } else { value > limit }
    }

    #[test]
    fn the_treatment_breaches_and_the_control_does_not_whatever_the_limit() {
        for kind in [Kind::Score, Kind::Boolean, Kind::Value] {
            let metric = metric(kind);
            let most = if kind == Kind::Value { metric.max } else { 1.0 };
            for side in [Side::Below, Side::Above] {
                for limit in [1e-3, 0.02, 0.5, 0.92, 0.999] {
                    let (bad, good) = beyond(&metric, side, limit).unwrap();
                    assert!(
                        breaches(side, bad, limit) && !breaches(side, good, limit),
                        "{kind:?} {side:?} {limit}"
                    );
                    assert!((0.0..=most).contains(&bad) && (0.0..=most).contains(&good));
                }
                for factor in [0.5, 0.9, 1.0, 1.2, 5.0] {
                    let (bad, good) = apart(&metric, side, factor);
                    assert!(breaches(side, bad, factor * good), "{kind:?} {side:?} {factor}: {bad} {good}");
                    assert!((0.0..=most).contains(&bad) && (0.0..=most).contains(&good));
                }
            }
        }
        assert!(beyond(&metric(Kind::Score), Side::Above, 1.0).is_err());
        assert!(beyond(&metric(Kind::Value), Side::Below, 0.0).is_err());
        let (bad, good) = beyond(&metric(Kind::Value), Side::Above, 0.0).unwrap();
        assert!(bad > 0.0 && good == 0.0);
    }

    #[test]
    fn a_rule_that_events_cannot_be_made_for_says_why() {
        let rule = |lines: &str| {
            let text = format!("- variant: drill.v2\n  baseline: drill.v1\n  rules:\n    - {lines}\n");
            let compiled = compile_rules(&[("r.yaml", text)], &Catalogue::default(), &[]).unwrap();
            Arc::clone(&compiled.rules.rules[0])
        };
        let catalogue = Catalogue::default();
        let levels = |lines: &str| {
            let rule = rule(lines);
            levels_of(&rule, |slot| catalogue.get(rule.condition.slots[slot].metric))
                .map(|(metric, _)| metric.name.clone())
        };
        for (lines, metric) in [
            ("{ condition: faithfulness_5m < 0.8, action: rollback }", "faithfulness"),
            ("{ condition: abstain_rate_5m > 0.3, action: rollback }", "abstain"),
            ("{ condition: latency_p95_5m > 1.5 * baseline, action: rollback }", "latency"),
        ] {
            assert_eq!(levels(lines).as_deref(), Ok(metric), "{lines}");
        }
        for (lines, why) in [
            ("{ condition: faithfulness_5m < 0.8, action: pause_rollout }", "does not roll back"),
            ("{ condition: faithfulness_5m < 0.8, action: rollback, by: tenant }", "every tenant"),
            (
                "{ condition: faithfulness_5m < 0.8 && cost_5m > 1, action: rollback }",
                "more than one comparison",
            ),
            ("{ condition: cost_sum_5m > 10, action: rollback }", "neither a mean"),
        ] {
            let refused = levels(lines).unwrap_err();
            assert!(refused.contains(why), "{lines}: {refused}");
        }
    }

    #[test]
    fn a_share_is_kept_evenly() {
        for share in [0.0, 0.05, 0.5, 0.9, 1.0] {
            let trues = (0..1_000).filter(|n| Level::Share(share).value(*n) == json!(true)).count();
            assert!((trues as f64 - 1_000.0 * share).abs() <= 1.0, "{share}: {trues}");
        }
    }
}
