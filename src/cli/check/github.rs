//! Findings as workflow commands of GitHub Actions, which shows them at their lines in a pull request. Escaped as its
//! toolkit does (actions/toolkit, `packages/core/src/command.ts`).

use super::Report;
use crate::engine::rule::diagnostic::{Diagnostic, Level};

/// One line per finding.
pub fn annotations(found: &[Diagnostic]) -> String {
    found.iter().map(annotation).collect()
}

/// One line per rule that was simulated: what it reaches and how often it would act falsely.
pub fn notices(report: &Report) -> String {
    let simulated = report.rules().enumerate().filter_map(|(place, (rule, _))| {
        let told = report.simulated(place)?;
        let lines = told.lines(rule).into_iter().map(|(name, text)| format!("{name}: {text}"));
        let lines: Vec<String> = lines.collect();
        let (file, line) = (property(&rule.origin.file), rule.origin.line);
        let title = property(&format!("rearguard: {}", rule.condition.source));
        Some(format!("::notice file={file},line={line},title={title}::{}\n", data(&lines.join("\n"))))
    });
    simulated.collect()
}

fn annotation(found: &Diagnostic) -> String {
    let (command, title) = match found.severity {
        Level::Error => ("error", "rearguard: this must be put right"),
        Level::Warning => ("warning", "rearguard: this may not be what was meant"),
    };
    let mut properties = vec![("file", found.file.clone())];
    if found.line > 0 {
        properties.push(("line", found.line.to_string()));
        properties.push(("col", found.column.to_string()));
    }
    properties.push(("title", title.to_owned()));
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    let message = match &found.help {
        Some(help) => format!("{}\nhelp: {help}", found.message),
        None => found.message.clone(),
    };
    format!("::{command} {}::{}\n", properties.join(","), data(&message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::diagnostic::Span;

    #[test]
    fn nothing_of_a_finding_can_be_taken_for_a_command() {
        let text = "a\nb: é, 92%\r\n";
        let found = Diagnostic::error("rules/a,b:c%.yaml", text, Span::new(2, 1), "92% is\r\n::error::wrong")
            .with_help("write `0.92`");
        assert_eq!(
            annotations(&[found]),
            "::error file=rules/a%2Cb%3Ac%25.yaml,line=2,col=1,title=rearguard%3A this must be put right::\
             92%25 is%0D%0A::error::wrong%0Ahelp: write `0.92`\n"
        );
        let whole = Diagnostic::whole_file("r.yaml", "the file is empty").as_warning();
        assert_eq!(
            annotations(&[whole]),
            "::warning file=r.yaml,title=rearguard%3A this may not be what was meant::the file is empty\n"
        );
    }
}
