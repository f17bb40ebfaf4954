//! `kill -9` between and inside commits: everything acknowledged is there, and nothing by halves.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rearguard::store::{AuditVerdict, Store};

use super::fixture::*;

const URL: &str = "REARGUARD_TEST_CHILD_URL";
const ROUNDS: u64 = 3;

pub async fn kill_nine_loses_no_acknowledged_commit(base: &Base) {
    drop(base.ready().await);
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        acknowledged = kill_a_child(base, acknowledged + 5 + round);
        let store = base.open().await;
        let loaded = store.load().await.unwrap();
        assert!(loaded.seq >= acknowledged, "{} < {acknowledged}", loaded.seq);
        assert!(loaded.seq <= acknowledged + 1, "one commit at most was under way");
        assert_eq!(loaded.position.sources[0].next_offset, 10 * i64::try_from(loaded.seq).unwrap());
        let stored = i64::try_from(loaded.seq).unwrap();
        // Per step: one decision, and three rows (freeze, notice, publication).
        assert_eq!(base.count("SELECT count(*) FROM decisions").await, stored);
        assert_eq!(base.count("SELECT count(*) FROM outbox").await, 3 * stored);
        let chain = store.verify_audit().await.unwrap();
        assert!(matches!(chain, AuditVerdict::Intact { rows, .. } if rows == stored + 1), "{chain:?}");
        acknowledged = loaded.seq;
        store.close().await.unwrap();
    }
}

/// Starts this test binary as a child that commits, waits until it has acknowledged `wanted`, kills it, and gives the last
/// number that it acknowledged.
fn kill_a_child(base: &Base, wanted: u64) -> u64 {
    let backend = if base.url.starts_with("sqlite") { "sqlite" } else { "postgres" };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{backend}::child"), "--ignored", "--nocapture"])
        .env(URL, &base.url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = 0;
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(seq) = line.split("acknowledged ").nth(1) {
            last = seq.trim().parse().unwrap();
        }
        if last >= wanted && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the child ended by itself at {last}");
    child.wait().unwrap();
    last
}

/// Commits until it is killed.
pub async fn child() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let store = Store::open_exclusive(&url, "child").await.unwrap();
    let from = store.load().await.unwrap().seq + 1;
    for seq in from..from + 100_000 {
        commit(&store, seq, &[pause(&format!("d{seq}"))]).await;
        println!("acknowledged {seq}");
        std::io::stdout().flush().unwrap();
    }
}
