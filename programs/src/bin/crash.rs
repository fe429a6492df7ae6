//! Provokes a kernel crash by name: `crash EXHAUST_STACK`. With `--work` it works beside one instead: see below.
//!
//! Where the crash works, the process is killed and nothing is printed. Exit status 2: no name; 1: the kernel has no such crash.
//!
//! `crash --work` is the process that must not notice: it writes to its memory and checks it, and tells the kernel of each
//! round, until the kernel says that it is enough. Exit status 3: its memory was not what it had written.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use vmstack_programs::{WORK, provoke};

/// Words that a round writes and reads.
const WORDS: u64 = 512;
/// After so many rounds it sleeps, so that the kernel has nothing to do now and then.
const AT_ONCE: u64 = 16;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("crash: which? crash NAME, for instance crash EXHAUST_STACK");
        return ExitCode::from(2);
    };
    if name == "--work" {
        return work();
    }
    match provoke(&name) {
        Ok(()) => eprintln!("crash: {name} was provoked, and this process lives"),
        Err(error) => eprintln!("crash: {name} cannot be provoked: {error}"),
    }
    ExitCode::FAILURE
}

fn work() -> ExitCode {
    let mut file = match OpenOptions::new().write(true).open(WORK) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("crash: {WORK}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for round in 0_u64.. {
        let memory: Vec<u64> = (0..WORDS).map(|word| word ^ round).collect();
        // In the middle, so that others run between the writing and the reading.
        let wanted = file.write(b"x").is_ok();
        std::thread::yield_now();
        if round.is_multiple_of(AT_ONCE) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if memory.iter().zip(0..).any(|(&word, index)| word != index ^ round) {
            return ExitCode::from(3);
        }
        if !wanted {
            break;
        }
    }
    ExitCode::SUCCESS
}
