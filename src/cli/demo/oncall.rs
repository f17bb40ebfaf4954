//! The demo's on-call engineer: a loopback HTTP receiver that verifies signatures as `docs/incidents.md` says.
//!
//! Flows in: signed calls of Rearguard's webhook receiver. Flows out: [`Call`]s whose signature was good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::dispatch::client::Secret;
use crate::dispatch::pager::webhook::sign;
use crate::engine::output::{Message, MessageKind};
use crate::supervise::{OnError, Supervisor, Task};

/// Calls that may wait to be shown.
const WAITING: usize = 256;

/// A message that came with a good signature.
#[derive(Clone, Debug)]
pub struct Call {
    pub resolved: bool,
    pub message: Message,
}

impl Call {
    /// Whether it is meant to wake somebody.
    pub fn is_page(&self) -> bool {
        let notices = [
            MessageKind::Pause,
            MessageKind::Notice,
            MessageKind::Resolved,
            MessageKind::NoData,
            MessageKind::Masked,
        ];
        !self.resolved && !notices.contains(&self.message.kind)
    }
}

#[derive(Deserialize)]
struct Body {
    state: Option<String>,
    message: Option<Message>,
}

struct Desk {
    secret: Secret,
    calls: mpsc::Sender<Call>,
}

/// Answers the telephone: the address to call, and the calls.
pub async fn listen(
    secret: &str,
    supervisor: &Supervisor,
) -> anyhow::Result<(SocketAddr, mpsc::Receiver<Call>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("opening the demo's receiver")?;
    let address = listener.local_addr()?;
    let (calls, heard) = mpsc::channel(WAITING);
    let desk = Arc::new(Desk { secret: Secret::new(secret), calls });
    let mut given = Some((listener, Router::new().route("/page", post(take)).with_state(desk)));
    let task = Task { name: "demo-oncall", on_error: OnError::Stop, drain: Duration::from_secs(1) };
    supervisor.spawn(task, move |stop| {
        let given = given.take();
        async move {
            let Some((listener, router)) = given else {
                return Err("the receiver opens only once".into());
            };
            // Idle connections need no farewell: the demo is over then.
            tokio::select! {
                served = axum::serve(listener, router) => Ok(served?),
                () = stop.cancelled() => Ok(()),
            }
        }
    });
    Ok((address, heard))
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(stamp), Some(signature)) = (header("x-rearguard-timestamp"), header("x-rearguard-signature"))
    else {
        return StatusCode::UNAUTHORIZED;
    };
    let good = sign(&desk.secret, stamp, &body)
        .is_ok_and(|expected| bool::from(expected.as_bytes().ct_eq(signature.as_bytes())));
    if !good {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(body) = serde_json::from_slice::<Body>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let Some(message) = body.message else {
        return StatusCode::NO_CONTENT;
    };
    let call = Call { resolved: body.state.as_deref() == Some("resolved"), message };
    match desk.calls.try_send(call) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
