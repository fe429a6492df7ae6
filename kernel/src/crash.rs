//! Crashes on demand: what a program provokes by writing a name to the device, as with Linux's LKDTM.

use core::hint::black_box;

use crate::syscall::Errno;

/// Provokes the crash called `name`, of which a line break at the end does not count.
pub(crate) fn provoke(name: &[u8]) -> Result<(), Errno> {
    match name.strip_suffix(b"\n").unwrap_or(name) {
        b"EXHAUST_STACK" => {
            // Deeper than any stack: it does not come back.
            black_box(recursive_loop(black_box(usize::MAX)));
            Ok(())
        }
        _ => Err(Errno::INVAL),
    }
}

/// Calls itself until the stack ends. Each frame holds something that its caller needs, so none of them can be left out.
#[inline(never)]
fn recursive_loop(remaining: usize) -> usize {
    let frame = black_box([remaining; 8]);
    if remaining == 0 {
        return frame[0];
    }
    recursive_loop(remaining - 1) + frame[remaining % 8]
}
