//! The battery-backed clock of a PC (MC146818): the date, to the second, read once at boot.
//!
//! Its registers are read through an index port. While it counts on they change one by one; so a reading counts when no update is
//! going on and two readings in a row agree.

use super::cpu::{in8, out8};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Seconds, minutes, hours, day of the month, month, year of the century.
const REGISTERS: [u8; 6] = [0, 2, 4, 7, 8, 9];
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
/// In status A: the registers are about to change.
const UPDATING: u8 = 0x80;
/// In status B: plain numbers, not two decimal digits a byte.
const BINARY: u8 = 4;
/// In status B: hours from 0 to 23.
const WHOLE_DAY: u8 = 2;
/// In the hours, where they are from 1 to 12.
const AFTERNOON: u8 = 0x80;
/// How often the clock is read before what it says is believed all the same.
const PATIENCE: usize = 100_000;

fn register(index: u8) -> u8 {
    // SAFETY: the index register of this clock, with NMIs on, as they are.
    unsafe { out8(INDEX, index) };
    // SAFETY: reading a register of the time or of the status but C changes nothing.
    unsafe { in8(DATA) }
}

/// One reading, when no update is going on.
fn reading() -> [u8; 6] {
    let _quiet = (0..PATIENCE).any(|_| register(STATUS_A) & UPDATING == 0);
    REGISTERS.map(register)
}

/// Two readings in a row that agree.
fn agreed() -> [u8; 6] {
    let mut last = reading();
    for _ in 0..PATIENCE {
        let next = reading();
        if next == last {
            break;
        }
        last = next;
    }
    last
}

/// Seconds from 1970 to now, by the clock, which is taken to show UTC.
///
/// # Context
///
/// The boot CPU, once: the index port is shared.
#[must_use]
pub(super) fn seconds() -> u64 {
    let status = register(STATUS_B);
    let [second, minute, hours, day, month, year] = agreed();
    let number = |byte: u8| u64::from(if status & BINARY != 0 { byte } else { (byte >> 4) * 10 + (byte & 15) });
    let hour = match (status & WHOLE_DAY != 0, hours & AFTERNOON != 0) {
        (true, _) => number(hours),
        (false, afternoon) => number(hours & !AFTERNOON) % 12 + if afternoon { 12 } else { 0 },
    };
    let days = days_since_1970(2000 + number(year), number(month), number(day));
    ((days * 24 + hour) * 60 + number(minute)) * 60 + number(second)
}

/// Days from the first of January 1970 to a date, by the Gregorian calendar; years are counted from March, so that a leap day is the
/// last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    /// Days from the first of March of year 0 to 1970.
    const BEFORE_1970: u64 = 719_468;
    let month = month.clamp(1, 12);
    let (year, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * months + 2) / 5 + day.max(1) - 1 - BEFORE_1970
}
