//! What the door costs that memory for devices passes, in instructions: the suite `dma`.
//!
//! - The check, for addresses that are no stack's.
//! - A request of one sector to the disk: with a buffer that owns its frames, and with one on the caller's stack, bounced and mapped. What is counted
//!   is what the CPU does: sending, and ending when the device is done. The wait in between is the device's.
//!
//! Runs in a boot of its own, as [`count`](super::count) does, with a disk.

use alloc::boxed::Box;
use core::hint::black_box;

use vmstack::{Direction, DmaPolicy, DmaRequest, VirtAddr};

use super::{calibrate, median};
use crate::dma::{DOOR, DmaBuffer};
use crate::{disk, fact};

/// Checks that are counted together.
const CHECKS: u64 = 1000;
/// Requests of which the median is taken.
const REQUESTS: usize = 101;

static STATIC: [u8; 64] = [1; 64];

/// Counts everything.
#[inline(never)]
pub(crate) fn count() {
    calibrate(median(|| ()));
    checks();
    if !disk::is_there() {
        return;
    }
    requests();
}

/// The check alone.
fn checks() {
    let heap = Box::new([0_u8; 64]);
    let buffer = DmaBuffer::new(64);
    let direct = buffer.as_ref().map_or(VirtAddr::new(0), |buffer| VirtAddr::of(buffer.as_ptr()));
    let places =
        [("direct", direct), ("heap", VirtAddr::of(heap.as_ptr())), ("static", VirtAddr::of(&raw const STATIC))];
    for (name, addr) in places {
        let suspected = DOOR.suspects(addr, 64);
        fact!(format_args!("dma.check.{name}"), "{} {}", check(addr), u8::from(suspected));
    }
}

/// What one check of the 64 bytes at `addr` takes: of many, less what as many calls take that check nothing.
fn check(addr: VirtAddr) -> u64 {
    let calls = |check: fn(VirtAddr, usize) -> bool| {
        median(|| (0..CHECKS).for_each(|_| _ = black_box(black_box(check)(addr, 64))))
    };
    calls(checked).saturating_sub(calls(unchecked)).div_ceil(CHECKS)
}

#[inline(never)]
fn checked(addr: VirtAddr, bytes: usize) -> bool {
    DOOR.suspects(addr, bytes)
}

#[inline(never)]
fn unchecked(_: VirtAddr, _: usize) -> bool {
    false
}

/// Requests of one sector.
fn requests() {
    let Some(mut buffer) = DmaBuffer::new(disk::SECTOR) else { return };
    let mut stack = [0_u8; disk::SECTOR];
    let list = [DmaRequest::new(VirtAddr::of(stack.as_mut_ptr()), disk::SECTOR, Direction::Both)];
    let before = DOOR.policy();
    for (name, policy) in [("bounced", DmaPolicy::Bounce), ("mapped", DmaPolicy::Map)] {
        DOOR.set_policy(policy);
        let owned = counted(&mut || disk::count_owned(&mut buffer));
        // SAFETY: the bytes are on this stack, and nobody else looks at them until the request has ended.
        let on_stack = counted(&mut || unsafe { disk::count_raw(&list) });
        fact!(format_args!("dma.request.{name}"), "{owned} {on_stack}");
    }
    DOOR.set_policy(before);
}

/// The median of what `request` says that it took; zero if one of them failed.
fn counted(request: &mut dyn FnMut() -> Option<u64>) -> u64 {
    let empty = median(|| ());
    let mut samples = [0_u64; REQUESTS];
    for sample in &mut samples {
        let Some(taken) = request() else { return 0 };
        // Sending and ending are read apart.
        *sample = taken.saturating_sub(2 * empty);
    }
    samples.sort_unstable();
    samples[REQUESTS / 2]
}
