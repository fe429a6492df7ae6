//! A fork bomb that can be looked at: `bomb [--tasks N]`.
//!
//! A child forks, and it and its child fork, and so on, until the system refuses: then each tells why, and waits. When nobody can be
//! forked any more all are alive at once. They are let go, each waits for its own children, and a fork must work again. `--tasks` asks
//! for a limit first (`RLIMIT_NPROC`); without it the system's own is the limit. Do not try it without one at home.
//!
//! ```text
//! fact bomb.alive N            processes that were refused, so alive at the same time
//! fact bomb.refused ERRNO N    why, and how many of them
//! fact bomb.status STATUS      the end of the first of them, as wait4 gives it
//! fact bomb.after STATUS       the end of a child that is forked when all is over
//! ```
//!
//! Exit status 1: the bomb cannot be set off, or nothing can be forked after it.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;

use vmstack_programs::release::{Aside, Release, Reports};
use vmstack_programs::{spawn, wait};

/// Forks until it cannot; so does every child.
fn explode(reports: &Reports, release: &Release) -> i32 {
    // An error is what this is about: it ends the loop.
    let refused = loop {
        match fork() {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    let told = reports.tell(&refused.raw_os_error().unwrap_or(-1).to_string());
    release.wait();
    while wait(-1).is_ok() {}
    i32::from(told.is_err())
}

/// Both go on from here.
fn fork() -> io::Result<()> {
    // SAFETY: the program has one thread, so the child finds all locks free.
    if unsafe { libc::fork() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn limit(tasks: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: tasks, rlim_max: tasks };
    // SAFETY: the structure is this function's own.
    if unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn set_off() -> io::Result<bool> {
    // First: whoever is started later has copies of the pipes.
    let aside = Aside::put()?;
    let (reports, release) = (Reports::new()?, Release::new()?);
    let first = spawn(|| {
        aside.forget();
        explode(&reports, &release)
    })?;
    let mut counted: BTreeMap<i32, usize> = BTreeMap::new();
    let told = reports.hear();
    aside.give()?;
    for error in told?.lines().filter_map(|line| line.parse().ok()) {
        *counted.entry(error).or_default() += 1;
    }
    println!("fact bomb.alive {}", counted.values().sum::<usize>());
    counted.iter().for_each(|(error, times)| println!("fact bomb.refused {error} {times}"));
    release.let_go();
    println!("fact bomb.status {}", wait(first)?.status);
    let after = wait(spawn(|| 0)?)?;
    println!("fact bomb.after {}", after.status);
    Ok(after.well())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let tasks = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(None),
        ["--tasks", tasks] => tasks.parse().ok().map(Some),
        _ => None,
    };
    let Some(tasks) = tasks else {
        eprintln!("bomb: how many? bomb [--tasks N]");
        return ExitCode::from(2);
    };
    match tasks.map_or(Ok(()), limit).and_then(|()| set_off()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bomb: {error}");
            ExitCode::FAILURE
        }
    }
}
