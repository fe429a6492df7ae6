//! What a mapped stack costs in the life of a thread, against a direct one: how many times as many instructions.
//!
//! Two comparisons. `ratio`: direct stacks as Linux without `VMAP_STACK` has them, from the buddy allocator and cleared whole.
//! `ratio_equal`: direct stacks that are kept and scrubbed as mapped ones are, so that what is left is the mapping.

use serde_json::Number;

use super::anchors::{OPERATIONS, STATISTICS};
use super::column::Column;
use crate::checks::{self, Check, Verdict};
use crate::screen::{Screen, Tone};

/// What is aimed at for one operation, statistic by statistic: the most hundredths, or none where a figure is only printed.
struct Aim {
    operation: &'static str,
    ratio: [Option<u64>; STATISTICS.len()],
    equal: [Option<u64>; STATISTICS.len()],
}

const NO_MORE: [Option<u64>; 3] = [Some(100); 3];
const HARDLY_MORE: [Option<u64>; 3] = [Some(105); 3];

const AIMS: [Aim; 4] = [
    Aim { operation: "clone", ratio: NO_MORE, equal: HARDLY_MORE },
    Aim { operation: "storm256_first", ratio: [None, Some(110), None], equal: [None; 3] },
    Aim { operation: "storm256", ratio: NO_MORE, equal: HARDLY_MORE },
    Aim { operation: "storm4096", ratio: NO_MORE, equal: HARDLY_MORE },
];

/// The findings.
pub(super) fn checks(columns: &[Column]) -> Vec<Check> {
    AIMS.iter().flat_map(|aim| of_operation(aim, columns)).collect()
}

fn of_operation<'a>(aim: &'a Aim, columns: &'a [Column]) -> impl Iterator<Item = Check> + 'a {
    let against = [("ratio", "direct", aim.ratio), ("ratio_equal", "equal", aim.equal)];
    against.into_iter().flat_map(move |(kind, other, aims)| {
        (0..STATISTICS.len()).map(move |index| {
            let name = format!("life.{}.{kind}.{}", aim.operation, STATISTICS[index]);
            match [figure(columns, "", aim.operation, index), figure(columns, other, aim.operation, index)] {
                [Some(mapped), Some(direct)] if direct > 0 => judged(&name, mapped, direct, aims[index]),
                _ => Check::fail(&name, "one of the two could not be measured"),
            }
        })
    })
}

fn figure(columns: &[Column], way: &str, operation: &str, index: usize) -> Option<u64> {
    let column = columns.iter().find(|column| column.name == way)?;
    let row = OPERATIONS.iter().position(|known| known.name == operation)?;
    Some(column.rows[row].as_ref().ok()?.figures[index])
}

fn judged(name: &str, mapped: u64, direct: u64, most: Option<u64>) -> Check {
    // In whole numbers: a ratio that is printed as 1.00 and is more than that is more.
    let held = most.is_none_or(|most| mapped * 100 <= direct * most);
    let aim = most.map_or_else(String::new, |most| format!("; at most {}.{:02} was aimed at", most / 100, most % 100));
    let detail = format!("{mapped} instructions mapped, {direct} direct{aim}");
    let ratio = Number::from_f64((mapped as f64 / direct as f64 * 1000.0).round() / 1000.0);
    let check = Check::new(name, if held { Verdict::Pass } else { Verdict::Fail }, detail);
    let check = check.aiming(most.map(|most| checks::Aim::AtMost(most as f64 / 100.0)));
    match ratio {
        Some(ratio) => check.with_figure(ratio, "times"),
        None => check,
    }
}

/// Shows them: a line an operation, first against direct stacks as Linux has them, then against those that are kept as mapped ones are.
pub(super) fn show(checks: &[Check], screen: &mut Screen) {
    screen.line("Mapped against direct stacks: as Linux has them, and kept as mapped ones are");
    let head = row("", &STATISTICS.repeat(2).into_iter().map(str::to_owned).collect::<Vec<_>>());
    let head = screen.paint(Tone::Faint, &head);
    screen.line(&head);
    for (aim, checks) in AIMS.iter().zip(checks.chunks(2 * STATISTICS.len())) {
        let figures: Vec<_> = checks.iter().map(shown).collect();
        let short = checks.iter().any(|check| check.outcome == Verdict::Fail);
        let line = screen.paint(if short { Tone::Bad } else { Tone::Good }, &row(aim.operation, &figures));
        screen.line(&line);
    }
}

fn shown(check: &Check) -> String {
    let figure = check.figure.as_ref().and_then(Number::as_f64);
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.2}"))
}

fn row(label: &str, figures: &[String]) -> String {
    figures.iter().fold(format!("  {label:16}"), |line, figure| line + &format!("{figure:>7}"))
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::checks::Verdict;

    #[test]
    fn a_ratio_passes_up_to_what_was_aimed_at_and_no_further() {
        assert_eq!(judged("a", 100, 100, Some(100)).outcome, Verdict::Pass);
        assert_eq!(judged("a", 100_001, 100_000, Some(100)).outcome, Verdict::Fail);
        assert_eq!(judged("a", 105, 100, Some(105)).outcome, Verdict::Pass);
        assert_eq!(judged("a", 900, 100, None).outcome, Verdict::Pass);
    }
}
