//! Who gets which variant: the sticky hash and the evaluation of one flag for one context.
//!
//! Owns the mapping from a targeting key to a bucket, which will never change (`docs/flags.md` fixes it with test vectors),
//! and the order in which kill, pins and shares are asked. In: what configuration says of a flag and what has happened to it
//! since. Out: a [`Resolution`]. Pure: the HTTP layer serves it and dispatch reads back through it, so both see the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::flag::{Dimension, FlagOverlay, FlagSpec, SHARE_MAX, Scope};
use crate::model::id::{DecisionId, FlagKey};

/// What is served when `flag kill` has turned the feature off.
pub const OFF: &str = "off";

/// Separates this use of SHA-256 from every other one. A change would move people between variants: it never changes.
const DOMAIN: &[u8] = b"rearguard/bucket/v1";

/// The bucket of a targeting key for a flag: 0 … 999,999, uniform, and independent between flags.
///
/// The first 64 bits, big-endian, of SHA-256(`"rearguard/bucket/v1"` 0x00 flag key 0x00 targeting key), scaled down by
/// ⌊h · 1,000,000 / 2⁶⁴⌋. The treatment is served while the bucket is below the share, so raising a share moves nobody back.
pub fn bucket(flag: &FlagKey, targeting_key: &str) -> u32 {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update([0]);
    hash.update(flag.as_str());
    hash.update([0]);
    hash.update(targeting_key);
    let digest = hash.finalize();
    let head = digest
        .iter()
        .take(8)
        .fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let scaled = (u128::from(head) * u128::from(SHARE_MAX)) >> 64;
    u32::try_from(scaled).unwrap_or(SHARE_MAX - 1)
}

/// What a gateway says of the request that it asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub targeting_key: Option<String>,
    pub tenant: Option<String>,
    pub tier: Option<String>,
    pub region: Option<String>,
}

impl Context {
    /// The context's value in a dimension, if the gateway gave one.
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        match dimension {
            Dimension::Tenant => self.tenant.as_deref(),
            Dimension::Tier => self.tier.as_deref(),
            Dimension::Region => self.region.as_deref(),
        }
    }

    /// This context inside a scope: the scope's own attribute replaces whatever stood there.
    #[must_use]
    pub fn within(mut self, scope: &Scope) -> Self {
        if let Scope::Only(dimension, value) = scope {
            let slot = match dimension {
                Dimension::Tenant => &mut self.tenant,
                Dimension::Tier => &mut self.tier,
                Dimension::Region => &mut self.region,
            };
            *slot = Some(value.clone());
        }
        self
    }
}

/// OpenFeature's resolution reasons, as far as Rearguard uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The same for everybody: a share of 0 or 100 %, or control pinned for all.
    Static,
    /// By the sticky hash.
    Split,
    /// A pin on the context's tenant, tier or region.
    TargetingMatch,
    /// Turned off by `flag kill`.
    Disabled,
    /// A split was needed and the context has no targeting key: control, to be on the safe side.
    Unknown,
}

impl Reason {
    /// OFREP's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Split => "SPLIT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Disabled => "DISABLED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The answer for one flag and one context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Exactly the string that events carry as `variant`, or [`OFF`].
    pub variant: String,
    pub reason: Reason,
    /// The pin that decided, if one did.
    pub pinned: Option<Scope>,
    /// The decision behind that pin, where it is known.
    pub decision: Option<DecisionId>,
    /// Whether a pause holds the share.
    pub frozen: bool,
    /// Whether a split was needed and the targeting key was missing.
    pub key_missing: bool,
}

/// One flag as it is served now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFlag {
    pub spec: FlagSpec,
    pub overlay: FlagOverlay,
    /// The decisions behind the overlay's pins, where known; only told, never asked.
    pub pinned_by: BTreeMap<Scope, DecisionId>,
}

impl ServedFlag {
    /// A flag to which nothing has happened yet.
    pub fn new(spec: FlagSpec) -> Self {
        Self {
            spec,
            overlay: FlagOverlay::default(),
            pinned_by: BTreeMap::new(),
        }
    }

    /// The share in force. A pause holds it where it stood; a human may still lower it, never raise it.
    pub fn share(&self) -> u32 {
        self.overlay
            .frozen_share
            .map_or(self.spec.share, |held| held.min(self.spec.share))
            .min(SHARE_MAX)
    }

    /// Who gets what. Asked in this order: killed, pinned for all, pinned for the context's own slice, share.
    pub fn evaluate(&self, context: &Context) -> Resolution {
        if self.overlay.killed {
            return self.resolve(OFF, Reason::Disabled);
        }
        if let Some(scope) = self.pin(context) {
            let reason = match scope {
                Scope::All => Reason::Static,
                Scope::Only(..) => Reason::TargetingMatch,
            };
            return Resolution {
                decision: self.pinned_by.get(scope).cloned(),
                pinned: Some(scope.clone()),
                ..self.resolve(self.spec.control.as_str(), reason)
            };
        }
        match self.share() {
            0 => self.resolve(self.spec.control.as_str(), Reason::Static),
            SHARE_MAX => self.resolve(self.spec.treatment.as_str(), Reason::Static),
            share => self.split(context, share),
        }
    }

    /// The first pin that holds the context. A context that does not say its tenant, tier or region may belong to a pinned
    /// one, so it gets control as well: a rollback must not leak through an incomplete context.
    fn pin(&self, context: &Context) -> Option<&Scope> {
        self.overlay.pins.iter().find(|scope| match scope {
            Scope::All => true,
            Scope::Only(dimension, value) => context
                .get(*dimension)
                .is_none_or(|own| own == value.as_str()),
        })
    }

    fn split(&self, context: &Context, share: u32) -> Resolution {
        let control = self.spec.control.as_str();
        match context.targeting_key.as_deref() {
            None | Some("") => Resolution {
                key_missing: true,
                ..self.resolve(control, Reason::Unknown)
            },
            Some(key) if bucket(&self.spec.key, key) < share => {
                self.resolve(self.spec.treatment.as_str(), Reason::Split)
            }
            Some(_) => self.resolve(control, Reason::Split),
        }
    }

    fn resolve(&self, variant: &str, reason: Reason) -> Resolution {
        Resolution {
            variant: variant.to_owned(),
            reason,
            pinned: None,
            decision: None,
            frozen: self.overlay.frozen_share.is_some(),
            key_missing: false,
        }
    }
}

/// All flags as they are served now. Replaced as a whole, so that an evaluation never sees half a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagTable {
    flags: BTreeMap<FlagKey, ServedFlag>,
}

impl FlagTable {
    /// A table of these flags.
    pub fn new(flags: impl IntoIterator<Item = ServedFlag>) -> Self {
        Self {
            flags: flags.into_iter().map(|f| (f.spec.key.clone(), f)).collect(),
        }
    }

    /// One flag.
    pub fn get(&self, key: &FlagKey) -> Option<&ServedFlag> {
        self.flags.get(key)
    }

    /// All flags, by key.
    pub fn iter(&self) -> impl Iterator<Item = &ServedFlag> {
        self.flags.values()
    }

    /// This table with one flag replaced or added.
    #[must_use]
    pub fn with(&self, flag: ServedFlag) -> Self {
        let mut next = self.clone();
        next.flags.insert(flag.spec.key.clone(), flag);
        next
    }
}

#[cfg(test)]
mod tests;
