//! Service level objectives as series: each sample of a metric is good or bad, and that is a boolean metric of its own.
//!
//! Counted from panes, so that late data, deletions and restarts are as exact as for the metric itself, and ingest has
//! nothing to do. A limit inside a histogram bucket is rounded outward: samples in the limit's own bucket are good.

use super::layout::Layout;
use super::pane::{PaneData, SealedValues};
use super::rule::token::tidy;
use crate::model::metric::Catalogue;
use crate::model::slo::{Bad, Slo};

/// How many samples of a pane there are, and how many of them are bad.
pub fn bad_samples(slo: &Slo, data: &PaneData, layout: Option<&Layout>) -> PaneData {
    let outside = |values: &SealedValues, is_bad: &dyn Fn(u16) -> bool| {
        values.entries().filter(|(bucket, _)| is_bad(*bucket)).map(|(_, n)| n).sum()
    };
    let (n, trues) = match (data, slo.bad, layout) {
        (PaneData::Counts { n, trues }, Bad::When(true), _) => (*n, *trues),
        (PaneData::Counts { n, trues }, Bad::When(false), _) => (*n, n - trues),
        (PaneData::Values(values), Bad::Below(limit), Some(layout)) => {
            let edge = layout.bucket(limit);
            (values.sums().n, outside(values, &|bucket| bucket < edge))
        }
        (PaneData::Values(values), Bad::Above(limit), Some(layout)) => {
            let edge = layout.bucket(limit);
            (values.sums().n, outside(values, &|bucket| bucket > edge))
        }
        // The configuration is checked: booleans have `When`, everything else a limit.
        (PaneData::Counts { .. }, Bad::Below(_) | Bad::Above(_), _) | (PaneData::Values(_), ..) => (0, 0),
    };
    PaneData::Counts { n, trues }
}

/// What counts as a bad sample, as it is judged: `faithfulness < 0.8`, `error`.
pub fn bad_in_words(slo: &Slo, catalogue: &Catalogue) -> String {
    let metric = catalogue.get(slo.metric);
    let (name, unit) = (&metric.name, &metric.unit);
    let layout = Layout::of(metric);
    let limit =
        |sign: &str, value: f64| format!("{name} {sign} {} {unit}", tidy(value)).trim_end().to_owned();
    match (slo.bad, layout) {
        (Bad::When(true), _) => name.clone(),
        (Bad::When(false), _) => format!("not {name}"),
        (Bad::Below(value), layout) => limit("<", layout.map_or(value, |l| l.lower(l.bucket(value)))),
        (Bad::Above(value), layout) => limit(">", layout.map_or(value, |l| l.upper(l.bucket(value)))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::input::Settings;
    use crate::engine::machine::Engine;
    use crate::engine::memory::Memory;
    use crate::engine::pane::OpenValues;
    use crate::engine::rule::compile::{compile_rules, schema_for};
    use crate::engine::testkit::*;
    use crate::model::metric::MetricId;

    fn slo(name: &str, metric: &str, bad: Bad, allowed: u32) -> Slo {
        let metric = Catalogue::default().find(metric).unwrap();
        Slo { name: name.into(), metric, bad, allowed, period_hours: 12, id: MetricId(0) }
    }

    /// Settings with one rule on an objective that 1 % of answers may miss.
    fn objective(condition: &str) -> Settings {
        let slos = vec![
            slo("answers", "faithfulness", Bad::Below(0.8), 10_000),
            slo("replies", "error", Bad::When(true), 10_000),
        ];
        let catalogue = Arc::new(Catalogue::default().with_slos(slos));
        let text = format!(
            "- variant: {TREATMENT}\n  flag: {FLAG}\n  rules: [{{ condition: {condition}, action: notify }}]\n"
        );
        let compiled = compile_rules(&[("r.yaml", text)], &catalogue, &[]).unwrap();
        let schema = schema_for(&compiled.rules, &[], &catalogue, None);
        Settings {
            rules: Arc::new(compiled.rules),
            schema: Arc::new(schema),
            flags: Vec::new(),
            ..settings(Vec::new())
        }
    }

    fn started(settings: Settings) -> Engine {
        let mut engine = Engine::new(settings);
        engine.step(crate::engine::input::Input::Assign { sources: vec![source(0)], start: Some(at(0)) });
        engine
    }

    fn value(engine: &Engine) -> Option<f64> {
        engine.report().alerts.first().and_then(|alert| alert.value)
    }

    proptest! {
        #![proptest_config(crate::testing::cases(64))]

        /// Samples in the limit's own bucket are good, all others are as the limit says.
        #[test]
        fn bad_samples_are_those_in_buckets_beyond_the_limit(values in prop::collection::vec(0.0f64..700.0, 1..80), limit in 0.0f64..600.0, below in any::<bool>()) {
            let layout = Layout::new(1.0, 600.0);
            let mut open = OpenValues::default();
            values.iter().for_each(|v| open.record(&layout, *v));
            let bad = if below { Bad::Below(limit) } else { Bad::Above(limit) };
            let counted = bad_samples(&slo("x", "latency", bad, 1), &PaneData::Values(open.seal(&layout)), Some(&layout));
            let edge = layout.bucket(limit);
            let beyond = |v: &&f64| if below { layout.bucket(**v) < edge } else { layout.bucket(**v) > edge };
            let trues = values.iter().filter(beyond).count() as u64;
            prop_assert_eq!(counted, PaneData::Counts { n: values.len() as u64, trues });
        }
    }

    #[test]
    fn burn_and_budget_are_what_the_samples_say_and_survive_a_restart() {
        // 4 bad of 200: twice what is allowed.
        let faithful = |m: i64, i: i64| if m % 5 == 0 && i < 4 && m / 5 % 5 == 0 { 0.3 } else { 0.9 };
        let events = steady(TREATMENT, "faithfulness", 0..500, 8, faithful);
        for (condition, wanted) in [
            ("slo.answers.burn_6h > 1.5", 2.0),
            ("slo.answers.burn_12h > 1.5", 2.0),
            ("slo.answers.budget_remaining < 0", -1.0),
        ] {
            let mut engine = started(objective(condition));
            run(&mut engine, &events, 0..500);
            assert_eq!(value(&engine).map(|v| v.round()), Some(wanted), "{condition}");
            assert!((value(&engine).unwrap() - wanted).abs() < 0.1, "{condition}: {:?}", value(&engine));

            let rows: BTreeMap<String, String> =
                engine.changed_rows().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let rollups = engine.changed_rollups();
            let snapshot = engine.snapshot().unwrap();
            let memory = Memory::from_rows(rows).unwrap();
            let (mut again, _) = Engine::restore(objective(condition), memory, Some(&snapshot)).unwrap();
            assert_eq!(again.restore_rollups(&rollups), 0);
            again.finish_loading();
            let more = steady(TREATMENT, "faithfulness", 500..520, 8, faithful);
            assert_eq!(run(&mut again, &more, 500..520), run(&mut engine, &more, 500..520), "{condition}");
            assert_eq!(again.report().alerts, engine.report().alerts, "{condition}");
        }
    }

    #[test]
    fn what_no_rule_asks_for_is_not_counted_and_silence_is_unknown() {
        let mut engine = started(objective("slo.replies.burn_1h > 1"));
        run(&mut engine, &steady(TREATMENT, "faithfulness", 0..30, 2, |_, _| 0.1), 0..30);
        assert_eq!(engine.report().series, 1, "nothing is counted for `answers`");
        assert_eq!(value(&engine), None);
        assert_eq!(engine.report().alerts[0].verdict, "inconclusive: no data in the window");
    }
}
