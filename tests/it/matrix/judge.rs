//! What must be so after a cell, whatever happened in it.

use std::path::Path;
use std::time::Duration;

use rearguard::dispatch::example;
use rearguard::dispatch::flag::Wanted;
use rearguard::engine::input::FlipOutcome;
use rearguard::model::flag::Scope;
use rearguard::model::incident::IncidentStatus;
use rearguard::store::{Flip, IncidentFilter, Store};

use super::cell::Run;
use super::subject::{DeskDouble, Trust};
use crate::standin::Asked;
use crate::standin::server::Fault;

/// How the cell ended.
pub async fn judge(run: &Run, store: &Store) -> String {
    let name = format!("{:?} ({}, {}), died: {}", run.cell, run.flags.name, run.desk.name, run.died);
    run.platform.misbehave(&[]);
    run.oncall.misbehave(&[]);
    let rolled_back = flip(run, store, &name).await;
    let paged = page(run, store, &name, rolled_back).await;
    let flip = match (rolled_back, run.platform.changes()) {
        (true, _) => "rolled back",
        (false, 0) => "refused and told as failed",
        (false, _) => "written, its read-back refused, told as failed",
    };
    let died = if run.died { format!("died: {:?}", run.cell.point) } else { "lived on".to_owned() };
    format!("{flip}; {paged}; {died}")
}

/// Exactly one flip took effect, or it was given up for good, and the record says which. Whether it took effect.
async fn flip(run: &Run, store: &Store, name: &str) -> bool {
    let story = example::story();
    let state = store.flip_state(&story.opener.id).await.unwrap().unwrap();
    let detail = state.detail.clone().unwrap_or_default();
    let changes = run.platform.changes();
    let notes = store.flag_changes(&story.opener.key.flag, 10).await.unwrap();
    let pins = notes.iter().filter(|change| change.kind.as_str() == "pin").count();
    assert!(pins <= 1 && changes <= run.flags.writes, "{name}: {changes} changes, {pins} of them told");
    match state.outcome {
        Some(FlipOutcome::Verified) => {
            assert_eq!((changes, pins), (run.flags.writes, 1), "{name}");
            let platform = run.flags.open(store, &run.outbound, run.platform.url());
            let flip = Flip::Pin {
                decision: story.opener.id.clone(),
                flag: story.opener.key.flag.clone(),
                scope: Scope::All,
                control: "not asked for".into(),
                by: None,
            };
            let wanted = Wanted { flip, served: run.flags.served(), since: run.clock.now() };
            let seen = platform.verify(&wanted, Duration::from_secs(10)).await;
            assert!(seen.is_ok(), "{name}: told as read back, but {seen:?}");
            true
        }
        Some(FlipOutcome::Failed) => {
            assert!(run.cell.flags.is_some() && refuses(run.cell.fault), "{name}: failed: {detail}");
            let written = changes == run.flags.writes;
            assert!(!detail.is_empty() && (!written || detail.contains("written")), "{name}: {detail}");
            false
        }
        outcome => panic!("{name}: {outcome:?}: {detail}"),
    }
}

/// Whether a service that answers so will never do it.
fn refuses(fault: Fault) -> bool {
    matches!(fault, Fault::Status(401 | 403 | 404 | 405 | 422) | Fault::Echo(_) | Fault::Redirect)
}

/// One incident is open, one page was rung, and the last thing said is true. By which channel it was.
async fn page(run: &Run, store: &Store, name: &str, rolled_back: bool) -> &'static str {
    let incidents = store.incidents(&IncidentFilter::default()).await.unwrap();
    assert_eq!(incidents.len(), 1, "{name}");
    let incident = &incidents[0];
    assert_eq!(incident.status, IncidentStatus::Open, "{name}");
    assert_eq!(incident.flip_verified.is_some(), rolled_back, "{name}");
    assert!(incident.page_accepted.is_some(), "{name}: nobody took the page");

    let (fault, trust) = (run.cell.fault, run.desk.trust);
    let tried = run.cell.desk.is_some();
    let (first, second) = ((run.oncall.open(), run.oncall.rung()), (run.second.open(), run.second.rung()));
    // One that failed after it had been told as under way rings anew.
    let most = if rolled_back { 1 } else { 2 };
    let once = |(open, rung): (usize, usize)| open == 1 && (1..=most).contains(&rung);
    let channel = if tried && refuses(fault) && second.0 > 0 {
        assert!(once(second) && first.1 <= 1, "{name}: {first:?} {second:?}");
        "paged by the second channel"
    } else if tried && trust == Trust::Repeats && first.1 == 2 {
        assert_eq!(second, (0, 0), "{name}");
        "told twice where repetitions are not known"
    } else if tried && trust != Trust::ReadBack && fault == Fault::Ignore && first.1 == 0 {
        assert_eq!(second, (0, 0), "{name}");
        "not paged by a service that lied and cannot be asked"
    } else {
        assert!(once(first) && second == (0, 0), "{name}: {first:?} {second:?}");
        "paged once"
    };
    let last = said(&*run.second).or_else(|| said(&*run.oncall)).unwrap();
    let last = String::from_utf8_lossy(&last.bytes).into_owned();
    let failed = last.contains("ROLLBACK FAILED");
    assert!(failed != rolled_back && (failed || last.contains("rolled back")), "{name}: {last}");
    channel
}

/// The last thing said to a receiver. PagerDuty is told of a failure under a key of its own, and then of the end of the other.
fn said(desk: &dyn DeskDouble) -> Option<Asked> {
    let says = |asked: &Asked| {
        asked.method == "POST" && asked.body.as_ref().is_some_and(|body| body["event_action"] != "resolve")
    };
    desk.asked().into_iter().rfind(says)
}

/// What every secret of the stand-ins has in it.
const PLANTED: &str = "planted";

/// No secret is in what was logged and measured, nor in any file of the database.
pub fn keeps_secrets(said: &str, folder: &Path) {
    assert!(said.contains("rearguard_dispatch_attempts_total"), "nothing was overheard: {said}");
    assert!(!said.contains(PLANTED), "{said}");
    // The database itself last: what its log holds goes there when connections of the dead are closed, and the log with them.
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    assert!(paths.last().is_some_and(|path| path.is_file()), "{paths:?}");
    for path in paths {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(PLANTED.len()).position(|bytes| bytes == PLANTED.as_bytes());
        assert_eq!(found, None, "a secret in {}", path.display());
    }
}
