//! Shows that signals work as on Linux, and provokes what must not hurt the kernel.
//!
//! ```text
//! signals                          every check, each in a process of its own
//! signals NAME...                  those checks
//! signals exchange COUNT [WHO]     two threads (or, with `processes`, two processes) send each other COUNT signals; none is lost
//! ```
//!
//! Prints `fact signals.NAME 1`, or why not and then 0. Exit status: 0 all is as it should be, 1 something is not.

use std::process::ExitCode;

use vmstack_programs::checks;

mod bad;
mod basic;
mod calls;
mod exchange;
mod faults;
mod group;
mod life;
mod registers;
mod sys;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("exchange") => return exchange::main(&arguments[1..]),
        Some("look") => return group::look(),
        _ => {}
    }
    let all =
        [basic::CHECKS, calls::CHECKS, faults::CHECKS, group::CHECKS, life::CHECKS, registers::CHECKS, bad::CHECKS];
    checks::main("signals", &all, &arguments)
}
