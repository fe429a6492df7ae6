//! Crashes, provoked by name: what `vmstack crash` does in a Linux process.
//!
//! Each crash happens in a machine of its own, to a task among others that work on. The faults are real: the MMU raises
//! them, and the handler judges them on the alternate stack. What comes of it is printed as facts, in the words that the
//! reference kernel uses (`docs/console.md`), so that the same judge reads both. Nothing is judged here.
//!
//! ```text
//!   fact crash.begin NAME
//!   BUG: TASK stack guard page was hit at ...          a report for each task that was killed, and its fact
//!   fact oops NUMBER FINDING KIND VERDICT ADDRESS LOW HIGH SP IP CPU TASK BEYOND
//!   fact victim TASK STATUS
//!   fact survivor TASK BEFORE AFTER STATUS
//!   fact sweep KIND N OUTCOME IP
//!   fact balance.frames BEFORE AFTER                   and tasks, slots, reports, open guards
//!   fact crash.end NAME
//! ```
//!
//! In the order of the story: `catalogue` (names), `ways` (what victims do), `stage` (machine, workers, victims), `interrupts`.
//!
//! Context: any thread that is in no task.

mod catalogue;
mod interrupts;
mod stage;
mod ways;

use core::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use vmstack::StackFault;

use crate::cpu::{CpuError, SpawnError};
use crate::machine::MachineError;
use crate::story;
use crate::sys::Errno;
use crate::task::{Death, Ended, Outcome};
use catalogue::{Plan, Seat};
use interrupts::Interrupts;
use stage::{Stage, status, victim};
use ways::{SWEEP_STEP, SWEEP_STEPS};

/// How many reports of a crash are shown with their trace. The others have their first lines.
const TRACES: u64 = 4;

/// Why a crash could not be provoked.
#[derive(Debug)]
#[non_exhaustive]
pub enum CrashError {
    /// There is no crash of that name.
    Unknown {
        /// The name.
        name: String,
    },
    /// The machine could not be made.
    Machine(MachineError),
    /// A thread could not be a CPU.
    Cpu(CpuError),
    /// A task could not be started.
    Spawn(SpawnError),
    /// A handler for the signal that plays the interrupt could not be installed.
    Interrupts(Errno),
    /// The thread of a CPU panicked.
    Panicked,
    /// The facts could not be written.
    Output(io::Error),
}

impl fmt::Display for CrashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "there is no crash called {name} on the hosted port"),
            Self::Machine(error) => fmt::Display::fmt(error, f),
            Self::Cpu(error) => fmt::Display::fmt(error, f),
            Self::Spawn(error) => fmt::Display::fmt(error, f),
            Self::Interrupts(errno) => write!(f, "no handler for the signal that plays the interrupt: {errno}"),
            Self::Panicked => f.write_str("the thread of a CPU panicked"),
            Self::Output(error) => write!(f, "the facts could not be written: {error}"),
        }
    }
}

impl core::error::Error for CrashError {}

impl From<io::Error> for CrashError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// How many reports there were in this process. One crash at a time.
static REPORTS: Mutex<u64> = Mutex::new(0);

/// The names that [`provoke`] knows.
#[must_use]
pub const fn catalogue() -> &'static [&'static str] {
    catalogue::NAMES
}

/// Provokes the crash called `name`, and writes what came of it to `out`.
///
/// # Context
///
/// A thread that is in no task. Takes milliseconds; `OVERFLOW_STORM` some seconds. One crash at a time in a process:
/// others wait.
///
/// # Errors
///
/// [`CrashError`]; what was written until then has no `crash.end`.
pub fn provoke(name: &str, out: &mut dyn Write) -> Result<(), CrashError> {
    let plan = catalogue::find(name).ok_or_else(|| CrashError::Unknown { name: name.to_owned() })?;
    let mut reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut account = Account::new(&mut reports, out);
    writeln!(account.out, "fact crash.begin {name}")?;
    carry_out(plan, &mut account)?;
    account.balance()?;
    writeln!(account.out, "fact crash.end {name}")?;
    Ok(())
}

fn carry_out(plan: Plan, account: &mut Account<'_>) -> Result<(), CrashError> {
    match plan {
        Plan::Each(victims) => victims
            .iter()
            .try_for_each(|&(seat, way)| account.of(1, 1, seat, |stage| stage.all_at_once(seat, way)).map(drop)),
        Plan::OnAll(cpus, way) => {
            account.of(cpus, cpus, Seat::Among, |stage| stage.all_at_once(Seat::Among, way)).map(drop)
        }
        Plan::Series { cpus, victims, way } => {
            account.of(cpus, victims, Seat::Among, |stage| stage.in_series(way)).map(drop)
        }
        Plan::Sweep => {
            let interrupts = Interrupts::serve().map_err(CrashError::Interrupts)?;
            let ended = account.of(1, 2 * SWEEP_STEPS, Seat::Among, |stage| stage.in_series(ways::sweep))?;
            drop(interrupts);
            account.sweep(&ended)
        }
    }
}

/// What is written about a crash, and what was counted before and after it.
struct Account<'a> {
    out: &'a mut dyn Write,
    reports: &'a mut u64,
    /// The number of the last report before this crash.
    first: u64,
    /// How many faults the areas counted.
    faults: u64,
    frames: (usize, usize),
    tasks_left: usize,
    slots_left: usize,
    open_guards: usize,
}

impl<'a> Account<'a> {
    fn new(reports: &'a mut u64, out: &'a mut dyn Write) -> Self {
        let first = *reports;
        Self { out, reports, first, faults: 0, frames: (0, 0), tasks_left: 0, slots_left: 0, open_guards: 0 }
    }

    /// Lets `play` run on a fresh stage, and accounts for it.
    fn of(
        &mut self,
        cpus: usize,
        victims: usize,
        seat: Seat,
        play: impl FnOnce(&Stage) -> Result<Vec<Ended>, CrashError>,
    ) -> Result<Vec<Ended>, CrashError> {
        let stage = Stage::new(cpus, victims, seat)?;
        self.frames.0 += stage.frames();
        let ended = play(&stage)?;
        self.frames.1 += stage.frames();
        let slots = stage.machine.area().recount();
        self.slots_left += slots.live + slots.dead + slots.leaked + slots.miscounted;
        self.tasks_left += stage.tasks() - ended.len();
        self.open_guards += stage.machine.open_guard_pages().unwrap_or(0);
        self.faults += ended.iter().filter_map(death).map(|death| death.fault.sequence).max().unwrap_or(0);
        ended.iter().try_for_each(|task| self.fate(&stage, task))?;
        Ok(ended)
    }

    /// What became of one task.
    fn fate(&mut self, stage: &Stage, ended: &Ended) -> Result<(), CrashError> {
        if let Some(death) = death(ended) {
            self.report(stage, ended, death)?;
        }
        let (task, status) = (ended.id, status(ended));
        if victim(ended).is_some() {
            writeln!(self.out, "fact victim {task} {status}")?;
        } else if let Some((before, after)) = stage.rounds(ended) {
            writeln!(self.out, "fact survivor {task} {before} {after} {status}")?;
        }
        Ok(())
    }

    fn report(&mut self, stage: &Stage, ended: &Ended, death: &Death) -> Result<(), CrashError> {
        *self.reports += 1;
        if *self.reports - self.first <= TRACES {
            writeln!(self.out, "{}", story::render(&stage.machine, death))?;
        } else {
            writeln!(self.out, "{}", stage.machine.report(&death.fault))?;
        }
        let StackFault { finding, address, stack_pointer: sp, instruction: ip, cpu, beyond, .. } = death.fault;
        let stack = death.fault.subject();
        writeln!(
            self.out,
            "fact oops {} {} {} killed {address:#x} {:#x} {:#x} {sp:#x} {ip:#x} {cpu} {} {beyond}",
            self.reports,
            finding.word(),
            stack.stack_kind().name(),
            stack.bottom,
            stack.top,
            ended.id,
        )?;
        Ok(())
    }

    /// Each step of the sweep: what came of it.
    fn sweep(&mut self, ended: &[Ended]) -> Result<(), CrashError> {
        let mut steps: Vec<_> = ended.iter().filter_map(|task| Some((victim(task)?, task))).collect();
        steps.sort_by_key(|&(turn, _)| turn);
        for (turn, task) in steps {
            let kind = if turn < SWEEP_STEPS { "call" } else { "interrupt" };
            let left = turn % SWEEP_STEPS * SWEEP_STEP;
            let outcome = if task.outcome == Outcome::Finished { "completed" } else { "reported" };
            let ip = death(task).map_or(0, |death| death.fault.instruction.get());
            writeln!(self.out, "fact sweep {kind} {left} {outcome} {ip:#x}")?;
        }
        Ok(())
    }

    fn balance(&mut self) -> Result<(), CrashError> {
        let Self { frames, tasks_left, slots_left, open_guards, first, faults, .. } = *self;
        writeln!(self.out, "fact balance.frames {} {}", frames.0, frames.1)?;
        writeln!(self.out, "fact balance.tasks 0 {tasks_left}")?;
        writeln!(self.out, "fact balance.slots {slots_left}")?;
        writeln!(self.out, "fact balance.reports {first} {}", first + faults)?;
        writeln!(self.out, "fact balance.open_guards {open_guards}")?;
        Ok(())
    }
}

fn death(ended: &Ended) -> Option<&Death> {
    match &ended.outcome {
        Outcome::Killed(death) => Some(death),
        _ => None,
    }
}
