//! The suite `memory`: what a stack takes of memory, by its size, with as many of them as a machine has tasks.
//!
//! One boot of `mode=memory` hands out 100,032 stacks of each size (100,000, and as many as fill the last page of records), or as many as
//! there is memory for, and counts by walking the page tables what is mapped for them (`kernel/src/count/memory.rs`). Per stack that is exact,
//! however many there are.

use super::Setting;
use super::available::available_mib;
use super::counted::{Facts, Figure, Trial};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::{grouped, show_figures};
use crate::screen::Screen;

/// The memory of the machine, in MiB, for stacks of 64 KiB for all; and for fewer of those, where this machine has no more to spare.
const MEMORY: u32 = 7168;
const LESS_MEMORY: u32 = 4096;
/// The sizes, in KiB.
pub(super) const SIZES: [u64; 4] = [8, 16, 32, 64];
/// The most bytes that the record of a stack may take.
const MOST_RECORD: f64 = 64.0;

/// What an area takes, in bytes, and for how many stacks.
#[derive(Clone, Copy)]
struct Taken {
    stacks: u64,
    of_stacks: u64,
    tables: u64,
    records: u64,
    fixed: u64,
}

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("What a stack takes of memory, in bytes");
    let spare = available_mib().unwrap_or(0);
    let memory = if spare > 2 * LESS_MEMORY as usize { MEMORY } else { LESS_MEMORY };
    let facts = Trial { mode: "memory", counting: false, memory }.run(setting, &archive, screen)?;
    let checks = judge(&facts);
    show_figures(screen, &checks);
    Ok(checks)
}

/// All findings of the boot.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![facts.check("memory.record", Some(Aim::AtMost(MOST_RECORD)), largest_record)];
    SIZES.iter().for_each(|&kib| checks.extend(of_size(facts, kib)));
    checks
}

impl Taken {
    fn of(facts: &Transcript, kib: u64) -> Result<Self, BadFact> {
        let name = format!("memory.{}", kib << 10);
        let [stacks, of_stacks, tables, records, fixed] = facts.numbers(&name)?;
        if stacks == 0 {
            return Err(BadFact::Malformed(name, "0 stacks".into(), 5));
        }
        Ok(Self { stacks, of_stacks, tables, records, fixed })
    }

    fn each(self, bytes: u64) -> f64 {
        bytes as f64 / self.stacks as f64
    }
}

/// The record of a stack: of all sizes the largest.
fn largest_record(facts: &Transcript) -> Result<Figure, BadFact> {
    let mut largest: f64 = 0.0;
    for kib in SIZES {
        let taken = Taken::of(facts, kib)?;
        largest = largest.max(taken.each(taken.records));
    }
    let detail = "for the slot record of each stack, whatever its size; page tables apart";
    Ok(Figure { value: largest, unit: "bytes", detail: detail.into() })
}

/// What a stack of `kib` KiB takes, and its parts.
fn of_size(facts: &Facts, kib: u64) -> [Check; 4] {
    let check = |part: &str, read: fn(Taken) -> (u64, String)| {
        facts.check(&format!("memory.{kib}k{part}"), None, |facts| {
            let taken = Taken::of(facts, kib)?;
            let (bytes, detail) = read(taken);
            Ok(Figure { value: taken.each(bytes), unit: "bytes", detail })
        })
    };
    [
        check("", |taken| {
            let all = taken.of_stacks + taken.tables + taken.records + taken.fixed;
            let detail = format!(
                "for each of {} stacks, all together; {} bytes of it were made with the area",
                grouped(taken.stacks),
                grouped(taken.fixed)
            );
            (all, detail)
        }),
        check(".stack", |taken| (taken.of_stacks, "of this, the stack's own pages".into())),
        check(".tables", |taken| (taken.tables, "of this, page tables".into())),
        check(".record", |taken| (taken.records, "of this, its record".into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::bench::counted::Facts;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const LOG: &str = include_str!("../../tests/boots/memory.txt");

    fn finding(log: &str, name: &str) -> Check {
        let findings = judge(&Facts::of(Outcome::Orderly, &Transcript::of(log), false));
        findings.into_iter().find(|check| check.name == name).expect(name)
    }

    fn figure(log: &str, name: &str) -> f64 {
        finding(log, name).figure.and_then(|figure| figure.as_f64()).expect(name)
    }

    #[test]
    fn bytes_are_told_for_each_stack_part_by_part() {
        assert!((figure(LOG, "memory.record") - 64.0).abs() < 1e-9);
        assert!((figure(LOG, "memory.16k.stack") - 16384.0).abs() < 1e-9);
        let parts = ["stack", "tables", "record"].map(|part| figure(LOG, &format!("memory.64k.{part}")));
        assert!((figure(LOG, "memory.64k") - parts.iter().sum::<f64>()).abs() < 1.0);
        assert!(finding(LOG, "memory.64k").detail.contains("64,064 stacks"));
    }

    #[test]
    fn a_larger_record_falls_short_and_so_does_an_area_without_stacks() {
        let large = LOG.replace("3231744 6402048", "3231744 6402049");
        assert_eq!(finding(&large, "memory.record").outcome, Verdict::Fail);
        let none = LOG.replace("memory.65536 64064", "memory.65536 0");
        assert_eq!(finding(&none, "memory.64k.tables").outcome, Verdict::Fail);
        assert_eq!(finding(&none, "memory.record").outcome, Verdict::Fail);
        assert_eq!(finding(&none, "memory.8k").outcome, Verdict::Pass);
    }
}
