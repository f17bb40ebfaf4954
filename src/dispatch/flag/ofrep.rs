//! The evaluation plane of another platform, asked as gateways ask it: OFREP 0.3.0.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::{Result, patiently, question};
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::model::flag::Served;

/// Targeting keys asked for at each read-back; a share of 20 % that is still served escapes them three times in a hundred. A pin
/// has no share: in truth all or none of them differ.
const SAMPLE: usize = 16;

/// An OFREP server.
pub struct Ofrep {
    outbound: Outbound,
    base: Url,
    key: Option<Secret>,
}

impl Ofrep {
    /// The server under an address; nothing is sent.
    pub fn new(outbound: &Outbound, url: &str, key: Option<Secret>) -> Result<Self> {
        Ok(Self { outbound: outbound.clone(), base: outbound.address(url)?, key })
    }

    /// Whether every sampled key gets control; waits a little for a change to arrive.
    pub async fn gives_control(&self, served: &Served, within: Duration) -> Result<String> {
        patiently(self.outbound.clock(), within, |left| self.look(served, left)).await
    }

    async fn look(&self, served: &Served, within: Duration) -> Result<String> {
        let watch = self.outbound.clock().stopwatch();
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        for n in 0..SAMPLE {
            let left = within.saturating_sub(watch.elapsed());
            let variant = self.variant(&served.key, &format!("rearguard-probe-{n}"), left).await?;
            if variant != served.control {
                *others.entry(variant).or_default() += 1;
            }
        }
        match others.first_key_value() {
            None => Ok(format!("asked over OFREP, all of {SAMPLE} sampled keys got `{}`", served.control)),
            Some((variant, n)) => {
                Err(Failure::retryable(format!("{n} of {SAMPLE} sampled keys still get `{variant}`")))
            }
        }
    }

    async fn variant(&self, flag: &str, targeting_key: &str, within: Duration) -> Result<String> {
        let url = below(&self.base, &["ofrep", "v1", "evaluate", "flags", flag])?;
        let body = json!({"context": {"targetingKey": targeting_key}}).to_string().into_bytes();
        let request = Request { bearer: self.key.as_ref(), ..Request::post(url, body) };
        let answer = self.outbound.exchange(request, within).await.map_err(question)?;
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let variant = said["variant"].as_str().unwrap_or_default();
        Ok(if variant.is_empty() { "no variant".to_owned() } else { variant.to_owned() })
    }
}

/// An address below another.
pub fn below(base: &Url, steps: &[&str]) -> Result<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Failure::permanent("the address cannot have a path"))?
        .pop_if_empty()
        .extend(steps);
    Ok(url)
}
