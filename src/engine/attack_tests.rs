//! The campaign of one-bad-minute attacks: sixty seconds of a stream are rewritten, and nothing is decided that the stream
//! without them does not bear out.
//!
//! What bears a decision out is asked of raw events, by counting (`stream::Tape`): with the two minutes that hold the attack
//! erased, the condition must have held, on enough samples, for as long as `for` asks; for a decision on evidence the
//! detector, run over the stream with both minutes emptied, must have had enough of it. Beside the engine three
//! weaker judges see the same attacks, so that the table says what the rule of pairs is good for. `REARGUARD_ATTACKS` asks for more.

mod stream;

use std::time::Duration;

use super::input::{Delta, Input, Settings};
use super::machine::Engine;
use super::rule::compile::compile_rules;
use super::rule::{Confirm, ConfirmedBy, Rule};
use super::testkit::{CONTROL, Ev, Lcg, TREATMENT, at, delta, engine, settings};
use crate::model::metric::Catalogue;
use stream::{Attack, Claim, Lie, Sample, Tape, stream};

/// Closings after the first at which a breach must have held: the default `for`.
const HOLD: u32 = 3;

/// One rule, one stream just short of its breach, and sixty seconds of it.
struct Place {
    claim: Claim,
    lie: Lie,
    rule: Rule,
    /// Evidence that is enough.
    needed: u64,
    /// Where the attack begins, in milliseconds.
    start: i64,
    stream: Vec<Vec<Sample>>,
    /// The stream as the engine reads it, minute by minute.
    deltas: Vec<Delta>,
}

impl Place {
    /// Everything about it follows from its number.
    fn new(number: usize) -> Self {
        let mut random = Lcg((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        random.next();
        // The six hours cost most.
        let (window, name) =
            random.pick(&[(5, "5m"), (5, "5m"), (60, "1h"), (60, "1h"), (60, "1h"), (360, "6h")]);
        let lie = Lie {
            window,
            per_minute: random.pick(&[12, 40]),
            margin: random.pick(&[0.02, 0.1, 0.3]),
            dip: if window > 5 { random.pick(&[0, 1, 2]) } else { 0 },
            random: random.next() < 0.3,
            breaks: random.next() < 0.15,
            seed: (random.next() * 1e15) as u64,
        };
        let sum = (lie.window * lie.per_minute) as f64 * 0.4;
        let claim = random.pick(&[
            Claim::MeanBelow(0.9),
            Claim::RateAbove(0.2),
            Claim::P95Above(1_000.0),
            Claim::SumAbove(sum),
            Claim::MeanUnderBaseline(0.95),
            Claim::RateOverBaseline(3.0),
            Claim::P95OverBaseline(1.5),
        ]);
        let confirm = if claim.gives_evidence() {
            random.pick(&Confirm::ALL)
        } else {
            random.pick(&[Confirm::Either, Confirm::Significant, Confirm::Persistence])
        };
        let action = random.pick(&["rollback", "pause_rollout"]);
        let least = if window == 5 { 20 } else { 100 };
        let rule = compiled(&claim.condition(name), action, confirm, least);
        // Half of the windows are full by then. Half of the attacks are whole minutes by the clock.
        let pair = window / 2 + (random.next() * (window as f64 + 10.0)) as i64 + 3;
        let inside = if random.next() < 0.5 { 0 } else { (random.next() * 60_000.0) as i64 };
        let stream = stream(claim, lie, pair + window.max(60) + 8, pair);
        let settings = settings(vec![rule.clone()]);
        let deltas =
            (0..).zip(&stream).map(|(minute, samples)| folded(&settings, claim, minute, samples)).collect();
        let needed = random.pick(&[20, 2_000, 525_600]);
        Self { claim, lie, rule, needed, start: pair * 60_000 + inside, stream, deltas }
    }

    /// The first of the two minutes that hold the attack.
    fn pair(&self) -> i64 {
        self.start.div_euclid(60_000)
    }

    fn tape(&self, stream: &[Vec<Sample>]) -> Tape {
        Tape::of(self.claim, self.lie.window, stream)
    }

    /// An engine that has seen everything before the attack; `None` if it has decided something by then.
    fn eve(&self) -> Option<Engine> {
        let mut engine = engine(vec![self.rule.clone()]);
        engine.settings.limits.false_rollback_every = Duration::from_secs(self.needed * 60);
        let course = self.follow(&mut engine, &self.stream, 0..self.pair());
        course.decided.is_empty().then_some(engine)
    }

    /// The rest of a stream, from the attack on.
    fn rest(&self, eve: &Engine, stream: &[Vec<Sample>]) -> Course {
        self.follow(&mut eve.clone(), stream, self.pair()..stream.len() as i64)
    }

    fn follow(&self, engine: &mut Engine, stream: &[Vec<Sample>], minutes: std::ops::Range<i64>) -> Course {
        let mut course = Course::default();
        for minute in minutes {
            let changed = (self.pair()..self.pair() + 2).contains(&minute);
            let delta = if changed {
                folded(engine.settings(), self.claim, minute, &stream[minute as usize])
            } else {
                self.deltas[minute as usize].clone()
            };
            let output = engine.step(Input::Delta(delta));
            course
                .decided
                .extend(output.decisions.iter().map(|d| Decided { closed: minute, by: d.confirmed_by }));
            let judgement = engine.last.values().next().expect("a minute has closed");
            course.literal.push(judgement.literal);
            course.evidence.push(judgement.proof.as_ref().map_or(0.0, |proof| proof.evidence));
        }
        course
    }
}

/// One minute as ingest hands it over, ending when the minute closes.
fn folded(settings: &Settings, claim: Claim, minute: i64, samples: &[Sample]) -> Delta {
    let events: Vec<Ev> = samples.iter().map(|sample| sample.event(claim)).collect();
    let delta = delta(settings, 0, minute, at((minute + 1) * 60_000 + 30_000), &events);
    Delta { to: minute + 1, ..delta }
}

fn compiled(condition: &str, action: &str, confirm: Confirm, least: u64) -> Rule {
    let text = format!(
        "- variant: {TREATMENT}\n  baseline: {CONTROL}\n  rules:\n    - condition: {condition}\n      action: {action}\n      \
         confirm: {}\n      min_samples: {least}\n",
        confirm.as_str()
    );
    let compiled = compile_rules(&[("attacked.yaml", &text)], &Catalogue::default(), &[]).unwrap();
    Rule::clone(&compiled.rules.rules[0])
}

/// One decision.
#[derive(Clone, Copy)]
struct Decided {
    closed: i64,
    by: Option<ConfirmedBy>,
}

/// What the engine said from one minute on.
#[derive(Default)]
struct Course {
    decided: Vec<Decided>,
    /// Per closing, what the condition says literally.
    literal: Vec<Option<bool>>,
    /// Per closing, D.
    evidence: Vec<f64>,
}

/// At which closings a verdict has held for `for`; an unknown neither counts nor resets.
fn held(verdicts: impl Iterator<Item = Option<bool>>) -> Vec<bool> {
    let mut held = None;
    verdicts
        .map(|verdict| {
            held = match verdict {
                Some(true) => Some(held.map_or(0, |closings: u32| closings + 1)),
                Some(false) => None,
                None => held,
            };
            held.is_some_and(|closings| closings >= HOLD)
        })
        .collect()
}

/// The stream without the two minutes.
struct Erased<'a> {
    place: &'a Place,
    tape: Tape,
    /// At which closings the condition has held for `for` by counting.
    bears_out: Vec<bool>,
    course: Course,
}

impl<'a> Erased<'a> {
    fn new(place: &'a Place, eve: &Engine) -> Self {
        let tape = place.tape(&place.stream);
        let gone = place.pair()..place.pair() + 2;
        let least = place.rule.min_samples;
        let closings = 0..place.stream.len() as i64;
        let bears_out = held(closings.map(|closed| tape.whole(closed, gone.clone(), least)));
        let mut emptied = place.stream.clone();
        gone.for_each(|minute| emptied[minute as usize].clear());
        Self { place, tape, bears_out, course: place.rest(eve, &emptied) }
    }

    /// Whether the stream without the two minutes has what every decision of a course rests on.
    fn has_all(&self, decided: &[Decided]) -> bool {
        decided.iter().all(|now| match now.by {
            Some(ConfirmedBy::Persistence) => self.bears_out[now.closed as usize],
            Some(ConfirmedBy::Evidence) => {
                let earlier = self.course.decided.iter().any(|own| own.closed <= now.closed);
                earlier || (self.proves(now.closed) && self.is_recent(now.closed))
            }
            None => false,
        })
    }

    /// D without the two minutes is enough. Its sums are added in another order, hence the last digits.
    fn proves(&self, closed: i64) -> bool {
        self.course.evidence[(closed - self.place.pair()) as usize] >= self.place.needed as f64 * 0.999
    }

    fn is_recent(&self, closed: i64) -> bool {
        let gone = self.place.pair()..self.place.pair() + 2;
        let last = i64::from(self.place.rule.condition.window().recent().0);
        self.tape.holds(closed, last, gone.clone(), 1) == Some(true)
            && self.tape.whole(closed, gone, 10).is_some()
    }
}

/// How many attacks made a judge decide what, or before, the stream without the two minutes bears it out.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: usize,
    /// The condition over the window, held for `for`.
    plain: usize,
    /// The same without every single minute.
    single: usize,
    /// Enough evidence and the recent part in breach, nothing left out.
    bare: usize,
    rearguard: usize,
    /// A decision of the untouched stream that the attack kept from being taken.
    hid: usize,
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.tried += more.tried;
        self.plain += more.plain;
        self.single += more.single;
        self.bare += more.bare;
        self.rearguard += more.rearguard;
        self.hid += more.hid;
    }
}

/// One attack, and who falls for it. Panics where the engine and the count of raw events disagree on the condition itself.
fn attack(attack: Attack, place: &Place, eve: &Engine, erased: &Erased<'_>, untouched: &Course) -> Tally {
    let attacked = attack.on(&place.stream, place.start, place.lie.per_minute);
    let course = place.rest(eve, &attacked);
    let tape = place.tape(&attacked);
    let (first, all) = (place.pair(), attacked.len() as i64);
    for (closed, literal) in (first..).zip(&course.literal) {
        let counted = tape.whole(closed, 0..0, 1);
        assert_eq!(*literal, counted, "{attack:?} on {} at {closed}", place.rule.condition.source);
    }
    let least = place.rule.min_samples;
    let window = place.lie.window;
    // Asked at closings where somebody could fall for it: before the attack all judges see the same.
    let without_each = |closed: i64| {
        let whole = tape.whole(closed, 0..0, least);
        if whole != Some(true) || closed < first {
            return whole;
        }
        let attacked_first = [first, first + 1].into_iter().chain(closed - window + 1..=closed);
        let mut each = attacked_first.map(|minute| tape.whole(closed, minute..minute + 1, least));
        Some(each.all(|without| without == Some(true)))
    };
    let wrongly = |confirmed: Vec<bool>| {
        (first..all).any(|closed| confirmed[closed as usize] && !erased.bears_out[closed as usize])
    };
    let last = i64::from(place.rule.condition.window().recent().0);
    let bare = place.rule.confirm.by_evidence()
        && (first..all).any(|closed| {
            course.evidence[(closed - first) as usize] >= place.needed as f64
                && tape.holds(closed, last, 0..0, 1) == Some(true)
                && !erased.proves(closed)
        });
    Tally {
        tried: 1,
        plain: usize::from(wrongly(held((0..all).map(|closed| tape.whole(closed, 0..0, least))))),
        single: usize::from(wrongly(held((0..all).map(without_each)))),
        bare: usize::from(bare),
        rearguard: usize::from(!erased.has_all(&course.decided)),
        hid: usize::from(course.decided.is_empty() && !untouched.decided.is_empty()),
    }
}

#[test]
fn no_bad_minute_changes_an_outcome() {
    let asked = crate::testing::attacks(135);
    let mut tallies = [Tally::default(); Attack::ALL.len()];
    let mut fell = Vec::new();
    let mut tried = 0;
    for number in 0.. {
        if tried >= asked {
            break;
        }
        let place = Place::new(number);
        let Some(eve) = place.eve() else { continue };
        let erased = Erased::new(&place, &eve);
        let untouched = place.rest(&eve, &place.stream);
        for (kind, tally) in Attack::ALL.into_iter().zip(&mut tallies) {
            let one = attack(kind, &place, &eve, &erased, &untouched);
            if one.rearguard > 0 {
                fell.push(format!(
                    "place {number}: {kind:?} at minute {} of {:?}, {:?}, {:?}",
                    place.start / 60_000,
                    place.rule.condition.source,
                    place.rule.confirm,
                    place.lie
                ));
            }
            tally.add(one);
            tried += 1;
        }
    }
    table(&tallies);
    assert!(fell.is_empty(), "{} attacks changed an outcome:\n{}", fell.len(), fell.join("\n"));
    // The streams are worth attacking: weaker judges fall for it.
    let mut all = Tally::default();
    tallies.iter().for_each(|tally| all.add(*tally));
    assert!(all.plain * 10 > tried && all.single * 50 > tried && all.bare * 50 > tried, "{all:?}");
}

#[expect(clippy::disallowed_macros, reason = "the table is for whoever runs the campaign")]
fn table(tallies: &[Tally]) {
    let mut all = Tally::default();
    println!(
        "{:30}{:>9}{:>14}{:>20}{:>15}{:>11}{:>7}",
        "attack", "tried", "window + for", "without each minute", "bare evidence", "Rearguard", "hid"
    );
    let row = |words: &str, t: Tally| {
        println!(
            "{words:30}{:>9}{:>14}{:>20}{:>15}{:>11}{:>7}",
            t.tried, t.plain, t.single, t.bare, t.rearguard, t.hid
        );
    };
    for (kind, tally) in Attack::ALL.into_iter().zip(tallies) {
        row(kind.words(), *tally);
        all.add(*tally);
    }
    row("all", all);
}
