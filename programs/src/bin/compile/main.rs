//! A build, as far as kernel stacks are concerned: `compile [--seed N] [--directories N] [PASS...]`.
//!
//! It is modelled on one that was watched: `strace -f -e trace=process make -j8` of BusyBox 1.35.0, `make defconfig`, which has the makefiles of
//! the Linux kernel. That had 5,870 processes, of which up to 32 were alive at once, and 20 or more for four fifths of the time; for each of 569
//! object files `sh`, `gcc`, `cc1`, `as`, `fixdep`, `mv` and `rm`.
//!
//! ```text
//!   make ──┬─> sh ──> gcc ──┬─> cc1   most of the time
//!   8 at   │    │           └─> as    alive with it (gcc -pipe): it reads what cc1 writes
//!   a time │    └──> fixdep, mv, rm   one after the other
//!          └─> sh ──> rm, ar          of each directory
//! ```
//!
//! The directories and their numbers of objects are BusyBox's. They are built in bursts: several side by side, and nothing of the next burst before
//! all of one is done. What was watched was one burst. Four are harder on whoever keeps stacks ready, for each begins with nobody alive; and with
//! 29 each directory waits for the one before, as where a shell's loop goes through them. Who moves to which CPU, and how long a
//! compilation takes, is drawn from the seed; who ends first is not.
//!
//! As many tasks sleep all the while as that machine had before the build, without anybody's desktop: 1,792 KiB of kernel stacks, which are 112, on
//! two CPUs, each of which had seven threads of the kernel's own (`ps -e`). So on four CPUs it would be 126.
//!
//! A pass is one build, written `BURSTS/KEPT`: how many stacks the reference kernel may keep ready, in percent of the most that were in use at once in
//! the first pass, or `own`, what it keeps when it is told nothing. Nothing is kept when a pass begins.
//!
//! ```text
//! fact compile.seed SEED CPUS JOBS SLEEPING                  SLEEPING stacks of tasks that were there before, and stay
//! fact compile.processes PASS STARTED ELSEWHERE MOST         how many ended on another CPU than they were forked on; the most that were alive at once
//! fact compile.stacks PASS LIMIT ALLOCATED HITS DEPOT MADE   LIMIT stacks may be kept; stacks handed out, and of these: kept by the CPU, by the
//!                                                            depot, made from frames
//! fact compile.held PASS PEAK MOST MEAN IN_FLIGHT TAKEN      bytes: of stacks in use at once, at most, as the processes counted them; that were kept
//!                                                            ready, at most and on average; unmapped and not free yet, at most; handed out, as the
//!                                                            kernel counts, at most: those that wait for a grace period are among them
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
const SLEEPING: u64 = 126;
/// Passes if none is named.
const PASSES: [&str; 6] = ["4/own", "4/10", "4/5", "4/2", "1/10", "29/10"];
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

/// One build.
struct Pass {
    name: String,
    bursts: usize,
    /// In percent of the first pass's peak; none: what the kernel keeps when it is told nothing.
    kept: Option<u64>,
}

impl Pass {
    fn of(name: &str) -> Option<Self> {
        let (bursts, kept) = name.split_once('/')?;
        let bursts = bursts.parse().ok().filter(|&bursts| bursts > 0)?;
        let kept = if kept == "own" { None } else { Some(kept.parse().ok()?) };
        Some(Self { name: name.to_owned(), bursts, kept })
    }

    /// Has it done, with `limit` stacks that may be kept, if that can be said. Gives the most stacks that were in use at once.
    fn run(&self, asked: &Asked, build: &Build, limit: Option<u64>) -> io::Result<u64> {
        if let Some(limit) = limit {
            fs::write(BUDGET, limit.to_string())?;
            keep_nothing(build.cpus)?;
        }
        let before = Cache::now();
        let mut seen = Seen::default();
        build.make(&DIRECTORIES[..asked.directories], self.bursts, Chance::of(asked.seed), || seen.look())?;
        let [started, elsewhere, most, badly] = build.ledger.take();
        println!("fact compile.processes {} {started} {elsewhere} {most}", self.name);
        if badly != 0 {
            return Err(io::Error::other(format!("{badly} processes ended badly")));
        }
        let (Some(before), Some(after), Some(limit)) = (before, Cache::now(), limit) else { return Ok(0) };
        let peak = before.in_use() + u64::from(most);
        self.say(limit, peak, &before, &after, &seen);
        Ok(peak)
    }

    fn say(&self, limit: u64, peak: u64, before: &Cache, after: &Cache, seen: &Seen) {
        let of = |part: fn(&Cache) -> u64| part(after) - part(before);
        let (allocated, hits) = (of(|c| c.allocated), of(|c| c.hits));
        let (depot, made) = (of(|c| c.from_depot), of(|c| c.populated));
        println!("fact compile.stacks {} {limit} {allocated} {hits} {depot} {made}", self.name);
        let mean = seen.sum / seen.looks.max(1);
        let Seen { most, in_flight, in_use, .. } = seen;
        println!("fact compile.held {} {} {most} {mean} {in_flight} {in_use}", self.name, peak * after.size);
    }
}

/// What the command line asks for.
struct Asked {
    seed: u64,
    directories: usize,
    passes: Vec<Pass>,
}

impl Asked {
    fn of(words: &[String]) -> Option<Self> {
        let mut asked = Self { seed: SEED, directories: DIRECTORIES.len(), passes: Vec::new() };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--seed" => asked.seed = words.next()?.parse().ok()?,
                "--directories" => asked.directories = words.next()?.parse().ok()?,
                name => asked.passes.push(Pass::of(name)?),
            }
        }
        if asked.passes.is_empty() {
            asked.passes = PASSES.into_iter().filter_map(Pass::of).collect();
        }
        (1..=DIRECTORIES.len()).contains(&asked.directories).then_some(asked)
    }
}

fn compile(asked: &Asked) -> io::Result<()> {
    let build = Build { ledger: Ledger::new()?, cpus: cpus::count(), jobs: JOBS };
    let own = fs::read_to_string(BUDGET).ok().and_then(|text| text.trim().parse().ok());
    // Besides these, the process that they are threads of.
    let there = Cache::now().map_or(1, |cache| cache.in_use());
    let sleepers = Sleepers::start(SLEEPING.saturating_sub(there + 1) as usize)?;
    println!("fact compile.seed {} {} {JOBS} {SLEEPING}", asked.seed, build.cpus);
    let mut peak = None;
    for pass in &asked.passes {
        let limit = own.map(|own: u64| pass.kept.map_or(own, |kept| peak.unwrap_or(SLEEPING) * kept / 100));
        let most = pass.run(asked, &build, limit)?;
        peak = peak.or(Some(most));
    }
    if sleepers.end()? { Ok(()) } else { Err(io::Error::other("the sleepers ended badly")) }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = Asked::of(&words) else {
        eprintln!("compile: what? compile [--seed N] [--directories 1..{}] [BURSTS/PERCENT...]", DIRECTORIES.len());
        return ExitCode::from(2);
    };
    match compile(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile: {error}");
            ExitCode::FAILURE
        }
    }
}
