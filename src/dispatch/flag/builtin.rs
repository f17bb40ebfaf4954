//! Rearguard's own flag store, served over OFREP. The default platform.
//!
//! Written through the store's conditional changes; read back through the very table and function that OFREP answers from,
//! with a fixed sample of targeting keys and contexts: a pin is verified when none of them gets the treatment.

use std::time::Duration;

use super::{FlagPlatform, Result, Seen, Wanted, bounded};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::Attempt;
use crate::engine::targeting::{Context, OFF, evaluate};
use crate::model::flag::{Dimension, Scope};
use crate::model::time::Timestamp;
use crate::store::{BUILTIN, FlagState, Flip, Store, StoreError};

/// Targeting keys asked for at each read-back. A share of 1.8 % that is still served escapes 256 keys once in a hundred; a
/// pin has no share, so in truth all or none of them differ.
pub const SAMPLE: usize = 256;

/// The built-in flag store.
pub struct Builtin {
    store: Store,
}

impl Builtin {
    /// The flags of this store.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn see(&self, flip: &Flip) -> Result<Seen> {
        let state = self.store.flag(flip.flag()).await.map_err(failure)?;
        let done = match flip {
            Flip::Pin { scope, .. } => {
                state.overlay.pins.contains(&Scope::All) || state.overlay.pins.contains(scope)
            }
            Flip::Unpin { scope, .. } => !state.overlay.pins.contains(scope),
            Flip::Freeze { .. } => state.overlay.frozen_share.is_some(),
            Flip::Unfreeze { .. } => state.overlay.frozen_share.is_none(),
        };
        Ok(Seen {
            version: state.overlay.version.to_string(),
            done,
            safe: treated(&state, &flip.scope()) == 0,
            ..Seen::default()
        })
    }

    async fn change(&self, flip: &Flip, version: &str, now: Timestamp) -> Result<()> {
        let version = version
            .parse()
            .map_err(|_| Failure::permanent(format!("`{version}` is no version of a flag")))?;
        let written = match flip {
            Flip::Pin { decision, flag, scope, by, .. } => {
                let why = asked("rollback", by.as_deref());
                self.store.pin(flag, scope, decision, &why, version, now).await
            }
            Flip::Unpin { flag, scope, actor } => self.store.unpin(flag, scope, actor, version, now).await,
            Flip::Freeze { decision, flag, by } => {
                let why = asked("pause", by.as_deref());
                self.store.freeze(flag, decision, &why, version, now).await
            }
            Flip::Unfreeze { flag, why, .. } => self.store.unfreeze(flag, why, version, now).await,
        };
        written.map(|_| ()).map_err(failure)
    }

    /// The table that OFREP answers from, not the database.
    async fn served(&self, flip: &Flip) -> Result<String> {
        let mut table = self.store.flags();
        if !self.is_in_force(&table, flip) {
            // Another connection may have written: take in what is stored, then look again.
            self.store.refresh_flags().await.map_err(failure)?;
            table = self.store.flags();
        }
        let state = table
            .get(flip.flag())
            .ok_or_else(|| Failure::permanent(format!("flag `{}` is not served", flip.flag())))?;
        let left = treated(state, &flip.scope());
        match flip {
            Flip::Pin { .. } if left > 0 => {
                Err(Failure::retryable(format!("{left} of {SAMPLE} sampled keys still get the treatment")))
            }
            Flip::Pin { .. } => Ok(format!("none of {SAMPLE} sampled keys gets the treatment")),
            _ if !self.is_in_force(&table, flip) => {
                Err(Failure::retryable(format!("{} is not in force", flip.as_str())))
            }
            _ => Ok(format!("{} is in force", flip.as_str())),
        }
    }

    fn is_in_force(&self, table: &crate::store::FlagTable, flip: &Flip) -> bool {
        table.get(flip.flag()).is_some_and(|state| match flip {
            Flip::Pin { scope, .. } => treated(state, scope) == 0,
            Flip::Unpin { scope, .. } => !state.overlay.pins.contains(scope),
            Flip::Freeze { .. } => state.overlay.frozen_share.is_some(),
            // A flag that is declared frozen stays held: that is the configuration's word.
            Flip::Unfreeze { .. } => state.spec.frozen || state.overlay.frozen_share.is_none(),
        })
    }
}

impl FlagPlatform for Builtin {
    fn name(&self) -> &str {
        BUILTIN
    }

    fn adapter(&self) -> &'static str {
        BUILTIN
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen> {
        Box::pin(bounded(STORE, self.see(&wanted.flip), within))
    }

    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        now: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()> {
        Box::pin(bounded(STORE, self.change(&wanted.flip, version, now), within))
    }

    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String> {
        Box::pin(bounded(STORE, self.served(&wanted.flip), within))
    }
}

/// What does not answer, when it does not.
const STORE: &str = "the flag store";

fn failure(error: StoreError) -> Failure {
    let why = error.to_string();
    match error {
        StoreError::VersionConflict { .. } => Failure::Conflict { why },
        error if error.is_transient() => Failure::retryable(why),
        _ => Failure::Permanent { why },
    }
}

/// How many of the sample, inside a scope, get something else than control or `off`.
fn treated(state: &FlagState, scope: &Scope) -> usize {
    sample(scope)
        .filter(|context| {
            let variant = evaluate(&state.spec, &state.overlay, context).variant;
            variant != state.spec.control.as_str() && variant != OFF
        })
        .count()
}

/// The fixed sample: keys spread over all buckets; contexts with every attribute, with none, and with each one alone, so
/// that neither a missing nor a strange attribute slips by a pin.
fn sample(scope: &Scope) -> impl Iterator<Item = Context> + '_ {
    (0..SAMPLE).map(move |n| {
        let named = |dimension: Dimension, every: usize| {
            (n % 8 != 0 && (n / 8) % every != 0)
                .then(|| format!("rearguard-probe-{}-{}", dimension.as_str(), n % 5))
        };
        Context {
            targeting_key: Some(format!("rearguard-probe-{n}")),
            tenant: named(Dimension::Tenant, 4),
            tier: named(Dimension::Tier, 3),
            region: named(Dimension::Region, 5),
        }
        .within(scope)
    })
}

/// What the flag's history says, with the human who asked for it.
fn asked(what: &str, by: Option<&str>) -> String {
    by.map_or_else(|| what.to_owned(), |by| format!("{what} asked for by {by}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::targeting::bucket;
    use crate::model::flag::{FlagOverlay, FlagSpec};

    fn state(share: u32) -> FlagState {
        FlagState {
            spec: FlagSpec {
                key: "ai.a.v2".into(),
                control: "a.v1".into(),
                treatment: "a.v2".into(),
                share,
                frozen: false,
                served: None,
                drill: false,
            },
            overlay: FlagOverlay::default(),
            declared: true,
        }
    }

    #[test]
    fn the_sample_is_spread_over_the_buckets_and_sees_shares() {
        let all = Scope::All;
        let mut deciles = [0; 10];
        for context in sample(&all) {
            let key = context.targeting_key.unwrap();
            deciles[(bucket(&"ai.a.v2".into(), &key) / 100_000) as usize] += 1;
        }
        assert!(deciles.iter().all(|n| *n > 10), "{deciles:?}");
        assert_eq!(treated(&state(1_000_000), &all), SAMPLE);
        assert_eq!(treated(&state(0), &all), 0);
        let half = treated(&state(500_000), &all);
        assert!((90..170).contains(&half), "{half}");
    }

    #[test]
    fn a_pinned_tenant_is_safe_and_the_rest_is_not() {
        let acme = Scope::Only(Dimension::Tenant, "acme".into());
        let mut pinned = state(1_000_000);
        pinned.overlay.pins.insert(acme.clone());
        assert_eq!(treated(&pinned, &acme), 0);
        assert!(treated(&pinned, &Scope::All) > 50);
        let mut killed = state(1_000_000);
        killed.overlay.killed = true;
        assert_eq!(treated(&killed, &Scope::All), 0);
    }
}
