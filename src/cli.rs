//! The command line: one file per command. Parses, calls, and says how it ended: 0 good, 1 found something or failed, 2 wrong
//! use or bad input.

mod audit;
mod automation;
pub mod check;
mod client;
mod database;
mod demo;
pub mod diagnostics;
mod drill;
mod explain;
mod flag;
mod incident;
mod levels;
mod meaning;
mod output;
mod receivers;
mod recorded;
mod replay;
mod rules;
mod run;
mod simulate;
mod status;
mod table;
mod test;
mod token;

use clap::{Parser, Subcommand};
use serde_json::Value;

pub use output::Format;
use output::Trouble;

/// All is well.
pub const GOOD: u8 = 0;
/// Something was found, or a command failed.
pub const FAILED: u8 = 1;
/// The command or a file is wrong; nothing was done.
pub const WRONG: u8 = 2;

/// For those who are here for the first time.
const BEGIN: &str = "To begin: `rearguard demo` shows a rollback on your terminal in a minute. Then write rearguard.yaml and rules/ \
(README.md has both to copy), and go on with `rearguard check`, `rearguard run`, `rearguard token create`, `rearguard status`.";

/// Watches AI feature variants and takes them back when they hurt.
///
/// Exit codes: 0 good; 1 something was found, or a command failed; 2 wrong use or a wrong file, nothing was done.
#[derive(Parser, Debug)]
#[command(name = "rearguard", version, propagate_version = true, after_help = BEGIN)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Rules(rules::RulesArgs),
    Replay(replay::ReplayArgs),
    Simulate(simulate::SimulateArgs),
    Status(status::StatusArgs),
    Explain(explain::ExplainArgs),
    Incident(incident::IncidentArgs),
    Flag(flag::FlagArgs),
    Automation(automation::AutomationArgs),
    Drill(drill::DrillArgs),
    Receivers(receivers::ReceiversArgs),
    Token(token::TokenArgs),
    Audit(audit::AuditArgs),
    Demo(demo::DemoArgs),
}

/// Runs a parsed command line; the result is the exit code.
pub fn main(cli: &Cli) -> anyhow::Result<u8> {
    match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Test(args) => test::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Status(args) => status::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Incident(args) => incident::run(args),
        Command::Flag(args) => flag::run(args),
        Command::Automation(args) => automation::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Receivers(args) => receivers::run(args),
        Command::Token(args) => token::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Demo(args) => demo::run(args),
    }
}

/// Shows the answer to a command that changed something.
fn say_done(format: Format, answer: &Value) -> Result<u8, Trouble> {
    let was_so = answer["changed"] == Value::Bool(false);
    match format {
        Format::Json => output::show_json(answer)?,
        Format::Human => {
            let done = answer["done"].as_str().unwrap_or("done");
            let note = if was_so { " (it was so already)" } else { "" };
            output::show(&format!("{done}{note}\n"))?;
        }
    }
    Ok(GOOD)
}
