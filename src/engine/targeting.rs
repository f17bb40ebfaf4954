//! Who gets which variant: the sticky hash and the evaluation of one flag for one context.
//!
//! Owns the mapping from a targeting key to a bucket, which will never change (`docs/flags.md` fixes it with test vectors),
//! and the order in which kill, pins and shares are asked. In: what configuration says of a flag and what has happened to it
//! since. Out: a [`Resolution`]. Pure: the HTTP layer serves it and dispatch reads back through it, so both see the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::flag::{Dimension, FlagOverlay, FlagSpec, SHARE_MAX, Scope};
use crate::model::id::FlagKey;

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
    let head = digest.iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
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
    /// Whether a pause holds the share.
    pub frozen: bool,
    /// Whether a split was needed and the targeting key was missing.
    pub key_missing: bool,
}

/// The treatment's share in force, in parts per million. A pause holds it where it stood; a human may still lower it in the
/// configuration, never raise it.
pub fn share(spec: &FlagSpec, overlay: &FlagOverlay) -> u32 {
    overlay.frozen_share.map_or(spec.share, |held| held.min(spec.share)).min(SHARE_MAX)
}

/// Who gets what. Asked in this order: killed, pinned for all, pinned for the context's own slice, share.
pub fn evaluate(spec: &FlagSpec, overlay: &FlagOverlay, context: &Context) -> Resolution {
    let resolve = |variant: &str, reason| Resolution {
        variant: variant.to_owned(),
        reason,
        pinned: None,
        frozen: overlay.frozen_share.is_some(),
        key_missing: false,
    };
    if overlay.killed {
        return resolve(OFF, Reason::Disabled);
    }
    let (control, treatment) = (spec.control.as_str(), spec.treatment.as_str());
    if let Some(scope) = pin(overlay, context) {
        let reason = match scope {
            Scope::All => Reason::Static,
            Scope::Only(..) => Reason::TargetingMatch,
        };
        return Resolution { pinned: Some(scope.clone()), ..resolve(control, reason) };
    }
    match (share(spec, overlay), context.targeting_key.as_deref()) {
        (0, _) => resolve(control, Reason::Static),
        (SHARE_MAX, _) => resolve(treatment, Reason::Static),
        (_, None | Some("")) => Resolution { key_missing: true, ..resolve(control, Reason::Unknown) },
        (share, Some(key)) if bucket(&spec.key, key) < share => resolve(treatment, Reason::Split),
        (_, Some(_)) => resolve(control, Reason::Split),
    }
}

/// The first pin that holds the context. A context that does not say its tenant, tier or region may belong to a pinned one,
/// so it gets control as well: a rollback must not leak through an incomplete context.
fn pin<'a>(overlay: &'a FlagOverlay, context: &Context) -> Option<&'a Scope> {
    overlay.pins.iter().find(|scope| match scope {
        Scope::All => true,
        Scope::Only(dimension, value) => context.get(*dimension).is_none_or(|own| own == value.as_str()),
    })
}

#[cfg(test)]
mod tests;
