//! How much of the ten minutes each step took, as a small table.

use std::time::Duration;

use super::news::Frozen;
use super::screen::{Mark, Screen};
use super::world::RATE;
use crate::clock::Clock;
use crate::dispatch::words::{clock_time, had, span};
use crate::engine::budget::PROMISE;
use crate::model::time::Timestamp;
use crate::store::{IncidentSummary, StoredDecision};

/// Columns that stand for the ten minutes.
const CELLS: f64 = 24.0;

/// The pause: told in one line, since nobody is woken by it.
pub fn pause(screen: &Screen, pause: &Frozen) {
    let decision = &pause.decision.decision;
    let took = pause.finished.since(decision.t0);
    let text = format!("paused, read back: {}", pause.detail);
    screen.at(pause.finished, Mark::Good, &text);
    screen.more(&format!(
        "{} after t0 ({}), {} of the ten minutes",
        span(took),
        clock_time(decision.t0),
        share(took)
    ));
}

/// The rollback, step by step.
pub fn rollback(screen: &Screen, stored: &StoredDecision, incident: &IncidentSummary, clock: Clock) {
    let decision = &stored.decision;
    screen.line("");
    let title = "The ten minutes of the rollback";
    let note = format!("seconds after the decision are real time × {RATE}");
    screen.line(&format!("   {}  {}", screen.bold(title), screen.dim(&note)));
    let row = |at: Timestamp, what: &str| {
        let took = at.since(decision.t0);
        let bar = bar(took);
        let (took, share) = (span(took), share(took));
        screen.line(&format!("   {}  {bar}  {took:>12} {share:>5}  {what}", screen.dim(&clock_time(at))));
    };
    row(decision.t0, "t0: the breach that lasted begins");
    row(decision.at, &format!("decided: it had {}", had(decision)));
    row(stored.committed, "stored in one transaction; incident opened");
    if let Some(at) = incident.flip_verified {
        row(at, "flag flipped, read back where gateways ask");
    }
    if let Some(at) = incident.page_accepted {
        row(at, "page accepted by the on-call receiver");
    }
    if let (Some(t1), Some(took)) = (incident.t1(), incident.took()) {
        let text = format!("{} of the ten minutes used ({})", span(took), share(took));
        let real = clock.real_span(t1.since(stored.committed)).as_millis();
        let note = format!("from commit to page: {real} ms of real time");
        screen.line(&format!("   {}; {note}", screen.bold(&text)));
        if took > PROMISE {
            screen.line("   More than ten minutes, because this machine is busy: its clock runs on while a disk is waited for.");
        }
    }
}

fn share(took: Duration) -> String {
    format!("{:.0} %", 100.0 * took.as_secs_f64() / PROMISE.as_secs_f64())
}

fn bar(took: Duration) -> String {
    let cells = (CELLS * took.as_secs_f64() / PROMISE.as_secs_f64()).round().min(CELLS) as usize;
    let width = CELLS as usize;
    format!("{}{}", "█".repeat(cells), "·".repeat(width.saturating_sub(cells)))
}
