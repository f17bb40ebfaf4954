//! `rearguard check`: compiles configuration and rules, and proves the ten-minute sum for each rule.

mod report;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Format, show};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::app::rules::check_receivers;
use crate::config::{Config, rule_files};
use crate::engine::budget::Timing;
use crate::engine::input::Limits;
use crate::engine::rule::compile::{Compiled, compile_rules};
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::review::{check_budgets, without_fast_companion, without_time_bound};
use crate::model::metric::Catalogue;
use report::count;

/// Compile configuration and rules, and prove for every rule that breach, flip and page fit into ten minutes.
///
/// Exit code 0: all good; 1: a rollback rule cannot keep the ten minutes; 2: a file is wrong.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Rule files, folders or patterns; default: those of the configuration
    pub files: Vec<PathBuf>,
    /// The configuration; without one, and with FILES given, defaults are used
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    match check(args) {
        Ok(report) => {
            match args.format {
                Format::Json => show(&format!("{:#}\n", report.as_json()))?,
                Format::Human => {
                    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                    show(&report.as_text(colour))?;
                    diagnostics::print(&report.diagnostics);
                    show(&report.summary())?;
                }
            }
            Ok(if report.refused() > 0 { FAILED } else { GOOD })
        }
        Err(errors) => {
            match args.format {
                Format::Json => {
                    let report = serde_json::json!({ "ok": false, "rules": [], "diagnostics": errors });
                    show(&format!("{report:#}\n"))?;
                }
                Format::Human => {
                    diagnostics::print(&errors);
                    eprintln!("{} found; nothing was put in force", count(errors.len(), "mistake"));
                }
            }
            Ok(WRONG)
        }
    }
}

/// What there is to say when everything could be read.
#[derive(Debug)]
pub struct Report {
    pub compiled: Compiled,
    pub catalogue: std::sync::Arc<Catalogue>,
    pub timing: Timing,
    pub limits: Limits,
    pub dry_run: bool,
    /// Warnings, and the errors of rules that cannot keep the promise.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads and judges; `Err` when a file is wrong.
pub fn check(args: &CheckArgs) -> Result<Report, Vec<Diagnostic>> {
    let standard = Path::new("rearguard.yaml");
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None if standard.exists() => Config::load(standard)?,
        None if args.files.is_empty() => {
            let missing = Diagnostic::whole_file(
                "rearguard.yaml",
                "there is no configuration here, and no rule file was named",
            );
            return Err(vec![missing.with_help("name rule files, or a configuration with `--config`")]);
        }
        None => Config::built_in(),
    };
    let places = if args.files.is_empty() { &config.rules } else { &args.files };
    let files = rule_files(places)?;
    let compiled = compile_rules(&files, &config.catalogue, &config.flags)?;
    let mut found = config.warnings.clone();
    found.extend(compiled.warnings.iter().cloned());
    if !config.path.as_os_str().is_empty() {
        let wrong = check_receivers(&compiled, &config);
        if !wrong.is_empty() {
            return Err(wrong);
        }
    }
    found.extend(without_fast_companion(&compiled));
    found.extend(without_time_bound(&compiled));
    found.extend(check_budgets(&compiled, &config.timing));
    found.sort_by(|a, b| (&a.file, a.span).cmp(&(&b.file, b.span)));
    Ok(Report {
        compiled,
        catalogue: config.catalogue,
        timing: config.timing,
        limits: config.limits,
        dry_run: config.dry_run,
        diagnostics: found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[&str]) -> CheckArgs {
        CheckArgs {
            files: files.iter().map(PathBuf::from).collect(),
            config: Some(PathBuf::from("rearguard.example.yaml")),
            format: Format::Human,
        }
    }

    #[test]
    fn the_example_is_good() {
        let report = check(&args(&[])).unwrap();
        assert_eq!((report.refused(), report.diagnostics.len()), (0, 0), "{:?}", report.diagnostics);
        let text = report.as_text(false);
        for line in [
            "flag ai.support-copilot.prompt-v18, baseline support-copilot.prompt-v17",
            "means       rate of ai.injection.suspected over the last 1h above 3 times that of the baseline",
            "then        after 3m, 100 samples or more: serve control to everybody, open an incident, page",
            "60 pane + 30 lateness + 10 tick + 180 for + 5 commit + 90 flip + 60 page = 435 s ≤ 600 s",
            "clears      faithfulness_1h >= 0.93 (default), held for 15m",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(report.as_json()["rules"][3]["budget_seconds"], 435);
    }

    #[test]
    fn exit_codes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        let write = |more: &str| {
            let rule = format!(
                "- variant: shop.v2\n  rules: [{{ condition: cost_1h > 1, action: rollback{more} }}]\n"
            );
            std::fs::write(&path, rule).unwrap();
            let files = vec![path.clone()];
            run(&CheckArgs { files, config: None, format: Format::Json }).unwrap()
        };
        assert_eq!(write(""), GOOD);
        assert_eq!(write(", for: 10m"), FAILED);
        assert_eq!(write(", fro: 10m"), WRONG);
        assert_eq!(run(&args(&["/does/not/exist.yaml"])).unwrap(), WRONG);
        std::fs::write(
            &path,
            "- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: notify, page: oncal }]\n",
        )
        .unwrap();
        let errors = check(&args(&[path.to_str().unwrap()])).unwrap_err();
        assert_eq!(errors[0].help.as_deref(), Some("did you mean `page: oncall`?"));
    }
}
