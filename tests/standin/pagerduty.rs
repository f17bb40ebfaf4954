//! PagerDuty's Events API v2, as its documentation describes it: alerts by key, change events.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Asked, Desk, Platform, text};

#[derive(Clone, Debug)]
pub struct PagerDuty {
    routing_key: String,
    /// Open alerts by key, as they were first triggered.
    pub alerts: BTreeMap<String, Value>,
    pub changes: Vec<Value>,
    rung: usize,
}

impl PagerDuty {
    pub fn new(routing_key: &str) -> Self {
        Self { routing_key: routing_key.into(), alerts: BTreeMap::new(), changes: Vec::new(), rung: 0 }
    }

    fn alert(&mut self, event: &Value) -> Result<(), String> {
        text(&event["dedup_key"], "dedup_key", 255)?;
        let key = event["dedup_key"].as_str().unwrap().to_owned();
        match event["event_action"].as_str() {
            Some("trigger") => {
                check(&event["payload"])?;
                if !["critical", "error", "warning", "info"]
                    .iter()
                    .any(|one| event["payload"]["severity"] == *one)
                {
                    return Err("`severity` must be critical, error, warning or info".into());
                }
                if !self.alerts.contains_key(&key) {
                    self.rung += 1;
                    self.alerts.insert(key, event.clone());
                }
            }
            // An event for a key that is not open is dropped, without a word.
            Some("resolve") => drop(self.alerts.remove(&key)),
            Some("acknowledge") => {
                if let Some(alert) = self.alerts.get_mut(&key) {
                    alert["acknowledged"] = true.into();
                }
            }
            _ => return Err("`event_action` must be trigger, acknowledge or resolve".into()),
        }
        Ok(())
    }

    fn event(&mut self, asked: &Asked) -> Result<(), String> {
        let event = asked.body.as_ref().ok_or("no JSON")?;
        if event["routing_key"] != self.routing_key.as_str() {
            return Err(format!("no service has the routing key {}", event["routing_key"]));
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/v2/enqueue") => self.alert(event),
            ("POST", "/v2/change/enqueue") => {
                check(&event["payload"])?;
                if !event["dedup_key"].is_null() || !event["event_action"].is_null() {
                    return Err("a change event has no key and no action".into());
                }
                self.changes.push(event.clone());
                Ok(())
            }
            _ => Err("no such path".into()),
        }
    }
}

fn check(payload: &Value) -> Result<(), String> {
    text(&payload["summary"], "summary", 1024)?;
    text(&payload["source"], "source", 1024)?;
    if !payload["custom_details"].is_object() {
        return Err("`custom_details` must be an object".into());
    }
    Ok(())
}

impl Platform for PagerDuty {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        match self.event(asked) {
            Ok(()) => (202, json!({"status": "success", "message": "Event processed"})),
            Err(why) => (400, json!({"status": "invalid event", "errors": [why]})),
        }
    }
}

impl Desk for PagerDuty {
    fn open(&self) -> Vec<String> {
        self.alerts.keys().cloned().collect()
    }

    fn rung(&self) -> usize {
        self.rung
    }
}
