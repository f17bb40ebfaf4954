//! Flags: what is served, and the humans' switches.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::auth::{By, Operate, Read, Rearm};
use super::body::{Body, json as answer, read, reason};
use super::problem::{Answer, Problem};
use super::status::command;
use crate::engine::input::CommandKind;
use crate::engine::targeting::share;
use crate::model::flag::{SHARE_MAX, Scope};
use crate::model::id::{DecisionId, FlagKey};
use crate::store::{FlagChange, FlagState, FlagWrite, StoreError};
use crate::telemetry::facts::{Commanded, FalseAlarm};
use crate::telemetry::record;

/// How many changes one flag shows.
const CHANGES: u32 = 50;

/// A flag as people see it.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    control: &'a str,
    treatment: &'a str,
    /// The treatment's share as configured and as served, 0 … 1, before pins and kill.
    configured_share: f64,
    share: f64,
    paused: bool,
    pins: Vec<String>,
    killed: bool,
    declared: bool,
    /// There to practise rollbacks on.
    drill: bool,
    /// The platform that serves it; none for Rearguard's own store.
    platform: Option<&'a str>,
    version: u64,
    /// In words.
    serving: String,
}

impl<'a> Shown<'a> {
    fn of(state: &'a FlagState) -> Self {
        let (spec, overlay) = (&state.spec, &state.overlay);
        let part = |ppm: u32| f64::from(ppm) / f64::from(SHARE_MAX);
        Self {
            key: spec.key.as_str(),
            control: spec.control.as_str(),
            treatment: spec.treatment.as_str(),
            configured_share: part(spec.share),
            share: part(share(spec, overlay)),
            paused: overlay.frozen_share.is_some(),
            pins: overlay.pins.iter().map(ToString::to_string).collect(),
            killed: overlay.killed,
            declared: state.declared,
            drill: spec.drill,
            platform: spec.served.as_ref().map(|served| &*served.platform),
            version: overlay.version,
            serving: serving(state),
        }
    }
}

fn serving(state: &FlagState) -> String {
    let (spec, overlay) = (&state.spec, &state.overlay);
    if let Some(served) = &spec.served {
        let done = match (overlay.pins.contains(&Scope::All), overlay.frozen_share) {
            (true, _) => format!(": {} for everybody (rolled back)", spec.control),
            (false, Some(_)) => ", its share held".to_owned(),
            (false, None) => String::new(),
        };
        return format!("by `{}` ({}), as `{}`{done}", served.platform, served.kind, served.key);
    }
    if overlay.killed {
        return "off for everybody (killed)".into();
    }
    if overlay.pins.contains(&Scope::All) {
        return format!("{} for everybody (rolled back)", spec.control);
    }
    let percent = f64::from(share(spec, overlay)) / f64::from(SHARE_MAX) * 100.0;
    let mut text = format!("{} for {percent} %, {} for the rest", spec.treatment, spec.control);
    if !overlay.pins.is_empty() {
        let pins: Vec<String> = overlay.pins.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; rolled back for {}", pins.join(", ")));
    }
    if overlay.frozen_share.is_some() {
        text.push_str("; share held");
    }
    text
}

/// All flags, by key.
pub async fn list(State(app): State<App>, _: By<Read>) -> Answer {
    let table = app.store.flags();
    let flags: Vec<Shown<'_>> = table.iter().map(|(_, state)| Shown::of(state)).collect();
    Ok(answer(&json!({"flags": flags})))
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    flag: Shown<'a>,
    /// Newest first.
    changes: Vec<FlagChange>,
}

/// One flag with who changed it.
pub async fn show(State(app): State<App>, _: By<Read>, Path(key): Path<String>) -> Answer {
    let key = FlagKey::from(key);
    let table = app.store.flags();
    let Some(state) = table.get(&key) else {
        return Err(StoreError::UnknownFlag(key).into());
    };
    Ok(answer(&One { flag: Shown::of(state), changes: app.store.flag_changes(&key, CHANGES).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    reason: String,
}

/// Turns the feature off for everybody, at once.
pub async fn kill(State(app): State<App>, by: By<Operate>, Path(key): Path<String>, body: Body) -> Answer {
    let (flag, why): (_, Why) = (FlagKey::from(key), read(body, r#"{"reason": "leaks data"}"#)?);
    let why = reason(&why.reason)?;
    served_here(&app, &flag)?;
    let write = app.store.kill(&flag, &by.name, why, app.clock.now()).await?;
    Ok(switched(&by.name, "flag kill", &flag, why, write, "off for everybody"))
}

/// A switch here moves nothing of a flag that another platform serves: nobody may believe that it did.
fn served_here(app: &App, flag: &FlagKey) -> Result<(), Problem> {
    let table = app.store.flags();
    match table.get(flag).and_then(|state| state.spec.served.as_ref()) {
        None => Ok(()),
        Some(served) => Err(Problem::conflict(format!(
            "flag `{flag}` is served by `{}` ({}), so it cannot be switched here",
            served.platform, served.kind
        ))
        .hint(format!(
            "POST /v1/flags/{flag}/rollback (`rearguard flag rollback`) serves control to everybody there; or turn `{}` off there by hand",
            served.key
        ))),
    }
}

/// Turns it on again. Needs the same right as a re-arm, since it serves the variant again; pins of a rollback stay.
pub async fn unkill(State(app): State<App>, by: By<Rearm>, Path(key): Path<String>, body: Body) -> Answer {
    let (flag, why): (_, Why) = (FlagKey::from(key), read(body, r#"{"reason": "fixed"}"#)?);
    let why = reason(&why.reason)?;
    served_here(&app, &flag)?;
    let write = app.store.unkill(&flag, &by.name, why, app.clock.now()).await?;
    Ok(switched(&by.name, "flag unkill", &flag, why, write, "on again"))
}

fn switched(actor: &str, command: &str, flag: &FlagKey, why: &str, write: FlagWrite, how: &str) -> Response {
    record(&Commanded { actor, command, target: flag.as_str(), reason: why, result: "done" });
    answer(&json!({
        "done": format!("flag {flag} is {how}"),
        "changed": write.changed,
        "version": write.version,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    scope: Option<String>,
    #[serde(default)]
    reason: String,
    /// Nothing was wrong: it is counted.
    #[serde(default)]
    false_alarm: bool,
}

/// Takes a rollback's latch off; answered when that has been committed.
pub async fn rearm(State(app): State<App>, by: By<Rearm>, Path(key): Path<String>, body: Body) -> Answer {
    let asked: Taken = read(body, r#"{"scope": "tenant:acme", "reason": "fixed in v19"}"#)?;
    let why = reason(&asked.reason)?;
    let scope =
        scope_of(asked.scope, "leave `scope` out, or send one of those that GET /v1/flags/{key} lists")?;
    let flag = known(&app, &key)?;
    let false_alarm = asked.false_alarm;
    let kind = CommandKind::Rearm { flag: flag.clone(), scope, false_alarm };
    let answer = command(&app, &by, why, kind, "flag rearm", &key).await?;
    if false_alarm {
        record(&FalseAlarm { flag: flag.as_str(), actor: &by.name, reason: why });
    }
    Ok(answer)
}

fn scope_of(text: Option<String>, hint: &str) -> Result<Option<Scope>, Problem> {
    text.map(Scope::try_from).transpose().map_err(|error| Problem::bad_request(error).hint(hint))
}

fn known(app: &App, key: &str) -> Result<FlagKey, Problem> {
    let flag = FlagKey::from(key);
    match app.store.flags().get(&flag) {
        Some(_) => Ok(flag),
        None => Err(StoreError::UnknownFlag(flag).into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    scope: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Rolls back by hand: control is pinned through the outbox and latched; answered with its decision when that has been committed.
pub async fn roll_back(
    State(app): State<App>,
    by: By<Operate>,
    Path(key): Path<String>,
    body: Body,
) -> Answer {
    let asked: Back = read(body, r#"{"scope": "tenant:acme", "reason": "leaks data"}"#)?;
    let why = reason(&asked.reason)?;
    let scope =
        scope_of(asked.scope, "leave `scope` out for everybody, or send `tenant:acme`")?.unwrap_or_default();
    let kind = CommandKind::RollBack { flag: known(&app, &key)?, scope };
    command(&app, &by, why, kind, "flag rollback", &key).await
}

/// Holds the share where it stands.
pub async fn pause(State(app): State<App>, by: By<Operate>, Path(key): Path<String>, body: Body) -> Answer {
    let asked: Why = read(body, r#"{"reason": "incident elsewhere"}"#)?;
    let kind = CommandKind::Pause { flag: known(&app, &key)? };
    command(&app, &by, reason(&asked.reason)?, kind, "flag pause", &key).await
}

/// Lets the share move again, whoever held it.
pub async fn resume(State(app): State<App>, by: By<Operate>, Path(key): Path<String>, body: Body) -> Answer {
    let asked: Why = read(body, r#"{"reason": "looked at it, all is well"}"#)?;
    let kind = CommandKind::Resume { flag: known(&app, &key)? };
    command(&app, &by, reason(&asked.reason)?, kind, "flag resume", &key).await
}

/// How the flip of a decision stands, for whoever waits for it; `flip` is null when it has none.
pub async fn flip(State(app): State<App>, _: By<Operate>, Path(id): Path<String>) -> Answer {
    let decision = DecisionId::from(id);
    if app.store.decision(&decision).await?.is_none() {
        return Err(Problem::not_found(format!("no decision `{decision}` is stored"))
            .hint("the answer to a rollback or pause names its decision"));
    }
    Ok(answer(&json!({"decision": decision, "flip": app.store.flip_state(&decision).await?})))
}
