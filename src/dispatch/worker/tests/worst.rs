//! What the ten minutes count on: nothing that hangs keeps the pages from saying so; and what follows a page.

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
    assert!(page.detail.ends_with("\nThis page was not taken by `oncall`."), "{}", page.detail);
    // It is asked again when the flip ends and when the second channel is due, not all the time.
    assert!(bench.oncall.failures.lock().unwrap().len() > 90);
}

/// Passed on to whoever rang, once, and over with the incident: what is resolved is not resolved twice because of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_follows_the_page_and_the_resolution_follows_both() {
    let bench = Bench::new(Vec::new(), Keeper::new("oncall")).await;
    bench.roll_back(&bench.decision()).await;
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    let id = bench.decision().incident.unwrap();
    // Only what was taken and recorded is followed.
    let mut accepted = false;
    for _ in 0..3000 {
        accepted = accepted || bench.incident().await.incident.page_accepted.is_some();
        if accepted {
            break;
        }
        bench.clock.sleep_real(Duration::from_millis(10)).await;
    }
    assert!(accepted);
    let pages = bench.oncall.messages().len();
    for who in ["ann", "bob"] {
        bench.store.acknowledge(&id, who, bench.clock.now()).await.unwrap();
    }
    bench.until("acknowledged", |b| b.oncall.messages().len() > pages).await;
    bench.store.resolve(&id, "ann", "mended", bench.clock.now()).await.unwrap();
    bench.until("resolved", |b| b.oncall.messages().len() > pages + 1).await;
    let told = bench.oncall.messages();
    let kinds: Vec<_> = told[pages..].iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [MessageKind::Acknowledged, MessageKind::Resolved]);
    assert!(told[pages].summary.ends_with("is acknowledged by ann"), "{}", told[pages].summary);
    assert_eq!(told[pages].dedup_key, told[0].dedup_key);
    assert!(bench.second.messages().is_empty(), "who was not woken is not told");
}
