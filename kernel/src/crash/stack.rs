//! Overflows of a task's own stack, and accesses to guards.
//!
//! Every overflow here moves the stack pointer, by calls. The accesses are those that LKDTM makes: the stack pointer is healthy.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::VirtAddr;

use super::Provocation;
use crate::arch::{cpu, percpu, provoke};
use crate::oops::marks;
use crate::stacks::TASK_STACK;
use crate::sync::Section;
use crate::task::kept::{self, Keep};
use crate::task::sched;

pub(super) static PROVOCATIONS: [Provocation; 11] = [
    Provocation { name: "EXHAUST_STACK", act: exhaust_stack },
    Provocation { name: "EXHAUST_STACK:trait-objects", act: exhaust_by_trait_objects },
    Provocation { name: "EXHAUST_STACK:closures", act: exhaust_by_closures },
    Provocation { name: "EXHAUST_STACK:mutual", act: exhaust_by_mutual_recursion },
    Provocation { name: "EXHAUST_STACK:twice", act: exhaust_twice },
    Provocation { name: "STACK_GUARD_PAGE_LEADING", act: || read(own_stack().0.wrapping_sub(1)) },
    Provocation { name: "STACK_GUARD_PAGE_TRAILING", act: || read(own_stack().1) },
    Provocation { name: "WILD_POINTER", act: || read(own_stack().0.wrapping_sub(TASK_STACK / 2)) },
    Provocation { name: "OVERFLOW_WITH_INTERRUPTS_OFF", act: overflow_with_interrupts_off },
    Provocation { name: "OVERFLOW_WITH_PREEMPTION_OFF", act: overflow_with_preemption_off },
    Provocation { name: COUNTED, act: overflow_counted },
];

/// The bottom and the top of the current task's stack.
pub(super) fn own_stack() -> (VirtAddr, VirtAddr) {
    sched::current().stack_bounds()
}

/// Reads the byte at `addr`, wherever that is.
pub(super) fn read(addr: VirtAddr) {
    // SAFETY: none: this is the crash. A guard has no page, so what comes is a fault.
    black_box(unsafe { addr.as_mut_ptr::<u8>().read_volatile() });
}

/// Deeper than any stack: it does not come back.
pub(super) fn exhaust_stack() {
    black_box(recursive_loop(black_box(usize::MAX)));
}

/// Calls itself until the stack ends. Each frame holds something that its caller needs, so none of them can be left out.
#[inline(never)]
fn recursive_loop(remaining: usize) -> usize {
    let frame = black_box([remaining; 8]);
    if remaining == 0 {
        return frame[0];
    }
    recursive_loop(remaining - 1) + frame[remaining % 8]
}

/// Calls `act` when less than a page and a half is left of the current stack.
#[inline(never)]
pub(super) fn deep(act: fn()) {
    let here = vmstack_arch::stack_pointer();
    if here.distance(own_stack().0) > 4096 + 2048 {
        deep(black_box(act));
    } else {
        act();
    }
    // Something after the call, so that it is none in tail position.
    black_box(here);
}

/// Something that does not know what it calls.
trait Step {
    fn descend(&self, next: &dyn Step, remaining: usize) -> usize;
}

struct Odd;
struct Even;

impl Step for Odd {
    #[inline(never)]
    fn descend(&self, next: &dyn Step, remaining: usize) -> usize {
        black_box(next).descend(self, remaining - 1) + black_box(remaining)
    }
}

impl Step for Even {
    #[inline(never)]
    fn descend(&self, next: &dyn Step, remaining: usize) -> usize {
        let frame = black_box([remaining; 4]);
        black_box(next).descend(self, remaining - 1) + frame[remaining % 4]
    }
}

fn exhaust_by_trait_objects() {
    black_box(Odd.descend(&Even, usize::MAX));
}

fn exhaust_by_closures() {
    type Next<'a> = &'a dyn Fn(usize) -> usize;
    // Each closure calls the one that it is given, which is itself.
    fn again(step: &dyn Fn(Next<'_>, usize) -> usize, remaining: usize) -> usize {
        step(&|left| black_box(again(step, left)) + 1, remaining)
    }
    black_box(again(&|next, remaining| black_box(next)(remaining - 1) + black_box(remaining), usize::MAX));
}

/// What exhausts the stack when it is given back, the first time: also the empty one of a task that was killed.
struct Again(AtomicBool);

impl Keep for Again {
    fn settle(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            exhaust_stack();
        }
    }
}

/// The task dies, and dies again when what it kept is given back.
fn exhaust_twice() {
    let section = Section::enter();
    let _again = kept::keep(&"crash", Again(AtomicBool::new(false)), &section);
    drop(section);
    exhaust_stack();
}

fn exhaust_by_mutual_recursion() {
    black_box(first(black_box(usize::MAX)));
}

#[inline(never)]
fn first(remaining: usize) -> usize {
    let frame = black_box([remaining; 2]);
    second(remaining - 1) + frame[0]
}

#[inline(never)]
fn second(remaining: usize) -> usize {
    let frame = black_box([remaining; 6]);
    third(remaining - 1) + frame[1]
}

#[inline(never)]
fn third(remaining: usize) -> usize {
    let frame = black_box([remaining; 12]);
    first(remaining - 1) + frame[2]
}

/// The overflow that `mode=fault` counts.
pub(crate) const COUNTED: &str = "EXHAUST_STACK:counted";

/// Overflows with a trace of at least 64 frames, and notes when.
pub(crate) fn overflow_counted() {
    black_box(fall(black_box(64)));
}

/// Calls itself, and then stands at the bottom of the stack, and pushes.
#[inline(never)]
fn fall(remaining: usize) -> usize {
    let frame = black_box([remaining; 8]);
    if remaining == 0 {
        // SAFETY: none: this is the crash. The bottom is the current stack's.
        unsafe { provoke::push_below(own_stack().0, marks::place(marks::Step::Overflow)) }
    }
    fall(remaining - 1) + frame[remaining % 8]
}

fn overflow_with_interrupts_off() {
    cpu::disable_interrupts();
    exhaust_stack();
}

fn overflow_with_preemption_off() {
    percpu::preempt_disable();
    exhaust_stack();
    percpu::preempt_enable();
}
