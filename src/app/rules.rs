//! From configuration to what the engine works with: rule files compiled, schema built, mistakes told.

use std::sync::Arc;

use crate::config::{Config, rule_files};
use crate::engine::input::Settings;
use crate::engine::rule::Page;
use crate::engine::rule::compile::{Compiled, compile_rules, schema_for};
use crate::engine::rule::diagnostic::{Diagnostic, Level, nearest};
use crate::engine::rule::review::check_budgets;
use crate::engine::schema::Schema;

/// Compiles the rules of a configuration. `previous` keeps the numbers of variants over a reload.
///
/// # Errors
///
/// Everything that is wrong with the rule files, rollback rules that cannot keep the ten minutes included.
pub fn settings(
    config: &Config,
    previous: Option<&Schema>,
) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
    let files = rule_files(&config.rules)?;
    let compiled = compile_rules(&files, &config.catalogue, &config.flags)?;
    let wrong = check_receivers(&compiled, config);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (errors, late): (Vec<_>, Vec<_>) =
        check_budgets(&compiled, &config.timing).into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut warnings = compiled.warnings;
    warnings.extend(late);
    let schema = schema_for(&compiled.rules, &config.flags, &config.catalogue, previous);
    let settings = Settings {
        rules: Arc::new(compiled.rules),
        flags: config.flags.clone(),
        schema: Arc::new(schema),
        limits: config.limits,
        lateness: config.timing.lateness,
        dry_run: config.dry_run,
    };
    Ok((settings, warnings))
}

/// `page: <receiver>` has to name one that is configured.
pub fn check_receivers(compiled: &Compiled, config: &Config) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for (rule, note) in compiled.rules.rules.iter().zip(&compiled.notes) {
        let Page::Receiver(name) = &rule.page else {
            continue;
        };
        if config.receivers.contains_key(name) {
            continue;
        }
        let help = match nearest(name, config.receivers.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `page: {near}`?"),
            None => "add it under `receivers:` in the configuration".to_owned(),
        };
        wrong.push(Diagnostic {
            file: rule.origin.file.clone(),
            line: note.line,
            column: note.column,
            span: note.at,
            message: format!("`{}` pages `{name}`, and there is no such receiver", rule.id),
            help: Some(help),
            severity: Level::Error,
        });
    }
    wrong
}
