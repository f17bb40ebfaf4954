//! `rearguard rules`: what rule files may hold, what they say, and what is in force.

mod explain;
mod export;
mod schema;

use clap::{Args, Subcommand};

use super::check::{Report, RuleArgs, check};
use super::output::{Format, Trouble, end, show_json};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::engine::rule::diagnostic::Diagnostic;

/// Describe rule files for editors, say what they mean, or write down what is in force.
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum RulesCommand {
    /// Print the JSON Schema of rule files (draft 2020-12), for completion and checks in editors
    Schema,
    Explain(explain::ExplainArgs),
    Export(export::ExportArgs),
}

/// Runs the command; the result is the exit code.
pub fn run(args: &RulesArgs) -> anyhow::Result<u8> {
    match &args.command {
        RulesCommand::Schema => end(Format::Human, show_json(&schema::schema()).map(|()| GOOD)),
        RulesCommand::Explain(args) => explain::run(args),
        RulesCommand::Export(args) => export::run(args),
    }
}

/// Rules that could be put in force; else what keeps them from it has been told, and the exit code is given.
fn in_force(args: &RuleArgs, format: Format) -> Result<Result<Report, u8>, Trouble> {
    let tell = |found: &[Diagnostic]| match format {
        Format::Human => {
            diagnostics::print(found);
            Ok(())
        }
        Format::Json => show_json(&serde_json::json!({ "error": { "diagnostics": found } })),
    };
    match check(args) {
        Err(found) => tell(&found).map(|()| Err(WRONG)),
        Ok(report) if report.refused() > 0 => tell(&report.diagnostics).map(|()| Err(FAILED)),
        Ok(report) => Ok(Ok(report)),
    }
}
