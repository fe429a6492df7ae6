//! The time-stamp counter: in a guest that counts instructions, one tick is one instruction.
//!
//! Two readings lie a few instructions apart even with nothing between; that is measured and taken away. A loop of known length is
//! counted too, so that whoever reads the figures can refuse them where a tick is something else.

use core::arch::asm;
use core::arch::x86_64::{_mm_lfence, _rdtsc};

/// Instructions of the loop: a tick of the system's clock seldom falls into so few.
const LOOP: u64 = 200_000;
/// How often each is tried; the smallest counts.
const TRIES: usize = 9;

/// The counter, and what reading it costs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Ticks between two readings with nothing between them.
    pub reading: u64,
}

impl Clock {
    /// Measures what a reading costs.
    #[must_use]
    pub fn calibrated() -> Self {
        Self { reading: least(|| now().abs_diff(now())) }
    }

    /// The ticks since `start`, without those of the reading.
    #[must_use]
    pub fn since(self, start: u64) -> u64 {
        now().saturating_sub(start).saturating_sub(self.reading)
    }

    /// The instructions of a loop, and the ticks that it took.
    #[must_use]
    pub fn loop_of_known_length(self) -> (u64, u64) {
        let ticks = least(|| {
            let start = now();
            // SAFETY: two instructions a round, of which one register is all that changes.
            unsafe {
                asm!("2:", "dec {rounds}", "jnz 2b", rounds = inout(reg) LOOP / 2 => _, options(nomem, nostack));
            }
            self.since(start)
        });
        (LOOP, ticks)
    }
}

/// The counter. Nothing before it is still under way when it is read.
#[must_use]
pub fn now() -> u64 {
    // SAFETY: an x86-64 has both instructions, and neither touches memory.
    unsafe { _mm_lfence() };
    // SAFETY: as above; a kernel that forbids the second kills the program, and nothing worse.
    unsafe { _rdtsc() }
}

fn least(measure: impl FnMut() -> u64) -> u64 {
    core::iter::repeat_with(measure).take(TRIES).min().unwrap_or_default()
}
