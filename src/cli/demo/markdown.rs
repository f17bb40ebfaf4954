//! Markdown for a terminal: columns aligned (all but the last), long lines broken, headings bold. It stays Markdown.

use super::screen::{Screen, WIDTH, wrap};

const MARGIN: &str = "   ";

/// Prints a document.
pub fn show(screen: &Screen, text: &str) {
    let mut table: Vec<&str> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with('|') && !fenced {
            table.push(line);
            continue;
        }
        show_table(screen, &std::mem::take(&mut table));
        let fence = line.starts_with("```");
        fenced ^= fence;
        if line.starts_with('#') && !fenced {
            screen.line(&format!("{MARGIN}{}", screen.bold(line)));
        } else if fenced || fence {
            let line = if fence { screen.dim(line) } else { line.to_owned() };
            screen.line(format!("{MARGIN}{line}").trim_end());
        } else {
            for (number, part) in wrap(line, WIDTH - MARGIN.len()).iter().enumerate() {
                // What belongs to a numbered point stands beneath its text.
                let hang =
                    if number > 0 && line.starts_with(|c: char| c.is_ascii_digit()) { MARGIN } else { "" };
                screen.line(format!("{MARGIN}{hang}{part}").trim_end());
            }
        }
    }
    show_table(screen, &table);
}

fn show_table(screen: &Screen, rows: &[&str]) {
    for row in align(rows) {
        screen.line(&format!("{MARGIN}{row}"));
    }
}

/// A table's rows with cells of equal width, except in the last column.
fn align(rows: &[&str]) -> Vec<String> {
    let cells = |row: &&str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.filter(|cell| !is_rule(cell)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let mut widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    // The last column may be ragged: one long cell would make every row too long for the terminal.
    if let Some(last) = widths.last_mut() {
        *last = 3;
    }
    let row = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| match is_rule(cell) {
            true => "-".repeat(width),
            false => format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))),
        });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    rows.iter().map(row).collect()
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_beneath_each_other() {
        let rows = align(&["| a | 12345 |", "|---|---|", "| bcdef | 1 |"]);
        assert_eq!(rows, ["| a     | 12345 |", "| ----- | --- |", "| bcdef | 1   |"]);
    }
}
