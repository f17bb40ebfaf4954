//! What can go wrong in the store, and whether trying again can help.

use std::path::PathBuf;

use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey, IncidentId};

/// An error of the store. [`is_transient`](Self::is_transient) tells whether the same call may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error, or did not answer.
    #[error("{doing}: {source}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "another rearguard (process {holder}) uses this database and holds {}; SQLite serves one process: stop that one, or use PostgreSQL",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
    #[error("another rearguard ({holder}) holds this PostgreSQL database's lock")]
    InUsePostgres { holder: String },
    #[error(
        "SQLite {found} is linked; 3.51.3 or later is needed (earlier ones can lose committed data in WAL mode)"
    )]
    OldSqlite { found: String },
    #[error("`{url}` is no database address: `sqlite:<path>` or `postgres://…`")]
    BadAddress { url: String },
    #[error("the database has schema {found}; this rearguard knows up to {known}: use the newer rearguard")]
    NewerSchema { found: i64, known: i64 },
    #[error(
        "the database has schema {found}, this rearguard reads {known}: start the daemon, which migrates it"
    )]
    OlderSchema { found: i64, known: i64 },
    #[error("migration {version} ({name}) is not the one that made this database: checksums differ")]
    ChangedMigration { version: i64, name: String },
    /// Another process has taken this database over since it was opened here.
    #[error(
        "another rearguard has taken this database over, so this one stops (its epoch is {mine}, the database's {current})"
    )]
    Fenced { mine: i64, current: i64 },
    /// The same decision id came with another content.
    #[error("decision {decision} is stored with a different content")]
    DecisionDiffers { decision: DecisionId },
    #[error("flag `{flag}` is latched in scope `{scope}` already")]
    LatchOpen { flag: FlagKey, scope: Scope },
    #[error("flag `{flag}` has an open incident already: {open}")]
    IncidentOpen { flag: FlagKey, open: IncidentId },
    #[error("no incident `{0}` is stored")]
    NoSuchIncident(IncidentId),
    #[error("incident `{0}` is resolved")]
    IncidentResolved(IncidentId),
    #[error("no flag `{0}` is known")]
    UnknownFlag(FlagKey),
    /// A conditional write came too late.
    #[error("flag `{flag}` is at version {current}, not {expected}: read it again")]
    VersionConflict { flag: FlagKey, expected: u64, current: u64 },
    /// A worker reported on a row that was claimed by another, or finished, in the meantime.
    #[error("outbox row {row} is no longer held under epoch {epoch}")]
    Stale { row: i64, epoch: i64 },
    #[error("a token named `{0}` exists")]
    TokenExists(String),
    #[error("no valid token named `{0}`")]
    NoSuchToken(String),
    #[error("a snapshot of {0} bytes is too large")]
    SnapshotTooLarge(u64),
    #[error("no randomness: {0}")]
    Random(String),
    /// A stored value cannot be read back.
    #[error("{what} is not readable: {why}")]
    Corrupt { what: String, why: String },
}

impl StoreError {
    pub(super) fn db(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    pub(super) fn corrupt(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }

    /// Whether the same call may succeed later without anybody changing anything but the surroundings: busy, locked,
    /// connection lost, disk full.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } => transient(source),
            Self::File { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::Interrupted
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::ResourceBusy
            ),
            Self::Random(_) => true,
            _ => false,
        }
    }
}

fn transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| transient_code(&code)),
        _ => false,
    }
}

/// SQLite gives extended result codes as numbers, PostgreSQL SQLSTATEs of five characters.
fn transient_code(code: &str) -> bool {
    if code.len() == 5 {
        // Connection exception, insufficient resources, operator intervention, system error; serialization and deadlock.
        return ["08", "53", "57", "58"].contains(&&code[..2]) || ["40001", "40P01", "55P03"].contains(&code);
    }
    // SQLITE_BUSY, LOCKED, NOMEM, IOERR, FULL, CANTOPEN, PROTOCOL: the low byte of an extended code.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 7 | 10 | 13 | 14 | 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_lost_and_full_are_transient_and_the_rest_is_not() {
        for code in ["5", "517", "6", "13", "10", "40001", "53100", "57P01", "08006"] {
            assert!(transient_code(code), "{code}");
        }
        for code in ["19", "1", "2067", "23505", "42P01", "22P02"] {
            assert!(!transient_code(code), "{code}");
        }
        assert!(StoreError::db("x")(sqlx::Error::PoolTimedOut).is_transient());
        assert!(!StoreError::UnknownFlag("f".into()).is_transient());
    }
}
