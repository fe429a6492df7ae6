//! The failing control: what an overflow does where stacks have no guards, or hold thread_info.
//!
//! A control passes when the damage was done and nobody noticed: a word that was not the victim's changed, and no fault was
//! raised. It is what the rest of the story is compared with.

use super::{Claim, Finding, Scene};
use crate::args::Stacks;
use crate::console::{BadFact, Transcript};
use crate::screen::{Screen, Tone};

/// Contiguous stacks in the direct map.
pub(super) const DIRECT: Scene = Scene {
    title: "Control: contiguous stacks without guards, thread_info at their bottom",
    mode: "control",
    stacks: Stacks::Direct,
    thread_info_at_bottom: true,
    counting: false,
    disk: false,
    claims: &[
        Claim { name: "control.neighbour_corrupted", unit: "", judge: neighbour },
        Claim { name: "control.thread_info_corrupted", unit: "", judge: thread_info },
    ],
    show: show_direct,
};

/// Mapped stacks that still hold thread_info.
pub(super) const MAPPED: Scene = Scene {
    title: "Control: mapped stacks with guards, thread_info still at their bottom",
    mode: "control",
    stacks: Stacks::Virtual,
    thread_info_at_bottom: true,
    counting: false,
    disk: false,
    claims: &[Claim { name: "control.mapped_thread_info_corrupted", unit: "", judge: mapped_thread_info }],
    show: show_mapped,
};

const NEIGHBOUR: &str = "control.neighbour.word";
const THREAD_INFO: &str = "control.thread_info.word";
const MAPPED_THREAD_INFO: &str = "control.mapped_thread_info.word";

/// The neighbour's word must lie outside the victim's stack: a word of its own proves nothing.
fn neighbour(facts: &Transcript) -> Result<Finding, BadFact> {
    let [low, high] = facts.numbers("control.victim.range")?;
    let [address, ..] = facts.numbers::<3>(NEIGHBOUR)?;
    let owner = facts.number("control.neighbour.owner")?;
    let mut finding = overwritten(facts, NEIGHBOUR, &format!("a word of task {owner}'s stack"))?;
    if (low..high).contains(&address) {
        finding = Finding::new(false, format!("{address:#x} is the victim's own: its stack is {low:#x} to {high:#x}"));
    }
    Ok(finding)
}

fn thread_info(facts: &Transcript) -> Result<Finding, BadFact> {
    overwritten(facts, THREAD_INFO, "a word of thread_info")
}

fn mapped_thread_info(facts: &Transcript) -> Result<Finding, BadFact> {
    overwritten(facts, MAPPED_THREAD_INFO, "a word of thread_info")
}

fn overwritten(facts: &Transcript, name: &str, what: &str) -> Result<Finding, BadFact> {
    let [address, before, after] = facts.numbers(name)?;
    let faults = facts.number("control.faults")?;
    let detail = format!("{what} at {address:#x} was {before:#x} and became {after:#x}, with {faults} faults raised");
    Ok(Finding::new(before != after && faults == 0, detail))
}

fn show_direct(facts: &Transcript, screen: &mut Screen) {
    if let Ok([low, high]) = facts.numbers("control.victim.range") {
        screen.line(&format!("  the stack that overflows is {low:#x} to {high:#x}"));
    }
    let owner =
        facts.number("control.neighbour.owner").map_or_else(|_| String::new(), |owner| format!(" (task {owner})"));
    words(facts, screen, &[(NEIGHBOUR, &format!("neighbour{owner}")), (THREAD_INFO, "thread_info")]);
}

fn show_mapped(facts: &Transcript, screen: &mut Screen) {
    words(facts, screen, &[(MAPPED_THREAD_INFO, "thread_info")]);
}

/// A block of words before and after, and how many faults told of it.
fn words(facts: &Transcript, screen: &mut Screen, rows: &[(&str, &str)]) {
    let head = format!("  {:<20} {:<18} {:<18} {:<18}", "", "address", "before", "after");
    let head = screen.paint(Tone::Faint, head.trim_end());
    screen.line(&head);
    for (name, label) in rows {
        if let Ok([address, before, after]) = facts.numbers(name) {
            let after = screen.paint(if before == after { Tone::Plain } else { Tone::Bad }, &format!("{after:#018x}"));
            screen.line(&format!("  {label:<20} {address:#018x} {before:#018x} {after}"));
        }
    }
    if let Ok(faults) = facts.number("control.faults") {
        let noticed = if faults == 0 { ": memory was rewritten, and nothing noticed" } else { "" };
        screen.line(&format!("  faults raised: {faults}{noticed}"));
    }
}
