//! Access tokens: 256 bits of randomness, shown once, stored as SHA-256, compared in constant time, revocable.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq;

use super::Store;
use super::audit::{self, NewAudit, REARGUARD};
use super::db::{Columns, commit, json};
use super::error::StoreError;
use super::flags::CONFIG;
use crate::model::time::Timestamp;

/// So that a leaked token is recognised by scanners and people.
const PREFIX: &str = "rg_";

/// The actor of what is done on the database itself, beside the daemon.
pub const CLI: &str = "cli";

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Gateways: OFREP, notices.
    Evaluate,
    Metrics,
    Read,
    Ack,
    /// Pause, roll back, kill, automation.
    Operate,
    Rearm,
    Consent,
    /// Everything.
    Admin,
}

impl TokenScope {
    pub const ALL: [Self; 8] = [
        Self::Evaluate,
        Self::Metrics,
        Self::Read,
        Self::Ack,
        Self::Operate,
        Self::Rearm,
        Self::Consent,
        Self::Admin,
    ];

    /// The word of command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Ack => "ack",
            Self::Operate => "operate",
            Self::Rearm => "rearm",
            Self::Consent => "consent",
            Self::Admin => "admin",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// The actor in audit rows.
    pub name: String,
    pub scopes: Vec<TokenScope>,
    pub created: Timestamp,
    pub revoked: Option<Timestamp>,
}

/// Actors that are no human's token: a change by one of these names is not a human's.
const RESERVED: [&str; 3] = [REARGUARD, CONFIG, CLI];

impl TokenInfo {
    /// What [`Self::is_name`] asks for, in words.
    pub const NAMES: &'static str =
        "1 to 64 letters, digits, `-`, `_`, `.` or `@`, and not `rearguard`, `config` or `cli`";

    /// Whether a token may be called this.
    pub fn is_name(text: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
        let reserved = RESERVED.iter().any(|name| name.eq_ignore_ascii_case(text));
        (1..=64).contains(&text.len()) && text.bytes().all(plain) && !reserved
    }

    /// Whether it may do this; `admin` may do all.
    pub fn allows(&self, scope: TokenScope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&TokenScope::Admin)
    }
}

impl Store {
    /// Makes a token by the command line, which works on the database itself. See [`Self::create_token_by`].
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[TokenScope],
        now: Timestamp,
    ) -> Result<String, StoreError> {
        self.create_token_by(CLI, name, scopes, now).await
    }

    /// Makes a token and gives its plaintext, the only time that it is known. A revoked name may be used again.
    pub async fn create_token_by(
        &self,
        actor: &str,
        name: &str,
        scopes: &[TokenScope],
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let plaintext = random_token()?;
        let mut sorted = scopes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let words = json("scopes", &sorted)?;
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM tokens WHERE name = $1 AND revoked IS NOT NULL")
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("replacing a revoked token"))?;
        let hit = sqlx::query(
            "INSERT INTO tokens (name, hash, scopes, created) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(digest(&plaintext))
        .bind(&*words)
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("storing a token"))?;
        if hit.rows_affected() == 0 {
            return Err(StoreError::TokenExists(name.to_owned()));
        }
        let row = NewAudit::new(actor, "token_create", name, &*words);
        audit::append(&mut tx, now, &row).await?;
        commit(tx).await?;
        Ok(plaintext)
    }

    /// The token that this plaintext is, unless it is unknown or revoked.
    pub async fn verify_token(&self, plaintext: &str) -> Result<Option<TokenInfo>, StoreError> {
        if !plaintext.starts_with(PREFIX) {
            return Ok(None);
        }
        let presented = digest(plaintext);
        let rows = sqlx::query("SELECT * FROM tokens WHERE revoked IS NULL ORDER BY name")
            .fetch_all(&self.db().pool)
            .await
            .map_err(StoreError::db("checking a token"))?;
        // Every row is compared, and each in constant time, so that timing tells nothing.
        let mut found = None;
        for row in &rows {
            let stored = row.text("hash")?;
            if bool::from(stored.as_bytes().ct_eq(presented.as_bytes())) {
                found = Some(read_token(row)?);
            }
        }
        Ok(found)
    }

    /// Ends a token at once.
    pub async fn revoke_token(&self, name: &str, actor: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let hit = sqlx::query("UPDATE tokens SET revoked = $1 WHERE name = $2 AND revoked IS NULL")
            .bind(now.as_millis())
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("revoking a token"))?;
        if hit.rows_affected() == 0 {
            return Err(StoreError::NoSuchToken(name.to_owned()));
        }
        let row = NewAudit::new(actor, "token_revoke", name, "");
        audit::append(&mut tx, now, &row).await?;
        commit(tx).await
    }

    /// All tokens, revoked ones too.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY name")
            .fetch_all(&self.db().pool)
            .await
            .map_err(StoreError::db("listing tokens"))?;
        rows.iter().map(read_token).collect()
    }
}

fn random_token() -> Result<String, StoreError> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|why| StoreError::Random(why.to_string()))?;
    Ok(format!("{PREFIX}{}", hex::encode(secret)))
}

fn digest(plaintext: &str) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(plaintext.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read_token(row: &AnyRow) -> Result<TokenInfo, StoreError> {
    Ok(TokenInfo {
        name: row.text("name")?,
        scopes: row.json("scopes")?,
        created: Timestamp::from_millis(row.int("created")?),
        revoked: row.maybe_int("revoked")?.map(Timestamp::from_millis),
    })
}
