//! Calls about time. The clock is the timer's tick.

use super::{Errno, user};
use crate::task::sched::{self, TICKS_PER_SECOND};

const NANOSECONDS: u64 = 1_000_000_000;
const PER_TICK: u64 = NANOSECONDS / TICKS_PER_SECOND;

pub(super) fn sched_yield() -> Result<usize, Errno> {
    sched::yield_now();
    Ok(0)
}

pub(super) fn clock_gettime(_clock: usize, buffer: usize) -> Result<usize, Errno> {
    let now = sched::ticks() * PER_TICK;
    let mut time = [0; 16];
    time[..8].copy_from_slice(&(now / NANOSECONDS).to_le_bytes());
    time[8..].copy_from_slice(&(now % NANOSECONDS).to_le_bytes());
    user::write(buffer, &time)?;
    Ok(0)
}

pub(super) fn nanosleep(request: usize, absolute: bool) -> Result<usize, Errno> {
    let (seconds, nanoseconds) = (user::word(request)? as u64, user::word(request + 8)? as u64);
    if nanoseconds >= NANOSECONDS {
        return Err(Errno::INVAL);
    }
    let ticks = seconds.saturating_mul(TICKS_PER_SECOND).saturating_add(nanoseconds.div_ceil(PER_TICK));
    let until = if absolute { ticks } else { sched::ticks().saturating_add(ticks) };
    while sched::ticks() < until {
        sched::sleep_until(until);
    }
    Ok(0)
}
