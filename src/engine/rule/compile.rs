//! From rule files to the rules in force: conditions compiled, defaults filled in, ids and hashes given, doubts collected.
//!
//! Pure: the caller has read the files. Either everything compiles or nothing is put in force.

use std::sync::Arc;
use std::time::Duration;

use super::condition::{self, Parsed};
use super::diagnostic::{Diagnostic, Place, Span, nearest};
use super::identifier;
use super::shape::{self, Rounding};
use super::spec::{self, Located, RuleSpec, VariantSpec};
use super::token::Fault;
use super::write::write;
use super::yaml::Document;
use super::{
    Arm, Condition, Confirm, Origin, Rule, RuleAction, RuleHash, RuleSet, Window, clear, logic, preset,
};
use crate::engine::detector;
use crate::engine::schema::Schema;
use crate::model::flag::{FlagSpec, Served};
use crate::model::id::{FlagKey, RuleId, Variant};
use crate::model::incident::Severity;
use crate::model::metric::Catalogue;

/// `for` when a rule says nothing: rules.md, "P, persistence".
pub const DEFAULT_HOLD: Duration = Duration::from_secs(180);
/// `min_samples` when a rule says nothing.
pub const DEFAULT_MIN_SAMPLES: u64 = 100;
/// The least default `dwell`.
pub const DEFAULT_DWELL: Duration = Duration::from_secs(900);

/// The longest default `dwell`: a quarter of a day.
pub const LONGEST_DWELL: Duration = Duration::from_secs(6 * 3_600);

/// Rules that compiled.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub rules: RuleSet,
    /// One per rule, in the same order: what `check` says and the engine does not need.
    pub notes: Vec<RuleNote>,
    pub warnings: Vec<Diagnostic>,
}

/// What a person wants to know about a compiled rule.
#[derive(Clone, Debug)]
pub struct RuleNote {
    pub roundings: Vec<Rounding>,
    /// Whether `clear` was derived, not given.
    pub clear_derived: bool,
    /// Where the rule begins, for later complaints.
    pub at: Place,
    pub condition: Place,
    /// Where `for` stands, else the rule.
    pub hold: Place,
    /// `no_time_bound`, and where it stands. It is no part of the rule: the engine has no use for it.
    pub no_time_bound: Option<(String, Place)>,
    /// The platform that serves the rule's flag, unless Rearguard does.
    pub served: Option<Served>,
    /// Whether its flag is there to practise on.
    pub drill: bool,
}

/// Compiles rule files, each with its name and content. All errors of all files are collected.
pub fn compile_rules<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
    catalogue: &Catalogue,
    flags: &[FlagSpec],
) -> Result<Compiled, Vec<Diagnostic>> {
    let (mut out, found) = attempt(files, catalogue, flags);
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(errors);
    }
    out.warnings = warnings;
    Ok(out)
}

/// Compiles what can be: the rules that are good by themselves, and all errors and warnings, file by file. For those who
/// review rules; nothing of it may be put in force if there is an error.
pub fn attempt<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
    catalogue: &Catalogue,
    flags: &[FlagSpec],
) -> (Compiled, Vec<Diagnostic>) {
    let mut out = Compiled::default();
    let mut found = Vec::new();
    for (name, text) in files {
        let mut doc = Document::new(name.as_ref(), text.as_ref());
        let specs = spec::read(&mut doc);
        for variant in &specs {
            let mut compiler = Compiler { doc: &mut doc, catalogue, flags, out: &mut out };
            compiler.variant(variant);
        }
        doc.diagnostics.sort_by_key(|d| d.span.offset);
        found.append(&mut doc.diagnostics);
    }
    (out, found)
}

/// What ingest has to record for these rules and flags. Ids only grow: `previous` keeps its numbers (and its catalogue).
pub fn schema_for(
    rules: &RuleSet,
    flags: &[FlagSpec],
    catalogue: &Arc<Catalogue>,
    previous: Option<&Schema>,
) -> Schema {
    let mut schema = previous.cloned().unwrap_or_else(|| Schema::new(Arc::clone(catalogue)));
    for rule in &rules.rules {
        let mut arms = vec![schema.add_variant(&rule.variant)];
        arms.extend(rule.baseline.as_ref().map(|b| schema.add_variant(b)));
        let Some(dimension) = rule.by else { continue };
        for slot in rule.condition.slots.iter().chain(&rule.clear.slots) {
            for arm in &arms {
                schema.add_slice(*arm, dimension, catalogue.recorded(slot.metric));
            }
        }
    }
    for flag in flags {
        schema.add_variant(&flag.control);
        schema.add_variant(&flag.treatment);
    }
    schema
}

struct Compiler<'a, 'd> {
    doc: &'a mut Document<'d>,
    catalogue: &'a Catalogue,
    flags: &'a [FlagSpec],
    out: &'a mut Compiled,
}

impl Compiler<'_, '_> {
    fn variant(&mut self, spec: &VariantSpec) {
        if spec.variant.value.is_empty() {
            for rule in &spec.rules {
                self.conditions_only(rule);
            }
            return;
        }
        let variant = Variant::new(spec.variant.value.as_str());
        let flag = match &spec.flag {
            Some(flag) => FlagKey::new(flag.value.as_str()),
            None => variant.default_flag(),
        };
        let known = self.flags.iter().find(|f| f.key == flag);
        let given = spec.baseline.as_ref().map(|b| Variant::new(b.value.as_str()));
        let baseline = given.or_else(|| known.map(|f| f.control.clone()));
        if baseline.as_ref() == Some(&variant) && spec.baseline.is_some() {
            let at = spec.baseline.as_ref().map_or(spec.variant.at, |b| b.at);
            self.doc.error(at, "a variant cannot be its own baseline");
        }
        self.check_flag(spec, &variant, &flag, known);
        let baseline = baseline.filter(|b| *b != variant);
        for rule in &spec.rules {
            for rule in preset::expand(self.doc, rule, self.catalogue) {
                self.rule(&rule, spec, &variant, &flag, baseline.as_ref());
            }
        }
    }

    fn check_flag(
        &mut self,
        spec: &VariantSpec,
        variant: &Variant,
        flag: &FlagKey,
        known: Option<&FlagSpec>,
    ) {
        let at = spec.flag.as_ref().map_or(spec.variant.at, |f| f.at);
        let acts = spec.rules.iter().any(|r| r.action > Some(RuleAction::Notify));
        match known {
            Some(known) if known.treatment == *variant => {}
            Some(known) if known.control == *variant && !acts => {}
            Some(known) if known.control == *variant => {
                self.doc.error_help(
                    spec.variant.at,
                    format!(
                        "`{variant}` is the control of flag `{flag}`: it cannot be rolled back or paused"
                    ),
                    format!("write the rules for `{}`, or let these only `notify`", known.treatment),
                );
            }
            Some(known) => {
                let names = [known.treatment.as_str(), known.control.as_str()];
                let near = nearest(variant.as_str(), names).unwrap_or(known.treatment.as_str());
                self.doc.error_help(
                    spec.variant.at,
                    format!(
                        "flag `{flag}` serves `{}` and `{}`, not `{variant}`",
                        known.control, known.treatment
                    ),
                    format!("did you mean `{near}`?"),
                );
            }
            None if acts => {
                let other = self.flags.iter().find(|f| f.treatment == *variant);
                let near = nearest(flag.as_str(), self.flags.iter().map(|f| f.key.as_str()));
                let help = match (other, near) {
                    (Some(other), _) => {
                        format!("its treatment is served by `{}`: add `flag: {}`", other.key, other.key)
                    }
                    (None, Some(near)) => format!("did you mean `{near}`?"),
                    (None, None) => format!(
                        "add `{flag}` under `flags:` in the configuration, with `control` and `treatment`"
                    ),
                };
                self.doc.warn(
                    at,
                    format!("flag `{flag}` is not configured: nothing can be rolled back or paused"),
                    help,
                );
            }
            None => {}
        }
    }

    fn rule(
        &mut self,
        spec: &RuleSpec,
        of: &VariantSpec,
        variant: &Variant,
        flag: &FlagKey,
        baseline: Option<&Variant>,
    ) {
        let Some(action) = spec.action else {
            return self.conditions_only(spec);
        };
        let Some(parsed) = self.condition(&spec.condition) else {
            if let Some(given) = &spec.clear {
                self.condition(given);
            }
            return;
        };
        let hash = hash(&parsed, spec, action, self.catalogue);
        let derived = clear::derive(&parsed, self.catalogue);
        let id = self.id(spec, action, &parsed);
        let (condition, roundings) = parsed.finish(self.catalogue);
        if condition.reads_baseline() && baseline.is_none() {
            self.warn_no_baseline(spec, variant, flag);
        }
        let given = spec.clear.as_ref().and_then(|given| self.given_clear(given, &condition));
        let confirm = spec.confirm.or(of.confirm).unwrap_or_default();
        self.check_confirm(confirm, &condition, spec);
        self.check_window(&condition, action, spec);
        let clear_derived = spec.clear.is_none();
        let at = Place::of(self.doc.text, spec.at);
        let window = condition.window().span();
        let rule = Rule {
            id,
            flag: flag.clone(),
            variant: variant.clone(),
            baseline: baseline.cloned(),
            failure_class: spec
                .failure_class
                .clone()
                .unwrap_or_else(|| failure_class(&condition, self.catalogue)),
            clear: given.unwrap_or(derived),
            condition,
            action,
            confirm,
            hold: spec.hold.unwrap_or(DEFAULT_HOLD),
            dwell: spec.dwell.unwrap_or((window / 4).clamp(DEFAULT_DWELL, LONGEST_DWELL)),
            min_samples: spec.min_samples.unwrap_or(DEFAULT_MIN_SAMPLES),
            no_data: spec.no_data,
            by: spec.by,
            whole_flag: spec.whole_flag && spec.by.is_some(),
            dry_run: spec.dry_run.unwrap_or(of.dry_run),
            severity: spec.severity.unwrap_or(default_severity(action)),
            runbook: spec.runbook.clone(),
            page: spec.page.clone(),
            owner: of.owner.clone(),
            origin: Origin { file: self.doc.file.to_owned(), line: at.line },
            hash,
        };
        self.check_unique(&rule, spec);
        self.out.rules.rules.push(Arc::new(rule));
        self.out.notes.push(RuleNote {
            roundings,
            clear_derived,
            at,
            condition: Place::of(self.doc.text, spec.condition.at),
            hold: spec.hold_at.map_or(at, |span| Place::of(self.doc.text, span)),
            no_time_bound: spec
                .no_time_bound
                .as_ref()
                .map(|reason| (reason.value.clone(), Place::of(self.doc.text, reason.at))),
            served: self.flags.iter().find(|f| f.key == *flag).and_then(|f| f.served.clone()),
            drill: self.flags.iter().any(|f| f.drill && f.key == *flag),
        });
    }

    /// `confirm: evidence` on a condition that gives none could never fire.
    fn check_confirm(&mut self, confirm: Confirm, condition: &Condition, spec: &RuleSpec) {
        if let (Confirm::Evidence, Err(why)) = (confirm, detector::claims(condition, self.catalogue)) {
            self.doc.error_help(
                spec.condition.at,
                format!("`confirm: evidence` can never fire on this condition: {why}"),
                "use `confirm: either` or `persistence`",
            );
        }
    }

    /// A rollback must not wait for days, and cannot be shown to rest on more than single minutes once these are gone.
    fn check_window(&mut self, condition: &Condition, action: RuleAction, spec: &RuleSpec) {
        let Some(long) = condition.slots.iter().find(|slot| slot.window.is_long()) else { return };
        if action == RuleAction::Rollback {
            self.doc.error_help(
                spec.condition.at,
                format!(
                    "`{}` looks back longer than 6h, which may pause and notify but not roll back",
                    identifier::name(long, self.catalogue)
                ),
                "say `action: pause_rollout` or `notify`, and roll back by a rule on 5m, 1h or 6h of the same metric",
            );
        }
    }

    fn warn_no_baseline(&mut self, spec: &RuleSpec, variant: &Variant, flag: &FlagKey) {
        let control = self.flags.iter().any(|known| known.key == *flag && known.control == *variant);
        let message = if control {
            format!("`{variant}` is the control of `{flag}` itself: there is nothing to compare it with")
        } else {
            "the rule compares with a baseline and there is none: that comparison is always unknown"
                .to_owned()
        };
        let help = "add `baseline: <variant>` to the entry, or configure the flag's `control`";
        self.doc.warn(spec.condition.at, message, help);
    }

    /// The rest of the rule is wrong: only what can be said of its conditions.
    fn conditions_only(&mut self, spec: &RuleSpec) {
        for text in std::iter::once(&spec.condition).chain(&spec.clear).filter(|t| !t.value.is_empty()) {
            self.condition(text);
        }
    }

    fn condition(&mut self, text: &Located<String>) -> Option<Parsed> {
        let parsed = match condition::parse(&text.value, self.catalogue) {
            Ok(parsed) => parsed,
            Err(faults) => {
                for fault in faults {
                    self.fault(text, &fault);
                }
                return None;
            }
        };
        if self.foregone(text, &parsed) {
            return None;
        }
        for at in &parsed.equalities {
            let at = self.place(text, *at);
            self.doc.warn(
                at,
                "measured numbers are almost never exactly equal",
                "compare with `<`, `<=`, `>` or `>=`",
            );
        }
        Some(parsed)
    }

    /// Tells every comparison that can never, or must always, hold; else whether their combination cannot.
    fn foregone(&mut self, text: &Located<String>, parsed: &Parsed) -> bool {
        let found = shape::foregone(&parsed.expr, &parsed.slots, self.catalogue);
        for foregone in &found {
            let always = if foregone.holds { "always true" } else { "never true" };
            let message = format!("`{}` is {always}: {}", foregone.comparison, foregone.range);
            match &foregone.help {
                Some(help) => self.doc.error_help(text.at, message, help.clone()),
                None => self.doc.error(text.at, message),
            }
        }
        if !found.is_empty() {
            return true;
        }
        let why = if logic::never(&parsed.expr, &parsed.slots, self.catalogue) {
            "never true: no measurement can meet all of its comparisons"
        } else if logic::always(&parsed.expr, &parsed.slots, self.catalogue) {
            "always true: every measurement meets one of its comparisons"
        } else {
            return false;
        };
        self.doc.error_help(
            text.at,
            format!("the condition is {why}"),
            "look at the thresholds, and at each `&&` and `||`",
        );
        true
    }

    fn given_clear(&mut self, given: &Located<String>, condition: &Condition) -> Option<Condition> {
        let (clear, _) = self.condition(given)?.finish(self.catalogue);
        if let Some(why) = clear::contradiction(condition, &clear, self.catalogue) {
            self.doc.warn(
                given.at,
                why,
                "a breach resolves when `clear` has held for `dwell`: name the good side",
            );
        }
        Some(clear)
    }

    fn fault(&mut self, text: &Located<String>, fault: &Fault) {
        let at = self.place(text, fault.at);
        match &fault.help {
            Some(help) => self.doc.error_help(at, fault.message.clone(), help.clone()),
            None => self.doc.error(at, fault.message.clone()),
        }
    }

    /// Where a part of a condition stands in the file; the whole condition when the file writes it differently.
    fn place(&self, text: &Located<String>, within: Span) -> Span {
        let end = text.at.end().min(self.doc.text.len());
        match self.doc.text.get(text.at.offset..end) {
            Some(raw) if raw == text.value => within.shifted(text.at.offset),
            _ => text.at,
        }
    }

    /// The rule's own id, or its measurements, slice and action: `faithfulness_6h-rollback`.
    fn id(&self, spec: &RuleSpec, action: RuleAction, parsed: &Parsed) -> RuleId {
        if let Some(id) = &spec.id {
            return RuleId::new(id.value.as_str());
        }
        let own = parsed.slots.iter().filter(|slot| slot.arm == Arm::Own);
        let mut parts: Vec<String> = own.map(|slot| identifier::name(slot, self.catalogue)).collect();
        parts.extend(spec.by.map(|by| format!("by-{}", by.as_str())));
        parts.push(match action {
            RuleAction::PauseRollout => "pause".to_owned(),
            action => action.as_str().to_owned(),
        });
        RuleId::new(parts.join("-"))
    }

    fn check_unique(&mut self, rule: &Rule, spec: &RuleSpec) {
        let others = &self.out.rules.rules;
        let twin = others.iter().find(|other| {
            other.flag == rule.flag
                && other.variant == rule.variant
                && other.hash == rule.hash
                && other.dry_run == rule.dry_run
        });
        let named = others.iter().find(|other| other.flag == rule.flag && other.id == rule.id);
        let place = |other: &Rule| other.origin.seen_from(&rule.origin);
        if let Some(twin) = twin {
            let message = format!("the same condition and action stand on {} already", place(twin));
            self.doc.error_help(
                spec.at,
                message,
                format!("remove this rule on line {} or the other", rule.origin.line),
            );
        } else if let Some(named) = named {
            let message = format!("the id `{}` is taken by the rule on {}", rule.id, place(named));
            let at = spec.id.as_ref().map_or(spec.at, |id| id.at);
            let help = if spec.id.is_some() {
                "choose another `id`"
            } else {
                "give one of the two an `id:` of its own"
            };
            self.doc.error_help(at, message, format!("{help} (this rule is on line {})", rule.origin.line));
        }
    }
}

const fn default_severity(action: RuleAction) -> Severity {
    match action {
        RuleAction::Rollback => Severity::Critical,
        RuleAction::PauseRollout => Severity::Warning,
        RuleAction::Notify => Severity::Info,
    }
}

/// The class of the first own measurement's metric.
fn failure_class(condition: &Condition, catalogue: &Catalogue) -> String {
    let own = condition.slots.iter().find(|slot| slot.arm == Arm::Own);
    own.map_or_else(String::new, |slot| catalogue.get(slot.metric).failure_class.clone())
}

/// BLAKE3 over the condition with full names, its longest window, `by` and action: spelling and spaces do not matter.
fn hash(parsed: &Parsed, spec: &RuleSpec, action: RuleAction, catalogue: &Catalogue) -> RuleHash {
    let window = parsed.slots.iter().map(|s| s.window).max().unwrap_or(Window(5));
    let text = format!(
        "{}\n{}\n{}\n{}",
        write(&parsed.expr, &parsed.slots, catalogue),
        window.0,
        spec.by.map_or("", |by| by.as_str()),
        action.as_str(),
    );
    let hex = blake3::hash(text.as_bytes()).to_hex();
    RuleHash(hex[..16].to_owned())
}
