//! What it costs to look at the running task's flags, in time: beside the stack, in the task's struct, or per CPU.
//!
//! | place | how it is found |
//! | --- | --- |
//! | per CPU | `%gs:offset`; a switch carries the flags over, which is not in the figure |
//! | the task struct | `%gs:current`, then an offset |
//! | the slot | the stack pointer, its lower bits cleared: a page of its own at the start of the window in which the stack lies |
//!
//! The reference kernel counts the instructions (`cost.current_percpu` and its like). This measures nanoseconds, natively, in loops that
//! are alike but for the way: with one task, where everything is in the first cache, and with a thousand that run in turns, where the
//! struct and the slot's page are as cold as they are after a switch. The struct lies among others, 2 KiB apart, as in a slab; a slot's
//! page needs an entry of the TLB of its own. A turn ends where all of
//! it is done, as with a return to user mode; the time of turns without a test is taken off.
//!
//! Context: a thread that is in no task; takes some tens of milliseconds. Nothing else of the thread may use GS.

use core::cell::UnsafeCell;
use std::time::Instant;

use crate::arch::{PAGE_SIZE, current as arch};
use crate::sys::{Errno, Region};

/// From one stack to the next, in bytes: its size, and as much again.
pub(crate) const WINDOW: usize = 32 << 10;
/// What is in use of each stack, in bytes: the pointer to its very end would be one into the next window.
const IN_USE: usize = 64;
/// From one task struct to the next, in bytes.
const STRUCT: usize = 2 << 10;
/// How many tasks run in turns.
const MANY: usize = 1024;
/// Tests in one measurement, and measurements, of which the shortest counts: whatever came between made the others longer.
const TESTS: usize = 64 * MANY;
const TIMES: usize = 15;

/// What a CPU has.
#[repr(C)]
pub(crate) struct Block {
    pub(crate) current: UnsafeCell<usize>,
    pub(crate) flags: u32,
}

/// Where a task is.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TaskPlace {
    /// Its stack pointer.
    pub(crate) stack: usize,
    pub(crate) place: usize,
}

/// What one way costs, in picoseconds a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cost {
    /// Where the same task runs.
    pub warm: u64,
    /// Where another one runs each time.
    pub cold: u64,
}

/// What the three ways cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Costs {
    /// Flags per CPU.
    pub per_cpu: Cost,
    /// Flags in the task struct.
    pub task_struct: Cost,
    /// Flags in a page of the slot.
    pub slot: Cost,
}

type Loop = unsafe extern "C" fn(*const TaskPlace, usize, usize);

/// Measures.
///
/// # Errors
///
/// There is no memory, or this system has no GS for a process.
pub fn measure() -> Result<Costs, Errno> {
    let (windows, structs) = (Region::reserve(MANY * WINDOW + WINDOW)?, Region::reserve(MANY * STRUCT)?);
    structs.open(0, MANY * STRUCT)?;
    let tasks = tasks(&windows, &structs)?;
    let block = Block { current: UnsafeCell::new(0), flags: 0 };
    // SAFETY: nothing in a Rust program on Linux uses GS; the block stays until it is set again.
    unsafe { arch::set_gs((&raw const block).expose_provenance()) }?;
    let ways = [arch::switch_only as Loop, arch::per_cpu, arch::task_struct, arch::slot];
    let mut shortest = [Cost { warm: u64::MAX, cold: u64::MAX }; 4];
    // In turns: what is slow for a while is so for all of them.
    for _ in 0..TIMES {
        for (cost, way) in shortest.iter_mut().zip(ways) {
            cost.warm = cost.warm.min(turn(way, &tasks[..1]));
            cost.cold = cost.cold.min(turn(way, &tasks));
        }
    }
    let [none, per_cpu, task_struct, slot] = shortest;
    // SAFETY: as before; nobody uses it from here on.
    unsafe { arch::set_gs(0) }?;
    let less =
        |cost: Cost| Cost { warm: cost.warm.saturating_sub(none.warm), cold: cost.cold.saturating_sub(none.cold) };
    Ok(Costs { per_cpu: less(per_cpu), task_struct: less(task_struct), slot: less(slot) })
}

/// Makes the tasks: in each window a page at the start, and the topmost of a stack at the end. They run in an order that no prefetcher knows.
fn tasks(windows: &Region, structs: &Region) -> Result<Vec<TaskPlace>, Errno> {
    let start = windows.range().start().get();
    let first = start.next_multiple_of(WINDOW) - start;
    let mut tasks = Vec::with_capacity(MANY);
    for index in 0..MANY {
        let window = first + index * WINDOW;
        windows.open(window, PAGE_SIZE)?;
        windows.open(window + WINDOW - PAGE_SIZE, PAGE_SIZE)?;
        // Odd, so that it goes through all of them.
        let place = structs.range().start().get() + (index * 389 % MANY) * STRUCT;
        tasks.push(TaskPlace { stack: start + window + WINDOW - IN_USE, place });
    }
    let mut word = 1_usize;
    for index in (1..MANY).rev() {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tasks.swap(index, (word >> 33) % (index + 1));
    }
    Ok(tasks)
}

/// Picoseconds of one turn.
fn turn(way: Loop, tasks: &[TaskPlace]) -> u64 {
    let before = Instant::now();
    // SAFETY: the tasks were made by `tasks`, nobody stands on their stacks, and GS is set.
    unsafe { way(tasks.as_ptr(), tasks.len(), TESTS / tasks.len()) };
    before.elapsed().as_nanos() as u64 * 1000 / TESTS as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_three_ways_are_measured_and_gs_is_left_as_it_was() {
        let first = super::measure().expect("measured");
        let again = super::measure().expect("measured again");
        // Each is something, and none is a hundred nanoseconds: on a machine that is busy no more can be said.
        for cost in [first.per_cpu, first.task_struct, first.slot, again.slot] {
            assert!(cost.warm < 100_000 && cost.cold < 1_000_000, "{first:?} {again:?}");
        }
    }
}
