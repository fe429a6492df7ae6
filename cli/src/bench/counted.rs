//! One boot of a mode of the kernel that counts instructions, and the findings that come of its facts.
//!
//! A boot that did not end in order, or whose calibration loop counted something else than it has instructions, has no figures: every
//! finding of it falls short, and says why. A figure that has an aim passes when it keeps to it; one that has none, when it is there.

use core::time::Duration;
use std::path::Path;

use super::Setting;
use crate::boots::{Measured, Proof, show_end, write};
use crate::checks::{Aim, Check, Verdict};
use crate::console::{BadFact, Transcript};
use crate::emulator::{Disk, Fault, scratch};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::words::Words;

/// How long a boot may take when the user does not say.
const LIMIT: Duration = Duration::from_secs(300);
/// The size of a disk, in bytes.
const DISK_BYTES: usize = 16 << 20;
/// The calibration may be off by a hundredth, and by the few instructions of reading the clock.
const TOLERANCE_PARTS: u64 = 100;
const TOLERANCE_READING: u64 = 16;

/// The unit of most figures.
pub(super) const INSTRUCTIONS: &str = "instructions";

/// One boot.
pub(super) struct Trial {
    /// The kernel's command line.
    pub(super) words: Words,
    /// Whether instructions are counted; else it runs as fast as the machine can.
    pub(super) counting: bool,
    /// Its CPUs. Where there are several and instructions are counted, they take turns.
    pub(super) cpus: u32,
    /// The machine's memory, in MiB.
    pub(super) memory: u32,
    /// What is wrong with its disk; none if it has none.
    pub(super) disk: Option<Fault>,
}

/// What it printed, or why that is not believed.
pub(super) struct Facts(Result<Transcript, String>);

/// A figure, what it is in words, and its unit.
pub(super) struct Figure {
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) detail: String,
}

impl Figure {
    /// So many instructions.
    pub(super) fn instructions(count: u64, detail: impl Into<String>) -> Self {
        Self { value: count as f64, unit: INSTRUCTIONS, detail: detail.into() }
    }
}

impl Trial {
    /// One of `mode` on one CPU.
    pub(super) fn of(mode: &str, counting: bool, memory: u32) -> Self {
        Self { words: Words::mode(mode), counting, cpus: 1, memory, disk: None }
    }

    /// Boots it.
    pub(super) fn run(&self, setting: &Setting<'_>, archive: &Path, screen: &mut Screen) -> Result<Facts, Failure> {
        let marker = format!("end-of-{}", self.words.mode_named());
        let folder = scratch()?;
        let file = folder.path().join("disk");
        if self.disk.is_some() {
            write(&file, &vec![0; DISK_BYTES])?;
        }
        let (outcome, transcript) = setting.boots.measure(Measured {
            kernel: None,
            archive,
            words: self.words.line()?,
            proof: Proof::Marker(&marker),
            counting: self.counting,
            cpus: self.cpus,
            memory: self.memory,
            disk: self.disk.map(|fault| Disk { file: &file, fault }),
            limit: LIMIT,
        })?;
        let facts = Facts::of(outcome, &transcript, self.counting);
        if facts.0.is_err() {
            show_end(outcome, &transcript, screen);
        }
        Ok(facts)
    }
}

impl Facts {
    /// What a boot printed that ended so.
    pub(super) fn of(outcome: Outcome, transcript: &Transcript, counting: bool) -> Self {
        let ended = if outcome == Outcome::Orderly { Ok(()) } else { Err(outcome.to_string()) };
        let right = || if counting { calibrated(transcript, "cost.calibration") } else { Ok(()) };
        Self(ended.and_then(|()| right()).map(|()| transcript.clone()))
    }

    /// The finding `name`: the figure that `read` finds in the facts, which is to keep to `aim` if there is one.
    pub(super) fn check(
        &self,
        name: &str,
        aim: Option<Aim>,
        read: impl FnOnce(&Transcript) -> Result<Figure, BadFact>,
    ) -> Check {
        let Figure { value, unit, detail } = match self.0.as_ref().map(read) {
            Ok(Ok(figure)) => figure,
            Ok(Err(bad)) => return Check::fail(name, bad.to_string()),
            Err(why) => return Check::fail(name, why.clone()),
        };
        let check = Check::new(name, Verdict::Pass, detail).with_measured(value, unit);
        match aim {
            Some(aim) => check.judged(value, aim),
            None => check,
        }
    }
}

/// Fails when a tick of the guest's clock was not an instruction, as the fact `name` shows.
pub(super) fn calibrated(facts: &Transcript, name: &str) -> Result<(), String> {
    let [expected, measured] = facts.numbers(name).map_err(|bad| bad.to_string())?;
    if expected.abs_diff(measured) <= expected / TOLERANCE_PARTS + TOLERANCE_READING {
        return Ok(());
    }
    Err(format!("the calibration loop has {expected} instructions and counted {measured}: no figure is right"))
}
