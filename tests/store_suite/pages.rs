//! Pages: they go with the real outcome as soon as there is one, and by their own timer if there is none.

use rearguard::engine::input::FlipOutcome;
use rearguard::engine::output::{MessageKind, Order};
use rearguard::model::time::Timestamp;
use rearguard::store::{EntryKind, PlanContext, RowKind, RowOutcome, Store, Task, Timing, message_rows};

use super::fixture::*;
use super::incidents::{sent, verified};

const PAGE: &str = "oncall";

async fn page_due(store: &Store, now: Timestamp) -> bool {
    due(store, now).await.contains(&PAGE.to_owned())
}

fn standing(again: i64) -> RowOutcome {
    RowOutcome::Sent { detail: "200".into(), again_at: Some(at(again)) }
}

async fn flip_done(store: &Store, now: i64) {
    let flip = claim_one(store, at(now), "builtin").await;
    store.complete(&flip, &verified(), at(now)).await.unwrap();
}

pub async fn a_page_waits_for_its_flip(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    assert!(!page_due(&store, at(60)).await);
    flip_done(&store, 61).await;
    let page = claim_one(&store, at(61), PAGE).await;
    assert_eq!(page.revision, 0);
    let state = store.flip_state(page.decision.as_ref().unwrap()).await.unwrap().unwrap();
    assert_eq!(state.finished, Some(at(61)));
    store.complete(&page, &sent(), at(62)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await);
}

pub async fn a_page_leaves_by_its_own_timer(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    assert!(!page_due(&store, at(120)).await);
    assert!(page_due(&store, at(121)).await, "two minutes after the commit");
}

pub async fn a_page_without_a_flip_leaves_at_once(base: &Base) {
    let store = base.ready().await;
    let mut output = rollback("d1", "i1");
    output.orders.remove(0);
    commit(&store, 1, &[output]).await;
    assert!(page_due(&store, at(1)).await);
}

pub async fn a_page_sent_early_is_updated(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let page = claim_one(&store, at(121), PAGE).await;
    store.complete(&page, &sent(), at(122)).await.unwrap();
    assert!(!page_due(&store, at(130)).await);
    flip_done(&store, 200).await;
    let update = claim_one(&store, at(200), PAGE).await;
    assert_eq!((update.id, update.revision), (page.id, 1), "the same row, so the same dedup key");
    store.complete(&update, &sent(), at(201)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await);
    let incident = store.incident(&incident_id("i1")).await.unwrap();
    assert_eq!(incident.incident.page_accepted, Some(at(122)), "the first acceptance counts");
    assert_eq!(incident.timeline.last().unwrap().kind, EntryKind::PageUpdated);
}

pub async fn a_page_under_way_is_updated(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let flip = claim_one(&store, at(121), "builtin").await;
    let page = claim_one(&store, at(121), PAGE).await;
    store.complete(&flip, &verified(), at(122)).await.unwrap();
    store.complete(&page, &sent(), at(123)).await.unwrap();
    let update = claim_one(&store, at(123), PAGE).await;
    assert_eq!((update.id, update.revision), (page.id, 1));
}

pub async fn release_lets_go(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    assert_eq!(store.release_pages(&"d1".into(), at(10)).await.unwrap(), 1);
    assert!(page_due(&store, at(10)).await);
}

pub async fn a_standing_page_is_sent_again(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    flip_done(&store, 2).await;
    for round in 0..3 {
        let now = 3 + round * 60;
        let page = claim_one(&store, at(now), PAGE).await;
        store.complete(&page, &standing(now + 60), at(now)).await.unwrap();
        assert!(!page_due(&store, at(now + 59)).await);
    }
    let timeline = store.incident(&incident_id("i1")).await.unwrap().timeline;
    assert_eq!(timeline.len(), 4, "repetitions are no news: {timeline:?}");
    store.resolve(&incident_id("i1"), "ann", "done", at(170)).await.unwrap();
    let end = claim_one(&store, at(9998), PAGE).await;
    let Task::Message(said) = &end.task else { panic!("{end:?}") };
    assert_eq!((end.kind, said.kind), (RowKind::Notify, MessageKind::Resolved), "the page is taken back");
    assert_eq!(said.dedup_key, message(MessageKind::Rollback, None, None).dedup_key);
    store.complete(&end, &sent(), at(9998)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await);
}

pub async fn an_end_reaches_whoever_was_told(base: &Base) {
    let store = base.ready().await;
    let blind = |kind| {
        let mut message = message(kind, None, None);
        message.dedup_key = "rearguard/blind/1".into();
        message
    };
    commit(&store, 1, &[orders(vec![Order::Page(blind(MessageKind::Blind))])]).await;
    let page = claim_one(&store, at(2), PAGE).await;
    store.complete(&page, &standing(60), at(3)).await.unwrap();
    // Notices go elsewhere than pages.
    commit(&store, 2, &[orders(vec![Order::Notify(blind(MessageKind::Resolved))])]).await;
    let end = claim_one(&store, at(4), PAGE).await;
    assert!(matches!(&end.task, Task::Message(said) if said.kind == MessageKind::Resolved), "{end:?}");
    store.complete(&end, &sent(), at(4)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await, "the page stands no more");
}

pub async fn a_newer_message_replaces_a_standing_one(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    flip_done(&store, 2).await;
    let page = claim_one(&store, at(2), PAGE).await;
    store.complete(&page, &standing(60), at(3)).await.unwrap();
    let resolved = Order::Page(message(MessageKind::Resolved, None, Some("i1")));
    commit(&store, 4, &[orders(vec![resolved])]).await;
    let newer = claim_one(&store, at(100), PAGE).await;
    assert!(newer.id > page.id);
    store.complete(&newer, &sent(), at(100)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await);
}

pub async fn a_refused_page_is_noted(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    flip_done(&store, 2).await;
    let page = claim_one(&store, at(2), PAGE).await;
    let refused = RowOutcome::Refused { detail: "400 bad request".into() };
    store.complete(&page, &refused, at(3)).await.unwrap();
    assert!(!page_due(&store, at(9999)).await);
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    let last = detail.timeline.last().unwrap();
    assert_eq!((last.kind, &*last.detail), (EntryKind::MessageRefused, "oncall: 400 bad request"));
    assert_eq!(detail.incident.page_accepted, None);
}

pub async fn a_failed_flip_is_said_after_the_waiting_page(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let flip = claim_one(&store, at(2), "builtin").await;
    let failed = message(MessageKind::RollbackFailed, Some("d1"), Some("i1"));
    let (routes, timing) = (routes(), Timing::default());
    let context = PlanContext { routes: &routes, timing, flags: &[] };
    let rows = message_rows(RowKind::Page, &failed, &routes.page, at(3), &context);
    assert_eq!(store.enqueue(&rows, at(3)).await.unwrap(), 1);
    assert_eq!(store.enqueue(&rows, at(3)).await.unwrap(), 0, "the same again is no second page");
    let outcome = RowOutcome::Flip { outcome: FlipOutcome::Failed, detail: "403".into() };
    store.complete(&flip, &outcome, at(3)).await.unwrap();
    let first = claim_one(&store, at(3), PAGE).await;
    store.complete(&first, &standing(60), at(4)).await.unwrap();
    let second = claim_one(&store, at(4), PAGE).await;
    assert!(matches!(&second.task, Task::Message(said) if said.kind == MessageKind::RollbackFailed));
    store.complete(&second, &standing(64), at(4)).await.unwrap();
    assert_eq!(claim_one(&store, at(200), PAGE).await.id, second.id, "only the newest stands");
}
