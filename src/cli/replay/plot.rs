//! One rule's run as an SVG picture: the window against its threshold, what was known, what was decided; below it the evidence.

use std::fmt::Write as _;

use super::axis::{Axis, Stretch, ticks, time_of};
use super::html::escaped;
use crate::cli::output::utc;
use crate::dispatch::words::measure;
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::Shape;
use crate::engine::verdict::brief;
use crate::lab::journal::{Doubt, Point, Standing, Story, What};
use crate::model::time::Timestamp;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
/// Where the measurement is drawn.
const VALUES: Stretch = (14.0, 180.0);
/// The strip of verdicts below it.
const STRIP: Stretch = (188.0, 198.0);
/// The evidence below that, where it confirms the rule.
const EVIDENCE: Stretch = (216.0, 296.0);
/// Below everything: the axis of time.
const TIMES: f64 = 32.0;
/// Room for the word of a mark.
const WORD: f64 = 90.0;
/// Points of a curve at most; more are drawn as the extremes of as many columns.
const COLUMNS: usize = 800;

/// Draws a story over a span of event time.
pub fn draw(story: &Story, span: (Timestamp, Timestamp), onset: Option<Timestamp>) -> String {
    let values = Axis::of_values(story, VALUES);
    let evidence = Axis::of_evidence(story, EVIDENCE);
    let bottom = if evidence.is_some() { EVIDENCE.1 } else { STRIP.1 };
    let plot = Plot { story, span, bottom };
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {}" role="img" aria-label="{} over time">"#,
        bottom + TIMES,
        escaped(&story.rule.condition.source)
    );
    plot.waits(&mut out);
    plot.times(&mut out);
    plot.strip(&mut out);
    if let Some(axis) = values {
        plot.grid(axis, |value| measure(value, &story.unit), &mut out);
        plot.band(axis, &mut out);
        plot.curve(axis, "limit", |point| point.threshold, &mut out);
        plot.curve(axis, "value", |point| point.value, &mut out);
    }
    if let Some(axis) = evidence {
        plot.evidence(axis, &mut out);
    }
    plot.marks(onset, &mut out);
    out.push_str("</svg>");
    out
}

struct Plot<'a> {
    story: &'a Story,
    span: (Timestamp, Timestamp),
    /// Where the last stretch ends.
    bottom: f64,
}

impl Plot<'_> {
    fn x(&self, at: Timestamp) -> f64 {
        let (from, to) = self.span;
        let all = (to.as_millis() - from.as_millis()).max(1) as f64;
        let share = (at.as_millis() - from.as_millis()) as f64 / all;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Lines across at round values, with their words.
    fn grid(&self, axis: Axis, words: impl Fn(f64) -> String, out: &mut String) {
        let right = WIDTH - RIGHT;
        for value in axis.ticks() {
            let y = axis.y(value);
            let _ = write!(
                out,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/><text x="{:.1}" y="{:.1}" class="end">{}</text>"#,
                LEFT - 6.0,
                y + 4.0,
                escaped(&words(value))
            );
        }
    }

    fn times(&self, out: &mut String) {
        for at in ticks(self.span) {
            let x = self.x(at);
            let side = if x > WIDTH - RIGHT - 30.0 { "end" } else { "middle" };
            let _ = write!(
                out,
                r#"<path class="grid" d="M{x:.1} {}V{}"/><text x="{x:.1}" y="{:.1}" class="{side}">{}</text>"#,
                VALUES.0,
                self.bottom,
                self.bottom + TIMES - 10.0,
                time_of(at, self.span)
            );
        }
    }

    /// Verdicts, minute by minute, as a strip of colours; neighbours alike are one bar.
    fn strip(&self, out: &mut String) {
        for run in self.story.track.chunk_by(|a, b| a.standing == b.standing) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (from, to) = (self.x(first.minute.start()), self.x(last.minute.end()));
            let (class, said) = standing(first.standing);
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{from:.1}" y="{}" width="{:.1}" height="{}"><title>{said}, {} to {}</title></rect>"#,
                STRIP.0,
                (to - from).max(0.5),
                STRIP.1 - STRIP.0,
                utc(first.minute.start()),
                utc(last.minute.end())
            );
        }
    }

    /// The points in as many columns as are drawn, each with the place of its first.
    fn columns(&self) -> impl Iterator<Item = (f64, &[Point])> {
        let each = self.story.track.len().div_ceil(COLUMNS).max(1);
        self.story.track.chunks(each).map(|column| (self.x(column[0].minute.end()), column))
    }

    /// One line through the points; it is broken where nothing is known.
    fn curve(&self, axis: Axis, class: &str, of: impl Fn(&Point) -> Option<f64>, out: &mut String) {
        let mut path = String::new();
        let mut pen_down = false;
        for (x, column) in self.columns() {
            let known: Vec<f64> = column.iter().filter_map(&of).collect();
            let (Some(low), Some(high)) =
                (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max))
            else {
                pen_down = false;
                continue;
            };
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.1} {:.1}", axis.y(low));
            if column.len() > 1 && high > low {
                let _ = write!(path, "V{:.1}", axis.y(high));
            } else if !pen_down {
                // A point by itself would not show.
                path.push_str("h.6");
            }
            pen_down = true;
        }
        let _ = write!(out, r#"<path class="{class}" d="{path}"/>"#);
    }

    /// The confidence intervals as a band: there along the upper ends, back along the lower ones.
    fn band(&self, axis: Axis, out: &mut String) {
        let widest = |column: &[Point]| {
            let known = column.iter().filter_map(|point| point.interval);
            known.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        };
        let ends: Vec<(f64, Option<(f64, f64)>)> = self.columns().map(|(x, c)| (x, widest(c))).collect();
        let mut path = String::new();
        for known in ends.split(|(_, interval)| interval.is_none()).filter(|run| !run.is_empty()) {
            let ends = || known.iter().filter_map(|(x, interval)| interval.map(|ends| (*x, ends)));
            let there = ends().map(|(x, (_, upper))| (x, upper));
            let back = ends().rev().map(|(x, (lower, _))| (x, lower));
            for (at, (x, value)) in there.chain(back).enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{x:.1} {:.1}", axis.y(value));
            }
            path.push('Z');
        }
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="band" d="{path}"/>"#);
        }
    }

    /// D, by powers of ten, and how much of it is enough.
    fn evidence(&self, axis: Axis, out: &mut String) {
        self.grid(axis, |value| if value < 1_000.0 { brief(value) } else { format!("{value:.0e}") }, out);
        self.curve(axis, "enough", |point| point.evidence.map(|(_, needed)| needed), out);
        self.curve(axis, "proof", |point| point.evidence.map(|(d, _)| d), out);
        let needed = self.story.track.iter().rev().find_map(|point| point.evidence).map(|(_, needed)| needed);
        if let Some(needed) = needed {
            let _ = write!(
                out,
                r#"<text x="{:.1}" y="{:.1}">evidence D; c = {} is enough</text>"#,
                LEFT + 6.0,
                EVIDENCE.0 - 5.0,
                brief(needed)
            );
        }
    }

    /// Stretches in which the rule waited out `for`.
    fn waits(&self, out: &mut String) {
        let mut since = None;
        for entry in &self.story.entries {
            let What::Moved { to, .. } = &entry.what else { continue };
            if *to == Phase::Pending {
                since = Some(entry.at);
            } else if let Some(from) = since.take() {
                let (from, to) = (self.x(from), self.x(entry.at));
                let (width, height) = ((to - from).max(1.0), VALUES.1 - VALUES.0);
                let _ = write!(
                    out,
                    r#"<rect class="wait" x="{from:.1}" y="{}" width="{width:.1}" height="{height}"><title>in breach, waiting out for</title></rect>"#,
                    VALUES.0
                );
            }
        }
    }

    /// Decisions, and the onset.
    fn marks(&self, onset: Option<Timestamp>, out: &mut String) {
        // A word that would run into the one before stands a line lower.
        let (mut before, mut line) = (f64::NEG_INFINITY, 0);
        let mut mark = |at: Timestamp, class: &str, why: &str| {
            let x = self.x(at);
            line = if x - before < WORD { line + 1 } else { 0 };
            before = x;
            // Near the right edge the word stands left of its line.
            let (side, shift) = if x > WIDTH - 160.0 { ("end", -4.0) } else { ("start", 4.0) };
            let _ = write!(
                out,
                r#"<path class="{class}" d="M{x:.1} {}V{}"><title>{class}{why}, {}</title></path><text x="{:.1}" y="{:.1}" class="{class} {side}">{class}</text>"#,
                VALUES.0,
                self.bottom,
                utc(at),
                x + shift,
                VALUES.0 + 10.0 + 13.0 * f64::from(line % 10)
            );
        };
        if let Some(onset) = onset.filter(|onset| (self.span.0..=self.span.1).contains(onset)) {
            mark(onset, "onset", "");
        }
        for entry in self.story.decisions() {
            if let What::Decided { action, gate } = &entry.what {
                match gate {
                    Gate::Act => mark(entry.at, action.as_str(), ""),
                    gate => mark(entry.at, "withheld", &format!(": {}", gate.as_str())),
                }
            }
        }
    }
}

/// Whether there is one measurement to draw.
pub fn has_curve(story: &Story) -> bool {
    matches!(story.rule.condition.shape, Shape::Simple { .. })
}

fn standing(standing: Standing) -> (&'static str, &'static str) {
    match standing {
        Standing::Pass => ("pass", "pass"),
        Standing::Breach => ("breach", "breach"),
        Standing::Unknown(Doubt::Masked) => ("masked", Doubt::Masked.as_str()),
        Standing::Unknown(Doubt::Unconfirmed) => ("unconfirmed", Doubt::Unconfirmed.as_str()),
        Standing::Unknown(doubt) => ("unknown", doubt.as_str()),
    }
}
