//! incident.io: alert events of one HTTP source and incidents, against its contract.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::contract::Contract;
use super::{Asked, Desk, Platform};

pub const SOURCE: &str = "01GW2G3V0S59R238FAHPDS1R66";

#[derive(Clone, Debug)]
pub struct IncidentIo {
    token: String,
    api_key: String,
    /// Firing alerts by key.
    pub alerts: BTreeMap<String, Value>,
    /// Incidents by idempotency key.
    pub incidents: BTreeMap<String, Value>,
    rung: usize,
    contract: Contract,
}

impl IncidentIo {
    pub fn new(token: &str, api_key: &str) -> Self {
        let contract = Contract::of("incidentio");
        let (alerts, incidents) = (BTreeMap::new(), BTreeMap::new());
        Self { token: token.into(), api_key: api_key.into(), alerts, incidents, rung: 0, contract }
    }

    fn alert(&mut self, event: &Value) -> (u16, Value) {
        let Some(key) = event["deduplication_key"].as_str().filter(|key| !key.is_empty()) else {
            return error(422, "new HTTP sources need a deduplication_key");
        };
        if event["status"] == "resolved" {
            self.alerts.remove(key);
        } else if self.alerts.insert(key.to_owned(), event.clone()).is_none() {
            self.rung += 1;
        }
        (
            202,
            json!({"status": "success", "message": "Event accepted for processing", "deduplication_key": key}),
        )
    }

    fn incident(&mut self, incident: &Value) -> (u16, Value) {
        let key = incident["idempotency_key"].as_str().unwrap().to_owned();
        let id = format!("incident-{key}");
        self.incidents.entry(key).or_insert_with(|| incident.clone());
        (200, json!({"incident": {"id": id}}))
    }
}

fn error(status: u16, why: &str) -> (u16, Value) {
    (status, json!({"type": "validation_error", "status": status, "errors": [{"message": why}]}))
}

impl Platform for IncidentIo {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let said = asked.headers.get("authorization").cloned().unwrap_or_default();
        let is_alert = asked.place() == format!("/v2/alert_events/http/{SOURCE}");
        let wanted = if is_alert { &self.token } else { &self.api_key };
        if said != format!("Bearer {wanted}") {
            return error(401, &format!("no such key: {said}"));
        }
        if let Err(why) = self.contract.check(asked) {
            return error(422, &why);
        }
        let body = asked.body.clone().unwrap();
        if is_alert { self.alert(&body) } else { self.incident(&body) }
    }
}

impl Desk for IncidentIo {
    fn open(&self) -> Vec<String> {
        self.alerts.keys().cloned().collect()
    }

    fn rung(&self) -> usize {
        self.rung
    }
}
