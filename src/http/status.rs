//! How Rearguard stands, and whether it acts.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::auth::{By, Operate, Read};
use super::body::{Body, json as answer, read, reason};
use super::problem::{Answer, Problem};
use crate::engine::input::{Command, CommandKind};
use crate::engine::output::{Reply, Report};
use crate::model::canary::Standing;
use crate::store::{OutboxStats, TokenInfo};
use crate::telemetry::facts::Commanded;
use crate::telemetry::record;

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    /// Virtual time.
    now: String,
    database: String,
    report: &'a Report,
    /// Absent without `canary:` in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<Arc<Standing>>,
    outbox: OutboxStats,
    outbox_oldest_seconds: f64,
    flags: usize,
}

/// The engine's report and the outbox in numbers.
pub async fn status(State(app): State<App>, _: By<Read>) -> Answer {
    let now = app.clock.now();
    let outbox = app.store.outbox_stats(now).await?;
    let report = app.report.load();
    Ok(answer(&Status {
        version: env!("CARGO_PKG_VERSION"),
        now: now.to_string(),
        database: app.store.address(),
        report: &report,
        canary: app.canary.as_ref().map(|canary| canary.load_full()),
        outbox_oldest_seconds: outbox.age(now).as_secs_f64(),
        outbox,
        flags: app.store.flags().len(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
    #[serde(default)]
    reason: String,
}

/// `automation on|off`.
pub async fn automation(State(app): State<App>, by: By<Operate>, body: Body) -> Answer {
    let switch: Switch = read(body, r#"{"on": false, "reason": "false alarms since 02:00"}"#)?;
    let kind = CommandKind::Automation { on: switch.on };
    let word = if switch.on { "on" } else { "off" };
    command(&app, &by, reason(&switch.reason)?, kind, "automation", word).await
}

/// Sends a command to the engine, waits for its commit and says what happened.
pub async fn command(
    app: &App,
    token: &TokenInfo,
    reason: &str,
    kind: CommandKind,
    name: &str,
    target: &str,
) -> Answer {
    let reply = submit(app, token, reason, kind, name, target).await?;
    Ok(match reply.decision {
        Some(decision) => answer(&json!({"done": reply.said, "decision": decision})),
        None => answer(&json!({"done": reply.said})),
    })
}

/// The same, for routes that say more.
pub async fn submit(
    app: &App,
    token: &TokenInfo,
    reason: &str,
    kind: CommandKind,
    name: &str,
    target: &str,
) -> Result<Reply, Problem> {
    let result = app
        .commander
        .submit(Command { actor: token.name.clone(), reason: reason.to_owned(), at: app.clock.now(), kind })
        .await;
    record(&Commanded {
        actor: &token.name,
        command: name,
        target,
        reason,
        result: &match &result {
            Ok(reply) => reply.said.clone(),
            Err(error) => error.to_string(),
        },
    });
    Ok(result?)
}
