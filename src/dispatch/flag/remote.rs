//! Flags on a vendor's platform over HTTP: the calls of a [`Vendor`] core sent, its answers judged.
//!
//! Owns base addresses, secrets and deadlines. A write reads the flag again first, since no platform here takes a condition
//! with it; the read-back at the evaluation plane is what decides.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;

use super::configcat::ConfigCat;
use super::launchdarkly::LaunchDarkly;
use super::statsig::{self, Statsig};
use super::unleash::Unleash;
use super::vendor::{Auth, Call, KEY_IN_PATH, Meaning, Plane, State, Vendor, Verdict, reset_after};
use super::webhook::Webhook;
use super::{FlagPlatform, Result, Seen, Wanted, bounded, patiently, question};
use crate::dispatch::client::{Answer, MAX_ANSWER, Outbound, Request, Secret};
use crate::dispatch::failure::{Failure, http_date};
use crate::dispatch::pager::webhook::sign;
use crate::dispatch::receiver::Attempt;
use crate::model::flag::{Scope, Served};
use crate::model::time::Timestamp;
use crate::store::Flip;

/// The largest answer of an evaluation plane: some give all flags of an environment at once.
const MAX_PLANE: usize = 32 << 20;

/// A vendor's platform as configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSpec {
    pub service: Service,
    /// Where flags are written.
    pub admin: Endpoint,
    /// Where gateways read.
    pub evaluation: Endpoint,
    /// The user interface, for the link to undo.
    pub web: Option<String>,
    /// What the platform calls the owner of Rearguard's token: changes by it are no human's.
    pub writes_as: Option<String>,
}

/// An address and who asks there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub url: String,
    /// For basic authentication.
    pub user: Option<String>,
    pub secret: Secret,
}

/// Whose platform it is, and where on it the flags are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    Unleash { project: String, environment: String },
    LaunchDarkly { project: String, environment: String },
    ConfigCat { environment: String },
    Statsig,
    Webhook,
}

impl Service {
    /// The adapter, for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unleash { .. } => "unleash",
            Self::LaunchDarkly { .. } => "launchdarkly",
            Self::ConfigCat { .. } => "configcat",
            Self::Statsig => "statsig",
            Self::Webhook => "webhook",
        }
    }

    /// A flag there. Fails if what configuration calls it cannot be.
    fn flag(&self, served: &Served) -> Result<Box<dyn Vendor>> {
        let Served { key, control, treatment, .. } = served.clone();
        Ok(match self.clone() {
            Self::Unleash { project, environment } => {
                Box::new(Unleash { project, feature: key, environment, control, treatment })
            }
            Self::LaunchDarkly { project, environment } => {
                Box::new(LaunchDarkly { project, flag: key, environment, control, treatment })
            }
            Self::ConfigCat { environment } => {
                let id = served.id.as_deref().and_then(|id| id.parse().ok());
                let setting = id.ok_or_else(|| Failure::permanent(format!("setting `{key}` has no `id`")))?;
                let (control, treatment) = (literal(&control), literal(&treatment));
                Box::new(ConfigCat { environment, setting, key, control, treatment })
            }
            Self::Statsig => {
                let kind = match (&*control, &*treatment) {
                    ("false", "true") => statsig::Kind::Gate,
                    _ => statsig::Kind::Experiment { control, treatment },
                };
                Box::new(Statsig { id: key, kind })
            }
            Self::Webhook => Box::new(Webhook { key, control, treatment }),
        })
    }
}

/// A value as it stands in configuration: `true`, `7` or text.
fn literal(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Flags of one project on a vendor's platform.
pub struct Remote {
    name: String,
    spec: RemoteSpec,
    outbound: Outbound,
}

/// A flag as it was read.
struct Found {
    answers: Vec<Value>,
    state: State,
    /// The platform's own time.
    now: Timestamp,
}

impl Remote {
    /// The platform at these addresses; nothing is sent.
    pub fn new(name: String, spec: RemoteSpec, outbound: &Outbound) -> Result<Self> {
        for endpoint in [&spec.admin, &spec.evaluation] {
            outbound.address(&endpoint.url)?;
        }
        Ok(Self { name, spec, outbound: outbound.clone() })
    }

    async fn find(&self, vendor: &dyn Vendor, within: Duration) -> Result<Found> {
        let (answers, now) = self.questions(vendor, &vendor.read(), MAX_ANSWER, within).await?;
        let state = vendor.state(&answers)?;
        Ok(Found { answers, state, now })
    }

    async fn see(&self, wanted: &Wanted, within: Duration) -> Result<Seen> {
        let vendor = &*self.spec.service.flag(wanted.there()?)?;
        let found = self.find(vendor, within).await?;
        let mut seen = Seen { version: found.state.version.to_string(), ..Seen::default() };
        match &wanted.flip {
            Flip::Pin { scope: Scope::All, .. } => {
                seen.done = found.state.pinned;
                seen.safe = found.state.safe;
            }
            Flip::Pin { scope, .. } => {
                let why = format!("a flag there cannot be rolled back for {scope} alone");
                return Err(Failure::permanent(why));
            }
            Flip::Freeze { .. } => {
                seen.done = vendor.freeze(&found.answers)?.is_empty();
                if let Some(what) = found.state.moves.as_ref().filter(|_| seen.done) {
                    let why = format!("the share moves by itself ({what}); stop that by hand");
                    return Err(Failure::permanent(why));
                }
            }
            // What people have written, people take back.
            Flip::Unpin { .. } | Flip::Unfreeze { .. } => seen.done = true,
        }
        seen.changed = self.by_human(&found, wanted);
        seen.locked = found.state.locked;
        seen.undo = self.spec.web.as_ref().map(|web| vendor.undo(web));
        Ok(seen)
    }

    /// A change of the flag since the decision that is not Rearguard's own. Measured in the platform's time.
    fn by_human(&self, found: &Found, wanted: &Wanted) -> Option<String> {
        let change = found.state.last_change.as_ref()?;
        let clock = self.outbound.clock();
        let age = clock.real_span(clock.now().since(wanted.since));
        let at = change.at.filter(|at| *at > found.now - age)?;
        if change.by.is_some() && change.by == self.spec.writes_as {
            return None;
        }
        let by = change.by.as_deref().unwrap_or("somebody");
        Some(format!("changed on {} by {by} at {at}", self.name))
    }

    async fn change(&self, wanted: &Wanted, version: &str, within: Duration) -> Result<()> {
        let watch = self.outbound.clock().stopwatch();
        let vendor = &*self.spec.service.flag(wanted.there()?)?;
        let found = self.find(vendor, within).await?;
        if found.state.version.to_string() != version {
            return Err(Failure::Conflict { why: format!("changed on {} since it was read", self.name) });
        }
        let calls = match &wanted.flip {
            Flip::Pin { decision, .. } => vendor.pin(&found.answers, &format!("Rearguard, {decision}"))?,
            Flip::Freeze { .. } => vendor.freeze(&found.answers)?,
            Flip::Unpin { .. } | Flip::Unfreeze { .. } => Vec::new(),
        };
        for call in &calls {
            let left = within.saturating_sub(watch.elapsed());
            let answer = self.send(vendor, call, MAX_ANSWER, left).await?;
            if !answer.status.is_success() {
                return Err(self.refusal(vendor, &answer));
            }
        }
        Ok(())
    }

    async fn check(&self, wanted: &Wanted, within: Duration) -> Result<String> {
        let served = wanted.there()?;
        let vendor = &*self.spec.service.flag(served)?;
        match &wanted.flip {
            Flip::Pin { .. } => {
                patiently(self.outbound.clock(), within, |left| self.look(vendor, served, left)).await
            }
            Flip::Freeze { .. } => {
                let found = self.find(vendor, within).await?;
                if !vendor.freeze(&found.answers)?.is_empty() {
                    return Err(Failure::retryable("the share is not held"));
                }
                Ok(found.state.share.map_or_else(
                    || "the share stands where it was".into(),
                    |share| format!("the share stands at {} %", f64::from(share) / 10_000.0),
                ))
            }
            Flip::Unpin { .. } => Ok(format!("a human puts back on {} what was there", self.name)),
            Flip::Unfreeze { .. } => Ok(format!("whoever moves the share on {} goes on", self.name)),
        }
    }

    async fn look(&self, vendor: &dyn Vendor, served: &Served, within: Duration) -> Result<String> {
        let (answers, _) = self.questions(vendor, &vendor.evaluation(), MAX_PLANE, within).await?;
        match vendor.judge(&answers)? {
            Verdict::Clear { revision } => {
                let revision =
                    revision.map_or_else(String::new, |revision| format!(" (revision {revision})"));
                Ok(format!("{} gives nobody `{}`{revision}", self.name, served.treatment))
            }
            Verdict::Exposed { by } => Err(Failure::retryable(format!("still served: {by}"))),
        }
    }

    /// Asks one after the other; with the platform's time, by its last answer.
    async fn questions(
        &self,
        vendor: &dyn Vendor,
        calls: &[Call],
        most: usize,
        within: Duration,
    ) -> Result<(Vec<Value>, Timestamp)> {
        let watch = self.outbound.clock().stopwatch();
        let (mut answers, mut now) = (Vec::new(), self.outbound.clock().real_now());
        for call in calls {
            let left = within.saturating_sub(watch.elapsed());
            let answer = self.send(vendor, call, most, left).await.map_err(question)?;
            if !answer.status.is_success() {
                let failure = self.refusal(vendor, &answer);
                if call.optional && failure.is_permanent() {
                    answers.push(Value::Null);
                    continue;
                }
                return Err(match failure {
                    Failure::Conflict { why } => Failure::retryable(why),
                    failure => failure,
                });
            }
            now = date(&answer.headers).unwrap_or(now);
            let broken = |error| Failure::retryable(format!("the answer is no JSON: {error}"));
            answers.push(serde_json::from_slice(&answer.body).map_err(broken)?);
        }
        Ok((answers, now))
    }

    async fn send(&self, vendor: &dyn Vendor, call: &Call, most: usize, within: Duration) -> Result<Answer> {
        let endpoint = self.endpoint(call.plane);
        let auth = vendor.auth(call.plane);
        let path = match auth {
            Auth::Path => call.path.replace(KEY_IN_PATH, &super::vendor::segment(endpoint.secret.reveal())),
            Auth::Header(_) | Auth::Basic | Auth::Signed => call.path.clone(),
        };
        let url = Url::parse(&format!("{}{path}", endpoint.url.trim_end_matches('/')))
            .map_err(|error| Failure::permanent(format!("not an address: {error}")))?;
        let mut headers: Vec<(&'static str, String)> =
            call.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if let Auth::Header(name) = auth {
            headers.push((name, endpoint.secret.reveal().to_owned()));
        }
        let body = call.body.as_ref().map(|body| body.to_string().into_bytes());
        if auth == Auth::Signed {
            let stamp = (self.outbound.clock().real_now().as_millis() / 1000).to_string();
            let mut signed = format!("{} {}\n", call.method, url.path()).into_bytes();
            signed.extend(body.iter().flatten());
            headers.push(("x-rearguard-signature", sign(&endpoint.secret, &stamp, &signed)?));
            headers.push(("x-rearguard-timestamp", stamp));
        }
        let user = endpoint.user.as_deref().filter(|_| auth == Auth::Basic);
        let request = Request {
            method: call.method.clone(),
            headers,
            basic: user.map(|user| (user, &endpoint.secret)),
            body,
            ..Request::get(url)
        };
        self.outbound.ask(request, within, most).await
    }

    const fn endpoint(&self, plane: Plane) -> &Endpoint {
        match plane {
            Plane::Admin => &self.spec.admin,
            Plane::Evaluation => &self.spec.evaluation,
        }
    }

    /// What a refusal means on this platform. What it says is shown without the secrets that it may repeat.
    fn refusal(&self, vendor: &dyn Vendor, answer: &Answer) -> Failure {
        let now = self.outbound.clock().real_now();
        let body = String::from_utf8_lossy(&answer.body);
        let said = answer.said(&[&self.spec.admin.secret, &self.spec.evaluation.secret]);
        let plain = Failure::from_status(answer.status, &answer.headers, now, &said);
        let why = plain.to_string();
        match vendor.meaning(answer.status.as_u16(), &body) {
            Meaning::Conflict => Failure::Conflict { why },
            Meaning::Approval => {
                Failure::permanent(format!("{why}; another person has to approve changes there"))
            }
            Meaning::Retry => {
                Failure::Retryable { after: plain.after().or_else(|| reset_after(&answer.headers, now)), why }
            }
            Meaning::Done | Meaning::Refused => Failure::permanent(why),
        }
    }
}

/// `Date` (RFC 9110 §6.6.1).
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

impl FlagPlatform for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        self.spec.service.as_str()
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen> {
        Box::pin(async move { bounded(&self.name, self.see(wanted, within), within).await.map_err(question) })
    }

    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        _: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()> {
        Box::pin(async move { bounded(&self.name, self.change(wanted, version, within), within).await })
    }

    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String> {
        Box::pin(
            async move { bounded(&self.name, self.check(wanted, within), within).await.map_err(question) },
        )
    }
}
