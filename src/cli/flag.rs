//! `rearguard flag list|show|rollback|pause|resume|rearm|kill|unkill`: what is served, and the humans' switches.

mod wait;

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::GOOD;
use super::client::{Client, ServerArgs};
use super::output::{Format, Ink, Paint, Trouble, end, show, show_json, utc};
use super::table::{Side, Table, cell};
use crate::engine::rule::diagnostic::nearest;
use crate::model::flag::Scope;
use crate::model::time::Timestamp;
use crate::store::TokenScope;

/// Look at flags; roll back, pause, resume, re-arm; turn a feature off or on.
#[derive(Args, Clone, Debug)]
pub struct FlagArgs {
    #[command(subcommand)]
    command: FlagCommand,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum FlagCommand {
    /// List all flags and what they serve
    List,
    /// Show one flag, with who changed it
    Show {
        /// The flag, as `flag list` names it
        key: String,
    },
    /// Roll back by hand: serve control, on the flag's own platform, until somebody re-arms; done even while automation is off
    Rollback {
        #[command(flatten)]
        switch: Switch,
        /// Only for `tenant:…`, `tier:…` or `region:…`; default: everybody
        #[arg(long, value_parser = scope)]
        scope: Option<Scope>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Hold the share of traffic where it stands, until `flag resume`
    Pause {
        #[command(flatten)]
        switch: Switch,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let the share move again, whoever held it
    Resume(Switch),
    /// Turn a feature off for everybody, at once; not the same as `automation off`. Flags of Rearguard's own store only
    Kill(Switch),
    /// Turn a feature on again; a rollback stays
    Unkill(Switch),
    /// Take a rollback off: serve the variant again, with windows that start anew
    Rearm {
        #[command(flatten)]
        switch: Switch,
        /// Only for `tenant:…`, `tier:…` or `region:…`; default: the whole flag
        #[arg(long, value_parser = scope)]
        scope: Option<Scope>,
        /// Nothing was wrong with the variant: say so, so that it is counted and the rule gets better
        #[arg(long)]
        false_alarm: bool,
    },
}

#[derive(Args, Clone, Debug)]
struct Switch {
    /// The flag, as `flag list` names it
    key: String,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args, Clone, Copy, Debug)]
struct Wait {
    /// Wait until the change has been read back (exit code 0) or has failed (1)
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180, requires = "wait")]
    timeout: u64,
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::try_from(text.to_owned())
}

/// A flag as the API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct FlagView {
    pub key: String,
    pub control: String,
    pub treatment: String,
    pub configured_share: f64,
    pub paused: bool,
    pub pins: Vec<String>,
    pub killed: bool,
    pub declared: bool,
    #[serde(default)]
    pub drill: bool,
    pub version: u64,
    pub serving: String,
    #[serde(default)]
    pub changes: Vec<ChangeView>,
}

/// Who changed a flag.
#[derive(Clone, Debug, Deserialize)]
pub struct ChangeView {
    pub at: Timestamp,
    pub actor: String,
    pub kind: String,
    pub scope: Option<String>,
    pub reason: String,
}

impl FlagView {
    fn state(&self) -> (Ink, &'static str) {
        match () {
            () if self.killed => (Ink::Bad, "killed"),
            () if self.pins.iter().any(|pin| pin == "all") => (Ink::Bad, "rolled back"),
            () if !self.pins.is_empty() => (Ink::Doubt, "partly back"),
            () if self.paused => (Ink::Doubt, "paused"),
            () if !self.declared => (Ink::Dim, "undeclared"),
            () if self.drill => (Ink::Dim, "for drills"),
            () => (Ink::Good, "live"),
        }
    }
}

/// Runs the command; the result is the exit code.
pub fn run(args: &FlagArgs) -> anyhow::Result<u8> {
    end(args.server.format, flag(args))
}

fn flag(args: &FlagArgs) -> Result<u8, Trouble> {
    let server = &args.server;
    let send = |needs, method, key: &str, what, body| {
        let client = Client::new(server, needs)?;
        let answer = client.send(method, &["v1", "flags", key, what], &body);
        super::say_done(server.format, &answer.map_err(|trouble| nearest_flag(&client, key, trouble))?)
    };
    match &args.command {
        FlagCommand::List => list(server),
        FlagCommand::Show { key } => one(server, key),
        FlagCommand::Rollback { switch: Switch { key, reason }, scope, wait } => {
            let body = json!({"reason": reason, "scope": scope});
            done(server, key, "rollback", &body, *wait)
        }
        FlagCommand::Pause { switch: Switch { key, reason }, wait } => {
            done(server, key, "pause", &json!({"reason": reason}), *wait)
        }
        FlagCommand::Resume(Switch { key, reason }) => {
            send(TokenScope::Operate, Method::POST, key, "resume", json!({"reason": reason}))
        }
        FlagCommand::Kill(Switch { key, reason }) => {
            send(TokenScope::Operate, Method::POST, key, "kill", json!({"reason": reason}))
        }
        FlagCommand::Unkill(Switch { key, reason }) => {
            send(TokenScope::Rearm, Method::DELETE, key, "kill", json!({"reason": reason}))
        }
        FlagCommand::Rearm { switch: Switch { key, reason }, scope, false_alarm } => {
            let body = json!({"reason": reason, "scope": scope, "false_alarm": false_alarm});
            send(TokenScope::Rearm, Method::POST, key, "rearm", body)
        }
    }
}

/// Asks for a flip, says what was decided, and waits for its end if that is wanted.
fn done(server: &ServerArgs, key: &str, what: &str, body: &Value, wait: Wait) -> Result<u8, Trouble> {
    let client = Client::new(server, TokenScope::Operate)?;
    let answer = client
        .send(Method::POST, &["v1", "flags", key, what], body)
        .map_err(|trouble| nearest_flag(&client, key, trouble))?;
    if wait.wait {
        wait::until_done(&client, server.format, answer, wait.timeout)
    } else {
        super::say_done(server.format, &answer)
    }
}

/// A mistyped key gets the one that was meant, if this token may read.
fn nearest_flag(client: &Client, key: &str, trouble: Trouble) -> Trouble {
    if !trouble.is_not_found() {
        return trouble;
    }
    let known = client.get(&["v1", "flags"], &[]).unwrap_or_default();
    let keys = known["flags"].as_array().into_iter().flatten().filter_map(|flag| flag["key"].as_str());
    match nearest(key, keys) {
        Some(near) => trouble.hint(format!("did you mean `{near}`?")),
        None => trouble,
    }
}

fn list(server: &ServerArgs) -> Result<u8, Trouble> {
    let client = Client::new(server, TokenScope::Read)?;
    let document = client.get(&["v1", "flags"], &[])?;
    match server.format {
        Format::Json => show_json(&document)?,
        Format::Human => {
            let flags: Vec<FlagView> =
                Vec::deserialize(&document["flags"]).map_err(|error| client.stranger(&error.to_string()))?;
            show(&render_list(&flags, Paint::stdout()))?;
        }
    }
    Ok(GOOD)
}

fn one(server: &ServerArgs, key: &str) -> Result<u8, Trouble> {
    let client = Client::new(server, TokenScope::Read)?;
    let document =
        client.get(&["v1", "flags", key], &[]).map_err(|trouble| nearest_flag(&client, key, trouble))?;
    match server.format {
        Format::Json => show_json(&document)?,
        Format::Human => {
            let flag =
                FlagView::deserialize(&document).map_err(|error| client.stranger(&error.to_string()))?;
            show(&render_one(&flag, Paint::stdout()))?;
        }
    }
    Ok(GOOD)
}

fn render_list(flags: &[FlagView], paint: Paint) -> String {
    if flags.is_empty() {
        return "no flag is declared; add one under `flags:` in the configuration\n".to_owned();
    }
    let mut table = Table::new(0, &[("STATE", Side::Left), ("FLAG, AND WHAT IT SERVES", Side::Left)]);
    for flag in flags {
        let (ink, state) = flag.state();
        table.row(vec![cell(ink, state), cell(Ink::Bold, flag.key.clone())]);
        table.note(flag.serving.clone().into());
    }
    table.render(paint)
}

fn render_one(flag: &FlagView, paint: Paint) -> String {
    let (ink, state) = flag.state();
    let mut out = format!("{}  {}\n\n", paint.bold(&flag.key), paint.ink(ink, state));
    let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left)]);
    let mut fact = |name: &str, value: String| table.row(vec![cell(Ink::Dim, name), value.into()]);
    fact("serves", flag.serving.clone());
    fact("control", flag.control.clone());
    fact("treatment", format!("{}, configured for {}", flag.treatment, percent(flag.configured_share)));
    if !flag.pins.is_empty() {
        fact("rolled back", format!("for {}", flag.pins.join(", ")));
    }
    if flag.drill {
        fact("drills", "it is there for drills: all that is decided about it is marked so".to_owned());
    }
    if !flag.declared {
        fact("note", "the configuration no longer names this flag; it keeps its rollbacks".to_owned());
    }
    fact("version", flag.version.to_string());
    out.push_str(&table.render(paint));
    if !flag.changes.is_empty() {
        let _ = writeln!(out, "\n{}", paint.bold("CHANGES, newest first (UTC)"));
        let columns = [("", Side::Left), ("", Side::Left), ("", Side::Left), ("", Side::Left)];
        let mut table = Table::new(2, &columns);
        for change in &flag.changes {
            let scope = change.scope.as_ref().map_or_else(String::new, |scope| format!(" {scope}"));
            table.row(vec![
                utc(change.at).into(),
                change.actor.clone().into(),
                format!("{}{scope}", change.kind).into(),
                change.reason.clone().into(),
            ]);
        }
        out.push_str(&table.render(paint));
    }
    out
}

/// A share as people write it: `25 %`, `0.5 %`.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(more: serde_json::Value) -> FlagView {
        let mut value = json!({
            "key": "ai.support-copilot.prompt-v18", "control": "support-copilot.prompt-v17",
            "treatment": "support-copilot.prompt-v18", "configured_share": 0.29, "share": 0.29, "paused": false,
            "pins": [], "killed": false, "declared": true, "version": 3,
            "serving": "support-copilot.prompt-v18 for 29 %, support-copilot.prompt-v17 for the rest"
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        FlagView::deserialize(&value).unwrap()
    }

    #[test]
    fn the_state_is_the_strongest_one() {
        for (more, state) in [
            (json!({}), "live"),
            (json!({"declared": false}), "undeclared"),
            (json!({"drill": true}), "for drills"),
            (json!({"drill": true, "pins": ["all"]}), "rolled back"),
            (json!({"declared": false, "paused": true}), "paused"),
            (json!({"paused": true, "pins": ["tenant:acme"]}), "partly back"),
            (json!({"pins": ["all", "tenant:acme"]}), "rolled back"),
            (json!({"pins": ["all"], "killed": true}), "killed"),
        ] {
            assert_eq!(view(more).state().1, state);
        }
    }

    #[test]
    fn one_flag_reads_well() {
        let changes = json!({"changes": [
            {"at": 1_689_158_851_000_i64, "actor": "rearguard", "kind": "pin", "scope": "all", "reason": "rollback"},
            {"at": 1_689_150_000_000_i64, "actor": "config", "kind": "declare", "scope": null, "reason": "new"}
        ], "pins": ["all"], "serving": "support-copilot.prompt-v17 for everybody (rolled back)"});
        let wanted = "\
ai.support-copilot.prompt-v18  rolled back

  serves       support-copilot.prompt-v17 for everybody (rolled back)
  control      support-copilot.prompt-v17
  treatment    support-copilot.prompt-v18, configured for 29 %
  rolled back  for all
  version      3

CHANGES, newest first (UTC)
  2023-07-12 10:47:31  rearguard  pin all  rollback
  2023-07-12 08:20:00  config     declare  new
";
        assert_eq!(render_one(&view(changes), Paint::new(false)), wanted);
    }
}
