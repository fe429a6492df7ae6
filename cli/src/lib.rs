//! The host command of vmstack.
//!
//! This folder owns what happens on the host: finding or installing an emulator and a bare-metal toolchain, building
//! the reference kernel and its programs, booting them, and judging what they printed. What may not enter: knowledge of how
//! the kernel works inside. The guest prints facts, addresses and counters; `docs/console.md` is the whole contract, and
//! every verdict is given here.
//!
//! ```text
//!   args ─► run ─┬─► hosted                                   the same stacks, in a Linux process
//!                ├─► provision ─► machine, apt, toolchain     what is missing, and how to get it
//!                ├─► guest ─► symbols, archive                kernel, programs, initial file system
//!                ├─► boots ─► kvm, emulator, console          one boot: a transcript and an outcome
//!                ├─► story ─► checks ─► report                facts become findings, findings a table and JSON
//!                └─► program ─► elf                           one program instead of the story
//!   args ─► crash ─► boots ─► judge                           crashes, each judged from its facts
//!   args ─► bench ─┬─► boots ─► life                          figures, here and on Linux
//!                  └─► native ─► hosted, switch               figures of this process, in nanoseconds
//! ```
//!
//! Everything between "start a child process" and "print" is pure and tested without either.

use std::io::Write;
use std::process::ExitCode;

pub mod apt;
pub mod archive;
pub mod args;
pub mod bench;
pub mod boots;
pub mod borrowed;
pub mod calls;
pub mod checkout;
pub mod checks;
pub mod console;
pub mod crash;
pub mod doctor;
pub mod elf;
pub mod emulator;
pub mod failure;
pub mod frames;
pub mod guest;
pub mod hosted;
pub mod image;
pub mod interrupt;
pub mod json;
pub mod kvm;
pub mod leash;
pub mod linux;
pub mod machine;
pub mod outcome;
pub mod package;
pub mod program;
pub mod progress;
pub mod provision;
pub mod report;
pub mod run;
pub mod screen;
pub mod story;
pub mod symbols;
pub mod toolchain;
pub mod words;

use args::{Command, Usage};
use failure::Failure;
use interrupt::Interrupts;

/// Carries out the command line of this process and returns its exit status: 0, 1, 2, or a guest program's own.
#[must_use]
pub fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(Usage::Shown(text)) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Usage::Wrong(line)) => return Failure::cannot(line).announce(),
    };
    Interrupts::watch()
        .map_err(|error| Failure::cannot(format!("signals cannot be caught: {error}; nothing was started")))
        .and_then(|interrupts| dispatch(command, &interrupts))
        .unwrap_or_else(Failure::announce)
}

/// Hands the command to the module that carries it out.
fn dispatch(command: Command, interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(run) => run::run(&run, interrupts),
        Command::Doctor => doctor::doctor(interrupts),
        Command::Crash(crash) => crash::crash(&crash, interrupts),
        Command::HostedBoot(boot) => crash::hosted::guest(&boot),
        Command::Bench(bench) => bench::bench(&bench, interrupts),
        Command::Decode(_) => Err(not_yet("decode")),
    }
}

/// The line for a command whose place is kept on the command line.
fn not_yet(name: &str) -> Failure {
    Failure::cannot(format!("`vmstack {name}` is not there yet; `vmstack run`, `crash`, `bench` and `doctor` are"))
}
