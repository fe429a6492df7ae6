//! What the flush of a batch of stacks costs with several CPUs, in parts that one CPU can count.
//!
//! Several CPUs that wait for each other do not count the same twice, so they are not asked. The *sender* is this CPU, as if the others
//! were up and had flushed before they were asked: it flushes, sends its message, which nobody hears, and looks once at what each of them
//! acknowledged. A *receiver* is this CPU too: it sends itself the message, and takes it. From the entry to the way out nothing else
//! comes in between: there is no timer, and interrupts are off.
//!
//! Where CPUs look for themselves there is no message, and a receiver finds itself behind. Then there is also what a look costs that finds
//! nothing, at each switch and tick, and what it costs to be away while a CPU idles.

use super::{median, median_of};
use crate::arch::cpu;
use crate::fact;
use crate::interrupts;
use crate::stacks::shootdown::{self, How};
use crate::stacks::{TASK_STACK, TASKS};

/// How many CPUs the sender believes to be up.
const CPUS: usize = 4;

/// Counts both. A batch has `stacks` stacks.
pub(super) fn count(empty: u64, stacks: usize) {
    let apart = |cost: u64| cost.saturating_sub(empty);
    let sender = || apart(shootdown::as_if_up(CPUS, || median(|| flush(stacks))));
    fact!("stack.shootdown", "{CPUS} {} {} {stacks} {}", sender(), handler(), stacks * TASK_STACK);
    shootdown::flush_by(How::AtSwitch);
    let idle = apart(median(|| {
        shootdown::idle();
        shootdown::awake();
    }));
    fact!("stack.flush_at_switch", "{CPUS} {} {} {} {idle}", sender(), apart(behind()), apart(median(shootdown::look)));
    shootdown::flush_by(How::Message);
}

/// What a CPU does that finds itself behind, reading the counter included.
fn behind() -> u64 {
    median_of(|| {
        shootdown::fall_behind();
        let start = cpu::cycles();
        shootdown::look();
        cpu::cycles() - start
    })
}

/// Flushes the first `stacks` stacks everywhere, and looks whether that is done.
fn flush(stacks: usize) {
    let Some(geometry) = TASKS.geometry() else { return };
    let batch = (0..stacks).filter_map(|index| geometry.slot(index)).map(|slot| geometry.pages(slot));
    shootdown::flush_everywhere(batch);
}

/// What a CPU does that is asked to flush.
fn handler() -> u64 {
    let nothing = median(cpu::take_interrupts);
    let taken = median_of(|| {
        interrupts::ask_self_for_shootdown();
        let start = cpu::cycles();
        cpu::take_interrupts();
        cpu::cycles() - start
    });
    taken.saturating_sub(nothing)
}
