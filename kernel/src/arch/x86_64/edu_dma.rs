//! The DMA engine of QEMU's educational device (QEMU's docs/specs/edu.txt): it copies between memory and a buffer of its own.
//!
//! | register | what |
//! | --- | --- |
//! | 0x80 | where from: a bus address, or a place in its buffer |
//! | 0x88 | where to: likewise |
//! | 0x90 | how many bytes |
//! | 0x98 | 1: begin; with 2: from its buffer to memory. The first bit reads as one until it is done |
//!
//! It touches memory about 100 ms after it was told to begin: so there is time for a task to die in between. An address is cut to the
//! device's mask, [`REACH`], and what is beyond lands elsewhere without a word: that is how such devices are.
//!
//! Contexts: any; used by one CPU at a time.

use vmstack::PhysAddr;

use super::edu::register;

/// The highest address that the device can reach: QEMU's default, 28 bits.
pub(crate) const REACH: u64 = (1 << 28) - 1;
/// How many bytes its driver has it copy at once.
pub(crate) const MOST: usize = 1024;
/// How many places of its buffer are used: it has 4,096, and QEMU lets nobody use the last one.
pub(crate) const PLACES: usize = 3 * MOST;
/// Where its buffer begins, as it sees it.
const BUFFER: u64 = 0x4_0000;

const SOURCE: usize = 0x80;
const TARGET: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;

fn write(offset: usize, value: u64) {
    if let Some(place) = register::<u64>(offset) {
        // SAFETY: a register of the device, which takes 64 bits, mapped for ever. What it does to memory is the promise of `start`.
        unsafe { place.write_volatile(value) };
    }
}

/// Begins to copy `bytes` bytes, [`MOST`] at most, between the memory at `bus` and the device's buffer, from `place` on: to memory, if
/// it `writes`.
///
/// # Safety
///
/// Until it [is no longer running](is_running), the memory at `bus`, cut to the device's reach, is the device's to read, or to write.
pub(crate) unsafe fn start(bus: PhysAddr, place: usize, bytes: usize, writes: bool) {
    let place = BUFFER + (place % PLACES) as u64;
    let (source, target) = if writes { (place, bus.get()) } else { (bus.get(), place) };
    write(SOURCE, source);
    write(TARGET, target);
    write(COUNT, bytes.min(MOST) as u64);
    write(COMMAND, RUN | if writes { TO_MEMORY } else { 0 });
}

/// Whether it still copies, or is about to.
pub(crate) fn is_running() -> bool {
    // SAFETY: a register of the device, mapped for ever; reading it changes nothing.
    register::<u64>(COMMAND).is_some_and(|place| unsafe { place.read_volatile() } & RUN != 0)
}

/// Whether there is such a device.
pub(crate) fn is_there() -> bool {
    register::<u64>(COMMAND).is_some()
}
