//! A receiver of signed webhooks, as `docs/incidents.md` tells people to write one: it checks the signature and knows repetitions by
//! their id.

use std::collections::{BTreeMap, BTreeSet};

use rearguard::dispatch::client::Secret;
use rearguard::dispatch::pager::webhook::sign;
use serde_json::{Value, json};

use super::{Asked, Desk, Platform};

#[derive(Clone, Debug)]
pub struct Hook {
    secret: Secret,
    seen: BTreeSet<String>,
    open: BTreeMap<String, String>,
    rung: usize,
}

impl Hook {
    pub fn new(secret: &str) -> Self {
        Self { secret: Secret::new(secret), seen: BTreeSet::new(), open: BTreeMap::new(), rung: 0 }
    }

    fn take(&mut self, asked: &Asked) -> Result<(), String> {
        let header = |name: &str| asked.headers.get(name).cloned().ok_or_else(|| format!("no {name}"));
        let body = asked.body.as_ref().ok_or("no JSON")?;
        let (stamp, id) = (header("x-rearguard-timestamp")?, header("x-rearguard-id")?);
        if header("x-rearguard-signature")? != sign(&self.secret, &stamp, &asked.bytes).unwrap() {
            return Err("the signature is not right".into());
        }
        let key = body["message"]["dedup_key"].as_str().ok_or("no dedup_key")?.to_owned();
        let kind = body["message"]["kind"].as_str().ok_or("no kind")?.to_owned();
        if !self.seen.insert(id) {
            return Ok(());
        }
        if body["state"] == "resolved" {
            self.open.remove(&key);
        } else if self.open.insert(key, kind.clone()) != Some(kind) {
            self.rung += 1;
        }
        Ok(())
    }
}

impl Platform for Hook {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        match self.take(asked) {
            Ok(()) => (204, json!("")),
            Err(why) => (401, json!(why)),
        }
    }
}

impl Desk for Hook {
    fn open(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    fn rung(&self) -> usize {
        self.rung
    }
}
