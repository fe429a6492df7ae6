//! The table: a block an operation, a line a kind of stacks, and how they compare.

use super::anchors::{OPERATIONS, Operation};
use super::column::{Column, Row};
use crate::report::{explain, grouped};
use crate::screen::{Screen, Tone};

/// The widths of a line's parts, in columns.
const LABEL: usize = 27;
const FIGURE: usize = 12;

/// Shows all columns, operation by operation.
pub(super) fn show(columns: &[Column], screen: &mut Screen) {
    let head = line("", ["p50", "mean", "p99"].map(str::to_owned), "");
    let head = screen.paint(Tone::Faint, &head);
    screen.line(&head);
    for (index, operation) in OPERATIONS.iter().enumerate() {
        screen.line(operation.title);
        for column in columns {
            show_row(column, &column.rows[index], screen);
        }
        compare(operation, columns, index, screen);
    }
    columns.iter().for_each(|column| explain_missing(column, screen));
}

/// Why rows of a column are missing, each reason once.
fn explain_missing(column: &Column, screen: &mut Screen) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (operation, row) in OPERATIONS.iter().zip(&column.rows) {
        if let Err(why) = row {
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, names)) => names.push(operation.name),
                None => reasons.push((why, vec![operation.name])),
            }
        }
    }
    for (reason, names) in reasons {
        screen.line(&format!("not measured, {}: {}", column.label, names.join(", ")));
        explain(screen, reason);
    }
}

fn show_row(column: &Column, row: &Result<Row, String>, screen: &mut Screen) {
    match row {
        Ok(row) => screen.line(&line(column.label, row.figures.map(grouped), "")),
        Err(_) => {
            let missing = screen.paint(Tone::Bad, "not measured");
            screen.line(&format!("  {:LABEL$}{missing}", column.label));
        }
    }
}

/// Mapped against direct, against Linux here, and against Linux as it was measured.
fn compare(operation: &Operation, columns: &[Column], index: usize, screen: &mut Screen) {
    let figures = |name: &str| {
        let column = columns.iter().find(|column| column.name == name)?;
        column.rows[index].as_ref().ok().map(|row| row.figures)
    };
    if let Some(linux) = operation.linux {
        screen.line(&line("Linux 6.1, measured before", linux.map(grouped), ""));
    }
    let Some(mapped) = figures("") else { return };
    let mut ratio = |label: &str, other: Option<[u64; 3]>, aim: String| {
        if let Some(other) = other {
            let ratios = core::array::from_fn(|index| ratio(mapped[index], other[index]));
            let line = screen.paint(Tone::Faint, &line(label, ratios, &aim));
            screen.line(&line);
        }
    };
    ratio("mapped / direct", figures("direct"), String::new());
    ratio("mapped / Linux, here", figures("linux"), String::new());
    let aim = operation.part.map_or_else(String::new, |part| format!("at most 1/{part}"));
    ratio("mapped / Linux 6.1", operation.linux, aim);
}

fn line(label: &str, [p50, mean, p99]: [String; 3], note: &str) -> String {
    let line = format!("  {label:LABEL$}{p50:>FIGURE$}{mean:>FIGURE$}{p99:>FIGURE$}  {note}");
    line.trim_end().to_owned()
}

/// `a` in parts of `b`, with two digits behind the point.
fn ratio(a: u64, b: u64) -> String {
    if b == 0 {
        return "-".into();
    }
    let hundredths = (a * 100 + b / 2) / b;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn ratios_are_rounded_to_hundredths() {
        assert_eq!([ratio(1, 4), ratio(2, 3), ratio(7, 2), ratio(1, 0)], ["0.25", "0.67", "3.50", "-"]);
    }
}
