//! `rearguard status`: how things stand, on one page.

mod page;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, ServerArgs};
use super::flag::FlagView;
use super::incident::IncidentView;
use super::output::{Format, Paint, Trouble, end, show, show_json};
use super::{FAILED, GOOD};
use crate::engine::output::Report;
use crate::model::canary::Standing;
use crate::model::time::Timestamp;
use crate::store::TokenScope;

/// Tell how things stand: armed or why not, incidents, rollbacks, every alert.
///
/// Exit code 0: armed, automation on, no incident unresolved. 1: something needs a human, or the daemon does not answer.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Every slice of rules with `by:`, quiet ones too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What the API says, as far as the page shows it.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    now: String,
    database: String,
    report: Report,
    canary: Option<Standing>,
    outbox: Outbox,
    outbox_oldest_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    counts: Vec<OutboxCount>,
}

#[derive(Debug, Deserialize)]
struct OutboxCount {
    status: String,
    rows: u64,
}

/// All that a page is made of.
#[derive(Debug)]
struct Page {
    address: String,
    now: Timestamp,
    status: Status,
    incidents: Vec<IncidentView>,
    flags: Vec<FlagView>,
    all: bool,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &StatusArgs) -> anyhow::Result<u8> {
    end(args.server.format, status(args))
}

fn status(args: &StatusArgs) -> Result<u8, Trouble> {
    let client = Client::new(&args.server, TokenScope::Read)?;
    let mut document = client.get(&["v1", "status"], &[])?;
    let incidents = client.get(&["v1", "incidents"], &[("status", "unresolved"), ("limit", "1000")])?;
    let flags = client.get(&["v1", "flags"], &[])?;
    let page = Page::read(&client, &document, &incidents, &flags, args.all)?;
    let attention = page.attention();
    match args.server.format {
        Format::Human => show(&page.render(Paint::stdout()))?,
        Format::Json => {
            document["incidents"] = incidents["incidents"].clone();
            document["attention"] = json!(attention);
            show_json(&document)?;
        }
    }
    Ok(if attention.is_empty() { GOOD } else { FAILED })
}

impl Page {
    fn read(
        client: &Client,
        status: &Value,
        incidents: &Value,
        flags: &Value,
        all: bool,
    ) -> Result<Self, Trouble> {
        let other = |error: serde_json::Error| client.stranger(&error.to_string());
        let status: Status = Status::deserialize(status).map_err(other)?;
        Ok(Self {
            address: client.address().to_owned(),
            now: Timestamp::parse(&status.now).unwrap_or_default(),
            status,
            incidents: Vec::deserialize(&incidents["incidents"]).map_err(other)?,
            flags: Vec::deserialize(&flags["flags"]).map_err(other)?,
            all,
        })
    }

    /// What needs a human, in a few words each; nothing means good.
    fn attention(&self) -> Vec<String> {
        let report = &self.status.report;
        let mut attention = Vec::new();
        if !report.armed {
            let why = report.why_not_armed.as_deref().unwrap_or("just started");
            attention.push(format!("not armed: {why}"));
        } else if report.event_time.is_none() {
            attention.push("no event has been read yet, so nothing can be judged".to_owned());
        }
        if !report.automation {
            attention.push("automation is off: it judges and pages, and rolls nothing back".to_owned());
        }
        // Not to be armed is told already.
        let canary = self.status.canary.iter().filter(|canary| report.armed && !canary.starting);
        for doubt in canary.clone().flat_map(|canary| canary.doubts.first()) {
            attention.push(format!("the dead-man's switch is not called: {doubt}"));
        }
        for why in canary.filter_map(|canary| canary.refused.as_ref()) {
            attention.push(format!("the dead-man's switch does not take calls: {why}"));
        }
        let withheld: Vec<_> =
            self.incidents.iter().filter_map(|i| Some((i, i.withheld.as_ref()?))).collect();
        match withheld.as_slice() {
            [] => {}
            [(incident, withheld)] => attention.push(format!("{} {}", incident.flag, withheld.what())),
            many => attention.push(format!("{} rollbacks are withheld", many.len())),
        }
        match self.incidents.len() {
            0 => {}
            1 => attention.push("1 incident is unresolved".to_owned()),
            n => attention.push(format!("{n} incidents are unresolved")),
        }
        attention
    }
}
