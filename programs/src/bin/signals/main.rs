//! Shows that signals work as on Linux, and provokes what must not hurt the kernel.
//!
//! ```text
//! signals                          every check, each in a process of its own
//! signals NAME...                  those checks
//! signals exchange COUNT [WHO]     two threads (or, with `processes`, two processes) send each other COUNT signals; none is lost
//! ```
//!
//! Prints `fact signals.NAME 1`, or 0 and then why. Exit status: 0 all is as it should be, 1 something is not.

use std::process::ExitCode;

use vmstack_programs::{spawn, wait};

mod bad;
mod basic;
mod calls;
mod exchange;
mod faults;
mod group;
mod registers;
mod sys;

/// What a check found wrong.
pub(crate) type Outcome = Result<(), String>;

/// Checks, with their names.
pub(crate) type Checks = [(&'static str, fn() -> Outcome)];

/// A check, by name.
struct Check {
    name: &'static str,
    run: fn() -> Outcome,
}

/// Fails unless `truth` holds.
pub(crate) fn expect(truth: bool, what: &str) -> Outcome {
    if truth { Ok(()) } else { Err(format!("{what} (errno {})", std::io::Error::last_os_error())) }
}

/// Fails unless the two are equal.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

fn checks() -> Vec<Check> {
    let all: [&Checks; 6] =
        [basic::CHECKS, calls::CHECKS, faults::CHECKS, group::CHECKS, registers::CHECKS, bad::CHECKS];
    all.iter().flat_map(|list| list.iter()).map(|&(name, run)| Check { name, run }).collect()
}

/// Runs a check in a child: what it does to its signals is its own. A child that takes too long is killed by its alarm.
fn run(check: &Check) -> bool {
    let child = spawn(|| {
        // SAFETY: without a handler it ends this process.
        unsafe { libc::alarm(60) };
        match (check.run)() {
            Ok(()) => 0,
            Err(why) => {
                println!("{}: {why}", check.name);
                1
            }
        }
    });
    let status = child.and_then(wait).map_or(-1, |ended| ended.status);
    if status > 1 << 8 || (status != 0 && status & 0x7f != 0) {
        println!("{}: ended with status {status:#x}", check.name);
    }
    println!("fact signals.{} {}", check.name, u8::from(status == 0));
    status == 0
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("exchange") => return exchange::main(&arguments[1..]),
        Some("look") => return group::look(),
        _ => {}
    }
    let wanted = |check: &Check| arguments.is_empty() || arguments.iter().any(|name| name == check.name);
    let failed = checks().iter().filter(|check| wanted(check)).filter(|check| !run(check)).count();
    println!("fact signals.failed {failed}");
    ExitCode::from(u8::from(failed != 0))
}
