//! What the ten minutes count on: nothing that hangs keeps the pages from saying so.

use super::bench::{Bench, Keeper, Step};
use super::*;

/// The deadline passes while a try is under way that never ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_hangs_does_not_keep_rollback_failed_back() {
    let gate = Arc::new(Notify::new());
    let mut bench = Bench::new(vec![Step::Hang(Arc::clone(&gate))], Keeper::new("oncall")).await;
    bench.timing = Timing {
        flip_at_least: Duration::from_secs(20),
        promise: Duration::ZERO,
        // The page's own timer tells nothing here.
        page_after: Duration::from_secs(36_000),
        ..Timing::default()
    };
    bench.roll_back(&bench.decision()).await;
    bench.until("rollback failed", |b| !b.oncall.messages().is_empty()).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.kind, MessageKind::RollbackFailed);
    assert!(page.summary.contains("ROLLBACK FAILED, ACT BY HAND"), "{}", page.summary);
    assert!(bench.answers.try_recv().is_err() && !bench.pinned(), "the try is still under way");
    gate.notify_one();
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified);
    bench.until("good news", |b| b.oncall.messages().len() > 1).await;
    assert_eq!(bench.oncall.messages().remove(1).kind, MessageKind::Rollback);
}

/// A receiver may ask for an hour's rest; the page has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_wants_to_be_left_alone_does_not_put_the_second_channel_off() {
    let oncall = Keeper::new("oncall");
    let busy = Failure::Retryable { after: Some(Duration::from_secs(36_000)), why: "answered 429".into() };
    *oncall.failures.lock().unwrap() = vec![busy; 100].into();
    let bench = Bench::new(Vec::new(), oncall).await;
    bench.roll_back(&bench.decision()).await;
    bench.until("second channel", |b| !b.second.messages().is_empty()).await;
    let page = bench.second.messages().remove(0);
    assert!(page.summary.contains("rolled back"), "{}", page.summary);
    // It is asked again when the flip ends and when the second channel is due, not all the time.
    assert!(bench.oncall.failures.lock().unwrap().len() > 90);
}
