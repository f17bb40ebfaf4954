//! Aligned columns. The last one takes the rest of the line and is wrapped, so that nothing is ever cut off.

use super::output::{Ink, Paint, WIDTH, wrap};

/// Between two columns.
const GAP: usize = 2;

/// Text with a meaning.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    ink: Ink,
}

/// Text in a colour.
pub fn cell(ink: Ink, text: impl Into<String>) -> Cell {
    Cell { text: text.into(), ink }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        cell(Ink::Plain, text)
    }
}

/// Which side a column's text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

enum Line {
    Row(Vec<Cell>),
    /// Below the last column of the row before.
    Note(Cell),
    /// A heading over the full width.
    Heading(Cell),
    /// Below the whole row before, a little further in.
    Under(Cell),
}

/// Rows under a head.
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    lines: Vec<Line>,
    indent: usize,
}

impl Table {
    /// An empty table. Columns with an empty name have no head.
    pub fn new(indent: usize, columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), lines: Vec::new(), indent }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.lines.push(Line::Row(cells));
    }

    /// Adds a remark below the last column of the row before.
    pub fn note(&mut self, note: Cell) {
        self.lines.push(Line::Note(note));
    }

    /// Adds text below the whole row before.
    pub fn under(&mut self, text: Cell) {
        self.lines.push(Line::Under(text));
    }

    /// Adds a line over the full width.
    pub fn heading(&mut self, heading: Cell) {
        self.lines.push(Line::Heading(heading));
    }

    /// The table as text.
    pub fn render(&self, paint: Paint) -> String {
        let widths = self.widths();
        let mut out = String::new();
        if self.columns.iter().any(|(name, _)| !name.is_empty()) {
            let head = self.columns.iter().map(|(name, _)| cell(Ink::Dim, *name)).collect::<Vec<_>>();
            self.put(&head, &widths, paint, &mut out);
        }
        for line in &self.lines {
            match line {
                Line::Row(cells) => self.put(cells, &widths, paint, &mut out),
                Line::Heading(heading) => {
                    out.push_str(&" ".repeat(self.indent));
                    out.push_str(&paint.ink(heading.ink, &heading.text));
                    out.push('\n');
                }
                Line::Under(text) => self.put_last(text, self.indent + GAP, true, paint, &mut out),
                Line::Note(note) => self.put_last(note, self.last_at(&widths), true, paint, &mut out),
            }
        }
        out
    }

    /// Of all columns but the last.
    fn widths(&self) -> Vec<usize> {
        let inner = self.columns.len().saturating_sub(1);
        let mut widths: Vec<usize> = self.columns[..inner].iter().map(|(name, _)| name.len()).collect();
        for line in &self.lines {
            if let Line::Row(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.text.chars().count());
                }
            }
        }
        widths
    }

    fn last_at(&self, widths: &[usize]) -> usize {
        self.indent + widths.iter().map(|width| width + GAP).sum::<usize>()
    }

    fn put(&self, cells: &[Cell], widths: &[usize], paint: Paint, out: &mut String) {
        out.push_str(&" ".repeat(self.indent));
        for ((cell, width), (_, side)) in cells.iter().zip(widths).zip(&self.columns) {
            let pad = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let text = paint.ink(cell.ink, &cell.text);
            match side {
                Side::Left => out.push_str(&format!("{text}{pad}")),
                Side::Right => out.push_str(&format!("{pad}{text}")),
            }
            out.push_str(&" ".repeat(GAP));
        }
        match cells.last() {
            Some(last) => self.put_last(last, self.last_at(widths), false, paint, out),
            None => out.push('\n'),
        }
    }

    fn put_last(&self, cell: &Cell, at: usize, on_its_own: bool, paint: Paint, out: &mut String) {
        let room = WIDTH.saturating_sub(at).max(20);
        let lines = wrap(&cell.text, room);
        for (i, line) in lines.iter().enumerate() {
            if on_its_own || i > 0 {
                out.push_str(&" ".repeat(at));
            }
            out.push_str(&paint.ink(cell.ink, line));
            out.push('\n');
        }
        if lines.is_empty() {
            let kept = out.trim_end_matches(' ').len();
            out.truncate(kept);
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_the_last_one_is_wrapped() {
        let mut table = Table::new(2, &[("N", Side::Right), ("WHAT", Side::Left)]);
        table.heading("a heading".into());
        table.row(vec!["7".into(), "ünit".into()]);
        table.row(vec!["1,200".into(), "word ".repeat(30).into()]);
        table.note(cell(Ink::Dim, "why"));
        table.under("below".into());
        table.row(vec!["1".into(), "".into()]);
        let text = table.render(Paint::new(false));
        let words = |n: usize| vec!["word"; n].join(" ");
        let wanted = format!(
            "      N  WHAT\n  a heading\n      7  ünit\n  1,200  {}\n         {}\n         why\n    below\n      1\n",
            words(18),
            words(12)
        );
        assert_eq!(text, wanted);
        assert!(table.render(Paint::new(true)).contains("\x1b[2mwhy\x1b[0m"));
    }
}
