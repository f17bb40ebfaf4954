//! What is wrong with a person's file, as plain data: where, what, and what would be right.
//!
//! Made by the readers of rule files and configuration, rendered by `cli/diagnostics.rs` or logged as one line.

use std::fmt;

use serde::Serialize;

/// A stretch of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    pub offset: usize,
    pub len: usize,
}

impl Span {
    /// From `offset`, `len` bytes long.
    pub const fn new(offset: usize, len: usize) -> Self {
        Self { offset, len }
    }

    /// The first byte after the stretch.
    pub const fn end(self) -> usize {
        self.offset + self.len
    }

    /// The shortest stretch that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        let offset = self.offset.min(other.offset);
        Self::new(offset, self.end().max(other.end()) - offset)
    }

    /// The same stretch `by` bytes later.
    #[must_use]
    pub const fn shifted(self, by: usize) -> Self {
        Self::new(self.offset + by, self.len)
    }
}

/// Whether the file can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Warning,
    Error,
}

impl Level {
    /// The word printed in front of a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is wrong, or doubtful, in one place of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub span: Span,
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    pub severity: Level,
}

/// A place of a file whose text is no longer at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub span: Span,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Place {
    /// The place of a stretch of `text`.
    pub fn of(text: &str, span: Span) -> Self {
        let (line, column) = position(text, span.offset);
        Self { span, line, column }
    }

    /// A doubt about what stands here in `file`.
    pub fn warning(self, file: &str, message: String, help: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            span: self.span,
            message,
            help: Some(help.into()),
            severity: Level::Warning,
        }
    }
}

impl Diagnostic {
    /// An error at a place of `text`, the content of `file`.
    pub fn error(file: &str, text: &str, span: Span, message: impl Into<String>) -> Self {
        let (line, column) = position(text, span.offset);
        Self {
            file: file.to_owned(),
            line,
            column,
            span,
            message: message.into(),
            help: None,
            severity: Level::Error,
        }
    }

    /// An error about a file as a whole, such as one that cannot be read.
    pub fn whole_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: Span::default(),
            message: message.into(),
            help: None,
            severity: Level::Error,
        }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same as an error.
    #[must_use]
    pub fn as_error(mut self) -> Self {
        self.severity = Level::Error;
        self
    }

    /// The same as a warning.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Level::Warning;
        self
    }

    /// Whether the file cannot be used.
    pub fn is_error(&self) -> bool {
        self.severity == Level::Error
    }
}

/// One line: `rules/x.yaml:4:18: error: … (help)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity.as_str(), self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Line and column, both from 1, of a byte offset.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].trim_start_matches('\u{feff}').chars().count() + 1)
}

/// The candidate that a person most likely meant by `word`, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|c| (strsim::osa_distance(&lower, &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, c)| (*distance, letters(c) != letters(&lower)))
        .map(|(_, c)| c)
}

/// The letters in order: swapped ones are the likeliest mistake.
fn letters(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.to_lowercase().chars().collect();
    letters.sort_unstable();
    letters
}

/// `a`, `b` or `c`, each in backquotes, for help texts.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters() {
        let text = "a: é\r\n  b: c\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 5), (1, 5));
        assert_eq!(position(text, 4), (1, 4), "inside a character is at it");
        assert_eq!(position(text, 9), (2, 3));
        assert_eq!(position(text, 999), (3, 1));
        assert_eq!(position("\u{feff}abc", 4), (1, 2));
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["condition", "action", "for"];
        assert_eq!(nearest("conditon", keys), Some("condition"));
        assert_eq!(nearest("Action", keys), Some("action"));
        assert_eq!(nearest("fro", keys), Some("for"));
        assert_eq!(nearest("something", keys), None);
        assert_eq!(one_of(keys), "`condition`, `action` or `for`");
    }
}
