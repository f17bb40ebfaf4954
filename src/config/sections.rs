//! The sections `flags:` and `metrics:`.

use std::collections::BTreeMap;

use super::Platform;
use super::read::Reader;
use crate::engine::rule::yaml::{Fields, Node, Value};
use crate::model::canary::CANARY;
use crate::model::flag::{FlagSpec, SHARE_MAX};
use crate::model::metric::{Catalogue, Direction, Kind, Metric};

/// Most metrics that one catalogue may hold: ids are small, and every one costs memory per variant.
const MOST_METRICS: usize = 1_000;
/// The most steps of `resolution` up to `max`: keeps histograms below about 5,000 buckets.
const MOST_STEPS: f64 = 1e12;

const KINDS: [(&str, Kind); 3] = [("score", Kind::Score), ("boolean", Kind::Boolean), ("value", Kind::Value)];
const DIRECTIONS: [(&str, Direction); 2] =
    [("higher_is_better", Direction::HigherIsBetter), ("lower_is_better", Direction::LowerIsBetter)];

/// What is wrong with a name that Rearguard keeps for itself.
fn taken(names: &[&str]) -> Option<String> {
    names.contains(&CANARY).then(|| {
        format!("`{CANARY}` is the name of Rearguard's own events and cannot be given to anything else")
    })
}

impl Reader<'_, '_> {
    pub(super) fn flags(&mut self, node: &Node, platforms: &BTreeMap<String, Platform>) -> Vec<FlagSpec> {
        let mut flags = Vec::new();
        for (key, at, value) in self.doc.entries(node, "`flags`").unwrap_or_default() {
            let what = format!("flag `{key}`");
            if key.trim().is_empty() || key.len() > 200 || key.chars().any(char::is_whitespace) {
                self.doc.error(at, "a flag key is one word of at most 200 bytes");
                continue;
            }
            if let Some(reserved) = taken(&[key]) {
                self.doc.error(at, reserved);
                continue;
            }
            let known = ["control", "treatment", "share", "frozen", "platform", "drill"];
            let Some(fields) = self.doc.fields(value, &what, &known) else { continue };
            let elsewhere = fields.get("platform");
            for key in ["control", "treatment", "share"] {
                if fields.get(key).is_none() && !(key == "share" && elsewhere.is_some()) {
                    self.doc.error(at, format!("{what} has no `{key}`"));
                }
            }
            for key in ["share", "frozen"] {
                if let (Some(at), Some(_)) = (fields.key_at(key), elsewhere) {
                    let message = format!("`{key}` of {what} is for its platform to say");
                    self.doc.error_help(
                        at,
                        message,
                        "remove it: Rearguard serves nothing of this flag itself",
                    );
                }
            }
            let control = self.variant(&fields, "control");
            let treatment = self.variant(&fields, "treatment");
            let share = match elsewhere {
                None => fields.get("share").and_then(|n| self.share(n)),
                Some(_) => Some(0),
            };
            let frozen = fields.get("frozen").and_then(|n| self.doc.boolean(n, "`frozen`"));
            let drill = fields.get("drill").and_then(|n| self.doc.boolean(n, "`drill`"));
            let (Some(control), Some(treatment), Some(share)) = (control, treatment, share) else {
                continue;
            };
            if let Some(reserved) = taken(&[&control, &treatment]) {
                self.doc.error(at, reserved);
                continue;
            }
            if control == treatment {
                self.doc.error(at, format!("{what} serves the same variant as control and as treatment"));
                continue;
            }
            let names = (key, &*control, &*treatment);
            let served = elsewhere.map(|node| self.served(node, names, platforms));
            if served == Some(None) {
                continue;
            }
            flags.push(FlagSpec {
                key: key.into(),
                control: control.into(),
                treatment: treatment.into(),
                share,
                frozen: frozen.unwrap_or(false),
                served: served.flatten(),
                drill: drill.unwrap_or(false),
            });
        }
        flags
    }

    fn variant(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let node = fields.get(key)?;
        let text = self.doc.text(node, &format!("`{key}`"))?;
        if text.len() > 200 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.doc.error(node.at, format!("`{key}` must be one word of at most 200 bytes"));
            return None;
        }
        Some(text.to_owned())
    }

    /// `0.25` or `25%`, in parts per million.
    fn share(&mut self, node: &Node) -> Option<u32> {
        let fraction = match &node.value {
            Value::Number(n) => Some(*n),
            Value::Text(text) => {
                text.trim().strip_suffix('%').and_then(|p| p.trim().parse::<f64>().ok()).map(|p| p / 100.0)
            }
            _ => None,
        };
        match fraction {
            Some(f) if (0.0..=1.0).contains(&f) => Some((f * f64::from(SHARE_MAX)).round() as u32),
            other => {
                let help = match other {
                    Some(f) if f > 1.0 && f <= 100.0 && matches!(node.value, Value::Number(_)) => {
                        format!("write `{f}%`")
                    }
                    _ => "write `0.25` or `25%`".to_owned(),
                };
                self.doc.error_help(node.at, "`share` must lie between 0 and 1, or 0% and 100%", help);
                None
            }
        }
    }

    /// `own` are those that Rearguard adds itself.
    pub(super) fn metrics(&mut self, node: &Node, own: Vec<Metric>) -> Catalogue {
        let built_in = Catalogue::default();
        let mut extra = own;
        let entries = self.doc.entries(node, "`metrics`").unwrap_or_default();
        if entries.len() > MOST_METRICS {
            self.doc.error(node.at, format!("more than {MOST_METRICS} metrics"));
            return built_in;
        }
        for (name, at, value) in entries {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let reserved = ["baseline", "true", "false", "and", "or", "not", "inf", "infinity", "nan"];
            if !first
                || !name.chars().all(good)
                || name.len() > 100
                || reserved.contains(&name.to_lowercase().as_str())
                || name.starts_with("slo.")
                || name == CANARY
            {
                self.doc.error_help(at, format!("`{name}` cannot be the name of a metric"), "a name begins with a letter and holds letters, digits, `_` and `.`; `baseline`, `slo.…` and `rearguard.canary` are taken");
                continue;
            }
            let known = built_in.find(name).map(|id| built_in.get(id));
            if let Some(metric) = self.metric(name, value, known) {
                extra.push(metric);
            }
        }
        Catalogue::with(extra)
    }

    fn metric(&mut self, name: &str, node: &Node, known: Option<&Metric>) -> Option<Metric> {
        let what = format!("metric `{name}`");
        let keys = ["kind", "unit", "resolution", "max", "direction", "failure_class"];
        let fields = self.doc.fields(node, &what, &keys)?;
        let kind = fields.get("kind").and_then(|n| self.doc.choice(n, "`kind`", &KINDS));
        let direction = fields.get("direction").and_then(|n| self.doc.choice(n, "`direction`", &DIRECTIONS));
        let kind = kind.or(known.map(|m| m.kind));
        let direction = direction.or(known.map(|m| m.direction));
        for (key, missing) in [("kind", kind.is_none()), ("direction", direction.is_none())] {
            if missing && fields.get(key).is_none() {
                self.doc.error(fields.first_key_at(), format!("{what} has no `{key}`"));
            }
        }
        let (kind, direction) = (kind?, direction?);
        let (resolution, max) = self.range(&fields, kind, known.filter(|m| m.kind == kind), &what)?;
        let mut text = |key: &str| {
            let node = fields.get(key)?;
            self.doc.text(node, &format!("`{key}`")).map(str::to_owned)
        };
        let unit = text("unit").or(known.map(|m| m.unit.clone()));
        let failure_class = text("failure_class").or(known.map(|m| m.failure_class.clone()));
        Some(Metric {
            name: name.to_owned(),
            kind,
            unit: unit.unwrap_or_default(),
            resolution,
            max,
            direction,
            failure_class: failure_class.unwrap_or_else(|| format!("{}_regression", name.replace('.', "_"))),
        })
    }

    /// `resolution` and `max`, which belong together.
    fn range(
        &mut self,
        fields: &Fields<'_>,
        kind: Kind,
        known: Option<&Metric>,
        what: &str,
    ) -> Option<(f64, f64)> {
        let (resolution, max) = match (known, kind) {
            (Some(known), _) => (Some(known.resolution), Some(known.max)),
            (None, Kind::Score) => (Some(0.001), Some(1.0)),
            (None, Kind::Boolean) => (Some(1.0), Some(1.0)),
            (None, Kind::Value) => (None, None),
        };
        let resolution = self.size(fields, "resolution", resolution, what);
        let max = self.size(fields, "max", max, what);
        let (resolution, max) = (resolution?, max?);
        let given = fields.get("max").or(fields.get("resolution"));
        let at = given.map_or(fields.first_key_at(), |n| n.at);
        if kind != Kind::Value && max.to_bits() != 1.0f64.to_bits() {
            self.doc.error(at, format!("{what} is no value: its `max` is 1"));
            return None;
        }
        if kind != Kind::Boolean && !(2.0..=MOST_STEPS).contains(&(max / resolution)) {
            self.doc.error(at, format!("{what}: `max` must be 2 to 10¹² times `resolution`"));
            return None;
        }
        Some((resolution, max))
    }

    fn size(&mut self, fields: &Fields<'_>, key: &str, default: Option<f64>, what: &str) -> Option<f64> {
        match fields.get(key) {
            Some(node) => {
                let n = self.doc.number(node, &format!("`{key}`"))?;
                if n <= 0.0 || n > 1e15 {
                    self.doc.error(node.at, format!("`{key}` must be a positive number"));
                    return None;
                }
                Some(n)
            }
            None => default.or_else(|| {
                let at = fields.first_key_at();
                self.doc.error_help(
                    at,
                    format!("{what} has no `{key}`"),
                    "values need `resolution`, the smallest step told apart, and `max`, the largest value",
                );
                None
            }),
        }
    }
}
