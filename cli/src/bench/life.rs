//! The suite `life`: what the life of a task costs, from `clone()` to `wait4()`.
//!
//! One program, `programs/src/bin/life.rs`, runs on our kernel with each kind of stacks, and on Linux where that is asked for. It prints its figures as
//! facts; here they are set beside each other and judged against Linux 6.1 with mapped stacks, as it was measured with the same
//! counting ([`anchors`]).
//!
//! ```text
//!   way ─► one boot: transcript, outcome ─► column: a row an operation ─┬─► table
//!                                                                       ├─► findings: life.[WAY.]OPERATION.{p50,mean,p99}
//!                                                                       └─► ratios:   life.OPERATION.{ratio,ratio_equal}.{p50,mean,p99}
//! ```
//!
//! Only mapped stacks that are scrubbed where they were used are judged: that is what the kernel does when it is told nothing. The other
//! ways pass when they could be measured.

use core::time::Duration;
use std::path::{Path, PathBuf};

use super::{Setting, with_program};
use crate::boots::{Measured, Proof, show_end, write};
use crate::checks::Check;
use crate::console::Transcript;
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::linux;
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::words::Words;

mod anchors;
mod column;
mod ratios;
mod table;

pub(super) use anchors::{OPERATIONS, STATISTICS};
use column::Column;

/// The memory of the machine, in MiB: Linux allows as many threads as an eighth of it holds stacks.
const MEMORY: u32 = 1024;
/// How long a boot may take when the user does not say: Linux needs 40 s on a fast machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Where the archive holds the program.
const PROGRAM: &str = "/bin/life";

/// What stacks a boot has.
struct Way {
    /// Between `life.` and the operation in a finding's name; empty for what is judged.
    name: &'static str,
    label: &'static str,
    words: &'static [(&'static str, &'static str)],
}

/// Our kernel's ways; the first is what the others are compared with.
const WAYS: [Way; 5] = [
    Way { name: "", label: "mapped", words: &[("stacks", "virtual")] },
    Way { name: "direct", label: "direct", words: &[("stacks", "direct")] },
    Way { name: "equal", label: "direct, kept as mapped", words: &[("stacks", "equal")] },
    Way { name: "whole", label: "mapped, cleared whole", words: &[("stacks", "virtual"), ("scrub", "whole")] },
    Way { name: "rcu", label: "mapped, freed after RCU", words: &[("stacks", "rcu")] },
];
/// Linux's.
const LINUX: Way = Way { name: "linux", label: "Linux, here", words: &[] };

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    let rival = setting.linux.as_ref().map(|linux| Rival::of(linux, setting, folder.path())).transpose()?;
    screen.heading("The life of a task, in instructions");
    let mut columns = Vec::new();
    for way in &WAYS {
        columns.push(here(setting, way, &archive, screen)?);
    }
    if let Some(rival) = rival {
        columns.push(on_linux(setting, &rival, screen)?);
    }
    table::show(&columns, screen);
    let ratios = ratios::checks(&columns);
    ratios::show(&ratios, screen);
    Ok(columns.iter().flat_map(Column::checks).chain(ratios).collect())
}

/// What `life` is told.
fn arguments(setting: &Setting<'_>) -> Vec<String> {
    setting.samples.map_or_else(Vec::new, |samples| vec!["--samples".into(), samples.to_string()])
}

/// One boot of our kernel.
fn here(setting: &Setting<'_>, way: &Way, archive: &Path, screen: &mut Screen) -> Result<Column, Failure> {
    let words = way.words.iter().fold(Words::mode("program"), |words, (name, value)| words.with(name, value));
    let words = with_program(words, PROGRAM, &arguments(setting));
    let boot = boot(None, archive, words.line()?, Proof::ProgramEnded);
    let (outcome, transcript) = setting.boots.measure(boot)?;
    Ok(read(way, outcome, &transcript, screen))
}

/// A Linux that is ready to be booted.
struct Rival<'a> {
    kernel: &'a Path,
    archive: PathBuf,
}

impl<'a> Rival<'a> {
    fn of(linux: &'a linux::Linux, setting: &Setting<'_>, folder: &Path) -> Result<Self, Failure> {
        let archive = folder.join("linux-initrd");
        write(&archive, &linux::archive(setting.boots.guest())?.finish())?;
        Ok(Self { kernel: linux.image(), archive })
    }
}

/// One boot of Linux.
fn on_linux(setting: &Setting<'_>, rival: &Rival<'_>, screen: &mut Screen) -> Result<Column, Failure> {
    let words = linux::words(PROGRAM, &arguments(setting));
    let boot = boot(Some(rival.kernel), &rival.archive, &words, Proof::Marker(linux::MARKER));
    let (outcome, transcript) = setting.boots.measure(boot)?;
    if let [release] = transcript.all("linux.release") {
        screen.line(&format!("  Linux, here, is {}", release.join(" ")));
    }
    Ok(read(&LINUX, outcome, &transcript, screen))
}

/// A boot in which instructions are counted.
fn boot<'a>(kernel: Option<&'a Path>, archive: &'a Path, words: &'a str, proof: Proof<'a>) -> Measured<'a> {
    Measured { kernel, archive, words, proof, counting: true, cpus: 1, memory: MEMORY, disk: None, limit: LIMIT }
}

/// What a boot came to; shows its end when it had none in order.
fn read(way: &Way, outcome: Outcome, transcript: &Transcript, screen: &mut Screen) -> Column {
    if outcome != Outcome::Orderly {
        screen.line(&format!("  {}:", way.label));
        show_end(outcome, transcript, screen);
    }
    Column::of(way, outcome, transcript)
}

#[cfg(test)]
mod tests;
