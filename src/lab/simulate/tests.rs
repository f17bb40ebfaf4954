//! Laws of simulation: the same seed gives the same story, the bound of evidence holds where it is promised and fails where it is
//! not.

use std::time::Duration;

use super::draw::Shape;
use super::world::Measured;
use super::*;
use crate::engine::input::Limits;
use crate::engine::rule::Confirm;
use crate::engine::rule::compile::compile_rules;
use crate::model::metric::Catalogue;
use crate::stats::exact;

const QUALITY: &str = "- variant: chat.v2\n  rules: [{ condition: faithfulness_5m < 0.92, action: rollback, min_samples: 10 }]\n";
const AGAINST: &str =
    "- variant: chat.v2\n  rules: [{ condition: faithfulness_1h < baseline*0.95, action: rollback }]\n";
const EVIDENCE: [Judge; 1] = [Judge::Mode(Confirm::Evidence)];

/// One rule on faithfulness at `level`, scores 0 or 1, 20 events a minute; the fleet may roll back falsely once in `every`.
fn plan(rules: &str, level: f64, every: Duration, judges: &[Judge], change: impl FnOnce(&mut World)) -> Plan {
    let catalogue = Arc::new(Catalogue::default());
    let compiled = compile_rules(&[("r.yaml", rules)], &catalogue, &[]).unwrap();
    let setup = Setup::new(compiled.rules, &[], &["chat.v1".into()], None);
    let limits = Limits { false_rollback_every: every, ..Limits::default() };
    let id = catalogue.find("faithfulness").unwrap();
    let metric = Measured::new(id, catalogue.get(id), Shape::Share, level);
    let mut world = World { events: 20.0, baseline_events: 20.0, metrics: vec![metric], ..World::default() };
    change(&mut world);
    let bench = Bench { catalogue, limits, lateness: Duration::from_secs(30) };
    Plan::new(&setup, &bench, world, judges.to_vec(), 1, 20_261_124)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn threads_do_not_change_the_story() {
    let judges = [Judge::Mode(Confirm::Either), Judge::Mode(Confirm::Significant), Judge::Plain, Judge::Held];
    let plan = plan(QUALITY, 0.93, minutes(5_000), &judges, |world| {
        (world.noise, world.shocks, world.accidents, world.gaps, world.late) = (0.02, 0.01, 20.0, 10.0, 0.2);
        world.gap_minutes = 7;
        world.metrics[0].regressed = Some(0.7);
    });
    let told = |threads| {
        let outcome = plan.run(Size { runs: 3, days: 0.1, horizon: 30, threads }, &|| {});
        format!("{:?}", outcome.judges)
    };
    assert_eq!(told(1), told(3));
    let runs: Vec<u64> = parallel(100, 7, |n| n * n);
    assert!(runs.iter().zip(0..).all(|(square, n)| *square == n * n));
}

#[test]
fn worlds_that_differ_in_one_thing_differ_by_that() {
    let plan = plan(AGAINST, 0.95, minutes(5_000), &[], |world| world.metrics[0].baseline = Some(0.95));
    let minutes = |world: &World, regresses: bool| {
        let warm = plan.begin(5);
        let mut stream = warm.stream;
        if regresses {
            stream.regress(Arc::new(world.clone()));
        }
        (0..20).map(|_| stream.step().1).collect::<Vec<_>>()
    };
    let mut worse = World::clone(&plan.world);
    worse.metrics[0].regressed = Some(0.5);
    let (healthy, regressed) = (minutes(&plan.world, false), minutes(&worse, true));
    for (a, b) in healthy.iter().zip(&regressed) {
        assert_eq!((a.len(), b.len()), (2, 2), "both arms in every minute");
        assert_eq!(a[0].events, b[0].events, "the traffic is the same");
    }
    assert!(healthy.iter().zip(&regressed).any(|(a, b)| a[0] != b[0]));
    assert_eq!(healthy, minutes(&plan.world, true), "a regression by nothing is none");
}

#[test]
fn late_parts_gaps_and_accidents_come_as_often_as_asked() {
    let none = plan(QUALITY, 0.95, minutes(5_000), &[], |world| {
        (world.late, world.late_minutes, world.gaps, world.gap_minutes) = (0.25, 3, 24.0, 10);
        (world.accidents, world.accident_traffic) = (24.0, 5.0);
    });
    let mut stream = none.begin(0).stream;
    let (mut events, mut late, mut silent, mut loud) = (0, 0, 0, 0);
    let days = 10;
    for _ in 0..days * 1_440 {
        let (now, panes) = stream.step();
        silent += u64::from(panes.iter().all(|pane| pane.minute != now));
        loud += u64::from(panes.iter().any(|pane| pane.minute == now && pane.events > 40));
        for pane in panes {
            events += pane.events;
            if pane.minute != now {
                assert_eq!(pane.minute, now.plus(-3));
                late += pane.events;
            }
        }
    }
    let share = late as f64 / events as f64;
    assert!((share - 0.25).abs() < 0.01, "{share} late");
    // A gap of ten minutes begins in an hour that is not one; an accident in the gap does not show.
    let silence = silent as f64 / f64::from(days) / 1_440.0;
    assert!((silence - 1.0 / 7.0).abs() < 0.03, "{silence} silent");
    let loudness = loud as f64 / f64::from(days);
    assert!((loudness - 24.0 * 6.0 / 7.0).abs() < 5.0, "{loudness} accidents a day");
}

/// P(false rollback within n minutes) ≤ n/c at the very edge of health, and not by being blind: a regression is found.
#[test]
fn the_bound_of_evidence_holds_at_the_edge_of_health() {
    let (n, c, runs) = (150, 300, 60);
    let edge = plan(QUALITY, 0.92, minutes(c), &EVIDENCE, |_| {});
    assert_eq!(edge.needed(), c as f64);
    let days = n as f64 / 1_440.0;
    let alarmed = parallel(runs, 1, |run| edge.healthy(run, days)[0].rollbacks > 0);
    let alarmed = alarmed.into_iter().filter(|alarmed| *alarmed).count() as u64;
    let (low, _) = exact::share(alarmed, runs, 0.999);
    assert!(low <= n as f64 / c as f64, "{alarmed} of {runs} within {n} minutes, c = {c}");
    let worse = plan(QUALITY, 0.92, minutes(c), &EVIDENCE, |world| world.metrics[0].regressed = Some(0.6));
    for run in 0..5 {
        let times = worse.warm(run).shifted(&worse.world, 10);
        assert!(times[0][0].is_some(), "a drop by 32 points is found within ten minutes");
    }
}

/// Long shocks push the expectation below the threshold for hours: the promise says nothing then, and is not kept.
#[test]
fn the_bound_of_evidence_fails_under_long_shocks() {
    let (n, c, runs) = (300, 3_000, 20);
    let shaken = plan(QUALITY, 0.93, minutes(c), &EVIDENCE, |world| {
        (world.events, world.shocks, world.shocks_last) = (500.0, 0.03, 0.95);
    });
    let alarmed = parallel(runs, 1, |run| shaken.healthy(run, n as f64 / 1_440.0)[0].rollbacks > 0);
    let alarmed = alarmed.into_iter().filter(|alarmed| *alarmed).count() as u64;
    let (low, _) = exact::share(alarmed, runs, 0.999);
    assert!(low > n as f64 / c as f64, "{alarmed} of {runs} within {n} minutes, c = {c}");
}

/// The literal rule acts at the first closing at which it is true, the same with `for: 5m` five minutes later at the earliest; the
/// engine's persistence never before the plain rule.
#[test]
fn plain_rules_are_what_they_say() {
    let judges = [Judge::Plain, Judge::Held, Judge::Mode(Confirm::Persistence)];
    let plan = plan(QUALITY, 0.99, minutes(500_000), &judges, |world| {
        world.events = 200.0;
        world.metrics[0].regressed = Some(0.5);
    });
    for run in 0..3 {
        let times = plan.warm(run).shifted(&plan.world, 60);
        let at = |judge: usize| times[judge][0].unwrap();
        assert_eq!(
            (at(0), at(1)),
            (1, 6),
            "half of all answers are bad in the first minute, one fifth of the window"
        );
        assert!((4..=8).contains(&at(2)), "{}", at(2));
    }
}
