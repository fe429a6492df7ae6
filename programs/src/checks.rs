//! Checks of what is to be as on Linux, with names, for programs that are nothing but such: `signals`, `futexes`, `files`.
//!
//! Each runs in a process of its own: what it does to its signals, files and threads is its own, and one that waits for ever is killed by
//! its alarm. Printed is `fact PROGRAM.NAME 1`, or why not and then 0, and at the end `fact PROGRAM.failed COUNT`.

use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Pid, spawn, wait};

/// What a check found wrong.
pub type Outcome = Result<(), String>;

/// Checks, with their names.
pub type Checks = [(&'static str, fn() -> Outcome)];

/// How long a check may take, in seconds.
const PATIENCE: u32 = 60;

/// Fails unless `truth` holds.
///
/// # Errors
///
/// It does not: `what`, with the last error.
pub fn expect(truth: bool, what: &str) -> Outcome {
    if truth { Ok(()) } else { Err(format!("{what} (errno {})", std::io::Error::last_os_error())) }
}

/// Fails unless the two are equal.
///
/// # Errors
///
/// They are not: both, and `what` they are.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

/// Starts a child that runs `work` and exits with what it returns.
///
/// # Errors
///
/// The system's, in words.
pub fn child(work: impl FnOnce() -> i32) -> Result<Pid, String> {
    spawn(work).map_err(|error| format!("fork: {error}"))
}

/// Waits for a child, and says how it ended, as `wait4` says it.
///
/// # Errors
///
/// The system's, in words.
pub fn status(pid: Pid) -> Result<i32, String> {
    wait(pid).map(|ended| ended.status).map_err(|error| format!("wait: {error}"))
}

/// Zeros in memory that children share. It is never given back.
///
/// # Errors
///
/// The system's, in words.
pub fn shared_words() -> Result<&'static [AtomicU32; 1024], String> {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(format!("mmap: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: a page of zeros, which stays.
    Ok(unsafe { &*page.cast() })
}

/// Waits until `is_so`, for some seconds at most.
///
/// # Errors
///
/// It never was: `what` was waited for.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Outcome {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err(format!("it took too long until {what}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// As [`status`], of a child that is to end soon.
///
/// # Errors
///
/// It did not, or the system's.
pub fn status_soon(pid: Pid) -> Result<i32, String> {
    let mut status = 0;
    // SAFETY: the status can be written to.
    let mut look = || unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    until("a child ended", || look() != 0)?;
    Ok(status)
}

/// Runs a check of `program`. Whether all was well.
fn run(program: &str, name: &str, check: fn() -> Outcome) -> bool {
    let child = spawn(|| {
        // SAFETY: without a handler it ends this process.
        unsafe { libc::alarm(PATIENCE) };
        match check() {
            Ok(()) => 0,
            Err(why) => {
                println!("{name}: {why}");
                1
            }
        }
    });
    let status = child.and_then(wait).map_or(-1, |ended| ended.status);
    if status != 0 && status != 1 << 8 {
        println!("{name}: ended with status {status:#x}");
    }
    println!("fact {program}.{name} {}", u8::from(status == 0));
    status == 0
}

/// Runs those of `checks` that are `wanted`, all of them if none is named. Exit status: 0 all is as it should be, 1 something is not.
#[must_use]
pub fn main(program: &str, checks: &[&Checks], wanted: &[String]) -> ExitCode {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let chosen = checks.iter().flat_map(|checks| checks.iter()).filter(|(name, _)| is_wanted(name));
    let failed = chosen.filter(|&&(name, check)| !run(program, name, check)).count();
    println!("fact {program}.failed {failed}");
    ExitCode::from(u8::from(failed != 0))
}
