//! The picture of a window: a small text chart with the limit, bad minutes marked and gaps visible.

use std::fmt::Write as _;

use super::words::{measure, minute_time};
use crate::engine::output::{Evidence, PicturePoint};
use crate::engine::rule::Side;

/// Columns of the plot; a longer window puts several minutes into one.
const WIDTH: usize = 60;
const HEIGHT: usize = 9;

/// One column: its minutes, their value weighted by samples, and how many of them are bad.
struct Column {
    first: PicturePoint,
    value: Option<f64>,
    samples: u64,
    bad: usize,
}

/// Draws the evidence's window; `None` when there is no data to draw.
pub fn draw(evidence: &Evidence) -> Option<String> {
    let columns = columns(evidence);
    let values = || columns.iter().filter_map(|column| column.value);
    let limit = evidence.threshold.filter(|t| t.is_finite());
    let low = values().chain(limit).reduce(f64::min)?;
    let high = values().chain(limit).reduce(f64::max)?;
    values().next()?;
    // A flat line is drawn in the middle.
    let margin = if high > low { 0.0 } else { low.abs().max(1.0) * 0.05 };
    let scale = Scale { low: low - margin, high: high + margin };
    let mut text = plot(evidence, &columns, &scale, limit);
    axis(&mut text, evidence, &columns, label_width(evidence, &scale, limit));
    Some(text)
}

struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn row(&self, value: f64) -> usize {
        let share = (self.high - value) / (self.high - self.low);
        ((share * (HEIGHT - 1) as f64).round() as usize).min(HEIGHT - 1)
    }

    fn value(&self, row: usize) -> f64 {
        self.high - (self.high - self.low) * row as f64 / (HEIGHT - 1) as f64
    }
}

fn columns(evidence: &Evidence) -> Vec<Column> {
    let minutes = &evidence.picture;
    let each = minutes.len().div_ceil(WIDTH).max(1);
    minutes
        .chunks(each)
        .map(|chunk| {
            let with_data = || chunk.iter().filter(|p| p.value.is_some());
            let samples: u64 = with_data().map(|p| p.samples).sum();
            let total: f64 = with_data().filter_map(|p| Some(p.value? * p.samples.max(1) as f64)).sum();
            let weight: f64 = with_data().map(|p| p.samples.max(1) as f64).sum();
            Column {
                first: chunk[0],
                value: (weight > 0.0).then(|| total / weight),
                samples,
                bad: chunk.iter().filter(|p| is_bad(evidence, p)).count(),
            }
        })
        .collect()
}

/// Whether a minute by itself lies beyond the limit.
pub fn is_bad(evidence: &Evidence, point: &PicturePoint) -> bool {
    match (point.value, evidence.threshold, evidence.side) {
        (Some(value), Some(limit), Some(Side::Below)) => value < limit,
        (Some(value), Some(limit), Some(Side::Above)) => value > limit,
        _ => false,
    }
}

/// The labels of the rows: the extremes, and the limit.
fn label(scale: &Scale, row: usize, limit: Option<f64>, unit: &str) -> String {
    match limit {
        Some(limit) if scale.row(limit) == row => format!("limit {}", measure(limit, unit)),
        _ if row == 0 || row == HEIGHT - 1 => measure(scale.value(row), unit),
        _ => String::new(),
    }
}

fn label_width(evidence: &Evidence, scale: &Scale, limit: Option<f64>) -> usize {
    (0..HEIGHT).map(|row| label(scale, row, limit, &evidence.unit).chars().count()).max().unwrap_or(0)
}

fn plot(evidence: &Evidence, columns: &[Column], scale: &Scale, limit: Option<f64>) -> String {
    let width = label_width(evidence, scale, limit);
    let limit_row = limit.map(|limit| scale.row(limit));
    let mut text = String::new();
    for row in 0..HEIGHT {
        let label = label(scale, row, limit, &evidence.unit);
        let edge = if label.is_empty() { '│' } else { '┤' };
        // Writing to a String cannot fail.
        let _ = write!(text, "{label:>width$} {edge}");
        let mut line = String::new();
        for column in columns {
            line.push(match column.value {
                Some(value) if scale.row(value) == row => {
                    if column.bad > 0 {
                        '●'
                    } else {
                        '○'
                    }
                }
                _ if limit_row == Some(row) => '╌',
                None if row == HEIGHT - 1 => '?',
                _ => ' ',
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn axis(text: &mut String, evidence: &Evidence, columns: &[Column], width: usize) {
    let line: String = columns.iter().map(|_| '─').collect();
    let _ = writeln!(text, "{:>width$} └{line}", "");
    let bars: String = columns.iter().map(|c| bar(c.samples, columns)).collect();
    let _ = writeln!(text, "{:>width$}  {bars}", "samples");
    if let (Some(first), Some(last)) = (columns.first(), evidence.picture.last()) {
        let from = minute_time(first.first.minute.start());
        let to = format!("{} UTC", minute_time(last.minute.end()));
        let gap = columns.len().saturating_sub(from.chars().count() + to.chars().count()).max(1);
        let _ = writeln!(text, "{:>width$}  {from}{:gap$}{to}", "", "");
    }
    let each = evidence.picture.len().div_ceil(WIDTH).max(1);
    let per = if each == 1 { "1 column = 1 minute".to_owned() } else { format!("1 column = {each} minutes") };
    let gaps = if columns.iter().any(|c| c.value.is_none()) { "   ? no data" } else { "" };
    let bad = if evidence.side.is_some() && evidence.threshold.is_some() {
        "   ● with minutes beyond the limit   ○ without"
    } else {
        ""
    };
    let _ = writeln!(text, "{per}{bad}{gaps}");
}

/// A column's share of the largest number of samples, in eighths of a character.
fn bar(samples: u64, columns: &[Column]) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = columns.iter().map(|c| c.samples).max().unwrap_or(0).max(1);
    BARS[usize::try_from((samples * 8).div_ceil(most)).unwrap_or(8).min(8)]
}

/// The window in one line, for pages: `▇▇▇▆▇▇▃▂▁ ▁`, a space where there is no data.
pub fn sparkline(evidence: &Evidence, width: usize) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let minutes = &evidence.picture;
    let each = minutes.len().div_ceil(width.max(1)).max(1);
    let values: Vec<Option<f64>> = minutes
        .chunks(each)
        .map(|chunk| {
            let known: Vec<f64> = chunk.iter().filter_map(|p| p.value).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        })
        .collect();
    let low = values.iter().flatten().copied().reduce(f64::min)?;
    let high = values.iter().flatten().copied().reduce(f64::max)?;
    let bar = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    Some(values.iter().map(|v| v.map_or(' ', bar)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Minute;

    fn evidence(values: &[Option<f64>]) -> Evidence {
        Evidence {
            threshold: Some(0.92),
            side: Some(Side::Below),
            picture: values
                .iter()
                .enumerate()
                .map(|(i, value)| PicturePoint {
                    minute: Minute(28_152_000 + i as i64),
                    value: *value,
                    samples: if value.is_some() { 10 } else { 0 },
                })
                .collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn the_chart_shows_limit_bad_minutes_and_gaps() {
        let drawn = draw(&evidence(&[Some(0.96), Some(0.96), None, Some(0.80), Some(0.72)])).unwrap();
        let expected = "
      0.96 ┤○○
limit 0.92 ┤╌╌╌╌╌
           │
           │
           │
           │   ●
           │
           │
      0.72 ┤  ? ●
           └─────
   samples  ██ ██
            00:00 00:05 UTC
1 column = 1 minute   ● with minutes beyond the limit   ○ without   ? no data
";
        assert_eq!(drawn.trim_end(), expected[1..].trim_end(), "\n{drawn}");
    }

    #[test]
    fn long_windows_are_compressed_and_empty_ones_are_not_drawn() {
        let drawn = draw(&evidence(&vec![Some(0.5); 360])).unwrap();
        assert!(drawn.contains("1 column = 6 minutes"));
        assert!(drawn.lines().all(|line| line.chars().count() < 100));
        assert_eq!(draw(&evidence(&[])), None);
        assert_eq!(draw(&evidence(&[None, None])), None);
        let flat = Evidence { threshold: None, ..evidence(&[Some(2.0), Some(2.0)]) };
        assert!(draw(&flat).is_some());
        assert_eq!(sparkline(&evidence(&[Some(1.0), None, Some(0.0)]), 60).unwrap(), "█ ▁");
    }
}
