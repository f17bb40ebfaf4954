use super::*;
use crate::dispatch::client::{AllowList, AllowedHost};
use crate::model::time::{MINUTE_MS, Minute};

const START: i64 = 1_763_856_000_000;

/// Milliseconds after a whole minute.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn minute(n: i64) -> Minute {
    at(n * MINUTE_MS).minute()
}

fn seen(closed: i64, newest: Option<i64>, passed: bool) -> CanaryReport {
    let verdict = if passed { "pass" } else { "breach" }.to_owned();
    CanaryReport { closed: minute(closed), passed, verdict, newest: newest.map(minute) }
}

fn written(rounds: &[i64]) -> Written {
    let mut written = Written::default();
    for round in rounds {
        written.note(Ok(at(*round)));
    }
    written
}

#[test]
fn the_newest_round_is_proven_whose_minute_is_judged() {
    let two = written(&[10_000, 70_000]);
    for (report, proven) in [
        (seen(1, Some(1), true), Some(70_000)),
        (seen(9, Some(1), true), Some(70_000)),
        (seen(0, Some(0), true), Some(10_000)),
        // Seen, and not judged yet.
        (seen(0, Some(1), true), Some(10_000)),
        // Only the older one came back.
        (seen(1, Some(0), true), Some(10_000)),
        // What an earlier process wrote proves nothing for this one.
        (seen(-1, Some(-1), true), None),
        (seen(1, None, true), None),
        (seen(1, Some(1), false), None),
    ] {
        assert_eq!(two.proven(&report), proven.map(at), "{report:?}");
    }
    // The clock was ahead, and was set back: the round that was written last counts.
    let corrected = written(&[10_000, 600_000, 70_000]);
    assert_eq!(corrected.proven(&seen(20, Some(20), true)), Some(at(70_000)));
}

#[test]
fn rounds_are_forgotten_and_a_failure_ends_with_the_next_one_that_is_written() {
    let mut many = written(&(0..1_000).collect::<Vec<_>>());
    assert_eq!((many.rounds.len(), many.rounds.front()), (ROUNDS, Some(&at(1_000 - 64))));
    many.note(Err("no broker".into()));
    assert_eq!(many.failed.as_deref(), Some("no broker"));
    assert_eq!(many.rounds.len(), ROUNDS, "a failed round proves nothing");
    many.note(Ok(at(1_000)));
    assert_eq!(many.failed, None);
}

#[test]
fn two_rounds_may_get_lost_before_the_switch_goes_off() {
    let span = Duration::from_secs;
    assert_eq!(fresh(span(60), span(30)), span(300));
    assert!(fresh(span(120), span(30)) < span(600), "inside the ten minutes also when canaries are rare");
}

/// A judge whose switch is at an address where nobody listens.
async fn judge(folder: &std::path::Path, rounds: &[i64]) -> Judge {
    let clock = Clock::scaled(at(0), 1.0);
    let list = AllowList::new([AllowedHost { host: "127.0.0.1".into(), port: None, private: true }]);
    let outbound = Outbound::new(list, clock).unwrap();
    let url = Secret::new("http://127.0.0.1:1/ping");
    let store = Store::open_exclusive(&format!("sqlite:{}", folder.join("test.db").display()), "test").await;
    let committed = Committed::default();
    committed.store(Arc::new(Some(clock.stopwatch())));
    let report = Report { armed: true, ..Report::default() };
    Judge {
        started: clock.now(),
        every: Duration::from_secs(60),
        fresh: Duration::from_secs(300),
        written: Arc::new(Mutex::new(written(rounds))),
        switch: Deadman::open(&outbound, false, &url, None).unwrap(),
        seen: Seen {
            clock,
            store: store.unwrap(),
            report: Arc::new(ArcSwap::from_pointee(report)),
            committed,
            standing: Arc::default(),
        },
    }
}

fn publish(judge: &Judge, canary: Option<CanaryReport>, blind: Option<&str>) {
    let report = Report {
        armed: blind.is_none(),
        why_not_armed: blind.map(str::to_owned),
        canary,
        ..Report::default()
    };
    judge.seen.report.store(Arc::new(report));
}

#[tokio::test]
async fn what_is_known_of_the_daemon_makes_the_doubts() {
    let folder = tempfile::tempdir().unwrap();
    let judge = judge(folder.path(), &[-200_000, -100_000]).await;
    publish(&judge, None, None);
    let standing = judge.look().await;
    assert_eq!(standing.doubts, ["no canary of this process has come back yet"]);
    assert!(standing.starting);

    publish(&judge, Some(seen(-2, Some(-2), true)), None);
    let standing = judge.look().await;
    assert_eq!((standing.proven, &standing.doubts[..]), (Some(at(-100_000)), &[][..]));
    assert!(!standing.starting);
    judge.tell(standing).await;
    let told = judge.seen.standing.load_full();
    assert!(told.refused.is_some() && told.called.is_none(), "nobody is at the switch: {told:?}");

    // What was proven stays so for its time, whatever the rule says now.
    publish(&judge, Some(seen(-1, None, false)), Some("Kafka does not answer"));
    locked(&judge.written).note(Err("no broker".into()));
    judge.seen.committed.store(Arc::new(None));
    let standing = judge.look().await;
    assert_eq!(standing.proven, Some(at(-100_000)));
    assert_eq!(
        standing.doubts,
        [
            "the canary could not be written: no broker",
            "the canary's rule says breach",
            "not armed: Kafka does not answer",
            "nothing has been committed yet",
        ]
    );
}

#[tokio::test]
async fn a_database_that_is_gone_is_a_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let judge = judge(folder.path(), &[-100_000]).await;
    publish(&judge, Some(seen(-2, Some(-2), true)), None);
    judge.seen.store.close().await.unwrap();
    let doubts = judge.look().await.doubts;
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert!(doubts[0].starts_with("the database does not say how the outbox stands: "), "{doubts:?}");
}

#[tokio::test]
async fn a_switch_without_an_address_for_failures_is_not_called_with_doubts() {
    let folder = tempfile::tempdir().unwrap();
    let judge = judge(folder.path(), &[]).await;
    let standing = Standing { doubts: vec!["blind".into()], ..Standing::default() };
    judge.tell(standing.clone()).await;
    assert_eq!(*judge.seen.standing.load_full(), standing, "published, and nobody was called");
}
