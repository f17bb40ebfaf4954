//! Tests only: an in-process Alertmanager and webhook receiver on loopback that misbehaves on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;

use super::client::{AllowList, AllowedHost, Outbound};
use super::example;
use super::receiver::{Content, Notice};
use crate::clock::Clock;
use crate::engine::output::{Message, MessageKind};
use crate::model::time::Timestamp;

/// One misbehaviour; the next request gets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Status(u16),
    /// A status with `Retry-After`.
    After(u16, &'static str),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Drop,
    Redirect,
    Huge,
    /// Says 200 and does nothing.
    Ignore,
    /// Behaves well: lets one request pass.
    Pass,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone, Default)]
struct Shared {
    faults: Arc<Mutex<VecDeque<Fault>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// By labels, as Alertmanager keeps them.
    alerts: Arc<Mutex<BTreeMap<String, Value>>>,
}

/// A running fake.
pub struct Fake {
    pub url: String,
    shared: Shared,
}

impl Fake {
    pub async fn start() -> Self {
        let shared = Shared::default();
        let router = Router::new()
            .route("/api/v2/alerts", any(alerts))
            .route("/hook", any(hook))
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub fn outbound(&self) -> Outbound {
        let list = AllowList::new([AllowedHost { host: "127.0.0.1".into(), port: None, private: true }]);
        Outbound::new(list, Clock::system()).unwrap()
    }

    pub fn misbehave(&self, faults: &[Fault]) {
        *self.shared.faults.lock().unwrap() = faults.iter().copied().collect();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The alerts that stand now.
    pub fn standing(&self) -> Vec<Value> {
        standing(&self.shared)
    }
}

/// A message of a kind, as a notice.
pub fn notice(kind: MessageKind) -> Notice {
    let message = Message { kind, ..example::message() };
    Notice {
        id: "rearguard-7-0".into(),
        since: message.at,
        content: Content::Message(Box::new(message)),
        link: Some("https://rearguard.example.com/v1/incidents/x/markdown".into()),
        wakes: true,
        update: false,
        facts: None,
    }
}

fn standing(shared: &Shared) -> Vec<Value> {
    let now = Clock::system().now();
    let alerts = shared.alerts.lock().unwrap();
    alerts
        .values()
        .filter(|alert| Timestamp::parse(alert["endsAt"].as_str().unwrap()).unwrap() > now)
        .cloned()
        .collect()
}

async fn misbehaviour(shared: &Shared) -> Option<Response> {
    let fault = shared.faults.lock().unwrap().pop_front()?;
    let status = |code| StatusCode::from_u16(code).unwrap();
    Some(match fault {
        Fault::Pass => return None,
        Fault::Status(code) => (status(code), "no, because of |this|").into_response(),
        Fault::After(code, wait) => (status(code), [("retry-after", wait)], "later").into_response(),
        Fault::Hang => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return None;
        }
        // The connection's task ends with the panic, and with it the connection.
        Fault::Drop => panic!("asked to drop the connection"),
        Fault::Redirect => (status(307), [("location", "http://127.0.0.1:1/stolen")]).into_response(),
        Fault::Huge => vec![b' '; 3 << 20].into_response(),
        Fault::Ignore => "[]".into_response(),
    })
}

async fn hook(State(shared): State<Shared>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    shared.asked.lock().unwrap().push(Asked { method, headers, body });
    match misbehaviour(&shared).await {
        Some(response) => response,
        None => StatusCode::ACCEPTED.into_response(),
    }
}

async fn alerts(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.asked.lock().unwrap().push(Asked { method: method.clone(), headers, body: body.clone() });
    if let Some(response) = misbehaviour(&shared).await {
        return response;
    }
    if method == Method::GET {
        let filter = query.get("filter").cloned().unwrap_or_default();
        let found: Vec<Value> = standing(&shared)
            .into_iter()
            .filter(|alert| {
                filter == format!("dedup_key={:?}", alert["labels"]["dedup_key"].as_str().unwrap())
            })
            .collect();
        return Json(found).into_response();
    }
    let posted: Vec<Value> = serde_json::from_slice(&body).unwrap();
    let mut kept = shared.alerts.lock().unwrap();
    for mut alert in posted {
        let labels = alert["labels"].as_object().unwrap().clone();
        if labels.is_empty() || labels.values().any(|v| v.as_str().is_none_or(str::is_empty)) {
            return (StatusCode::BAD_REQUEST, "empty label").into_response();
        }
        let key = serde_json::to_string(&labels).unwrap();
        // As Alertmanager does: the earliest start counts.
        if let Some(old) = kept.get(&key) {
            alert["startsAt"] = old["startsAt"].clone();
        }
        for (field, value) in [("fingerprint", Value::from("f")), ("receivers", Value::Array(Vec::new()))] {
            alert[field] = value;
        }
        kept.insert(key, alert);
    }
    StatusCode::OK.into_response()
}
