//! The schema and its history. Migrations are compiled in, each with a checksum; a database made by a newer Rearguard, or
//! by another text of the same migration, is refused.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Executor};

use super::db::{Columns, Db, commit};
use super::error::StoreError;

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// In order; never edited once released.
const MIGRATIONS: [Migration; 4] = [
    Migration {
        version: 1,
        name: "start",
        sqlite: include_str!("migrations/sqlite/0001_start.sql"),
        postgres: include_str!("migrations/postgres/0001_start.sql"),
    },
    Migration {
        version: 2,
        name: "grounds",
        sqlite: include_str!("migrations/sqlite/0002_grounds.sql"),
        postgres: include_str!("migrations/postgres/0002_grounds.sql"),
    },
    Migration {
        version: 3,
        name: "rollups",
        sqlite: include_str!("migrations/sqlite/0003_rollups.sql"),
        postgres: include_str!("migrations/postgres/0003_rollups.sql"),
    },
    Migration {
        version: 4,
        name: "undo",
        sqlite: include_str!("migrations/sqlite/0004_undo.sql"),
        postgres: include_str!("migrations/postgres/0004_undo.sql"),
    },
];

const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Brings the schema up to date, in one transaction, one process at a time.
pub(super) async fn migrate(db: &Db) -> Result<(), StoreError> {
    let begin = if db.sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut tx = db.pool.begin_with(begin).await.map_err(StoreError::db("beginning to migrate"))?;
    if !db.sqlite {
        // Before the first migration there is no table to lock.
        tx.execute("SELECT pg_advisory_xact_lock(hashtext('rearguard migrate'))")
            .await
            .map_err(StoreError::db("waiting for another migration"))?;
    }
    tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_version
         (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)",
    )
    .await
    .map_err(StoreError::db("reading the schema's version"))?;
    let done = sqlx::query("SELECT version, checksum FROM schema_version ORDER BY version")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading the schema's version"))?;
    if let Some(last) = done.last() {
        let found = last.int("version")?;
        if found > KNOWN {
            return Err(StoreError::NewerSchema { found, known: KNOWN });
        }
    }
    for migration in &MIGRATIONS {
        let text = if db.sqlite { migration.sqlite } else { migration.postgres };
        let checksum = blake3::hash(text.as_bytes()).to_hex().to_string();
        match stored(&done, migration.version)? {
            Some(stored) if stored == checksum => {}
            Some(_) => {
                return Err(StoreError::ChangedMigration {
                    version: migration.version,
                    name: migration.name.to_owned(),
                });
            }
            None => apply(&mut tx, migration, text, &checksum).await?,
        }
    }
    commit(tx).await
}

/// Whether this version can read the schema as it is.
pub(super) async fn check(db: &Db) -> Result<(), StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM schema_version")
        .fetch_one(&db.pool)
        .await
        .map_err(StoreError::db("reading the schema's version"))?;
    match found.unwrap_or(0) {
        found if found > KNOWN => Err(StoreError::NewerSchema { found, known: KNOWN }),
        found if found < KNOWN => Err(StoreError::OlderSchema { found, known: KNOWN }),
        _ => Ok(()),
    }
}

/// The checksum under which a version was applied.
fn stored(done: &[AnyRow], version: i64) -> Result<Option<String>, StoreError> {
    for row in done {
        if row.int("version")? == version {
            return row.text("checksum").map(Some);
        }
    }
    Ok(None)
}

async fn apply(
    tx: &mut AnyConnection,
    migration: &Migration,
    text: &'static str,
    checksum: &str,
) -> Result<(), StoreError> {
    sqlx::raw_sql(text).execute(&mut *tx).await.map_err(StoreError::db("migrating the schema"))?;
    sqlx::query("INSERT INTO schema_version (version, name, checksum) VALUES ($1, $2, $3)")
        .bind(migration.version)
        .bind(migration.name)
        .bind(checksum)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("recording a migration"))?;
    Ok(())
}
