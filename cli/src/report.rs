//! The table at the end: one line a finding, and why for those that did not pass.

use serde_json::Number;

use crate::checks::{Check, Verdict};
use crate::screen::{COLUMNS, Screen, Tone, wrap};

/// How far the reasons are set in, in columns.
const INDENT: usize = 6;

/// Prints the findings and their sum.
pub fn table(screen: &mut Screen, checks: &[Check]) {
    screen.heading("Findings");
    show_rows(screen, checks);
    sum(screen, checks);
}

/// Prints the findings, without a heading and their sum.
pub(crate) fn show_rows(screen: &mut Screen, checks: &[Check]) {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let line = row(screen, check, width);
        screen.line(&line);
        if check.outcome != Verdict::Pass {
            explain(screen, &check.detail);
        }
    }
}

/// Prints findings for whom the figures matter: aligned, and each with what it is.
pub(crate) fn show_figures(screen: &mut Screen, checks: &[Check]) {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let figure = check.figure.as_ref().and_then(Number::as_f64).map_or_else(|| "-".into(), decimal);
        let unit = if check.figure.is_some() { check.unit.as_str() } else { "not measured" };
        let line = format!("{}  {:width$}  {figure:>9} {unit}", mark(screen, check.outcome), check.name);
        screen.line(&line);
        explain(screen, &check.detail);
    }
}

/// A number with a comma after each three digits, and with two behind the point where it is no whole one.
pub(crate) fn decimal(number: f64) -> String {
    let text = format!("{number:.2}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    if part.is_empty() || number.fract() == 0.0 { whole } else { format!("{whole}.{part}") }
}

/// A number with a comma after each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Prints the sum of the findings.
pub fn sum(screen: &mut Screen, checks: &[Check]) {
    let count = |verdict| checks.iter().filter(|check| check.outcome == verdict).count();
    let (pass, fail, skip) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
    screen.line(&format!("{pass} as it should be, {fail} fell short, {skip} not looked at"));
}

fn row(screen: &Screen, check: &Check, width: usize) -> String {
    let line = format!("{}  {:width$}  {}", mark(screen, check.outcome), check.name, figure(check));
    line.trim_end().to_owned()
}

/// The word for a verdict, in its colour.
pub(crate) fn mark(screen: &Screen, verdict: Verdict) -> String {
    let (mark, tone) = match verdict {
        Verdict::Pass => ("pass", Tone::Good),
        Verdict::Fail => ("FAIL", Tone::Bad),
        Verdict::Skip => ("skip", Tone::Faint),
    };
    screen.paint(tone, mark)
}

/// The figure with its unit; empty without one.
pub(crate) fn figure(check: &Check) -> String {
    check.figure.as_ref().map_or_else(String::new, |figure| format!("{figure} {}", check.unit))
}

/// Prints the detail of a finding under it.
pub(crate) fn explain(screen: &mut Screen, detail: &str) {
    for line in wrap(detail, COLUMNS - INDENT) {
        let line = screen.paint(Tone::Faint, &line);
        screen.line(&format!("{:INDENT$}{line}", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::{decimal, grouped, table};
    use crate::checks::{Check, Verdict};
    use crate::screen::tests::Written;

    #[test]
    fn numbers_are_grouped_by_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 1000.0, 0.283, 1234.5, f64::NAN].map(decimal), ["0", "1,000", "0.28", "1,234.50", "NaN"]);
    }

    #[test]
    fn rows_are_aligned_and_reasons_are_given_for_what_did_not_pass() {
        let written = Written::default();
        let checks = [
            Check::new("guard.frames", Verdict::Pass, "not shown").with_figure(0_u64, "frames"),
            Check::fail("a", "the guest printed no fact `a` ".repeat(4)),
            Check::skip("b", "no emulator"),
        ];
        table(&mut written.screen(), &checks);
        let text = written.text();
        assert!(text.contains("pass  guard.frames  0 frames\n"), "{text}");
        assert!(text.contains("FAIL  a\n      the guest") && text.contains("skip  b\n      no emulator"), "{text}");
        assert!(text.ends_with("1 as it should be, 1 fell short, 1 not looked at\n") && !text.contains("not shown"));
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }
}
