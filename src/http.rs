//! What is served over HTTP: OFREP for gateways, the admin API for people and the command line, health and metrics.
//!
//! In: requests, on a listener that somebody else bound. Out: answers from memory (flags, report) and from the store; commands
//! that change the engine's memory go through [`Commander`] and are answered once they have been committed. Every route needs
//! a token, health excepted. Errors are problem documents (RFC 9457) that say what would be right; OFREP has its own bodies.
//! Never imports `dispatch` or `ingest`.

mod auth;
mod body;
mod drill;
mod explain;
mod flags;
mod health;
mod incidents;
mod listen;
mod ofrep;
mod problem;
mod replay;
mod status;
mod tokens;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::auth::Doorkeeper;
use self::problem::Problem;
use crate::clock::Clock;
use crate::engine::budget::Timing;
use crate::engine::explain::{Answer as Explained, NothingMeant, Question};
use crate::engine::input::Command;
use crate::engine::output::{CommandError, Reply, Report};
use crate::model::canary::Standing;
use crate::model::id::IncidentId;
use crate::store::Store;
use crate::telemetry::facts::Answered;
use crate::telemetry::{Metrics, record};

/// A future behind a trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way into the engine. The app implements it with a channel to the engine's loop.
pub trait Commander: Send + Sync {
    /// Hands a command to the engine; answers with what happened once that has been committed.
    fn submit(&self, command: Command) -> Boxed<'_, Result<Reply, SubmitError>>;

    /// Asks why rules did or did not fire at the last closing. Changes nothing.
    fn explain(&self, asked: Question) -> Boxed<'_, Result<Explained, SubmitError>>;
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The engine refused it.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// Nothing in force is what was asked about.
    #[error(transparent)]
    NothingMeant(#[from] NothingMeant),
    /// The engine does not take commands now, or the commit failed: nothing is known to have changed.
    #[error("{0}")]
    Unavailable(String),
}

/// Writes incidents as Markdown. The app implements it with dispatch's incident book.
pub trait IncidentWriter: Send + Sync {
    /// The incident as things stand now; `None` if there is none of that id.
    fn markdown(&self, id: IncidentId) -> Boxed<'_, Result<Option<String>, String>>;
}

/// All that the API answers from.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The engine's latest report, replaced by the engine's loop.
    pub report: Arc<ArcSwap<Report>>,
    /// How the canary stands, replaced by its task; `None` without one.
    pub canary: Option<Arc<ArcSwap<Standing>>>,
    pub commander: Arc<dyn Commander>,
    pub writer: Arc<dyn IncidentWriter>,
    /// What of the ten minutes is configured.
    pub timing: Timing,
}

/// Bounds of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The largest request body, in bytes.
    pub body: usize,
    /// The longest that a request may take (real time). A re-arm waits for its commit.
    pub within: Duration,
    /// The longest between two requests of a connection, or that a request's head may take to arrive (real time).
    pub head: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// How long requests under way may go on after the stop signal.
    pub drain: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            body: 64 << 10,
            within: Duration::from_secs(15),
            head: Duration::from_secs(60),
            // Leaves room below the usual limit of 1,024 open files.
            connections: 768,
            drain: Duration::from_secs(10),
        }
    }
}

#[derive(Clone)]
struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
    door: Doorkeeper,
    settings: HttpSettings,
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// Serves until told to stop, then finishes the requests under way.
pub async fn serve(listener: TcpListener, parts: Parts, settings: HttpSettings, stop: CancellationToken) {
    listen::listen(listener, router(parts, settings), settings, stop).await;
}

/// All routes.
pub fn router(parts: Parts, settings: HttpSettings) -> Router {
    let app =
        App(Arc::new(Inner { door: Doorkeeper::new(parts.store.clone(), parts.clock), parts, settings }));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/ofrep/v1/evaluate/flags", post(ofrep::bulk))
        .route("/ofrep/v1/evaluate/flags/{key}", post(ofrep::single))
        .route("/v1/status", get(status::status))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/automation", put(status::automation))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::show))
        .route("/v1/incidents/{id}/markdown", get(incidents::markdown))
        .route("/v1/incidents/{id}/replay", get(replay::replay))
        .route("/v1/incidents/{id}/ack", post(incidents::acknowledge))
        .route("/v1/incidents/{id}/resolve", post(incidents::resolve))
        .route("/v1/flags", get(flags::list))
        .route("/v1/flags/{key}", get(flags::show))
        .route("/v1/flags/{key}/kill", post(flags::kill).delete(flags::unkill))
        .route("/v1/flags/{key}/rearm", post(flags::rearm))
        .route("/v1/flags/{key}/rollback", post(flags::roll_back))
        .route("/v1/flags/{key}/drill", post(drill::begin))
        .route("/v1/flags/{key}/pause", post(flags::pause))
        .route("/v1/flags/{key}/resume", post(flags::resume))
        .route("/v1/decisions/{id}/flip", get(flags::flip))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}", delete(tokens::revoke))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), bounded))
        .layer(DefaultBodyLimit::max(settings.body))
        .with_state(app)
}

async fn no_route(request: Request) -> Problem {
    Problem::not_found(format!("there is no `{}`", request.uri().path())).hint("docs/api.md lists all routes")
}

fn unreadable_path() -> Problem {
    Problem::bad_request("what the path means after percent-decoding is no UTF-8")
        .hint("keys and names are UTF-8")
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(405, "method-not-allowed", format!("`{}` is not possible here", request.method()))
        .hint("docs/api.md lists the methods of each route; `allow` names those of this one")
}

/// Ends what takes too long, and measures everything.
async fn bounded(State(app): State<App>, request: Request, next: Next) -> Response {
    let watch = app.clock.stopwatch();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let within = app.0.settings.within;
    let readable = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
    let answer = async { if readable { next.run(request).await } else { unreadable_path().into_response() } };
    let response = match tokio::time::timeout(within, answer).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            503,
            "time-out",
            format!("not answered within {} s; whether it took effect is not known", within.as_secs_f64()),
        )
        .hint("look at the state before asking again")
        .into_response(),
    };
    record(&Answered {
        route: &route,
        method: method.as_str(),
        status: response.status().as_u16(),
        took: watch.elapsed(),
    });
    response
}

#[cfg(test)]
mod tests;
