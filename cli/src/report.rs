//! The table at the end: one line a finding, and why for those that did not pass.

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
    use super::table;
    use crate::checks::{Check, Verdict};
    use crate::screen::tests::Written;

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
