//! Incidents: one per flag episode, with everything needed to tell the story.

use std::time::Duration;

use rearguard::engine::input::FlipOutcome;
use rearguard::engine::output::{Decision, Gate, Order, Output};
use rearguard::engine::rule::RuleAction;
use rearguard::model::flag::{Dimension, Scope};
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
    let unresolved = IncidentFilter { unresolved: true, ..IncidentFilter::default() };
    assert_eq!(store.incidents(&unresolved).await.unwrap().len(), 1);
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

pub async fn a_withheld_rollback_says_why(base: &Base) {
    let store = base.ready().await;
    let made = |id: &str, gate: Gate| Decision {
        incident: Some("i1".into()),
        gate,
        ..decision(id, RuleAction::Rollback)
    };
    let first = Output {
        decisions: vec![made("d1", Gate::AutomationOff)],
        orders: vec![open_incident("i1", "d1")],
        ..Output::default()
    };
    let joins = |id: &str, gate: Gate, pins: Vec<Order>| Output {
        decisions: vec![made(id, gate)],
        orders: [vec![Order::JoinIncident { incident: "i1".into(), decision: id.into() }], pins].concat(),
        ..Output::default()
    };
    let listed = async || store.incidents(&IncidentFilter::default()).await.unwrap().remove(0);
    commit(&store, 1, &[first]).await;
    let withheld = listed().await.withheld.unwrap();
    assert_eq!((withheld.gate, withheld.decision.as_str()), ("automation_off", "d1"));
    assert_eq!(withheld.why, "automation is switched off");
    let limit = Gate::FlipLimit { limit: 5, of: "in all".into() };
    commit(&store, 2, &[joins("d2", limit, Vec::new())]).await;
    assert_eq!(listed().await.withheld.unwrap().gate, "flip_limit", "the newest counts");
    assert_eq!(listed().await.flip_outcome, None);

    commit(&store, 3, &[joins("d3", Gate::Act, vec![pin("d3", Scope::All)])]).await;
    let flip = claim_one(&store, at(4), "builtin").await;
    store.complete(&flip, &verified(), at(5)).await.unwrap();
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    assert_eq!(detail.incident.withheld, None);
    assert_eq!(detail.incident.flip_verified, Some(at(5)), "the flip that was carried out is the incident's");
    let said: Vec<_> = detail.timeline.iter().map(|entry| entry.detail.as_str()).collect();
    assert!(said[0].ends_with("; not rolled back: automation is switched off"), "{said:?}");
    assert!(said[2].ends_with("faithfulness_1h < 0.92"), "{said:?}");
}

pub async fn a_withheld_slice_beside_a_rolled_back_one(base: &Base) {
    let store = base.ready().await;
    let tenant = |name: &str| Scope::Only(Dimension::Tenant, name.into());
    let made = |id: &str, gate: Gate, name: &str| Decision {
        incident: Some("i1".into()),
        gate,
        scope: tenant(name),
        ..decision(id, RuleAction::Rollback)
    };
    let limit = Gate::FlipLimit { limit: 2, of: "of tenant acme".into() };
    let output = Output {
        decisions: vec![made("d1", limit, "acme"), made("d2", Gate::Act, "calm")],
        orders: vec![
            open_incident("i1", "d1"),
            Order::JoinIncident { incident: "i1".into(), decision: "d2".into() },
            pin("d2", tenant("calm")),
        ],
        ..Output::default()
    };
    commit(&store, 1, &[output]).await;
    let flip = claim_one(&store, at(2), "builtin").await;
    store.complete(&flip, &verified(), at(3)).await.unwrap();
    let incident = store.incident(&incident_id("i1")).await.unwrap().incident;
    assert_eq!(incident.withheld.unwrap().scope, tenant("acme"));
    assert_eq!(incident.flip_outcome, None, "another slice's flip is not the opener's");
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
    let latches = base.count("SELECT count(*) FROM latches WHERE closed IS NULL").await;
    assert_eq!(latches, 1, "the latch stays");
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
    for (status, found) in
        [(IncidentStatus::Open, 0), (IncidentStatus::Acknowledged, 0), (IncidentStatus::Resolved, 1)]
    {
        let filter = IncidentFilter { status: Some(status), ..IncidentFilter::default() };
        assert_eq!(store.incidents(&filter).await.unwrap().len(), found, "{status:?}");
    }
}
