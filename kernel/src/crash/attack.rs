//! The attack that thread_info on the stack invites.
//!
//! A call recurses as deep as its input is nested, and each frame holds a word of the input. Where thread_info lies at the bottom of
//! an unguarded stack, an unprivileged program chooses the depth so that the last frame ends on the address limit, and the word so
//! that no address is above it: from then on its system calls read the kernel's memory as if it were its own. Where stacks have
//! guards and thread_info lies elsewhere, the same program is killed on its way down.

use core::fmt::Write;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayString;
use vmstack::VirtAddr;

use super::script::{self, Script};
use crate::arch::cpu::{self, InterruptsOff};
use crate::syscall::Errno;
use crate::{control, fact, println};

pub(super) static SCRIPTS: [Script; 1] = [Script { name: "ATTACK_THREAD_INFO", run: attack }];

/// What no program may read: eight characters, others at each boot.
static SECRET: AtomicU64 = AtomicU64::new(0);

fn attack(_: &str) {
    let secret = cpu::cycles().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut text = ArrayString::<8>::new();
    let written = write!(text, "{secret:08x}");
    debug_assert!(written.is_ok());
    SECRET.store(text.bytes().rev().fold(0, |word, byte| word << 8 | u64::from(byte)), Ordering::Relaxed);
    fact!("attack.secret", "{text}");
    // The attacker knows where things are: that is not what protects them.
    let mut place = ArrayString::<20>::new();
    let written = write!(place, "{:#x}", VirtAddr::of(&raw const SECRET).get());
    debug_assert!(written.is_ok());
    match script::start_program(&[b"/bin/attack", place.as_bytes()]) {
        Ok(process) => script::wait_for_process(&process),
        Err(error) => println!("no attacker: {error:?}"),
    }
}

/// Evaluates what a program wrote: brackets, nested as it likes, around a number of 16 hexadecimal digits.
///
/// The bug that the attack uses: nothing limits the depth.
pub(crate) fn evaluate(text: &[u8]) -> Result<(), Errno> {
    let digits = text.iter().position(u8::is_ascii_hexdigit).ok_or(Errno::INVAL)?;
    let number = core::str::from_utf8(&text[digits..]).ok().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let number = number.ok_or(Errno::INVAL)?;
    // In the control an interrupt that comes at the deepest point would write below the stack.
    let _quiet = control::address_limit().is_some().then(InterruptsOff::new);
    black_box(inside(&text[..digits], number));
    Ok(())
}

/// What is inside the first bracket: round ones have large frames, square ones small frames, so that every depth can be had.
#[inline(always)]
fn inside(text: &[u8], number: u64) -> u64 {
    match text.split_first() {
        Some((b'(', rest)) => round(rest, number),
        Some((_, rest)) => square(rest, number),
        None => number,
    }
}

#[inline(never)]
fn round(text: &[u8], number: u64) -> u64 {
    let frame = black_box([number; 24]);
    inside(text, number).wrapping_add(frame[text.len() % 24])
}

#[inline(never)]
fn square(text: &[u8], number: u64) -> u64 {
    black_box(inside(text, number)).wrapping_add(1)
}
