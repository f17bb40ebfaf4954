//! What becomes of one event, with the reason where it is not windowed, and the counts of those reasons.

use serde::{Deserialize, Serialize};

/// What became of one event. Every event consumed has exactly one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Recorded in the panes of its variant.
    Windowed,
    /// Beyond its partition's watermark minus lateness.
    Late,
    /// Its id was seen in the same partition and minute.
    Duplicate,
    /// Not an event at all.
    DeadLetter(Poison),
    /// Of a variant that no configuration names.
    Other,
    /// An event with a value that no measurement can have.
    Refused(Refusal),
    /// Written by a Rearguard to see whether it sees. Its own is recorded in the panes of its canary, another's is passed over.
    Canary,
}

/// Why [`Decoder::decode`](super::decode::Decoder::decode) did not accept a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    DeadLetter(Poison),
    Refused(Refusal),
}

impl From<Reject> for Fate {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::DeadLetter(poison) => Self::DeadLetter(poison),
            Reject::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Fate {
    /// The word of `docs/events.md`, of counters and of dead-letter headers, and the reason where there is one.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Windowed => ("windowed", ""),
            Self::Late => ("late", ""),
            Self::Duplicate => ("duplicate", ""),
            Self::DeadLetter(poison) => ("dead_letter", poison.as_str()),
            Self::Other => ("other", ""),
            Self::Refused(refusal) => ("refused", refusal.as_str()),
            Self::Canary => ("canary", ""),
        }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$line:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$line])* $variant,)* }

        impl $name {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word of counters and headers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

reasons! {
    /// Why a message is not an event.
    Poison {
        /// More bytes than the cap; not parsed.
        TooLarge = "too_large",
        /// No payload.
        Empty = "empty",
        InvalidUtf8 = "invalid_utf8",
        /// Not one JSON object.
        Malformed = "malformed",
        TooDeep = "too_deep",
        /// A key twice, at the top or among the metrics.
        DuplicateKey = "duplicate_key",
        WrongType = "wrong_type",
        /// `id`, `ts`, `variant` or `metrics` is absent, or `id` or `variant` is empty.
        AbsentField = "absent_field",
        /// `ts` is no RFC 3339 time.
        BadTimestamp = "bad_timestamp",
    }
}

reasons! {
    /// Why an event is refused as a whole.
    Refusal {
        /// A number beyond the range of a double, such as 1e999.
        NonFinite = "non_finite",
        Negative = "negative",
        /// A score above 1.
        ScoreAboveOne = "score_above_one",
        /// A boolean metric with a number other than 0 or 1.
        NotBoolean = "not_boolean",
        /// `ts` before 2015 or from 2100 on.
        TimestampRange = "timestamp_range",
        /// `ts` further ahead of the wall clock than allowed.
        Future = "future",
    }
}

/// Counts behind the fates: reasons, and what was left out of windowed events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By [`Poison::ALL`].
    pub poison: [u64; Poison::ALL.len()],
    /// By [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Samples of metrics that the catalogue does not know, skipped in windowed events.
    pub unknown_metric: u64,
    /// Windowed events whose id could not be remembered, since the partition held its bound of ids.
    pub dedup_overflow: u64,
    /// Slice records that went to the slice value `other`, since the quota of the minute was reached.
    pub slice_overflow: u64,
    /// Dead letters that the dead-letter topic did not take.
    pub dead_letters_lost: u64,
}

impl Counters {
    /// Counts the reason of a fate, if it has one.
    pub fn count(&mut self, fate: Fate) {
        match fate {
            Fate::DeadLetter(poison) => self.poison[poison as usize] += 1,
            Fate::Refused(refusal) => self.refused[refusal as usize] += 1,
            Fate::Windowed | Fate::Late | Fate::Duplicate | Fate::Other | Fate::Canary => {}
        }
    }

    /// Adds the counts of another range.
    pub fn add(&mut self, more: &Self) {
        for (mine, theirs) in self.poison.iter_mut().zip(more.poison) {
            *mine += theirs;
        }
        for (mine, theirs) in self.refused.iter_mut().zip(more.refused) {
            *mine += theirs;
        }
        self.unknown_metric += more.unknown_metric;
        self.dedup_overflow += more.dedup_overflow;
        self.slice_overflow += more.slice_overflow;
        self.dead_letters_lost += more.dead_letters_lost;
    }
}
