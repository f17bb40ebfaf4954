//! Alertmanager's alerts: labels are an alert's identity, and one whose end has passed does not stand.

use std::collections::BTreeMap;

use rearguard::clock::Clock;
use rearguard::model::time::Timestamp;
use serde_json::{Value, json};

use super::{Asked, Desk, Platform};

#[derive(Clone, Debug, Default)]
pub struct Alertmanager {
    /// By labels.
    alerts: BTreeMap<String, Value>,
    rung: usize,
}

impl Alertmanager {
    fn standing(&self) -> impl Iterator<Item = &Value> {
        let now = Clock::system().now();
        self.alerts
            .values()
            .filter(move |alert| Timestamp::parse(alert["endsAt"].as_str().unwrap()).unwrap() > now)
    }

    fn post(&mut self, alert: &Value) -> Result<(), String> {
        let labels = alert["labels"].as_object().ok_or("no labels")?;
        if labels.is_empty() || labels.values().any(|label| label.as_str().is_none_or(str::is_empty)) {
            return Err("a label is empty".into());
        }
        let mut alert = alert.clone();
        let identity = Value::from(labels.clone()).to_string();
        let stood = self.standing().any(|other| other["labels"] == alert["labels"]);
        // As Alertmanager does: the earliest start counts.
        if let Some(old) = self.alerts.get(&identity) {
            alert["startsAt"] = old["startsAt"].clone();
        }
        self.alerts.insert(identity, alert.clone());
        let stands = self.standing().any(|other| other["labels"] == alert["labels"]);
        self.rung += usize::from(stands && !stood);
        Ok(())
    }
}

impl Platform for Alertmanager {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        match (asked.method.as_str(), asked.place()) {
            // The filter is the caller's convenience: every alert here has one key.
            ("GET", "/api/v2/alerts") => (200, self.standing().cloned().collect()),
            ("POST", "/api/v2/alerts") => {
                let posted = asked.body.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
                match posted.iter().try_for_each(|alert| self.post(alert)) {
                    Ok(()) => (200, json!("")),
                    Err(why) => (400, json!(why)),
                }
            }
            _ => (404, json!("no such path")),
        }
    }
}

impl Desk for Alertmanager {
    fn open(&self) -> Vec<String> {
        self.standing().map(|alert| alert["labels"]["dedup_key"].to_string()).collect()
    }

    fn rung(&self) -> usize {
        self.rung
    }
}
