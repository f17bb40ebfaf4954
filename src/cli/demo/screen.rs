//! What the demo prints: lines of a story, with a spinner beneath them on a terminal and without one elsewhere.
//!
//! Nothing here knows what is told. Lines are at most [`WIDTH`] columns; a reader that goes away (`| head`) is no error.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::dispatch::words::clock_time;
use crate::model::time::Timestamp;

pub const WIDTH: usize = 100;
/// Where texts begin that belong to a point of time.
const INDENT: usize = 14;
/// Steps of the progress bar.
const STEPS: u64 = 1_000;

/// How a line of the story is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Good,
    Bad,
    Note,
    Bell,
}

/// Standard output as a stage.
#[derive(Debug)]
pub struct Screen {
    bar: Option<ProgressBar>,
    colour: bool,
}

impl Screen {
    /// `plain` means lines only, as on anything that is no terminal.
    pub fn new(plain: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && !plain;
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = ProgressStyle::with_template("   {spinner:.cyan} {bar:20.cyan} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .progress_chars("━━╌")
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        let bar = terminal.then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stdout()).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, colour }
    }

    /// Whether there is a spinner to keep busy.
    pub fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    /// What is going on right now, and how much of the story has been told. Only a terminal shows it.
    pub fn busy(&self, told: f64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((told.clamp(0.0, 1.0) * STEPS as f64) as u64);
            bar.set_message(self.dim(text));
        }
    }

    /// Takes the spinner away.
    pub fn rest(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        match self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            Some(bar) => bar.println(text),
            None => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{text}").and_then(|()| out.flush()).ok();
            }
        }
    }

    /// A part of the story begins.
    pub fn act(&self, number: u32, title: &str) {
        self.line("");
        self.line(&self.bold(&format!("{number}  {title}")));
    }

    /// Something has happened at a point of virtual time.
    pub fn at(&self, at: Timestamp, mark: Mark, text: &str) {
        let (sign, colour) = match mark {
            Mark::Good => ("✓", "32"),
            Mark::Bad => ("✗", "31"),
            Mark::Note => ("·", "36"),
            Mark::Bell => ("☎", "33"),
        };
        let head = format!("   {} {}", self.dim(&clock_time(at)), self.paint(sign, colour));
        for (number, part) in wrap(text, WIDTH - INDENT).iter().enumerate() {
            let part = if mark == Mark::Bad { self.bold(part) } else { part.clone() };
            match number {
                0 => self.line(&format!("{head} {part}")),
                _ => self.line(&format!("{:INDENT$}{part}", "")),
            }
        }
    }

    /// More about what was just said.
    pub fn more(&self, text: &str) {
        for part in wrap(text, WIDTH - INDENT) {
            self.line(&format!("{:INDENT$}{}", "", self.dim(&part)));
        }
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    pub fn dim(&self, text: &str) -> String {
        self.paint(text, "2")
    }

    pub fn paint(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Breaks a text at blanks.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let new = lines
            .last()
            .is_none_or(|line| !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width);
        if new {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibly long", 5), ["incomprehensibly", "long"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
