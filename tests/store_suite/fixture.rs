//! A database of its own for each case, and records to put into it.

use std::sync::Arc;
use std::time::Duration;

use rearguard::engine::input::{Fates, Limits, Source};
use rearguard::engine::machine::Engine;
use rearguard::engine::output::{
    AlertKey, Decision, Evidence, Gate, IncidentOrder, LatchChange, Message, MessageKind, Order, Output,
};
use rearguard::engine::rule::compile::compile_rules;
use rearguard::engine::rule::{ConfirmedBy, Origin, RuleAction, RuleHash};
use rearguard::lab::rig::{Rig, Step};
use rearguard::lab::setup::{Bench, Setup};
use rearguard::model::flag::{FlagSpec, Scope};
use rearguard::model::id::{DecisionId, FlagKey, IncidentId, RuleId, Variant};
use rearguard::model::incident::Severity;
use rearguard::model::metric::Catalogue;
use rearguard::model::time::{Minute, Timestamp};
use rearguard::store::{
    OutboxRow, PlanContext, Position, Routes, SourcePosition, StepRecord, Store, StoreError, Timing,
};
use sqlx::{AnyConnection, Connection, Executor};

pub const FLAG: &str = "ai.support.v18";
pub const LEASE: Duration = Duration::from_secs(30);

/// Wall time, in seconds after some moment.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

/// An empty database.
pub struct Base {
    pub url: String,
    _folder: tempfile::TempDir,
    schema: Option<(String, String)>,
}

impl Base {
    /// `server` is the address of a PostgreSQL database; SQLite needs none.
    pub async fn new(backend: &str, case: &str, server: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if backend == "sqlite" {
            return Self {
                url: format!("sqlite:{}", folder.path().join("store.db").display()),
                _folder: folder,
                schema: None,
            };
        }
        let schema = format!("t_{}_{case}", std::process::id());
        execute(&server, &format!("CREATE SCHEMA {schema}")).await;
        let sign = if server.contains('?') { '&' } else { '?' };
        Self {
            url: format!("{server}{sign}options=-c%20search_path%3D{schema}&application_name={schema}"),
            _folder: folder,
            schema: Some((server, schema)),
        }
    }

    /// Opens as the owner. PostgreSQL frees a lock only when it notices that its holder's connection is gone.
    pub async fn open(&self) -> Store {
        for _ in 0..100 {
            match Store::open_exclusive(&self.url, "test").await {
                Err(StoreError::InUsePostgres { .. }) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("the lock was not freed");
    }

    /// Opens and declares the flag.
    pub async fn ready(&self) -> Store {
        let store = self.open().await;
        store.declare(&[spec(FLAG, 500_000)], at(0)).await.unwrap();
        store
    }

    /// Tampers with the database behind the store's back.
    pub async fn tamper(&self, sql: &str) {
        execute(&self.raw(), sql).await;
    }

    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.raw()).await.unwrap();
        let count: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }

    /// Ends all connections to this case's schema, as a restarted server would.
    pub async fn cut_connections(&self) {
        let (server, schema) = self.schema.as_ref().unwrap();
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{schema}'"
        );
        execute(server, &sql).await;
    }

    fn raw(&self) -> String {
        self.url.replace("sqlite:", "sqlite://")
    }

    pub async fn remove(&self) {
        if let Some((server, schema)) = &self.schema {
            execute(server, &format!("DROP SCHEMA {schema} CASCADE")).await;
        }
    }
}

async fn execute(url: &str, sql: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

pub fn spec(key: &str, share: u32) -> FlagSpec {
    FlagSpec {
        key: key.into(),
        control: "support.v17".into(),
        treatment: "support.v18".into(),
        share,
        frozen: false,
        served: None,
        drill: false,
    }
}

pub fn flag() -> FlagKey {
    FLAG.into()
}

pub fn incident_id(name: &str) -> IncidentId {
    name.into()
}

pub fn decision(id: &str, action: RuleAction) -> Decision {
    Decision {
        id: id.into(),
        key: AlertKey {
            flag: flag(),
            rule: RuleId::new("faithfulness"),
            hash: RuleHash("00".into()),
            slice: Scope::All,
        },
        variant: Variant::new("support.v18"),
        control: Some(Variant::new("support.v17")),
        scope: Scope::All,
        action,
        by: None,
        drill: false,
        confirmed_by: Some(ConfirmedBy::Persistence),
        gate: Gate::Act,
        at: at(0),
        crossing: at(-200),
        t0: at(-180),
        incident: None,
        severity: Severity::Critical,
        failure_class: "quality_regression".into(),
        condition: "faithfulness_1h < 0.92".into(),
        runbook: None,
        owner: None,
        origin: Origin::default(),
        evidence: Evidence {
            values: vec![("faithfulness_1h".into(), Some(0.1 + 0.2)), ("x".into(), None)],
            samples: 812,
            ..Evidence::default()
        },
    }
}

pub fn message(kind: MessageKind, decision: Option<&str>, incident: Option<&str>) -> Message {
    Message {
        dedup_key: format!("rearguard/{FLAG}"),
        kind,
        severity: Severity::Critical,
        flag: Some(flag()),
        variant: None,
        decision: decision.map(DecisionId::from),
        incident: incident.map(IncidentId::from),
        summary: "rolled back".into(),
        detail: String::new(),
        receiver: None,
        at: at(0),
    }
}

pub fn pin(id: &str, scope: Scope) -> Order {
    Order::Pin { decision: id.into(), flag: flag(), scope, control: "support.v17".into(), by: None }
}

pub fn open_incident(id: &str, decision: &str) -> Order {
    Order::OpenIncident(Box::new(IncidentOrder {
        incident: id.into(),
        flag: flag(),
        variant: "support.v18".into(),
        decision: decision.into(),
        severity: Severity::Critical,
        failure_class: "quality_regression".into(),
        title: "support.v18 rolled back".into(),
        at: at(0),
    }))
}

/// A rollback as the engine says it: decision, pin, incident, page.
pub fn rollback(id: &str, incident: &str) -> Output {
    let mut made = decision(id, RuleAction::Rollback);
    made.incident = Some(incident.into());
    Output {
        decisions: vec![made],
        orders: vec![
            pin(id, Scope::All),
            open_incident(incident, id),
            Order::Page(message(MessageKind::Rollback, Some(id), Some(incident))),
        ],
        ..Output::default()
    }
}

/// A pause: decision, freeze, notice.
pub fn pause(id: &str) -> Output {
    Output {
        decisions: vec![decision(id, RuleAction::PauseRollout)],
        orders: vec![
            Order::Freeze { decision: id.into(), flag: flag(), by: None },
            Order::Notify(message(MessageKind::Pause, Some(id), None)),
        ],
        ..Output::default()
    }
}

/// What a real engine says when the variant's answers get worse: the step that rolls it back, and the engine as it is then.
pub fn judged() -> (Output, Engine) {
    let rules = "- variant: support.v18\n  rules:\n    - { condition: faithfulness_1h < 0.8, action: rollback, id: low }\n    - { condition: cost_1h > 1, action: notify }\n";
    let catalogue = Arc::new(Catalogue::default());
    let compiled = compile_rules(&[("rules/support.yaml", rules)], &catalogue, &[]).unwrap();
    let setup = Setup::new(compiled.rules, &[spec(FLAG, 500_000)], &[], None);
    let bench = Bench { catalogue, limits: Limits::default(), lateness: Duration::from_secs(30) };
    let mut rig = Rig::new(vec![setup], &bench, 1);
    let mut found = None;
    let mut watch = |step: Step<'_>| {
        if found.is_none() && !step.output.decisions.is_empty() {
            found = Some((step.output, step.engine.clone()));
        }
    };
    for event in 0..60 * 40i64 {
        let value = if event < 60 * 25 { 0.9 } else { 0.4 } + 0.001 * (event % 50) as f64;
        let line = format!(
            r#"{{"id":"{event}","ts":"{}","variant":"support.v18","metrics":{{"faithfulness":{value}}}}}"#,
            at(event)
        );
        rig.record(0, line.as_bytes(), &mut watch);
    }
    rig.finish(&mut watch);
    found.expect("it is rolled back")
}

pub fn orders(orders: Vec<Order>) -> Output {
    Output { orders, ..Output::default() }
}

pub fn routes() -> Routes {
    Routes {
        page: vec!["oncall".into()],
        notify: vec!["chat".into()],
        publish: vec!["decisions".into()],
        ..Routes::default()
    }
}

pub fn position(offset: i64) -> Position {
    Position {
        sources: vec![SourcePosition {
            source: Source { topic: "events".into(), partition: 3 },
            next_offset: offset,
            watermark: Some(at(1)),
            fates: Fates { consumed: 5, windowed: 5, ..Fates::default() },
        }],
        event_time: Some(at(1)),
        closed: Some(Minute(7)),
    }
}

/// A record of these outputs at wall second `seq`.
pub fn record(seq: u64, outputs: &[Output]) -> StepRecord<'_> {
    let routes = routes();
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
    let offset = i64::try_from(seq).unwrap() * 10;
    let wall = at(i64::try_from(seq).unwrap());
    let mut record = StepRecord::new(seq, wall, outputs, &[], position(offset), &context);
    record.latches = latches(outputs);
    record
}

/// As the engine does it: a pin puts a latch on, an unpin takes it off.
fn latches(outputs: &[Output]) -> Vec<LatchChange> {
    let mut changes = Vec::new();
    for output in outputs {
        for order in &output.orders {
            match order {
                Order::Pin { decision, flag, scope, .. } => changes.push(LatchChange::Open {
                    flag: flag.clone(),
                    scope: scope.clone(),
                    decision: decision.clone(),
                    incident: output
                        .decisions
                        .iter()
                        .find(|made| made.id == *decision)
                        .and_then(|made| made.incident.clone())
                        .unwrap_or_else(|| "inc-none".into()),
                    at: at(0),
                }),
                Order::Unpin { flag, scope, actor } => changes.push(LatchChange::Close {
                    flag: flag.clone(),
                    scope: scope.clone(),
                    by: actor.clone(),
                    why: "mended".into(),
                    false_alarm: false,
                }),
                _ => {}
            }
        }
    }
    changes
}

pub async fn commit(store: &Store, seq: u64, outputs: &[Output]) {
    store.commit(&record(seq, outputs)).await.unwrap();
}

/// Claims everything due.
pub async fn claim(store: &Store, now: Timestamp) -> Vec<OutboxRow> {
    store.claim(1, now, LEASE, 100).await.unwrap()
}

/// Claims everything due and gives the row of this adapter; the others go back.
pub async fn claim_one(store: &Store, now: Timestamp, adapter: &str) -> OutboxRow {
    let mut found = None;
    for row in claim(store, now).await {
        if row.adapter == adapter && found.is_none() {
            found = Some(row);
        } else {
            store.retry(&row, now, "put back").await.unwrap();
        }
    }
    found.unwrap_or_else(|| panic!("no row of `{adapter}` is due"))
}

/// The adapters whose rows are due, in the order of claiming; all are given back.
pub async fn due(store: &Store, now: Timestamp) -> Vec<String> {
    let rows = claim(store, now).await;
    for row in &rows {
        store.retry(row, now, "put back").await.unwrap();
    }
    rows.into_iter().map(|row| row.adapter).collect()
}
