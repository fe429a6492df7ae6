//! One boot of a program that fills the machine: how many there were, why not more, and whether all of it came back.
//!
//! The programs print what they saw (`programs/src/bin/crowd.rs`, `bomb.rs`), the kernel what it counted before and after
//! (`docs/console.md`). A boot that did not end in order, or whose program did not end well, has no figures.

use core::time::Duration;
use std::path::Path;

use super::{Setting, with_program};
use crate::boots::{Measured, Proof, show_end};
use crate::checks::{Check, Verdict};
use crate::console::{BadFact, Transcript};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::words::Words;

/// How long a boot may take when the user does not say.
const LIMIT: Duration = Duration::from_secs(900);

/// Linux's errors that say that there can be no more.
const EAGAIN: u64 = 11;
const ENOMEM: u64 = 12;

/// One boot.
pub(super) struct Trial<'a> {
    /// What its findings' names begin with.
    pub(super) name: &'a str,
    /// The words of the kernel's command line, after its mode.
    pub(super) words: &'a [(&'a str, &'a str)],
    /// The program and its arguments.
    pub(super) program: &'a [&'a str],
    /// The machine's memory, in MiB.
    pub(super) memory: u32,
    /// Its CPUs.
    pub(super) cpus: u32,
}

/// The CPUs of most trials.
pub(super) const CPUS: u32 = 2;

/// What a boot printed, or why that is not believed.
pub(super) struct Seen {
    name: String,
    facts: Result<Transcript, String>,
}

impl Trial<'_> {
    /// Boots it.
    pub(super) fn run(&self, setting: &Setting<'_>, archive: &Path, screen: &mut Screen) -> Result<Seen, Failure> {
        let words = self.words.iter().fold(Words::mode("program"), |words, (name, value)| words.with(name, value));
        let (program, arguments) = self.program.split_first().unwrap_or((&"", &[]));
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let words = with_program(words, program, &arguments);
        let (outcome, transcript) = setting.boots.measure(Measured {
            kernel: None,
            archive,
            words: words.line()?,
            proof: Proof::ProgramEnded,
            counting: false,
            cpus: self.cpus,
            memory: self.memory,
            disk: None,
            limit: LIMIT,
        })?;
        let facts = believed(outcome, transcript.clone());
        if facts.is_err() {
            show_end(outcome, &transcript, screen);
        }
        Ok(Seen { name: self.name.to_owned(), facts })
    }
}

/// The transcript of a boot that ended in order and whose program ended well.
fn believed(outcome: Outcome, transcript: Transcript) -> Result<Transcript, String> {
    if outcome != Outcome::Orderly {
        return Err(outcome.to_string());
    }
    let end = transcript.lines().iter().map(|line| &line.text).rfind(|line| is_end(line)).cloned();
    match end.as_deref() {
        Some("exit 0") => Ok(transcript),
        Some(end) => Err(format!("the program did not end well: {end}")),
        None => Err("the program's end was not reported".into()),
    }
}

fn is_end(line: &str) -> bool {
    line.starts_with("exit ") || line.starts_with("signal ")
}

impl Seen {
    /// What a boot printed that ended so; for tests.
    #[cfg(test)]
    pub(super) fn of(name: &str, outcome: Outcome, transcript: Transcript) -> Self {
        Self { name: name.to_owned(), facts: believed(outcome, transcript) }
    }

    /// The finding `part` of this boot: `judge` looks at the facts.
    pub(super) fn check(&self, part: &str, judge: impl FnOnce(&Transcript) -> Result<Check, BadFact>) -> Check {
        let name = format!("{}.{part}", self.name);
        match self.facts.as_ref().map(judge) {
            Ok(Ok(check)) => Check { name, ..check },
            Ok(Err(bad)) => Check::fail(&name, bad.to_string()),
            Err(why) => Check::fail(&name, why.clone()),
        }
    }

    /// The number of a kind that were alive at once: at least `least`.
    pub(super) fn alive(&self, kind: &str, least: u64) -> Check {
        self.check("alive", |facts| {
            let alive = of_kind(facts, "crowd.alive", kind)?;
            let why = refusals(facts, "crowd.refused", Some(kind))?;
            let detail = format!("{alive} {kind} were alive at once, of {least} at least; {why}");
            Ok(verdict(alive >= least, detail).with_figure(alive, kind))
        })
    }

    /// What one of a kind took, in KiB of memory that was free before.
    pub(super) fn kib_each(&self, kind: &str) -> Check {
        self.check("kib_each", |facts| {
            let alive = of_kind(facts, "crowd.alive", kind)?;
            let [before, full] = [free(facts, "before")?, free(facts, "full")?];
            let each = before.saturating_sub(full).checked_div(alive).unwrap_or(0);
            let detail = format!("{} MiB were free before, and {} with all alive", before / 1024, full / 1024);
            Ok(verdict(alive > 0, detail).with_figure(each, "KiB"))
        })
    }

    /// Whether all of it came back: frames, heap, tasks and stacks, by the kernel's recount (INV-COUNT).
    pub(super) fn balance(&self) -> Check {
        self.check("balance", |facts| {
            let [frames, frames_after] = facts.numbers("balance.frames")?;
            let [heap, heap_after, lost] = facts.numbers("balance.heap")?;
            let [tasks, tasks_after] = facts.numbers("balance.tasks")?;
            let slots = facts.number("balance.slots")?;
            let [threads, processes] = facts.numbers("balance.processes")?;
            let gone = tasks == tasks_after && slots == 0 && threads == 0 && processes == 0;
            let held = gone && frames == frames_after && heap_after <= heap && lost == 0;
            let detail = format!(
                "frames {frames} before, {frames_after} after; bytes of heap {heap}, {heap_after}; tasks {tasks}, \
                 {tasks_after}; {slots} stacks that no task has; {threads} threads and {processes} processes are left"
            );
            Ok(verdict(held, detail))
        })
    }

    /// Whether a fork bomb was refused as Linux refuses one, and a fork works after it.
    pub(super) fn bomb(&self) -> Check {
        self.check("survived", |facts| {
            let [alive, after] = [facts.number("bomb.alive")?, facts.number("bomb.after")?];
            let why = refusals(facts, "bomb.refused", None)?;
            let held = alive > 0 && after == 0;
            let detail = format!("{alive} processes were alive at once; {why}; a fork works again afterwards");
            Ok(verdict(held, detail).with_figure(alive, "processes"))
        })
    }
}

pub(super) fn verdict(held: bool, detail: String) -> Check {
    Check::new("", if held { Verdict::Pass } else { Verdict::Fail }, detail)
}

/// The number of the one fact `name` whose first word is `kind`.
fn of_kind(facts: &Transcript, name: &str, kind: &str) -> Result<u64, BadFact> {
    let found = facts.all(name).iter().filter(|words| words.first().is_some_and(|first| first == kind));
    match found.map(Vec::as_slice).collect::<Vec<_>>().as_slice() {
        [[_, number]] => number.parse().map_err(|_| BadFact::Malformed(name.into(), number.clone(), 1)),
        _ => Err(BadFact::Missing(format!("{name} {kind}"))),
    }
}

/// KiB that were free at a time.
pub(super) fn free(facts: &Transcript, when: &str) -> Result<u64, BadFact> {
    let words = facts.all("crowd.memory").iter().find(|words| words.first().is_some_and(|first| first == when));
    let free = words.and_then(|words| words.get(1)).and_then(|word| word.parse().ok());
    free.ok_or_else(|| BadFact::Missing(format!("crowd.memory {when}")))
}

/// Why there could be no more, in words; an error that is neither EAGAIN nor ENOMEM is none that may be.
fn refusals(facts: &Transcript, name: &str, kind: Option<&str>) -> Result<String, BadFact> {
    let mut said = Vec::new();
    for words in facts.all(name) {
        let words = if kind.is_some() { &words[1.min(words.len())..] } else { words };
        let numbers: Option<Vec<u64>> = words.iter().map(|word| word.parse().ok()).collect();
        match numbers.as_deref() {
            Some([EAGAIN, times]) => said.push(format!("EAGAIN {times} times")),
            Some([ENOMEM, times]) => said.push(format!("ENOMEM {times} times")),
            _ => return Err(BadFact::Malformed(name.into(), words.join(" "), 2)),
        }
    }
    Ok(if said.is_empty() { "nobody was refused".into() } else { format!("refused with {}", said.join(", ")) })
}
