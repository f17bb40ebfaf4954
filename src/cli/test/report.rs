//! How tests are reported: a line per test for people, JSON, and JUnit for CI.

use std::fmt::Write as _;
use std::io::Write;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::Done;
use super::judge::Failure;
use crate::cli::output::{Ink, Paint, Trouble, count, show, show_json, wrap};

/// Where the text of a failure begins.
const INDENT: usize = 16;
const WIDTH: usize = crate::cli::output::WIDTH - INDENT;

/// A line per test; of failed ones what was expected, what came, the window and what the alert did.
pub fn human(done: &[Done<'_>]) -> Result<(), Trouble> {
    show(&text(done, Paint::stdout()))
}

fn text(done: &[Done<'_>], paint: Paint) -> String {
    let (mut out, mut file) = (String::new(), None);
    for one in done {
        if file != Some(&one.file.name) {
            file = Some(&one.file.name);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", paint.bold(&one.file.name));
        }
        let good = one.failures.is_empty();
        let word = if good { paint.ink(Ink::Good, "  ok  ") } else { paint.ink(Ink::Bad, "  FAIL") };
        let _ = writeln!(out, "{word}  {}", one.test.name);
        for failure in &one.failures {
            let place = format!("{}:{}", one.file.name, failure.line);
            let _ = writeln!(out, "\n      {}", paint.dim(&place));
            out.push_str(&details(failure, paint));
        }
        if !good {
            out.push('\n');
        }
    }
    let failed = done.iter().filter(|one| !one.failures.is_empty()).count() as u64;
    let passed = done.len() as u64 - failed;
    let ended = match failed {
        0 => paint.ink(Ink::Good, &format!("{} passed", count(passed, "test"))),
        failed => paint.ink(Ink::Bad, &format!("{} failed, {passed} passed", count(failed, "test"))),
    };
    let _ = writeln!(out, "{ended}");
    out
}

/// A failure without its place.
fn details(failure: &Failure, paint: Paint) -> String {
    let mut out = String::new();
    for (word, said) in [("expected", &failure.expected), ("got", &failure.got)] {
        for (number, line) in wrap(said, WIDTH).iter().enumerate() {
            let head = if number == 0 { word } else { "" };
            let _ = writeln!(out, "      {head:10}{line}");
        }
    }
    if let Some(picture) = &failure.picture {
        out.push('\n');
        for line in picture.lines() {
            let _ = writeln!(out, "      {line}");
        }
    }
    if !failure.course.is_empty() {
        out.push('\n');
    }
    for line in &failure.course {
        let _ = writeln!(out, "      {}", paint.dim(line));
    }
    out
}

/// One document.
pub fn json(done: &[Done<'_>]) -> Result<(), Trouble> {
    let tests: Vec<_> = done
        .iter()
        .map(|one| {
            json!({
                "file": one.file.name,
                "line": one.test.line,
                "name": one.test.name,
                "passed": one.failures.is_empty(),
                "failures": one.failures,
            })
        })
        .collect();
    let failed = done.iter().filter(|one| !one.failures.is_empty()).count();
    show_json(&json!({ "tests": tests, "passed": done.len() - failed, "failed": failed }))
}

/// A suite per file, a case per test. Nothing is timed: the same tests give the same bytes.
pub fn junit(done: &[Done<'_>], out: impl Write) -> Result<(), quick_junit::SerializeError> {
    let mut report = Report::new("rearguard test");
    for file in done.chunk_by(|a, b| a.file.name == b.file.name) {
        let Some(first) = file.first() else { continue };
        let mut suite = TestSuite::new(first.file.name.as_str());
        for one in file {
            let status = match one.failures.first() {
                None => TestCaseStatus::success(),
                Some(failure) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_type("expectation");
                    status.set_message(format!("expected {}; got {}", failure.expected, failure.got));
                    let plain =
                        |f: &Failure| format!("{}:{}\n{}", one.file.name, f.line, details(f, Paint::plain()));
                    status.set_description(one.failures.iter().map(plain).collect::<Vec<_>>().join("\n"));
                    status
                }
            };
            let mut case = TestCase::new(one.test.name.as_str(), status);
            case.set_classname(one.file.name.as_str());
            case.extra.insert("line".into(), one.test.line.to_string().into());
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.serialize(out)
}
