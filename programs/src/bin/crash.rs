//! Provokes a kernel crash by name: `crash EXHAUST_STACK`. With `--work` it works beside one instead: see below.
//!
//! Where the crash works, the process is killed and nothing is printed. Exit status 2: no name; 1: the kernel has no such crash.
//!
//! `crash --work` is the process that must not notice: it writes to its memory and checks it, and tells the kernel of each
//! round, until the kernel says that it is enough. Exit status 3: its memory was not what it had written.
//!
//! `crash --syscalls` makes the system calls of the kernel's sweep: a child for each asks for its next call to enter with little
//! of its kernel stack left, makes it, and says that it is back. Exit status 4: a child ended in another way than well or by SIGSEGV.
//!
//! `crash --thread` has a thread of another process overflow, a few times, and prints what it sees of it: `fact thread STATUS WORD LEFT
//! ALIVE`, the process's status word, the word of a robust futex, threads whose number the kernel did not clear, and whether the process
//! is still there.
//!
//! `crash --report NAME` has a child provoke it, and prints the kernel's last reports.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use vmstack_programs::{PROVOKE, REPORTS, WORK, in_thread, provoke, spawn, wait};

/// Words that a round writes and reads.
const WORDS: u64 = 512;
/// How many calls the sweep wants.
const RUNS: usize = 512;
/// How many processes have a thread that overflows.
const THREAD_RUNS: usize = 4;
/// After so many rounds it sleeps, so that the kernel has nothing to do now and then.
const AT_ONCE: u64 = 16;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("crash: which? crash NAME, for instance crash EXHAUST_STACK");
        return ExitCode::from(2);
    };
    match name.as_str() {
        "--work" => return work(),
        "--syscalls" => return enter_moved(),
        "--thread" => return in_thread(),
        "--report" => return report(&std::env::args().nth(2).unwrap_or_default()),
        _ => {}
    }
    match provoke(&name) {
        Ok(()) => eprintln!("crash: {name} was provoked, and this process lives"),
        Err(error) => eprintln!("crash: {name} cannot be provoked: {error}"),
    }
    ExitCode::FAILURE
}

fn enter_moved() -> ExitCode {
    let mut device = match OpenOptions::new().write(true).open(PROVOKE) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("crash: {PROVOKE}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for _ in 0..RUNS {
        let mut tell = |what: &[u8]| device.write(what).is_ok();
        let child = || {
            if !tell(b"SWEEP_MOVE_NEXT_CALL") {
                return 1;
            }
            // SAFETY: the call has no argument and touches nothing.
            unsafe { libc::syscall(libc::SYS_getpid) };
            i32::from(!tell(b"SWEEP_IS_BACK"))
        };
        let ended = spawn(child).and_then(wait);
        if !ended.is_ok_and(|ended| ended.well() || ended.status == libc::SIGSEGV) {
            return ExitCode::from(4);
        }
        if device.write(b"SWEEP_JUDGE").is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn in_thread() -> ExitCode {
    for _ in 0..THREAD_RUNS {
        match in_thread::observe() {
            Ok(seen) => {
                println!("fact thread {} {:#x} {} {}", seen.status, seen.word, seen.left, u8::from(seen.alive));
            }
            Err(error) => {
                eprintln!("crash: a thread that overflows: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
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

fn report(name: &str) -> ExitCode {
    let ended = spawn(|| i32::from(provoke(name).is_err())).and_then(wait);
    match ended.and_then(|_| fs::read_to_string(REPORTS)) {
        Ok(reports) => {
            print!("{reports}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crash: {REPORTS}: {error}");
            ExitCode::FAILURE
        }
    }
}
