//! Many at once: `crowd threads N [PROCESSES]`, `crowd processes N [--fragmented]`.
//!
//! `threads` starts N threads in all, in a few processes (4 if not said), each blocked on a futex on a stack of 512 bytes. `processes`
//! starts up to N, each blocked in a read; with `--fragmented`, on the reference kernel, in memory of which every other page is taken.
//! When all are there, or no more can be, the memory is looked at; then they are let go and waited for.
//!
//! ```text
//! fact crowd.alive KIND N              alive at once, besides this process and, for threads, the first of each process
//! fact crowd.refused KIND ERRNO N      there could be no more: so many of the processes were told so, for this reason
//! fact crowd.memory WHEN FREE STACKS   KiB free and KiB of kernel stacks, from /proc/meminfo; WHEN before full after; of what is free
//!                                      when no more processes can be, 512 KiB were kept to look at it
//! fact crowd.contiguous ASKED GOT      how often on the way the kernel asked for pages side by side, where it says so
//! fact crowd.ended N KILLED BADLY      children that were waited for, those that were killed for want of memory, and those that ended badly
//! ```
//!
//! Exit status 1: something failed that must not. That there can be no more is no failure, nor that a child is killed which writes to
//! memory it shares with its parent when there is none left for a copy.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::ExitCode;

use vmstack_programs::release::{Aside, Release, Reports};
use vmstack_programs::threads::{Alive, Gate, Stacks, start, wait_at};
use vmstack_programs::{CONTIGUOUS, FRAGMENTED, Pid, memory_info, spawn, wait};

/// A thread's stack, in bytes: one futex call.
const STACK: usize = 512;
/// Processes that threads are spread over, if not said.
const PROCESSES: usize = 4;

/// Looks at the memory.
fn memory(when: &str) {
    if let (Some(free), Some(stacks)) = (memory_info::kib("MemFree"), memory_info::kib("KernelStack")) {
        println!("fact crowd.memory {when} {free} {stacks}");
    }
}

/// In a child: starts `count` threads, tells how many there are and why not more, and ends them when it is told to.
fn crowd(count: usize, reports: &Reports, release: &Release) -> io::Result<()> {
    let stacks = Stacks::new(count, STACK)?;
    let gate = Gate::new();
    let threads: Vec<Alive> = (0..count).map(|_| Alive::new()).collect();
    let mut refused = 0;
    let mut started = 0;
    for (index, alive) in threads.iter().enumerate() {
        let stack = stacks.prepared(index, wait_at, gate.word());
        // SAFETY: each has a stack of its own, and is joined below before stacks and gate go (1); the gate's word (2).
        match unsafe { start(stack, alive) } {
            Ok(()) => started += 1,
            Err(error) => {
                refused = error.raw_os_error().unwrap_or(-1);
                break;
            }
        }
    }
    gate.wait_for(started as u32);
    let told = reports.tell(&format!("{started} {refused}"));
    release.wait();
    gate.open();
    threads[..started].iter().for_each(Alive::join);
    told
}

fn threads(count: usize, processes: usize) -> io::Result<bool> {
    let (reports, release) = (Reports::new()?, Release::new()?);
    memory("before");
    let mut children = Vec::new();
    for index in 0..processes {
        // What does not divide goes to the first.
        let share = count / processes + usize::from(index < count % processes);
        children.push(spawn(|| i32::from(crowd(share, &reports, &release).is_err()))?);
    }
    let told = reports.hear()?;
    memory("full");
    let parsed = told.lines().filter_map(|line| line.split_once(' '));
    let pairs: Vec<(usize, i32)> = parsed.filter_map(|(n, why)| Some((n.parse().ok()?, why.parse().ok()?))).collect();
    println!("fact crowd.alive threads {}", pairs.iter().map(|(started, _)| started).sum::<usize>());
    say_refused("threads", pairs.iter().map(|&(_, why)| why));
    release.let_go();
    end(&children)
}

fn processes(count: usize, fragmented: bool) -> io::Result<bool> {
    let release = Release::new()?;
    if fragmented {
        fs::write(FRAGMENTED, "1")?;
    }
    let aside = Aside::put();
    memory("before");
    let asked = contiguous();
    let mut children = Vec::new();
    let mut refused = 0;
    while children.len() < count {
        let child = spawn(|| {
            if let Ok(aside) = &aside {
                aside.forget();
            }
            release.wait();
            0
        });
        match child {
            Ok(child) => children.push(child),
            Err(error) => {
                refused = error.raw_os_error().unwrap_or(-1);
                break;
            }
        }
    }
    // In fragmented memory with contiguous stacks there was nobody to hold it.
    let _ = aside.and_then(Aside::give);
    memory("full");
    if let (Some([asked, got]), Some([asked_now, got_now])) = (asked, contiguous()) {
        println!("fact crowd.contiguous {} {}", asked_now - asked, got_now - got);
    }
    println!("fact crowd.alive processes {}", children.len());
    say_refused("processes", [refused].into_iter());
    release.let_go();
    let ended = end(&children);
    if fragmented {
        fs::write(FRAGMENTED, "0")?;
    }
    ended
}

/// How often pages side by side were asked for and got, if the kernel says so.
fn contiguous() -> Option<[u64; 2]> {
    let text = fs::read_to_string(CONTIGUOUS).ok()?;
    let (asked, got) = text.trim().split_once(' ')?;
    Some([asked.parse().ok()?, got.parse().ok()?])
}

/// Says which errors there were, and how often; zero is none.
fn say_refused(kind: &str, errors: impl Iterator<Item = i32>) {
    let mut counted = BTreeMap::new();
    errors.filter(|&error| error != 0).for_each(|error| *counted.entry(error).or_insert(0) += 1);
    counted.iter().for_each(|(error, times)| println!("fact crowd.refused {kind} {error} {times}"));
}

/// Waits for all; whether none ended badly.
fn end(children: &[Pid]) -> io::Result<bool> {
    let (mut killed, mut badly) = (0, 0);
    for &child in children {
        match wait(child)?.status {
            0 => {}
            libc::SIGKILL => killed += 1,
            _ => badly += 1,
        }
    }
    memory("after");
    println!("fact crowd.ended {} {killed} {badly}", children.len());
    Ok(badly == 0)
}

fn number(word: Option<&String>) -> Option<usize> {
    word?.parse().ok().filter(|&number| number > 0)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match (words.first().map(String::as_str), number(words.get(1))) {
        (Some("threads"), Some(count)) => threads(count, number(words.get(2)).unwrap_or(PROCESSES)),
        (Some("processes"), Some(count)) => processes(count, words.get(2).is_some_and(|word| word == "--fragmented")),
        _ => {
            eprintln!("crowd: of what? crowd threads N [PROCESSES], or crowd processes N [--fragmented]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crowd: {error}");
            ExitCode::FAILURE
        }
    }
}
