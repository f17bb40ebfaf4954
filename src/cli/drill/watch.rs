//! What the daemon knows of a drill, asked again and again.

use serde::Deserialize;
use serde_json::Value;

use super::Api;
use crate::cli::output::Trouble;
use crate::engine::input::FlipOutcome;
use crate::engine::rule::Rule;
use crate::model::time::Timestamp;
use crate::store::FlipState;

/// What has happened so far. All times are the daemon's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// When the first event was made.
    pub begun: Option<Timestamp>,
    /// The rule's window holds samples; the rule waits out `for`. Only where the drill begins with events.
    pub events_seen: Option<Timestamp>,
    pub breach_seen: Option<Timestamp>,
    /// The start of the ten minutes.
    pub t0: Timestamp,
    /// When decision and incident were stored.
    pub opened: Option<Timestamp>,
    pub decision: String,
    pub incident: String,
    pub withheld: Option<String>,
    /// When the flag was written, and where.
    pub written: Option<Timestamp>,
    pub platform: String,
    pub flip: Option<(Timestamp, FlipOutcome)>,
    pub flip_detail: String,
    /// How a human puts the flag back, where Rearguard does not.
    pub undo: Option<String>,
    /// When the first page was accepted, and by which receiver.
    pub page: Option<(Timestamp, String)>,
    pub acknowledged: Option<(Timestamp, String)>,
}

impl Facts {
    /// Whether nothing more is to come.
    pub fn complete(&self, wait_for_a_human: bool) -> bool {
        (self.flip.is_some() || self.withheld.is_some())
            && self.page.is_some()
            && (!wait_for_a_human || self.acknowledged.is_some())
    }
}

/// A flag as far as a drill asks.
#[derive(Clone, Debug, Deserialize)]
pub struct Flag {
    pub drill: bool,
    /// The platform that serves it; `None` for Rearguard's own store.
    pub platform: Option<String>,
    pub serving: String,
    pub pins: Vec<String>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug, Deserialize)]
struct Change {
    at: Timestamp,
    kind: String,
    decision: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    decision: String,
    t0: Option<Timestamp>,
    at: Timestamp,
    opened: Timestamp,
    page_accepted: Option<Timestamp>,
    acked: Option<Timestamp>,
    acked_by: Option<String>,
    withheld: Option<Withheld>,
}

#[derive(Deserialize)]
struct Withheld {
    why: String,
}

#[derive(Deserialize)]
struct Detail {
    timeline: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kind: String,
    detail: String,
}

/// The flag as it stands.
pub fn flag(api: &Api, key: &str) -> Result<Flag, Trouble> {
    read(api, &api.read.get(&["v1", "flags", key], &[])?)
}

/// The daemon's time.
pub fn now(api: &Api) -> Result<Timestamp, Trouble> {
    let status = api.read.get(&["v1", "status"], &[])?;
    time(&status).ok_or_else(|| api.read.stranger("its status has no time"))
}

/// Looks how far a rule is on the way to its decision.
pub fn look_at_rule(api: &Api, rule: &Rule, facts: &mut Facts) -> Result<(), Trouble> {
    let status = api.read.get(&["v1", "status"], &[])?;
    let now = time(&status);
    let mut alerts = status["report"]["alerts"].as_array().into_iter().flatten();
    let of = |alert: &&Value| {
        alert["key"]["flag"] == *rule.flag.as_str() && alert["key"]["rule"] == *rule.id.as_str()
    };
    let Some(alert) = alerts.find(of) else { return Ok(()) };
    if alert["samples"].as_u64() > Some(0) {
        facts.events_seen = facts.events_seen.or(now);
    }
    if alert["phase"] != "quiet" {
        facts.breach_seen = facts.breach_seen.or(now);
    }
    Ok(())
}

/// Looks once; `facts` keeps what it has where nothing newer is known.
pub fn look(api: &Api, key: &str, facts: &mut Facts) -> Result<(), Trouble> {
    let query = [("flag", key), ("status", "unresolved"), ("limit", "1")];
    let listed = api.read.get(&["v1", "incidents"], &query)?;
    let Some(incident) = listed["incidents"].get(0) else { return Ok(()) };
    let incident: Listed = read(api, incident)?;
    facts.t0 = incident.t0.unwrap_or(incident.at);
    facts.opened = Some(incident.opened);
    facts.withheld = incident.withheld.map(|withheld| withheld.why);
    facts.acknowledged = incident.acked.zip(incident.acked_by);
    let flag = flag(api, key)?;
    let own = |change: &&Change| change.kind == "pin" && change.decision.as_ref() == Some(&incident.decision);
    facts.written = flag.changes.iter().find(own).map(|change| change.at);
    facts.platform = format!("at `{}`", flag.platform.as_deref().unwrap_or("builtin"));
    let found = api.operate.get(&["v1", "decisions", &incident.decision, "flip"], &[])?;
    let flip: Option<FlipState> = read(api, &found["flip"])?;
    if let Some(flip) = flip {
        facts.flip = flip.finished.zip(flip.outcome);
        facts.flip_detail = flip.detail.or(flip.last_error).unwrap_or_default();
        facts.undo = flip.undo;
    }
    if let (None, Some(at)) = (&facts.page, incident.page_accepted) {
        let detail: Detail = read(api, &api.read.get(&["v1", "incidents", &incident.id], &[])?)?;
        let entry = detail.timeline.iter().find(|entry| entry.kind == "page_accepted");
        let receiver = entry.and_then(|entry| Some(entry.detail.split_once(": ")?.0.to_owned()));
        facts.page = Some((at, receiver.unwrap_or_else(|| "a receiver".into())));
    }
    facts.decision = incident.decision;
    facts.incident = incident.id;
    Ok(())
}

fn time(status: &Value) -> Option<Timestamp> {
    status["now"].as_str().and_then(Timestamp::parse)
}

fn read<'a, T: Deserialize<'a>>(api: &Api, value: &'a Value) -> Result<T, Trouble> {
    T::deserialize(value).map_err(|error| api.read.stranger(&error.to_string()))
}
