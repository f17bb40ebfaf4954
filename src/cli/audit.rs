//! `rearguard audit verify`: whether the history is the one that was written.

use clap::{Args, Subcommand};
use serde_json::json;

use super::database::{self, DatabaseArgs};
use super::output::{Format, Ink, Paint, Trouble, count, end, show, show_json};
use super::{FAILED, GOOD};
use crate::store::{AuditVerdict, Store};

/// Check the audit log, in the database itself.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum AuditCommand {
    /// Walk the whole hash chain; exit code 1 at the first record that is not as it was written
    ///
    /// Every record holds the hash of the one before, and every decision's record the hashes of the decision and its evidence:
    /// those are compared, too. Reads only, and needs neither the daemon nor a token; a running daemon is not disturbed. Whoever
    /// can write the database can write a whole new chain: keep the last hash where they cannot, and compare.
    Verify,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &AuditArgs) -> anyhow::Result<u8> {
    let AuditCommand::Verify = args.command;
    let url = match args.database.url() {
        Ok(url) => url,
        Err(code) => return Ok(code),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    end(args.database.format, runtime.block_on(verify(args, &url)))
}

async fn verify(args: &AuditArgs, url: &str) -> Result<u8, Trouble> {
    database::must_exist(url)?;
    let store = Store::open_read_only(url).await?;
    let found = store.verify_audit().await;
    store.close().await?;
    let found = found?;
    let good = matches!(found, AuditVerdict::Intact { .. });
    match args.database.format {
        Format::Json => show_json(&json!({"intact": good, "found": found}))?,
        Format::Human => {
            let ink = if good { Ink::Good } else { Ink::Bad };
            show(&format!("{}\n", Paint::stdout().ink(ink, &words(&found))))?;
        }
    }
    Ok(if good { GOOD } else { FAILED })
}

fn words(found: &AuditVerdict) -> String {
    match found {
        AuditVerdict::Intact { rows: 0, .. } => "the audit log is empty".into(),
        AuditVerdict::Intact { rows, decisions, head } => {
            let [rows, decisions] = [*rows, *decisions].map(|n| u64::try_from(n).unwrap_or_default());
            format!(
                "the audit log is intact: {}, {} and their evidence as they were stored; last hash {head}",
                count(rows, "record"),
                count(decisions, "decision"),
            )
        }
        AuditVerdict::Broken { row, why } => format!("the audit log is BROKEN at record {row}: {why}"),
        AuditVerdict::Altered { decision } => format!(
            "decision {decision} was ALTERED: it or its evidence is not what the audit log says that was stored"
        ),
    }
}
