//! The native event, decoded without copying: `docs/events.md` is its contract.
//!
//! Bytes in, a borrowed [`Event`] or a typed [`Reject`] out; no clock (the wall time is an argument), no schema (which
//! metric may hold what is the recorder's business). Nothing is allocated for events of the usual shape.

use std::time::Duration;

use super::fate::{Poison, Refusal, Reject};
use super::json::{Fault, Scanner, Span};
use super::rfc3339;
use super::shape::{Found, Shape, TEXTS};
use crate::model::event::Sample;
use crate::model::time::Timestamp;

/// What is refused whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest message, in bytes; checked before parsing.
    pub max_bytes: usize,
    /// How far `ts` may lie ahead of the wall clock.
    pub max_ahead: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_bytes: 256 << 10, max_ahead: Duration::from_secs(60) }
    }
}

/// 2015-01-01T00:00:00Z: no event of an AI gateway is older; a clock that says so is wrong.
pub const EARLIEST: Timestamp = Timestamp::from_millis(1_420_070_400_000);
/// 2100-01-01T00:00:00Z, excluded.
pub const LATEST: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// One decoded event. Optional fields are `None` when absent, `null` or empty.
#[derive(Clone, Copy, Debug)]
pub struct Event<'d> {
    pub id: &'d str,
    pub ts: Timestamp,
    pub variant: &'d str,
    pub tenant: Option<&'d str>,
    pub tier: Option<&'d str>,
    pub region: Option<&'d str>,
    pub unit: Option<&'d str>,
    pub generation_id: Option<&'d str>,
    pub metrics: Metrics<'d>,
}

/// The metrics of one event, in the order of the message. Numbers are finite.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'d> {
    text: &'d str,
    unescaped: &'d str,
    list: &'d [(Span, Sample)],
}

impl<'d> Metrics<'d> {
    /// Names and samples.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'d str, Sample)> + use<'d> {
        let Self { text, unescaped, list } = *self;
        list.iter().map(move |(name, sample)| (name.of(text, unescaped), *sample))
    }
}

/// Decodes messages one after the other, keeping its buffers.
#[derive(Debug, Default)]
pub struct Decoder {
    metrics: Vec<(Span, Sample)>,
    unknown: Vec<Span>,
    unescaped: String,
    /// What the current message holds, the shape of the message being parsed, and those of earlier ones; the last used comes first.
    found: Found,
    learning: Shape,
    shapes: Vec<Shape>,
}

/// Shapes remembered: producers of different kinds, with and without optional fields.
const SHAPES: usize = 6;

/// Places of the fields of text.
const ID: usize = 0;
const TS: usize = 1;
const VARIANT: usize = 2;
const TENANT: usize = 3;
const TIER: usize = 4;
const REGION: usize = 5;
const UNIT: usize = 6;
const GENERATION_ID: usize = 7;

impl Decoder {
    /// Decodes one message.
    ///
    /// # Errors
    ///
    /// The first reason found, in the order: size, encoding, grammar and types, absent fields, time, numbers.
    #[inline]
    pub fn decode<'d>(
        &'d mut self,
        bytes: &'d [u8],
        bounds: &Bounds,
        wall: Timestamp,
    ) -> Result<Event<'d>, Reject> {
        if bytes.len() > bounds.max_bytes.min(u32::MAX as usize) {
            return Err(Reject::DeadLetter(Poison::TooLarge));
        }
        if bytes.is_empty() {
            return Err(Reject::DeadLetter(Poison::Empty));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Reject::DeadLetter(Poison::InvalidUtf8))?;
        self.fields(text).map_err(Reject::DeadLetter)?;
        self.event(text, bounds, wall)
    }

    #[inline]
    fn event<'d>(&'d self, text: &'d str, bounds: &Bounds, wall: Timestamp) -> Result<Event<'d>, Reject> {
        let (fields, unescaped) = (&self.found, self.unescaped.as_str());
        let optional =
            |span: Option<Span>| span.map(|span| span.of(text, unescaped)).filter(|value| !value.is_empty());
        let required = |span| optional(span).ok_or(Reject::DeadLetter(Poison::AbsentField));
        let id = required(fields.texts[ID])?;
        let variant = required(fields.texts[VARIANT])?;
        let ts = required(fields.texts[TS])?;
        if fields.seen & METRICS == 0 {
            return Err(Reject::DeadLetter(Poison::AbsentField));
        }
        let ts = rfc3339::parse(ts).ok_or(Reject::DeadLetter(Poison::BadTimestamp))?;
        if ts < EARLIEST || ts >= LATEST {
            return Err(Reject::Refused(Refusal::TimestampRange));
        }
        if ts > wall + bounds.max_ahead {
            return Err(Reject::Refused(Refusal::Future));
        }
        let infinite = |(_, sample): &(Span, Sample)| matches!(sample, Sample::Number(n) if !n.is_finite());
        if self.metrics.iter().any(infinite) {
            return Err(Reject::Refused(Refusal::NonFinite));
        }
        Ok(Event {
            id,
            ts,
            variant,
            tenant: optional(fields.texts[TENANT]),
            tier: optional(fields.texts[TIER]),
            region: optional(fields.texts[REGION]),
            unit: optional(fields.texts[UNIT]),
            generation_id: optional(fields.texts[GENERATION_ID]),
            metrics: Metrics { text, unescaped, list: &self.metrics },
        })
    }

    /// Fills `found` and `metrics`.
    #[inline]
    fn fields(&mut self, text: &str) -> Result<(), Poison> {
        for place in 0..self.shapes.len() {
            self.metrics.clear();
            if self.shapes[place].read(text, &mut self.metrics, &mut self.found) {
                if place > 0 {
                    self.shapes[..=place].rotate_right(1);
                }
                return Ok(());
            }
        }
        self.found = self.parse(text)?;
        if self.learning.finish(text, self.found.seen) {
            if self.shapes.len() == SHAPES {
                self.shapes.rotate_right(1);
                std::mem::swap(&mut self.shapes[0], &mut self.learning);
            } else {
                self.shapes.insert(0, std::mem::take(&mut self.learning));
            }
        }
        Ok(())
    }

    fn parse(&mut self, text: &str) -> Result<Found, Poison> {
        self.metrics.clear();
        self.unknown.clear();
        self.unescaped.clear();
        self.learning.restart();
        let mut found = Found::default();
        let mut scanner = Scanner::new(text);
        if scanner.peek() != b'{' {
            // A text that is JSON but no object has the wrong type; anything else is malformed.
            scanner.skip()?;
            scanner.end()?;
            return Err(Poison::WrongType);
        }
        scanner.expect(b'{')?;
        if !scanner.take(b'}') {
            loop {
                self.field(text, &mut scanner, &mut found)?;
                if !scanner.take(b',') {
                    scanner.expect(b'}')?;
                    break;
                }
            }
        }
        scanner.end()?;
        if repeats(text, &self.unescaped, &mut self.unknown) {
            return Err(Poison::DuplicateKey);
        }
        Ok(found)
    }

    fn field(&mut self, text: &str, scanner: &mut Scanner<'_>, found: &mut Found) -> Result<(), Poison> {
        let key = scanner.string(&mut self.unescaped)?;
        scanner.expect(b':')?;
        let (field, required) = match key.of(text, &self.unescaped) {
            "id" => (ID, true),
            "ts" => (TS, true),
            "variant" => (VARIANT, true),
            "tenant" => (TENANT, false),
            "tier" => (TIER, false),
            "region" => (REGION, false),
            "unit" => (UNIT, false),
            "generation_id" => (GENERATION_ID, false),
            "metrics" => {
                once(&mut found.seen, METRICS)?;
                return self.metrics(text, scanner);
            }
            _ => {
                self.unknown.push(key);
                scanner.peek();
                let start = scanner.at();
                scanner.skip()?;
                self.learning.skipped(text, start, scanner.at());
                return Ok(());
            }
        };
        once(&mut found.seen, 1 << field)?;
        match scanner.peek() {
            b'"' => {
                let span = scanner.string(&mut self.unescaped)?;
                found.texts[field] = Some(span);
                self.learning.text(text, field, span);
            }
            b'n' if !required => scanner.word("null")?,
            _ => {
                scanner.skip()?;
                return Err(Poison::WrongType);
            }
        }
        Ok(())
    }

    fn metrics(&mut self, text: &str, scanner: &mut Scanner<'_>) -> Result<(), Poison> {
        if scanner.peek() != b'{' {
            scanner.skip()?;
            return Err(Poison::WrongType);
        }
        scanner.expect(b'{')?;
        if scanner.take(b'}') {
            return Ok(());
        }
        loop {
            let name = scanner.string(&mut self.unescaped)?;
            scanner.expect(b':')?;
            scanner.peek();
            let start = scanner.at();
            let Some(sample) = scanner.sample() else {
                scanner.go_to(start);
                scanner.skip()?;
                return Err(Poison::WrongType);
            };
            self.learning.sample(text, name, start, scanner.at());
            self.metrics.push((name, sample));
            if !scanner.take(b',') {
                break;
            }
        }
        scanner.expect(b'}')?;
        match self.metrics_repeat(text) {
            true => Err(Poison::DuplicateKey),
            false => Ok(()),
        }
    }

    fn metrics_repeat(&self, text: &str) -> bool {
        let name = |at: usize| self.metrics[at].0.of(text, &self.unescaped);
        if self.metrics.len() <= FEW {
            return (1..self.metrics.len()).any(|b| (0..b).any(|a| name(a) == name(b)));
        }
        let mut names: Vec<&str> = (0..self.metrics.len()).map(name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl From<Fault> for Poison {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::Malformed,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

const METRICS: u16 = 1 << TEXTS;

/// Up to this many keys are compared pair by pair; more are sorted, so that a hostile message costs n log n.
const FEW: usize = 12;

fn once(seen: &mut u16, bit: u16) -> Result<(), Poison> {
    if *seen & bit != 0 {
        return Err(Poison::DuplicateKey);
    }
    *seen |= bit;
    Ok(())
}

fn repeats(text: &str, unescaped: &str, keys: &mut [Span]) -> bool {
    if keys.len() < 2 {
        return false;
    }
    keys.sort_unstable_by_key(|key| key.of(text, unescaped));
    keys.windows(2).any(|pair| pair[0].of(text, unescaped) == pair[1].of(text, unescaped))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
