//! What a victim does to its stack. Each function here is the body of one provoked crash.
//!
//! An overflow moves the stack pointer: by recursion, by a large frame, or by the instructions of `arch`. Only those that
//! are by definition accesses from a healthy stack do not. A way that returns did not crash.
//!
//! Context: a task of a machine that nobody else needs, on a stack of [`STACK_SIZE`](super::stage::STACK_SIZE) bytes.

use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::{Geometry, SlotIndex, StackView, VirtAddr};

use super::stage::Scene;
use crate::arch::PAGE_SIZE;
use crate::arch::damage;
use crate::story;

/// Where the sweep starts, and its steps, in bytes that are left on the stack.
pub(super) const SWEEP_STEP: usize = 8;
/// How many stack pointers the sweep tries for each kind.
pub(super) const SWEEP_STEPS: usize = PAGE_SIZE / SWEEP_STEP;
/// The signal that is the sweep's interrupt. Ignored unless somebody asks for it.
pub(super) const INTERRUPT: i32 = libc::SIGURG;
/// How often the interrupt's handler ran.
pub(super) static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);

/// The stack that the caller stands on.
fn stack(scene: &Scene<'_>) -> StackView {
    scene.machine().area().stack_at(vmstack_arch::stack_pointer()).unwrap_or_default()
}

fn geometry<'a>(scene: &'a Scene<'_>) -> &'a Geometry {
    scene.machine().area().geometry().unwrap_or_else(|| unreachable!("a machine's area is laid out"))
}

/// Reads the byte at `address`, which is in a guard.
fn touch(address: VirtAddr) {
    // SAFETY: the address is in the range of the machine's area, where no value lives: the read faults, and the task is killed.
    black_box(unsafe { address.as_mut_ptr::<u8>().read_volatile() });
}

pub(super) fn recursion(_: &Scene<'_>) {
    black_box(story::recurse(1));
}

trait Visit {
    fn visit(&self, other: &dyn Visit, depth: usize) -> usize;
}

struct Ping;
struct Pong;

impl Visit for Ping {
    #[inline(never)]
    fn visit(&self, other: &dyn Visit, depth: usize) -> usize {
        other.visit(self, black_box(depth) + 1) + black_box([depth; 4])[1]
    }
}

impl Visit for Pong {
    #[inline(never)]
    fn visit(&self, other: &dyn Visit, depth: usize) -> usize {
        other.visit(self, black_box(depth) + 1) + black_box([depth; 8])[2]
    }
}

pub(super) fn trait_objects(_: &Scene<'_>) {
    let (ping, pong): (&dyn Visit, &dyn Visit) = (black_box(&Ping), black_box(&Pong));
    black_box(ping.visit(pong, 0));
}

pub(super) fn closures(_: &Scene<'_>) {
    type Step<'a> = &'a dyn Fn(&dyn Fn(usize) -> usize, usize) -> usize;
    #[inline(never)]
    fn tie(step: Step<'_>, depth: usize) -> usize {
        step(&|deeper| tie(step, deeper), depth) + black_box(1)
    }
    black_box(tie(black_box(&|again, depth| again(black_box(depth) + 1) + black_box([depth; 4])[3]), 0));
}

pub(super) fn mutual_recursion(_: &Scene<'_>) {
    #[inline(never)]
    fn even(n: usize) -> usize {
        odd(black_box(n) + 1) + black_box([n; 4])[0]
    }
    #[inline(never)]
    fn odd(n: usize) -> usize {
        even(black_box(n) + 1) + black_box([n; 8])[0]
    }
    black_box(even(0));
}

pub(super) fn read_below(scene: &Scene<'_>) {
    touch(stack(scene).bottom.wrapping_sub(1));
}

pub(super) fn read_above(scene: &Scene<'_>) {
    touch(stack(scene).top);
}

/// The lowest byte of the guard under the first slot.
pub(super) fn read_first_byte(scene: &Scene<'_>) {
    touch(geometry(scene).slot_range().start());
}

/// The highest byte of the guard over the last slot.
pub(super) fn read_last_byte(scene: &Scene<'_>) {
    touch(geometry(scene).slot_range().end().wrapping_sub(1));
}

/// Far below the stack, and far above the one under it.
pub(super) fn read_mid_guard(scene: &Scene<'_>) {
    touch(stack(scene).bottom.wrapping_sub(geometry(scene).guard() / 2));
}

/// Calls itself with frames of `BYTES` bytes. The compiler probes each page of a frame before it uses it.
#[inline(never)]
fn frames_of<const BYTES: usize>(depth: usize) -> usize {
    let mut frame = [0_u8; BYTES];
    black_box(&mut frame);
    if black_box(depth) == usize::MAX {
        return 0;
    }
    frames_of::<BYTES>(black_box(depth) + 1) + usize::from(black_box(&frame)[0])
}

/// Frames larger than a page, which alone could step over a guard of one.
pub(super) fn frames_over_a_page(_: &Scene<'_>) {
    black_box(frames_of::<{ PAGE_SIZE + PAGE_SIZE / 2 }>(0));
}

/// A frame that is larger than the whole stack, and ends in the guard.
pub(super) fn frame_over_the_stack(_: &Scene<'_>) {
    black_box(frames_of::<{ super::stage::STACK_SIZE + 2 * PAGE_SIZE }>(0));
}

/// A frame that is larger than stack and guard together, and ends in the neighbour's stack.
pub(super) fn frame_over_the_guard(_: &Scene<'_>) {
    black_box(frames_of::<{ 2 * super::stage::STACK_SIZE + 2 * PAGE_SIZE }>(0));
}

pub(super) fn fill_in_a_leaf(scene: &Scene<'_>) {
    const LEFT: usize = 64;
    // SAFETY: the lowest bytes of this task's stack, which it does not use.
    unsafe { damage::fill_down(stack(scene).bottom.wrapping_add(LEFT)) };
}

/// The guard under a live stack that is no neighbour of ours.
pub(super) fn touch_the_guard_of_another(scene: &Scene<'_>) {
    let (geometry, own) = (geometry(scene), stack(scene).slot);
    let far = |slot: &SlotIndex| slot.get().abs_diff(own) > 1;
    let live = |slot: &SlotIndex| scene.machine().area().stack_at(geometry.bottom(*slot)).is_some();
    let other = (0..geometry.slots()).filter_map(|i| geometry.slot(i)).filter(far).find(live);
    touch(other.map_or(VirtAddr::new(0), |slot| geometry.bottom(slot).wrapping_sub(8)));
}

pub(super) fn pop_from_empty(scene: &Scene<'_>) {
    // SAFETY: the top of this task's stack.
    black_box(unsafe { damage::pop_at(stack(scene).top) });
}

/// Calls bytes that lie on the stack.
pub(super) fn execute_stack(_: &Scene<'_>) {
    let code = black_box(damage::RETURN);
    // SAFETY: the bytes are a function that returns at once. Where stacks are not executable the call faults, and the task is
    // killed.
    let function = unsafe { core::mem::transmute::<*const u8, extern "C" fn()>(code.as_ptr()) };
    function();
    black_box(&code);
}

/// The stack pointer of step `scene.turn()` of the sweep.
fn sweep_at(scene: &Scene<'_>) -> VirtAddr {
    stack(scene).bottom.wrapping_add(scene.turn() % SWEEP_STEPS * SWEEP_STEP)
}

/// One step of the sweep: a call first, an interrupt when all calls were made.
pub(super) fn sweep(scene: &Scene<'_>) {
    let at = sweep_at(scene);
    if scene.turn() < SWEEP_STEPS {
        // SAFETY: the lowest page of this task's stack, which it does not use.
        return unsafe { damage::call_at(at) };
    }
    let before = INTERRUPTS.load(Ordering::Relaxed);
    // SAFETY: asks who we are.
    let (process, thread) = (unsafe { libc::getpid() }, unsafe { libc::gettid() });
    // SAFETY: the same page; the handler runs on the alternate stack (`stage::Interrupts`).
    let sent = unsafe { damage::signal_at(at, process, thread, INTERRUPT) };
    let served = INTERRUPTS.load(Ordering::Relaxed) - before;
    assert_eq!((sent, served), (0, 1), "the signal is delivered before the next instruction");
}
