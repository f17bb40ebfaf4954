//! The report for machines: one document.

use serde_json::{Value, json};

use super::human::shifts;
use super::{Part, Report};
use crate::lab::simulate::tally::Verdicts;
use crate::lab::simulate::within_ten;

/// The whole report.
pub fn document(report: &Report<'_>) -> Value {
    let variants: Vec<Value> = report.parts.iter().map(|part| variant(report, part)).collect();
    let left_out = report.left_out.iter().map(|(rule, _)| {
        json!({ "variant": rule.variant.as_str(), "rule": rule.id.as_str(), "condition": rule.condition.source })
    });
    json!({
        "runs": report.size.runs,
        "days_per_run": report.size.days,
        "horizon_minutes": report.size.horizon,
        "seed": report.args.seed,
        "variants": variants,
        "not_simulated": left_out.collect::<Vec<_>>(),
    })
}

fn variant(report: &Report<'_>, part: &Part) -> Value {
    let world = &part.plan.world;
    let catalogue = &report.config.catalogue;
    let metrics = world.metrics.iter().map(|metric| {
        json!({
            "metric": catalogue.get(metric.metric).name,
            "center": metric.healthy,
            "regressed": metric.regressed,
            "baseline": metric.baseline,
        })
    });
    let rules = part.plan.settings.rules.rules.iter().enumerate().map(|(place, rule)| {
        let judges = part.outcome.judges.iter().map(|verdicts| judged(report, part, place, verdicts));
        json!({
            "rule": rule.id.as_str(),
            "condition": rule.condition.source,
            "action": rule.action.as_str(),
            "confirm": rule.confirm.as_str(),
            "regresses": shifts(part, rule),
            "judges": judges.collect::<Vec<_>>(),
        })
    });
    let together = part.outcome.judges.iter().map(|verdicts| {
        json!({ "judge": verdicts.judge.as_str(), "false_rollbacks_per_1000_days": part.outcome.per_1000_days(verdicts.rollbacks) })
    });
    json!({
        "variant": part.plan.variant.as_str(),
        "events_per_minute": world.events,
        "evidence_needed": part.plan.needed(),
        "evidence_promises_false_per_1000_days": part.plan.promised(),
        "metrics": metrics.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
        "together": together.collect::<Vec<_>>(),
    })
}

fn judged(report: &Report<'_>, part: &Part, place: usize, verdicts: &Verdicts) -> Value {
    let tally = &verdicts.rules[place];
    let rate = |count| part.outcome.per_1000_days(count);
    let mut judged = json!({
        "judge": verdicts.judge.as_str(),
        "false": tally.counts.acted,
        "false_per_1000_days": rate(tally.counts.acted),
        "paused_instead_per_1000_days": rate(tally.counts.paused),
        "withheld_per_1000_days": rate(tally.counts.withheld),
    });
    if shifts(part, &part.plan.settings.rules.rules[place]) {
        judged["minutes"] = json!({
            "median": tally.quantile(0.5),
            "p90": tally.quantile(0.9),
            "p99": tally.quantile(0.99),
        });
        judged["within_ten_minutes"] = json!(tally.within(within_ten(report.config.timing.lateness)));
    }
    judged
}
