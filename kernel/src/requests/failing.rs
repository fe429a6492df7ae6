//! A disk that fails: it says so, or never answers. And requests that no disk could do.
//!
//! The emulator makes the disk fail: reads of [`BAD_READ`] and writes of [`BAD_WRITE`] come back with an error, or requests wait for so long that the time
//! limit is over. Each must have its own error, everything must work again afterwards, and nothing may be left behind.

use alloc::vec;

use vmstack::{Direction, DmaRequest, VirtAddr};

use crate::disk::{self, DiskError, SECTOR};
use crate::dma::{DOOR, DmaBuffer};
use crate::fact;
use crate::task::sched::{self, TICKS_PER_SECOND};

/// The sectors that cannot be read, and written.
const BAD_READ: u64 = 8;
const BAD_WRITE: u64 = 16;
/// How often it is tried to reach a disk that does not answer.
const TRIES: usize = 10;
/// How long a request may take, while the disk does not answer.
const LIMIT: u64 = TICKS_PER_SECOND / 4;

/// Asks for what cannot be, and for sectors that fail.
pub(super) fn failing() {
    let Some(mut buffer) = DmaBuffer::new(8 * SECTOR) else { return };
    let capacity = disk::state().capacity;
    tell("empty", disk::read(0, &mut buffer, 0..0));
    tell("no_sectors", disk::read(0, &mut buffer, 0..100));
    tell("too_long", disk::read(0, &mut buffer, 0..9 * SECTOR));
    tell("behind_the_end", disk::read(capacity - 1, &mut buffer, 0..2 * SECTOR));
    tell("far_behind", disk::write(u64::MAX, &buffer, 0..SECTOR));
    tell("too_many_pieces", pieces());
    tell("bad_read", disk::read(BAD_READ, &mut buffer, 0..SECTOR));
    tell("good_read", disk::read(0, &mut buffer, 0..SECTOR));
    tell("bad_write", disk::write(BAD_WRITE, &buffer, 0..SECTOR));
    tell("good_write", disk::write(0, &buffer, 0..SECTOR));
    left();
}

/// A list of more entries than a request can have.
fn pieces() -> Result<(), DiskError> {
    let mut memory = vec![0_u8; SECTOR];
    let start = VirtAddr::of(memory.as_mut_ptr());
    let each = |i: usize| DmaRequest::new(start.wrapping_add(i * 32), 32, Direction::Both);
    let list = core::array::from_fn::<_, { SECTOR / 32 }, _>(each);
    // SAFETY: the memory is this task's, and nobody else looks at it.
    unsafe { disk::read_raw(0, &list) }
}

/// Asks a disk that answers once in a while.
pub(super) fn silent() {
    let Some(mut buffer) = DmaBuffer::new(SECTOR) else { return };
    disk::set_limit(LIMIT);
    tell("first", sooner_or_later(&mut buffer));
    tell("second", disk::read(1, &mut buffer, 0..SECTOR));
    tell("third", on_stack());
    tell("later", sooner_or_later(&mut buffer));
    left();
}

/// A request that is made again, once in a while, until it is answered.
fn sooner_or_later(buffer: &mut DmaBuffer) -> Result<(), DiskError> {
    let mut tries = 0;
    loop {
        match disk::read(0, buffer, 0..SECTOR) {
            Err(DiskError::TimedOut) if tries < TRIES => sched::sleep_until(sched::ticks() + TICKS_PER_SECOND),
            came => return came,
        }
        tries += 1;
    }
}

/// A request for memory on this stack.
#[inline(never)]
fn on_stack() -> Result<(), DiskError> {
    let mut memory = [0_u8; SECTOR];
    let list = [DmaRequest::new(VirtAddr::of(memory.as_mut_ptr()), SECTOR, Direction::FromDevice)];
    // SAFETY: the bytes are on this stack until the request has ended.
    unsafe { disk::read_raw(2, &list) }
}

fn tell(what: &str, came: Result<(), DiskError>) {
    match came {
        Ok(()) => fact!(format_args!("failing.{what}"), "ok"),
        Err(error) => fact!(format_args!("failing.{what}"), "{} {error}", error.word()),
    }
}

fn left() {
    let (state, pool, counters) = (disk::state(), DOOR.pool_usage(), DOOR.counters());
    fact!("failing.disk", "{} {} {} {}", state.descriptors.0, state.descriptors.1, state.flights, state.resets);
    fact!("failing.left", "{} {}", pool.in_use, counters.lost);
}
