//! Laws of the rig: it says what the daemon would say, however the messages come in.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::journal::{Doubt, Journal, Point, What};
use super::rig::{Rig, Step};
use super::setup::{Bench, Setup};
use crate::engine::input::{Input, Limits, Settings, Source};
use crate::engine::machine::Engine;
use crate::engine::output::{Decision, Gate, Order, Output, Phase, Transition, Verdicts};
use crate::engine::rule::compile::{compile_rules, schema_for};
use crate::ingest::names::Names;
use crate::ingest::partition::{Limits as Recording, Partition};
use crate::model::metric::Catalogue;
use crate::model::time::{Minute, Timestamp};

/// 2026-01-30T10:40:00Z.
const START: i64 = 1_769_769_600_000;

const LOW: &str = "
- variant: shop.v2
  baseline: shop.v1
  rules:
    - { condition: faithfulness_5m < 0.7, action: rollback, for: 2m, min_samples: 5, confirm: persistence }
    - { condition: faithfulness_1h < 0.8, action: pause_rollout, for: 1m, dwell: 3m, min_samples: 5, by: tenant, confirm: persistence }
";
const SLOW: &str = "
- variant: shop.v1
  rules: [{ condition: latency_p95_5m > 500, action: notify, for: 1m, dwell: 2m, min_samples: 5, confirm: persistence }]
";

fn bench() -> Bench {
    Bench {
        catalogue: Arc::new(Catalogue::default()),
        limits: Limits::default(),
        lateness: Duration::from_secs(30),
    }
}

fn setup(rules: &str) -> Setup {
    let compiled = compile_rules(&[("r.yaml", rules)], &Catalogue::default(), &[]).unwrap();
    Setup::new(compiled.rules, &[], &[], None)
}

/// Everything that was said, in order.
#[derive(Debug, Default, PartialEq)]
struct Said {
    transitions: Vec<Transition>,
    decisions: Vec<Decision>,
    orders: Vec<Order>,
    closed: Option<Minute>,
    verdicts: Verdicts,
}

impl Said {
    fn take(&mut self, output: Output) {
        self.transitions.extend(output.transitions);
        self.decisions.extend(output.decisions);
        self.orders.extend(output.orders);
        self.closed = output.closed.or(self.closed);
        self.verdicts.pass += output.verdicts.pass;
        self.verdicts.breach += output.verdicts.breach;
        self.verdicts.inconclusive += output.verdicts.inconclusive;
        self.verdicts.error += output.verdicts.error;
    }
}

/// Runs messages of one lane, each with its lane.
fn run(setups: &[&str], lanes: usize, messages: &[(usize, String)]) -> Vec<Said> {
    let mut said: Vec<Said> = setups.iter().map(|_| Said::default()).collect();
    let mut watch = |step: Step<'_>| said[step.set].take(step.output);
    let mut rig = Rig::new(setups.iter().map(|rules| setup(rules)).collect(), &bench(), lanes);
    let mut queues: Vec<_> =
        (0..lanes).map(|lane| messages.iter().filter(move |(of, _)| *of == lane)).collect();
    while let Some(lane) = rig.furthest_behind() {
        match queues[lane].next() {
            Some((_, message)) => drop(rig.record(lane, message.as_bytes(), &mut watch)),
            None => rig.end_lane(lane, &mut watch),
        }
    }
    rig.finish(&mut watch);
    assert_eq!(rig.fates().consumed, messages.len() as u64);
    assert!(rig.fates().balance());
    said
}

#[test]
fn the_streams_of_these_laws_decide_something() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut decided = 0;
    for _ in 0..40 {
        let stream = messages(&seeds().new_tree(&mut runner).unwrap().current(), false);
        decided += usize::from(!alone(LOW, &stream).decisions.is_empty());
    }
    assert!((5..=40).contains(&decided), "{decided} of 40");
}

fn alone(rules: &str, messages: &[String]) -> Said {
    let messages: Vec<_> = messages.iter().map(|message| (0, message.clone())).collect();
    run(&[rules], 1, &messages).remove(0)
}

/// The same messages as ingest hands them to the daemon's engine: deltas with watermarks, at the end an idle log.
fn as_the_daemon(rules: &str, messages: &[String], end: Timestamp) -> Said {
    let Setup { rules, flags } = setup(rules);
    let schema = Arc::new(schema_for(&rules, &flags, &bench().catalogue, None));
    let source = Source { topic: "events".into(), partition: 7 };
    let names = Arc::new(Names::new(Arc::clone(&schema)));
    let mut partition = Partition::new(source.clone(), 0, (3, 4), names, Recording::default());
    let mut engine = Engine::new(Settings {
        rules: Arc::new(rules),
        flags,
        schema,
        limits: Limits::default(),
        lateness: Duration::from_secs(30),
        dry_run: false,
    });
    engine.step(Input::Assign { sources: vec![source.clone()], start: None });
    let mut said = Said::default();
    for (offset, message) in (0..).zip(messages) {
        partition.record(message.as_bytes(), offset, Timestamp::from_millis(START + 86_400_000));
        if partition.is_due() {
            said.take(engine.step(Input::Delta(partition.take_delta().0)));
        }
    }
    said.take(engine.step(Input::Delta(partition.take_delta().0)));
    said.take(engine.step(Input::Idle { source, at: end }));
    said
}

#[derive(Clone, Debug)]
struct Seed {
    /// Milliseconds after the one before; may be negative.
    after: i64,
    treatment: bool,
    good: bool,
    tenant: u8,
    /// The same id as the one before.
    again: bool,
    junk: bool,
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    let seed = (
        prop_oneof![20 => 0i64..6_000, 2 => -50_000i64..0, 1 => 60_000i64..900_000],
        any::<bool>(),
        prop::bool::weighted(0.6),
        0u8..3,
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.03),
    )
        .prop_map(|(after, treatment, good, tenant, again, junk)| Seed {
            after,
            treatment,
            good,
            tenant,
            again,
            junk,
        });
    prop::collection::vec(seed, 1..500)
}

fn event(id: usize, at: i64, variant: &str, tenant: u8, faithfulness: f64, latency: u32) -> String {
    let ts = Timestamp::from_millis(at);
    format!(
        r#"{{"id":"{variant} {id}","ts":"{ts}","variant":"{variant}","tenant":"t{tenant}","metrics":{{"faithfulness":{faithfulness},"latency":{latency}}}}}"#
    )
}

/// `in_order`: no event is late and no id repeats, so that it does not matter who reads an event. Each variant begins with the
/// oldest event of all: judging begins with the first minute of a variant that a set of rules knows.
fn messages(seeds: &[Seed], in_order: bool) -> Vec<String> {
    let mut at = START;
    let first = START + seeds.first().map_or(0, |seed| seed.after.abs());
    let opening = ["shop.v1", "shop.v2"].map(|variant| event(usize::MAX, first, variant, 0, 0.95, 200));
    let later = (0..).zip(seeds).map(|(n, seed)| {
        at = (at + if in_order { seed.after.abs() } else { seed.after }).max(first);
        let id = if seed.again && n > 0 && !in_order { n - 1 } else { n };
        let variant = if seed.treatment { "shop.v2" } else { "shop.v1" };
        let (score, latency) = if seed.good { (0.95, 200) } else { (0.3, 900) };
        if seed.junk { "{".to_owned() } else { event(id, at, variant, seed.tenant, score, latency) }
    });
    opening.into_iter().chain(later).collect()
}

proptest! {
    #![proptest_config(crate::testing::cases(64))]

    #[test]
    fn the_rig_says_what_the_daemon_says(seeds in seeds()) {
        let messages = messages(&seeds, false);
        for rules in [LOW, SLOW] {
            let said = alone(rules, &messages);
            let end = said.closed.map_or(Timestamp::default(), |minute| minute.end() + bench().lateness);
            prop_assert_eq!(&said, &as_the_daemon(rules, &messages, end));
            prop_assert_eq!(&said, &alone(rules, &messages));
        }
    }

    #[test]
    fn silence_after_the_last_message_is_that_of_an_idle_log(seeds in seeds(), minutes in 0u64..90) {
        let messages = messages(&seeds, false);
        let mut said = Said::default();
        let mut watch = |step: Step<'_>| said.take(step.output);
        let mut rig = Rig::new(vec![setup(LOW)], &bench(), 1);
        for message in &messages {
            rig.record(0, message.as_bytes(), &mut watch);
        }
        rig.finish(&mut watch);
        let closed = rig.engines()[0].memory().core.closed;
        let end = closed.map_or(Timestamp::default(), Minute::end) + bench().lateness;
        let end = end + Duration::from_secs(minutes * 60);
        rig.idle_until(end, &mut watch);
        prop_assert_eq!(&said, &as_the_daemon(LOW, &messages, end));
    }

    #[test]
    fn sets_side_by_side_say_what_each_says_alone(seeds in seeds()) {
        let messages = messages(&seeds, false);
        let both: Vec<_> = messages.iter().map(|message| (0, message.clone())).collect();
        let both = run(&[LOW, SLOW], 1, &both);
        for (together, rules) in both.iter().zip([LOW, SLOW]) {
            let alone = alone(rules, &messages);
            // A set that runs alone may end a minute earlier: it does not know the variant of the last event.
            let end = alone.closed.min(together.closed).map(Minute::end);
            let early = |said: &Said| -> Vec<Decision> {
                said.decisions.iter().filter(|decision| Some(decision.at) <= end).cloned().collect()
            };
            prop_assert_eq!(early(together), early(&alone));
        }
    }

    #[test]
    fn lanes_are_read_in_step(seeds in seeds(), lanes in 1usize..4) {
        let messages = messages(&seeds, true);
        let dealt: Vec<_> = messages.iter().map(|m| (m.len().wrapping_mul(31) % lanes, m.clone())).collect();
        let spread = run(&[LOW], lanes, &dealt).remove(0);
        let together = alone(LOW, &messages);
        prop_assert_eq!(spread.decisions, together.decisions);
        prop_assert_eq!(spread.transitions, together.transitions);
    }
}

/// One event every two seconds from minute `from` to `to`.
fn steady(from: i64, to: i64, faithfulness: f64) -> Vec<String> {
    let every = (from * 30..to * 30).map(|n| (n, START + n * 2_000));
    every.map(|(n, at)| event(usize::try_from(n).unwrap(), at, "shop.v2", 0, faithfulness, 100)).collect()
}

#[test]
fn a_regression_is_rolled_back_once_and_the_journal_has_its_story() {
    let stream = [steady(0, 30, 0.95), steady(30, 50, 0.2)].concat();
    let mut journal = Journal::new(true);
    let mut told = 0;
    let mut rig = Rig::new(vec![setup(LOW)], &bench(), 1);
    for message in &stream {
        rig.record(0, message.as_bytes(), &mut |step| journal.observe(&step, &mut |_, _| told += 1));
    }
    rig.finish(&mut |step| journal.observe(&step, &mut |_, _| told += 1));
    journal.finish(Timestamp::from_millis(START + 50 * 60_000));

    let stories = journal.stories();
    let story = stories[0];
    let minute = |at: Timestamp| (at.as_millis() - START) / 60_000;
    let entries: Vec<_> = story
        .entries
        .iter()
        .map(|entry| match &entry.what {
            What::Moved { from, to, .. } => (minute(entry.at), *from, *to),
            What::Decided { gate, .. } => {
                assert_eq!(gate, &Gate::Act);
                (minute(entry.at), Phase::Latched, Phase::Latched)
            }
        })
        .collect();
    // Minutes 30 and 31 pull the mean of five below 0.7; three bad minutes are needed without the worst pair.
    let decided = entries[2].0;
    assert_eq!(entries[0], (decided - 2, Phase::Quiet, Phase::Pending));
    assert_eq!(entries[1], (decided, Phase::Pending, Phase::Latched));
    assert_eq!(entries.len(), 3, "{entries:?}");
    let decision = &story.entries[2];
    assert!(minute(decision.crossing.unwrap()) < minute(decision.t0.unwrap()), "{decision:?}");
    assert_eq!(minute(decision.t0.unwrap()), decided - 3);
    assert_eq!((decision.numbers.threshold, story.phase), (Some(0.7), Phase::Latched));
    assert_eq!(story.track.len(), 50);
    assert_eq!(told, stories.iter().map(|story| story.entries.len()).sum::<usize>());
    let deepest = story.closest.unwrap();
    assert!((deepest.value - 0.2).abs() < 1e-9, "{deepest:?}");
    assert_eq!(journal.decisions().len(), 2, "the tenant's pause and the rollback");
}

#[test]
fn plots_are_given_intervals_and_evidence() {
    let stream = [steady(0, 30, 0.95), steady(30, 50, 0.2)].concat();
    let run = |mut journal: Journal| {
        let mut rig = Rig::new(vec![setup(&LOW.replace(", confirm: persistence", ""))], &bench(), 1);
        for message in &stream {
            rig.record(0, message.as_bytes(), &mut |step| journal.observe(&step, &mut |_, _| {}));
        }
        journal.stories()[0].track.clone()
    };
    let (plain, plotted) = (run(Journal::new(true)), run(Journal::for_plots()));
    assert_eq!(plain.len(), plotted.len());
    for (plain, plotted) in plain.iter().zip(&plotted) {
        assert_eq!(plain.interval, None);
        let ((lower, upper), value) = (plotted.interval.unwrap(), plotted.value.unwrap());
        assert!(lower <= value && value <= upper, "{plotted:?}");
        assert_eq!(Point { interval: None, ..*plotted }, *plain);
    }
    let enough = plotted.iter().position(|point| point.evidence.is_some_and(|(d, c)| d >= c)).unwrap();
    assert!((30..40).contains(&enough), "{enough}");
}

#[test]
fn silence_runs_in_event_time_and_the_end_closes_no_minute_without_events() {
    let hours = 40;
    let stream = [steady(0, 20, 0.95), steady(hours * 60, hours * 60 + 10, 0.95)].concat();
    let mut journal = Journal::new(false);
    let mut last = None;
    let mut rig = Rig::new(vec![setup(LOW)], &bench(), 1);
    let mut watch = |step: Step<'_>| {
        last = Some(step.closed);
        journal.observe(&step, &mut |_, _| {});
    };
    for message in &stream {
        rig.record(0, message.as_bytes(), &mut watch);
    }
    rig.finish(&mut watch);
    let minutes = hours * 60 + 10;
    assert_eq!(last.unwrap().end(), Timestamp::from_millis(START + minutes * 60_000));
    let stories = journal.stories();
    let silent = stories[0].longest_silence.unwrap();
    assert_eq!(silent.to.since(silent.from).as_secs() / 60, (hours * 60 - 20 - 4).unsigned_abs());
    assert_eq!(stories[0].doubts[&Doubt::NoData], (hours * 60 - 24).unsigned_abs());
    assert!(stories.iter().all(|story| story.entries.is_empty()));
}

#[test]
fn wrong_clocks_carry_nothing_away() {
    let mut stream = steady(0, 3, 0.95);
    for (n, ahead) in [(1, 5 * 366), (2, 5 * 366), (3, 300)] {
        stream.push(event(1_000_000 + n, START + ahead * 86_400_000, "shop.v2", 0, 0.9, 1));
    }
    let mut rig = Rig::new(vec![setup(LOW)], &bench(), 1);
    let mut last = None;
    let mut watch = |step: Step<'_>| last = Some(step.closed);
    for message in &stream {
        rig.record(0, message.as_bytes(), &mut watch);
    }
    rig.finish(&mut watch);
    assert_eq!(rig.fates().refused, 2);
    let beyond = last.unwrap().start().since(Timestamp::from_millis(START));
    assert!(beyond <= Duration::from_secs(363 * 60), "{beyond:?}");
}
