//! What a stack costs, in instructions.
//!
//! Runs in a boot of its own: one CPU, no timer, an emulator that counts instructions in the time-stamp counter. A loop of known
//! length calibrates it; the host refuses the figures if that is off.
//!
//! Each round allocates a stack, touches its top page as any task does, and frees it. The first rounds warm the caches up.

use core::arch::asm;

use vmstack::VirtAddr;

use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::layout::PAGE_SIZE;
use crate::control::DirectStack;
use crate::fact;
use crate::mm::frames;
use crate::stacks::{TASK_STACK, TASKS};
use crate::task::{self, sched};
use crate::thread_info;

pub(crate) mod dma;
pub(crate) mod fault;
pub(crate) mod memory;
mod numbered;
mod numbers;
pub(crate) mod pending;
mod shootdown;
pub(crate) mod stack;
pub(crate) mod vmalloc;

const ROUNDS: usize = 501;
const WARM_UP: usize = 32;

/// Counts everything.
pub(crate) fn count() {
    let _interrupts = InterruptsOff::new();
    let empty = median(|| ());
    calibrate(empty);
    let apart = |cost: u64| cost.saturating_sub(empty);
    let page = frames::take(0).map(|frame| {
        let clear = apart(median(|| frames::clear(frame)));
        frames::give(frame, 0);
        clear
    });
    let page = page.unwrap_or(0);
    fact!("cost.page.clear", "{page}");
    fact!("cost.virtual.clear", "{page}");
    // Before any page of the cached stack is dirty.
    fact!("cost.virtual.untouched.p50", "{}", apart(median(mapped_untouched)));
    fact!("cost.virtual.p50", "{}", apart(median(mapped_used)));
    fact!("cost.virtual.cold.p50", "{}", apart(cold()));
    fact!("cost.direct.p50", "{}", apart(median(direct_used)));
    fact!("cost.direct.clear", "{}", page * (TASK_STACK / PAGE_SIZE) as u64);
    fact!("cost.task.spawn.p50", "{}", apart(median_of(spawn)));
    fact!("cost.task.life.p50", "{}", apart(median(|| _ = spawn())));
    thread_info::count(empty);
}

/// The loop of known length: two instructions a turn.
fn calibrate(empty: u64) {
    const TURNS: u64 = 10_000;
    let measured = median(|| {
        // SAFETY: counts a register down.
        unsafe {
            asm!("2:", "dec {turns}", "jnz 2b", turns = inout(reg) TURNS => _, options(nomem, nostack));
        }
    });
    fact!("cost.calibration", "{} {}", 2 * TURNS, measured.saturating_sub(empty));
}

/// The cost of a stack that is built from frames and unmapped again: everything but the cache.
fn cold() -> u64 {
    median(|| {
        drop(TASKS.alloc(1));
        TASKS.drain();
    })
}

/// A mapped stack from the cache, of which the top page is used.
fn mapped_used() {
    if let Ok(stack) = TASKS.alloc(1) {
        write_top(stack.top());
    }
}

/// A mapped stack from the cache, of which nothing is used: what handing it over costs.
fn mapped_untouched() {
    drop(TASKS.alloc(1));
}

/// A contiguous stack, of which the top page is used.
fn direct_used() {
    if let Some(stack) = DirectStack::new() {
        write_top(stack.top());
    }
}

/// Writes the topmost word of a stack: what every task does first.
#[inline]
fn write_top(top: VirtAddr) {
    // SAFETY: the topmost word of a stack that the caller owns and that nobody runs on.
    unsafe { top.wrapping_sub(8).as_mut_ptr::<u64>().write_volatile(1) };
}

/// Makes a task of the kernel, and lets it run to its end. What making it took.
fn spawn() -> u64 {
    let start = cpu::cycles();
    let made = task::spawn_kernel("counted", ends_at_once, 0).map(drop);
    let cost = cpu::cycles() - start;
    debug_assert!(made.is_ok());
    sched::yield_now();
    cost
}

extern "C" fn ends_at_once(_: usize) -> ! {
    sched::begin();
    sched::exit()
}

/// The median of what `work` takes, by the time-stamp counter, reading it included.
pub(crate) fn median(mut work: impl FnMut()) -> u64 {
    median_of(|| {
        let start = cpu::cycles();
        work();
        cpu::cycles() - start
    })
}

/// The median of what `measured` says.
// In a frame of its own, which is gone when the next one is taken.
#[inline(never)]
fn median_of(mut measured: impl FnMut() -> u64) -> u64 {
    let mut samples = [0_u64; ROUNDS];
    for _ in 0..WARM_UP {
        measured();
    }
    samples.iter_mut().for_each(|sample| *sample = measured());
    samples.sort_unstable();
    samples[ROUNDS / 2]
}
