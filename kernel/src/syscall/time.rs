//! Calls about time. Nobody sets a clock, so that all but the date are one: nanoseconds since the machine was started.

use super::{Errno, user};
use crate::arch::clock::{self, SECOND};
use crate::task::sched::{self, TICKS_PER_SECOND};
use crate::task::{Wait, Woken};

/// The size of a time as programs write it, in bytes: seconds, and a fraction.
pub(super) const BYTES: usize = 16;

/// What the fraction is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// `struct timespec`.
    Nanoseconds,
    /// `struct timeval`.
    Microseconds,
}

impl Form {
    /// Nanoseconds in a unit.
    const fn unit(self) -> u64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1000,
        }
    }
}

/// A time at `addr`, in nanoseconds; one that is too far away for that is as far as can be.
///
/// # Errors
///
/// `EFAULT`, and `EINVAL` for one that is negative or has too large a fraction.
pub(super) fn read_as(addr: usize, form: Form) -> Result<u64, Errno> {
    let [seconds, fraction] = user::words::<2>(addr)?;
    let seconds = u64::try_from(seconds as i64).map_err(|_| Errno::INVAL)?;
    let nanoseconds = (fraction as u64).checked_mul(form.unit()).filter(|&fraction| fraction < SECOND);
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds.ok_or(Errno::INVAL)?))
}

/// A `struct timespec` at `addr`, in nanoseconds.
pub(super) fn read(addr: usize) -> Result<u64, Errno> {
    read_as(addr, Form::Nanoseconds)
}

/// Writes a time to `addr`.
pub(super) fn write(addr: usize, nanoseconds: u64, form: Form) -> Result<(), Errno> {
    user::write_words(addr, [(nanoseconds / SECOND) as usize, (nanoseconds % SECOND / form.unit()) as usize])
}

/// Until when a call is to wait that is made again after it was interrupted.
pub(super) fn resumed() -> Option<u64> {
    sched::current().thread().and_then(|thread| thread.signals().restart().time())
}

/// Until when the current call, which is to wait for `nanoseconds`, does so; also if it is made again.
pub(super) fn deadline(nanoseconds: u64) -> u64 {
    resumed().unwrap_or_else(|| clock::now().saturating_add(nanoseconds))
}

/// Notes until when the current call waits, in case it is made again.
pub(super) fn note_restart(until: u64) {
    if let Some(thread) = sched::current().thread() {
        thread.signals().restart().note_time(until);
    }
}

pub(super) fn sched_yield() -> Result<usize, Errno> {
    sched::yield_now();
    Ok(0)
}

/// What a clock shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clock {
    /// The date.
    Date,
    /// Since the machine was started.
    Uptime,
    /// What the process had of the CPUs, or the thread.
    Process,
    Thread,
}

impl Clock {
    /// The clock with Linux's number `id`.
    pub(super) const fn new(id: usize) -> Result<Self, Errno> {
        match id {
            // REALTIME, its coarse sister, its alarm, and TAI, whose offset nobody has set.
            0 | 5 | 8 | 11 => Ok(Self::Date),
            // MONOTONIC, RAW, coarse, BOOTTIME and its alarm.
            1 | 4 | 6 | 7 | 9 => Ok(Self::Uptime),
            2 => Ok(Self::Process),
            3 => Ok(Self::Thread),
            _ => Err(Errno::INVAL),
        }
    }

    fn now(self) -> Result<u64, Errno> {
        let task = sched::current();
        let thread = task.thread().ok_or(Errno::SRCH)?;
        Ok(match self {
            Self::Date => clock::date_at_start() + clock::now(),
            Self::Uptime => clock::now(),
            Self::Process => thread.process().cpu_time(&task),
            Self::Thread => task.cpu_time(),
        })
    }

    /// What the kernel's clock shows when this one shows `nanoseconds`.
    pub(super) fn to_kernel(self, nanoseconds: u64) -> Result<u64, Errno> {
        match self {
            Self::Date => Ok(nanoseconds.saturating_sub(clock::date_at_start())),
            Self::Uptime => Ok(nanoseconds),
            Self::Process | Self::Thread => Err(Errno::INVAL),
        }
    }
}

pub(super) fn clock_gettime(id: usize, buffer: usize) -> Result<usize, Errno> {
    write(buffer, Clock::new(id)?.now()?, Form::Nanoseconds).map(|()| 0)
}

pub(super) fn clock_getres(id: usize, buffer: usize) -> Result<usize, Errno> {
    Clock::new(id)?;
    if buffer != 0 {
        // Linux's coarse clocks go on with its tick; these do not, but whoever asks for them knows no better.
        let coarse = matches!(id, 5 | 6);
        write(buffer, if coarse { SECOND / TICKS_PER_SECOND } else { 1 }, Form::Nanoseconds)?;
    }
    Ok(0)
}

pub(super) fn gettimeofday(buffer: usize, zone: usize) -> Result<usize, Errno> {
    if buffer != 0 {
        write(buffer, Clock::Date.now()?, Form::Microseconds)?;
    }
    if zone != 0 {
        // Greenwich.
        user::write(zone, &[0; 8])?;
    }
    Ok(0)
}

pub(super) fn time(buffer: usize) -> Result<usize, Errno> {
    let seconds = (Clock::Date.now()? / SECOND) as usize;
    if buffer != 0 {
        user::write(buffer, &seconds.to_le_bytes())?;
    }
    Ok(seconds)
}

pub(super) fn nanosleep(request: usize, rest: usize) -> Result<usize, Errno> {
    let until = deadline(read(request)?);
    sleep(until, Some(rest).filter(|&rest| rest != 0), Errno::RESTART_TIMED)
}

pub(super) fn clock_nanosleep(id: usize, flags: usize, request: usize, rest: usize) -> Result<usize, Errno> {
    const ABSOLUTE: usize = 1;
    let (clock, time) = (Clock::new(id)?, read(request)?);
    // Nobody's time but real time can be slept for.
    clock.to_kernel(0)?;
    if flags & ABSOLUTE != 0 {
        return sleep(clock.to_kernel(time)?, None, Errno::RESTART_NO_HANDLER);
    }
    sleep(deadline(time), Some(rest).filter(|&rest| rest != 0), Errno::RESTART_TIMED)
}

/// Sleeps until the clock shows `until`. If that is `interrupted`, what is left is written to `rest`.
fn sleep(until: u64, rest: Option<usize>, interrupted: Errno) -> Result<usize, Errno> {
    while clock::now() < until {
        if sched::sleep_for(&Wait { until: Some(until), interruptible: true, word: 0 }) == Woken::Interrupted {
            note_restart(until);
            if let Some(rest) = rest {
                write(rest, until.saturating_sub(clock::now()), Form::Nanoseconds)?;
            }
            return Err(interrupted);
        }
    }
    Ok(0)
}

/// Makes the call again that was interrupted: it goes on waiting until the time that was noted.
pub(super) fn interrupted_call() -> Result<usize, Errno> {
    let task = sched::current();
    task.thread().and_then(|thread| thread.signals().restart().resume()).ok_or(Errno::INTR)
}

/// That call has ended.
pub(super) fn end_interrupted_call() {
    if let Some(thread) = sched::current().thread() {
        thread.signals().restart().end();
    }
}
