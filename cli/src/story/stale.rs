//! Stale translations: what a CPU that still knows a page as it was could do, with every flush in its place and with one left out.
//!
//! The guest does two experiments (`kernel/src/stale.rs`). It flushes in either of the kernel's ways, which must leave no word that is not
//! zero; and with planted bugs, which must leave some: else the experiment would show nothing.
//!
//! Neither must it show nothing because nothing happened. Where the writer's CPU flushes, what was written is handed out again in the
//! experiment; where it is deaf nothing may be.

use super::{Claim, Finding, Scene};
use crate::args::Stacks;
use crate::console::{BadFact, Transcript, number};
use crate::screen::{Screen, Tone};

/// The boot.
pub(super) const SCENE: Scene = Scene {
    title: "Stale translations, with every flush in its place and without",
    mode: "stale",
    stacks: Stacks::Virtual,
    thread_info_at_bottom: false,
    counting: false,
    disk: false,
    claims: &[
        Claim { name: "flush.zero_words", unit: "words", judge: |facts| clean(facts, ZERO) },
        Claim { name: "flush.frame_words", unit: "words", judge: |facts| clean(facts, FRAME) },
        Claim { name: "control.unflushed_zero_words", unit: "words", judge: |facts| caught(facts, ZERO) },
        Claim { name: "control.unflushed_frame_words", unit: "words", judge: |facts| caught(facts, FRAME) },
    ],
    show,
};

const ZERO: &str = "stale.zero";
const FRAME: &str = "stale.frame";

/// What the words that are not zero were found in.
fn place(name: &str) -> &'static str {
    if name == ZERO { "in stacks that were handed out" } else { "in frames of their next owner" }
}

/// The ways of flushing that the kernel has.
const WAYS: [&str; 2] = ["message", "at-switch"];
/// Who writes, on one CPU and on several.
const WRITERS: [&str; 3] = ["here", "hearing", "deaf"];

/// The writers of a machine like the guest's.
fn writers(facts: &Transcript) -> Result<&'static [&'static str], BadFact> {
    Ok(if facts.number("stale.cpus")? > 1 { &WRITERS } else { &WRITERS[..1] })
}

/// One experiment: how many stacks it had, how many of them were handed out again, and the words that were found.
struct Row {
    stacks: u64,
    again: u64,
    words: u64,
}

/// The row of the experiment `name` in which CPUs flush in a `way` and a `writer` writes.
fn row(facts: &Transcript, name: &str, way: &str, writer: &str) -> Result<Row, BadFact> {
    let is_meant = |words: &&Vec<String>| words.len() == 5 && words[0] == way && words[1] == writer;
    let mut found = facts.all(name).iter().filter(is_meant);
    let missing = || BadFact::Missing(format!("{name} {way} {writer}"));
    let words = found.next().ok_or_else(missing)?;
    if found.next().is_some() {
        return Err(BadFact::Repeated(format!("{name} {way} {writer}")));
    }
    let numbers: Option<Vec<u64>> = words[2..].iter().map(|word| number(word)).collect();
    match numbers.as_deref() {
        Some(&[stacks, again, words]) => Ok(Row { stacks, again, words }),
        _ => Err(BadFact::Malformed(name.to_owned(), words.join(" "), 3)),
    }
}

/// No word is left, whoever writes, and however the kernel flushes.
fn clean(facts: &Transcript, name: &str) -> Result<Finding, BadFact> {
    let (mut all, mut rows) = (0, 0);
    for way in WAYS {
        for writer in writers(facts)? {
            let Row { stacks, again, words } = row(facts, name, way, writer)?;
            let expected = if *writer == "deaf" { 0 } else { stacks };
            if again != expected || stacks == 0 {
                let detail = format!("{way}, {writer}: {again} of {stacks} stacks came again, where {expected} should");
                return Ok(Finding::new(false, detail));
            }
            (all, rows) = (all + words, rows + 1);
        }
    }
    let detail = format!("{all} words that are not zero {}, in {rows} experiments with every flush", place(name));
    Ok(Finding::new(all == 0, detail).with_figure(all))
}

/// Some are found where a flush is left out, or said to be over too early. The figure is the fewest.
fn caught(facts: &Transcript, name: &str) -> Result<Finding, BadFact> {
    let writers = writers(facts)?;
    let unflushed = writers.iter().map(|writer| ("never", *writer));
    let early = writers.iter().filter(|writer| **writer == "deaf").map(|writer| ("too-early", *writer));
    let mut fewest = u64::MAX;
    let mut rows = 0;
    for (way, writer) in unflushed.chain(early) {
        fewest = fewest.min(row(facts, name, way, writer)?.words);
        rows += 1;
    }
    let detail = format!("at least {fewest} words {}, in {rows} experiments without a flush", place(name));
    Ok(Finding::new(fewest > 0, detail).with_figure(fewest))
}

fn show(facts: &Transcript, screen: &mut Screen) {
    for (name, what) in [(ZERO, "stacks handed out again"), (FRAME, "frames of a new owner")] {
        for (way, label) in [("message", "every flush"), ("never", "no flush")] {
            if let Ok(Row { words, .. }) = row(facts, name, way, "here") {
                let tone = if words == 0 { Tone::Plain } else { Tone::Bad };
                let words = screen.paint(tone, &format!("{words} words that are not zero"));
                screen.line(&format!("  {what}, {label}: {words}"));
            }
        }
    }
}
