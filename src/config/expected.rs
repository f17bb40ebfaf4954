//! The section `expected:`: what is usual of variants while all is well. `rearguard check` reads it; nothing is judged by it.

use super::read::Reader;
use crate::engine::rule::diagnostic::{Place, Span};
use crate::engine::rule::level::{self, Level};
use crate::engine::rule::token::Fault;
use crate::engine::rule::yaml::{Node, Value};
use crate::model::id::Variant;
use crate::model::metric::{Catalogue, Kind, MetricId};

/// What is usual of which variants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    entries: Vec<Entry>,
}

/// What is said of one variant, or of all variants of a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    /// Where the name stands.
    pub at: Place,
    usual: Usual,
}

/// What is usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usual {
    /// Events that a variant has in a minute, on average.
    pub events_per_minute: Option<f64>,
    /// How good its metrics are, none twice.
    pub levels: Vec<Level>,
    /// The standard deviation of scores, of the logarithm of values.
    pub spreads: Vec<(MetricId, f64)>,
}

impl Entry {
    /// Whether the entry says something of a variant: it names it, or its feature.
    pub fn is_of(&self, variant: &Variant) -> bool {
        self.name == variant.as_str() || self.name == variant.feature()
    }
}

impl Expected {
    /// What is written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is usual of a variant: number by number what its own entry says, else that of its feature.
    pub fn of(&self, variant: &Variant) -> Usual {
        let entry = |name: &str| self.entries.iter().find(|entry| entry.name == name);
        let mut usual = Usual::default();
        for entry in [entry(variant.as_str()), entry(variant.feature())].into_iter().flatten() {
            usual.fill(&entry.usual);
        }
        usual
    }
}

impl Usual {
    /// Takes over what is not said here.
    fn fill(&mut self, other: &Self) {
        self.events_per_minute = self.events_per_minute.or(other.events_per_minute);
        for level in &other.levels {
            if self.levels.iter().all(|own| own.metric != level.metric) {
                self.levels.push(*level);
            }
        }
        for spread in &other.spreads {
            if self.spreads.iter().all(|own| own.0 != spread.0) {
                self.spreads.push(*spread);
            }
        }
    }
}

impl Reader<'_, '_> {
    pub(super) fn expected(&mut self, node: &Node, catalogue: &Catalogue) -> Expected {
        let mut expected = Expected::default();
        for (name, at, value) in self.doc.entries(node, "`expected`").unwrap_or_default() {
            if name.len() > 200 || name.is_empty() || name.chars().any(char::is_whitespace) {
                self.doc.error(at, "a variant or feature is one word of at most 200 bytes");
                continue;
            }
            let what = format!("what is expected of `{name}`");
            let Some(fields) = self.doc.fields(value, &what, &["events_per_minute", "metrics"]) else {
                continue;
            };
            let mut usual = Usual::default();
            if let Some(node) = fields.get("events_per_minute") {
                usual.events_per_minute = self.rate(node);
            }
            if let Some(node) = fields.get("metrics") {
                for (metric, at, value) in self.doc.entries(node, "`metrics`").unwrap_or_default() {
                    self.usual_metric(metric, at, value, catalogue, &mut usual);
                }
            }
            let at = Place::of(self.doc.text, at);
            expected.entries.push(Entry { name: name.to_owned(), at, usual });
        }
        expected
    }

    fn rate(&mut self, node: &Node) -> Option<f64> {
        let rate = self.doc.number(node, "`events_per_minute`")?;
        if rate <= 0.0 {
            let help = "write a number such as 60 or 0.5, or leave it out where it is not known";
            self.doc.error_help(node.at, "`events_per_minute` must lie above 0", help);
            return None;
        }
        Some(rate)
    }

    /// `faithfulness: 0.95` or `faithfulness: { level: 0.95, spread: 0.1 }`.
    fn usual_metric(&mut self, name: &str, at: Span, node: &Node, catalogue: &Catalogue, usual: &mut Usual) {
        let (value, spread) = match &node.value {
            Value::Map(_) => {
                let Some(fields) = self.doc.fields(node, &format!("`{name}`"), &["level", "spread"]) else {
                    return;
                };
                if fields.get("level").is_none() {
                    let help = "add `level`: how good the metric is while all is well";
                    self.doc.error_help(fields.first_key_at(), format!("`{name}` has no `level`"), help);
                }
                (fields.get("level"), fields.get("spread"))
            }
            _ => (Some(node), None),
        };
        let found = value.and_then(|node| Some((node.at, self.doc.number(node, &format!("`{name}`"))?)));
        let Some((value_at, value)) = found else { return };
        // A value out of range is told where it stands, anything else where the name does.
        let read = level::level(name, value, at, catalogue).map_err(|fault| {
            let of_value = level::level(name, f64::MIN_POSITIVE, at, catalogue).is_ok();
            if of_value { Fault { at: value_at, ..fault } } else { fault }
        });
        let Some(level) = self.sound(read) else { return };
        if usual.levels.iter().any(|other| other.metric == level.metric) {
            let metric = &catalogue.get(level.metric).name;
            self.doc.error(at, format!("`{metric}` stands here twice: a metric has one level"));
            return;
        }
        usual.levels.push(level);
        let Some(node) = spread else { return };
        let Some(value) = self.doc.number(node, "`spread`") else { return };
        let Some(spread) = self.sound(level::spread(name, value, node.at, catalogue)) else { return };
        if catalogue.get(level.metric).kind == Kind::Score {
            self.check_room(&level, value, node.at);
        }
        usual.spreads.push(spread);
    }

    /// A mean near 0 or 1 leaves little room.
    fn check_room(&mut self, level: &Level, spread: f64, at: Span) {
        let most = (level.value * (1.0 - level.value)).sqrt();
        if spread > most {
            self.doc.warn(
                at,
                format!(
                    "scores with a mean of {} cannot spread so far: they count as 0 or 1, which is a spread of {most:.3}",
                    level.value
                ),
                "leave `spread` out, or give the standard deviation of single scores",
            );
        }
    }

    fn sound<T>(&mut self, read: Result<T, Fault>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(Fault { at, message, help: Some(help) }) => {
                self.doc.error_help(at, message, help);
                None
            }
            Err(Fault { at, message, help: None }) => {
                self.doc.error(at, message);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;
    use crate::engine::rule::Stat;
    use crate::engine::rule::diagnostic::Diagnostic;

    fn parse(expected: &str) -> Result<Config, Vec<Diagnostic>> {
        let text = format!("kafka: {{ brokers: 'localhost:9092', topics: [t] }}\nexpected:\n{expected}");
        Config::parse(Path::new("r.yaml"), &text, &|_| None)
    }

    #[test]
    fn a_variant_goes_before_its_feature_number_by_number() {
        let text = "
  chat: { events_per_minute: 60, metrics: { faithfulness: { level: 0.95, spread: 0.1 }, cost_p95: 0.03 } }
  chat.v2: { events_per_minute: 5, metrics: { faithfulness: 0.9, abstain: 0 } }
";
        let config = parse(text).unwrap();
        let usual = |variant: &str| config.expected.of(&Variant::new(variant));
        let metric = |name: &str| config.catalogue.find(name).unwrap();
        let level = |metric, stat, value| Level { metric, stat, value };
        let cost = level(metric("cost"), Stat::P95, 0.03);
        let score = metric("faithfulness");
        assert_eq!(
            usual("chat.v1"),
            Usual {
                events_per_minute: Some(60.0),
                levels: vec![level(score, Stat::Mean, 0.95), cost],
                spreads: vec![(score, 0.1)],
            }
        );
        let own = vec![level(score, Stat::Mean, 0.9), level(metric("abstain"), Stat::Rate, 0.0), cost];
        let wanted = Usual { events_per_minute: Some(5.0), levels: own, spreads: vec![(score, 0.1)] };
        assert_eq!(usual("chat.v2"), wanted);
        assert_eq!(usual("chats.v2"), Usual::default());
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "
  a b: {}
  chat:
    events_per_minute: 0
    metric: {}
    metrics:
      faithfullness: 0.9
      faithfulness: 95
      cost_sum: 3
      cost_p96: 3
      abstain: { level: 0.1, spread: 0.1 }
      latency: { spread: 0.4 }
      ttft: { level: 400, spread: 4 }
      tokens: many
      error: 0.01
      error_rate: 0.02
  shop: 3
";
        let said: Vec<String> = parse(text)
            .unwrap_err()
            .iter()
            .map(|d| {
                let help = d.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
                format!("{}:{} {}{help}", d.line - 3, d.column, d.message)
            })
            .collect();
        let wanted = [
            "1:3 a variant or feature is one word of at most 200 bytes",
            "3:24 `events_per_minute` must lie above 0 (write a number such as 60 or 0.5, or leave it out where it is not known)",
            "4:5 unknown key `metric` in what is expected of `chat` (did you mean `metrics`?)",
            "6:7 there is no metric `faithfullness` (did you mean `faithfulness`?)",
            "7:21 no sample can be so (`faithfulness` lies between 0 and 1)",
            "8:7 `cost_sum` does not say how good the samples are (give a mean, a rate or a quantile of a value)",
            "9:12 there is no statistic `p96` (did you mean `p90`?)",
            "10:38 true or false has no spread of its own",
            "11:18 `latency` has no `level` (add `level`: how good the metric is while all is well)",
            "12:35 the spread of a value is that of its logarithm, above 0 and at most 3",
            "13:15 `tokens` must be a number, not text",
            "15:7 `error` stands here twice: a metric has one level",
            "16:9 what is expected of `shop` must be a mapping (`key: value`), not a number",
        ];
        assert_eq!(said, wanted, "{said:#?}");
    }

    #[test]
    fn a_spread_that_a_mean_leaves_no_room_for_is_doubtful() {
        let warned = |spread: &str| {
            let text =
                format!("  chat: {{ metrics: {{ faithfulness: {{ level: 0.95, spread: {spread} }} }} }}\n");
            parse(&text).unwrap().warnings
        };
        assert!(warned("0.2").is_empty());
        let found = warned("0.3");
        assert!(found[0].message.contains("they count as 0 or 1, which is a spread of 0.218"), "{found:?}");
    }
}
