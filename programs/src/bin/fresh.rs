//! Shows that a program starts with registers of its own: it spoils the control word of the vector registers, executes itself, and
//! looks at what it finds.
//!
//! Exit status: 0 all as a program may expect; 1 something was left over.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What the control word is when a program starts: all exceptions masked.
const FRESH: u32 = 0x1f80;
/// Flush to zero, another way of rounding.
const SPOILT: u32 = FRESH | 0xe000;

fn control_word() -> u32 {
    let mut word = 0_u32;
    // SAFETY: stores the control word to `word`.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word
}

fn spoil() {
    let word = SPOILT;
    // SAFETY: a valid control word; nothing here computes with it before the program is replaced.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("look") {
        println!("control word {:#x}", control_word());
        return ExitCode::from(u8::from(control_word() != FRESH));
    }
    let path = std::env::args_os().next().unwrap_or_default();
    spoil();
    let error = Command::new(path).arg("look").exec();
    eprintln!("fresh: cannot execute itself: {error}");
    ExitCode::FAILURE
}
