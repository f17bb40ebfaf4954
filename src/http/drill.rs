//! Drills: a rollback for practice, of a flag that is there for it.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::auth::{By, Operate};
use super::body::{Body, json as answer, read, reason};
use super::problem::Answer;
use super::status::submit;
use crate::engine::budget::Budget;
use crate::engine::input::{CommandKind, DrillFrom};
use crate::store::StoreError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    from: DrillFrom,
}

/// Rolls the flag back as a human would, marked as a drill; or, before events are written, says whether its rules could. With
/// the sum that it must keep from the decision on.
pub async fn begin(State(app): State<App>, by: By<Operate>, Path(key): Path<String>, body: Body) -> Answer {
    let asked: Asked = read(body, r#"{"reason": "first Monday of the month", "from": "decision"}"#)?;
    let why = reason(&asked.reason)?;
    let table = app.store.flags();
    let Some(state) = table.get(&key.as_str().into()) else {
        return Err(StoreError::UnknownFlag(key.into()).into());
    };
    let kind = CommandKind::Drill { flag: state.spec.key.clone(), from: asked.from };
    let reply = submit(&app, &by, why, kind, "drill", &key).await?;
    let budget = Budget::by_hand(&app.timing.on(state.spec.served.as_ref()));
    Ok(answer(&json!({"done": reply.said, "decision": reply.decision, "budget": shown(&budget)})))
}

fn shown(budget: &Budget) -> Value {
    let terms = budget.terms.iter().map(|(term, span)| json!({"term": term, "seconds": span.as_secs_f64()}));
    json!({"terms": terms.collect::<Vec<_>>(), "seconds": budget.total.as_secs_f64()})
}
