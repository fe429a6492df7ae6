//! What a stack costs, in guest instructions.
//!
//! The clock of this boot is the number of instructions, so the figures are the same on every machine with the same emulator
//! and guest. The guest first counts a loop of known length; when that is off the figures are worth nothing, and
//! are not reported.

use super::{Claim, Finding, Scene};
use crate::args::Stacks;
use crate::console::{BadFact, Transcript};
use crate::screen::Screen;

/// The calibration may be off by a hundredth, and by the few instructions of reading the clock.
const TOLERANCE_PARTS: u64 = 100;
const TOLERANCE_READING: u64 = 16;

/// The counting boot.
pub(super) const SCENE: Scene = Scene {
    title: "Cost of a stack, in instructions",
    mode: "count",
    stacks: Stacks::Virtual,
    thread_info_at_bottom: false,
    counting: true,
    disk: false,
    claims: &[
        Claim { name: "cost.alloc_free_virtual", unit: "instructions", judge: mapped },
        Claim { name: "cost.alloc_free_direct", unit: "instructions", judge: direct },
        Claim { name: "cost.current_percpu", unit: "instructions", judge: per_cpu },
        Claim { name: "cost.current_struct", unit: "instructions", judge: task_struct },
        Claim { name: "cost.current_slot", unit: "instructions", judge: slot },
    ],
    show,
};

fn mapped(facts: &Transcript) -> Result<Finding, BadFact> {
    figure(facts, "virtual")
}

fn direct(facts: &Transcript) -> Result<Finding, BadFact> {
    figure(facts, "direct")
}

fn per_cpu(facts: &Transcript) -> Result<Finding, BadFact> {
    flags(facts, "percpu", "in the per-CPU block")
}

fn task_struct(facts: &Transcript) -> Result<Finding, BadFact> {
    flags(facts, "struct", "in the task struct")
}

fn slot(facts: &Transcript) -> Result<Finding, BadFact> {
    flags(facts, "slot", "in a page of the stack's slot")
}

/// What it takes to test the flags that are `place`.
fn flags(facts: &Transcript, place: &str, words: &str) -> Result<Finding, BadFact> {
    if let Some(uncounted) = uncounted(facts)? {
        return Ok(uncounted);
    }
    let count = facts.number(&format!("cost.current.{place}"))?;
    Ok(Finding::new(count > 0, format!("{count} to test the running task's flags {words}")).with_figure(count))
}

/// Why no figure is right, if the clock did not count what it should.
fn uncounted(facts: &Transcript) -> Result<Option<Finding>, BadFact> {
    let [expected, measured] = facts.numbers("cost.calibration")?;
    let off = expected.abs_diff(measured) > expected / TOLERANCE_PARTS + TOLERANCE_READING;
    Ok(off.then(|| {
        let detail =
            format!("the calibration loop has {expected} instructions and counted {measured}: no figure is right");
        Finding::new(false, detail)
    }))
}

fn figure(facts: &Transcript, kind: &str) -> Result<Finding, BadFact> {
    if let Some(uncounted) = uncounted(facts)? {
        return Ok(uncounted);
    }
    let median = facts.number(&format!("cost.{kind}.p50"))?;
    let clear = facts.number(&format!("cost.{kind}.clear"))?;
    let detail = format!("{median} at the median to allocate and free, {clear} of them to clear");
    Ok(Finding::new(true, detail).with_figure(median))
}

fn show(facts: &Transcript, screen: &mut Screen) {
    for (kind, label) in [("virtual", "page by page"), ("direct", "contiguous")] {
        if let Ok(Finding { holds: true, detail, .. }) = figure(facts, kind) {
            screen.line(&format!("  {label:<13} {detail}"));
        }
    }
    for judge in [per_cpu, task_struct, slot] {
        if let Ok(Finding { holds: true, detail, .. }) = judge(facts) {
            screen.line(&format!("  flags         {detail}"));
        }
    }
}
