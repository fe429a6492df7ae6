//! The two ways in which other CPUs can be made to flush: by a message, or where they next switch tasks.
//!
//! What a batch costs is composed, as `stack.cold.shootdown` is. To look for oneself costs something at each switch, also where there is nothing to
//! flush; so the switches that each stack's task has anyway belong to it, and the detail says how many of them outweigh a batch.
//!
//! How long a batch waits, and how much memory with it, is counted in a boot each of four CPUs that take turns (`mode=pending`): the clock counts what
//! all of them do together, and the same figures come again on every machine.

use crate::bench::Setting;
use crate::bench::counted::{Facts, Figure, INSTRUCTIONS, Trial};
use crate::checks::Check;
use crate::console::{BadFact, Transcript, number};
use crate::failure::Failure;
use crate::screen::Screen;
use crate::words::Words;
use std::path::Path;

/// The CPUs that take turns.
const CPUS: u32 = 4;
/// The memory of their machine, in MiB: a storm takes all of it.
const MEMORY: u32 = 128;
/// The fewest switches that a task has: to it, and away from it.
const SWITCHES: u64 = 2;

/// The ways: in the names of findings, and on the kernel's command line.
const WAYS: [(&str, &str); 2] = [("message", "message"), ("at_switch", "switch")];
/// What the other CPUs do meanwhile, and how that is said.
const STATES: [(&str, &str); 3] = [
    ("idle", "while the other CPUs idle"),
    ("switching", "while they switch tasks, after each 100,000 instructions of the machine"),
    ("busy", "while each of them is busy with one task"),
];

/// What a batch costs where CPUs look for themselves, for each of its stacks.
pub(super) fn at_switch(facts: &Transcript) -> Result<Figure, BadFact> {
    let [cpus, sender, flush, look, idle] = facts.numbers("stack.flush_at_switch")?;
    let [_, asking, handler, stacks, _] = facts.numbers("stack.shootdown")?;
    let receivers = cpus.saturating_sub(1);
    let (batch, message) = (sender + receivers * flush, asking + receivers * handler);
    let each = if stacks == 0 { f64::NAN } else { batch as f64 / stacks as f64 };
    let switches = message.saturating_sub(batch).checked_div(look).unwrap_or(0);
    let detail = format!(
        "the same where CPUs look when they switch tasks: {sender} of the one who begins and {receivers} x {flush} of the others for \
         a batch, and {SWITCHES} x {look} for looks that find nothing; {idle} each time that a CPU idles. It is less than a \
         message if there is a batch for each {switches} switches"
    );
    Ok(Figure { value: each + (SWITCHES * look) as f64, unit: INSTRUCTIONS, detail })
}

/// Boots both ways; all findings of these.
pub(super) fn run(setting: &Setting<'_>, archive: &Path, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    for (name, word) in WAYS {
        let words = Words::mode("pending").with("flush", word);
        let trial = Trial { words, counting: true, cpus: CPUS, memory: MEMORY, disk: None };
        checks.extend(judge(name, &trial.run(setting, archive, screen)?));
    }
    Ok(checks)
}

/// The findings of one way.
pub(super) fn judge(way: &str, facts: &Facts) -> Vec<Check> {
    let name = |what: &str| format!("stack.flush.{way}.{what}");
    let mut checks: Vec<Check> = STATES
        .iter()
        .map(|(state, words)| facts.check(&name(state), None, |facts| flushed(facts, state, words)))
        .collect();
    checks.push(facts.check(&name("pending"), None, pending));
    checks.push(facts.check(&name("missed"), None, missed));
    checks
}

/// The numbers of the fact `name` about `state`.
fn about<const N: usize>(facts: &Transcript, name: &str, state: &str) -> Result<[u64; N], BadFact> {
    let mut found = facts.all(name).iter().filter(|words| words.first().is_some_and(|word| word == state));
    let words = found.next().ok_or_else(|| BadFact::Missing(format!("{name} {state}")))?;
    let numbers: Option<Vec<u64>> = words[1..].iter().map(|word| number(word)).collect();
    let malformed = || BadFact::Malformed(name.to_owned(), words.join(" "), N);
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(malformed)
}

/// How long it takes until every CPU has flushed.
fn flushed(facts: &Transcript, state: &str, words: &str) -> Result<Figure, BadFact> {
    let [samples, median, mean, most] = about(facts, "pending.flush", state)?;
    let [stacks, batches, drained] = about(facts, "pending.drain", state)?;
    let detail = format!(
        "until every CPU has flushed, {words}: median of {samples}, {mean} on average and {most} at most; to give {stacks} \
         stacks back in {batches} batches took {drained}"
    );
    Ok(Figure::instructions(median, detail))
}

/// What waits in a storm.
fn pending(facts: &Transcript) -> Result<Figure, BadFact> {
    let [looks, mean, most] = facts.numbers("pending.bytes")?;
    let [unmapped, batches] = facts.numbers("pending.batches")?;
    let detail = format!(
        "waits for flushes in a storm on {CPUS} CPUs, on average of {looks} looks; {} KiB at most; {unmapped} stacks were unmapped in \
         {batches} batches",
        most / 1024
    );
    Ok(Figure { value: mean as f64 / 1024.0, unit: "KiB", detail })
}

/// What was not to be had for it.
fn missed(facts: &Transcript) -> Result<Figure, BadFact> {
    let [asked, built, missed, took] = facts.numbers("pending.storm")?;
    let detail = format!(
        "of {asked} that the storm asked for were not to be had while others waited for flushes; {built} were built from \
         frames; it took {took} instructions of the machine"
    );
    Ok(Figure { value: missed as f64, unit: "stacks", detail })
}
