//! `rearguard incident replay`: decisions judged again, number by number.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::{Client, ServerArgs};
use crate::cli::output::{Format, Ink, Paint, Trouble, show, show_json, utc};
use crate::cli::table::{Side, Table, cell};
use crate::cli::{FAILED, GOOD};
use crate::dispatch::words;
use crate::engine::grounds::{Check, Replayed};
use crate::engine::output::Gate;
use crate::model::time::Timestamp;
use crate::store::TokenScope;

/// The API's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    id: String,
    same: bool,
    decisions: Vec<Judged>,
}

#[derive(Debug, Deserialize)]
struct Judged {
    decision: String,
    rule: String,
    action: String,
    gate: Gate,
    at: Timestamp,
    same: bool,
    sealed: bool,
    bytes: u64,
    replayed: Option<Replayed>,
    why: Option<String>,
}

/// Asks for an incident's decisions, or one of them, to be judged again.
pub fn run(server: &ServerArgs, id: &str, decision: Option<&str>) -> Result<u8, Trouble> {
    let client = Client::new(server, TokenScope::Read)?;
    let query: Vec<(&str, &str)> = decision.iter().map(|decision| ("decision", *decision)).collect();
    let document = client.get(&["v1", "incidents", id, "replay"], &query)?;
    let answer = Answer::deserialize(&document).map_err(|error| client.stranger(&error.to_string()))?;
    match server.format {
        Format::Json => show_json(&document)?,
        Format::Human => show(&render(&answer, Paint::stdout()))?,
    }
    Ok(if answer.same { GOOD } else { FAILED })
}

fn render(answer: &Answer, paint: Paint) -> String {
    let mut out = String::new();
    for one in &answer.decisions {
        let (ink, word) = if one.same { (Ink::Good, "SAME") } else { (Ink::Bad, "NOT THE SAME") };
        let _ = writeln!(
            out,
            "{}  {} by {} at {} UTC, {}",
            paint.ink(ink, word),
            one.action,
            one.rule,
            utc(one.at),
            one.gate.as_str()
        );
        let kept = if one.bytes > 0 {
            format!(", {} bytes of evidence", words::count(one.bytes))
        } else {
            String::new()
        };
        let _ = writeln!(out, "{}", paint.dim(&format!("decision {}{kept}", one.decision)));
        if !one.sealed {
            let text =
                "ALTERED: the decision or its evidence is not what the audit chain says that was stored";
            let _ = writeln!(out, "  {}", paint.ink(Ink::Bad, text));
        }
        if let Some(why) = &one.why {
            let _ = writeln!(out, "  {}", paint.ink(Ink::Bad, &format!("it could not be judged: {why}")));
        }
        if let Some(replayed) = &one.replayed {
            out.push_str(&table(replayed, paint));
        }
        out.push('\n');
    }
    let what = crate::cli::output::count(answer.decisions.len() as u64, "decision");
    let ending = if answer.same {
        format!("{}: {what} judged again, all to the same verdict and numbers", answer.id)
    } else {
        format!("{}: {what} judged again, and NOT all to what is stored", answer.id)
    };
    let _ = writeln!(out, "{ending}");
    out
}

/// What differs, and of the rest what people read.
fn table(replayed: &Replayed, paint: Paint) -> String {
    use Side::Left;
    let mut table = Table::new(2, &[("", Left), ("STORED", Left), ("JUDGED AGAIN", Left)]);
    for check in replayed.checks.iter().filter(|check| !check.same || is_told(check)) {
        let name = check.what.replace('_', " ");
        let again =
            if check.same { cell(Ink::Dim, "the same") } else { cell(Ink::Bad, value(check, &check.again)) };
        table.row(vec![cell(Ink::Dim, name), value(check, &check.stored).into(), again]);
    }
    table.render(paint)
}

fn is_told(check: &Check) -> bool {
    const TOLD: [&str; 12] = [
        "verdict",
        "closing",
        "crossing",
        "t0",
        "value",
        "threshold",
        "samples",
        "baseline_samples",
        "interval",
        "bad_minutes",
        "evidence",
        "evidence_needed",
    ];
    TOLD.contains(&check.what.as_str()) && !check.stored.is_null()
}

fn value(check: &Check, value: &Value) -> String {
    match (check.what.as_str(), value) {
        ("closing" | "crossing" | "t0", Value::Number(n)) => {
            utc(Timestamp::from_millis(n.as_i64().unwrap_or_default()))
        }
        ("evidence" | "evidence_needed", Value::Number(n)) => {
            crate::engine::verdict::brief(n.as_f64().unwrap_or_default())
        }
        // With all digits: they may differ in the last.
        (_, Value::Number(n)) if !check.same => n.to_string(),
        (_, Value::Number(n)) => words::number(n.as_f64().unwrap_or_default()),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Null) => "none".into(),
        ("picture", Value::Array(minutes)) => crate::cli::output::count(minutes.len() as u64, "minute"),
        ("interval", Value::Array(ends)) if check.same => {
            let ends: Vec<String> = ends.iter().filter_map(Value::as_f64).map(words::number).collect();
            ends.join(" to ")
        }
        (_, other) => other.to_string(),
    }
}
