//! Stacks by number, beside the magazines: what they cost, and what becomes of them by who hands the numbers out
//! (`kernel/src/count/numbered.rs`).

use super::{Plain, plain};
use crate::bench::counted::{Facts, Figure};
use crate::checks::Check;
use crate::console::{BadFact, Transcript};

/// The same operations as with magazines.
const COSTS: [Plain; 6] = [
    plain("stack.numbered.hot", "from the slot of its number and back, no clearing", None),
    plain("stack.numbered.hot.tested", "the same with its dirty bits tested", None),
    plain("stack.numbered.hot.handed_over", "the same given back as by a task that ends", None),
    plain("stack.numbered.hot_used1", "the same with the top page written, and cleared", None),
    plain("stack.numbered.long", "in long runs, with looks at what is idle", None),
    plain("stack.numbered.cold", "from nothing and back to nothing, clearing apart", None),
];

/// Who hands numbers out in the pattern, as facts name them.
const WAYS: [(&str, &str); 3] = [
    ("magazines", "without numbers, from magazines"),
    ("lowest", "the lowest number that is free"),
    ("cyclic", "one number after the other, of 8,192"),
];

/// All findings about numbers.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = COSTS.iter().map(|plain| plain.check(facts)).collect();
    for (index, name, what) in [
        (0, "stack.numbered.number.next", "apart: the next task number, as the kernel finds it"),
        (1, "stack.numbered.number.lowest", "apart: the lowest free number, and giving it back"),
    ] {
        let read = |facts: &Transcript| Ok(Figure::instructions(facts.numbers::<2>("stack.number")?[index], what));
        checks.push(facts.check(name, None, read));
    }
    for (budget, limit) in [("unlimited", "no budget"), ("budget", "a budget of 48 stacks")] {
        for (way, what) in WAYS {
            let read = |facts: &Transcript| found(facts, &format!("stack.pattern.{budget}.{way}"), what, limit);
            checks.push(facts.check(&format!("stack.numbered.found.{budget}.{way}"), None, read));
        }
    }
    checks
}

/// How many allocations of the pattern found a stack that was there, and what was held for that.
fn found(facts: &Transcript, fact: &str, what: &str, limit: &str) -> Result<Figure, BadFact> {
    let [all, built, held, in_use] = facts.numbers(fact)?;
    let value = if all == 0 { f64::NAN } else { all.saturating_sub(built) as f64 / all as f64 };
    let detail = format!(
        "of {all} tasks found a stack built: {what}, {limit}; {} KiB held at most, beside {} KiB in use",
        held / 1024,
        in_use / 1024
    );
    Ok(Figure { value, unit: "of all tasks", detail })
}
