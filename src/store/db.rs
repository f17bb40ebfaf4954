//! Connections and transactions. Writers take turns: every write transaction begins by locking (and, for the owner of the
//! database, checking) the `owner` row, on both databases, so each sees all that was committed before.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Connection, Executor, Row, Transaction};

use super::error::StoreError;

/// How long SQLite waits for another writer, and a caller for a free connection.
const BUSY: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 4;

/// Which database an address names.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    Sqlite(PathBuf),
    Postgres(String),
}

impl FromStr for Address {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path {
            Some(path) if !path.is_empty() && !path.starts_with(":memory:") => {
                Ok(Self::Sqlite(PathBuf::from(path)))
            }
            _ => Err(StoreError::BadAddress { url: without_password(url) }),
        }
    }
}

impl Address {
    /// The pool's URL. Bytes of a path that mean something in a URL are escaped. `mode` is SQLite's.
    fn url(&self, mode: &str) -> String {
        match self {
            Self::Postgres(url) => url.clone(),
            Self::Sqlite(path) => {
                let mut url = String::from("sqlite://");
                for byte in path.as_os_str().as_encoded_bytes() {
                    if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
                        url.push(char::from(*byte));
                    } else {
                        url.push_str(&format!("%{byte:02X}"));
                    }
                }
                url.push_str(&format!("?mode={mode}"));
                url
            }
        }
    }

    /// For people and logs: never with a password.
    pub fn display(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => without_password(url),
        }
    }
}

/// Never with a password.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

/// A URL without what stands before its host, and without its query. A password may hold a `?`, and whoever mistyped the
/// scheme does not want to read it in a log either.
fn without_password(url: &str) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let rest = match url.rsplit_once('@') {
        Some((_, host)) => host,
        None => url.split_once("://").map_or(url, |(_, rest)| rest),
    };
    let rest = rest.split('?').next().unwrap_or_default();
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// A pool and what kind of database is behind it.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) pool: AnyPool,
    pub(super) sqlite: bool,
}

pub(super) type Tx = Transaction<'static, Any>;

impl Db {
    pub(super) async fn connect(address: &Address) -> Result<Self, StoreError> {
        let first = match address {
            Address::Sqlite(_) => PRAGMAS,
            Address::Postgres(_) => "",
        };
        Self::connect_as(address, "rwc", first).await
    }

    /// For reading alone: what is there is not touched.
    pub(super) async fn connect_to_read(address: &Address) -> Result<Self, StoreError> {
        let first = match address {
            Address::Sqlite(_) => READ_PRAGMAS,
            Address::Postgres(_) => READ_SESSION,
        };
        Self::connect_as(address, "ro", first).await
    }

    /// `first` is run on every new connection.
    async fn connect_as(address: &Address, mode: &str, first: &'static str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions =
            address.url(mode).parse().map_err(StoreError::db("reading the database address"))?;
        let sqlite = matches!(address, Address::Sqlite(_));
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if !first.is_empty() {
                        connection.execute(first).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(StoreError::db("opening the database"))?;
        let db = Self { pool, sqlite };
        if sqlite {
            db.check_sqlite_version().await?;
        }
        Ok(db)
    }

    async fn check_sqlite_version(&self) -> Result<(), StoreError> {
        let found: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::db("asking for SQLite's version"))?;
        if version(&found) < [3, 51, 3] {
            return Err(StoreError::OldSqlite { found });
        }
        Ok(())
    }

    /// A write transaction: it holds the writers' lock from its start. `epoch` is the owner's, checked if there is one.
    pub(super) async fn write(&self, epoch: Option<i64>) -> Result<Tx, StoreError> {
        let begin = if self.sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let mut tx = self.pool.begin_with(begin).await.map_err(StoreError::db("beginning a transaction"))?;
        let lock = if self.sqlite {
            "SELECT epoch FROM owner WHERE id = 1"
        } else {
            "SELECT epoch FROM owner WHERE id = 1 FOR UPDATE"
        };
        let current: i64 = sqlx::query_scalar(lock)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::db("taking the writers' lock"))?;
        match epoch {
            Some(mine) if mine != current => Err(StoreError::Fenced { mine, current }),
            _ => Ok(tx),
        }
    }

    /// A read transaction: all its statements see the same state.
    pub(super) async fn read(&self) -> Result<Tx, StoreError> {
        let begin = if self.sqlite { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        self.pool.begin_with(begin).await.map_err(StoreError::db("beginning to read"))
    }

    /// A connection of its own, outside the pool.
    pub(super) async fn dedicated(address: &Address) -> Result<sqlx::AnyConnection, StoreError> {
        sqlx::AnyConnection::connect(&address.url("rwc"))
            .await
            .map_err(StoreError::db("opening the lock's connection"))
    }
}

pub(super) async fn commit(tx: Tx) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::db("committing"))
}

/// `busy_timeout` first: switching to WAL takes a lock.
const PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA foreign_keys = ON;";

/// Nothing that could write: the database is in WAL mode already.
const READ_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON;";

const READ_SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";

fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Reading columns with an error that says which.
pub(super) trait Columns {
    fn int(&self, column: &'static str) -> Result<i64, StoreError>;
    fn text(&self, column: &'static str) -> Result<String, StoreError>;
    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, StoreError>;
    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError>;

    fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|why| StoreError::corrupt(format!("column `{column}`"), why))
    }
}

impl Columns for AnyRow {
    fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.try_get(column).map_err(StoreError::db("reading a number"))
    }
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.try_get(column).map_err(StoreError::db("reading a text"))
    }
    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(StoreError::db("reading a number"))
    }
    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(StoreError::db("reading a text"))
    }
}

/// A value as stored JSON. Only maps with keys that are no strings can fail, and none is stored.
pub(super) fn json<T: serde::Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|why| StoreError::corrupt(what, why))
}

/// Numbers of the engine are u64; SQL has i64.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_passwords() {
        assert_eq!(
            "sqlite:/var/lib/a b?.db".parse::<Address>().unwrap().url("rwc"),
            "sqlite:///var/lib/a%20b%3F.db?mode=rwc"
        );
        let pg: Address = "postgres://u:secret@h:5432/d?x=y".parse().unwrap();
        assert_eq!(pg.display(), "postgres://h:5432/d");
        assert_eq!(format!("{pg:?}"), "postgres://h:5432/d");
        let odd: Address = "postgres://u:a?secret@h/d?x=y".parse().unwrap();
        assert_eq!(odd.display(), "postgres://h/d");
        for bad in [
            "mysql://u:secret@h/d",
            "mysql://u:secret?more@h/d",
            "postgres:/u:secret@h/d",
            "sqlite:",
            "sqlite::memory:",
            "x.db",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(version("3.51.3") >= [3, 51, 3] && version("3.9.9") < [3, 51, 3]);
    }

    #[tokio::test]
    async fn every_connection_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::connect(&Address::Sqlite(folder.path().join("x.db"))).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = db.pool.acquire().await.unwrap();
            let mode: String =
                sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.unwrap();
            assert_eq!(mode, "wal");
            for (pragma, wanted) in
                [("PRAGMA synchronous", 2_i64), ("PRAGMA foreign_keys", 1), ("PRAGMA busy_timeout", 10_000)]
            {
                let found: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *connection).await.unwrap();
                assert_eq!(found, wanted, "{pragma}");
            }
            held.push(connection);
        }
    }
}
