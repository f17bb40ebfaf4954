//! The page of `rearguard status`: the worst first, so that five seconds are enough.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Page, Status};
use crate::cli::output::{Ink, Paint, WIDTH, ago, brief as span, count, utc, wrap};
use crate::cli::table::{Cell, Side, Table, cell};
use crate::dispatch::words;
use crate::engine::input::{Fates, FlipOutcome};
use crate::engine::output::{AlertReport, HoldReport, LatchReport, Phase};
use crate::engine::rule::RuleAction;
use crate::engine::verdict::brief;
use crate::model::canary::Standing;
use crate::model::flag::Scope;
use crate::model::time::Timestamp;

/// What the column says.
const EVIDENCE: &str = "EVIDENCE: D of the change detector as a part of the c that it needs. Bad minutes multiply D, so 1% may \
                        be enough a minute later. `-`: confirmed by persistence alone";

impl Page {
    /// The page as text.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut out = self.headline(paint);
        self.facts(paint, &mut out);
        self.incidents(paint, &mut out);
        self.switched(paint, &mut out);
        self.held(paint, &mut out);
        self.alerts(paint, &mut out);
        out
    }

    /// Whether it acts, and what needs a human: a line each.
    fn headline(&self, paint: Paint) -> String {
        let report = &self.status.report;
        let mut attention = self.attention().into_iter();
        let mut lines = Vec::new();
        if report.armed && report.automation {
            let dry =
                if report.dry_run { ", DRY RUN: it says what it would do and does nothing" } else { "" };
            let (ink, rest) = match attention.next() {
                None if report.dry_run => (Ink::Doubt, String::new()),
                None => (Ink::Good, ", nothing needs you".to_owned()),
                Some(first) => (Ink::Bad, format!("; {first}")),
            };
            lines.push((ink, format!("ARMED{dry}{rest}")));
        }
        for what in attention {
            let what = what.replacen("not armed", "NOT ARMED, nothing is rolled back", 1);
            lines.push((Ink::Bad, what.replacen("automation is off", "AUTOMATION OFF", 1)));
        }
        let mut out = String::new();
        for (ink, text) in lines {
            for line in wrap(&text, WIDTH) {
                let _ = writeln!(out, "{}", paint.ink(ink, &line));
            }
        }
        out.push('\n');
        out
    }

    fn facts(&self, paint: Paint, out: &mut String) {
        let Status { report, version, database, .. } = &self.status;
        let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left)]);
        let mut fact = |name: &str, value: Cell| table.row(vec![cell(Ink::Dim, name), value]);
        fact(
            "automation",
            match (report.automation, report.dry_run) {
                (true, false) => cell(Ink::Good, "on"),
                (true, true) => cell(Ink::Doubt, "on, dry run"),
                (false, _) => {
                    cell(Ink::Bad, "OFF; `rearguard automation on --reason …` lets Rearguard act again")
                }
            },
        );
        fact("event time", self.event_time());
        fact("events", fates(report.sources.iter().map(|source| source.fates)).into());
        fact("outbox", self.outbox());
        if let Some(canary) = &self.status.canary {
            fact("canary", self.canary(canary));
        }
        fact("where", format!("{} (version {version}), {database}", self.address).into());
        out.push_str(&table.render(paint));
    }

    fn event_time(&self) -> Cell {
        let report = &self.status.report;
        let Some(at) = report.event_time else {
            return cell(Ink::Bad, "none yet: no partition has reported one");
        };
        let closed = report
            .closed
            .map_or_else(String::new, |m| format!("; judged up to {}", words::minute_time(m.end())));
        let now = words::clock_time(self.now);
        let behind = span(self.now.since(at));
        cell(Ink::Plain, format!("{} UTC, {behind} behind the clock ({now}){closed}", utc(at)))
    }

    fn canary(&self, canary: &Standing) -> Cell {
        let ago = |at: Timestamp| span(self.now.since(at));
        let came = match canary.proven {
            Some(at) => format!("written {} ago and seen", ago(at)),
            None => "the first one is on its way".to_owned(),
        };
        match (&canary.refused, canary.called) {
            _ if canary.starting => cell(Ink::Plain, came),
            _ if !canary.doubts.is_empty() => cell(Ink::Bad, canary.doubts.join("; ")),
            (Some(why), _) => cell(Ink::Bad, format!("{came}; dead-man's switch: {why}")),
            (None, Some(at)) => cell(Ink::Good, format!("{came}; dead-man's switch called {} ago", ago(at))),
            (None, None) => cell(Ink::Plain, came),
        }
    }

    fn outbox(&self) -> Cell {
        let rows = |statuses: &[&str]| -> u64 {
            let counts = self.status.outbox.counts.iter();
            counts.filter(|c| statuses.contains(&c.status.as_str())).map(|c| c.rows).sum()
        };
        let (waiting, standing) = (rows(&["pending", "claimed"]), rows(&["standing"]));
        let lost = rows(&["failed", "expired"]);
        let oldest = self.status.outbox_oldest_seconds;
        let mut text = match waiting {
            0 => "nothing waits".to_owned(),
            n if oldest < 1.0 => format!("{} not due yet", words::count(n)),
            n => {
                let span = span(std::time::Duration::from_secs_f64(oldest.min(1e9)));
                format!("{} waiting, the oldest for {span}", words::count(n))
            }
        };
        if standing > 0 {
            let _ = write!(text, ", {} standing", count(standing, "page"));
        }
        if lost > 0 {
            let _ = write!(text, ", {} failed or expired since the first start", words::count(lost));
        }
        cell(if oldest > 120.0 { Ink::Bad } else { Ink::Plain }, text)
    }

    fn incidents(&self, paint: Paint, out: &mut String) {
        if self.incidents.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{}", paint.bold("INCIDENTS"));
        let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left), ("", Side::Left)]);
        for incident in &self.incidents {
            let status = match &incident.acked_by {
                Some(by) => cell(Ink::Doubt, format!("acknowledged by {by}")),
                None => cell(Ink::Bad, incident.status.clone()),
            };
            let since = ago(incident.opened, self.now);
            table.row(vec![incident.id.clone().into(), status, since.into()]);
            table.under(cell(Ink::Bold, incident.what()));
            if let Some(withheld) = &incident.withheld {
                table.under(cell(Ink::Bad, withheld.what()));
                table.under(cell(Ink::Plain, withheld.advice.clone()));
            }
        }
        out.push_str(&table.render(paint));
        let _ = writeln!(out, "  {}", paint.dim("rearguard incident show ID   what broke and what to do"));
    }

    /// Rolled back by a rule, turned off by a human.
    fn switched(&self, paint: Paint, out: &mut String) {
        let latches = &self.status.report.latches;
        let killed: Vec<_> = self.flags.iter().filter(|flag| flag.killed).collect();
        if latches.is_empty() && killed.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{}", paint.bold("TAKEN BACK"));
        let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left)]);
        for latch in latches {
            table.row(vec![latch.flag.as_str().into(), latched(latch, self.now)]);
        }
        for flag in killed {
            let what = "turned off for everybody by `flag kill`";
            table.row(vec![flag.key.clone().into(), cell(Ink::Bad, what)]);
        }
        out.push_str(&table.render(paint));
        let how = "rearguard flag rearm KEY --reason …   serve it again, when the cause is fixed";
        if !latches.is_empty() {
            let _ = writeln!(out, "  {}", paint.dim(how));
        }
    }

    /// Shares that humans hold.
    fn held(&self, paint: Paint, out: &mut String) {
        let holds = &self.status.report.holds;
        if holds.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{}", paint.bold("PAUSED BY HAND"));
        let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left)]);
        for hold in holds {
            table.row(vec![hold.flag.as_str().into(), how_held(hold)]);
        }
        out.push_str(&table.render(paint));
        let how = "rearguard flag resume KEY --reason …   let the share move again";
        let _ = writeln!(out, "  {}", paint.dim(how));
    }

    fn alerts(&self, paint: Paint, out: &mut String) {
        let alerts = &self.status.report.alerts;
        let _ = writeln!(out, "\n{}", paint.bold("ALERTS"));
        if alerts.is_empty() {
            out.push_str("  none yet: no minute has been judged, or no rule is loaded\n");
            return;
        }
        let mut variants: BTreeMap<&str, Vec<&AlertReport>> = BTreeMap::new();
        for alert in alerts {
            variants.entry(alert.variant.as_str()).or_default().push(alert);
        }
        let mut variants: Vec<_> = variants.into_iter().collect();
        for (_, alerts) in &mut variants {
            alerts.sort_by_key(|alert| Reverse(urgency(alert)));
        }
        variants.sort_by_key(|(_, alerts)| Reverse(alerts.first().map(|alert| urgency(alert))));
        use Side::{Left, Right};
        let columns = [
            ("PHASE", Left),
            ("SINCE", Right),
            ("VERDICT", Left),
            ("VALUE", Right),
            ("LIMIT", Right),
            ("EVIDENCE", Right),
            ("SAMPLES", Right),
            ("RULE", Left),
        ];
        let mut table = Table::new(0, &columns);
        for (variant, alerts) in variants {
            table.heading(cell(Ink::Bold, variant));
            let mut hidden = 0u64;
            for alert in alerts {
                if !self.all && urgency(alert) == 0 && alert.key.slice != Scope::All {
                    hidden += 1;
                } else {
                    self.alert(alert, &mut table);
                }
            }
            if hidden > 0 {
                let text = format!("{} quiet and well; `--all` shows them", count(hidden, "slice"));
                table.note(cell(Ink::Dim, text));
            }
        }
        out.push_str(&table.render(paint));
        if alerts.iter().any(|alert| gathered(alert).is_some()) {
            for line in wrap(EVIDENCE, WIDTH) {
                let _ = writeln!(out, "{}", paint.dim(&line));
            }
        }
        let _ = writeln!(out, "{}", paint.dim("rearguard explain   why each rule fired, or what is missing"));
    }

    fn alert(&self, alert: &AlertReport, table: &mut Table) {
        let phase = match alert.phase {
            Phase::Quiet => Ink::Dim,
            Phase::Pending => Ink::Doubt,
            Phase::Firing | Phase::Latched => Ink::Bad,
        };
        let (verdict, reason) = match alert.verdict.split_once(": ") {
            Some((verdict, reason)) => (verdict, Some(reason)),
            None => (alert.verdict.as_str(), None),
        };
        let ink = match verdict {
            "pass" => Ink::Good,
            "breach" | "error" => Ink::Bad,
            _ => Ink::Doubt,
        };
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), words::number);
        let since = alert.since.map_or_else(|| "-".to_owned(), |at| short(at, self.now));
        let slice = match &alert.key.slice {
            Scope::All => String::new(),
            slice => format!(" [{slice}]"),
        };
        let dry = if alert.dry_run { " (dry run)" } else { "" };
        table.row(vec![
            cell(phase, alert.phase.as_str()),
            since.into(),
            cell(ink, verdict),
            number(alert.value).into(),
            number(alert.threshold).into(),
            evidence(alert),
            words::count(alert.samples).into(),
            format!("{}{slice} → {}{dry}", alert.condition, action(alert.action)).into(),
        ]);
        if let Some(reason) = reason {
            table.note(cell(Ink::Dim, reason));
        }
        if alert.phase == Phase::Firing
            && let Some((ink, note)) = self.not_done(alert)
        {
            table.note(cell(ink, note));
        }
        if let (true, Some((d, c))) = (alert.phase != Phase::Quiet, gathered(alert)) {
            table.note(cell(Ink::Dim, format!("D {} of {}", brief(d), brief(c))));
        }
    }

    /// What a firing alert asked for and was not done. A rollback that is carried out is latched; one that only fires was
    /// withheld, or a pause stands in for it.
    fn not_done(&self, alert: &AlertReport) -> Option<(Ink, String)> {
        let (asked, loud) = match alert.action {
            RuleAction::Rollback => ("rolled back", "NOT ROLLED BACK"),
            RuleAction::PauseRollout => ("paused", "NOT PAUSED"),
            RuleAction::Notify => return None,
        };
        let Some(why) = &alert.withheld else {
            let instead = "the share is held instead of rolled back: within noise, or no data";
            return (alert.action == RuleAction::Rollback).then(|| (Ink::Doubt, instead.to_owned()));
        };
        if alert.dry_run {
            return Some((Ink::Bad, format!("not {asked}: it is a dry run")));
        }
        let incident = self.incidents.iter().find(|incident| incident.flag == alert.key.flag.as_str());
        let said = incident.and_then(|incident| incident.withheld.as_ref());
        let rollback = said.filter(|_| alert.action == RuleAction::Rollback);
        Some((Ink::Bad, rollback.map_or_else(|| format!("{loud}: {why}"), |withheld| withheld.what())))
    }
}

/// D and c of the change detector; `None` for rules that evidence cannot confirm.
fn gathered(alert: &AlertReport) -> Option<(f64, f64)> {
    alert.evidence.zip(alert.evidence_needed).filter(|(_, c)| *c > 0.0)
}

/// The part of the evidence needed that is there.
fn evidence(alert: &AlertReport) -> Cell {
    let Some((d, c)) = gathered(alert) else { return "-".into() };
    match 100.0 * d / c {
        share if share >= 100.0 => cell(Ink::Bad, "enough"),
        share if share < 0.1 => cell(Ink::Dim, "<0.1%"),
        share if share < 9.95 => cell(Ink::Doubt, format!("{share:.1}%")),
        // Below enough it never reads as all of it.
        share => cell(Ink::Doubt, format!("{:.0}%", share.floor())),
    }
}

/// Larger is worse; zero is quiet and passing.
fn urgency(alert: &AlertReport) -> u8 {
    match (alert.phase, alert.verdict.as_str()) {
        (Phase::Latched, _) => 5,
        (Phase::Firing, _) => 4,
        (Phase::Pending, _) => 3,
        (Phase::Quiet, verdict) if verdict.starts_with("breach") || verdict.starts_with("error") => 2,
        (Phase::Quiet, "pass") => 0,
        (Phase::Quiet, _) => 1,
    }
}

fn latched(latch: &LatchReport, now: Timestamp) -> Cell {
    let (ink, outcome) = match latch.outcome {
        None => (Ink::Doubt, "the flip is under way"),
        Some(FlipOutcome::Verified) => (Ink::Plain, "control is served, read back"),
        Some(FlipOutcome::AlreadySafe) => (Ink::Plain, "control was served already"),
        Some(FlipOutcome::Superseded) => {
            (Ink::Bad, "SUPERSEDED: a human stepped in, the flag was left alone")
        }
        Some(FlipOutcome::Failed) => (Ink::Bad, "ROLLBACK FAILED: act by hand"),
        Some(FlipOutcome::Expired) => (Ink::Bad, "ROLLBACK FAILED, tries have ended: act by hand"),
    };
    let whom = match &latch.scope {
        Scope::All => "for everybody".to_owned(),
        scope => format!("for {scope}"),
    };
    cell(ink, format!("rolled back {whom} {}; {outcome} ({})", ago(latch.at, now), latch.incident))
}

fn how_held(hold: &HoldReport) -> Cell {
    let (ink, outcome) = match hold.outcome {
        None => (Ink::Doubt, "its share is being held, not confirmed yet"),
        Some(FlipOutcome::Verified | FlipOutcome::AlreadySafe) => {
            (Ink::Doubt, "its share is held, read back")
        }
        Some(FlipOutcome::Superseded) => (Ink::Bad, "NOT PAUSED: another human stepped in"),
        Some(FlipOutcome::Failed | FlipOutcome::Expired) => (Ink::Bad, "PAUSE FAILED: act by hand"),
    };
    cell(ink, outcome)
}

/// `14 s`, `14m`, `1h08m`, `3d`.
fn short(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m", s / 60),
        s if s < 48 * 3600 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        s => format!("{}d", s / 86_400),
    }
}

const fn action(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Notify => "notify",
        RuleAction::PauseRollout => "pause",
        RuleAction::Rollback => "rollback",
    }
}

fn fates(fates: impl Iterator<Item = Fates>) -> String {
    let mut sum = Fates::default();
    fates.for_each(|more| sum.add(&more));
    let parts: Vec<String> = [
        (sum.windowed, "counted"),
        (sum.other, "other"),
        (sum.late, "late"),
        (sum.duplicate, "duplicate"),
        (sum.dead_letter, "dead-lettered"),
        (sum.refused, "refused"),
        (sum.canary, "canary"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{} {word}", words::count(n)))
    .collect();
    match parts.len() {
        0 => "none yet".to_owned(),
        _ => format!("{} read: {}", words::count(sum.consumed), parts.join(", ")),
    }
}

#[cfg(test)]
mod tests;
