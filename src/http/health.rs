//! Health for orchestrators, metrics for Prometheus.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::auth::{By, Scrape};

/// The process answers. Says nothing of databases or brokers: a restart would not bring them back.
pub async fn alive() -> Response {
    axum::Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// Whether verdicts may act, and otherwise why not.
pub async fn ready(State(app): State<App>) -> Response {
    let report = app.report.load();
    let mut why = Vec::new();
    if !report.armed {
        why.push(report.why_not_armed.clone().unwrap_or_else(|| "not armed yet".into()));
    }
    if let Err(error) = app.store.check().await {
        why.push(error.to_string());
    }
    let status = if why.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": why.is_empty(),
        "armed": report.armed,
        "automation": report.automation,
        "dry_run": report.dry_run,
        "event_time": report.event_time.map(|t| t.to_string()),
        "reasons": why,
    });
    (status, axum::Json(body)).into_response()
}

/// Prometheus' text format.
pub async fn metrics(State(app): State<App>, _: By<Scrape>) -> Response {
    let text = app.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
