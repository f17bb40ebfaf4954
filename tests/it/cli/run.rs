//! `rearguard run` as a process, with a broker that is never there.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rearguard::store::{AuditVerdict, Store, TokenScope};

use super::rearguard;
use crate::store_suite::fixture::{Base, at};

const BOUND: Duration = Duration::from_secs(60);

/// Starts the daemon on a database, with more configuration; gives it and its address once it listens.
pub fn start(base: &Base, folder: &tempfile::TempDir, more: &str) -> (Child, String) {
    let kafka = match more.contains("kafka:") {
        true => "",
        false => "kafka: { brokers: \"127.0.0.1:1\", topics: [events] }\n",
    };
    let config =
        format!("{kafka}http: {{ listen: \"127.0.0.1:0\" }}\nstore: {{ url: \"{}\" }}\n{more}", base.url);
    std::fs::write(folder.path().join("rearguard.yaml"), config).unwrap();
    std::fs::create_dir_all(folder.path().join("rules")).unwrap();
    let rule = "- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: notify }]\n";
    std::fs::write(folder.path().join("rules/shop.yaml"), rule).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rearguard"))
        .arg("run")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it listened");
    }
    let (_, address) = line.split_once("address=").unwrap_or_else(|| panic!("no address: {line}"));
    (child, format!("http://{}", address.trim()))
}

/// Waits for its end, and ends it if that does not come.
pub async fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().ok();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_database_was_taken_over_ends_and_says_so() {
    let (base, folder) = (Base::new("sqlite", "taken", String::new()).await, tempfile::tempdir().unwrap());
    let (child, _) = tokio::task::block_in_place(|| start(&base, &folder, ""));
    base.tamper("UPDATE owner SET epoch = epoch + 1").await;
    let ended = ended(child).await;
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("another rearguard has taken this database over"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_switched_automation_off_is_in_the_audit_chain() {
    let (base, folder) = (Base::new("sqlite", "switch", String::new()).await, tempfile::tempdir().unwrap());
    let (child, url) = tokio::task::block_in_place(|| start(&base, &folder, ""));
    let beside = Store::open(&base.url).await.unwrap();
    let scopes = [TokenScope::Operate, TokenScope::Read];
    let token = beside.create_token("ann", &scopes, at(0)).await.unwrap();
    let variables = [("REARGUARD_URL", &*url), ("REARGUARD_TOKEN", &*token)];
    let off = ["automation", "off", "--reason", "false alarms since 02:00"];
    let done = tokio::task::block_in_place(|| rearguard(folder.path(), &variables, &off));
    assert_eq!(done.code, 0, "{done:?}");
    let row = beside.audit_log(1).await.unwrap().remove(0);
    assert_eq!((&*row.actor, &*row.kind, &*row.subject), ("ann", "automation", "off"));
    assert_eq!(row.detail, "false alarms since 02:00");
    assert!(matches!(beside.verify_audit().await.unwrap(), AuditVerdict::Intact { .. }));
    // The engine itself is asked; it has judged nothing yet.
    let told = tokio::task::block_in_place(|| rearguard(folder.path(), &variables, &["explain"]));
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("shop.v2 cost_1h-notify: not judged yet"), "{told:?}");
    let verify = || tokio::task::block_in_place(|| rearguard(folder.path(), &[], &["audit", "verify"]));
    let running = verify();
    assert_eq!(running.code, 0, "{running:?}");
    beside.close().await.unwrap();
    let stop = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    assert_eq!(ended(child).await.status.code(), Some(0));
    let stopped = verify();
    assert_eq!((stopped.code, stopped.out), (0, running.out), "{}", stopped.err);
}
