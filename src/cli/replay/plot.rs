//! One rule's run as an SVG picture: the window against its threshold, what was known, what was decided.

use std::fmt::Write as _;

use crate::cli::output::utc;
use crate::dispatch::words::{measure, minute_time};
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::Shape;
use crate::lab::journal::{Doubt, Point, Standing, Story, What};
use crate::model::time::{MINUTE_MS, Timestamp};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
/// Below the curve: the strip of verdicts and the axis of time.
const BOTTOM: f64 = 50.0;
const STRIP: f64 = 10.0;
/// Points of a curve at most; more are drawn as the extremes of as many columns.
const COLUMNS: usize = 800;

/// Draws a story over a span of event time.
pub fn draw(story: &Story, span: (Timestamp, Timestamp), onset: Option<Timestamp>) -> String {
    let plot = Plot { story, span, scale: Scale::of(story) };
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{} over time">"#,
        super::html::escaped(&story.rule.condition.source)
    );
    plot.waits(&mut out);
    plot.axes(&mut out);
    plot.strip(&mut out);
    plot.curve("limit", |point| point.threshold, &mut out);
    plot.curve("value", |point| point.value, &mut out);
    plot.marks(onset, &mut out);
    out.push_str("</svg>");
    out
}

struct Plot<'a> {
    story: &'a Story,
    span: (Timestamp, Timestamp),
    scale: Option<Scale>,
}

/// The range of values drawn.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Everything measured and compared with, and a little room; `None` when there is nothing to draw.
    fn of(story: &Story) -> Option<Self> {
        let numbers = || story.track.iter().flat_map(|p| [p.value, p.threshold]).flatten();
        let low = numbers().reduce(f64::min)?;
        let high = numbers().reduce(f64::max)?;
        let room = if high > low { (high - low) * 0.08 } else { high.abs().max(1.0) * 0.05 };
        // Nothing measured is negative.
        Some(Self { low: (low - room).max(0.0), high: high + room })
    }

    /// Round values within the range, three to seven of them.
    fn ticks(self) -> impl Iterator<Item = f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|times| times * power >= rough);
        let step = round.unwrap_or(10.0) * power;
        let first = (self.low / step).ceil();
        (0..8).map(move |n| (first + f64::from(n)) * step).take_while(move |value| *value <= self.high)
    }

    fn y(self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }
}

impl Plot<'_> {
    fn x(&self, at: Timestamp) -> f64 {
        let (from, to) = self.span;
        let all = (to.as_millis() - from.as_millis()).max(1) as f64;
        let share = (at.as_millis() - from.as_millis()) as f64 / all;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn axes(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        if let Some(scale) = self.scale {
            for value in scale.ticks() {
                let y = scale.y(value);
                let _ = write!(
                    out,
                    r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/><text x="{:.1}" y="{:.1}" class="end">{}</text>"#,
                    LEFT - 6.0,
                    y + 4.0,
                    super::html::escaped(&measure(value, &self.story.unit))
                );
            }
        }
        for at in ticks(self.span) {
            let x = self.x(at);
            let side = if x > right - 30.0 { "end" } else { "middle" };
            let _ = write!(
                out,
                r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/><text x="{x:.1}" y="{:.1}" class="{side}">{}</text>"#,
                HEIGHT - 8.0,
                time_of(at, self.span)
            );
        }
    }

    /// Verdicts, minute by minute, as a strip of colours; neighbours alike are one bar.
    fn strip(&self, out: &mut String) {
        let top = HEIGHT - BOTTOM + 8.0;
        for run in self.story.track.chunk_by(|a, b| a.standing == b.standing) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (from, to) = (self.x(first.minute.start()), self.x(last.minute.end()));
            let (class, said) = standing(first.standing);
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{from:.1}" y="{top}" width="{:.1}" height="{STRIP}"><title>{said}, {} to {}</title></rect>"#,
                (to - from).max(0.5),
                utc(first.minute.start()),
                utc(last.minute.end())
            );
        }
    }

    /// One line through the points; it is broken where nothing is known.
    fn curve(&self, class: &str, of: impl Fn(&Point) -> Option<f64>, out: &mut String) {
        let Some(scale) = self.scale else { return };
        let each = self.story.track.len().div_ceil(COLUMNS).max(1);
        let mut path = String::new();
        let mut pen_down = false;
        for column in self.story.track.chunks(each) {
            let known: Vec<f64> = column.iter().filter_map(&of).collect();
            let (Some(low), Some(high)) =
                (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max))
            else {
                pen_down = false;
                continue;
            };
            let x = self.x(column[0].minute.end());
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.1} {:.1}", scale.y(low));
            if each > 1 && high > low {
                let _ = write!(path, "V{:.1}", scale.y(high));
            } else if !pen_down {
                // A point by itself would not show.
                path.push_str("h.6");
            }
            pen_down = true;
        }
        let _ = write!(out, r#"<path class="{class}" d="{path}"/>"#);
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
                let (width, height) = ((to - from).max(1.0), HEIGHT - BOTTOM - TOP);
                let _ = write!(
                    out,
                    r#"<rect class="wait" x="{from:.1}" y="{TOP}" width="{width:.1}" height="{height}"><title>in breach, waiting out for</title></rect>"#
                );
            }
        }
    }

    /// Decisions, and the onset.
    fn marks(&self, onset: Option<Timestamp>, out: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        let mut mark = |at: Timestamp, class: &str, said: &str| {
            let x = self.x(at);
            // Near the right edge the word stands left of its line.
            let (side, shift) = if x > WIDTH - 160.0 { ("end", -4.0) } else { ("start", 4.0) };
            let _ = write!(
                out,
                r#"<path class="{class}" d="M{x:.1} {TOP}V{bottom}"><title>{said}, {}</title></path><text x="{:.1}" y="{:.1}" class="{class} {side}">{said}</text>"#,
                utc(at),
                x + shift,
                TOP + 10.0
            );
        };
        if let Some(onset) = onset.filter(|onset| (self.span.0..=self.span.1).contains(onset)) {
            mark(onset, "onset", "onset");
        }
        for entry in self.story.decisions() {
            if let What::Decided { action, gate } = &entry.what {
                let class = if *gate == Gate::Act { action.as_str() } else { "withheld" };
                mark(entry.at, class, class);
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
        Standing::Unknown(Doubt::Unconfirmed) => ("unconfirmed", Doubt::Unconfirmed.as_str()),
        Standing::Unknown(doubt) => ("unknown", doubt.as_str()),
    }
}

/// Round times within a span, six to twelve of them.
fn ticks((from, to): (Timestamp, Timestamp)) -> Vec<Timestamp> {
    const STEPS: [i64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880];
    let minutes = to.since(from).as_secs() as i64 / 60;
    let step =
        STEPS.into_iter().find(|step| minutes / step <= 10).unwrap_or_else(|| minutes / 8 / 1_440 * 1_440);
    let step = step.max(1) * MINUTE_MS;
    let first = from.as_millis().div_euclid(step) * step;
    let all = (0..).map(|n| first + n * step).take_while(|at| *at <= to.as_millis());
    all.filter(|at| *at >= from.as_millis()).map(Timestamp::from_millis).collect()
}

/// The clock; the day where the span is of days.
fn time_of(at: Timestamp, (from, to): (Timestamp, Timestamp)) -> String {
    if to.since(from).as_secs() < 36 * 3600 { minute_time(at) } else { utc(at)[5..16].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_round_and_few() {
        for (low, high) in [(0.16, 0.74), (0.0, 1.0), (41.0, 21_580.0), (0.0, 0.026), (0.95, 1.05)] {
            let ticks: Vec<f64> = Scale { low, high }.ticks().collect();
            assert!((3..=7).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!(ticks.iter().all(|value| (low..=high).contains(value)));
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let start = Timestamp::parse("2023-07-12T09:03:00Z").unwrap();
        for minutes in [1, 7, 59, 240, 1_440, 10_080, 43_200, 525_600] {
            let end = Timestamp::from_millis(start.as_millis() + minutes * MINUTE_MS);
            let ticks = ticks((start, end));
            assert!((1..=12).contains(&ticks.len()), "{minutes}: {}", ticks.len());
            assert!(ticks.iter().all(|at| (start..=end).contains(at)));
        }
    }
}
