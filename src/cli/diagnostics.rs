//! Shows [`Diagnostic`]s on a terminal: the line, a caret, what would be right. Rendered by miette.

use std::io::IsTerminal;
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Severity};

use crate::engine::rule::diagnostic::{Diagnostic, Level};

/// Prints diagnostics to standard error, with colours when that is a terminal. Files are read again for their lines.
pub fn print(diagnostics: &[Diagnostic]) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", render(diagnostics, colour));
}

/// The diagnostics as text, one after the other.
pub fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let mut out = String::new();
    for found in diagnostics {
        let text = std::fs::read_to_string(Path::new(&found.file)).ok();
        if one(&handler, found, text, &mut out).is_err() {
            out.push_str(&format!("{found}\n"));
        }
    }
    out
}

fn one(
    handler: &GraphicalReportHandler,
    found: &Diagnostic,
    text: Option<String>,
    out: &mut String,
) -> std::fmt::Result {
    let severity = match found.severity {
        Level::Error => Severity::Error,
        Level::Warning => Severity::Warning,
    };
    let placed = found.line > 0;
    let message = if placed { found.message.clone() } else { format!("{}: {}", found.file, found.message) };
    let mut shown = MietteDiagnostic::new(message).with_severity(severity);
    if let Some(help) = &found.help {
        shown = shown.with_help(help.clone());
    }
    let fits = |text: &String| found.span.end() <= text.len();
    let report = match text.filter(|text| placed && fits(text)) {
        Some(text) => {
            let span = (found.span.offset, found.span.len.max(1));
            shown = shown.with_label(LabeledSpan::underline(span));
            miette::Report::new(shown).with_source_code(NamedSource::new(&found.file, text))
        }
        None if placed => {
            shown.message = format!("{}:{}:{}: {}", found.file, found.line, found.column, found.message);
            miette::Report::new(shown)
        }
        None => miette::Report::new(shown),
    };
    let mut rendered = String::new();
    handler.render_report(&mut rendered, report.as_ref())?;
    out.push_str(rendered.trim_start_matches('\n'));
    out.push_str(if out.ends_with('\n') { "\n" } else { "\n\n" });
    Ok(())
}
