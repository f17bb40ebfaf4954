//! From configuration to what the engine works with: rule files compiled, schema built, mistakes told.

use std::sync::Arc;

use crate::config::{Config, rule_files};
use crate::engine::input::Settings;
use crate::engine::rule::compile::{compile_rules, schema_for};
use crate::engine::rule::diagnostic::Diagnostic;
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
