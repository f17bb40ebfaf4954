//! Who asks, and what that token may do.
//!
//! The store compares tokens in constant time. A token that was good is remembered for a few seconds by its SHA-256, so that
//! gateways do not cost a query per request, and longer while the database does not answer: flags are served from memory, and
//! a database that is down must not take every feature with it.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, header, request};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::App;
use super::problem::Problem;
use crate::clock::{Clock, Stopwatch};
use crate::store::{Store, TokenInfo, TokenScope};

/// How long a good token is not asked about again; also how long a revocation elsewhere may take to be noticed.
const FRESH: Duration = Duration::from_secs(5);

/// How long a good token is believed while the database does not answer.
const STALE: Duration = Duration::from_secs(3600);

/// How long a good token is believed while its turn to be looked up does not come.
const CROWDED: Duration = Duration::from_secs(60);

/// Tokens remembered at most.
const REMEMBERED: usize = 1024;

/// Tokens looked up at once: whoever sends made-up ones must not take every connection to the database from the engine.
const LOOKUPS: usize = 2;

/// How long a request waits for its turn to be looked up (real time).
const TURN: Duration = Duration::from_secs(2);

/// Checks tokens.
pub struct Doorkeeper {
    store: Store,
    clock: Clock,
    seen: Mutex<HashMap<[u8; 32], (TokenInfo, Stopwatch)>>,
    turns: Semaphore,
}

impl Doorkeeper {
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, seen: Mutex::new(HashMap::new()), turns: Semaphore::new(LOOKUPS) }
    }

    /// Forgets all, after a revocation.
    pub fn forget(&self) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.clear();
        }
    }

    async fn who(&self, plaintext: &str) -> Result<Option<TokenInfo>, Problem> {
        let hash: [u8; 32] = Sha256::digest(plaintext.as_bytes()).into();
        let known = self.seen.lock().ok().and_then(|seen| seen.get(&hash).cloned());
        if let Some((token, since)) = &known
            && since.elapsed() < FRESH
        {
            return Ok(Some(token.clone()));
        }
        let believed = |within| known.filter(|(_, since)| since.elapsed() < within).map(|(token, _)| token);
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else {
            let busy = || Problem::unavailable("too many tokens are being looked up").hint("try again");
            return believed(CROWDED).map(Some).ok_or_else(busy);
        };
        match self.store.verify_token(plaintext).await {
            Ok(Some(token)) => {
                self.remember(hash, &token);
                Ok(Some(token))
            }
            Ok(None) => {
                if let Ok(mut seen) = self.seen.lock() {
                    seen.remove(&hash);
                }
                Ok(None)
            }
            Err(error) => match believed(STALE) {
                Some(token) if error.is_transient() => Ok(Some(token)),
                _ => Err(error.into()),
            },
        }
    }

    fn remember(&self, hash: [u8; 32], token: &TokenInfo) {
        if let Ok(mut seen) = self.seen.lock() {
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            seen.insert(hash, (token.clone(), self.clock.stopwatch()));
        }
    }
}

/// What a route needs a token to allow, as a type.
pub trait Right {
    const SCOPE: TokenScope;
}

/// Makes a route ask for a token that allows `R`, before anything else is read; gives the token.
pub struct By<R: Right>(TokenInfo, PhantomData<R>);

impl<R: Right> std::ops::Deref for By<R> {
    type Target = TokenInfo;
    fn deref(&self) -> &TokenInfo {
        &self.0
    }
}

impl<R: Right> FromRequestParts<App> for By<R> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut request::Parts, app: &App) -> Result<Self, Problem> {
        allow(app, &parts.headers, R::SCOPE).await.map(|token| Self(token, PhantomData))
    }
}

/// Gateways: OFREP.
pub struct Evaluate;
impl Right for Evaluate {
    const SCOPE: TokenScope = TokenScope::Evaluate;
}

/// Prometheus.
pub struct Scrape;
impl Right for Scrape {
    const SCOPE: TokenScope = TokenScope::Metrics;
}

/// Looking at everything.
pub struct Read;
impl Right for Read {
    const SCOPE: TokenScope = TokenScope::Read;
}

/// Taking incidents on and closing them.
pub struct Ack;
impl Right for Ack {
    const SCOPE: TokenScope = TokenScope::Ack;
}

/// Taking features back.
pub struct Operate;
impl Right for Operate {
    const SCOPE: TokenScope = TokenScope::Operate;
}

/// Serving again what was taken back.
pub struct Rearm;
impl Right for Rearm {
    const SCOPE: TokenScope = TokenScope::Rearm;
}

/// Making and revoking tokens.
pub struct Admin;
impl Right for Admin {
    const SCOPE: TokenScope = TokenScope::Admin;
}

/// The token behind a request, if it may do `scope`.
async fn allow(app: &App, headers: &HeaderMap, scope: TokenScope) -> Result<TokenInfo, Problem> {
    let Some(plaintext) = presented(headers) else {
        return Err(Problem::new(401, "no-token", "a token is needed".into()).hint(format!(
            "send `Authorization: Bearer <token>` with a token of scope `{0}` (`rearguard token create NAME --scope {0}`)",
            scope.as_str()
        )));
    };
    let Some(token) = app.0.door.who(plaintext).await? else {
        return Err(Problem::new(401, "bad-token", "the token is unknown or revoked".into())
            .hint("`rearguard token create` makes a new one"));
    };
    if token.allows(scope) {
        return Ok(token);
    }
    Err(Problem::new(
        403,
        "scope-missing",
        format!("token `{}` may not do this: scope `{}` is missing", token.name, scope.as_str()),
    )
    .hint("use a token with that scope, or with `admin`"))
}

/// `Authorization: Bearer …`, or OFREP's other way, `X-API-Key`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok().map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_unknown_tokens_leaves_known_ones_alone() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        let clock = Clock::system();
        let token = store.create_token("gateway", &[TokenScope::Evaluate], clock.now()).await.unwrap();
        let door = Doorkeeper::new(store, clock);
        assert!(door.who(&token).await.unwrap().is_some());
        let taken = door.turns.acquire_many(LOOKUPS as u32).await.unwrap();
        assert!(door.who(&token).await.unwrap().is_some(), "it was seen a moment ago");
        assert!(door.who("rg_made_up").await.is_err(), "its turn does not come");
        drop(taken);
        assert!(door.who("rg_made_up").await.unwrap().is_none());
    }
}
