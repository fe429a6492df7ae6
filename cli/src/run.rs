//! `vmstack run`: from the flags to the exit status.
//!
//! What can be refused at once is refused before anything is installed, built or booted: a target that is not there yet,
//! a machine that is too small, a place for JSON that cannot be written, a program that cannot run.

use std::path::Path;
use std::process::ExitCode;

use crate::args::{self, Target};
use crate::boots::{Boots, Request};
use crate::borrowed::Borrowed;
use crate::checkout::Checkout;
use crate::checks::{Check, all_hold};
use crate::emulator::time_limit;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::hosted;
use crate::interrupt::Interrupts;
use crate::json::Sink;
use crate::machine::ThisMachine;
use crate::program::{self, Program};
use crate::provision::{Refusal, provision};
use crate::report;
use crate::screen::Screen;
use crate::story::SCENES;

/// The smallest machine: this much, and [`MIB_A_CPU`] for each CPU.
const MIB_AT_LEAST: u32 = 64;
const MIB_A_CPU: u32 = 8;

/// Carries out `vmstack run`.
///
/// # Errors
///
/// When it could not be carried out.
pub fn run(run: &args::Run, interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    check_machine(run)?;
    let request = Request { cpus: run.cpus, memory: run.memory.get(), limit: time_limit()?, interrupts };
    let sink = Sink::open(run.json.as_deref())?;
    if run.program.is_empty() { tell(run, request, sink) } else { run_program(run, request, sink) }
}

/// Refuses a target that is not there yet.
///
/// # Errors
///
/// One line that names those that are.
pub fn check_target(on: Option<Target>) -> Result<(), Failure> {
    match on {
        Some(Target::Aarch64 | Target::Riscv64) => {
            Err(Failure::cannot("that target is not there yet; use --on x86_64 or --on hosted"))
        }
        _ => Ok(()),
    }
}

/// Refuses what can be seen to be impossible from the flags alone.
fn check_machine(run: &args::Run) -> Result<(), Failure> {
    check_target(run.on)?;
    if run.on == Some(Target::Hosted) && !run.program.is_empty() {
        return Err(Failure::cannot("--program needs the reference kernel, not --on hosted; leave --on away"));
    }
    let (memory, cpus) = (run.memory.get(), run.cpus);
    let least = MIB_AT_LEAST + MIB_A_CPU * cpus;
    if memory < least {
        let line = format!("--memory {memory} is too little for {cpus} CPUs; give at least --memory {least}");
        return Err(Failure::cannot(line));
    }
    Ok(())
}

/// Runs the story: hosted first, before anything is installed, then boot by boot.
fn tell(run: &args::Run, request: Request<'_>, sink: Sink) -> Result<ExitCode, Failure> {
    let interrupts = request.interrupts;
    let mut screen = Screen::standard(sink.takes_standard_output());
    if run.on == Some(Target::Hosted) {
        let checks = hosted::tell(&mut screen);
        return conclude(&checks, &mut screen, sink);
    }
    let build = Guest::folder_given().is_none();
    let mut machine = ThisMachine::new(interrupts);
    let refused = |refusal: Refusal| Failure::cannot(refusal.to_string());
    if run.on.is_some() {
        let ready = provision(&mut machine, build).map_err(refused)?;
        let checks = Boots::set_up(ready, request)?.tell(run.stacks, &mut screen)?;
        return conclude(&checks, &mut screen, sink);
    }
    let foreseen = Refusal::foreseen(&machine, build);
    if let Some(refusal) = &foreseen {
        announce(&mut screen, &sink, &notice(refusal));
    }
    let mut checks = hosted::beside_kernel(hosted::tell(&mut screen));
    interrupts.check()?;
    match foreseen.map_or_else(|| provision(&mut machine, build), Err) {
        Ok(ready) => {
            checks.extend(Boots::set_up(ready, request)?.tell(run.stacks, &mut screen)?);
            conclude(&checks, &mut screen, sink)
        }
        Err(refusal) => {
            checks.extend(SCENES.iter().flat_map(|scene| scene.skip("no emulator could be had")));
            report::table(&mut screen, &checks);
            announce(&mut screen, &sink, &notice(&refusal));
            close(&checks, sink)
        }
    }
}

/// Shows the table, writes the JSON, and gives the exit status.
fn conclude(checks: &[Check], screen: &mut Screen, sink: Sink) -> Result<ExitCode, Failure> {
    report::table(screen, checks);
    close(checks, sink)
}

fn close(checks: &[Check], sink: Sink) -> Result<ExitCode, Failure> {
    sink.write(checks)?;
    Ok(ExitCode::from(u8::from(!all_hold(checks))))
}

/// The line that is the first and the last where no emulator can be had.
fn notice(refusal: &Refusal) -> String {
    format!("Only the hosted story runs: {refusal}")
}

fn announce(screen: &mut Screen, sink: &Sink, notice: &str) {
    if sink.takes_standard_output() {
        eprintln!("{notice}");
    } else {
        screen.line(notice);
    }
}

/// Runs one program in the guest.
fn run_program(run: &args::Run, request: Request<'_>, sink: Sink) -> Result<ExitCode, Failure> {
    let interrupts = request.interrupts;
    if sink.takes_standard_output() {
        let line = "--json - and --program both want standard output; give --json a file";
        return Err(Failure::cannot(line));
    }
    let checkout = Checkout::find()?;
    let first = run.program.first().map(Path::new).unwrap_or(Path::new(""));
    let file = Borrowed::wanted(first).map(|program| program.fetch(&checkout, interrupts)).transpose()?;
    let mut program = Program::of(&run.program, file.as_deref())?;
    program.add_files(&run.with)?;
    let words = program.words(run.stacks);
    words.line()?;
    check_room(run, &program)?;
    let ready = provision(&mut ThisMachine::new(interrupts), Guest::folder_given().is_none())
        .map_err(|refusal| Failure::cannot(refusal.to_string()))?;
    let judged = Boots::set_up(ready, request)?.run_program(&program, words.line()?, run.missing_calls)?;
    sink.write(&[program::check(&judged, program.path.as_os_str())])?;
    match judged {
        Ok(exit) => Ok(ExitCode::from(exit.code())),
        Err(why) => {
            eprintln!("vmstack: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Refuses a program that the machine's memory does not hold beside everything else.
fn check_room(run: &args::Run, program: &Program) -> Result<(), Failure> {
    let bytes = program.bytes.len() + program.beside.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let size = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
    // Twice: once in the archive, once as it runs.
    let least = size.saturating_mul(2).saturating_add(MIB_AT_LEAST + MIB_A_CPU * run.cpus);
    if run.memory.get() >= least {
        return Ok(());
    }
    let (path, memory) = (program.path.display(), run.memory);
    Err(Failure::cannot(format!(
        "{path} has {size} MiB, too much for --memory {memory}; give at least --memory {least}"
    )))
}
