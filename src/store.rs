//! What Rearguard remembers: SQLite (default, one process) or PostgreSQL behind one type, and snapshot files.
//!
//! In: engine outputs and positions ([`StepRecord`]), the outcomes that dispatch reports ([`RowOutcome`]), operators' changes.
//! Out: outbox rows for dispatch ([`Store::claim`]), the flags as served ([`FlagTable`]), incidents, tokens, and what a
//! restart continues from ([`Loaded`]). One transaction stores all that belongs together; nothing is acted upon before it has
//! committed. Nothing here reads a clock: every time is an argument. Nothing here talks to a platform.

mod audit;
mod commit;
mod db;
mod endings;
mod enqueue;
mod error;
mod flag_table;
mod flags;
mod grounds;
mod incidents;
mod load;
mod lock;
mod migrate;
mod outbox;
mod outbox_state;
mod plan;
mod record;
mod rollups;
pub mod snapshot;
mod timeline;
mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use audit::{AuditRow, AuditVerdict, NewAudit, REARGUARD};
pub use db::Address;
pub use error::StoreError;
pub use flag_table::{FlagState, FlagTable};
pub use flags::{ChangeKind, FlagChange, FlagWrite};
pub use grounds::StoredGrounds;
pub use incidents::{IncidentDetail, IncidentFilter, IncidentSummary, Withheld};
pub use load::{Loaded, StoredDecision};
pub use outbox::{OutboxRow, RowOutcome};
pub use outbox_state::{FlipState, OutboxCounts, OutboxStats, Recheck};
pub use plan::{
    BUILTIN, Flip, NewRow, PlanContext, Routes, RowKind, Task, Timing, message_rows, plan, plan_step,
};
pub use record::{Committed, Position, SourcePosition, StepRecord};
pub use timeline::{EntryKind, TimelineEntry};
pub use tokens::{CLI, TokenInfo, TokenScope};

/// The database. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({}, epoch {})", self.address(), self.epoch())
    }
}

struct Inner {
    db: db::Db,
    address: Address,
    flags: ArcSwap<FlagTable>,
    /// This process's number among the owners of the database, if it is the owner.
    epoch: Option<i64>,
    /// Held until the last clone is dropped.
    lock: Option<lock::Lock>,
}

impl Store {
    /// Opens beside a running daemon, for commands that write a token and leave.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let address: Address = url.parse()?;
        let db = db::Db::connect(&address).await?;
        migrate::migrate(&db).await?;
        Self::finish(db, address, None, None).await
    }

    /// Opens for reading alone, beside a running daemon or without one: takes no lock, migrates nothing.
    pub async fn open_read_only(url: &str) -> Result<Self, StoreError> {
        let address: Address = url.parse()?;
        let db = db::Db::connect_to_read(&address).await?;
        migrate::check(&db).await?;
        Self::finish(db, address, None, None).await
    }

    /// Opens as the one process that runs Rearguard on this database. A second one is refused; one that lost its lock without
    /// noticing is refused at its next write ([`StoreError::Fenced`]). `holder` names this process to the refused one.
    pub async fn open_exclusive(url: &str, holder: &str) -> Result<Self, StoreError> {
        let address: Address = url.parse()?;
        let lock = lock::Lock::take(&address).await?;
        let db = db::Db::connect(&address).await?;
        migrate::migrate(&db).await?;
        let epoch = lock::next_epoch(&db, holder, &lock).await?;
        Self::finish(db, address, Some(epoch), Some(lock)).await
    }

    async fn finish(
        db: db::Db,
        address: Address,
        epoch: Option<i64>,
        lock: Option<lock::Lock>,
    ) -> Result<Self, StoreError> {
        let store = Self { inner: Arc::new(Inner { db, address, flags: ArcSwap::default(), epoch, lock }) };
        store.refresh_flags().await?;
        Ok(store)
    }

    /// Where it is, for people: without a password.
    pub fn address(&self) -> String {
        self.inner.address.display()
    }

    /// The number of this owner of the database; zero when opened beside it.
    pub fn epoch(&self) -> i64 {
        self.inner.epoch.unwrap_or(0)
    }

    /// Whether the database answers, and whether this process still owns it.
    pub async fn check(&self) -> Result<(), StoreError> {
        let current: i64 = sqlx::query_scalar("SELECT epoch FROM owner WHERE id = 1")
            .fetch_one(&self.db().pool)
            .await
            .map_err(StoreError::db("asking the database"))?;
        if let Some(mine) = self.inner.epoch.filter(|mine| *mine != current) {
            return Err(StoreError::Fenced { mine, current });
        }
        match &self.inner.lock {
            Some(lock) => lock.check().await,
            None => Ok(()),
        }
    }

    /// Closes all connections, then gives the lock back: the orderly end, after which no clone can be used.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.db.pool.close().await;
        match &self.inner.lock {
            Some(lock) => lock.release().await,
            None => Ok(()),
        }
    }

    fn db(&self) -> &db::Db {
        &self.inner.db
    }

    /// A write transaction, fenced when this process is the owner.
    async fn write(&self) -> Result<db::Tx, StoreError> {
        self.inner.db.write(self.inner.epoch).await
    }
}
