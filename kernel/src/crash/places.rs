//! Where a stack pointer and an address can be: the first and the last slot of an area, other tasks' guards, the code of a stack.
//!
//! The stack pointer is moved by calling on another place of a stack ([`vmstack_arch::call_on`]).

use alloc::vec::Vec;
use core::hint::black_box;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::{RawStack, VirtAddr};

use super::Provocation;
use super::script::{Script, Victim, perform_provocation};
use super::stack::{exhaust_stack, own_stack, read};
use crate::arch::provoke;
use crate::stacks::Stack;
use crate::task::{TaskStack, sched};
use crate::{println, stacks};

pub(super) static PROVOCATIONS: [Provocation; 12] = [
    Provocation { name: "OVERFLOW_WITH_BAD_FRAMES:nowhere", act: || with_frames(0xdead_beef_dead_beef) },
    Provocation { name: "OVERFLOW_WITH_BAD_FRAMES:kernel", act: || with_frames(VirtAddr::of(&raw const OTHER).get()) },
    Provocation { name: "OVERFLOW_WITH_BAD_FRAMES:misaligned", act: || with_frames(own_stack().1.get() - 75) },
    Provocation { name: "OVERFLOW_WITH_BAD_FRAMES:circle", act: in_a_circle },
    Provocation { name: "UNDERFLOW", act: underflow },
    Provocation { name: "OVERFLOW_IN_MEMCPY:room", act: || overflow_in_memcpy(1024) },
    Provocation { name: "OVERFLOW_IN_MEMCPY:no-room", act: || overflow_in_memcpy(64) },
    Provocation { name: "JUMP_TO_OTHER_GUARD:touch", act: || read(other_bottom().wrapping_sub(8)) },
    Provocation { name: "JUMP_TO_OTHER_GUARD:stand", act: stand_in_other_guard },
    Provocation { name: "EXEC_STACK", act: execute_stack },
    Provocation { name: "FIRST_SLOT_BELOW", act: exhaust_stack },
    Provocation { name: "LAST_SLOT_ABOVE", act: underflow },
];

pub(super) static SCRIPTS: [Script; 5] = [
    Script {
        name: "OVERFLOW_WITH_BAD_FRAMES",
        run: |_| {
            ["nowhere", "kernel", "misaligned", "circle"]
                .map(|word| ["OVERFLOW_WITH_BAD_FRAMES:", word])
                .iter()
                .for_each(|name| perform_provocation(&name.concat()));
        },
    },
    Script {
        name: "OVERFLOW_IN_MEMCPY",
        run: |_| ["OVERFLOW_IN_MEMCPY:room", "OVERFLOW_IN_MEMCPY:no-room"].into_iter().for_each(perform_provocation),
    },
    Script { name: "JUMP_TO_OTHER_GUARD", run: jump_to_other_guard },
    Script { name: "FIRST_SLOT_BELOW", run: |_| on_edge(Edge::First) },
    Script { name: "LAST_SLOT_ABOVE", run: |_| on_edge(Edge::Last) },
];

/// Runs `act` with the current stack's pointer at `top`, and comes back.
fn call_at(top: VirtAddr, act: extern "C" fn(usize) -> usize) {
    // SAFETY: none can be given: what lies below `top` is in use, or is no stack at all. This is the crash.
    black_box(unsafe { vmstack_arch::call_on(top, act, 0) });
}

/// Calls `act` with no more than `left` bytes of the current stack.
pub(super) fn call_with_left(left: usize, act: extern "C" fn(usize) -> usize) {
    call_at(own_stack().0.wrapping_add(left), act);
}

/// Stands `below` bytes below the current stack, and calls something there.
pub(super) fn call_below(below: usize) {
    call_at(own_stack().0.wrapping_sub(below), nothing);
}

extern "C" fn nothing(_: usize) -> usize {
    0
}

/// Takes words off the stack that nobody has pushed, up to its top and beyond.
fn underflow() {
    // SAFETY: none: what is popped belongs to others, and then there is nothing. This is the crash.
    unsafe { provoke::pop_from(own_stack().1.wrapping_sub(64)) };
}

/// Copies over the end of the stack, in a leaf function, with `room` bytes left.
fn overflow_in_memcpy(room: usize) {
    extern "C" fn copy_over_the_end(_: usize) -> usize {
        static SOURCE: [u8; 512] = [0x5a; 512];
        let target = own_stack().0.wrapping_sub(256).as_mut_ptr::<u8>();
        // SAFETY: none: the first half of the target is the guard. This is the crash.
        unsafe { ptr::copy_nonoverlapping(SOURCE.as_ptr(), target, black_box(SOURCE.len())) };
        0
    }
    call_at(own_stack().0.wrapping_add(room), copy_over_the_end);
}

/// The bottom of the stack of somebody who sleeps.
static OTHER: AtomicUsize = AtomicUsize::new(0);

fn other_bottom() -> VirtAddr {
    VirtAddr::new(OTHER.load(Ordering::Relaxed))
}

/// With a bystander's guard in reach: an access to it, and a stack pointer in it.
fn jump_to_other_guard(_: &str) {
    static STAY: AtomicUsize = AtomicUsize::new(0);
    fn bystander() {
        while STAY.load(Ordering::Relaxed) != 0 {
            sched::sleep_until(sched::ticks() + 1);
        }
    }
    STAY.store(1, Ordering::Relaxed);
    let Some(bystander) = Victim::start(bystander) else { return };
    OTHER.store(bystander.stack().0.get(), Ordering::Relaxed);
    ["JUMP_TO_OTHER_GUARD:touch", "JUMP_TO_OTHER_GUARD:stand"].into_iter().for_each(perform_provocation);
    STAY.store(0, Ordering::Relaxed);
    // Not a victim of the crash: status 0.
    bystander.wait();
}

fn stand_in_other_guard() {
    call_at(other_bottom().wrapping_sub(64), nothing);
}

/// Overflows after a call whose caller's frame pointer is `frame_pointer`.
fn with_frames(frame_pointer: usize) {
    extern "C" fn overflow() -> ! {
        exhaust_stack();
        sched::exit()
    }
    // SAFETY: none: the walk of frame pointers is what is tried. `overflow` does not come back.
    unsafe { provoke::call_with_frame_pointer(frame_pointer, overflow) }
}

/// With a link that leads to itself.
fn in_a_circle() {
    let mut link = [0_usize; 2];
    let place = (&raw mut link).expose_provenance();
    link = [place, own_stack().1.get()];
    black_box(&mut link);
    with_frames(place);
}

/// Calls bytes that lie on the stack.
fn execute_stack() {
    let code = black_box([0_u8; 16]);
    // SAFETY: none: the stack is not executable, so what comes is a fault before the first instruction.
    let function: extern "C" fn() = unsafe { mem::transmute(code.as_ptr()) };
    function();
    black_box(code);
}

/// Which end of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Edge {
    First,
    Last,
}

/// The stacks of the area of two, by edge, as words; zero once used.
static EDGE_STACKS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// How many of them are kept for a script.
pub(crate) fn kept_stacks() -> usize {
    EDGE_STACKS.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count()
}

/// Makes the area of two stacks, and takes both: whoever frees one may keep it in a CPU's magazine, where others do not see it.
pub(super) fn take_edges() {
    if let Err(error) = stacks::make_edges() {
        return println!("vmstack: no area with two stacks: {error}");
    }
    let mut both: Vec<_> = (0..2).filter_map(|_| stacks::EDGES.alloc_waiting(0).ok()).collect();
    both.sort_unstable_by_key(Stack::bottom);
    for (place, stack) in EDGE_STACKS.iter().zip(both) {
        place.store(stack.into_raw().get() as usize, Ordering::Relaxed);
    }
}

/// In an area of two stacks, the task on the first one falls off its lower end, or the one on the last off its upper end.
fn on_edge(edge: Edge) {
    let (place, act): (usize, fn()) = match edge {
        Edge::First => (0, exhaust_stack),
        Edge::Last => (1, underflow),
    };
    match EDGE_STACKS[place].swap(0, Ordering::Relaxed) {
        0 => println!("vmstack: that stack was used before"),
        word => {
            // SAFETY: the word came from `into_raw` of a stack of this area, and was taken just now.
            let stack = unsafe { Stack::from_raw(&stacks::EDGES, RawStack::from_word(word as u64)) };
            if let Some(victim) = Victim::start_on(TaskStack::Mapped(stack), act) {
                victim.wait();
            }
        }
    }
}
