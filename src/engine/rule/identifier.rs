//! Names of measurements: `<metric>_<window>` or `<metric>_<stat>_<window>`, both ways.

use super::diagnostic::{Span, nearest, one_of};
use super::token::Fault;
use super::{Allowed, Arm, Measurement, Stat, Window};
use crate::model::metric::{Catalogue, Kind, Metric};
use crate::model::slo::Slo;

/// The statistics that a name may hold.
const STATS: [(&str, Stat); 13] = [
    ("mean", Stat::Mean),
    ("rate", Stat::Rate),
    ("sum", Stat::Sum),
    ("count", Stat::Count),
    ("per_min", Stat::PerMin),
    ("min", Stat::Min),
    ("max", Stat::Max),
    ("stddev", Stat::Stddev),
    ("p50", Stat::P50),
    ("p90", Stat::P90),
    ("p95", Stat::P95),
    ("p99", Stat::P99),
    ("p999", Stat::P999),
];

impl Stat {
    /// The word of rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Burn(_) => "burn",
            Self::Budget(_) => "budget_remaining",
            other => STATS.iter().find(|(_, stat)| *stat == other).map_or("", |(name, _)| name),
        }
    }

    /// The statistic that a name without one means.
    pub const fn default_for(kind: Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Rate,
            Kind::Score | Kind::Value => Self::Mean,
        }
    }

    /// Whether the statistic lies between 0 and 1 for samples of this kind.
    pub const fn is_fraction(self, kind: Kind) -> bool {
        match self {
            Self::Rate => true,
            Self::Sum | Self::Count | Self::PerMin | Self::Stddev | Self::Burn(_) | Self::Budget(_) => false,
            _ => matches!(kind, Kind::Score),
        }
    }
}

impl Window {
    /// The word of rule files: `5m`, `1h`, `24h`, `7d`.
    pub fn word(self) -> String {
        match self.0 {
            // A day is `24h`, as people say; from two on they count days.
            minutes if minutes % 1_440 == 0 && minutes > 1_440 => format!("{}d", minutes / 1_440),
            minutes if minutes % 60 == 0 => format!("{}h", minutes / 60),
            minutes => format!("{minutes}m"),
        }
    }

    /// The window that a word of rule files means: a short one, or whole hours from 7 hours to 30 days.
    fn of(word: &str, short: &[(&str, Self)]) -> Option<Self> {
        if let Some((_, window)) = short.iter().find(|(known, _)| *known == word) {
            return Some(*window);
        }
        let (digits, hours) = match word.strip_suffix('d') {
            Some(digits) => (digits, 24),
            None => (word.strip_suffix('h')?, 1),
        };
        let window = Self(digits.parse::<u32>().ok()?.checked_mul(hours * 60)?);
        (window.is_long() && window <= Self::MOST).then_some(window)
    }
}

/// The name of a measurement as a rule file would write it: `faithfulness_1h`, `baseline(cost_p95_1h)`.
pub fn name(measurement: &Measurement, catalogue: &Catalogue) -> String {
    let metric = &catalogue.get(measurement.metric).name;
    let (stat, window) = (measurement.stat.as_str(), measurement.window.word());
    let own = match measurement.stat {
        Stat::Mean => format!("{metric}_{window}"),
        Stat::Burn(_) => format!("{metric}.{stat}_{window}"),
        Stat::Budget(_) => format!("{metric}.{stat}"),
        _ => format!("{metric}_{stat}_{window}"),
    };
    match measurement.arm {
        Arm::Own => own,
        Arm::Baseline => format!("baseline({own})"),
    }
}

/// Finds the measurement that a name means; the arm is the variant's own.
pub fn resolve(name: &str, at: Span, catalogue: &Catalogue) -> Result<Measurement, Fault> {
    if let Some(rest) = name.strip_prefix("slo.") {
        return of_slo(rest, at, catalogue);
    }
    let (rest, window) = split_window(name, at, catalogue)?;
    let (metric, stat) = split_stat(rest, window, at, catalogue)?;
    check_kind(catalogue.get(metric), stat, window, at)?;
    Ok(Measurement { metric, stat, window, arm: Arm::Own })
}

/// `<slo>.burn_<window>` or `<slo>.budget_remaining`.
fn of_slo(rest: &str, at: Span, catalogue: &Catalogue) -> Result<Measurement, Fault> {
    let known = || catalogue.slos().iter().map(|slo| slo.name.as_str());
    let (name, what) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let Some(slo) = catalogue.slos().iter().find(|slo| slo.name == name) else {
        let help = match nearest(name, known()) {
            Some(near) if what.is_empty() => format!("did you mean `slo.{near}.burn_1h`?"),
            Some(near) => format!("did you mean `slo.{near}.{what}`?"),
            None if catalogue.slos().is_empty() => "add it under `slos:` in the configuration".to_owned(),
            None => format!("there are {}; add others under `slos:` in the configuration", one_of(known())),
        };
        let message = format!("there is no service level objective `{name}`");
        return Err(Fault::with_help(Span::new(at.offset + 4, name.len()), message, help));
    };
    let allowed = Allowed(slo.allowed);
    let (stat, window) = match what.strip_prefix("burn_") {
        None if what == "budget_remaining" => (Stat::Budget(allowed), period(slo)),
        Some(word) => match Window::of(word, &Window::BURN) {
            Some(window) => (Stat::Burn(allowed), window),
            None => {
                let place = Span::new(at.end().saturating_sub(word.len()), word.len());
                return Err(Fault::with_help(
                    place,
                    format!("a burn rate has no window `{word}`"),
                    format!("use {}", one_of(Window::BURN.iter().map(|(w, _)| *w).chain(LONG_WORDS))),
                ));
            }
        },
        None => {
            return Err(Fault::with_help(
                at,
                format!("`slo.{name}` measures no `{what}`"),
                format!("write `slo.{name}.burn_1h` or `slo.{name}.budget_remaining`"),
            ));
        }
    };
    Ok(Measurement { metric: slo.id, stat, window, arm: Arm::Own })
}

/// The period of an objective as a window.
pub fn period(slo: &Slo) -> Window {
    Window(slo.period_hours * 60)
}

/// Long windows as messages list them.
const LONG_WORDS: [&str; 3] = ["24h", "7d", "30d"];

fn split_window<'n>(name: &'n str, at: Span, catalogue: &Catalogue) -> Result<(&'n str, Window), Fault> {
    let words = || Window::ALL.iter().map(|(name, _)| *name).chain(LONG_WORDS);
    let suffix = name.rsplit_once('_').filter(|(_, w)| is_duration(w));
    let Some((rest, word)) = suffix else {
        let stem = split_stat(name, Window(60), at, catalogue).is_ok();
        if stem {
            let named: Vec<String> = Window::ALL.iter().map(|(w, _)| format!("{name}_{w}")).collect();
            return Err(Fault::with_help(
                at,
                format!("`{name}` names no window"),
                format!("write {}", one_of(named.iter().map(String::as_str))),
            ));
        }
        let near = nearest_name(name, catalogue);
        return Err(match near {
            Some(near) => Fault::with_help(
                at,
                format!("there is no measurement `{name}`"),
                format!("did you mean `{near}`?"),
            ),
            None => Fault::with_help(
                at,
                format!("there is no measurement `{name}`"),
                format!(
                    "a measurement is `<metric>_<window>` or `<metric>_<stat>_<window>`; metrics are {}",
                    metric_names(catalogue)
                ),
            ),
        });
    };
    let place = Span::new(at.end().saturating_sub(word.len()), word.len());
    match Window::of(word, &Window::ALL) {
        Some(window) => Ok((rest, window)),
        None if longer_than_longest(word) => Err(Fault::with_help(
            place,
            format!("a window longer than 6h is whole hours or days, at most 30d: `{word}` is not"),
            format!("use {}", one_of(words())),
        )),
        None => Err(Fault::with_help(
            place,
            format!("there is no window `{word}`"),
            format!("the nearest is `{}`; windows are {}", nearest_window(word), one_of(words())),
        )),
    }
}

fn split_stat(
    rest: &str,
    window: Window,
    at: Span,
    catalogue: &Catalogue,
) -> Result<(crate::model::metric::MetricId, Stat), Fault> {
    if let Some(metric) = catalogue.find(rest) {
        return Ok((metric, Stat::default_for(catalogue.get(metric).kind)));
    }
    for (word, stat) in STATS {
        let stem = rest.strip_suffix(word).and_then(|s| s.strip_suffix('_'));
        if let Some(metric) = stem.and_then(|s| catalogue.find(s)) {
            return Ok((metric, stat));
        }
    }
    // The longest metric that the name begins with: then it is the statistic that is wrong.
    let known = catalogue
        .iter()
        .filter_map(|(_, m)| Some((m, rest.strip_prefix(m.name.as_str())?.strip_prefix('_')?)))
        .max_by_key(|(m, _)| m.name.len());
    if let Some((metric, word)) = known {
        let place = Span::new(at.offset + metric.name.len() + 1, word.len());
        let fitting: Vec<&str> =
            STATS.iter().filter(|(_, s)| fits(metric.kind, *s)).map(|(w, _)| *w).collect();
        let synonym = match word {
            "median" => Some("p50"),
            "avg" | "average" => Some("mean"),
            "total" => Some("sum"),
            _ => None,
        };
        let near = synonym.or_else(|| nearest(word, fitting.iter().copied()));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`{}` has {}", metric.name, one_of(fitting)),
        };
        return Err(Fault::with_help(place, format!("there is no statistic `{word}`"), help));
    }
    let (stem, suffix) = STATS
        .iter()
        .find_map(|(word, _)| Some((rest.strip_suffix(word)?.strip_suffix('_')?, format!("_{word}"))))
        .unwrap_or((rest, String::new()));
    let help = match nearest(stem, catalogue.iter().map(|(_, m)| m.name.as_str())) {
        Some(near) => format!("did you mean `{near}{suffix}_{}`?", window.word()),
        None => format!(
            "metrics are {}; add others under `metrics:` in the configuration",
            metric_names(catalogue)
        ),
    };
    Err(Fault::with_help(Span::new(at.offset, stem.len()), format!("there is no metric `{stem}`"), help))
}

fn check_kind(metric: &Metric, stat: Stat, window: Window, at: Span) -> Result<(), Fault> {
    if fits(metric.kind, stat) {
        return Ok(());
    }
    let Metric { name, kind, .. } = metric;
    let (noun, right) = match kind {
        Kind::Boolean => ("true or false", "rate"),
        Kind::Score => ("a score", "mean"),
        Kind::Value => ("a value", "mean"),
    };
    let place = Span::new(at.offset + name.len() + 1, stat.as_str().len());
    Err(Fault::with_help(
        place,
        format!("`{name}` is {noun}: it has no {}", stat.as_str()),
        format!("write `{name}_{right}_{}`", window.word()),
    ))
}

const fn fits(kind: Kind, stat: Stat) -> bool {
    match kind {
        Kind::Boolean => matches!(stat, Stat::Rate | Stat::Sum | Stat::Count | Stat::PerMin),
        Kind::Score | Kind::Value => !matches!(stat, Stat::Rate),
    }
}

/// `90m`, `2h`, `14d`: digits and a unit of time.
fn is_duration(word: &str) -> bool {
    minutes(word).is_some()
}

fn minutes(word: &str) -> Option<f64> {
    let unit = word.chars().last()?;
    let digits = &word[..word.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let each = match unit {
        's' => 1.0 / 60.0,
        'm' => 1.0,
        'h' => 60.0,
        'd' => 1_440.0,
        'w' => 10_080.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * each)
}

fn longer_than_longest(word: &str) -> bool {
    minutes(word).is_some_and(|m| m > f64::from(Window::LONGEST.0))
}

fn nearest_window(word: &str) -> &'static str {
    let wanted = minutes(word).unwrap_or(60.0).max(0.01).ln();
    Window::ALL
        .iter()
        .min_by(|(_, a), (_, b)| {
            let distance = |w: &Window| (f64::from(w.0).ln() - wanted).abs();
            distance(a).total_cmp(&distance(b))
        })
        .map_or("1h", |(name, _)| name)
}

fn nearest_name(name: &str, catalogue: &Catalogue) -> Option<String> {
    if nearest(name, ["baseline"]).is_some() {
        return Some("baseline".to_owned());
    }
    let metric = nearest(name, catalogue.iter().map(|(_, m)| m.name.as_str()))?;
    Some(format!("{metric}_1h"))
}

fn metric_names(catalogue: &Catalogue) -> String {
    one_of(catalogue.iter().map(|(_, m)| m.name.as_str())).replace(" or ", " and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric::Direction;

    fn read(name: &str, catalogue: &Catalogue) -> Result<String, (usize, String)> {
        resolve(name, Span::new(0, name.len()), catalogue)
            .map(|m| super::name(&m, catalogue))
            .map_err(|f| (f.at.offset, format!("{} ({})", f.message, f.help.unwrap_or_default())))
    }

    #[test]
    fn names_are_read_and_written_alike() {
        let catalogue = Catalogue::default();
        for name in [
            "faithfulness_1h",
            "abstain_rate_1h",
            "cost_p95_5m",
            "cost_per_generation_per_min_6h",
            "ai.injection.suspected_rate_1h",
            "latency_p999_1h",
            "faithfulness_24h",
            "cost_p95_7d",
            "abstain_rate_30d",
            "tokens_sum_36h",
            "tokens_sum_7h",
        ] {
            assert_eq!(read(name, &catalogue), Ok(name.to_owned()));
        }
        assert_eq!(read("faithfulness_1d", &catalogue).unwrap(), "faithfulness_24h");
        assert_eq!(read("faithfulness_mean_1h", &catalogue).unwrap(), "faithfulness_1h");
        assert_eq!(read("abstain_1h", &catalogue).unwrap(), "abstain_rate_1h");
    }

    #[test]
    fn the_longest_metric_wins() {
        let extra = Metric {
            name: "cost_p95".into(),
            kind: Kind::Value,
            unit: String::new(),
            resolution: 1.0,
            max: 10.0,
            direction: Direction::LowerIsBetter,
            failure_class: "x".into(),
        };
        let catalogue = Catalogue::with(vec![extra]);
        let found = resolve("cost_p95_1h", Span::default(), &catalogue).unwrap();
        assert_eq!(catalogue.get(found.metric).name, "cost_p95");
        assert_eq!(found.stat, Stat::Mean);
        let found = resolve("cost_p95_p95_1h", Span::default(), &catalogue).unwrap();
        assert_eq!(found.stat, Stat::P95);
    }

    #[test]
    fn wrong_names_get_the_nearest_right_one() {
        let catalogue = Catalogue::default();
        for (name, column, message) in [
            ("faithfullness_1h", 0, "there is no metric `faithfullness` (did you mean `faithfulness_1h`?)"),
            ("latncy_p95_1h", 0, "there is no metric `latncy` (did you mean `latency_p95_1h`?)"),
            ("latency_p59_1h", 8, "there is no statistic `p59` (did you mean `p95`?)"),
            ("latency_median_1h", 8, "there is no statistic `median` (did you mean `p50`?)"),
            (
                "faithfulness_31d",
                13,
                "a window longer than 6h is whole hours or days, at most 30d: `31d` is not (use `5m`, `1h`, `6h`, `24h`, `7d` or `30d`)",
            ),
            (
                "faithfulness_500m",
                13,
                "a window longer than 6h is whole hours or days, at most 30d: `500m` is not",
            ),
            (
                "faithfulness_2h",
                13,
                "there is no window `2h` (the nearest is `1h`; windows are `5m`, `1h`, `6h`, `24h`, `7d` or `30d`)",
            ),
            (
                "faithfulness",
                0,
                "`faithfulness` names no window (write `faithfulness_5m`, `faithfulness_1h` or `faithfulness_6h`)",
            ),
            ("baselin", 0, "there is no measurement `baselin` (did you mean `baseline`?)"),
            ("abstain_p95_1h", 8, "`abstain` is true or false: it has no p95 (write `abstain_rate_1h`)"),
            ("abstain_mean_1h", 8, "`abstain` is true or false: it has no mean (write `abstain_rate_1h`)"),
            ("cost_rate_1h", 5, "`cost` is a value: it has no rate (write `cost_mean_1h`)"),
            (
                "faithfulness_rate_5m",
                13,
                "`faithfulness` is a score: it has no rate (write `faithfulness_mean_5m`)",
            ),
            (
                "slo.answers.burn_1h",
                4,
                "there is no service level objective `answers` (add it under `slos:` in the configuration)",
            ),
            ("toxicity_1h", 0, "there is no metric `toxicity` (metrics are `faithfulness`, "),
        ] {
            let (at, said) = read(name, &catalogue).expect_err(name);
            assert!(said.starts_with(message), "{name}: {said}");
            assert_eq!(at, column, "{name}");
        }
    }
}
