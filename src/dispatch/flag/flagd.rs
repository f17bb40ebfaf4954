//! flagd: flags in a file of its schema (`flags:` as a mapping or a list), JSON or YAML.
//!
//! Pinned: the flag is enabled, `defaultVariant` is control, there is no `targeting`. A flag that is `DISABLED` answers with
//! each caller's own default, which may be anything: it is enabled, too, so that control is what is served.

use std::time::Duration;

use serde_json::{Value, json};

use super::file::{Dialect, no_variation};
use super::ofrep::Ofrep;
use super::text::Change;
use crate::dispatch::receiver::Attempt;
use crate::model::flag::Served;

/// Files of flagd.
pub struct Flagd {
    /// flagd's own OFREP, where it is configured.
    pub ask: Option<Ofrep>,
}

impl Dialect for Flagd {
    fn adapter(&self) -> &'static str {
        "flagd"
    }

    fn path<'k>(&self, key: &'k str) -> Vec<&'k str> {
        vec!["flags", key]
    }

    fn pin(&self, flag: &Value, served: &Served) -> Result<Vec<Change>, String> {
        let variants = flag["variants"].as_object().ok_or("it has no `variants`")?;
        if !variants.contains_key(&served.control) {
            return Err(no_variation(&served.control, variants.keys()));
        }
        let mut changes = Vec::new();
        if flag["state"] != "ENABLED" {
            changes.push(Change::Set("state", json!("ENABLED")));
        }
        if flag["defaultVariant"] != *served.control {
            changes.push(Change::Set("defaultVariant", json!(served.control)));
        }
        if flag.get("targeting").is_some() {
            changes.push(Change::Remove("targeting"));
        }
        Ok(changes)
    }

    fn moves(&self, flag: &Value) -> Option<&'static str> {
        // `$flagd.timestamp` is the only thing that changes without a change of file or context.
        let by_time = flag["targeting"].to_string().contains("$flagd.timestamp");
        by_time.then_some("its targeting reads `$flagd.timestamp`")
    }

    fn ask<'a>(&'a self, served: &'a Served, within: Duration) -> Attempt<'a, Option<String>> {
        Box::pin(async move {
            match &self.ask {
                Some(ofrep) => ofrep.gives_control(served, within).await.map(Some),
                None => Ok(None),
            }
        })
    }
}
