//! The suite `fault`: from the instruction that overflows a stack to the first one of the task that runs next.
//!
//! One boot of `mode=fault` counts it part by part (`kernel/src/count/fault.rs`), for a task of the kernel and for a process that overflows in a
//! system call. What is judged is the process, and of that everything but the report's way through the serial port and the end of its
//! address space, which have rows of their own: the first takes as long as the port does, the second as long as the process is large.

use super::Setting;
use super::counted::{Facts, Figure, Trial};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::show_figures;
use crate::screen::Screen;

/// The memory of the machine, in MiB.
const MEMORY: u32 = 256;
/// The instructions that were aimed at.
const MOST: f64 = 5000.0;
/// The frames that a trace has to have for that.
const FRAMES: u64 = 64;

/// Who dies: the word in facts, and the beginning of the findings' names.
const WAYS: [(&str, &str); 2] = [("process", "fault.kill"), ("task", "fault.kill_task")];

/// The parts of a death, in order, by their words in facts.
pub(super) const PARTS: [(&str, &str); 12] = [
    ("entry", "from the overflow to the handler of the double fault"),
    ("judge", "asking the areas what it was"),
    ("note", "taking a record; registers, code"),
    ("trace", "walking the frames, and folding them"),
    ("record", "the rest of the record, and publishing it"),
    ("leave", "back to the task's own stack"),
    ("give_back", "locks, interrupts and memory that its frames held"),
    ("goodbye", "telling who waits for the thread"),
    ("exit", "leaving the process, closing its files, telling its parent"),
    ("switch", "to the next task"),
    ("print", "apart: the report, through the serial port"),
    ("memory", "apart: giving up the address space"),
];
/// The last of them are none of what is judged.
pub(super) const APART: usize = 2;

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("The end of a task that overflows its stack, in instructions");
    let facts = Trial::of("fault", true, MEMORY).run(setting, &archive, screen)?;
    let checks = judge(&facts);
    show_figures(screen, &checks);
    Ok(checks)
}

/// All findings of the boot.
fn judge(facts: &Facts) -> Vec<Check> {
    WAYS.iter().flat_map(|&(who, name)| of(facts, who, name)).collect()
}

/// The findings of one who dies: all together first, judged if it is the process, and then its parts.
fn of(facts: &Facts, who: &str, name: &str) -> Vec<Check> {
    let aim = (who == WAYS[0].0).then_some(Aim::AtMost(MOST));
    let mut checks = vec![facts.check(name, aim, |facts| together(facts, who))];
    for (part, what) in PARTS {
        let fact = format!("fault.{who}.{part}");
        checks.push(
            facts.check(&format!("{name}.{part}"), None, |facts| Ok(Figure::instructions(facts.number(&fact)?, what))),
        );
    }
    checks
}

/// All parts together that are not apart. A trace that is not complete has no figure.
fn together(facts: &Transcript, who: &str) -> Result<Figure, BadFact> {
    let name = format!("fault.{who}.frames");
    let frames = facts.number(&name)?;
    if frames < FRAMES {
        return Err(BadFact::Malformed(name, format!("{frames}, of {FRAMES} at least"), 1));
    }
    let parts = PARTS.iter().take(PARTS.len() - APART).map(|(part, _)| facts.number(&format!("fault.{who}.{part}")));
    let all = parts.sum::<Result<u64, BadFact>>()?;
    let whose = if who == "task" { "a task of the kernel" } else { "a process, in a system call" };
    let detail = format!(
        "{whose}: from the overflow to the next task, with a record and a trace of {frames} frames; console output and \
         address space apart"
    );
    Ok(Figure::instructions(all, detail))
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::bench::counted::Facts;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const LOG: &str = include_str!("../../tests/boots/fault.txt");

    fn finding(log: &str, name: &str) -> Check {
        let findings = judge(&Facts::of(Outcome::Orderly, &Transcript::of(log), true));
        findings.into_iter().find(|check| check.name == name).expect(name)
    }

    #[test]
    fn all_parts_count_but_the_console_and_the_address_space() {
        let kill = finding(LOG, "fault.kill");
        assert_eq!((kill.outcome, kill.figure), (Verdict::Pass, Some(4999.into())));
        let apart = LOG.replace("process.print 162565", "process.print 1").replace("memory 49267", "memory 1");
        assert_eq!(finding(&apart, "fault.kill").figure, Some(4999.into()));
        let slow = LOG.replace("process.trace 1000", "process.trace 1002");
        assert_eq!(finding(&slow, "fault.kill").outcome, Verdict::Fail);
        assert_eq!(finding(&slow, "fault.kill.trace").figure, Some(1002.into()));
    }

    #[test]
    fn a_trace_that_is_not_complete_has_no_figure() {
        let short = finding(&LOG.replace("process.frames 71", "process.frames 63"), "fault.kill");
        assert!(short.outcome == Verdict::Fail && short.figure.is_none() && short.detail.contains("63"), "{short:?}");
    }

    #[test]
    fn a_part_that_is_missing_takes_the_sum_with_it() {
        let log = LOG.replace("fault.process.judge", "other");
        assert_eq!(finding(&log, "fault.kill").outcome, Verdict::Fail);
        assert_eq!(finding(&log, "fault.kill_task").outcome, Verdict::Pass);
    }
}
