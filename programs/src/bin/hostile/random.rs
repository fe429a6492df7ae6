//! Calls at random, the same for the same seed; and threads that change the memory under them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vmstack_programs::raw::{self, Stack};

use crate::call::{self, Call};
use crate::words::{GOOD, PAGE, READ_ONLY, ROOM, ROOM_BYTES, SPARE_PIPE, WILD};

/// Numbers that a kernel of Linux's kind has, and a few beyond.
const NUMBERS: u64 = 470;
/// Lengths, flags and other numbers that calls know.
const KNOWN: [usize; 22] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    24,
    64,
    128,
    255,
    4095,
    4096,
    8192,
    65536,
    1 << 20,
    1 << 30,
    1 << 31,
    1 << 32,
    1 << 40,
    1 << 47,
];

/// One step of `splitmix64`.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A word that a call may make something of.
fn word(state: &mut u64) -> usize {
    let (kind, word) = (next(state) % 16, next(state) as usize);
    match kind {
        0..=4 => GOOD + (word % 256) * 8,
        5 => ROOM + word % ROOM_BYTES,
        6 => READ_ONLY,
        7 => WILD[word % WILD.len()].1,
        8..=9 => word % 8,
        10..=12 => KNOWN[word % KNOWN.len()],
        13 => 1 << (word % 64),
        14 => word & 0xffff_ffff & (word >> 32),
        _ => (-100_isize).cast_unsigned(),
    }
}

/// Call `index` of those of `seed`. What the good memory says is changed for it too.
pub(crate) fn call(seed: u64, index: usize) -> Call {
    let mut state = seed.wrapping_mul(0x1_0000_0001).wrapping_add(index as u64);
    let content: [usize; 16] =
        core::array::from_fn(|_| if next(&mut state).is_multiple_of(2) { 0 } else { word(&mut state) });
    // By the kernel, through a pipe: the memory may have gone.
    call::make(libc::SYS_write, [SPARE_PIPE[1], content.as_ptr().expose_provenance(), size_of_val(&content)]);
    call::make(libc::SYS_read, [SPARE_PIPE[0], GOOD, size_of_val(&content)]);
    let number = (next(&mut state) % NUMBERS) as usize;
    Call { number, words: core::array::from_fn(|_| word(&mut state)) }.made_harmless()
}

/// Starts two threads that change the room until the process ends.
pub(crate) fn disturb() {
    for seed in [1, 2] {
        // SAFETY: the thread makes system calls and nothing else.
        let _started = unsafe {
            raw::clone(raw::OF_THREAD, Stack::new(), core::ptr::null_mut(), core::ptr::null_mut(), change, seed)
        };
    }
}

extern "C" fn change(seed: usize) -> i32 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut state = seed as u64 + STATE.fetch_add(2, Relaxed);
    let (at, length) = (GOOD - GOOD % PAGE, PAGE);
    let (fixed, all) = (0x32, 7_usize);
    loop {
        match next(&mut state) % 5 {
            0 => call::make(libc::SYS_munmap, [at, length]),
            1 => call::make(libc::SYS_mprotect, [at, length, (next(&mut state) & 3) as usize]),
            2 => call::make(libc::SYS_madvise, [at, length, 4]),
            _ => call::make(libc::SYS_mmap, [at, length, all & 3, fixed, usize::MAX, 0]),
        };
        // So that the calls succeed now and then.
        call::make(libc::SYS_mmap, [at, length, 3, fixed, usize::MAX, 0]);
        call::make(libc::SYS_sched_yield, []);
    }
}
