//! How commands speak: JSON or text for people, colour only where it is wanted, and trouble with what would be right.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::FAILED;
use crate::dispatch::words;
use crate::model::time::Timestamp;

/// Text for people fits into this many columns.
pub const WIDTH: usize = 100;

/// How a command reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
}

/// A time on the command line.
pub fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "is no RFC 3339 time, such as 2026-11-23T10:51:00Z".to_owned())
}

/// Why a command could not do its work: the exit code, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub code: u8,
    what: String,
    hint: Option<String>,
    /// The API's problem document, if it sent one.
    problem: Option<Value>,
}

impl Trouble {
    /// Something failed.
    pub fn new(what: impl Into<String>) -> Self {
        Self { code: FAILED, what: what.into(), hint: None, problem: None }
    }

    /// The command line or a file is wrong.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self { code: super::WRONG, ..Self::new(what) }
    }

    /// Says what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps what the API said, for `--format json`.
    #[must_use]
    pub fn problem(mut self, problem: Value) -> Self {
        self.problem = Some(problem);
        self
    }

    /// Whether the API said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem["status"] == json!(404))
    }

    fn as_text(&self) -> String {
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("  help: {hint}\n"));
        format!("rearguard: {}\n{hint}", self.what)
    }

    fn as_json(&self) -> Value {
        let mut error = self.problem.clone().unwrap_or_else(|| json!({"detail": self.what}));
        if let Some(hint) = &self.hint {
            error["hint"] = json!(hint);
        }
        json!({"error": error})
    }
}

/// Ends a command: its exit code, or its trouble told in the format asked for.
pub fn end(format: Format, done: Result<u8, Trouble>) -> anyhow::Result<u8> {
    match done {
        Ok(code) => Ok(code),
        Err(trouble) => {
            match format {
                Format::Human => eprint!("{}", trouble.as_text()),
                Format::Json => show_json(&trouble.as_json())?,
            }
            Ok(trouble.code)
        }
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no failure.
pub fn show(text: &str) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Trouble::new(format!("writing to standard output: {error}"))),
    }
}

/// Writes a document to standard output.
pub fn show_json(value: &Value) -> Result<(), Trouble> {
    show(&format!("{value:#}\n"))
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Trouble {}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

/// What a text means, as a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ink {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Doubt,
    Bad,
}

impl Paint {
    /// For standard output: colours on a terminal, unless `NO_COLOR` is set.
    pub fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && std::io::stdout().is_terminal())
    }

    /// For files: no colours.
    pub const fn plain() -> Self {
        Self(false)
    }

    /// With colours or without.
    #[cfg(test)]
    pub const fn new(colour: bool) -> Self {
        Self(colour)
    }

    /// The text in a colour.
    pub fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Doubt => "33",
            Ink::Bad => "1;31",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.ink(Ink::Bold, text)
    }

    pub fn dim(self, text: &str) -> String {
        self.ink(Ink::Dim, text)
    }
}

/// `2026-11-23 10:47:31`, in UTC.
pub fn utc(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%F %T").to_string(),
        Err(_) => at.to_string(),
    }
}

/// `1 h 08 min ago`; what lies ahead, as on another machine's clock, is `just now`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at) {
        span if span.as_secs() == 0 => "just now".to_owned(),
        span => format!("{} ago", brief(span)),
    }
}

/// A span in at most two units without seconds where they do not matter: `14 s`, `14 min`, `1 h 08 min`, `3 days`.
pub fn brief(span: std::time::Duration) -> String {
    match span.as_secs() {
        s if s < 120 => format!("{s} s"),
        s if s < 48 * 3600 => words::span(std::time::Duration::from_secs(s / 60 * 60)),
        s => format!("{} days", s / 86_400),
    }
}

/// One number and its noun: `1 flag`, `4,210 events`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", words::count(n), if n == 1 { "" } else { "s" })
}

/// Text in lines of at most `width` columns; a word that is longer stands alone.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
