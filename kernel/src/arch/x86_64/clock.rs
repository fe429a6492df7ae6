//! The clock: nanoseconds since the machine was started, from the CPU's cycle counter.
//!
//! The counter's rate is measured once, by the boot CPU, against the interval timer ([`super::pit`]). The counters of the CPUs of an
//! emulated machine run in step. Where one does not, or where a reading overtakes another between two CPUs, the clock holds still: no
//! reading is below an earlier one, on whichever CPU. In a boot that counts instructions the counter counts them, one a nanosecond.
//!
//! The date is read once, from the battery-backed clock ([`super::rtc`]), and goes on with the counter.
//!
//! Callable in any context; zero before [`init`].

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cpu::{self, InterruptsOff};
use super::{pit, rtc};

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// How long the counter is measured for, in microseconds.
const CALIBRATION: u64 = 10_000;
/// Binary places of the factor from cycles to nanoseconds.
const SHIFT: u32 = 32;

/// The counter when the clock was started.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds a cycle, times 2 to the [`SHIFT`]; zero until measured.
static FACTOR: AtomicU64 = AtomicU64::new(0);
/// The latest reading.
static LATEST: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds from 1970 to when the clock was started.
static DATE: AtomicU64 = AtomicU64::new(0);

/// Starts the clock, and returns what the counter counts in a second; `None` if the interval timer does not count. The clock then
/// takes each cycle for a nanosecond.
pub(crate) fn init() -> Option<u64> {
    let _interrupts = InterruptsOff::new();
    let hertz = pit::calibrate(CALIBRATION, cpu::cycles).filter(|&hertz| hertz != 0);
    let factor = (u128::from(SECOND) << SHIFT) / u128::from(hertz.unwrap_or(SECOND));
    START.store(cpu::cycles(), Relaxed);
    DATE.store(rtc::seconds().saturating_mul(SECOND), Relaxed);
    FACTOR.store(factor as u64, Relaxed);
    hertz
}

/// How long `cycles` of the counter take, in nanoseconds.
#[must_use]
pub(crate) fn nanoseconds(cycles: u64) -> u64 {
    ((u128::from(cycles) * u128::from(FACTOR.load(Relaxed))) >> SHIFT) as u64
}

/// Nanoseconds since the clock was started. Never below what any CPU has read before.
#[must_use]
pub(crate) fn now() -> u64 {
    let reading = nanoseconds(cpu::cycles().saturating_sub(START.load(Relaxed)));
    LATEST.fetch_max(reading, Relaxed).max(reading)
}

/// Nanoseconds from 1970 to when the clock was started: what is added to [`now`] for the date.
#[must_use]
pub(crate) fn date_at_start() -> u64 {
    DATE.load(Relaxed)
}
