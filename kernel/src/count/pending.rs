//! How long unmapped stacks wait for other CPUs to flush, and how much waits: on several CPUs, in time. The command line says how they
//! are made to flush (`flush=`); the host compares two boots.
//!
//! | what | how |
//! | --- | --- |
//! | a flush | from its beginning until every CPU has flushed, seen by a CPU that does nothing but ask |
//! | a drain | many ready stacks are given back, a batch after the other, and waited for |
//! | a storm | on all CPUs stacks are built and given up at once, in little memory: what waits is missing elsewhere |
//!
//! The first two while the other CPUs are *idle*, *switching* (every [`WORK`] nanoseconds or so), or *busy* with one task that never leaves.
//!
//! Where instructions are counted the emulator runs one CPU after the other, and passes on to the next where a CPU says that it waits. So all
//! that works here says so every thousand instructions: then the CPUs are side by side, as closely as that, and the clock counts what all of
//! them together do.

use alloc::vec::Vec;
use core::hint;
use core::iter;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use vmstack::Platform;

use crate::arch::{clock, cpu, percpu};
use crate::mm::frames;
use crate::mm::heap::{self, OutOfHeap};
use crate::stacks::{Kernel, Stack, TASK_STACK, TASKS};
use crate::sync::Section;
use crate::task::{self, sched};
use crate::{boot, fact, println};

/// Flushes of which each state of the others has one.
const SAMPLES: usize = 21;
/// How long there is nothing between two, in nanoseconds: so many times a number below [`STEPS`], so that they keep no step with the timer.
const STEP: u64 = 103_000;
const STEPS: u64 = 97;
/// How long a task works that switches, in nanoseconds.
const WORK: u64 = 100_000;
/// Stacks that are drained.
const DRAINED: usize = 256;
/// Stacks that a task of the storm has at once, and how often.
const AT_ONCE: usize = 48;
const ROUNDS: usize = 25;
/// Tasks of the storm for each CPU: so that there is always another one to switch to.
const EACH: usize = 2;
/// Stacks that there is memory for beside those that the storm has at once.
const SPARE: usize = 32;

/// What the other CPUs do.
const STATES: [(&str, fn()); 3] = [("idle", || ()), ("switching", switch_on), ("busy", work_on)];

/// Measures everything.
pub(crate) fn measure() {
    {
        let _interrupts = cpu::InterruptsOff::new();
        super::calibrate(super::median(|| ()));
    }
    for (name, company) in STATES {
        let tasks = if name == "switching" { EACH } else { 1 } * (boot::cpus() - 1);
        GOING.store(true, Ordering::Release);
        for _ in 0..if name == "idle" { 0 } else { tasks } {
            start(company);
        }
        wait(sched::TICKS_PER_SECOND / 10);
        flushes(name);
        if drains(name).is_err() {
            println!("vmstack: no memory to remember stacks in");
        }
        GOING.store(false, Ordering::Release);
        wait_for_company();
    }
    if storm().is_err() {
        println!("vmstack: no memory to remember frames in");
    }
}

// ---- the other CPUs --------------------------------------------------------------------------------------------------

/// Whether the company goes on.
static GOING: AtomicBool = AtomicBool::new(false);
/// How many of it there are.
static THERE: AtomicUsize = AtomicUsize::new(0);

fn start(work: fn()) {
    THERE.fetch_add(1, Ordering::AcqRel);
    if task::spawn_kernel("company", accompany, work as usize).is_err() {
        THERE.fetch_sub(1, Ordering::AcqRel);
    }
}

extern "C" fn accompany(work: usize) -> ! {
    sched::begin();
    // SAFETY: `start` made the word of a function of this type.
    let work: fn() = unsafe { core::mem::transmute(work) };
    work();
    THERE.fetch_sub(1, Ordering::AcqRel);
    sched::exit()
}

fn wait_for_company() {
    while THERE.load(Ordering::Acquire) != 0 {
        wait(1);
    }
}

fn wait(ticks: u64) {
    sched::sleep_until(sched::ticks() + ticks);
}

/// Works for about a thousand instructions.
fn work() {
    (0..500).for_each(|turn| _ = hint::black_box(turn));
    cpu::relax();
}

fn spin(nanoseconds: u64) {
    let end = clock::now() + nanoseconds;
    while clock::now() < end {
        work();
    }
}

fn work_on() {
    while GOING.load(Ordering::Relaxed) {
        work();
    }
}

fn switch_on() {
    while GOING.load(Ordering::Relaxed) {
        spin(WORK);
        sched::yield_now();
    }
}

// ---- one flush, and many ---------------------------------------------------------------------------------------------

/// How long a flush takes until it is over: median, mean and most, in nanoseconds.
fn flushes(state: &str) {
    let mut samples = [0; SAMPLES];
    for (index, sample) in (0..).zip(&mut samples) {
        spin(index * 7 % STEPS * STEP);
        // Whoever asks is not sent away meanwhile, and takes interrupts.
        percpu::preempt_disable();
        let start = clock::now();
        let ticket = {
            let _section = Section::enter();
            Kernel.shootdown(iter::empty())
        };
        while !Kernel.flushed(&ticket) {
            cpu::relax();
        }
        *sample = clock::now() - start;
        percpu::preempt_enable();
    }
    samples.sort_unstable();
    let mean = samples.iter().sum::<u64>() / SAMPLES as u64;
    fact!("pending.flush", "{state} {SAMPLES} {} {mean} {}", samples[SAMPLES / 2], samples[SAMPLES - 1]);
}

/// How long it takes until many ready stacks are back, in nanoseconds.
fn drains(state: &str) -> Result<(), OutOfHeap> {
    let mut stacks: Vec<Stack> = Vec::new();
    heap::reserve(&mut stacks, DRAINED)?;
    (0..DRAINED).filter_map(|_| TASKS.alloc(1).ok()).for_each(|stack| stacks.push(stack));
    drop(stacks);
    let before = TASKS.counters();
    let start = clock::now();
    TASKS.drain();
    let end = clock::now();
    let after = TASKS.counters();
    let (unmapped, batches) = (after.unmapped - before.unmapped, after.shootdowns - before.shootdowns);
    fact!("pending.drain", "{state} {unmapped} {batches} {}", end - start);
    Ok(())
}

// ---- the storm -------------------------------------------------------------------------------------------------------

/// Bytes that waited, summed over all looks, and the most; and looks.
static WAITED: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// Stacks that were asked for and not to be had, while some waited.
static MISSED: AtomicUsize = AtomicUsize::new(0);

fn storm() -> Result<(), OutOfHeap> {
    TASKS.drain();
    let workers = EACH * boot::cpus();
    // Their own stacks come first, and what else they need.
    GOING.store(false, Ordering::Release);
    (0..workers).for_each(|_| start(take_and_give));
    wait(2);
    let mut taken: Vec<vmstack::PhysAddr> = Vec::new();
    heap::reserve(&mut taken, frames::free())?;
    let left = (boot::cpus() * AT_ONCE + SPARE) * (TASK_STACK / 4096);
    while frames::free() > left
        && let Some(frame) = frames::take(0)
    {
        taken.push(frame);
    }
    let before = TASKS.counters();
    let start = clock::now();
    GOING.store(true, Ordering::Release);
    wait_for_company();
    let took = clock::now() - start;
    let after = TASKS.counters();
    frames::give_all(&taken);
    let looks = LOOKS.load(Ordering::Relaxed);
    let asked = workers * ROUNDS * AT_ONCE;
    fact!("pending.storm", "{asked} {} {} {took}", after.populated - before.populated, MISSED.load(Ordering::Relaxed));
    fact!("pending.batches", "{} {}", after.unmapped - before.unmapped, after.shootdowns - before.shootdowns);
    let mean = WAITED.load(Ordering::Relaxed).checked_div(looks).unwrap_or(0);
    fact!("pending.bytes", "{looks} {mean} {}", MOST.load(Ordering::Relaxed));
    Ok(())
}

/// A worker of the storm.
fn take_and_give() {
    while !GOING.load(Ordering::Acquire) {
        wait(1);
    }
    for _ in 0..ROUNDS {
        // Nobody has stacks who does not run.
        percpu::preempt_disable();
        let stacks: ArrayVec<Stack, AT_ONCE> = (0..AT_ONCE).filter_map(|_| take()).collect();
        stacks.into_iter().for_each(give);
        TASKS.pressure();
        look();
        percpu::preempt_enable();
        sched::yield_now();
    }
}

fn take() -> Option<Stack> {
    let stack = TASKS.alloc(1).ok();
    if stack.is_none() && waiting() != 0 {
        MISSED.fetch_add(1, Ordering::Relaxed);
    }
    cpu::relax();
    stack
}

fn give(stack: Stack) {
    drop(stack);
    cpu::relax();
}

/// Bytes of stacks that are unmapped and not given back.
fn waiting() -> u64 {
    let counters = TASKS.counters();
    counters.unmapped.saturating_sub(counters.retired) * TASK_STACK as u64
}

fn look() {
    let bytes = waiting();
    WAITED.fetch_add(bytes, Ordering::Relaxed);
    MOST.fetch_max(bytes, Ordering::Relaxed);
    LOOKS.fetch_add(1, Ordering::Relaxed);
}
