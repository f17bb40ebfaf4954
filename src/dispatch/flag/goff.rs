//! GO Feature Flag: flags in a file of YAML, JSON or TOML, and a relay proxy that is told to read it anew.
//!
//! Pinned: the default rule gives the control variation, and nothing goes before it: no `targeting`, no `scheduledRollout`, no
//! `experimentation` (outside of its dates everybody gets the caller's default), no `bucketingKey` (without that attribute
//! likewise), and the flag is not disabled (likewise).

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::Result;
use super::file::{Dialect, no_variation};
use super::ofrep::{Ofrep, below};
use super::text::Change;
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::Attempt;
use crate::model::flag::Served;

/// What stands before the default rule, or keeps it from serving.
const BEFORE_THE_DEFAULT: [&str; 4] = ["targeting", "scheduledRollout", "experimentation", "bucketingKey"];

/// A relay proxy as configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySpec {
    pub url: String,
    /// One of its `authorizedKeys.admin`, for the refresh.
    pub admin_key: Option<Secret>,
    /// One of its `authorizedKeys.evaluation`, for the read-back.
    pub api_key: Option<Secret>,
}

/// Files of GO Feature Flag.
pub struct GoFeatureFlag {
    pub relay: Option<Relay>,
}

/// A relay proxy that reads the file.
pub struct Relay {
    outbound: Outbound,
    refresh: Url,
    admin_key: Option<Secret>,
    ofrep: Ofrep,
}

impl Relay {
    /// The relay at an address; nothing is sent.
    pub fn new(outbound: &Outbound, spec: &RelaySpec) -> Result<Self> {
        Ok(Self {
            outbound: outbound.clone(),
            refresh: below(&outbound.address(&spec.url)?, &["admin", "v1", "retriever", "refresh"])?,
            admin_key: spec.admin_key.clone(),
            ofrep: Ofrep::new(outbound, &spec.url, spec.api_key.clone())?,
        })
    }

    /// Has the file read anew. Asking twice does no harm.
    async fn refresh(&self, within: Duration) -> Result<()> {
        let request =
            Request { bearer: self.admin_key.as_ref(), ..Request::post(self.refresh.clone(), Vec::new()) };
        let answer = self.outbound.exchange(request, within).await?;
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if said["refreshed"] == true {
            return Ok(());
        }
        Err(Failure::retryable("the relay proxy did not read the file anew"))
    }
}

impl Dialect for GoFeatureFlag {
    fn adapter(&self) -> &'static str {
        "gofeatureflag"
    }

    fn path<'k>(&self, key: &'k str) -> Vec<&'k str> {
        vec![key]
    }

    fn pin(&self, flag: &Value, served: &Served) -> std::result::Result<Vec<Change>, String> {
        let variations = flag["variations"].as_object().ok_or("it has no `variations`")?;
        if !variations.contains_key(&served.control) {
            return Err(no_variation(&served.control, variations.keys()));
        }
        let mut changes = Vec::new();
        if flag.get("disable").is_some_and(|disabled| *disabled != false) {
            changes.push(Change::Set("disable", json!(false)));
        }
        for key in BEFORE_THE_DEFAULT {
            if flag.get(key).is_some() {
                changes.push(Change::Remove(key));
            }
        }
        if !gives(&flag["defaultRule"], &served.control) {
            changes.push(Change::Set("defaultRule", json!({"variation": served.control})));
        }
        Ok(changes)
    }

    fn moves(&self, flag: &Value) -> Option<&'static str> {
        if flag.get("scheduledRollout").is_some() {
            return Some("`scheduledRollout`");
        }
        let rules = flag["targeting"].as_array().into_iter().flatten().chain([&flag["defaultRule"]]);
        rules
            .into_iter()
            .any(|rule| rule.get("progressiveRollout").is_some())
            .then_some("`progressiveRollout`")
    }

    fn ask<'a>(&'a self, served: &'a Served, within: Duration) -> Attempt<'a, Option<String>> {
        Box::pin(async move {
            let Some(relay) = &self.relay else { return Ok(None) };
            relay.refresh(within / 3).await?;
            relay.ofrep.gives_control(served, within / 2).await.map(Some)
        })
    }
}

/// Whether a rule gives one variation to everybody: a percentage or a progressive rollout would go before `variation`.
fn gives(rule: &Value, variation: &str) -> bool {
    rule.as_object().is_some_and(|members| {
        rule["variation"] == *variation
            && members.keys().all(|key| ["name", "variation"].contains(&key.as_str()))
    })
}
