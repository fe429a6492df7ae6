//! Shows that the kernel is preemptive: a child spins for ever, and its parent runs all the same.
//!
//! On one CPU a kernel that waits for tasks to give it back never prints the last line.

use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use vmstack_programs::spawn;

/// How often the parent wakes up beside the child.
const TURNS: usize = 5;

fn spin() -> i32 {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn run() -> io::Result<()> {
    let child = spawn(spin)?;
    for _ in 0..TURNS {
        thread::sleep(Duration::from_millis(20));
    }
    println!("ran {TURNS} times beside a child that never stops");
    // On Linux the child would go on without us; on the reference kernel it ends with its machine.
    // SAFETY: a signal to a process that is ours.
    unsafe { libc::kill(child, libc::SIGKILL) };
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("preempt: {error}");
            ExitCode::FAILURE
        }
    }
}
