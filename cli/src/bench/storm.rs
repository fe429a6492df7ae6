//! The suite `storm`: 100,000 threads alive at once, of few processes, in a machine of 4 GiB; and as many processes as fit.

use super::Setting;
use super::crowd::{CPUS, Trial};
use crate::checks::Check;
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::show_rows;
use crate::screen::Screen;

/// Threads that must be alive at once.
const THREADS: u32 = 100_000;
/// More processes than fit.
const PROCESSES: &str = "10000000";
/// The machine's memory, in MiB.
const MEMORY: u32 = 4096;

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("Storms: threads and processes that are alive at once, in 4 GiB");
    let asked = setting.samples.unwrap_or(THREADS);
    let (threads, most) = (asked.to_string(), setting.samples.map(|samples| samples.to_string()));
    let program = ["/bin/crowd", "threads", &threads];
    let trial =
        Trial { name: "storm.threads", words: &[("stacks", "virtual")], program: &program, memory: MEMORY, cpus: CPUS };
    let seen = trial.run(setting, &archive, screen)?;
    let mut checks = vec![seen.alive("threads", asked.into()), seen.kib_each("threads"), seen.balance()];
    let program = ["/bin/crowd", "processes", most.as_deref().unwrap_or(PROCESSES)];
    let trial = Trial { name: "storm.processes", program: &program, ..trial };
    let seen = trial.run(setting, &archive, screen)?;
    checks.extend([seen.alive("processes", 1), seen.kib_each("processes"), seen.balance()]);
    show_rows(screen, &checks);
    Ok(checks)
}
