//! The stand-in over HTTP, with faults.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Asked, Platform};

/// A misbehaviour; each request takes the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Pass,
    Status(u16),
    /// With `Retry-After`.
    After(u16, &'static str),
    /// Never answers, does nothing.
    Hang,
    /// Does it, then breaks the answer off.
    Half,
    /// Says that it is done and does nothing.
    Ignore,
    /// Does it and never answers.
    Late,
    Redirect,
    Huge,
    /// Refuses, and repeats what it was sent.
    Echo(u16),
}

struct Shared<P> {
    platform: P,
    faults: VecDeque<Fault>,
    asked: Vec<Asked>,
}

type Handle<P> = Arc<Mutex<Shared<P>>>;

/// A running stand-in.
pub struct Standin<P> {
    pub url: String,
    shared: Handle<P>,
}

impl<P: Platform> Standin<P> {
    pub async fn start(platform: P) -> Self {
        let shared = Arc::new(Mutex::new(Shared { platform, faults: VecDeque::new(), asked: Vec::new() }));
        let router = Router::new().fallback(handle::<P>).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub fn misbehave(&self, faults: &[Fault]) {
        self.shared.lock().unwrap().faults = faults.iter().copied().collect();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().asked.clone()
    }

    pub fn platform(&self) -> P {
        self.shared.lock().unwrap().platform.clone()
    }
}

async fn handle<P: Platform>(
    State(shared): State<Handle<P>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked {
        method: method.to_string(),
        path: uri.path_and_query().unwrap().to_string(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect(),
        body: serde_json::from_slice(&body).ok(),
        bytes: body.to_vec(),
    };
    let fault = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(asked.clone());
        shared.faults.pop_front().unwrap_or(Fault::Pass)
    };
    let real = || {
        let (code, body) = shared.lock().unwrap().platform.answer(&asked);
        reply(code, body)
    };
    match fault {
        Fault::Pass => real(),
        Fault::Status(code) => (status(code), "no").into_response(),
        Fault::After(code, wait) => (status(code), [("retry-after", wait)], "later").into_response(),
        Fault::Hang => hang().await,
        Fault::Late => {
            real();
            hang().await
        }
        Fault::Half => {
            real();
            ([("content-length", "1000")], Body::new(Torn(false))).into_response()
        }
        Fault::Ignore => {
            let mut copy = shared.lock().unwrap().platform.clone();
            let (code, body) = copy.answer(&asked);
            reply(code, body)
        }
        Fault::Redirect => (status(307), [("location", "http://127.0.0.1:1/stolen")]).into_response(),
        Fault::Echo(code) => (status(code), format!("{:?}", asked.headers)).into_response(),
        Fault::Huge => vec![b' '; 3 << 20].into_response(),
    }
}

/// A body that breaks off.
struct Torn(bool);

impl hyper::body::Body for Torn {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"half\":")))))
    }
}

/// A text goes out as it is, all else as JSON.
fn reply(code: u16, body: Value) -> Response {
    match body {
        Value::String(text) => (status(code), text).into_response(),
        body => (status(code), axum::Json(body)).into_response(),
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

async fn hang() -> Response {
    tokio::time::sleep(Duration::from_secs(60)).await;
    StatusCode::GATEWAY_TIMEOUT.into_response()
}
