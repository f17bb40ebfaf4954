//! One made-up incident: own templates are tried on it at start, tests and documentation use it.

use std::time::Duration;

use super::story::{Flip, Story};
use crate::engine::input::FlipOutcome;
use crate::engine::output::{
    AlertKey, ByHand, ContextLine, Decision, Evidence, Gate, Message, MessageKind, PicturePoint, WorstPair,
};
use crate::engine::rule::{ConfirmedBy, Origin, RuleAction, RuleHash, Side};
use crate::model::flag::{Dimension, Scope};
use crate::model::incident::{IncidentStatus, Severity};
use crate::model::time::{Minute, Timestamp};

/// 2023-07-12T09:47:00Z, the first minute of the example's window.
const START: Minute = Minute(28_152_587);
const MINUTES: i64 = 60;
const INCIDENT: &str = "inc-20230712-7f3a";

/// A rollback of prompt-v18 that took 4 min 35 s.
pub fn story() -> Story {
    let at = |h: i64, m: i64, s: i64| {
        Timestamp::from_millis(
            (START.start().as_millis() / 86_400_000 * 86_400 + h * 3600 + m * 60 + s) * 1000,
        )
    };
    Story {
        incident: INCIDENT.into(),
        status: IncidentStatus::Open,
        opener: decision("faithfulness_1h < 0.92", 3),
        joined: vec![Decision {
            evidence: Evidence {
                value: Some(0.24),
                threshold: Some(0.2),
                side: Some(Side::Above),
                ..Evidence::default()
            },
            ..decision("abstain_rate_1h > 0.20", 7)
        }],
        served: None,
        committed: at(10, 47, 31),
        flip: Some(Flip {
            outcome: Some(FlipOutcome::Verified),
            finished: Some(at(10, 47, 33)),
            detail: "all 256 of 256 sampled keys got control".into(),
            attempts: 1,
            late: false,
        }),
        page_accepted: Some(at(10, 47, 35)),
        log: vec![
            (at(10, 47, 31), "opened".into()),
            (at(10, 47, 33), "flip verified: all 256 of 256 sampled keys got control".into()),
            (at(10, 47, 35), "page accepted by oncall".into()),
        ],
    }
}

/// The example in every way in which it can stand: own templates have to work on all of them.
pub fn cases() -> Vec<(&'static str, Story)> {
    let base = story();
    let flip = |outcome, late| {
        let flip = Flip { outcome, late, detail: "answered 503".into(), attempts: 3, ..Flip::default() };
        Story { flip: Some(flip), page_accepted: None, ..base.clone() }
    };
    let changed = |change: &dyn Fn(&mut Decision)| {
        let mut story = base.clone();
        change(&mut story.opener);
        story
    };
    let hand = ByHand { actor: "ada".into(), reason: "complaints".into() };
    vec![
        ("a rollback that is verified", base.clone()),
        ("one that is being tried", flip(None, false)),
        ("one that is late", flip(None, true)),
        ("one that failed", flip(Some(FlipOutcome::Failed), true)),
        ("one whose deadline passed", flip(Some(FlipOutcome::Expired), true)),
        ("one that was safe already", flip(Some(FlipOutcome::AlreadySafe), false)),
        ("one that a human superseded", flip(Some(FlipOutcome::Superseded), false)),
        ("a drill", changed(&|made| made.drill = true)),
        (
            "a rollback by hand",
            changed(&|made| (made.by, made.evidence) = (Some(hand.clone()), Evidence::default())),
        ),
        ("a pause", changed(&|made| made.action = RuleAction::PauseRollout)),
        (
            "one without evidence, owner and runbook",
            changed(&|made| {
                (made.evidence, made.owner, made.runbook, made.incident) =
                    (Evidence::default(), None, None, None);
            }),
        ),
        (
            "one for a tenant",
            changed(&|made| {
                made.scope = Scope::Only(Dimension::Tenant, "acme".into());
            }),
        ),
        ("one that is withheld", Story { flip: None, ..changed(&|made| made.gate = Gate::AutomationOff) }),
        (
            "one that joined another",
            Story { flip: None, ..changed(&|made| made.gate = Gate::AlreadyLatched) },
        ),
    ]
}

/// The message that the engine wrote when it decided.
pub fn message() -> Message {
    let decision = story().opener;
    Message {
        dedup_key: format!("rollback/{}/all", decision.key.flag),
        kind: MessageKind::Rollback,
        severity: Severity::Critical,
        flag: Some(decision.key.flag.clone()),
        variant: Some(decision.variant.clone()),
        decision: Some(decision.id.clone()),
        incident: decision.incident.clone(),
        summary: "support-copilot.prompt-v18: faithfulness_1h < 0.92".into(),
        detail: "rolling back".into(),
        receiver: None,
        at: decision.at,
    }
}

/// The rollback decision of the example, with another condition.
pub fn decision(condition: &str, line: usize) -> Decision {
    let minute = |n: i64| START.plus(n).start();
    Decision {
        id: "9d3f0c1e5b7a48d2a6c4e8f01b2d3c4e".into(),
        key: AlertKey {
            flag: "ai.support-copilot.prompt-v18".into(),
            rule: "faithfulness_1h".into(),
            hash: RuleHash("5bd1e995c6a4a793".into()),
            slice: Scope::All,
        },
        variant: "support-copilot.prompt-v18".into(),
        control: Some("support-copilot.prompt-v17".into()),
        scope: Scope::All,
        action: RuleAction::Rollback,
        by: None,
        drill: false,
        confirmed_by: Some(ConfirmedBy::Persistence),
        gate: Gate::Act,
        at: minute(60) + Duration::from_secs(30),
        crossing: minute(55),
        t0: minute(56),
        incident: Some(INCIDENT.into()),
        severity: Severity::Critical,
        failure_class: "quality_regression".into(),
        condition: condition.into(),
        runbook: Some("https://runbooks.example.com/support-copilot".into()),
        owner: Some("team-copilot".into()),
        origin: Origin { file: "rules/support-copilot.yaml".into(), line },
        evidence: evidence(),
    }
}

fn evidence() -> Evidence {
    Evidence {
        values: vec![("faithfulness_1h".into(), Some(0.8713))],
        value: Some(0.8713),
        threshold: Some(0.92),
        side: Some(Side::Below),
        samples: 5214,
        min_samples: 100,
        interval: Some((0.8538, 0.8871)),
        promise:
            "acts within ten minutes of the literal breach, on evidence earlier; no bound on false alarms"
                .into(),
        statement: "1h 0.8713; last 5 min 0.7024; held for 3 min; D 9.3e5 of 1.6e6".into(),
        evidence: Some(930_000.0),
        evidence_needed: Some(1_576_800.0),
        worst_pair: Some(WorstPair { first: START.plus(57), value: Some(0.8822) }),
        bad_minutes: 14,
        held: Duration::from_secs(180),
        tenants: 37,
        tenants_exact: true,
        window_minutes: 60,
        picture: (0..MINUTES).map(point).collect(),
        context: vec![
            ContextLine {
                metric: "abstain_rate_1h".into(),
                unit: String::new(),
                value: Some(0.24),
                control: Some(0.06),
            },
            ContextLine {
                metric: "cost_p95_1h".into(),
                unit: "USD".into(),
                value: Some(0.0182),
                control: Some(0.0179),
            },
            ContextLine {
                metric: "latency_p95_1h".into(),
                unit: "ms".into(),
                value: Some(4210.0),
                control: None,
            },
        ],
        ..Evidence::default()
    }
}

/// Healthy for 46 minutes, two of them without traffic, then falling.
fn point(n: i64) -> PicturePoint {
    let wobble = [0.0, 0.004, -0.006, 0.002, -0.003][usize::try_from(n % 5).unwrap_or(0)];
    let value = match n {
        20 | 21 => None,
        0..46 => Some(0.955 + wobble),
        _ => Some(0.70 + wobble * 4.0),
    };
    PicturePoint {
        minute: START.plus(n),
        value,
        samples: if value.is_some() { 87 + (n % 7).unsigned_abs() } else { 0 },
    }
}
