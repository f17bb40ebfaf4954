//! The worker and a flag that another platform serves: a real file of flagd.

use super::bench::{FLAGD, Step};
use super::*;

const PINNED: &str = r#""prompt": {
      "state": "ENABLED",
      "variants": { "v17": "v17", "v18": "v18" },
      "defaultVariant": "v17"
    },"#;

/// The notes about the flag's pin, as `flag show` lists them.
async fn notes(bench: &Bench) -> Vec<String> {
    let changes = bench.store.flag_changes(&"ai.support-copilot.prompt-v18".into(), 10).await.unwrap();
    changes.into_iter().filter(|c| c.kind.as_str() == "pin").map(|c| c.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_in_a_file_is_pinned_read_back_paged_and_noted_once() {
    for script in [vec![], vec![Step::LoseAnswer], vec![Step::Fail(Failure::retryable("disk full"))]] {
        let name = format!("{script:?}");
        let fails = matches!(script.first(), Some(Step::Fail(_)));
        let mut bench = Bench::over_a_file(script, Keeper::new("oncall")).await;
        bench.roll_back(&bench.decision()).await;
        if fails {
            bench.until("tried", |b| *b.platform.writes.lock().unwrap() > 0).await;
            assert_eq!(bench.file(), FLAGD, "{name}");
            assert!(notes(&bench).await.is_empty(), "{name}: nothing was written");
            bench.platform.script.lock().unwrap().clear();
        }
        assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified, "{name}");
        let file = bench.file();
        assert!(file.contains(PINNED), "{name}: {file}");
        assert!(file.contains("{ // ours") && file.contains(r#""ENABLED",  "variants""#), "{name}: {file}");
        let [note] = &notes(&bench).await[..] else { panic!("{name}: one note") };
        let before = r#"; to put back: {"defaultVariant":"v18","state":"ENABLED","targeting":"#;
        assert!(note.starts_with("written to `prod` (flagd) as `prompt`; to put back: "), "{name}: {note}");
        assert!(note.contains(before), "{name}: {note}");
        bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
        let page = bench.oncall.messages().pop().unwrap();
        assert_eq!(page.kind, MessageKind::Rollback, "{name}");
        assert!(page.detail.contains("the file gives `v17` to everybody"), "{name}: {}", page.detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_before_survives_a_death_between_write_and_record() {
    let mut bench = Bench::over_a_file(vec![Step::Die], Keeper::new("oncall")).await;
    bench.roll_back(&bench.decision()).await;
    bench.until("written", |b| b.file().contains(PINNED)).await;
    assert!(notes(&bench).await.is_empty(), "it died before it could say so");
    bench.restart();
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified);
    let [note] = &notes(&bench).await[..] else { panic!("one note") };
    assert!(note.contains(r#"; to put back: {"defaultVariant":"v18""#), "{note}");
    assert_eq!(*bench.platform.writes.lock().unwrap(), 1);
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_waits_for_an_approval_is_not_written_and_pages_at_once() {
    let mut bench = Bench::over_a_file(Vec::new(), Keeper::new("oncall")).await;
    bench.platform.says.lock().unwrap().locked = Some("two people have to approve changes".into());
    bench.roll_back(&bench.decision()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Failed);
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.kind, MessageKind::RollbackFailed);
    assert!(page.detail.contains("two people have to approve changes"), "{}", page.detail);
    assert_eq!((bench.file().as_str(), *bench.platform.writes.lock().unwrap()), (FLAGD, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_human_changed_there_since_the_decision_goes_first() {
    let mut bench = Bench::over_a_file(Vec::new(), Keeper::new("oncall")).await;
    bench.platform.says.lock().unwrap().changed = Some("changed by ada at 12:00".into());
    bench.roll_back(&bench.decision()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Superseded);
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.kind, MessageKind::Superseded);
    assert!(page.detail.contains("changed by ada at 12:00"), "{}", page.detail);
    assert_eq!((bench.file().as_str(), *bench.platform.writes.lock().unwrap()), (FLAGD, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_gives_control_already_is_safe_and_still_an_incident() {
    let mut bench = Bench::over_a_file(Vec::new(), Keeper::new("oncall")).await;
    let file = bench.file();
    let targeting = file.find("\"defaultVariant\": \"v18\"").unwrap();
    let end = targeting + file[targeting..].find("    },").unwrap();
    let safe = format!("{}\"defaultVariant\": \"v17\"\n{}", &file[..targeting], &file[end..]);
    std::fs::write(bench.folder.path().join("flags.json"), &safe).unwrap();
    bench.roll_back(&bench.decision()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::AlreadySafe);
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    assert_eq!((bench.file(), *bench.platform.writes.lock().unwrap()), (safe, 0));
    assert!(bench.incident().await.incident.flip_verified.is_some());
}
