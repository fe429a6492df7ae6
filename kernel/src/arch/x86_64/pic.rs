//! The two legacy interrupt controllers (8259): moved out of the exceptions' way, and masked for good.
//!
//! A masked 8259 can still deliver a spurious interrupt of its lowest priority, so its vectors must not be those of
//! exceptions even though nothing is ever routed through it.

use super::cpu::out8;

/// The vectors of the sixteen legacy lines: 0x20 to 0x2f. Only spurious interrupts arrive there.
pub(crate) const VECTOR_BASE: u8 = 0x20;

const PRIMARY: u16 = 0x20;
const SECONDARY: u16 = 0xa0;
/// Begins the initialisation sequence; four words in all.
const INIT: u8 = 0x11;
const MODE_8086: u8 = 0x01;
const ALL: u8 = 0xff;

/// Moves and masks both controllers.
pub(super) fn mask_all() {
    // (command, data, vector of the first line, how the two are wired to each other)
    for (port, vector, wiring) in [(PRIMARY, VECTOR_BASE, 1 << 2), (SECONDARY, VECTOR_BASE + 8, 2)] {
        write(port, INIT);
        write(port + 1, vector);
        write(port + 1, wiring);
        write(port + 1, MODE_8086);
        write(port + 1, ALL);
    }
}

fn write(port: u16, value: u8) {
    // SAFETY: the registers of an 8259; it is told to keep quiet.
    unsafe { out8(port, value) };
}
