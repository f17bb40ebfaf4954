//! The steps of a drill: when each happened, how much of which term of the ten minutes it took, and whether that was kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::watch::Facts;
use crate::engine::budget::Budget;
use crate::engine::input::FlipOutcome;
use crate::model::time::Timestamp;

/// The sum that a drill has to keep, in seconds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Sum {
    pub terms: Vec<Term>,
    pub seconds: f64,
}

/// One term of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Term {
    pub term: String,
    pub seconds: f64,
}

impl Sum {
    /// The sum as `rearguard check` proves it.
    pub fn of(budget: &Budget) -> Self {
        let term = |(term, span): &(&'static str, Duration)| Term {
            term: (*term).to_owned(),
            seconds: span.as_secs_f64(),
        };
        Self { terms: budget.terms.iter().map(term).collect(), seconds: budget.total.as_secs_f64() }
    }

    /// What is left of it once the decision is stored, in seconds.
    pub fn after_decision(&self) -> f64 {
        self.one("flip").seconds + self.one("page").seconds
    }

    /// One term; nothing where it is not in the sum.
    fn one(&self, name: &str) -> Term {
        self.terms
            .iter()
            .find(|term| term.term == name)
            .cloned()
            .unwrap_or_else(|| Term { term: name.to_owned(), seconds: 0.0 })
    }

    /// All terms that end with the stored decision.
    fn deciding(&self) -> Term {
        let before: Vec<&Term> =
            self.terms.iter().filter(|t| !matches!(t.term.as_str(), "flip" | "page")).collect();
        let names: Vec<&str> = before.iter().map(|term| term.term.as_str()).collect();
        Term { term: names.join("+"), seconds: before.iter().map(|term| term.seconds).sum() }
    }
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its term.
    Ok,
    /// Done, and it took longer.
    Over,
    /// Not done, or done otherwise than it should have been.
    Failed,
    /// Nothing bounds it.
    Done,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub name: &'static str,
    /// `None` for what did not happen.
    pub at: Option<Timestamp>,
    /// Seconds since the drill began.
    pub since_start: Option<f64>,
    /// Seconds that it took, and the term that bounds it.
    pub took: Option<f64>,
    pub term: Option<Term>,
    pub verdict: Verdict,
    pub detail: String,
}

/// The steps that have happened by now, in their order.
pub fn steps(start: Timestamp, facts: &Facts, sum: &Sum) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(at) = facts.events_seen {
        steps.push(done("events seen", start, at, "the rule's window holds samples of the drill"));
    }
    if let Some(at) = facts.breach_seen {
        steps.push(done("in breach", start, at, "the rule waits out `for`"));
    }
    let Some(opened) = facts.opened else { return steps };
    let decided = timed("decided", (start, facts.t0, opened), sum.deciding(), &facts.decision);
    steps.push(match &facts.withheld {
        Some(why) => Step { verdict: Verdict::Failed, detail: format!("NOT ROLLED BACK: {why}"), ..decided },
        None => decided,
    });
    steps.push(done("incident opened", start, opened, &facts.incident));
    if let Some(at) = facts.written {
        steps.push(done("flip written", start, at, &facts.platform));
    }
    if let Some((at, outcome)) = facts.flip {
        let step = timed("read back", (start, opened, at), sum.one("flip"), &facts.flip_detail);
        steps.push(match outcome {
            FlipOutcome::Verified => step,
            outcome => Step { verdict: Verdict::Failed, detail: not_so(outcome, &facts.flip_detail), ..step },
        });
    }
    if let Some((at, receiver)) = &facts.page {
        let from = facts.flip.map_or(opened, |(at, _)| at).min(*at);
        let detail = format!("by {receiver}");
        steps.push(timed("page accepted", (start, from, *at), sum.one("page"), &detail));
    }
    if let Some((at, by)) = &facts.acknowledged {
        steps.push(done("acknowledged", start, *at, &format!("by {by}")));
    }
    steps
}

/// What should have happened by the end and has not.
pub fn missing(facts: &Facts, waited_for_a_human: bool) -> Vec<Step> {
    let not = |name, detail: &str| Step {
        name,
        at: None,
        since_start: None,
        took: None,
        term: None,
        verdict: Verdict::Failed,
        detail: detail.to_owned(),
    };
    let mut missing = Vec::new();
    if facts.opened.is_none() {
        missing.push(not("decided", "no decision came in time; `rearguard explain` says why"));
        return missing;
    }
    if facts.flip.is_none() {
        missing.push(not("read back", "the flip was not read back in time; tries go on"));
    }
    if facts.page.is_none() {
        missing.push(not("page accepted", "no receiver has accepted a page; do the routes page anybody?"));
    }
    if waited_for_a_human && facts.acknowledged.is_none() {
        missing.push(not("acknowledged", "nobody has acknowledged the page"));
    }
    missing
}

/// From the start of the ten minutes to the last of flip read back, incident opened, page accepted; `None` while one is missing.
pub fn took(facts: &Facts) -> Option<f64> {
    let (flip, page) = (facts.flip?.0, facts.page.as_ref()?.0);
    Some(seconds(facts.t0, facts.opened?.max(flip).max(page)))
}

fn not_so(outcome: FlipOutcome, detail: &str) -> String {
    let what = match outcome {
        FlipOutcome::AlreadySafe => "control was served before the drill, so that no write was practised",
        FlipOutcome::Superseded => "left alone, because a human stepped in",
        FlipOutcome::Verified | FlipOutcome::Failed | FlipOutcome::Expired => "ROLLBACK FAILED",
    };
    format!("{what}: {detail}")
}

fn done(name: &'static str, start: Timestamp, at: Timestamp, detail: &str) -> Step {
    Step {
        name,
        at: Some(at),
        since_start: Some(seconds(start, at)),
        took: None,
        term: None,
        verdict: Verdict::Done,
        detail: detail.to_owned(),
    }
}

/// A step from one time to another, against a term.
fn timed(
    name: &'static str,
    (start, from, to): (Timestamp, Timestamp, Timestamp),
    term: Term,
    detail: &str,
) -> Step {
    let took = seconds(from, to);
    let verdict = if took <= term.seconds { Verdict::Ok } else { Verdict::Over };
    Step { took: Some(took), term: Some(term), verdict, ..done(name, start, to, detail) }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_689_158_580_000 + seconds * 1_000)
    }

    fn sum(terms: &[(&str, f64)]) -> Sum {
        let term = |(term, seconds): &(&str, f64)| Term { term: (*term).to_owned(), seconds: *seconds };
        Sum { terms: terms.iter().map(term).collect(), seconds: terms.iter().map(|(_, s)| s).sum() }
    }

    fn by_hand() -> Sum {
        sum(&[("commit", 5.0), ("flip", 90.0), ("page", 60.0)])
    }

    fn all() -> Facts {
        Facts {
            t0: at(0),
            opened: Some(at(1)),
            decision: "d1".into(),
            incident: "inc-1".into(),
            written: Some(at(2)),
            platform: "builtin".into(),
            flip: Some((at(3), FlipOutcome::Verified)),
            flip_detail: "all of the sample got control".into(),
            page: Some((at(5), "oncall".into())),
            ..Facts::default()
        }
    }

    fn verdicts(facts: &Facts, sum: &Sum) -> Vec<(&'static str, Verdict)> {
        steps(at(0), facts, sum).iter().map(|step| (step.name, step.verdict)).collect()
    }

    #[test]
    fn each_step_is_held_against_its_own_term() {
        use Verdict::{Done, Failed, Ok, Over};
        let names = ["decided", "incident opened", "flip written", "read back", "page accepted"];
        let slow_commit = Facts { opened: Some(at(6)), ..all() };
        let slow_flip =
            Facts { flip: Some((at(92), FlipOutcome::Verified)), page: Some((at(93), "x".into())), ..all() };
        let slow_page = Facts { page: Some((at(64), "x".into())), ..all() };
        let early_page =
            Facts { flip: Some((at(91), FlipOutcome::Verified)), page: Some((at(40), "x".into())), ..all() };
        let withheld = Facts { withheld: Some("automation is switched off".into()), ..all() };
        let safe = Facts { flip: Some((at(3), FlipOutcome::AlreadySafe)), ..all() };
        let left = Facts { flip: Some((at(3), FlipOutcome::Superseded)), ..all() };
        let failed = Facts { flip: Some((at(3), FlipOutcome::Failed)), ..all() };
        for (facts, wanted) in [
            (all(), [Ok, Done, Done, Ok, Ok]),
            (slow_commit, [Over, Done, Done, Ok, Ok]),
            (slow_flip, [Ok, Done, Done, Over, Ok]),
            (slow_page, [Ok, Done, Done, Ok, Over]),
            (early_page, [Ok, Done, Done, Ok, Ok]),
            (withheld, [Failed, Done, Done, Ok, Ok]),
            (safe, [Ok, Done, Done, Failed, Ok]),
            (left, [Ok, Done, Done, Failed, Ok]),
            (failed, [Ok, Done, Done, Failed, Ok]),
        ] {
            let wanted: Vec<_> = names.into_iter().zip(wanted).collect();
            assert_eq!(verdicts(&facts, &by_hand()), wanted, "{facts:?}");
            assert!(missing(&facts, false).is_empty());
        }
    }

    #[test]
    fn from_events_everything_up_to_the_stored_decision_is_one_span() {
        let terms = [("pane", 60.0), ("lateness", 30.0), ("tick", 10.0), ("for", 120.0), ("commit", 5.0)];
        let sum = sum(&[&terms[..], &[("flip", 90.0), ("page", 60.0)]].concat());
        let facts = Facts {
            events_seen: Some(at(-60)),
            breach_seen: Some(at(100)),
            opened: Some(at(220)),
            flip: Some((at(221), FlipOutcome::Verified)),
            page: Some((at(222), "oncall".into())),
            ..all()
        };
        let steps = steps(at(-120), &facts, &sum);
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        assert_eq!(&names[..3], ["events seen", "in breach", "decided"]);
        let decided = &steps[2];
        let term = decided.term.as_ref().unwrap();
        assert_eq!((&*term.term, term.seconds), ("pane+lateness+tick+for+commit", 225.0));
        assert_eq!(
            (decided.took, decided.since_start, decided.verdict),
            (Some(220.0), Some(340.0), Verdict::Ok)
        );
        assert_eq!(took(&facts), Some(222.0));
    }

    #[test]
    fn what_did_not_happen_is_named() {
        let names =
            |facts: &Facts, wait| missing(facts, wait).iter().map(|step| step.name).collect::<Vec<_>>();
        assert_eq!(names(&Facts::default(), true), ["decided"]);
        let opened = Facts { opened: Some(at(1)), ..Facts::default() };
        assert_eq!(names(&opened, true), ["read back", "page accepted", "acknowledged"]);
        assert_eq!(took(&opened), None);
        assert_eq!(names(&all(), true), ["acknowledged"]);
        let acked = Facts { acknowledged: Some((at(9), "ann".into())), ..all() };
        assert!(names(&acked, true).is_empty());
        assert_eq!(verdicts(&acked, &by_hand()).last(), Some(&("acknowledged", Verdict::Done)));
    }
}
