//! Tasks that are killed at the instructions of the calls of their lives, by overflows, one after the other.
//!
//! What a run leaves behind is counted by the kernel, and the command fails where that does not agree: a status of 0 says that nothing is
//! lost but what was counted, and that nobody is left. A lock that is held would stop the next child.

use std::process::Output;

use libtest_mimic::Failed;

use super::{expect, program, vmstack};

/// From one instruction to the next that is tried: `VMSTACK_TEST_STRIDE=1` is the long form.
const STRIDE: &str = "151";
/// How many calls are gone through, and how many ends.
const CALLS: usize = 22;
const ENDS: usize = 4;

/// The numbers of each fact `dying.SORT CALL NUMBER...`.
fn numbers(output: &Output, sort: &str) -> Vec<Vec<u64>> {
    let start = format!("fact dying.{sort} ");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.map(|line| line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect()).collect()
}

pub(super) fn whoever_is_killed_anywhere_loses_nothing_and_wedges_nobody() -> Result<(), Failed> {
    let stride = std::env::var("VMSTACK_TEST_STRIDE").unwrap_or_else(|_| STRIDE.to_owned());
    for cpus in ["1", "2"] {
        let mut command = vmstack(&["run", "--cpus", cpus, "--program", &program("dying"), &stride]);
        let output = command.env("VMSTACK_TIME_LIMIT", "7200").output()?;
        expect(output.status.code() == Some(0), &output)?;
        let [instructions, depths, ends] = ["nth", "room", "again"].map(|sort| numbers(&output, sort));
        let killed = |runs: &[Vec<u64>]| runs.iter().all(|numbers| numbers.get(1).is_some_and(|&times| times > 0));
        expect(instructions.len() == CALLS && killed(&instructions), &output)?;
        expect(depths.len() == CALLS && killed(&depths), &output)?;
        expect(ends.len() == ENDS && killed(&ends), &output)?;
        // Who dies twice has marked its robust futex all the same; who dies three times, perhaps not.
        expect(ends[..2].iter().all(|numbers| numbers.last() == Some(&0)), &output)?;
    }
    Ok(())
}
