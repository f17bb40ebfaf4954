//! Holds expectations against what happened.

use super::expect::{Claim, Expectation, Fact, Firing, VerdictIs, When};
use super::run::Story as Run;
use super::spec::Test;
use crate::dispatch::chart;
use crate::dispatch::words::{count, measure};
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::span::show;
use crate::engine::rule::{RuleAction, RuleSet};
use crate::lab::journal::{Entry, Numbers, Point, Story, What};
use crate::model::flag::Scope;
use crate::model::time::Timestamp;

/// Lines of an alert's course; a rule that flaps for a month has thousands.
const LINES: usize = 20;
/// Alerts whose course is shown when an expectation names none.
const COURSES: usize = 5;

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Failure {
    /// Where the expectation stands, counted from 1.
    pub line: usize,
    pub expected: String,
    pub got: String,
    /// The window of the alert in question, as text.
    pub picture: Option<String>,
    /// What the alerts in question did: one line each.
    pub course: Vec<String>,
}

/// Every claim of a test that does not hold.
pub fn failures(test: &Test, run: &Run, rules: &RuleSet) -> Vec<Failure> {
    let stories = run.journal.stories();
    let mut found = Vec::new();
    for expectation in &test.expect {
        let own: Vec<&Story> =
            stories.iter().copied().filter(|s| expectation.of.covers(&s.rule, &s.key)).collect();
        let court = Court { run, rules, expectation, stories: own };
        for claim in &expectation.claims {
            found.extend(court.wrong(claim));
        }
    }
    found
}

/// One expectation before the facts.
struct Court<'a> {
    run: &'a Run,
    rules: &'a RuleSet,
    expectation: &'a Expectation,
    stories: Vec<&'a Story>,
}

/// Where in the course of which alert something was seen.
type Seen<'a> = (&'a Story, Timestamp, String);

impl<'a> Court<'a> {
    fn wrong(&self, claim: &Claim) -> Option<Failure> {
        let seen = |fact: &Fact| self.seen(fact);
        let (got, place) = match claim {
            Claim::Is(fact) => {
                if !seen(fact).is_empty() {
                    return None;
                }
                let at = self.looked_at();
                let acting = self.in_force(at).filter(|_| matches!(fact, Fact::InForce(_)));
                (self.instead(fact), acting.map(|(_, story, _)| (story, at)))
            }
            Claim::Never(fact) => {
                let (story, at, said) = seen(fact).into_iter().next()?;
                (said, Some((story, at)))
            }
            Claim::Times(n, fact) => {
                let found = seen(fact);
                if found.len() as u64 == *n {
                    return None;
                }
                let list: Vec<&str> = found.iter().map(|(_, _, said)| said.as_str()).take(LINES).collect();
                let got = if list.is_empty() {
                    "none".to_owned()
                } else {
                    format!("{}: {}", found.len(), list.join("; "))
                };
                (got, found.last().map(|(story, at, _)| (*story, *at)))
            }
        };
        let (story, at) = place.or_else(|| Some((self.suspect()?, self.looked_at()))).unzip();
        Some(Failure {
            line: self.expectation.line,
            expected: format!("{}{claim}{}", self.subject(), self.expectation.when),
            got,
            picture: story.zip(at).and_then(|(story, at)| self.picture(story, at)),
            course: match story {
                Some(story) if self.expectation.of.rule.is_some() || place.is_some() => self.course(story),
                _ => self.courses(),
            },
        })
    }

    /// Every time that a fact is so within the expectation's time.
    fn seen(&self, fact: &Fact) -> Vec<Seen<'a>> {
        if let Fact::InForce(wanted) = fact {
            let at = self.looked_at();
            let now = self.in_force(at);
            let same = now.as_ref().map(|(action, _, _)| *action) == *wanted;
            // When nothing is in force, that is so of every alert.
            let nothing = || self.stories.first().map(|story| (*story, at, String::new()));
            let seen = now.map(|(_, story, said)| (story, at, said)).or_else(nothing);
            return seen.filter(|_| same).into_iter().collect();
        }
        let mut seen: Vec<Seen<'a>> =
            self.stories.iter().flat_map(|story| self.seen_of(story, fact)).collect();
        seen.sort_by_key(|(_, at, _)| *at);
        seen
    }

    fn seen_of(&self, story: &'a Story, fact: &Fact) -> Vec<Seen<'a>> {
        match fact {
            Fact::Fires(firing) => story
                .decisions()
                .filter(|entry| self.is_in_time(entry.at) && fits(entry, firing))
                .map(|entry| (story, entry.at, self.decided(story, entry)))
                .collect(),
            Fact::Verdict(wanted) => story
                .track
                .iter()
                .filter(|point| self.is_in_time(point.minute.end()) && wanted.covers(point.standing))
                .map(|point| (story, point.minute.end(), self.verdict(story, point)))
                .collect(),
            Fact::Alert(wanted) => story
                .track
                .iter()
                .map(|point| point.minute.end())
                .filter(|at| self.is_in_time(*at) && phase_at(story, *at) == *wanted)
                .map(|at| (story, at, format!("{} {} at {}", name(story), wanted.as_str(), self.clock(at))))
                .collect(),
            Fact::InForce(_) => Vec::new(),
        }
    }

    /// What was so instead of what should have been.
    fn instead(&self, fact: &Fact) -> String {
        if self.stories.is_empty() {
            return "it was never judged: no event of its variant (and slice) came".to_owned();
        }
        match (fact, self.expectation.when) {
            (Fact::InForce(_), _) => match self.in_force(self.looked_at()) {
                Some((action, _, said)) => format!("{} in force: {said}", action.as_str()),
                None => {
                    let now = self.suspect().map_or(String::new(), |story| self.now(story));
                    format!("nothing in force; {now}")
                }
            },
            (Fact::Fires(_), _) => {
                let decisions = self.stories.iter().flat_map(|s| s.decisions().map(|e| self.decided(s, e)));
                let list: Vec<String> = decisions.take(LINES).collect();
                let none = "none".to_owned();
                let now = self.suspect().map_or(String::new(), |s| format!("; {}", self.now(s)));
                if list.is_empty() { none + &now } else { list.join("; ") + &now }
            }
            (Fact::Verdict(_) | Fact::Alert(_), When::At(_)) => {
                self.suspect().map_or(String::new(), |story| self.now(story))
            }
            (Fact::Verdict(_), When::During { .. }) => self.only(|_, point| VerdictIs::word(point.standing)),
            (Fact::Alert(_), When::During { .. }) => {
                self.only(|story, point| phase_at(story, point.minute.end()).as_str())
            }
        }
    }

    /// The words that closings within the time have.
    fn only(&self, word: impl Fn(&Story, &Point) -> &'static str) -> String {
        let of = |story: &&'a Story| {
            let story = *story;
            story.track.iter().filter(|p| self.is_in_time(p.minute.end())).map(move |p| (story, p))
        };
        let mut words: Vec<&str> = self.stories.iter().flat_map(of).map(|(s, p)| word(s, p)).collect();
        words.sort_unstable();
        words.dedup();
        if words.is_empty() { "nothing was judged".to_owned() } else { format!("only {}", words.join(", ")) }
    }

    /// The time to look at: the one named, or the end.
    fn looked_at(&self) -> Timestamp {
        match self.expectation.when {
            When::At(at) => at.on(self.run.start),
            When::During { until, .. } => until.map_or(self.run.end, |until| until.on(self.run.start)),
        }
    }

    fn is_in_time(&self, at: Timestamp) -> bool {
        let on = |moment: super::expect::Moment| moment.on(self.run.start);
        match self.expectation.when {
            When::At(moment) => on(moment) == at,
            When::During { after, until } => {
                after.is_none_or(|after| on(after) < at) && until.is_none_or(|until| at <= on(until))
            }
        }
    }

    /// The alert that most probably is of interest: the named one, else one of a rule that would take the wanted action.
    fn suspect(&self) -> Option<&'a Story> {
        let wanted = self.expectation.claims.iter().find_map(|claim| match claim {
            Claim::Is(Fact::Fires(firing)) | Claim::Times(_, Fact::Fires(firing)) => firing.action,
            Claim::Is(Fact::InForce(action)) => *action,
            _ => None,
        });
        let fits = |story: &&&Story| wanted.is_none_or(|action| story.rule.action == action);
        let depth = |story: &Story| story.verdicts.breach;
        let able = self.stories.iter().filter(fits).max_by_key(|story| depth(story));
        able.or(self.stories.first()).copied()
    }

    /// Verdict and state at the time to look at.
    fn now(&self, story: &Story) -> String {
        let at = self.looked_at();
        let state = phase_at(story, at).as_str();
        match story.track.iter().rev().find(|point| point.minute.end() <= at) {
            Some(point) => {
                let said = self.run.verdicts.get(&(point.minute.end(), story.key.clone()));
                let why = said.and_then(|said| said.split_once(": ")).map(|(_, why)| format!(": {why}"));
                format!("{}, {state}{}", self.verdict(story, point), why.unwrap_or_default())
            }
            None => format!("not judged by {}, {state}", self.clock(at)),
        }
    }

    fn verdict(&self, story: &Story, point: &Point) -> String {
        let unit = &story.unit;
        let numbers = match (point.value, point.threshold) {
            (Some(value), Some(limit)) => {
                format!(" ({} against {})", measure(value, unit), measure(limit, unit))
            }
            (Some(value), None) => format!(" ({})", measure(value, unit)),
            (None, _) => String::new(),
        };
        let word = VerdictIs::word(point.standing);
        format!("{} {word} at {}{numbers}", name(story), self.clock(point.minute.end()))
    }

    fn decided(&self, story: &Story, entry: &Entry) -> String {
        let What::Decided { action, gate } = &entry.what else { return String::new() };
        let held =
            if *gate == Gate::Act { String::new() } else { format!(", held back by {}", gate.as_str()) };
        let Numbers { value, threshold, unit, samples, confirmed_by, .. } = &entry.numbers;
        let numbers = match (value, threshold) {
            (Some(value), Some(limit)) => {
                format!(
                    " ({} against {}, {} samples)",
                    measure(*value, unit),
                    measure(*limit, unit),
                    count(*samples)
                )
            }
            _ => String::new(),
        };
        let by = confirmed_by.as_str().map(|by| format!(", confirmed by {by}")).unwrap_or_default();
        let at = self.clock(entry.at);
        format!("{} {} at {at}{held}{by}{numbers}", name(story), action.as_str())
    }

    /// The strongest action in force, whose it is, and since when.
    fn in_force(&self, at: Timestamp) -> Option<(RuleAction, &'a Story, String)> {
        let of = |story: &&'a Story| {
            let standing = matches!(phase_at(story, at), Phase::Firing | Phase::Latched);
            let last = story.decisions().filter(|entry| entry.at <= at).last().filter(|_| standing)?;
            let What::Decided { action, gate } = &last.what else { return None };
            let acts = *gate == Gate::Act && *action != RuleAction::Notify;
            acts.then(|| (*action, *story, self.decided(story, last)))
        };
        self.stories.iter().filter_map(of).max_by_key(|(action, _, _)| *action)
    }

    fn picture(&self, story: &Story, at: Timestamp) -> Option<String> {
        let evidence = self.run.evidence.get(&(at, story.key.clone()))?;
        Some(format!("{} at {}\n{}", name(story), self.clock(at), chart::draw(evidence)?.trim_end()))
    }

    /// What alerts did over time, those that did nothing left out.
    fn courses(&self) -> Vec<String> {
        let busy: Vec<&Story> = self.stories.iter().copied().filter(|s| !s.entries.is_empty()).collect();
        if busy.is_empty() {
            return self.suspect().map(|story| self.course(story)).unwrap_or_default();
        }
        busy.into_iter().take(COURSES).flat_map(|story| self.course(story)).collect()
    }

    /// What an alert did over time.
    fn course(&self, story: &Story) -> Vec<String> {
        let slice =
            if story.key.slice == Scope::All { String::new() } else { format!(" {}", story.key.slice) };
        let (condition, action) = (&story.rule.condition.source, story.rule.action.as_str());
        let mut lines = vec![format!("{condition} → {action}{slice}")];
        let moves: Vec<String> = story
            .entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Moved { from, to, why } => {
                    let at = self.clock(entry.at);
                    Some(format!("  {at:>8}  {} → {}: {why}", from.as_str(), to.as_str()))
                }
                What::Decided { .. } => None,
            })
            .collect();
        lines.extend(moves.iter().take(LINES).cloned());
        if moves.len() > LINES {
            lines.push(format!("  and {} more", moves.len() - LINES));
        }
        if lines.len() == 1 {
            lines.push(format!("  {} throughout", Phase::Quiet.as_str()));
        }
        lines
    }

    /// Whom the expectation is about, to be put in front of the claim.
    fn subject(&self) -> String {
        let of = &self.expectation.of;
        let rule = of.rule.as_ref().and_then(|(flag, id)| {
            self.rules
                .rules
                .iter()
                .find(|rule| rule.flag == *flag && rule.id == *id)
                .map(|rule| rule.id.to_string())
        });
        let parts = [
            rule.or(of.variant.as_ref().map(ToString::to_string)),
            of.slice.as_ref().map(ToString::to_string),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if known.is_empty() { String::new() } else { format!("{}: ", known.join(" ")) }
    }

    /// An offset from the start; with recorded events the time as well.
    fn clock(&self, at: Timestamp) -> String {
        show(at.since(self.run.start))
    }
}

fn name(story: &Story) -> String {
    match &story.key.slice {
        Scope::All => story.key.rule.to_string(),
        slice => format!("{} {slice}", story.key.rule),
    }
}

fn fits(entry: &Entry, firing: &Firing) -> bool {
    let What::Decided { action, gate } = &entry.what else { return false };
    firing.action.is_none_or(|wanted| wanted == *action)
        && firing.gate.is_none_or(|wanted| wanted == gate.as_str())
        && firing.confirmed_by.is_none_or(|wanted| entry.numbers.confirmed_by.as_str() == Some(wanted))
}

/// The state after a closing.
fn phase_at(story: &Story, at: Timestamp) -> Phase {
    let before = story.entries.iter().rev().filter(|entry| entry.at <= at);
    let mut moves = before.filter_map(|entry| match entry.what {
        What::Moved { to, .. } => Some(to),
        What::Decided { .. } => None,
    });
    moves.next().unwrap_or(Phase::Quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_apart_by_action_gate_and_who_confirmed_it() {
        let entry = Entry {
            at: Timestamp::default(),
            what: What::Decided { action: RuleAction::Rollback, gate: Gate::DryRun },
            numbers: Numbers { confirmed_by: "evidence".into(), ..Numbers::default() },
            crossing: None,
            t0: None,
        };
        let meant = |action, gate, confirmed_by| fits(&entry, &Firing { action, gate, confirmed_by });
        assert!(meant(None, None, None));
        assert!(meant(Some(RuleAction::Rollback), Some("dry_run"), Some("evidence")));
        assert!(!meant(Some(RuleAction::Notify), None, None));
        assert!(!meant(None, Some("act"), None));
        assert!(!meant(None, None, Some("persistence")));
        let moved = What::Moved { from: Phase::Quiet, to: Phase::Pending, why: String::new() };
        assert!(!fits(&Entry { what: moved, ..entry }, &Firing::default()));
    }
}
