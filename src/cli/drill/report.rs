//! How a drill is told: step by step while it happens, or as one document at its end.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::output::{Format, Ink, Paint, Trouble, show, show_json};
use super::super::{FAILED, GOOD};
use super::step::{Step, Sum, Verdict, missing, steps, took};
use super::watch::Facts;
use super::{DrillArgs, by_hand, shown, speaks};
use crate::model::time::Timestamp;

/// What a drill has left behind.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// What the flag serves now.
    pub serving: Option<String>,
    /// `--keep`: nothing was cleaned up.
    pub kept: bool,
    /// What only people put back.
    pub by_hand: Option<String>,
    /// What could not be cleaned up, and how to do it.
    pub todo: Vec<String>,
}

/// How a drill went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    /// Done, and some of it took longer than is proven.
    Over,
    Failed,
    /// Well done, but something is left to clean up.
    Left,
}

/// A drill from its beginning to its end.
pub struct Report<'a> {
    args: &'a DrillArgs,
    paint: Paint,
    pub sum: Sum,
    pub facts: Facts,
    pub trouble: Option<Trouble>,
    pub left: Option<Left>,
    told: Vec<Step>,
}

impl<'a> Report<'a> {
    pub fn new(args: &'a DrillArgs, sum: Sum) -> Self {
        let paint = if speaks(args.server.format) { Paint::stdout() } else { Paint::plain() };
        Self { args, paint, sum, facts: Facts::default(), trouble: None, left: None, told: Vec::new() }
    }

    /// Says what has begun.
    pub fn begin(&self, done: &str) -> Result<(), Trouble> {
        self.say(&format!("{}\n", self.paint.bold(done)))
    }

    /// Says what has happened since it was last asked.
    pub fn news(&mut self) -> Result<(), Trouble> {
        for step in steps(self.start(), &self.facts, &self.sum) {
            match self.told.iter_mut().find(|told| told.name == step.name) {
                Some(told) => *told = step,
                None => {
                    self.say(&self.line(&step))?;
                    self.told.push(step);
                }
            }
        }
        Ok(())
    }

    /// Says what has not happened.
    pub fn missing(&mut self) -> Result<(), Trouble> {
        for step in missing(&self.facts, self.args.wait_ack) {
            self.say(&self.line(&step))?;
            self.told.push(step);
        }
        match &self.trouble {
            Some(trouble) => self.say(&format!("  the daemon did not answer last: {trouble}\n")),
            None => Ok(()),
        }
    }

    /// Somebody has pressed Ctrl-C: what goes on, and how to end it.
    pub fn interrupted(&self) -> Result<u8, Trouble> {
        let commands = by_hand(&self.args.flag, &self.facts.incident);
        let what = match self.facts.opened {
            Some(_) => "interrupted; the drill goes on in the daemon. To end it:",
            None => {
                "interrupted; no more events are written. Should a rule still decide on those that are, end the drill with:"
            }
        };
        match self.args.server.format {
            Format::Human => show(&format!("{what}\n  {}\n", commands.join("\n  ")))?,
            Format::Json => {
                let mut document = self.document();
                document["result"] = json!("interrupted");
                document["to_do"] = json!(commands);
                show_json(&document)?;
            }
        }
        Ok(FAILED)
    }

    /// The sum, what is left, and the exit code.
    pub fn end(&self) -> Result<u8, Trouble> {
        let outcome = self.outcome();
        if self.args.server.format == Format::Json {
            show_json(&self.document())?;
        } else {
            show(&self.ending(outcome))?;
        }
        Ok(if outcome == Outcome::Ok { GOOD } else { FAILED })
    }

    fn say(&self, text: &str) -> Result<(), Trouble> {
        if speaks(self.args.server.format) { show(text) } else { Ok(()) }
    }

    /// When the drill began.
    fn start(&self) -> Timestamp {
        self.facts.begun.unwrap_or(self.facts.t0)
    }

    /// How it went in all: the worst of its steps, and of what is left of it.
    fn outcome(&self) -> Outcome {
        let any = |verdict| self.told.iter().any(|step| step.verdict == verdict);
        match took(&self.facts) {
            None => Outcome::Failed,
            Some(_) if any(Verdict::Failed) => Outcome::Failed,
            Some(took) if any(Verdict::Over) || took > self.sum.seconds => Outcome::Over,
            Some(_) if self.left.as_ref().is_some_and(|left| !left.todo.is_empty()) => Outcome::Left,
            Some(_) => Outcome::Ok,
        }
    }

    fn line(&self, step: &Step) -> String {
        let since = step.since_start.map_or_else(|| "     –".to_owned(), |s| format!("{s:6.2}"));
        let (ink, word) = match step.verdict {
            Verdict::Ok => (Ink::Good, "OK"),
            Verdict::Over => (Ink::Bad, "OVER"),
            Verdict::Failed => (Ink::Bad, "FAILED"),
            Verdict::Done => (Ink::Dim, ""),
        };
        let of = match (step.took, &step.term) {
            (Some(took), Some(term)) => format!("  {}: {took:.2} s of {:.0} s", term.term, term.seconds),
            _ => String::new(),
        };
        let word = if word.is_empty() { String::new() } else { format!("  {}", self.paint.ink(ink, word)) };
        format!("{since} s  {:<15} {}{}{word}\n", step.name, step.detail, self.paint.dim(&of))
    }

    fn ending(&self, outcome: Outcome) -> String {
        let took = took(&self.facts).unwrap_or_default();
        let sum = format!("{took:.2} s of the {:.0} s that `rearguard check` proves", self.sum.seconds);
        let mut out = match outcome {
            Outcome::Ok => format!("{} {sum}\n", self.paint.ink(Ink::Good, "OK:")),
            Outcome::Over => format!("{} {sum}\n", self.paint.ink(Ink::Bad, "OVER:")),
            Outcome::Left => format!("{} {sum}\n", self.paint.ink(Ink::Doubt, "OK, BUT NOT CLEANED UP:")),
            Outcome::Failed => {
                format!("{} this rollback would not have been whole\n", self.paint.ink(Ink::Bad, "FAILED:"))
            }
        };
        let Some(left) = &self.left else { return out };
        if left.kept {
            let commands = by_hand(&self.args.flag, &self.facts.incident).join("\n  ");
            out.push_str(&format!("kept as it is, until you run\n  {commands}\n"));
        } else if left.todo.is_empty() {
            out.push_str("cleaned up: re-armed, incident resolved\n");
        }
        for todo in &left.todo {
            out.push_str(&format!("{} {todo}\n", self.paint.ink(Ink::Bad, "to do:")));
        }
        if let Some(by_hand) = &left.by_hand {
            out.push_str(&format!("to do: {by_hand}\n"));
        }
        if let Some(serving) = &left.serving {
            out.push_str(&format!("the flag now: {serving}\n"));
        }
        out
    }

    fn document(&self) -> Value {
        let facts = &self.facts;
        let steps: Vec<Value> = self
            .told
            .iter()
            .map(|step| {
                let mut value = serde_json::to_value(step).unwrap_or_default();
                value["at"] = step.at.map_or(Value::Null, shown);
                value
            })
            .collect();
        let left = self.left.as_ref();
        json!({
            "flag": self.args.flag,
            "from": self.args.from.as_str(),
            "reason": self.args.reason,
            "decision": facts.decision,
            "incident": facts.incident,
            "steps": steps,
            "seconds": took(facts),
            "budget": self.sum,
            "result": self.outcome(),
            "serving": left.and_then(|left| left.serving.as_ref()),
            "kept": left.is_some_and(|left| left.kept),
            "by_hand": left.and_then(|left| left.by_hand.as_ref()),
            "to_do": left.map(|left| left.todo.clone()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::super::step::Term;
    use super::*;
    use crate::engine::input::FlipOutcome;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_689_158_580_000 + seconds * 1_000)
    }

    #[test]
    fn the_worst_of_it_decides() {
        let command = DrillArgs::augment_args(clap::Command::new("drill"));
        let parsed = command.get_matches_from(["drill", "ai.drill.v2", "--reason", "x"]);
        let args = DrillArgs::from_arg_matches(&parsed).unwrap();
        let term = |(term, seconds): (&str, f64)| Term { term: term.to_owned(), seconds };
        let terms = [("commit", 5.0), ("flip", 90.0), ("page", 60.0)].map(term).to_vec();
        let good = Facts {
            t0: at(0),
            opened: Some(at(1)),
            flip: Some((at(2), FlipOutcome::Verified)),
            page: Some((at(3), "oncall".into())),
            ..Facts::default()
        };
        let slow = Facts { flip: Some((at(93), FlipOutcome::Verified)), ..good.clone() };
        let failed = Facts { flip: Some((at(93), FlipOutcome::Failed)), ..good.clone() };
        let unpaged = Facts { page: None, ..good.clone() };
        for (facts, todo, outcome, begins) in [
            (&good, false, Outcome::Ok, "OK: 3.00 s of the 155 s"),
            (&good, true, Outcome::Left, "OK, BUT NOT CLEANED UP: 3.00 s"),
            (&slow, false, Outcome::Over, "OVER: 93.00 s of the 155 s"),
            (&slow, true, Outcome::Over, "OVER: "),
            (&failed, true, Outcome::Failed, "FAILED: "),
            (&unpaged, false, Outcome::Failed, "FAILED: "),
        ] {
            let sum = Sum { terms: terms.clone(), seconds: 155.0 };
            let mut report = Report { paint: Paint::plain(), ..Report::new(&args, sum) };
            report.facts = facts.clone();
            report.told = steps(report.start(), facts, &report.sum);
            let todo = if todo { vec!["run this".to_owned()] } else { Vec::new() };
            report.left = Some(Left { todo, ..Left::default() });
            assert_eq!(report.outcome(), outcome, "{facts:?}");
            assert!(report.ending(outcome).starts_with(begins), "{}", report.ending(outcome));
        }
    }
}
