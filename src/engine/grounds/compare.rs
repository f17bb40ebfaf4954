//! What was decided beside what judging again says, number by number.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Again, Grounds};
use crate::engine::alert::Change;
use crate::engine::output::Decision;
use crate::engine::rule::ConfirmedBy;
use crate::engine::verdict::{Judgement, Verdict};
use crate::model::id::DecisionId;
use crate::model::time::Timestamp;

/// How far numbers may lie apart, relative to the larger: another machine's mathematics library may round otherwise.
const TOLERANCE: f64 = 1e-9;

/// A decision judged again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    pub decision: DecisionId,
    pub rule: String,
    /// Event time of the closing that decided.
    pub at: Timestamp,
    /// Whether everything is the same.
    pub same: bool,
    pub checks: Vec<Check>,
}

/// One thing compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub what: String,
    pub stored: Value,
    pub again: Value,
    pub same: bool,
}

pub(super) fn compare(grounds: &Grounds, decision: &Decision, again: &Again) -> Replayed {
    let mut checks = vec![
        check("rule", identity_of(decision), identity(grounds)),
        check("verdict", decided(decision), verdict(&again.judgement)),
        check("decides", true, decides(again)),
        check("closing", decision.at, grounds.closed.end()),
        check("crossing", decision.crossing, crossing(grounds, again)),
        check("t0", decision.t0, first(grounds, again)),
    ];
    let stored = serde_json::to_value(&decision.evidence).unwrap_or_default();
    let anew = serde_json::to_value(&again.evidence).unwrap_or_default();
    if let Value::Object(fields) = &stored {
        for (name, value) in fields.iter().filter(|(name, _)| !NOT_JUDGED.contains(&name.as_str())) {
            checks.push(check(name, value, &anew[name]));
        }
    }
    Replayed {
        decision: decision.id.clone(),
        rule: decision.key.rule.to_string(),
        at: decision.at,
        same: checks.iter().all(|check| check.same),
        checks,
    }
}

/// What a reader is told beside the verdict: counted by the fleet, over all metrics, and not stored to be counted again.
const NOT_JUDGED: [&str; 3] = ["tenants", "tenants_exact", "context"];

fn check(what: &str, stored: impl Serialize, again: impl Serialize) -> Check {
    let [stored, again] =
        [serde_json::to_value(stored), serde_json::to_value(again)].map(Result::unwrap_or_default);
    Check { what: what.to_owned(), same: same(&stored, &again), stored, again }
}

/// Equal but for rounding.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_f64(), y.as_f64()) {
            (Some(x), Some(y)) => (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()),
            _ => x == y,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

fn identity(grounds: &Grounds) -> String {
    let rule = &grounds.rule;
    format!("{} {} {}: {}", rule.flag, rule.id, rule.hash.0, rule.condition.source)
}

fn identity_of(decision: &Decision) -> String {
    let key = &decision.key;
    format!("{} {} {}: {}", key.flag, key.rule, key.hash.0, decision.condition)
}

/// The verdict that a decision says it rests on.
fn decided(decision: &Decision) -> String {
    match decision.confirmed_by {
        None => "no data".into(),
        Some(_) if decision.evidence.within_noise => "in breach, within noise".into(),
        Some(by) => breach(by),
    }
}

fn verdict(judgement: &Judgement) -> String {
    use crate::engine::verdict::Reason::{Doubtful, NoData};
    match (&judgement.verdict, judgement.by) {
        (Verdict::Breach, Some(by)) => breach(by),
        (Verdict::Inconclusive { reason: NoData }, _) => "no data".into(),
        (Verdict::Inconclusive { reason: Doubtful }, _) => "in breach, within noise".into(),
        (other, _) => other.to_string(),
    }
}

fn breach(by: ConfirmedBy) -> String {
    format!("breach by {}", by.as_str())
}

/// Whether the alert asked for a decision at this closing.
fn decides(again: &Again) -> bool {
    again.pauses_on_silence || first_of(&again.change).is_some()
}

/// The pane whose closing first satisfied the test, where a decision was asked for.
fn first_of(change: &Change) -> Option<crate::model::time::Minute> {
    match change {
        Change::Confirmed(pending)
        | Change::Doubted(pending)
        | Change::Escalated(_, pending)
        | Change::Withheld(_, pending) => Some(pending.first),
        Change::None | Change::Began | Change::Ended | Change::Resolved(_) => None,
    }
}

fn first(grounds: &Grounds, again: &Again) -> Timestamp {
    first_of(&again.change).unwrap_or(grounds.closed).start()
}

fn crossing(grounds: &Grounds, again: &Again) -> Timestamp {
    again.crossing.map_or_else(|| first(grounds, again), crate::model::time::Minute::start)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::same;

    #[test]
    fn only_rounding_may_differ() {
        let stored = json!({"a": [1.0, {"b": null}], "c": "x"});
        assert!(same(&stored, &json!({"a": [1.0 + 1e-13, {"b": null}], "c": "x"})));
        for other in [
            json!({"a": [1.0, {"b": null}, 2.0], "c": "x"}),
            json!({"a": [1.0], "c": "x"}),
            json!({"a": [1.1, {"b": null}], "c": "x"}),
            json!({"a": [1.0, {"b": null}], "c": "y"}),
            json!({"a": [1.0, {"b": null}]}),
            json!({"a": [1.0, {"b": null}], "c": "x", "d": 1}),
        ] {
            assert!(!same(&stored, &other) && !same(&other, &stored), "{other}");
        }
    }
}
