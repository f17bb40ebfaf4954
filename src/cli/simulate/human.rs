//! The report for people: one table per rule, one line per judge.

use std::fmt::Write as _;

use super::{Part, Report};
use crate::cli::output::{Ink, Paint, count};
use crate::cli::table::{Cell, Side, Table, cell};
use crate::dispatch::words;
use crate::engine::rule::{Rule, RuleAction};
use crate::engine::verdict::brief;
use crate::lab::simulate::draw::Shape;
use crate::lab::simulate::judge::Judge;
use crate::lab::simulate::tally::{Estimate, Quantile, Verdicts};
use crate::lab::simulate::within_ten;
use crate::lab::simulate::world::{Measured, World};
use crate::model::metric::{Catalogue, Kind};

/// The whole report.
pub fn text(report: &Report<'_>) -> String {
    let paint = Paint::stdout();
    let mut out = String::new();
    for part in &report.parts {
        head(report, part, paint, &mut out);
        for (place, rule) in part.plan.settings.rules.rules.iter().enumerate() {
            one_rule(report, part, place, rule, paint, &mut out);
        }
        together(part, paint, &mut out);
    }
    for (rule, options) in &report.left_out {
        let _ =
            writeln!(out, "not simulated: `{}` of {}; say {options}", rule.condition.source, rule.variant);
    }
    if !report.left_out.is_empty() {
        out.push('\n');
    }
    out.push_str(&notes(report));
    out
}

fn head(report: &Report<'_>, part: &Part, paint: Paint, out: &mut String) {
    let world = &part.plan.world;
    let _ = writeln!(out, "{}", paint.bold(part.plan.variant.as_str()));
    let _ = writeln!(out, "  {} a minute{}", words::events(world.events), troubles(world));
    for metric in &world.metrics {
        let _ = writeln!(out, "  {}", level(metric, &report.config.catalogue));
    }
    let size = report.size;
    let _ = writeln!(
        out,
        "  {} of {} healthy days, seed {}; evidence needed: {} (`evidence` promises at most {} false per 1,000 days and rule)\n",
        count(size.runs, "run"),
        words::number(size.days),
        part.plan.seed,
        brief(part.plan.needed()),
        words::number(part.plan.promised())
    );
}

/// What goes wrong by itself, as far as anything does.
fn troubles(world: &World) -> String {
    let mut all = Vec::new();
    let mut say = |size: f64, text: String| {
        if size > 0.0 {
            all.push(text);
        }
    };
    let percent = |share: f64| format!("{} %", words::number(share * 100.0));
    say(world.traffic_swing, format!("traffic swings by {} in a day", percent(world.traffic_swing)));
    say(world.level_swing, format!("levels swing by {}", words::number(world.level_swing)));
    say(world.noise, format!("minutes share shocks of {}", words::number(world.noise)));
    let lasting = (words::number(world.shocks), words::number(world.shocks_last));
    say(world.shocks, format!("lasting shocks of {} (AR(1), {})", lasting.0, lasting.1));
    let accidents = (words::number(world.accidents), words::number(world.accident_traffic));
    say(world.accidents, format!("{} bad minutes a day at {} × the traffic", accidents.0, accidents.1));
    say(world.gaps, format!("{} gaps of {} min a day", words::number(world.gaps), world.gap_minutes));
    say(world.late, format!("{} come {} min late", percent(world.late), world.late_minutes));
    all.iter().map(|text| format!("; {text}")).collect()
}

fn level(metric: &Measured, catalogue: &Catalogue) -> String {
    let known = catalogue.get(metric.metric);
    let number = |center: f64| words::measure(center, &known.unit);
    let spread = match (&metric.shape, metric.kind) {
        (Shape::LogNormal { sigma }, _) => {
            format!(" in the middle, log-normal with σ {}", words::number(*sigma))
        }
        (Shape::Share, Kind::Score) => ", every score 0 or 1".to_owned(),
        (Shape::Share, _) => String::new(),
        (Shape::Spread(beta), _) => format!(", spread by {}", words::number(beta.sd())),
    };
    let then = metric.regressed.map(|then| format!(", then {}", number(then))).unwrap_or_default();
    let baseline = metric.baseline.map(|base| format!(", baseline {}", number(base))).unwrap_or_default();
    format!("{} {}{then}{baseline}{spread}", known.name, number(metric.healthy))
}

fn one_rule(report: &Report<'_>, part: &Part, place: usize, rule: &Rule, paint: Paint, out: &mut String) {
    let _ = writeln!(out, "  {}  {}", paint.bold(&rule.condition.source), rule.action.as_str());
    let regresses = shifts(part, rule);
    let mut columns = vec![("CONFIRM", Side::Left), ("FALSE PER 1,000 DAYS", Side::Right)];
    if regresses {
        let times = ["MEDIAN", "P90", "P99", "WITHIN 10 MIN"];
        columns.extend(times.map(|name| (name, Side::Right)));
    }
    columns.push(("", Side::Left));
    let mut table = Table::new(4, &columns);
    for verdicts in &part.outcome.judges {
        table.row(row(report, part, place, rule, verdicts, regresses));
    }
    out.push_str(&table.render(paint));
    out.push('\n');
}

/// Whether a regression moves anything that the rule measures.
pub fn shifts(part: &Part, rule: &Rule) -> bool {
    let moved = |id| part.plan.world.metrics.iter().any(|m| m.metric == id && m.regressed.is_some());
    part.outcome.horizon > 0 && rule.condition.slots.iter().any(|slot| moved(slot.metric))
}

fn row(
    report: &Report<'_>,
    part: &Part,
    place: usize,
    rule: &Rule,
    verdicts: &Verdicts,
    regresses: bool,
) -> Vec<Cell> {
    let tally = &verdicts.rules[place];
    let counts = tally.counts;
    let written = verdicts.judge == Judge::Mode(rule.confirm);
    let name = format!("{}{}", verdicts.judge.as_str(), if written { " *" } else { "" });
    let falsely = part.outcome.per_1000_days(counts.acted);
    let ink = if counts.acted == 0 { Ink::Good } else { Ink::Plain };
    let mut cells = vec![Cell::from(name), cell(ink, estimate(falsely, 1.0, ""))];
    if regresses {
        for q in [0.5, 0.9, 0.99] {
            cells.push(quantile(tally.quantile(q), part.outcome.horizon).into());
        }
        let within = tally.within(within_ten(report.config.timing.lateness));
        cells.push(estimate(within, 100.0, " %").into());
    }
    let mut also = Vec::new();
    for (n, what) in [(counts.paused, "paused instead"), (counts.withheld, "withheld")] {
        if n > 0 {
            also.push(format!("{what} {}", words::number(part.outcome.per_1000_days(n).value.round())));
        }
    }
    cells.push(cell(Ink::Dim, also.join(", ")));
    cells
}

/// `12 (8–17)`
pub fn estimate(of: Estimate, times: f64, unit: &str) -> String {
    let round = |value: f64| {
        let value = value * times;
        words::number(if value < 10.0 { (value * 10.0).round() / 10.0 } else { value.round() })
    };
    format!("{}{unit} ({}–{})", round(of.value), round(of.low), round(of.high))
}

/// `12 (11–14)`, in minutes; `12 (≥ 11)` where nothing bounds it from above, and `>600` where it lies beyond the horizon.
pub fn quantile(of: Quantile, horizon: u32) -> String {
    match (of.value, of.low.unwrap_or(0), of.high) {
        (Some(value), low, Some(high)) => format!("{value} ({low}–{high})"),
        (Some(value), low, None) => format!("{value} (≥ {low})"),
        (None, ..) => format!(">{horizon}"),
    }
}

/// What all rollback rules of a variant do together, where there are several.
fn together(part: &Part, paint: Paint, out: &mut String) {
    let rules = &part.plan.settings.rules.rules;
    if rules.iter().filter(|rule| rule.action == RuleAction::Rollback).count() < 2 {
        return;
    }
    let _ = writeln!(out, "  {}", paint.bold("all rollback rules of the variant together"));
    let mut table =
        Table::new(4, &[("CONFIRM", Side::Left), ("FALSE PER 1,000 DAYS", Side::Right), ("", Side::Left)]);
    for verdicts in &part.outcome.judges {
        let falsely = estimate(part.outcome.per_1000_days(verdicts.rollbacks), 1.0, "");
        table.row(vec![verdicts.judge.as_str().into(), falsely.into(), "".into()]);
    }
    out.push_str(&table.render(paint));
    out.push('\n');
}

fn notes(report: &Report<'_>) -> String {
    let mut notes = String::from("* as the rule file says. In brackets: 95 % intervals.");
    if report.size.horizon > 0 {
        let lateness = report.config.timing.lateness.as_secs();
        let _ = write!(
            notes,
            " Times are minutes from the onset to the end of the minute at whose closing a rule acts; the closing waits {lateness} s more \
             for late events, which counts towards the ten minutes. Flipping and paging come on top: `rearguard check` has the sum."
        );
    }
    notes = crate::cli::output::wrap(&notes, crate::cli::output::WIDTH).join("\n");
    notes.push('\n');
    notes
}
