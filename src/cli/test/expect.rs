//! Expectations: what is claimed, of which rule, and when.

mod read;

use std::fmt;
use std::time::Duration;

pub use read::read;

use crate::engine::output::{AlertKey, Gate, Phase};
use crate::engine::rule::diagnostic::Span;
use crate::engine::rule::span::show;
use crate::engine::rule::{Rule, RuleAction};
use crate::lab::journal::{Doubt, Standing};
use crate::model::flag::Scope;
use crate::model::id::{FlagKey, RuleId, Variant};
use crate::model::time::Timestamp;

const VERDICTS: [(&str, VerdictIs); 11] = [
    ("pass", VerdictIs::Pass),
    ("breach", VerdictIs::Breach),
    ("inconclusive", VerdictIs::Unknown(None)),
    ("inconclusive(no_data)", VerdictIs::Unknown(Some(Doubt::NoData))),
    ("inconclusive(too_few_samples)", VerdictIs::Unknown(Some(Doubt::TooFewSamples))),
    ("inconclusive(unconfirmed)", VerdictIs::Unknown(Some(Doubt::Unconfirmed))),
    ("inconclusive(masked)", VerdictIs::Unknown(Some(Doubt::Masked))),
    ("inconclusive(missing)", VerdictIs::Unknown(Some(Doubt::Missing))),
    ("inconclusive(not_finite)", VerdictIs::Unknown(Some(Doubt::NotFinite))),
    ("inconclusive(no_histogram)", VerdictIs::Unknown(Some(Doubt::NoHistogram))),
    ("error(no_baseline)", VerdictIs::Unknown(Some(Doubt::NoBaseline))),
];

/// One expectation.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Counted from 1.
    pub line: usize,
    pub of: Target,
    pub when: When,
    pub claims: Vec<Claim>,
    /// Where its times stand.
    times: Vec<(Moment, Span)>,
}

/// Which alerts an expectation is about: those that fit all that is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub rule: Option<(FlagKey, RuleId)>,
    pub variant: Option<Variant>,
    pub slice: Option<Scope>,
}

impl Target {
    /// Whether this is about an alert.
    pub fn covers(&self, rule: &Rule, key: &AlertKey) -> bool {
        self.rule.as_ref().is_none_or(|(flag, id)| *flag == key.flag && *id == key.rule)
            && self.variant.as_ref().is_none_or(|variant| *variant == rule.variant)
            && self.slice.as_ref().is_none_or(|slice| *slice == key.slice)
    }
}

/// A time in a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// From the start of the events.
    Offset(Duration),
    Time(Timestamp),
}

impl Moment {
    /// The time, given when the events start.
    pub fn on(self, start: Timestamp) -> Timestamp {
        match self {
            Self::Offset(offset) => start + offset,
            Self::Time(at) => at,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => f.write_str(&show(*offset)),
            Self::Time(at) => at.fmt(f),
        }
    }
}

/// When something is expected. A closing counts by the end of its minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    At(Moment),
    /// After the one and up to the other; the whole test where they are missing.
    During {
        after: Option<Moment>,
        until: Option<Moment>,
    },
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, " at {at}"),
            Self::During { after: None, until: None } => Ok(()),
            Self::During { after: Some(after), until: None } => write!(f, " after {after}"),
            Self::During { after: None, until: Some(until) } => write!(f, " by {until}"),
            Self::During { after: Some(after), until: Some(until) } => {
                write!(f, " between {after} and {until}")
            }
        }
    }
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    Is(Fact),
    Never(Fact),
    Times(u64, Fact),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(fact) => fact.fmt(f),
            Self::Never(fact) => write!(f, "never {fact}"),
            Self::Times(n, fact) => write!(f, "{n} × {fact}"),
        }
    }
}

/// Something that can be so at a closing.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Verdict(VerdictIs),
    Alert(Phase),
    /// What is in force; `None`: nothing is.
    InForce(Option<RuleAction>),
    /// A rule fires.
    Fires(Firing),
}

/// Which decisions are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firing {
    /// `None`: any.
    pub action: Option<RuleAction>,
    /// The gate's word; `None`: any.
    pub gate: Option<&'static str>,
    pub confirmed_by: Option<&'static str>,
}

/// Which verdicts are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VerdictIs {
    Pass,
    Breach,
    /// Neither; for any reason or for this one.
    Unknown(Option<Doubt>),
}

impl VerdictIs {
    /// Whether a closing's verdict is meant.
    pub fn covers(self, standing: Standing) -> bool {
        match (self, standing) {
            (Self::Pass, Standing::Pass) | (Self::Breach, Standing::Breach) => true,
            (Self::Unknown(wanted), Standing::Unknown(doubt)) => wanted.is_none_or(|wanted| wanted == doubt),
            (Self::Pass | Self::Breach | Self::Unknown(_), _) => false,
        }
    }

    /// The word for a closing's verdict.
    pub fn word(standing: Standing) -> &'static str {
        let exact = VERDICTS.iter().rev().find(|(_, verdict)| verdict.covers(standing));
        exact.map_or("", |(word, _)| word)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => {
                let word = VERDICTS.iter().find(|(_, known)| known == verdict).map_or("", |(word, _)| word);
                write!(f, "verdict {word}")
            }
            Self::Alert(phase) => write!(f, "alert {}", phase.as_str()),
            Self::InForce(None) => f.write_str("no action in force"),
            Self::InForce(Some(action)) => write!(f, "{} in force", action.as_str()),
            Self::Fires(Firing { action, gate, confirmed_by }) => {
                f.write_str(if *gate == Some(Gate::Act.as_str()) { "action " } else { "decision " })?;
                f.write_str(action.map_or("of any kind", RuleAction::as_str))?;
                match gate {
                    Some(gate) if *gate != Gate::Act.as_str() => write!(f, " held back by {gate}")?,
                    _ => {}
                }
                confirmed_by.map_or(Ok(()), |by| write!(f, " confirmed by {by}"))
            }
        }
    }
}

impl Expectation {
    /// The times that it names, and where they stand.
    pub fn moments(&self) -> impl Iterator<Item = (&Moment, &Span)> {
        self.times.iter().map(|(moment, at)| (moment, at))
    }
}
