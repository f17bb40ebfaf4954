//! `rearguard rules explain`: every rule in plain sentences.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::in_force;
use crate::cli::check::{Report, RuleArgs};
use crate::cli::output::{Format, Paint, Trouble, WIDTH, end, show, show_json, wrap};
use crate::cli::{GOOD, meaning};

/// Say every rule in plain sentences, for somebody who has never seen a rule file
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    end(args.format, explain(args))
}

fn explain(args: &ExplainArgs) -> Result<u8, Trouble> {
    let report = match in_force(&args.rules, args.format)? {
        Ok(report) => report,
        Err(code) => return Ok(code),
    };
    match args.format {
        Format::Human => show(&text(&report, Paint::stdout()))?,
        Format::Json => {
            let rules: Vec<_> = report
                .rules()
                .map(|(rule, note)| {
                    json!({
                        "id": rule.id,
                        "file": rule.origin.file,
                        "line": rule.origin.line,
                        "variant": rule.variant,
                        "flag": rule.flag,
                        "sentences": meaning::sentences(rule, note, &report.catalogue, report.dry_run),
                    })
                })
                .collect();
            show_json(&json!({ "rules": rules }))?;
        }
    }
    Ok(GOOD)
}

fn text(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    for (rule, note) in report.rules() {
        let place = format!("{}:{}", rule.origin.file, rule.origin.line);
        let _ = writeln!(out, "{} {}", paint.bold(rule.id.as_str()), paint.dim(&place));
        let sentences = meaning::sentences(rule, note, &report.catalogue, report.dry_run);
        for line in wrap(&sentences.join(" "), WIDTH - 2) {
            let _ = writeln!(out, "  {line}");
        }
        out.push('\n');
    }
    out
}
