//! A build, as far as kernel stacks are concerned: `compile [--seed N] [--directories N]`.
//!
//! `make -j8` builds one directory after the other. It is modelled on a build that was watched (`strace -f -e trace=process make -j8` of BusyBox
//! 1.35.0, `make defconfig`, which has the makefiles of the Linux kernel, on two CPUs): 5,870 processes, of which up to 32 were alive at
//! once and 20 or more for four fifths of the time; for each of 569 object files `sh`, `gcc`, `cc1`, `as`, `fixdep`, `mv` and `rm`.
//!
//! ```text
//!   make ──┬─> sh ──> gcc ──┬─> cc1   most of the time
//!   8 at   │    │           └─> as    alive with it: it reads what cc1 writes
//!   a time │    └──> fixdep, mv, rm   one after the other
//!          ├─> sh ...
//!          └─> when all objects of a directory are there:  sh ──> rm, ar;  then the next directory
//! ```
//!
//! The directories and their numbers of objects are BusyBox's. Unlike in that build, which works on several directories at once, each waits for
//! the one before: so the build comes in bursts, which is harder on whoever keeps stacks ready. Who moves to which CPU and how long a compilation
//! takes are drawn from the seed; which process ends first is not.
//!
//! As many tasks sleep all the while as that machine had: 1,792 KiB of kernel stacks in `/proc/meminfo` before the build.
//!
//! The reference kernel keeps stacks ready for reuse, and can be told how many at most. The build is run with what it keeps when it is told
//! nothing, and then with 10, 5 and 2 % of the most stacks that were in use at once in the first run; each time nothing is kept at its start.
//!
//! ```text
//! fact compile.seed SEED CPUS JOBS SLEEPING                  SLEEPING stacks of tasks that were there before, and stay
//! fact compile.processes BUDGET STARTED ELSEWHERE MOST       BUDGET in percent, or `own`; how many ended on another CPU than they were forked on; the
//!                                                            most that were alive at once
//! fact compile.stacks BUDGET LIMIT ALLOCATED HITS DEPOT MADE LIMIT stacks may be kept; stacks handed out, and of these: kept by the CPU, by the
//!                                                            depot, made from frames
//! fact compile.held BUDGET PEAK MOST MEAN IN_FLIGHT TAKEN    bytes: of stacks in use at once, at most, as the processes counted them; that were kept ready, at
//!                                                            most and on average; unmapped and not free yet, at most; in use as the kernel counts, at most
//! ```
//!
//! Linux prints the processes only. Exit status 1: something failed.

use std::fs;
use std::io;
use std::process::ExitCode;

use vmstack_programs::chance::Chance;
use vmstack_programs::release::{Release, Reports};
use vmstack_programs::threads::{Alive, Gate, Stacks, start, wait_at};
use vmstack_programs::{BUDGET, Ended, Pid, cpus, spawn, wait};

mod build;
mod ledger;

use build::{Build, DIRECTORIES};
use ledger::{Cache, Ledger};

/// The seed if none is named: the number of the patch series that counted what Linux keeps in a build.
const SEED: u64 = 20_251_117_140_747;
/// `make -j`.
const JOBS: usize = 8;
/// Stacks of tasks that sleep, this program's first one with them.
const SLEEPING: u64 = 112;
/// Parts of the most stacks in use that may be kept, in percent.
const PARTS: [u64; 3] = [10, 5, 2];
/// A sleeper's stack in user mode, in bytes: one futex call.
const STACK: usize = 512;

/// Whoever sleeps while the build goes on: threads of one process.
struct Sleepers {
    process: Pid,
    release: Release,
}

impl Sleepers {
    fn start(count: usize) -> io::Result<Self> {
        let (reports, release) = (Reports::new()?, Release::new()?);
        let process = spawn(|| i32::from(sleep(count, &reports, &release).is_err()))?;
        reports.hear()?;
        Ok(Self { process, release })
    }

    fn end(self) -> io::Result<bool> {
        self.release.let_go();
        wait(self.process).map(Ended::well)
    }
}

/// In a child: `count` threads sleep until it is released.
fn sleep(count: usize, reports: &Reports, release: &Release) -> io::Result<()> {
    let (stacks, gate) = (Stacks::new(count, STACK)?, Gate::new());
    let threads: Vec<Alive> = (0..count).map(|_| Alive::new()).collect();
    for (index, alive) in threads.iter().enumerate() {
        // SAFETY: each has a stack of its own, and is joined below before stacks and gate go (1); the gate's word (2). Where one fails the
        // process ends at once.
        unsafe { start(stacks.prepared(index, wait_at, gate.word()), alive)? };
    }
    gate.wait_for(count as u32);
    let told = reports.tell("");
    release.wait();
    gate.open();
    threads.iter().for_each(Alive::join);
    told
}

/// What was seen of what is kept, at each look.
#[derive(Default)]
struct Seen {
    looks: u64,
    sum: u64,
    most: u64,
    in_flight: u64,
    in_use: u64,
}

impl Seen {
    fn look(&mut self) {
        let Some(cache) = Cache::now() else { return };
        self.looks += 1;
        self.sum += cache.held;
        self.most = self.most.max(cache.held);
        self.in_flight = self.in_flight.max(cache.in_flight() * cache.size);
        self.in_use = self.in_use.max(cache.in_use() * cache.size);
    }
}

/// Has every CPU give back what it keeps ready.
fn keep_nothing(cpus: usize) -> io::Result<()> {
    for cpu in 0..cpus {
        cpus::stay_on(cpu)?;
        fs::write("/proc/sys/vm/drop_caches", "1")?;
    }
    Ok(())
}

/// The build, with `limit` stacks that may be kept, which is called `name`. Gives the most stacks that were in use at once.
fn pass(name: &str, limit: Option<u64>, build: &Build, directories: &[u32], seed: u64) -> io::Result<u64> {
    if let Some(limit) = limit {
        fs::write(BUDGET, limit.to_string())?;
        keep_nothing(build.cpus)?;
    }
    let before = Cache::now();
    let mut seen = Seen::default();
    build.make(directories, Chance::of(seed), |_| seen.look())?;
    let [started, elsewhere, most, badly] = build.ledger.take();
    println!("fact compile.processes {name} {started} {elsewhere} {most}");
    if badly != 0 {
        return Err(io::Error::other(format!("{badly} processes ended badly")));
    }
    let (Some(before), Some(after), Some(limit)) = (before, Cache::now(), limit) else { return Ok(0) };
    let of = |part: fn(&Cache) -> u64| part(&after) - part(&before);
    let counts = [of(|c| c.allocated), of(|c| c.hits), of(|c| c.from_depot), of(|c| c.populated)];
    let [allocated, hits, depot, made] = counts;
    println!("fact compile.stacks {name} {limit} {allocated} {hits} {depot} {made}");
    let peak = before.in_use() + u64::from(most);
    let mean = seen.sum / seen.looks.max(1);
    let Seen { most, in_flight, in_use, .. } = seen;
    println!("fact compile.held {name} {} {most} {mean} {in_flight} {in_use}", peak * after.size);
    Ok(peak)
}

fn compile(seed: u64, directories: &[u32]) -> io::Result<()> {
    let build = Build { ledger: Ledger::new()?, cpus: cpus::count(), jobs: JOBS };
    let own = fs::read_to_string(BUDGET).ok().and_then(|text| text.trim().parse().ok());
    // Besides these, the process that they are threads of.
    let there = Cache::now().map_or(1, |cache| cache.in_use());
    let sleepers = Sleepers::start(SLEEPING.saturating_sub(there + 1) as usize)?;
    println!("fact compile.seed {seed} {} {JOBS} {SLEEPING}", build.cpus);
    let peak = pass("own", own, &build, directories, seed)?;
    if own.is_some() {
        for part in PARTS {
            pass(&part.to_string(), Some(peak * part / 100), &build, directories, seed)?;
        }
    }
    if sleepers.end()? { Ok(()) } else { Err(io::Error::other("the sleepers ended badly")) }
}

/// The seed, and how many directories are built.
fn asked(words: &[String]) -> Option<(u64, usize)> {
    let (mut seed, mut directories) = (SEED, DIRECTORIES.len());
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--seed" => seed = value.parse().ok()?,
            [name, value] if name == "--directories" => directories = value.parse().ok()?,
            _ => return None,
        }
    }
    (1..=DIRECTORIES.len()).contains(&directories).then_some((seed, directories))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((seed, directories)) = asked(&words) else {
        eprintln!("compile: what? compile [--seed N] [--directories 1..{}]", DIRECTORIES.len());
        return ExitCode::from(2);
    };
    match compile(seed, &DIRECTORIES[..directories]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile: {error}");
            ExitCode::FAILURE
        }
    }
}
