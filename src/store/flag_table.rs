//! The flags as they are served: a view in memory, replaced as a whole after each committed change.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::Store;
use super::db::{Columns, Tx, commit, unsigned};
use super::error::StoreError;
use crate::engine::targeting;
use crate::model::flag::{FlagOverlay, FlagSpec, Scope};
use crate::model::id::FlagKey;

/// One flag: as declared, and what has happened to it since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FlagState {
    pub spec: FlagSpec,
    pub overlay: FlagOverlay,
    /// Whether configuration still names it. A flag that it no longer names keeps its pins.
    pub declared: bool,
}

impl FlagState {
    /// The treatment's share in force, in parts per million, before pins and kill.
    pub fn share(&self) -> u32 {
        targeting::share(&self.spec, &self.overlay)
    }
}

/// All flags at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagTable {
    flags: BTreeMap<FlagKey, Arc<FlagState>>,
    revision: u64,
}

impl FlagTable {
    pub fn get(&self, key: &FlagKey) -> Option<&Arc<FlagState>> {
        self.flags.get(key)
    }

    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&FlagKey, &Arc<FlagState>)> {
        self.flags.iter()
    }

    pub fn len(&self) -> usize {
        self.flags.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Grows with every change of any flag: an `ETag` of the whole.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Store {
    /// The flags as served now. No I/O.
    pub fn flags(&self) -> Arc<FlagTable> {
        self.inner.flags.load_full()
    }

    /// Reads the flags anew: changes made by this process are served already, another's come with this.
    pub async fn refresh_flags(&self) -> Result<(), StoreError> {
        let mut tx = self.db().read().await?;
        let table = read_flags(&mut tx).await?;
        self.serve(table);
        Ok(())
    }

    /// One flag from the database: what a read-back wants.
    pub async fn flag(&self, key: &FlagKey) -> Result<FlagState, StoreError> {
        let mut tx = self.db().read().await?;
        let table = read_flags(&mut tx).await?;
        let state = table.get(key).map(|state| FlagState::clone(state));
        state.ok_or_else(|| StoreError::UnknownFlag(key.clone()))
    }

    /// Commits a change of flags and serves it. The table is read before the commit and replaced right after, so that
    /// nothing can fail or be cancelled between the two.
    pub(super) async fn commit_flags(&self, mut tx: Tx) -> Result<(), StoreError> {
        let table = read_flags(&mut tx).await?;
        commit(tx).await?;
        self.serve(table);
        Ok(())
    }

    /// Two may come at once; the one that has seen more wins.
    fn serve(&self, table: FlagTable) {
        let table = Arc::new(table);
        self.inner.flags.rcu(|current| {
            if current.revision > table.revision { Arc::clone(current) } else { Arc::clone(&table) }
        });
    }
}

async fn read_flags(tx: &mut AnyConnection) -> Result<FlagTable, StoreError> {
    let rows = sqlx::query("SELECT * FROM flags ORDER BY key")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading the flags"))?;
    let pins = sqlx::query("SELECT flag, scope FROM flag_pins")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading the flags' pins"))?;
    let mut states = BTreeMap::new();
    let mut revision = 0;
    for row in &rows {
        let state = read_state(row)?;
        revision += state.overlay.version;
        states.insert(FlagKey::from(row.text("key")?), state);
    }
    for pin in &pins {
        if let Some(state) = states.get_mut(&FlagKey::from(pin.text("flag")?)) {
            let scope = Scope::try_from(pin.text("scope")?)
                .map_err(|why| StoreError::corrupt("a pin's scope", why))?;
            state.overlay.pins.insert(scope);
        }
    }
    let flags = states.into_iter().map(|(key, s)| (key, Arc::new(s)));
    Ok(FlagTable { flags: flags.collect(), revision })
}

/// A row of `flags`, without its pins.
pub(super) fn read_state(row: &AnyRow) -> Result<FlagState, StoreError> {
    let share = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok());
    let held = share(row.maybe_int("held_share")?);
    Ok(FlagState {
        spec: row.json("spec")?,
        overlay: FlagOverlay {
            frozen_share: share(row.maybe_int("frozen_share")?).or(held),
            pins: std::collections::BTreeSet::new(),
            killed: row.int("killed")? != 0,
            version: unsigned(row.int("version")?),
        },
        declared: row.int("declared")? != 0,
    })
}
