//! Three places for what the entry code looks at before it returns to user mode, and what it costs to get there.
//!
//! | place | how it is found | who does so |
//! | --- | --- | --- |
//! | per CPU | `%gs:offset` | this kernel; a switch carries the flags over |
//! | the task struct | `%gs:current`, then an offset | Linux since `THREAD_INFO_IN_TASK` |
//! | the slot | the stack pointer, its lower bits cleared | the comments to the article: a page of its own, behind a guard |
//!
//! The third is built here, and used by nothing else: a window of two stack sizes, as far apart as any slot, with a page at its start,
//! unmapped pages above it, and a stack.
//!
//! ```text
//!   window                                   stack
//!   | flags ... |       unmapped            |  ...  <- stack pointer |
//!   0           4 KiB                       16 KiB                   32 KiB
//! ```
//!
//! What is counted is the test of the flags, with everything that it needs: nothing is in a register before. It says nothing of caches
//! and TLBs, of which the third needs an entry for each task.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::{Pages, VirtAddr};
use vmstack_paging::{Access, Attributes};

use crate::arch::layout::PAGE_SIZE;
use crate::arch::percpu;
use crate::count::median;
use crate::fact;
use crate::mm::frames;
use crate::mm::tables;
use crate::stacks::{self, TASK_STACK};
use crate::task::Task;

/// How many tests are made in a row.
const TESTS: u64 = 64;

/// The instructions of one test, from `count` of [`TESTS`] of them; the clock's own, `empty`, are not counted.
fn each(empty: u64, count: u64) -> u64 {
    count.saturating_sub(empty) / TESTS
}

/// Counts all three.
pub(crate) fn count(empty: u64) {
    fact!("cost.current.percpu", "{}", each(empty, median(per_cpu)));
    fact!("cost.current.struct", "{}", each(empty, median(task_struct)));
    if let Some(slot) = in_slot() {
        fact!("cost.current.slot", "{}", each(empty, slot));
    }
}

fn per_cpu() {
    // SAFETY: reads a word of this CPU's block, again and again.
    unsafe {
        asm!(
            ".rept {tests}",
            "cmp dword ptr gs:[{flags}], 0",
            ".endr",
            tests = const TESTS,
            flags = const percpu::FLAGS,
            options(nostack, readonly)
        );
    }
}

fn task_struct() {
    // SAFETY: reads the address of the current task and a word of its struct, again and again.
    unsafe {
        asm!(
            ".rept {tests}",
            "mov {task}, gs:[{current}]",
            "cmp dword ptr [{task} + {flags}], 0",
            ".endr",
            task = out(reg) _,
            tests = const TESTS,
            current = const percpu::CURRENT,
            flags = const Task::FLAGS,
            options(nostack, readonly)
        );
    }
}

fn slot() {
    // SAFETY: the code runs on a stack of a window, at whose start there is a page (`in_slot`).
    unsafe {
        asm!(
            ".rept {tests}",
            "mov {page}, rsp",
            "and {page}, {mask}",
            "cmp dword ptr [{page}], 0",
            ".endr",
            page = out(reg) _,
            tests = const TESTS,
            mask = const -(2 * TASK_STACK as i32),
            options(readonly)
        );
    }
}

/// Makes a window, and counts in it. `None` if there is no memory.
fn in_slot() -> Option<u64> {
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn on_its_stack(_: usize) -> usize {
        COUNTED.store(median(slot), Ordering::Relaxed);
        0
    }
    let window = stacks::spare_range().start();
    let stack = window.wrapping_add(TASK_STACK);
    map(Pages::new(window, 1))?;
    map(Pages::new(stack, TASK_STACK / PAGE_SIZE))?;
    let top = stack.wrapping_add(TASK_STACK);
    // SAFETY: the stack was mapped just now, nobody else uses it, and `median` needs less.
    unsafe { vmstack_arch::call_on(top, on_its_stack, 0) };
    unmap(window, 1);
    unmap(stack, TASK_STACK / PAGE_SIZE);
    Some(COUNTED.load(Ordering::Relaxed))
}

fn map(pages: Pages) -> Option<()> {
    let frames = core::iter::from_fn(|| frames::take(0));
    // SAFETY: the range is nobody's, and neither are the frames.
    unsafe { tables::kernel().map(pages, Attributes::kernel(Access::ReadWrite), frames) }.ok()
}

fn unmap(start: VirtAddr, count: usize) {
    let pages = Pages::new(start, count);
    // SAFETY: nobody uses the pages any more; one CPU runs.
    let parked = unsafe { tables::kernel().park(pages) };
    pages.addresses(PAGE_SIZE).for_each(|page| {
        // SAFETY: the kernel runs in ring 0.
        unsafe { vmstack_arch::tlb::flush_page(page) };
    });
    // SAFETY: they were parked and flushed, and the range is nobody's.
    let given =
        parked.is_ok().then(|| unsafe { tables::kernel().take_parked(pages, |frame, _| frames::give(frame, 0)) });
    debug_assert!(given.is_some_and(|given| given.is_ok()));
}
