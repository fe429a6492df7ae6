//! Numbers of processes begin again at their limit, and none that is in use is handed out a second time.
//!
//! The limit is lowered (`/proc/sys/kernel/pid_max`) so that this takes little. Some children stay, with numbers all over the range, while many
//! others come and go; then there are as many as there are numbers. Prints:
//!
//! ```text
//! fact numbers.rounds ROUNDS TWICE      how often numbers began again, and how many were handed out that a child had
//! fact numbers.full ALIVE ERRNO TWICE   children when there was no number left, and what fork said then
//! ```
//!
//! An ordinary Linux program, for who may write to that file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::ExitCode;

use vmstack_programs::{Pid, spawn, wait};

/// The limit, and what it is otherwise.
const LIMIT: &str = "700";
const USUAL: &str = "4194304";
const FILE: &str = "/proc/sys/kernel/pid_max";
/// Children that come, and how many of them go before one stays.
const CHILDREN: usize = 3000;
const BETWEEN: usize = 40;

/// A child that stays until it is killed.
fn stay() -> io::Result<Pid> {
    spawn(|| {
        // SAFETY: the call has no arguments.
        unsafe { libc::pause() };
        0
    })
}

/// How often numbers began again, and how many were handed out twice. Those who stay are in `alive`.
fn come_and_go(alive: &mut BTreeSet<Pid>) -> io::Result<(usize, usize)> {
    let (mut rounds, mut twice, mut last) = (0, 0, 0);
    for index in 0..CHILDREN {
        let stays = index % BETWEEN == 0;
        let child = if stays { stay()? } else { spawn(|| 0)? };
        rounds += usize::from(child < last);
        twice += usize::from(alive.contains(&child));
        last = child;
        if stays {
            alive.insert(child);
        } else {
            wait(child)?;
        }
    }
    Ok((rounds, twice))
}

/// Children until there are no more numbers: the error, and how many numbers were handed out twice.
fn fill(alive: &mut BTreeSet<Pid>) -> (i32, usize) {
    let mut twice = 0;
    loop {
        match stay() {
            Ok(child) => twice += usize::from(!alive.insert(child)),
            Err(error) => return (error.raw_os_error().unwrap_or(0), twice),
        }
    }
}

fn run() -> io::Result<()> {
    fs::write(FILE, LIMIT)?;
    let mut alive = BTreeSet::new();
    let (rounds, twice) = come_and_go(&mut alive)?;
    println!("fact numbers.rounds {rounds} {twice}");
    let (error, twice) = fill(&mut alive);
    println!("fact numbers.full {} {error} {twice}", alive.len());
    for &child in &alive {
        // SAFETY: a child of this process.
        unsafe { libc::kill(child, libc::SIGKILL) };
        wait(child)?;
    }
    fs::write(FILE, USUAL)?;
    // There are numbers again.
    wait(spawn(|| 0)?).map(|_| ())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("numbers: {error}");
            ExitCode::FAILURE
        }
    }
}
