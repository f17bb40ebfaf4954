//! The alert API of JSM Operations and Opsgenie, as its documentation describes it: open alerts by alias.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Asked, Desk, Platform, text};

#[derive(Clone, Debug)]
pub struct Jsm {
    key: String,
    /// What stands before `/v2`.
    prefix: &'static str,
    pub alerts: BTreeMap<String, Value>,
    rung: usize,
}

impl Jsm {
    pub fn new(key: &str, prefix: &'static str) -> Self {
        Self { key: key.into(), prefix, alerts: BTreeMap::new(), rung: 0 }
    }

    fn request(&mut self, asked: &Asked) -> Result<(), String> {
        let body = asked.body.as_ref().ok_or("no JSON")?;
        let place = asked.place().strip_prefix(self.prefix).ok_or("no such path")?;
        if asked.method != "POST" {
            return Err("no such method".into());
        }
        if place == "/v2/alerts" {
            check(body)?;
            let alias = body["alias"].as_str().unwrap().to_owned();
            if !self.alerts.contains_key(&alias) {
                self.rung += 1;
                self.alerts.insert(alias, body.clone());
            }
            return Ok(());
        }
        let (alias, action) =
            place.strip_prefix("/v2/alerts/").and_then(|rest| rest.split_once('/')).ok_or("no such path")?;
        if !asked.path.ends_with("?identifierType=alias") {
            return Err("an alias needs identifierType=alias".into());
        }
        // What is not open cannot be taken further; that shows in the status of the request only.
        match (action, self.alerts.get_mut(alias)) {
            ("close", _) => drop(self.alerts.remove(alias)),
            ("acknowledge", Some(alert)) => alert["acknowledged"] = true.into(),
            ("acknowledge", None) => {}
            _ => return Err("no such path".into()),
        }
        Ok(())
    }
}

fn check(body: &Value) -> Result<(), String> {
    for (name, most) in
        [("message", 130), ("alias", 512), ("description", 15_000), ("entity", 512), ("source", 100)]
    {
        text(&body[name], name, most)?;
    }
    if !["P1", "P2", "P3", "P4", "P5"].iter().any(|one| body["priority"] == *one) {
        return Err("`priority` must be P1 to P5".into());
    }
    let tags = body["tags"].as_array().ok_or("`tags` must be a list")?;
    for tag in tags {
        text(tag, "tag", 50)?;
    }
    let details = body["details"].as_object().ok_or("`details` must be an object")?;
    let mut size = 0;
    for (name, value) in details {
        size += name.len() + value.as_str().ok_or("`details` holds texts")?.len();
    }
    if size > 8000 { Err("`details` hold more than 8000 characters".into()) } else { Ok(()) }
}

impl Platform for Jsm {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let said = asked.headers.get("authorization").cloned().unwrap_or_default();
        if said != format!("GenieKey {}", self.key) {
            return (
                401,
                json!({"message": format!("Could not authenticate with `{said}`"), "requestId": "r"}),
            );
        }
        match self.request(asked) {
            Ok(()) => (202, json!({"result": "Request will be processed", "took": 0.1, "requestId": "r"})),
            Err(why) => (422, json!({"message": why, "requestId": "r"})),
        }
    }
}

impl Desk for Jsm {
    fn open(&self) -> Vec<String> {
        self.alerts.keys().cloned().collect()
    }

    fn rung(&self) -> usize {
        self.rung
    }
}
