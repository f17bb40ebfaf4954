//! Levels as people write them, in options and in the configuration: `faithfulness: 0.95`, `cost_p95: 0.03`; and spreads.

use super::diagnostic::Span;
use super::token::Fault;
use super::{Stat, identifier};
use crate::model::metric::{Catalogue, Kind, MetricId};

/// The widest spread of a score: half of all are 0, the others 1.
const WIDEST_SCORE: f64 = 0.5;
/// The widest spread of a value's logarithm: the 95th percentile is 139 times the median.
const WIDEST_VALUE: f64 = 3.0;

/// A metric's statistic and what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub metric: MetricId,
    pub stat: Stat,
    pub value: f64,
}

/// Reads the name of a measurement without its window, and what it is.
///
/// # Errors
///
/// A metric or statistic that does not exist or does not say how good the samples are, a value that it cannot have.
pub fn level(name: &str, value: f64, at: Span, catalogue: &Catalogue) -> Result<Level, Fault> {
    let (metric, stat) = resolve(name, at, catalogue)?;
    let known = catalogue.get(metric);
    let (top, is_value) = if known.kind == Kind::Value { (known.max, true) } else { (1.0, false) };
    if !(0.0..=top).contains(&value) || (is_value && value <= 0.0) {
        let unit = if known.unit.is_empty() { String::new() } else { format!(" {}", known.unit) };
        let range = format!("`{}` lies between 0 and {top}{unit}", known.name);
        return Err(Fault::with_help(at, "no sample can be so", range));
    }
    let says = match known.kind {
        Kind::Value => stat == Stat::Mean || stat.quantile().is_some(),
        Kind::Score | Kind::Boolean => matches!(stat, Stat::Mean | Stat::Rate),
    };
    if !says {
        let message = format!("`{name}` does not say how good the samples are");
        return Err(Fault::with_help(at, message, "give a mean, a rate or a quantile of a value"));
    }
    Ok(Level { metric, stat, value })
}

/// Reads a metric's name and how its samples spread: the standard deviation of scores, of the logarithm of values.
///
/// # Errors
///
/// A metric that does not exist or has no spread of its own, a spread that it cannot have.
pub fn spread(name: &str, value: f64, at: Span, catalogue: &Catalogue) -> Result<(MetricId, f64), Fault> {
    let (metric, _) = resolve(name, at, catalogue)?;
    let (widest, message) = match catalogue.get(metric).kind {
        Kind::Boolean => return Err(Fault::new(at, "true or false has no spread of its own")),
        Kind::Score => (WIDEST_SCORE, "the spread of a score lies above 0 and is at most 0.5"),
        Kind::Value => {
            (WIDEST_VALUE, "the spread of a value is that of its logarithm, above 0 and at most 3")
        }
    };
    if value > 0.0 && value <= widest { Ok((metric, value)) } else { Err(Fault::new(at, message)) }
}

fn resolve(name: &str, at: Span, catalogue: &Catalogue) -> Result<(MetricId, Stat), Fault> {
    let found = identifier::resolve(&format!("{name}_1h"), Span::new(at.offset, name.len()), catalogue);
    let found = found.map_err(|fault| {
        let plain = |text: String| text.replace("_1h`", "`");
        // Where the name is written otherwise than it reads, as in quotes, the whole of it is meant.
        let at = if at.len == name.len() { fault.at } else { at };
        Fault { at, message: plain(fault.message), help: fault.help.map(plain) }
    })?;
    Ok((found.metric, found.stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_as_measurements_without_a_window() {
        let catalogue = Catalogue::default();
        let read = |name: &str, value| level(name, value, Span::new(0, name.len()), &catalogue);
        let stat = |name: &str, value| read(name, value).map(|level| level.stat).unwrap();
        assert_eq!(stat("faithfulness", 0.95), Stat::Mean);
        assert_eq!(stat("abstain", 0.0), Stat::Rate);
        assert_eq!(stat("cost_p95", 0.03), Stat::P95);
        for (name, value, wanted) in [
            ("faithfullness", 0.9, "there is no metric `faithfullness`: did you mean `faithfulness`?"),
            ("cost_p96", 0.9, "there is no statistic `p96`: did you mean `p90`?"),
            ("faithfulness", 95.0, "no sample can be so: `faithfulness` lies between 0 and 1"),
            ("faithfulness", -0.1, "no sample can be so: `faithfulness` lies between 0 and 1"),
            ("faithfulness", f64::NAN, "no sample can be so: `faithfulness` lies between 0 and 1"),
            ("cost", 0.0, "no sample can be so: `cost` lies between 0 and"),
            (
                "faithfulness_p95",
                0.9,
                "`faithfulness_p95` does not say how good the samples are: give a mean",
            ),
            ("cost_sum", 0.9, "`cost_sum` does not say how good the samples are: give a mean"),
        ] {
            let fault = read(name, value).unwrap_err();
            let said = format!("{}: {}", fault.message, fault.help.unwrap_or_default());
            assert!(said.starts_with(wanted), "{name}: {said}");
        }
        assert_eq!(read("cost_p96", 0.9).unwrap_err().at, Span::new(5, 3), "the statistic is what is wrong");
    }

    #[test]
    fn a_spread_is_that_of_a_score_or_of_the_logarithm_of_a_value() {
        let catalogue = Catalogue::default();
        let read = |name: &str, value| spread(name, value, Span::new(0, name.len()), &catalogue);
        for (name, value, good) in [
            ("faithfulness", 0.1, true),
            ("faithfulness", 0.5, true),
            ("faithfulness", 0.6, false),
            ("faithfulness", 0.0, false),
            ("cost", 3.0, true),
            ("cost", 3.1, false),
            ("cost", f64::NAN, false),
            ("abstain", 0.1, false),
            ("latncy", 0.1, false),
        ] {
            assert_eq!(read(name, value).is_ok(), good, "{name} {value}");
        }
    }
}
