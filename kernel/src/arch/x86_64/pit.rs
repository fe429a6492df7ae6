//! The programmable interval timer's channel 2, as the clock of known rate that others are measured against.
//!
//! The channel counts down from what it is given, and its output, readable through port 0x61, goes up when it is
//! through. No interrupt is involved. One user at a time: the boot CPU, while it calibrates and starts the other CPUs.

use super::cpu::{self, in8, out8};

/// The rate of the timer, in counts a second.
const HERTZ: u64 = 1_193_182;
/// The longest wait that the channel's 16 bits allow, in microseconds, rounded down.
const LONGEST: u64 = 50_000;
/// How often the output is read before the timer is taken for dead.
const PATIENCE: u32 = 20_000_000;

const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
const GATE: u16 = 0x61;
/// Channel 2, both bytes, mode 0: the output goes up at the end of the count.
const COUNT_ONCE: u8 = 0xb0;
const GATE_OPEN: u8 = 0x01;
const SPEAKER: u8 = 0x02;
const OUTPUT: u8 = 0x20;

fn write(port: u16, value: u8) {
    // SAFETY: the registers of the timer and of its gate, which do not touch memory.
    unsafe { out8(port, value) };
}

fn read_gate() -> u8 {
    // SAFETY: reading the gate's register changes nothing.
    unsafe { in8(GATE) }
}

/// Waits for `microseconds`, by the timer. Returns false if the timer does not count.
pub(crate) fn wait(microseconds: u64) -> bool {
    let mut left = microseconds;
    while left > 0 {
        let step = left.min(LONGEST);
        if !wait_once(step) {
            return false;
        }
        left -= step;
    }
    true
}

/// One wait of at most `LONGEST` microseconds.
fn wait_once(microseconds: u64) -> bool {
    let [low, high, ..] = (microseconds * HERTZ / 1_000_000).max(1).to_le_bytes();
    write(GATE, read_gate() & !SPEAKER & !GATE_OPEN);
    write(MODE, COUNT_ONCE);
    write(CHANNEL_2, low);
    write(CHANNEL_2, high);
    write(GATE, read_gate() & !SPEAKER | GATE_OPEN);
    (0..PATIENCE).any(|_| {
        cpu::relax();
        read_gate() & OUTPUT != 0
    })
}

/// What `counter` counts in a second, measured a few times over `microseconds`; `None` if the timer does not count.
///
/// The first wait after the firmware had the channel can end early (seen on QEMU 7.2), so it is not measured. After that a
/// measure is only ever too long, when this CPU is held up in between: the shortest counts.
///
/// # Context
///
/// Interrupts off, or the measure is off.
#[must_use]
pub(crate) fn calibrate(microseconds: u64, counter: impl Fn() -> u64) -> Option<u64> {
    const MEASURES: usize = 3;
    wait(1).then_some(())?;
    let measure = || {
        let before = counter();
        wait(microseconds).then(|| counter().wrapping_sub(before))
    };
    let counted = (0..MEASURES).filter_map(|_| measure()).min()?;
    Some((u128::from(counted) * 1_000_000 / u128::from(microseconds)) as u64)
}
