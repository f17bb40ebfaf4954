//! `rearguard test`: unit tests of rules. docs/testing-rules.md describes the files.

mod expect;
mod judge;
mod report;
mod run;
mod spec;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;

use super::output::{Format, Trouble, end, show_json};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::config::yaml_files;
use crate::engine::rule::diagnostic::Diagnostic;
use judge::Failure;
use spec::{Test, TestFile};

/// Where tests are when nobody says it.
const DEFAULT: &str = "rules/tests";

/// Run unit tests of rules: made-up or recorded events through the recorder and the engine of the daemon, held against what
/// must and must not happen.
///
/// Nothing is flipped, opened or sent. Exit code 0: all tests passed; 1: one failed; 2: a file or the command line is wrong.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Test files, folders of them, or patterns; default: rules/tests
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run only tests with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &TestArgs) -> anyhow::Result<u8> {
    let files = match read(&args.files) {
        Ok(files) => files,
        Err(errors) => {
            match args.format {
                Format::Human => diagnostics::print(&errors),
                Format::Json => show_json(&serde_json::json!({ "error": { "diagnostics": errors } }))?,
            }
            return Ok(WRONG);
        }
    };
    end(args.format, test(args, &files))
}

/// Reads every file; all mistakes at once.
fn read(places: &[PathBuf]) -> Result<Vec<TestFile>, Vec<Diagnostic>> {
    let default = [PathBuf::from(DEFAULT)];
    let help = "tests are the files in `rules/tests`, unless others are named; docs/testing-rules.md has one to begin with";
    let (paths, mut errors) = yaml_files(if places.is_empty() { &default } else { places }, "test", help);
    let mut files = Vec::new();
    for path in paths {
        match spec::read(&path) {
            Ok(file) => files.push(file),
            Err(mut found) => errors.append(&mut found),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

/// One test and how it ended.
struct Done<'a> {
    file: &'a TestFile,
    test: &'a Test,
    failures: Vec<Failure>,
}

fn test(args: &TestArgs, files: &[TestFile]) -> Result<u8, Trouble> {
    let all = files.iter().flat_map(|file| file.tests.iter().map(move |test| (file, test)));
    let wanted = |test: &Test| args.filter.as_ref().is_none_or(|text| test.name.contains(text));
    let chosen: Vec<_> = all.filter(|(_, test)| wanted(test)).collect();
    if let (Some(text), true) = (&args.filter, chosen.is_empty()) {
        return Err(Trouble::wrong(format!("no test has `{text}` in its name")));
    }
    let junit = args.junit.as_deref().map(create).transpose()?;
    let done = in_parallel(&chosen, |(file, test)| {
        let story = run::run(file, test)?;
        Ok(Done { file, test, failures: judge::failures(test, &story, &file.rules) })
    })?;
    if let (Some(out), Some(path)) = (junit, &args.junit) {
        report::junit(&done, out).map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
    }
    match args.format {
        Format::Human => report::human(&done)?,
        Format::Json => report::json(&done)?,
    }
    Ok(if done.iter().all(|one| one.failures.is_empty()) { GOOD } else { FAILED })
}

/// Opens the report's file before anything is run.
fn create(path: &Path) -> Result<std::fs::File, Trouble> {
    std::fs::File::create(path)
        .map_err(|error| Trouble::wrong(format!("`--junit {}`: {error}", path.display())))
}

/// Does the work on all cores; results come in the order of the items, and of several errors the first.
fn in_parallel<T: Sync, R: Send + Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, Trouble> + Sync,
) -> Result<Vec<R>, Trouble> {
    let results: Vec<OnceLock<Result<R, Trouble>>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(result)) = (items.get(place), results.get(place)) else { break };
                    // Each place is taken once.
                    let _ = result.set(work(item));
                }
            });
        }
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}
