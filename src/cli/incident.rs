//! `rearguard incident list|show|replay|ack|resolve`.

mod replay;

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::GOOD;
use super::client::{Client, ServerArgs};
use super::output::{Format, Ink, Paint, Trouble, end, show, show_json, utc};
use super::table::{Side, Table, cell};
use crate::dispatch::words;
use crate::model::flag::Scope;
use crate::model::time::Timestamp;
use crate::store::TokenScope;

/// Look at incidents, take them on, close them.
#[derive(Args, Clone, Debug)]
pub struct IncidentArgs {
    #[command(subcommand)]
    command: IncidentCommand,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum IncidentCommand {
    /// List incidents, newest first: the unresolved ones, or all
    List(ListArgs),
    /// Show one as things stand now: what broke, what was done, what to do
    Show {
        /// The incident, as `incident list` names it
        id: String,
    },
    /// Judge its decisions again from what they rested on; exit code 1 if any comes out otherwise
    ///
    /// Every decision is stored with the minutes that its rule read. They are judged by the code that judged them then, and
    /// compared number by number with what was decided.
    Replay {
        /// The incident, or a decision that opened none
        id: String,
        /// Only this decision
        #[arg(long, value_name = "ID")]
        decision: Option<String>,
    },
    /// Say that you are on it
    Ack {
        /// The incident, as `incident list` names it
        id: String,
        /// For those who read the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Close it; a rollback stays until `flag rearm`
    Resolve {
        /// The incident, as `incident list` names it
        id: String,
        /// What was wrong, for those who read the history
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    /// Which ones
    #[arg(long, value_enum, default_value_t, value_name = "STATUS")]
    status: Wanted,
    /// The same as `--status all`
    #[arg(long, conflicts_with = "status")]
    all: bool,
    /// Only those of one flag
    #[arg(long, value_name = "KEY")]
    flag: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Open,
    Acknowledged,
    Resolved,
    #[default]
    Unresolved,
    All,
}

impl Wanted {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Unresolved => "unresolved",
            Self::All => "all",
        }
    }
}

/// An incident as the API lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct IncidentView {
    pub id: String,
    pub flag: String,
    pub status: String,
    pub severity: String,
    pub title: String,
    pub opened: Timestamp,
    pub t0: Option<Timestamp>,
    pub flip_verified: Option<Timestamp>,
    pub flip_outcome: Option<String>,
    pub page_accepted: Option<Timestamp>,
    pub acked_by: Option<String>,
    pub resolved_by: Option<String>,
    pub withheld: Option<Withheld>,
}

/// Why a rollback was withheld, as the API says it.
#[derive(Clone, Debug, Deserialize)]
pub struct Withheld {
    scope: Scope,
    why: String,
    pub advice: String,
}

impl Withheld {
    /// `NOT ROLLED BACK: automation is switched off`.
    pub fn what(&self) -> String {
        let whom = match &self.scope {
            Scope::All => String::new(),
            scope => format!(" for {scope}"),
        };
        format!("NOT ROLLED BACK{whom}: {}", self.why)
    }
}

impl IncidentView {
    /// What it is about; critical ones need no word for it.
    pub fn what(&self) -> String {
        match self.severity.as_str() {
            "critical" => self.title.clone(),
            severity => format!("{} ({severity})", self.title),
        }
    }

    /// How much of the ten minutes it took: flip read back, incident opened and page accepted.
    fn took(&self) -> Option<std::time::Duration> {
        Some(self.opened.max(self.flip_verified?).max(self.page_accepted?).since(self.t0?))
    }
}

/// Runs the command; the result is the exit code.
pub fn run(args: &IncidentArgs) -> anyhow::Result<u8> {
    end(args.server.format, incident(args))
}

fn incident(args: &IncidentArgs) -> Result<u8, Trouble> {
    let (server, format) = (&args.server, args.server.format);
    match &args.command {
        IncidentCommand::List(wanted) => list(server, wanted),
        IncidentCommand::Show { id } => {
            let client = Client::new(server, TokenScope::Read)?;
            match format {
                Format::Human => show(&client.text(&["v1", "incidents", id, "markdown"])?)?,
                Format::Json => show_json(&client.get(&["v1", "incidents", id], &[])?)?,
            }
            Ok(GOOD)
        }
        IncidentCommand::Replay { id, decision } => replay::run(server, id, decision.as_deref()),
        IncidentCommand::Ack { id, reason } => {
            let body = reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
            command(server, &["v1", "incidents", id, "ack"], &body)
        }
        IncidentCommand::Resolve { id, reason } => {
            command(server, &["v1", "incidents", id, "resolve"], &json!({"reason": reason}))
        }
    }
}

fn command(server: &ServerArgs, path: &[&str], body: &Value) -> Result<u8, Trouble> {
    let answer = Client::new(server, TokenScope::Ack)?.send(Method::POST, path, body)?;
    super::say_done(server.format, &answer)
}

fn list(server: &ServerArgs, wanted: &ListArgs) -> Result<u8, Trouble> {
    let client = Client::new(server, TokenScope::Read)?;
    let status = if wanted.all { Wanted::All } else { wanted.status };
    let limit = wanted.limit.to_string();
    let mut query = vec![("status", status.as_str()), ("limit", &limit)];
    query.extend(wanted.flag.iter().map(|flag| ("flag", flag.as_str())));
    let document = client.get(&["v1", "incidents"], &query)?;
    match server.format {
        Format::Json => show_json(&document)?,
        Format::Human => {
            let incidents: Vec<IncidentView> = Vec::deserialize(&document["incidents"])
                .map_err(|error| client.stranger(&error.to_string()))?;
            show(&render(&incidents, status, wanted.limit, Paint::stdout()))?;
        }
    }
    Ok(GOOD)
}

fn render(incidents: &[IncidentView], status: Wanted, limit: u32, paint: Paint) -> String {
    if incidents.is_empty() {
        return match status {
            Wanted::All => "no incident so far\n".to_owned(),
            Wanted::Unresolved => "no unresolved incident; `--all` lists the resolved ones too\n".to_owned(),
            other => format!("no incident is {}\n", other.as_str()),
        };
    }
    use Side::Left;
    let columns = [("INCIDENT", Left), ("STATUS", Left), ("OPENED (UTC)", Left), ("HOW IT WENT", Left)];
    let mut table = Table::new(0, &columns);
    for incident in incidents {
        let ink = match incident.status.as_str() {
            "open" => Ink::Bad,
            "acknowledged" => Ink::Doubt,
            _ => Ink::Dim,
        };
        table.row(vec![
            incident.id.clone().into(),
            cell(ink, incident.status.clone()),
            utc(incident.opened).into(),
            remark(incident).into(),
        ]);
        table.under(cell(Ink::Bold, incident.what()));
        if let Some(withheld) = &incident.withheld {
            table.under(cell(Ink::Bad, withheld.what()));
        }
    }
    let mut out = table.render(paint);
    if incidents.len() >= limit as usize {
        let _ = writeln!(out, "{}", paint.dim(&format!("the newest {limit}; `--limit` shows more")));
    }
    out
}

/// How it went, and who has it.
fn remark(incident: &IncidentView) -> String {
    let mut parts = vec![match (incident.took(), incident.flip_outcome.as_deref()) {
        (Some(took), _) => format!("safe and paged in {}", words::span(took)),
        (None, Some("failed" | "expired")) => "ROLLBACK FAILED".to_owned(),
        (None, Some("superseded")) => "a human stepped in, left alone".to_owned(),
        (None, _) if incident.flip_verified.is_some() => "safe, not paged yet".to_owned(),
        (None, None) if incident.withheld.is_some() => "withheld".to_owned(),
        (None, _) => "no rollback confirmed".to_owned(),
    }];
    match (&incident.resolved_by, &incident.acked_by) {
        (Some(by), _) => parts.push(format!("resolved by {by}")),
        (None, Some(by)) => parts.push(format!("{by} is on it")),
        (None, None) => {}
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_at_a_glance() {
        let one = |status: &str, more: Value| {
            let mut value = json!({
                "id": "inc-7f3a01c2d4e5", "status": status, "severity": "critical",
                "title": "support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92",
                "flag": "ai.support-copilot.prompt-v18", "opened": 1_689_158_851_000_i64, "t0": 1_689_158_580_000_i64
            });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            IncidentView::deserialize(&value).unwrap()
        };
        let verified = json!({"flip_verified": 1_689_158_853_000_i64, "flip_outcome": "verified",
            "page_accepted": 1_689_158_855_000_i64, "acked_by": "ann", "severity": "warning"});
        let withheld = json!({"withheld": {"decision": "d", "scope": "tenant:acme", "at": 1_689_158_851_000_i64,
            "gate": "automation_off", "why": "automation is switched off", "advice": "Switch it on."}});
        let incidents = [
            one("open", json!({"flip_outcome": "failed"})),
            one("acknowledged", verified),
            one("open", withheld),
        ];
        let text = render(&incidents, Wanted::Unresolved, 20, Paint::new(false));
        let wanted = "\
INCIDENT          STATUS        OPENED (UTC)         HOW IT WENT
inc-7f3a01c2d4e5  open          2023-07-12 10:47:31  ROLLBACK FAILED
  support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92
inc-7f3a01c2d4e5  acknowledged  2023-07-12 10:47:31  safe and paged in 4 min 35 s, ann is on it
  support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92 (warning)
inc-7f3a01c2d4e5  open          2023-07-12 10:47:31  withheld
  support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92
  NOT ROLLED BACK for tenant:acme: automation is switched off
";
        assert_eq!(text, wanted);
        let none = render(&[], Wanted::Unresolved, 20, Paint::new(false));
        assert!(none.starts_with("no unresolved incident"), "{none}");
    }
}
