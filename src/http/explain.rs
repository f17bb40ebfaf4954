//! Why a rule did, or did not, fire at the last closing.

use axum::extract::{Query, State, rejection::QueryRejection};
use serde::Deserialize;

use super::App;
use super::auth::{By, Read};
use super::body::json as answer;
use super::problem::{Answer, Problem};
use crate::engine::explain::Question;
use crate::model::flag::Scope;
use crate::model::id::{RuleId, Variant};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    variant: Option<String>,
    rule: Option<String>,
    slice: Option<String>,
}

/// All rules, or those that are asked about.
pub async fn explain(
    State(app): State<App>,
    _: By<Read>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let usage = "?variant=VARIANT&rule=ID&slice=tenant:acme, each may be left out";
    let Query(asked) = query.map_err(|error| Problem::bad_request(error.body_text()).hint(usage))?;
    let slice = asked.slice.map(Scope::try_from).transpose();
    let question = Question {
        variant: asked.variant.map(Variant::from),
        rule: asked.rule.map(RuleId::from),
        slice: slice.map_err(|error| Problem::bad_request(error).hint(usage))?,
    };
    Ok(answer(&app.commander.explain(question).await?))
}
