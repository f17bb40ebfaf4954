//! Changes of the built-in flag store. Each is one transaction: the flag's row moves one version on, and a row says who did
//! it; then the served table is replaced.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::Store;
use super::audit::{self, NewAudit, REARGUARD};
use super::db::{Columns, json, signed, unsigned};
use super::error::StoreError;
use super::flag_table::{FlagState, read_state};
use super::plan::Flip;
use crate::model::flag::{FlagSpec, Scope};
use crate::model::id::{DecisionId, FlagKey};
use crate::model::time::Timestamp;

/// The actor of changes that come from the configuration file.
pub(super) const CONFIG: &str = "config";

/// What was done to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Declare,
    Undeclare,
    Pin,
    Unpin,
    Freeze,
    Unfreeze,
    Kill,
    Unkill,
}

impl ChangeKind {
    const ALL: [Self; 8] = [
        Self::Declare,
        Self::Undeclare,
        Self::Pin,
        Self::Unpin,
        Self::Freeze,
        Self::Unfreeze,
        Self::Kill,
        Self::Unkill,
    ];

    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declare => "declare",
            Self::Undeclare => "undeclare",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Kill => "kill",
            Self::Unkill => "unkill",
        }
    }
}

/// Who changed what, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlagChange {
    pub flag: FlagKey,
    /// The flag's version after the change.
    pub version: u64,
    pub at: Timestamp,
    /// `rearguard`, `config`, or a human's token name.
    pub actor: String,
    pub kind: ChangeKind,
    pub scope: Option<Scope>,
    pub decision: Option<DecisionId>,
    pub reason: String,
}

/// The result of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagWrite {
    /// The flag's version now.
    pub version: u64,
    /// False: it was so already, nothing was written.
    pub changed: bool,
}

/// A change before it is made.
struct Edit<'a> {
    flag: &'a FlagKey,
    kind: ChangeKind,
    scope: Option<&'a Scope>,
    decision: Option<&'a DecisionId>,
    actor: &'a str,
    reason: &'a str,
    expected: Option<u64>,
}

impl<'a> Edit<'a> {
    /// A change of the flag as a whole, whatever its version.
    const fn new(flag: &'a FlagKey, kind: ChangeKind, actor: &'a str, reason: &'a str) -> Self {
        Self { flag, kind, scope: None, decision: None, actor, reason, expected: None }
    }
}

impl Store {
    /// Takes in the flags of the configuration. The share of a frozen flag does not move; flags no longer named stay, with
    /// their pins, as undeclared.
    pub async fn declare(&self, specs: &[FlagSpec], now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let stored = sqlx::query("SELECT * FROM flags ORDER BY key")
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::db("reading the flags"))?;
        for spec in specs {
            declare_one(&mut tx, spec, now).await?;
        }
        for row in &stored {
            let key = FlagKey::from(row.text("key")?);
            if row.int("declared")? != 0 && !specs.iter().any(|spec| spec.key == key) {
                sqlx::query("UPDATE flags SET declared = 0 WHERE key = $1")
                    .bind(key.as_str())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::db("undeclaring a flag"))?;
                let reason = "no longer in the configuration";
                record(&mut tx, &Edit::new(&key, ChangeKind::Undeclare, CONFIG, reason), now).await?;
            }
        }
        self.commit_flags(tx).await
    }

    /// Pins control in `scope`, if the flag still has `expected`'s version.
    pub async fn pin(
        &self,
        flag: &FlagKey,
        scope: &Scope,
        decision: &DecisionId,
        why: &str,
        expected: u64,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        let edit = Edit::new(flag, ChangeKind::Pin, REARGUARD, why);
        let (scope, decision, expected) = (Some(scope), Some(decision), Some(expected));
        self.edit(&Edit { scope, decision, expected, ..edit }, now).await
    }

    /// Takes a pin off: a human re-armed.
    pub async fn unpin(
        &self,
        flag: &FlagKey,
        scope: &Scope,
        actor: &str,
        expected: u64,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        let edit = Edit::new(flag, ChangeKind::Unpin, actor, "re-armed");
        self.edit(&Edit { scope: Some(scope), expected: Some(expected), ..edit }, now).await
    }

    /// Holds the share where it stands.
    pub async fn freeze(
        &self,
        flag: &FlagKey,
        decision: &DecisionId,
        why: &str,
        expected: u64,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        let edit = Edit::new(flag, ChangeKind::Freeze, REARGUARD, why);
        self.edit(&Edit { decision: Some(decision), expected: Some(expected), ..edit }, now).await
    }

    /// Lets the share follow the configuration again.
    pub async fn unfreeze(
        &self,
        flag: &FlagKey,
        why: &str,
        expected: u64,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        let edit = Edit::new(flag, ChangeKind::Unfreeze, REARGUARD, why);
        self.edit(&Edit { expected: Some(expected), ..edit }, now).await
    }

    /// Turns the feature off, whatever its version: a human's emergency switch.
    pub async fn kill(
        &self,
        flag: &FlagKey,
        actor: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        self.edit(&Edit::new(flag, ChangeKind::Kill, actor, reason), now).await
    }

    /// Turns the feature on again.
    pub async fn unkill(
        &self,
        flag: &FlagKey,
        actor: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        self.edit(&Edit::new(flag, ChangeKind::Unkill, actor, reason), now).await
    }

    /// Writes down what a flip has changed on another platform: there it is in force, here it is Rearguard's account of it.
    pub async fn note_flip(
        &self,
        flip: &Flip,
        reason: &str,
        now: Timestamp,
    ) -> Result<FlagWrite, StoreError> {
        let (kind, actor, decision) = match flip {
            Flip::Pin { decision, .. } => (ChangeKind::Pin, REARGUARD, Some(decision)),
            Flip::Unpin { actor, .. } => (ChangeKind::Unpin, actor.as_str(), None),
            Flip::Freeze { decision, .. } => (ChangeKind::Freeze, REARGUARD, Some(decision)),
            Flip::Unfreeze { .. } => (ChangeKind::Unfreeze, REARGUARD, None),
        };
        let scope = flip.scope();
        let edit = Edit::new(flip.flag(), kind, actor, reason);
        self.edit(&Edit { scope: Some(&scope), decision, ..edit }, now).await
    }

    async fn edit(&self, edit: &Edit<'_>, now: Timestamp) -> Result<FlagWrite, StoreError> {
        let mut tx = self.write().await?;
        let (state, _) =
            one(&mut tx, edit.flag).await?.ok_or_else(|| StoreError::UnknownFlag(edit.flag.clone()))?;
        let current = state.overlay.version;
        if let Some(expected) = edit.expected.filter(|expected| *expected != current) {
            return Err(StoreError::VersionConflict { flag: edit.flag.clone(), expected, current });
        }
        if !apply(&mut tx, edit, &state, now).await? {
            return Ok(FlagWrite { version: current, changed: false });
        }
        let version = record(&mut tx, edit, now).await?;
        self.commit_flags(tx).await?;
        Ok(FlagWrite { version, changed: true })
    }

    /// The newest changes of a flag, newest first.
    pub async fn flag_changes(&self, flag: &FlagKey, limit: u32) -> Result<Vec<FlagChange>, StoreError> {
        let rows = sqlx::query("SELECT * FROM flag_changes WHERE flag = $1 ORDER BY version DESC LIMIT $2")
            .bind(flag.as_str())
            .bind(i64::from(limit))
            .fetch_all(&self.db().pool)
            .await
            .map_err(StoreError::db("reading a flag's changes"))?;
        rows.iter().map(read_change).collect()
    }
}

/// Changes the flag's row; false when it was so already.
async fn apply(
    tx: &mut AnyConnection,
    edit: &Edit<'_>,
    state: &FlagState,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let key = edit.flag.as_str();
    let scope = edit.scope.map(ToString::to_string);
    let query = match edit.kind {
        ChangeKind::Pin => sqlx::query(
            "INSERT INTO flag_pins (flag, scope, decision, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (flag, scope) DO NOTHING",
        )
        .bind(key)
        .bind(scope)
        .bind(edit.decision.map(ToString::to_string))
        .bind(now.as_millis()),
        ChangeKind::Unpin => {
            sqlx::query("DELETE FROM flag_pins WHERE flag = $1 AND scope = $2").bind(key).bind(scope)
        }
        ChangeKind::Freeze => sqlx::query(
            "UPDATE flags SET frozen_share = $1, frozen_by = $2 WHERE key = $3 AND frozen_share IS NULL",
        )
        .bind(i64::from(state.share()))
        .bind(edit.decision.map(ToString::to_string))
        .bind(key),
        ChangeKind::Unfreeze => sqlx::query(
            "UPDATE flags SET frozen_share = NULL, frozen_by = NULL
             WHERE key = $1 AND frozen_share IS NOT NULL",
        )
        .bind(key),
        ChangeKind::Kill => {
            sqlx::query("UPDATE flags SET killed = 1 WHERE key = $1 AND killed = 0").bind(key)
        }
        ChangeKind::Unkill => {
            sqlx::query("UPDATE flags SET killed = 0 WHERE key = $1 AND killed = 1").bind(key)
        }
        ChangeKind::Declare | ChangeKind::Undeclare => return Ok(false),
    };
    let hit = query.execute(&mut *tx).await.map_err(StoreError::db("changing a flag"))?;
    Ok(hit.rows_affected() > 0)
}

async fn declare_one(tx: &mut AnyConnection, spec: &FlagSpec, now: Timestamp) -> Result<(), StoreError> {
    let text = json("a flag", spec)?;
    let Some((old, held)) = one(tx, &spec.key).await? else {
        sqlx::query("INSERT INTO flags (key, spec, declared, held_share) VALUES ($1, $2, 1, $3)")
            .bind(spec.key.as_str())
            .bind(text)
            .bind(spec.frozen.then_some(i64::from(spec.share)))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("declaring a flag"))?;
        let edit = Edit::new(&spec.key, ChangeKind::Declare, CONFIG, "new");
        record(tx, &edit, now).await?;
        return Ok(());
    };
    if old.declared && old.spec == *spec {
        return Ok(());
    }
    // Declared frozen: the share stays where it stood when that was first seen.
    let stood = if old.declared { old.spec.share } else { spec.share };
    let held = spec.frozen.then_some(held.unwrap_or(i64::from(stood)));
    sqlx::query("UPDATE flags SET spec = $1, declared = 1, held_share = $2 WHERE key = $3")
        .bind(text)
        .bind(held)
        .bind(spec.key.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("declaring a flag"))?;
    let edit = Edit::new(&spec.key, ChangeKind::Declare, CONFIG, "changed");
    record(tx, &edit, now).await?;
    Ok(())
}

/// Moves the flag's version on and writes down who did it, in the flag's history and in the audit chain.
async fn record(tx: &mut AnyConnection, edit: &Edit<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let version: i64 =
        sqlx::query_scalar("UPDATE flags SET version = version + 1 WHERE key = $1 RETURNING version")
            .bind(edit.flag.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::db("moving a flag's version"))?;
    sqlx::query(
        "INSERT INTO flag_changes (flag, version, at, actor, kind, scope, decision, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(edit.flag.as_str())
    .bind(version)
    .bind(now.as_millis())
    .bind(edit.actor)
    .bind(edit.kind.as_str())
    .bind(edit.scope.map(ToString::to_string))
    .bind(edit.decision.map(ToString::to_string))
    .bind(edit.reason)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("recording a flag's change"))?;
    let scope = edit.scope.map_or_else(String::new, |scope| format!(" in {scope}"));
    let detail = format!("version {version}{scope}: {}", edit.reason);
    let kind = format!("flag_{}", edit.kind.as_str());
    let row = NewAudit::new(edit.actor, kind, edit.flag.as_str(), detail);
    audit::append(tx, now, &row).await?;
    Ok(unsigned(version))
}

async fn one(tx: &mut AnyConnection, key: &FlagKey) -> Result<Option<(FlagState, Option<i64>)>, StoreError> {
    let row = sqlx::query("SELECT * FROM flags WHERE key = $1")
        .bind(key.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("reading a flag"))?;
    row.map(|row| Ok((read_state(&row)?, row.maybe_int("held_share")?))).transpose()
}

/// The newest change that a human made to a flag after the given version.
pub(super) async fn human_change(
    tx: &mut AnyConnection,
    flag: &FlagKey,
    after: u64,
) -> Result<Option<FlagChange>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM flag_changes WHERE flag = $1 AND version > $2 AND actor NOT IN ($3, $4)
         ORDER BY version DESC LIMIT 1",
    )
    .bind(flag.as_str())
    .bind(signed(after))
    .bind(REARGUARD)
    .bind(CONFIG)
    .fetch_optional(&mut *tx)
    .await
    .map_err(StoreError::db("looking for a human's change"))?;
    row.as_ref().map(read_change).transpose()
}

fn read_change(row: &AnyRow) -> Result<FlagChange, StoreError> {
    let word = row.text("kind")?;
    let kind = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let scope = row.maybe_text("scope")?.map(Scope::try_from).transpose();
    Ok(FlagChange {
        flag: FlagKey::from(row.text("flag")?),
        version: unsigned(row.int("version")?),
        at: Timestamp::from_millis(row.int("at")?),
        actor: row.text("actor")?,
        kind: kind.ok_or_else(|| StoreError::corrupt("a change's kind", word))?,
        scope: scope.map_err(|why| StoreError::corrupt("a change's scope", why))?,
        decision: row.maybe_text("decision")?.map(DecisionId::from),
        reason: row.text("reason")?,
    })
}
