//! Shapes of messages, learnt: a producer writes the same keys in the same order again and again.
//!
//! A shape is the exact bytes between the values of a message that was parsed and accepted before, and what each value was.
//! A message that has the same bytes in the same places needs no look at its keys: they are known to be the right ones,
//! none twice. Anything else, be it one byte of white space, an escape or another type, is not of the shape and is parsed in
//! full. So a shape never accepts what the parser would not, and never says anything else.

use super::json::{Scanner, Span};
use crate::model::event::Sample;

/// How many fields of text an event has.
pub(super) const TEXTS: usize = 8;

/// The values found in a message.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) texts: [Option<Span>; TEXTS],
    /// One bit per known field, whatever its value.
    pub(super) seen: u16,
}

#[derive(Clone, Copy, Debug)]
enum Value {
    /// A string, for one of the fields of text.
    Text(usize),
    /// A number or boolean of `metrics`; where its name lies in the bytes before it, counted from their end.
    Sample { name: u32, name_end: u32 },
    /// Whatever an unknown field holds.
    Skip,
}

/// One shape, or one in the making.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The bytes before each value, one after the other, and those after the last.
    literals: Vec<u8>,
    /// Where in `literals` the bytes before each value end.
    steps: Vec<(u32, Value)>,
    seen: u16,
    /// In the making: where the bytes before the next value start in the message.
    from: usize,
    unfit: bool,
}

/// Larger messages are not worth remembering.
const MOST_BYTES: usize = 4 << 10;
const MOST_STEPS: usize = 64;

impl Shape {
    /// Forgets everything, to learn anew.
    pub(super) fn restart(&mut self) {
        self.literals.clear();
        self.steps.clear();
        self.from = 0;
        self.unfit = false;
    }

    /// Learns that a string of a field lay at `span`.
    pub(super) fn text(&mut self, message: &str, field: usize, span: Span) {
        match span.plain() {
            Some((start, end)) => self.step(message, start, end + 1, Value::Text(field)),
            None => self.unfit = true,
        }
    }

    /// Learns that a sample lay at `start..end`, with its name at `name`.
    pub(super) fn sample(&mut self, message: &str, name: Span, start: usize, end: usize) {
        match name.plain() {
            Some((from, to)) => {
                let value = Value::Sample { name: (start - from) as u32, name_end: (start - to) as u32 };
                self.step(message, start, end, value);
            }
            None => self.unfit = true,
        }
    }

    /// Learns that a value to skip lay at `start..end`.
    pub(super) fn skipped(&mut self, message: &str, start: usize, end: usize) {
        self.step(message, start, end, Value::Skip);
    }

    /// Learns the end of an accepted message; says whether this is a shape to keep.
    pub(super) fn finish(&mut self, message: &str, seen: u16) -> bool {
        self.unfit |= message.len() > MOST_BYTES || self.steps.len() > MOST_STEPS;
        if !self.unfit {
            self.literals.extend_from_slice(&message.as_bytes()[self.from..]);
            self.seen = seen;
        }
        !self.unfit
    }

    /// Reads a message if it has this shape; otherwise says no, and `metrics` and `found` mean nothing.
    #[inline]
    pub(super) fn read(&self, message: &str, metrics: &mut Vec<(Span, Sample)>, found: &mut Found) -> bool {
        found.texts = [None; TEXTS];
        found.seen = self.seen;
        self.walk(message, metrics, found).is_some()
    }

    #[inline]
    fn walk(&self, message: &str, metrics: &mut Vec<(Span, Sample)>, found: &mut Found) -> Option<()> {
        let bytes = message.as_bytes();
        let mut scanner = Scanner::new(message);
        let mut before = 0;
        for &(until, value) in &self.steps {
            let literal = &self.literals[before..until as usize];
            before = until as usize;
            let at = scanner.at() + literal.len();
            if !same(bytes.get(scanner.at()..at)?, literal) {
                return None;
            }
            scanner.go_to(at);
            match value {
                Value::Text(field) => found.texts[field] = Some(scanner.plain_string()?),
                Value::Sample { name, name_end } => {
                    let sample = scanner.sample()?;
                    let name = Span::new(at - name as usize, at - name_end as usize);
                    metrics.push((name, sample));
                }
                Value::Skip => scanner.skip().ok()?,
            }
        }
        same(&bytes[scanner.at()..], &self.literals[before..]).then_some(())
    }

    fn step(&mut self, message: &str, start: usize, end: usize, value: Value) {
        if self.unfit || self.steps.len() > MOST_STEPS || message.len() > MOST_BYTES {
            self.unfit = true;
            return;
        }
        self.literals.extend_from_slice(&message.as_bytes()[self.from..start]);
        self.steps.push((self.literals.len() as u32, value));
        self.from = end;
    }
}

/// Whether two short byte strings are the same, eight bytes at a time and without a call.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let word = |bytes: &[u8], at: usize| {
        bytes[at..].first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk))
    };
    if a.len() < 8 {
        return a.iter().zip(b).all(|(a, b)| a == b);
    }
    let last = a.len() - 8;
    let mut at = 0;
    while at < last {
        if word(a, at) != word(b, at) {
            return false;
        }
        at += 8;
    }
    word(a, last) == word(b, last)
}
