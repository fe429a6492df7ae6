//! The stack area, drawn: a row a slot, low addresses on the left.
//!
//! ```text
//!   slot  guard│stack, used from its top down         used       owner
//!      0  ░░░░░│                      ▐█████████   6.0 of 16 KiB   2 init
//! ```
//!
//! Facts: `area.slot INDEX STATE USED SIZE OWNER...`, sizes in bytes. Slots that nobody uses are counted, not drawn.

use std::collections::BTreeMap;

use crate::console::{Transcript, number};

/// Columns of a drawn stack. A column has two halves.
const WIDTH: usize = 32;
/// Rows that are drawn; more slots are counted.
const ROWS: usize = 16;
const GUARD: &str = "░░░░";

/// One slot, as it is drawn. Sizes in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) index: u64,
    pub(crate) state: &'a str,
    pub(crate) used: u64,
    pub(crate) size: u64,
    pub(crate) owner: String,
}

/// The lines of the drawing, at most `columns` wide; none when the guest said nothing of its slots.
pub(super) fn area(facts: &Transcript, columns: usize) -> Vec<String> {
    let slots: Vec<Slot<'_>> = facts.all("area.slot").iter().filter_map(|words| slot(words)).collect();
    draw(&slots, columns)
}

/// The lines of the drawing of `slots`, at most `columns` wide.
pub(crate) fn draw(slots: &[Slot<'_>], columns: usize) -> Vec<String> {
    let (drawn, rest): (Vec<&Slot<'_>>, Vec<&Slot<'_>>) = slots.iter().partition(|slot| slot.state == "live");
    if slots.is_empty() {
        return Vec::new();
    }
    let head = format!("  slot  {GUARD}│{:<WIDTH$}│  used", " the stack grows to the left");
    let rows = drawn.iter().take(ROWS).map(|slot| row(slot).chars().take(columns).collect());
    let others = counted(drawn.iter().skip(ROWS).chain(&rest).copied());
    [String::new(), head].into_iter().chain(rows).chain(others).collect()
}

fn slot(words: &[String]) -> Option<Slot<'_>> {
    let [index, state, used, size, owner @ ..] = words else { return None };
    let (index, used, size) = (number(index)?, number(used)?, number(size)?);
    Some(Slot { index, state, used, size, owner: owner.join(" ") })
}

fn row(slot: &Slot<'_>) -> String {
    let used = format!("{} of {} KiB", kib(slot.used), kib(slot.size));
    let name = if slot.owner.is_empty() { slot.state } else { &slot.owner };
    format!("{:6}  {GUARD}│{}│{used:>15}  {name}", slot.index, bar(slot.used, slot.size)).trim_end().to_owned()
}

/// The used part, from the top of the stack (right) down; anything used shows at least half a column.
fn bar(used: u64, size: u64) -> String {
    let halves = WIDTH as u64 * 2;
    let filled = used.min(size).saturating_mul(halves).div_ceil(size.max(1)).min(halves);
    let filled = usize::try_from(filled).unwrap_or(WIDTH * 2);
    let (full, half) = (filled / 2, filled % 2);
    format!("{}{}{}", " ".repeat(WIDTH - full - half), "▐".repeat(half), "█".repeat(full))
}

fn kib(bytes: u64) -> String {
    let tenths = (bytes.saturating_mul(10)).div_ceil(1024);
    if tenths.is_multiple_of(10) { (tenths / 10).to_string() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

/// One line for the slots that are not drawn, by state.
fn counted<'a>(slots: impl Iterator<Item = &'a Slot<'a>>) -> Option<String> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for slot in slots {
        *states.entry(slot.state).or_default() += 1;
    }
    let counts: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    (!counts.is_empty()).then(|| format!("        not drawn: {}", counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, area, bar};
    use crate::console::Transcript;

    #[test]
    fn a_bar_is_always_as_wide_and_any_use_shows() {
        for (used, size, full) in
            [(0, 16384, 0), (1, 16384, 1), (8192, 16384, 16), (16384, 16384, 32), (99, 9, 32), (1, 0, 0)]
        {
            let bar = bar(used, size);
            assert_eq!(bar.chars().count(), WIDTH);
            assert_eq!(bar.chars().filter(|&c| c != ' ').count(), full, "{used} of {size}");
        }
    }

    #[test]
    fn slots_are_drawn_within_80_columns_and_the_rest_is_counted() {
        let mut log = String::new();
        for index in 0..30 {
            let state = if index % 2 == 0 { "live" } else { "free" };
            log +=
                &format!("fact area.slot {index} {state} 1536 16384 {index} a task with a long name of many words\n");
        }
        log += "fact area.slot odd\n";
        let lines = area(&Transcript::of(&log), 80);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines[2].contains("1.5 of 16 KiB  0 a task"), "{lines:#?}");
        assert_eq!(lines.last().map(String::as_str), Some("        not drawn: 15 free"));
    }

    #[test]
    fn no_facts_make_no_drawing() {
        assert!(area(&Transcript::of("boot\n"), 80).is_empty());
    }
}
