//! What the life of a task costs: `life [--samples N] [OPERATION...]`, all operations if none is named.
//!
//! An ordinary Linux program: it measures the kernel that it runs on, in ticks of the time-stamp counter, which are instructions on a
//! machine that counts them. All of it is meant for one CPU: a child that runs elsewhere is not in the figures. Nobody ever sleeps
//! while something is measured: whoever waits, waits for a child that can run.
//!
//! | operation | what is timed |
//! | --- | --- |
//! | `clone` | `clone()` of a thread, one at a time: the call alone, as the parent sees it |
//! | `clone_join` | the same, with the thread's exit, until the parent knows of it |
//! | `storm256_first` | each `clone()` while all threads before it live, blocked on a futex: one storm, if it is named first the first ever |
//! | `storm256`, `storm4096` | the same, when there was such a storm before |
//! | `vfork` | `vfork()` of a child that exits at once, until the parent goes on |
//! | `fork` | `fork()`, exit and `wait4()`, in a program that has touched 9 MiB |
//! | `fork_exec` | `fork()`, `execve()` of the program `nothing`, its exit, `wait4()` |
//!
//! Printed when all is over, a line an operation: `fact life.NAME SAMPLES P50 MEAN P99`. Before them `fact life.calibration INSTRUCTIONS
//! TICKS` of a loop of known length, and `fact life.reading TICKS`, which has been taken from each sample. Exit status 1: an operation
//! failed, and why is on standard error; the others are measured all the same.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use vmstack_programs::children::{fork_and_execute, fork_and_exit, vfork_and_exit};
use vmstack_programs::clock::{Clock, now};
use vmstack_programs::mapping::Mapping;
use vmstack_programs::samples::{Samples, Summary};
use vmstack_programs::threads::{Alive, Gate, Stacks, exit, start, wait_at};
use vmstack_programs::{Pid, wait};

/// A thread's stack, in bytes: it makes two system calls.
const STACK: usize = 4096;
/// What the forking program has touched, in bytes.
const TOUCHED: usize = 9 << 20;
/// Children whose times are not kept: the first of all fill caches.
const WARMING: usize = 16;

/// One operation.
struct Operation {
    name: &'static str,
    samples: usize,
    measure: fn(&Bench, usize) -> io::Result<Samples>,
}

/// What there is to measure, and how many samples give a steady 99th percentile.
const OPERATIONS: [Operation; 8] = [
    Operation { name: "clone", samples: 2000, measure: Bench::clone },
    Operation { name: "clone_join", samples: 2000, measure: Bench::clone_join },
    Operation { name: "storm256_first", samples: 256, measure: |bench, samples| bench.storm(256, samples, 0) },
    Operation { name: "storm256", samples: 2048, measure: |bench, samples| bench.storm(256, samples, 1) },
    Operation { name: "storm4096", samples: 4096, measure: |bench, samples| bench.storm(4096, samples, 1) },
    Operation { name: "vfork", samples: 2000, measure: Bench::vfork },
    Operation { name: "fork", samples: 300, measure: Bench::fork },
    Operation { name: "fork_exec", samples: 300, measure: Bench::fork_exec },
];

/// What measuring needs.
struct Bench {
    clock: Clock,
    nothing: CString,
}

impl Bench {
    /// Takes `count` samples of `sample`, after a few that are not kept.
    fn repeat(count: usize, mut sample: impl FnMut() -> io::Result<u64>) -> io::Result<Samples> {
        let mut samples = Samples::with_room_for(count);
        for _ in 0..WARMING.min(count) {
            sample()?;
        }
        for _ in 0..count {
            samples.push(sample()?);
        }
        Ok(samples)
    }

    fn clone(&self, count: usize) -> io::Result<Samples> {
        self.one_at_a_time(count, |begun, alive| {
            let ticks = self.clock.since(begun);
            alive.join();
            ticks
        })
    }

    fn clone_join(&self, count: usize) -> io::Result<Samples> {
        self.one_at_a_time(count, |begun, alive| {
            alive.join();
            self.clock.since(begun)
        })
    }

    /// Threads that exit at once, one after the other; `ended` joins and gives the ticks since `begun`.
    fn one_at_a_time(&self, count: usize, ended: impl Fn(u64, &Alive) -> u64) -> io::Result<Samples> {
        let stacks = Stacks::new(1, STACK)?;
        let alive = Alive::new();
        Self::repeat(count, || {
            let stack = stacks.prepared(0, exit, 0);
            let begun = now();
            // SAFETY: the thread before it has been joined (1); `exit` needs nothing (2).
            unsafe { start(stack, &alive)? };
            Ok(ended(begun, &alive))
        })
    }

    /// Rounds of `size` threads that are all alive at once, as many as give `count` samples, after `before` that are not kept.
    fn storm(&self, size: usize, count: usize, before: usize) -> io::Result<Samples> {
        let size = size.min(count);
        let stacks = Stacks::new(size, STACK)?;
        for _ in 0..before {
            self.round(&stacks, &mut Samples::with_room_for(size))?;
        }
        let mut samples = Samples::with_room_for(count.next_multiple_of(size));
        for _ in 0..count.div_ceil(size) {
            self.round(&stacks, &mut samples)?;
        }
        Ok(samples)
    }

    fn round(&self, stacks: &Stacks, samples: &mut Samples) -> io::Result<()> {
        let gate = Gate::new();
        let threads: Vec<Alive> = (0..stacks.count()).map(|_| Alive::new()).collect();
        let started = threads.iter().zip(0..).try_for_each(|(alive, index)| {
            let stack = stacks.prepared(index, wait_at, gate.word());
            let begun = now();
            // SAFETY: each has a stack of its own, and is joined below before stacks and gate go (1); the gate's word (2).
            unsafe { start(stack, alive)? };
            samples.push(self.clock.since(begun));
            gate.wait_for(index as u32 + 1);
            Ok(())
        });
        gate.open();
        threads.iter().for_each(Alive::join);
        started
    }

    fn vfork(&self, count: usize) -> io::Result<Samples> {
        Self::repeat(count, || {
            let begun = now();
            let child = vfork_and_exit()?;
            let ticks = self.clock.since(begun);
            reap(child)?;
            Ok(ticks)
        })
    }

    fn fork(&self, count: usize) -> io::Result<Samples> {
        let memory = Mapping::new(TOUCHED)?;
        memory.touch();
        Self::repeat(count, || {
            let begun = now();
            reap(fork_and_exit()?)?;
            Ok(self.clock.since(begun))
        })
    }

    fn fork_exec(&self, count: usize) -> io::Result<Samples> {
        Self::repeat(count, || {
            let begun = now();
            reap(fork_and_execute(&self.nothing)?)?;
            Ok(self.clock.since(begun))
        })
    }
}

/// Waits for a child that must end well.
fn reap(child: Pid) -> io::Result<()> {
    let ended = wait(child)?;
    if ended.well() {
        return Ok(());
    }
    Err(io::Error::other(format!("a child ended with status word {:#x}", ended.status)))
}

/// What the command line asks for.
struct Asked {
    chosen: Vec<&'static Operation>,
    samples: Option<usize>,
}

impl Asked {
    fn of(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut words = words.map(|word| word.to_string_lossy().into_owned());
        let mut asked = Self { chosen: Vec::new(), samples: None };
        while let Some(word) = words.next() {
            if word == "--samples" {
                let count = words.next().unwrap_or_default();
                asked.samples = Some(positive(&count).ok_or_else(|| format!("--samples {count}: a number from 1 up"))?);
            } else {
                asked.chosen.push(named(&word)?);
            }
        }
        if asked.chosen.is_empty() {
            asked.chosen = OPERATIONS.iter().collect();
        }
        Ok(asked)
    }
}

fn positive(word: &str) -> Option<usize> {
    word.parse().ok().filter(|&count| count > 0)
}

fn named(word: &str) -> Result<&'static Operation, String> {
    let names = OPERATIONS.map(|operation| operation.name).join(", ");
    OPERATIONS
        .iter()
        .find(|operation| operation.name == word)
        .ok_or_else(|| format!("`{word}` is no operation; there are {names}, and --samples N"))
}

/// Measures what was asked for, then prints: a line on a console is work that would be measured.
fn measure(asked: &Asked, bench: &Bench) -> ExitCode {
    let (expected, ticks) = bench.clock.loop_of_known_length();
    let mut found: Vec<(&str, io::Result<Option<Summary>>)> = Vec::with_capacity(OPERATIONS.len());
    for operation in &asked.chosen {
        let count = asked.samples.unwrap_or(operation.samples);
        found.push((operation.name, (operation.measure)(bench, count).map(Samples::summary)));
    }
    println!("fact life.calibration {expected} {ticks}");
    println!("fact life.reading {}", bench.clock.reading);
    let mut status = ExitCode::SUCCESS;
    for (name, result) in found {
        match result {
            Ok(summary) => summary.iter().for_each(|summary| println!("fact life.{name} {summary}")),
            Err(error) => {
                eprintln!("life: {name}: {error}");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let asked = match Asked::of(words) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("life: {why}");
            return ExitCode::from(2);
        }
    };
    // It lies beside this program, on the host as in the guest.
    let nothing = Path::new(&own).with_file_name("nothing");
    let nothing = CString::new(nothing.as_os_str().as_bytes()).unwrap_or_default();
    measure(&asked, &Bench { clock: Clock::calibrated(), nothing })
}
