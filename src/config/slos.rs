//! The section `slos:`: which samples of a metric are good, how many have to be, and over which period.

use std::time::Duration;

use super::read::Reader;
use crate::engine::rule::diagnostic::{nearest, one_of};
use crate::engine::rule::yaml::{Fields, Node, Value};
use crate::model::metric::{Catalogue, Kind, MetricId};
use crate::model::slo::{Bad, Slo};

const HOUR: Duration = Duration::from_secs(3_600);
/// The longest window that measurements have.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Most objectives: each costs a series per variant that a rule judges by it.
const MOST_SLOS: usize = 200;

impl Reader<'_, '_> {
    pub(super) fn slos(&mut self, node: &Node, catalogue: &Catalogue) -> Vec<Slo> {
        let mut slos = Vec::new();
        let entries = self.doc.entries(node, "`slos`").unwrap_or_default();
        if entries.len() > MOST_SLOS {
            self.doc.error(node.at, format!("more than {MOST_SLOS} objectives"));
            return slos;
        }
        for (name, at, value) in entries {
            // Names stand in conditions: `slo.<name>.burn_1h`.
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.len() > 60 || !name.chars().all(good) {
                self.doc.error_help(
                    at,
                    format!("`{name}` cannot be the name of an objective"),
                    "a name holds letters, digits and `_`, at most 60: conditions say `slo.<name>.burn_1h`",
                );
                continue;
            }
            let what = format!("objective `{name}`");
            let Some(fields) = self.doc.fields(value, &what, &["good", "objective", "period"]) else {
                continue;
            };
            for (key, example) in [("good", "good: faithfulness >= 0.8"), ("objective", "objective: 99.5%")] {
                if fields.get(key).is_none() {
                    self.doc.error_help(at, format!("{what} has no `{key}`"), format!("add `{example}`"));
                }
            }
            let good = fields.get("good").and_then(|n| self.good(n, catalogue));
            let allowed = fields.get("objective").and_then(|n| self.objective(n));
            let period_hours = self.period(&fields);
            let (Some((metric, bad)), Some(allowed), Some(period_hours)) = (good, allowed, period_hours)
            else {
                continue;
            };
            // The catalogue numbers what is derived.
            slos.push(Slo { name: name.to_owned(), metric, bad, allowed, period_hours, id: metric });
        }
        slos
    }

    /// `faithfulness >= 0.8`, `latency <= 1500`, `resolved`, `not error`.
    fn good(&mut self, node: &Node, catalogue: &Catalogue) -> Option<(MetricId, Bad)> {
        let text = self.doc.text(node, "`good`")?.trim().to_owned();
        let sign = ["<=", ">=", "<", ">"].into_iter().find(|sign| text.contains(sign));
        let (name, limit) = match sign.and_then(|sign| text.split_once(sign)) {
            Some((name, limit)) => (name.trim(), Some(limit.trim())),
            None => (text.as_str(), None),
        };
        let stripped = name.strip_prefix('!').or_else(|| name.strip_prefix("not ")).map(str::trim);
        let name = stripped.unwrap_or(name);
        let Some(metric) = catalogue.find(name) else {
            let names = || catalogue.iter().map(|(_, m)| m.name.as_str());
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("metrics are {}", one_of(names())),
            };
            self.doc.error_help(node.at, format!("there is no metric `{name}`"), help);
            return None;
        };
        let found = catalogue.get(metric);
        let bad = match (found.kind, limit) {
            (Kind::Boolean, None) => Some(Bad::When(stripped.is_some())),
            (Kind::Score | Kind::Value, Some(limit)) if stripped.is_none() => {
                let limit = limit.parse::<f64>().ok().filter(|l| (0.0..=found.max).contains(l));
                limit.map(|l| {
                    if sign.is_some_and(|s| s.starts_with('>')) { Bad::Below(l) } else { Bad::Above(l) }
                })
            }
            _ => None,
        };
        if bad.is_none() {
            let help = match found.kind {
                Kind::Boolean => {
                    format!("`{name}` is true or false: write `good: {name}` or `good: not {name}`")
                }
                Kind::Score | Kind::Value => format!(
                    "`{name}` is a number from 0 to {}: write `good: {name} >= 0.5` or `good: {name} <= 0.5`",
                    found.max
                ),
            };
            self.doc.error_help(node.at, format!("`good` cannot be `{text}`"), help);
        }
        Some((metric, bad?))
    }

    /// `99.5%` or `0.995`, as the parts per million that may be bad.
    fn objective(&mut self, node: &Node) -> Option<u32> {
        let share = match &node.value {
            Value::Number(n) => Some(*n),
            Value::Text(text) => {
                let percent = text.trim().strip_suffix('%').and_then(|p| p.trim().parse::<f64>().ok());
                percent.map(|p| p / 100.0)
            }
            _ => None,
        };
        let allowed = share.map(|share| ((1.0 - share) * 1e6).round());
        let allowed = allowed.filter(|allowed| (1.0..=999_999.0).contains(allowed));
        if allowed.is_none() {
            let help = match share {
                Some(n) if n > 1.0 && n < 100.0 && matches!(node.value, Value::Number(_)) => {
                    format!("write `{n}%`")
                }
                _ => "write `99.5%` or `0.995`".to_owned(),
            };
            self.doc.error_help(
                node.at,
                "`objective` must lie between 0% and 100%, in steps of 0.0001%",
                help,
            );
        }
        allowed.map(|allowed| allowed as u32)
    }

    /// Whole hours up to 30 days; 30 days if it is not said.
    fn period(&mut self, fields: &Fields<'_>) -> Option<u32> {
        let period = match fields.get("period") {
            Some(node) => {
                let period = self.doc.span(node, "`period`", HOUR, LONGEST)?;
                if period.as_secs() % HOUR.as_secs() != 0 {
                    self.doc.error_help(node.at, "`period` must be whole hours", "write `30d` or `24h`");
                    return None;
                }
                period
            }
            None => LONGEST,
        };
        u32::try_from(period.as_secs() / HOUR.as_secs()).ok()
    }
}
