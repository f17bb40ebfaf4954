//! From configuration to what the engine works with: rule files compiled, schema built, mistakes told.

use std::path::PathBuf;
use std::sync::Arc;

use super::rehearsal::rehearse;
use super::texts::templates;
use crate::config::{Config, Receiver, readable_rule_files, rule_files};
use crate::engine::input::Settings;
use crate::engine::rule::compile::{Compiled, attempt, compile_rules, schema_for};
use crate::engine::rule::diagnostic::{Diagnostic, nearest};
use crate::engine::rule::review::{check_budgets, review};
use crate::engine::rule::{Page, Rule};
use crate::engine::schema::Schema;
use crate::model::canary::CANARY;

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
    let mut compiled = compile_rules(&files, &config.catalogue, &config.flags)?;
    let mut wrong = check_receivers(&compiled, config);
    wrong.extend(check_names(&compiled));
    wrong.extend(templates(config).err().into_iter().flatten());
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
    warnings.extend(rehearse(config));
    let mut schema = schema_for(&compiled.rules, &config.flags, &config.catalogue, previous);
    if config.canary.is_some() {
        let rule = canary_rule(config)?;
        let variant = schema.add_variant(&rule.variant);
        schema.set_canary(variant, instance(config).into());
        compiled.rules.canary = Some(rule);
    }
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

/// Rule files as a reviewer sees them.
#[derive(Clone, Debug, Default)]
pub struct Inspected {
    /// Name and content of the files that could be read.
    pub files: Vec<(String, String)>,
    /// The rules that are good by themselves: all of them if nothing is `wrong`.
    pub compiled: Compiled,
    /// What keeps the rules from being put in force at all.
    pub wrong: Vec<Diagnostic>,
    /// Warnings, and the errors of rollback rules that cannot keep the ten minutes.
    pub found: Vec<Diagnostic>,
}

/// Compiles the rule files at `places` and collects everything there is to say about them, beside the doubts that the
/// configuration has about itself.
pub fn inspect(config: &Config, places: &[PathBuf]) -> Inspected {
    let (files, mut wrong) = readable_rule_files(places);
    let (compiled, found) = attempt(&files, &config.catalogue, &config.flags);
    let (errors, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
    wrong.extend(errors);
    if !config.path.as_os_str().is_empty() {
        wrong.extend(check_receivers(&compiled, config));
        wrong.extend(check_names(&compiled));
        wrong.extend(templates(config).err().into_iter().flatten());
        found.extend(rehearse(config));
    }
    found.extend(review(&compiled, &config.catalogue, wrong.is_empty()));
    found.extend(check_budgets(&compiled, &config.timing));
    Inspected { files, compiled, wrong, found }
}

/// The rule of the canary, in the words of rule files: it passes while the canary of the last minutes is there and true.
const CANARY_RULES: &str = "
- variant: rearguard.canary
  flag: rearguard.canary
  rules:
    - { id: rearguard.canary, condition: rearguard.canary_rate_5m < 0.5, action: notify, confirm: persistence, min_samples: 1 }
";

fn canary_rule(config: &Config) -> Result<Arc<Rule>, Vec<Diagnostic>> {
    let compiled = compile_rules(&[("the canary", CANARY_RULES)], &config.catalogue, &[])?;
    let none = || vec![Diagnostic::whole_file("the canary", "has no rule")];
    compiled.rules.rules.into_iter().next().ok_or_else(none)
}

/// What marks canary events as this Rearguard's own. Two that read the same topics are in different groups, or in different
/// clusters when their topics are mirrored.
pub fn instance(config: &Config) -> String {
    let place = format!("{}\n{}", config.kafka.bootstrap(), config.kafka.group);
    blake3::hash(place.as_bytes()).to_hex()[..16].to_owned()
}

/// The canary's name is nobody else's.
fn check_names(compiled: &Compiled) -> Vec<Diagnostic> {
    let taken = |rule: &Rule| rule.variant.as_str() == CANARY || rule.flag.as_str() == CANARY;
    let rules = compiled.rules.rules.iter().zip(&compiled.notes);
    rules
        .filter(|(rule, _)| taken(rule))
        .map(|(rule, note)| {
            let message = format!("`{}` is about `{CANARY}`, which Rearguard judges itself", rule.id);
            let help = "name a variant of your own; `canary:` in the configuration is all there is to set"
                .to_owned();
            note.at.warning(&rule.origin.file, message, help).as_error()
        })
        .collect()
}

/// `page: <receiver>` has to name one that is configured.
fn check_receivers(compiled: &Compiled, config: &Config) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for (rule, note) in compiled.rules.rules.iter().zip(&compiled.notes) {
        let Page::Receiver(name) = &rule.page else {
            continue;
        };
        if let Some(receiver) = config.receivers.get(name) {
            if matches!(receiver, Receiver::Slack { .. }) {
                let message = format!("`{}` pages `{name}`, which is Slack: it rings nobody", rule.id);
                let help = "name a pager, or leave `page:` to `routes:`".to_owned();
                wrong.push(note.at.warning(&rule.origin.file, message, help).as_error());
            }
            continue;
        }
        let help = match nearest(name, config.receivers.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `page: {near}`?"),
            None => "add it under `receivers:` in the configuration".to_owned(),
        };
        let message = format!("`{}` pages `{name}`, and there is no such receiver", rule.id);
        wrong.push(note.at.warning(&rule.origin.file, message, help).as_error());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::canary;
    use crate::model::metric::Catalogue;

    #[test]
    fn the_canarys_rule_compiles() {
        let catalogue = Arc::new(Catalogue::with(vec![canary::metric()]));
        let rule = canary_rule(&Config { catalogue, ..Config::built_in() }).unwrap();
        assert_eq!((rule.variant.as_str(), rule.min_samples, rule.by), (CANARY, 1, None));
    }
}
