//! `burn_rate: <objective>`: one line that stands for the rules which everybody writes for an error budget.
//!
//! Beyer et al., The Site Reliability Workbook (2018), chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", table 5-8: what spends 2 %
//! of the budget in an hour or 5 % in six hours acts, what spends 10 % in three days tells; each also over a window a twelfth as
//! long, so that it ends soon after the burning does. For 30 days these are 14.4, 6 and 1 times the allowed rate.

use super::RuleAction;
use super::diagnostic::{nearest, one_of};
use super::spec::{Located, RuleSpec};
use super::token::tidy;
use super::yaml::Document;
use crate::model::metric::Catalogue;

/// `min_samples` when a preset says nothing: asked of its shortest window too, which is five minutes.
pub const MIN_SAMPLES: u64 = 20;

/// One rule of the preset.
struct Line {
    name: &'static str,
    /// The share of the budget that may be spent in `window`.
    share: f64,
    hours: f64,
    window: &'static str,
    short: &'static str,
    /// Whether it does what the preset's `action` says; the slowest only tells.
    acts: bool,
}

const LINES: [Line; 3] = [
    Line { name: "fast", share: 0.02, hours: 1.0, window: "1h", short: "5m", acts: true },
    Line { name: "slow", share: 0.05, hours: 6.0, window: "6h", short: "30m", acts: true },
    Line { name: "trickle", share: 0.10, hours: 72.0, window: "3d", short: "6h", acts: false },
];

/// The rules that a line of a rule file stands for: itself, unless it names an objective. What cannot be is told.
pub fn expand(doc: &mut Document<'_>, spec: &RuleSpec, catalogue: &Catalogue) -> Vec<RuleSpec> {
    let Some(named) = &spec.burn_rate else { return vec![spec.clone()] };
    let known = || catalogue.slos().iter().map(|slo| slo.name.as_str());
    let Some(slo) = catalogue.slos().iter().find(|slo| slo.name == named.value) else {
        let help = match nearest(&named.value, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if catalogue.slos().is_empty() => "add it under `slos:` in the configuration".to_owned(),
            None => format!("there are {}", one_of(known())),
        };
        doc.error_help(named.at, format!("there is no service level objective `{}`", named.value), help);
        return Vec::new();
    };
    let most = 1e6 / f64::from(slo.allowed);
    let factor = |line: &Line| line.share * f64::from(slo.period_hours) / line.hours;
    let rules: Vec<RuleSpec> = LINES
        .iter()
        // Below 1 nothing is spent too fast; and no rate is above all samples.
        .filter(|line| factor(line) >= 1.0 && factor(line) < most)
        .map(|line| one(spec, named, line, factor(line)))
        .collect();
    if rules.is_empty() {
        doc.error_help(
            named.at,
            format!(
                "no burn rate of `{}` would be too fast: its objective or its period is too small",
                slo.name
            ),
            format!("write a condition, such as `slo.{}.burn_1h > 2`", slo.name),
        );
    }
    rules
}

fn one(spec: &RuleSpec, named: &Located<String>, line: &Line, factor: f64) -> RuleSpec {
    let Line { name, window, short, .. } = line;
    let (slo, factor) = (&named.value, tidy(factor));
    let text = format!("slo.{slo}.burn_{window} > {factor} && slo.{slo}.burn_{short} > {factor}");
    let id = spec.id.as_ref().map_or(slo, |id| &id.value);
    RuleSpec {
        condition: Located { value: text, at: named.at },
        action: if line.acts { spec.action } else { spec.action.and(Some(RuleAction::Notify)) },
        id: Some(Located {
            value: format!("{id}-{name}"),
            at: spec.id.as_ref().map_or(named.at, |id| id.at),
        }),
        min_samples: spec.min_samples.or(Some(MIN_SAMPLES)),
        burn_rate: None,
        ..spec.clone()
    }
}
