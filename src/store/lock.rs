//! One process per database: an OS file lock beside a SQLite file, an advisory lock on PostgreSQL. Both vanish with the
//! process, however it dies. The owner's epoch in the database fences a process that lost its lock and has not noticed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sqlx::AnyConnection;
use tokio::sync::Mutex;

use super::db::{Address, Db, commit};
use super::error::StoreError;

/// The PostgreSQL lock's number: one per schema, so that several can live in one database.
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('rearguard:' || current_schema(), 0))";

/// Held while it lives.
#[derive(Debug)]
pub(super) enum Lock {
    File(File),
    Postgres(Mutex<AnyConnection>),
}

impl Lock {
    pub(super) async fn take(address: &Address) -> Result<Self, StoreError> {
        match address {
            Address::Sqlite(path) => Self::take_file(&lock_path(path)),
            Address::Postgres(_) => Self::take_postgres(address).await,
        }
    }

    fn take_file(path: &Path) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(StoreError::file("opening the lock file", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder writes its number right after locking; unreadable is "unknown", not a reason to fail otherwise.
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    holder = "unknown".to_owned();
                }
                return Err(StoreError::InUse { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::file("locking", path)(error));
            }
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()))
            .map_err(StoreError::file("writing the lock file", path))?;
        Ok(Self::File(file))
    }

    async fn take_postgres(address: &Address) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let mut connection = Db::dedicated(address).await?;
        let taken: bool = sqlx::query_scalar(TRY_LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(StoreError::db("taking the database's lock"))?;
        if taken {
            return Ok(Self::Postgres(Mutex::new(connection)));
        }
        // The table may not exist yet when two first starts race.
        let holder: Option<String> = sqlx::query_scalar("SELECT holder FROM owner WHERE id = 1")
            .fetch_optional(&mut connection)
            .await
            .unwrap_or_default();
        Err(StoreError::InUsePostgres { holder: holder.unwrap_or_else(|| "unknown".to_owned()) })
    }

    /// Lets go at once instead of when the last clone is dropped.
    pub(super) async fn release(&self) -> Result<(), StoreError> {
        match self {
            Self::File(file) => file.unlock().map_err(StoreError::file("unlocking", "the lock file")),
            Self::Postgres(connection) => {
                let mut connection = connection.lock().await;
                sqlx::query("SELECT pg_advisory_unlock_all()")
                    .execute(&mut *connection)
                    .await
                    .map_err(StoreError::db("giving the database's lock back"))?;
                Ok(())
            }
        }
    }

    /// Whether the lock's connection lives. A file lock cannot be lost.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Postgres(connection) => {
                let mut connection = connection.lock().await;
                let _: i64 = sqlx::query_scalar("SELECT CAST(1 AS BIGINT)")
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(StoreError::db("asking the lock's connection"))?;
                Ok(())
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child process between its fork and its exec holds a copy of the descriptor: closing ours would not unlock.
        if let Self::File(file) = self {
            let _ = file.unlock();
        }
    }
}

/// `<database>.lock`, beside the database itself, by whatever link it is called. Before the first start there is no file yet.
fn lock_path(database: &Path) -> PathBuf {
    let database = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name = database.into_os_string();
    name.push(".lock");
    PathBuf::from(name)
}

/// Makes this process the owner: writes of earlier ones are refused from now on. A file lock is free only when its holder's
/// process is gone, so whatever that one had claimed is under way no more: it is free at once, not when its lease runs out.
/// PostgreSQL may free a lock whose holder lives; there leases are waited for.
pub(super) async fn next_epoch(db: &Db, holder: &str, lock: &Lock) -> Result<i64, StoreError> {
    let mut tx = db.write(None).await?;
    let epoch: i64 =
        sqlx::query_scalar("UPDATE owner SET epoch = epoch + 1, holder = $1 WHERE id = 1 RETURNING epoch")
            .bind(holder)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::db("becoming the owner"))?;
    if let Lock::File(_) = lock {
        sqlx::query("UPDATE outbox SET lease_until = 0 WHERE status = 'claimed'")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("freeing a dead owner's claims"))?;
    }
    commit(tx).await?;
    Ok(epoch)
}
