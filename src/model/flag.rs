//! Flags: what configuration says of one, what has happened to it since, and the scope of a change.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{FlagKey, Variant};

/// Shares of traffic are counted in parts per million, so that they compare and store exactly.
pub const SHARE_MAX: u32 = 1_000_000;

/// A flag as configuration declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagSpec {
    pub key: FlagKey,
    /// The variant served to everybody after a rollback.
    pub control: Variant,
    pub treatment: Variant,
    /// The treatment's share of targeting keys, in parts per million.
    pub share: u32,
    /// Declared frozen: the share stays where it stood when this was first seen.
    pub frozen: bool,
    /// The platform that serves it; `None` for Rearguard's own store.
    #[serde(default)]
    pub served: Option<Served>,
    /// There to practise rollbacks on: whatever is decided about it is marked as a drill.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drill: bool,
}

impl FlagSpec {
    /// Whether a change can be confined to a tenant, tier or region. Only Rearguard's own store can do that.
    pub const fn can_slice(&self) -> bool {
        self.served.is_none()
    }
}

/// By which platform a flag is served, and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The platform's name in the configuration.
    pub platform: String,
    /// What kind of platform that is, for people.
    pub kind: String,
    pub key: String,
    /// Its number there, where the platform's API asks for one.
    #[serde(default)]
    pub id: Option<String>,
    /// The platform's name of the control variation.
    pub control: String,
    /// The platform's name of the treatment variation.
    pub treatment: String,
    /// From a decision to its flip read back, at the longest, with one fault on the way.
    pub worst: Duration,
}

/// What Rearguard or a human has done to a flag since it was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagOverlay {
    /// The share at which a pause holds the flag.
    pub frozen_share: Option<u32>,
    /// Scopes in which control is pinned by a rollback.
    pub pins: BTreeSet<Scope>,
    /// The feature is turned off by `flag kill`.
    pub killed: bool,
    /// Counts every change, for compare-and-set and `ETag`.
    pub version: u64,
}

/// What a rule looks at separately, and what a rollback can be confined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    Tenant,
    Tier,
    Region,
}

impl Dimension {
    /// The word of rule files, events and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Tier => "tier",
            Self::Region => "region",
        }
    }
}

/// The part of a flag's traffic that a latch, a pin or a decision is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    #[default]
    All,
    Only(Dimension, String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(dimension, value) => write!(f, "{}:{value}", dimension.as_str()),
        }
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let dimension = match text.split_once(':') {
            Some(("tenant", _)) => Dimension::Tenant,
            Some(("tier", _)) => Dimension::Tier,
            Some(("region", _)) => Dimension::Region,
            _ => {
                return Err(format!("`{text}` is no scope: `all`, `tenant:…`, `tier:…` or `region:…`"));
            }
        };
        let value = text.split_once(':').map(|(_, v)| v.to_owned()).unwrap_or_default();
        Ok(Self::Only(dimension, value))
    }
}
