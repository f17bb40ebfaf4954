//! An explanation as people read it.

use std::fmt::Write as _;

use crate::cli::output::{Ink, Paint, WIDTH, utc, wrap};
use crate::cli::table::{Side, Table, cell};
use crate::dispatch::words;
use crate::engine::explain::{
    Answer, ClearTest, EvidenceTest, Explanation, Lack, MOST, Measured, PersistenceTest,
};
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::{Confirm, NoData, RuleAction};
use crate::engine::verdict::{Reason, Verdict, brief};
use crate::model::flag::Scope;
use crate::model::time::{Minute, Timestamp};

/// One rule in full, several in a line each. `live`: of a running daemon.
pub fn render(answer: &Answer, live: bool, paint: Paint) -> String {
    let mut out = match answer.explanations.as_slice() {
        [] => String::new(),
        [one] => full(one, live, paint),
        many => list(many, paint),
    };
    if answer.left_out > 0 {
        let more = format!("{} more; the {MOST} furthest from quiet are shown", answer.left_out);
        let _ = writeln!(out, "{}", paint.dim(&more));
    }
    for rule in &answer.unjudged {
        let text = format!("{} {}: not judged yet, {}", rule.variant, rule.rule, rule.why);
        let _ = writeln!(out, "{}", paint.ink(Ink::Doubt, &text));
    }
    out
}

fn list(explanations: &[Explanation], paint: Paint) -> String {
    use Side::Left;
    let mut table = Table::new(0, &[("STATE", Left), ("RULE", Left), ("NOW", Left)]);
    let mut variant = None;
    for one in explanations {
        if variant != Some(&one.variant) {
            variant = Some(&one.variant);
            table.heading(cell(Ink::Bold, format!("{}, at {} UTC", one.variant, utc(one.at))));
        }
        let slice = slice(one);
        table.row(vec![
            cell(ink(one), one.state.phase.as_str()),
            format!("{}{slice}", one.key.rule).into(),
            cell(Ink::Plain, format!("{}: {}", one.filled, truth(one.literal))),
        ]);
        table.note(cell(Ink::Dim, short(one)));
    }
    let mut out = table.render(paint);
    let _ = writeln!(out, "{}", paint.dim("`--rule ID` (and `--slice`) tells one of them in full"));
    out
}

/// The nearest thing to say about a rule in one line.
fn short(one: &Explanation) -> String {
    if matches!(one.state.phase, Phase::Firing | Phase::Latched) {
        return state(one);
    }
    if one.verdict.is_masked()
        || matches!(
            one.verdict,
            Verdict::Inconclusive { reason: Reason::Missing { .. } | Reason::Late { .. } }
        )
    {
        return one.verdict.to_string();
    }
    let lacks = one.missing_for_persistence.as_ref().or(one.missing_for_evidence.as_ref());
    // That the condition is not true stands on the line above, and what comes after that is not near.
    let near = |lack: &&Lack| !matches!(lack, Lack::NotTrue | Lack::Hold { held: 0, .. });
    let missing: Vec<String> =
        lacks.into_iter().flatten().filter(near).map(|lack| lacking(lack, one)).collect();
    match (missing.is_empty(), one.literal) {
        (true, _) => one.verdict.to_string(),
        (false, Some(false)) => format!("and it lacks {}", missing.join("; ")),
        (false, _) => format!("missing: {}", missing.join("; ")),
    }
}

fn full(one: &Explanation, live: bool, paint: Paint) -> String {
    let mut out = String::new();
    let place = match one.origin.file.as_str() {
        "" => String::new(),
        file => format!(" ({file}:{})", one.origin.line),
    };
    let title = format!("{}{}: {} → {}", one.variant, slice(one), one.condition, one.action.as_str());
    let _ = writeln!(out, "{}", paint.bold(&title));
    let at = format!("rule {}{place}, at {} UTC", one.key.rule, utc(one.at));
    let _ = writeln!(out, "{}\n", paint.dim(&at));
    let mut table = Table::new(2, &[("", Side::Left), ("", Side::Left)]);
    let mut row = |name: &str, ink: Ink, text: String| {
        table.row(vec![cell(Ink::Dim, name), cell(ink, text)]);
    };
    row("state", ink(one), state(one));
    row("verdict", Ink::Plain, verdict(one));
    row("condition", Ink::Plain, format!("{}: {}", one.filled, truth(one.literal)));
    for m in &one.measured {
        row(&m.name, Ink::Plain, numbers(m, one));
    }
    persistence(&one.persistence, one, &mut row);
    if let Some(evidence) = &one.evidence {
        row("evidence", Ink::Plain, proof(evidence, one));
    }
    if let Some(why) = &one.no_evidence {
        row("evidence", Ink::Plain, format!("none: {why}"));
    }
    if let Some(why) = silence(one) {
        row("silence", Ink::Doubt, why);
    }
    if let Some(decision) = &one.state.decision {
        row("decision", Ink::Plain, decision.to_string());
    }
    out.push_str(&table.render(paint));
    missing(one, paint, &mut out);
    in_the_way(one, paint, &mut out);
    clearing(one, live, paint, &mut out);
    out
}

fn persistence(p: &PersistenceTest, one: &Explanation, row: &mut dyn FnMut(&str, Ink, String)) {
    if let Some(have) = p.samples {
        let left = p.fewest_left.map_or_else(String::new, |(_, left)| {
            format!("; {} whichever two minutes are left out", at_least(left))
        });
        let text = format!("{} of the {} needed{left}", words::count(have), words::count(p.min_samples));
        row("samples", Ink::Plain, text);
    }
    if let Some(left_out) = &p.without {
        let still = match (one.literal, left_out.holds) {
            (Some(true), true) => "still true",
            (Some(true), false) if left_out.hours => "NOT true, and no minutes are kept of them",
            (Some(true), false) => "NOT true: a single bad minute never fires",
            (_, true) if one.verdict.is_masked() => "true: a burst hides a breach",
            (_, true) => "true, and yet no breach",
            (_, false) => "not true either",
        };
        let what = if left_out.hours { "hours" } else { "minutes" };
        let from = minute(left_out.pair);
        let text = format!("without the two {what} from {from}: {}: {still}", left_out.filled);
        row("worst pair", Ink::Plain, text);
    }
    row("bad minutes", Ink::Plain, format!("{} of the {} needed", p.bad_minutes, p.bad_needed));
    if let (Some(true), Some(beyond)) = (one.literal, p.beyond_noise) {
        let asked = if p.noise_matters { "" } else { " (this rule does not ask)" };
        let text = if beyond { "beyond noise" } else { "within noise" };
        row("noise", Ink::Plain, format!("the breach is {text}{asked}"));
    }
    if let (Some(held), Phase::Pending) = (p.held, one.state.phase) {
        row("held", Ink::Plain, format!("for {held} of {} min (`for`)", p.hold));
    }
}

fn at_least(left: u64) -> String {
    format!("{} or more", words::count(left))
}

fn numbers(m: &Measured, one: &Explanation) -> String {
    let mut text = format!(
        "{} from {} since {}",
        words::maybe(m.value, &m.unit),
        crate::cli::output::count(m.samples, "sample"),
        minute(m.from)
    );
    if let Some(recent) = m.recent.filter(|_| i64::from(m.recent_minutes) < one.at.minute().0 - m.from.0) {
        let _ = write!(text, "; last {} min {}", m.recent_minutes, words::measure(recent, &m.unit));
    }
    let first = one.measured.iter().position(|other| !other.name.starts_with("baseline("));
    if let (Some((lower, upper)), true) = (one.interval, first.map(|at| &one.measured[at]) == Some(m)) {
        let _ =
            write!(text, "; 95 % interval {} to {}", words::number(lower), words::measure(upper, &m.unit));
    }
    text
}

fn proof(e: &EvidenceTest, one: &Explanation) -> String {
    let without = e.without.map_or_else(String::new, |(pair, least)| {
        format!(", {} without the two minutes from {}", brief(least), minute(pair))
    });
    let recent = one.measured.iter().map(|m| m.recent_minutes).max().unwrap_or(5);
    format!(
        "D {}{without}, of the {} needed, gathered since {}; last {recent} min {}: {}",
        brief(e.evidence),
        brief(e.needed),
        minute(e.since),
        e.recent,
        truth(e.recent_holds)
    )
}

fn missing(one: &Explanation, paint: Paint, out: &mut String) {
    let fired =
        matches!(one.state.phase, Phase::Firing | Phase::Latched) && one.state.done >= Some(one.action);
    if fired && !one.state.looked_at_again {
        return;
    }
    let title = if fired { "Missing until it is carried out" } else { "Missing until it fires" };
    let ways = [("persistence", &one.missing_for_persistence), ("evidence", &one.missing_for_evidence)];
    let _ = writeln!(out, "\n{}", paint.bold(title));
    for (way, lacks) in ways {
        let Some(lacks) = lacks else { continue };
        if lacks.is_empty() {
            bullet(out, &format!("by {way}: nothing"));
        }
        for lack in lacks {
            bullet(out, &format!("by {way}: {}", lacking(lack, one)));
        }
    }
    if one.confirm == Confirm::Significant && one.action == RuleAction::Rollback {
        bullet(out, "within noise for `for`, it pauses and pages instead");
    }
}

fn bullet(out: &mut String, text: &str) {
    for (at, line) in wrap(text, WIDTH - 4).into_iter().enumerate() {
        let _ = writeln!(out, "{}{line}", if at == 0 { "  - " } else { "    " });
    }
}

/// One thing that is missing, in words.
fn lacking(lack: &Lack, one: &Explanation) -> String {
    match lack {
        Lack::NotTrue => format!("the condition: {} is not true", one.filled),
        Lack::Hold { held: 0, needed } => format!("then it has to hold for {needed} min"),
        Lack::Hold { held, needed } => {
            let more = crate::cli::output::count(u64::from(needed - held), "more minute");
            format!("{more}: it has held for {held} of {needed} min")
        }
        Lack::WithoutPair { pair, evidence, needed } => format!(
            "D {} of {} without the two minutes from {}",
            brief(*evidence),
            brief(*needed),
            minute(*pair)
        ),
        Lack::NotArmed { why } => format!("Rearguard is not armed: {why}"),
        Lack::Test { reason } => test(reason, one),
    }
}

fn test(reason: &Reason, one: &Explanation) -> String {
    let more = |have: u64, need: u64, what: &str| crate::cli::output::count(need.saturating_sub(have), what);
    match reason {
        Reason::TooFewSamples { have, need } => {
            format!("{} ({have} of {need})", more(*have, *need, "more sample"))
        }
        Reason::TooFewWithout { pair, have, need } => format!(
            "{}: without the two minutes from {} only {have} of {need} are left",
            more(*have, *need, "more sample"),
            minute(*pair)
        ),
        Reason::FewBadMinutes { bad } => {
            let needed = one.persistence.bad_needed;
            format!("{} ({bad} of {needed})", more(u64::from(*bad), u64::from(needed), "more bad minute"))
        }
        Reason::SingleMinute { pair } => {
            format!(
                "a breach without the two minutes from {}: a single bad minute never fires",
                minute(*pair)
            )
        }
        Reason::WithinNoise | Reason::Doubtful => "a breach that is beyond noise".into(),
        Reason::Unproven { evidence, needed } => format!("D {} of {}", brief(*evidence), brief(*needed)),
        Reason::Over => {
            let recent = one.evidence.as_ref().map_or("", |e| e.recent.as_str());
            let minutes = one.measured.iter().map(|m| m.recent_minutes).max().unwrap_or(5);
            format!("a breach in the last {minutes} min: {recent} is not true")
        }
        Reason::NoData => "data: the window holds none".into(),
        Reason::NoBaseline => "a baseline to compare with".into(),
        Reason::FewHours { from } => {
            format!("a breach without the two hours from {}, of which no minutes are kept", minute(*from))
        }
        Reason::NotFinite
        | Reason::Late { .. }
        | Reason::Lag { .. }
        | Reason::Stale { .. }
        | Reason::Missing { .. }
        | Reason::Masked { .. }
        | Reason::MaskedByHours { .. }
        | Reason::NoHistogram => reason.to_string(),
    }
}

/// What would keep the action from being carried out, or did.
fn in_the_way(one: &Explanation, paint: Paint, out: &mut String) {
    let gate = one.state.withheld.as_ref().unwrap_or(&one.gate);
    let Some(why) = gate.withholds() else { return };
    let _ = writeln!(out, "\n{}", paint.bold("In the way of the action"));
    bullet(out, &why);
    if let (Some(then), Some(Gate::Act)) = (&one.state.withheld, Some(&one.gate))
        && *then != Gate::Act
    {
        bullet(out, "not any more: it acts once the breach has held for `for` without a break");
    }
    if let Some(advice) = gate.advice() {
        bullet(out, advice);
    }
}

fn clearing(one: &Explanation, live: bool, paint: Paint, out: &mut String) {
    let ClearTest { condition, filled, recent, dwell, held, window_holds, recent_holds } = &one.clear;
    let title = paint.bold("What would clear it");
    match one.state.phase {
        Phase::Quiet => {}
        Phase::Pending => {
            let _ = writeln!(out, "\n{title}");
            bullet(out, "a closing at which a test does not hold; no data neither counts nor resets");
        }
        Phase::Latched => {
            let _ = writeln!(out, "\n{title}");
            let flag = &one.key.flag;
            let how = if live { "" } else { " (a replay has none)" };
            bullet(out, &format!("only a human{how}: rearguard flag rearm {flag} --reason …"));
        }
        Phase::Firing => {
            let _ = writeln!(out, "\n{title}");
            bullet(out, &format!("{condition}, for {dwell} min (`dwell`); it has held for {held}"));
            bullet(out, &format!("over the window {filled}: {}", truth(*window_holds)));
            let minutes = one.measured.iter().map(|m| m.recent_minutes).max().unwrap_or(5);
            bullet(out, &format!("over its last {minutes} min {recent}: {}", truth(*recent_holds)));
        }
    }
}

fn state(one: &Explanation) -> String {
    let since = one.state.since.map_or_else(String::new, |at| format!(" since {}", words::minute_time(at)));
    let incident = one.state.incident.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    match one.state.phase {
        Phase::Quiet => "quiet".into(),
        Phase::Pending => format!("pending{since}: in breach, waiting out `for`"),
        Phase::Latched => format!("latched{since}: rolled back{incident}"),
        Phase::Firing => {
            let done = one.state.done.unwrap_or(one.action);
            let deed = match (done, one.state.withheld.is_some()) {
                (RuleAction::Rollback, true) => "NOT rolled back",
                (RuleAction::Rollback, false) => "rolled back",
                (RuleAction::PauseRollout, true) => "NOT paused",
                (RuleAction::PauseRollout, false) => "the share is held",
                (RuleAction::Notify, true) => "nobody was told",
                (RuleAction::Notify, false) => "a notice was sent",
            };
            let instead = if done < one.action { " instead of a rollback" } else { "" };
            format!("firing{since}: {deed}{instead}{incident}")
        }
    }
}

fn verdict(one: &Explanation) -> String {
    let by = one.confirmed_by.map_or_else(String::new, |by| format!(" by {}", by.as_str()));
    let judged = format!("{}{by} (`confirm: {}`)", one.verdict, one.confirm.as_str());
    match &one.state.not_armed {
        Some(blind) => format!("inconclusive: {blind}; of the last closing: {judged}"),
        None => judged,
    }
}

fn silence(one: &Explanation) -> Option<String> {
    let since = one.state.silent_since?;
    let then = match one.no_data {
        NoData::Hold => "nothing changes, after 15 min somebody is told",
        NoData::Notify => "nothing changes, somebody is told at once",
        NoData::Pause => "after `for` the share is held and somebody is told",
    };
    Some(format!("since {}: {then}", words::minute_time(since)))
}

fn ink(one: &Explanation) -> Ink {
    match one.state.phase {
        Phase::Quiet => Ink::Plain,
        Phase::Pending => Ink::Doubt,
        Phase::Firing | Phase::Latched => Ink::Bad,
    }
}

fn slice(one: &Explanation) -> String {
    match &one.key.slice {
        Scope::All => String::new(),
        slice => format!(" [{slice}]"),
    }
}

const fn truth(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "true",
        Some(false) => "not true",
        None => "not known",
    }
}

fn minute(minute: Minute) -> String {
    words::minute_time(Timestamp::from_millis(minute.start().as_millis()))
}
