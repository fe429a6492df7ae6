//! A driver that asks for a stack: its own task's, another's, and what begins in one and does not end there.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::{Direction, DmaRequest, VirtAddr};

use super::super::script::Victim;
use super::super::stack::own_stack;
use super::bytes::{DEVICES, OURS, Pattern, Stretch, in_device, load_device};
use super::{engine, facts};
use crate::dma::DOOR;
use crate::fact;
use crate::task::sched;

/// How long the buffers of these drivers are: odd, as many headers are.
const BYTES: usize = 517;

/// A buffer in the frame of the function that has it, as drivers have their headers.
type OnStack = MaybeUninit<[u8; BYTES]>;

/// Where the buffer is.
fn stretch(buffer: &mut OnStack) -> Stretch {
    let at = VirtAddr::of(black_box(buffer.as_mut_ptr()));
    Stretch::new(at, BYTES)
}

/// Says whose stack is asked for, as its task knows it.
fn say_stack((low, high): (VirtAddr, VirtAddr), owner: usize, at: VirtAddr) {
    fact!("dma.stack", "{:#x} {:#x} {owner} {:#x} {BYTES}", low.get(), high.get(), at.get());
}

/// A task asks for a buffer of its own frame.
pub(super) fn from_own_stack() {
    super::super::script::kernel_victim(|| {
        let mut buffer = OnStack::uninit();
        let stretch = stretch(&mut buffer);
        say_stack(own_stack(), sched::current().id(), stretch.at);
        exchange(stretch);
        black_box(&mut buffer);
    });
}

/// The buffer of the task that waits: where it is, zero once it may go.
static PLACE: AtomicUsize = AtomicUsize::new(0);
/// Whether it waits.
static STAYS: AtomicUsize = AtomicUsize::new(0);

/// A task asks for a buffer in the frame of another one, which waits for that.
pub(super) fn from_other_stack() {
    PLACE.store(0, Ordering::Relaxed);
    STAYS.store(1, Ordering::Relaxed);
    let Some(owner) = Victim::start(wait_with_buffer) else { return };
    while PLACE.load(Ordering::Acquire) == 0 && owner.is_alive() {
        sched::yield_now();
    }
    let place = VirtAddr::new(PLACE.load(Ordering::Acquire));
    say_stack(owner.stack(), owner.id(), place);
    super::super::script::kernel_victim(|| exchange(Stretch::new(VirtAddr::new(PLACE.load(Ordering::Acquire)), BYTES)));
    STAYS.store(0, Ordering::Release);
    owner.wait();
}

fn wait_with_buffer() {
    let mut buffer = OnStack::uninit();
    PLACE.store(stretch(&mut buffer).at.get(), Ordering::Release);
    while STAYS.load(Ordering::Acquire) != 0 {
        sched::sleep_until(sched::ticks() + 1);
    }
    black_box(&mut buffer);
}

/// Has the device read `stretch`, and then write it, and says what came of each.
fn exchange(stretch: Stretch) {
    stretch.fill(OURS);
    if ask("read", stretch, Direction::ToDevice) {
        let [right] = in_device(stretch.bytes, [OURS]);
        fact!("dma.bytes", "read {} {right}", stretch.bytes);
    }
    load_device(DEVICES, stretch.bytes);
    let expected = if ask("write", stretch, Direction::FromDevice) { DEVICES } else { OURS };
    say_bytes("write", stretch, expected);
}

/// Says how many bytes are as they must be: what the device wrote, or what was there if it did not.
fn say_bytes(what: &str, stretch: Stretch, expected: Pattern) {
    fact!("dma.bytes", "{what} {} {}", stretch.bytes, stretch.like(expected));
}

/// Asks for `stretch`, and waits for the device. False if it was refused.
fn ask(what: &str, stretch: Stretch, direction: Direction) -> bool {
    match engine::submit(&DmaRequest::new(stretch.at, stretch.bytes, direction)) {
        Ok(passed) => {
            facts::passed(what, &passed);
            fact!("dma.end", "{what} {}", engine::wait(passed.ticket).word());
            true
        }
        Err(error) => {
            facts::refused(what, &error);
            false
        }
    }
}

/// A task asks for what begins in its stack and ends above, begins below and ends in it, or has all of it and more; alone, and behind a good
/// entry of a list.
pub(super) fn across_the_ends() {
    super::super::script::kernel_victim(|| {
        let (low, high) = own_stack();
        say_stack((low, high), sched::current().id(), high.wrapping_sub(OUT));
        let rows = [
            ("top", high.wrapping_sub(OUT), BYTES),
            ("last", high.wrapping_sub(1), 2),
            ("bottom", low.wrapping_sub(OUT), BYTES),
            ("all", low.wrapping_sub(1), low.distance(high) + 2),
        ];
        for (name, at, bytes) in rows {
            ask(name, Stretch::new(at, bytes), Direction::FromDevice);
        }
        ask_list(low, high);
    });
}

/// How many bytes lie outside, or inside.
const OUT: usize = 200;

/// A list whose first entry is good, and whose second is not.
fn ask_list(low: VirtAddr, high: VirtAddr) {
    let entry = |at| DmaRequest::new(at, BYTES, Direction::FromDevice);
    // SAFETY: the lowest page is this task's, which does not use it.
    let passed = unsafe { DOOR.pass_list::<4>(&[entry(low), entry(high.wrapping_sub(OUT))]) };
    match passed {
        Err(error) => facts::refused("list", &error),
        Ok(list) => {
            fact!("dma.end", "list passed");
            // SAFETY: no device knows of it.
            unsafe { list.cancel() };
        }
    }
}
