//! Lines in, and what is said of those that are no good events.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::output::Trouble;
use crate::ingest::decode::Bounds;
use crate::ingest::fate::Fate;
use crate::lab::lines::{Line, Lines};
use crate::lab::recording::Recording;

/// First places remembered per reason.
const PLACES: usize = 3;

/// Calls `take` for every line that is not blank, with the name of its file.
///
/// # Errors
///
/// A file that cannot be opened, read or unpacked to its end; and what `take` says.
pub fn each_line(
    recordings: &[Recording],
    bar: &ProgressBar,
    mut take: impl FnMut(&str, Line<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    for recording in recordings {
        let name = recording.name.as_str();
        let input = recording
            .open(|stored| Box::new(bar.wrap_read(stored)))
            .map_err(|error| Trouble::wrong(format!("{name}: cannot be read: {error}")))?;
        let mut lines = Lines::new(input, Bounds::default().max_bytes);
        let mut last = 0;
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    last = line.number;
                    if !line.is_blank() {
                        take(name, line)?;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let place = format!("{name}: cannot be read beyond line {last}: {error}");
                    return Err(Trouble::wrong(place).hint("the file seems to be cut off or damaged"));
                }
            }
        }
    }
    Ok(())
}

/// Lines that were no events, or held values that no measurement can have.
#[derive(Debug, Default)]
pub struct BadLines {
    /// By fate and reason.
    pub by_reason: BTreeMap<(&'static str, &'static str), Bad>,
}

/// Bad lines of one reason.
#[derive(Debug, Default, Serialize)]
pub struct Bad {
    pub count: u64,
    /// `file:line` of the first few.
    pub first: Vec<String>,
}

impl BadLines {
    /// Notes what became of a line.
    ///
    /// # Errors
    ///
    /// If `strict`, the first bad line.
    #[inline]
    pub fn note(&mut self, fate: Fate, name: &str, number: u64, strict: bool) -> Result<(), Trouble> {
        match fate {
            Fate::DeadLetter(_) | Fate::Refused(_) => self.note_bad(fate, name, number, strict),
            Fate::Windowed | Fate::Late | Fate::Duplicate | Fate::Other => Ok(()),
        }
    }

    #[cold]
    fn note_bad(&mut self, fate: Fate, name: &str, number: u64, strict: bool) -> Result<(), Trouble> {
        let (word, reason) = fate.words();
        let place = format!("{name}:{number}");
        if strict {
            return Err(Trouble::wrong(format!("{place}: no good event: {word}, {reason}"))
                .hint("docs/events.md says what an event is; without `--strict` bad lines are counted"));
        }
        let bad = self.by_reason.entry((word, reason)).or_default();
        bad.count += 1;
        if bad.first.len() < PLACES {
            bad.first.push(place);
        }
        Ok(())
    }
}
