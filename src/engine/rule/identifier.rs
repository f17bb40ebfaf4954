//! Names of measurements: `<metric>_<window>` or `<metric>_<stat>_<window>`, both ways.

use super::diagnostic::{Span, nearest, one_of};
use super::token::Fault;
use super::{Arm, Measurement, Stat, Window};
use crate::model::metric::{Catalogue, Kind, Metric};

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
        STATS.iter().find(|(_, stat)| *stat == self).map_or("", |(name, _)| name)
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
            Self::Sum | Self::Count | Self::PerMin | Self::Stddev => false,
            _ => matches!(kind, Kind::Score),
        }
    }
}

impl Window {
    /// The word of rule files: `5m`, `1h`, `6h`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, w)| *w == self).map_or("", |(name, _)| name)
    }
}

/// The name of a measurement as a rule file would write it: `faithfulness_1h`, `baseline(cost_p95_1h)`.
pub fn name(measurement: &Measurement, catalogue: &Catalogue) -> String {
    let metric = catalogue.get(measurement.metric);
    let window = measurement.window.as_str();
    let own = if measurement.stat == Stat::Mean {
        format!("{}_{window}", metric.name)
    } else {
        format!("{}_{}_{window}", metric.name, measurement.stat.as_str())
    };
    match measurement.arm {
        Arm::Own => own,
        Arm::Baseline => format!("baseline({own})"),
    }
}

/// Finds the measurement that a name means; the arm is the variant's own.
pub fn resolve(name: &str, at: Span, catalogue: &Catalogue) -> Result<Measurement, Fault> {
    if name.starts_with("slo.") {
        return Err(Fault::new(
            at,
            format!("`{name}`: service level objectives are not available to rules yet"),
        ));
    }
    let (rest, window) = split_window(name, at, catalogue)?;
    let (metric, stat) = split_stat(rest, window, at, catalogue)?;
    check_kind(catalogue.get(metric), stat, window, at)?;
    Ok(Measurement { metric, stat, window, arm: Arm::Own })
}

fn split_window<'n>(name: &'n str, at: Span, catalogue: &Catalogue) -> Result<(&'n str, Window), Fault> {
    let words = || Window::ALL.iter().map(|(name, _)| *name);
    let suffix = name.rsplit_once('_').filter(|(_, w)| is_duration(w));
    let Some((rest, word)) = suffix else {
        let stem = split_stat(name, Window(60), at, catalogue).is_ok();
        if stem {
            let named: Vec<String> = words().map(|w| format!("{name}_{w}")).collect();
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
    match Window::ALL.iter().find(|(w, _)| *w == word) {
        Some((_, window)) => Ok((rest, *window)),
        None if longer_than_longest(word) => Err(Fault::with_help(
            place,
            format!("windows longer than 6h are not available to rules yet: `{word}`"),
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
        Some(near) => format!("did you mean `{near}{suffix}_{}`?", window.as_str()),
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
        format!("write `{name}_{right}_{}`", window.as_str()),
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
        ] {
            assert_eq!(read(name, &catalogue), Ok(name.to_owned()));
        }
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
                "faithfulness_24h",
                13,
                "windows longer than 6h are not available to rules yet: `24h` (use `5m`, `1h` or `6h`)",
            ),
            ("faithfulness_30d", 13, "windows longer than 6h are not available to rules yet: `30d`"),
            (
                "faithfulness_2h",
                13,
                "there is no window `2h` (the nearest is `1h`; windows are `5m`, `1h` or `6h`)",
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
                0,
                "`slo.answers.burn_1h`: service level objectives are not available to rules yet",
            ),
            ("toxicity_1h", 0, "there is no metric `toxicity` (metrics are `faithfulness`, "),
        ] {
            let (at, said) = read(name, &catalogue).expect_err(name);
            assert!(said.starts_with(message), "{name}: {said}");
            assert_eq!(at, column, "{name}");
        }
    }
}
