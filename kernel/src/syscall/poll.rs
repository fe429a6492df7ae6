//! Calls that wait for several files at once.

use alloc::vec::Vec;

use super::{Errno, file, signal, time, user};
use crate::arch::clock;
use crate::fs::MAX_FILES;
use crate::fs::ready::{self, Ready, TICK};
use crate::mm::heap;

const NANOSECONDS: u64 = clock::SECOND;

/// What is asked of one file, and what was found.
#[derive(Clone, Copy, Debug)]
struct Asked {
    descriptor: i32,
    wanted: u16,
    found: u16,
}

/// What the file at `descriptor` is ready for, of what is `wanted`; and whether it has to be looked at from time to time.
fn look(descriptor: usize, wanted: u16) -> (Ready, bool) {
    match file::file(descriptor) {
        Ok(file) => (file.ready().asked(wanted), file.is_silent()),
        Err(_) => (Ready::INVALID, false),
    }
}

/// Waits until `look` finds something, which it says with whether one of the files is silent: then at every tick again.
pub(super) fn wait(until: Option<u64>, mut look: impl FnMut() -> (usize, bool)) -> Result<usize, Errno> {
    loop {
        let mut silent = false;
        let next = clock::now() + TICK;
        let (found, is_silent) = look();
        if found != 0 || until.is_some_and(|until| clock::now() >= until) {
            return Ok(found);
        }
        // Only for as long as a silent file may be left alone.
        let soon = if is_silent { Some(until.map_or(next, |until| until.min(next))) } else { until };
        let found = ready::wait_for_any(soon, || {
            let (found, is_silent) = look();
            silent |= is_silent;
            (found != 0).then_some(found)
        });
        let found = found.inspect_err(|_| time::note_restart(until.unwrap_or(u64::MAX)))?;
        match found {
            Some(found) => return Ok(found),
            None if silent => {}
            None => return Ok(0),
        }
    }
}

/// Until when a call waits that may wait for the `struct timespec` at `addr`; for ever if there is none.
fn deadline(addr: usize) -> Result<Option<u64>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    time::read(addr).map(|nanoseconds| Some(time::deadline(nanoseconds)))
}

pub(super) fn poll(entries: usize, count: usize, milliseconds: usize) -> Result<usize, Errno> {
    let milliseconds = milliseconds as i32;
    let until = u64::try_from(milliseconds).ok().map(|ms| time::deadline(ms * (NANOSECONDS / 1000)));
    poll_until(entries, count, until)
}

pub(super) fn ppoll(entries: usize, count: usize, time: usize, mask: usize, size: usize) -> Result<usize, Errno> {
    let until = deadline(time)?;
    signal::with_mask(mask, size, || poll_until(entries, count, until))
}

fn poll_until(entries: usize, count: usize, until: Option<u64>) -> Result<usize, Errno> {
    if count > MAX_FILES {
        return Err(Errno::INVAL);
    }
    let mut asked = Vec::new();
    heap::reserve(&mut asked, count)?;
    for index in 0..count {
        let word = user::word(entries.checked_add(index * 8).ok_or(Errno::FAULT)?)?;
        asked.push(Asked { descriptor: word as i32, wanted: (word >> 32) as u16, found: 0 });
    }
    let ready = wait(until, || look_at_all(&mut asked))?;
    for (index, asked) in asked.iter().enumerate() {
        user::write(entries + index * 8 + 6, &asked.found.to_le_bytes())?;
    }
    Ok(ready)
}

fn look_at_all(asked: &mut [Asked]) -> (usize, bool) {
    let mut silent = false;
    let ready = asked.iter_mut().filter(|asked| asked.descriptor >= 0).filter_map(|asked| {
        let (ready, is_silent) = look(asked.descriptor as usize, asked.wanted);
        silent |= is_silent;
        asked.found = ready.0;
        ready.is_something().then_some(())
    });
    (ready.count(), silent)
}

/// A set of descriptors, a bit each.
type Set = [u8; MAX_FILES / 8];

/// The sets of a `select`: to read, to write, and what is exceptional, which nothing here ever is.
struct Sets {
    wanted: [Set; 3],
    found: [Set; 3],
    count: usize,
}

impl Sets {
    /// Reads the sets at `addrs`, of which the first `count` descriptors matter.
    fn read(addrs: [usize; 3], count: usize) -> Result<Self, Errno> {
        let mut sets = Self { wanted: [[0; MAX_FILES / 8]; 3], found: [[0; MAX_FILES / 8]; 3], count };
        for (set, addr) in sets.wanted.iter_mut().zip(addrs).filter(|&(_, addr)| addr != 0) {
            user::read(addr, &mut set[..count.div_ceil(64) * 8])?;
        }
        Ok(sets)
    }

    fn write(&self, addrs: [usize; 3]) -> Result<(), Errno> {
        let used = self.count.div_ceil(64) * 8;
        self.found
            .iter()
            .zip(addrs)
            .filter(|&(_, addr)| addr != 0)
            .try_for_each(|(set, addr)| user::write(addr, &set[..used]))
    }

    /// What the set number `set` means in `poll`'s words.
    const fn meaning(set: usize) -> Ready {
        match set {
            0 => Ready::READ.and(Ready::HANG_UP).and(Ready::ERROR),
            1 => Ready::WRITE.and(Ready::ERROR),
            _ => Ready(2),
        }
    }

    /// Looks at all of them. A descriptor that is not open is found at once, as [`Ready::INVALID`] in `bad`.
    fn look(&mut self, bad: &mut bool) -> (usize, bool) {
        let (mut found, mut silent) = (0, false);
        self.found = [[0; MAX_FILES / 8]; 3];
        for descriptor in 0..self.count {
            let (byte, bit) = (descriptor / 8, 1 << (descriptor % 8));
            if self.wanted.iter().all(|set| set[byte] & bit == 0) {
                continue;
            }
            let (ready, is_silent) = look(descriptor, u16::MAX);
            silent |= is_silent;
            *bad |= ready == Ready::INVALID;
            for set in 0..3 {
                if self.wanted[set][byte] & bit != 0 && ready.0 & Self::meaning(set).0 != 0 {
                    self.found[set][byte] |= bit;
                    found += 1;
                }
            }
        }
        (if *bad { 1 } else { found }, silent)
    }
}

fn select_until(count: usize, addrs: [usize; 3], until: Option<u64>) -> Result<usize, Errno> {
    if (count as i32) < 0 {
        return Err(Errno::INVAL);
    }
    let mut sets = Sets::read(addrs, count.min(MAX_FILES))?;
    let mut bad = false;
    let found = wait(until, || sets.look(&mut bad))?;
    if bad {
        return Err(Errno::BADF);
    }
    sets.write(addrs)?;
    Ok(found)
}

pub(super) fn select([count, read, write, other, time, _]: [usize; 6]) -> Result<usize, Errno> {
    let until = if time == 0 {
        None
    } else {
        let (seconds, microseconds) = (user::word(time)? as u64, user::word(time + 8)? as u64);
        if seconds.cast_signed() < 0 || microseconds.cast_signed() < 0 {
            return Err(Errno::INVAL);
        }
        let wait = seconds.saturating_mul(NANOSECONDS).saturating_add(microseconds.saturating_mul(1000));
        Some(time::deadline(wait))
    };
    select_until(count, [read, write, other], until)
}

/// The last argument leads to two words: a mask, and its size.
pub(super) fn pselect([count, read, write, other, time, mask]: [usize; 6]) -> Result<usize, Errno> {
    let [mask, size] = if mask == 0 { [0; 2] } else { user::words::<2>(mask)? };
    let until = deadline(time)?;
    signal::with_mask(mask, size, || select_until(count, [read, write, other], until))
}
