//! Incidents: one per flag episode, with everything needed to tell the story.

use std::time::Duration;

use rearguard::engine::input::FlipOutcome;
use rearguard::engine::output::{Order, Output};
use rearguard::engine::rule::RuleAction;
use rearguard::model::incident::IncidentStatus;
use rearguard::store::{EntryKind, IncidentFilter, RowOutcome, StoreError};

use super::fixture::*;

pub fn verified() -> RowOutcome {
    RowOutcome::Flip { outcome: FlipOutcome::Verified, detail: "version 2".into() }
}

pub fn sent() -> RowOutcome {
    RowOutcome::Sent { detail: "202".into(), again_at: None }
}

pub async fn one_incident_per_flag(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let mut second = rollback("d2", "i2");
    second.orders.remove(0);
    let error = store.commit(&record(2, &[second.clone()])).await.unwrap_err();
    assert!(matches!(error, StoreError::IncidentOpen { .. }), "{error}");
    store.resolve(&incident_id("i1"), "ann", "done", at(3)).await.unwrap();
    commit(&store, 4, &[second]).await;
    assert_eq!(store.load().await.unwrap().incidents.len(), 1);
}

pub async fn an_incident_shows_its_story(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let flip = claim_one(&store, at(2), "builtin").await;
    store.complete(&flip, &verified(), at(5)).await.unwrap();
    let page = claim_one(&store, at(5), "oncall").await;
    store.complete(&page, &sent(), at(8)).await.unwrap();
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    let incident = &detail.incident;
    assert_eq!(incident.t0, Some(at(-180)));
    assert_eq!(incident.opened, at(1));
    assert_eq!(incident.flip_verified, Some(at(5)));
    assert_eq!(incident.flip_outcome, Some(FlipOutcome::Verified));
    assert_eq!(incident.page_accepted, Some(at(8)));
    assert_eq!(incident.t1(), Some(at(8)));
    assert_eq!(incident.took(), Some(Duration::from_secs(188)));
    assert_eq!(detail.decisions.len(), 1);
    assert_eq!(detail.decisions[0].decision.evidence.samples, 812);
    let kinds: Vec<_> = detail.timeline.iter().map(|entry| (entry.kind, entry.at)).collect();
    assert_eq!(
        kinds,
        [
            (EntryKind::Opened, at(1)),
            (EntryKind::FlipStarted, at(2)),
            (EntryKind::FlipVerified, at(5)),
            (EntryKind::PageAccepted, at(8))
        ]
    );
}

pub async fn a_decision_joins(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let mut made = decision("a-second", RuleAction::Rollback);
    made.incident = Some("i1".into());
    let output = Output {
        decisions: vec![made],
        orders: vec![Order::JoinIncident { incident: "i1".into(), decision: "a-second".into() }],
        ..Output::default()
    };
    commit(&store, 2, &[output]).await;
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    let ids: Vec<_> = detail.decisions.iter().map(|d| d.decision.id.as_str()).collect();
    assert_eq!(ids, ["d1", "a-second"]);
    assert_eq!(detail.timeline.last().unwrap().kind, EntryKind::Joined);
}

pub async fn acknowledged_and_resolved(base: &Base) {
    let store = base.ready().await;
    let id = incident_id("i1");
    let error = store.acknowledge(&id, "ann", at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchIncident(_)), "{error}");
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    store.acknowledge(&id, "ann", at(2)).await.unwrap();
    store.acknowledge(&id, "bob", at(3)).await.unwrap();
    let incident = store.incident(&id).await.unwrap().incident;
    assert_eq!(incident.status, IncidentStatus::Acknowledged);
    assert_eq!((incident.acked_by.as_deref(), incident.acked), (Some("ann"), Some(at(2))));
    store.resolve(&id, "bob", "fixed", at(4)).await.unwrap();
    let incident = store.incident(&id).await.unwrap().incident;
    assert_eq!(incident.status, IncidentStatus::Resolved);
    assert_eq!(incident.resolved_by.as_deref(), Some("bob"));
    for error in [
        store.resolve(&id, "bob", "again", at(5)).await.unwrap_err(),
        store.acknowledge(&id, "bob", at(5)).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::IncidentResolved(_)), "{error}");
    }
    assert_eq!(store.load().await.unwrap().latches.len(), 1, "the latch stays");
}

pub async fn a_closing_order_closes(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let close = || {
        orders(vec![Order::CloseIncident {
            incident: "i1".into(),
            flag: flag(),
            by: "rearguard".into(),
            why: "re-armed and quiet".into(),
        }])
    };
    commit(&store, 2, &[close()]).await;
    commit(&store, 3, &[close()]).await;
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    assert_eq!(detail.incident.resolved, Some(at(2)));
    assert_eq!(detail.timeline.len(), 2);
}

pub async fn filters(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let all = IncidentFilter::default();
    let other = IncidentFilter { flag: Some("ai.other.v1".into()), ..IncidentFilter::default() };
    let unresolved = IncidentFilter { flag: Some(flag()), unresolved: true, ..IncidentFilter::default() };
    assert_eq!(store.incidents(&all).await.unwrap().len(), 1);
    assert!(store.incidents(&other).await.unwrap().is_empty());
    assert_eq!(store.incidents(&unresolved).await.unwrap().len(), 1);
    store.resolve(&incident_id("i1"), "ann", "", at(2)).await.unwrap();
    assert!(store.incidents(&unresolved).await.unwrap().is_empty());
    assert_eq!(store.incidents(&all).await.unwrap().len(), 1);
}
