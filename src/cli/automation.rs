//! `rearguard automation on|off`: whether Rearguard acts at all. Never to be confused with `flag kill`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::client::{Client, ServerArgs};
use super::output::{Trouble, end};
use crate::store::TokenScope;

/// Let Rearguard act, or stop it from acting; it pages either way.
///
/// `off` turns no feature off: that is `rearguard flag kill`.
#[derive(Args, Clone, Debug)]
pub struct AutomationArgs {
    #[command(subcommand)]
    command: AutomationCommand,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum AutomationCommand {
    /// Roll back and pause by itself again
    On(Reason),
    /// Roll back and pause nothing; go on judging and paging
    Off(Reason),
}

#[derive(Args, Clone, Debug)]
struct Reason {
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &AutomationArgs) -> anyhow::Result<u8> {
    end(args.server.format, automation(args))
}

fn automation(args: &AutomationArgs) -> Result<u8, Trouble> {
    let (on, Reason { reason }) = match &args.command {
        AutomationCommand::On(reason) => (true, reason),
        AutomationCommand::Off(reason) => (false, reason),
    };
    let client = Client::new(&args.server, TokenScope::Operate)?;
    let body = json!({"on": on, "reason": reason});
    let answer = client.send(Method::PUT, &["v1", "automation"], &body)?;
    super::say_done(args.server.format, &answer)
}
