//! A stateful stand-in for flag platforms and paging services of other vendors: checks every request against the contract, keeps state, serves its
//! evaluation plane, and misbehaves on request. Honest test equipment: nothing here was run against a vendor.

pub mod alertmanager;
pub mod configcat;
pub mod contract;
pub mod hook;
pub mod house;
pub mod incidentio;
pub mod jsm;
pub mod launchdarkly;
pub mod pagerduty;
pub mod samples;
pub mod server;
pub mod slack;
pub mod statsig;
pub mod unleash;

use std::collections::BTreeMap;

use serde_json::Value;

/// The key of evaluation planes that have it in their addresses; also what tests look for where no secret may be.
pub const SECRET: &str = "planted-secret-7391";

/// A request as a platform gets it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Option<Value>,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Asked {
    /// The path without the query.
    pub fn place(&self) -> &str {
        self.path.split('?').next().unwrap()
    }
}

/// A platform's state and behaviour, without HTTP.
pub trait Platform: Clone + Send + 'static {
    /// Status and body.
    fn answer(&mut self, asked: &Asked) -> (u16, Value);
}

/// A flag platform.
pub trait Flags: Platform {
    /// How many writes took effect.
    fn changes(&self) -> u64;
}

/// A service that people are paged by.
pub trait Desk: Platform {
    /// Keys of what is open, in order.
    fn open(&self) -> Vec<String>;

    /// How often somebody was rung or told.
    fn rung(&self) -> usize;
}

/// Fails unless `value` is a text of 1 to `most` characters.
fn text(value: &Value, name: &str, most: usize) -> Result<(), String> {
    match value.as_str().map(|text| text.chars().count()) {
        Some(length) if (1..=most).contains(&length) => Ok(()),
        _ => Err(format!("`{name}` must be a text of 1 to {most} characters")),
    }
}
